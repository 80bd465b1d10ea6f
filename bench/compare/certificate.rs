//! A certificate for the systems that serve over TLS, and a client that believes it alone.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use fanfare::cli::bench::{Secured, Sessions};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs::default_provider};

/// A certificate of P-256 for `localhost`.
pub struct Certificate {
    /// Where it is, as PEM.
    pub file: PathBuf,
    /// Where its private key is.
    pub key: PathBuf,
    /// How a client speaks with who has it: every handshake is a full one.
    pub secured: Secured,
}

impl Certificate {
    /// Makes one in a directory.
    pub fn make(directory: &Path) -> Result<Self, String> {
        let (file, key) = (directory.join("cert.pem"), directory.join("key.pem"));
        let made = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"])
            .args(["-nodes", "-days", "2", "-subj", "/CN=localhost"])
            .args(["-addext", "subjectAltName=DNS:localhost"])
            .args(["-addext", "basicConstraints=critical,CA:FALSE"])
            .arg("-keyout")
            .arg(&key)
            .arg("-out")
            .arg(&file)
            .stderr(Stdio::null())
            .status();
        match made {
            Ok(status) if status.success() => {}
            Ok(status) => return Err(format!("openssl makes no certificate: {status}")),
            Err(error) => return Err(format!("openssl can't be started: {error}")),
        }
        let mut roots = RootCertStore::empty();
        let der = CertificateDer::from_pem_file(&file).map_err(|error| error.to_string())?;
        roots.add(der).map_err(|error| error.to_string())?;
        let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let secured = Secured::with(config, "localhost", Sessions::Forgotten)?;
        Ok(Self { file, key, secured })
    }
}
