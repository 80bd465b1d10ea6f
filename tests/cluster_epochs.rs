//! Many epochs: what is kept is read whole and under its own ids, however often Redis was restarted.

mod support;

use fanfare::config::{Redis as RedisConfig, Storage};
use fanfare::model::Cursor;
use reqwest::StatusCode;
use serde_json::Value;
use support::redis::Redis;
use support::ws::WsClient;
use support::{TestServer, eventually, expect_status};

fn node(redis: &Redis) -> TestServer {
    TestServer::with(|config| {
        config.redis = Some(RedisConfig::at(&redis.url()));
        config.rules.default.storage = Storage::Redis;
    })
}

/// Publishes until it is taken; the id.
async fn publish(node: &TestServer, n: usize) -> String {
    loop {
        let request = node.post("/v1/topics/a/events").body(n.to_string());
        let answer = request.send().await.expect("an answer");
        if answer.status() == StatusCode::CREATED {
            let receipt: Value = answer.json().await.expect("JSON");
            return receipt["id"].as_str().expect("an id").to_owned();
        }
    }
}

/// All that is kept after a place, in pages of so many: the ids, and whether a gap was told.
async fn all(node: &TestServer, since: Option<&str>, limit: usize) -> (Vec<String>, bool) {
    let (mut ids, mut is_gap, mut since) = (Vec::new(), false, since.map(str::to_owned));
    loop {
        let since_that = since.map_or(String::new(), |since| format!("&since={since}"));
        let path = format!("/v1/topics/a/events?limit={limit}{since_that}");
        let page = node.get(&path).send().await.expect("an answer");
        let page = expect_status(page, StatusCode::OK).await;
        is_gap |= page["gap"] == true;
        let events = page["events"].as_array().expect("events");
        if events.is_empty() {
            return (ids, is_gap);
        }
        ids.extend(events.iter().map(|event| event["id"].as_str().expect("an id").to_owned()));
        since = Some(page["next"].as_str().expect("a place").to_owned());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_forty_restarts_of_redis_all_that_is_kept_is_read_under_the_ids_it_was_given() {
    let mut redis = Redis::durable();
    let node = node(&redis);
    let mut ids = vec![publish(&node, 0).await];
    for n in 1..40 {
        redis.kill();
        redis.restart();
        ids.push(publish(&node, n).await);
    }
    let epochs: Vec<_> = ids.iter().map(|id| Cursor::parse(id).expect("an id").epoch).collect();
    assert!(epochs.is_sorted_by(|a, b| a < b), "{epochs:?}");
    for limit in [1, 3, 1_000] {
        assert_eq!(all(&node, None, limit).await, (ids.clone(), false), "{limit} a page");
    }
    for since in [0, 2, 7, 20, 38] {
        let expected = (ids[since + 1..].to_vec(), false);
        assert_eq!(all(&node, Some(&ids[since]), 4).await, expected, "after {since}");
    }
    let moment = all(&node, Some("-1h"), 3).await;
    assert_eq!(moment, (ids.clone(), false), "since a moment");
    let mut client = WsClient::connect(&node, &format!("?topic=%3E&since={}", ids[1])).await;
    for id in &ids[2..] {
        assert_eq!(client.until("event").await["id"], **id);
    }
}

/// Makes a log of as many epochs as are listed, with all that is kept in the first of them.
const AGE: &str = r#"
    local log, epochs = '{fanfare}:log', '{fanfare}:epochs'
    local first, last = unpack(redis.call('HMGET', log, 'epoch', 'seq'))
    local ended, start = {}, tonumber(last)
    redis.call('DEL', epochs)
    redis.call('ZADD', epochs, first, first .. ' 0 ' .. last .. ' 0')
    for epoch = first + 1, first + 4095 do
        start = start + 10
        local text = string.format('%d %d %d 0', epoch, start, start)
        redis.call('ZADD', epochs, epoch, text)
        ended[#ended + 1] = text .. ';'
    end
    redis.call('HSET', log, 'epoch', first + 4096, 'listed', first + 4096, 'start', start + 10,
        'seq', start + 10, 'ended', table.concat(ended, '', #ended - 31))
    return 1
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_even_listed_epochs_are_forgotten_their_cursors_are_a_gap_and_what_they_kept_is_read()
{
    let mut redis = Redis::durable();
    let first = node(&redis);
    let mut old = Vec::new();
    for n in 0..4 {
        old.push(publish(&first, n).await);
    }
    first.stop();
    let _: i64 = redis.run(&["EVAL", AGE, "0"]);
    let node = node(&redis);
    assert_eq!(all(&node, None, 3).await, (old.clone(), false), "all of them are listed");
    redis.kill();
    redis.restart();
    let newest = publish(&node, 4).await;
    eventually("the list was read", async || all(&node, None, 9).await.0.contains(&newest)).await;
    let sequence = |id: &String| Cursor::parse(id).expect("an id").sequence;
    let (ids, is_gap) = all(&node, None, 2).await;
    assert!(!is_gap && ids.iter().map(sequence).is_sorted());
    assert_eq!(ids.len(), 5, "what is kept is read whole: {ids:?}");
    let (since_old, is_gap) = all(&node, Some(&old[1]), 2).await;
    assert!(is_gap, "a cursor of a forgotten epoch");
    assert_eq!(since_old, ids);
    assert_eq!(all(&node, Some(&ids[1]), 2).await, (ids[2..].to_vec(), false));
    assert_eq!(all(&node, Some("-1h"), 2).await, (ids.clone(), false));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_was_a_replica_and_comes_back_with_less_begins_an_epoch_though_it_ran_on() {
    let server = Redis::start();

    let first = node(&server);
    publish(&first, 0).await;
    let other = Redis::replica_of(server.port);
    let copied = async || other.run::<usize>(&["XLEN", "{fanfare}:t:a"]) == 1;
    eventually("the other has it", copied).await;
    let _: String = other.run(&["REPLICAOF", "NO", "ONE"]);
    let lost = publish(&first, 1).await;
    first.stop();
    // It takes over what the other has, and is a master again, before anybody looks.
    let _: String = server.run(&["REPLICAOF", "127.0.0.1", &other.port.to_string()]);
    let has_less = async || server.run::<usize>(&["XLEN", "{fanfare}:t:a"]) == 1;
    eventually("it has less", has_less).await;
    let _: String = server.run(&["REPLICAOF", "NO", "ONE"]);
    let second = node(&server);
    let (next, later) = (publish(&second, 2).await, publish(&second, 3).await);
    assert!(Cursor::parse(&next).expect("an id") > Cursor::parse(&lost).expect("an id"));
    let (ids, is_gap) = all(&second, Some(&lost), 9).await;
    assert!(is_gap, "what a client saw of it is gone");
    assert!(ids.ends_with(&[next, later]), "{ids:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn since_a_moment_before_redis_lost_events_is_a_gap() {
    let mut redis = Redis::start();
    let node = node(&redis);
    publish(&node, 0).await;
    assert!(!all(&node, Some("-1h"), 9).await.1);
    let _: String = redis.run(&["SAVE"]);
    publish(&node, 1).await;
    redis.kill();
    redis.restart();
    let after = publish(&node, 2).await;
    let (ids, is_gap) = all(&node, Some("-1h"), 9).await;
    assert!(is_gap && ids.contains(&after), "it came back with less: {ids:?}");
    let _: String = redis.run(&["FLUSHALL"]);
    let after = publish(&node, 3).await;
    assert_eq!(all(&node, Some("-1h"), 9).await, (vec![after], true), "and lost everything");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_epoch_that_begins_by_a_clock_that_went_back_takes_no_event_of_the_last_one() {
    let mut redis = Redis::ahead_by(86_400);
    let node = node(&redis);
    let mut ids = vec![publish(&node, 0).await];
    for (n, seconds) in [(1, 86_400), (2, 0), (3, 0)] {
        redis.kill();
        redis.set_ahead(seconds);
        redis.restart();
        ids.push(publish(&node, n).await);
    }
    assert_eq!(all(&node, None, 1).await, (ids.clone(), false));
    assert_eq!(all(&node, Some(&ids[1]), 1).await, (ids[2..].to_vec(), false));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_the_record_of_the_log_is_gone_what_is_kept_is_read_whole_and_told_as_a_gap() {
    let redis = Redis::start();
    let first = node(&redis);
    let mut old = Vec::new();
    for n in 0..5 {
        old.push(publish(&first, n).await);
    }
    first.stop();
    let _: usize = redis.run(&["DEL", "{fanfare}:log"]);
    let node = node(&redis);
    let next = publish(&node, 5).await;
    let (ids, _) = all(&node, None, 2).await;
    assert_eq!(ids.len(), 6, "{ids:?}");
    assert_eq!(ids[5], next);
    let (since_old, is_gap) = all(&node, Some(&old[2]), 2).await;
    assert!(is_gap);
    assert_eq!(since_old, ids);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_that_is_brought_back_twice_begins_two_epochs_though_the_clock_is_behind() {
    let mut redis = Redis::ahead_by(3_600);
    let first = node(&redis);
    publish(&first, 0).await;
    redis.kill();
    redis.restart();
    // The epoch that a restart begins has numbers of the clock.
    let mut ids = vec![publish(&first, 0).await];
    first.stop();
    let snapshot = redis.copy();
    redis.set_ahead(0);
    for n in 1..=2 {
        redis.bring_back(&snapshot);
        let node = node(&redis);
        ids.push(publish(&node, n).await);
        let (_, is_gap) = all(&node, Some(&ids[n - 1]), 10).await;
        assert_eq!(is_gap, n == 2, "{ids:?}");
        node.stop();
    }
    assert_ne!(ids[1], ids[2]);
}
