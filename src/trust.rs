//! Whom our own clients believe: the certificate authorities of everything that we connect to.
//!
//! One rule for all of them, the commands that are clients, webhooks, published keys and Redis: what
//! `SSL_CERT_FILE` and `SSL_CERT_DIR` name, in place of the system's, as with OpenSSL; otherwise what the
//! system trusts; where it has nothing, Mozilla's list, which is part of the binary. Read once a process.

mod cause;
mod issuer;

use std::env;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use actix_web::http::header::{HeaderName, HeaderValue};
use awc::{Client, Connector};
use base64::prelude::{BASE64_STANDARD, Engine};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, OtherError, RootCertStore,
    SignatureScheme,
};
use rustls_native_certs::load_certs_from_paths;

pub use self::cause::{broke_off, lasting, lasting_io, lasting_text, reason};
use self::issuer::UnknownIssuer;

/// The variables that name authorities in place of the system's.
const VARIABLES: [&str; 2] = ["SSL_CERT_FILE", "SSL_CERT_DIR"];

/// Why no authority is known: what `SSL_CERT_FILE` or `SSL_CERT_DIR` names can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct RootsError(String);

/// The authorities that are trusted, in the DER of their certificates.
pub fn roots() -> Result<&'static [CertificateDer<'static>], RootsError> {
    static ROOTS: OnceLock<Result<Vec<CertificateDer<'static>>, RootsError>> = OnceLock::new();
    ROOTS.get_or_init(read).as_deref().map_err(Clone::clone)
}

fn read() -> Result<Vec<CertificateDer<'static>>, RootsError> {
    let found = rustls_native_certs::load_native_certs();
    let named = VARIABLES.iter().filter_map(|name| Some((name, env::var_os(name)?)));
    let named: Vec<_> = named.filter(|(_, value)| !value.is_empty()).collect();
    if named.is_empty() {
        return Ok(match found.certs.is_empty() {
            true => webpki_root_certs::TLS_SERVER_ROOT_CERTS.to_vec(),
            false => found.certs,
        });
    }
    let names = named.iter().map(|(name, value)| format!("{name}={}", value.display()));
    let names = names.collect::<Vec<_>>().join(", ");
    if let Some(error) = found.errors.first() {
        return Err(RootsError(format!("{names}: {error}")));
    }
    // Beside a folder that has some, a file that has none is a mistake as well.
    let empty =
        env::var_os(VARIABLES[0]).filter(|file| !file.is_empty() && !holds_any(file.as_ref()));
    match (empty, usable(&found.certs)) {
        (Some(file), _) => {
            let file = file.display();
            Err(RootsError(format!(
                "{}={file}: there is no certificate in it, as PEM",
                VARIABLES[0]
            )))
        }
        (None, 0) => Err(RootsError(format!("{names}: there is no certificate, as PEM"))),
        (None, _) => Ok(found.certs),
    }
}

/// Whether a file has a certificate that can be believed.
fn holds_any(file: &Path) -> bool {
    usable(&load_certs_from_paths(Some(file), None).certs) > 0
}

/// How many of these can be believed: what has the form of PEM may have none of a certificate.
fn usable(certificates: &[CertificateDer<'static>]) -> usize {
    RootCertStore::empty().add_parsable_certificates(certificates.iter().cloned()).0
}

/// The authorities as PEM (RFC 7468), for who reads them so.
pub fn roots_as_pem() -> Result<Vec<u8>, RootsError> {
    let block = |root: &CertificateDer<'_>| {
        let text = BASE64_STANDARD.encode(root);
        let lines: Vec<_> = text.as_bytes().chunks(64).map(String::from_utf8_lossy).collect();
        format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
    };
    Ok(roots()?.iter().map(block).collect::<String>().into_bytes())
}

/// How our clients speak TLS (1.2 or 1.3), over which HTTP/1.1 is spoken.
pub fn client_config() -> Result<ClientConfig, RootsError> {
    let mut store = RootCertStore::empty();
    // What a system has beside authorities is no reason to trust none.
    store.add_parsable_certificates(roots()?.iter().cloned());
    let provider = Arc::new(default_provider());
    let unusable = |error: &dyn fmt::Display| RootsError(error.to_string());
    let inner = WebPkiServerVerifier::builder_with_provider(Arc::new(store), provider.clone())
        .build()
        .map_err(|error| unusable(&error))?;
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable(&error))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Verifier { inner }))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// A client of HTTP/1.1 that follows no redirects, for they could lead to where nobody decided to go. The
/// connection and the head of an answer may take `timeout` each.
///
/// It speaks no HTTP/2: awc's (h2 0.3) is no longer looked after.
pub fn client(
    timeout: Duration,
    headers: impl IntoIterator<Item = (HeaderName, HeaderValue)>,
) -> Result<Client, RootsError> {
    let connector = Connector::new().timeout(timeout).handshake_timeout(timeout);
    let connector = connector.rustls_0_23(Arc::new(client_config()?));
    let mut client = Client::builder().connector(connector).timeout(timeout).disable_redirects();
    for header in headers {
        client = client.add_default_header(header);
    }
    Ok(client.finish())
}

/// Checks certificates as rustls does, and says by whom one was issued that nobody here knows.
#[derive(Debug)]
struct Verifier {
    inner: Arc<WebPkiServerVerifier>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let checked = self.inner.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        );
        checked.map_err(|error| match error {
            Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
                let last = intermediates.last().unwrap_or(end_entity);
                let unknown = UnknownIssuer(issuer::of(last));
                Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(unknown))))
            }
            other => other,
        })
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::pki_types::pem::PemObject;

    #[test]
    fn there_are_always_roots_and_they_are_written_as_they_are_read() {
        let roots = roots().unwrap();
        assert!(!roots.is_empty());
        let pem = roots_as_pem().unwrap();
        let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
        assert_eq!(read.unwrap(), roots);
        client_config().unwrap();
    }
}
