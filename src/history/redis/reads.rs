//! What is read from Redis, a page at a time, and what each page proves.
//!
//! Events are read first and what was removed after them, so that nothing can be removed unnoticed
//! between the two; the other way round a loss could be missed, this way one may be told in vain.

use std::collections::{HashMap, HashSet};
use std::ops::RangeInclusive;

use redis::{RedisResult, Value, cmd, from_redis_value, pipe};

use super::connection::Connection;
use super::epochs::Epochs;
use super::keys::Keys;
use super::log_state::{FIELDS, LogState};
use super::survey::Survey;
use crate::model::{Timestamp, Topic};

/// How many removals a page of history looks at; where there are more, one that matches is assumed.
pub(super) const LOSSES_OF_A_PAGE: usize = 1_000;

/// The same where current values alone are asked for, of which each change removes one.
pub(super) const LOSSES_OF_VALUES: usize = 10_000;

/// An event in its stream: `id, [name, entry, name, time]`.
type Stored = (String, (String, Vec<u8>, String, i64));

/// An event in the index: `id, [name, topic, name, time]`.
type Indexed = (String, (String, String, String, i64));

/// A topic and the number of its last removed event.
type Removed = (String, f64);

/// A kept event.
#[derive(Debug, Clone)]
pub(super) struct Found {
    pub(super) sequence: u64,
    pub(super) time: Timestamp,
    pub(super) entry: Vec<u8>,
}

/// The place of a kept event.
#[derive(Debug, Clone)]
pub(super) struct IndexEntry {
    pub(super) sequence: u64,
    pub(super) topic: Topic,
    pub(super) time: Timestamp,
}

/// How the log stands, and what was removed after some place.
#[derive(Debug, Default)]
pub(super) struct Losses {
    pub(super) state: Option<LogState>,
    /// Topics that lost an event after the place, with the number of the last one, the highest first.
    pub(super) topics: Vec<(Topic, u64)>,
    /// There are more than were looked at.
    pub(super) is_cut: bool,
}

/// What came of the attempt to fetch an event.
#[derive(Debug)]
pub(super) enum Fetched {
    /// Its entry.
    Entry(Vec<u8>),
    /// It was removed, and newer events of its topic are kept or not.
    Removed { is_superseded: bool },
}

/// Reads one log over one connection.
pub(super) struct Reads<'a> {
    pub(super) connection: Connection,
    pub(super) keys: &'a Keys,
    pub(super) epochs: &'a Epochs,
}

fn sequence(id: &str) -> u64 {
    id.split_once('-').and_then(|(number, _)| number.parse().ok()).unwrap_or(0)
}

fn found((id, (_, entry, _, time)): Stored) -> Found {
    Found { sequence: sequence(&id), time: Timestamp::from_millis(time), entry }
}

fn index_entry((id, (_, topic, _, time)): Indexed) -> Option<IndexEntry> {
    let topic = Topic::from_stored(&topic).ok()?;
    Some(IndexEntry { sequence: sequence(&id), topic, time: Timestamp::from_millis(time) })
}

fn by_number(all: Vec<Vec<Stored>>) -> HashMap<u64, Found> {
    let all = all.into_iter().flatten().map(found);
    all.map(|found| (found.sequence, found)).collect()
}

/// `(after` in the words of a stream.
fn exclusive(after: u64) -> String {
    format!("({after}-18446744073709551615")
}

impl Losses {
    fn read(lost: Vec<Removed>, state: Option<LogState>, most: usize) -> Self {
        let is_cut = lost.len() >= most;
        let parse = |(name, score): Removed| Some((Topic::from_stored(&name).ok()?, score as u64));
        let topics = lost.into_iter().filter_map(parse).collect();
        Self { state, topics, is_cut }
    }

    /// Up to which number topics that are not listed may have lost events.
    pub(super) fn unknown(&self) -> u64 {
        let floor = self.state.as_ref().map_or(0, |state| state.floor);
        // Those that were not listed come behind the last that was.
        let unlisted = self.topics.last().filter(|_| self.is_cut).map_or(0, |(_, last)| *last);
        floor.max(unlisted)
    }
}

impl Reads<'_> {
    /// How the log stands; none where there is none.
    pub(super) async fn state(&mut self) -> RedisResult<Option<LogState>> {
        let values: Vec<Option<String>> = cmd("HMGET")
            .arg(self.keys.log())
            .arg(&FIELDS)
            .query_async(&mut self.connection)
            .await?;
        self.state_of(&values).await
    }

    /// How the log stands by the values of its record.
    async fn state_of(&mut self, values: &[Option<String>]) -> RedisResult<Option<LogState>> {
        match LogState::read(values) {
            Some(state) => {
                self.epochs.complete(state, &mut self.connection, self.keys).await.map(Some)
            }
            None => Ok(None),
        }
    }

    /// The server's clock.
    pub(super) async fn clock(&mut self) -> RedisResult<Timestamp> {
        let (seconds, micros): (i64, i64) = cmd("TIME").query_async(&mut self.connection).await?;
        Ok(Timestamp::from_millis(seconds * 1_000 + micros / 1_000))
    }

    /// Events of each topic after a number and up to another.
    pub(super) async fn ranges(
        &mut self,
        topics: &[Topic],
        after: u64,
        upto: u64,
        count: usize,
    ) -> RedisResult<Vec<Vec<Found>>> {
        let mut pipeline = pipe();
        for topic in topics {
            let range = pipeline.cmd("XRANGE").arg(self.keys.stream(topic));
            range.arg(exclusive(after)).arg(upto).arg("COUNT").arg(count);
        }
        let all: Vec<Vec<Stored>> = self.query(&pipeline, topics.is_empty()).await?;
        Ok(all.into_iter().map(|one| one.into_iter().map(found).collect()).collect())
    }

    /// The newest events of each topic up to a number, newest first.
    pub(super) async fn ranges_back(
        &mut self,
        topics: &[Topic],
        upto: u64,
        count: usize,
    ) -> RedisResult<Vec<Vec<Found>>> {
        let mut pipeline = pipe();
        for topic in topics {
            let range = pipeline.cmd("XREVRANGE").arg(self.keys.stream(topic));
            range.arg(upto).arg("-").arg("COUNT").arg(count);
        }
        let all: Vec<Vec<Stored>> = self.query(&pipeline, topics.is_empty()).await?;
        Ok(all.into_iter().map(|one| one.into_iter().map(found).collect()).collect())
    }

    /// The events of some entries of the index, which are in order; none where they were removed. Of each topic the
    /// stretch from its first place to its last is read, so there should be few others in it.
    pub(super) async fn events(&mut self, index: &[IndexEntry]) -> RedisResult<Vec<Option<Found>>> {
        let mut pipeline = pipe();
        self.read_spans(&mut pipeline, index);
        let all: Vec<Vec<Stored>> = self.query(&pipeline, index.is_empty()).await?;
        let mut all = by_number(all);
        Ok(index.iter().map(|entry| all.remove(&entry.sequence)).collect())
    }

    /// The events of some entries, likewise, and what became of those that are not there; with how the log
    /// stood then.
    pub(super) async fn fetch(
        &mut self,
        index: &[IndexEntry],
    ) -> RedisResult<(HashMap<u64, Fetched>, Option<LogState>)> {
        let mut pipeline = pipe();
        let topics = self.read_spans(&mut pipeline, index);
        // Looked at last: what is removed is always older than what stays, so any event that is kept of a
        // topic now is newer than one that was gone before.
        let scores = pipeline.cmd("ZMSCORE").arg(self.keys.topics());
        topics.iter().for_each(|topic| _ = scores.arg(topic.as_str()));
        pipeline.cmd("HMGET").arg(self.keys.log()).arg(&FIELDS);
        let mut answers: Vec<Value> = pipeline.query_async(&mut self.connection).await?;
        let rest = answers.split_off(topics.len());
        let (scores, values): (Vec<Option<f64>>, Vec<Option<String>>) =
            from_redis_value(Value::Array(rest))?;
        let kept = topics.into_iter().zip(scores).filter(|(_, score)| score.is_some());
        let kept: HashSet<_> = kept.map(|(topic, _)| topic).collect();
        let mut all = by_number(from_redis_value(Value::Array(answers))?);
        let fetched = index.iter().map(|entry| {
            let fetched = match all.remove(&entry.sequence) {
                Some(found) => Fetched::Entry(found.entry),
                None => Fetched::Removed { is_superseded: kept.contains(&entry.topic) },
            };
            (entry.sequence, fetched)
        });
        let fetched = fetched.collect();
        Ok((fetched, self.state_of(&values).await?))
    }

    /// Reads the stretch of each topic from its first place to its last; which topics, in order.
    fn read_spans<'p>(
        &self,
        pipeline: &mut redis::Pipeline,
        index: &'p [IndexEntry],
    ) -> Vec<&'p Topic> {
        let mut spans: HashMap<&Topic, RangeInclusive<u64>> = HashMap::new();
        for entry in index {
            let span = spans.entry(&entry.topic).or_insert(entry.sequence..=entry.sequence);
            *span = *span.start()..=entry.sequence;
        }
        let read = spans.into_iter().map(|(topic, span)| {
            let range = pipeline.cmd("XRANGE").arg(self.keys.stream(topic));
            range.arg(*span.start()).arg(*span.end());
            topic
        });
        read.collect()
    }

    /// Which of some topics have events.
    pub(super) async fn are_kept(&mut self, topics: &[Topic]) -> RedisResult<Vec<bool>> {
        if topics.is_empty() {
            return Ok(Vec::new());
        }
        let mut scores = cmd("ZMSCORE");
        scores.arg(self.keys.topics());
        topics.iter().for_each(|topic| _ = scores.arg(topic.as_str()));
        let scores: Vec<Option<f64>> = scores.query_async(&mut self.connection).await?;
        Ok(scores.iter().map(Option::is_some).collect())
    }

    /// The newest event of each topic; none where it has none.
    pub(super) async fn newest(&mut self, topics: &[Topic]) -> RedisResult<Vec<Option<Found>>> {
        let mut pipeline = pipe();
        for topic in topics {
            let range = pipeline.cmd("XREVRANGE").arg(self.keys.stream(topic));
            range.arg("+").arg("-").arg("COUNT").arg(1);
        }
        let all: Vec<Vec<Stored>> = self.query(&pipeline, topics.is_empty()).await?;
        Ok(all.into_iter().map(|one| one.into_iter().next().map(found)).collect())
    }

    /// How many events each topic has.
    pub(super) async fn lengths(&mut self, topics: &[Topic]) -> RedisResult<Vec<usize>> {
        let mut pipeline = pipe();
        for topic in topics {
            pipeline.cmd("XLEN").arg(self.keys.stream(topic));
        }
        self.query(&pipeline, topics.is_empty()).await
    }

    /// The same, and the newest of them: for few topics at a time.
    pub(super) async fn sizes(
        &mut self,
        topics: &[Topic],
    ) -> RedisResult<Vec<(usize, Option<Found>)>> {
        let mut pipeline = pipe();
        for topic in topics {
            pipeline.cmd("XLEN").arg(self.keys.stream(topic));
        }
        for topic in topics {
            let range = pipeline.cmd("XREVRANGE").arg(self.keys.stream(topic));
            range.arg("+").arg("-").arg("COUNT").arg(1);
        }
        let mut lengths: Vec<Value> = self.query(&pipeline, topics.is_empty()).await?;
        let newest = lengths.split_off(topics.len().min(lengths.len()));
        let lengths: Vec<usize> = from_redis_value(Value::Array(lengths))?;
        let newest: Vec<Vec<Stored>> = from_redis_value(Value::Array(newest))?;
        let newest = newest.into_iter().map(|one| one.into_iter().next().map(found));
        Ok(lengths.into_iter().zip(newest).collect())
    }

    async fn query<T: redis::FromRedisValue + Default>(
        &mut self,
        pipeline: &redis::Pipeline,
        is_empty: bool,
    ) -> RedisResult<T> {
        if is_empty {
            return Ok(T::default());
        }
        pipeline.query_async(&mut self.connection).await
    }

    /// Places along the log after a number and up to another.
    pub(super) async fn index_page(
        &mut self,
        after: u64,
        upto: u64,
        count: usize,
    ) -> RedisResult<Vec<IndexEntry>> {
        let mut pipeline = pipe();
        self.read_places(&mut pipeline, after, upto, count);
        let (index,): (Vec<Indexed>,) = pipeline.query_async(&mut self.connection).await?;
        Ok(index.into_iter().filter_map(index_entry).collect())
    }

    /// Places along the log up to a number, newest first.
    pub(super) async fn index_page_back(
        &mut self,
        upto: u64,
        count: usize,
    ) -> RedisResult<Vec<IndexEntry>> {
        let mut range = cmd("XREVRANGE");
        range.arg(self.keys.order()).arg(upto).arg("-").arg("COUNT").arg(count);
        let index: Vec<Indexed> = range.query_async(&mut self.connection).await?;
        Ok(index.into_iter().filter_map(index_entry).collect())
    }

    /// The same as [`Self::index_page`], and then what was removed after that number, as [`Self::losses`] reads it: of what is
    /// removed at the same moment one or the other tells, and hardly ever both.
    pub(super) async fn index_page_and_losses(
        &mut self,
        after: u64,
        upto: u64,
        count: usize,
        most_losses: usize,
    ) -> RedisResult<(Vec<IndexEntry>, Losses)> {
        let mut pipeline = pipe();
        self.read_places(&mut pipeline, after, upto, count);
        self.read_losses(&mut pipeline, after, most_losses);
        let (index, lost, values): (Vec<Indexed>, Vec<Removed>, Vec<Option<String>>) =
            pipeline.query_async(&mut self.connection).await?;
        let index = index.into_iter().filter_map(index_entry).collect();
        Ok((index, Losses::read(lost, self.state_of(&values).await?, most_losses)))
    }

    /// What is known of a moment in a stretch of the log in which times rise, after one number and up to another.
    pub(super) async fn survey(
        &mut self,
        time: Timestamp,
        now: Timestamp,
        after: u64,
        upto: u64,
    ) -> RedisResult<Survey> {
        // All up to `before` are earlier, all above `since` are not, and the lowest of these is `first`.
        let (mut before, mut since, mut first) = (after, upto, None);
        while before < since {
            let middle = before + (since - before) / 2;
            match self.index_page(middle, since, 1).await?.pop() {
                Some(entry) if entry.time < time => before = entry.sequence,
                Some(entry) => {
                    first = Some(entry);
                    since = middle;
                }
                None if middle > before => since = middle,
                None => since = before,
            }
        }
        let place = if before > after { before } else { 0 };
        let dated = match first {
            Some(first) if first.time <= now => Some(first.sequence),
            Some(_) | None => None,
        };
        Ok(Survey { place, dated })
    }

    fn read_places(&self, pipeline: &mut redis::Pipeline, after: u64, upto: u64, count: usize) {
        let range = pipeline.cmd("XRANGE").arg(self.keys.order());
        range.arg(exclusive(after)).arg(upto).arg("COUNT").arg(count);
    }

    /// Topics with events by name, that begin with `prefix` and come after `after`.
    pub(super) async fn names(
        &mut self,
        prefix: &str,
        after: Option<&Topic>,
        count: usize,
    ) -> RedisResult<Vec<Topic>> {
        let from = match after {
            Some(after) if after.as_str() >= prefix => format!("({after}"),
            _ if prefix.is_empty() => "-".to_owned(),
            _ => format!("[{prefix}"),
        };
        let mut range = cmd("ZRANGEBYLEX");
        // Topics are ASCII, so nothing that begins with the prefix comes after this.
        range.arg(self.keys.topics()).arg(from).arg(format!("({prefix}\u{7f}"));
        range.arg("LIMIT").arg(0).arg(count);
        let names: Vec<String> = range.query_async(&mut self.connection).await?;
        Ok(names.iter().filter_map(|name| Topic::from_stored(name).ok()).collect())
    }

    /// How the log stands, and what was removed after a number, of so many topics at most.
    pub(super) async fn losses(&mut self, after: u64, most: usize) -> RedisResult<Losses> {
        let mut pipeline = pipe();
        self.read_losses(&mut pipeline, after, most);
        let (lost, values): (Vec<Removed>, Vec<Option<String>>) =
            pipeline.query_async(&mut self.connection).await?;
        Ok(Losses::read(lost, self.state_of(&values).await?, most))
    }

    /// Whether anything was ever removed.
    pub(super) async fn has_removed(&mut self) -> RedisResult<bool> {
        let Losses { state, topics, .. } = self.losses(0, 1).await?;
        Ok(!topics.is_empty() || state.is_none_or(|state| state.floor > 0))
    }

    fn read_losses(&self, pipeline: &mut redis::Pipeline, after: u64, most: usize) {
        let lost = pipeline.cmd("ZREVRANGEBYSCORE").arg(self.keys.lost()).arg("+inf");
        lost.arg(format!("({after}")).arg("WITHSCORES").arg("LIMIT").arg(0).arg(most);
        pipeline.cmd("HMGET").arg(self.keys.log()).arg(&FIELDS);
    }

    /// How the log stands, and the number of the last removed event of each topic, where that is listed.
    pub(super) async fn last_removed(
        &mut self,
        topics: &[Topic],
    ) -> RedisResult<(Option<LogState>, Vec<Option<u64>>)> {
        if topics.is_empty() {
            return Ok((self.state().await?, Vec::new()));
        }
        let mut pipeline = pipe();
        let scores = pipeline.cmd("ZMSCORE").arg(self.keys.lost());
        topics.iter().for_each(|topic| _ = scores.arg(topic.as_str()));
        pipeline.cmd("HMGET").arg(self.keys.log()).arg(&FIELDS);
        let (scores, values): (Vec<Option<f64>>, Vec<Option<String>>) =
            pipeline.query_async(&mut self.connection).await?;
        let removed = scores.into_iter().map(|score| score.map(|score| score as u64));
        let removed = removed.collect();
        Ok((self.state_of(&values).await?, removed))
    }
}
