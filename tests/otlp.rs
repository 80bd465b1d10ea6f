//! Traces, as a collector of OpenTelemetry gets them: over OTLP/HTTP, in JSON.

mod support;

use std::collections::{BTreeSet, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use fanfare::config::{Config, Hidden, Redis as RedisConfig, Rule, Storage, Traces};
use fanfare::model::Pattern;
use futures_util::future::join_all;
use reqwest::StatusCode;
use serde_json::{Value, json};
use support::process::Process;
use support::redis::Redis;
use support::ws::WsClient;
use support::{API_KEY, TestServer, close, eventually, expect_status, token};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const CALLER: &str = "b7ad6b7169203331";

/// What nobody may find in a span.
const PAYLOAD: &str = "a-payload-of-nobody-else";

fn traceparent(flags: &str) -> String {
    format!("00-{TRACE}-{CALLER}-{flags}")
}

/// A collector in this process, which takes what is posted unless it is to do something else.
#[derive(Default)]
struct Collector {
    url: String,
    /// The next answers, in the place of one that all was taken.
    answers: Mutex<VecDeque<&'static str>>,
    /// Whether nothing is answered.
    hangs: AtomicBool,
    posts: AtomicUsize,
    /// The spans of what was answered with success, each with the name of its node.
    taken: Mutex<Vec<Value>>,
    /// All that came, as it came.
    received: Mutex<Vec<String>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no panic while it was held")
}

impl Collector {
    async fn start() -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}/v1/traces", listener.local_addr().expect("an address"));
        let collector = Arc::new(Self { url, ..Self::default() });
        let serving = collector.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serving.clone().serve(stream));
            }
        });
        collector
    }

    async fn serve(self: Arc<Self>, mut stream: TcpStream) {
        let mut received = Vec::new();
        loop {
            let head = received.windows(4).position(|bytes| bytes == b"\r\n\r\n");
            let whole = head.and_then(|head| {
                let text = String::from_utf8_lossy(&received[..head]).to_lowercase();
                let (_, length) = text.split_once("content-length: ").expect("a length");
                let length: usize = length.lines().next()?.parse().expect("a number");
                let end = head + 4 + length;
                (received.len() >= end).then_some((head + 4, end))
            });
            if let Some((begin, end)) = whole {
                let request: Vec<u8> = received.drain(..end).collect();
                let Some(answer) = self.take(&request, begin) else {
                    return std::future::pending().await;
                };
                if stream.write_all(answer.as_bytes()).await.is_err() {
                    return;
                }
                continue;
            }
            let mut bytes = [0; 16_384];
            match stream.read(&mut bytes).await {
                Ok(read @ 1..) => received.extend_from_slice(&bytes[..read]),
                _ => return,
            }
        }
    }

    fn take(&self, request: &[u8], body: usize) -> Option<String> {
        self.posts.fetch_add(1, Ordering::SeqCst);
        lock(&self.received).push(String::from_utf8_lossy(request).into_owned());
        if self.hangs.load(Ordering::SeqCst) {
            return None;
        }
        let answer = lock(&self.answers).pop_front().unwrap_or("200 OK\r\n\r\n{}");
        if answer.starts_with("200") {
            let body: Value = serde_json::from_slice(&request[body..]).expect("JSON");
            let of = &body["resourceSpans"][0];
            let node = attribute(&of["resource"], "service.instance.id");
            let spans = of["scopeSpans"][0]["spans"].as_array().expect("spans").clone();
            lock(&self.taken).extend(spans.into_iter().map(|mut span| {
                span["node"] = node.clone();
                span
            }));
        }
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
        let length = body.len();
        Some(format!("HTTP/1.1 {head}\r\ncontent-length: {length}\r\n\r\n{body}"))
    }

    fn answer(&self, answers: &[&'static str]) {
        lock(&self.answers).extend(answers);
    }

    fn posts(&self) -> usize {
        self.posts.load(Ordering::SeqCst)
    }

    fn taken(&self) -> Vec<Value> {
        lock(&self.taken).clone()
    }

    /// Those of one name.
    fn named(&self, name: &str) -> Vec<Value> {
        self.taken().into_iter().filter(|span| span["name"] == name).collect()
    }

    /// Waits until so many spans of a name came.
    async fn until(&self, name: &str, count: usize) -> Vec<Value> {
        let what = format!("{count} spans of {name}");
        eventually(&what, async || self.named(name).len() >= count).await;
        self.named(name)
    }

    /// Traces that are exported to it, where those who publish ask for them.
    fn traces(&self) -> Traces {
        Traces {
            endpoint: Hidden(self.url.clone()),
            headers: Vec::new(),
            sample: 0.0,
            per_second: 0,
            queue: 4_096,
            timeout: Duration::from_secs(30),
            service: "fanfare".to_owned(),
            topics: false,
        }
    }

    /// A broker with these traces, changed by `change`.
    fn traced(&self, change: impl FnOnce(&mut Config, &mut Traces)) -> TestServer {
        let mut traces = self.traces();
        TestServer::with(|config| {
            change(config, &mut traces);
            config.traces = Some(traces);
        })
    }
}

fn attribute(of: &Value, key: &str) -> Value {
    let all = of["attributes"].as_array().expect("attributes");
    let found = all.iter().find(|attribute| attribute["key"] == key);
    let value = found.and_then(|it| it["value"].as_object()?.values().next().cloned());
    value.unwrap_or(Value::Null)
}

fn nanos(span: &Value, which: &str) -> u128 {
    span[which].as_str().expect("a time").parse().expect("a number")
}

fn begins(span: &Value) -> u128 {
    nanos(span, "startTimeUnixNano")
}

/// Publishes with a `traceparent` and returns the id of the event.
async fn publish(server: &TestServer, topic: &str, flags: &str) -> Value {
    let request = server.post(&format!("/v1/topics/{topic}/events")).bearer_auth(API_KEY);
    let request = request.header("traceparent", traceparent(flags)).json(&json!(PAYLOAD));
    let receipt = expect_status(request.send().await.expect("an answer"), StatusCode::CREATED);
    receipt.await["id"].clone()
}

/// How many there were, as `/metrics` says it.
async fn counted(server: &TestServer, sample: &str) -> u64 {
    let answer = server.get("/metrics").bearer_auth(API_KEY).send().await.expect("an answer");
    let text = answer.text().await.expect("text");
    let line = text.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
    line.expect(sample).parse().expect("a number")
}

async fn spans(server: &TestServer, outcome: &str) -> u64 {
    counted(server, &format!("fanfare_spans_total{{outcome=\"{outcome}\"}}")).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_publish_is_traced_from_its_publisher_to_the_sockets_and_says_nothing_of_what_it_says() {
    let collector = Collector::start().await;
    let server = collector.traced(|config, _| {
        close(config);
        config.server.workers = 1;
        let pattern = Pattern::parse("users.*.>").expect("a pattern");
        config.rules.listed = vec![Rule { pattern, ..config.rules.default.clone() }];
    });
    let token = token("ada", &["users.ada.>"], &[], 600);
    let query = format!("?topic=users.ada.inbox&access_token={token}");
    let mut clients = join_all((0..3).map(|_| WsClient::live(&server, &query))).await;
    let id = publish(&server, "users.ada.inbox", "01").await;
    for client in &mut clients {
        let event = client.until("event").await;
        let members: BTreeSet<_> = event.as_object().expect("an object").keys().cloned().collect();
        assert!(!members.contains("trace") && event["data"] == PAYLOAD, "{event}");
    }
    let write = collector.until("write", 1).await.remove(0);
    let publish = collector.until("publish", 1).await.remove(0);
    let commit = collector.until("commit", 1).await.remove(0);
    for span in [&publish, &commit, &write] {
        assert_eq!(span["traceId"], TRACE, "{span}");
        assert_eq!(attribute(span, "messaging.system"), "fanfare");
        assert_eq!(attribute(span, "messaging.destination.template"), "users.*.>");
        assert_eq!(attribute(span, "messaging.message.id"), id, "{span}");
        assert!(begins(span) <= nanos(span, "endTimeUnixNano"), "{span}");
    }
    assert_eq!(publish["parentSpanId"], CALLER);
    assert_eq!(commit["parentSpanId"], publish["spanId"]);
    assert_eq!(write["parentSpanId"], commit["spanId"]);
    assert!(begins(&publish) <= begins(&commit) && begins(&commit) <= begins(&write));
    assert!(nanos(&commit, "endTimeUnixNano") <= nanos(&publish, "endTimeUnixNano"));
    assert_eq!((&publish["kind"], &write["kind"]), (&json!(2), &json!(4)));
    assert_eq!(attribute(&publish, "fanfare.outcome"), "stored");
    assert_eq!(attribute(&write, "fanfare.sessions"), "3");
    assert_eq!(collector.taken().len(), 3, "one of each, and alone there is nothing to relay");
    for came in lock(&collector.received).iter() {
        for secret in [PAYLOAD, API_KEY, "ada", &token] {
            assert!(!came.contains(secret), "{secret}: {came}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trace_goes_on_at_another_node_and_no_reader_sees_it() {
    let collector = Collector::start().await;
    let redis = Redis::start();
    let node = || {
        collector.traced(|config, traces| {
            config.redis = Some(RedisConfig::at(&redis.url()));
            config.rules.default.storage = Storage::Redis;
            traces.topics = true;
        })
    };
    let (here, there) = (node(), node());
    let mut client = WsClient::live(&there, "?topic=orders.7").await;
    let id = publish(&here, "orders.7", "01").await;
    let event = client.until("event").await;
    let members: Vec<_> = event.as_object().expect("an object").keys().cloned().collect();
    assert!(event["id"] == id && !members.contains(&"trace".to_owned()), "{event}");
    let page = there.get("/v1/topics/orders.7/events").send().await.expect("an answer");
    assert!(!page.text().await.expect("text").contains(TRACE));
    let write = collector.until("write", 1).await.remove(0);
    let relay = collector.until("relay", 1).await.remove(0);
    let commit = collector.until("commit", 1).await.remove(0);
    assert_eq!(relay["parentSpanId"], commit["spanId"]);
    assert_eq!(write["parentSpanId"], relay["spanId"]);
    assert_eq!(relay["kind"], 5);
    assert_eq!((&relay["node"], &relay["traceId"]), (&write["node"], &commit["traceId"]));
    assert_ne!(relay["node"], commit["node"]);
    for span in [&commit, &relay, &write] {
        assert_eq!(attribute(span, "messaging.destination.name"), "orders.7", "{span}");
    }
    assert_eq!(collector.named("relay").len(), 1, "nobody wants it at the first one");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_sampled_has_no_spans_and_what_comes_without_a_trace_may_have_one_of_its_own() {
    let collector = Collector::start().await;
    let never = collector.traced(|_, _| {});
    let mut client = WsClient::live(&never, "?topic=a").await;
    never.publish("a", &json!(1)).await;
    publish(&never, "a", "00").await;
    let sampled = publish(&never, "a", "01").await;
    client.events(3).await;
    let write = collector.until("write", 1).await.remove(0);
    assert_eq!(attribute(&write, "messaging.message.id"), sampled);
    collector.until("publish", 1).await;
    assert_eq!(collector.taken().len(), 3, "those of the last one alone");
    never.stop();
    let always = collector.traced(|_, traces| traces.sample = 1.0);
    publish(&always, "a", "00").await;
    let own = always.publish("a", &json!(1)).await["id"].clone();
    let root = collector.until("publish", 2).await.remove(1);
    assert_eq!(attribute(&root, "messaging.message.id"), own, "not even by chance");
    assert_eq!(root["parentSpanId"], Value::Null);
    assert_ne!(root["traceId"], TRACE);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_waits_for_a_collector_that_hangs_and_what_waits_for_it_is_bounded() {
    let collector = Collector::start().await;
    collector.hangs.store(true, Ordering::SeqCst);
    let server = collector.traced(|_, traces| {
        traces.sample = 1.0;
        traces.queue = 8;
    });
    server.publish("a", &json!("first")).await;
    eventually("a post that hangs", async || collector.posts() > 0).await;
    let mut client = WsClient::live(&server, "?topic=a").await;
    for round in 0..50 {
        server.publish("a", &json!(round)).await;
        assert_eq!(client.until("event").await["data"], round);
    }
    // Each of these had three spans, of which eight wait.
    eventually("all counted", async || spans(&server, "dropped").await == 50 * 3 - 8).await;
    assert_eq!(spans(&server, "exported").await, 0);
    assert_eq!(collector.posts(), 1, "it is still waited for");
    // Far within the time that the collector may take, or the thread of the broker would be waited for in vain.
    let begun = std::time::Instant::now();
    server.stop();
    assert!(begun.elapsed() < Duration::from_secs(25), "{:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_collector_wants_later_is_posted_again_and_what_it_does_not_want_is_not() {
    let collector = Collector::start().await;
    collector.answer(&[
        "503 Later\r\nretry-after: 0\r\n\r\n",
        "429 Slow\r\nretry-after: 0\r\n\r\n",
        "502 Bad\r\nretry-after: 0\r\n\r\n",
        "504 Late\r\nretry-after: 0\r\n\r\n",
    ]);
    let server = collector.traced(|config, traces| {
        config.server.workers = 1;
        traces.headers = vec![(
            "authorization".parse().expect("a name"),
            "Bearer hunter2".parse().expect("a value"),
        )];
    });
    publish(&server, "a", "01").await;
    collector.until("commit", 1).await;
    eventually("counted", async || spans(&server, "exported").await == 2).await;
    assert_eq!(collector.posts(), 5);
    let received = lock(&collector.received).clone();
    let parts = received.iter().filter_map(|came| came.split_once("\r\n\r\n"));
    let bodies: BTreeSet<_> = parts.map(|(_, body)| body).collect();
    assert_eq!(bodies.len(), 1, "the same spans each time");
    let came = received[0].to_lowercase();
    assert!(came.starts_with("post /v1/traces http/1.1\r\n"), "{came}");
    assert!(came.contains("\r\nauthorization: bearer hunter2\r\n"), "{came}");
    assert!(came.contains("\r\ncontent-type: application/json\r\n"), "{came}");

    collector.answer(&["400 Bad\r\n\r\nno"]);
    publish(&server, "a", "01").await;
    eventually("refused", async || spans(&server, "refused").await == 2).await;
    collector.answer(&[
        "200 OK\r\n\r\n{\"partialSuccess\":{\"rejectedSpans\":\"1\",\"errorMessage\":\"too old\"}}",
    ]);
    publish(&server, "a", "01").await;
    eventually("one refused", async || spans(&server, "refused").await == 3).await;
    assert_eq!((spans(&server, "exported").await, collector.posts()), (3, 7));
    collector.answer(&["307 There\r\nlocation: http://127.0.0.1:9/\r\n\r\n"]);
    publish(&server, "a", "01").await;
    eventually("not led away", async || spans(&server, "refused").await == 5).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_more_publishes_are_traced_than_may_be_whoever_asks_for_it() {
    let collector = Collector::start().await;
    let server = collector.traced(|_, traces| traces.per_second = 1);
    join_all((0..40).map(|_| publish(&server, "a", "01"))).await;
    let traces = async |outcome: &str| {
        counted(&server, &format!("fanfare_traces_total{{outcome=\"{outcome}\"}}")).await
    };
    let (recorded, limited) = (traces("recorded").await, traces("limited").await);
    assert_eq!(recorded + limited, 40);
    assert!(recorded >= 1 && limited >= 1, "{recorded} recorded and {limited} limited");
    let recorded = usize::try_from(recorded).expect("a few");
    collector.until("commit", recorded).await;
    server.stop();
    assert_eq!(collector.taken().len(), 2 * recorded, "nothing of the others");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_is_one_publish_whose_first_events_are_followed() {
    let collector = Collector::start().await;
    let server = collector.traced(|config, _| config.server.workers = 1);
    let mut client = WsClient::live(&server, "?topic=a.*").await;
    let event = |n| json!({ "topic": format!("a.{n}"), "data": PAYLOAD });
    let body = json!({ "events": (0..150).map(event).collect::<Vec<_>>() });
    let request = server.post("/v1/events").header("traceparent", traceparent("01")).json(&body);
    let receipt = expect_status(request.send().await.expect("an answer"), StatusCode::CREATED);
    let ids: Vec<_> = receipt.await["events"].as_array().expect("events").clone();
    client.events(150).await;
    let writes = collector.until("write", 100).await;
    server.stop();
    let written: Vec<_> = writes.iter().map(|it| attribute(it, "messaging.message.id")).collect();
    let first: Vec<_> = ids[..100].iter().map(|event| event["id"].clone()).collect();
    assert_eq!(written, first);
    let publishes = collector.named("publish");
    assert_eq!(attribute(&publishes[0], "messaging.batch.message_count"), "150");
    assert_eq!((publishes.len(), collector.taken().len()), (1, 102));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_publish_that_is_refused_says_so_and_a_repeated_one_too() {
    let collector = Collector::start().await;
    let server = collector.traced(|_, _| {});
    let request = |value: &'static str| {
        let request = server.post("/v1/topics/a/events").header("idempotency-key", "k");
        request.header("traceparent", traceparent("01")).json(&json!(value)).send()
    };
    for (value, status) in [("x", 201), ("x", 200), ("y", 409)] {
        assert_eq!(request(value).await.expect("an answer").status().as_u16(), status);
    }
    let publishes = collector.until("publish", 3).await;
    let said: Vec<_> = publishes
        .iter()
        .map(|span| (attribute(span, "fanfare.outcome"), attribute(span, "error.type")))
        .collect();
    let failed = (Value::Null, json!("idempotency_mismatch"));
    assert_eq!(said, [(json!("stored"), Value::Null), (json!("repeated"), Value::Null), failed]);
    assert_eq!(publishes[2]["status"]["code"], 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_at_a_stop_is_exported() {
    let collector = Collector::start().await;
    let server = collector.traced(|_, _| {});
    publish(&server, "a", "01").await;
    server.stop();
    assert_eq!(collector.taken().len(), 2, "before the next batch would have been due");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_fails_is_named_once_and_once_more_when_it_is_back() {
    let collector = Collector::start().await;
    collector.answer(&["503 Later\r\nretry-after: 0\r\n\r\n"; 7]);
    let directory = tempfile::tempdir().expect("a directory");
    let settings = [
        format!("traces.endpoint={}?key=hunter2", collector.url),
        "traces.headers=authorization: Bearer hunter3".to_owned(),
        "traces.sample=1".to_owned(),
    ];
    let settings = settings.iter().flat_map(|setting| ["--set", setting]).collect::<Vec<_>>();
    let mut process = Process::durable(directory.path(), 0, &settings);
    let http = reqwest::Client::new();
    let url = process.url("/v1/topics/a/events");
    for round in 0..3 {
        let posts = collector.posts();
        let answer = http.post(&url).json(&json!(PAYLOAD)).send().await.expect("an answer");
        assert_eq!(answer.status(), StatusCode::CREATED);
        eventually(&format!("posts of {round}"), async || collector.posts() > posts).await;
    }
    collector.until("publish", 1).await;
    process.signal("-TERM");
    assert!(process.wait().success());
    let log = std::fs::read_to_string(directory.path().join("broker.log")).expect("a log");
    for (said, times) in [("takes no spans", 1), ("takes spans again", 1), ("hunter", 0)] {
        assert_eq!(log.matches(said).count(), times, "{said}: {log}");
    }
    assert!(log.contains("the answer is 503"), "{log}");
}
