//! Sessions of several nodes: presence, counts, listing and ending, from any node.

mod support;

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::company::Company;
use support::process::Process;
use support::redis::Redis;
use support::room::{self, ask, client};
use support::ws::WsClient;
use support::{API_KEY, PATIENCE, TestServer, eventually, token};
use tokio::time::{sleep, timeout};
use tokio_tungstenite::connect_async;

/// A node whose log is in the first database.
fn node(redis: &Redis) -> TestServer {
    room::node(redis, 0)
}

async fn end(node: &TestServer, path: &str) -> (u16, Value) {
    let answer = node.delete(path).bearer_auth(API_KEY).send().await.expect("an answer");
    (answer.status().as_u16(), answer.json().await.unwrap_or_default())
}

fn members(presence: &Value) -> usize {
    presence["members"].as_array().expect("members").len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn presence_counts_and_lists_hold_the_sessions_of_all_nodes() {
    let redis = Redis::start();
    let nodes = [node(&redis), node(&redis), node(&redis)];
    let _clients = [
        client(&nodes[0], "ada", "?topic=room.a").await,
        client(&nodes[1], "bob", "?topic=room.*").await,
        client(&nodes[2], "ada", "?topic=room.a&topic=room.b").await,
        client(&nodes[2], "eve", "?topic=other").await,
    ];
    for node in &nodes {
        assert_eq!(ask(node, "/v1/topics/room.a").await["subscribers"], 3);
        let presence = ask(node, "/v1/topics/room.a/presence").await;
        let mut users: Vec<_> = presence["members"]
            .as_array()
            .expect("members")
            .iter()
            .map(|member| member["user"].as_str().expect("a user"))
            .collect();
        users.sort_unstable();
        assert_eq!(users, ["ada", "ada", "bob"]);
        let first = ask(node, "/v1/topics/room.a/presence?limit=2").await;
        let next = first["next"].as_str().expect("a next page");
        let rest = ask(node, &format!("/v1/topics/room.a/presence?limit=2&after={next}")).await;
        assert_eq!((members(&first), members(&rest), rest.get("next")), (2, 1, None));
        let sessions = ask(node, "/v1/sessions?user=ada").await;
        assert_eq!(sessions["sessions"].as_array().map(Vec::len), Some(2));
        let topics = ask(node, "/v1/topics?match=room.%3E").await;
        let expected = json!([
            {"topic": "room.a", "subscribers": 3, "retained": 0},
            {"topic": "room.b", "subscribers": 2, "retained": 0},
        ]);
        assert_eq!((&topics["topics"], topics.get("silent_nodes")), (&expected, None));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_are_ended_from_any_node() {
    let redis = Redis::start();
    let nodes = [node(&redis), node(&redis)];
    let mut one = client(&nodes[0], "ada", "?topic=room.a").await;
    let mut others = [
        client(&nodes[0], "bob", "?topic=room.a").await,
        client(&nodes[1], "bob", "?topic=room.a").await,
    ];
    let mut stays = client(&nodes[1], "eve", "?topic=room.a").await;
    let sessions = ask(&nodes[1], "/v1/sessions?user=ada").await;
    let id = sessions["sessions"][0]["session"].as_str().expect("an id");
    assert_eq!(end(&nodes[1], &format!("/v1/sessions/{id}")).await.0, 204);
    assert_eq!(one.closed().await.1, Some(1008));
    assert_eq!(end(&nodes[1], "/v1/sessions/nobody").await.0, 404);
    assert_eq!(end(&nodes[0], "/v1/users/bob/sessions").await, (200, json!({ "ended": 2 })));
    for other in &mut others {
        assert_eq!(other.closed().await.1, Some(1008));
    }
    assert!(stays.is_quiet(200).await);
}

/// A node that is a process of its own, with two clients in `room.a`.
async fn process_with_clients(redis: &Redis) -> (Process, Vec<impl Sized>) {
    let directory = tempfile::tempdir().expect("a directory");
    let url = format!("redis.url={}", redis.url());
    let keys = format!("auth.api_keys={API_KEY}");
    let rules = r#"topics=[{match = "room.>", presence = true, subscribe = "anyone"}]"#;
    let set = ["--set", &url, "--set", &keys, "--set", rules];
    let process = Process::durable(directory.path(), 0, &set);
    let mut clients = Vec::new();
    for _ in 0..2 {
        let url = format!("ws://{}/v1/ws?topic=room.a", process.address);
        clients.push(connect_async(url).await.expect("a connection"));
    }
    (process, clients)
}

/// A node of the test's own that asks others in their words, and may ask again as one does that heard no
/// answer.
struct Asker {
    asks: redis::Connection,
    hears: redis::Connection,
}

impl Asker {
    const NAME: &str = "zzzzzzzz";

    fn at(redis: &Redis) -> Self {
        let (asks, mut hears) = (redis.connect(), redis.connect());
        let own = format!("{{fanfare}}:node:{}", Self::NAME);
        let subscribe = redis::cmd("SSUBSCRIBE").arg(own).get_packed_command();
        hears.send_packed_command(&subscribe).expect("it is sent");
        hears.recv_response().expect("it is subscribed");
        Self { asks, hears }
    }

    /// The answer of the one node that there is.
    fn ask(&mut self, number: u64, what: &Value) -> Value {
        let question = format!("?{}{}", Self::NAME, json!({ "number": number, "what": what }));
        let mut say = redis::cmd("SPUBLISH");
        let heard = say.arg("{fanfare}:nodes").arg(question).query::<i64>(&mut self.asks);
        assert_eq!(heard.expect("it is said"), 1);
        let letter = self.hears.recv_response().expect("an answer");
        let (_, _, said): (String, String, String) =
            redis::from_redis_value(letter).expect("a message");
        // Who says it comes first.
        let answer: Value = serde_json::from_str(&said[9..]).expect("JSON");
        assert_eq!(answer["number"], number);
        answer["what"].clone()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_question_that_is_asked_again_because_its_answer_was_lost_is_answered_as_before() {
    let redis = Redis::start();
    let node = node(&redis);
    let mut clients = Vec::new();
    for _ in 0..2 {
        clients.push(client(&node, "ada", "?topic=room.a").await);
    }
    let request = node.post("/v1/tickets").bearer_auth(token("eve", &["room.a"], &[], 60));
    let answer = request.send().await.expect("an answer");
    let ticket = support::expect_status(answer, reqwest::StatusCode::CREATED).await;
    let mut asker = Asker::at(&redis);
    let redeem = json!({ "Redeem": ticket["ticket"] });
    let first = asker.ask(1, &redeem);
    assert!(first["Redeemed"].as_str().expect("what was left").contains("eve"), "{first}");
    assert_eq!(asker.ask(1, &redeem), first, "the ticket is not burnt by a lost answer");
    assert_eq!(asker.ask(2, &redeem), json!({ "Redeemed": null }), "and good for one use");
    let end = json!({ "EndUser": "ada" });
    assert_eq!(asker.ask(3, &end), json!({ "Ended": 2 }));
    for mut client in clients {
        assert_eq!(client.closed().await.1, Some(1008));
    }
    assert_eq!(asker.ask(3, &end), json!({ "Ended": 2 }));
    let gone = async || ask(&node, "/v1/sessions?user=ada").await["sessions"] == json!([]);
    eventually("they are gone", gone).await;
    assert_eq!(asker.ask(4, &end), json!({ "Ended": 0 }));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_node_vanishes_within_one_lease_and_is_told_of_until_then() {
    let redis = Redis::start();
    let watching = node(&redis);
    let (process, _clients) = process_with_clients(&redis).await;
    let presence = "/v1/topics/room.a/presence";
    let all = async || members(&ask(&watching, presence).await) == 2;
    eventually("both members are seen", all).await;
    process.signal("-KILL");
    let killed = Instant::now();
    let after = ask(&watching, presence).await;
    assert_eq!((members(&after), &after["silent_nodes"]), (0, &json!(1)));
    let gone = async || ask(&watching, presence).await.get("silent_nodes").is_none();
    timeout(Duration::from_secs(7), eventually("it is gone", gone)).await.expect("in one lease");
    assert!(killed.elapsed() > Duration::from_secs(3), "after {:?}", killed.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_stops_in_order_is_gone_at_once() {
    let redis = Redis::start();
    let watching = node(&redis);
    let (mut process, _clients) = process_with_clients(&redis).await;
    let all = async || ask(&watching, "/v1/topics/room.a").await["subscribers"] == 2;
    eventually("both are counted", all).await;
    process.signal("-TERM");
    process.wait();
    let topic = ask(&watching, "/v1/topics/room.a").await;
    assert_eq!((&topic["subscribers"], topic.get("silent_nodes")), (&json!(0), None));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_lease_ends_because_redis_was_away() {
    let redis = Redis::start();
    let nodes = [node(&redis), node(&redis)];
    let _clients = [
        client(&nodes[0], "ada", "?topic=room.a").await,
        client(&nodes[1], "bob", "?topic=room.a").await,
    ];
    eventually("both are there", async || {
        members(&ask(&nodes[0], "/v1/topics/room.a/presence").await) == 2
    })
    .await;
    redis.signal("-STOP");
    sleep(Duration::from_secs(7)).await;
    redis.signal("-CONT");
    let returned = Instant::now();
    while returned.elapsed() < Duration::from_secs(4) {
        for node in &nodes {
            let path = "/v1/topics/room.a/presence";
            let answer = node.get(path).bearer_auth(API_KEY).send().await.expect("an answer");
            if answer.status() == 503 {
                continue;
            }
            let presence: Value = answer.json().await.expect("JSON");
            assert_eq!((members(&presence), presence.get("silent_nodes")), (2, None));
        }
        sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(members(&ask(&nodes[1], "/v1/topics/room.a/presence").await), 2);
}

const ROOM: &str = "$presence.room.a";

/// Somebody who looks at a node who is in the room, over all nodes.
async fn host(node: &TestServer) -> (WsClient, Company) {
    let query = format!("?topic=%24presence.room.a&snapshot=true&access_token={API_KEY}");
    let (mut client, mut company) = (WsClient::connect(node, &query).await, Company::default());
    loop {
        let said = client.next().await;
        company.hear(ROOM, &said);
        if said["op"] == "live" {
            return (client, company);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_are_told_over_all_nodes_and_the_last_leave_of_a_person_at_once() {
    let redis = Redis::start();
    let nodes = [node(&redis), node(&redis), node(&redis)];
    let here = client(&nodes[0], "ada", "?topic=room.a").await;
    let elsewhere = client(&nodes[1], "ada", "?topic=room.a").await;
    let _wild = client(&nodes[1], "eve", "?topic=room.*").await;
    // They know of each other once each has heard the others.
    for node in &nodes {
        let all = async || members(&ask(node, "/v1/topics/room.a/presence").await) == 3;
        eventually("all are there", all).await;
    }
    let mut hosts = [host(&nodes[0]).await, host(&nodes[2]).await];
    for (_, company) in &hosts {
        assert_eq!(company.users(), ["ada", "ada"]);
        assert!(company.members.values().all(|member| member["user_sessions"] == 2));
    }
    let bob = client(&nodes[2], "bob", "?topic=room.a").await;
    for (client, company) in &mut hosts {
        company.listen(ROOM, client, PATIENCE, |it| it.users() == ["ada", "ada", "bob"]).await;
    }
    let shown = ask(&nodes[1], "/v1/topics/room.a/presence").await;
    let shown = shown["members"].as_array().expect("members");
    let of_bob = shown.iter().find(|member| member["session"] == bob.session.as_str());
    let mut shown = hosts[0].1.members[&bob.session].clone();
    shown.as_object_mut().expect("an object").remove("change");
    assert_eq!(of_bob, Some(&shown));
    // Both at once: whichever comes first, the last one says that she is gone.
    drop((here, elsewhere));
    for (client, company) in &mut hosts {
        company.listen(ROOM, client, PATIENCE, |it| it.users() == ["bob"]).await;
        assert_eq!(company.last, Some(("presence.left".to_owned(), Some(0))));
        assert_eq!(company.gaps, 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_was_at_a_killed_node_is_gone_within_its_lease_by_a_gap_and_the_members_again() {
    let redis = Redis::start();
    let watching = node(&redis);
    let _bob = client(&watching, "bob", "?topic=room.a").await;
    let (process, _clients) = process_with_clients(&redis).await;
    let all = async || members(&ask(&watching, "/v1/topics/room.a/presence").await) == 3;
    eventually("all are seen", all).await;
    let (mut client, mut company) = host(&watching).await;
    company.listen(ROOM, &mut client, PATIENCE, |it| it.members.len() == 3).await;
    let gaps = company.gaps;
    process.signal("-KILL");
    let killed = Instant::now();
    company.listen(ROOM, &mut client, PATIENCE, |it| it.gaps > gaps).await;
    company.listen(ROOM, &mut client, PATIENCE, |it| it.users() == ["bob"]).await;
    // A lease is five seconds, and a busy machine is late.
    assert!(killed.elapsed() < Duration::from_secs(12), "after {:?}", killed.elapsed());
    assert_eq!(company.last, None, "nobody says that they left");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_notice_that_was_lost_on_the_way_is_missed_and_the_members_are_told_again() {
    let redis = Redis::start();
    let nodes = [node(&redis), node(&redis)];
    let stays = client(&nodes[1], "bob", "?topic=room.a").await;
    let mut goes = client(&nodes[1], "ada", "?topic=room.a").await;
    let all = async || members(&ask(&nodes[0], "/v1/topics/room.a/presence").await) == 2;
    eventually("both are seen", all).await;
    let (mut host, mut company) = host(&nodes[0]).await;
    company.listen(ROOM, &mut host, PATIENCE, |it| it.users() == ["ada", "bob"]).await;
    // Nobody hears what is told before the connections are there again.
    let mut connection = redis.connect();
    for _ in 0..20 {
        let op = if company.users().len() == 2 { "unsubscribe" } else { "subscribe" };
        let kill = ["KILL", "TYPE", "pubsub"];
        let _: i64 = redis::cmd("CLIENT").arg(&kill).query(&mut connection).expect("they are cut");
        goes.send(json!({ "op": op, "topics": ["room.a"] })).await;
        let expected = if op == "subscribe" { vec!["ada", "bob"] } else { vec!["bob"] };
        company.listen(ROOM, &mut host, PATIENCE, |it| it.users() == expected).await;
        if company.gaps > 0 {
            break;
        }
    }
    assert!(company.gaps > 0, "twenty times nothing was lost");
    assert!(company.members.contains_key(&stays.session));
}
