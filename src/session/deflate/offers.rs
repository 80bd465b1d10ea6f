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

/// What an acceptable offer comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// The window that we are asked to keep to, if we are.
    pub asked: Option<Window>,
    /// How the client compresses.
    pub inbound: Inbound,
}

/// How far a client's messages refer back to those before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inbound {
    /// Not at all: it offers `client_no_context_takeover`. Nobody else is asked to, for some libraries refuse
    /// that and some ignore it.
    Alone,
    /// As far as we ask it to, for it offers that: [`Self::ASKED_BITS`].
    Asked,
    /// As far as its own window goes, of `1 << bits` bytes.
    Own(u8),
}

impl Inbound {
    /// The window that clients are asked to keep to, where they can: what they send is short, and alike.
    const ASKED_BITS: u8 = 10;

    /// The window of what is kept, if something is.
    pub fn bits(self) -> Option<u8> {
        match self {
            Self::Alone => None,
            Self::Asked => Some(Self::ASKED_BITS),
            Self::Own(bits) => Some(bits),
        }
    }
}

/// The terms of the acceptable offers, in their order.
pub fn acceptable(headers: &HeaderMap) -> Result<Vec<Terms>, Problem> {
    let mut accepted = Vec::new();
    for offer in grammar::list(headers, &SEC_WEBSOCKET_EXTENSIONS) {
        let Some(offer) = Offer::read(offer) else {
            let detail = "Sec-WebSocket-Extensions is not of the form of RFC 6455, section 9.1";
            return Err(Problem::new(Code::BadRequest, detail));
        };
        accepted.extend(offer.accept());
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
    /// Its terms; `None` where the offer can't be accepted.
    fn accept(&self) -> Option<Terms> {
        if self.name != "permessage-deflate" {
            return None;
        }
        let (mut asked, mut is_alone, mut bits) = (None, false, None);
        for (at, (name, value)) in self.parameters.iter().enumerate() {
            if self.parameters[..at].iter().any(|(earlier, _)| earlier == name) {
                return None;
            }
            match (*name, value.as_deref()) {
                // Said in every answer anyway.
                ("server_no_context_takeover", None) => {}
                ("client_no_context_takeover", None) => is_alone = true,
                ("client_max_window_bits", None) => bits = Some(15),
                ("client_max_window_bits", Some(own)) => bits = Some(window_bits(own)?),
                ("server_max_window_bits", Some(own)) => {
                    asked = Some(match window_bits(own)? {
                        15 => Window::Full,
                        9..15 => Window::Small,
                        // No compressor has a window of 256 bytes.
                        _ => return None,
                    });
                }
                _ => return None,
            }
        }
        let inbound = match bits {
            _ if is_alone => Inbound::Alone,
            None => Inbound::Own(15),
            // Compressors that are asked for a window of 256 bytes take one of 512.
            Some(bits) if bits <= Inbound::ASKED_BITS => Inbound::Own(bits.max(9)),
            Some(_) => Inbound::Asked,
        };
        Some(Terms { asked, inbound })
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

    fn terms(values: &[&str]) -> Result<Option<Terms>, Code> {
        let mut headers = HeaderMap::new();
        for value in values {
            let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
            headers.append(SEC_WEBSOCKET_EXTENSIONS, value);
        }
        let accepted = acceptable(&headers).map(|all| all.first().copied());
        accepted.map_err(|problem| problem.code)
    }

    fn accepted(values: &[&str]) -> Result<Option<Option<Window>>, Code> {
        Ok(terms(values)?.map(|terms| terms.asked))
    }

    #[test]
    fn a_client_compresses_as_it_offers_to() {
        for (value, inbound) in [
            ("permessage-deflate", Inbound::Own(15)),
            ("permessage-deflate; server_no_context_takeover", Inbound::Own(15)),
            ("permessage-deflate; client_max_window_bits", Inbound::Asked),
            ("permessage-deflate; client_max_window_bits=15", Inbound::Asked),
            ("permessage-deflate; client_max_window_bits=11", Inbound::Asked),
            ("permessage-deflate; client_max_window_bits=10", Inbound::Own(10)),
            ("permessage-deflate; client_max_window_bits=8", Inbound::Own(9)),
            ("permessage-deflate; client_no_context_takeover", Inbound::Alone),
            (
                "permessage-deflate; client_max_window_bits; client_no_context_takeover",
                Inbound::Alone,
            ),
        ] {
            let terms = terms(&[value]).unwrap().unwrap();
            assert_eq!(terms.inbound, inbound, "{value}");
        }
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
