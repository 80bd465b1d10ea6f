//! How often each of a few kinds of things came to pass, and whether that is to be logged again.
//!
//! The kinds are known from the start, so every one of them is a counter at 0 that nobody has to look for,
//! and counting takes no lock. Somebody else decides how often a thing comes to pass that a client does, so a
//! log line of it is due once a minute a kind, and says how many there were.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

/// How long nothing more is logged of a kind.
const QUIET: Duration = Duration::from_secs(60);

/// The kinds, counted.
#[derive(Debug)]
pub(super) struct Tally {
    began: Instant,
    kinds: Vec<Kind>,
}

#[derive(Debug)]
struct Kind {
    name: &'static str,
    counter: Counter,
    /// How many came to pass since the last line.
    unsaid: AtomicU64,
    /// When the next line is due, in milliseconds since the beginning.
    due: AtomicU64,
}

/// One that came to pass, where a line of it is due.
pub(super) struct Due {
    /// Which kind.
    pub(super) name: &'static str,
    /// How many since the last line.
    pub(super) count: u64,
}

impl Tally {
    /// Counters called `name`, one for each of `kinds`, which `label` makes a label set of.
    pub(super) fn new<L>(
        registry: &mut Registry,
        (name, help): (&str, &str),
        kinds: impl Iterator<Item = &'static str>,
        label: impl Fn(&'static str) -> L,
    ) -> Self
    where
        L: EncodeLabelSet + std::fmt::Debug + Clone + Eq + std::hash::Hash + Send + Sync + 'static,
    {
        let family: Family<L, Counter> = Family::default();
        let kind = |name| Kind {
            name,
            counter: family.get_or_create_owned(&label(name)),
            unsaid: AtomicU64::new(0),
            due: AtomicU64::new(0),
        };
        let kinds = kinds.map(kind).collect();
        registry.register(name, help, family.clone());
        Self { began: Instant::now(), kinds }
    }

    /// Counts one of the kind of this number.
    pub(super) fn count(&self, kind: usize) -> Option<Due> {
        let now = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.count_at(kind, now)
    }

    fn count_at(&self, kind: usize, now: u64) -> Option<Due> {
        let kind = self.kinds.get(kind)?;
        kind.counter.inc();
        kind.unsaid.fetch_add(1, Ordering::Relaxed);
        let due = kind.due.load(Ordering::Relaxed);
        let next = now.saturating_add(QUIET.as_millis() as u64);
        let is_due = due <= now
            && kind.due.compare_exchange(due, next, Ordering::AcqRel, Ordering::Relaxed).is_ok();
        is_due.then(|| Due { name: kind.name, count: kind.unsaid.swap(0, Ordering::AcqRel) })
    }
}

#[cfg(test)]
mod tests {
    use super::super::CodeLabel;
    use super::*;

    #[test]
    fn a_kind_is_said_once_a_minute_with_how_many_there_were() {
        let mut registry = Registry::default();
        let kinds = ["a", "b"].into_iter();
        let tally =
            Tally::new(&mut registry, ("things", "Things"), kinds, |code| CodeLabel { code });
        let said = |kind, now| tally.count_at(kind, now).map(|due| (due.name, due.count));
        assert_eq!(said(0, 5), Some(("a", 1)));
        assert_eq!([said(0, 6), said(0, 60_004)], [None, None]);
        assert_eq!(said(1, 7), Some(("b", 1)), "each kind for itself");
        assert_eq!(said(0, 60_005), Some(("a", 3)));
        assert_eq!(said(0, 120_004), None);
        assert_eq!(said(2, 5), None, "no such kind");
    }
}
