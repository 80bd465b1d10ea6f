//! What a client offers in `Sec-WebSocket-Extensions`, and what of it is taken.
//!
//! Strict, as RFC 6455 (section 9.1) and RFC 7692 (section 7.1) ask: a header that breaks the grammar
//! fails the handshake, for nobody knows what was meant; an offer that holds anything unknown,
//! twice or out of range is passed over for the next one.

use std::borrow::Cow;

use actix_web::http::header::{HeaderMap, SEC_WEBSOCKET_EXTENSIONS};

use super::Window;
use crate::http::grammar::{self, is_token};
use crate::model::{Code, Problem};

/// An extension that is offered.
struct Offer<'a> {
    name: &'a str,
    parameters: Vec<(&'a str, Option<Cow<'a, str>>)>,
}

/// The window that the first acceptable offer asks for, if it does; `None` where none is acceptable.
pub fn accept(headers: &HeaderMap) -> Result<Option<Option<Window>>, Problem> {
    let mut accepted = None;
    for offer in grammar::list(headers, &SEC_WEBSOCKET_EXTENSIONS) {
        let Some(offer) = Offer::read(offer) else {
            let detail = "Sec-WebSocket-Extensions is not of the form of RFC 6455, section 9.1";
            return Err(Problem::new(Code::BadRequest, detail));
        };
        accepted = accepted.or_else(|| offer.accept());
    }
    Ok(accepted)
}

impl<'a> Offer<'a> {
    /// Reads `name; parameter; parameter=value`, where a value may be quoted and is a token all the same.
    fn read(text: &'a str) -> Option<Self> {
        let mut parts = grammar::parts(text, ';');
        let name = parts.next().filter(|name| is_token(name))?;
        let parameter = |part: &'a str| {
            let (name, value) = match part.contains('=') {
                true => grammar::pair(part).map(|(name, value)| (name, Some(value)))?,
                false => (part, None),
            };
            let is_legal = is_token(name) && value.as_deref().is_none_or(is_token);
            is_legal.then_some((name, value))
        };
        let parameters = parts.map(parameter).collect::<Option<_>>()?;
        Some(Self { name, parameters })
    }
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
