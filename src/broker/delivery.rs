//! An event on its way out.
//!
//! Shared by every worker and session that it goes to. Each wire form is encoded by the first
//! session that needs it and then shared; the history keeps the event alone, so the encoded bytes
//! are freed with the last delivery. How many forms there are is known to those who ask for them alone.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use crate::clock::Instant;
use crate::model::Event;
use crate::traces::Onward;

/// An event and its encoded forms.
#[derive(Debug)]
pub struct Delivery {
    /// What is delivered.
    pub event: Arc<Event>,
    /// When this node heard that it is committed.
    pub at: Instant,
    /// The span after which its trace goes on here.
    pub(super) onward: Onward,
    encoded: OnceLock<Encoded>,
    /// The same for sessions that conflate: most events have none.
    conflated: OnceLock<Box<Encoded>>,
}

/// By what the bytes of one wire form are known: a place where nothing else stands, and how they were compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FormKey(pub usize, pub u8);

/// The bytes of one wire form, and behind them those that were asked for later: mostly there are one or two.
#[derive(Debug)]
struct Encoded {
    form: FormKey,
    bytes: OnceLock<Bytes>,
    next: OnceLock<Box<Encoded>>,
}

impl Delivery {
    /// A delivery that nobody has encoded yet, of what is committed now.
    pub fn new(event: Arc<Event>) -> Self {
        Self::at(event, Instant::now(), Onward::default())
    }

    /// The same, of what was committed then, and whose trace goes on so.
    pub(super) fn at(event: Arc<Event>, at: Instant, onward: Onward) -> Self {
        Self { event, at, onward, encoded: OnceLock::new(), conflated: OnceLock::new() }
    }

    /// The bytes of wire form `form`, encoded now if this is the first to ask.
    pub fn encoded(&self, form: FormKey, encode: impl FnOnce(&Event) -> Bytes) -> Bytes {
        let first = self.encoded.get_or_init(|| Encoded::nothing_of(form));
        first.share(form, || encode(&self.event))
    }

    /// What it holds in memory now, in bytes.
    fn bytes(&self) -> usize {
        let encoded = self.encoded.get().map_or(0, Encoded::bytes);
        let conflated = self.conflated.get().map_or(0, |first| first.bytes());
        self.event.cost() + encoded + conflated
    }

    /// The same, for sessions that conflate.
    pub fn conflated(&self, form: FormKey, encode: impl FnOnce(&Event) -> Bytes) -> Bytes {
        let first = self.conflated.get_or_init(|| Box::new(Encoded::nothing_of(form)));
        first.share(form, || encode(&self.event))
    }
}

/// A delivery that waits, and what it was counted as when that began.
#[derive(Debug)]
pub struct Waiting {
    /// The delivery.
    pub delivery: Arc<Delivery>,
    /// What it holds in memory, in bytes: its event as [`Event::cost`] counts it, and the forms that there were.
    pub bytes: usize,
}

impl Waiting {
    /// Has a delivery wait.
    pub fn new(delivery: &Arc<Delivery>) -> Self {
        Self { delivery: delivery.clone(), bytes: delivery.bytes() }
    }
}

impl Encoded {
    fn bytes(&self) -> usize {
        let all = std::iter::successors(Some(self), |form| form.next.get().map(|next| &**next));
        all.filter_map(|form| form.bytes.get()).map(Bytes::len).sum()
    }

    fn nothing_of(form: FormKey) -> Self {
        Self { form, bytes: OnceLock::new(), next: OnceLock::new() }
    }

    fn share(&self, form: FormKey, encode: impl FnOnce() -> Bytes) -> Bytes {
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
        let delivery = Arc::new(Delivery::new(event));
        let bare = Waiting::new(&delivery);
        assert_eq!(bare.bytes, delivery.event.cost());
        for round in 0..2 {
            for form in [(7, 0), (0, 0), (7, 1), (3, 0)] {
                let form = FormKey(form.0, form.1);
                let encode = |_: &Event| {
                    assert_eq!(round, 0, "form {form:?} was encoded already");
                    Bytes::from(format!("live {form:?}"))
                };
                assert_eq!(delivery.encoded(form, encode), format!("live {form:?}"));
                let conflated = delivery.conflated(form, |_| format!("slow {form:?}").into());
                assert_eq!(conflated, format!("slow {form:?}"));
            }
        }
        let forms: usize = ["live FormKey(7, 0)"; 8].iter().map(|text| text.len()).sum();
        let bytes = Waiting::new(&delivery).bytes - bare.bytes;
        assert!((forms..forms + 20).contains(&bytes), "{bytes}, of eight forms");
    }
}
