//! A real broker in this process, and real clients to try it with.
#![allow(dead_code, reason = "each test file uses its own part of this")]

pub mod application;
pub mod cgroup;
pub mod checker;
pub mod company;
pub mod deflate;
pub mod fleet;
pub mod frames;
pub mod group;
pub mod http2;
pub mod kept;
pub mod process;
pub mod prometheus;
pub mod proxy;
pub mod raw;
pub mod redis;
pub mod room;
pub mod run;
pub mod sse;
pub mod tls;
pub mod ws;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use fanfare::config::{Config, Storage};
use fanfare::history::{Feed, Loss};
use fanfare::model::{Cursor, Event, Pattern, Topic};
use fanfare::protocol::{PROTOCOLS, Protocols};
use fanfare::server::{Reload, Server};
use fanfare::supervisor::Beat;
use reqwest::{Client, RequestBuilder, Response, StatusCode};
use rustls::ClientConfig;
use serde_json::{Value, json};
use tokio::sync::{oneshot, watch};

/// How long a test waits for what must come.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// So many events of a topic, each with its number as data.
pub fn numbered(topic: &str, numbers: std::ops::Range<usize>) -> Vec<(String, Value)> {
    numbers.map(|n| (topic.to_owned(), json!(n))).collect()
}

/// A rule that keeps the topics of a pattern in memory.
pub fn in_memory(config: &mut Config, pattern: &str) {
    let mut rule = config.rules.default.clone();
    rule.pattern = Pattern::parse(pattern).expect("a pattern");
    rule.storage = Storage::Memory;
    config.rules.listed.push(rule);
}

/// The feed of a history to which nobody listens.
pub struct Nobody;

impl Feed for Nobody {
    fn committed(&self, _: Vec<Arc<Event>>) {}

    fn skip(&self, _: &Topic, _: Option<Cursor>) -> bool {
        false
    }

    fn broken(&self, _: Loss) {}
}

/// A key with every right, for tests that configure credentials.
pub const API_KEY: &str = "an-api-key-for-tests";

/// The secret that tests sign tokens with.
pub const JWT_SECRET: &[u8] = b"a secret of at least thirty-two bytes";

/// A broker on a free port of this machine, with a thread of its own.
pub struct TestServer {
    pub addr: SocketAddr,
    /// Where it listens to operators and publishers, if that is another address.
    pub internal: Option<SocketAddr>,
    pub reload: Reload,
    /// That it lives.
    pub beats: watch::Receiver<Beat>,
    pub http: Client,
    /// What its clients trust, where it speaks TLS.
    pub tls: Option<ClientConfig>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl TestServer {
    /// A broker without credentials and with default limits.
    pub fn open() -> Self {
        Self::with(|_| {})
    }

    /// A broker whose configuration is changed by `change`.
    pub fn with(change: impl FnOnce(&mut Config)) -> Self {
        Self::speaking(PROTOCOLS, change)
    }

    /// A broker for clients of these protocols.
    pub fn speaking(protocols: Protocols, change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config::default();
        config.server.listen = SocketAddr::from(([127, 0, 0, 1], 0));
        config.server.workers = 2;
        config.server.shutdown_grace = Duration::from_millis(200);
        // The disk has tests of its own; all others would only wait for it.
        config.rules.default.storage = Storage::Memory;
        change(&mut config);
        let tls = config.server.certificate.as_ref();
        let tls = tls.map(|certificate| tls::trusting(&certificate.key.cert[0]));
        let (address_out, address_in) = mpsc::channel();
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = std::thread::spawn(move || {
            actix_web::rt::System::new().block_on(async move {
                let server = Server::speaking(protocols, config).expect("the broker starts");
                let places = (server.addr(), server.internal_addr());
                let known = (places, server.reload(), server.beats());
                address_out.send(known).expect("the test waits for the address");
                let stop = async {
                    _ = stopped.await;
                };
                server.run_until(stop).await.expect("the broker stops in order");
            });
        });
        let known = address_in.recv_timeout(PATIENCE).expect("the broker starts in time");
        let ((addr, internal), reload, beats) = known;
        let http = Client::builder().timeout(PATIENCE).build().expect("a client");
        Self { addr, internal, reload, beats, http, tls, stop: Some(stop), thread: Some(thread) }
    }

    /// A broker that speaks TLS, with a certificate of its own. Requests by this type come in by its
    /// address for publishers.
    pub fn encrypted(change: impl FnOnce(&mut Config)) -> Self {
        let issuer = tls::Issuer::new();
        Self::with(|config| {
            config.server.certificate = Some(issuer.certificate());
            config.server.internal_listen = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
            change(config);
        })
    }

    /// A broker that keeps its events in `path`.
    pub fn durable(path: &Path, change: impl FnOnce(&mut Config)) -> Self {
        Self::with(|config| {
            config.history.path = path.to_owned();
            config.rules.default.storage = Storage::Disk;
            change(config);
        })
    }

    /// A broker with [`API_KEY`] and tokens signed with [`JWT_SECRET`].
    pub fn closed() -> Self {
        Self::with(close)
    }

    pub fn url(&self, path: &str) -> String {
        let plain = self.internal.filter(|_| self.tls.is_some());
        format!("http://{}{path}", plain.unwrap_or(self.addr))
    }

    pub fn get(&self, path: &str) -> RequestBuilder {
        self.http.get(self.url(path))
    }

    pub fn post(&self, path: &str) -> RequestBuilder {
        self.http.post(self.url(path))
    }

    pub fn delete(&self, path: &str) -> RequestBuilder {
        self.http.delete(self.url(path))
    }

    /// Publishes JSON data and returns the receipt.
    pub async fn publish(&self, topic: &str, data: &Value) -> Value {
        let path = format!("/v1/topics/{topic}/events");
        let response = self.post(&path).json(data).send().await.expect("an answer");
        expect_status(response, StatusCode::CREATED).await
    }

    /// Publishes a batch of `(topic, data)` and returns the ids.
    pub async fn publish_all(&self, events: &[(String, Value)]) -> Vec<String> {
        let events: Vec<_> = events
            .iter()
            .map(|(topic, data)| serde_json::json!({ "topic": topic, "data": data }))
            .collect();
        let body = serde_json::json!({ "events": events });
        let response = self.post("/v1/events").json(&body).send().await.expect("an answer");
        let receipt = expect_status(response, StatusCode::CREATED).await;
        let events = receipt["events"].as_array().expect("events").iter();
        events.map(|event| event["id"].as_str().expect("an id").to_owned()).collect()
    }

    /// Asks the broker to stop, without waiting for it.
    pub fn begin_stop(&mut self) {
        if let Some(stop) = self.stop.take() {
            _ = stop.send(());
        }
    }

    /// Stops the broker and waits until it has.
    pub fn stop(mut self) {
        self.begin_stop();
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the broker's thread ends in order");
        }
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.begin_stop();
    }
}

/// Configures credentials.
pub fn close(config: &mut Config) {
    use aws_lc_rs::digest::{SHA256, digest};
    use fanfare::config::{Jwt, KeyHash, TokenKey};
    use jsonwebtoken::{Algorithm, DecodingKey};
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, API_KEY.as_bytes()).as_ref());
    config.auth.api_keys = vec![KeyHash(hash)];
    config.auth.jwt = Some(Jwt {
        keys: vec![TokenKey {
            algorithms: vec![Algorithm::HS256],
            key: DecodingKey::from_secret(JWT_SECRET),
        }],
        jwks: None,
        issuer: None,
        audience: None,
        leeway: Duration::ZERO,
    });
}

/// A token for `user` that grants patterns and lives for so many seconds.
pub fn token(user: &str, subscribe: &[&str], publish: &[&str], seconds: i64) -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a time");
    let claims = serde_json::json!({
        "sub": user,
        "iat": now.as_secs(),
        "exp": now.as_secs() as i64 + seconds,
        "fanfare": { "subscribe": subscribe, "publish": publish },
    });
    let key = jsonwebtoken::EncodingKey::from_secret(JWT_SECRET);
    jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key).expect("a token")
}

/// The JSON body of a response that must have this status.
pub async fn expect_status(response: Response, status: StatusCode) -> Value {
    let (got, text) = (response.status(), response.text().await.expect("a body"));
    assert_eq!(got, status, "{text}");
    if text.is_empty() { Value::Null } else { serde_json::from_str(&text).expect("JSON") }
}

/// Waits until `condition` holds.
pub async fn eventually<F: Future<Output = bool>>(what: &str, mut condition: impl FnMut() -> F) {
    let waiting = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("never: {what}"));
}

/// The status and `code` of a problem.
pub async fn problem(request: RequestBuilder) -> (u16, String) {
    let response = request.send().await.expect("an answer");
    let status = response.status().as_u16();
    let content_type = response.headers().get("content-type").cloned();
    assert_eq!(content_type.expect("a media type"), "application/problem+json");
    let body: Value = response.json().await.expect("JSON");
    assert_eq!(body["status"], status);
    (status, body["code"].as_str().expect("a code").to_owned())
}
