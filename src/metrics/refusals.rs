//! Who was turned away, and why: every refusal is counted, and one of each reason a minute is logged.
//!
//! A client that can't get in is a screen that stays empty, and often its browser will not say why. So the
//! operator finds here what a client was told, with what would change it. What a client wrote is cut
//! short, and its query, where credentials stand, is left out.

use std::fmt;
use std::net::IpAddr;

use actix_http::RequestHead;
use actix_http::header;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::registry::Registry;
use tracing::warn;

use super::tally::{Held, Tally};
use crate::model::{Code, Problem, Summary};

/// The reason that is no code of a problem: with TLS, nobody can be told one.
const TLS: &str = "tls_handshake";

/// The most characters of a line that are what a client wrote, each time it is repeated.
const MAX_REPEATED: usize = 120;

/// The most characters of a quoted word in a reason: a longer one may be a credential in the wrong place.
const MAX_QUOTED: usize = 32;

/// The refusals of one node.
#[derive(Debug)]
pub struct Refusals(Tally<Refusal>);

/// One of them, as it is logged.
#[derive(Debug)]
struct Refusal {
    detail: String,
    asker: String,
}

/// Why somebody was refused: a code of a problem, or what comes before anything can be told.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

/// Who was refused, as far as it may be told.
#[derive(Debug, Clone, Copy, Default)]
pub struct Asker<'a> {
    /// The request, where there was one.
    pub head: Option<&'a RequestHead>,
    /// Where it came from.
    pub address: Option<IpAddr>,
}

impl Refusals {
    pub(super) fn new(registry: &mut Registry) -> Self {
        let name = ("refusals", "Requests, messages and connections that were refused, by reason");
        let reasons = Code::ALL.iter().map(|code| code.as_str()).chain([TLS]);
        Self(Tally::new(registry, name, reasons, |reason| ReasonLabel { reason }))
    }

    /// Counts a refusal, and logs it where one of its reason is due.
    pub fn note(&self, problem: &Problem, asker: Asker<'_>) {
        self.tell(problem.code as usize, &problem.detail, asker);
    }

    /// The same for a handshake of TLS that failed.
    pub fn note_tls(&self, error: &dyn fmt::Display, address: Option<IpAddr>) {
        let asker = Asker { head: None, address };
        self.tell(Code::ALL.len(), &format!("the handshake failed: {error}"), asker);
    }

    fn tell(&self, reason: usize, detail: &str, asker: Asker<'_>) {
        let refusal = || Refusal { detail: tellable(detail), asker: asker.to_string() };
        self.0.tell(reason, 1, refusal).into_iter().for_each(say);
    }

    /// How many there were, by reason.
    pub fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.0.counts()
    }

    pub(super) fn tell_held(&self, held: Held) {
        self.0.held(held).for_each(say);
    }
}

fn say((reason, Summary { count, example }): (&'static str, Summary<Refusal>)) {
    let Refusal { detail, asker } = example;
    warn!(reason, count, example = %asker, "refused: {detail}");
}

impl fmt::Display for Asker<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            Some(address) => write!(f, "{address}")?,
            None if self.head.is_some() => f.write_str("somebody")?,
            None => f.write_str("an open session")?,
        }
        let Some(head) = self.head else { return Ok(()) };
        write!(f, " {} {}", head.method, cut(head.uri.path()))?;
        for name in [header::ORIGIN, header::HOST] {
            if let Some(value) = head.headers.get(&name) {
                write!(f, " {name}={}", cut(&String::from_utf8_lossy(value.as_bytes())))?;
            }
        }
        Ok(())
    }
}

/// What a client wrote, on one line and cut short.
fn cut(text: &str) -> String {
    let tame = |c: char| if c.is_control() || c.is_whitespace() { '\u{fffd}' } else { c };
    text.chars().take(MAX_REPEATED).map(tame).collect()
}

/// A reason as it is logged: on one line, and without long words in quotes, which are the client's own.
fn tellable(detail: &str) -> String {
    let mut told = String::with_capacity(detail.len());
    let mut quoted = false;
    for part in detail.split(['"', '`']) {
        match quoted && part.chars().count() > MAX_QUOTED {
            true => told.push_str("\"…\""),
            false if quoted => told.extend(["\"", part, "\""]),
            false => told.push_str(part),
        }
        quoted = !quoted;
    }
    told.chars().map(|c| if c.is_control() { ' ' } else { c }).take(4 * MAX_REPEATED).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_found_at_the_number_of_its_code() {
        for (number, code) in Code::ALL.into_iter().enumerate() {
            assert_eq!(code as usize, number, "{code:?}");
        }
    }

    #[test]
    fn a_line_is_one_line_and_repeats_nothing_that_is_long() {
        let key = "ffk_0123456789012345678901234567890123456789012";
        let told = tellable(&format!("unknown parameter \"{key}\"; `topic`\nis known"));
        assert_eq!(told, "unknown parameter \"…\"; \"topic\" is known");
        assert!(!tellable(&format!("it \"{key}")).contains(key), "also where a quote does not end");
        let mut head = RequestHead::default();
        head.uri = format!("/v1/{}?access_token={key}", "x".repeat(900)).parse().unwrap();
        let origin = header::HeaderValue::from_bytes(b"https://e vil\xff").unwrap();
        head.headers.insert(header::ORIGIN, origin);
        let asker = Asker { head: Some(&head), address: "10.0.0.1".parse().ok() }.to_string();
        assert!(asker.starts_with("10.0.0.1 GET /v1/xxx"), "{asker}");
        assert!(asker.ends_with("origin=https://e\u{fffd}vil\u{fffd}"), "{asker}");
        assert!(asker.len() < 300 && !asker.contains(key), "{asker}");
    }
}
