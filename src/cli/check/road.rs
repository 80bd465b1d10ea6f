//! The road from here to a running broker: what its clients meet on it, step by step.
//!
//! Each step asks one question that a browser's connection depends on, and what is wrong comes with what to
//! set for it. Most of it is not the broker's doing but that of a proxy before it, which is why this looks
//! from outside and knows nothing of the configuration.

use std::time::{Duration, SystemTime};

use actix_web::http::header::{
    DATE, HeaderMap, HttpDate, ORIGIN, SEC_WEBSOCKET_EXTENSIONS, SERVER, VIA,
};
use actix_web::http::{StatusCode, Uri};
use awc::error::WsClientError;
use awc::ws::Frame;
use futures_util::StreamExt;
use futures_util::future::join3;
use tokio::time::timeout;

use super::super::remote::{self, Remote, UrlArgs, shake_hands};
use super::super::{Failure, note};
use super::idle;
use super::report::Report;
use super::report::Verdict::{self, Good, Unseen, Wrong};
use super::stream::{Begun, goes_on};
use super::visitor::{PATIENCE, Visitor, text};
use crate::model::Pattern;
use crate::trust;

/// What is wrong where the broker answers and no WebSocket opens. The console says the same.
const UPGRADE: &str = "what stands between does not pass on the upgrade; nginx: proxy_http_version 1.1, \
                       proxy_set_header Upgrade $http_upgrade, proxy_set_header Connection \"upgrade\"";

/// What is wrong where pages of the broker's own address are refused. The console says the same.
const FOREIGN: &str = "for the broker's own pages: what stands between tells it another address; pass on host, scheme \
                       and client (nginx: proxy_set_header Host $http_host, X-Forwarded-Host $http_host, \
                       X-Forwarded-Proto $scheme, X-Forwarded-For $remote_addr: all of them, or clients set what is \
                       missing) and set server.trusted_proxies";

/// How far the broker's clock may be off: less than `auth.leeway` takes by default.
const SKEW: Duration = Duration::from_secs(5);

/// What to look at, and as whom.
pub struct Look {
    /// The broker's URL.
    pub url: String,
    /// The origin of the page that will connect; that of the URL where there is none.
    pub origin: Option<String>,
    /// What to subscribe to.
    pub topic: Pattern,
    /// How long to leave connections idle.
    pub idle: Option<Duration>,
    /// The token that was given as a flag.
    pub token: Option<String>,
}

/// Looks at a running broker and prints what it finds.
pub async fn look(look: Look) -> Result<(), Failure> {
    let token = remote::credential(look.token, "FANFARE_TOKEN")?;
    let has_token = token.is_some();
    let remote = Remote::new(UrlArgs::of(look.url), token)?;
    let origin = look.origin.unwrap_or_else(|| origin_of(remote.url()));
    let mut query = form_urlencoded::Serializer::new(String::new());
    let query = query.append_pair("topic", look.topic.as_str()).finish();
    let visitor = Visitor { remote, origin, query, has_token };
    let mut report = Report::default();
    if visitor.remote.url().starts_with("https:") {
        let tls = tls(visitor.remote.url()).await;
        report.say("TLS", &tls)?;
        if !matches!(tls, Good(_)) {
            return report.end();
        }
    }
    let (broker, clock) = visitor.broker().await;
    report.say("broker", &broker)?;
    if !matches!(broker, Good(_)) {
        return report.end();
    }
    report.say("clock", &clock)?;
    for (step, verdict) in visitor.admission().await {
        report.say(step, &verdict)?;
    }
    let begun = visitor.event_stream().await;
    if let Ok(Begun { heartbeat, .. }) = &begun {
        note(format_args!(
            "waiting for what comes next on the event stream, {heartbeat} s at most"
        ));
    }
    // One waits for what comes by itself, so all wait together.
    let idle = idle::look(&visitor, look.idle);
    let (stream, sockets, idle) = join3(goes_on(begun), visitor.sockets(), idle).await;
    report.say("event stream", &stream)?;
    for (step, verdict) in sockets.into_iter().chain(idle) {
        report.say(step, &verdict)?;
    }
    report.end()
}

/// The origin of pages that come from the broker's own address.
fn origin_of(url: &str) -> String {
    let uri: Option<Uri> = url.parse().ok();
    let parts = uri.as_ref().and_then(|uri| Some((uri.scheme_str()?, uri.authority()?)));
    parts.map_or_else(String::new, |(scheme, authority)| format!("{scheme}://{authority}"))
}

/// Whether a certificate is shown that clients here believe.
async fn tls(url: &str) -> Verdict {
    match timeout(PATIENCE, shake_hands(url)).await {
        Ok(Ok(stream)) => {
            let version = stream.get_ref().1.protocol_version();
            let version = version.and_then(|version| version.as_str()).unwrap_or("TLS");
            Good(format!("the certificate is good for this name and machine ({version})"))
        }
        Ok(Err(error)) => {
            Wrong(trust::lasting_io(&error).unwrap_or_else(|| format!("no TLS: {error}")))
        }
        Err(_) => Wrong(format!("no TLS handshake within {PATIENCE:?}")),
    }
}

impl Visitor {
    /// Whether a broker answers at all, and what time it is there.
    async fn broker(&self) -> (Verdict, Verdict) {
        let unknown = || Unseen("there is no answer to tell it by".to_owned());
        let asked = SystemTime::now();
        let head = match self.remote.head(self.remote.get("/health/live").send()).await {
            Ok(head) => head,
            Err(why) => return (Wrong(why.to_string()), unknown()),
        };
        let clock = clock(head.headers(), asked, SystemTime::now());
        let answer = match head.whole(64 * 1024).await {
            Ok(answer) => answer,
            Err(why) => return (Wrong(why.to_string()), clock),
        };
        let live: Option<serde_json::Value> = serde_json::from_slice(&answer.body).ok();
        let is_live = live.is_some_and(|live| live["status"] == "ok");
        let through = through(&answer.headers);
        match (answer.status, is_live) {
            (StatusCode::OK, true) => (Good(format!("a broker answers{through}")), clock),
            (StatusCode::BAD_GATEWAY | StatusCode::GATEWAY_TIMEOUT, _) => {
                let status = answer.status;
                let reason = format!(
                    "{status}{through}: a proxy answers and reaches no broker; is the address right that it \
                     passes requests to (nginx: proxy_pass), and does the broker run?"
                );
                (Wrong(reason), clock)
            }
            (status, _) if status != StatusCode::OK && self.remote.meets_tls().await => {
                (Wrong(format!("{status}{through}: {}", self.remote.of_tls())), clock)
            }
            (StatusCode::UNAUTHORIZED, _) => {
                let refusal = self.remote.refusal(&answer).await;
                (Wrong(format!("{refusal}{through}")), clock)
            }
            (status, _) => {
                let reason = format!(
                    "{status}{through} to GET /health/live: what answers there is no broker, or a proxy \
                     passes other paths to it than those of this URL"
                );
                (Wrong(reason), clock)
            }
        }
    }

    /// Whether a page of that origin may come in, and whose the token is.
    async fn admission(&self) -> Vec<(&'static str, Verdict)> {
        let path = format!("/v1/topics?match={}&limit=1", self.query.trim_start_matches("topic="));
        let request = self.remote.get(&path).insert_header((ORIGIN, self.origin.as_str()));
        let answer = match self.remote.head(request.send()).await {
            Ok(head) => head.words().await,
            Err(why) => return vec![("origin", Wrong(why.to_string()))],
        };
        let (status, refusal) = (answer.status, self.remote.refusal(&answer).await);
        let origin = match refusal.code() {
            Some("origin_not_allowed") => Wrong(self.foreign(refusal.detail())),
            _ => Good(format!("pages of {} may connect", self.origin)),
        };
        let token = match (status, self.has_token) {
            _ if self.remote.introduction().is_some() => self.token_by_socket().await,
            (StatusCode::UNAUTHORIZED, true) => Wrong(format!("it is refused: {refusal}")),
            (StatusCode::FORBIDDEN, true) if matches!(origin, Good(_)) => {
                Wrong(format!("it has no right to the topic: {refusal}; give --topic"))
            }
            (StatusCode::FORBIDDEN, _) => Unseen("the origin is refused first".to_owned()),
            (_, true) => Good("it is valid".to_owned()),
            (StatusCode::UNAUTHORIZED, false) => {
                Unseen("none was given, and this broker asks for one: set FANFARE_TOKEN".to_owned())
            }
            (_, false) => Good("none was given, and none is needed".to_owned()),
        };
        vec![("origin", origin), ("token", token)]
    }

    /// Whether the token is valid, as the first message of a WebSocket.
    async fn token_by_socket(&self) -> Verdict {
        let request = self.remote.websocket("/v1/ws").origin(self.origin.as_str());
        let asking = async {
            let (_, mut socket) = request.connect().await.map_err(|error| error.to_string())?;
            self.introduce(&mut socket).await.map_err(|error| error.to_string())?;
            while let Some(frame) = socket.next().await {
                let Frame::Text(text) = frame.map_err(|error| error.to_string())? else { continue };
                let said: serde_json::Value = serde_json::from_slice(&text).unwrap_or_default();
                match said["op"].as_str() {
                    Some("ack") => {
                        return Ok(Good(
                            "it is valid, as the first message of a WebSocket".to_owned(),
                        ));
                    }
                    Some("error" | "bye") => {
                        let why = said["message"].as_str().unwrap_or_default();
                        return Ok(Wrong(format!("it is refused: {why}")));
                    }
                    _ => {}
                }
            }
            Err("it ended".to_owned())
        };
        match timeout(PATIENCE, asking).await {
            Ok(Ok(verdict)) => verdict,
            Ok(Err(why)) => Unseen(format!("the WebSocket that is to say it does not open: {why}")),
            Err(_) => Unseen(format!("no WebSocket took it within {PATIENCE:?}")),
        }
    }

    /// What to do about an origin that is refused, in the broker's words and, for its own pages, in the console's.
    fn foreign(&self, detail: &str) -> String {
        match self.origin == origin_of(self.remote.url()) {
            true => format!("{detail}; {FOREIGN}"),
            false => format!("{detail} ({})", self.origin),
        }
    }

    /// What a WebSocket meets.
    async fn sockets(&self) -> Vec<(&'static str, Verdict)> {
        let upgrade = self.upgrade().await;
        let is_open = matches!(upgrade, Good(_));
        let mut verdicts = vec![("WebSocket", upgrade)];
        if is_open {
            verdicts.push(("compression", self.compression().await));
        }
        verdicts
    }

    /// Whether a WebSocket opens, and carries something.
    async fn upgrade(&self) -> Verdict {
        let request = self.remote.websocket("/v1/ws").origin(self.origin.as_str());
        let mut socket = match timeout(PATIENCE, request.connect()).await {
            Ok(Ok((_, socket))) => socket,
            Ok(Err(WsClientError::InvalidResponseStatus(status))) => {
                return self.no_upgrade(status);
            }
            Ok(Err(WsClientError::SendRequest(error))) => {
                return Wrong(self.remote.why(&error).await.to_string());
            }
            Ok(Err(error)) => return Wrong(format!("{error}: {UPGRADE}")),
            Err(_) => return Wrong(format!("no answer within {PATIENCE:?}: {UPGRADE}")),
        };
        match timeout(PATIENCE, socket.next()).await {
            Ok(Some(Ok(Frame::Text(_)))) => {
                Good("it opens, and the broker says welcome".to_owned())
            }
            Ok(Some(Ok(other))) => {
                Wrong(format!("it opens, and begins with no welcome: {other:?}"))
            }
            Ok(Some(Err(error))) => Wrong(format!("it opens and breaks off: {error}")),
            Ok(None) => Wrong("it opens and ends at once".to_owned()),
            Err(_) => Wrong(format!("it opens, and nothing came within {PATIENCE:?}")),
        }
    }

    fn no_upgrade(&self, status: StatusCode) -> Verdict {
        match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                Unseen(format!("the answer is {status}: see origin and token"))
            }
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                Unseen(format!("the answer is {status}: the broker is busy; try again"))
            }
            status => Wrong(format!("the answer is {status}: {UPGRADE}")),
        }
    }

    /// Whether messages may be compressed, which is no fault where they are not.
    async fn compression(&self) -> Verdict {
        let request = self.remote.websocket("/v1/ws").origin(self.origin.as_str());
        let request = request.set_header(SEC_WEBSOCKET_EXTENSIONS, "permessage-deflate");
        match timeout(PATIENCE, request.connect()).await {
            Ok(Ok((answer, _))) => match text(answer.headers(), &SEC_WEBSOCKET_EXTENSIONS) {
                "" => Good(
                    "messages are not compressed: server.compression is off, or what stands between takes \
                     Sec-WebSocket-Extensions away"
                        .to_owned(),
                ),
                _ => Good("messages of a WebSocket are compressed (permessage-deflate)".to_owned()),
            },
            Ok(Err(error)) => Wrong(format!("a WebSocket that offers it does not open: {error}")),
            Err(_) => Wrong(format!("a WebSocket that offers it does not open within {PATIENCE:?}")),
        }
    }
}

/// What says of itself that it stands between.
fn through(headers: &HeaderMap) -> String {
    let named = [text(headers, &SERVER), text(headers, &VIA)];
    let named: Vec<_> = named.into_iter().filter(|name| !name.is_empty()).collect();
    if named.is_empty() { String::new() } else { format!(", through {}", named.join(" and ")) }
}

/// Whether the clock there is that of this machine, by a `Date` that was said between two moments.
fn clock(headers: &HeaderMap, asked: SystemTime, answered: SystemTime) -> Verdict {
    let Some(there) = text(headers, &DATE).parse::<HttpDate>().ok().map(SystemTime::from) else {
        return Unseen("the answer has no Date".to_owned());
    };
    // A date has whole seconds: it may be as much as one older than the moment it was said.
    let ahead = there.duration_since(answered).unwrap_or_default();
    let behind = asked.duration_since(there + Duration::from_secs(1)).unwrap_or_default();
    let (skew, word) = if ahead > behind { (ahead, "ahead of") } else { (behind, "behind") };
    match skew > SKEW {
        false => Good("the broker's is that of this machine".to_owned()),
        true => Wrong(format!(
            "the broker's is {} s {word} that of this machine, so tokens begin and expire at the wrong time: \
             set both by NTP",
            skew.as_secs()
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::http::header::HeaderValue;

    #[test]
    fn a_clock_that_is_far_off_is_wrong() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let verdict = |offset: i64, took: u64| {
            let there = match offset {
                0.. => now + Duration::from_secs(offset.unsigned_abs()),
                _ => now - Duration::from_secs(offset.unsigned_abs()),
            };
            let date = HeaderValue::try_from(HttpDate::from(there).to_string()).unwrap();
            let headers = HeaderMap::from_iter([(DATE, date)]);
            clock(&headers, now, now + Duration::from_secs(took))
        };
        for (offset, took) in [(0, 0), (-1, 0), (5, 0), (-6, 0), (20, 30)] {
            assert!(matches!(verdict(offset, took), Good(_)), "{offset} {took}");
        }
        assert!(matches!(verdict(6, 0), Wrong(text) if text.contains("6 s ahead of")));
        assert!(matches!(verdict(-60, 2), Wrong(text) if text.contains("59 s behind")));
        assert!(matches!(clock(&HeaderMap::new(), now, now), Unseen(_)));
    }

    #[test]
    fn the_console_says_the_same() {
        let console = include_str!("../../console/console.js");
        for text in [UPGRADE, FOREIGN] {
            assert!(console.contains(text), "src/console/console.js lacks: {text}");
        }
    }

    #[test]
    fn the_origin_of_a_url_is_its_scheme_and_authority() {
        assert_eq!(origin_of("https://push.example/live"), "https://push.example");
        assert_eq!(origin_of("http://127.0.0.1:8080"), "http://127.0.0.1:8080");
    }
}
