//! By whom a certificate was issued, for a refusal.
//!
//! rustls says that an issuer is unknown and not who it is, which is what one has to know to trust it. Read
//! with suspicion, for the certificate comes from whoever answers: what does not have the form of X.509
//! (RFC 5280, section 4.1) has no issuer.

use std::fmt;

/// The longest name that is repeated, in characters.
const MAX_REPEATED: usize = 100;

/// A certificate was issued by nobody who is trusted.
#[derive(Debug)]
pub(super) struct UnknownIssuer(pub(super) Option<String>);

impl fmt::Display for UnknownIssuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(name) => {
                write!(f, "it was issued by {name:?}, an authority that is not known here")
            }
            None => f.write_str("it was issued by an authority that is not known here"),
        }
    }
}

impl std::error::Error for UnknownIssuer {}

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const VERSION: u8 = 0xa0;

/// The attributes of a name that call somebody something, the best first: common name, organisation,
/// organisational unit (RFC 5280, appendix A.1).
const NAMES: [&[u8]; 3] = [&[0x55, 4, 3], &[0x55, 4, 10], &[0x55, 4, 11]];

/// What the issuer of a certificate in DER is called.
pub(super) fn of(certificate: &[u8]) -> Option<String> {
    let (_, certificate, _) = element(certificate)?;
    let (_, signed, _) = element(certificate)?;
    let (tag, _, after_version) = element(signed)?;
    let serial = if tag == VERSION { after_version } else { signed };
    let (_, _, algorithm) = element(serial)?;
    let (_, _, issuer) = element(algorithm)?;
    let (tag, issuer, _) = element(issuer)?;
    let attributes = (tag == SEQUENCE).then(|| attributes(issuer))?;
    NAMES.iter().find_map(|name| {
        let (_, value) = attributes.iter().find(|(kind, _)| kind == name)?;
        Some(String::from_utf8_lossy(value).chars().take(MAX_REPEATED).collect())
    })
}

/// The attributes of a name: what each is, and its value.
fn attributes(mut name: &[u8]) -> Vec<(&[u8], &[u8])> {
    let mut found = Vec::new();
    while let Some((SET, set, rest)) = element(name) {
        name = rest;
        let attribute = element(set).and_then(|(_, attribute, _)| {
            let (_, kind, value) = element(attribute)?;
            Some((kind, element(value)?.1))
        });
        found.extend(attribute);
    }
    found
}

/// The first element of some DER (X.690, section 8.1): its tag, what it holds, and what is behind it.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[tag, first], rest) = der.split_first_chunk()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        // A certificate has no more than 16 MiB.
        0x81..=0x83 => {
            let (bytes, rest) = rest.split_at_checked(usize::from(first - 0x80))?;
            (bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    fn certificate(subject: &str) -> Vec<u8> {
        let made = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"])
            .args(["-nodes", "-keyout", "/dev/null", "-outform", "DER", "-subj", subject])
            .output();
        made.expect("openssl is installed").stdout
    }

    #[test]
    fn an_issuer_is_called_by_its_common_name_or_what_there_is() {
        let name = |subject| of(&certificate(subject));
        assert_eq!(name("/C=AT/O=Acme/CN=Acme Root").as_deref(), Some("Acme Root"));
        assert_eq!(name("/C=AT/O=Acme").as_deref(), Some("Acme"));
        assert_eq!(name("/C=AT"), None);
    }

    #[test]
    fn what_is_no_certificate_has_no_issuer() {
        let whole = certificate("/CN=Acme Root");
        for end in 0..whole.len() {
            assert_eq!(of(&whole[..end]), None, "{end}");
        }
        for wrong in [&[][..], &[0x30, 0x80], &[0x30, 0x84, 0xff, 0xff, 0xff, 0xff], &[0xff; 64]] {
            assert_eq!(of(wrong), None);
        }
    }
}
