//! How many events the newest of each topic come to, before any of them is read.

use super::values::Values;
use crate::history::{History, ListTopics};
use crate::model::{Pattern, Problem, Topic};

/// How many topics one page of the list holds.
const PAGE_TOPICS: usize = 1_000;

/// How many topics are counted at most; of more, the rest counts as nothing.
const MOST_TOPICS: usize = 100_000;

/// How many events are wanted, of topics that may be seen.
pub async fn tally(
    history: &dyn History,
    values: &Values,
    sees: impl Fn(&Topic) -> bool,
) -> Result<usize, Problem> {
    let (mut events, mut topics) = (0, 0);
    for (at, pattern) in values.patterns.iter().enumerate() {
        let earlier = &values.patterns[..at];
        // A topic counts once, with the first pattern that matches it.
        let is_new = |topic: &Topic| !earlier.iter().any(|pattern| pattern.matches(topic));
        let mut after = None;
        while topics < MOST_TOPICS {
            let page = page(history, pattern, after).await?;
            topics += page.len().max(1);
            // Who is in a topic is told as it is, not by what led to that.
            let is_shown = |topic: &Topic| is_new(topic) && !topic.is_presence() && sees(topic);
            let seen = page.iter().filter(|(topic, _)| is_shown(topic));
            events += seen.map(|(topic, kept)| values.count(topic).min(*kept)).sum::<usize>();
            after =
                page.last().filter(|_| page.len() >= PAGE_TOPICS).map(|(topic, _)| topic.clone());
            if after.is_none() {
                break;
            }
            tokio::task::yield_now().await;
        }
    }
    Ok(events)
}

/// Topics that a pattern matches, after one by name, and how many events are kept of each.
async fn page(
    history: &dyn History,
    pattern: &Pattern,
    after: Option<Topic>,
) -> Result<Vec<(Topic, usize)>, Problem> {
    let topics = match pattern.as_topic() {
        Some(topic) => vec![history.topic(topic).await?],
        None => {
            let list = ListTopics { pattern: pattern.clone(), after, limit: PAGE_TOPICS };
            history.topics(list).await?
        }
    };
    Ok(topics.into_iter().map(|summary| (summary.topic, summary.retained)).collect())
}
