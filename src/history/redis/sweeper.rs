//! Removing what is too old, and forgetting whole topics, in small steps.
//!
//! Which rule a topic falls under is known to nodes alone, so a node reads along the index what is old
//! enough, by the clock that dated it, and has it removed by number. One node at a time does so; its lease ends
//! with it. Nothing of it needs memory that a full server does not have.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use redis::RedisResult;
use tokio::sync::Notify;

use super::away::{Away, away};
use super::link::{Link, Server};
use super::log_state::LogState;
use super::publisher::PATIENCE;
use super::reads::IndexEntry;
use super::scripts;
use super::turn::Turn;
use crate::clock::within;
use crate::config::{self, Rules, Storage};
use crate::metrics::LOG;
use crate::model::{Cursor, Problem, Topic};

/// How many events one step looks at, and removes at most.
const STEP: usize = 512;

/// How many steps are made until it is looked again whose turn it is.
const STEPS: usize = 64;

/// How far the events of all rules with one age have been looked at.
struct Expiry {
    max_age: Duration,
    /// Of each stretch between steps of the clock, by the number after which it begins.
    looked_at: BTreeMap<u64, u64>,
}

/// A stretch of the log along which ages fall, after one number and up to another.
struct Stretch {
    begin: u64,
    end: u64,
}

/// Removes what is too old.
pub(super) struct Sweeper {
    server: Arc<Server>,
    rules: Rules,
    config: config::History,
    expiries: Vec<Expiry>,
    /// Of which epoch that is: what is older may have come back with another one.
    epoch: Option<Cursor>,
    turn: Turn,
}

impl Sweeper {
    pub(super) fn new(server: Arc<Server>, rules: Rules, config: config::History) -> Self {
        let ages = rules.ages().into_iter();
        let expiries = ages.map(|max_age| Expiry { max_age, looked_at: BTreeMap::new() }).collect();
        let turn = Turn::new(server.keys.sweep(), server.node.to_string());
        Self { server, rules, config, expiries, epoch: None, turn }
    }

    /// Sweeps each time it is asked to, until nothing is left to remove.
    pub(super) async fn run(mut self, due: Arc<Notify>) {
        loop {
            due.notified().await;
            self.note_kept().await;
            while let Ok(link) = self.server.link() {
                let swept = self.sweep(&link).await;
                // What was not removed now will be the next time.
                if !self.server.judge(&link, swept).unwrap_or(false) {
                    break;
                }
            }
        }
    }

    /// Notes how much the log holds, by its own count.
    async fn note_kept(&self) {
        let Ok(link) = self.server.link() else { return };
        let mut ask = redis::cmd("HMGET");
        ask.arg(self.server.keys.log()).arg("bytes");
        let bytes = ask.query_async::<Vec<Option<f64>>>(&mut link.reads.clone()).await;
        if let Some(bytes) = bytes.ok().and_then(|bytes| bytes.into_iter().next().flatten()) {
            LOG.redis_bytes.set(bytes);
        }
    }

    /// Makes so many steps; whether there may be more to do.
    async fn sweep(&mut self, link: &Arc<Link>) -> RedisResult<bool> {
        if !self.turn.take(&mut link.commands.clone()).await? {
            return Ok(false);
        }
        let (state, looked_at, now) = self.make_room(link).await?;
        let epoch = state.head.at(0);
        if self.epoch != Some(epoch) {
            self.epoch = Some(epoch);
            self.expiries.iter_mut().for_each(|expiry| expiry.looked_at.clear());
        }
        let mut is_more = looked_at == STEP;
        for expiry in &mut self.expiries {
            is_more |= expiry.remove(&self.server, &self.rules, link, &state, now).await?;
        }
        Ok(is_more)
    }

    /// Removes what is over the bound on all topics, as far as one step goes. How the log stands, how many
    /// events were looked at, and the time by the server's clock, in milliseconds.
    async fn make_room(&self, link: &Arc<Link>) -> RedisResult<(LogState, usize, i64)> {
        let mut invocation = scripts::SWEEP.prepare_invoke();
        self.server.prepare(link, &mut invocation);
        let config = &self.config;
        invocation.arg(config.redis_bytes).arg(config.idempotency_window.as_millis() as u64);
        invocation.arg(config.newest_topics).arg(config.newest_bytes);
        self.server.invoke(link, &invocation).await
    }
}

impl Expiry {
    /// Removes what is too old at a time, so many steps of each stretch at most; whether there may be more.
    /// What is behind a step of the clock may be too old before what is ahead of it.
    async fn remove(
        &mut self,
        server: &Server,
        rules: &Rules,
        link: &Arc<Link>,
        state: &LogState,
        now: i64,
    ) -> RedisResult<bool> {
        let steps = state.steps.all().iter().map(|step| step.after);
        let ends = steps.clone().chain([u64::MAX]);
        let stretches = [0].into_iter().chain(steps).zip(ends);
        let stretches: Vec<_> = stretches.map(|(begin, end)| Stretch { begin, end }).collect();
        self.looked_at.retain(|begin, _| stretches.iter().any(|stretch| stretch.begin == *begin));
        let mut is_more = false;
        for stretch in &stretches {
            is_more |= self.remove_of(stretch, server, rules, link, state, now).await?;
        }
        Ok(is_more)
    }

    async fn remove_of(
        &mut self,
        stretch: &Stretch,
        server: &Server,
        rules: &Rules,
        link: &Arc<Link>,
        state: &LogState,
        now: i64,
    ) -> RedisResult<bool> {
        let looked_at = self.looked_at.entry(stretch.begin).or_insert(stretch.begin);
        let age = i64::try_from(self.max_age.as_millis()).unwrap_or(i64::MAX);
        let before = now.saturating_sub(age);
        let is_old =
            |entry: &IndexEntry| state.steps.aged(entry.sequence, entry.time.millis()) < before;
        for _ in 0..STEPS {
            let index = server.reads(link).index_page(*looked_at, stretch.end, STEP).await?;
            let old: Vec<_> = index.into_iter().take_while(is_old).collect();
            let Some(last) = old.last().map(|entry| entry.sequence) else { return Ok(false) };
            let is_full = old.len() == STEP;
            let due = old.into_iter().filter(|it| rules.of(&it.topic).max_age == self.max_age);
            let upto_by_topic: BTreeMap<_, _> = due.map(|it| (it.topic, it.sequence)).collect();
            if !upto_by_topic.is_empty() {
                // There may be older ones of these topics, which came back since they were looked at.
                let keep_newest = |topic: &Topic| rules.of(topic).keeps_newest(Storage::Redis);
                let after = stretch.begin;
                let what = |topic: &Topic| u8::from(keep_newest(topic)).to_string();
                while remove(server, link, after, &upto_by_topic, what).await? == STEP {}
            }
            *looked_at = last;
            if !is_full {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Removes events of topics after a number and up to another each, at most [`STEP`]; how many there were. `what` says of each
/// topic what the script is to do: keep the newest (`1`) or not (`0`), or forget all (`f`).
async fn remove(
    server: &Server,
    link: &Arc<Link>,
    after: u64,
    upto_by_topic: &BTreeMap<Topic, u64>,
    what: impl Fn(&Topic) -> String,
) -> RedisResult<usize> {
    let mut invocation = scripts::REMOVE.prepare_invoke();
    server.prepare(link, &mut invocation);
    invocation.arg(STEP);
    for (topic, upto) in upto_by_topic {
        invocation.key(server.keys.stream(topic)).arg(topic.as_str());
        invocation.arg(after.saturating_add(1)).arg(upto).arg(what(topic));
    }
    let (_, removed): (LogState, usize) = server.invoke(link, &invocation).await?;
    Ok(removed)
}

/// Forgets what a topic keeps now; how many events there were. A step that Redis does not answer in a publisher's time is
/// refused, and may have been made.
pub(super) async fn forget(server: &Server, topic: Topic) -> Result<usize, Problem> {
    let link = server.link()?;
    let state = soon(server.join(&link)).await?;
    let upto = BTreeMap::from([(topic, state.head.sequence)]);
    let mut sum = 0;
    loop {
        let removed = soon(remove(server, &link, 0, &upto, |_| "f".to_owned())).await?;
        sum += removed;
        if removed < STEP {
            return Ok(sum);
        }
    }
}

/// What Redis answers, unless a publisher would have to wait longer than any does.
async fn soon<T>(asking: impl Future<Output = RedisResult<T>>) -> Result<T, Problem> {
    match within(PATIENCE, asking).await {
        Ok(answer) => answer.map_err(|error| away(&error).into()),
        Err(_) => Err(Away("it does not answer".to_owned()).into()),
    }
}
