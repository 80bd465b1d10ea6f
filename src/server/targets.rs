//! The first line of a request as people type it, and what to say where nobody can read it.
//!
//! A pattern has a `>`, which no URL may have as it is (RFC 3986, section 2) and which everybody types as it
//! is. There is one thing it can mean. actix-http 3.20 refuses it, as anything else that it can't read, and says
//! nothing but 400.

use memchr::{memchr, memmem};

use crate::model::{Code, Problem};

/// How long an answer can be that says nothing, in bytes.
const MAX_BARE: usize = 200;

/// What is wrong with the first line of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flaw {
    /// It is none, but the beginning of TLS.
    Tls,
    /// There is a space in what is asked for.
    Space,
    /// There is this in what is asked for.
    Letter(u8),
    /// Another version of HTTP.
    Version,
}

fn first_line(head: &[u8]) -> Option<&[u8]> {
    Some(head[..memchr(b'\n', head)?].trim_ascii_end())
}

/// Whether a head begins with a first line with which nothing is wrong, as nearly all do.
pub(super) fn is_well_formed(head: &[u8]) -> bool {
    let asked = first_line(head).and_then(|line| line.strip_suffix(b" HTTP/1.1"));
    let Some(asked) = asked else { return false };
    let Some(end) = memchr(b' ', asked) else { return false };
    // Without a branch in the loop, so that many are looked at at a time.
    let illegal = |illegal, byte: &u8| illegal | u8::from(!is_legal(*byte));
    asked[end + 1..].iter().fold(0, illegal) == 0
}

/// Whether what is asked for may have such a byte.
fn is_legal(byte: u8) -> bool {
    byte.is_ascii_graphic() & (byte != b'"') & (byte != b'<') & (byte != b'>')
}

/// A head with `%3E` for each `>` in what it asks for; nothing where there is none in a whole first line.
pub(super) fn escaped(head: &[u8]) -> Option<Vec<u8>> {
    let line = first_line(head)?;
    memchr(b'>', line)?;
    let from = memchr(b' ', line)? + 1;
    let to = from + memchr(b' ', &line[from..])?;
    let target = &line[from..to];
    let mut escaped = head[..from].to_vec();
    for (nth, part) in target.split(|byte| *byte == b'>').enumerate() {
        if nth > 0 {
            escaped.extend_from_slice(b"%3E");
        }
        escaped.extend_from_slice(part);
    }
    escaped.extend_from_slice(&head[to..]);
    Some(escaped)
}

impl Flaw {
    /// What is wrong with a first line, as far as that shows: less of it does where the line is not whole.
    pub(super) fn of(head: &[u8]) -> Option<Self> {
        if head.starts_with(&[0x16, 3]) {
            return Some(Self::Tls);
        }
        let line = first_line(head).unwrap_or(head);
        let rest = &line[memchr(b' ', line)? + 1..];
        let (target, version) = match memchr(b' ', rest) {
            Some(at) => (&rest[..at], Some(&rest[at + 1..])),
            None => (rest, None),
        };
        if version.is_some_and(|version| memchr(b' ', version).is_some()) {
            return Some(Self::Space);
        }
        if let Some(letter) = target.iter().find(|byte| !is_legal(**byte)) {
            return Some(Self::Letter(*letter));
        }
        let is_known = matches!(version, Some(b"HTTP/1.1" | b"HTTP/1.0"));
        (!is_known && line.len() < head.len()).then_some(Self::Version)
    }

    /// What to say of it.
    fn detail(self) -> String {
        match self {
            Self::Tls => "HTTP is spoken here without TLS: ask with http://".to_owned(),
            Self::Space => "what is asked for has a space in it: write %20".to_owned(),
            Self::Letter(letter) if letter.is_ascii_graphic() => {
                let typed = char::from(letter);
                format!("what is asked for has a {typed} in it: write %{letter:02X}")
            }
            Self::Letter(letter) => format!(
                "what is asked for has a byte in it that no URL has: write %{letter:02X} for it"
            ),
            Self::Version => {
                "the first line of a request ends with HTTP/1.0 or HTTP/1.1".to_owned()
            }
        }
    }
}

/// Where an answer to a head or body that actix-http could not read begins in what is written, if that ends with
/// one: a status, and no word beside it.
pub(super) fn find_bare_refusal(written: &[u8]) -> Option<(usize, Code)> {
    if !written.ends_with(b"\r\n\r\n") {
        return None;
    }
    let from = written.len().saturating_sub(MAX_BARE);
    let at = from + memmem::rfind(&written[from..], b"HTTP/1.")?;
    let mut lines = std::str::from_utf8(&written[at..]).ok()?.trim_end().split("\r\n");
    let code = match lines.next()?.get("HTTP/1.1 ".len()..)?.get(..3)? {
        "400" => Code::BadRequest,
        "431" => Code::HeadTooLarge,
        _ => return None,
    };
    // All of ours say more.
    let is_bare = |line: &str| {
        line == "content-length: 0"
            || line.starts_with("connection: ")
            || line.starts_with("date: ")
    };
    lines.all(is_bare).then_some((at, code))
}

/// What to say of what can't be read, where this is known of the first line.
pub(super) fn in_words(flaw: Option<Flaw>) -> Problem {
    let detail = match flaw {
        Some(flaw) => flaw.detail(),
        None => "this request can't be read as HTTP/1.1: each field is a name, a colon right behind it \
                      and a value, all on one line; there is one Host; Content-Length is one number, \
                      and not there where Transfer-Encoding is, which is chunked; and each chunk is \
                      as long as it says"
            .to_owned(),
    };
    Problem::new(Code::BadRequest, detail)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_wildcard_that_was_typed_is_written_as_it_has_to_be() {
        for (head, expected) in [
            (
                "GET /v1/sse?topic=a.>&topic=> HTTP/1.1\r\nA: >\r\n\r\n",
                Some("GET /v1/sse?topic=a.%3E&topic=%3E HTTP/1.1\r\nA: >\r\n\r\n"),
            ),
            ("GET /> HTTP/1.0\n\n", Some("GET /%3E HTTP/1.0\n\n")),
            ("GET /a HTTP/1.1\r\nA: >\r\n\r\n", None),
            // No method, and no version.
            ("G>T /a HTTP/1.1\r\n\r\n", Some("G>T /a HTTP/1.1\r\n\r\n")),
            ("GET />\r\n\r\n", None),
            ("GET /> HTT", None),
            ("", None),
        ] {
            let escaped = escaped(head.as_bytes());
            assert_eq!(escaped.as_deref(), expected.map(str::as_bytes), "{head}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_first_line_is_told() {
        for (head, flaw) in [
            (&b"GET /a HTTP/1.1\r\n"[..], None),
            (b"GET /a%3E?b=c&d=[e] HTTP/1.0\r\n", None),
            (b"GET /a b HTTP/1.1\r\n", Some(Flaw::Space)),
            (b"GET /a<b HTTP/1.1\r\n", Some(Flaw::Letter(b'<'))),
            (b"GET /caf\xc3\xa9 HTTP/1.1\r\n", Some(Flaw::Letter(0xc3))),
            (b"GET /a HTTP/3\r\n", Some(Flaw::Version)),
            (b"GET /a\r\n", Some(Flaw::Version)),
            (b"\x16\x03\x01\x02\x00", Some(Flaw::Tls)),
            (b"GET /a", None),
            (b"GET /a HTT", None),
            (b"GET /a.>", Some(Flaw::Letter(b'>'))),
        ] {
            assert_eq!(Flaw::of(head), flaw, "{head:?}");
        }
    }

    #[test]
    fn only_an_answer_without_a_word_is_one() {
        let bare = "HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\
                    date: Thu, 26 Nov 2026 15:00:00 GMT\r\n\r\n";
        let large = bare.replace("400 Bad Request", "431 Request Header Fields Too Large");
        let ours = bare.replace("date:", "x-content-type-options: nosniff\r\ndate:");
        let fine = bare.replace("400 Bad Request", "200 OK");
        assert_eq!(find_bare_refusal(bare.as_bytes()), Some((0, Code::BadRequest)));
        assert_eq!(find_bare_refusal(large.as_bytes()), Some((0, Code::HeadTooLarge)));
        let behind = [&ours, bare].concat();
        assert_eq!(find_bare_refusal(behind.as_bytes()), Some((ours.len(), Code::BadRequest)));
        for other in [&ours, &fine, &bare[..20], "", "\r\n\r\n", &[bare, "1"].concat()] {
            assert_eq!(find_bare_refusal(other.as_bytes()), None, "{other}");
        }
    }

    proptest! {
        #[test]
        fn with_what_is_plain_nothing_is_wrong(line in "(GET|A B) [ -~\t\u{e9}]{1,9} ?HTTP/1.1") {
            let head = format!("{line}\r\nHost: a\r\n\r\n");
            let head = head.as_bytes();
            if is_well_formed(head) {
                prop_assert_eq!((Flaw::of(head), escaped(head)), (None, None));
            }
        }
    }

    #[test]
    fn most_lines_are_well_formed() {
        assert!(is_well_formed(b"POST /v1/topics/a.b/events?x=%20 HTTP/1.1\r\nHost: a\r\n\r\n"));
        for line in ["GET /> HTTP/1.1\n", "GET\t/ HTTP/1.1\n", "GET / HTTP/1.0\n", "GET / HTTP/1.1"]
        {
            assert!(!is_well_formed(line.as_bytes()), "{line:?}");
        }
    }
}
