//! Events as a later release may store them: shown without what is not known of them, or not at all and as a gap.

mod support;

use fanfare::config::{Redis as RedisConfig, Storage};
use reqwest::StatusCode;
use serde_json::{Value, json};
use support::redis::Redis;
use support::ws::WsClient;
use support::{TestServer, expect_status};

/// Stores an entry as the script of a later release does, and tells nobody.
const LATER: &str = r#"
    local log, stream, entry = '{fanfare}:log', '{fanfare}:t:a', ARGV[1]
    local id = redis.call('HINCRBY', log, 'seq', 1) .. '-0'
    local time = redis.call('TIME')[1] * 1000
    redis.call('XADD', stream, id, 'e', entry, 't', time)
    redis.call('XADD', '{fanfare}:order', id, 'n', 'a', 't', time)
    redis.call('HSET', log, 'form', 3)
    return redis.call('HINCRBY', '{fanfare}:bytes', 'a', 255 + #entry)
"#;

/// Members before the data: one that nobody knows.
const UNKNOWN: &str = "\u{2}\0\0\u{5}\u{7}\0\u{2}xy";

/// A flag that no release until now has.
const FLAG_OF_A_LATER_FORM: &str = "\u{4}\0";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_later_release_stored_is_shown_as_far_as_it_is_known_and_else_a_gap() {
    let redis = Redis::start();
    let node = TestServer::with(|config| {
        config.redis = Some(RedisConfig::at(&redis.url()));
        config.rules.default.storage = Storage::Redis;
    });
    let first = node.publish("a", &json!(1)).await;
    let mut client = WsClient::live(&node, "?topic=a").await;
    let mut elsewhere = WsClient::live(&node, "?topic=b").await;
    for entry in [format!("{UNKNOWN}2"), format!("{FLAG_OF_A_LATER_FORM}3")] {
        let _: i64 = redis.run(&["EVAL", LATER, "0", &entry]);
    }
    // What a node missed is read from the streams before what comes next.
    node.publish("a", &json!(4)).await;
    node.publish("b", &json!(5)).await;
    loop {
        let event = client.until("event").await;
        if event["data"] == 2 {
            break;
        }
        assert_eq!(event["data"], 1);
    }
    assert_eq!(client.next().await["op"], "gap");
    assert_eq!(client.until("event").await["data"], 4);
    let next = elsewhere.next().await;
    assert_eq!((&next["op"], &next["data"]), (&json!("event"), &json!(5)));
    for since in [None, first["id"].as_str()] {
        let since = since.map_or(String::new(), |since| format!("?since={since}"));
        let page = node.get(&format!("/v1/topics/a/events{since}")).send().await;
        let page: Value = expect_status(page.expect("an answer"), StatusCode::OK).await;
        let data: Vec<_> = page["events"]
            .as_array()
            .expect("events")
            .iter()
            .map(|it| it["data"].clone())
            .collect();
        assert!(data.ends_with(&[json!(2), json!(4)]) && !data.contains(&json!(3)), "{data:?}");
        assert_eq!(page["gap"], true);
    }
    let mut resumed = WsClient::connect(
        &node,
        &format!("?topic=a&since={}", first["id"].as_str().expect("an id")),
    )
    .await;
    resumed.until("gap").await;
    assert_eq!(resumed.until("event").await["data"], 2);
    assert_eq!(resumed.until("event").await["data"], 4);
}
