//! What a publisher gives with an event beside topic, type and data: the members that become its envelope, and
//! the terms it is stored under. Read the same whatever way it comes.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::model::{
    Code, Cursor, Envelope, Latest, MAX_WHOLE, Member, NewEvent, Problem, Removed, Terms, Trace,
    whole_number,
};

/// The longest time for which a value may hold: a year, in milliseconds.
const MAX_TTL: u64 = 31_536_000_000;

/// The longest epoch of versions, in characters.
const MAX_EPOCH: usize = 64;

/// The longest name of a session, in characters.
const MAX_SESSION: usize = 64;

/// The longest name of a user, in bytes.
const MAX_USER: usize = 1_024;

/// The names of these members.
const GIVEN: [&str; 9] =
    ["from", "removed", "version", "epoch", "if_latest", "ttl_ms", "bound", "except", "keep"];

/// The members as they were given, each a JSON value. Null counts as absent, but in `if_latest`.
#[derive(Debug, Default, Clone)]
pub struct Given<'a>(Vec<(&'static str, Cow<'a, RawValue>)>);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct From {
    user: String,
    session: Option<String>,
}

impl<'a> Given<'a> {
    /// Takes what is there of these members.
    pub fn take(mut member: impl FnMut(&'static str) -> Option<Cow<'a, RawValue>>) -> Self {
        let given = GIVEN.iter().filter_map(|name| Some((*name, member(name)?)));
        Self(given.filter(|(name, raw)| *name == "if_latest" || raw.get() != "null").collect())
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the event removes its topic's current value, and so needs no data.
    pub fn is_removed(&self) -> bool {
        self.find("removed").is_some_and(|raw| raw.get() == "true")
    }

    fn find(&self, name: &str) -> Option<&RawValue> {
        self.0.iter().find(|(given, _)| *given == name).map(|(_, raw)| &**raw)
    }

    fn flag(&self, name: &str) -> Result<Option<bool>, Problem> {
        match self.find(name).map(RawValue::get) {
            None => Ok(None),
            Some("true") => Ok(Some(true)),
            Some("false") => Ok(Some(false)),
            Some(_) => Err(must_be(name, "true or false")),
        }
    }

    fn number(&self, name: &str, least: u64, most: u64) -> Result<Option<u64>, Problem> {
        let Some(raw) = self.find(name) else { return Ok(None) };
        let number = whole_number(raw.get()).filter(|number| (least..=most).contains(number));
        let what = || format!("a whole number from {least} to {most}");
        number.map(Some).ok_or_else(|| must_be(name, &what()))
    }

    fn text(&self, name: &str, most: usize) -> Result<Option<String>, Problem> {
        let Some(raw) = self.find(name) else { return Ok(None) };
        let text = serde_json::from_str::<String>(raw.get()).ok();
        let text = text.filter(|text| (1..=most).contains(&text.chars().count()));
        text.map(Some).ok_or_else(|| must_be(name, &format!("a string of 1 to {most} characters")))
    }

    fn if_latest(&self) -> Result<Option<Latest>, Problem> {
        let Some(raw) = self.find("if_latest") else { return Ok(None) };
        let text = serde_json::from_str::<String>(raw.get()).ok();
        let latest = match text.as_deref() {
            Some("absent") => Some(Latest::Absent),
            Some("present") => Some(Latest::Present),
            text => text.and_then(|text| Cursor::parse(text).ok()).map(Latest::Is),
        };
        let what = "\"absent\", \"present\" or the `id` of the newest event";
        latest.map(Some).ok_or_else(|| must_be("if_latest", what))
    }

    fn sender(&self) -> Result<Option<From>, Problem> {
        let Some(raw) = self.find("from") else { return Ok(None) };
        let from = serde_json::from_str::<From>(raw.get()).ok().filter(|from| {
            let session = from.session.as_ref().map_or(1, |session| session.chars().count());
            (1..=MAX_USER).contains(&from.user.len()) && (1..=MAX_SESSION).contains(&session)
        });
        from.map(Some).ok_or_else(|| must_be("from", r#"{"user","session"?}, of strings"#))
    }

    /// Puts all that was given into an event. 422 where it is not what it must be, or does not go together.
    pub fn put_into(&self, event: &mut NewEvent) -> Result<(), Problem> {
        if self.is_empty() {
            return Ok(());
        }
        let from = self.sender()?;
        let is_removed = self.flag("removed")?.unwrap_or(false);
        let version = self.number("version", 0, MAX_WHOLE)?;
        let epoch = self.text("epoch", MAX_EPOCH)?;
        let ttl = self.number("ttl_ms", 1, MAX_TTL)?;
        let is_bound = self.flag("bound")?.unwrap_or(false);
        let except = self.text("except", MAX_SESSION)?;
        let passes = self.flag("keep")? == Some(false);
        let if_latest = self.if_latest()?;
        if epoch.is_some() && version.is_none() {
            return Err(invalid("`epoch` says what `version` is counted in, and there is none"));
        }
        if is_removed {
            let of_values = [("ttl_ms", ttl.is_some()), ("bound", is_bound)];
            none_of(&of_values, "is of values, and `removed` leaves none")?;
        }
        if passes {
            let kept = [
                ("removed", is_removed),
                ("version", version.is_some()),
                ("ttl_ms", ttl.is_some()),
                ("bound", is_bound),
                ("if_latest", if_latest.is_some()),
            ];
            none_of(&kept, "is of events that are kept: leave `keep` out")?;
        }
        let mut envelope = Envelope::default();
        let mut push = |member: Option<Member<'_>>| _ = member.map(|member| envelope.push(member));
        if let Some(From { user, session }) = &from {
            push(Some(Member::User(user)));
            push(session.as_deref().map(Member::Session));
        }
        push(is_removed.then_some(Member::Removed(Removed::Publisher)));
        push(version.map(Member::Version));
        push(epoch.as_deref().map(Member::Epoch));
        push(ttl.map(Member::Ttl));
        // Whose session it is nobody gives.
        push(is_bound.then_some(Member::Holder("")));
        push(except.as_deref().map(Member::Except));
        if envelope != Envelope::default() {
            event.envelope = Some(Box::new(envelope));
        }
        let terms = Terms { passes, if_latest, unless_after: None };
        event.terms = (terms != Terms::default()).then(|| Box::new(terms));
        Ok(())
    }
}

/// Keeps an event from the session of this name.
pub fn keep_from(session: &str, event: &mut NewEvent) -> Result<(), Problem> {
    if !(1..=MAX_SESSION).contains(&session.chars().count()) {
        return Err(invalid(format!("X-Except-Session must have 1 to {MAX_SESSION} characters")));
    }
    event.envelope.get_or_insert_default().push(Member::Except(session));
    Ok(())
}

/// Lets readers of an event see which trace it is part of.
pub fn put_trace(trace: Option<&Trace>, event: &mut NewEvent) {
    if let Some(trace) = trace {
        event.envelope.get_or_insert_default().push(Member::Trace(trace.as_str()));
    }
}

/// Has the broker go on with the trace that an event is part of, which no reader sees.
pub fn join(trace: Option<&Trace>, event: &mut NewEvent) {
    if let Some(span) = trace.and_then(Trace::span) {
        event.envelope.get_or_insert_default().push(Member::Span(span));
    }
}

fn must_be(name: &str, what: &str) -> Problem {
    invalid(format!("`{name}` must be {what}; else leave it out"))
}

/// Refuses the first of these members that is given.
fn none_of(members: &[(&str, bool)], why: &str) -> Result<(), Problem> {
    match members.iter().find(|(_, is_given)| *is_given) {
        None => Ok(()),
        Some((name, _)) => Err(invalid(format!("`{name}` {why}"))),
    }
}

fn invalid(detail: impl Into<String>) -> Problem {
    Problem::new(Code::InvalidEvent, detail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Data, Topic};

    fn put(json: &str) -> Result<NewEvent, String> {
        let members: std::collections::BTreeMap<String, Box<RawValue>> =
            serde_json::from_str(json).unwrap();
        let given = Given::take(|name| members.get(name).cloned().map(Cow::Owned));
        let mut event = NewEvent::new(Topic::parse("a").unwrap(), None, Data::null());
        match given.put_into(&mut event) {
            Ok(()) => Ok(event),
            Err(problem) => {
                assert_eq!(problem.code, Code::InvalidEvent);
                Err(problem.detail)
            }
        }
    }

    #[test]
    fn members_become_an_envelope_and_terms() {
        let event =
            put(r#"{"from":{"user":"ann","session":"s"},"removed":true,"version":9007199254740991,
                "epoch":"e","if_latest":"absent","except":"s-2"}"#)
            .unwrap();
        let envelope = event.envelope.unwrap();
        let sender = envelope.sender().unwrap();
        assert_eq!((sender.user, sender.session), (Some("ann"), Some("s")));
        assert_eq!(envelope.removed(), Some(Removed::Publisher));
        let version = envelope.version().unwrap();
        assert_eq!((version.number, version.epoch), (MAX_WHOLE, Some("e")));
        assert_eq!(envelope.except(), Some("s-2"));
        assert_eq!(event.terms.unwrap().if_latest, Some(Latest::Absent));
        let passes = put(r#"{"keep":false,"except":"s"}"#).unwrap();
        assert!(!passes.is_kept() && passes.envelope.is_some());
        let bound = put(r#"{"bound":true,"ttl_ms":5}"#).unwrap().envelope.unwrap();
        assert_eq!((bound.holder(), bound.ttl().is_some()), (Some(""), true));
        let is = put(r#"{"if_latest":"abcdefgh-1-7"}"#).unwrap().terms.unwrap().if_latest;
        assert_eq!(is, Some(Latest::Is(Cursor::parse("abcdefgh-1-7").unwrap())));
    }

    #[test]
    fn null_is_absent_and_what_says_nothing_leaves_nothing() {
        let nothing = r#"{"from":null,"removed":null,"version":null,"epoch":null,"except":null,"bound":null}"#;
        for json in ["{}", nothing, r#"{"removed":false,"keep":true,"bound":false}"#] {
            let event = put(json).unwrap();
            assert_eq!((event.envelope, event.terms), (None, None), "{json}");
        }
    }

    #[test]
    fn what_is_not_what_it_must_be_is_refused_by_name() {
        for (json, name) in [
            (r#"{"version":-1}"#, "version"),
            (r#"{"version":9007199254740992}"#, "version"),
            (r#"{"version":"1"}"#, "version"),
            (r#"{"version":1.5}"#, "version"),
            (r#"{"epoch":"e"}"#, "epoch"),
            (r#"{"version":1,"epoch":""}"#, "epoch"),
            (r#"{"removed":1}"#, "removed"),
            (r#"{"if_latest":null}"#, "if_latest"),
            (r#"{"if_latest":"newest"}"#, "if_latest"),
            (r#"{"except":7}"#, "except"),
            (r#"{"ttl_ms":0}"#, "ttl_ms"),
            (r#"{"ttl_ms":31536000001}"#, "ttl_ms"),
            (r#"{"ttl_ms":1,"removed":true}"#, "ttl_ms"),
            (r#"{"ttl_ms":1,"keep":false}"#, "ttl_ms"),
            (r#"{"bound":"s-1"}"#, "bound"),
            (r#"{"bound":true,"removed":true}"#, "bound"),
            (r#"{"bound":true,"keep":false}"#, "bound"),
            (r#"{"from":"ann"}"#, "from"),
            (r#"{"from":{"session":"s"}}"#, "from"),
            (r#"{"from":{"user":"ann","name":"x"}}"#, "from"),
            (r#"{"keep":false,"version":1}"#, "version"),
            (r#"{"keep":false,"removed":true}"#, "removed"),
            (r#"{"keep":false,"if_latest":"absent"}"#, "if_latest"),
        ] {
            let refused = put(json).expect_err(json);
            assert!(refused.starts_with(&format!("`{name}` ")), "{json}: {refused}");
        }
        let long = format!(r#"{{"version":1,"epoch":"{}"}}"#, "é".repeat(65));
        assert!(put(&long).is_err());
        assert!(put(&long.replacen('é', "", 1)).is_ok(), "characters count");
    }
}
