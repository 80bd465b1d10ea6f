//! A published thing: what it is about, what it says, and what it is stored under.

use super::{Cursor, Data, Envelope, EventType, Timestamp, Topic};

/// An event as it was stored and is delivered.
#[derive(Debug, Clone)]
pub struct Event {
    /// Its place in the log; `None` on ephemeral topics.
    pub cursor: Option<Cursor>,
    /// Its address.
    pub topic: Topic,
    /// What kind of event it is, in the publisher's words.
    pub kind: Option<EventType>,
    /// When the broker took it.
    pub time: Timestamp,
    /// What was published.
    pub data: Data,
    /// What it carries beside that; most events nothing.
    pub envelope: Option<Box<Envelope>>,
}

impl Event {
    /// What an event costs beside its texts, in bytes: a flat charge for its record and its place
    /// in the indexes.
    pub const OVERHEAD_BYTES: usize = 256;

    /// What keeping this event costs, in bytes, as every bound on a history counts it.
    pub fn cost(&self) -> usize {
        let Self { topic, kind, data, envelope, .. } = self;
        cost(topic, kind.as_ref(), data, envelope.as_deref())
    }

    /// Whether it is a tombstone: it removes its topic's current value.
    pub fn is_tombstone(&self) -> bool {
        self.envelope.as_ref().is_some_and(|envelope| envelope.removed().is_some())
    }
}

/// An event that a publisher hands in: neither numbered nor stored yet.
#[derive(Debug, Clone)]
pub struct NewEvent {
    /// Its address.
    pub topic: Topic,
    /// What kind of event it is, in the publisher's words.
    pub kind: Option<EventType>,
    /// What is published.
    pub data: Data,
    /// What it carries beside that.
    pub envelope: Option<Box<Envelope>>,
    /// What it is stored under, where that is not always.
    pub terms: Option<Box<Terms>>,
}

impl NewEvent {
    /// An event that carries nothing else, and is stored whatever is there.
    pub fn new(topic: Topic, kind: Option<EventType>, data: Data) -> Self {
        Self { topic, kind, data, envelope: None, terms: None }
    }

    /// What it costs while it waits to be stored, in bytes, as [`Event::cost`] counts.
    pub fn cost(&self) -> usize {
        let Self { topic, kind, data, envelope, .. } = self;
        cost(topic, kind.as_ref(), data, envelope.as_deref())
    }

    /// The member of it that only an event has that is kept; none where it has no such one.
    pub fn kept_member(&self) -> Option<&'static str> {
        let envelope = self.envelope.as_deref();
        let has = |has: fn(&Envelope) -> bool| envelope.is_some_and(has);
        if has(|envelope| envelope.removed().is_some()) {
            Some("removed")
        } else if has(|envelope| envelope.version().is_some()) {
            Some("version")
        } else if has(|envelope| envelope.ttl().is_some()) {
            Some("ttl_ms")
        } else if has(|envelope| envelope.holder().is_some()) {
            Some("bound")
        } else {
            let if_latest = self.terms.as_ref().and_then(|terms| terms.if_latest);
            if_latest.map(|_| "if_latest")
        }
    }

    /// The session that its value is to be bound to.
    pub fn holder(&self) -> Option<&str> {
        self.envelope.as_ref()?.holder()
    }

    /// Whether it is to be kept, where its topic is.
    pub fn is_kept(&self) -> bool {
        self.terms.as_ref().is_none_or(|terms| !terms.passes)
    }
}

fn cost(
    topic: &Topic,
    kind: Option<&EventType>,
    data: &Data,
    envelope: Option<&Envelope>,
) -> usize {
    let kind = kind.map_or(0, |kind| kind.as_str().len());
    let envelope = envelope.map_or(0, |envelope| envelope.bytes().len());
    let texts = topic.as_str().len() + kind + data.json().get().len();
    texts + envelope + Event::OVERHEAD_BYTES
}

/// What an event is stored under.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Terms {
    /// It is delivered and not kept, on topics that are.
    pub passes: bool,
    /// What has to be the newest of its topic.
    pub if_latest: Option<Latest>,
    /// No newer event of its topic, by number, may ever have been there.
    pub unless_after: Option<Cursor>,
}

/// What the newest event of a topic has to be for another to follow it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Latest {
    /// No current value: nothing, or a tombstone.
    Absent,
    /// Any current value.
    Present,
    /// The newest kept event, be it a tombstone, is this one.
    Is(Cursor),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_event_carries_costs_while_it_waits_and_when_it_is_kept() {
        let (topic, data) = (Topic::parse("abc").unwrap(), Data::from_text("x"));
        let mut event = NewEvent::new(topic, Some(EventType::parse("t").unwrap()), data);
        assert_eq!(event.cost(), 3 + 1 + 3 + 256);
        let envelope = Envelope::from_iter([crate::model::Member::User("ann")]);
        event.envelope = Some(Box::new(envelope));
        assert_eq!(event.cost(), 3 + 1 + 3 + 256 + 6);
        let time = Timestamp::from_millis(0);
        let NewEvent { topic, kind, data, envelope, .. } = event.clone();
        let kept = Event { cursor: None, topic, kind, time, data, envelope };
        assert_eq!(kept.cost(), event.cost());
    }
}
