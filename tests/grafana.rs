//! The dashboard of `deploy/grafana`: all that there is stands on it, in the right units, and each query finds something.
//!
//! That Grafana knows each member is looked at by `tests/grafana`.

mod support;

use std::collections::BTreeSet;

use fanfare::config::{Config, Hidden, Redis as RedisConfig, Storage, Webhook, WebhookSecret};
use fanfare::model::NoticeKind;
use serde_json::{Value, json};
use support::process::free_port;
use support::prometheus::Prometheus;
use support::redis::Redis;
use support::ws::WsClient;
use support::{API_KEY, TestServer, close, eventually};

fn dashboard() -> Value {
    let text = include_str!("../deploy/grafana/fanfare.json");
    serde_json::from_str(text).expect("JSON")
}

/// All panels but the heads of rows.
fn panels(dashboard: &Value) -> impl Iterator<Item = &Value> {
    let panels = dashboard["panels"].as_array().expect("panels").iter();
    panels.filter(|panel| panel["type"] != "row")
}

fn queries(panel: &Value) -> impl Iterator<Item = &str> {
    let targets = panel["targets"].as_array().expect("targets").iter();
    targets.map(|target| target["expr"].as_str().expect("a query"))
}

/// The families that a query goes by.
fn families(query: &str) -> impl Iterator<Item = &str> {
    let words = query.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let ours = words.filter(|word| word.starts_with("fanfare_") || word.starts_with("process_"));
    ours.map(|word| word.trim_end_matches("_bucket"))
}

#[test]
fn all_families_that_there_are_stand_on_it_and_no_other() {
    let docs = include_str!("../docs/metrics.md");
    let rows = docs.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    let is_family = |name: &&str| name.starts_with("fanfare_") || name.starts_with("process_");
    let documented: BTreeSet<_> = rows.filter(is_family).collect();
    let dashboard = dashboard();
    let shown: BTreeSet<_> = panels(&dashboard).flat_map(queries).flat_map(families).collect();
    assert_eq!(shown, documented);
}

#[test]
fn panels_stand_beside_each_other_in_rows_and_say_what_they_show() {
    let dashboard = dashboard();
    let all = dashboard["panels"].as_array().expect("panels");
    let ids: BTreeSet<_> =
        all.iter().map(|panel| panel["id"].as_u64().expect("a number")).collect();
    assert_eq!(ids.len(), all.len(), "each has a number of its own");
    let mut taken = BTreeSet::new();
    for panel in all {
        let side = |name: &str| panel["gridPos"][name].as_u64().expect("a number");
        assert!(side("x") + side("w") <= 24, "{panel}");
        for (x, y) in (0..side("w")).flat_map(|x| (0..side("h")).map(move |y| (x, y))) {
            assert!(
                taken.insert((side("x") + x, side("y") + y)),
                "{} covers another",
                panel["title"]
            );
        }
        assert!(!panel["title"].as_str().expect("a title").is_empty());
    }
    let rows = all.iter().filter(|panel| panel["type"] == "row");
    let heads: Vec<_> = rows.filter_map(|row| row["title"].as_str()?.split(':').next()).collect();
    let road = ["Overview", "In", "Stored", "Relayed", "Out", "Who is slow", "Limits", "Redis"];
    assert_eq!(heads, [&road[..], &["Webhooks and notices", "Process"]].concat());
    let rules = include_str!("../deploy/prometheus/fanfare.rules.yml");
    for panel in panels(&dashboard) {
        let said = panel["description"].as_str().expect("what it shows");
        assert!(!said.is_empty(), "{panel}");
        let words = said.split(|c: char| !c.is_ascii_alphanumeric());
        for alert in words.filter(|word| word.starts_with("Fanfare") && *word != "Fanfare") {
            assert!(rules.contains(&format!("alert: {alert}\n")), "there is no alert {alert}");
        }
        for query in queries(panel) {
            assert!(query.contains(r#"instance=~"$instance""#), "{query} is of all nodes");
        }
    }
}

/// The unit of what a query gives, as its family says it.
fn unit(query: &str) -> &'static [&'static str] {
    let family = families(query).next().expect("a family");
    let is_rate = query.contains("rate(") && !query.contains("histogram_quantile(");
    match family {
        "process_cpu_seconds_total" => &["percentunit"],
        _ if is_rate && family.contains("_bytes") => &["binBps"],
        _ if is_rate && family.contains("_http_requests") => &["reqps"],
        _ if is_rate => &["eps", "ops", "cps"],
        _ if family.ends_with("_bytes") => &["bytes"],
        _ if family.ends_with("_seconds") => &["s"],
        _ => &["short"],
    }
}

#[test]
fn each_panel_has_the_unit_of_what_it_shows() {
    for panel in panels(&dashboard()) {
        let own = panel["fieldConfig"]["defaults"]["unit"].as_str().expect("a unit");
        for query in queries(panel) {
            assert!(unit(query).contains(&own), "{own} for {query}");
        }
    }
}

/// A node with all that can be shown: Redis, a webhook, and work.
fn node(redis: &Redis) -> TestServer {
    TestServer::with(|config: &mut Config| {
        close(config);
        config.redis = Some(RedisConfig::at(&redis.url()));
        config.rules.default.storage = Storage::Redis;
        config.webhooks = vec![Webhook {
            name: "crm".to_owned(),
            url: Hidden(format!("http://127.0.0.1:{}/", free_port())),
            secret: WebhookSecret(vec![7; 32]),
            events: vec![NoticeKind::SessionConnected],
            topics: Vec::new(),
        }];
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_query_is_taken_by_prometheus_and_finds_something() {
    let redis = Redis::start();
    let nodes = [node(&redis), node(&redis)];
    let prometheus = Prometheus::of(&[nodes[0].addr, nodes[1].addr]).await;
    let query = format!("?topic=a&access_token={API_KEY}");
    let _clients =
        [WsClient::live(&nodes[0], &query).await, WsClient::live(&nodes[1], &query).await];
    let ask = async |query: &str| {
        // As Grafana fills them in.
        let query = query.replace("$instance", ".*").replace("$__rate_interval", "1m");
        let query: String = form_urlencoded::byte_serialize(query.as_bytes()).collect();
        prometheus.ask(&format!("query?query={query}")).await
    };
    let finds = |answer: &Value| {
        let found = answer["data"]["result"].as_array().map_or(&[][..], Vec::as_slice);
        found.iter().any(|series| series["value"][1] != json!("NaN"))
    };
    // A quantile is a number only once there was something to measure, in two scrapes.
    let worked = [
        "fanfare_commit_seconds",
        "fanfare_delivery_seconds",
        "fanfare_relay_seconds",
        "fanfare_redis_command_seconds",
    ];
    eventually("there is something to measure", async || {
        nodes[0]
            .post("/v1/topics/a/events")
            .bearer_auth(API_KEY)
            .body("1")
            .send()
            .await
            .expect("ok");
        let mut all = true;
        for family in worked {
            let rate = format!("sum(rate({family}_count[1m])) > 0");
            all &= finds(&ask(&rate).await);
        }
        all
    })
    .await;
    for panel in panels(&dashboard()) {
        for query in queries(panel) {
            let answer = ask(query).await;
            assert_eq!(answer["status"], "success", "{query}: {answer}");
            let found = answer["data"]["result"].as_array().expect("series");
            assert!(!found.is_empty(), "{query} finds nothing");
            let is_worked = families(query).any(|family| worked.contains(&family));
            assert!(!is_worked || finds(&answer), "{query}: {answer}");
        }
    }
}
