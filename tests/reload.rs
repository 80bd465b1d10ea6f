//! Another configuration while the broker serves: all of it that can be, or nothing.

mod support;

use std::fs;
use std::path::Path;

use fanfare::config::{Config, Sources, Storage, load};
use fanfare::server::ReloadError;
use reqwest::StatusCode;
use serde_json::{Value, json};
use support::process::Process;
use support::sse::SseClient;
use support::tls::{Issuer, shake, trusting};
use support::ws::WsClient;
use support::{TestServer, eventually, expect_status, token};
use tokio::net::TcpStream;

const OLD: &str = "the-old-key-of-the-shop";
const NEW: &str = "the-new-key-of-the-shop";

/// What one would type, with histories in memory.
fn typed(sets: &[&str]) -> Config {
    let sets = sets.iter().map(|&set| set.to_owned()).collect();
    let mut config = load(&Sources { sets, ..Sources::default() }).expect("a configuration");
    config.rules.default.storage = Storage::Memory;
    config.rules.listed.iter_mut().for_each(|rule| rule.storage = Storage::Memory);
    config
}

/// A broker with what one would type.
fn serve(sets: &[&str]) -> TestServer {
    TestServer::with(|config| {
        let typed = typed(sets);
        (config.auth, config.rules) = (typed.auth, typed.rules);
        config.server.allowed_origins = typed.server.allowed_origins;
    })
}

async fn publish(server: &TestServer, key: &str, topic: &str, data: i32) -> StatusCode {
    let request = server.post(&format!("/v1/topics/{topic}/events")).json(&data).bearer_auth(key);
    request.send().await.expect("an answer").status()
}

fn keys(keys: &[&str]) -> String {
    format!("auth.api_keys={}", keys.join(","))
}

#[tokio::test]
async fn sessions_of_a_key_that_is_known_no_longer_end_and_the_others_go_on() {
    let server = serve(&[&keys(&[OLD, NEW])]);
    let mut old = WsClient::live(&server, &format!("?topic=a&access_token={OLD}")).await;
    let mut old_stream = SseClient::live(&server, &format!("?topic=a&access_token={OLD}")).await;
    let mut new = WsClient::live(&server, &format!("?topic=a&access_token={NEW}")).await;
    server.reload.apply(&typed(&[&keys(&[NEW])])).await.expect("it is in force");
    let (bye, code) = old.closed().await;
    assert_eq!((&bye.expect("a bye")["code"], code), (&json!("unauthorized"), Some(4401)));
    assert_eq!(old_stream.next().await.expect("an event").json()["code"], "unauthorized");
    assert_eq!(publish(&server, OLD, "a", 1).await, 401);
    assert_eq!(publish(&server, NEW, "a", 2).await, 201);
    assert_eq!(new.until("event").await["data"], 2);
}

/// The old key with these rights.
fn scoped(subscribe: &str) -> String {
    format!(r#"auth.keys=[{{name="x", key="{OLD}", subscribe=[{subscribe}]}}]"#)
}

/// A broker, and the query of who subscribes to two topics with a key that has the right to both.
fn serve_both() -> (TestServer, String) {
    let server = serve(&[&keys(&[NEW]), &scoped(r#""a", "b""#)]);
    (server, format!("?topic=a&topic=b&access_token={OLD}"))
}

/// Leaves the key the right to the other topic.
async fn take_away_one(server: &TestServer) {
    let fewer = typed(&[&keys(&[NEW]), &scoped(r#""b""#)]);
    server.reload.apply(&fewer).await.expect("it is in force");
}

#[tokio::test]
async fn a_key_with_other_rights_has_them_at_once() {
    let (server, query) = serve_both();
    let mut client = WsClient::live(&server, &query).await;
    take_away_one(&server).await;
    assert_eq!(client.until("error").await["code"], "forbidden");
    assert_eq!(publish(&server, NEW, "a", 1).await, 201);
    assert_eq!(publish(&server, NEW, "b", 2).await, 201);
    assert_eq!(client.until("event").await["data"], 2);
}

/// It can ask nothing, so it was answered nothing: one of several patterns went silent.
#[tokio::test]
async fn an_event_stream_is_told_which_of_its_rights_is_lost() {
    let (server, query) = serve_both();
    let mut client = SseClient::live(&server, &query).await;
    take_away_one(&server).await;
    let refusal = client.next().await.expect("it goes on");
    assert_eq!(refusal.event, "fanfare.error");
    let said = json!({"code": "forbidden", "message": "no right to subscribe to a any more"});
    assert_eq!(refusal.json(), said);
    assert_eq!(publish(&server, NEW, "b", 2).await, 201);
    assert_eq!(client.next().await.expect("it goes on").json()["data"], 2);
}

#[tokio::test]
async fn sessions_end_when_the_key_of_their_token_does() {
    let secret = |secret: &str| format!("auth.jwt_secret={secret}");
    let ours = secret(std::str::from_utf8(support::JWT_SECRET).expect("text"));
    let server = serve(&[&ours]);
    let token = token("ada", &["a"], &[], 60);
    let mut client = WsClient::live(&server, &format!("?topic=a&access_token={token}")).await;
    // Another key beside it changes nothing for who came with this one.
    server.reload.apply(&typed(&[&ours, &keys(&[NEW])])).await.expect("it is in force");
    assert_eq!(publish(&server, NEW, "a", 1).await, 201);
    assert_eq!(client.until("event").await["data"], 1);
    let other = typed(&[&secret(&"another secret".repeat(3)), &keys(&[NEW])]);
    server.reload.apply(&other).await.expect("it is in force");
    assert_eq!(client.closed().await.1, Some(4401));
}

#[tokio::test]
async fn who_may_no_longer_say_what_it_said_without_a_credential_has_to_show_one() {
    let rule =
        |who: &str| format!(r#"topics=[{{match="a", publish="{who}", subscribe="anyone"}}]"#);
    let server = TestServer::with(|config| {
        let typed = typed(&[&keys(&[NEW]), &rule("anyone")]);
        (config.auth, config.rules) = (typed.auth, typed.rules);
        config.limits.auth_timeout = std::time::Duration::from_millis(500);
    });
    let mut guest = WsClient::connect(&server, "").await;
    let said = serde_json::json!({"op": "publish", "topic": "a", "data": 1});
    assert_eq!(guest.ask(1, said).await["op"], "ack");
    server.reload.apply(&typed(&[&keys(&[NEW]), &rule("token")])).await.expect("in force");
    assert_eq!(guest.closed().await.1, Some(4401));
}

#[tokio::test]
async fn sessions_see_the_rights_of_new_rules_at_once() {
    let rule = |who: &str| format!(r#"topics=[{{match="a", subscribe="{who}"}}]"#);
    let server = serve(&[&keys(&[NEW]), &rule("anyone")]);
    let mut guest = WsClient::live(&server, "?topic=a").await;
    server.reload.apply(&typed(&[&keys(&[NEW]), &rule("token")])).await.expect("in force");
    assert_eq!(guest.until("error").await["code"], "forbidden");
    assert_eq!(publish(&server, NEW, "a", 1).await, 201);
    assert!(guest.is_quiet(300).await, "the right has ended");
    // One that waits until it says who it is gets in once everyone may.
    let mut waiting = WsClient::connect(&server, "?topic=a").await;
    assert!(waiting.is_quiet(100).await, "it waits");
    server.reload.apply(&typed(&[&keys(&[NEW]), &rule("anyone")])).await.expect("in force");
    waiting.until("live").await;
    assert_eq!(publish(&server, NEW, "a", 2).await, 201);
    assert_eq!(waiting.until("event").await["data"], 2);
}

#[tokio::test]
async fn pages_of_new_origins_come_in_and_those_of_old_ones_no_longer() {
    let origins = |origin: &str| format!("server.allowed_origins={origin}");
    let server = serve(&[&origins("https://old.example")]);
    let status = async |origin: &str| {
        let request = server.get("/v1/topics").header("origin", origin);
        let response = request.send().await.expect("an answer");
        let allowed = response.headers().get("access-control-allow-origin").cloned();
        (response.status().as_u16(), allowed.is_some())
    };
    assert_eq!(status("https://old.example").await, (200, true));
    let new = typed(&[&origins("https://new.example")]);
    server.reload.apply(&new).await.expect("it is in force");
    assert_eq!(status("https://old.example").await, (403, false));
    assert_eq!(status("https://new.example").await, (200, true));
}

#[tokio::test]
async fn what_can_not_be_replaced_leaves_the_whole_old_configuration_in_force() {
    let server = serve(&[&keys(&[OLD])]);
    let mut kept = typed(&[&keys(&[NEW]), r#"topics=[{match="a.>"}]"#]);
    kept.rules.listed[0].storage = Storage::None;
    let refused = server.reload.apply(&kept).await.expect_err("other storage");
    assert!(refused.to_string().contains("\"a.>\""), "{refused}");
    let refused = server.reload.apply(&typed(&[])).await;
    assert_eq!(refused, Err(ReloadError::Opens));
    let mut encrypted = typed(&[&keys(&[NEW])]);
    encrypted.server.certificate = Some(Issuer::new().certificate());
    assert_eq!(server.reload.apply(&encrypted).await, Err(ReloadError::Tls));
    assert_eq!(publish(&server, OLD, "a", 1).await, 201);
    assert_eq!(publish(&server, NEW, "a", 1).await, 401);
}

#[tokio::test]
async fn an_open_broker_that_gets_keys_ends_the_sessions_of_everyone() {
    let server = serve(&[]);
    let mut client = WsClient::live(&server, "?topic=a").await;
    server.reload.apply(&typed(&[&keys(&[NEW])])).await.expect("it is in force");
    assert_eq!(client.closed().await.1, Some(4401));
    assert_eq!(publish(&server, "", "a", 1).await, 401);
}

#[tokio::test]
async fn a_new_certificate_is_shown_to_who_comes_and_nobody_is_cut_off() {
    let issuer = Issuer::new();
    let first = issuer.certificate();
    let server = TestServer::encrypted(|config| config.server.certificate = Some(first.clone()));
    let mut client = WsClient::live(&server, "?topic=a").await;
    issuer.issue("second");
    let second = issuer.certificate();
    let mut config = typed(&[]);
    config.server.certificate = Some(second.clone());
    server.reload.apply(&config).await.expect("it is in force");
    let is_shown = async |certificate: &fanfare::config::Certificate| {
        let stream = TcpStream::connect(server.addr).await.expect("connected");
        shake(stream, trusting(&certificate.key.cert[0])).await.is_ok()
    };
    assert!(is_shown(&second).await && !is_shown(&first).await);
    // The client's connections of before go on.
    server.publish("a", &json!(1)).await;
    assert_eq!(client.until("event").await["data"], 1);
}

/// What `GET /v1/topics` answers to who shows a key.
async fn status(broker: &Process, key: &str) -> u16 {
    let request = reqwest::Client::new().get(broker.url("/v1/topics")).bearer_auth(key);
    request.send().await.expect("an answer").status().as_u16()
}

async fn log_has(directory: &Path, text: &str) {
    eventually(text, async || {
        fs::read_to_string(directory.join("broker.log")).is_ok_and(|log| log.contains(text))
    })
    .await;
}

#[tokio::test]
async fn a_changed_file_is_read_again_by_itself_and_a_bad_one_is_not_put_in_force() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("fanfare.toml");
    let write = |more: &str, key: &str| {
        let text = format!("{more}\n[auth]\napi_keys = [\"{key}\"]\n");
        fs::write(&file, text).expect("written");
    };
    write("", OLD);
    let broker = Process::durable(directory.path(), 0, &["--config", "fanfare.toml"]);
    assert_eq!(status(&broker, OLD).await, 200);
    write("", NEW);
    eventually("the new key is known", async || status(&broker, NEW).await == 200).await;
    assert_eq!(status(&broker, OLD).await, 401);
    log_has(directory.path(), "auth.api_keys").await;
    for (bad, said) in [
        ("[limits]\nconnections = 0", "limits.connections: must be at least 1"),
        ("[server]\nlisen = 1", "did you mean `server.listen`"),
        ("[limits", "fanfare.toml, line 1"),
        ("[[topics]]\nmatch = \"a.>\"\nhistory = \"none\"", "\"a.>\""),
    ] {
        write(bad, OLD);
        broker.signal("-HUP");
        log_has(directory.path(), said).await;
        assert_eq!(status(&broker, NEW).await, 200, "{bad}");
        assert_eq!(status(&broker, OLD).await, 401, "{bad}");
    }
    fs::remove_file(&file).expect("removed");
    broker.signal("-HUP");
    log_has(directory.path(), "No such file").await;
    assert_eq!(status(&broker, NEW).await, 200);
    write("[limits]\nconnections = 7\n", OLD);
    broker.signal("-HUP");
    log_has(directory.path(), "limits.connections is not what the broker was started with").await;
    assert_eq!(status(&broker, OLD).await, 200);
    let log = fs::read_to_string(directory.path().join("broker.log")).expect("a log");
    assert!(!log.contains(OLD) && !log.contains(NEW), "{log}");
}

#[tokio::test]
async fn sighup_reads_everything_again_and_a_certificate_that_fits_nothing_is_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let issuer = Issuer::new();
    let set = |key: &str, path: &Path| format!("server.{key}={}", path.display());
    let (chain, key) = (set("tls_certificate", &issuer.chain()), set("tls_key", &issuer.key()));
    let arguments = ["--set", chain.as_str(), "--set", key.as_str()];
    let broker = Process::durable(directory.path(), 0, &arguments);
    let first = issuer.certificate();
    let is_shown = async |certificate: &fanfare::config::Certificate| {
        let stream = TcpStream::connect(&broker.address).await.expect("connected");
        shake(stream, trusting(&certificate.key.cert[0])).await.is_ok()
    };
    assert!(is_shown(&first).await);
    let kept = fs::read(issuer.key()).expect("a key");
    issuer.issue("second");
    let second = issuer.certificate();
    let fitting = fs::read(issuer.key()).expect("a key");
    fs::write(issuer.key(), kept).expect("written");
    broker.signal("-HUP");
    log_has(directory.path(), "server.tls_key: does not belong to the certificate").await;
    assert!(is_shown(&first).await);
    fs::write(issuer.key(), fitting).expect("written");
    broker.signal("-HUP");
    eventually("the second is shown", async || is_shown(&second).await).await;
    assert!(!is_shown(&first).await);
    log_has(directory.path(), "the certificate in ").await;
    broker.signal("-HUP");
    log_has(directory.path(), "was read again, and is as it was").await;
}

#[tokio::test]
async fn the_session_list_tells_who_is_left_after_a_reload() {
    let server = serve(&[&keys(&[OLD, NEW])]);
    let _old = WsClient::live(&server, &format!("?topic=a&access_token={OLD}")).await;
    let new = WsClient::live(&server, &format!("?topic=a&access_token={NEW}")).await;
    server.reload.apply(&typed(&[&keys(&[NEW])])).await.expect("it is in force");
    eventually("one is left", async || {
        let request = server.get("/v1/sessions").bearer_auth(NEW);
        let list: Value =
            expect_status(request.send().await.expect("an answer"), StatusCode::OK).await;
        let list = list["sessions"].as_array().expect("a list").clone();
        list.len() == 1 && list[0]["session"] == json!(new.session)
    })
    .await;
}
