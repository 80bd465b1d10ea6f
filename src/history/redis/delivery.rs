//! The last step of the road out of Redis: events are told in order, and so is what is gone of them.
//!
//! What came without its data is fetched when its turn comes, together with what comes next and lacks its
//! data too, in one round trip, whether it was mentioned in a message or found while a hole is filled. What
//! is gone by then is a loss of its topic, and the same answer says whether a newer event of it is kept.

use std::collections::HashMap;
use std::mem;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tracing::{debug, warn};

use super::super::{Loss, LostTopic, Removal};
use super::entry::{self, Mention};
use super::follower::Follower;
use super::losses::{News, ToldLosses};
use super::reads::{Fetched, IndexEntry, Losses};
use crate::metrics::LOG;
use crate::model::{Cursor, Event, Timestamp, Topic};

/// How many events are fetched together.
const FETCHED: usize = 64;

/// What is to be told next: events that come one after the other, or losses that do; never both.
#[derive(Debug, Default)]
pub(super) struct Due {
    events: Vec<Arc<Event>>,
    lost: Vec<LostTopic>,
    /// All before the losses was told.
    since: Option<Cursor>,
}

impl Due {
    /// Adds a loss after a place. Of several of one topic the last one says whether it is superseded.
    fn add_loss(&mut self, lost: LostTopic, since: Cursor) {
        self.since.get_or_insert(since);
        match self.lost.iter_mut().find(|other| other.topic == lost.topic) {
            Some(other) => *other = lost,
            None => self.lost.push(lost),
        }
    }
}

impl Follower {
    /// Delivers events in order, those that have been already left out; none where some could not be
    /// fetched.
    pub(super) async fn deliver(&mut self, mentions: &[Mention<'_>]) -> Option<()> {
        let (mut due, mut fetched) = (Due::default(), HashMap::new());
        for (at, mention) in mentions.iter().enumerate() {
            let Mention { cursor, topic, .. } = mention;
            if cursor.is_some_and(|cursor| cursor.sequence <= self.at.sequence) {
                continue;
            }
            if self.feed.skip(topic, None) {
                self.flush(&mut due);
                if self.feed.skip(topic, *cursor) {
                    self.pass_up_to(*cursor);
                    continue;
                }
            }
            let is_missing = |cursor: &Cursor| !fetched.contains_key(&cursor.sequence);
            if mention.entry.is_none() && cursor.as_ref().is_some_and(is_missing) {
                self.flush(&mut due);
                fetched.extend(self.fetch(&mentions[at..]).await?);
            }
            let found = cursor.and_then(|cursor| fetched.remove(&cursor.sequence));
            match (read(mention, found.as_ref()), cursor) {
                (Some(event), _) => self.tell_event(&mut due, event),
                (None, Some(cursor)) => {
                    let is_kept = matches!(found, Some(Fetched::Removed { is_superseded: true }));
                    let is_superseded = is_kept || is_followed(mention, &mentions[at + 1..]);
                    let lost = LostTopic { topic: topic.clone(), is_superseded };
                    self.tell_loss(&mut due, lost, *cursor);
                }
                // Nobody misses what is ephemeral.
                (None, None) => warn!(%topic, "an ephemeral event can't be read"),
            }
        }
        self.flush(&mut due);
        Some(())
    }

    /// Fetches the first of some events, and of those behind it what has to be fetched and is wanted, as
    /// many as go into one round trip.
    async fn fetch(&self, mentions: &[Mention<'_>]) -> Option<HashMap<u64, Fetched>> {
        let is_due = |(at, mention): &(usize, &Mention<'_>)| {
            mention.entry.is_none() && (*at == 0 || !self.feed.skip(&mention.topic, None))
        };
        let index_entry = |(_, mention): (usize, &Mention<'_>)| {
            let Mention { cursor, topic, time, .. } = mention;
            Some(IndexEntry {
                sequence: cursor.as_ref()?.sequence,
                topic: topic.clone(),
                time: *time,
            })
        };
        let due = mentions.iter().enumerate().filter(is_due).filter_map(index_entry);
        let entries: Vec<_> = due.take(FETCHED).collect();
        let link = self.server.link().ok()?;
        let (fetched, state) = self.judge(&link, self.reads(&link).fetch(&entries).await)?;
        // Where Redis itself has lost something, what is kept says nothing about what is gone.
        state.filter(|now| self.is_whole(now)).map(|_| fetched)
    }

    fn tell_event(&mut self, due: &mut Due, event: Arc<Event>) {
        if !due.lost.is_empty() {
            self.flush(due);
        }
        self.at = event.cursor.unwrap_or(self.at);
        due.events.push(event);
    }

    fn tell_loss(&mut self, due: &mut Due, lost: LostTopic, position: Cursor) {
        if !due.events.is_empty() {
            self.flush(due);
        }
        due.add_loss(lost, self.at);
        self.at = position;
    }

    /// Tells what is due. All that was told is presented to Redis from here on.
    fn flush(&mut self, due: &mut Due) {
        let Due { events, lost, since } = mem::take(due);
        if !events.is_empty() {
            note_lag(&events);
            self.feed.committed(events);
            self.server.saw(self.at);
        }
        if let Some(since) = since {
            debug!(%since, ?lost, "events were gone before they could be delivered");
            self.feed.broken(Loss { since, position: self.at, topics: Some(lost.into()) });
            self.server.saw(self.at);
        }
    }

    /// Tells whoever keeps something at hand what is kept no longer, of what was told.
    pub(super) fn tell_kept_no_longer(&self, removed: Vec<Removal>) {
        if !removed.is_empty() {
            LOG.removals.add(removed.len() as u64);
            self.feed.removed(&removed);
        }
    }

    /// Tells those whom it concerns of what was removed before it could be read, unless it is told.
    pub(super) async fn tell_removed(
        &self,
        losses: &Losses,
        since: Cursor,
        told: &mut ToldLosses,
    ) -> Option<()> {
        let is_wanted = |topic: &Topic| !self.feed.skip(topic, None);
        let topics = match told.news(losses, since.sequence, is_wanted) {
            News::None => return Some(()),
            News::OfAnyTopic => None,
            News::Of(topics) => {
                let link = self.server.link().ok()?;
                let are_kept = self.judge(&link, self.reads(&link).are_kept(&topics).await)?;
                let lost = topics.into_iter().zip(are_kept);
                let lost = lost.map(|(topic, is_superseded)| LostTopic { topic, is_superseded });
                Some(lost.collect())
            }
        };
        debug!(%since, ?topics, "events were removed before they could be delivered");
        self.feed.broken(Loss { since, position: self.at, topics });
        Some(())
    }
}

/// The event of a mention, from its own entry or the one that was fetched; none where it is gone or damaged.
fn read(mention: &Mention<'_>, found: Option<&Fetched>) -> Option<Arc<Event>> {
    let entry = match (mention.entry, found) {
        (Some(entry), _) => entry,
        (None, Some(Fetched::Entry(entry))) => entry,
        (None, Some(Fetched::Removed { .. }) | None) => return None,
    };
    entry::decode(entry, &mention.topic, mention.time, mention.cursor)
}

/// Whether a newer event of the same topic comes with those that follow.
fn is_followed(gone: &Mention<'_>, later: &[Mention<'_>]) -> bool {
    let has_it = |mention: &Mention<'_>| mention.cursor.is_some() && mention.entry.is_some();
    later.iter().any(|mention| mention.topic == gone.topic && has_it(mention))
}

/// Notes how long ago the newest of these was committed, as far as this clock and that of Redis agree.
fn note_lag(events: &[Arc<Event>]) {
    if let Some(newest) = events.last() {
        let now = Timestamp::from(SystemTime::now());
        let lag = u64::try_from(now.millis() - newest.time.millis()).unwrap_or(0);
        LOG.relay.observe(Duration::from_millis(lag));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Timestamp;

    fn at(sequence: u64) -> Cursor {
        Cursor::parse("abcdefgh-1-0").unwrap().at(sequence)
    }

    fn topic(name: &str) -> Topic {
        Topic::parse(name).unwrap()
    }

    fn mention<'a>(name: &str, sequence: u64, entry: Option<&'a [u8]>) -> Mention<'a> {
        let (cursor, time) = (Some(at(sequence)), Timestamp::from_millis(0));
        Mention { cursor, topic: topic(name), time, entry }
    }

    #[test]
    fn of_losses_that_follow_each_other_each_topic_is_told_once_as_it_was_last() {
        let mut due = Due::default();
        for (name, is_superseded, since) in [("a", true, 4), ("b", false, 5), ("a", false, 6)] {
            due.add_loss(LostTopic { topic: topic(name), is_superseded }, at(since));
        }
        let lost = |name| LostTopic { topic: topic(name), is_superseded: false };
        assert_eq!((due.lost, due.since), (vec![lost("a"), lost("b")], Some(at(4))));
    }

    #[test]
    fn what_is_gone_is_followed_by_what_comes_whole_in_its_topic() {
        let gone = mention("a", 1, None);
        assert!(is_followed(&gone, &[mention("b", 2, Some(b"x")), mention("a", 3, Some(b"x"))]));
        assert!(!is_followed(&gone, &[mention("a", 2, None), mention("b", 3, Some(b"x"))]));
        let ephemeral = Mention { cursor: None, ..mention("a", 2, Some(b"x")) };
        assert!(!is_followed(&gone, &[ephemeral]));
    }

    #[test]
    fn an_event_is_read_from_what_came_or_from_what_was_fetched() {
        let fetched = Fetched::Entry(b"\0\x002".to_vec());
        let data = |event: Option<Arc<Event>>| event.map(|it| it.data.json().get().to_owned());
        let (came, left_out) = (mention("a", 1, Some(b"\0\x001")), mention("a", 1, None));
        assert_eq!(data(read(&came, None)).as_deref(), Some("1"));
        assert_eq!(data(read(&left_out, Some(&fetched))).as_deref(), Some("2"));
        for gone in
            [None, Some(Fetched::Removed { is_superseded: true }), Some(Fetched::Entry(vec![]))]
        {
            assert_eq!(data(read(&left_out, gone.as_ref())), None);
        }
    }
}
