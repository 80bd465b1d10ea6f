//! What one client may be sent: each word of the broker is held against what the client asked, what
//! it was answered, and what the operator decided.
//!
//! An event carries a number, by which its publish is known. It was pushed after that publish began
//! and after the last request that it comes behind the answer of; if nothing gave a right to it at any
//! moment since, it was sent without one.

use std::collections::BTreeMap;
use std::rc::Rc;

use fanfare::model::{Cursor, Pattern, Topic};
use serde_json::Value;
use tokio::time::Instant;

use crate::rights::Credential;
use crate::world::World;

/// What a request was.
#[derive(Debug, Clone)]
pub enum Asked {
    /// To be known by a token.
    Auth(Rc<Credential>),
    /// To get what matches.
    Subscribe(Vec<Pattern>),
    /// To get what matches by another token.
    Prove(Rc<Credential>, Vec<Pattern>),
    /// To get it no longer.
    Unsubscribe(Vec<Pattern>),
    /// Anything else.
    Other,
}

/// One client's requests and answers.
#[derive(Debug)]
pub struct Watch {
    credential: Option<Rc<Credential>>,
    /// What other tokens have added, as far as is known.
    proven: Vec<(Rc<Credential>, Vec<Pattern>)>,
    /// Asked and not answered, by `ref`.
    asked: BTreeMap<u64, (Instant, Asked)>,
    /// When each subscribe was asked for that was acknowledged.
    subscribed: BTreeMap<u64, Instant>,
    /// When the newest request was asked that was answered.
    barrier: Instant,
    /// By which request each was asked for last.
    wanted: BTreeMap<Pattern, u64>,
    /// Acknowledged, and not live.
    unlive: BTreeMap<u64, Vec<Pattern>>,
    /// It came in.
    pub is_welcome: bool,
    /// Why it was told to go.
    pub bye: Option<String>,
}

impl Watch {
    /// A client that comes with a credential, if any, and subscribes to `patterns` at once.
    pub fn new(credential: Option<Rc<Credential>>, patterns: &[Pattern]) -> Self {
        let mut watch = Self {
            credential,
            proven: Vec::new(),
            asked: BTreeMap::new(),
            subscribed: BTreeMap::new(),
            barrier: Instant::now(),
            wanted: BTreeMap::new(),
            unlive: BTreeMap::new(),
            is_welcome: false,
            bye: None,
        };
        if !patterns.is_empty() {
            watch.asks(0, Asked::Subscribe(patterns.to_vec()));
        }
        watch
    }

    /// The client asks something.
    pub fn asks(&mut self, reference: u64, asked: Asked) {
        if let Asked::Prove(credential, patterns) = &asked {
            // It may be done before it is answered.
            self.proven.push((credential.clone(), patterns.clone()));
        }
        if let Asked::Subscribe(patterns) | Asked::Prove(_, patterns) = &asked {
            for pattern in patterns {
                self.wanted.insert(pattern.clone(), reference);
            }
        }
        if let Asked::Unsubscribe(patterns) = &asked {
            for unlive in self.unlive.values_mut() {
                unlive.retain(|pattern| !patterns.contains(pattern));
            }
            // What is asked for and not acknowledged yet may end before it begins.
            for (_, before) in self.asked.values_mut() {
                if let Asked::Subscribe(before) | Asked::Prove(_, before) = before {
                    before.retain(|pattern| !patterns.contains(pattern));
                }
            }
        }
        self.asked.insert(reference, (Instant::now(), asked));
    }

    /// The broker said something; the error is what is wrong with that.
    pub fn hears(&mut self, world: &World, said: &Value) -> Result<(), String> {
        if self.bye.is_some() {
            return Err(format!("{said} came after the good-bye"));
        }
        let reference = said["ref"].as_u64();
        match said["op"].as_str().unwrap_or_default() {
            "welcome" => self.is_welcome = true,
            "event" => self.sees(world, said)?,
            "ack" => self.is_answered(reference, true)?,
            "error" => self.is_refused(reference)?,
            "pong" => self.is_answered(reference, true)?,
            "live" => {
                let live = reference.or_else(|| world.is_stream(said).then_some(0));
                if let Some(reference) = live {
                    self.unlive.remove(&reference);
                }
            }
            "bye" => {
                self.bye = Some(said["code"].as_str().unwrap_or_default().to_owned());
            }
            _ => {}
        }
        Ok(())
    }

    fn is_answered(&mut self, reference: Option<u64>, is_done: bool) -> Result<(), String> {
        let Some(reference) = reference else { return Ok(()) };
        let Some((at, asked)) = self.asked.remove(&reference) else {
            return Err(format!("an answer to request {reference}, which was none"));
        };
        self.barrier = self.barrier.max(at);
        match asked {
            Asked::Auth(credential) if is_done => self.credential = Some(credential),
            Asked::Subscribe(patterns) | Asked::Prove(_, patterns) if is_done => {
                self.subscribed.insert(reference, at);
                _ = self.unlive.insert(reference, patterns);
            }
            Asked::Unsubscribe(patterns) if is_done => {
                for pattern in patterns {
                    if self.wanted.get(&pattern).is_some_and(|asked| *asked < reference) {
                        self.wanted.remove(&pattern);
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn is_refused(&mut self, reference: Option<u64>) -> Result<(), String> {
        match reference {
            // A replay that failed after its acknowledgement.
            Some(reference) if self.unlive.remove(&reference).is_some() => Ok(()),
            // A right was lost, and with it perhaps what was on its way; not to what is open.
            None => {
                let is_open = |pattern: &Pattern| pattern.as_str().starts_with("open.");
                self.unlive.retain(|_, patterns| patterns.iter().all(is_open));
                Ok(())
            }
            reference => self.is_answered(reference, false),
        }
    }

    fn sees(&mut self, world: &World, event: &Value) -> Result<(), String> {
        let name = event["topic"].as_str().unwrap_or_default();
        let topic = Topic::parse(name).map_err(|error| format!("{event}: {error}"))?;
        let number = event["data"]["n"].as_u64().unwrap_or_default();
        let published = match topic.is_reserved() {
            // The broker itself says when.
            true => Some(self.barrier),
            false => world.published(number),
        };
        let Some(published) = published else {
            return Err(format!("{event} was never published"));
        };
        let id = event["id"].as_str().and_then(|id| Cursor::parse(id).ok());
        let begun = event["replay"].as_u64().and_then(|reference| self.begun(reference));
        let forgotten = id.and_then(|id| world.history.forgotten(id));
        if begun.is_some_and(|begun| forgotten.is_some_and(|forgotten| forgotten < begun)) {
            return Err(format!("R1: event {number} of {topic} was forgotten, and came again"));
        }
        let since = self.barrier.max(published);
        if !self.wanted.keys().any(|pattern| pattern.matches(&topic)) {
            return Err(format!("A1: event {number} of {topic} came, which is not subscribed to"));
        }
        let pending = self.asked.values().filter_map(|(_, asked)| match asked {
            Asked::Auth(credential) => Some(credential),
            _ => None,
        });
        let by_token = pending.chain(&self.credential).any(|by| by.may_see(&topic, since))
            || self.proven.iter().any(|(by, patterns)| {
                by.may_see(&topic, since) && patterns.iter().any(|pattern| pattern.matches(&topic))
            });
        let by_rule = name.starts_with("open.")
            || (name.starts_with("gate.") && world.gate.may_have_been_open(since));
        if by_token || by_rule {
            return Ok(());
        }
        Err(format!("A2: event {number} of {topic} came without a right"))
    }

    /// When a subscribe was asked for.
    fn begun(&self, reference: u64) -> Option<Instant> {
        let asked = self.asked.get(&reference).map(|(at, _)| *at);
        asked.or_else(|| self.subscribed.get(&reference).copied())
    }

    /// The client is still there and everything has had its time; the error is what is missing.
    pub fn settled(&self) -> Result<(), String> {
        if self.bye.is_some() || !self.is_welcome {
            return Ok(());
        }
        let mut unlive = self.unlive.iter().filter(|(_, patterns)| !patterns.is_empty());
        match unlive.next() {
            Some((reference, patterns)) => Err(format!(
                "A9: subscribe {reference} to {patterns:?} was acknowledged and never went live"
            )),
            None => Ok(()),
        }
    }
}
