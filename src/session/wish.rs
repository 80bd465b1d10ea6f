//! A subscribe before it is taken: what it asks for, and what is to be found out first.

use super::values::Values;
use crate::broker::BrokerHandle;
use crate::model::{Cursor, Start};
use crate::protocol::{Opening, Subscribe};

/// A subscribe, and the number that the client gave it.
pub struct Wish {
    /// The client's number.
    pub reference: Option<u64>,
    /// What it asks for.
    pub subscribe: Subscribe,
    /// After which place, once that is known.
    pub after: Option<Cursor>,
    /// Whether events up to there are missed, for the clock went back.
    pub is_short: bool,
    /// Its client did not ask for it.
    pub is_commanded: bool,
}

impl Wish {
    /// A subscribe as the client asks for it.
    pub fn new(reference: Option<u64>, subscribe: Subscribe) -> Self {
        let after = match subscribe.since {
            Some(Start::After(cursor)) => Some(cursor),
            Some(Start::Since(_)) | None => None,
        };
        Self { reference, subscribe, after, is_short: false, is_commanded: false }
    }

    /// A subscribe that the client did not ask for.
    pub fn commanded(subscribe: Subscribe) -> Self {
        Self { is_commanded: true, ..Self::new(None, subscribe) }
    }

    /// Whether there is nothing to find out or to wait for.
    pub fn is_ready(&self, broker: &BrokerHandle, most: usize) -> bool {
        match self.subscribe.since {
            Some(Start::After(cursor)) => broker.has_delivered_up_to(cursor),
            Some(Start::Since(_)) => false,
            None => self.counted(most).is_none(),
        }
    }

    /// What is to be counted before it may be sent, for it may come to more than `most` events.
    pub fn counted(&self, most: usize) -> Option<Values> {
        let Opening::Last(count) = self.subscribe.opening else { return None };
        // What nodes said of themselves has a bound of its own.
        let kept = self.subscribe.patterns.iter().filter(|pattern| !pattern.is_metrics()).cloned();
        let values = Values::each(kept.collect(), count);
        let is_bound = values.bound().is_some_and(|bound| bound <= most);
        (!is_bound).then_some(values)
    }
}
