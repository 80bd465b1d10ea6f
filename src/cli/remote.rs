//! The broker at the other end, for the commands that are clients.
//!
//! A proxy may stand before it and ask for a password of its own. A request has room for one `Authorization` (RFC
//! 9110, section 11.6.2): it is the password's then, and a credential of ours is said where there is other room, as the
//! first message of a WebSocket. It never goes into a URL, for the logs of proxies are full of these.

mod address;
mod answer;
mod refusal;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::Uri;
use actix_web::http::header::{AUTHORIZATION, HeaderValue, USER_AGENT};
use awc::error::{ConnectError, SendRequestError};
use awc::ws::WebsocketsRequest;
use awc::{Client, ClientRequest};
use rustls::pki_types::ServerName;
use serde_json::json;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use self::address::Address;
pub use self::address::{UrlArgs, credential};
pub use self::answer::Answer;
use self::refusal::foreign_scheme;
pub use self::refusal::{Refusal, Why};
use super::Failure;
use crate::trust;

/// What to do where a proxy asks for a password.
const GIVE_LOGIN: &str = "give it in the URL, http://USER:PASSWORD@HOST, or, better, as FANFARE_PROXY_LOGIN=USER:PASSWORD";

/// A broker that one can call.
pub struct Remote {
    base: String,
    client: Client,
    has_login: bool,
    /// The credential that no request carries, for a proxy's password has its place.
    unsaid: Option<String>,
    has_credential: bool,
}

impl Remote {
    /// How long a call may take until the head of its answer is there, and then its body.
    pub const TIMEOUT: Duration = Duration::from_secs(15);
    /// How long it may take to find out whether TLS is spoken.
    const PROBE: Duration = Duration::from_secs(5);
    /// A message can't be longer than an event may be on the broker, which is for its operator to
    /// say; this is only so large that it never gets in the way.
    const MESSAGE_BYTES: usize = 64 << 20;

    /// The broker that the arguments or the environment name, called with this credential.
    pub fn new(args: UrlArgs, credential: Option<String>) -> Result<Self, Failure> {
        let Address { base, login } = args.address()?;
        let (has_login, has_credential) = (login.is_some(), credential.is_some());
        let (said, unsaid) = if has_login { (None, credential) } else { (credential, None) };
        let bearer = said.map(|credential| {
            // It has visible ASCII alone.
            HeaderValue::try_from(format!("Bearer {credential}")).map_err(Failure::failed)
        });
        let agent = HeaderValue::from_static(concat!("fanfare/", env!("CARGO_PKG_VERSION")));
        let headers = [(USER_AGENT, agent)].into_iter();
        let authorization = login.or(bearer.transpose()?);
        let headers = headers.chain(authorization.map(|value| (AUTHORIZATION, value)));
        let client = trust::client(Self::TIMEOUT, headers);
        let client = client.map_err(|error| Failure::Usage(error.to_string()))?;
        Ok(Self { base, client, has_login, unsaid, has_credential })
    }

    /// The broker's URL, without what a proxy is told.
    pub fn url(&self) -> &str {
        &self.base
    }

    /// Whether it is called with a credential, however that is said.
    pub fn has_credential(&self) -> bool {
        self.has_credential
    }

    /// The first message of a WebSocket, where the credential is not said by its request.
    pub fn introduction(&self) -> Option<String> {
        let token = self.unsaid.as_ref()?;
        Some(json!({ "op": "auth", "ref": 1, "token": token }).to_string())
    }

    /// Refuses a credential that no request can carry, where there is nothing else to carry it.
    pub fn require_room(&self) -> Result<(), Failure> {
        if self.unsaid.is_none() {
            return Ok(());
        }
        let reason = "a request has room for one Authorization, and the proxy's password has it: have the proxy say \
                      the key for those whom it lets in (nginx: proxy_set_header Authorization \"Bearer KEY\") and \
                      give none here, or publish past the proxy (server.internal_listen)";
        Err(Failure::Usage(reason.to_owned()))
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

    /// An answer that says no, with what to do where it is not the broker's.
    pub async fn refusal(&self, Answer { status, headers, body }: &Answer) -> Refusal {
        let mut refusal = Refusal::new(*status, body);
        if refusal.problem.is_some() {
            return refusal;
        }
        refusal.hint = match *status {
            StatusCode::UNAUTHORIZED => foreign_scheme(headers).map(|scheme| self.of_login(scheme)),
            StatusCode::BAD_REQUEST if self.meets_tls().await => Some(self.of_tls()),
            _ => None,
        };
        refusal
    }

    /// Why a request failed.
    pub async fn why(&self, error: &SendRequestError) -> Why {
        // Who speaks TLS says what is no HTTP, or hangs up.
        let is_answered = matches!(
            error,
            SendRequestError::Response(_)
                | SendRequestError::Send(_)
                | SendRequestError::Connect(ConnectError::Disconnected)
        );
        if is_answered && self.meets_tls().await {
            return Why { reason: self.of_tls(), lasts: true };
        }
        Why { reason: trust::reason(error), lasts: trust::lasting(error).is_some() }
    }

    /// Whether TLS is spoken where this was to be plain HTTP.
    pub async fn meets_tls(&self) -> bool {
        if !self.base.starts_with("http://") {
            return false;
        }
        match timeout(Self::PROBE, shake_hands(&self.base)).await {
            Ok(Ok(_)) => true,
            Ok(Err(error)) => {
                let cause = error.get_ref().and_then(|error| error.downcast_ref());
                matches!(
                    cause,
                    Some(rustls::Error::InvalidCertificate(_) | rustls::Error::AlertReceived(_))
                )
            }
            Err(_) => false,
        }
    }

    /// What to do where TLS is spoken.
    pub fn of_tls(&self) -> String {
        format!("TLS is spoken there: the URL is {}", self.base.replacen("http://", "https://", 1))
    }

    fn of_login(&self, scheme: &str) -> String {
        match (scheme.eq_ignore_ascii_case("basic"), self.has_login) {
            (true, false) => {
                format!("what stands before the broker asks for a password: {GIVE_LOGIN}")
            }
            (true, true) => {
                "what stands before the broker refuses this user, or this password".to_owned()
            }
            (false, _) => format!(
                "what stands before the broker asks who this is by {}, which is not spoken here",
                scheme.chars().take(20).collect::<String>()
            ),
        }
    }
}

/// Speaks TLS, with whom it is spoken.
pub async fn shake_hands(url: &str) -> io::Result<TlsStream<TcpStream>> {
    let uri: Uri = url.parse().map_err(io::Error::other)?;
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    let port = if uri.scheme_str() == Some("https") { 443 } else { 80 };
    let port = uri.port_u16().unwrap_or(port);
    let config = trust::client_config().map_err(io::Error::other)?;
    let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
    let stream = TcpStream::connect((host, port)).await;
    let stream = stream.map_err(|error| io::Error::other(format!("{host}:{port}: {error}")))?;
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_that_has_no_room_beside_a_password_is_said_otherwise_or_refused() {
        let remote =
            |url: &str| Remote::new(UrlArgs::of(url.to_owned()), Some("key".into())).unwrap();
        let behind = remote("http://ada:hunter2@push.example/");
        assert_eq!(behind.url(), "http://push.example");
        assert!(behind.require_room().is_err() && behind.has_credential());
        let said = r#"{"op":"auth","ref":1,"token":"key"}"#;
        assert_eq!(behind.introduction().as_deref(), Some(said));
        let plain = remote("http://push.example/");
        assert!(plain.require_room().is_ok() && plain.introduction().is_none());
    }
}
