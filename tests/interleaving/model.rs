//! What a client makes of what it is sent: every event after a place, or the current value of each
//! topic. At the end it equals the log.

use std::collections::BTreeMap;

use fanfare::model::{Cursor, Pattern, Topic};
use serde_json::Value;

use crate::history::SimulatedHistory;

/// Every event of some topics, from a place on.
#[derive(Debug, Default)]
pub struct Story {
    /// Which topics it is of.
    pub taste: usize,
    /// All up to there is known; where that is not so, the model begins anew with `live`.
    pub cursor: Option<Cursor>,
    /// Where the model begins.
    base: Option<Cursor>,
    seen: Vec<Cursor>,
}

impl Story {
    /// Nothing yet.
    pub fn of(taste: usize) -> Self {
        Self { taste, ..Self::default() }
    }

    /// Takes a message; the error is what is wrong with it.
    pub fn hears(&mut self, said: &Value) -> Result<(), String> {
        let place = |name: &str| said[name].as_str().and_then(|text| Cursor::parse(text).ok());
        match said["op"].as_str() {
            Some("event") => {
                let id = place("id").ok_or_else(|| format!("{said} has no id"))?;
                if self.cursor.is_some_and(|cursor| id <= cursor) {
                    return Err(format!("event {id} came again, or too late: {said}"));
                }
                self.cursor = Some(id);
                if self.base.is_some() {
                    self.seen.push(id);
                }
            }
            Some("gap") => {
                self.base = None;
                self.seen.clear();
            }
            Some(op @ ("live" | "cursor")) => {
                let at = place("cursor").ok_or_else(|| format!("{said} has no cursor"))?;
                if self.cursor.is_some_and(|cursor| at < cursor) {
                    return Err(format!("{op} {at} lies below what was sent"));
                }
                self.cursor = Some(at);
                if op == "live" {
                    self.base.get_or_insert(at);
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Holds it against the log.
    pub fn check(&self, patterns: &[Pattern], history: &SimulatedHistory) -> Result<(), String> {
        let Some(base) = self.base else { return Err("nothing became of a gap".to_owned()) };
        let of_log = history.records().into_iter().filter(|record| {
            let topic = &record.event.topic;
            !record.is_lost
                && record.event.cursor > Some(base)
                && patterns.iter().any(|pattern| pattern.matches(topic))
        });
        let of_log: Vec<_> = of_log.filter_map(|record| record.event.cursor).collect();
        if of_log == self.seen {
            return Ok(());
        }
        let missing: Vec<_> = of_log.iter().filter(|at| !self.seen.contains(at)).collect();
        let ghosts: Vec<_> = self.seen.iter().filter(|at| !of_log.contains(at)).collect();
        Err(format!(
            "A8: after {base}, without a gap, missing {missing:?}, not in the log {ghosts:?}"
        ))
    }
}

/// The current value of each topic.
#[derive(Debug, Default)]
pub struct Values(BTreeMap<Topic, String>);

impl Values {
    /// Takes a message.
    pub fn hears(&mut self, said: &Value) {
        match said["op"].as_str() {
            Some("event") => {
                let topic = said["topic"].as_str().and_then(|name| Topic::parse(name).ok());
                if let (Some(topic), Some(id)) = (topic, said["id"].as_str()) {
                    self.0.insert(topic, id.to_owned());
                }
            }
            Some("gap") => match said["topics"].as_array() {
                Some(topics) => {
                    self.0.retain(|topic, _| !topics.iter().any(|name| name == topic.as_str()));
                }
                None => self.0.clear(),
            },
            _ => {}
        }
    }

    /// Holds them against the log.
    pub fn check(&self, patterns: &[Pattern], history: &SimulatedHistory) -> Result<(), String> {
        let current = history.current().into_iter();
        let current = current.filter(|(topic, _)| patterns.iter().any(|p| p.matches(topic)));
        let current: BTreeMap<_, _> =
            current.filter_map(|(topic, event)| Some((topic, event.cursor?.to_string()))).collect();
        if current == self.0 {
            return Ok(());
        }
        Err(format!("A8: it holds {:?}, and the log {current:?}", self.0))
    }
}

/// Who is in the rooms that a client looks at.
#[derive(Debug, Default)]
pub struct Company {
    /// The user of each session, by topic; none where it has none.
    rooms: BTreeMap<String, BTreeMap<String, Option<String>>>,
}

impl Company {
    /// Takes a message; the error is what is wrong with it.
    pub fn hears(&mut self, said: &Value) -> Result<(), String> {
        match said["op"].as_str() {
            Some("event") => self.changes(said),
            Some("gap") => {
                match said["topics"].as_array() {
                    Some(topics) => topics.iter().for_each(|name| {
                        self.rooms.remove(name.as_str().unwrap_or_default());
                    }),
                    None => self.rooms.clear(),
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn changes(&mut self, said: &Value) -> Result<(), String> {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let data = &said["data"];
        let (topic, session) = (text(&said["topic"]), text(&data["session"]));
        let (Some(topic), Some(session)) = (topic, session) else {
            return Err(format!("{said} says nothing of a session"));
        };
        let (room, user) = (self.rooms.entry(topic).or_default(), text(&data["user"]));
        match said["type"].as_str() {
            Some("presence.joined") => match room.insert(session, user.clone()) {
                Some(known) if known == user => return Err(format!("P1: told twice: {said}")),
                _ => {}
            },
            _ => {
                if room.remove(&session).is_none() {
                    return Err(format!("P2: it left and was not there: {said}"));
                }
            }
        }
        if said["snapshot"] == true {
            return Ok(());
        }
        let sessions = room.values().filter(|other| user.is_some() && **other == user).count();
        let count = data["user_sessions"].as_u64().map(|count| count as usize);
        match count == user.as_ref().map(|_| sessions) {
            true => Ok(()),
            false => Err(format!("P3: {sessions} sessions are there: {said}")),
        }
    }

    /// Everyone has gone; the error is who is still there.
    pub fn is_alone(&self) -> Result<(), String> {
        match self.rooms.values().all(BTreeMap::is_empty) {
            true => Ok(()),
            false => Err(format!("P4: these are there and gone: {:?}", self.rooms)),
        }
    }
}
