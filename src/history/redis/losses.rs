//! Which losses of a hole are to be told, and to whom: each once, to those who want its topic.
//!
//! Pure state. Redis says of each topic how far it was removed, so what was told of a topic holds up to a
//! number, and is news again above it.

use std::collections::HashMap;

use super::reads::Losses;
use crate::model::Topic;

/// The losses of a hole that were told.
#[derive(Debug, Default)]
pub(super) struct ToldLosses {
    /// To everybody, up to here, and after which number that was.
    all: Option<(u64, u64)>,
    /// To those who want the topic, or to everybody, up to here.
    by_topic: HashMap<Topic, u64>,
}

/// Losses that were not told yet.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum News {
    /// There are none that anybody wants to hear of.
    None,
    /// Nobody can say which topics they are of.
    OfAnyTopic,
    /// They are of these topics.
    Of(Vec<Topic>),
}

impl ToldLosses {
    /// What there is to tell of what was removed after a number; it counts as told from here on.
    pub(super) fn news(
        &mut self,
        losses: &Losses,
        after: u64,
        is_wanted: impl Fn(&Topic) -> bool,
    ) -> News {
        let unknown = losses.unknown();
        // What is not listed may lose more by the next page, and stay unlisted.
        let is_told = self
            .all
            .is_some_and(|(upto, since)| unknown <= upto && (since == after || !losses.is_cut));
        if unknown > after && !is_told {
            self.all = Some((unknown, after));
            self.by_topic.extend(losses.topics.iter().cloned());
            return News::OfAnyTopic;
        }
        let mut topics = Vec::new();
        for (topic, last) in &losses.topics {
            let told = self.by_topic.get(topic).copied().unwrap_or(0);
            if *last > told && is_wanted(topic) {
                self.by_topic.insert(topic.clone(), *last);
                topics.push(topic.clone());
            }
        }
        if topics.is_empty() { News::None } else { News::Of(topics) }
    }
}

#[cfg(test)]
mod tests {
    use super::super::log_state::LogState;
    use super::*;

    fn topic(name: &str) -> Topic {
        Topic::parse(name).unwrap()
    }

    fn losses(topics: &[(&str, u64)], is_cut: bool, floor: u64) -> Losses {
        let floor = floor.to_string();
        let values = ["abcdefgh", "1", "0", "99", "0", &floor, "", ""];
        let state = LogState::read(&values.map(|value| Some(value.to_owned())));
        let topics = topics.iter().map(|(name, last)| (topic(name), *last)).collect();
        Losses { state: Some(state.unwrap()), topics, is_cut }
    }

    fn of(names: &[&str]) -> News {
        News::Of(names.iter().map(|name| topic(name)).collect())
    }

    #[test]
    fn a_loss_is_told_once_and_again_where_more_was_lost_of_its_topic() {
        let (mut told, all) = (ToldLosses::default(), |_: &Topic| true);
        assert_eq!(told.news(&losses(&[], false, 0), 10, all), News::None);
        assert_eq!(told.news(&losses(&[("b", 13), ("a", 12)], false, 0), 10, all), of(&["b", "a"]));
        assert_eq!(told.news(&losses(&[("b", 13), ("a", 12)], false, 0), 10, all), News::None);
        assert_eq!(told.news(&losses(&[("a", 14), ("b", 13)], false, 0), 12, all), of(&["a"]));
    }

    #[test]
    fn what_nobody_wanted_is_told_to_who_wants_it_before_the_page_is_done() {
        let mut told = ToldLosses::default();
        let page = losses(&[("b", 13), ("a", 12)], false, 0);
        assert_eq!(told.news(&page, 10, |topic| topic.as_str() == "a"), of(&["a"]));
        assert_eq!(told.news(&page, 10, |_| true), of(&["b"]));
    }

    #[test]
    fn where_topics_are_not_listed_everybody_is_told_once() {
        let (mut told, all) = (ToldLosses::default(), |_: &Topic| true);
        let cut = losses(&[("b", 13), ("a", 12)], true, 0);
        assert_eq!(told.news(&cut, 10, all), News::OfAnyTopic);
        assert_eq!(told.news(&cut, 10, all), News::None);
        assert_eq!(
            told.news(&cut, 11, all),
            News::OfAnyTopic,
            "one that is not listed may have lost more"
        );
        assert_eq!(told.news(&losses(&[("b", 14)], false, 0), 12, all), of(&["b"]));
        let (mut told, forgotten) = (ToldLosses::default(), losses(&[], false, 11));
        assert_eq!(told.news(&forgotten, 11, all), News::None, "before the hole");
        assert_eq!(told.news(&forgotten, 10, all), News::OfAnyTopic);
        assert_eq!(told.news(&forgotten, 10, all), News::None);
    }

    #[test]
    fn a_later_page_that_lacks_more_of_a_topic_is_told_though_everybody_was_told_of_higher_numbers()
    {
        let (mut told, all) = (ToldLosses::default(), |_: &Topic| true);
        assert_eq!(told.news(&losses(&[("a", 90)], false, 12), 10, all), News::OfAnyTopic);
        assert_eq!(told.news(&losses(&[("a", 90), ("b", 50)], false, 12), 20, all), of(&["b"]));
        assert_eq!(told.news(&losses(&[("a", 90), ("b", 50)], false, 12), 30, all), News::None);
    }
}
