//! What is seen on each path by each kind of caller: all that is theirs, and nothing else.

mod support;

use std::collections::BTreeSet;

use fanfare::config::{Config, Sources, Storage};
use reqwest::RequestBuilder;
use serde_json::{Value, json};
use support::sse::SseClient;
use support::ws::WsClient;
use support::{API_KEY, TestServer, token};

/// Every topic there is.
const TOPICS: [&str; 8] =
    ["a.1", "a.2", "a.b.1", "b", "open.1", "shut.1", "users.ada.1", "users.bob.1"];

/// The topic that all see, and whose event comes last.
const LAST: &str = "open.1";

const KEY: &str = "a-key-with-a-scope-of-its-own";

/// Who asks: what they show, what they show later, and what is theirs.
struct Caller {
    name: &'static str,
    credential: Option<String>,
    renewed: Option<String>,
    sees: &'static [&'static str],
}

fn callers() -> [Caller; 7] {
    let token = |grants: &[&str]| Some(token("ada", grants, &[], 600));
    let caller = |name, credential, sees| Caller { name, credential, renewed: None, sees };
    [
        caller("nobody", None, &["open.1"]),
        caller("a topic", token(&["a.1"]), &["a.1", "open.1", "users.ada.1"]),
        caller("a wildcard", token(&["a.*"]), &["a.1", "a.2", "open.1", "users.ada.1"]),
        caller(
            "everything",
            token(&[">"]),
            &["a.1", "a.2", "a.b.1", "b", "open.1", "users.ada.1", "users.bob.1"],
        ),
        caller("a key", Some(KEY.to_owned()), &["a.1", "a.2", "a.b.1", "open.1"]),
        caller("an application", Some(API_KEY.to_owned()), &TOPICS),
        Caller {
            name: "fewer rights after renewal",
            credential: token(&[">"]),
            renewed: token(&["b"]),
            sees: &["b", "open.1", "users.ada.1"],
        },
    ]
}

fn configure(config: &mut Config) {
    let sets = vec![
        format!("auth.keys=[{{name = \"k\", key = \"{KEY}\", subscribe = [\"a.>\"]}}]"),
        "topics=[\
         {match = \"open.>\", subscribe = \"anyone\", presence = true},\
         {match = \"shut.>\", subscribe = \"nobody\", presence = true},\
         {match = \"users.{sub}.>\", presence = true},\
         {match = \">\", presence = true}]"
            .to_owned(),
    ];
    let sources = Sources { sets, ..Sources::default() };
    let loaded = fanfare::config::load(&sources).expect("a configuration");
    (config.auth, config.rules) = (loaded.auth, loaded.rules);
    support::close(config);
    config.rules.listed.iter_mut().for_each(|rule| rule.storage = Storage::Memory);
    config.rules.default.storage = Storage::Memory;
}

impl Caller {
    /// What is shown where one may show something once.
    fn shown(&self) -> Option<&str> {
        self.renewed.as_ref().or(self.credential.as_ref()).map(String::as_str)
    }

    fn asking(&self, request: RequestBuilder) -> RequestBuilder {
        match self.shown() {
            Some(credential) => request.bearer_auth(credential),
            None => request,
        }
    }

    fn query(&self, query: &str, credential: Option<&str>) -> String {
        match credential {
            Some(credential) => format!("?{query}&access_token={credential}"),
            None => format!("?{query}"),
        }
    }

    /// A client that is subscribed to everything, by wildcard or by name as far as it may.
    async fn client(&self, server: &TestServer, topics: &str) -> WsClient {
        let query = self.query(topics, self.credential.as_deref());
        let mut client = WsClient::live(server, &query).await;
        if let Some(renewed) = &self.renewed {
            let ack = client.ask(900, json!({"op": "auth", "token": renewed})).await;
            assert_eq!(ack["op"], "ack");
        }
        client
    }

    /// Those of all topics that a question about each is answered for.
    async fn answered(&self, server: &TestServer, path: &str) -> BTreeSet<String> {
        let mut seen = BTreeSet::new();
        for topic in TOPICS {
            let request = self.asking(server.get(&path.replace("{}", topic)));
            let answer = request.send().await.expect("an answer");
            match answer.status().as_u16() {
                200 => _ = seen.insert(topic.to_owned()),
                401 | 403 => {
                    let text = answer.text().await.expect("text");
                    assert!(!text.contains("\"data\""), "{}: {text}", self.name);
                }
                status => panic!("{}: {status} for {topic}", self.name),
            }
        }
        seen
    }

    /// Those of all that a page of events names, read one by one.
    async fn paged(&self, server: &TestServer, path: &str, place: &str) -> BTreeSet<String> {
        let (mut seen, mut next) = (BTreeSet::new(), None);
        loop {
            let mut query = vec![("match", ">".to_owned()), ("limit", "1".to_owned())];
            query.extend(next.map(|next| (place, next)));
            let request = self.asking(server.get(path).query(&query));
            let page: Value = request.send().await.expect("an answer").json().await.expect("JSON");
            let events = page["events"].as_array().expect("events");
            seen.extend(events.iter().map(|it| it["topic"].as_str().expect("a topic").to_owned()));
            next = page["next"].as_str().filter(|_| !events.is_empty()).map(str::to_owned);
            if next.is_none() {
                return seen;
            }
        }
    }

    async fn listed(&self, server: &TestServer) -> BTreeSet<String> {
        let request = self.asking(server.get("/v1/topics?match=%3E&limit=100"));
        let list: Value = request.send().await.expect("an answer").json().await.expect("JSON");
        let topics = list["topics"].as_array().expect("topics").iter();
        topics.map(|topic| topic["topic"].as_str().expect("a topic").to_owned()).collect()
    }
}

/// The topics of what a client gets until `last` has come.
async fn got(client: &mut WsClient, until_live: bool) -> BTreeSet<String> {
    let mut seen = BTreeSet::new();
    loop {
        let frame = client.next().await;
        match frame["op"].as_str() {
            Some("event") => {
                seen.insert(frame["topic"].as_str().expect("a topic").to_owned());
                if !until_live && frame["topic"] == LAST && frame["data"] == "last" {
                    return seen;
                }
            }
            Some("live") if until_live => return seen,
            Some("error" | "bye") => panic!("{frame}"),
            _ => {}
        }
    }
}

async fn publish_all(server: &TestServer, data: &str) -> String {
    let mut first = None;
    for topic in TOPICS.iter().filter(|topic| **topic != LAST).chain([&LAST]) {
        let path = format!("/v1/topics/{topic}/events");
        let request = server.post(&path).bearer_auth(API_KEY).json(data);
        let receipt: Value = request.send().await.expect("an answer").json().await.expect("JSON");
        first.get_or_insert(receipt["id"].as_str().expect("an id").to_owned());
    }
    first.expect("an event")
}

/// The topics of what a stream brings until the last event of `data` has come.
async fn streamed(stream: &mut SseClient) -> BTreeSet<String> {
    let mut seen = BTreeSet::new();
    loop {
        let block = stream.next().await.expect("a block");
        if block.event == "message" {
            let event = block.json();
            seen.insert(event["topic"].as_str().expect("a topic").to_owned());
            if event["topic"] == LAST && event["data"] == "last" {
                return seen;
            }
        }
    }
}

#[tokio::test]
async fn each_caller_sees_on_each_path_what_is_theirs_and_nothing_else() {
    let server = TestServer::with(configure);
    // Whoever resumes after this has everything replayed that follows.
    let path = "/v1/topics/open.0/events";
    let start = server.post(path).bearer_auth(API_KEY).json("start").send().await;
    let start: Value = start.expect("an answer").json().await.expect("JSON");
    let since = start["id"].as_str().expect("an id");
    publish_all(&server, "first").await;
    let callers = callers();
    let mut live = Vec::new();
    for caller in &callers {
        let stream = caller.query("topic=%3E", caller.shown());
        let stream = SseClient::live(&server, &stream).await;
        live.push((caller.client(&server, "topic=%3E").await, stream));
    }
    publish_all(&server, "last").await;
    for (caller, (client, stream)) in callers.iter().zip(&mut live) {
        let theirs: BTreeSet<_> = caller.sees.iter().map(|topic| (*topic).to_owned()).collect();
        let check = |path: &str, mut seen: BTreeSet<String>| {
            // Where the log begins.
            seen.remove("open.0");
            assert_eq!(seen, theirs, "{path} by {}", caller.name);
        };
        check("live", got(client, false).await);
        check("live stream", streamed(stream).await);
        let subscribe = json!({"op": "subscribe", "topics": [">"], "since": since, "ref": 1});
        client.send(subscribe).await;
        check("replay", got(client, true).await);
        client.send(json!({"op": "subscribe", "topics": [">"], "snapshot": true, "ref": 2})).await;
        check("snapshot", got(client, true).await);
        let query = caller.query(&format!("topic=%3E&since={since}"), caller.shown());
        check(
            "replayed stream",
            streamed(&mut SseClient::connect(&server, &query, &[]).await).await,
        );
        check("history", caller.answered(&server, "/v1/topics/{}/events").await);
        check("summary", caller.answered(&server, "/v1/topics/{}").await);
        check("presence", caller.answered(&server, "/v1/topics/{}/presence").await);
        check("listing", caller.listed(&server).await);
        check("values", caller.paged(&server, "/v1/snapshot", "after").await);
        check("history of all", caller.paged(&server, "/v1/events", "since").await);
    }
}
