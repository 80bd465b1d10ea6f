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

/// The highest number up to which a script knows each.
const EXACT: u64 = 1 << 53;

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
        mut appends: impl Iterator<Item = &'a Append> + Clone,
        rules: &Rules,
    ) -> Option<Self> {
        let events = appends.clone().flat_map(|append| &append.events);
        if events.clone().count() > EVENTS || appends.any(|append| append.key.is_some()) {
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

    /// The numbers, as the script reads them: no higher than it can, whatever is allowed.
    fn numbers(&self, keys: &Keys, presented: Cursor, most_bytes: usize) -> Vec<u8> {
        let exact = |number: usize| (number as u64).min(EXACT).to_be_bytes();
        let mut numbers = Vec::with_capacity(27 + 23 * self.topics.len() + 10 * self.kept.len());
        numbers.extend(presented.sequence.to_be_bytes());
        numbers.extend(exact(most_bytes));
        numbers.push(self.form);
        numbers.extend((keys.before_topic() as u16 + 1).to_be_bytes());
        numbers.extend((self.places.len() as u32).to_be_bytes());
        numbers.extend((self.topics.len() as u16).to_be_bytes());
        numbers.extend((self.kept.len() as u16).to_be_bytes());
        for KeptTopic { most_events, most_bytes, stays, coming, cost, .. } in &self.topics {
            numbers.extend(exact(*most_events));
            numbers.extend(exact(*most_bytes));
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

#[cfg(test)]
mod tests {
    use super::super::super::{Asked, IdempotencyKey};
    use super::*;
    use crate::config::Config;
    use crate::model::{Data, Pattern, Terms};

    fn event(name: &str, data: &str) -> NewEvent {
        let data = Data::from_json(data.as_bytes(), 1 << 20).unwrap();
        NewEvent::new(Topic::parse(name).unwrap(), None, data)
    }

    fn append(events: Vec<NewEvent>) -> Append {
        Append { events, key: None }
    }

    fn rules() -> Rules {
        let mut rules = Config::default().rules;
        let mut passed = rules.default.clone();
        (passed.pattern, passed.storage) = (Pattern::parse("passed.>").unwrap(), Storage::None);
        rules.listed.push(passed);
        rules
    }

    #[test]
    fn the_script_is_told_where_each_kept_entry_stands_and_says_which_number_the_last_one_has() {
        let rules = rules();
        let appends = [
            append(vec![event("a", "1"), event("passed.x", "2")]),
            append(vec![event("b", "33"), event("a", "4")]),
        ];
        let plain = Plain::of(appends.iter(), &rules).unwrap();
        let entries = plain.kept.iter().map(|(place, from, upto)| {
            let entry = &plain.body[*from as usize - 1..*upto as usize];
            (plain.topics[usize::from(*place) - 1].topic.as_str(), entry)
        });
        let entries: Vec<_> = entries.collect();
        assert_eq!(entries, [("a", &b"\0\x001"[..]), ("b", b"\0\x0033"), ("a", b"\0\x004")]);
        let cost: u32 = plain.topics.iter().map(|topic| topic.cost).sum();
        assert_eq!((plain.topics[0].coming, cost), (2, 3 * 258 + 1));
        let presented = Cursor::parse("abcdefgh-1-7").unwrap();
        let (head, outcomes) = plain.outcomes(appends.iter(), presented, "12 1000");
        let events = outcomes.into_iter().flat_map(|outcome| outcome.unwrap().events);
        let numbers = events.map(|event| event.cursor.map(|cursor| cursor.sequence));
        assert_eq!(numbers.collect::<Vec<_>>(), [Some(10), None, Some(11), Some(12)]);
        assert_eq!(head, presented.at(12));
        assert!(plain.outcomes(appends.iter(), presented, "12").1.is_empty());
    }

    #[test]
    fn what_asks_for_more_goes_the_long_way() {
        let rules = rules();
        let is_plain = |append: Append| Plain::of([append].iter(), &rules).is_some();
        assert!(is_plain(append(vec![event("a", "1")])));
        let mut under_terms = event("a", "1");
        under_terms.terms = Some(Box::new(Terms::default()));
        assert!(!is_plain(append(vec![under_terms])));
        let large = format!("\"{}\"", "x".repeat(ENTRY_BYTES));
        assert!(!is_plain(append(vec![event("a", &large)])));
        let half = format!("\"{}\"", "x".repeat(ENTRY_BYTES / 2));
        assert!(!is_plain(append(vec![event("a", &half); 2 * BYTES / ENTRY_BYTES])));
        assert!(!is_plain(append(vec![event("a", "1"); EVENTS + 1])));
        let asked = Asked { raw: None, events: None };
        let key = Some(IdempotencyKey { scope: [0; 32], is_in_series: false, asked });
        assert!(!is_plain(Append { events: vec![event("a", "1")], key }));
    }

    #[test]
    fn the_short_way_rests_once_it_did_not_do() {
        let mut way = ShortWay::default();
        assert!(way.is_open());
        way.decline();
        assert!(!way.is_open());
        way.declined = Instant::now().checked_sub(REST);
        assert!(way.is_open());
    }
}
