//! Parrot: a small language of its own, as a stranger would add one.
//!
//! It stands for all that foreign languages do otherwise than Fanfare's own: paths with a parameter, nothing said before a
//! `hello`, several commands in a message, answers that hold what was missed, heartbeats that are messages, subscriptions
//! that are asked for events, codes of its own, a topic said in other words, and a way back beside the connection.
//!
//! A message has one command a line: `{"n":1,"hello":{"token"?}}`, `{"n":2,"follow":[…],"from"?,"loud"?}`,
//! `{"n":3,"unfollow":[…]}`, `{"n":4,"squawk":{"topic","data"}}`, `{"pong":true}`, `{"freeze":true}`. What is answered is [`Parrot::say`]'s.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use fanfare::clock::Instant;
use fanfare::model::{Close, Code, Cursor, Data, Event, NewEvent, Pattern, Problem, Start, Topic};
use fanfare::protocol::{
    Annotations, Beats, Brings, Carrier, ClientMessage, Dialect, Entry, Filter, Form, Knock, Known,
    Letter, NATIVE, Op, Out, ParseLimits, Protocol, Protocols, Refused, Reply, Request, Requests,
    STREAM, Said, Subscribe, Talk, Token, Wants, WayBack,
};
use serde_json::{Value, json};

/// All that Fanfare speaks, and Parrot.
pub const WITH_PARROT: Protocols = Protocols(&[&NATIVE, &STREAM, &PARROT]);

/// The language.
pub static PARROT: Protocol = Protocol {
    name: "parrot",
    entries: &[
        Entry {
            path: "/parrot/{flock}",
            carrier: Carrier::WebSocket,
            query: Known::Any,
            dialects: &[SPOKEN],
            brings,
            wants,
            by_body: None,
            has_way_back: true,
        },
        Entry {
            path: "/parrot/{flock}/heard",
            carrier: Carrier::Stream { media_type: "text/event-stream" },
            query: Known::Any,
            dialects: &[HEARD],
            brings,
            wants,
            by_body: None,
            has_way_back: true,
        },
    ],
    way_back: Some(WayBack { path: "/parrot/say", read: letter }),
};

/// How many workers a `freeze` has held up.
pub static FROZEN: AtomicUsize = AtomicUsize::new(0);
/// Set, a `freeze` is over.
pub static THAW: AtomicBool = AtomicBool::new(false);

/// The most events that an answer holds.
pub const PAGE: usize = 8;

const SPOKEN: Dialect =
    Dialect { name: "parrot", form: &WORDS, talk: || Box::new(Parrot::new("", false)) };
const HEARD: Dialect =
    Dialect { name: "parrot", form: &BLOCKS, talk: || Box::new(Parrot::new("", true)) };

static WORDS: Form = Form { is_binary: false, event: |event, how| words(&squawk(event, how)) };
static BLOCKS: Form = Form { is_binary: false, event: |event, how| block(&squawk(event, how)) };

/// How a message leaves.
type Wrap = fn(&Value) -> Vec<u8>;

fn words(message: &Value) -> Vec<u8> {
    message.to_string().into_bytes()
}

fn block(message: &Value) -> Vec<u8> {
    format!("data: {message}\n\n").into_bytes()
}

fn squawk(event: &Event, annotations: &Annotations) -> Value {
    let data: Value = serde_json::from_str(event.data.json().get()).expect("JSON");
    let mut said = json!({ "bird": event.topic.as_str(), "says": data });
    if let Some(cursor) = event.cursor {
        said["id"] = cursor.to_string().into();
    }
    if annotations.replay.is_some() {
        said["again"] = true.into();
    }
    said
}

fn brings(query: &fanfare::protocol::Query) -> Result<Brings, Problem> {
    let token = query.one("token")?.map(|token| Token(token.to_owned()));
    Ok(Brings { token, ticket: None })
}

fn wants(knock: &Knock<'_>) -> Result<Wants, Problem> {
    let flock = knock.path.iter().find(|(name, _)| *name == "flock").map_or("", |(_, flock)| flock);
    let talk = Box::new(Parrot::new(flock, std::ptr::eq(knock.dialect.form, &BLOCKS)));
    Ok(Wants { dialect: knock.dialect, talk, subscribe: None, heartbeat: None })
}

fn letter(body: &[u8]) -> Result<Letter, Problem> {
    let bad = || Problem::new(Code::BadRequest, "a letter is {\"session\",\"secret\",\"say\"}");
    let body: Value = serde_json::from_slice(body).map_err(|_| bad())?;
    let text = |name: &str| body[name].as_str().map(str::to_owned).ok_or_else(bad);
    Ok(Letter { session: text("session")?, secret: Token(text("secret")?), message: text("say")? })
}

/// What a request was, by the number that it was handed on with.
enum Asked {
    Hello,
    /// To the topic of its flock, which the broker does by itself.
    Flock,
    Follow(Vec<String>),
    Unfollow(Vec<String>),
    Other,
}

/// The answer to a `follow` that is not told yet.
struct Page {
    number: Value,
    topics: Vec<String>,
    heard: Vec<(Topic, Value)>,
    bytes: usize,
    gap: Option<(Cursor, Vec<String>)>,
}

/// One side of a conversation.
pub struct Parrot {
    flock: String,
    /// On a stream, where nothing can be said.
    is_heard: bool,
    wrap: Wrap,
    /// What its client is told with the answer to `hello`.
    name: Value,
    is_greeted: bool,
    next: u64,
    asked: BTreeMap<u64, (Value, Asked)>,
    pages: BTreeMap<u64, Page>,
}

impl Parrot {
    fn new(flock: &str, is_heard: bool) -> Self {
        let wrap: Wrap = if is_heard { block } else { words };
        let (flock, name) = (flock.to_owned(), Value::Null);
        let (asked, pages) = (BTreeMap::new(), BTreeMap::new());
        Self { flock, is_heard, wrap, name, is_greeted: false, next: 0, asked, pages }
    }

    /// Hands a request out under a number of its own.
    fn number(&mut self, number: Value, asked: Asked) -> u64 {
        self.next += 1;
        self.asked.insert(self.next, (number, asked));
        self.next
    }

    fn command(
        &mut self,
        command: &Value,
        limits: &ParseLimits,
        requests: &mut Requests,
    ) -> Result<(), Problem> {
        let number = command["n"].clone();
        let asks = |op| Request { reference: None, op };
        let topics = |name: &str| -> Result<Vec<Pattern>, Problem> {
            let names = command[name].as_array().into_iter().flatten().take(limits.patterns);
            names.map(|name| Ok(Pattern::parse(name.as_str().unwrap_or_default())?)).collect()
        };
        let names = |patterns: &[Pattern]| patterns.iter().map(ToString::to_string).collect();
        let (op, asked) = if let Some(hello) = command.get("hello") {
            let token = hello["token"].as_str().map(|token| Token(token.to_owned()));
            self.is_greeted = true;
            (token.map_or(Op::Ping, |token| Op::Auth { token }), Asked::Hello)
        } else if !self.is_greeted {
            return Err(Problem::new(Code::BadRequest, "say hello first"));
        } else if command.get("follow").is_some() {
            let patterns = topics("follow")?;
            let asked = Asked::Follow(names(&patterns));
            let mut subscribe = Subscribe::to(patterns);
            subscribe.since = command["from"].as_str().map(Start::parse).transpose()?;
            if command["loud"] == true {
                subscribe.filter =
                    Some(Filter::new(|event| event.data.json().get().contains("\"loud\":true")));
            }
            (Op::Subscribe(subscribe), asked)
        } else if command.get("unfollow").is_some() {
            let patterns = topics("unfollow")?;
            let asked = Asked::Unfollow(names(&patterns));
            (Op::Unsubscribe { patterns }, asked)
        } else if let Some(squawk) = command.get("squawk") {
            let topic = Topic::parse(squawk["topic"].as_str().unwrap_or_default())?;
            let data = Data::from_json(squawk["data"].to_string().as_bytes(), limits.json_depth)?;
            (Op::Publish { event: NewEvent::new(topic, None, data), key: None }, Asked::Other)
        } else if command.get("pong").is_some() {
            return Ok(());
        } else if command.get("freeze").is_some() {
            FROZEN.fetch_add(1, Ordering::Relaxed);
            while !THAW.load(Ordering::Relaxed) {
                thread::sleep(Duration::from_millis(10));
            }
            return Ok(());
        } else {
            return Err(Problem::new(Code::BadRequest, "no parrot says that"));
        };
        let is_hello = matches!(asked, Asked::Hello);
        let reference = Some(self.number(number, asked));
        requests.ask(Request { reference, ..asks(op) }).map_err(|refused| refused.problem)?;
        if is_hello && !self.flock.is_empty() {
            let reference = Some(self.number(Value::Null, Asked::Flock));
            let flock = Subscribe::to(vec![Pattern::parse(&format!("flock.{}", self.flock))?]);
            let request = Request { reference, op: Op::Subscribe(flock) };
            requests.ask(request).map_err(|refused| refused.problem)?;
        }
        Ok(())
    }

    /// Follows that end before they are answered.
    fn unfollowed(&mut self, reference: Option<u64>) -> Vec<Value> {
        let asked = reference.and_then(|reference| self.asked.get(&reference));
        let Some((_, Asked::Unfollow(gone))) = asked else { return Vec::new() };
        for page in self.pages.values_mut() {
            page.topics.retain(|topic| !gone.contains(topic));
        }
        let ended = self.pages.values().filter(|page| page.topics.is_empty());
        let no = |page: &Page| json!({ "n": page.number, "no": "unfollowed", "code": "gone" });
        let ended = ended.map(no).collect();
        self.pages.retain(|_, page| !page.topics.is_empty());
        ended
    }

    /// What is said of a request that is done.
    fn done(&mut self, reference: Option<u64>, id: Option<Cursor>) -> Option<Value> {
        let reference = reference?;
        let (number, asked) = self.asked.remove(&reference)?;
        match asked {
            Asked::Hello => {
                let mut hello = json!({ "n": number, "hello": self.name.clone() });
                hello["hello"]["flock"] = self.flock.clone().into();
                Some(hello)
            }
            Asked::Flock => Some(json!({ "follows": format!("flock.{}", self.flock) })),
            Asked::Follow(topics) => {
                let (heard, bytes, gap) = (Vec::new(), 0, None);
                self.pages.insert(reference, Page { number, topics, heard, bytes, gap });
                None
            }
            Asked::Unfollow(_) | Asked::Other => {
                let mut done = json!({ "n": number, "done": true });
                if let Some(id) = id {
                    done["id"] = id.to_string().into();
                }
                Some(done)
            }
        }
    }

    /// The answer to a `follow`, which is live from a place on, or of which more is to come.
    fn page(&mut self, reference: u64, live: Option<Cursor>) -> Option<Value> {
        let Page { number, topics, heard, gap, .. } = self.pages.remove(&reference)?;
        let heard: Vec<_> = heard.into_iter().map(|(_, squawk)| squawk).collect();
        let mut page = json!({ "n": number, "follow": topics, "heard": heard });
        if let Some((since, of)) = gap {
            page["gap"] = json!({ "since": since.to_string(), "of": of });
        }
        match live {
            Some(live) => page["live"] = live.to_string().into(),
            // The rest is behind it, and then that it is live.
            None => _ = self.asked.insert(reference, (number, Asked::Follow(Vec::new()))),
        }
        Some(page)
    }

    fn live(&mut self, reference: Option<u64>, cursor: Cursor) -> Option<Value> {
        // After a gap that came while all was live.
        let Some(reference) = reference else { return Some(json!({ "live": cursor.to_string() })) };
        self.page(reference, Some(cursor)).or_else(|| {
            let (number, _) = self.asked.remove(&reference)?;
            Some(json!({ "n": number, "live": cursor.to_string() }))
        })
    }

    fn gap(&mut self, reference: Option<u64>, since: Cursor, topics: &[Topic]) -> Option<Value> {
        let of = all(topics);
        if let Some(page) = reference.and_then(|reference| self.pages.get_mut(&reference)) {
            page.gap = Some((since, of));
            return None;
        }
        Some(json!({ "gap": since.to_string(), "of": of }))
    }

    fn no(&mut self, reference: Option<u64>, code: &str, message: &str) -> Option<Value> {
        let number = reference.and_then(|reference| {
            let page = self.pages.remove(&reference).map(|page| (page.number, Asked::Other));
            self.asked.remove(&reference).or(page)
        });
        match number {
            Some((_, Asked::Flock)) => None,
            Some((number, _)) => Some(json!({ "n": number, "no": message, "code": code })),
            None => Some(json!({ "no": message, "code": code })),
        }
    }
}

impl Talk for Parrot {
    fn hear(
        &mut self,
        message: ClientMessage<'_>,
        limits: &ParseLimits,
        _: Instant,
        requests: &mut Requests,
    ) -> Result<(), Refused> {
        let text = match message {
            ClientMessage::Text(text) => text,
            ClientMessage::Binary(_) => "",
        };
        for line in text.lines() {
            let command: Value = serde_json::from_str(line).unwrap_or_default();
            self.command(&command, limits, requests).map_err(|problem| {
                let reference = Some(self.number(command["n"].clone(), Asked::Other));
                Refused { reference, problem }
            })?;
        }
        Ok(())
    }

    fn say(&mut self, reply: &Reply<'_>, _: Instant, out: Out<'_>) {
        if let Reply::Ack { reference, .. } = *reply {
            self.unfollowed(reference).iter().map(self.wrap).for_each(&mut *out);
        }
        let said = match *reply {
            Reply::Welcome { session, secret, heartbeat, .. } => {
                let secret = secret.map(|Token(secret)| secret.as_str());
                self.name = json!({ "session": session, "secret": secret, "beat": heartbeat });
                // Who is only told things has to know how to say something.
                self.is_heard.then(|| json!({ "name": self.name }))
            }
            Reply::Ack { reference, id, .. } => self.done(reference, id),
            Reply::Pong { reference } => self.done(reference, None),
            Reply::Error { reference, code, message, .. } => {
                self.no(reference, code.as_str(), message)
            }
            Reply::Gap { reference, since, topics } => self.gap(reference, since, topics),
            Reply::Live { reference, cursor } => self.live(reference, cursor),
            Reply::Lost { pattern } => Some(json!({ "lost": pattern.as_str() })),
            Reply::Subscribed { patterns } => Some(json!({ "follows": all(patterns) })),
            Reply::Unsubscribed { patterns } => Some(json!({ "leaves": all(patterns) })),
            Reply::Cursor(cursor) => Some(json!({ "at": cursor.to_string() })),
            Reply::Warn { expires_ms } => Some(json!({ "moults": expires_ms })),
            Reply::Heartbeat => Some(json!({ "ping": true })),
            Reply::Trouble(trouble) => Some(json!({ "weather": trouble.name() })),
            Reply::GoAway { within_ms } => Some(json!({ "fly": within_ms })),
            Reply::Bye { close, .. } => Some(json!({ "bye": close.name() })),
        };
        said.iter().map(self.wrap).for_each(out);
    }

    fn event(&mut self, event: &Event, annotations: &Annotations, out: Out<'_>) -> Said {
        if event.topic.is_presence() {
            let who: Value = serde_json::from_str(event.data.json().get()).expect("JSON");
            let change = event.kind.as_ref().map(|kind| kind.as_str().to_owned());
            out((self.wrap)(
                &json!({ "perch": event.topic.as_str(), "who": who, "change": change }),
            ));
            return Said::Otherwise;
        }
        let Some(reference) = annotations.replay else { return Said::InItsForm };
        let Some(page) = self.pages.get_mut(&reference) else { return Said::InItsForm };
        let squawk = squawk(event, annotations);
        page.bytes += squawk.to_string().len();
        page.heard.push((event.topic.clone(), squawk));
        if page.heard.len() == PAGE {
            let said = self.page(reference, None);
            said.iter().map(self.wrap).for_each(out);
        }
        Said::Otherwise
    }

    fn claims(&self) -> bool {
        true
    }

    fn beats(&self) -> Beats {
        Beats::Messages
    }

    fn close(&self, close: Close) -> (u16, &'static str) {
        (3_000 + close.code() % 1_000, close.name())
    }

    fn retain(&mut self, keeps: &dyn Fn(&Topic) -> bool) {
        for page in self.pages.values_mut() {
            page.heard.retain(|(topic, _)| keeps(topic));
            page.bytes = page.heard.iter().map(|(_, squawk)| squawk.to_string().len()).sum();
        }
    }

    fn held_bytes(&self) -> usize {
        self.pages.values().map(|page| page.bytes).sum()
    }
}

fn all(names: &[impl Display]) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}
