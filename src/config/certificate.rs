//! The certificate that the broker shows, out of the files that an operator names.
//!
//! Read and checked together with the configuration: a chain and a key that do not belong together
//! never come into force, neither at start nor later. What is wrong is said without a byte of the key.

use std::fmt;
use std::fs::metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

/// A certificate chain with its key.
#[derive(Clone)]
pub struct Certificate {
    /// The files it was read from: the chain and the key.
    pub files: [PathBuf; 2],
    /// The chain, own certificate first, and its key.
    pub key: Arc<CertifiedKey>,
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Certificate").field(&self.files).finish()
    }
}

impl Certificate {
    /// Whether every user of this machine may read the key.
    pub(super) fn is_exposed(&self) -> bool {
        let [_, key] = &self.files;
        metadata(key).is_ok_and(|file| file.mode() & 0o004 != 0)
    }
}

/// Reads a chain and its key; an error comes with the name of the key of the configuration it is about.
pub(super) fn read(chain: &Path, key: &Path) -> Result<Certificate, (&'static str, String)> {
    let files = [chain.to_owned(), key.to_owned()];
    let chain = certificates(chain).map_err(|message| ("server.tls_certificate", message))?;
    let key = PrivateKeyDer::from_pem_file(key).map_err(|error| {
        let expected = "a private key without a password: PKCS #8, PKCS #1 or SEC 1";
        ("server.tls_key", unread(key, error, expected))
    })?;
    match CertifiedKey::from_der(chain, key, &default_provider()) {
        Ok(key) => Ok(Certificate { files, key: Arc::new(key) }),
        Err(error) => {
            Err(("server.tls_key", format!("does not belong to the certificate: {error}")))
        }
    }
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let chain = CertificateDer::pem_file_iter(file).and_then(Iterator::collect);
    let chain: Result<Vec<_>, _> = chain;
    chain
        .and_then(|chain| if chain.is_empty() { Err(pem::Error::NoItemsFound) } else { Ok(chain) })
        .map_err(|error| unread(file, error, "certificates"))
}

/// Why a file is of no use. Other errors than the system's could show what it holds.
fn unread(file: &Path, error: pem::Error, expected: &str) -> String {
    match error {
        pem::Error::Io(error) => format!("{}: {error}", file.display()),
        _ => format!("{} does not hold {expected}, as PEM", file.display()),
    }
}
