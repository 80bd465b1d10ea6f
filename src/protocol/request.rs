//! What a client's message means, whatever it was written in.
//!
//! A wire form hands in the members, each value as JSON text, and here they become a [`Request`] or
//! a refusal that says which member is wrong. A misspelt or misplaced member is refused, so that no
//! option is ever dropped silently; `null`, which many serializers write for what is absent, counts as
//! absent everywhere but in `data`, where it is a value. A refusal echoes names and patterns, cut short, and no values.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;
use std::time::Duration;

use serde::de::{Deserializer, IgnoredAny, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::{
    Given, MAX_HEARTBEAT_SECONDS, Mode, Op, Opening, ParseLimits, Refused, Request, Subscribe,
    Token,
};
use crate::model::{
    Code, Data, EventType, MAX_WHOLE, NewEvent, Pattern, Problem, PublishKey, Start, Topic,
    whole_number,
};

/// The members that some message or command has.
const MEMBERS: [&str; 30] = [
    "op",
    "ref",
    "token",
    "topics",
    "since",
    "snapshot",
    "last",
    "tail",
    "mode",
    "max_rate",
    "topic",
    "type",
    "data",
    "encoding",
    "key",
    "format",
    "heartbeat",
    "from",
    "removed",
    "version",
    "epoch",
    "if_latest",
    "ttl_ms",
    "bound",
    "except",
    "keep",
    "session",
    "user",
    "all",
    "code",
];

/// Reads what one op needs out of the members.
type ReadOp = fn(&mut Frame<'_>, &ParseLimits) -> Result<Op, Problem>;

const OPS: [(&str, ReadOp); 5] = [
    ("auth", auth),
    ("subscribe", |frame, limits| {
        let proof = frame.optional_text("token")?.map(Token);
        Ok(Op::Subscribe(Subscribe { proof, ..subscribe(frame, limits)? }))
    }),
    ("unsubscribe", unsubscribe),
    ("publish", publish),
    ("ping", |_, _| Ok(Op::Ping)),
];

/// The members of one message, collected before any of them is understood, so that a refusal can
/// carry the `ref` wherever that stands.
#[derive(Default)]
pub(super) struct Frame<'a> {
    members: Vec<(&'static str, Cow<'a, RawValue>)>,
    pub(super) fault: Option<Problem>,
    binary: bool,
}

/// What the body of a request for an event stream asks for.
pub(super) struct StreamRequest {
    /// What it is subscribed to.
    pub(super) subscribe: Subscribe,
    /// The form of its events, by name.
    pub(super) format: Option<String>,
    /// Seconds between heartbeats that are to be seen, if they are.
    pub(super) heartbeat: Option<u32>,
}

impl<'a> Frame<'a> {
    /// Takes one member. No more is kept than there are names, however long the message.
    pub(super) fn add(&mut self, name: &str, value: Cow<'a, RawValue>) {
        match MEMBERS.iter().find(|&&known| known == name) {
            None => self.fault(bad(format!("{} is not a member of any message", shown(name)))),
            Some(known) if self.has(known) => self.fault(bad(format!("`{known}` is there twice"))),
            Some(known) => self.members.push((known, value)),
        }
    }

    /// Notes why the message is to be refused; the first reason counts.
    pub(super) fn fault(&mut self, problem: Problem) {
        self.fault.get_or_insert(problem);
    }

    /// Notes that `data` is the base64 of what came as bytes.
    pub(super) fn data_is_binary(&mut self) {
        self.binary = true;
    }

    /// The message as a request.
    pub(super) fn request(mut self, limits: &ParseLimits) -> Result<Request, Refused> {
        match self.reference().and_then(|reference| self.op(reference, limits)) {
            Ok(op) => Ok(Request { reference: self.reference().ok().flatten(), op }),
            Err(problem) => Err(self.refused(problem)),
        }
    }

    /// The message as a request for an event stream.
    pub(super) fn stream(mut self, limits: &ParseLimits) -> Result<StreamRequest, Problem> {
        if let Some(fault) = self.fault.take() {
            return Err(fault);
        }
        let subscribe = subscribe(&mut self, limits)?;
        let (format, heartbeat) = (self.optional_text("format")?, self.heartbeat()?);
        match self.given().next() {
            Some((left, _)) => Err(bad(format!("`{left}` is not a member of this body"))),
            None => Ok(StreamRequest { subscribe, format, heartbeat }),
        }
    }

    /// The seconds between heartbeats that are asked for.
    fn heartbeat(&mut self) -> Result<Option<u32>, Problem> {
        let Some(raw) = self.take("heartbeat") else { return Ok(None) };
        let asked = whole_number(raw.get()).and_then(|seconds| u32::try_from(seconds).ok());
        let found = asked.filter(|seconds| (1..=MAX_HEARTBEAT_SECONDS).contains(seconds));
        let wanted = || format!("a whole number from 1 to {MAX_HEARTBEAT_SECONDS}");
        found.map(Some).ok_or_else(|| optional("heartbeat", &wanted()))
    }

    /// A refusal of this message, with its `ref` if that came so far.
    pub(super) fn refused(&self, problem: Problem) -> Refused {
        Refused { reference: self.reference().ok().flatten(), problem }
    }

    fn has(&self, name: &str) -> bool {
        self.members.iter().any(|(member, _)| *member == name)
    }

    fn reference(&self) -> Result<Option<u64>, Problem> {
        let Some((_, raw)) = self.given().find(|(name, _)| *name == "ref") else {
            return Ok(None);
        };
        match whole_number(raw.get()) {
            Some(reference @ 1..=MAX_WHOLE) => Ok(Some(reference)),
            _ => Err(optional("ref", "an integer from 1 to 2^53-1")),
        }
    }

    fn op(&mut self, reference: Option<u64>, limits: &ParseLimits) -> Result<Op, Problem> {
        // An unknown op is told before an unknown member, which is likely to be one of its own.
        let name = self.text("op")?;
        let found = name.as_deref().map(find_op).transpose()?;
        if let Some(fault) = self.fault.take() {
            return Err(fault);
        }
        let (name, read) = required(found, "op")?;
        let op = read(self, limits)?;
        if let Some((left, _)) = self.given().find(|(member, _)| *member != "ref") {
            return Err(bad(format!("`{left}` is not a member of `{name}`")));
        }
        match &op {
            Op::Subscribe(Subscribe { since: Some(_), .. }) if reference.is_none() => {
                Err(bad("`since` needs a `ref`, by which its replay is known"))
            }
            _ => Ok(op),
        }
    }

    /// The members that are left and are not null.
    pub(super) fn given(&self) -> impl Iterator<Item = &(&'static str, Cow<'a, RawValue>)> {
        self.members.iter().filter(|(_, raw)| !is_null(raw))
    }

    /// Takes a member out, whatever it is.
    fn take_any(&mut self, name: &str) -> Option<Cow<'a, RawValue>> {
        let at = self.members.iter().position(|(member, _)| *member == name)?;
        Some(self.members.swap_remove(at).1)
    }

    /// Takes a member out, unless it is null.
    fn take(&mut self, name: &str) -> Option<Cow<'a, RawValue>> {
        self.take_any(name).filter(|raw| !is_null(raw))
    }

    pub(super) fn text(&mut self, name: &'static str) -> Result<Option<String>, Problem> {
        let text = self.take(name).map(|raw| serde_json::from_str(raw.get()));
        text.transpose().map_err(|_| bad(format!("`{name}` must be a string")))
    }

    pub(super) fn optional_text(&mut self, name: &'static str) -> Result<Option<String>, Problem> {
        match self.text(name) {
            Ok(Some(text)) if text.is_empty() => {
                Err(bad(format!("`{name}` is empty; leave it out")))
            }
            Ok(text) => Ok(text),
            Err(_) => Err(optional(name, "a string")),
        }
    }

    pub(super) fn flag(&mut self, name: &'static str) -> Result<bool, Problem> {
        match self.take(name).as_deref().map(RawValue::get) {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(_) => Err(optional(name, "true or false")),
        }
    }

    fn count(&mut self, name: &'static str) -> Result<Option<usize>, Problem> {
        let Some(raw) = self.take(name) else { return Ok(None) };
        let count = whole_number(raw.get()).and_then(|count| usize::try_from(count).ok());
        let count = count.filter(|count| *count > 0);
        count.map(Some).ok_or_else(|| optional(name, "a whole number from 1 on"))
    }

    fn number(&mut self, name: &'static str) -> Result<Option<f64>, Problem> {
        // Of all JSON values, only a number is also one to Rust.
        let number = self.take(name).map(|raw| raw.get().parse());
        number.transpose().map_err(|_| optional(name, "a number"))
    }

    pub(super) fn patterns(&mut self, limit: usize) -> Result<Vec<Pattern>, Problem> {
        let raw = required(self.take("topics"), "topics")?;
        let texts = serde_json::Deserializer::from_str(raw.get())
            .deserialize_seq(Texts { limit })
            .map_err(|_| bad("`topics` must be an array of strings"))?
            .ok_or_else(|| {
                Problem::new(
                    Code::TooMany,
                    format!("`topics` has over {limit} (limits.subscriptions)"),
                )
            })?;
        if texts.is_empty() {
            return Err(bad("`topics` is empty"));
        }
        let mut seen = HashSet::new();
        let mut patterns = Vec::with_capacity(texts.len());
        for text in texts {
            let pattern = Pattern::parse(&text).map_err(|error| {
                let detail = format!("{} is not a pattern: {error}", shown(&text));
                Problem::new(Code::InvalidPattern, detail)
            })?;
            if seen.insert(pattern.clone()) {
                patterns.push(pattern);
            }
        }
        Ok(patterns)
    }
}

impl Mode {
    /// Reads a mode: `all` or `latest`.
    pub fn parse(text: &str) -> Result<Self, Problem> {
        match text {
            "all" => Ok(Mode::All),
            "latest" => Ok(Mode::Latest),
            _ => Err(optional("mode", "\"all\" or \"latest\"")),
        }
    }
}

impl Opening {
    /// What `snapshot`, `last` and `tail` ask for together, or what is wrong with them. At most `most` events may be asked
    /// for, but for a snapshot.
    pub fn of(
        snapshot: bool,
        last: Option<usize>,
        tail: Option<usize>,
        most: usize,
    ) -> Result<Self, Problem> {
        let (opening, name, count) = match (snapshot, last, tail) {
            (false, None, None) => return Ok(Self::Nothing),
            (true, None, None) => return Ok(Self::Snapshot),
            (false, Some(count), None) => (Self::Last(count), "last", count),
            (false, None, Some(count)) => (Self::Tail(count), "tail", count),
            _ => return Err(bad("at most one of `snapshot`, `last` and `tail` may be there")),
        };
        if count > most {
            let detail =
                format!("`{name}` asks for {count} events, over {most} (limits.last_events)");
            return Err(Problem::new(Code::TooMany, detail));
        }
        Ok(opening)
    }

    /// How many of the newest events of each topic it asks for, if it does.
    pub fn of_each(self) -> Option<usize> {
        match self {
            Self::Snapshot => Some(1),
            Self::Last(count) => Some(count),
            Self::Nothing | Self::Tail(_) => None,
        }
    }
}

impl Subscribe {
    /// The highest `max_rate`, in events a second.
    pub const MAX_RATE: f64 = 1_000.0;

    /// The longest time between two events of a topic, in seconds: a lower rate counts as that. Of the lowest there are none.
    const LONGEST_INTERVAL: f64 = 366.0 * 24.0 * 60.0 * 60.0;

    /// How many events it may ask for. What nodes said of themselves has a bound of its own.
    pub fn most_events(patterns: &[Pattern], most: usize) -> usize {
        if patterns.iter().all(Pattern::is_metrics) { usize::MAX } else { most }
    }

    /// The shortest time between two events of a topic where they are conflated; none where every event
    /// is wanted.
    pub fn interval(&self) -> Option<Duration> {
        let paced = |rate: f64| Duration::from_secs_f64(rate.recip().min(Self::LONGEST_INTERVAL));
        (self.mode == Mode::Latest).then(|| self.max_rate.map_or(Duration::ZERO, paced))
    }

    /// The mode that `mode` and `max_rate` ask for together, or what is wrong with them.
    pub fn pace(mode: Option<Mode>, max_rate: Option<f64>) -> Result<Mode, Problem> {
        match (mode, max_rate) {
            (mode, None) => Ok(mode.unwrap_or_default()),
            (_, Some(rate)) if !(rate > 0.0 && rate <= Self::MAX_RATE) => {
                let range = format!("above 0 and at most {}", Self::MAX_RATE);
                Err(optional("max_rate", &range))
            }
            (Some(Mode::All), Some(_)) => Err(bad("`max_rate` needs the mode \"latest\"")),
            (_, Some(_)) => Ok(Mode::Latest),
        }
    }
}

fn auth(frame: &mut Frame<'_>, _: &ParseLimits) -> Result<Op, Problem> {
    let token = required(frame.text("token")?, "token")?;
    if token.is_empty() {
        return Err(bad("`token` is empty"));
    }
    Ok(Op::Auth { token: Token(token) })
}

pub(super) fn subscribe(frame: &mut Frame<'_>, limits: &ParseLimits) -> Result<Subscribe, Problem> {
    let patterns = frame.patterns(limits.patterns)?;
    let since = frame.optional_text("since")?.map(|text| Start::parse(&text)).transpose()?;
    let (last, tail) = (frame.count("last")?, frame.count("tail")?);
    let most = Subscribe::most_events(&patterns, limits.last_events);
    let opening = Opening::of(frame.flag("snapshot")?, last, tail, most)?;
    let mode = frame.optional_text("mode")?.map(|text| Mode::parse(&text)).transpose()?;
    let max_rate = frame.number("max_rate")?;
    let mode = Subscribe::pace(mode, max_rate)?;
    Ok(Subscribe { since, opening, mode, max_rate, ..Subscribe::to(patterns) })
}

fn unsubscribe(frame: &mut Frame<'_>, limits: &ParseLimits) -> Result<Op, Problem> {
    Ok(Op::Unsubscribe { patterns: frame.patterns(limits.patterns)? })
}

fn publish(frame: &mut Frame<'_>, limits: &ParseLimits) -> Result<Op, Problem> {
    let topic = Topic::parse(&required(frame.text("topic")?, "topic")?)?;
    let kind = frame.optional_text("type")?.map(|text| EventType::parse(&text)).transpose()?;
    let given = Given::take(|name| frame.take_any(name));
    let raw = match frame.take_any("data") {
        None if given.is_removed() => Cow::Borrowed(RawValue::NULL),
        raw => required(raw, "data")?,
    };
    let (bytes, limit) = (raw.get().len(), limits.event_bytes);
    if bytes > limit {
        let detail = format!("the data has {bytes} bytes, and limits.event_bytes is {limit}");
        return Err(Problem::new(Code::TooLarge, detail));
    }
    let data = Data::from_raw(&raw, limits.json_depth)?;
    let data = match (frame.binary, frame.optional_text("encoding")?.as_deref()) {
        (false, None) => data,
        (true, None) | (false, Some("base64")) => data.marked_as_base64()?,
        (true, Some(_)) => return Err(bad("a byte string takes no `encoding`")),
        (false, Some(_)) => return Err(optional("encoding", "\"base64\"")),
    };
    let key = frame.text("key")?.map(|key| PublishKey::parse(&key)).transpose();
    let key = key.map_err(|error| bad(format!("`key` {error}; else leave it out")))?;
    let mut event = NewEvent::new(topic, kind, data);
    given.put_into(&mut event)?;
    Ok(Op::Publish { event, key })
}

fn find_op(name: &str) -> Result<(&'static str, ReadOp), Problem> {
    OPS.into_iter().find(|(op, _)| *op == name).ok_or_else(|| {
        let known = OPS.map(|(op, _)| op).join(", ");
        bad(format!("{} is not an `op`; these are: {known}", shown(name)))
    })
}

pub(super) fn required<T>(member: Option<T>, name: &str) -> Result<T, Problem> {
    member.ok_or_else(|| bad(format!("`{name}` is missing")))
}

/// A refusal of a member that need not be there.
pub(super) fn optional(name: &str, what: &str) -> Problem {
    bad(format!("`{name}` must be {what}; else leave it out"))
}

fn is_null(raw: &RawValue) -> bool {
    raw.get() == "null"
}

pub(super) fn bad(detail: impl Into<String>) -> Problem {
    Problem::new(Code::BadRequest, detail)
}

/// A client's own word as it may be shown to people: quoted, escaped and cut short.
fn shown(text: &str) -> String {
    const LONGEST: usize = 64;
    match text.char_indices().nth(LONGEST) {
        None => format!("{text:?}"),
        Some((end, _)) => format!("{:?}…", &text[..end]),
    }
}

/// Reads an array of strings; `None` if it has more than the limit, of which no more are kept.
struct Texts {
    limit: usize,
}

impl<'de> Visitor<'de> for Texts {
    type Value = Option<Vec<String>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of strings")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let mut texts = Vec::new();
        while let Some(text) = items.next_element()? {
            if texts.len() == self.limit {
                while items.next_element::<IgnoredAny>()?.is_some() {}
                return Ok(None);
            }
            texts.push(text);
        }
        Ok(Some(texts))
    }
}
