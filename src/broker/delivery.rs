//! An event on its way out.
//!
//! Shared by every worker and session that it goes to. Each wire form is encoded by the first
//! session that needs it and then shared; the history keeps the event alone, so the encoded bytes
//! are freed with the last delivery. How many forms there are is known to those who ask for them alone.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use crate::clock::Instant;
use crate::model::Event;

/// An event and its encoded forms.
#[derive(Debug)]
pub struct Delivery {
    /// What is delivered.
    pub event: Arc<Event>,
    /// When this node heard that it is committed.
    pub at: Instant,
    encoded: OnceLock<Encoded>,
    /// The same for sessions that conflate: most events have none.
    conflated: OnceLock<Box<Encoded>>,
}

/// The bytes of one wire form, and behind them those that were asked for later: mostly there are one or two.
#[derive(Debug)]
struct Encoded {
    form: usize,
    bytes: OnceLock<Bytes>,
    next: OnceLock<Box<Encoded>>,
}

impl Delivery {
    /// A delivery that nobody has encoded yet, of what is committed now.
    pub fn new(event: Arc<Event>) -> Self {
        Self::at(event, Instant::now())
    }

    /// The same, of what was committed then.
    pub fn at(event: Arc<Event>, at: Instant) -> Self {
        Self { event, at, encoded: OnceLock::new(), conflated: OnceLock::new() }
    }

    /// The bytes of wire form `form`, encoded now if this is the first to ask.
    pub fn encoded(&self, form: usize, encode: impl FnOnce(&Event) -> Bytes) -> Bytes {
        let first = self.encoded.get_or_init(|| Encoded::nothing_of(form));
        first.share(form, || encode(&self.event))
    }

    /// The same, for sessions that conflate.
    pub fn conflated(&self, form: usize, encode: impl FnOnce(&Event) -> Bytes) -> Bytes {
        let first = self.conflated.get_or_init(|| Box::new(Encoded::nothing_of(form)));
        first.share(form, || encode(&self.event))
    }
}

impl Encoded {
    fn nothing_of(form: usize) -> Self {
        Self { form, bytes: OnceLock::new(), next: OnceLock::new() }
    }

    fn share(&self, form: usize, encode: impl FnOnce() -> Bytes) -> Bytes {
        let mut slot = self;
        while slot.form != form {
            slot = slot.next.get_or_init(|| Box::new(Self::nothing_of(form)));
        }
        slot.bytes.get_or_init(encode).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Data, Timestamp, Topic};

    #[test]
    fn however_many_forms_there_are_each_is_encoded_once() {
        let event = Arc::new(Event {
            cursor: None,
            topic: Topic::parse("a").unwrap(),
            kind: None,
            time: Timestamp::from_millis(0),
            data: Data::from_json(b"1", 1).unwrap(),
            envelope: None,
        });
        let delivery = Delivery::new(event);
        for round in 0..2 {
            for form in [7, 0, 100, 3] {
                let encode = |_: &Event| {
                    assert_eq!(round, 0, "form {form} was encoded already");
                    Bytes::from(format!("live {form}"))
                };
                assert_eq!(delivery.encoded(form, encode), format!("live {form}"));
                let conflated = delivery.conflated(form, |_| format!("slow {form}").into());
                assert_eq!(conflated, format!("slow {form}"));
            }
        }
    }
}
