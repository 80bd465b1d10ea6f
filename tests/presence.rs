//! Presence: who is in a topic, and then who comes and goes, without a seam.

mod support;

use fanfare::config::{Config, Rule};
use fanfare::model::Pattern;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use support::company::Company;
use support::sse::SseClient;
use support::ws::WsClient;
use support::{API_KEY, JWT_SECRET, PATIENCE, TestServer, problem, token};

const ROOM: &str = "$presence.room.a";

/// Credentials, and rooms with presence.
fn with_rooms(config: &mut Config) {
    support::close(config);
    let pattern = Pattern::parse("room.>").expect("a pattern");
    let default = config.rules.default.clone();
    config.rules.listed = vec![Rule { pattern, presence: true, ..default }];
}

/// A token of `user` that shows `info` to others.
fn token_with(user: &str, info: &Value) -> String {
    let claims = json!({
        "sub": user,
        "exp": 4_000_000_000_u64,
        "fanfare": { "subscribe": ["room.>", "other.>"], "info": info },
    });
    let key = jsonwebtoken::EncodingKey::from_secret(JWT_SECRET);
    jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key).expect("a token")
}

async fn enter(server: &TestServer, token: &str, topics: &str) -> WsClient {
    WsClient::live(server, &format!("?{topics}&access_token={token}")).await
}

/// Somebody who looks who is in the room.
async fn host(server: &TestServer) -> (WsClient, Company) {
    let query = format!("?topic=%24presence.room.a&snapshot=true&access_token={API_KEY}");
    let (mut client, mut company) = (WsClient::connect(server, &query).await, Company::default());
    loop {
        let said = client.next().await;
        company.hear(ROOM, &said);
        if said["op"] == "live" {
            return (client, company);
        }
    }
}

async fn members(server: &TestServer, topic: &str) -> Vec<Value> {
    let path = format!("/v1/topics/{topic}/presence");
    let answer = server.get(&path).bearer_auth(API_KEY).send().await.expect("an answer");
    let page = support::expect_status(answer, reqwest::StatusCode::OK).await;
    page["members"].as_array().expect("members").clone()
}

#[tokio::test]
async fn who_is_there_is_told_first_and_then_who_comes_and_goes_each_person_counted() {
    let server = TestServer::with(with_rooms);
    let info = json!({"name": "Ada", "colour": [1, 2, 3]});
    let ada = enter(&server, &token_with("ada", &info), "topic=room.a").await;
    let (mut client, mut company) = host(&server).await;
    assert_eq!(company.users(), ["ada"]);
    let shown = &company.members[&ada.session];
    assert_eq!((&shown["info"], &shown["user_sessions"]), (&info, &json!(1)));
    assert_eq!((&shown["topic"], &shown["transport"]), (&json!("room.a"), &json!("websocket")));
    // The list that is asked for shows the same.
    assert_eq!(members(&server, "room.a").await, std::slice::from_ref(shown));
    let again = enter(&server, &token_with("ada", &info), "topic=room.a").await;
    let (joined, left) = ("presence.joined".to_owned(), "presence.left".to_owned());
    let last = |kind: &String, count| Some((kind.clone(), count));
    company.listen(ROOM, &mut client, PATIENCE, |it| it.last == last(&joined, Some(2))).await;
    assert!(members(&server, "room.a").await.iter().all(|it| it["user_sessions"] == 2));
    drop(ada);
    company.listen(ROOM, &mut client, PATIENCE, |it| it.last == last(&left, Some(1))).await;
    drop(again);
    company.listen(ROOM, &mut client, PATIENCE, |it| it.last == last(&left, Some(0))).await;
    assert_eq!(company.members.len(), 0);
}

#[tokio::test]
async fn an_event_stream_is_told_the_members_too_and_none_of_them_is_a_place() {
    let server = TestServer::with(with_rooms);
    let ada = enter(&server, &token("ada", &["room.>"], &[], 600), "topic=room.a").await;
    let query = format!("?topic=%24presence.room.a&snapshot=true&access_token={API_KEY}");
    let mut stream = SseClient::connect(&server, &query, &[]).await;
    let first = stream.next().await.expect("a member");
    assert_eq!((first.event.as_str(), first.id.as_str()), ("message", ""));
    let member = first.json();
    assert_eq!((&member["type"], &member["snapshot"]), (&json!("presence.joined"), &json!(true)));
    assert_eq!(member["data"]["session"], ada.session);
    assert_eq!(stream.next().await.expect("an event").event, "fanfare.live");
    drop(ada);
    let left = stream.next().await.expect("an event").json();
    assert_eq!((&left["type"], left.get("snapshot")), (&json!("presence.left"), None));
    assert_eq!(left["data"]["user_sessions"], 0);
}

/// A broker, and so many clients of seven users in `room.a`.
async fn crowded(count: usize) -> (TestServer, Vec<WsClient>) {
    let server = TestServer::with(|config| {
        with_rooms(config);
        config.limits.connects_per_second = 0;
    });
    let mut crowd = Vec::new();
    for at in 0..count {
        let token = token(&format!("user-{}", at % 7), &["room.>"], &[], 600);
        crowd.push(enter(&server, &token, "topic=room.a").await);
    }
    (server, crowd)
}

/// Has every third of a crowd leave the room, and come back the next time.
async fn some_come_or_go(crowd: &mut [WsClient], round: usize) {
    for client in crowd.iter_mut().skip(round % 3).step_by(3) {
        let op = if round.is_multiple_of(2) { "unsubscribe" } else { "subscribe" };
        client.send(json!({ "op": op, "topics": ["room.a"] })).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_comes_or_goes_while_the_members_are_read_is_neither_missed_nor_told_twice() {
    let (server, mut crowd) = crowded(40).await;
    let mut hosts = Vec::new();
    for round in 0..12 {
        // Each may be on either side of the boundary.
        let (_, host) = tokio::join!(some_come_or_go(&mut crowd, round), host(&server));
        hosts.push(host);
    }
    for client in &mut crowd {
        assert_eq!(client.ask(99, json!({ "op": "ping" })).await["op"], "pong");
    }
    let last = enter(&server, &token("last", &["room.>"], &[], 600), "topic=room.a").await;
    for (client, company) in &mut hosts {
        let is_last = |it: &Company| it.members.contains_key(&last.session);
        company.listen(ROOM, client, PATIENCE, is_last).await;
    }
    let asked = members(&server, "room.a").await;
    let asked: Vec<_> = asked.iter().map(|it| it["session"].as_str().expect("an id")).collect();
    let agrees = |it: &Company| it.members.keys().map(String::as_str).eq(asked.iter().copied());
    for (client, company) in &mut hosts {
        company.listen(ROOM, client, PATIENCE, agrees).await;
    }
    assert!(hosts.iter().all(|(_, company)| company.gaps == 0));
}

#[tokio::test]
async fn who_covers_a_topic_by_a_wildcard_is_in_the_list_alone() {
    let server = TestServer::with(with_rooms);
    let ada = token("ada", &["room.>"], &[], 600);
    let _wild = enter(&server, &ada, "topic=room.*").await;
    let named = enter(&server, &ada, "topic=room.a").await;
    let (_, company) = host(&server).await;
    assert_eq!(company.members.keys().collect::<Vec<_>>(), [&named.session]);
    assert_eq!(members(&server, "room.a").await.len(), 2);
}

#[tokio::test]
async fn members_of_all_rooms_are_told_to_who_asks_by_a_wildcard_and_of_none_without_presence() {
    let server = TestServer::with(with_rooms);
    let token = token("ada", &[">"], &[], 600);
    let _ada = enter(&server, &token, "topic=room.a&topic=room.b&topic=other.c").await;
    let query = format!("?topic=%24presence.%3E&snapshot=true&access_token={API_KEY}");
    let mut client = WsClient::connect(&server, &query).await;
    let mut rooms = Vec::new();
    loop {
        let said = client.next().await;
        match said["op"].as_str() {
            Some("event") => rooms.push(said["topic"].as_str().expect("a topic").to_owned()),
            Some("live") => break,
            _ => {}
        }
    }
    assert_eq!(rooms, ["$presence.room.a", "$presence.room.b"]);
}

#[tokio::test]
async fn presence_shows_nobody_what_is_not_theirs() {
    let server = TestServer::with(with_rooms);
    let _ada = enter(&server, &token_with("ada", &json!("secret")), "topic=room.a").await;
    // To be in a room gives no right to look who else is.
    let granted = token("eve", &["room.>", "$presence.room.b"], &[], 600);
    let mut eve = enter(&server, &granted, "topic=room.a").await;
    let ask = |topic: &str| json!({"op": "subscribe", "topics": [topic], "snapshot": true});
    assert_eq!(eve.ask(1, ask(ROOM)).await["code"], "forbidden");
    // A wildcard shows what is granted of it.
    assert_eq!(eve.ask(2, ask("$presence.room.*")).await["op"], "ack");
    loop {
        let said = eve.next().await;
        assert_ne!(said["op"], "event", "{said}");
        if said["op"] == "live" {
            break;
        }
    }
    let path = "/v1/topics/room.a/presence";
    assert_eq!(problem(server.get(path)).await, (401, "unauthorized".to_owned()));
    let elsewhere = token("eve", &["room.b"], &[], 600);
    assert_eq!(problem(server.get(path).bearer_auth(elsewhere)).await.0, 403);
}

#[tokio::test]
async fn info_comes_from_a_token_or_a_ticket_and_what_is_too_long_is_refused_by_name() {
    let server = TestServer::with(with_rooms);
    let ticket = |body: Value| server.post("/v1/tickets").bearer_auth(API_KEY).json(&body);
    let body = json!({"user": "bob", "subscribe": ["room.a"], "info": {"name": "Bob"}});
    let answer = ticket(body).send().await.expect("an answer");
    let answer = support::expect_status(answer, reqwest::StatusCode::CREATED).await;
    let ticket_of_bob = answer["ticket"].as_str().expect("a ticket");
    let bob = WsClient::live(&server, &format!("?topic=room.a&ticket={ticket_of_bob}")).await;
    let (_, company) = host(&server).await;
    assert_eq!(company.members[&bob.session]["info"], json!({"name": "Bob"}));
    let long = "x".repeat(1_100);
    let refused = ticket(json!({"user": "bob", "info": long})).send().await.expect("an answer");
    let refused: Value = refused.json().await.expect("a problem");
    let detail = "`info` has 1102 bytes of JSON, and the limit is 1024";
    assert_eq!((&refused["status"], &refused["detail"]), (&json!(400), &json!(detail)));
    let refused = server.get("/v1/topics/room.a").bearer_auth(token_with("ada", &json!(long)));
    let refused: Value = refused.send().await.expect("an answer").json().await.expect("a problem");
    assert_eq!(refused["status"], 401);
    let detail = refused["detail"].as_str().expect("a detail");
    assert!(detail.contains("`fanfare.info` has 1102 bytes of JSON"), "{detail}");
}

#[tokio::test]
async fn who_becomes_somebody_is_told_again_as_that() {
    let server = TestServer::with(|config| {
        with_rooms(config);
        config.rules.listed[0].subscribe = fanfare::config::Who::Anyone;
    });
    let mut guest = WsClient::live(&server, "?topic=room.a").await;
    let (mut client, mut company) = host(&server).await;
    let shown = company.members.remove(&guest.session).expect("the guest");
    assert_eq!((shown.get("user"), shown.get("user_sessions")), (None, None));
    let auth = json!({ "op": "auth", "token": token("ada", &["room.>"], &[], 600) });
    assert_eq!(guest.ask(1, auth).await["op"], "ack");
    company.listen(ROOM, &mut client, PATIENCE, |it| it.users() == ["ada"]).await;
    assert_eq!(company.members[&guest.session]["user_sessions"], 1);
    drop(guest);
    company.listen(ROOM, &mut client, PATIENCE, |it| it.members.is_empty()).await;
    assert_eq!(company.last, Some(("presence.left".to_owned(), Some(0))));
}

#[tokio::test]
async fn a_slow_screen_is_told_of_everyone_who_comes_and_goes() {
    let server = TestServer::with(with_rooms);
    let query = "?topic=%24presence.room.a&topic=room.>&snapshot=true&max_rate=0.1";
    let query = format!("{}&access_token={API_KEY}", query.replace('>', "%3E"));
    let mut client = WsClient::live(&server, &query).await;
    let mut company = Company::default();
    let mut crowd = Vec::new();
    for at in 0..5 {
        let token = token(&format!("user-{at}"), &["room.>"], &[], 600);
        crowd.push(enter(&server, &token, "topic=room.a").await);
    }
    company.listen(ROOM, &mut client, PATIENCE, |it| it.members.len() == 5).await;
    crowd.truncate(1);
    company.listen(ROOM, &mut client, PATIENCE, |it| it.members.len() == 1).await;
}

#[tokio::test]
async fn who_left_while_a_client_was_away_is_not_there_when_it_comes_back_with_its_cursor() {
    let server = TestServer::with(with_rooms);
    let ada = enter(&server, &token("ada", &["room.>"], &[], 600), "topic=room.a").await;
    let bob = enter(&server, &token("bob", &["room.>"], &[], 600), "topic=room.a").await;
    let key = format!("access_token={API_KEY}");
    let mut before = WsClient::connect(&server, &format!("?topic=news&{key}")).await;
    let cursor = before.until("live").await["cursor"].as_str().expect("a cursor").to_owned();
    let news = server.post("/v1/topics/news/events").bearer_auth(API_KEY).json(&1);
    support::expect_status(news.send().await.expect("an answer"), reqwest::StatusCode::CREATED)
        .await;
    let (mut client, mut company) = host(&server).await;
    assert_eq!(company.users(), ["ada", "bob"]);
    drop(ada);
    company.listen(ROOM, &mut client, PATIENCE, |it| it.users() == ["bob"]).await;
    let query = format!("?topic=%24presence.room.a&topic=news&snapshot=true&since={cursor}&{key}");
    let mut client = WsClient::connect(&server, &query).await;
    let mut said = Vec::new();
    while said.last().is_none_or(|said: &Value| said["op"] != "live") {
        said.push(client.next().await);
    }
    let ops: Vec<_> = said.iter().map(|it| it["op"].as_str().expect("an op")).collect();
    assert_eq!(ops, ["ack", "event", "gap", "event", "live"], "{said:?}");
    assert_eq!((&said[1]["topic"], &said[2]["topics"]), (&json!("news"), &json!([ROOM])));
    assert_eq!(said[3]["data"]["session"], bob.session);
}

/// Who is in a topic as several overlapping subscribes tell it: what comes behind current members is news.
async fn hear_of_all(client: &mut WsClient, is_all: impl Fn(&BTreeSet<String>) -> bool) {
    let (mut there, mut live, mut is_whole) = (BTreeSet::new(), 0, true);
    while live < 3 || !is_all(&there) {
        let said = client.next().await;
        live += usize::from(said["op"] == "live");
        if said["op"] == "gap" {
            // Until the members are told again, who leaves need not be known.
            (there, is_whole) = (BTreeSet::new(), false);
        }
        if said["op"] != "event" {
            continue;
        }
        let session = said["data"]["session"].as_str().expect("a session").to_owned();
        let is_news = match said["type"].as_str().expect("a type") {
            "presence.joined" => there.insert(session),
            _ => there.remove(&session),
        };
        assert!(is_news || said["snapshot"] == true || !is_whole, "{said} was known");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_asks_in_several_ways_at_once_is_told_of_each_change_once_and_behind_the_members() {
    let (server, mut crowd) = crowded(20).await;
    let mut hosts = Vec::new();
    for round in 0..30 {
        let host = async {
            let mut client = WsClient::connect(&server, &format!("?access_token={API_KEY}")).await;
            // Of the later ones one asks for no members, and is told of changes all the same.
            for (at, topic) in [ROOM, "$presence.room.*", "$presence.>"].into_iter().enumerate() {
                let subscribe = json!({"op": "subscribe", "ref": at + 1, "topics": [topic]});
                let snapshot = json!(at != 1 + round % 3);
                client.send(with(subscribe, "snapshot", snapshot)).await;
            }
            client
        };
        let ((), host) = tokio::join!(some_come_or_go(&mut crowd, round), host);
        hosts.push(host);
    }
    for client in &mut crowd {
        assert_eq!(client.ask(99, json!({ "op": "ping" })).await["op"], "pong");
    }
    let last = enter(&server, &token("last", &["room.>"], &[], 600), "topic=room.a").await;
    let asked = members(&server, "room.a").await;
    let asked = asked.iter().map(|it| it["session"].as_str().expect("an id").to_owned());
    let asked: BTreeSet<_> = asked.collect();
    assert!(asked.contains(&last.session));
    for client in &mut hosts {
        hear_of_all(client, |there| *there == asked).await;
    }
}

fn with(mut said: Value, name: &str, value: Value) -> Value {
    said[name] = value;
    said
}
