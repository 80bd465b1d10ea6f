//! The broker at the other end, for the commands that are clients.

use std::fmt;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::Uri;
use actix_web::http::header::{AUTHORIZATION, HeaderValue, USER_AGENT};
use awc::ws::WebsocketsRequest;
use awc::{Client, ClientRequest};
use serde::Deserialize;

use super::Failure;
use crate::trust;

/// Where the broker is.
#[derive(Debug, Clone, clap::Args)]
pub struct UrlArgs {
    /// The broker's URL [default: $FANFARE_URL, or http://127.0.0.1:8080]
    #[arg(long, value_name = "URL")]
    url: Option<String>,
}

impl UrlArgs {
    /// As if it were given.
    pub fn of(url: String) -> Self {
        Self { url: Some(url) }
    }

    /// The URL that the arguments or the environment name, without a slash at its end.
    pub fn base(self) -> Result<String, Failure> {
        let url = self.url.or_else(|| variable("FANFARE_URL"));
        base(url.as_deref().unwrap_or("http://127.0.0.1:8080"))
    }
}

/// A broker that one can call.
pub struct Remote {
    base: String,
    client: Client,
}

impl Remote {
    /// How long a call may take until the head of its answer is there.
    const TIMEOUT: Duration = Duration::from_secs(15);
    /// A message can't be longer than an event may be on the broker, which is for its operator to
    /// say; this is only so large that it never gets in the way.
    const MESSAGE_BYTES: usize = 64 << 20;

    /// The broker that the arguments or the environment name, called with this credential.
    pub fn new(args: UrlArgs, credential: Option<String>) -> Result<Self, Failure> {
        let base = args.base()?;
        let agent = HeaderValue::from_static(concat!("fanfare/", env!("CARGO_PKG_VERSION")));
        let bearer = credential.map(|credential| {
            // It has visible ASCII alone.
            HeaderValue::try_from(format!("Bearer {credential}")).map_err(Failure::failed)
        });
        let headers = [(USER_AGENT, agent)].into_iter();
        let headers = headers.chain(bearer.transpose()?.map(|bearer| (AUTHORIZATION, bearer)));
        let client = trust::client(Self::TIMEOUT, headers);
        Ok(Self { base, client: client.map_err(|error| Failure::Usage(error.to_string()))? })
    }

    /// The broker's URL.
    pub fn url(&self) -> &str {
        &self.base
    }

    /// A POST to a path.
    pub fn post(&self, path: &str) -> ClientRequest {
        self.client.post(format!("{}{path}", self.base))
    }

    /// A GET of a path.
    pub fn get(&self, path: &str) -> ClientRequest {
        self.client.get(format!("{}{path}", self.base))
    }

    /// A WebSocket to a path with its query.
    pub fn websocket(&self, path: &str) -> WebsocketsRequest {
        self.client.ws(format!("{}{path}", self.base)).max_frame_size(Self::MESSAGE_BYTES)
    }
}

/// The credential that a flag or a variable holds. It is never shown.
pub fn credential(flag: Option<String>, name: &str) -> Result<Option<String>, Failure> {
    let flag = flag.map(|text| text.trim().to_owned());
    let credential = flag.or_else(|| variable(name)).filter(|text| !text.is_empty());
    match credential {
        Some(text) if !text.bytes().all(|byte| byte.is_ascii_graphic()) => Err(Failure::Usage(
            format!("the credential (see {name}) has characters that no header can carry"),
        )),
        credential => Ok(credential),
    }
}

/// What a variable holds, without white space at its ends, as everywhere in the configuration.
fn variable(name: &str) -> Option<String> {
    let value = std::env::var(name).ok()?;
    Some(value.trim().to_owned()).filter(|value| !value.is_empty())
}

/// The URL without a slash at its end, with http for ws.
fn base(url: &str) -> Result<String, Failure> {
    let wrong = |what: &str| {
        Failure::Usage(format!("the broker's URL {what}; the form is http://HOST[:PORT]"))
    };
    let uri: Uri = url.parse().map_err(|_| wrong("is not a URL"))?;
    let scheme = match uri.scheme_str() {
        Some("http" | "ws") => "http",
        Some("https" | "wss") => "https",
        _ => return Err(wrong("has another scheme than http, https, ws or wss")),
    };
    let authority = uri.authority().filter(|_| uri.host().is_some_and(|host| !host.is_empty()));
    let authority = authority.ok_or_else(|| wrong("has no host"))?.as_str();
    if authority.contains('@') {
        return Err(wrong("has a user, but a broker knows keys and tokens"));
    }
    if uri.query().is_some() {
        return Err(wrong("has a query"));
    }
    Ok(format!("{scheme}://{authority}{}", uri.path().trim_end_matches('/')))
}

/// An answer that says no.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Its status.
    pub status: StatusCode,
    problem: Option<Problem>,
}

/// What a broker says of it (RFC 9457).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Problem {
    code: String,
    detail: String,
}

impl Refusal {
    /// Reads what the body says, if it is a broker's.
    pub fn new(status: StatusCode, body: &[u8]) -> Self {
        Self { status, problem: serde_json::from_slice(body).ok() }
    }

    /// The stable name of the refusal, where a broker gave it.
    pub fn code(&self) -> Option<&str> {
        self.problem.as_ref().map(|problem| problem.code.as_str())
    }

    /// Whether it may be for the sake of one of several events, so that the others would be accepted.
    pub fn is_of_event(&self) -> bool {
        matches!(self.status.as_u16(), 400 | 413 | 422)
    }

    /// Whether the same request may be accepted later.
    pub fn is_passing(&self) -> bool {
        match self.problem.as_ref().map(|problem| problem.code.as_str()) {
            Some("in_progress" | "outcome_unknown") => true,
            _ => matches!(self.status.as_u16(), 408 | 429 | 502 | 503 | 504),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.problem {
            Some(Problem { code, detail }) => write!(f, "{code}: {detail}"),
            None => write!(f, "HTTP {}", self.status),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_a_scheme_a_host_and_perhaps_a_path() {
        for (url, expected) in [
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
            ("http://127.0.0.1:8080/", "http://127.0.0.1:8080"),
            ("wss://push.example/live/", "https://push.example/live"),
            ("ws://[::1]:80", "http://[::1]:80"),
        ] {
            assert_eq!(base(url).unwrap(), expected);
        }
        for url in ["", "push.example", "/x", "ftp://a", "http://", "http://u:p@a", "http://a/?b"] {
            assert!(matches!(base(url), Err(Failure::Usage(_))), "{url}");
        }
    }

    #[test]
    fn a_credential_that_no_header_can_carry_is_refused_unseen() {
        let Err(Failure::Usage(text)) = credential(Some("hunter 2".into()), "NAME") else {
            panic!("accepted");
        };
        assert!(!text.contains("hunter"));
        for good in ["good", " good\r\n"] {
            let read = credential(Some(good.into()), "NAME").unwrap();
            assert_eq!(read.as_deref(), Some("good"));
        }
    }

    #[test]
    fn refusals_say_what_the_broker_says() {
        let body = br#"{"status":422,"code":"invalid_topic","detail":"not a topic","extra":1}"#;
        let refusal = Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, body);
        assert_eq!(refusal.to_string(), "invalid_topic: not a topic");
        assert!(!refusal.is_passing());
        let refusal = Refusal::new(StatusCode::BAD_GATEWAY, b"<html>");
        assert_eq!(refusal.to_string(), "HTTP 502 Bad Gateway");
        assert!(refusal.is_passing());
        let body = br#"{"code":"in_progress","detail":"wait"}"#;
        assert!(Refusal::new(StatusCode::CONFLICT, body).is_passing());
    }
}
