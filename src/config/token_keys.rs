//! The keys that tokens are checked with, out of what an operator types.
//!
//! Each key knows the algorithms it may be used with. A token chooses among these with its header, so
//! that a public key is never taken for the secret of an HMAC (algorithm confusion), and a secret
//! never signs with a longer hash than it has bits for.

use std::path::Path;

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, ParsedPublicKey,
    RSA_PKCS1_2048_8192_SHA256, RsaParameters, VerificationAlgorithm,
};
use base64::alphabet::{STANDARD, URL_SAFE};
use base64::engine::{DecodePaddingMode, Engine, GeneralPurpose, GeneralPurposeConfig};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, DecodingKeyKind};

use super::TokenKey;
use super::value::Hidden;

/// The most public keys at once; more than a rotation needs would only make refusals dear.
const MAX_PUBLIC_KEYS: usize = 8;

/// What a secret of bytes that are no text begins with.
const BASE64: &str = "base64:";

/// What can check a token.
const USABLE: &str = "RSA of 2048 to 8192 bits, P-256, P-384 and Ed25519 do";

/// The key of an HMAC. It needs the size of the hash (RFC 7518, section 3.2).
pub(super) fn of_secret(secret: &Hidden) -> Result<TokenKey, String> {
    if is_path(&secret.0) {
        return Err("is the path of a file; the secret itself belongs here".to_owned());
    }
    let bytes = secret_bytes(secret)?;
    let least = [(Algorithm::HS256, 32), (Algorithm::HS384, 48), (Algorithm::HS512, 64)];
    let algorithms: Vec<_> = least
        .into_iter()
        .filter(|(_, least)| bytes.len() >= *least)
        .map(|(algorithm, _)| algorithm)
        .collect();
    if algorithms.is_empty() {
        return Err("has fewer than 32 bytes, too few for HS256 (RFC 7518, section 3.2)".to_owned());
    }
    Ok(TokenKey { algorithms, key: DecodingKey::from_secret(&bytes) })
}

/// The bytes that tokens are signed with: those of the text, or those that it has behind `base64:`, in
/// either alphabet of RFC 4648, padded or not.
pub fn secret_bytes(Hidden(secret): &Hidden) -> Result<Vec<u8>, String> {
    match secret.strip_prefix(BASE64) {
        Some(text) => {
            of_base64(text.trim_start()).ok_or_else(|| format!("has no base64 behind `{BASE64}`"))
        }
        None => Ok(secret.clone().into_bytes()),
    }
}

/// How many bytes a secret would have if it were meant as base64, where it looks as if it were: as many as
/// a hash has.
pub(super) fn looks_like_base64(Hidden(secret): &Hidden) -> Option<usize> {
    let is_hex = secret.bytes().all(|byte| byte.is_ascii_hexdigit());
    let bytes = of_base64(secret).filter(|_| !is_hex)?.len();
    [32, 48, 64].contains(&bytes).then_some(bytes)
}

fn of_base64(text: &str) -> Option<Vec<u8>> {
    let lenient =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    [STANDARD, URL_SAFE]
        .iter()
        .find_map(|alphabet| GeneralPurpose::new(alphabet, lenient).decode(text).ok())
}

/// Whether a text that is to be a key or a secret names a file instead. It is not read: who may set the
/// configuration need not be who may read all of the broker's files.
pub(super) fn is_path(text: &str) -> bool {
    let is_rooted = ["/", "./", "../"].iter().any(|start| text.starts_with(start));
    is_rooted && !text.contains('\n') && Path::new(text).is_file()
}

/// The public keys of a text in PEM (RFC 7468). Its line breaks may be written as `\n`, as environment
/// variables often have them.
pub(super) fn of_pem(text: &str) -> Result<Vec<TokenKey>, String> {
    let text = &text.replace("\\r", "").replace("\\n", "\n");
    let end = "-----END ";
    let blocks: Vec<_> = text.split_inclusive(end).collect();
    // Each `END` line belongs to the block before it.
    let blocks = blocks.windows(2).map(|pair| {
        let begin = pair[0].find("-----BEGIN ").map_or("", |at| &pair[0][at..]);
        format!("{begin}{}", pair[1].lines().next().unwrap_or_default())
    });
    let keys: Vec<_> = blocks.map(|block| of_block(&block)).collect::<Result<_, _>>()?;
    match keys.len() {
        0 if is_path(text) || text.ends_with(".pem") => {
            Err(format!("is the path of a file, {text:?}; the key itself belongs here"))
        }
        0 => Err("holds no PEM block `-----BEGIN PUBLIC KEY-----`".to_owned()),
        1..=MAX_PUBLIC_KEYS => Ok(keys),
        many => Err(format!("holds {many} keys, more than {MAX_PUBLIC_KEYS}")),
    }
}

fn of_block(pem: &str) -> Result<TokenKey, String> {
    if pem.contains("PRIVATE KEY-----") {
        return Err("holds a private key: the broker only needs the public one".to_owned());
    }
    let pem = pem.as_bytes();
    let keys = [
        DecodingKey::from_rsa_pem(pem),
        DecodingKey::from_ec_pem(pem),
        DecodingKey::from_ed_pem(pem),
    ];
    let mut reason = "it is none of a known kind".to_owned();
    for key in keys.into_iter().flatten() {
        match TokenKey::of_public(key) {
            Ok(key) => return Ok(key),
            Err(why) => reason = why,
        }
    }
    if let Some(kind) = unusable_kind(pem) {
        reason = format!("it is of {kind}");
    }
    Err(format!("holds a key that checks no token: {reason}; {USABLE}"))
}

/// Kinds of public keys that check no token here, by their object identifiers in DER.
const UNUSABLE: [(&str, &[u8]); 7] = [
    ("P-521", &[0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x23]),
    ("secp256k1", &[0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x0a]),
    ("Ed448", &[0x06, 0x03, 0x2b, 0x65, 0x71]),
    ("X25519", &[0x06, 0x03, 0x2b, 0x65, 0x6e]),
    ("X448", &[0x06, 0x03, 0x2b, 0x65, 0x6f]),
    ("DSA", &[0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x38, 0x04, 0x01]),
    ("RSASSA-PSS", &[0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0a]),
];

fn unusable_kind(pem: &[u8]) -> Option<&'static str> {
    let lines = std::str::from_utf8(pem).ok()?.lines();
    let der =
        of_base64(&lines.filter(|line| !line.contains('-')).map(str::trim).collect::<String>())?;
    let has = |id: &[u8]| der.windows(id.len()).any(|bytes| bytes == id);
    UNUSABLE.iter().find(|(_, id)| has(id)).map(|(name, _)| *name)
}

impl TokenKey {
    /// A public key, for the algorithms that it can really check (RFC 7518, section 3; RFC 8037), or why
    /// there is none.
    pub fn of_public(key: DecodingKey) -> Result<Self, String> {
        use Algorithm::{ES256, ES384, EdDSA, PS256, PS384, PS512, RS256, RS384, RS512};
        let algorithms = match (key.family(), key.kind()) {
            (AlgorithmFamily::Rsa, kind) => {
                let range = RSA_PKCS1_2048_8192_SHA256.min_modulus_len()
                    ..=RSA_PKCS1_2048_8192_SHA256.max_modulus_len();
                let bits = modulus_bits(kind).ok_or("it is no key of RSA")?;
                if !range.contains(&bits) {
                    return Err(format!("it is of RSA with {bits} bits"));
                }
                vec![RS256, RS384, RS512, PS256, PS384, PS512]
            }
            (AlgorithmFamily::Ec, DecodingKeyKind::SecretOrDer(point)) => match () {
                () if fits(&ECDSA_P256_SHA256_FIXED, point) => vec![ES256],
                () if fits(&ECDSA_P384_SHA384_FIXED, point) => vec![ES384],
                () => return Err("it is no point of P-256 or P-384".to_owned()),
            },
            (AlgorithmFamily::Ed, DecodingKeyKind::SecretOrDer(point)) if fits(&ED25519, point) => {
                vec![EdDSA]
            }
            _ => return Err("it is none of a known kind".to_owned()),
        };
        Ok(Self { algorithms, key })
    }
}

fn fits(algorithm: &'static dyn VerificationAlgorithm, key: &[u8]) -> bool {
    ParsedPublicKey::new(algorithm, key).is_ok()
}

/// The size of a key of RSA, in bits.
fn modulus_bits(kind: &DecodingKeyKind) -> Option<u32> {
    match kind {
        DecodingKeyKind::SecretOrDer(der) => RsaParameters::public_modulus_len(der).ok(),
        DecodingKeyKind::RsaModulusExponent { n, .. } => {
            let first = n.iter().position(|byte| *byte != 0)?;
            let bytes = u32::try_from(n.len() - first).ok()?;
            Some(bytes.checked_mul(8)? - n[first].leading_zeros())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The Ed25519 key of RFC 8410, section 10.1.
    const ED: &str = "-----BEGIN PUBLIC KEY-----\n\
                      MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n\
                      -----END PUBLIC KEY-----";

    #[test]
    fn a_secret_is_for_the_hashes_it_has_bits_for() {
        let algorithms = |bytes| of_secret(&Hidden("s".repeat(bytes))).map(|key| key.algorithms);
        assert!(algorithms(31).is_err());
        assert_eq!(algorithms(32), Ok(vec![Algorithm::HS256]));
        assert_eq!(algorithms(63), Ok(vec![Algorithm::HS256, Algorithm::HS384]));
        assert_eq!(algorithms(64).map(|all| all.len()), Ok(3));
    }

    #[test]
    fn a_secret_of_bytes_is_written_as_base64_of_either_alphabet() {
        let bytes: Vec<u8> = (224..=255).chain(0..=32).collect();
        for alphabet in [STANDARD, URL_SAFE] {
            for config in [
                GeneralPurposeConfig::new(),
                GeneralPurposeConfig::new().with_encode_padding(false),
            ] {
                let text = GeneralPurpose::new(&alphabet, config).encode(&bytes);
                let secret = Hidden(format!("base64:{text}"));
                assert_eq!(secret_bytes(&secret).as_ref(), Ok(&bytes), "{text}");
                assert_eq!(of_secret(&secret).unwrap().algorithms.len(), 3);
            }
        }
        let secret = |text: &str| of_secret(&Hidden(text.to_owned())).map(|key| key.algorithms);
        assert!(
            secret("base64:not/base64_of+anything-that-is-there")
                .unwrap_err()
                .contains("no base64")
        );
        assert!(secret("base64:AAAA").unwrap_err().contains("fewer than 32 bytes"));
        assert!(secret("base64:").is_err());
    }

    #[test]
    fn a_secret_that_looks_like_bytes_in_base64_is_known() {
        let looks = |text: &str| looks_like_base64(&Hidden(text.to_owned()));
        assert_eq!(looks("8J+QmPCfkJjwn5CY8J+QmPCfkJjwn5CY8J+QmPCfkJg="), Some(32));
        assert_eq!(looks("8J-QmPCfkJjwn5CY8J-QmPCfkJjwn5CY8J-QmPCfkJg"), Some(32));
        assert_eq!(looks(&"0a".repeat(32)), None, "hexadecimal digits are as good a text as any");
        assert_eq!(looks("a secret of at least thirty-two bytes"), None);
        assert_eq!(looks("base64:8J+QmPCfkJjwn5CY8J+QmPCfkJjwn5CY8J+QmPCfkJg="), None);
    }

    #[test]
    fn a_path_in_the_place_of_a_key_is_named_as_such() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().display().to_string();
        assert!(of_pem(&path).unwrap_err().contains(&format!("the path of a file, {path:?}")));
        assert!(of_pem("/run/secrets/nowhere.pem").unwrap_err().contains("the path of a file"));
        let secret = of_secret(&Hidden(path)).unwrap_err();
        assert!(secret.contains("the path of a file"), "{secret}");
        assert!(of_secret(&Hidden("/".repeat(32))).is_ok(), "a text like any other");
    }

    #[test]
    fn a_key_with_its_line_breaks_written_out_is_read() {
        let keys = of_pem(&ED.replace('\n', "\\n")).unwrap();
        assert_eq!(keys[0].algorithms, [Algorithm::EdDSA]);
        assert_eq!(of_pem(&ED.replace('\n', "\\r\\n")).unwrap().len(), 1);
    }

    /// A new public key, as `openssl` makes it.
    fn public_key(arguments: &[&str]) -> String {
        let made = std::process::Command::new("openssl").arg("genpkey").args(arguments).output();
        let private = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(private.path(), made.unwrap().stdout).unwrap();
        let mut public = std::process::Command::new("openssl");
        public.args(["pkey", "-pubout", "-in"]).arg(private.path());
        String::from_utf8(public.output().unwrap().stdout).unwrap()
    }

    #[test]
    fn a_key_that_checks_no_token_is_named() {
        let curve = |name: &str| public_key(&["-algorithm", "EC", "-pkeyopt", name]);
        let rsa = |bits: &str| public_key(&["-algorithm", "RSA", "-pkeyopt", bits]);
        for (pem, kind) in [
            (curve("ec_paramgen_curve:P-521"), "of P-521;"),
            (curve("ec_paramgen_curve:secp256k1"), "of secp256k1;"),
            (public_key(&["-algorithm", "ED448"]), "of Ed448;"),
            (public_key(&["-algorithm", "X25519"]), "of X25519;"),
            (rsa("rsa_keygen_bits:1024"), "of RSA with 1024 bits;"),
        ] {
            let refused = of_pem(&pem).unwrap_err();
            assert!(refused.contains(kind) && refused.contains("P-384"), "{kind} {refused}");
        }
        for (pem, algorithms) in [
            (curve("ec_paramgen_curve:P-256"), vec![Algorithm::ES256]),
            (curve("ec_paramgen_curve:P-384"), vec![Algorithm::ES384]),
        ] {
            assert_eq!(of_pem(&pem).unwrap()[0].algorithms, algorithms);
        }
        assert_eq!(of_pem(&rsa("rsa_keygen_bits:2048")).unwrap()[0].algorithms.len(), 6);
    }

    #[test]
    fn several_public_keys_stand_one_behind_the_other() {
        let two = of_pem(&format!("the new one:\n{ED}\r\nand the old one\n{ED}\n")).unwrap();
        assert_eq!(two.len(), 2);
        assert!(two.iter().all(|key| key.algorithms == [Algorithm::EdDSA]));
    }

    #[test]
    fn what_is_no_public_key_is_refused() {
        let private = ED.replace("PUBLIC", "PRIVATE");
        let broken = ED.replace("MCow", "AAAA");
        let many = ED.to_owned() + "\n";
        for (pem, message) in [
            ("", "no PEM block"),
            ("hello", "no PEM block"),
            (&private, "private key"),
            (&format!("{ED}\n{private}"), "private key"),
            (&broken, "checks no token"),
            (&many.repeat(9), "more than 8"),
        ] {
            let refused = of_pem(pem).unwrap_err();
            assert!(refused.contains(message), "{refused}");
        }
    }
}
