//! The short way into Redis: publishes that ask for no more than to be numbered, stored and told.
//!
//! Most are such. What they are is written down here as the script reads it: the events as a message on the channel
//! holds them, and numbers that say which of them are kept and where they stand. The script does nothing where the log
//! or a topic asks for more than that; then the long way is taken, and for a while at once.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use redis::RedisResult;

use super::super::terms::is_free;
use super::super::{Append, AppendError, EventReceipt, Receipt};
use super::entry;
use super::keys::Keys;
use super::link::{Link, Server};
use super::scripts;
use crate::config::{Rules, Storage};
use crate::model::{Cursor, NewEvent, Timestamp, Topic};

/// The most events of a group, its most bytes, and the most bytes of an entry; of what is larger a message may hold the
/// place alone, or be one of several.
const EVENTS: usize = 1_000;
const BYTES: usize = 256 << 10;
const ENTRY_BYTES: usize = 16 << 10;

/// How long the short way is not tried once a log or a topic asked for more: where one is at a bound, that is so for
/// each publish.
const REST: Duration = Duration::from_secs(1);

/// Whether the short way is tried.
#[derive(Debug, Default)]
pub(super) struct ShortWay {
    declined: Option<Instant>,
}

impl ShortWay {
    /// Whether it is open.
    pub(super) fn is_open(&self) -> bool {
        self.declined.is_none_or(|declined| declined.elapsed() >= REST)
    }

    /// Notes that the script declined.
    pub(super) fn decline(&mut self) {
        self.declined = Some(Instant::now());
    }
}

/// A topic that is kept, and what comes of it.
#[derive(Debug)]
struct KeptTopic<'a> {
    topic: &'a Topic,
    most_events: usize,
    most_bytes: usize,
    stays: bool,
    coming: u16,
    cost: u32,
}

/// A group of plain publishes.
#[derive(Debug, Default)]
pub(super) struct Plain<'a> {
    topics: Vec<KeptTopic<'a>>,
    /// Of each event its place among the topics, from 1; none where it is passed on alone.
    places: Vec<Option<u16>>,
    /// Of each kept event its topic, and from and up to which byte its entry stands, from 1.
    kept: Vec<(u16, u32, u32)>,
    /// The events as a message holds them.
    body: Vec<u8>,
    form: u8,
}

impl<'a> Plain<'a> {
    /// A group of publishes; none where one of them asks for more.
    pub(super) fn of(
        appends: impl Iterator<Item = &'a Append> + Clone,
        rules: &Rules,
    ) -> Option<Self> {
        let events = appends.clone().flat_map(|append| &append.events);
        if appends.clone().any(|append| append.key.is_some()) || events.clone().count() > EVENTS {
            return None;
        }
        let mut plain = Self { form: 1, ..Self::default() };
        let mut places = HashMap::new();
        for event in events {
            let is_mortal = event.envelope.as_ref().is_some_and(|envelope| envelope.is_mortal());
            if is_mortal || !is_free(event) {
                return None;
            }
            let place =
                *places.entry(&event.topic).or_insert_with(|| plain.place(&event.topic, rules));
            plain.add(event, place)?;
        }
        Some(plain)
    }

    /// The place of a topic, where it is kept.
    fn place(&mut self, topic: &'a Topic, rules: &Rules) -> Option<u16> {
        let rule = rules.of(topic);
        if rule.storage == Storage::None {
            return None;
        }
        let (most_events, most_bytes) = (rule.max_events, rule.max_bytes);
        let stays = rule.keeps_newest(Storage::Redis);
        self.topics.push(KeptTopic { topic, most_events, most_bytes, stays, coming: 0, cost: 0 });
        u16::try_from(self.topics.len()).ok()
    }

    fn add(&mut self, event: &NewEvent, place: Option<u16>) -> Option<()> {
        let entry = entry::encode(event);
        if entry.len() > ENTRY_BYTES {
            return None;
        }
        entry::mention(&mut self.body, &event.topic, &entry, place.is_some())?;
        if self.body.len() > BYTES {
            return None;
        }
        self.form = self.form.max(entry::form(event));
        self.places.push(place);
        if let Some(place) = place {
            let upto = self.body.len();
            let from = upto - entry.len() + 1;
            self.kept.push((place, u32::try_from(from).ok()?, u32::try_from(upto).ok()?));
            let topic = self.topics.get_mut(usize::from(place) - 1)?;
            topic.coming += 1;
            topic.cost += u32::try_from(event.cost()).ok()?;
        }
        Some(())
    }

    /// Publishes it where the node presents that place and all topics may have so many bytes; nothing where the log or a
    /// topic asks for more, and nothing was done.
    pub(super) async fn publish(
        &self,
        server: &Server,
        link: &Arc<Link>,
        presented: Cursor,
        most_bytes: usize,
    ) -> RedisResult<Option<String>> {
        let mut script = scripts::PUBLISH_PLAIN.prepare_invoke();
        for key in server.keys.of_plain_publishes() {
            script.key(key);
        }
        for KeptTopic { topic, .. } in &self.topics {
            script.key(server.keys.stream(topic));
        }
        script.arg(&link.run).arg(presented.log.to_string()).arg(presented.epoch);
        script.arg(server.channel()).arg(self.numbers(&server.keys, presented, most_bytes));
        script.arg(&self.body);
        server.publish(link, &script).await
    }

    fn numbers(&self, keys: &Keys, presented: Cursor, most_bytes: usize) -> Vec<u8> {
        // All of these were bounded when they were added, but for what is told to be without a bound.
        let mut numbers = Vec::with_capacity(27 + 23 * self.topics.len() + 10 * self.kept.len());
        numbers.extend(presented.sequence.to_be_bytes());
        numbers.extend((most_bytes as u64).to_be_bytes());
        numbers.push(self.form);
        numbers.extend((keys.before_topic() as u16 + 1).to_be_bytes());
        numbers.extend((self.places.len() as u32).to_be_bytes());
        numbers.extend((self.topics.len() as u16).to_be_bytes());
        numbers.extend((self.kept.len() as u16).to_be_bytes());
        for KeptTopic { most_events, most_bytes, stays, coming, cost, .. } in &self.topics {
            numbers.extend((*most_events as u64).to_be_bytes());
            numbers.extend((*most_bytes as u64).to_be_bytes());
            numbers.push(u8::from(*stays));
            numbers.extend(coming.to_be_bytes());
            numbers.extend(cost.to_be_bytes());
        }
        for (place, from, upto) in &self.kept {
            numbers.extend(place.to_be_bytes());
            numbers.extend(from.to_be_bytes());
            numbers.extend(upto.to_be_bytes());
        }
        numbers
    }

    /// The newest place then, and what became of each publish; none of them where the answer can't be read.
    pub(super) fn outcomes(
        &self,
        appends: impl Iterator<Item = &'a Append>,
        presented: Cursor,
        answer: &str,
    ) -> (Cursor, Vec<Result<Receipt, AppendError>>) {
        let mut numbers = answer.split(' ').map(str::parse::<u64>);
        let (Some(Ok(number)), Some(Ok(time))) = (numbers.next(), numbers.next()) else {
            return (presented, Vec::new());
        };
        let time = Timestamp::from_millis(i64::try_from(time).unwrap_or(i64::MAX));
        let mut last = presented.at(number.saturating_sub(self.kept.len() as u64));
        let mut places = self.places.iter();
        let mut receipt = |event: &NewEvent| {
            let is_kept = places.next().is_some_and(Option::is_some);
            last = last.at(last.sequence + u64::from(is_kept));
            let cursor = is_kept.then_some(last);
            EventReceipt { cursor, topic: event.topic.clone(), time, superseded: None }
        };
        let mut outcome = |append: &Append| {
            let events = append.events.iter().map(&mut receipt).collect();
            Ok(Receipt { events, repeated: false })
        };
        (presented.at(number), appends.map(&mut outcome).collect())
    }
}
