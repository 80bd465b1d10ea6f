//! What a client offers in `Sec-WebSocket-Extensions`, and what of it is taken.
//!
//! Strict, as RFC 6455 (section 9.1) and RFC 7692 (section 7.1) ask: a header that breaks the grammar
//! fails the handshake, for nobody knows what was meant; an offer that holds anything unknown,
//! twice or out of range is passed over for the next one.

use std::borrow::Cow;

use actix_web::http::header::{HeaderMap, SEC_WEBSOCKET_EXTENSIONS};

use super::Window;
use crate::model::{Code, Problem};

/// An extension that is offered.
struct Offer<'a> {
    name: &'a str,
    parameters: Vec<(&'a str, Option<Cow<'a, str>>)>,
}

/// The window that the first acceptable offer asks for, if it does; `None` where none is acceptable.
pub fn accept(headers: &HeaderMap) -> Result<Option<Option<Window>>, Problem> {
    let mut accepted = None;
    for value in headers.get_all(SEC_WEBSOCKET_EXTENSIONS) {
        let offers = value.to_str().ok().and_then(|value| Scanner { rest: value }.offers());
        let Some(offers) = offers else {
            let detail = "Sec-WebSocket-Extensions is not of the form of RFC 6455, section 9.1";
            return Err(Problem::new(Code::BadRequest, detail));
        };
        accepted = accepted.or_else(|| offers.iter().find_map(Offer::accept));
    }
    Ok(accepted)
}

impl Offer<'_> {
    /// The window asked for, if any; `None` where the offer can't be accepted.
    fn accept(&self) -> Option<Option<Window>> {
        if self.name != "permessage-deflate" {
            return None;
        }
        let mut window = None;
        for (at, (name, value)) in self.parameters.iter().enumerate() {
            if self.parameters[..at].iter().any(|(earlier, _)| earlier == name) {
                return None;
            }
            match (*name, value.as_deref()) {
                // Said in every answer anyway.
                ("server_no_context_takeover" | "client_no_context_takeover", None) => {}
                // What the client sends may have any window.
                ("client_max_window_bits", None) => {}
                ("client_max_window_bits", Some(bits)) => _ = window_bits(bits)?,
                ("server_max_window_bits", Some(bits)) => {
                    window = Some(match window_bits(bits)? {
                        15 => Window::Full,
                        9..15 => Window::Small,
                        // No compressor has a window of 256 bytes.
                        _ => return None,
                    });
                }
                _ => return None,
            }
        }
        Some(window)
    }
}

/// A number from 8 to 15, without leading zeros.
fn window_bits(text: &str) -> Option<u8> {
    (8..=15).find(|bits| bits.to_string() == text)
}

/// Reads the grammar of the header from left to right.
struct Scanner<'a> {
    rest: &'a str,
}

impl<'a> Scanner<'a> {
    /// The whole value: offers between commas; between commas there may also be nothing.
    fn offers(mut self) -> Option<Vec<Offer<'a>>> {
        let mut offers = Vec::new();
        loop {
            while self.takes(',') {}
            if self.rest.is_empty() {
                return Some(offers);
            }
            offers.push(self.offer()?);
            if !self.rest.is_empty() && !self.takes(',') {
                return None;
            }
        }
    }

    fn offer(&mut self) -> Option<Offer<'a>> {
        let mut offer = Offer { name: self.token()?, parameters: Vec::new() };
        while self.takes(';') {
            let name = self.token()?;
            let value = if self.takes('=') { Some(self.value()?) } else { None };
            offer.parameters.push((name, value));
        }
        Some(offer)
    }

    /// A token, or a quoted one.
    fn value(&mut self) -> Option<Cow<'a, str>> {
        if !self.takes('"') {
            return self.token().map(Cow::Borrowed);
        }
        let mut value = String::new();
        let mut chars = self.rest.chars();
        loop {
            match chars.next()? {
                '"' => break,
                '\\' => value.push(chars.next()?),
                c => value.push(c),
            }
        }
        self.rest = chars.as_str();
        self.skip_blanks();
        (!value.is_empty() && value.chars().all(is_token)).then_some(Cow::Owned(value))
    }

    fn token(&mut self) -> Option<&'a str> {
        let end = self.rest.find(|c| !is_token(c)).unwrap_or(self.rest.len());
        let (token, rest) = self.rest.split_at(end);
        self.rest = rest;
        self.skip_blanks();
        (!token.is_empty()).then_some(token)
    }

    /// Whether `mark` is next; it and the blanks around it are then taken.
    fn takes(&mut self, mark: char) -> bool {
        self.skip_blanks();
        let Some(rest) = self.rest.strip_prefix(mark) else { return false };
        self.rest = rest;
        if mark != '"' {
            self.skip_blanks();
        }
        true
    }

    fn skip_blanks(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t']);
    }
}

/// Whether `c` may stand in a token (RFC 9110, section 5.6.2).
fn is_token(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c)
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::http::header::HeaderValue;

    fn accepted(values: &[&str]) -> Result<Option<Option<Window>>, Code> {
        let mut headers = HeaderMap::new();
        for value in values {
            let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
            headers.append(SEC_WEBSOCKET_EXTENSIONS, value);
        }
        accept(&headers).map_err(|problem| problem.code)
    }

    #[test]
    fn the_first_acceptable_offer_is_taken() {
        const FULL: Option<Window> = Some(Window::Full);
        const SMALL: Option<Window> = Some(Window::Small);
        for (values, window) in [
            (&["permessage-deflate"][..], None),
            (&["permessage-deflate; client_max_window_bits"], None),
            (&["permessage-deflate; client_max_window_bits=8"], None),
            (&["permessage-deflate; client_max_window_bits=15"], None),
            (&["permessage-deflate; client_max_window_bits=\"10\""], None),
            (&["permessage-deflate; server_no_context_takeover"], None),
            (&["permessage-deflate; client_no_context_takeover"], None),
            (&["permessage-deflate; server_max_window_bits=15"], FULL),
            (&["permessage-deflate; server_max_window_bits=\"15\""], FULL),
            (&["permessage-deflate; server_max_window_bits=\"1\\5\""], FULL),
            (&["permessage-deflate; server_max_window_bits=14"], SMALL),
            (&["permessage-deflate; server_max_window_bits=9"], SMALL),
            (&["permessage-deflate;server_max_window_bits = 9 ;client_max_window_bits"], SMALL),
            (&["\tpermessage-deflate\t;\tserver_no_context_takeover\t"], None),
            (&["x-webkit-deflate-frame, permessage-deflate"], None),
            (&["permessage-bzip2; level=9; note=\"a\", permessage-deflate"], None),
            (&["permessage-deflate; server_max_window_bits=9, permessage-deflate"], SMALL),
            (&["permessage-deflate; server_max_window_bits=8, permessage-deflate"], None),
            (&["permessage-deflate; mode=fast,permessage-deflate;server_max_window_bits=15"], FULL),
            (&[",, permessage-deflate ,"], None),
            (&["x-webkit-deflate-frame", "permessage-deflate; server_max_window_bits=10"], SMALL),
        ] {
            assert_eq!(accepted(values), Ok(Some(window)), "{values:?}");
        }
    }

    #[test]
    fn an_offer_with_anything_unknown_twice_or_out_of_range_is_declined() {
        for value in [
            "",
            "x-webkit-deflate-frame",
            "Permessage-Deflate2",
            "permessage-deflate; mode=fast",
            "permessage-deflate; server_no_context_takeover=1",
            "permessage-deflate; client_no_context_takeover=\"true\"",
            "permessage-deflate; server_no_context_takeover; server_no_context_takeover",
            "permessage-deflate; client_max_window_bits; client_max_window_bits=10",
            "permessage-deflate; server_max_window_bits=10; server_max_window_bits=10",
            "permessage-deflate; server_max_window_bits",
            "permessage-deflate; server_max_window_bits=7",
            "permessage-deflate; server_max_window_bits=8",
            "permessage-deflate; server_max_window_bits=16",
            "permessage-deflate; server_max_window_bits=010",
            "permessage-deflate; server_max_window_bits=+10",
            "permessage-deflate; server_max_window_bits=ten",
            "permessage-deflate; client_max_window_bits=0",
            "permessage-deflate; client_max_window_bits=99999999999999999999",
        ] {
            assert_eq!(accepted(&[value]), Ok(None), "{value:?}");
        }
        assert_eq!(accepted(&[]), Ok(None));
    }

    #[test]
    fn a_header_that_breaks_the_grammar_fails_the_handshake() {
        for value in [
            ";",
            "permessage-deflate;",
            "permessage-deflate; =9",
            "permessage-deflate; server_max_window_bits=",
            "permessage-deflate; server_max_window_bits=\"9",
            "permessage-deflate; server_max_window_bits=\"\"",
            "permessage-deflate; server_max_window_bits=\" 9\"",
            "permessage-deflate; server_max_window_bits=\"9\\",
            "permessage-deflate client_max_window_bits",
            "permessage-deflate, permessage deflate",
            "permessage/deflate",
            "permessage-deflate; \u{fc}=1",
        ] {
            assert_eq!(accepted(&[value]), Err(Code::BadRequest), "{value:?}");
        }
        // Also behind an offer that was acceptable.
        assert_eq!(accepted(&["permessage-deflate", "="]), Err(Code::BadRequest));
    }
}
