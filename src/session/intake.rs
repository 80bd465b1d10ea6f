//! What one session takes in, and by what right: each event goes out because something here says so, in that
//! step.
//!
//! As long as all that is routed to the session is live and granted whole, it only hands the shared bytes to the
//! outbox; while something is caught up, or must be filtered, it looks at each event. Which of both is a
//! fact that changes in the same step as what it follows from, and it is shut until the step is done.

mod losses;

use std::collections::HashSet;
use std::sync::Arc;

use super::catchup::Catchup;
use super::catchups::{Active, Catchups, Held, Progress, Reached, Running};
use super::live::Live;
use super::pump::Pump;
use super::reading::Kind;
use super::voice::Voice;
use crate::auth::{Access, Coverage};
use crate::broker::{BarrierId, Delivered, Delivery, Roll};
use crate::clock::Instant;
use crate::metrics::Gap;
use crate::model::{Close, Cursor, Event, Pattern, Topic};
use crate::protocol::{Annotations, Reply};

/// The subscriptions of one session, its rights, and the voice that events leave by.
pub struct Intake {
    /// Every event that comes is to be sent as it is. Changed by [`Intake::change`] alone.
    passes_all: bool,
    voice: Voice,
    access: Access,
    /// Its id.
    session: Arc<str>,
    live: Live,
    catchups: Catchups,
    pump: Pump,
    /// The newest cursor that the client was told of beside events.
    last_cursor: Option<Cursor>,
}

impl Intake {
    /// Takes in nothing yet.
    pub fn new(
        voice: Voice,
        access: Access,
        session: Arc<str>,
        max_conflated_bytes: usize,
    ) -> Self {
        Self {
            passes_all: false,
            voice,
            access,
            session,
            live: Live::default(),
            catchups: Catchups::default(),
            pump: Pump::new(max_conflated_bytes),
            last_cursor: None,
        }
    }

    /// Changes what decides about events, and with it whether they may go out without a look.
    fn change<R>(&mut self, change: impl FnOnce(&mut Self) -> R) -> R {
        self.passes_all = false;
        let changed = change(self);
        let is_settled = self.catchups.is_empty() && self.live.is_whole();
        self.pump.settle(self.live.len(), is_settled);
        self.passes_all = is_settled && !self.live.is_empty() && self.pump.is_idle();
        changed
    }

    /// What else is said to the client.
    pub fn voice(&self) -> &Voice {
        &self.voice
    }

    /// What else is said to the client.
    pub fn voice_mut(&mut self) -> &mut Voice {
        &mut self.voice
    }

    /// The session's rights at this moment.
    pub fn access(&self) -> &Access {
        &self.access
    }

    /// The session's id.
    pub fn session(&self) -> &str {
        &self.session
    }

    /// Whether an event out of the history may be shown as such a one.
    pub fn may_show(&self, event: &Event, kind: Kind) -> bool {
        let is_kept_from = kind != Kind::Snapshot && is_kept_from(&self.session, event);
        self.access.may_subscribe(&event.topic) && !is_kept_from
    }

    /// Whether it is subscribed to nothing.
    pub fn is_empty(&self) -> bool {
        self.live.is_empty() && self.catchups.is_empty()
    }

    /// How many subscribes are being caught up.
    pub fn replays(&self) -> usize {
        self.catchups.len()
    }

    /// Whether more waits for the client than may.
    pub fn is_full(&self) -> bool {
        self.voice.is_full() || self.pump.is_full()
    }

    /// How many patterns there would be with `more`.
    pub fn count_with(&self, more: &[Pattern]) -> usize {
        let caught_up = self.catchups.patterns();
        let others = caught_up.chain(more).filter(|pattern| !self.live.contains(pattern));
        self.live.len() + others.collect::<HashSet<_>>().len()
    }

    /// Takes other rights; the patterns that they do not cover any more are lost with that.
    pub fn set_access(&mut self, access: Access) -> Vec<Pattern> {
        self.change(|intake| {
            intake.live.recheck_coverage(&access);
            intake.access = access;
            let patterns = intake.live.iter().chain(intake.catchups.patterns());
            let is_lost = |pattern: &&Pattern| intake.access.coverage(pattern) == Coverage::None;
            let lost: Vec<_> = patterns.filter(is_lost).cloned().collect();
            intake.drop_patterns(&lost);
            lost
        })
    }

    /// Takes a subscribe that is to be caught up.
    pub fn add(&mut self, active: Active) {
        self.change(|intake| intake.catchups.add(active));
    }

    /// Takes in nothing by these patterns any more.
    pub fn unsubscribe(&mut self, patterns: &[Pattern]) {
        self.change(|intake| intake.drop_patterns(patterns));
    }

    fn drop_patterns(&mut self, patterns: &[Pattern]) {
        let Self { live, catchups, access, voice, pump, .. } = self;
        patterns.iter().for_each(|pattern| live.remove(pattern, access));
        catchups.unsubscribe(patterns);
        pump.remove(patterns, voice, access, live);
        // What is held back for the client was to be shown to it by the rights and for the patterns of then.
        let is_wanted = |topic: &Topic| {
            live.matches(topic) || catchups.patterns().any(|one| one.matches(topic))
        };
        voice.retain(|topic| access.may_subscribe(topic) && is_wanted(topic));
    }

    /// Has the history of a subscribe read by a task, which ends with it.
    pub fn read_by(&mut self, barrier: BarrierId, task: Running) {
        self.catchups.run_by(barrier, task);
    }

    /// Takes an event that one of the patterns matches.
    #[inline]
    pub fn deliver(&mut self, delivery: &Arc<Delivery>) -> Delivered {
        if is_kept_from(&self.session, &delivery.event) {
            Delivered::Quietly
        } else if self.passes_all {
            self.voice.live(delivery)
        } else {
            self.deliver_with_a_look(delivery)
        }
    }

    fn deliver_with_a_look(&mut self, delivery: &Arc<Delivery>) -> Delivered {
        let topic = &delivery.event.topic;
        let uniform = self.pump.uniform();
        if uniform.is_none() {
            if !self.access.may_subscribe(topic) {
                return Delivered::Quietly;
            }
            let goes_out = match self.catchups.hold(delivery) {
                Held::NotHere => self.live.wants(&delivery.event),
                Held::Waits => false,
                Held::GoesOut => true,
            };
            if !goes_out {
                return Delivered::Quietly;
            }
        }
        match uniform.or_else(|| self.pump.interval(&self.live, topic)) {
            Some(interval) => {
                let is_behind = self.voice.outgoing().is_behind();
                self.pump.offer(&mut self.voice, delivery, interval, is_behind)
            }
            None => self.voice.live(delivery),
        }
    }

    /// Has what it took written; says when it has more to send by the clock, if it has. A reason to end,
    /// where more waits than may.
    #[inline]
    pub fn flush(&mut self) -> Result<Option<Instant>, Close> {
        if self.pump.is_idle() {
            self.voice.outgoing().flush();
            return Ok(None);
        }
        self.pump_out()
    }

    fn pump_out(&mut self) -> Result<Option<Instant>, Close> {
        loop {
            let more_at = self.pump.send_due(&mut self.voice, &self.access, &self.live);
            if self.is_full() {
                return Err(Close::SlowConsumer);
            }
            self.voice.outgoing().flush();
            if !self.voice.outgoing().wants_more() {
                return Ok(more_at);
            }
        }
    }

    /// Tells the client how far everything has been sent or superseded, where that is news.
    pub fn tell_cursor(&mut self, position: Cursor) {
        let is_live = self.catchups.is_empty() && !self.live.is_empty();
        let cursor = self.pump.floor(position);
        if is_live && self.last_cursor != Some(cursor) {
            self.last_cursor = Some(cursor);
            self.voice.reply(&Reply::Cursor(cursor));
        }
    }

    /// Says that events after a place are gone, of these topics or of any, for the subscribe of `barrier`; false once there
    /// is none.
    pub fn replay_gap(
        &mut self,
        barrier: BarrierId,
        reference: Option<u64>,
        since: Cursor,
        topics: &[Topic],
    ) -> bool {
        let Some(active) = self.catchups.get(barrier) else { return false };
        let is_seen =
            |topic: &&Topic| active.catchup.matches(topic) && self.access.may_subscribe(topic);
        let seen: Vec<_> = topics.iter().filter(is_seen).cloned().collect();
        if topics.is_empty() || !seen.is_empty() {
            let why = if seen.is_empty() { active.catchup.gap_since(since) } else { Gap::Presence };
            self.voice.gap(why, &Reply::Gap { reference, since, topics: &seen });
        }
        true
    }

    /// Sends events out of the history for the subscribe of `barrier`, those that are still wanted, for as long as there is
    /// room, and one in any case; how many of them are done with, none once there is no such subscribe.
    pub fn replay(
        &mut self,
        barrier: BarrierId,
        events: &[Arc<Event>],
        kind: Kind,
    ) -> Option<usize> {
        let Self { catchups, access, voice, pump, session, .. } = self;
        let active = catchups.get(barrier)?;
        let annotations = annotations(&active.catchup, kind);
        let (mut done, mut sent) = (0, 0);
        for event in events {
            if done > 0 && !voice.outgoing().has_room(event.cost()) {
                break;
            }
            done += 1;
            let is_kept_from = kind != Kind::Snapshot && is_kept_from(session, event);
            let is_read_again = kind != Kind::Replayed && active.rereads(event);
            let is_out = is_kept_from || is_read_again || !active.catchup.wants(event);
            if is_out || !access.may_subscribe(&event.topic) {
                continue;
            }
            if kind != Kind::Replayed {
                active.catchup.sent_snapshot(event);
                pump.supersede(&event.topic, event.cursor);
            }
            voice.event(event, &annotations);
            sent += 1;
        }
        voice.note_replayed(sent);
        Some(done)
    }

    /// Sends events that wait for the subscribe of `barrier` while there is room; none once so few
    /// wait that the rest may go at once, else how many bytes the next one needs.
    pub fn drain_held(&mut self, barrier: BarrierId) -> Option<usize> {
        let few_bytes = self.voice.outgoing().max_bytes() / 4;
        let active = self.catchups.get(barrier)?;
        if active.interval.is_some() {
            // It takes no room to have the newest of them wait elsewhere.
            return None;
        }
        while active.catchup.held_bytes() > few_bytes {
            let next = active.catchup.next_held_bytes();
            if !self.voice.outgoing().has_room(next) {
                return Some(next);
            }
            let delivery = active.catchup.next_held()?;
            send_held(&mut self.voice, &self.access, &active.catchup, &delivery);
        }
        None
    }

    /// Hears that all before `barrier` has been delivered, up to `position`.
    pub fn barrier_reached(&mut self, barrier: BarrierId, position: Cursor) {
        self.change(|intake| {
            if let Some(Reached::Live(active)) = intake.catchups.barrier_reached(barrier, position)
            {
                intake.go_live(*active, position);
            }
        });
    }

    /// What nodes say of themselves waits from here on, for the subscribe of `barrier` is about to be told what they said
    /// before; false where that is not asked.
    pub fn begin_past(&mut self, barrier: BarrierId) -> bool {
        self.catchups.get(barrier).is_some_and(|active| active.catchup.begin_past())
    }

    /// Hears for the subscribe of `barrier` who is in the topics that it asks about.
    pub fn called(&mut self, barrier: BarrierId, roll: Option<Roll>) {
        self.change(|intake| intake.catchups.called(barrier, roll));
    }

    fn go_live(&mut self, active: Active, position: Cursor) {
        let Active { mut catchup, values, interval, reader, .. } = active;
        let Self { live, access, voice, pump, .. } = self;
        if !catchup.is_renewal {
            // A later subscribe to the same pattern replaces its options.
            pump.remove(catchup.patterns(), voice, access, live);
        }
        for pattern in catchup.patterns() {
            match catchup.is_renewal {
                true => live.restore(pattern, access),
                false => {
                    let filter = catchup.filters().get(pattern).cloned();
                    live.add(pattern, values, filter, access);
                }
            }
            // Of who comes and goes nothing is superseded by what comes later.
            if let Some(interval) = interval.filter(|_| !pattern.is_presence()) {
                pump.add(pattern.clone(), interval);
            }
        }
        // Of what others have the newest of, every event may be wanted from here on.
        pump.let_out(voice, access, live);
        while let Some(delivery) = catchup.next_held() {
            match pump.interval(live, &delivery.event.topic) {
                Some(_) if !access.may_subscribe(&delivery.event.topic) => {}
                // It goes out behind all that is written before.
                Some(interval) => _ = pump.offer(voice, &delivery, interval, true),
                None => send_held(voice, access, &catchup, &delivery),
            }
        }
        if !catchup.is_renewal {
            self.voice.note_live(catchup.begun_at);
        }
        self.say_live(catchup.reference, position);
        if let Some(reader) = reader {
            reader.tell(Progress::Live);
        }
    }

    fn say_live(&mut self, reference: Option<u64>, position: Cursor) {
        let cursor = self.pump.floor(position);
        self.voice.reply(&Reply::Live { reference, cursor });
        self.last_cursor = Some(cursor);
    }
}

/// Whether an event is kept from a session.
#[inline]
fn is_kept_from(session: &str, event: &Event) -> bool {
    let except = event.envelope.as_ref().and_then(|envelope| envelope.except());
    except.is_some_and(|except| except == session)
}

fn send_held(voice: &mut Voice, access: &Access, catchup: &Catchup, delivery: &Delivery) {
    if access.may_subscribe(&delivery.event.topic) {
        let event = &delivery.event;
        let annotations = match event.cursor {
            Some(_) => annotations(catchup, Kind::Replayed),
            // It has no place in a replay.
            None => Annotations::default(),
        };
        voice.event(event, &annotations);
    }
}

fn annotations(catchup: &Catchup, kind: Kind) -> Annotations {
    let is_snapshot = kind == Kind::Snapshot;
    let is_replay = !is_snapshot && !catchup.is_renewal;
    Annotations {
        replay: is_replay.then(|| catchup.reference.unwrap_or(0)),
        snapshot: is_snapshot,
        conflated: kind == Kind::Changed,
        skipped: 0,
    }
}
