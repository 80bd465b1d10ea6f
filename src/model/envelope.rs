//! What an event carries beside its type and data: who sent it, what it replaces, when it ends.
//!
//! One blob of members, each a tag, its length in two bytes and its bytes, in every history and between nodes
//! the same. What a release does not know of them it keeps and hands on, and shows nobody; where such a member is
//! critical, for it restricts who may have the event, the event is not delivered at all. Most events have none.

use std::time::Duration;

use super::{SpanContext, Timestamp};

/// In a tag: who does not know the member must not deliver the event.
const CRITICAL: u8 = 0x80;

/// The members of one event, in the order in which they were added.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Envelope(Vec<u8>);

/// One member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Member<'a> {
    /// The verified user who sent the event.
    User(&'a str),
    /// The session over which it came.
    Session(&'a str),
    /// The event removes its topic's current value.
    Removed(Removed),
    /// The publisher's own number of this value, at most 2^53-1.
    Version(u64),
    /// What its versions are counted in; another one begins anew.
    Epoch(&'a str),
    /// For how long from its time the value holds, in milliseconds.
    Ttl(u64),
    /// The session to which the value belongs, and with which it ends; empty as a client gives it.
    Holder(&'a str),
    /// A session to which the event is not delivered. Critical.
    Except(&'a str),
    /// The publisher's `traceparent` (W3C Trace Context, section 3.2).
    Trace(&'a str),
    /// What another wire language keeps of the event for its own readers: the number of that language, and its bytes. Nobody
    /// else is shown it.
    Lang(u8, &'a [u8]),
    /// The span after which the event's own trace goes on, at this node and at others, where that is recorded. Nobody is
    /// shown it.
    Span(SpanContext),
    /// One of a later release.
    Other(u8, &'a [u8]),
}

/// Who removed a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removed {
    /// A publisher.
    Publisher,
    /// The broker, for its time was over.
    Expired,
    /// The broker, for the session that it was bound to has left.
    Left,
}

/// Who sent an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sender<'a> {
    /// The verified user.
    pub user: Option<&'a str>,
    /// The session.
    pub session: Option<&'a str>,
}

/// A value's own number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Version<'a> {
    /// What it is counted in.
    pub epoch: Option<&'a str>,
    /// The number, at most 2^53-1.
    pub number: u64,
}

impl Version<'_> {
    /// Whether a value of this version gives way to one of version `kept`.
    pub fn is_superseded_by(self, kept: Version<'_>) -> bool {
        self.epoch == kept.epoch && self.number <= kept.number
    }
}

impl Removed {
    /// Why, where it was not a publisher.
    pub fn reason(self) -> Option<&'static str> {
        match self {
            Self::Publisher => None,
            Self::Expired => Some("expired"),
            Self::Left => Some("left"),
        }
    }

    fn number(self) -> u8 {
        match self {
            Self::Publisher => 0,
            Self::Expired => 1,
            Self::Left => 2,
        }
    }
}

impl<'a> Member<'a> {
    /// Reads a member; none where it is damaged.
    fn read(tag: u8, bytes: &'a [u8]) -> Option<Self> {
        let text = || std::str::from_utf8(bytes).ok();
        let number = || Some(u64::from_be_bytes(bytes.try_into().ok()?));
        Some(match tag {
            1 => Self::User(text()?),
            2 => Self::Session(text()?),
            3 => Self::Removed(match bytes {
                [1] => Removed::Expired,
                [2] => Removed::Left,
                _ => Removed::Publisher,
            }),
            4 => Self::Version(number()?),
            5 => Self::Epoch(text()?),
            6 => Self::Ttl(number()?),
            7 => Self::Holder(text()?),
            0x88 => Self::Except(text()?),
            9 => Self::Trace(text()?),
            10 => {
                let (&language, own) = bytes.split_first()?;
                Self::Lang(language, own)
            }
            // What has another length is of a later release, and no reason to keep the event from anybody.
            11 => SpanContext::read(bytes).map_or(Self::Other(11, bytes), Self::Span),
            tag => Self::Other(tag, bytes),
        })
    }

    /// Whether it restricts who may have the event, and it is not known here how.
    fn is_unknown_restriction(self) -> bool {
        matches!(self, Self::Other(tag, _) if tag & CRITICAL != 0)
    }

    fn write(self, out: &mut Vec<u8>) {
        let mut write = |tag: u8, bytes: &[u8]| {
            // What is longer than two bytes can say is refused before it gets here.
            let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
            out.push(tag);
            out.extend_from_slice(&length.to_be_bytes());
            out.extend_from_slice(&bytes[..usize::from(length)]);
        };
        match self {
            Self::User(text) => write(1, text.as_bytes()),
            Self::Session(text) => write(2, text.as_bytes()),
            Self::Removed(removed) => write(3, &[removed.number()]),
            Self::Version(number) => write(4, &number.to_be_bytes()),
            Self::Epoch(text) => write(5, text.as_bytes()),
            Self::Ttl(millis) => write(6, &millis.to_be_bytes()),
            Self::Holder(text) => write(7, text.as_bytes()),
            Self::Except(text) => write(0x88, text.as_bytes()),
            Self::Trace(text) => write(9, text.as_bytes()),
            Self::Lang(language, own) => write(10, &[&[language], own].concat()),
            Self::Span(span) => write(11, &span.bytes()),
            Self::Other(tag, bytes) => write(tag, bytes),
        }
    }
}

impl Envelope {
    /// The most that all members may take, in bytes.
    pub const MAX_BYTES: usize = 4_096;

    /// Reads what [`Envelope::bytes`] gave. None where that is damaged, or has a critical member that is not
    /// known here: then the event must not be delivered.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        Self::read_whole(bytes).filter(|envelope| !envelope.is_withheld())
    }

    /// The same, also with critical members that are not known here: to judge, count or copy the event, and never to
    /// deliver it.
    pub fn read_whole(bytes: &[u8]) -> Option<Self> {
        let mut rest = bytes;
        while !rest.is_empty() {
            split(&mut rest)?;
        }
        Some(Self(bytes.to_vec()))
    }

    /// Whether it has a critical member that is not known here.
    pub fn is_withheld(&self) -> bool {
        self.members().any(Member::is_unknown_restriction)
    }

    /// The members as one blob.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Adds a member.
    pub fn push(&mut self, member: Member<'_>) {
        member.write(&mut self.0);
    }

    /// Has the value belong to this session, where it is bound to any.
    pub fn bind(&mut self, session: &str) {
        let bound = |member| match member {
            Member::Holder(_) => Member::Holder(session),
            member => member,
        };
        *self = self.members().map(bound).collect();
    }

    /// The same without who sent it; nothing where nothing else is in it.
    pub fn without_sender(self: Box<Self>) -> Option<Box<Self>> {
        if self.sender().is_none() {
            return Some(self);
        }
        let is_other =
            |member: &Member<'_>| !matches!(member, Member::User(_) | Member::Session(_));
        let rest: Self = self.members().filter(is_other).collect();
        (!rest.bytes().is_empty()).then(|| Box::new(rest))
    }

    /// The members in their order.
    pub fn members(&self) -> impl Iterator<Item = Member<'_>> {
        let mut rest = &self.0[..];
        std::iter::from_fn(move || split(&mut rest))
    }

    fn find<'a, T>(&'a self, wanted: impl FnMut(Member<'a>) -> Option<T>) -> Option<T> {
        self.members().find_map(wanted)
    }

    /// Who sent the event, where that is known and told.
    pub fn sender(&self) -> Option<Sender<'_>> {
        let user = self.find(|member| match member {
            Member::User(user) => Some(user),
            _ => None,
        });
        let session = self.find(|member| match member {
            Member::Session(session) => Some(session),
            _ => None,
        });
        (user.is_some() || session.is_some()).then_some(Sender { user, session })
    }

    /// Who removed the value, where the event is a tombstone.
    pub fn removed(&self) -> Option<Removed> {
        self.find(|member| match member {
            Member::Removed(removed) => Some(removed),
            _ => None,
        })
    }

    /// The value's own number.
    pub fn version(&self) -> Option<Version<'_>> {
        let number = self.find(|member| match member {
            Member::Version(number) => Some(number),
            _ => None,
        })?;
        let epoch = self.find(|member| match member {
            Member::Epoch(epoch) => Some(epoch),
            _ => None,
        });
        Some(Version { epoch, number })
    }

    /// For how long the value holds.
    pub fn ttl(&self) -> Option<Duration> {
        self.find(|member| match member {
            Member::Ttl(millis) => Some(Duration::from_millis(millis)),
            _ => None,
        })
    }

    /// When the value ends, where it is of that time.
    pub fn expires(&self, time: Timestamp) -> Option<Timestamp> {
        let millis = i64::try_from(self.ttl()?.as_millis()).unwrap_or(i64::MAX);
        Some(Timestamp::from_millis(time.millis().saturating_add(millis)))
    }

    /// The session that the value belongs to.
    pub fn holder(&self) -> Option<&str> {
        self.find(|member| match member {
            Member::Holder(session) => Some(session),
            _ => None,
        })
    }

    /// Whether the value ends by itself.
    pub fn is_mortal(&self) -> bool {
        self.members().any(|member| matches!(member, Member::Ttl(_) | Member::Holder(_)))
    }

    /// The session to which the event is not delivered.
    pub fn except(&self) -> Option<&str> {
        self.find(|member| match member {
            Member::Except(session) => Some(session),
            _ => None,
        })
    }

    /// The publisher's `traceparent`.
    pub fn trace(&self) -> Option<&str> {
        self.find(|member| match member {
            Member::Trace(trace) => Some(trace),
            _ => None,
        })
    }

    /// The span after which the event's own trace goes on.
    pub fn span(&self) -> Option<SpanContext> {
        self.find(|member| match member {
            Member::Span(span) => Some(span),
            _ => None,
        })
    }

    /// The same with this span after which the trace goes on, or with none; nothing where nothing else is in it then.
    pub fn with_span(&self, span: Option<SpanContext>) -> Option<Box<Self>> {
        let is_other = |member: &Member<'_>| !matches!(member, Member::Span(_));
        let mut rest: Self = self.members().filter(is_other).collect();
        span.into_iter().for_each(|span| rest.push(Member::Span(span)));
        (!rest.bytes().is_empty()).then(|| Box::new(rest))
    }

    /// What the wire language of a number keeps of the event for its own readers.
    pub fn lang(&self, number: u8) -> Option<&[u8]> {
        self.find(|member| match member {
            Member::Lang(language, own) if language == number => Some(own),
            _ => None,
        })
    }
}

impl<'a> FromIterator<Member<'a>> for Envelope {
    fn from_iter<I: IntoIterator<Item = Member<'a>>>(members: I) -> Self {
        let mut envelope = Self::default();
        members.into_iter().for_each(|member| envelope.push(member));
        envelope
    }
}

/// Takes the first member out of a blob.
fn split<'a>(rest: &mut &'a [u8]) -> Option<Member<'a>> {
    let (&[tag, high, low], after) = rest.split_first_chunk()?;
    let (bytes, after) = after.split_at_checked(usize::from(u16::from_be_bytes([high, low])))?;
    *rest = after;
    Member::read(tag, bytes)
}

#[cfg(test)]
mod tests;
