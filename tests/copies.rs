//! What a log on disk knows of its past: copies that are restored, also twice, and rules that have changed.

mod support;

use std::fs;

use fanfare::config::Who;
use fanfare::model::Pattern;
use serde_json::json;
use support::ws::resumed;
use support::{TestServer, in_memory, numbered};

#[tokio::test]
async fn a_topic_that_was_in_memory_between_two_lives_on_disk_hides_no_loss() {
    let directory = tempfile::tempdir().expect("a directory");
    let server = TestServer::durable(directory.path(), |_| {});
    let first = server.publish("a", &json!(1)).await;
    server.stop();
    let server = TestServer::durable(directory.path(), |config| in_memory(config, "a"));
    server.publish_all(&numbered("a", 2..5)).await;
    server.stop();
    let server = TestServer::durable(directory.path(), |_| {});
    let since = first["id"].as_str().expect("an id");
    for topics in ["topic=a", "topic=%3E"] {
        assert_eq!(resumed(&server, topics, since).await, (1, vec![]), "{topics}");
    }
    assert_eq!(resumed(&server, "topic=b", since).await, (0, vec![]));
    server.stop();
}

#[tokio::test]
async fn a_change_of_rights_alone_makes_no_gap() {
    let directory = tempfile::tempdir().expect("a directory");
    let server = TestServer::durable(directory.path(), |_| {});
    let ids = server.publish_all(&numbered("a", 0..3)).await;
    server.stop();
    let server = TestServer::durable(directory.path(), |config| {
        let mut rule = config.rules.default.clone();
        rule.pattern = Pattern::parse("b.>").expect("a pattern");
        rule.subscribe = Who::Nobody;
        config.rules.listed.push(rule);
    });
    for topics in ["topic=a", "topic=%3E"] {
        let rest = (0, vec![json!(1), json!(2)]);
        assert_eq!(resumed(&server, topics, &ids[0]).await, rest, "{topics}");
    }
    server.stop();
}

#[tokio::test]
async fn each_restore_of_a_copy_is_told_apart_with_and_without_its_head() {
    let directory = tempfile::tempdir().expect("a directory");
    let server = TestServer::durable(directory.path(), |_| {});
    let ids = server.publish_all(&numbered("a", 0..10)).await;
    let copied = ids[9].clone();
    server.stop();
    for with_head in [true, false] {
        let mut lives = Vec::new();
        for life in 0..2 {
            let copy = tempfile::tempdir().expect("a directory");
            for name in ["history.db", "history.db-wal", "head"] {
                if with_head || name != "head" {
                    let (from, to) = (directory.path().join(name), copy.path().join(name));
                    fs::copy(from, to).expect("a copy");
                }
            }
            let server = TestServer::durable(copy.path(), |_| {});
            let first = 100 * (life + 1);
            let ids = server.publish_all(&numbered("a", first..first + 20)).await;
            lives.push((server, ids, first, copy));
        }
        for (at, (server, own, first, _)) in lives.iter().enumerate() {
            let all: Vec<_> = (*first..first + 20).map(|n| json!(n)).collect();
            // Who had seen what was copied has the rest, and who comes from the other life is told.
            assert_eq!(resumed(server, "topic=a", &copied).await, (0, all.clone()));
            let rest = all[6..].to_vec();
            assert_eq!(resumed(server, "topic=a", &own[5]).await, (0, rest));
            let (gaps, given) = resumed(server, "topic=a", &lives[1 - at].1[5]).await;
            assert!(gaps == 1 && given.ends_with(&all), "{gaps} {given:?}");
        }
        for (server, ..) in lives {
            server.stop();
        }
    }
}

#[tokio::test]
async fn a_copy_that_is_restored_where_it_was_made_tells_who_had_seen_more() {
    let directory = tempfile::tempdir().expect("a directory");
    let server = TestServer::durable(directory.path(), |_| {});
    let ids = server.publish_all(&numbered("a", 0..10)).await;
    // As a file system does that is set back to a snapshot.
    let snapshot = tempfile::tempdir().expect("a directory");
    for name in ["history.db", "history.db-wal", "head"] {
        fs::copy(directory.path().join(name), snapshot.path().join(name)).expect("a copy");
    }
    let more = server.publish_all(&numbered("a", 10..30)).await;
    server.stop();
    let server = TestServer::durable(snapshot.path(), |_| {});
    let new = server.publish_all(&numbered("a", 100..120)).await;
    let all: Vec<_> = (100..120).map(|n| json!(n)).collect();
    assert_eq!(resumed(&server, "topic=a", &more[5]).await, (1, all.clone()));
    assert_eq!(resumed(&server, "topic=a", &ids[9]).await, (0, all));
    assert_eq!(resumed(&server, "topic=a", &new[18]).await, (0, vec![json!(119)]));
    server.stop();
}
