//! How the sessions of a worker keep up, and how long events are on their way to them.

use super::super::SessionKey;
use super::super::exam::{Examined, SLOWEST, Slow};
use super::super::subscriber::{Strain, Subscriber};
use super::Worker;
use crate::clock::Instant;

/// How many events may be on their way to sockets and be measured; of more the rest is not.
const MEASURED: usize = 4_096;

impl<S: Subscriber> Worker<S> {
    /// An event that was committed then was taken out of the inbox now.
    pub(super) fn note_taken(&mut self, committed: Instant, now: Instant) {
        self.metrics.road.inbox_wait.observe(now.saturating_duration_since(committed));
        if self.unwritten.len() < MEASURED {
            self.unwritten.push(committed);
        }
    }

    /// All that was taken has been written, as far as sockets take it.
    pub(super) fn note_written(&mut self) {
        if self.unwritten.is_empty() {
            return;
        }
        let now = self.now();
        for committed in self.unwritten.drain(..) {
            self.metrics.road.delivery.observe(now.saturating_duration_since(committed));
        }
        self.writes.written(self.router.traces(), now);
    }

    /// How the sessions keep up.
    pub(in super::super) fn examine(&mut self) -> Examined {
        let (now, mut examined) = (self.now(), Examined { workers: 1, ..Examined::default() });
        let mut slow = Vec::new();
        for (key, entry) in self.sessions.iter() {
            let strain = entry.subscriber.strain(now);
            if strain.queued_bytes > 0 {
                examined.queued_bytes += strain.queued_bytes;
                slow.push((strain, key));
            }
        }
        let most_first =
            |(one, at): &(Strain, SessionKey)| (std::cmp::Reverse(one.queued_bytes), *at);
        if slow.len() > SLOWEST {
            slow.select_nth_unstable_by_key(SLOWEST, most_first);
            slow.truncate(SLOWEST);
        }
        let named = slow.into_iter().filter_map(|(strain, key)| {
            let info = &self.sessions.get(key)?.info;
            Some(Slow {
                session: info.id.clone(),
                user: info.user().map(str::to_owned),
                transport: info.transport,
                strain,
            })
        });
        examined.slowest = named.collect();
        examined
    }
}
