//! What the end of a connection means: come back, or stop.
//!
//! Pure. Where the broker's table of reasons says that coming back unchanged would end the same way,
//! the command stops and says why; any other end is passing.

use std::time::Duration;

use actix_web::http::StatusCode;

use super::super::remote::Refusal;
use super::message::Message;
use crate::model::Close;

/// Why a connection is over, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// Connect again, after the wait that the broker asks for, if it does.
    Reconnect {
        /// Why it ended.
        reason: String,
        /// The wait that was asked for.
        after: Option<Duration>,
    },
    /// It would end the same way again.
    Stop(String),
    /// All that was asked for is done.
    Done,
}

/// What the broker said before it closed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bye {
    code: String,
    message: String,
    after: Option<Duration>,
}

impl Bye {
    /// Reads a `bye`.
    pub fn new(message: &Message<'_>) -> Self {
        Self {
            code: message.text("code").unwrap_or_default(),
            message: message.text("message").unwrap_or_default(),
            after: message.number("retry_after_ms").map(Duration::from_millis),
        }
    }
}

impl Ending {
    /// The connection broke, or never came to be.
    pub fn lost(reason: impl Into<String>) -> Self {
        Self::Reconnect { reason: reason.into(), after: None }
    }

    /// The connection was closed, with a `bye` before it or without.
    pub fn closed(code: Option<u16>, bye: Option<Bye>) -> Self {
        let named = |close: &Close| match (&bye, code) {
            (Some(bye), _) => close.name() == bye.code,
            (None, code) => code == Some(close.code()),
        };
        let close = Close::ALL.into_iter().find(named);
        let reason = match (&bye, close, code) {
            (Some(bye), ..) => format!("{}: {}", bye.code, bye.message),
            (None, Some(close), _) => format!("{}: {}", close.name(), close.message()),
            (None, None, Some(code)) => format!("closed with code {code}"),
            (None, None, None) => "the connection ended".to_owned(),
        };
        match close {
            Some(close) if close.retry_after_ms().is_none() => {
                let code = code.unwrap_or(close.code());
                Self::Stop(format!("{reason} (close code {code}){}", hint(close.name())))
            }
            _ => Self::Reconnect { reason, after: bye.and_then(|bye| bye.after) },
        }
    }

    /// The connection was refused.
    pub fn refused(refusal: &Refusal) -> Self {
        if refusal.is_passing() || refusal.status.is_server_error() {
            return Self::lost(refusal.to_string());
        }
        let unauthorized = refusal.status == StatusCode::UNAUTHORIZED && !refusal.is_of_proxy();
        Self::Stop(format!("{refusal}{}", hint(if unauthorized { "unauthorized" } else { "" })))
    }

    /// The broker refused the subscription on an open connection.
    pub fn error(message: &Message<'_>) -> Self {
        let code = message.text("code").unwrap_or_default();
        let reason = format!("{code}: {}", message.text("message").unwrap_or_default());
        match code.as_str() {
            "unavailable" | "too_many" | "internal" | "outcome_unknown" => Self::lost(reason),
            _ => Self::Stop(format!("{reason}{}", hint(&code))),
        }
    }
}

fn hint(code: &str) -> &'static str {
    if code == "unauthorized" { "; set FANFARE_TOKEN to a valid token" } else { "" }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bye(text: &str) -> Option<Bye> {
        Some(Bye::new(&Message::parse(text).unwrap()))
    }

    fn refusal(status: u16) -> Refusal {
        Refusal::new(StatusCode::from_u16(status).unwrap(), b"")
    }

    #[test]
    fn what_would_repeat_stops() {
        for code in [4401, 4403, 1008, 4400, 1009] {
            let ending = Ending::closed(Some(code), None);
            assert!(matches!(&ending, Ending::Stop(text) if text.contains(&code.to_string())));
        }
        let expired = bye(r#"{"op":"bye","code":"unauthorized","message":"no token"}"#);
        let Ending::Stop(text) = Ending::closed(Some(4401), expired) else { panic!() };
        assert_eq!(
            text,
            "unauthorized: no token (close code 4401); set FANFARE_TOKEN to a valid token"
        );
        for status in [400, 401, 403, 404, 422, 426, 200, 301] {
            let ending = Ending::refused(&refusal(status));
            assert!(matches!(ending, Ending::Stop(_)), "{status}");
        }
    }

    #[test]
    fn what_passes_is_tried_again_when_the_broker_says() {
        let restart = bye(r#"{"op":"bye","code":"restart","message":"m","retry_after_ms":1234}"#);
        assert_eq!(
            Ending::closed(Some(1012), restart),
            Ending::Reconnect {
                reason: "restart: m".to_owned(),
                after: Some(Duration::from_millis(1_234))
            }
        );
        for code in [None, Some(1000), Some(1001), Some(1006), Some(1011), Some(4409), Some(4999)] {
            assert!(matches!(Ending::closed(code, None), Ending::Reconnect { .. }), "{code:?}");
        }
        for status in [408, 429, 500, 502, 503, 504] {
            let ending = Ending::refused(&refusal(status));
            assert!(matches!(ending, Ending::Reconnect { .. }), "{status}");
        }
    }

    #[test]
    fn a_refused_subscription_stops_unless_the_refusal_passes() {
        let error = |code: &str| {
            let text = format!(r#"{{"op":"error","ref":0,"code":"{code}","message":"m"}}"#);
            Ending::error(&Message::parse(&text).unwrap())
        };
        assert_eq!(error("forbidden"), Ending::Stop("forbidden: m".to_owned()));
        assert_eq!(error("unavailable"), Ending::lost("unavailable: m"));
    }
}
