//! Credentials and payloads, marked and then looked for wherever the broker writes.

mod support;

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use reqwest::Client;
use serde_json::{Value, json};
use support::eventually;
use support::process::Process;
use support::tls::{Issuer, shake, trusting};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;

/// What must be written nowhere. It stands in every key, token, password and payload of this test.
const MARK: &str = "5ecretmark";

const API_KEY: &str = "5ecretmark-api-key-of-the-shop";
const SCOPED_KEY: &str = "5ecretmark-scoped-key-of-support";
const RESUMPTION_SECRET: &str =
    "server.tls_resumption_secret=5ecretmark-that-sessions-are-resumed-by";
const JWT_SECRET: &str = "5ecretmark-secret-that-signs-every-token";

fn configuration() -> String {
    format!(
        "[auth]\napi_keys = [\"{API_KEY}\"]\njwt_secret = \"{JWT_SECRET}\"\ncookie = \"fanfare\"\n\n\
         [[auth.keys]]\nname = \"support\"\nkey = \"{SCOPED_KEY}\"\nadmin = true\n\n\
         [log]\nfilter = \"trace\"\n"
    )
}

fn token(exp: u64) -> String {
    let grants = json!({"subscribe": ["a"], "publish": ["a"]});
    let claims = json!({"sub": "ada", "exp": exp, "fanfare": grants});
    let key = jsonwebtoken::EncodingKey::from_secret(JWT_SECRET.as_bytes());
    jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key).expect("a token")
}

fn broker_command(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_fanfare")).args(arguments).output();
    let output = output.expect("the command runs");
    let (out, err) = (output.stdout, output.stderr);
    String::from_utf8_lossy(&out).into_owned() + &String::from_utf8_lossy(&err)
}

/// What was said to and by the broker.
struct Talk {
    /// What it answered, and its metrics.
    said: String,
    /// What was shown to it beside what bears the mark: the signatures of tokens, and a ticket.
    secrets: Vec<String>,
}

/// Uses the broker in every way in which a credential or a payload comes in.
async fn use_in_every_way(broker: &Process) -> Talk {
    let http = Client::new();
    let (good, expired) = (token(4_000_000_000), token(1));
    let publish = |key: &str, body: &'static str| {
        let request = http.post(broker.url("/v1/topics/a/events")).bearer_auth(key);
        request.header("idempotency-key", MARK).body(body)
    };
    let payload = "{\"card\":\"5ecretmark\"}";
    let mut said = String::new();
    for key in [API_KEY, SCOPED_KEY, &good, &expired, "5ecretmark-wrong", "5ecretmark.a.b"] {
        let response = publish(key, payload).send().await.expect("an answer");
        said += &response.text().await.expect("text");
        let query = format!("/v1/sse?topic=b&access_token={key}5ecretmark");
        let response = http.get(broker.url(&query)).send().await.expect("an answer");
        said += &response.text().await.expect("text");
        for site in ["same-origin", "cross-site"] {
            let read = http.get(broker.url("/v1/topics/a/events")).header("sec-fetch-site", site);
            let response = read.header("cookie", format!("fanfare={key}")).send().await;
            said += &response.expect("an answer").text().await.expect("text").replace(payload, "");
            let post = publish(key, payload).header("sec-fetch-site", site);
            let response = post.header("cookie", format!("fanfare={key}")).send().await;
            said += &response.expect("an answer").text().await.expect("text");
        }
        let url = format!("ws://{}/v1/ws?topic=a&access_token={key}", broker.address);
        _ = connect_async(&url).await;
        let mut request = format!("ws://{}/v1/ws?topic=a", broker.address)
            .into_client_request()
            .expect("a request");
        let header = HeaderValue::from_str(&format!("Bearer {key}")).expect("a header");
        request.headers_mut().insert("authorization", header);
        _ = connect_async(request).await;
        said += &first_refusal(broker, key).await;
    }
    let broken =
        publish(API_KEY, "{\"card\":5ecretmark}").header("content-type", "application/json");
    said += &broken.send().await.expect("an answer").text().await.expect("text");
    let ticket = http.post(broker.url("/v1/tickets")).bearer_auth(&good);
    let ticket: Value = ticket.send().await.expect("an answer").json().await.expect("JSON");
    let ticket = ticket["ticket"].as_str().expect("a ticket");
    let url = format!("ws://{}/v1/ws?topic=a&ticket={ticket}", broker.address);
    connect_async(&url).await.expect("a ticket lets in");
    for path in ["/metrics", "/v1/sessions", "/health/ready"] {
        let response = http.get(broker.url(path)).bearer_auth(API_KEY).send().await;
        said += &response.expect("an answer").text().await.expect("text");
    }
    let signature = |token: &str| token.rsplit('.').next().expect("a signature").to_owned();
    Talk { said, secrets: vec![signature(&good), signature(&expired), ticket.to_owned()] }
}

/// What a WebSocket is told whose `auth` is `key`, with a payload that is no JSON behind it.
async fn first_refusal(broker: &Process, key: &str) -> String {
    use futures_util::{SinkExt, StreamExt};
    let url = format!("ws://{}/v1/ws", broker.address);
    let (mut socket, _) = connect_async(&url).await.expect("a connection");
    let mut said = String::new();
    for frame in [
        json!({"op": "auth", "ref": 1, "token": key}).to_string(),
        format!("{{\"op\":\"publish\",\"topic\":\"z\",\"data\":{{\"{MARK}\":1}}}}"),
        format!("{{\"op\":\"publish\",{MARK}"),
    ] {
        socket.send(frame.into()).await.expect("sent");
        let answer = socket.next().await.expect("an answer").expect("a frame");
        said += &answer.to_string();
    }
    said
}

#[tokio::test]
async fn no_credential_and_no_payload_is_written_anywhere() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("fanfare.toml");
    fs::write(&file, configuration()).expect("written");
    let mut broker = Process::durable(directory.path(), 0, &["--config", "fanfare.toml"]);
    let Talk { said, mut secrets } = use_in_every_way(&broker).await;
    assert!(said.contains("unauthorized") && said.contains("fanfare_refusals"), "{said}");
    secrets.push(MARK.to_owned());
    for secret in &secrets {
        assert!(!said.contains(secret), "{secret} in {said}");
    }
    let command_line = fs::read_to_string(format!("/proc/{}/cmdline", broker.child.id()));
    assert!(!command_line.expect("it runs").contains(MARK));
    // A new configuration, and a bad one, are spoken of too.
    let bad = configuration() + &format!("nonsense = \"{MARK}\"\n[redis]\nurl = \"{MARK}\"\n");
    fs::write(&file, bad).expect("written");
    broker.signal("-HUP");
    let log = || fs::read_to_string(directory.path().join("broker.log")).expect("a log");
    eventually("it is refused", async || log().contains("not reloaded")).await;
    broker.signal("-TERM");
    broker.wait();
    let log = log();
    assert!(log.lines().count() > 100 && log.contains("TRACE"), "{log}");
    for secret in &secrets {
        let found = log.lines().find(|line| line.contains(secret));
        assert_eq!(found, None, "{secret} is in the log");
    }
}

#[tokio::test]
async fn the_secret_that_sessions_of_tls_are_resumed_by_is_not_written() {
    let directory = tempfile::tempdir().expect("a directory");
    let issuer = Issuer::new();
    let set = |key: &str, file: PathBuf| format!("server.{key}={}", file.display());
    let (chain, key) = (set("tls_certificate", issuer.chain()), set("tls_key", issuer.key()));
    let sets = ["--set", &chain, "--set", &key, "--set", "log.filter=trace"];
    let arguments = [&sets[..], &["--set", RESUMPTION_SECRET]].concat();
    let mut broker = Process::durable(directory.path(), 0, &arguments);
    let client = trusting(&issuer.certificate().key.cert[0]);
    let ask = async || {
        let stream = TcpStream::connect(&broker.address).await.expect("connected");
        let mut stream = shake(stream, client.clone()).await.expect("a handshake");
        let request = "GET /v1/settings HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).await.expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("an answer");
        answer
    };
    for _ in 0..2 {
        let answer = ask().await;
        assert!(answer.contains("tls_resumption_secret") && !answer.contains(MARK), "{answer}");
    }
    broker.signal("-TERM");
    broker.wait();
    let log = fs::read_to_string(directory.path().join("broker.log")).expect("a log");
    assert!(log.contains("TRACE") && !log.contains(MARK), "{log}");
}

#[test]
fn looking_at_a_configuration_shows_no_secret() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("fanfare.toml");
    let file_name = file.to_str().expect("a path");
    let issuer = Issuer::new();
    let redis = "redis.url=redis://user:5ecretmark@127.0.0.1:1/0";
    let wrong_key = format!("server.tls_key={}", issuer.chain().display());
    let chain = format!("server.tls_certificate={}", issuer.chain().display());
    fs::write(&file, configuration()).expect("written");
    for (more, verdict) in [
        (&[][..], "the configuration is good"),
        (&["--set", redis], "the configuration is good"),
        (&["--set", "auth.api_keys=5ecretmark key"], "visible ASCII"),
        (&["--set", "auth.api_keys=sha256:5ecretmark"], "64 hexadecimal digits"),
        (&["--set", "auth.jwt_secret=5ecretmark"], "fewer than 32 bytes"),
        (&["--set", "redis.url=5ecretmark"], "not a Redis URL"),
        (&["--set", &chain, "--set", &wrong_key], "does not hold a private key"),
        (&["--set", "server.tls_resumption_secret=5ecretmark"], "fewer than 32 bytes"),
        (&["--set", RESUMPTION_SECRET], "server.tls_certificate: is needed too"),
    ] {
        let mut arguments = vec!["check", "--config", file_name];
        arguments.extend(more);
        let said = broker_command(&arguments);
        assert!(said.contains(verdict), "{said}");
        assert!(!said.contains(MARK), "{said}");
    }
    for broken in ["[auth]\napi_keys = [\"5ecretmark\n", "[auth]\njwt_secret = 5ecretmark\n"] {
        fs::write(&file, broken).expect("written");
        let said = broker_command(&["check", "--config", file_name]);
        assert!(said.contains("line 2") && !said.contains(MARK), "{said}");
    }
}
