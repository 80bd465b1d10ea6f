//! The alerts of `deploy/prometheus`: sound, documented, and fired by what they are for.

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;
use std::time::Duration;

use fanfare::config::{Config, Hidden, Jwks, Storage, Webhook, WebhookSecret};
use fanfare::model::NoticeKind;
use support::process::free_port;
use support::prometheus::{self, Prometheus};
use support::redis::Redis;
use support::room;
use support::ws::WsClient;
use support::{API_KEY, TestServer, close, eventually, token};
use tempfile::TempDir;

const RULES: &str = include_str!("../deploy/prometheus/fanfare.rules.yml");

fn promtool(arguments: &[&str]) {
    let output =
        Command::new("promtool").current_dir(prometheus::rules_folder()).args(arguments).output();
    let output = output.expect("promtool runs");
    assert!(output.status.success(), "{arguments:?}: {output:?}");
}

/// The names of all alerts.
fn alerts() -> BTreeSet<&'static str> {
    RULES.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect()
}

#[test]
fn promtool_takes_the_rules_and_sees_each_fire_and_keep_still() {
    promtool(&["check", "rules", "fanfare.rules.yml"]);
    promtool(&["test", "rules", "fanfare.test.yml"]);
    let tests =
        fs::read_to_string(prometheus::rules_folder().join("fanfare.test.yml")).expect("tests");
    for alert in alerts() {
        let named = |line: &&str| line.trim() == format!("alertname: {alert}");
        assert_eq!(tests.lines().filter(named).count(), 2, "{alert} fires once, and is still once");
    }
}

#[test]
fn each_alert_has_its_runbook_and_goes_by_what_there_is() {
    let docs = include_str!("../docs/operating.md");
    let (_, chapter) = docs.split_once("\n## Alerts\n").expect("a chapter");
    let told: BTreeSet<_> = chapter.lines().filter_map(|line| line.strip_prefix("### ")).collect();
    assert_eq!(told, alerts());
    assert!(told.len() > 25);
    for alert in alerts() {
        let link = format!("runbook_url: docs/operating.md#{}", alert.to_lowercase());
        assert_eq!(RULES.matches(&format!("{link}\n")).count(), 1, "{alert}");
        // A chapter that others point to is there.
    }
    for (_, link) in chapter.match_indices("](#").map(|(at, _)| (at, &chapter[at + 3..])) {
        let anchor = link.split(')').next().expect("an end");
        let headings =
            docs.lines().filter_map(|line| line.trim_start_matches('#').strip_prefix(' '));
        let mut anchors = headings.map(|it| it.to_lowercase().replace(' ', "-").replace(',', ""));
        assert!(anchors.any(|known| known == anchor), "#{anchor}");
    }
    let metrics = include_str!("../docs/metrics.md");
    let words = RULES.lines().filter(|line| line.trim().starts_with("expr: ")).flat_map(|line| {
        line.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
            .filter(|word| word.starts_with("fanfare_") || word.starts_with("process_"))
    });
    for word in words {
        let family = word.trim_end_matches("_bucket");
        assert!(metrics.contains(&format!("| `{family}` |")), "{word} is in no list");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_client_a_herd_and_a_foreign_page_are_told_apart() {
    let server = TestServer::with(|config: &mut Config| {
        close(config);
        config.limits.outbox_bytes = 64 << 10;
        config.limits.send_buffer_bytes = 8 << 10;
    });
    let prometheus = Prometheus::of(&[server.addr]).await;
    prometheus.is_still().await;
    let query = format!("?topic=a&access_token={API_KEY}");
    let _asleep = WsClient::live(&server, &query).await;
    let text = "x".repeat(20_000);
    for _ in 0..400 {
        let request = server.post("/v1/topics/a/events").bearer_auth(API_KEY).json(&text);
        assert!(request.send().await.expect("an answer").status().is_success());
    }
    prometheus.fires(&["FanfareSlowClients"]).await;
    let mut herd = Vec::new();
    for _ in 0..150 {
        herd.push(WsClient::connect(&server, &query).await);
    }
    for _ in 0..15 {
        let page = server.get("/v1/topics/a").header("origin", "https://elsewhere.example");
        assert_eq!(page.send().await.expect("an answer").status().as_u16(), 403);
    }
    prometheus.fires(&["FanfareHerd", "FanfareOriginRefused"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_that_is_away_and_a_node_that_is_gone_are_told_apart() {
    let mut redis = Redis::start();
    let (stays, goes) = (room::node(&redis, 0), room::node(&redis, 0));
    let prometheus = Prometheus::of(&[stays.addr, goes.addr]).await;
    eventually("both know of both", async || {
        let nodes = prometheus.ask("query?query=min(fanfare_nodes)").await;
        nodes["data"]["result"][0]["value"][1] == "2"
    })
    .await;
    goes.stop();
    prometheus.fires(&["FanfareDown", "FanfareNodeGone"]).await;
    redis.kill();
    prometheus.fires(&["FanfareRedisAway", "FanfareNotReady"]).await;
    let published = stays.post("/v1/topics/a/events").bearer_auth(API_KEY).body("1").send().await;
    assert_eq!(published.expect("an answer").status().as_u16(), 503);
    prometheus.fires(&["FanfarePublishesFail"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_issuer_and_the_target_of_a_webhook_that_are_away_are_named() {
    let nobody = format!("http://127.0.0.1:{}/", free_port());
    let server = TestServer::with(|config: &mut Config| {
        close(config);
        if let Some(jwt) = &mut config.auth.jwt {
            let (refresh, keep) = (Duration::from_secs(300), Duration::from_secs(3_600));
            jwt.keys = Vec::new();
            jwt.jwks = Some(Jwks { url: nobody.clone(), refresh, keep });
        }
        config.notices.sessions = true;
        config.rules.notices.storage = Storage::Memory;
        config.webhooks = vec![Webhook {
            name: "crm".to_owned(),
            url: Hidden(nobody.clone()),
            secret: WebhookSecret(vec![7; 32]),
            events: vec![NoticeKind::SessionConnected],
            topics: Vec::new(),
        }];
    });
    let prometheus = Prometheus::of(&[server.addr]).await;
    prometheus.is_still().await;
    let ada = token("ada", &["a"], &[], 600);
    let asked = server.get("/v1/topics/a").bearer_auth(&ada).send().await.expect("an answer");
    assert_eq!(asked.status().as_u16(), 503);
    let query = format!("?topic=a&access_token={API_KEY}");
    let _client = WsClient::live(&server, &query).await;
    prometheus.fires(&["FanfareIssuerDown", "FanfareWebhookFails"]).await;
}

/// A file system of its own, of a few megabytes.
struct SmallDisk(TempDir);

impl SmallDisk {
    fn new(size: &str) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let options = format!("size={size},mode=0700");
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "tmpfs"])
            .arg(directory.path())
            .status();
        assert!(mount.expect("mount runs").success());
        Self(directory)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_is_told_before_it_is_full_and_when_it_is() {
    let disk = SmallDisk::new("12m");
    let server = TestServer::durable(disk.0.path(), |_| {});
    let prometheus = Prometheus::of(&[server.addr]).await;
    prometheus.fires(&["FanfareDiskTooSmall"]).await;
    let text = "x".repeat(50_000);
    let publish = async || {
        let answer = server.post("/v1/topics/a/events").json(&text).send().await;
        answer.expect("an answer").status().as_u16()
    };
    let mut published = 0;
    while publish().await != 503 {
        published += 1;
        assert!(published < 1_000, "it is never full");
    }
    prometheus.fires(&["FanfareStorageFull", "FanfareHistoryFails", "FanfareNotReady"]).await;
}
