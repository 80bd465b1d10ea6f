//! How often each of a few kinds of things came to pass, and what of that is to be logged.
//!
//! The kinds are known from the start, so every one of them is a counter at 0 that nobody has to look for,
//! and counting waits for nobody. A log line of a kind is due as its [`Quiet`] says.

use std::time::Instant;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use crate::model::{Quiet, Summary};

/// The kinds, counted; `E` is what is told of one that came to pass.
#[derive(Debug)]
pub(super) struct Tally<E> {
    kinds: Vec<Kind<E>>,
}

#[derive(Debug)]
struct Kind<E> {
    name: &'static str,
    counter: Counter,
    quiet: Quiet<E>,
}

/// Which of what was held back is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Held {
    /// For a minute.
    Due,
    /// For however long: this is the end.
    Rest,
}

impl<E> Tally<E> {
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
            quiet: Quiet::default(),
        };
        let kinds = kinds.map(kind).collect();
        registry.register(name, help, family.clone());
        Self { kinds }
    }

    /// How many there were of each kind.
    pub(super) fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.kinds.iter().map(|kind| (kind.name, kind.counter.get()))
    }

    /// Counts so many of the kind of this number, of which nothing is told.
    pub(super) fn count(&self, kind: usize, number: u64) {
        if let Some(kind) = self.kinds.get(kind) {
            kind.counter.inc_by(number);
        }
    }

    /// Counts so many of the kind of this number: what to tell, if anything, with the kind's name.
    pub(super) fn tell(
        &self,
        kind: usize,
        number: u64,
        example: impl FnOnce() -> E,
    ) -> Option<(&'static str, Summary<E>)> {
        self.count(kind, number);
        let kind = self.kinds.get(kind)?;
        Some((kind.name, kind.quiet.tell(number, Instant::now(), example)?))
    }

    /// What was held back, with the names of its kinds.
    pub(super) fn held(&self, held: Held) -> impl Iterator<Item = (&'static str, Summary<E>)> {
        let now = Instant::now();
        let told = move |quiet: &Quiet<E>| match held {
            Held::Due => quiet.held_back(now),
            Held::Rest => quiet.rest(),
        };
        self.kinds.iter().filter_map(move |kind| Some((kind.name, told(&kind.quiet)?)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::CodeLabel;
    use super::*;

    #[test]
    fn each_kind_is_told_for_itself_and_what_was_held_back_at_the_end() {
        let mut registry = Registry::default();
        let kinds = ["a", "b"].into_iter();
        let tally =
            Tally::new(&mut registry, ("things", "Things"), kinds, |code| CodeLabel { code });
        let tell = |kind, example| tally.tell(kind, 1, || example);
        let told = |name, count, example| Some((name, Summary { count, example }));
        assert_eq!(tell(0, "x"), told("a", 1, "x"));
        assert_eq!([tell(0, "y"), tell(0, "z")], [None, None]);
        assert_eq!(tell(1, "x"), told("b", 1, "x"), "each kind for itself");
        assert_eq!(tell(2, "x"), None, "no such kind");
        assert_eq!(tally.held(Held::Due).next(), None, "a minute is not over");
        assert_eq!(tally.held(Held::Rest).collect::<Vec<_>>(), [told("a", 2, "y").unwrap()]);
    }
}
