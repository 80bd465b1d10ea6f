mod told;

use super::super::super::LostTopic;
use super::*;
use crate::model::{Data, Pattern, Timestamp};

fn topic(name: &str) -> Topic {
    Topic::parse(name).unwrap()
}

fn at(sequence: u64) -> Cursor {
    Cursor::parse("abcdefgh-1-0").unwrap().at(sequence)
}

fn later(sequence: u64) -> Cursor {
    Cursor { epoch: 2, ..at(sequence) }
}

fn event_at(name: &str, cursor: Cursor) -> Arc<Event> {
    let (data, time) = (Data::from_json(b"1", 9).unwrap(), Timestamp::from_millis(0));
    let (cursor, topic) = (Some(cursor), topic(name));
    Arc::new(Event { cursor, topic, kind: None, time, data, envelope: None })
}

fn event(name: &str, sequence: u64) -> Arc<Event> {
    event_at(name, at(sequence))
}

fn removal(name: Option<&str>, upto: u64) -> Removal {
    Removal { topic: name.map(topic), upto, is_superseded: true }
}

fn patterns(texts: &[&str]) -> Vec<Pattern> {
    texts.iter().map(|text| Pattern::parse(text).unwrap()).collect()
}

fn page(
    segments: &Segments,
    texts: &[&str],
    after: Cursor,
    upto: Cursor,
    max_events: usize,
) -> Option<Page> {
    let patterns = patterns(texts);
    let wanted = Wanted::of(&patterns);
    let stretch = segments.stretch(&wanted, after, upto)?;
    Some(stretch.page(&wanted, max_events, usize::MAX))
}

fn numbers(page: &Page) -> Vec<u64> {
    page.events.iter().map(|event| event.cursor.unwrap().sequence).collect()
}

/// All that matches, of one page.
fn between(segments: &Segments, text: &str, after: u64, upto: u64) -> Option<Vec<u64>> {
    let page = page(segments, &[text], at(after), at(upto), 1_000)?;
    assert!(page.done && page.next == at(upto) && page.gap.is_none());
    Some(numbers(&page))
}

#[test]
fn what_came_since_the_start_is_here_and_nothing_else_is_promised() {
    let mut segments = Segments::new(at(10), usize::MAX);
    assert_eq!(between(&segments, ">", 10, 10), Some(vec![]));
    segments.add(&[event("a", 11), event("b", 12)]);
    segments.add(&[event("a", 13)]);
    for (text, after, upto, found) in [
        (">", 10, 13, Some(vec![11, 12, 13])),
        (">", 11, 12, Some(vec![12])),
        ("a", 10, 13, Some(vec![11, 13])),
        ("a", 11, 12, Some(vec![])),
        (">", 13, 13, Some(vec![])),
        (">", 9, 13, None),
        (">", 10, 14, None),
        (">", 14, 13, None),
    ] {
        assert_eq!(between(&segments, text, after, upto), found, "{text} {after} to {upto}");
    }
}

#[test]
fn whoever_reads_in_whatever_pages_gets_each_event_once_and_in_order() {
    let mut segments = Segments::new(at(0), usize::MAX);
    let name = |n: u64| format!("t.{}", n * n % 41);
    let count = 5 * EVENTS as u64 + 17;
    let events: Vec<_> = (1..=count).map(|n| event(&name(n), 2 * n)).collect();
    events.chunks(100).for_each(|some| segments.add(some));
    let few: Vec<_> = (0..30).map(|n| format!("t.{n}")).collect();
    let few: Vec<_> = few.iter().map(String::as_str).collect();
    let sets: [&[&str]; 6] = [&[">"], &["t.*"], &["t.1"], &["t.1", "t.4", "no"], &few, &["no.*"]];
    for texts in sets {
        let wanted = patterns(texts);
        for (after, upto) in [(0, 2 * count), (11, 900), (1_200, 1_203), (2 * count, 2 * count)] {
            let expected = (1..=count).filter(|n| (after + 1..=upto).contains(&(2 * n)));
            let is_wanted =
                |n: &u64| wanted.iter().any(|pattern| pattern.matches(&topic(&name(*n))));
            let expected: Vec<_> = expected.filter(is_wanted).map(|n| 2 * n).collect();
            for max_events in [1, 7, 256, 10_000] {
                let (mut next, mut all) = (at(after), Vec::new());
                loop {
                    let page = page(&segments, texts, next, at(upto), max_events).unwrap();
                    all.extend(numbers(&page));
                    assert!(page.events.len() <= max_events);
                    assert!(
                        page.done == (page.next == at(upto)) && (page.done || page.next > next)
                    );
                    next = page.next;
                    if page.done {
                        break;
                    }
                }
                assert_eq!(all, expected, "{texts:?} after {after} to {upto} by {max_events}");
            }
        }
    }
}

/// All pages backwards up to a place that are here, and where they end.
fn back(segments: &Segments, text: &str, upto: u64, max_events: usize) -> (Vec<u64>, u64) {
    let patterns = patterns(&[text]);
    let wanted = Wanted::of(&patterns);
    let (mut all, mut upto) = (Vec::new(), upto);
    loop {
        let stretch = segments.stretch_back(&wanted, at(upto));
        let page = stretch.and_then(|stretch| stretch.page_back(&wanted, max_events, usize::MAX));
        let Some(page) = page else { return (all, upto) };
        assert!(page.events.len() == max_events && !page.gap);
        all.extend(page.events.iter().map(|event| event.cursor.unwrap().sequence));
        upto = page.next.unwrap().sequence - 1;
    }
}

#[test]
fn whoever_reads_backwards_gets_full_pages_behind_which_there_is_more_and_the_rest_from_the_log() {
    let mut segments = Segments::new(at(0), usize::MAX);
    let name = |n: u64| format!("t.{}", n * n % 41);
    let count = 5 * EVENTS as u64 + 17;
    segments.add(&(1..=count).map(|n| event(&name(n), n)).collect::<Vec<_>>());
    for text in [">", "t.*", "t.1", "t.4", "no.*"] {
        let pattern = Pattern::parse(text).unwrap();
        for upto in [count, 1_000, 256, 1] {
            let expected: Vec<_> =
                (1..=upto).filter(|n| pattern.matches(&topic(&name(*n)))).rev().collect();
            for max_events in [1, 7, 100] {
                let (all, end) = back(&segments, text, upto, max_events);
                // The last page may be the last of the log, too: nobody knows that here.
                let full = expected.len().saturating_sub(1) / max_events * max_events;
                assert_eq!(all, expected[..full], "{text} up to {upto} by {max_events}");
                assert_eq!(end, full.checked_sub(1).map_or(upto, |last| expected[last] - 1));
            }
        }
    }
    assert_eq!(back(&segments, ">", count + 1, 1), (vec![], count + 1), "what is to come");
}

#[test]
fn no_page_backwards_goes_past_what_was_removed() {
    let mut segments = Segments::new(at(10), usize::MAX);
    segments.add(&(11..=20).map(|n| event(["a.x", "b"][n as usize % 2], n)).collect::<Vec<_>>());
    segments.remove(&[removal(Some("b"), 15)]);
    let found = |text| back(&segments, text, 20, 1).0;
    assert_eq!(found("b"), [19], "17 is the oldest that is certain");
    assert_eq!(found("a.x"), [20, 18, 16, 14]);
    assert_eq!(found(">"), [20, 19, 18, 17]);
    segments.remove(&[removal(None, 18)]);
    assert!(back(&segments, "a.x", 20, 1).0.is_empty());
    assert_eq!(back(&segments, ">", 20, 1).0, [20]);
    segments.lose(&Loss { since: at(10), position: later(21), topics: None });
    assert!(back(&segments, ">", 20, 1).0.is_empty());
}

#[test]
fn a_page_takes_only_so_many_looks() {
    let mut segments = Segments::new(at(0), usize::MAX);
    let count = LOOKS as u64 + 3 * EVENTS as u64;
    segments.add(&(1..=count).map(|n| event("a", n)).collect::<Vec<_>>());
    for texts in [&["b.*"][..], &["a"]] {
        let max_events = if texts == ["a"] { 10_000 } else { 1 };
        let first = page(&segments, texts, at(0), at(count), max_events).unwrap();
        assert!(!first.done && first.next == at(LOOKS as u64), "{texts:?} {}", first.next);
        assert!(page(&segments, texts, first.next, at(count), max_events).unwrap().done);
    }
    // Whoever names one topic goes past what others had in between.
    let many: Vec<_> = (1..=count).map(|n| event("a", count + n)).collect();
    segments.add(&many);
    assert!(page(&segments, &["b"], at(0), at(2 * count), 1).unwrap().done);
}

#[test]
fn no_page_is_whole_of_which_something_was_removed() {
    let mut segments = Segments::new(at(10), usize::MAX);
    segments.add(&[event("a.x", 11), event("b", 12), event("a.x", 13)]);
    segments.remove(&[removal(Some("b"), 9), removal(Some("a.x"), 11)]);
    for (text, after, found) in [
        ("a.x", 10, None),
        ("a.*", 10, None),
        (">", 10, None),
        ("b", 10, Some(vec![12])),
        ("a.x", 11, Some(vec![13])),
        (">", 11, Some(vec![12, 13])),
    ] {
        assert_eq!(between(&segments, text, after, 13), found, "{text} after {after}");
    }
    segments.remove(&[removal(None, 12)]);
    assert_eq!(between(&segments, "b", 11, 13), None, "of any topic");
    assert_eq!(between(&segments, "a.x", 12, 13), Some(vec![13]));
}

#[test]
fn what_was_passed_by_or_lost_is_missing_for_who_wants_it_and_for_nobody_else() {
    let mut segments = Segments::new(at(0), usize::MAX);
    segments.add(&[event("a", 1)]);
    segments.pass(&topic("b.c"), at(2));
    segments.add(&[event("a", 3)]);
    let topics = ["c", "d"].map(|name| LostTopic { topic: topic(name), is_superseded: false });
    let topics = Some(Arc::from(topics));
    segments.lose(&Loss { since: at(3), position: at(5), topics });
    for (text, after, found) in [
        ("a", 0, Some(vec![1, 3])),
        ("b.c", 1, None),
        ("b.*", 1, None),
        ("b.d", 1, Some(vec![])),
        ("b.c", 2, Some(vec![])),
        ("c", 4, None),
        (">", 4, None),
        ("d", 5, Some(vec![])),
    ] {
        assert_eq!(between(&segments, text, after, 5), found, "{text} after {after}");
    }
    segments.lose(&Loss { since: at(5), position: later(100), topics: None });
    assert_eq!(between(&segments, "a", 0, 5), None);
    assert!(page(&segments, &["a"], later(100), later(100), 1).is_some());
}

#[test]
fn where_the_log_does_not_go_on_as_it_was_nothing_from_before_is_certain() {
    let elsewhere = Cursor::parse("zzzzzzzz-1-900").unwrap();
    for next in [at(2), later(2), elsewhere] {
        let mut segments = Segments::new(at(0), usize::MAX);
        segments.add(&[event("a", 1), event("a", 2)]);
        segments.add(&[event_at("a", next)]);
        assert!(page(&segments, &["a"], at(0), next, 9).is_none(), "{next}");
        let before = next.at(next.sequence - 1);
        let found = page(&segments, &["a"], before, next, 9).unwrap();
        assert_eq!(numbers(&found), [next.sequence]);
        // And a place of before is none of those that are known here.
        assert!(next == at(2) || page(&segments, &["a"], at(2), next, 9).is_none());
    }
}

#[test]
fn an_epoch_that_lost_nothing_goes_on_from_places_of_the_last_one_that_were_told_and_from_no_other()
{
    let mut segments = Segments::new(at(0), usize::MAX);
    segments.add(&[event("a", 1), event("b", 2)]);
    segments.add(&[event_at("a", later(901)), event_at("b", later(902))]);
    for (after, upto, found) in [
        (at(0), later(902), Some(vec![1, 2, 901, 902])),
        (at(2), later(901), Some(vec![901])),
        (at(1), at(2), Some(vec![2])),
        (later(900), later(902), Some(vec![901, 902])),
        (later(901), later(902), Some(vec![902])),
        (at(3), later(902), None),
        (at(901), later(902), None),
        (later(2), later(902), None),
        (later(899), later(902), None),
        (at(0), at(3), None),
    ] {
        let found_here = page(&segments, &[">"], after, upto, 9);
        assert_eq!(found_here.map(|page| numbers(&page)), found, "{after} to {upto}");
    }
    // A page ends at a place of the epoch in which it does.
    let first = page(&segments, &[">"], at(0), later(902), 2).unwrap();
    assert_eq!((first.next, first.done), (at(2), false));
    assert_eq!(changed(&segments, ">", at(1), 9), Some(vec![901, 902]));
    assert_eq!(changed(&segments, ">", at(3), 9), None);
    // What is lost in the next one is told, and stands at its place.
    let lost = LostTopic { topic: topic("a"), is_superseded: false };
    let third = Cursor { epoch: 3, ..at(2_000) };
    let topics = Some(Arc::from([lost]));
    segments.lose(&Loss { since: later(902), position: third, topics });
    assert!(page(&segments, &["b"], at(0), third, 9).is_some());
    assert!(page(&segments, &["b"], third.at(1_999), third, 9).is_none());
    assert!(page(&segments, &["a"], later(902), third, 9).is_none());
}

#[test]
fn what_was_there_before_comes_later_with_what_was_removed_of_it_meanwhile() {
    let earlier = || {
        let events = ["a", "b", "c", "a"].into_iter().zip(11..).map(|(name, n)| event(name, n));
        let missing = vec![removal(Some("d"), 12)];
        Some(Earlier { after: at(10), upto: later(100), events: events.collect(), missing })
    };
    let mut segments = Segments::new(later(100), usize::MAX);
    segments.await_earlier();
    segments.add(&[event_at("a", later(101))]);
    segments.remove(&[removal(Some("b"), 12)]);
    assert!(page(&segments, &["a"], at(11), later(101), 9).is_none());
    segments.precede(earlier());
    for (text, after, found) in [
        ("a", at(10), Some(vec![11, 14, 101])),
        ("a", at(14), Some(vec![101])),
        ("c", later(100), Some(vec![])),
        ("b", at(11), None),
        ("b", at(12), Some(vec![])),
        ("d", at(11), None),
        (">", at(12), Some(vec![13, 14, 101])),
        ("a", at(9), None),
        ("a", at(15), None),
        ("a", later(99), None),
    ] {
        let found_here = page(&segments, &[text], after, later(101), 9);
        assert_eq!(found_here.map(|page| numbers(&page)), found, "{text} after {after}");
    }
    // Nothing comes twice, nor where it was not waited for or does not fit any more.
    segments.precede(earlier());
    assert_eq!(page(&segments, &["a"], at(10), later(101), 9).unwrap().events.len(), 3);
    for at_first in [&[][..], &[event_at("a", later(50))]] {
        let mut segments = Segments::new(later(100), usize::MAX);
        if !at_first.is_empty() {
            segments.await_earlier();
        }
        segments.add(at_first);
        segments.precede(earlier());
        assert!(page(&segments, &["a"], at(11), segments.end, 9).is_none());
    }
    let mut small = Segments::new(later(100), 2 * event("a", 1).cost());
    small.await_earlier();
    small.precede(earlier());
    assert!(small.bytes <= small.max_bytes && small.bytes > 0);
    assert!(page(&small, &["c"], at(11), later(100), 9).is_none());
}

#[test]
fn of_very_many_epochs_the_oldest_are_forgotten() {
    let mut segments = Segments::new(at(0), usize::MAX);
    let place = |n: u64| Cursor { epoch: n, ..at(10 * n) };
    let last = TURNS as u64 + 3;
    (2..=last).for_each(|n| segments.add(&[event_at("a", place(n))]));
    let count = |after| Some(page(&segments, &["a"], after, place(last), 1_000)?.events.len());
    assert_eq!((count(at(0)), count(place(2))), (None, None));
    assert_eq!(count(place(3)), Some(TURNS));
}

#[test]
fn over_its_bytes_the_oldest_goes_and_who_comes_from_before_is_sent_away() {
    let cost = event("a", 1).cost();
    for max_bytes in [0, cost, 40 * cost, 3 * EVENTS * cost] {
        let mut segments = Segments::new(at(0), max_bytes);
        let mut least = usize::MAX;
        for n in 1..=2_000 {
            segments.add(&[event("a", n)]);
            segments.remove(&[removal(Some(&format!("r.{}", n % 50)), n - 1)]);
            assert!(segments.bytes + segments.removed.bytes() <= max_bytes);
            let sum: usize = segments.segments.iter().map(|one| one.bytes()).sum();
            assert_eq!(segments.bytes, sum);
            let start = segments.start.sequence;
            if n > 1_000 {
                least = least.min((n - start) as usize);
            }
            if start > 0 {
                assert_eq!(between(&segments, "a", start - 1, n), None);
            }
            let found = between(&segments, "a", start, n);
            assert_eq!(found, Some((start + 1..=n).collect()));
        }
        // Most of the room is used at any time.
        assert!(least >= max_bytes / cost / 2 || max_bytes <= 40 * cost, "{least} of {max_bytes}");
    }
}

#[test]
fn who_reads_has_what_was_there_whatever_comes_meanwhile() {
    let mut segments = Segments::new(at(0), usize::MAX);
    segments.add(&[event("a", 1), event("a", 2)]);
    let patterns = patterns(&["a"]);
    let wanted = Wanted::of(&patterns);
    let stretch = segments.stretch(&wanted, at(0), at(2)).unwrap();
    segments.add(&[event("a", 3)]);
    segments.restart(at(900));
    assert_eq!(numbers(&stretch.page(&wanted, 9, usize::MAX)), [1, 2]);
}

/// What has changed since a place, by pages of so many; none where that is not certain.
fn changed(segments: &Segments, text: &str, since: Cursor, max_events: usize) -> Option<Vec<u64>> {
    let patterns = Arc::from(patterns(&[text]));
    let max_bytes = usize::MAX;
    let (since, after) = (Some(since), None);
    let mut newest = Newest { patterns, after, since, max_events, max_bytes };
    let mut all = Vec::new();
    loop {
        let patterns = newest.patterns.clone();
        let wanted = Wanted::of(&patterns);
        let page = segments.changes(&wanted, newest.since?)?.page(&wanted, &newest);
        assert!(page.events.len() <= max_events && !page.gap);
        all.extend(page.events.iter().map(|event| event.cursor.unwrap().sequence));
        newest.after = page.next;
        if newest.after.is_none() {
            return Some(all);
        }
    }
}

#[test]
fn what_has_changed_is_the_newest_of_each_topic_unless_that_was_removed() {
    let mut segments = Segments::new(at(0), usize::MAX);
    let events = [("c", 1), ("a.x", 2), ("a.y", 3), ("a.x", 4), ("b", 5), ("a.z", 6)];
    segments.add(&events.map(|(name, n)| event(name, n)));
    for most in [1, 2, 9] {
        assert_eq!(changed(&segments, ">", at(0), most), Some(vec![4, 3, 6, 5, 1]));
        assert_eq!(changed(&segments, "a.*", at(3), most), Some(vec![4, 6]));
        assert_eq!(changed(&segments, "a.x", at(4), most), Some(vec![]));
    }
    assert!(
        changed(&segments, ">", at(7), 9).is_none()
            && changed(&segments, ">", later(3), 9).is_none()
    );
    // What was replaced is no matter.
    segments.remove(&[removal(Some("a.x"), 2)]);
    assert_eq!(changed(&segments, "a.*", at(0), 9), Some(vec![4, 3, 6]));
    segments.remove(&[removal(Some("a.y"), 3)]);
    for (text, since, found) in
        [("a.*", 2, None), ("a.y", 2, None), ("a.*", 3, Some(vec![4, 6])), ("b", 0, Some(vec![5]))]
    {
        assert_eq!(changed(&segments, text, at(since), 9), found, "{text} since {since}");
    }
    segments.pass(&topic("b"), at(7));
    assert_eq!(changed(&segments, "b", at(0), 9), None);
    segments.add(&[event("b", 8)]);
    assert_eq!(changed(&segments, "b", at(0), 9), Some(vec![8]));
    segments.remove(&[removal(None, 3)]);
    assert_eq!(changed(&segments, "b", at(2), 9), None);
    assert_eq!(changed(&segments, "b", at(3), 9), Some(vec![8]));
}
