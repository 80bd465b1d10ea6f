use super::*;
use crate::model::{Cursor, Data, Envelope, Member, Removed, Timestamp};

fn topic(name: &str) -> Topic {
    Topic::parse(name).unwrap()
}

fn event(name: &str, sequence: u64) -> Arc<Event> {
    let (data, time) = (Data::from_json(b"1", 9).unwrap(), Timestamp::from_millis(0));
    let cursor = Some(Cursor::parse("abcdefgh-1-0").unwrap().at(sequence));
    Arc::new(Event { cursor, topic: topic(name), kind: None, time, data, envelope: None })
}

fn tombstone(name: &str, sequence: u64) -> Arc<Event> {
    let removed = [Member::Removed(Removed::Publisher)];
    let envelope = Some(Box::new(removed.into_iter().collect::<Envelope>()));
    Arc::new(Event { envelope, ..(*event(name, sequence)).clone() })
}

fn patterns(texts: &[&str]) -> Arc<[Pattern]> {
    texts.iter().map(|text| Pattern::parse(text).unwrap()).collect()
}

fn removal(name: &str, upto: u64) -> Removal {
    Removal { topic: Some(topic(name)), upto, is_superseded: false }
}

fn asks(text: &str, after: Option<&str>, max_events: usize) -> Newest {
    let (patterns, after) = (patterns(&[text]), after.map(topic));
    Newest { patterns, after, since: None, max_events, max_bytes: usize::MAX }
}

fn page(events: &[Arc<Event>], next: Option<&str>) -> NewestPage {
    NewestPage { events: events.to_vec(), gap: false, next: next.map(topic) }
}

/// Asks until a view is to be filled, and begins.
fn begin(views: &mut Views, text: &str) -> u64 {
    assert!(matches!(views.ask(&asks(text, None, 9)), Answer::Log), "asked for once");
    assert!(matches!(views.ask(&asks(text, None, 9)), Answer::Fill(_)));
    views.begin(&patterns(&[text])).unwrap()
}

/// The numbers of a page of a view; none where there is none.
fn numbers(views: &mut Views, newest: &Newest) -> Option<(Vec<u64>, Option<Topic>)> {
    match views.ask(newest) {
        Answer::Page(page) => {
            Some((page.events.iter().map(|it| sequence(it)).collect(), page.next))
        }
        Answer::Log | Answer::Fill(_) => None,
    }
}

fn values(views: &mut Views, text: &str) -> Option<Vec<u64>> {
    numbers(views, &asks(text, None, 100)).map(|(numbers, _)| numbers)
}

#[test]
fn what_is_asked_for_again_is_filled_once_and_kept_current() {
    let mut views = Views::new(usize::MAX);
    let number = begin(&mut views, "a.*");
    let all = patterns(&["a.*"]);
    assert!(values(&mut views, "a.*").is_none(), "not all is there");
    assert!(views.fill(&all, number, page(&[event("a.b", 3)], Some("a.b"))));
    assert!(values(&mut views, "a.*").is_none(), "not all is there");
    assert!(!views.fill(&all, number, page(&[event("a.c", 1), event("a.d", 2)], None)));
    assert_eq!(values(&mut views, "a.*"), Some(vec![3, 1, 2]));
    views.add(&[event("a.c", 4), event("b", 5), event("a.e.f", 6), event("a.a", 7)]);
    assert_eq!(values(&mut views, "a.*"), Some(vec![7, 3, 4, 2]));
    views.add(&[tombstone("a.b", 8)]);
    assert_eq!(values(&mut views, "a.*"), Some(vec![7, 4, 2]));
    // Some of what was replaced goes, and then a value itself.
    views.remove(&[removal("a.c", 1), removal("a.d", 2), removal("b", 5)]);
    assert_eq!(values(&mut views, "a.*"), Some(vec![7, 4]));
    let bytes = views.bytes();
    let sum: usize = [event("a.a", 7), tombstone("a.b", 8), event("a.c", 4)]
        .iter()
        .map(|event| event.cost() + COST)
        .sum();
    assert_eq!(bytes, sum);
}

#[test]
fn of_what_is_read_and_what_is_heard_meanwhile_the_later_counts() {
    let mut views = Views::new(usize::MAX);
    let number = begin(&mut views, ">");
    let all = patterns(&[">"]);
    views.add(&[event("a", 5), event("b", 6), event("c", 7), tombstone("f", 9)]);
    views.remove(&[removal("c", 7), removal("d", 3), removal("e", 2)]);
    // Some of it was read before that, and some behind it.
    let read = ["a", "b", "c", "d", "e", "f"].into_iter().zip([1, 8, 4, 3, 4, 1]);
    let read: Vec<_> = read.map(|(name, number)| event(name, number)).collect();
    assert!(!views.fill(&all, number, page(&read, None)));
    assert_eq!(values(&mut views, ">"), Some(vec![5, 8, 4]));
}

#[test]
fn a_view_is_paged_as_the_log_is() {
    let mut views = Views::new(usize::MAX);
    let number = begin(&mut views, ">");
    let names = ["a", "b", "c", "d", "e"];
    let mut all: Vec<_> = names.into_iter().zip(1..).map(|(name, n)| event(name, n)).collect();
    all[1] = tombstone("b", 2);
    views.fill(&patterns(&[">"]), number, page(&all, None));
    for most in 1..7 {
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let asked = Newest { after, ..asks(">", None, most) };
            let (numbers, next) = numbers(&mut views, &asked).unwrap();
            assert!(numbers.len() <= most);
            found.extend(numbers);
            after = next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(found, [1, 3, 4, 5], "by {most}");
    }
    let first = Newest { max_bytes: 1, ..asks(">", None, 9) };
    assert_eq!(numbers(&mut views, &first), Some((vec![1], Some(topic("a")))));
}

#[test]
fn what_was_begun_before_a_loss_or_given_up_is_no_view() {
    let mut views = Views::new(usize::MAX);
    let all = patterns(&[">"]);
    let first = begin(&mut views, ">");
    // Whoever had the turn is gone, and somebody begins anew.
    let second = views.begin(&all).unwrap();
    assert!(!views.fill(&all, first, page(&[event("a", 1)], None)));
    assert!(values(&mut views, ">").is_none());
    views.give_up(&all, first);
    assert!(!views.fill(&all, second, page(&[event("b", 2)], None)));
    assert_eq!(values(&mut views, ">"), Some(vec![2]));
    assert_eq!(views.begin(&all), None, "it is there");
    views.give_up(&all, second);
    assert_eq!(values(&mut views, ">"), Some(vec![2]));
    views.remove(&[Removal { topic: None, upto: 2, is_superseded: false }]);
    assert!(views.views.is_empty());
    let third = begin(&mut views, ">");
    views.clear();
    assert!(!views.fill(&all, third, page(&[event("b", 2)], None)));
    let fourth = begin(&mut views, ">");
    views.give_up(&all, fourth);
    assert!(matches!(views.ask(&asks(">", None, 9)), Answer::Log));
}

#[test]
fn a_quiet_minute_ends_a_view_and_a_busy_one_keeps_its_place() {
    let mut views = Views::new(usize::MAX);
    for n in 0..VIEWS {
        let name = format!("t.{n}.*");
        let number = begin(&mut views, &name);
        views.fill(&patterns(&[&name]), number, page(&[event(&format!("t.{n}.a"), 1)], None));
    }
    let more = asks("more.*", None, 9);
    for _ in 0..3 {
        assert!(matches!(views.ask(&more), Answer::Log), "there is no place");
    }
    for second in 0..IDLE {
        assert!(values(&mut views, "t.0.*").is_some(), "after {second} s");
        views.pass();
    }
    assert!(matches!(views.ask(&more), Answer::Fill(_)));
    assert!(values(&mut views, "t.0.*").is_some() && views.views.len() == VIEWS);
    for _ in 0..QUIET {
        views.pass();
    }
    assert!(views.views.is_empty() && views.bytes() == 0 && views.asked_once.is_empty());
}

#[test]
fn over_its_bytes_a_view_is_there_no_more_and_the_others_are() {
    let cost = event("a.0", 1).cost() + COST;
    let mut views = Views::new(5 * cost);
    let small = begin(&mut views, "a.0");
    views.fill(&patterns(&["a.0"]), small, page(&[event("a.0", 1)], None));
    let large = begin(&mut views, "a.*");
    for n in 0..8 {
        views.add(&[event(&format!("a.{n}"), 10 + n)]);
        assert!(views.bytes() <= 5 * cost);
    }
    assert!(!views.fill(&patterns(&["a.*"]), large, page(&[], None)));
    assert!(values(&mut views, "a.*").is_none());
    assert_eq!(values(&mut views, "a.0"), Some(vec![10]));
    for _ in 0..QUIET {
        assert!(matches!(views.ask(&asks("a.*", None, 9)), Answer::Log));
        assert!(values(&mut views, "a.0").is_some());
        views.pass();
    }
    begin(&mut views, "a.*");
    // What was heard to be removed takes room, too.
    for n in 0..1_000 {
        views.remove(&[removal(&format!("a.r{n}"), n)]);
        assert!(views.bytes() <= 5 * cost);
    }
    assert!(matches!(Views::new(0).ask(&asks("a", None, 9)), Answer::Log));
}
