//! What earlier releases stored is read by this one: without loss, or a gap is told.
//!
//! `tests/fixtures/RELEASE` was written by that release (`tests/fixtures/make`) and is never written
//! anew. What ages would age away, so it is read with windows of decades; the rule of `brief.>`
//! alone, whose events are always too old, stays as it was.

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use fanfare::config::{Config, Redis as RedisConfig, Sources, load};
use jsonwebtoken::{EncodingKey, Header, encode};
use reqwest::StatusCode;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use support::application::Application;
use support::redis::Redis;
use support::ws::WsClient;
use support::{API_KEY, JWT_SECRET, TestServer, eventually, expect_status};
use tempfile::TempDir;

/// Longer than anybody will run this.
const DECADES: Duration = Duration::from_secs(40 * 365 * 86_400);

/// What must be read.
#[derive(Deserialize)]
struct Manifest {
    topics: BTreeMap<String, Vec<Event>>,
    gone: Vec<String>,
    /// Topics whose values may have ended by the time of this test, for no value holds for longer than a year.
    #[serde(default)]
    held: Vec<String>,
    /// Values that ended while no broker ran.
    #[serde(default)]
    ended: Vec<Ended>,
    #[serde(default)]
    known_by: KnownBy,
    cursors: Vec<Since>,
    receipts: Vec<Receipt>,
    revoked: Vec<Revoked>,
    revoked_at: u64,
    posted: Vec<String>,
    unposted: Vec<String>,
}

/// A value that has ended by itself.
#[derive(Deserialize)]
struct Ended {
    topic: String,
    version: u64,
}

/// What a release knows a repeat by.
#[derive(Default, Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum KnownBy {
    /// How the request came.
    #[default]
    Request,
    /// Its events.
    Events,
}

/// An event, with its data as the text that it came as, and all that it carries.
#[derive(Debug, PartialEq, Deserialize)]
struct Event {
    id: String,
    topic: String,
    #[serde(rename = "type")]
    kind: Option<String>,
    time: String,
    data: String,
    encoding: Option<String>,
    #[serde(flatten)]
    carried: BTreeMap<String, Value>,
}

impl Event {
    /// Its place, in an order as cursors have.
    fn place(&self) -> (u64, u64) {
        let mut numbers =
            self.id.split('-').skip(1).map(|number| number.parse().expect("a number"));
        (numbers.next().expect("an epoch"), numbers.next().expect("a number"))
    }
}

/// What somebody comes back with.
#[derive(Deserialize)]
struct Since {
    since: String,
    topic: String,
    expect: Verdict,
    why: String,
    /// What is kept of what follows.
    events: Vec<String>,
}

#[derive(PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Verdict {
    /// All that follows, and no gap.
    Exact,
    /// All that is kept of it, and perhaps a needless gap.
    Kept,
    /// The same, and a gap.
    Gap,
}

/// A publish that may be repeated.
#[derive(Deserialize)]
struct Receipt {
    key: String,
    body: String,
    answer: Value,
}

/// Whose token is accepted no longer.
#[derive(Deserialize)]
struct Revoked {
    user: String,
    token: String,
}

/// Before events carried anything.
const FIRST: &str = "8a1b31e";

/// The releases whose files are here: with `a0dd1a3` came what events carry.
const RELEASES: [&str; 2] = [FIRST, "a0dd1a3"];

fn folder(release: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(release)
}

fn manifest(release: &str, name: &str) -> Manifest {
    let text = fs::read_to_string(folder(release).join(name)).expect("a manifest");
    serde_json::from_str(&text).expect("a manifest")
}

/// The broker as it was configured then, but for windows and addresses.
fn server(
    release: &str,
    file: &str,
    application: &Application,
    change: impl FnOnce(&mut Config),
) -> TestServer {
    let secret = "whsec_dHdlbnR5LWZvdXIgYnl0ZXMgb3IgbW9yZQ==";
    let hook = format!(
        "webhooks=[{{name=\"application\",url=\"{}\",secret=\"{secret}\"}}]",
        application.url
    );
    let mut sets = vec![hook];
    if file.starts_with("redis") {
        sets.push("redis.url=redis://127.0.0.1:1".to_owned());
    }
    let sources = Sources { file: Some(folder(release).join(file)), env: Vec::new(), sets };
    let loaded = load(&sources).expect("a configuration that is still one");
    TestServer::with(|config| {
        let server = config.server.clone();
        *config = Config { server, ..loaded };
        config.auth.revocation_window = DECADES;
        config.history.idempotency_window = DECADES;
        let rules = &mut config.rules;
        let own = [&mut rules.default, &mut rules.revocations, &mut rules.notices];
        let listed = rules.listed.iter_mut().filter(|rule| rule.pattern.as_str() != "brief.>");
        listed.chain(own).for_each(|rule| rule.max_age = DECADES);
        change(config);
    })
}

/// What a topic keeps.
async fn kept(server: &TestServer, topic: &str) -> Vec<Event> {
    events(server, &format!("/v1/topics/{topic}/events?limit=1000")).await
}

/// The events of a page.
async fn events(server: &TestServer, path: &str) -> Vec<Event> {
    #[derive(Deserialize)]
    struct Page {
        events: Vec<BTreeMap<String, Box<RawValue>>>,
    }
    let answer = server.get(path).bearer_auth(API_KEY).send().await.expect("an answer");
    let page: Page = serde_json::from_str(&answer.text().await.expect("a body")).expect("a page");
    let event = |mut members: BTreeMap<String, Box<RawValue>>| {
        let data = RawValue::get(&members.remove("data").expect("data")).to_owned();
        let rest = serde_json::to_string(&members).expect("members");
        let mut rest: BTreeMap<String, Value> = serde_json::from_str(&rest).expect("members");
        rest.insert("data".to_owned(), Value::String(data));
        serde_json::from_value(json!(rest)).expect("an event")
    };
    page.events.into_iter().map(event).collect()
}

/// The events that come up to `live` where a subscription begins so, by their ids.
async fn begun(server: &TestServer, query: &str) -> (bool, Vec<String>) {
    let mut client = WsClient::connect(server, &format!("?{query}&access_token={API_KEY}")).await;
    let (mut is_gap, mut ids) = (false, Vec::new());
    loop {
        let frame = client.next().await;
        match frame["op"].as_str() {
            Some("gap") => is_gap = true,
            Some("event") => ids.push(frame["id"].as_str().expect("an id").to_owned()),
            Some("live") => return (is_gap, ids),
            _ => {}
        }
    }
}

async fn check_cursor(server: &TestServer, cursor: &Since) {
    let Since { since, topic, expect, why, events } = cursor;
    let what = format!("{topic} after {since}, {why}");
    let (is_gap, mut ids) = begun(server, &format!("topic={topic}&since={since}")).await;
    match expect {
        Verdict::Exact => assert!(!is_gap, "a gap for {what}"),
        Verdict::Gap => assert!(is_gap, "no gap for {what}"),
        Verdict::Kept => {}
    }
    if is_gap {
        // What is left may be told from its beginning.
        ids.drain(..ids.len().saturating_sub(events.len()));
    }
    assert_eq!(ids, *events, "{what}");
}

async fn check_receipt(server: &TestServer, receipt: &Receipt, known_by: KnownBy) {
    let Receipt { key, body, answer } = receipt;
    let publish = |body: &str| {
        let request = server.post("/v1/events").bearer_auth(API_KEY);
        let request = request.header("idempotency-key", key).body(body.to_owned());
        request.header("content-type", "application/json").send()
    };
    let again = expect_status(publish(body).await.expect("an answer"), StatusCode::OK).await;
    assert_eq!(again, *answer, "under the key {key}");
    let other = publish(&body.replace("keyed.a", "keyed.b")).await.expect("an answer");
    assert_eq!(other.status(), StatusCode::CONFLICT);
    // What a release knows by its request can't be asked for another way, and is not stored again.
    let batch: Value = serde_json::from_str(body).expect("a batch");
    let lines: Vec<_> =
        batch["events"].as_array().expect("one").iter().map(Value::to_string).collect();
    let other_way = server.post("/v1/events").bearer_auth(API_KEY).header("idempotency-key", key);
    let other_way = other_way.header("content-type", "application/x-ndjson").body(lines.join("\n"));
    let status = if known_by == KnownBy::Events { StatusCode::OK } else { StatusCode::CONFLICT };
    assert_eq!(other_way.send().await.expect("an answer").status(), status);
    let mut client = WsClient::connect(server, &format!("?access_token={API_KEY}")).await;
    let event = json!({ "op": "publish", "topic": "keyed.a", "data": 1, "key": key });
    assert_eq!(client.ask(1, event).await["code"], "idempotency_mismatch");
}

async fn status(server: &TestServer, user: &str, token: &str, issued: u64) -> u16 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a time");
    let claims = json!({
        "sub": user, "jti": token, "iat": issued, "exp": now.as_secs() + 600,
        "fanfare": { "subscribe": ["orders.>"] },
    });
    let key = EncodingKey::from_secret(JWT_SECRET);
    let token = encode(&Header::default(), &claims, &key).expect("a token");
    let request = server.get("/v1/topics/orders.eu/events").bearer_auth(token);
    request.send().await.expect("an answer").status().as_u16()
}

async fn check_revoked(server: &TestServer, at: u64, Revoked { user, token }: &Revoked) {
    assert_eq!(status(server, user, token, at - 60).await, 401, "{user} {token}");
    assert_eq!(status(server, "somebody", "else", at - 60).await, 200);
    assert_eq!(status(server, user, "new", at + 2).await, 200, "issued after it");
}

/// Every way to begin and to read, over the topics of one pattern.
async fn check_ways(server: &TestServer, manifest: &Manifest) {
    let of = |topic: &str| manifest.topics[topic].iter();
    let mut all: Vec<_> = of("orders.eu").chain(of("orders.us")).collect();
    all.sort_by_key(|event| event.place());
    let ids = |events: &[&Event]| events.iter().map(|event| event.id.clone()).collect::<Vec<_>>();
    let read = async |path: &str| {
        let events = events(server, path).await;
        events.into_iter().map(|event| event.id).collect::<Vec<_>>()
    };
    assert_eq!(read("/v1/events?match=orders.*").await, ids(&all));
    let mut back: Vec<_> = all.iter().copied().rev().collect();
    assert_eq!(read("/v1/events?match=orders.*&before=").await, ids(&back));
    let before = back.drain(..2).next_back().expect("a place");
    let path = format!("/v1/topics/{}/events?before={}", before.topic, before.id);
    back.retain(|event| event.topic == before.topic);
    assert_eq!(read(&path).await, ids(&back));
    let last = |topic, count| {
        let events: Vec<_> = of(topic).collect();
        events[events.len().saturating_sub(count)..].to_vec()
    };
    let newest = |count| [last("orders.eu", count), last("orders.us", count)].concat();
    assert_eq!(read("/v1/snapshot?match=orders.*").await, ids(&newest(1)));
    for (query, expected) in [
        ("topic=orders.*&snapshot=true", newest(1)),
        ("topic=orders.*&last=2", newest(2)),
        ("topic=orders.*&tail=3", all[all.len() - 3..].to_vec()),
        ("topic=orders.*&since=2000-01-01T00:00:00Z", all.clone()),
    ] {
        let (_, mut begun) = begun(server, query).await;
        let mut expected = ids(&expected);
        if query.contains("last") || query.contains("snapshot") {
            // Between topics there is no order.
            begun.sort();
            expected.sort();
        }
        assert_eq!(begun, expected, "{query}");
    }
    let cursor = server.get("/v1/cursor").bearer_auth(API_KEY).send().await.expect("an answer");
    let cursor = expect_status(cursor, StatusCode::OK).await["cursor"].clone();
    let since = format!("topic=orders.*&since={}", cursor.as_str().expect("a cursor"));
    assert_eq!(begun(server, &since).await, (false, Vec::new()));
}

/// Tombstones of values whose time is over.
fn is_end(event: &Event) -> bool {
    event.carried.get("reason") == Some(&json!("expired"))
}

/// What may have ended meanwhile, and what has.
async fn check_ends(server: &TestServer, manifest: &Manifest) {
    for topic in &manifest.held {
        let mut events = kept(server, topic).await;
        events.retain(|event| !is_end(event));
        assert_eq!(events, manifest.topics[topic]);
    }
    for Ended { topic, version } in &manifest.ended {
        eventually("it has ended", || async { kept(server, topic).await.iter().any(is_end) }).await;
        let mut events = kept(server, topic).await;
        let end = events.pop().expect("a tombstone");
        assert_eq!(
            (end.carried["removed"].clone(), &end.carried["version"]),
            (json!(true), &json!(version))
        );
        assert_eq!(events, manifest.topics[topic], "{topic}");
        // A stale publish does not revive it.
        let stale = json!({ "topic": topic, "data": 0, "version": version });
        let stale = server.post("/v1/events").bearer_auth(API_KEY).json(&stale);
        let answer = expect_status(stale.send().await.expect("an answer"), StatusCode::OK).await;
        assert_eq!(answer["events"][0]["superseded"], true, "{answer}");
    }
    let gone = manifest.topics.keys().filter(|topic| topic.starts_with("carrying."));
    for topic in gone.filter(|topic| ["carrying.gone", "carrying.ends"].contains(&topic.as_str())) {
        let value = events(server, &format!("/v1/snapshot?match={topic}")).await;
        assert_eq!(value, [], "{topic} has no current value");
    }
}

/// Everything that the manifest says.
async fn check(server: &TestServer, application: &Application, manifest: &Manifest) {
    check_ends(server, manifest).await;
    let ends = |topic: &String| {
        manifest.held.contains(topic) || manifest.ended.iter().any(|ended| ended.topic == *topic)
    };
    for (topic, events) in manifest.topics.iter().filter(|(topic, _)| !ends(topic)) {
        assert_eq!(kept(server, topic).await, *events, "{topic}");
    }
    check_ways(server, manifest).await;
    for topic in &manifest.gone {
        eventually("it is gone", || async { kept(server, topic).await.is_empty() }).await;
    }
    for cursor in &manifest.cursors {
        check_cursor(server, cursor).await;
    }
    for receipt in &manifest.receipts {
        check_receipt(server, receipt, manifest.known_by).await;
    }
    for revoked in &manifest.revoked {
        check_revoked(server, manifest.revoked_at, revoked).await;
    }
    let taken = || {
        let ids = application.taken().into_iter().map(|event| event["id"].clone());
        ids.map(|id| id.as_str().expect("an id").to_owned()).collect::<Vec<_>>()
    };
    eventually("what was not posted is", || async {
        let taken = taken();
        manifest.unposted.iter().all(|id| taken.contains(id))
    })
    .await;
    let again = taken().into_iter().filter(|id| manifest.posted.contains(id)).count();
    assert_eq!(again, 0, "notices that were posted are posted again");
}

/// A data directory of an earlier release, for a test of its own.
fn copy(release: &str) -> TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    for entry in fs::read_dir(folder(release).join("disk")).expect("a fixture") {
        let path = entry.expect("an entry").path();
        fs::copy(&path, directory.path().join(path.file_name().expect("a name"))).expect("a copy");
    }
    directory
}

#[tokio::test]
async fn a_data_directory_of_an_earlier_release_is_read_whole() {
    for release in RELEASES {
        let directory = copy(release);
        let application = Application::start().await;
        let start = || {
            let path = directory.path().to_owned();
            server(release, "disk.toml", &application, |config| config.history.path = path)
        };
        let (first, manifest) = (start(), manifest(release, "disk.json"));
        check(&first, &application, &manifest).await;
        first.stop();
        // And what this release made of it is read as well.
        let again = start();
        check(&again, &application, &manifest).await;
        again.stop();
    }
}

/// A number that SQLite says of a database.
fn pragma(path: &Path, name: &str) -> i64 {
    let db = rusqlite::Connection::open(path.join("history.db")).expect("opened");
    db.pragma_query_value(None, name, |row| row.get(0)).expect("a number")
}

#[tokio::test]
async fn a_file_of_an_earlier_release_is_made_one_that_can_shrink() {
    let directory = copy(FIRST);
    let path = directory.path();
    assert_eq!(pragma(path, "auto_vacuum"), 0, "the fixture is not of such a release");
    TestServer::durable(path, |_| {}).stop();
    assert_eq!(pragma(path, "auto_vacuum"), 2);
}

/// Publishes more than may be kept.
async fn flood(server: &TestServer) {
    let data = vec!["x".repeat(1_000); 20];
    for n in 0..20 {
        let publish = server.post(&format!("/v1/topics/flood.{n}/events")).bearer_auth(API_KEY);
        expect_status(publish.json(&data).send().await.expect("an answer"), StatusCode::CREATED)
            .await;
    }
    // But for the current value, which stays.
    assert_eq!(kept(server, "orders.eu").await.len(), 1, "the oldest events are over the bound");
}

/// Floods a broker and starts it again, and looks who is revoked then.
async fn check_revoked_after_flood(name: &str, change: impl Fn(&mut Config)) {
    let manifest = manifest(FIRST, &format!("{name}.json"));
    let application = Application::start().await;
    let start = || server(FIRST, &format!("{name}.toml"), &application, &change);
    let first = start();
    flood(&first).await;
    first.stop();
    let again = start();
    for revoked in &manifest.revoked {
        check_revoked(&again, manifest.revoked_at, revoked).await;
    }
    again.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_earlier_release_revoked_outlives_any_amount_of_other_events() {
    let (directory, redis) = (copy(FIRST), Redis::start());
    check_revoked_after_flood("disk", |config| {
        config.history.path = directory.path().to_owned();
        config.history.disk_bytes = 50_000;
    })
    .await;
    fill(&redis, &fs::read(folder(FIRST).join("redis.resp")).expect("a fixture"));
    check_revoked_after_flood("redis", |config| {
        config.redis = Some(RedisConfig::at(&redis.url()));
        config.history.redis_bytes = 50_000;
    })
    .await;
}

/// Fills a Redis with commands as `redis-cli --pipe` takes them.
fn fill(redis: &Redis, commands: &[u8]) {
    let mut connection = TcpStream::connect(("127.0.0.1", redis.port)).expect("a connection");
    connection.write_all(commands).expect("they are sent");
    connection.write_all(b"QUIT\r\n").expect("they are sent");
    let mut answers = String::new();
    connection.read_to_string(&mut answers).expect("answers");
    let refused = answers.lines().find(|line| line.starts_with('-'));
    assert_eq!(refused, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_of_an_earlier_release_is_read_whole() {
    for release in RELEASES {
        let redis = Redis::start();
        fill(&redis, &fs::read(folder(release).join("redis.resp")).expect("a fixture"));
        let application = Application::start().await;
        let start = || {
            let at = RedisConfig::at(&redis.url());
            server(release, "redis.toml", &application, |config| config.redis = Some(at))
        };
        let (first, manifest) = (start(), manifest(release, "redis.json"));
        check(&first, &application, &manifest).await;
        first.stop();
        let again = start();
        check(&again, &application, &manifest).await;
        again.stop();
    }
}
