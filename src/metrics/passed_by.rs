//! What an application's Redis held that did not become an event: counted by its reason, and one line of each reason
//! a minute.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::registry::Registry;
use tracing::warn;

use super::tally::{Held, Tally};
use crate::model::Summary;

/// Why something is passed by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// An entry of a stream has not the field that is read.
    NoField,
    /// It is larger than an event may be.
    TooLarge,
    /// Its data is none that an event may have.
    InvalidEvent,
    /// It would be on no topic that there may be.
    InvalidTopic,
    /// It gives an idempotency key that is none.
    InvalidKey,
    /// More messages of a channel wait than there is room for.
    NoRoom,
    /// The log refuses it for good.
    Refused,
}

/// What was passed by at one node.
#[derive(Debug)]
pub struct PassedBy(Tally<String>);

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

impl Why {
    const ALL: [Why; 7] = [
        Why::NoField,
        Why::TooLarge,
        Why::InvalidEvent,
        Why::InvalidTopic,
        Why::InvalidKey,
        Why::NoRoom,
        Why::Refused,
    ];

    fn name(self) -> &'static str {
        match self {
            Why::NoField => "no_field",
            Why::TooLarge => "too_large",
            Why::InvalidEvent => "invalid_event",
            Why::InvalidTopic => "invalid_topic",
            Why::InvalidKey => "invalid_key",
            Why::NoRoom => "no_room",
            Why::Refused => "refused",
        }
    }
}

impl PassedBy {
    pub(super) fn new(registry: &mut Registry) -> Self {
        let name = (
            "ingress_passed_by",
            "Entries and messages of an application's Redis that did not become events, by reason",
        );
        let reasons = Why::ALL.into_iter().map(Why::name);
        Self(Tally::new(registry, name, reasons, |reason| ReasonLabel { reason }))
    }

    /// Counts so many, and logs one, which `example` says where to find, where that is due.
    pub fn note(&self, why: Why, number: u64, example: impl FnOnce() -> String) {
        self.0.tell(why as usize, number, example).into_iter().for_each(say);
    }

    pub(super) fn tell_held(&self, held: Held) {
        self.0.held(held).for_each(say);
    }
}

fn say((reason, Summary { count, example }): (&'static str, Summary<String>)) {
    warn!(reason, count, example, "what came from Redis is passed by");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_found_at_its_number() {
        for (number, why) in Why::ALL.into_iter().enumerate() {
            assert_eq!(why as usize, number, "{why:?}");
        }
    }
}
