use super::*;
use crate::model::{Attendee, Change, EventType, NoticeKind, Timestamp};

fn room(name: &str) -> Topic {
    Topic::parse(name).unwrap().presence().unwrap()
}

fn pattern(text: &str) -> Pattern {
    Pattern::parse(text).unwrap()
}

fn member(topic: &str, node: &str, session: &str, user: &str) -> Attendee {
    Attendee {
        topic: Topic::parse(topic).unwrap(),
        session: session.to_owned(),
        user: (!user.is_empty()).then(|| user.to_owned()),
        info: None,
        since: Timestamp::from_millis(0),
        transport: "websocket".to_owned(),
        node: node.to_owned(),
        user_sessions: None,
        change: None,
    }
}

fn present(topic: &str, node: &str, session: &str, user: &str) -> Present {
    Present {
        joined: Timestamp::from_millis(0),
        change: 0,
        member: member(topic, node, session, user),
    }
}

/// A notice: `is_there` of a session of a node, as its change `number` after the one before it.
fn notice(of: &Present, is_there: bool, number: u64, after: u64) -> Arc<Event> {
    let kind = if is_there { NoticeKind::PresenceJoined } else { NoticeKind::PresenceLeft };
    let member = Attendee { change: Some(Change { number, after }), ..of.member.clone() };
    Arc::new(member.event(kind, Timestamp::from_millis(1)).unwrap())
}

fn heard(changes: &[(&str, u64)], members: &[Present]) -> InquiryAnswer {
    let changes = changes.iter().map(|(node, count)| ((*node).to_owned(), *count));
    InquiryAnswer { changes_by_node: changes.collect(), members: members.to_vec(), is_whole: true }
}

/// A roster that knows who is in what one pattern matches.
fn knowing(text: &str, changes: &[(&str, u64)], members: &[Present]) -> Roster {
    let mut roster = Roster::default();
    roster.follow(&pattern(text));
    assert_eq!(roster.begin_inquiry(), Some(vec![pattern(text)]));
    assert!(roster.end_inquiry(heard(changes, members)).is_empty());
    roster
}

/// Who is there: each session, and how many its user has.
fn list(roster: &mut Roster, text: &str) -> Option<Vec<(String, Option<usize>)>> {
    let roll = roster.roll([pattern(text)].into())?;
    let listed = |one: &Listed| (one.present.member.session.clone(), one.user_sessions);
    let mut all: Vec<_> = roll.members().map(listed).collect();
    all.sort();
    Some(all)
}

fn sessions(counts: &[(&str, usize)]) -> Option<Vec<(String, Option<usize>)>> {
    Some(counts.iter().map(|(session, count)| ((*session).to_owned(), Some(*count))).collect())
}

/// How many sessions the user of a change has, where it goes on with that.
fn told(folded: &Folded) -> Option<usize> {
    let Folded::As(event) = folded else { return None };
    Attendee::of(event)?.0.user_sessions
}

#[test]
fn a_list_is_kept_by_changes_and_counts_a_users_sessions_over_all_nodes() {
    let [a, b, c] =
        [("x", "1"), ("y", "2"), ("y", "3")].map(|(node, id)| present("r", node, id, "ada"));
    let mut roster = knowing("$presence.r", &[("x", 4), ("y", 9)], std::slice::from_ref(&a));
    assert_eq!(list(&mut roster, "$presence.r"), sessions(&[("1", 1)]));
    assert_eq!(told(&roster.fold(&notice(&b, true, 11, 0))), Some(2));
    assert_eq!(told(&roster.fold(&notice(&c, true, 12, 11))), Some(3));
    assert_eq!(list(&mut roster, "$presence.r"), sessions(&[("1", 3), ("2", 3), ("3", 3)]));
    assert_eq!(told(&roster.fold(&notice(&a, false, 5, 2))), Some(2));
    assert_eq!(told(&roster.fold(&notice(&b, false, 13, 12))), Some(1));
    assert_eq!(told(&roster.fold(&notice(&c, false, 14, 13))), Some(0));
    assert_eq!(list(&mut roster, "$presence.r"), sessions(&[]));
}

#[test]
fn whoever_comes_or_goes_while_it_is_asked_is_neither_missed_nor_counted_twice() {
    let [a, b, c] = ["1", "2", "3"].map(|id| present("r", "x", id, id));
    let mut roster = Roster::default();
    roster.follow(&pattern("$presence.r"));
    // Told before it was asked, so it is in what is answered.
    assert!(matches!(roster.fold(&notice(&a, true, 1, 0)), Folded::AsItIs));
    roster.begin_inquiry();
    assert_eq!(list(&mut roster, "$presence.r"), None);
    for (of, is_there, number, after) in [(&b, true, 2, 1), (&a, false, 3, 2), (&c, true, 4, 3)] {
        assert!(matches!(roster.fold(&notice(of, is_there, number, after)), Folded::AsItIs));
    }
    // The node had told two changes when it answered.
    let answer = heard(&[("x", 2)], &[a, b]);
    assert!(roster.end_inquiry(answer).is_empty());
    assert_eq!(list(&mut roster, "$presence.r"), sessions(&[("2", 1), ("3", 1)]));
}

#[test]
fn what_the_answer_held_already_is_not_told_again_when_the_feed_comes_to_it() {
    let [a, b] = ["1", "2"].map(|id| present("r", "x", id, id));
    let mut roster = knowing("$presence.r", &[("x", 3)], std::slice::from_ref(&b));
    for (of, is_there, number, after) in [(&a, true, 1, 0), (&b, true, 2, 1), (&a, false, 3, 2)] {
        assert!(matches!(roster.fold(&notice(of, is_there, number, after)), Folded::Known));
    }
    assert_eq!(told(&roster.fold(&notice(&a, true, 4, 3))), Some(1));
    // So it is where nobody was there, and where no name says which topics there are.
    let mut roster = knowing("$presence.>", &[("x", 3)], &[]);
    assert!(matches!(roster.fold(&notice(&a, false, 3, 2)), Folded::Known));
    assert_eq!(told(&roster.fold(&notice(&a, true, 4, 0))), Some(1));
}

#[test]
fn a_change_that_is_missing_is_found_by_the_next_and_all_is_asked_again() {
    let [a, b, c] = ["1", "2", "3"].map(|id| present("r", "x", id, id));
    let mut roster = knowing("$presence.*", &[("x", 1)], std::slice::from_ref(&a));
    assert!(matches!(roster.fold(&notice(&c, true, 3, 2)), Folded::Missing));
    assert_eq!(list(&mut roster, "$presence.*"), None);
    assert_eq!(roster.begin_inquiry(), Some(vec![pattern("$presence.r")]));
    assert!(roster.end_inquiry(heard(&[("x", 3)], &[b, c])).is_empty(), "it was told already");
    assert_eq!(list(&mut roster, "$presence.*"), sessions(&[("2", 1), ("3", 1)]));
    assert_eq!(roster.begin_inquiry(), None);
    // All had left, and nobody told.
    let mut roster = knowing("$presence.r", &[("x", 1)], std::slice::from_ref(&a));
    assert!(matches!(roster.fold(&notice(&a, true, 7, 0)), Folded::Missing));
}

#[test]
fn who_was_at_a_node_that_is_gone_is_gone_with_it_and_that_is_told_of_the_topics_it_changes() {
    let [a, b] = ["x", "y"].map(|node| present("r", node, node, "ada"));
    let elsewhere = present("s", "y", "z", "bob");
    let all = [a.clone(), b.clone(), elsewhere];
    let mut roster = knowing("$presence.>", &[("x", 1), ("y", 2)], &all);
    assert_eq!(roster.nodes(), BTreeSet::from(["x".to_owned(), "y".to_owned()]));
    assert_eq!(roster.lose_nodes(&BTreeSet::from(["x".to_owned()])), [room("r")]);
    assert_eq!(list(&mut roster, "$presence.r"), sessions(&[("y", 1)]));
    // What was still on its way says nothing new, unless that node is there again.
    assert!(matches!(roster.fold(&notice(&a, false, 2, 1)), Folded::Known));
    assert_eq!(told(&roster.fold(&notice(&b, false, 3, 2))), Some(0));
    roster.inquire(vec![pattern("$presence.r")]);
    assert_eq!(roster.end_inquiry(heard(&[("x", 2), ("y", 3)], &[])), [room("r")][..0]);
    assert_eq!(told(&roster.fold(&notice(&a, true, 3, 0))), Some(1));
}

#[test]
fn what_was_missed_of_a_list_that_was_known_is_told_and_only_that() {
    let [a, b] = ["1", "2"].map(|id| present("r", "x", id, id));
    let mut roster = knowing("$presence.r", &[("x", 1)], std::slice::from_ref(&a));
    let again = |roster: &mut Roster, answer| {
        roster.inquire(vec![pattern("$presence.r")]);
        roster.end_inquiry(answer)
    };
    assert!(again(&mut roster, heard(&[("x", 1)], std::slice::from_ref(&a))).is_empty());
    let states = |change| {
        let found = vec![RoomVersion { room: room("r"), change }];
        [Attending { node: "x".to_owned(), changes: change, found, is_cut: false }]
    };
    assert!(roster.behind(&states(1), |_| true).is_empty());
    let behind = roster.behind(&states(2), |_| true);
    assert_eq!(behind, HashMap::from([((room("r"), "x".to_owned()), 1)]));
    let nobody = [Attending { node: "x".to_owned(), ..Attending::default() }];
    assert_eq!(roster.behind(&nobody, |_| true), behind);
    assert_eq!(again(&mut roster, heard(&[("x", 2)], &[a, b])), [room("r")]);
    assert!(roster.behind(&states(2), |_| true).is_empty());
}

#[test]
fn a_silent_nodes_members_stay_until_it_is_known_to_be_gone() {
    let [a, b] = ["x", "y"].map(|node| present("r", node, node, "ada"));
    let mut roster = knowing("$presence.r", &[("x", 1), ("y", 1)], &[a.clone(), b]);
    roster.inquire(vec![pattern("$presence.r")]);
    let answer = InquiryAnswer { is_whole: false, ..heard(&[("x", 1)], &[a]) };
    assert!(roster.end_inquiry(answer).is_empty());
    assert_eq!(list(&mut roster, "$presence.r"), sessions(&[("x", 2), ("y", 2)]));
}

#[test]
fn nothing_is_kept_of_what_nobody_asks_about_any_more() {
    let a = present("r", "x", "1", "ada");
    let mut roster = knowing("$presence.r", &[("x", 1)], std::slice::from_ref(&a));
    roster.follow(&pattern("orders.*"));
    assert!(!roster.unfollow(&pattern("orders.*")));
    roster.begin_inquiry();
    assert!(roster.unfollow(&pattern("$presence.r")));
    assert!(roster.is_idle() && roster.rooms.is_empty());
    // There is nothing to know of it, and nothing to be told.
    assert_eq!(list(&mut roster, "$presence.r"), sessions(&[]));
    assert!(matches!(roster.fold(&notice(&a, false, 2, 1)), Folded::AsItIs));
    // Topics that come and go under a wildcard do not pile up.
    let mut roster = knowing("$presence.>", &[("x", 1)], std::slice::from_ref(&a));
    roster.fold(&notice(&a, false, 2, 1));
    roster.forget_empty();
    assert_eq!(roster.rooms.len(), 1, "somebody was there just now");
    roster.forget_empty();
    assert!(roster.rooms.is_empty());
}

#[test]
fn what_says_nothing_of_a_change_goes_on_as_it_is() {
    let a = present("r", "x", "1", "ada");
    let mut roster = knowing("$presence.r", &[("x", 1)], &[]);
    let of_an_earlier_release =
        Arc::new(a.member.event(NoticeKind::PresenceJoined, a.joined).unwrap());
    assert!(matches!(roster.fold(&of_an_earlier_release), Folded::AsItIs));
    let kind = EventType::parse("other").ok();
    let other = Event { kind, ..Event::clone(&notice(&a, true, 2, 0)) };
    assert!(matches!(roster.fold(&Arc::new(other)), Folded::AsItIs));
}
