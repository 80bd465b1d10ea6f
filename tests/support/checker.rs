//! Looks for what must never be, in what publishers were acknowledged and what clients received.
//!
//! The history of a run is the acknowledged events and, for each client, everything it received in
//! the order in which it did, across all of its connections. From these alone it finds events that
//! were lost, came twice, came out of order, came changed, came to whom they were kept from, or are missing without a gap.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;

use fanfare::model::{Cursor, Pattern, Topic};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use serde_json::{Value, json};

/// What was published under one number. Data is compared as the text that it is passed through as.
#[derive(Debug, Clone, PartialEq)]
pub struct Published {
    pub topic: Topic,
    pub data: Box<str>,
    pub carried: Carried,
}

/// What an event carries beside its data.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Carried {
    pub is_removed: bool,
    pub version: Option<u64>,
    /// Its value ends by itself, which is later than any run.
    pub ends: bool,
    /// It is passed on and not kept, so it has no place.
    pub passes: bool,
}

impl Published {
    /// What a publisher with a number publishes as its `n`th event.
    pub fn by(number: usize, n: usize, topic: &Topic) -> Self {
        let is_removed = n % 7 == 3;
        let version = (n % 5 == 1).then_some(n as u64);
        // What is removed has no value that could end.
        let ends = !is_removed && n % 11 == 2;
        // What passes leaves nothing that could be removed, superseded or end.
        let passes = n % 13 == 6 && !is_removed && !ends && version.is_none();
        let carried = Carried { is_removed, version, ends, passes };
        Self { topic: topic.clone(), data: json!([number, n]).to_string().into(), carried }
    }

    /// The same, as it is published.
    pub fn to_publish(number: usize, n: usize, topic: &Topic) -> Value {
        let Self { carried, .. } = Self::by(number, n, topic);
        let mut event = json!({ "topic": topic, "data": [number, n] });
        if carried.is_removed {
            event["removed"] = true.into();
        }
        if let Some(version) = carried.version {
            event["version"] = version.into();
        }
        if carried.ends {
            event["ttl_ms"] = 86_400_000.into();
        }
        if carried.passes {
            event["keep"] = false.into();
        }
        event
    }

    /// The tombstone that `DELETE /v1/topics/{topic}` makes.
    pub fn removal(topic: &Topic) -> Self {
        let carried = Carried { is_removed: true, ..Carried::default() };
        Self { topic: topic.clone(), data: "null".into(), carried }
    }
}

/// What one client received.
#[derive(Debug)]
pub struct Client {
    pub name: String,
    pub patterns: Vec<String>,
    /// Everything after this is to come.
    pub since: Cursor,
    /// How far it has come.
    pub cursor: Cursor,
    pub received: Vec<Received>,
    /// The topics it has seen, each once, for it sees millions of events.
    topics: HashMap<String, Topic>,
}

/// What a client reads of the frames it is sent.
#[derive(Debug, Deserialize)]
pub struct Frame<'a> {
    #[serde(default)]
    pub op: &'a str,
    id: Option<&'a str>,
    topic: Option<&'a str>,
    #[serde(borrow, default, deserialize_with = "there")]
    data: Option<&'a RawValue>,
    cursor: Option<&'a str>,
    #[serde(default)]
    removed: bool,
    /// Of an event a number, and of a `welcome` the broker's.
    #[serde(borrow, default)]
    version: Option<&'a RawValue>,
    expires: Option<&'a str>,
    pub session: Option<&'a str>,
    #[serde(borrow, default)]
    topics: Vec<&'a str>,
}

/// What is there, be it null.
fn there<'de: 'a, 'a, D: Deserializer<'de>>(value: D) -> Result<Option<&'a RawValue>, D::Error> {
    <&RawValue>::deserialize(value).map(Some)
}

impl<'a> Frame<'a> {
    pub fn parse(text: &'a str) -> Self {
        serde_json::from_str(text).expect("JSON")
    }
}

impl Client {
    /// A client that has come to `since`.
    pub fn new(number: usize, patterns: Vec<String>, since: Cursor) -> Self {
        let name = format!("client {number} on {patterns:?}");
        let (received, topics) = (Vec::new(), HashMap::new());
        Self { name, patterns, since, cursor: since, received, topics }
    }

    /// The query that goes on from where it is.
    pub fn query(&self) -> String {
        let topics = self.patterns.iter().map(|pattern| pattern.replace('>', "%3E"));
        let topics: Vec<_> = topics.map(|pattern| format!("topic={pattern}")).collect();
        format!("{}&since={}", topics.join("&"), self.cursor)
    }

    /// Notes a connection, which is of this session where that is told.
    pub fn connected(&mut self, session: Option<&str>) {
        self.received.push(Received::Connection { session: session.map(str::to_owned) });
    }

    /// Notes an event.
    pub fn event(&mut self, frame: &Frame<'_>) {
        let id = frame.id.map(|id| Cursor::parse(id).expect("a cursor"));
        let (name, data) = (frame.topic.expect("a topic"), frame.data.expect("data"));
        let topic = match self.topics.get(name) {
            Some(topic) => topic.clone(),
            None => {
                let topic = Topic::parse(name).expect("a topic");
                self.topics.entry(name.to_owned()).or_insert(topic).clone()
            }
        };
        let carried = Carried {
            is_removed: frame.removed,
            version: frame.version.map(|version| version.get().parse().expect("a number")),
            ends: frame.expires.is_some(),
            passes: id.is_none(),
        };
        let event = Published { topic, data: data.get().into(), carried };
        match id {
            Some(id) => {
                self.received.push(Received::Event { id, event });
                self.cursor = id;
            }
            None => self.received.push(Received::Passing { event }),
        }
    }

    /// Notes a gap.
    pub fn gap(&mut self, frame: &Frame<'_>) {
        let topics = frame.topics.iter().map(|topic| (*topic).to_owned()).collect();
        self.received.push(Received::Gap { topics });
    }

    /// Notes how far it has come, where the frame says so.
    pub fn progress(&mut self, frame: &Frame<'_>) {
        if let Some(cursor) = frame.cursor {
            self.cursor = Cursor::parse(cursor).expect("a cursor");
        }
    }
}

/// One thing that a client received.
#[derive(Debug, Clone)]
pub enum Received {
    /// What follows came over another connection, of this session where that was told.
    Connection {
        session: Option<String>,
    },
    Event {
        id: Cursor,
        event: Published,
    },
    /// An event that is not kept.
    Passing {
        event: Published,
    },
    /// Of these topics, or of any where there are none.
    Gap {
        topics: Vec<String>,
    },
}

/// What must never be.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// An acknowledged event did not come, and no gap was told.
    Lost { client: String, id: Cursor },
    /// An event came again.
    Twice { client: String, id: Cursor },
    /// An event came after a later one.
    OutOfOrder { client: String, id: Cursor },
    /// An event came that differs from what was acknowledged, or that nobody asked for.
    Wrong { client: String, id: Cursor },
    /// An event that is not kept came again over one connection, after a later one of its publisher, or changed.
    Passing { client: String, data: String },
    /// An event came to the session that it was to be kept from.
    Shown { client: String, id: Cursor },
    /// Two publishers were acknowledged the same number.
    SameNumber { id: Cursor },
    /// A gap was told where nothing had to be missing.
    Gap { client: String },
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

/// The acknowledged events of a run.
#[derive(Debug, Default)]
pub struct History {
    acknowledged: BTreeMap<Cursor, Published>,
    /// The sessions that events are kept from.
    kept_from: BTreeMap<Cursor, String>,
    /// The topics whose events were forgotten (`DELETE …/events`), each up to an event.
    forgotten: HashMap<Topic, Cursor>,
    faults: Vec<Fault>,
}

impl History {
    /// Notes an acknowledgement.
    pub fn acknowledged(&mut self, id: Cursor, event: Published) {
        let before = self.acknowledged.insert(id, event.clone());
        if before.is_some_and(|before| before != event) {
            self.faults.push(Fault::SameNumber { id });
        }
    }

    /// Notes that an acknowledged event is kept from a session.
    pub fn kept_from(&mut self, id: Cursor, session: &str) {
        self.kept_from.insert(id, session.to_owned());
    }

    /// Notes, before it is asked for, that what is acknowledged of a topic is forgotten.
    pub fn forgotten(&mut self, topic: &Topic) {
        let of_it = self.acknowledged.iter().rfind(|(_, event)| event.topic == *topic);
        if let Some((id, _)) = of_it {
            self.forgotten.insert(topic.clone(), *id);
        }
    }

    pub fn len(&self) -> usize {
        self.acknowledged.len()
    }

    /// The newest acknowledged event.
    pub fn newest(&self) -> Option<Cursor> {
        self.acknowledged.keys().next_back().copied()
    }

    /// Everything that is wrong, each fault once.
    pub fn check(&self, clients: &[Client]) -> Vec<Fault> {
        let mut faults = self.faults.clone();
        let mut contents: BTreeMap<Cursor, Published> = self.acknowledged.clone();
        for client in clients {
            self.check_client(client, &mut contents, &mut faults);
        }
        faults.sort();
        faults.dedup();
        faults
    }

    fn check_client(
        &self,
        client: &Client,
        contents: &mut BTreeMap<Cursor, Published>,
        faults: &mut Vec<Fault>,
    ) {
        let name = || client.name.clone();
        let patterns: Vec<_> =
            client.patterns.iter().map(|text| Pattern::parse(text).expect("a pattern")).collect();
        let wants =
            |event: &Published| patterns.iter().any(|pattern| pattern.matches(&event.topic));
        let mut last = client.since;
        let (mut got, mut sessions) = (BTreeSet::new(), BTreeSet::new());
        let (mut session, mut passed, mut gaps) = (None, HashMap::new(), BTreeSet::new());
        for received in &client.received {
            let (id, event) = match received {
                Received::Connection { session: of } => {
                    (session, passed) = (of.as_deref(), HashMap::new());
                    sessions.extend(session);
                    continue;
                }
                Received::Gap { topics } => {
                    let is_wanted =
                        |topic: &&Topic| patterns.iter().any(|pattern| pattern.matches(topic));
                    let due: BTreeSet<_> = self.forgotten.keys().filter(is_wanted).collect();
                    let is_due = |name| due.iter().any(|topic| topic.as_str() == name);
                    if due.is_empty() || !topics.iter().all(|name| is_due(name.as_str())) {
                        faults.push(Fault::Gap { client: name() });
                    }
                    let is_told = |topic: &&Topic| {
                        topics.is_empty() || topics.iter().any(|name| name == topic.as_str())
                    };
                    gaps.extend(due.into_iter().filter(is_told));
                    continue;
                }
                Received::Passing { event } => {
                    let number = Self::number_of(event).filter(|_| wants(event));
                    let before = passed.insert(&event.topic, number);
                    if number.is_none() || before.is_some_and(|before| before >= number) {
                        let data = event.data.to_string();
                        faults.push(Fault::Passing { client: name(), data });
                    }
                    continue;
                }
                Received::Event { id, event } => (*id, event),
            };
            if !got.insert(id) {
                faults.push(Fault::Twice { client: name(), id });
            } else if id <= last {
                faults.push(Fault::OutOfOrder { client: name(), id });
            }
            last = last.max(id);
            // Whoever sees a number first decides for all what it stands for, acknowledged or not.
            let same = contents.entry(id).or_insert_with(|| event.clone()) == event;
            if !same || !wants(event) {
                faults.push(Fault::Wrong { client: name(), id });
            }
            if session.is_some() && self.kept_from.get(&id).map(String::as_str) == session {
                faults.push(Fault::Shown { client: name(), id });
            }
        }
        let may_miss = |id: &Cursor, event: &Published| {
            self.kept_from.get(id).is_some_and(|session| sessions.contains(&**session))
                || gaps.contains(&&event.topic)
                    && self.forgotten.get(&event.topic).is_some_and(|upto| id <= upto)
        };
        for (id, event) in &self.acknowledged {
            if *id > client.since && wants(event) && !got.contains(id) && !may_miss(id, event) {
                faults.push(Fault::Lost { client: name(), id: *id });
            }
        }
    }

    /// Which of its publisher's events one that passes is, if it is one.
    fn number_of(event: &Published) -> Option<usize> {
        let (number, n) = serde_json::from_str(&event.data).ok()?;
        (event.carried.passes && Published::by(number, n, &event.topic) == *event).then_some(n)
    }
}
