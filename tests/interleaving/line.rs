//! One client's connection: a WebSocket or an event stream, each word of which is watched.

use std::collections::VecDeque;
use std::fmt::Write;
use std::rc::Rc;
use std::time::Duration;

use fanfare::model::Pattern;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout_at};

use crate::parrot_words;
use crate::pipe::ClientEnd;
use crate::rights::Credential;
use crate::seed::Dice;
use crate::watch::{Asked, Watch};
use crate::words::{Reader, Word, frame};
use crate::world::{Fate, World};

/// How a client comes in.
#[derive(Debug, Clone, Default)]
pub struct Knock {
    /// By an event stream.
    pub is_stream: bool,
    /// In another language.
    pub is_parrot: bool,
    /// With this token.
    pub credential: Option<Rc<Credential>>,
    /// With this ticket, which stands for it.
    pub ticket: Option<String>,
    /// Subscribed to these at once.
    pub topics: Vec<Pattern>,
    /// From there on.
    pub since: Option<String>,
    /// With current values.
    pub snapshot: bool,
    /// Only the newest of each topic is needed.
    pub latest: bool,
}

/// One client's connection.
pub struct Line {
    /// The run.
    pub world: Rc<World>,
    /// Who this is.
    pub name: String,
    /// What it was sent, and may be.
    pub watch: Watch,
    /// Its decisions.
    pub dice: Dice,
    /// The connection is over.
    pub is_over: bool,
    end: ClientEnd,
    reader: Reader,
    is_stream: bool,
    /// It speaks another language.
    pub is_parrot: bool,
    /// Of the last message in another language.
    heard: VecDeque<Value>,
    /// How much it reads at a time.
    appetite: usize,
    references: u64,
}

impl Line {
    /// Comes in.
    pub fn knock(world: &Rc<World>, kind: &str, knock: &Knock, fate: Fate, mut dice: Dice) -> Self {
        let name = format!("{kind}-{}", world.number());
        if knock.is_parrot {
            return Self::knock_as_parrot(world, name, knock, fate, dice);
        }
        let mut path = match knock.is_stream {
            true => "/v1/sse?".to_owned(),
            false => "/v1/ws?".to_owned(),
        };
        for topic in &knock.topics {
            _ = write!(path, "topic={}&", topic.as_str().replace('>', "%3E"));
        }
        if let Some(since) = &knock.since {
            _ = write!(path, "since={since}&");
        }
        if knock.snapshot {
            path.push_str("snapshot=true&");
        }
        if knock.latest {
            path.push_str("mode=latest&");
        }
        world.trace.step(&name, &path);
        match (&knock.ticket, &knock.credential) {
            (Some(ticket), _) => _ = write!(path, "ticket={ticket}"),
            (None, Some(credential)) => _ = write!(path, "access_token={}", credential.token),
            (None, None) => {}
        }
        let mut head = format!("GET {path} HTTP/1.1\r\nhost: maze\r\n");
        head.push_str(match knock.is_stream {
            true => "accept: text/event-stream\r\n\r\n",
            false => {
                "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
                 sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
            }
        });
        let end = world.connect(fate, dice.part());
        end.send(head.as_bytes());
        Self::at(world, name, knock, end, dice)
    }

    /// Comes in by another language, in which that takes a few words more.
    fn knock_as_parrot(
        world: &Rc<World>,
        name: String,
        knock: &Knock,
        fate: Fate,
        mut dice: Dice,
    ) -> Self {
        world.trace.step(&name, "as a parrot");
        let token = knock.credential.as_ref().map(|credential| credential.token.as_str());
        let token = token.map(|token| format!("?token={token}")).unwrap_or_default();
        let head = format!(
            "GET /parrot/maze{token} HTTP/1.1\r\nhost: maze\r\nconnection: upgrade\r\n\
             upgrade: websocket\r\nsec-websocket-version: 13\r\n\
             sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        let end = world.connect(fate, dice.part());
        end.send(head.as_bytes());
        let mut words = vec![json!({ "n": parrot_words::KNOCK, "hello": {} })];
        if !knock.topics.is_empty() {
            let topics: Value = knock.topics.iter().map(Pattern::as_str).collect();
            let members =
                json!({ "op": "subscribe", "ref": 0, "topics": topics, "since": knock.since });
            words.push(parrot_words::asked(&members));
        }
        let words: Vec<_> = words.iter().map(Value::to_string).collect();
        end.send(&frame(1, words.join("\n").as_bytes()));
        Self::at(world, name, knock, end, dice)
    }

    fn at(world: &Rc<World>, name: String, knock: &Knock, end: ClientEnd, mut dice: Dice) -> Self {
        Self {
            world: world.clone(),
            name,
            watch: Watch::new(knock.credential.clone(), &knock.topics),
            appetite: dice.pick(&[200, 4_000, usize::MAX]),
            dice,
            is_over: false,
            end,
            reader: Reader::default(),
            is_stream: knock.is_stream,
            is_parrot: knock.is_parrot,
            heard: VecDeque::new(),
            references: 0,
        }
    }

    /// Asks for something; returns the `ref` of it.
    pub fn ask(&mut self, op: &str, mut members: Value, asked: Asked) -> u64 {
        self.references += 1;
        members["op"] = op.into();
        members["ref"] = self.references.into();
        let has_token = members.get("token").is_some();
        let shown = if has_token { op.to_owned() } else { members.to_string() };
        self.world.trace.step(&self.name, format_args!("> {shown}"));
        self.watch.asks(self.references, asked);
        let said = if self.is_parrot { parrot_words::asked(&members) } else { members };
        self.end.send(&frame(1, said.to_string().as_bytes()));
        self.references
    }

    /// Shows another token.
    pub fn auth(&mut self, credential: &Rc<Credential>) {
        let token = json!({ "token": credential.token });
        self.ask("auth", token, Asked::Auth(credential.clone()));
    }

    /// Subscribes to patterns, with options.
    pub fn subscribe(&mut self, patterns: &[Pattern], mut options: Value) {
        options["topics"] = patterns.iter().map(|pattern| pattern.as_str()).collect();
        self.ask("subscribe", options, Asked::Subscribe(patterns.to_vec()));
    }

    /// Subscribes to a topic by a token that adds it.
    pub fn prove(&mut self, credential: &Rc<Credential>, topic: &Pattern) {
        let members = json!({ "topics": [topic.as_str()], "token": credential.token });
        self.ask("subscribe", members, Asked::Prove(credential.clone(), vec![topic.clone()]));
    }

    /// Unsubscribes from patterns.
    pub fn unsubscribe(&mut self, patterns: &[Pattern]) {
        let topics: Value = patterns.iter().map(|pattern| pattern.as_str()).collect();
        self.ask("unsubscribe", json!({ "topics": topics }), Asked::Unsubscribe(patterns.to_vec()));
    }

    /// The next message, if one comes in time and the connection is not over.
    pub async fn hear(&mut self, within: Duration) -> Option<Value> {
        let deadline = Instant::now() + within;
        while !self.is_over || !self.heard.is_empty() {
            if let Some(message) = self.heard.pop_front() {
                self.note(&message);
                if let Err(wrong) = self.watch.hears(&self.world, &message) {
                    self.world.fails(&self.name, wrong);
                }
                return Some(message);
            }
            match self.reader.next() {
                Some(Word::Message(message)) if self.is_parrot => {
                    if message["ping"] == true {
                        self.end.send(&frame(1, b"{\"pong\":true}"));
                    }
                    self.heard.extend(parrot_words::heard(&message));
                }
                Some(Word::Message(mut message)) => {
                    if self.is_stream {
                        message["stream"] = true.into();
                    }
                    self.heard.push_back(message);
                }
                Some(Word::Ping(payload)) => self.end.send(&frame(10, &payload)),
                Some(Word::Status(status)) => {
                    self.world.trace.step(&self.name, format_args!("< {status}"));
                    if !matches!(status, 101 | 200 | 401 | 403 | 503) {
                        self.world
                            .fails(&self.name, format!("its knock is answered with {status}"));
                    }
                }
                Some(Word::Body(_)) => self.is_over = true,
                Some(Word::Closed(code)) => {
                    self.world.trace.step(&self.name, format_args!("< closed {code:?}"));
                    self.is_over = true;
                    if !self.is_stream {
                        self.end.send(&frame(8, &[]));
                    }
                }
                None => match timeout_at(deadline, self.end.read(self.appetite)).await {
                    Err(_) => return None,
                    Ok(bytes) if bytes.is_empty() => self.is_over = true,
                    Ok(bytes) => self.reader.take(&bytes),
                },
            }
        }
        None
    }

    /// Hears all that comes for a time; slowly now and then.
    pub async fn listen(&mut self, time: Duration) {
        let until = Instant::now() + time;
        while !self.is_over && Instant::now() < until {
            _ = self.hear(until - Instant::now()).await;
            if self.dice.percent(5) {
                self.dice.pause(50).await;
            }
        }
    }

    /// Asks whether the other end is there, and whether all is as it should be once it has answered.
    pub async fn settle(&mut self) {
        self.listen(Duration::from_secs(8)).await;
        if !self.is_over
            && let Err(wrong) = self.watch.settled()
        {
            self.world.fails(&self.name, wrong);
        }
    }

    /// Goes, one way or another.
    pub fn leave(mut self) {
        match self.dice.below(3) {
            _ if self.is_over => {}
            0 if !self.is_stream => {
                self.end.send(&frame(8, &1_000_u16.to_be_bytes()));
                self.end.finish();
            }
            1 => self.end.finish(),
            _ => self.end.cut(),
        }
        self.world.trace.step(&self.name, "left");
    }

    fn note(&self, message: &Value) {
        let Value::Object(members) = message else { return };
        let shown = ["op", "ref", "id", "topic", "code", "cursor", "since", "replay", "snapshot"];
        let mut line = String::from("<");
        for name in shown {
            match &members.get(name) {
                Some(Value::String(text)) => _ = write!(line, " {name}={text}"),
                Some(value) => _ = write!(line, " {name}={value}"),
                None => {}
            }
        }
        self.world.trace.step(&self.name, line);
    }
}
