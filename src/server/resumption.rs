//! What handshakes of TLS are resumed with, on every node and after a restart.
//!
//! What a client brings to resume its session is sealed by us and kept by it alone (RFC 8446, section 4.6.1), so that
//! nodes ask each other nothing. The keys come from a secret, the certificate and the time of day: those who share the
//! secret share the keys, and each lasts two periods at most. A certificate that is replaced takes its sessions with it:
//! who comes back then has to see the new one.

use std::fmt;
use std::sync::RwLock;
use std::time::{Duration, SystemTime};

use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::hkdf::{HKDF_SHA256, Prk, Salt};
use aws_lc_rs::rand::fill;
use rustls::server::ProducesTickets;

use crate::clock::Clock;
use crate::config::{Certificate, ResumptionSecret};
use crate::panics::{read, write};

/// How long one key seals; it opens for as long again.
const PERIOD: Duration = Duration::from_secs(6 * 3_600);

/// Seals what sessions are resumed with, and opens it again.
pub(super) struct Resumption {
    root: RwLock<Root>,
    /// The secret of a broker that was given none.
    drawn: [u8; 32],
    clock: Clock,
}

/// What the keys of all periods come from.
struct Root(Prk);

impl Resumption {
    /// With keys that others have only if they have the same secret; with none, nobody does.
    pub(super) fn new(
        certificate: &Certificate,
        secret: Option<&ResumptionSecret>,
        clock: Clock,
    ) -> Result<Self, Unspecified> {
        let mut drawn = [0; 32];
        fill(&mut drawn)?;
        let root = RwLock::new(Root::of(certificate, secret.map_or(&drawn, |secret| &secret.0)));
        Ok(Self { root, drawn, clock })
    }

    /// Goes on with another certificate or secret; with the same ones, with the same keys.
    pub(super) fn replace(&self, certificate: &Certificate, secret: Option<&ResumptionSecret>) {
        let secret = secret.map_or(&self.drawn[..], |secret| &secret.0);
        *write(&self.root) = Root::of(certificate, secret);
    }

    /// The time since 1970, and in which period that is.
    fn now(&self) -> (Duration, u64) {
        let now = self.clock.time().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        (now, now.as_secs() / PERIOD.as_secs())
    }
}

impl Root {
    fn of(certificate: &Certificate, secret: &[u8]) -> Self {
        let shown = certificate.key.cert.first().map(AsRef::as_ref).unwrap_or_default();
        Self(Salt::new(HKDF_SHA256, digest(&SHA256, shown).as_ref()).extract(secret))
    }

    /// The key of a period. It need not be secret which that is, nor that nodes draw their nonces without asking
    /// each other: one that came twice would tell of the same plaintext alone (RFC 8452).
    fn key(&self, period: &[u8; 8]) -> Result<LessSafeKey, Unspecified> {
        let info = [&b"fanfare resumption"[..], period];
        Ok(LessSafeKey::new(UnboundKey::from(self.0.expand(&info, &AES_256_GCM_SIV)?)))
    }

    fn seal(&self, plain: &[u8], period: u64) -> Result<Vec<u8>, Unspecified> {
        let (period, mut nonce) = (period.to_be_bytes(), [0; NONCE_LEN]);
        fill(&mut nonce)?;
        let mut sealed = plain.to_vec();
        let unique = Nonce::assume_unique_for_key(nonce);
        self.key(&period)?.seal_in_place_append_tag(unique, Aad::empty(), &mut sealed)?;
        Ok([&period[..], &nonce, &sealed].concat())
    }

    /// Opens what was sealed in this period, the one before, or the next one: clocks of nodes differ.
    fn open(&self, sealed: &[u8], now: u64) -> Option<Vec<u8>> {
        let (period, rest) = sealed.split_first_chunk()?;
        let (nonce, rest) = rest.split_first_chunk()?;
        if u64::from_be_bytes(*period).abs_diff(now) > 1 {
            return None;
        }
        let (mut plain, nonce) = (rest.to_vec(), Nonce::assume_unique_for_key(*nonce));
        let opened = self.key(period).ok()?.open_in_place(nonce, Aad::empty(), &mut plain);
        let length = opened.ok()?.len();
        plain.truncate(length);
        Some(plain)
    }
}

impl fmt::Debug for Resumption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resumption").finish_non_exhaustive()
    }
}

impl ProducesTickets for Resumption {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        let (now, period) = self.now();
        let end = (period + 2) * PERIOD.as_secs();
        u32::try_from(end - now.as_secs()).unwrap_or_default()
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        if !is_tls13(plain) {
            return None;
        }
        read(&self.root).seal(plain, self.now().1).ok()
    }

    fn decrypt(&self, sealed: &[u8]) -> Option<Vec<u8>> {
        read(&self.root).open(sealed, self.now().1)
    }
}

/// Whether this is a session of TLS 1.3, as rustls writes it down: behind a name, if the client gave one. One of 1.2,
/// sealed, would tell whoever comes to have the secret all that was said in it, years later.
fn is_tls13(plain: &[u8]) -> bool {
    let version = match plain {
        [0, rest @ ..] => rest,
        [1, length, rest @ ..] => rest.get(usize::from(*length)..).unwrap_or_default(),
        _ => &[],
    };
    version.starts_with(&[3, 4])
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::Arc;

    use rustls::pki_types::CertificateDer;
    use rustls::sign::{CertifiedKey, Signer, SigningKey};
    use rustls::{SignatureAlgorithm, SignatureScheme};

    use super::*;

    /// A session of TLS 1.3, as far as that matters here.
    const SESSION: &[u8] = b"\x01\x09localhost\x03\x04 a session";

    /// The key of a certificate that nobody is shown.
    #[derive(Debug)]
    struct Unused;

    impl SigningKey for Unused {
        fn choose_scheme(&self, _: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
            None
        }

        fn algorithm(&self) -> SignatureAlgorithm {
            SignatureAlgorithm::ECDSA
        }
    }

    /// A certificate that nobody is shown.
    pub(in crate::server) fn certificate(text: &str) -> Certificate {
        let chain = vec![CertificateDer::from(text.as_bytes().to_vec())];
        let key = Arc::new(CertifiedKey::new(chain, Arc::new(Unused)));
        Certificate { files: Default::default(), key }
    }

    fn secret(byte: u8) -> ResumptionSecret {
        ResumptionSecret(vec![byte; 32])
    }

    fn at(hours: u64) -> Clock {
        Clock::by_hand(SystemTime::UNIX_EPOCH + Duration::from_secs(hours * 3_600))
    }

    fn node(certified: &str, given: Option<u8>, clock: Clock) -> Resumption {
        let given = given.map(secret);
        Resumption::new(&certificate(certified), given.as_ref(), clock).unwrap()
    }

    #[test]
    fn nodes_open_what_others_with_their_secret_and_certificate_sealed_and_nothing_else() {
        let one = node("a", Some(1), at(600_001));
        let sealed = one.encrypt(SESSION).unwrap();
        for (other, expected) in [
            (node("a", Some(1), at(600_001)), true),
            (node("a", Some(2), at(600_001)), false),
            (node("b", Some(1), at(600_001)), false),
            (node("a", None, at(600_001)), false),
        ] {
            let opened = other.decrypt(&sealed);
            assert_eq!(opened.as_deref(), expected.then_some(SESSION));
        }
        let alone = node("a", None, at(600_001));
        let sealed = alone.encrypt(SESSION).unwrap();
        assert!(alone.decrypt(&sealed).is_some() && one.decrypt(&sealed).is_none());
    }

    #[test]
    fn a_key_opens_for_one_more_period_and_for_clocks_that_are_behind() {
        // A period begins.
        let clock = at(600_000);
        let node = node("a", Some(1), clock);
        let sealed = node.encrypt(SESSION).unwrap();
        assert_eq!(node.lifetime(), 12 * 3_600);
        clock.pass(PERIOD * 2 - Duration::from_secs(1));
        assert_eq!(node.lifetime(), 6 * 3_600 + 1);
        assert!(node.decrypt(&sealed).is_some());
        clock.pass(Duration::from_secs(1));
        assert!(node.decrypt(&sealed).is_none());
        clock.set(SystemTime::UNIX_EPOCH + Duration::from_secs(600_000 * 3_600 - 1));
        assert!(node.decrypt(&sealed).is_some());
        clock.set(SystemTime::UNIX_EPOCH);
        assert!(node.decrypt(&sealed).is_none());
    }

    #[test]
    fn what_was_sealed_holds_over_a_reload_unless_certificate_or_secret_change() {
        for given in [Some(1), None] {
            let node = node("a", given, at(600_001));
            let sealed = node.encrypt(SESSION).unwrap();
            let given = given.map(secret);
            node.replace(&certificate("a"), given.as_ref());
            assert!(node.decrypt(&sealed).is_some());
            node.replace(&certificate("b"), given.as_ref());
            assert!(node.decrypt(&sealed).is_none());
            node.replace(&certificate("a"), Some(&secret(2)));
            assert!(node.decrypt(&sealed).is_none());
        }
    }

    #[test]
    fn garbage_opens_nothing() {
        let node = node("a", Some(1), at(600_001));
        let sealed = node.encrypt(SESSION).unwrap();
        for length in 0..sealed.len() {
            assert!(node.decrypt(&sealed[..length]).is_none(), "{length}");
            let mut changed = sealed.clone();
            changed[length] ^= 1;
            assert!(node.decrypt(&changed).is_none(), "{length}");
        }
        assert!(!format!("{node:?}").contains('1'));
        assert_ne!(sealed, node.encrypt(SESSION).unwrap());
    }

    #[test]
    fn only_sessions_of_tls_1_3_are_sealed() {
        let node = node("a", Some(1), at(600_001));
        for (session, is_sealed) in [
            (&b"\x00\x03\x04 a session"[..], true),
            (b"\x00\x03\x03 a session", false),
            (b"\x01\x01a\x03\x03 a session", false),
            (b"\x01\xffa\x03\x04", false),
            (b"\x02\x03\x04", false),
            (b"", false),
        ] {
            assert_eq!(node.encrypt(session).is_some(), is_sealed, "{session:?}");
        }
    }
}
