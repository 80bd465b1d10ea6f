//! The secret by which nodes resume each other's sessions of TLS.

use std::fmt;

use super::token_keys::{is_path, secret_bytes};
use super::value::Hidden;

/// The fewest bytes of such a secret: as many as the keys have that come from it.
const MIN_BYTES: usize = 32;

/// What the keys come from by which sessions of TLS are resumed.
#[derive(Clone, PartialEq, Eq)]
pub struct ResumptionSecret(pub Vec<u8>);

impl fmt::Debug for ResumptionSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ResumptionSecret(…)")
    }
}

impl ResumptionSecret {
    pub(super) fn parse(secret: &Hidden) -> Result<Self, String> {
        if is_path(&secret.0) {
            return Err("is the path of a file; the secret itself belongs here".to_owned());
        }
        let bytes = secret_bytes(secret)?;
        if bytes.len() < MIN_BYTES {
            return Err(format!("has fewer than {MIN_BYTES} bytes: openssl rand -base64 32"));
        }
        Ok(Self(bytes))
    }
}
