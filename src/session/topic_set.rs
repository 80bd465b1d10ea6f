//! Some topics, or all.

use crate::model::Topic;

/// Where the values of more topics than this are to be read again, all are.
const MANY_TOPICS: usize = 10_000;

/// Which current values are to be read again.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub enum TopicSet {
    /// None.
    #[default]
    Nothing,
    /// Those of these topics.
    Of(Vec<Topic>),
    /// All.
    All,
}

impl TopicSet {
    /// Whether the value of a topic is to be read again.
    pub fn covers(&self, topic: &Topic) -> bool {
        match self {
            TopicSet::Nothing => false,
            TopicSet::Of(topics) => topics.contains(topic),
            TopicSet::All => true,
        }
    }

    /// These too, or all.
    pub fn and(&mut self, lost: Option<&[Topic]>) {
        match (&mut *self, lost) {
            (_, None) => *self = TopicSet::All,
            (TopicSet::All, _) => {}
            (TopicSet::Nothing, Some(topics)) => *self = TopicSet::Of(topics.to_vec()),
            (TopicSet::Of(known), Some(topics)) => {
                known.extend(topics.iter().cloned());
                known.sort_unstable();
                known.dedup();
                if known.len() > MANY_TOPICS {
                    *self = TopicSet::All;
                }
            }
        }
    }
}
