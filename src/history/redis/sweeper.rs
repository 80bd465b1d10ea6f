//! Removing what is too old, and forgetting whole topics, in small steps.
//!
//! Which rule a topic falls under is known to nodes alone, so a node reads along the index what is old
//! enough and has it removed by number. One node at a time does so; its lease ends with it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use redis::RedisResult;
use tokio::sync::Notify;

use super::link::{Link, Server, away};
use super::reads::Reads;
use super::scripts;
use super::state::State;
use super::turn::Turn;
use crate::config::Rules;
use crate::model::{Problem, Timestamp, Topic};

/// How many events one step looks at, and removes at most.
const STEP: usize = 512;

/// How far the events of all rules with one age have been looked at.
struct Expiry {
    max_age: Duration,
    looked_at: u64,
}

/// Removes what is too old.
pub(super) struct Sweeper {
    server: Arc<Server>,
    rules: Rules,
    expiries: Vec<Expiry>,
    turn: Turn,
}

impl Sweeper {
    pub(super) fn new(server: Arc<Server>, rules: Rules) -> Self {
        let ages = rules.ages().into_iter();
        let expiries = ages.map(|max_age| Expiry { max_age, looked_at: 0 }).collect();
        let turn = Turn::new(server.keys.sweeper(), server.node.to_string());
        Self { server, rules, expiries, turn }
    }

    /// Sweeps a little each time it is asked to.
    pub(super) async fn run(mut self, due: Arc<Notify>) {
        loop {
            due.notified().await;
            if let Ok(link) = self.server.link() {
                let swept = self.sweep(&link).await;
                // What was not removed now will be the next time.
                _ = self.server.judge(&link, swept);
            }
        }
    }

    async fn sweep(&mut self, link: &Arc<Link>) -> RedisResult<()> {
        if !self.turn.take(&mut link.commands.clone()).await? {
            return Ok(());
        }
        let now = Timestamp::from(SystemTime::now()).millis();
        let mut reads = Reads { connection: link.reads.clone(), keys: &self.server.keys };
        for expiry in &mut self.expiries {
            let age = i64::try_from(expiry.max_age.as_millis()).unwrap_or(i64::MAX);
            let before = now.saturating_sub(age);
            let places = reads.places(expiry.looked_at, u64::MAX, STEP).await?;
            let mut upto_by_topic = BTreeMap::new();
            for place in places.into_iter().take_while(|place| place.time.millis() < before) {
                expiry.looked_at = place.sequence;
                if self.rules.of(&place.topic).max_age == expiry.max_age {
                    upto_by_topic.insert(place.topic, place.sequence);
                }
            }
            if !upto_by_topic.is_empty() {
                remove(&self.server, link, &upto_by_topic).await?;
            }
        }
        Ok(())
    }
}

/// Removes events of topics up to a number each, at most [`STEP`]; how many there were.
async fn remove(
    server: &Server,
    link: &Arc<Link>,
    upto_by_topic: &BTreeMap<Topic, u64>,
) -> RedisResult<usize> {
    let mut invocation = scripts::REMOVE.prepare_invoke();
    server.prepare(link, &mut invocation);
    invocation.arg(STEP);
    for (topic, upto) in upto_by_topic {
        invocation.key(server.keys.stream(topic)).arg(topic.as_str()).arg(upto);
    }
    let (_, removed): (State, usize) = server.invoke(link, &invocation).await?;
    Ok(removed)
}

/// Forgets what a topic keeps now; how many events there were.
pub(super) async fn forget(server: &Server, topic: Topic) -> Result<usize, Problem> {
    let link = server.link()?;
    let forgetting = async {
        let state = server.join(&link).await?;
        let upto = BTreeMap::from([(topic, state.head.sequence)]);
        let mut sum = 0;
        loop {
            let removed = remove(server, &link, &upto).await?;
            sum += removed;
            if removed < STEP {
                return Ok(sum);
            }
        }
    };
    forgetting.await.map_err(|error| away(&error).into())
}
