//! What each node said of itself last, and which are silent.
//!
//! Pure state: whoever hears brings the clock. What a node does not say (an earlier release, a later one) is nothing.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use serde::Deserialize;
use tokio::time::Instant;

/// A node that has said nothing for so long is away: each says something once a second.
const SILENT: Duration = Duration::from_secs(4);

/// A node that has said nothing for so long is not shown any more.
const FORGOTTEN: Duration = Duration::from_secs(60);

/// For how long what was counted is remembered.
const PAST: Duration = Duration::from_secs(60);

/// The nodes, by name.
#[derive(Debug, Default)]
pub(super) struct Nodes {
    by_name: BTreeMap<String, Heard>,
    /// How many words were heard of all, and how many of them are out of the past.
    words: u64,
    recalled: u64,
}

/// What was heard of a node.
#[derive(Debug)]
pub(super) struct Heard {
    pub(super) said: Said,
    at: Instant,
    /// Which word it was of all, if it is out of the past.
    recalled: Option<u64>,
    past: VecDeque<Counts>,
}

/// What a node had counted when it had run for so long.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Counts {
    /// Which word it was of all.
    word: u64,
    up: Duration,
    pub(super) connected: u64,
    pub(super) cut: u64,
    pub(super) gaps: u64,
}

/// Whether a node is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    There,
    /// It has ended as it was asked to, or was started anew since: under another name, as after each start.
    Stopped,
    Away(Duration),
}

/// What is shown of what a node says. It is not the type that is written, for nodes of other releases say more or less.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Said {
    pub(super) node: String,
    pub(super) version: String,
    pub(super) uptime_ms: u64,
    pub(super) period_ms: u64,
    pub(super) ready: bool,
    pub(super) failing: Vec<Failing>,
    pub(super) sessions: Sessions,
    pub(super) second: Second,
    pub(super) total: Total,
    pub(super) closes: Closes,
    pub(super) latency_ms: Latencies,
    pub(super) queue: Queue,
    pub(super) slowest: Vec<Slow>,
    pub(super) disk: Option<Disk>,
    pub(super) memory: Memory,
    pub(super) process: Process,
    pub(super) issuer: Option<Issuer>,
    pub(super) webhooks: Vec<Webhook>,
    pub(super) errors: Vec<Trouble>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Failing {
    pub(super) check: String,
    pub(super) detail: String,
    pub(super) since_ms: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Sessions {
    pub(super) websocket: u64,
    pub(super) sse: u64,
    pub(super) limit: u64,
}

impl Sessions {
    /// Those over any transport.
    pub(super) fn open(&self) -> u64 {
        self.websocket + self.sse
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Total {
    connected: u64,
    gaps: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Closes {
    slow_consumer: u64,
    stalled: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Second {
    pub(super) published: u64,
    pub(super) delivered: u64,
    pub(super) conflated: u64,
    pub(super) gaps: u64,
    pub(super) refused: u64,
    pub(super) connected: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Latencies {
    pub(super) delivery: Option<Latency>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Latency {
    pub(super) p50: f64,
    pub(super) p99: f64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Queue {
    pub(super) bytes: u64,
    pub(super) largest_bytes: u64,
    pub(super) limit_bytes: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Slow {
    pub(super) session: String,
    pub(super) user: String,
    pub(super) queued_bytes: u64,
    pub(super) lag_ms: u64,
    pub(super) skipped: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Disk {
    pub(super) used_bytes: u64,
    pub(super) limit_bytes: u64,
    pub(super) free_bytes: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Memory {
    pub(super) rss_bytes: u64,
    pub(super) limit_bytes: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Process {
    pub(super) cpu_ms: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Issuer {
    pub(super) state: String,
    pub(super) detail: String,
    pub(super) since_ms: u64,
    pub(super) has_keys: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Webhook {
    pub(super) name: String,
    /// Whether it is this node that posts, where it says so.
    pub(super) turn: Option<bool>,
    pub(super) outcome: String,
    pub(super) detail: String,
    pub(super) lag_ms: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Trouble {
    pub(super) time: String,
    pub(super) level: String,
    pub(super) message: String,
}

impl Nodes {
    /// Takes what a node said now; what can't be read is nothing.
    pub(super) fn hear(&mut self, data: &str, now: Instant) {
        let is_forgotten = |heard: &Heard| self.silent_for(heard, now) >= FORGOTTEN;
        let forgotten = self.by_name.iter().filter(|(_, heard)| is_forgotten(heard));
        for name in forgotten.map(|(name, _)| name.clone()).collect::<Vec<_>>() {
            self.by_name.remove(&name);
        }
        self.take(data, false, now);
    }

    /// Takes what a node said some time ago, in the order in which it was said.
    pub(super) fn recall(&mut self, data: &str, now: Instant) {
        self.take(data, true, now);
    }

    fn take(&mut self, data: &str, is_past: bool, now: Instant) {
        let Ok(said) = serde_json::from_str::<Said>(data) else { return };
        self.words += 1;
        let before = self.by_name.remove(&said.node);
        let mut past = before.map(|heard| heard.past).unwrap_or_default();
        past.push_back(Counts::of(&said, self.words));
        let up = said.up();
        while past.get(1).is_some_and(|counts| up.saturating_sub(counts.up) >= PAST) {
            past.pop_front();
        }
        let recalled = is_past.then_some(self.words);
        self.recalled = recalled.unwrap_or(self.recalled);
        self.by_name.insert(said.node.clone(), Heard { said, at: now, recalled, past });
    }

    /// Whether none was heard.
    pub(super) fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// Those that are not silent.
    pub(super) fn there(&self, now: Instant) -> impl Iterator<Item = &Said> {
        let there = self.all(now).filter(|(_, state)| *state == State::There);
        there.map(|(heard, _)| &heard.said)
    }

    /// All of them, and whether they are there.
    pub(super) fn all(&self, now: Instant) -> impl Iterator<Item = (&Heard, State)> {
        self.by_name.values().map(move |heard| (heard, self.state(heard, now)))
    }

    fn state(&self, heard: &Heard, now: Instant) -> State {
        let silent_for = self.silent_for(heard, now);
        if silent_for < SILENT {
            return State::There;
        }
        let has_begun_since = |other: &Heard| {
            let silent_since = self.silent_for(other, now);
            other.said.uptime_ms > 0
                && silent_since < SILENT
                && other.said.up() + silent_since < silent_for + Duration::from_secs(1)
        };
        let was_stopping = heard.said.failing.iter().any(|failing| failing.check == "serving");
        match was_stopping || self.by_name.values().any(has_begun_since) {
            true => State::Stopped,
            false => State::Away(silent_for),
        }
    }

    /// How long ago something was heard; of what is out of the past, by the clocks of those that have said something since, for nodes
    /// need not agree about the time.
    fn silent_for(&self, heard: &Heard, now: Instant) -> Duration {
        let here = now.saturating_duration_since(heard.at);
        let went_on = |word| {
            let others = self.by_name.values();
            others
                .map(move |other| other.up_at(self.recalled).saturating_sub(other.up_at(word)))
                .max()
        };
        here + heard.recalled.and_then(went_on).unwrap_or_default()
    }

    /// How many are away, or say that they are not ready.
    pub(super) fn not_ready(&self, now: Instant) -> usize {
        let is_wrong = |(heard, state): &(&Heard, State)| match state {
            State::There => !heard.said.ready,
            State::Stopped => false,
            State::Away(_) => true,
        };
        self.all(now).filter(is_wrong).count()
    }
}

impl Heard {
    /// How long this node had run when a word of any node was heard.
    fn up_at(&self, word: u64) -> Duration {
        let then = self.past.iter().rev().find(|counts| counts.word <= word);
        then.or(self.past.front()).map_or(Duration::ZERO, |counts| counts.up)
    }

    /// How much something has grown within so long, by the node's own clock.
    pub(super) fn lately(&self, time: Duration, of: fn(&Counts) -> u64) -> u64 {
        let is_before = |counts: &&Counts| self.said.up().saturating_sub(counts.up) >= time;
        let before = self.past.iter().rev().find(is_before).or(self.past.front());
        // A node that has just come began at nothing.
        let before = before.filter(|counts| is_before(counts) || self.said.up() >= time);
        of(&Counts::of(&self.said, 0)).saturating_sub(before.map_or(0, of))
    }
}

impl Said {
    fn up(&self) -> Duration {
        Duration::from_millis(self.uptime_ms)
    }
}

impl Counts {
    fn of(said: &Said, word: u64) -> Self {
        let cut = said.closes.slow_consumer.saturating_add(said.closes.stalled);
        let Total { connected, gaps } = said.total;
        Self { word, up: said.up(), connected, cut, gaps }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_node_that_is_silent_is_away_and_then_forgotten() {
        let (mut nodes, now) = (Nodes::default(), Instant::now());
        nodes.hear(r#"{"node":"a","ready":true,"later":{"more":1}}"#, now);
        nodes.hear(r#"{"node":"b","ready":false}"#, now);
        nodes.hear("nonsense", now);
        assert_eq!((nodes.there(now).count(), nodes.not_ready(now)), (2, 1));
        let later = now + SILENT;
        nodes.hear(r#"{"node":"b","ready":true}"#, later);
        assert_eq!((nodes.there(later).count(), nodes.not_ready(later)), (1, 1));
        nodes.hear(r#"{"node":"b","ready":true}"#, now + FORGOTTEN);
        assert_eq!(nodes.all(now + FORGOTTEN).count(), 1);
    }

    #[tokio::test]
    async fn a_node_that_fell_silent_before_anybody_listened_is_away_at_once() {
        let (mut nodes, now) = (Nodes::default(), Instant::now());
        let word = |node: &str, uptime_ms: u64| {
            format!(r#"{{"node":"{node}","ready":true,"uptime_ms":{uptime_ms}}}"#)
        };
        nodes.recall(&word("b", 70_000), now);
        nodes.recall(&word("a", 5_000), now);
        for second in 71..74 {
            nodes.recall(&word("b", second * 1_000), now);
        }
        assert_eq!((nodes.there(now).count(), nodes.not_ready(now)), (2, 0));
        nodes.recall(&word("b", 74_000), now);
        assert_eq!((nodes.there(now).count(), nodes.not_ready(now)), (1, 1));
        // What is live is counted by the clock here alone.
        nodes.hear(&word("b", 75_000), now + Duration::from_secs(1));
        let later = now + FORGOTTEN - SILENT - Duration::from_secs(1);
        nodes.hear(&word("b", 129_000), later);
        assert_eq!(nodes.all(later).count(), 2);
    }

    #[tokio::test]
    async fn a_node_that_was_asked_to_end_or_was_started_anew_is_nothing_that_is_wrong() {
        let (mut nodes, now) = (Nodes::default(), Instant::now());
        let serving = r#"[{"check":"serving","detail":"the broker is stopping"}]"#;
        nodes.hear(&format!(r#"{{"node":"a","failing":{serving}}}"#), now);
        let later = now + SILENT;
        nodes.hear(r#"{"node":"b","ready":true,"uptime_ms":90000}"#, later);
        assert_eq!(nodes.not_ready(later), 0);
        nodes.hear(r#"{"node":"c","ready":true,"uptime_ms":90000}"#, later);
        let (much_later, again) = (later + SILENT, r#"{"node":"d","ready":true,"uptime_ms":3000}"#);
        nodes.hear(again, much_later);
        assert_eq!(nodes.not_ready(much_later), 0);
    }
}
