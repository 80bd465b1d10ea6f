//! The keys that tokens are checked with, out of what an operator types.
//!
//! Each key knows the algorithms it may be used with. A token chooses among these with its header, so
//! that a public key is never taken for the secret of an HMAC (algorithm confusion), and a secret
//! never signs with a longer hash than it has bits for.

use jsonwebtoken::{Algorithm, DecodingKey};

use super::TokenKey;
use super::value::Hidden;

/// The most public keys at once; more than a rotation needs would only make refusals dear.
const MAX_PUBLIC_KEYS: usize = 8;

/// The key of an HMAC. It needs the size of the hash (RFC 7518, section 3.2).
pub(super) fn of_secret(Hidden(secret): &Hidden) -> Result<TokenKey, &'static str> {
    let least = [(Algorithm::HS256, 32), (Algorithm::HS384, 48), (Algorithm::HS512, 64)];
    let algorithms: Vec<_> = least
        .into_iter()
        .filter(|(_, bytes)| secret.len() >= *bytes)
        .map(|(algorithm, _)| algorithm)
        .collect();
    if algorithms.is_empty() {
        return Err("has fewer than 32 bytes, too few for HS256 (RFC 7518, section 3.2)");
    }
    Ok(TokenKey { algorithms, key: DecodingKey::from_secret(secret.as_bytes()) })
}

/// The public keys of a text in PEM (RFC 7468).
pub(super) fn of_pem(text: &str) -> Result<Vec<TokenKey>, String> {
    let end = "-----END ";
    let blocks: Vec<_> = text.split_inclusive(end).collect();
    // Each `END` line belongs to the block before it.
    let blocks = blocks.windows(2).map(|pair| {
        let begin = pair[0].find("-----BEGIN ").map_or("", |at| &pair[0][at..]);
        format!("{begin}{}", pair[1].lines().next().unwrap_or_default())
    });
    let keys: Vec<_> = blocks.map(|block| of_block(&block)).collect::<Result<_, _>>()?;
    match keys.len() {
        0 => Err("holds no PEM block `-----BEGIN PUBLIC KEY-----`".to_owned()),
        1..=MAX_PUBLIC_KEYS => Ok(keys),
        many => Err(format!("holds {many} keys, more than {MAX_PUBLIC_KEYS}")),
    }
}

fn of_block(pem: &str) -> Result<TokenKey, String> {
    use Algorithm::{ES256, ES384, EdDSA, PS256, PS384, PS512, RS256, RS384, RS512};
    if pem.contains("PRIVATE KEY-----") {
        return Err("holds a private key: the broker only needs the public one".to_owned());
    }
    let pem = pem.as_bytes();
    let keys = [
        (DecodingKey::from_rsa_pem(pem), vec![RS256, RS384, RS512, PS256, PS384, PS512]),
        (DecodingKey::from_ec_pem(pem), vec![ES256, ES384]),
        (DecodingKey::from_ed_pem(pem), vec![EdDSA]),
    ];
    let key = keys
        .into_iter()
        .find_map(|(key, algorithms)| key.ok().map(|key| TokenKey { algorithms, key }));
    key.ok_or_else(|| "holds a block that is no public key of RSA, P-256, P-384 or Ed25519".into())
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
            (&broken, "no public key of"),
            (&many.repeat(9), "more than 8"),
        ] {
            let refused = of_pem(pem).unwrap_err();
            assert!(refused.contains(message), "{refused}");
        }
    }
}
