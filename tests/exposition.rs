//! The page of `/metrics`, read by its grammar in both formats, against the list in the docs.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::process::{Command, Output};

use fanfare::config::{Hidden, Webhook, WebhookSecret};
use serde_json::json;
use support::redis::Redis;
use support::room;
use support::ws::WsClient;
use support::{API_KEY, TestServer, eventually};

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0";

/// A family, as the page or the docs have it: its type, and the values of its labels.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Family {
    kind: String,
    labels: BTreeMap<String, BTreeSet<String>>,
}

type Families = BTreeMap<String, Family>;

/// Labels and value of a sample.
type Sample = (Vec<(String, String)>, f64);

/// Reads a page as strictly as the OpenMetrics specification (1.0) and Prometheus's text format (0.0.4) say together.
struct Page {
    families: Families,
    samples: BTreeMap<String, Vec<Sample>>,
}

fn is_name(text: &str) -> bool {
    let mut bytes = text.bytes();
    bytes.next().is_some_and(|first| first.is_ascii_lowercase())
        && bytes.all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}

/// Reads `{a="b",…}`, and what comes behind it.
fn labels(text: &str) -> (Vec<(String, String)>, &str) {
    let Some(mut rest) = text.strip_prefix('{') else { return (Vec::new(), text) };
    let mut labels = Vec::new();
    loop {
        let (name, after) = rest.split_once("=\"").expect("a label");
        assert!(is_name(name) && !name.starts_with("__"), "{name}");
        let (value, after) = after.split_once('"').expect("the end of a value");
        assert!(!value.contains(['\\', '\n']), "nothing of ours has to be escaped: {value}");
        labels.push((name.to_owned(), value.to_owned()));
        match after.strip_prefix(',') {
            Some(more) => rest = more,
            None => return (labels, after.strip_prefix('}').expect("the end of labels")),
        }
    }
}

impl Page {
    fn read(text: &str, is_open: bool) -> Self {
        let text = match is_open {
            true => text.strip_suffix("# EOF\n").expect("the end is marked"),
            false => text,
        };
        assert!(text.ends_with('\n') && !text.contains("# EOF") && !text.contains('\r'));
        let mut page = Page { families: Families::new(), samples: BTreeMap::new() };
        let (mut current, mut unit, mut seen) = (String::new(), None, BTreeSet::new());
        for line in text.lines() {
            if let Some(comment) = line.strip_prefix("# ") {
                let (word, rest) = comment.split_once(' ').expect("a comment says something");
                let (name, said) = rest.split_once(' ').expect("of a family");
                match word {
                    "HELP" => {
                        assert!(said.len() > 6 && is_name(name), "{line}");
                        (current, unit) = (name.to_owned(), None);
                    }
                    "TYPE" => {
                        assert_eq!(name, current, "the help comes first");
                        let family = Family { kind: said.to_owned(), ..Family::default() };
                        let before = page.families.insert(current.clone(), family);
                        assert_eq!(before, None, "{name} is there twice");
                    }
                    "UNIT" if is_open => {
                        assert!(name == current && name.ends_with(&format!("_{said}")), "{line}");
                        unit = Some(said.to_owned());
                    }
                    _ => panic!("no comment of this format: {line}"),
                }
                continue;
            }
            assert!(
                unit.is_some() || !is_open || !current.ends_with("_bytes"),
                "{current} has no unit"
            );
            let end = line.find(['{', ' ']).expect("a value");
            let (sample, rest) = line.split_at(end);
            let (labels, rest) = labels(rest);
            let value: f64 = rest.strip_prefix(' ').expect("a space").parse().expect("a number");
            assert!(value.is_finite() && value >= 0.0, "{line}");
            let family = page.families.get_mut(&current).expect("a type before samples");
            let suffix = sample.strip_prefix(&current).expect("a sample of this family");
            let fits = match family.kind.as_str() {
                "counter" if is_open => suffix == "_total",
                "counter" => suffix.is_empty() && current.ends_with("_total"),
                "gauge" => suffix.is_empty(),
                "histogram" => ["_bucket", "_sum", "_count"].contains(&suffix),
                kind => panic!("{current}: no type of ours: {kind}"),
            };
            assert!(fits, "{line}");
            assert!(seen.insert((sample.to_owned(), labels.clone())), "twice: {line}");
            for (name, value) in &labels {
                if name == "le" {
                    assert_eq!(suffix, "_bucket", "{line}");
                } else {
                    family.labels.entry(name.clone()).or_default().insert(value.clone());
                }
            }
            page.samples.entry(sample.to_owned()).or_default().push((labels, value));
        }
        page.check_histograms();
        page
    }

    /// The buckets of each histogram rise, end at infinity, and there with the count.
    fn check_histograms(&self) {
        let histograms = self.families.iter().filter(|(_, family)| family.kind == "histogram");
        for (name, _) in histograms {
            let samples = |suffix| &self.samples[&format!("{name}{suffix}")];
            assert_eq!(samples("_sum").len(), samples("_count").len());
            for (labels, count) in samples("_count") {
                let bucket = |(all, count): &Sample| {
                    let (bounds, rest): (Vec<_>, Vec<_>) =
                        all.iter().cloned().partition(|(name, _)| name == "le");
                    let [(_, bound)] = &bounds[..] else { panic!("one bound: {all:?}") };
                    let bound = match bound.as_str() {
                        "+Inf" => f64::INFINITY,
                        bound => bound.parse().expect("a number"),
                    };
                    (rest == *labels).then_some((bound, *count))
                };
                let buckets: Vec<_> = samples("_bucket").iter().filter_map(bucket).collect();
                assert!(buckets.len() > 3, "{name} {labels:?}");
                assert!(buckets.windows(2).all(|two| two[0].0 < two[1].0 && two[0].1 <= two[1].1));
                assert_eq!(buckets.last(), Some(&(f64::INFINITY, *count)), "{name} {labels:?}");
            }
        }
    }

    /// All combinations of labels are there.
    fn check_whole(&self) {
        for (name, family) in &self.families {
            let all: usize = family.labels.values().map(BTreeSet::len).product();
            let counted = match family.kind.as_str() {
                "counter" => self.samples.get(&format!("{name}_total")).or(self.samples.get(name)),
                "gauge" => self.samples.get(name),
                _ => self.samples.get(&format!("{name}_count")),
            };
            assert_eq!(counted.map_or(0, Vec::len), all, "{name}");
        }
    }
}

/// The families that the docs list, as the classic format calls them.
fn documented() -> Families {
    let docs = include_str!("../docs/metrics.md");
    let (_, list) = docs.split_once("## `GET /metrics`").expect("a chapter");
    let rows = list.lines().filter_map(|line| line.strip_prefix("| `")?.strip_suffix(" |"));
    rows.map(|row| {
        let cells: Vec<_> = row.split(" | ").collect();
        let [name, kind, labels, help] = cells[..] else { panic!("four cells: {row}") };
        assert!(!help.is_empty(), "{row}");
        let labels = labels.split("; ").filter(|label| !label.trim().is_empty()).map(|label| {
            let (name, values) = label.split_once(": ").expect("values");
            let values = values.split(", ").map(|value| match value {
                "as configured" => "crm".to_owned(),
                "that of the release" => env!("CARGO_PKG_VERSION").to_owned(),
                value => value.trim_matches('`').to_owned(),
            });
            (name.trim_matches('`').to_owned(), values.collect())
        });
        let family = Family { kind: kind.to_owned(), labels: labels.collect() };
        (name.trim_matches('`').to_owned(), family)
    })
    .collect()
}

async fn page(server: &TestServer, accept: &str) -> String {
    let answer = server.get("/metrics").header("accept", accept).send().await.expect("an answer");
    answer.text().await.expect("text")
}

fn with_a_webhook() -> TestServer {
    TestServer::with(|config| {
        config.webhooks = vec![Webhook {
            name: "crm".to_owned(),
            // Nobody is there.
            url: Hidden("http://127.0.0.1:9/".to_owned()),
            secret: WebhookSecret(vec![7; 32]),
            events: Vec::new(),
            topics: Vec::new(),
        }];
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_family_is_in_the_docs_and_each_of_the_docs_is_there_with_all_its_labels() {
    let server = with_a_webhook();
    // Before anything happened, and after.
    for round in 0..2 {
        let classic = Page::read(&page(&server, "text/plain").await, false);
        let open = Page::read(&page(&server, OPEN_METRICS).await, true);
        let documented = documented();
        for (name, family) in &documented {
            assert_eq!(classic.families.get(name), Some(family), "{name}");
        }
        let unknown = classic.families.keys().filter(|name| !documented.contains_key(*name));
        assert_eq!(unknown.collect::<Vec<_>>(), Vec::<&String>::new(), "not in the docs");
        assert!(documented.len() > 60);
        let counter = |name: &String| open.families[name.trim_end_matches("_total")].clone();
        assert!(documented.iter().all(|(name, family)| counter(name) == *family));
        assert_eq!(open.families.len(), classic.families.len());
        classic.check_whole();
        open.check_whole();
        let mut client = WsClient::live(&server, "?topic=a&last=2").await;
        server.publish("a", &json!(round)).await;
        client.until("event").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_event_meets_on_its_road_is_counted() {
    let server = TestServer::open();
    let mut clients = [
        WsClient::live(&server, "?topic=a").await,
        WsClient::live(&server, "?topic=*&last=1").await,
    ];
    for number in 0..3 {
        server.publish("a", &json!(number)).await;
    }
    for client in &mut clients {
        client.events(3).await;
    }
    let refused = server.get("/v1/topics/a/nothing").send().await.expect("an answer");
    assert_eq!(refused.status().as_u16(), 404);
    let answer = clients[0].ask(1, json!({"op": "publish", "topic": "a", "data": 1})).await;
    assert_eq!(answer["op"], "ack");
    clients[1].until("event").await;
    let text = page(&server, "text/plain").await;
    let value = |name: &str| -> f64 {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name}")).parse().expect("a number")
    };
    assert_eq!(value("fanfare_publishes_total{way=\"http\",outcome=\"stored\"}"), 3.0);
    assert_eq!(value("fanfare_publishes_total{way=\"websocket\",outcome=\"stored\"}"), 1.0);
    assert!(value("fanfare_commit_seconds_count") >= 4.0);
    assert!(value("fanfare_delivery_seconds_count") >= 4.0);
    assert!(value("fanfare_inbox_wait_seconds_count") >= value("fanfare_delivery_seconds_count"));
    assert!(value("fanfare_delivery_seconds_sum") < 4.0);
    assert_eq!(value("fanfare_connects_total{transport=\"websocket\"}"), 2.0);
    assert_eq!(value("fanfare_subscribe_seconds_count"), 2.0);
    assert!(value("fanfare_written_bytes_total{transport=\"websocket\"}") > 500.0);
    assert!(value("fanfare_published_bytes_total") > 1_000.0);
    assert_eq!(value("fanfare_http_requests_total{route=\"publish\",status=\"2xx\"}"), 3.0);
    assert_eq!(value("fanfare_http_request_seconds_count{route=\"publish\"}"), 3.0);
    assert_eq!(value("fanfare_http_requests_total{route=\"read\",status=\"4xx\"}"), 1.0);
}

/// A figure of a page.
fn figure(text: &str, name: &str) -> f64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {name}")).parse().expect("a number")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_did_not_get_all_and_who_came_too_fast_are_counted() {
    let server = TestServer::with(|config| config.limits.messages_per_second = 20);
    let mut late = WsClient::connect(&server, "?topic=a&since=zzzzzzzz-1-5").await;
    late.until("gap").await;
    late.until("live").await;
    let mut slow = WsClient::live(&server, "?topic=a&max_rate=2").await;
    for number in 0..5 {
        server.publish("a", &json!(number)).await;
    }
    let mut skipped = 0;
    while skipped == 0 {
        skipped = slow.until("event").await["skipped"].as_u64().unwrap_or(0);
    }
    for reference in 1..=40 {
        _ = late.try_send(&json!({"op": "ping", "ref": reference})).await;
    }
    late.closed().await;
    let text = page(&server, "text/plain").await;
    assert_eq!(figure(&text, "fanfare_gaps_total{reason=\"foreign\"}"), 1.0);
    assert_eq!(figure(&text, "fanfare_events_skipped_total"), skipped as f64);
    assert_eq!(figure(&text, "fanfare_events_conflated_total"), 1.0);
    assert!(figure(&text, "fanfare_rate_limited_total{limit=\"messages_per_second\"}") >= 1.0);
}

fn curl(arguments: &[&str]) -> Output {
    Command::new("curl").args(arguments).output().expect("curl runs")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handshake_of_tls_is_counted_and_timed() {
    let server = TestServer::encrypted(|_| {});
    let _client = WsClient::live(&server, "?topic=a").await;
    // Whoever does not believe the certificate shakes no hands.
    let url = format!("https://{}/health/live", server.addr);
    assert!(!curl(&["-s", &url]).status.success());
    assert!(curl(&["-sk", &url]).status.success());
    let text = page(&server, "text/plain").await;
    assert_eq!(figure(&text, "fanfare_tls_handshakes_total{outcome=\"done\"}"), 2.0);
    assert_eq!(figure(&text, "fanfare_tls_handshakes_total{outcome=\"failed\"}"), 1.0);
    assert_eq!(figure(&text, "fanfare_tls_handshake_seconds_count"), 2.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_goes_over_redis_is_counted() {
    let redis = Redis::start();
    let nodes = [room::node(&redis, 0), room::node(&redis, 0)];
    let mut client = room::client(&nodes[1], "ada", "?topic=room.a").await;
    let request = nodes[0].post("/v1/topics/room.a/events").bearer_auth(API_KEY).body("1");
    assert!(request.send().await.expect("an answer").status().is_success());
    client.until("event").await;
    let text = nodes[1].get("/metrics").bearer_auth(API_KEY).send().await.expect("an answer");
    let text = text.text().await.expect("text");
    // Of both: the nodes of a test are one process.
    for name in [
        "fanfare_redis_commands_total{outcome=\"done\"}",
        "fanfare_redis_command_seconds_count",
        "fanfare_commit_group_events_count",
        "fanfare_relay_seconds_count",
    ] {
        assert!(figure(&text, name) >= 1.0, "{name}");
    }
    assert!(figure(&text, "fanfare_redis_connections_total") >= 2.0);
    eventually("both nodes are counted, and what is kept", async || {
        let text = nodes[1].get("/metrics").bearer_auth(API_KEY).send().await.expect("an answer");
        let text = text.text().await.expect("text");
        figure(&text, "fanfare_nodes") == 2.0
            && figure(&text, "fanfare_history_bytes{kind=\"redis\"}") > 0.0
            && figure(&text, "fanfare_history_limit_bytes{kind=\"redis\"}") > 0.0
            && figure(&text, "fanfare_history_at_hand_bytes") > 0.0
    })
    .await;
}

#[test]
#[should_panic(expected = "twice")]
fn the_reader_sees_a_sample_that_is_there_twice() {
    Page::read("# HELP a_total Something.\n# TYPE a_total counter\na_total 1\na_total 2\n", false);
}

#[test]
#[should_panic(expected = "the end is marked")]
fn the_reader_sees_a_page_that_is_cut_short() {
    Page::read("# HELP a Something.\n# TYPE a gauge\na 1\n", true);
}
