//! What was answered lately, so that a question that comes again changes nothing a second time.
//!
//! Who got no answer in time asks again under the same number, and can't know whether the question or the
//! answer was lost. Pure state: bounded in time, by how long anybody goes on asking, and in count.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::model::LogName;

/// A question of another node: who asks, and its number there. A node has another name at each start.
type Asked = (LogName, u64);

/// The answers of one node to questions that change something.
#[derive(Debug)]
pub(super) struct Answered {
    life: Duration,
    max: usize,
    /// None while the answer is not there yet.
    answers: HashMap<Asked, Option<Arc<[u8]>>>,
    /// When each was heard first, the oldest first.
    heard: VecDeque<(Instant, Asked)>,
}

/// What is known of a question.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// Nothing: it is to be answered.
    New,
    /// It is being answered.
    UnderWay,
    /// This was its answer.
    Answered(Arc<[u8]>),
}

impl Answered {
    /// Remembers each answer for `life` after its question, and at most `max` of them: the oldest is
    /// forgotten first, which is the one most likely to have arrived.
    pub(super) fn new(life: Duration, max: usize) -> Self {
        Self { life, max, answers: HashMap::new(), heard: VecDeque::new() }
    }

    /// Hears a question.
    pub(super) fn hear(&mut self, from: LogName, number: u64, now: Instant) -> Known {
        self.forget_old(now);
        match self.answers.get(&(from, number)) {
            Some(Some(answer)) => return Known::Answered(answer.clone()),
            Some(None) => return Known::UnderWay,
            None => {}
        }
        while self.heard.len() >= self.max
            && let Some((_, oldest)) = self.heard.pop_front()
        {
            self.answers.remove(&oldest);
        }
        self.answers.insert((from, number), None);
        self.heard.push_back((now, (from, number)));
        Known::New
    }

    /// Notes the answer to a question that was heard.
    pub(super) fn note(&mut self, from: LogName, number: u64, answer: Arc<[u8]>) {
        if let Some(known) = self.answers.get_mut(&(from, number)) {
            *known = Some(answer);
        }
    }

    fn forget_old(&mut self, now: Instant) {
        while let Some((heard, asked)) = self.heard.front()
            && *heard + self.life <= now
        {
            self.answers.remove(asked);
            self.heard.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIFE: Duration = Duration::from_secs(3);

    fn node(name: &str) -> LogName {
        LogName::parse(name).unwrap()
    }

    #[test]
    fn a_question_that_comes_again_has_the_answer_it_had() {
        let (mut answered, now) = (Answered::new(LIFE, 10), Instant::now());
        let (ada, bob) = (node("aaaaaaaa"), node("bbbbbbbb"));
        assert_eq!(answered.hear(ada, 1, now), Known::New);
        assert_eq!(answered.hear(ada, 1, now), Known::UnderWay);
        answered.note(ada, 1, Arc::from(*b"coat"));
        assert_eq!(answered.hear(ada, 1, now), Known::Answered(Arc::from(*b"coat")));
        assert_eq!(answered.hear(ada, 2, now), Known::New);
        assert_eq!(answered.hear(bob, 1, now), Known::New);
    }

    #[test]
    fn an_answer_is_remembered_for_as_long_as_anybody_asks_again() {
        let (mut answered, now, ada) = (Answered::new(LIFE, 10), Instant::now(), node("aaaaaaaa"));
        answered.hear(ada, 1, now);
        answered.note(ada, 1, Arc::from(*b"coat"));
        let later = now + LIFE - Duration::from_millis(1);
        assert_eq!(answered.hear(ada, 1, later), Known::Answered(Arc::from(*b"coat")));
        assert_eq!(answered.hear(ada, 1, now + LIFE), Known::New);
        assert_eq!((answered.answers.len(), answered.heard.len()), (1, 1));
    }

    #[test]
    fn no_more_are_remembered_than_there_may_be_and_the_oldest_goes_first() {
        let (mut answered, now, ada) = (Answered::new(LIFE, 2), Instant::now(), node("aaaaaaaa"));
        for number in 1..=3 {
            assert_eq!(answered.hear(ada, number, now), Known::New);
            answered.note(ada, number, Arc::from(*b"coat"));
        }
        assert_eq!((answered.answers.len(), answered.heard.len()), (2, 2));
        assert!(matches!(answered.hear(ada, 2, now), Known::Answered(_)));
        assert_eq!(answered.hear(ada, 1, now), Known::New);
        // Too late to be noted: it was forgotten meanwhile.
        answered.note(ada, 9, Arc::from(*b"hat"));
        assert_eq!(answered.answers.len(), 2);
    }
}
