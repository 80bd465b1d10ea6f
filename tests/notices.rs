//! What the broker says about itself: as events of its own, and posted to webhooks.

mod support;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use fanfare::clock::Clock;
use fanfare::config::{Config, Notices, Redis as RedisConfig, Storage, Webhook};
use fanfare::history::History;
use fanfare::history::sqlite::Opened;
use fanfare::model::{NoticeKind, Pattern, Topic};
use serde_json::{Value, json};
use support::application::Application;
use support::redis::Redis;
use support::ws::WsClient;
use support::{API_KEY, Nobody, TestServer, eventually, problem, token};

/// Credentials, rooms with presence, and every notice.
fn noticing(config: &mut Config) {
    support::close(config);
    config.notices = Notices { sessions: true, topics: true, presence: true };
    let mut room = config.rules.default.clone();
    room.pattern = Pattern::parse("room.>").expect("a pattern");
    room.presence = true;
    config.rules.listed = vec![room];
}

async fn join(server: &TestServer, user: &str, query: &str) -> WsClient {
    let token = token(user, &[">"], &[], 600);
    WsClient::live(server, &format!("{query}&access_token={token}")).await
}

/// The next notice that is not about the application itself: its topic, type, and who or what it is
/// about.
async fn notice(client: &mut WsClient) -> (String, String, String) {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    loop {
        let event = client.until("event").await;
        let data = &event["data"];
        let about = if data["user"].is_string() { &data["user"] } else { &data["topic"] };
        if about.is_string() && !text(about).starts_with("$sys") {
            return (text(&event["topic"]), text(&event["type"]), text(about));
        }
    }
}

#[tokio::test]
async fn who_comes_and_goes_is_told_to_those_allowed_and_to_nobody_else() {
    let server = TestServer::with(noticing);
    let everything = "?topic=%24sys.%3E&topic=%24presence.%3E";
    let mut operator =
        WsClient::live(&server, &format!("{everything}&access_token={API_KEY}")).await;
    let granted = token("eve", &["$presence.room.a"], &[], 600);
    let mut eve =
        WsClient::live(&server, &format!("?topic=%24presence.room.a&access_token={granted}")).await;
    let first = notice(&mut operator).await;
    assert_eq!(first, ("$sys.sessions".into(), "session.connected".into(), "eve".into()));
    notice(&mut operator).await; // the topic of her notices
    let refused = WsClient::connect(&server, &format!("?access_token={granted}")).await;
    notice(&mut operator).await;
    let mut refused = refused;
    let subscribe = |topic: &str| json!({"op": "subscribe", "topics": [topic]});
    for (reference, topic) in [(1, "$presence.room.b"), (2, "$sys.sessions")] {
        assert_eq!(refused.ask(reference, subscribe(topic)).await["code"], "forbidden");
    }
    drop(refused);
    notice(&mut operator).await;
    let mut ada = join(&server, "ada", "?topic=room.a").await;
    let mut notices = BTreeSet::new();
    for _ in 0..3 {
        notices.insert(notice(&mut operator).await);
    }
    let said = |topic: &str, kind: &str, about: &str| (topic.into(), kind.into(), about.into());
    let expected = BTreeSet::from([
        said("$sys.sessions", "session.connected", "ada"),
        said("$sys.topics", "topic.occupied", "room.a"),
        said("$presence.room.a", "presence.joined", "ada"),
    ]);
    assert_eq!(notices, expected);
    assert_eq!(notice(&mut eve).await, said("$presence.room.a", "presence.joined", "ada"));
    assert_eq!(ada.ask(1, json!({"op": "unsubscribe", "topics": ["room.a"]})).await["op"], "ack");
    assert_eq!(notice(&mut eve).await, said("$presence.room.a", "presence.left", "ada"));
    // One more unsubscribe changes nothing; a topic without presence says nothing.
    ada.ask(2, json!({"op": "unsubscribe", "topics": ["room.a"]})).await;
    ada.ask(3, subscribe("elsewhere")).await;
    ada.ask(4, subscribe("room.a")).await;
    assert_eq!(notice(&mut eve).await, said("$presence.room.a", "presence.joined", "ada"));
    drop(ada);
    assert_eq!(notice(&mut eve).await, said("$presence.room.a", "presence.left", "ada"));
    let forged = server.post("/v1/topics/$presence.room.a/events").bearer_auth(API_KEY).json(&1);
    assert_eq!(problem(forged).await, (403, "forbidden".to_owned()));
}

#[tokio::test]
async fn a_webhook_gets_each_notice_signed_and_in_order_though_it_refuses_at_first() {
    let application = Application::start().await;
    application.refuse(2);
    let hook = application.hook(&[NoticeKind::PresenceJoined, NoticeKind::PresenceLeft]);
    let server = TestServer::with(|config| {
        noticing(config);
        config.webhooks = vec![hook];
        config.rules.notices.storage = Storage::Memory;
    });
    // It begins with what happens once it runs.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let names = ["a", "b", "c", "d"];
    for name in names {
        join(&server, name, "?topic=room.x&topic=elsewhere").await;
    }
    eventually("all were told of", || async {
        application.users(NoticeKind::PresenceLeft).len() == names.len()
    })
    .await;
    assert_eq!(application.users(NoticeKind::PresenceJoined), names);
    let kinds = application.taken();
    assert!(kinds.iter().all(|event| event["topic"] == "$presence.room.x"), "{kinds:?}");
}

/// A broker whose notices are on the disk and go to this webhook.
fn posting(directory: &Path, hook: &Webhook, set: impl FnOnce(&mut Config)) -> TestServer {
    TestServer::durable(directory, |config| {
        noticing(config);
        config.webhooks = vec![hook.clone()];
        config.rules.notices.storage = Storage::Disk;
        set(config);
    })
}

#[tokio::test]
async fn what_was_not_taken_is_posted_after_a_restart() {
    let directory = tempfile::tempdir().expect("a directory");
    let application = Application::start().await;
    let hook = application.hook(&[NoticeKind::SessionConnected]);
    let start = || posting(directory.path(), &hook, |_| ());
    let server = start();
    tokio::time::sleep(Duration::from_secs(1)).await;
    drop(join(&server, "before", "?topic=x").await);
    let seen = || async { application.users(NoticeKind::SessionConnected) };
    eventually("the first is taken", || async { seen().await == ["before"] }).await;
    application.refuse(usize::MAX);
    for name in ["during", "the", "outage"] {
        drop(join(&server, name, "?topic=x").await);
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    server.stop();
    application.refuse(0);
    let _server = start();
    eventually("nothing is missing", || async {
        seen().await == ["before", "during", "the", "outage"]
    })
    .await;
}

#[tokio::test]
async fn the_place_of_a_webhook_outlives_any_amount_of_other_events() {
    let directory = tempfile::tempdir().expect("a directory");
    let application = Application::start().await;
    let hook = application.hook(&[NoticeKind::SessionConnected]);
    let start = || posting(directory.path(), &hook, |config| config.history.disk_bytes = 100_000);
    let server = start();
    let steps = async || {
        let place = server.get("/v1/topics/$sys.webhooks.application").bearer_auth(API_KEY);
        let place: Value = place.send().await.expect("an answer").json().await.expect("JSON");
        place["retained"].as_u64().expect("a number")
    };
    eventually("it has a place", || async { steps().await > 0 }).await;
    drop(join(&server, "before", "?topic=x").await);
    eventually("the notice is taken and that is noted", || async { steps().await > 1 }).await;
    application.refuse(usize::MAX);
    for n in 0..20 {
        let data = vec!["x".repeat(1_000); 20];
        let publish = server.post(&format!("/v1/topics/t.{n}/events")).bearer_auth(API_KEY);
        publish
            .json(&data)
            .send()
            .await
            .expect("an answer")
            .error_for_status()
            .expect("it is kept");
    }
    drop(join(&server, "after", "?topic=x").await);
    eventually("the notice is kept", || async {
        let notices = server.get("/v1/topics/$sys.sessions/events").bearer_auth(API_KEY);
        notices.send().await.expect("an answer").text().await.expect("text").contains("after")
    })
    .await;
    server.stop();
    application.refuse(0);
    let _server = start();
    eventually("what is kept is posted", || async {
        application.users(NoticeKind::SessionConnected) == ["before", "after"]
    })
    .await;
}

#[tokio::test]
async fn a_webhook_whose_place_is_gone_begins_with_the_oldest_notice_that_is_kept() {
    let directory = tempfile::tempdir().expect("a directory");
    let application = Application::start().await;
    let hook = application.hook(&[NoticeKind::SessionConnected]);
    let configure = |config: &mut Config| {
        noticing(config);
        config.webhooks = vec![hook.clone()];
        config.rules.notices.storage = Storage::Disk;
    };
    let mut used = Config::default();
    let server = TestServer::durable(directory.path(), |config| {
        configure(config);
        used = config.clone();
    });
    let seen = || async { application.users(NoticeKind::SessionConnected) };
    let place = async || {
        let place = server.get("/v1/topics/$sys.webhooks.application").bearer_auth(API_KEY);
        let place: Value = place.send().await.expect("an answer").json().await.expect("JSON");
        place["retained"].as_u64().expect("a number")
    };
    eventually("it has a place", || async { place().await > 0 }).await;
    drop(join(&server, "taken", "?topic=x").await);
    eventually("the first is taken", || async { seen().await == ["taken"] }).await;
    application.refuse(usize::MAX);
    drop(join(&server, "kept", "?topic=x").await);
    eventually("the second is kept", || async {
        let notices = server.get("/v1/topics/$sys.sessions/events").bearer_auth(API_KEY);
        notices.send().await.expect("an answer").text().await.expect("text").contains("kept")
    })
    .await;
    server.stop();
    forget(&used, "$sys.webhooks.application").await;
    application.refuse(0);
    let _server = TestServer::durable(directory.path(), configure);
    eventually("what is kept is posted", || async { seen().await == ["taken", "kept"] }).await;
}

/// Has a history forget a topic, as releases did that evicted what they had to know.
async fn forget(config: &Config, topic: &str) {
    let opened = Opened::open(&config.history, config.rules.clone(), Clock::default());
    let opened = opened.expect("the history opens");
    let history = opened.start(Arc::new(Nobody)).expect("the history starts");
    let topic = Topic::parse(topic).expect("a topic");
    assert!(history.forget(topic).await.expect("it is forgotten") > 0);
    history.stop();
}

/// A node that shares this Redis.
fn node(redis: &Redis, hooks: &[Webhook]) -> TestServer {
    TestServer::with(|config| {
        noticing(config);
        config.redis = Some(RedisConfig::at(&redis.url()));
        config.webhooks = hooks.to_vec();
        for rule in [&mut config.rules.default, &mut config.rules.notices] {
            rule.storage = Storage::Redis;
        }
        config.rules.listed.iter_mut().for_each(|rule| rule.storage = Storage::Redis);
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_knows_a_webhook_posts_though_others_that_do_not_come_first_by_name() {
    let redis = Redis::start();
    let application = Application::start().await;
    let hook = application.hook(&[NoticeKind::SessionConnected]);
    // One of these comes first by name but once in seven times.
    let others: Vec<_> = (0..6).map(|_| node(&redis, &[])).collect();
    let knowing = node(&redis, &[hook]);
    let place = async || {
        let place = knowing.get("/v1/topics/$sys.webhooks.application").bearer_auth(API_KEY);
        let place: Value = place.send().await.expect("an answer").json().await.expect("JSON");
        place["retained"].as_u64().expect("a number")
    };
    eventually("it has a place", || async { place().await > 0 }).await;
    drop(join(&others[0], "ada", "?topic=x").await);
    let seen = || async { application.users(NoticeKind::SessionConnected) };
    eventually("it is posted", || async { seen().await == ["ada"] }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_node_posts_for_all_and_another_takes_over() {
    let redis = Redis::start();
    let application = Application::start().await;
    let hook = application.hook(&[NoticeKind::SessionConnected]);
    let node = || node(&redis, std::slice::from_ref(&hook));
    let mut nodes = vec![node(), node(), node()];
    tokio::time::sleep(Duration::from_secs(2)).await;
    let mut expected = Vec::new();
    while let Some(last) = nodes.last() {
        for name in ["x", "y"] {
            let name = format!("{name}{}", nodes.len());
            drop(join(last, &name, "?topic=x").await);
            expected.push(name);
        }
        eventually("all were told of", || async {
            let users: BTreeSet<_> =
                application.users(NoticeKind::SessionConnected).into_iter().collect();
            users == expected.iter().cloned().collect()
        })
        .await;
        nodes.remove(0).stop();
    }
    let twice = application.taken().len() - expected.len();
    assert!(twice <= 4, "{twice} were posted more than once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_notice_that_redis_took_without_an_answer_is_kept_once() {
    let redis = Redis::start();
    let node = TestServer::with(|config| {
        noticing(config);
        config.redis = Some(RedisConfig::at(&redis.url()));
        for rule in [&mut config.rules.default, &mut config.rules.notices] {
            rule.storage = Storage::Redis;
        }
        config.rules.listed.iter_mut().for_each(|rule| rule.storage = Storage::Redis);
    });
    let come = async |user: &str| {
        let token = token(user, &[">"], &[], 600);
        WsClient::connect(&node, &format!("?access_token={token}")).await
    };
    let came = async |user: &str| {
        let kept = node.get("/v1/topics/$sys.sessions/events").bearer_auth(API_KEY).send().await;
        let page: Value = kept.expect("an answer").json().await.expect("JSON");
        let about =
            |event: &&Value| event["type"] == "session.connected" && event["data"]["user"] == user;
        page["events"].as_array().map_or(0, |events| events.iter().filter(about).count())
    };
    let _first = come("first").await;
    eventually("the first is kept", async || came("first").await == 1).await;
    redis.signal("-STOP");
    let _second = come("second").await;
    eventually("nobody knows what became of it", async || {
        node.get("/health/ready").send().await.expect("an answer").status() == 503
    })
    .await;
    redis.signal("-CONT");
    eventually("the second is kept", async || came("second").await > 0).await;
    let _third = come("third").await;
    eventually("the third is kept", async || came("third").await > 0).await;
    assert_eq!(came("second").await, 1);
}
