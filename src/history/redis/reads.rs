//! What is read from Redis, a page at a time, and what each page proves.
//!
//! Events are read first and what was removed after them, so that nothing can be removed unnoticed
//! between the two; the other way round a loss could be missed, this way one may be told in vain.

use std::collections::HashMap;
use std::ops::RangeInclusive;

use redis::aio::MultiplexedConnection;
use redis::{RedisResult, cmd, pipe};

use super::keys::Keys;
use super::state::{FIELDS, State};
use crate::model::{Timestamp, Topic};

/// How many removals of one read are looked at; where there are more, one that matches is assumed.
const LOSSES_LOOKED_AT: usize = 1_000;

/// An event in its stream: `id, [name, entry, name, time]`.
type Stored = (String, (String, Vec<u8>, String, i64));

/// An event in the index: `id, [name, topic, name, time]`.
type Indexed = (String, (String, String, String, i64));

/// A kept event.
#[derive(Debug, Clone)]
pub(super) struct Found {
    pub(super) sequence: u64,
    pub(super) time: Timestamp,
    pub(super) entry: Vec<u8>,
}

/// The place of a kept event.
#[derive(Debug, Clone)]
pub(super) struct Placed {
    pub(super) sequence: u64,
    pub(super) topic: Topic,
    pub(super) time: Timestamp,
}

/// How the log stands, and what was removed after some place.
#[derive(Debug)]
pub(super) struct Losses {
    pub(super) state: Option<State>,
    /// Topics that lost an event after the place, with the number of the last one.
    pub(super) topics: Vec<(Topic, u64)>,
    /// There are more than were looked at.
    pub(super) is_cut: bool,
}

/// Reads one log over one connection.
pub(super) struct Reads<'a> {
    pub(super) connection: MultiplexedConnection,
    pub(super) keys: &'a Keys,
}

fn sequence(id: &str) -> u64 {
    id.split_once('-').and_then(|(number, _)| number.parse().ok()).unwrap_or(0)
}

fn found((id, (_, entry, _, time)): Stored) -> Found {
    Found { sequence: sequence(&id), time: Timestamp::from_millis(time), entry }
}

fn placed((id, (_, topic, _, time)): Indexed) -> Option<Placed> {
    let topic = Topic::parse(&topic).ok()?;
    Some(Placed { sequence: sequence(&id), topic, time: Timestamp::from_millis(time) })
}

/// `(after` in the words of a stream.
fn exclusive(after: u64) -> String {
    format!("({after}-18446744073709551615")
}

impl Reads<'_> {
    /// How the log stands; none where there is none.
    pub(super) async fn state(&mut self) -> RedisResult<Option<State>> {
        let values: Vec<Option<String>> = cmd("HMGET")
            .arg(self.keys.log())
            .arg(&FIELDS)
            .query_async(&mut self.connection)
            .await?;
        Ok(State::read(&values))
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

    /// The events at some places, which are in order; none where they were removed. Of each topic the
    /// stretch from its first place to its last is read, so there should be few others in it.
    pub(super) async fn events(&mut self, places: &[Placed]) -> RedisResult<Vec<Option<Found>>> {
        let mut spans: HashMap<&Topic, RangeInclusive<u64>> = HashMap::new();
        for place in places {
            let span = spans.entry(&place.topic).or_insert(place.sequence..=place.sequence);
            *span = *span.start()..=place.sequence;
        }
        let mut pipeline = pipe();
        for (topic, span) in &spans {
            let range = pipeline.cmd("XRANGE").arg(self.keys.stream(topic));
            range.arg(*span.start()).arg(*span.end());
        }
        let all: Vec<Vec<Stored>> = self.query(&pipeline, places.is_empty()).await?;
        let all = all.into_iter().flatten().map(found);
        let mut all: HashMap<_, _> = all.map(|found| (found.sequence, found)).collect();
        Ok(places.iter().map(|place| all.remove(&place.sequence)).collect())
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
    pub(super) async fn places(
        &mut self,
        after: u64,
        upto: u64,
        count: usize,
    ) -> RedisResult<Vec<Placed>> {
        let mut range = cmd("XRANGE");
        range.arg(self.keys.order()).arg(exclusive(after)).arg(upto).arg("COUNT").arg(count);
        let places: Vec<Indexed> = range.query_async(&mut self.connection).await?;
        Ok(places.into_iter().filter_map(placed).collect())
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
        Ok(names.iter().filter_map(|name| Topic::parse(name).ok()).collect())
    }

    /// How the log stands, and what was removed after a number.
    pub(super) async fn losses(&mut self, after: u64) -> RedisResult<Losses> {
        let mut pipeline = pipe();
        let lost = pipeline.cmd("ZREVRANGEBYSCORE").arg(self.keys.lost()).arg("+inf");
        lost.arg(format!("({after}")).arg("WITHSCORES").arg("LIMIT").arg(0).arg(LOSSES_LOOKED_AT);
        pipeline.cmd("HMGET").arg(self.keys.log()).arg(&FIELDS);
        let (lost, values): (Vec<(String, f64)>, Vec<Option<String>>) =
            pipeline.query_async(&mut self.connection).await?;
        let is_cut = lost.len() >= LOSSES_LOOKED_AT;
        let parse = |(name, score): (String, f64)| Some((Topic::parse(&name).ok()?, score as u64));
        let topics = lost.into_iter().filter_map(parse).collect();
        Ok(Losses { state: State::read(&values), topics, is_cut })
    }

    /// How the log stands, and the number of the last removed event of each topic, where that is listed.
    pub(super) async fn last_removed(
        &mut self,
        topics: &[Topic],
    ) -> RedisResult<(Option<State>, Vec<Option<u64>>)> {
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
        Ok((State::read(&values), removed.collect()))
    }
}
