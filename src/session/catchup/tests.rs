use super::super::catchups::{Active, Catchups, Held};
use super::*;
use crate::broker::BarrierId;
use crate::model::{Data, LogName, Timestamp};
use std::time::SystemTime;

fn cursor(sequence: u64) -> Cursor {
    Cursor { log: LogName::parse("abcdefgh").unwrap(), epoch: 1, sequence }
}

fn delivery(topic: &str, sequence: u64) -> Arc<Delivery> {
    Arc::new(Delivery::new(Arc::new(Event {
        cursor: Some(cursor(sequence)),
        topic: Topic::parse(topic).unwrap(),
        kind: None,
        time: Timestamp::from(SystemTime::UNIX_EPOCH),
        data: Data::from_text("x"),
        envelope: None,
    })))
}

fn catchup(max_bytes: usize) -> Catchup {
    Catchup::new(Some(1), vec![Pattern::parse("a.*").unwrap()], max_bytes)
}

fn held(catchup: &mut Catchup) -> Vec<u64> {
    let next = std::iter::from_fn(|| catchup.next_held());
    next.map(|delivery| delivery.event.cursor.unwrap().sequence).collect()
}

#[test]
fn it_holds_what_matches_from_its_boundary_on() {
    let mut catchup = catchup(10_000);
    catchup.hold(&delivery("a.x", 1));
    catchup.begin(cursor(1));
    catchup.hold(&delivery("b", 2));
    catchup.hold(&delivery("a.x", 3));
    catchup.hold(&delivery("a.y", 4));
    assert_eq!(held(&mut catchup), [3, 4]);
    assert_eq!(catchup.held_bytes(), 0);
}

#[test]
fn too_much_is_dropped_until_it_begins_again() {
    let mut catchup = catchup(delivery("a.x", 1).event.cost());
    catchup.begin(cursor(0));
    catchup.hold(&delivery("a.x", 1));
    assert!(!catchup.has_overflowed());
    catchup.hold(&delivery("a.x", 2));
    catchup.hold(&delivery("a.x", 3));
    assert!(catchup.has_overflowed());
    assert_eq!(held(&mut catchup), [0; 0]);
    catchup.begin(cursor(3));
    catchup.hold(&delivery("a.x", 4));
    assert_eq!(held(&mut catchup), [4]);
}

#[test]
fn nothing_older_follows_the_snapshot_of_its_topic() {
    let mut catchup = catchup(10_000);
    catchup.begin(cursor(5));
    for (topic, sequence) in [("a.x", 6), ("a.y", 7), ("a.x", 8), ("a.x", 9)] {
        catchup.hold(&delivery(topic, sequence));
    }
    catchup.sent_snapshot(&delivery("a.x", 8).event);
    assert_eq!(held(&mut catchup), [7, 9]);
}

#[test]
fn what_is_lost_is_forgotten_with_what_waits_of_it() {
    let mut catchup = catchup(10_000);
    catchup.begin(cursor(0));
    for (topic, sequence) in [("a.x", 1), ("a.y", 2), ("a.x", 3)] {
        catchup.hold(&delivery(topic, sequence));
    }
    catchup.forget(Some(&[Topic::parse("a.x").unwrap()]));
    catchup.hold(&delivery("a.x", 4));
    assert_eq!(held(&mut catchup), [2, 4]);
    catchup.hold(&delivery("a.y", 5));
    catchup.forget(None);
    assert_eq!((held(&mut catchup).len(), catchup.held_bytes()), (0, 0));
}

const ROOMS: [&str; 3] = ["$presence.r", "$presence.s", "a.*"];

fn roll(rooms: &[&str]) -> Roll {
    Roll::of_nobody(rooms.iter().map(|text| Pattern::parse(text).unwrap()).collect())
}

fn catchup_of_rooms(max_bytes: usize) -> Catchup {
    let patterns = ROOMS.map(|text| Pattern::parse(text).unwrap());
    let mut catchup = Catchup::new(None, patterns.to_vec(), max_bytes);
    catchup.ask_about(&patterns);
    catchup.begin(cursor(0));
    catchup
}

#[test]
fn what_came_before_the_members_were_told_is_in_them_and_what_comes_later_follows() {
    let mut catchup = catchup_of_rooms(10_000);
    for (topic, sequence) in [("$presence.r", 1), ("a.x", 2), ("$presence.s", 3)] {
        catchup.hold(&delivery(topic, sequence));
    }
    catchup.hear_roll(&roll(&ROOMS[..1]));
    assert_eq!(*catchup.awaits_roll(), TopicSet::All, "it does not hold all that was asked");
    catchup.hear_roll(&roll(&ROOMS[..2]));
    catchup.hold(&delivery("$presence.r", 4));
    assert_eq!(*catchup.awaits_roll(), TopicSet::Nothing);
    assert_eq!(held(&mut catchup), [2, 4]);
    // Where a change was lost they are to be told again, and where none was they are not.
    catchup.forget(Some(&[Topic::parse("a.x").unwrap()]));
    assert_eq!(*catchup.awaits_roll(), TopicSet::Nothing);
    let room = Topic::parse("$presence.s").unwrap();
    catchup.forget(Some(std::slice::from_ref(&room)));
    assert_eq!(*catchup.awaits_roll(), TopicSet::Of(vec![room]));
    catchup.hear_roll(&roll(&ROOMS[1..2]));
    assert_eq!(*catchup.awaits_roll(), TopicSet::Nothing);
}

#[test]
fn who_leaves_before_a_later_subscribe_is_told_the_members_is_told_by_the_earlier_one() {
    let mut catchups = Catchups::default();
    let (barrier, catchup, values) = (BarrierId::ONE, catchup_of_rooms(10_000), Some(1));
    let (interval, reader, reread) = (None, None, TopicSet::Nothing);
    catchups.add(Active { barrier, catchup, values, interval, reader, reread });
    assert_eq!(catchups.hold(&delivery("$presence.r", 1)), Held::NotHere, "what is live has it");
    catchups.called(barrier, Some(roll(&ROOMS[..2])));
    assert_eq!(catchups.hold(&delivery("$presence.r", 2)), Held::Waits);
    assert_eq!(held(&mut catchups.get(barrier).unwrap().catchup), [2]);
}

#[test]
fn of_a_renewal_more_may_be_lost_than_it_was_begun_for() {
    let [r, s] = ["$presence.r", "$presence.s"].map(|name| Topic::parse(name).unwrap());
    let mut catchup = catchup_of_rooms(10_000);
    catchup.ask_only_about(&TopicSet::Of(vec![r.clone()]));
    catchup.hold(&delivery("$presence.s", 1));
    assert_eq!(*catchup.awaits_roll(), TopicSet::Of(vec![r.clone()]));
    catchup.forget(Some(std::slice::from_ref(&s)));
    assert_eq!(*catchup.awaits_roll(), TopicSet::Of(vec![r, s]));
    assert_eq!(held(&mut catchup), [0; 0]);
}

#[test]
fn nothing_that_waits_is_sent_before_who_is_there() {
    let mut catchup = catchup_of_rooms(10_000);
    catchup.hear_roll(&roll(&ROOMS[..2]));
    catchup.hold(&delivery("$presence.r", 1));
    assert!(catchup.held_bytes() > 0);
    catchup.forget(Some(&[Topic::parse("$presence.s").unwrap()]));
    assert_eq!(catchup.held_bytes(), 0);
    catchup.hear_roll(&roll(&ROOMS[1..2]));
    assert!(catchup.held_bytes() > 0);
}

#[test]
fn who_is_there_is_asked_again_where_what_follows_it_is_dropped() {
    let mut catchup = catchup_of_rooms(delivery("a.x", 1).event.cost());
    catchup.hold(&delivery("a.x", 1));
    catchup.hold(&delivery("a.x", 2));
    assert!(catchup.has_overflowed());
    catchup.hear_roll(&roll(&ROOMS[..2]));
    catchup.hold(&delivery("$presence.r", 3));
    assert_eq!(*catchup.awaits_roll(), TopicSet::All, "what came behind it is gone");
    catchup.begin(cursor(3));
    catchup.hear_roll(&roll(&ROOMS[..2]));
    assert_eq!(*catchup.awaits_roll(), TopicSet::Nothing);
}

#[test]
fn what_was_read_for_a_pattern_that_is_unsubscribed_meanwhile_is_not_wanted() {
    let patterns = ["a.*", "b"].map(|text| Pattern::parse(text).unwrap());
    let mut catchup = Catchup::new(None, patterns.to_vec(), 10_000);
    catchup.begin(cursor(2));
    let [a, b] = [delivery("a.x", 1), delivery("b", 2)].map(|delivery| delivery.event.clone());
    assert!(catchup.wants(&a) && catchup.wants(&b));
    assert!(!catchup.unsubscribe(&patterns[1..]));
    assert!(catchup.wants(&a) && !catchup.wants(&b));
}

#[test]
fn what_is_unsubscribed_meanwhile_is_not_sent() {
    let patterns = ["a.*", "b"].map(|text| Pattern::parse(text).unwrap());
    let mut catchup = Catchup::new(None, patterns.to_vec(), 10_000);
    catchup.begin(cursor(0));
    catchup.hold(&delivery("a.x", 1));
    catchup.hold(&delivery("b", 2));
    assert!(!catchup.unsubscribe(&patterns[..1]));
    assert_eq!(held(&mut catchup), [2]);
    assert!(catchup.unsubscribe(&patterns[1..]));
}
