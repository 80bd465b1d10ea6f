//! Tokens that are signed with keys which an issuer publishes (a JSON Web Key Set).

mod support;

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine};
use fanfare::config::{Jwks, Jwt};
use http::Method;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};
use support::http2::{Http2, whole};
use support::ws::WsClient;
use support::{API_KEY, TestServer, close, eventually};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::timeout;

/// A key of an issuer.
struct SigningKey {
    name: &'static str,
    private: EncodingKey,
    public: String,
}

impl SigningKey {
    fn new(name: &'static str) -> Self {
        let pair = Ed25519KeyPair::generate().expect("a key");
        let pkcs8 = pair.to_pkcs8v1().expect("the key as PKCS #8");
        let private = EncodingKey::from_ed_der(pkcs8.as_ref());
        Self { name, private, public: BASE64_URL_SAFE_NO_PAD.encode(pair.public_key().as_ref()) }
    }

    fn published(&self) -> Value {
        json!({"kty": "OKP", "crv": "Ed25519", "use": "sig", "kid": self.name, "x": self.public})
    }

    fn token(&self) -> String {
        self.token_named(self.name)
    }

    fn token_named(&self, name: &str) -> String {
        let header = Header { kid: Some(name.to_owned()), ..Header::new(Algorithm::EdDSA) };
        let grants = json!({"subscribe": [">"]});
        let claims = json!({"sub": "ada", "exp": 4_000_000_000_u64, "fanfare": grants});
        encode(&header, &claims, &self.private).expect("a token")
    }
}

/// Who publishes keys: answers every request with what it has, and counts.
struct Issuer {
    url: String,
    answer: Mutex<Option<String>>,
    asked: AtomicUsize,
    /// Whether it takes its time.
    is_slow: AtomicBool,
}

impl Issuer {
    async fn start(keys: &[&SigningKey]) -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}/keys", listener.local_addr().expect("an address"));
        let issuer = Arc::new(Self {
            url,
            answer: Mutex::default(),
            asked: AtomicUsize::new(0),
            is_slow: AtomicBool::new(false),
        });
        issuer.publish(keys);
        let answering = issuer.clone();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                answering.asked.fetch_add(1, Ordering::SeqCst);
                _ = stream.read(&mut [0; 4_096]).await;
                let answer = answering.answer.lock().expect("no panic while it was held").clone();
                let answer = match answer {
                    Some(body) => format!(
                        "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                        body.len()
                    ),
                    None => {
                        "HTTP/1.1 500 Oh\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".into()
                    }
                };
                if answering.is_slow.load(Ordering::SeqCst) {
                    tokio::time::sleep(Duration::from_millis(300)).await;
                }
                _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        issuer
    }

    fn publish(&self, keys: &[&SigningKey]) {
        let keys: Vec<_> = keys.iter().map(|key| key.published()).collect();
        self.say(Some(json!({ "keys": keys }).to_string()));
    }

    fn say(&self, answer: Option<String>) {
        *self.answer.lock().expect("no panic while it was held") = answer;
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    fn broker(&self, refresh: Duration, keep: Duration) -> TestServer {
        TestServer::with(|config| config.auth.jwt = Some(self.jwt(refresh, keep)))
    }

    fn jwt(&self, refresh: Duration, keep: Duration) -> Jwt {
        Jwt {
            keys: Vec::new(),
            jwks: Some(Jwks { url: self.url.clone(), refresh, keep }),
            issuer: None,
            audience: None,
            leeway: Duration::ZERO,
        }
    }
}

const MINUTE: Duration = Duration::from_secs(60);

async fn status(server: &TestServer, token: &str) -> u16 {
    let request = server.get("/v1/topics/a/events").bearer_auth(token);
    request.send().await.expect("an answer").status().as_u16()
}

#[tokio::test]
async fn a_token_signed_with_a_published_key_is_taken_and_another_is_not() {
    let (key, other) = (SigningKey::new("a"), SigningKey::new("a"));
    let issuer = Issuer::start(&[&key]).await;
    let server = issuer.broker(MINUTE, MINUTE);
    assert_eq!(status(&server, &key.token()).await, 200);
    assert_eq!(status(&server, &other.token()).await, 401, "the name is the same, the key is not");
    let mut client = WsClient::connect(&server, "?topic=a").await;
    let ack = client.ask(1, json!({"op": "auth", "token": key.token()})).await;
    assert_eq!(ack["op"], "ack", "{ack}");
    client.until("live").await;
    assert_eq!(issuer.asked(), 1);
}

#[tokio::test]
async fn who_asks_for_an_unknown_key_and_leaves_costs_the_issuer_no_more_than_who_stays() {
    let (key, other) = (SigningKey::new("a"), SigningKey::new("b"));
    let issuer = Issuer::start(&[&key]).await;
    let server = issuer.broker(MINUTE, MINUTE);
    assert_eq!(status(&server, &key.token()).await, 200);
    let (before, http) = (issuer.asked(), Http2::in_the_clear(server.addr).await);
    let bearer = format!("Bearer {}", other.token());
    let ask = || whole(http.ask(Method::GET, "/v1/topics", &[("authorization", bearer.as_str())]));
    issuer.is_slow.store(true, Ordering::SeqCst);
    // Who waits for longer leaves.
    while issuer.asked() == before {
        _ = timeout(Duration::from_millis(50), ask()).await;
    }
    for _ in 0..5 {
        _ = timeout(Duration::from_millis(20), ask()).await;
    }
    assert_eq!(ask().await.status, 401);
    assert_eq!(issuer.asked(), before + 1);
}

#[tokio::test]
async fn a_new_key_is_fetched_when_it_is_first_used_and_a_withdrawn_one_ends() {
    let (old, new) = (SigningKey::new("old"), SigningKey::new("new"));
    let issuer = Issuer::start(&[&old]).await;
    let server = issuer.broker(Duration::from_secs(1), MINUTE);
    assert_eq!(status(&server, &old.token()).await, 200);
    issuer.publish(&[&new]);
    eventually("the new key is known", || async { status(&server, &new.token()).await == 200 })
        .await;
    assert_eq!(status(&server, &old.token()).await, 401);
}

#[tokio::test]
async fn names_of_keys_that_are_made_up_cost_the_issuer_nothing() {
    let key = SigningKey::new("a");
    let issuer = Issuer::start(&[&key]).await;
    let server = issuer.broker(MINUTE, MINUTE);
    assert_eq!(status(&server, &key.token()).await, 200);
    for number in 0..50 {
        assert_eq!(status(&server, &key.token_named(&format!("made up {number}"))).await, 401);
    }
    assert!(issuer.asked() <= 2, "asked {} times", issuer.asked());
    assert_eq!(status(&server, &key.token()).await, 200);
}

#[tokio::test]
async fn known_keys_stay_in_force_for_a_time_while_the_issuer_is_away() {
    let key = SigningKey::new("a");
    let issuer = Issuer::start(&[&key]).await;
    let server = issuer.broker(Duration::from_secs(1), Duration::from_secs(4));
    assert_eq!(status(&server, &key.token()).await, 200);
    issuer.say(None);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(status(&server, &key.token()).await, 200, "old, and better than nothing");
    eventually("they end", || async { status(&server, &key.token()).await == 503 }).await;
    issuer.publish(&[&key]);
    eventually("they are back", || async { status(&server, &key.token()).await == 200 }).await;
}

#[tokio::test]
async fn how_the_issuer_answers_is_told_to_operators() {
    let key = SigningKey::new("a");
    let issuer = Issuer::start(&[&key]).await;
    let server = TestServer::with(|config| {
        close(config);
        config.auth.jwt = Some(issuer.jwt(Duration::from_secs(1), Duration::from_secs(8)));
    });
    let query = format!("?topic=%24sys.metrics&access_token={API_KEY}");
    let mut operator = WsClient::live(&server, &query).await;
    let mut hears = async |state: &str, has_keys: bool| loop {
        let said = operator.events(1).await.remove(0)["data"]["issuer"].take();
        if said["state"] == state && said["has_keys"] == has_keys {
            break said;
        }
    };
    let said = hears("answers", true).await;
    assert!(said["keys_age_ms"].is_u64() && said.get("detail").is_none(), "{said}");
    issuer.say(None);
    let said = hears("away", true).await;
    assert_eq!(said["detail"], "the answer is 500 Internal Server Error");
    // It is asked again meanwhile, and since when it is away does not move.
    let later = hears("away", false).await;
    assert!(later["since_ms"].as_u64() > said["since_ms"].as_u64(), "{said} {later}");
    issuer.publish(&[&key]);
    let said = hears("answers", true).await;
    assert!(said["since_ms"].as_u64() < later["since_ms"].as_u64(), "{later} {said}");
}

#[tokio::test]
async fn without_any_key_a_token_is_neither_good_nor_bad() {
    let key = SigningKey::new("a");
    let issuer = Issuer::start(&[]).await;
    for answer in [None, Some("<html>"), Some("{\"keys\":[]}")] {
        issuer.say(answer.map(str::to_owned));
        let server = issuer.broker(MINUTE, MINUTE);
        let request = server.get("/v1/topics/a/events").bearer_auth(key.token());
        let (status, code) = support::problem(request).await;
        assert_eq!((status, code.as_str()), (503, "unavailable"), "{answer:?}");
        // An `EventSource` would give up for good on any other status than 200.
        let stream = server.get("/v1/sse?topic=a").bearer_auth(key.token());
        let stream = stream.header("accept", "text/event-stream").send().await.expect("an answer");
        assert_eq!(stream.status(), 200);
        let text = stream.text().await.expect("its end");
        assert!(text.contains("retry:") && text.contains("fanfare.bye"), "{text}");
        let why = r#""code":"unavailable","message":"the keys that tokens are checked with"#;
        assert!(text.contains(why), "{text}");
    }
}
