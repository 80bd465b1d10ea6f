//! What was asked under an idempotency key, as digests by which another request under it is told apart.
//!
//! A receipt keeps one of them and names its form. The newer form is of the events alone, so that a retry may come
//! another way than the first request: in a batch, over WebSocket, out of a stream. Earlier releases know a request
//! by its bytes, its path and its content type; what they left is compared as they did.

use aws_lc_rs::digest::{Context, SHA256};

use crate::model::{Envelope, Latest, Member, NewEvent, Terms};

/// What was asked, in each form in which a receipt may tell it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked {
    /// A digest of the events; none where a request is known by how it came alone.
    pub events: Option<[u8; 32]>,
    /// A digest of how it came, which is all that earlier releases look at; in a series, its number. None for
    /// what they can't be asked.
    pub raw: Option<[u8; 32]>,
}

/// What a receipt knows a request by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::history) enum Digest {
    /// Of its events.
    Events([u8; 32]),
    /// Of how it came.
    Raw([u8; 32]),
}

impl Asked {
    /// What was asked is to publish these events, in this order, whichever way they came: as they were given, before
    /// anything was said of who sent them.
    pub fn of_events(events: &[NewEvent]) -> Self {
        Self { events: Some(digest_of(events)), raw: None }
    }

    /// What was asked is known by how it came alone.
    pub fn as_it_came(raw: [u8; 32]) -> Self {
        Self { events: None, raw: Some(raw) }
    }

    /// The same, and how it came, for receipts of earlier releases and for these.
    pub fn with_raw(self, raw: [u8; 32]) -> Self {
        Self { raw: Some(raw), ..self }
    }

    /// What its receipt is to know it by: the newest form.
    pub(in crate::history) fn digest(&self) -> Digest {
        match (self.events, self.raw) {
            (Some(events), _) => Digest::Events(events),
            (None, raw) => Digest::Raw(raw.unwrap_or_default()),
        }
    }

    /// Whether it is the request that a receipt knows.
    pub(in crate::history) fn is(&self, known: &Digest) -> bool {
        match known {
            Digest::Events(events) => self.events.as_ref() == Some(events),
            Digest::Raw(raw) => self.raw.as_ref() == Some(raw),
        }
    }
}

impl From<Digest> for Asked {
    fn from(known: Digest) -> Self {
        match known {
            Digest::Events(events) => Self { events: Some(events), raw: None },
            Digest::Raw(raw) => Self::as_it_came(raw),
        }
    }
}

impl Digest {
    /// Before a digest of events; one of a raw request stands alone, as earlier releases wrote it.
    const EVENTS: u8 = 2;

    /// What a history keeps of it.
    pub(in crate::history) fn to_bytes(self) -> Vec<u8> {
        match self {
            Self::Events(digest) => [&[Self::EVENTS][..], &digest].concat(),
            Self::Raw(digest) => digest.to_vec(),
        }
    }

    /// Reads what a history kept; none where it is of no known form.
    pub(in crate::history) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let of_events = bytes.split_first().filter(|(form, _)| **form == Self::EVENTS);
        let of_events = of_events.and_then(|(_, digest)| digest.try_into().ok());
        of_events.map(Self::Events).or_else(|| bytes.try_into().ok().map(Self::Raw))
    }
}

/// A digest of several texts that can't be shifted into one another.
pub fn digest(parts: &[&[u8]]) -> [u8; 32] {
    let mut digest = Sha256::new();
    parts.iter().for_each(|part| digest.part(part));
    digest.finish()
}

/// A digest of events as they were given, in their order: of topic, type, data, whether that is base64, and the members
/// beside them.
fn digest_of(events: &[NewEvent]) -> [u8; 32] {
    let mut digest = Sha256::new();
    for NewEvent { topic, kind, data, envelope, terms } in events {
        digest.part(topic.as_str().as_bytes());
        digest.part(kind.as_ref().map_or("", |kind| kind.as_str()).as_bytes());
        digest.part(if data.is_base64() { b"base64" } else { b"" });
        digest.json(data.json().get());
        digest.part(envelope.as_deref().map(given).unwrap_or_default().bytes());
        digest.part(terms.as_deref().map(said).unwrap_or_default().as_bytes());
    }
    digest.finish()
}

/// What of an envelope a repeat has to give again: not for whom else it is, nor how it was traced; and what is bound is
/// bound to the session that repeats it.
fn given(envelope: &Envelope) -> Envelope {
    let mut given = Envelope::default();
    for member in envelope.members() {
        match member {
            Member::Except(_) | Member::Trace(_) | Member::Span(_) => {}
            Member::Holder(_) => given.push(Member::Holder("")),
            member => given.push(member),
        }
    }
    given
}

/// The terms that a publisher gave.
fn said(terms: &Terms) -> String {
    match terms.if_latest {
        _ if terms.passes => "passes".to_owned(),
        None => String::new(),
        Some(Latest::Absent) => "absent".to_owned(),
        Some(Latest::Present) => "present".to_owned(),
        Some(Latest::Is(cursor)) => cursor.to_string(),
    }
}

struct Sha256(Context);

impl Sha256 {
    fn new() -> Self {
        Self(Context::new(&SHA256))
    }

    /// Takes bytes with their length, so that nothing can move over to what follows.
    fn part(&mut self, bytes: &[u8]) {
        self.0.update(&(bytes.len() as u64).to_be_bytes());
        self.0.update(bytes);
    }

    /// Takes a JSON value as what it says: one way escapes a character or puts a space after a colon where
    /// another does not. Numbers count as they are written, and members in their order.
    fn json(&mut self, text: &str) {
        let mut plain = Vec::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = rest.find(['"', ' ', '\t', '\r', '\n']) {
            let (before, from) = rest.split_at(at);
            plain.extend_from_slice(before.as_bytes());
            let length = if from.starts_with('"') { string_length(from) } else { 1 };
            let (token, after) = from.split_at(length);
            if token.len() > 1 {
                let written = &token[1..token.len() - 1];
                let unescaped =
                    written.contains('\\').then(|| serde_json::from_str::<String>(token));
                // A string that is no Unicode text, as JSON allows, counts as it is written, and is marked for that.
                let (mark, said) = match &unescaped {
                    None => (b'"', written),
                    Some(Ok(said)) => (b'"', said.as_str()),
                    Some(Err(_)) => (b'\\', written),
                };
                plain.push(mark);
                plain.extend_from_slice(&(said.len() as u64).to_be_bytes());
                plain.extend_from_slice(said.as_bytes());
            }
            rest = after;
        }
        plain.extend_from_slice(rest.as_bytes());
        self.part(&plain);
    }

    fn finish(self) -> [u8; 32] {
        let mut digest = [0; 32];
        digest.copy_from_slice(self.0.finish().as_ref());
        digest
    }
}

/// How long the string is with which a JSON text begins, with its quotes.
fn string_length(text: &str) -> usize {
    let mut escaped = false;
    let end = text.bytes().skip(1).position(|byte| {
        let is_end = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        is_end
    });
    end.map_or(text.len(), |end| end + 2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Data, EventType, SpanContext, Topic};
    use proptest::prelude::*;

    fn event(topic: &str, kind: Option<&str>, data: Data) -> NewEvent {
        let kind = kind.map(|kind| EventType::parse(kind).unwrap());
        NewEvent::new(Topic::parse(topic).unwrap(), kind, data)
    }

    fn json(text: &str) -> Data {
        Data::from_json(text.as_bytes(), 64).unwrap()
    }

    fn of(text: &str) -> [u8; 32] {
        digest_of(&[event("a", None, json(text))])
    }

    #[test]
    fn the_same_value_has_one_digest_however_it_is_written() {
        for (one, other) in [
            (r#"{"a":1,"b":[1,"x y"]}"#, "{ \"a\" : 1,\n \"b\":\t[1, \"x y\"] }"),
            (r#""ä€😀""#, r#""\u00e4\u20ac\ud83d\ude00""#),
            (r#""a/\"\\""#, r#""\u0061\/\u0022\u005c""#),
            (r#"{"ä":null}"#, r#"{"\u00e4":null}"#),
        ] {
            assert_eq!(of(one), of(other), "{one} {other}");
        }
    }

    #[test]
    fn different_events_have_different_digests() {
        let text = |text: &str| Data::from_text(text);
        let all = [
            vec![event("a", None, json("1"))],
            vec![event("b", None, json("1"))],
            vec![event("a", Some("b"), json("1"))],
            vec![event("ab", None, json("1"))],
            vec![event("a", None, json("1.0"))],
            vec![event("a", None, json("\"1\""))],
            vec![event("a", None, json("\"AQ==\""))],
            vec![event("a", None, Data::from_binary(&[1]))],
            vec![event("a", None, json("[1,2]"))],
            vec![event("a", None, json("[12]"))],
            vec![event("a", None, json(r#"{"a":1,"b":2}"#))],
            vec![event("a", None, json(r#"{"b":2,"a":1}"#))],
            vec![event("a", None, json(r#"["a","b"]"#))],
            vec![event("a", None, json(r#"["a\",\"b"]"#))],
            vec![event("a", None, json(r#"["\ud800"]"#))],
            vec![event("a", None, json(r#"["\\ud800"]"#))],
            vec![event("a", None, text("x y"))],
            vec![event("a", None, text("xy"))],
            vec![event("a", None, json("1")), event("a", None, json("1"))],
            vec![event("a", None, json("1")), event("b", None, json("1"))],
            vec![event("b", None, json("1")), event("a", None, json("1"))],
        ];
        for (at, one) in all.iter().enumerate() {
            for other in &all[at + 1..] {
                assert_ne!(digest_of(one), digest_of(other), "{one:?} {other:?}");
            }
        }
    }

    #[test]
    fn members_that_were_given_count_but_for_whom_it_is_not_for_and_how_it_was_traced() {
        let carrying = |members: &[Member<'_>], terms: Terms| {
            let mut event = event("a", None, json("1"));
            let mut envelope = Envelope::default();
            members.iter().for_each(|member| envelope.push(*member));
            event.envelope = Some(Box::new(envelope));
            event.terms = Some(Box::new(terms));
            digest_of(&[event])
        };
        let plain = Terms::default();
        let if_latest = |latest| Terms { if_latest: Some(latest), ..Terms::default() };
        let bare = digest_of(&[event("a", None, json("1"))]);
        let span = SpanContext { trace: [1; 16], span: [2; 8], is_sampled: true };
        for same in [
            carrying(&[], plain.clone()),
            carrying(&[Member::Except("s")], plain.clone()),
            carrying(&[Member::Trace("00-1")], plain.clone()),
            carrying(&[Member::Span(span)], plain.clone()),
        ] {
            assert_eq!(same, bare);
        }
        let others = [
            bare,
            carrying(&[Member::Version(1)], plain.clone()),
            carrying(&[Member::Version(2)], plain.clone()),
            carrying(&[Member::Ttl(1)], plain.clone()),
            carrying(&[Member::User("ann")], plain.clone()),
            carrying(&[Member::Holder("s1")], plain.clone()),
            carrying(&[], Terms { passes: true, ..Terms::default() }),
            carrying(&[], if_latest(Latest::Absent)),
            carrying(&[], if_latest(Latest::Present)),
        ];
        for (at, one) in others.iter().enumerate() {
            assert!(!others[at + 1..].contains(one), "{at}");
        }
        let elsewhere = carrying(&[Member::Holder("s2")], plain);
        assert_eq!(elsewhere, others[5], "what is bound, whatever session repeats it");
    }

    #[test]
    fn a_receipt_names_the_form_of_its_digest() {
        let digests = [Digest::Events([7; 32]), Digest::Raw([2; 32]), Digest::Raw([7; 32])];
        for digest in digests {
            assert_eq!(Digest::from_bytes(&digest.to_bytes()), Some(digest));
        }
        for bytes in [&[][..], &[2], &[3; 33], &[2; 34], &[1; 31]] {
            assert_eq!(Digest::from_bytes(bytes), None, "{bytes:?}");
        }
    }

    #[test]
    fn each_receipt_is_compared_in_its_own_form() {
        let asked = Asked { events: Some([1; 32]), raw: Some([2; 32]) };
        let live = Asked { raw: None, ..asked };
        for (known, of_request, of_message) in [
            (Digest::Events([1; 32]), true, true),
            (Digest::Events([2; 32]), false, false),
            (Digest::Raw([2; 32]), true, false),
            (Digest::Raw([1; 32]), false, false),
        ] {
            assert_eq!((asked.is(&known), live.is(&known)), (of_request, of_message), "{known:?}");
        }
        assert!(Asked::as_it_came([3; 32]).is(&Asked::as_it_came([3; 32]).digest()));
    }

    proptest! {
        #[test]
        fn any_text_has_the_digest_of_its_escaped_form(text in any::<String>()) {
            let escaped: String = text.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect();
            prop_assert_eq!(of(&serde_json::to_string(&text).unwrap()), of(&format!("\"{escaped}\"")));
        }
    }
}
