//! Keeping, removing, and what stays.

use super::*;
use crate::model::Data;
use std::time::{Duration, SystemTime};

const WIDE: Bounds = Bounds { max_events: 1_000, max_bytes: 1 << 20, keep_newest: false };

const STAYS: MaxStays = MaxStays { topics: 2, bytes: 1 << 20 };

fn topic(text: &str) -> Topic {
    Topic::parse(text).unwrap()
}

fn patterns(texts: &[&str]) -> Vec<Pattern> {
    texts.iter().map(|text| Pattern::parse(text).unwrap()).collect()
}

fn event(name: &str, second: u64) -> Arc<Event> {
    let time = Timestamp::from(SystemTime::UNIX_EPOCH + Duration::from_secs(second));
    let data = Data::from_text("x");
    Arc::new(Event { cursor: None, topic: topic(name), kind: None, time, data, envelope: None })
}

/// Keeps one event for each topic, numbered from 1, a second apart.
fn kept(names: &[&str], bounds: Bounds) -> Kept {
    let mut kept = Kept::new(1 << 30, STAYS);
    for (sequence, name) in (1..).zip(names) {
        kept.keep(sequence, event(name, sequence), &bounds);
    }
    kept
}

fn read(kept: &Kept, texts: &[&str], after: u64) -> Vec<u64> {
    let found = kept.read(&patterns(texts), after, u64::MAX, usize::MAX, usize::MAX);
    found.events.iter().map(|event| event.time.millis() as u64 / 1_000).collect()
}

#[test]
fn events_of_many_topics_are_read_in_the_order_of_the_log() {
    let kept = kept(&["a.x", "b", "a.y", "a.x", "b"], WIDE);
    assert_eq!(read(&kept, &["a.>"], 0), [1, 3, 4]);
    assert_eq!(read(&kept, &["b"], 2), [5]);
    assert_eq!(read(&kept, &["b", "a.y"], 0), [2, 3, 5]);
    assert_eq!(read(&kept, &["none"], 0), [0_u64; 0]);
}

#[test]
fn a_full_page_says_how_far_it_got() {
    let kept = kept(&["a", "b", "a", "a"], WIDE);
    for pattern in ["a", ">"] {
        let page = kept.read(&patterns(&[pattern]), 0, 4, 1, usize::MAX);
        assert_eq!((page.events.len(), page.upto), (1, 1), "{pattern}");
    }
    let last = kept.read(&patterns(&["a"]), 3, 4, 10, usize::MAX);
    assert_eq!((last.events.len(), last.upto), (1, 4));
}

#[test]
fn a_topic_keeps_its_newest_events_within_its_bounds() {
    let bounds = Bounds { max_events: 2, ..WIDE };
    let kept = kept(&["a", "a", "b", "a"], bounds);
    assert_eq!(read(&kept, &[">"], 0), [2, 3, 4]);
    let tight = Bounds { max_bytes: 1, ..WIDE };
    assert_eq!(read(&self::kept(&["a", "a"], tight), &["a"], 0), [2]);
}

#[test]
fn over_the_bytes_of_all_topics_the_oldest_event_goes_first() {
    let mut kept = Kept::new(3 * event("a", 1).cost(), STAYS);
    for (sequence, name) in (1..).zip(["a", "b", "a", "c"]) {
        kept.keep(sequence, event(name, sequence), &WIDE);
    }
    assert_eq!(read(&kept, &[">"], 0), [2, 3, 4]);
}

#[test]
fn a_place_before_a_removed_event_that_matches_is_lost() {
    let mut kept = kept(&["a", "b.x", "a", "b.y"], WIDE);
    kept.forget(&topic("a"));
    for (text, after, lost) in [
        ("a", 2, true),
        ("a", 3, false),
        ("b.>", 0, false),
        (">", 2, true),
        (">", 3, false),
        ("unknown", 0, false),
    ] {
        let found = kept.lost_after(after, &patterns(&[text]));
        assert_eq!(found.is_some(), lost, "{text} after {after}");
    }
}

#[test]
fn a_forgotten_topic_raises_the_floor_for_all_that_could_match_it() {
    let mut kept = Kept::new(1 << 30, STAYS);
    let count = EMPTIED_TOPICS as u64 + 1;
    for sequence in 1..=count {
        kept.keep(sequence, event(&format!("t.{sequence}"), sequence), &WIDE);
        kept.forget(&topic(&format!("t.{sequence}")));
    }
    assert_eq!(kept.topics.len(), EMPTIED_TOPICS);
    assert_eq!(kept.lost_after(0, &patterns(&["t.1"])), Some(1));
    assert_eq!(kept.lost_after(1, &patterns(&["t.1"])), None);
    assert_eq!(kept.lost_after(0, &patterns(&["other.*"])), Some(1));
    kept.keep(count + 1, event("t.1", 1), &WIDE);
    let lost = kept.lost_after(0, &patterns(&["t.1"]));
    assert_eq!(lost, Some(1), "a topic that came back forgot its past");
}

#[test]
fn what_is_too_old_goes_in_steps_over_the_topics() {
    let mut kept = kept(&["a", "b", "a", "c"], WIDE);
    let by_date = |_, date: Timestamp| date.millis();
    let next = kept.expire(None, 2, |_| 3_000, by_date);
    assert_eq!(next, Some(topic("b")));
    assert_eq!(kept.expire(next.as_ref(), 2, |_| 3_000, by_date), None);
    assert_eq!(read(&kept, &[">"], 0), [3, 4]);
}

#[test]
fn the_newest_event_of_each_topic_is_a_snapshot() {
    let kept = kept(&["a.x", "b", "a.x", "a.y"], WIDE);
    let seconds = |page: &NewestPage| -> Vec<i64> {
        page.events.iter().map(|event| event.time.millis() / 1_000).collect()
    };
    let page = kept.newest(&patterns(&["a.*"]), None, 1, usize::MAX);
    assert_eq!((seconds(&page), page.next.clone()), (vec![3], Some(topic("a.x"))));
    let page = kept.newest(&patterns(&["a.*"]), page.next.as_ref(), 9, usize::MAX);
    assert_eq!((seconds(&page), page.next), (vec![4], None));
    assert_eq!(seconds(&kept.newest(&patterns(&["b", "a.x"]), None, 9, usize::MAX)), [3, 2]);
}

#[test]
fn topics_are_listed_by_name_from_where_the_last_page_ended() {
    let kept = kept(&["b", "a.y", "a.x", "c"], WIDE);
    let names = |pattern: &str, after: Option<&str>| -> Vec<String> {
        let after = after.map(topic);
        let list = kept.topics(&patterns(&[pattern])[0], after.as_ref(), 2);
        list.into_iter().map(|summary| summary.topic.to_string()).collect()
    };
    assert_eq!(names(">", None), ["a.x", "a.y"]);
    assert_eq!(names(">", Some("a.y")), ["b", "c"]);
    assert_eq!(names("a.*", Some("a.x")), ["a.y"]);
    assert_eq!(names("a.*", Some("b")), [""; 0]);
}

/// As [`WIDE`], with newest events that stay.
const STAYING: Bounds = Bounds { keep_newest: true, ..WIDE };

#[test]
fn the_newest_of_a_topic_stays_beyond_its_age_until_it_is_replaced() {
    let mut kept = kept(&["a", "a", "b"], STAYING);
    let by_date = |_, date: Timestamp| date.millis();
    assert_eq!(kept.expire(None, 9, |_| 9_000, by_date), None);
    assert_eq!(read(&kept, &[">"], 0), [2, 3]);
    assert_eq!([2, 3].map(|number| kept.stays.contains(number)), [true, true]);
    assert_eq!(kept.stays.bytes(), kept.bytes);
    kept.keep(4, event("a", 4), &STAYING);
    assert_eq!(read(&kept, &[">"], 0), [3, 4]);
    assert_eq!(kept.lost_after(1, &patterns(&["a"])), Some(2));
    kept.forget(&topic("b"));
    assert_eq!((read(&kept, &[">"], 0), kept.stays.bytes()), (vec![4], 0));
}

#[test]
fn what_stays_takes_no_room_of_the_others_and_the_oldest_of_it_goes_first() {
    let mut kept = Kept::new(3 * event("a", 1).cost(), STAYS);
    for (sequence, name) in (1..).zip(["a", "b", "c", "d", "d", "d", "d", "e"]) {
        kept.keep(sequence, event(name, sequence), &STAYING);
    }
    assert_eq!(read(&kept, &[">"], 0), [2, 3, 6, 7, 8]);
    assert_eq!(kept.lost_after(0, &patterns(&["a"])), Some(1));
    assert_eq!(kept.lost_after(0, &patterns(&["b"])), None);
    assert_eq!(kept.stays.bytes(), 2 * event("a", 1).cost());
}
