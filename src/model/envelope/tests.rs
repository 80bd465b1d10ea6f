use proptest::prelude::*;

use super::*;

const SPAN: SpanContext = SpanContext { trace: [1; 16], span: [2; 8], is_sampled: true };

#[test]
fn what_was_added_is_read_again_and_nothing_else_is_found() {
    let members = [
        Member::User("ann"),
        Member::Session("s-1"),
        Member::Removed(Removed::Left),
        Member::Version(7),
        Member::Epoch("run-2"),
        Member::Ttl(1_500),
        Member::Holder("s-2"),
        Member::Except("s-3"),
        Member::Trace("00-ab-cd-01"),
        Member::Lang(1, b"{\"retry\":5}"),
        Member::Lang(2, b""),
        Member::Span(SPAN),
        Member::Other(40, b"x"),
    ];
    let envelope: Envelope = members.into_iter().collect();
    let read = Envelope::read(envelope.bytes()).unwrap();
    assert_eq!(read, envelope);
    assert_eq!(read.members().collect::<Vec<_>>(), members);
    assert_eq!(read.sender(), Some(Sender { user: Some("ann"), session: Some("s-1") }));
    assert_eq!(read.removed(), Some(Removed::Left));
    assert_eq!(read.version(), Some(Version { epoch: Some("run-2"), number: 7 }));
    assert_eq!(read.expires(Timestamp::from_millis(500)), Some(Timestamp::from_millis(2_000)));
    assert_eq!((read.holder(), read.except()), (Some("s-2"), Some("s-3")));
    assert_eq!(read.trace(), Some("00-ab-cd-01"));
    let langs = [1, 2, 3].map(|number| read.lang(number));
    assert_eq!(langs, [Some(&b"{\"retry\":5}"[..]), Some(b""), None]);
    assert_eq!(read.span(), Some(SPAN));
    let none = Envelope::default();
    assert_eq!((none.sender(), none.removed(), none.version()), (None, None, None));
    assert_eq!((none.ttl(), none.holder(), none.except(), none.trace()), (None, None, None, None));
}

#[test]
fn a_member_of_a_later_release_is_kept_and_a_critical_one_keeps_the_event_back() {
    let later = Envelope::from_iter([Member::Other(99, b"later"), Member::Version(1)]);
    let read = Envelope::read(later.bytes()).unwrap();
    assert_eq!((read.version().unwrap().number, read.bytes()), (1, later.bytes()));
    let restricted = [&[CRITICAL | 99, 0, 1, 7], later.bytes()].concat();
    assert_eq!(Envelope::read(&restricted), None);
    let judged = Envelope::read_whole(&restricted).unwrap();
    assert_eq!((judged.version().unwrap().number, judged.bytes()), (1, &restricted[..]));
    for (damaged, why) in [
        (&[4, 0, 9, 1][..], "longer than all"),
        (&[4, 0, 1, 1], "no number"),
        (&[1, 0, 1, 255], "no text"),
        (&[10, 0, 0], "of no language"),
    ] {
        assert_eq!(Envelope::read_whole(damaged), None, "{why}");
    }
}

#[test]
fn a_trace_goes_on_after_one_span_and_one_of_another_form_is_kept() {
    let boxed = |members: &[Member<'_>]| Box::new(members.iter().copied().collect::<Envelope>());
    let next = SpanContext { span: [3; 8], ..SPAN };
    let one = boxed(&[Member::Span(SPAN), Member::Version(1)]).with_span(Some(next)).unwrap();
    assert_eq!(*one, *boxed(&[Member::Version(1), Member::Span(next)]));
    assert_eq!(one.with_span(None).unwrap(), boxed(&[Member::Version(1)]));
    assert_eq!(boxed(&[Member::Span(SPAN)]).with_span(None), None);
    let later = Envelope::read(&[11, 0, 2, 1, 1]).unwrap();
    assert_eq!((later.span(), later.bytes()), (None, &[11, 0, 2, 1, 1][..]));
}

#[test]
fn a_version_gives_way_to_one_that_is_not_lower_in_the_same_epoch_alone() {
    let version = |epoch, number| Version { epoch, number };
    for (new, kept, is_superseded) in [
        (version(None, 1), version(None, 1), true),
        (version(None, 2), version(None, 1), false),
        (version(Some("b"), 1), version(Some("a"), 9), false),
        (version(Some("a"), 8), version(Some("a"), 9), true),
        (version(None, 8), version(Some("a"), 9), false),
    ] {
        assert_eq!(new.is_superseded_by(kept), is_superseded, "{new:?} {kept:?}");
    }
}

#[test]
fn what_is_bound_is_bound_to_one_session_and_nothing_else_is() {
    let mut given = Envelope::from_iter([Member::Holder(""), Member::Version(1)]);
    given.bind("s-1");
    assert_eq!(given, Envelope::from_iter([Member::Holder("s-1"), Member::Version(1)]));
    given.bind("s-2");
    assert_eq!(given.holder(), Some("s-2"));
    let mut free = Envelope::from_iter([Member::Version(1)]);
    free.bind("s-1");
    assert_eq!(free.holder(), None);
}

proptest! {
    #[test]
    fn any_bytes_are_judged_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        if let Some(envelope) = Envelope::read(&bytes) {
            let again: Envelope = envelope.members().collect();
            prop_assert_eq!(again.members().count(), envelope.members().count());
        }
    }
}
