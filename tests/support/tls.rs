//! A certificate of a test's own, and clients that trust it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use fanfare::config::{Certificate, Sources, load};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// A directory with a certificate for this machine and its key; a new one may be issued in their place.
pub struct Issuer(TempDir);

impl Issuer {
    pub fn new() -> Self {
        let issuer = Self(tempfile::tempdir().expect("a directory"));
        issuer.issue("first");
        issuer
    }

    pub fn chain(&self) -> PathBuf {
        self.0.path().join("cert.pem")
    }

    pub fn key(&self) -> PathBuf {
        self.0.path().join("key.pem")
    }

    /// Writes another certificate and its key.
    pub fn issue(&self, name: &str) {
        let made = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"])
            .args(["-nodes", "-days", "2", "-keyout", "key.pem", "-out", "cert.pem"])
            .args(["-subj", &format!("/CN={name}")])
            .args(["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"])
            .args(["-addext", "basicConstraints=critical,CA:FALSE"])
            .current_dir(self.0.path())
            .stderr(Stdio::null())
            .status();
        assert!(made.expect("openssl is installed").success());
    }

    /// The certificate as the broker reads it.
    pub fn certificate(&self) -> Certificate {
        read(&self.chain(), &self.key())
    }
}

/// A certificate as the broker reads it.
fn read(chain: &Path, key: &Path) -> Certificate {
    let file = |key: &str, path: &Path| format!("server.{key}={}", path.display());
    let sets = vec![file("tls_certificate", chain), file("tls_key", key)];
    let config = load(&Sources { sets, ..Sources::default() }).expect("a configuration");
    config.server.certificate.expect("a certificate")
}

/// A private authority that nobody knows, and the servers whose certificates it issues.
pub struct Authority(TempDir);

impl Authority {
    pub fn new(name: &str) -> Self {
        let authority = Self(tempfile::tempdir().expect("a directory"));
        authority.openssl(&[
            &["req", "-x509", "-days", "2", "-keyout", "ca.key", "-out", "ca.pem"],
            &["-subj", &format!("/O=Tests/CN={name}"), "-nodes"],
            &["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"],
        ]);
        authority
    }

    /// Its own certificate, which whoever is to trust it has to have.
    pub fn root(&self) -> PathBuf {
        self.0.path().join("ca.pem")
    }

    /// The same as a server's, which it can't be.
    pub fn itself(&self) -> Certificate {
        read(&self.root(), &self.0.path().join("ca.key"))
    }

    /// A certificate for a server of these names, and its key.
    pub fn issue(&self, names: &str, days: i32) -> Certificate {
        let file = |name: &str| self.0.path().join(name);
        std::fs::write(file("names"), format!("subjectAltName={names}\n")).expect("written");
        self.openssl(&[
            &["req", "-nodes", "-keyout", "key.pem", "-out", "request.pem", "-subj", "/CN=server"],
            &["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"],
        ]);
        self.openssl(&[
            &["x509", "-req", "-in", "request.pem", "-out", "cert.pem", "-extfile", "names"],
            &["-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial"],
            // Before today, where the number is negative.
            &["-days", &days.to_string()],
        ]);
        read(&file("cert.pem"), &file("key.pem"))
    }

    fn openssl(&self, arguments: &[&[&str]]) {
        let mut command = Command::new("openssl");
        command.args(arguments.concat()).current_dir(self.0.path()).stderr(Stdio::null());
        assert!(command.status().expect("openssl is installed").success(), "{arguments:?}");
    }
}

/// A client that trusts one certificate alone.
pub fn trusting(certificate: &CertificateDer<'static>) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone()).expect("a certificate");
    ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth()
}

/// Shakes hands over a connection.
pub async fn shake(
    stream: TcpStream,
    config: ClientConfig,
) -> std::io::Result<TlsStream<TcpStream>> {
    let name = ServerName::try_from("127.0.0.1").expect("a name");
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}
