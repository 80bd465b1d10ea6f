//! An event on its way out.
//!
//! Shared by every worker and session that it goes to. Each wire form is encoded by the first
//! session that needs it and then shared; the history keeps the event alone, so the encoded bytes
//! are freed with the last delivery.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use crate::model::Event;

/// The most wire forms that one event can have: those of the protocols, each as it is and
/// compressed for two sizes of window.
const WIRE_FORMS: usize = 12;

/// An event and its encoded forms.
#[derive(Debug)]
pub struct Delivery {
    /// What is delivered.
    pub event: Arc<Event>,
    encoded: Forms,
    /// The same for sessions that conflate: most events have none.
    conflated: OnceLock<Box<Forms>>,
}

/// The bytes of each wire form.
type Forms = [OnceLock<Bytes>; WIRE_FORMS];

impl Delivery {
    /// A delivery that nobody has encoded yet.
    pub fn new(event: Arc<Event>) -> Self {
        Self { event, encoded: Default::default(), conflated: OnceLock::new() }
    }

    /// The bytes of wire form `form`, encoded now if this is the first to ask.
    pub fn encoded(&self, form: usize, encode: impl FnOnce(&Event) -> Bytes) -> Bytes {
        self.shared(&self.encoded, form, encode)
    }

    /// The same, for sessions that conflate.
    pub fn conflated(&self, form: usize, encode: impl FnOnce(&Event) -> Bytes) -> Bytes {
        self.shared(self.conflated.get_or_init(Box::default), form, encode)
    }

    fn shared(&self, forms: &Forms, form: usize, encode: impl FnOnce(&Event) -> Bytes) -> Bytes {
        match forms.get(form) {
            Some(slot) => slot.get_or_init(|| encode(&self.event)).clone(),
            None => encode(&self.event),
        }
    }
}
