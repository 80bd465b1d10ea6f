//! Who is subscribed to what.
//!
//! Pure state: no actor, no clock, no I/O, so that every rule of subscription is tested here and the
//! broker only forwards. Two maps mirror each other; only `subscribe`, `unsubscribe` and `leave`
//! change them, always both. The same type serves twice: sessions of a worker, workers of a node.

use std::collections::HashMap;
use std::hash::Hash;
use std::rc::Rc;
use std::str::Split;

use super::members::Members;
use crate::model::{Pattern, Topic};

/// The subscriptions of subscribers `S`. Finding a topic's subscribers costs by its segments and
/// its matches, not by the number of subscriptions.
#[derive(Debug)]
pub struct Topics<S> {
    subscribers: PatternMap<S>,
    patterns_by_subscriber: HashMap<S, Members<Pattern>>,
}

/// What a subscribe changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subscribed {
    /// Nobody wanted the pattern before.
    First,
    /// Others want the pattern too.
    Also,
    /// The subscriber had it already.
    Already,
}

impl<S> Default for Topics<S> {
    fn default() -> Self {
        Self { subscribers: PatternMap::default(), patterns_by_subscriber: HashMap::new() }
    }
}

impl<S: Copy + Eq + Hash> Topics<S> {
    /// Adds `pattern` to what `subscriber` wants.
    pub fn subscribe(&mut self, subscriber: S, pattern: Pattern) -> Subscribed {
        let members = self.subscribers.entry(&pattern);
        let first = members.is_empty();
        if !members.insert(subscriber) {
            return Subscribed::Already;
        }
        self.patterns_by_subscriber.entry(subscriber).or_default().insert(pattern);
        if first { Subscribed::First } else { Subscribed::Also }
    }

    /// Removes `pattern` from what `subscriber` wants; true if nobody wants it any more.
    pub fn unsubscribe(&mut self, subscriber: S, pattern: &Pattern) -> bool {
        if let Some(patterns) = self.patterns_by_subscriber.get_mut(&subscriber) {
            patterns.remove(pattern);
            if patterns.is_empty() {
                self.patterns_by_subscriber.remove(&subscriber);
            }
        }
        self.subscribers.remove(pattern, &subscriber)
    }

    /// Removes `subscriber` everywhere and returns the patterns that nobody wants any more.
    pub fn leave(&mut self, subscriber: S) -> Vec<Pattern> {
        let patterns = self.patterns_by_subscriber.remove(&subscriber).unwrap_or_default();
        let unwanted =
            patterns.iter().filter(|pattern| self.subscribers.remove(pattern, &subscriber));
        unwanted.cloned().collect()
    }

    /// Each subscriber of `topic` once, even where several of its patterns match.
    pub fn subscribers(&self, topic: &Topic) -> impl Iterator<Item = S> {
        let matching: Rc<[_]> = self.subscribers.matching(topic).iter().collect();
        (0..matching.len()).flat_map(move |index| {
            let sets = matching.clone();
            let in_an_earlier_set =
                move |subscriber: &S| sets[..index].iter().any(|set| set.contains(subscriber));
            matching[index].iter().copied().filter(move |subscriber| !in_an_earlier_set(subscriber))
        })
    }

    /// Visits each subscriber of `topic` once, as [`Topics::subscribers`] gives them, at the least cost for each.
    pub fn each_subscriber(&self, topic: &Topic, mut visit: impl FnMut(S)) {
        let matching = self.subscribers.matching(topic);
        let Some(first) = matching.first else { return };
        first.each(|subscriber| visit(*subscriber));
        for (earlier, set) in matching.others.iter().enumerate() {
            set.each(|subscriber| {
                if !matching.iter().take(1 + earlier).any(|set| set.contains(subscriber)) {
                    visit(*subscriber);
                }
            });
        }
    }

    /// Whether anybody wants what is published to `topic`.
    pub fn is_wanted(&self, topic: &Topic) -> bool {
        self.subscribers.matching(topic).first.is_some()
    }

    /// Whether `subscriber` wants this very pattern.
    pub fn has(&self, subscriber: S, pattern: &Pattern) -> bool {
        let patterns = self.patterns_by_subscriber.get(&subscriber);
        patterns.is_some_and(|patterns| patterns.contains(pattern))
    }

    /// What `subscriber` wants, in no particular order.
    pub fn patterns(&self, subscriber: S) -> impl Iterator<Item = &Pattern> {
        self.patterns_by_subscriber.get(&subscriber).into_iter().flat_map(Members::iter)
    }

    /// Patterns without wildcards that someone wants, in no particular order.
    pub fn exact(&self) -> impl Iterator<Item = &Pattern> {
        self.subscribers.exact.keys()
    }
}

/// Sets of subscribers, found by pattern to change them and by topic to read them.
#[derive(Debug)]
struct PatternMap<S> {
    exact: HashMap<Pattern, Members<S>>,
    wild: Node<S>,
}

impl<S> Default for PatternMap<S> {
    fn default() -> Self {
        Self { exact: HashMap::new(), wild: Node::default() }
    }
}

impl<S: Eq + Hash> PatternMap<S> {
    fn entry(&mut self, pattern: &Pattern) -> &mut Members<S> {
        if is_wild(pattern) {
            self.wild.entry(pattern.segments())
        } else {
            self.exact.entry(pattern.clone()).or_default()
        }
    }

    /// True if that was the last subscriber of the pattern.
    fn remove(&mut self, pattern: &Pattern, subscriber: &S) -> bool {
        if is_wild(pattern) {
            return self.wild.remove(pattern.segments(), subscriber);
        }
        let Some(members) = self.exact.get_mut(pattern.as_str()) else { return false };
        let last = members.remove(subscriber) && members.is_empty();
        if last {
            self.exact.remove(pattern.as_str());
        }
        last
    }

    fn matching(&self, topic: &Topic) -> Matching<'_, S> {
        let mut found = Matching { first: self.exact.get(topic.as_str()), others: Vec::new() };
        if topic.is_reserved() {
            // A leading wildcard does not match the broker's own topics.
            let mut segments = topic.segments();
            let first = segments.next().and_then(|segment| self.wild.by_name.get(segment));
            if let Some(node) = first {
                node.collect(segments, &mut found);
            }
        } else {
            self.wild.collect(topic.segments(), &mut found);
        }
        found
    }
}

/// The sets of subscribers that match one topic: mostly there is one, for which nothing is allocated.
struct Matching<'a, S> {
    first: Option<&'a Members<S>>,
    others: Vec<&'a Members<S>>,
}

impl<'a, S> Matching<'a, S> {
    fn push(&mut self, set: &'a Members<S>) {
        match self.first {
            None => self.first = Some(set),
            Some(_) => self.others.push(set),
        }
    }

    fn iter(&self) -> impl Iterator<Item = &'a Members<S>> {
        self.first.into_iter().chain(self.others.iter().copied())
    }
}

fn is_wild(pattern: &Pattern) -> bool {
    pattern.literal_prefix().len() < pattern.as_str().len()
}

/// One place in the tree of wildcard patterns, reached by the segments before it.
#[derive(Debug)]
struct Node<S> {
    by_name: HashMap<Box<str>, Node<S>>,
    any: Option<Box<Node<S>>>,
    /// Patterns that end here.
    here: Members<S>,
    /// Patterns that end here with `>`.
    rest: Members<S>,
}

impl<S> Default for Node<S> {
    fn default() -> Self {
        Self {
            by_name: HashMap::new(),
            any: None,
            here: Members::default(),
            rest: Members::default(),
        }
    }
}

impl<S: Eq + Hash> Node<S> {
    fn entry(&mut self, mut segments: Split<'_, char>) -> &mut Members<S> {
        match segments.next() {
            None => &mut self.here,
            Some(">") => &mut self.rest,
            Some("*") => self.any.get_or_insert_default().entry(segments),
            Some(name) => self.by_name.entry(name.into()).or_default().entry(segments),
        }
    }

    /// True if that was the last subscriber of the pattern; drops what is empty on the way back.
    fn remove(&mut self, mut segments: Split<'_, char>, subscriber: &S) -> bool {
        match segments.next() {
            None => self.here.remove(subscriber) && self.here.is_empty(),
            Some(">") => self.rest.remove(subscriber) && self.rest.is_empty(),
            Some("*") => {
                let Some(node) = &mut self.any else { return false };
                let last = node.remove(segments, subscriber);
                if node.is_empty() {
                    self.any = None;
                }
                last
            }
            Some(name) => {
                let Some(node) = self.by_name.get_mut(name) else { return false };
                let last = node.remove(segments, subscriber);
                if node.is_empty() {
                    self.by_name.remove(name);
                }
                last
            }
        }
    }

    /// Adds every set whose pattern matches the segments that are left.
    fn collect<'a>(&'a self, mut segments: Split<'_, char>, found: &mut Matching<'a, S>) {
        let Some(segment) = segments.next() else {
            if !self.here.is_empty() {
                found.push(&self.here);
            }
            return;
        };
        if !self.rest.is_empty() {
            found.push(&self.rest);
        }
        if let Some(node) = self.by_name.get(segment) {
            node.collect(segments.clone(), found);
        }
        if let Some(node) = &self.any {
            node.collect(segments, found);
        }
    }

    fn is_empty(&self) -> bool {
        self.by_name.is_empty()
            && self.any.is_none()
            && self.here.is_empty()
            && self.rest.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn pattern(text: &str) -> Pattern {
        Pattern::parse(text).expect(text)
    }

    fn topic(text: &str) -> Topic {
        Topic::parse(text).expect(text)
    }

    fn found(topics: &Topics<u32>, text: &str) -> Vec<u32> {
        let mut all: Vec<_> = topics.subscribers(&topic(text)).collect();
        let mut visited = Vec::new();
        topics.each_subscriber(&topic(text), |subscriber| visited.push(subscriber));
        assert_eq!(visited, all);
        assert_eq!(topics.is_wanted(&topic(text)), !all.is_empty());
        all.sort_unstable();
        all
    }

    #[test]
    fn a_session_matched_by_topic_and_pattern_is_found_once() {
        let mut topics = Topics::default();
        for text in ["a.b", "a.*", "a.>", ">", "*.b"] {
            topics.subscribe(1, pattern(text));
        }
        topics.subscribe(2, pattern("*.*"));
        assert_eq!(found(&topics, "a.b"), [1, 2]);
    }

    #[test]
    fn a_leading_wildcard_does_not_find_the_brokers_own_topics() {
        let mut topics = Topics::default();
        topics.subscribe(1, pattern(">"));
        topics.subscribe(2, pattern("*.a"));
        topics.subscribe(3, pattern("$sys.*"));
        topics.subscribe(4, pattern("$sys.>"));
        assert_eq!(found(&topics, "$sys.a"), [3, 4]);
    }

    #[test]
    fn the_first_and_the_last_subscriber_of_a_pattern_are_told_apart() {
        let mut topics = Topics::default();
        for text in ["a.b", "a.*"] {
            assert_eq!(topics.subscribe(1, pattern(text)), Subscribed::First);
            assert_eq!(topics.subscribe(1, pattern(text)), Subscribed::Already);
            assert_eq!(topics.subscribe(2, pattern(text)), Subscribed::Also);
            assert!(!topics.unsubscribe(1, &pattern(text)));
            assert!(!topics.unsubscribe(1, &pattern(text)));
            assert!(topics.unsubscribe(2, &pattern(text)));
        }
    }

    #[test]
    fn leaving_returns_what_nobody_wants_any_more_and_leaves_nothing_behind() {
        let mut topics = Topics::default();
        topics.subscribe(1, pattern("a.*.c.>"));
        topics.subscribe(1, pattern("x"));
        topics.subscribe(2, pattern("x"));
        assert_eq!(topics.leave(1), [pattern("a.*.c.>")]);
        assert_eq!(topics.leave(2), [pattern("x")]);
        assert!(topics.subscribers.wild.is_empty() && topics.subscribers.exact.is_empty());
        assert!(topics.patterns_by_subscriber.is_empty());
    }

    fn any_pattern() -> impl Strategy<Value = Pattern> {
        (prop::collection::vec("[abc]|[*]|[$]s", 1..4), any::<bool>()).prop_map(
            |(mut parts, tail)| {
                if tail {
                    parts.push(">".to_owned());
                }
                pattern(&parts.join("."))
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(500))]

        #[test]
        fn it_finds_exactly_the_sessions_that_have_a_matching_pattern(
            steps in prop::collection::vec((0..6_u8, 0..30_u32, any_pattern()), 1..120),
            asked in prop::collection::vec("[abc]|[$]s", 1..4),
        ) {
            let (mut topics, mut model) = (Topics::default(), BTreeSet::new());
            for (step, session, pattern) in steps {
                match step {
                    0 => {
                        model.retain(|(other, _)| *other != session);
                        topics.leave(session);
                    }
                    1 => {
                        model.remove(&(session, pattern.clone()));
                        topics.unsubscribe(session, &pattern);
                    }
                    _ => {
                        model.insert((session, pattern.clone()));
                        topics.subscribe(session, pattern);
                    }
                }
            }
            let asked = topic(&asked.join("."));
            let matching = model.iter().filter(|(_, pattern)| pattern.matches(&asked));
            let expected: BTreeSet<u32> = matching.map(|(session, _)| *session).collect();
            prop_assert_eq!(found(&topics, asked.as_str()), Vec::from_iter(expected));
        }
    }
}
