//! The road into Redis: what waits, and the one who takes all of it in one script call.
//!
//! One call runs at a time, so that the next group gathers meanwhile and many publishers share each
//! round trip, and a busy one waits for a few; within it each publish is whole or not at all. A publisher is answered within a second:
//! what was not sent by then never will be, and what was sent may have run.

use std::collections::{HashMap, HashSet};
use std::fmt::Write;
use std::mem;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use redis::{RedisError, Script, ScriptInvocation};
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, timeout_at};
use tracing::error;

use super::super::terms::is_free;
use super::super::{
    Append, AppendError, Asked, EventReceipt, LEAST_KEY_WINDOW, Receipt, Superseded,
};
use super::away::{Away, away};
use super::entry;
use super::gathering::Gathering;
use super::keys::hex;
use super::link::{Link, Server};
use super::log_state::LogState;
use super::plain::{Plain, ShortWay};
use super::refusals::{OUT_OF_MEMORY, refusal, strange};
use super::scripts;
use crate::clock::within;
use crate::config::{self, Rules, Storage};
use crate::metrics::{EARLY_KEYS, LOG};
use crate::model::{Cursor, Latest, NewEvent, Terms, Timestamp, Topic};
use crate::panics::lock;

/// How long a publisher waits for an answer, whatever it asks for.
pub(super) const PATIENCE: Duration = Duration::from_millis(900);

/// The most events of one group, but for those of its last publish.
const GROUP_EVENTS: usize = 1_000;

/// The most bytes of one group, but for those of its last publish.
const GROUP_BYTES: usize = 1 << 20;

type Outcome = Result<Receipt, AppendError>;

/// What waits for Redis.
pub(super) struct Queue {
    state: Mutex<Waiting>,
    work: Notify,
    max_bytes: usize,
}

#[derive(Default)]
struct Waiting {
    pending: Vec<Pending>,
    bytes: usize,
    events: usize,
    /// How many events begin a call.
    worth: usize,
    /// The keys of the group that is under way, by their scope.
    scopes: HashSet<[u8; 32]>,
    stopping: bool,
}

struct Pending {
    append: Append,
    bytes: usize,
    /// Set by the one who decides first: the publisher by giving up, or who sends it.
    decided: Arc<AtomicBool>,
    answer: oneshot::Sender<Outcome>,
}

impl Queue {
    /// Nothing, and room for so many bytes.
    pub(super) fn new(max_bytes: usize) -> Self {
        Self { state: Mutex::default(), work: Notify::new(), max_bytes }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        lock(&self.state)
    }

    /// Lets a publish wait for its turn, and for what became of it.
    pub(super) async fn append(&self, append: Append) -> Outcome {
        let decided = Arc::new(AtomicBool::new(false));
        let scope = append.key.as_ref().map(|key| key.scope);
        let receiver = self.push(append, decided.clone())?;
        match within(PATIENCE, receiver).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err(AppendError::OutcomeUnknown("the broker is stopping".to_owned())),
            Err(_) if decided.swap(true, Ordering::AcqRel) => {
                Err(AppendError::OutcomeUnknown("Redis did not answer".to_owned()))
            }
            Err(_) if scope.is_some_and(|scope| self.lock().scopes.contains(&scope)) => {
                Err(AppendError::InProgress)
            }
            Err(_) => Err(AppendError::Unavailable("Redis is behind".to_owned())),
        }
    }

    fn push(
        &self,
        append: Append,
        decided: Arc<AtomicBool>,
    ) -> Result<oneshot::Receiver<Outcome>, AppendError> {
        let bytes: usize = append.events.iter().map(NewEvent::cost).sum();
        let mut state = self.lock();
        if state.stopping {
            return Err(AppendError::Unavailable("the broker is stopping".to_owned()));
        }
        if state.bytes + bytes > self.max_bytes && !state.pending.is_empty() {
            return Err(AppendError::Unavailable("too much waits for Redis".to_owned()));
        }
        let (answer, receiver) = oneshot::channel();
        state.bytes += bytes;
        let is_first = state.pending.is_empty();
        state.events += append.events.len();
        state.pending.push(Pending { append, bytes, decided, answer });
        let is_news = is_first || state.events >= state.worth;
        drop(state);
        if is_news {
            self.work.notify_one();
        }
        Ok(receiver)
    }

    /// Notes which keys are under way; those of publishers that gave up before are not.
    fn begin(&self, group: &[Pending]) {
        let keys = group.iter().filter_map(|pending| pending.append.key.as_ref());
        self.lock().scopes = keys.map(|key| key.scope).collect();
    }

    /// What waits, in bytes.
    pub(super) fn pending_bytes(&self) -> u64 {
        self.lock().bytes as u64
    }

    /// Takes no more.
    pub(super) fn stop(&self) {
        self.lock().stopping = true;
        self.work.notify_one();
    }

    /// Waits for a group; none once nothing more will come.
    async fn next_group(&self, gathering: &mut Gathering) -> Option<Vec<Pending>> {
        loop {
            let mut until = None;
            {
                let mut state = self.lock();
                state.scopes.clear();
                let (waiting, now) = (state.events, Instant::now());
                if !state.pending.is_empty() {
                    until = gathering.waits(waiting, now).filter(|_| !state.stopping);
                    if until.is_none() {
                        gathering.begin(waiting, now);
                        state.worth = gathering.worth();
                        return Some(state.take());
                    }
                } else if state.stopping {
                    return None;
                }
            }
            match until {
                Some(until) => _ = timeout_at(until, self.work.notified()).await,
                None => self.work.notified().await,
            }
        }
    }
}

impl Waiting {
    fn take(&mut self) -> Vec<Pending> {
        let (mut events, mut bytes) = (0, 0);
        let mut count = 0;
        while let Some(next) = self.pending.get(count)
            && events < GROUP_EVENTS
            && bytes < GROUP_BYTES
        {
            events += next.append.events.len();
            bytes += next.bytes;
            count += 1;
        }
        self.bytes -= bytes;
        self.events -= events;
        let rest = self.pending.split_off(count);
        mem::replace(&mut self.pending, rest)
    }
}

/// The one who publishes what waits.
pub(super) struct Publisher {
    pub(super) server: Arc<Server>,
    pub(super) queue: Arc<Queue>,
    pub(super) rules: Rules,
    pub(super) config: config::History,
}

/// What a script did with a group: how the log stands then, what became of each publish, and how many keys were
/// forgotten early, the last of them after so many milliseconds.
type Answer = (LogState, Vec<Vec<String>>, u64, u64);

/// The newest place after a group, and what became of each publish.
type Published = (Cursor, Vec<Outcome>);

impl Publisher {
    /// Publishes until the queue is stopped and empty.
    pub(super) async fn run(self) {
        let (mut gathering, mut short_way) = (Gathering::default(), ShortWay::default());
        while let Some(mut group) = self.queue.next_group(&mut gathering).await {
            let link = match self.server.link() {
                Ok(link) => link,
                Err(away) => {
                    refuse(group, &AppendError::Unavailable(away.to_string()));
                    continue;
                }
            };
            group.retain(|pending| !pending.decided.swap(true, Ordering::AcqRel));
            self.queue.begin(&group);
            if group.is_empty() {
                continue;
            }
            let events = group.iter().map(|pending| pending.append.events.len()).sum::<usize>();
            LOG.group.note(events as u64);
            match self.publish_by(&mut short_way, &link, &group).await {
                Ok(published) => self.answer(&link, group, published).await,
                Err(error) if error.code() == Some(OUT_OF_MEMORY) => {
                    self.keep_state(&link, group).await;
                }
                Err(error) => refuse(group, &refusal(&error)),
            }
        }
    }

    /// Publishes what the broker itself has to know out of a group that found no room; the rest has none.
    async fn keep_state(&self, link: &Arc<Link>, group: Vec<Pending>) {
        let is_state =
            |pending: &Pending| pending.append.events.iter().all(|event| event.topic.is_state());
        let (group, rest) = group.into_iter().partition::<Vec<_>, _>(is_state);
        refuse(rest, &AppendError::StorageFull);
        if group.is_empty() {
            return;
        }
        match self.publish(link, &scripts::PUBLISH_STATE, &group).await {
            Ok(published) => self.answer(link, group, published).await,
            Err(error) => refuse(group, &refusal(&error)),
        }
    }

    /// Publishes the short way, where that is open and will do, or else the long one.
    async fn publish_by(
        &self,
        short_way: &mut ShortWay,
        link: &Arc<Link>,
        group: &[Pending],
    ) -> Result<Published, RedisError> {
        if short_way.is_open()
            && link.is_told()
            && let Some(presented) = self.server.presented()
        {
            let appends = group.iter().map(|pending| &pending.append);
            if let Some(plain) = Plain::of(appends.clone(), &self.rules) {
                match plain.publish(&self.server, link, presented, self.config.redis_bytes).await? {
                    Some(answer) => {
                        return Ok(plain.outcomes(appends, presented, &answer));
                    }
                    None => short_way.decline(),
                }
            }
        }
        self.publish(link, &scripts::PUBLISH, group).await
    }

    async fn publish(
        &self,
        link: &Arc<Link>,
        script: &Script,
        group: &[Pending],
    ) -> Result<Published, RedisError> {
        let mut invocation = script.prepare_invoke();
        self.server.prepare(link, &mut invocation);
        let window = self.config.idempotency_window;
        invocation.arg(window.as_millis() as u64);
        invocation.arg(window.min(LEAST_KEY_WINDOW).as_millis() as u64);
        invocation.arg(self.config.idempotency_keys).arg(self.config.redis_bytes);
        invocation.arg(self.config.newest_topics).arg(self.config.newest_bytes);
        invocation.arg(self.config.bound_topics);
        let events = group.iter().flat_map(|pending| &pending.append.events);
        invocation.arg(events.map(entry::form).max().unwrap_or(1));
        let places = self.topics(&mut invocation, group);
        let mut keys = 0;
        for Pending { append, .. } in group {
            let count = append.events.len();
            match append.events.iter().all(is_free) {
                true => invocation.arg(count),
                false => invocation.arg(format!("{count}t")),
            };
            match &append.key {
                Some(key) => {
                    keys += 1;
                    invocation.key(self.server.keys.receipt(&key.scope));
                    let (is_in_series, Asked { raw, events }) = (key.is_in_series, key.asked);
                    invocation.arg(keys).arg(u8::from(is_in_series));
                    invocation.arg(raw.as_ref().map_or(&[][..], |raw| raw));
                    invocation.arg(events.map_or(String::new(), |events| hex(&events)));
                }
                None => _ = invocation.arg(0).arg(0).arg("").arg(""),
            }
            for event in &append.events {
                let place = places.get(&event.topic).copied().unwrap_or_default();
                match event.terms.as_deref() {
                    None => invocation.arg(place),
                    Some(terms) => invocation.arg(worded(place, terms)),
                };
                invocation.arg(entry::encode(event));
            }
        }
        let answer: Answer = self.server.publish(link, &invocation).await?;
        let (state, results, early, remembered) = answer;
        EARLY_KEYS.note(early, Duration::from_millis(remembered));
        let most = self.config.bound_topics;
        let outcomes = group.iter().zip(results);
        let outcomes =
            outcomes.map(|(pending, result)| outcome(&pending.append, state.head, &result, most));
        Ok((state.head, outcomes.collect()))
    }

    /// Says which topics there are, what is kept of each and how many events come; their places, from 1.
    fn topics<'a>(
        &self,
        invocation: &mut ScriptInvocation<'_>,
        group: &'a [Pending],
    ) -> HashMap<&'a Topic, usize> {
        let mut places = HashMap::new();
        let mut topics = Vec::new();
        for event in group.iter().flat_map(|pending| &pending.append.events) {
            let place = *places.entry(&event.topic).or_insert_with(|| {
                topics.push((&event.topic, 0));
                topics.len()
            });
            topics[place - 1].1 += 1;
        }
        invocation.arg(topics.len()).arg(group.len());
        for (topic, count) in topics {
            let rule = self.rules.of(topic);
            let is_kept = usize::from(rule.storage != Storage::None);
            let keep_newest = usize::from(rule.keeps_newest(Storage::Redis));
            invocation.key(self.server.keys.stream(topic));
            invocation.arg(topic.as_str()).arg(rule.max_events).arg(rule.max_bytes);
            invocation.arg(is_kept).arg(keep_newest).arg(count);
        }
        places
    }

    async fn answer(&self, link: &Arc<Link>, group: Vec<Pending>, (head, outcomes): Published) {
        let is_new = self.server.presented().is_none_or(|seen| seen.at(0) != head.at(0));
        if is_new && let Err(error) = self.server.join(link).await {
            // What was seen of the last epoch will be presented with the next call.
            error!(reason = %away(&error), "the new epoch could not be joined");
        }
        self.server.saw(head);
        if let Err(Away(reason)) = self.server.wait(link).await {
            return refuse(group, &AppendError::OutcomeUnknown(reason));
        }
        if group.len() != outcomes.len() {
            return refuse(group, &strange());
        }
        for (pending, outcome) in group.into_iter().zip(outcomes) {
            // Whoever gave up waiting was told that the outcome is unknown.
            _ = pending.answer.send(outcome);
        }
    }
}

/// The place of a topic, with the terms of one of its events behind it in the script's words.
fn worded(place: usize, terms: &Terms) -> String {
    let mut text = place.to_string();
    if terms.passes {
        text.push_str(";p");
    }
    // Writing into a String can't fail.
    if let Some(after) = terms.unless_after {
        _ = write!(text, ";u{}", after.sequence);
    }
    _ = match terms.if_latest {
        None => Ok(()),
        Some(Latest::Absent) => write!(text, ";a"),
        Some(Latest::Present) => write!(text, ";c"),
        Some(Latest::Is(cursor)) => write!(text, ";i{}-{}", cursor.log, cursor.sequence),
    };
    text
}

/// What a script says of one publish, where so many values may be bound to one session.
fn outcome(append: &Append, head: Cursor, result: &[String], most: usize) -> Outcome {
    let text = |at: usize| result.get(at).map(String::as_str);
    let receipt = match text(0) {
        Some("new" | "same") => text(1).and_then(|text| receipt(append, head, text)),
        Some("other") => return Err(AppendError::Mismatch),
        Some("unmet") => match text(1).and_then(|index| index.parse().ok()) {
            Some(index) => return Err(AppendError::NotLatest { index }),
            None => None,
        },
        Some("full") => return Err(AppendError::TooManyKeys),
        Some("bound") => return Err(AppendError::TooManyBound { most }),
        Some(_) | None => None,
    };
    let events = receipt.ok_or_else(strange)?;
    Ok(Receipt { events, repeated: text(0) == Some("same") })
}

/// A result as the script remembers it: `epoch first time`, whether each event is kept or superseded, the versions by
/// which it is, and what the script alone reads.
fn receipt(append: &Append, head: Cursor, text: &str) -> Option<Vec<EventReceipt>> {
    let mut parts = text.split(' ');
    let mut number = || parts.next()?.parse::<u64>().ok();
    let (epoch, mut next, time) = (number()?, number()?, number()?);
    let time = Timestamp::from_millis(i64::try_from(time).ok()?);
    let kept = parts.next()?.bytes();
    let mut versions = parts.next().unwrap_or_default().split(',');
    let events = append.events.iter().zip(kept).map(|(event, kept)| {
        let cursor = (kept == b'1').then_some(Cursor { epoch, ..head.at(next) });
        next += u64::from(kept == b'1');
        let superseded = (kept == b's').then(|| {
            let version = versions.next().and_then(|version| version.parse().ok());
            // What the broker ends is superseded by any newer event, which the script says by a 0.
            let is_by_version =
                event.terms.as_ref().is_none_or(|terms| terms.unless_after.is_none());
            Superseded { version: version.filter(|_| is_by_version) }
        });
        EventReceipt { cursor, topic: event.topic.clone(), time, superseded }
    });
    let events: Vec<_> = events.collect();
    (events.len() == append.events.len()).then_some(events)
}

fn refuse(group: Vec<Pending>, error: &AppendError) {
    for pending in group {
        _ = pending.answer.send(Err(error.clone()));
    }
}
