//! What waits for the writer, in the order in which it came, within a bound.
//!
//! Pure state. What can't be stored is answered here; what is taken out is for the writer to answer.

use std::collections::{HashSet, VecDeque};
use std::mem;

use tokio::sync::oneshot;

use super::super::{Append, AppendError, Receipt};
use crate::model::{Code, NewEvent, Problem, Topic};

pub(super) type Answer = oneshot::Sender<Result<Receipt, AppendError>>;

/// What waits for the writer.
pub(super) struct Queue {
    pending: VecDeque<Pending>,
    /// What the events of publishes among them cost.
    bytes: usize,
    max_bytes: usize,
    /// How many publishes have been queued.
    tickets: u64,
}

/// One thing that waits.
pub(super) enum Pending {
    Append(Waiting),
    Forget(Forget),
}

/// A publish that waits.
pub(super) struct Waiting {
    pub(super) append: Append,
    /// What its events cost.
    pub(super) bytes: usize,
    pub(super) answer: Answer,
    ticket: u64,
}

/// A topic whose history is to be forgotten.
pub(super) struct Forget {
    pub(super) topic: Topic,
    /// Up to which number; up to the newest where nothing has been forgotten yet.
    pub(super) upto: Option<u64>,
    /// How many events have been forgotten so far.
    pub(super) removed: usize,
    pub(super) answer: oneshot::Sender<Result<usize, Problem>>,
}

/// What became of a publish that nobody waits for any longer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Withdrawn {
    /// The writer had not begun with it: it is certainly not stored.
    Unbegun,
    /// Nor with this one, but the first under its key is still running.
    Repeat,
    /// It may yet be stored.
    TooLate,
}

impl Queue {
    /// Nothing waits, and so many bytes of events may; one publish may wait however large it is.
    pub(super) fn new(max_bytes: usize) -> Self {
        Self { pending: VecDeque::new(), bytes: 0, max_bytes, tickets: 0 }
    }

    /// What waits, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    /// Lets a publish wait; its ticket, and where its result comes.
    pub(super) fn push(
        &mut self,
        append: Append,
    ) -> Result<(u64, oneshot::Receiver<Result<Receipt, AppendError>>), AppendError> {
        let bytes: usize = append.events.iter().map(NewEvent::cost).sum();
        if self.bytes + bytes > self.max_bytes && !self.is_empty() {
            return Err(AppendError::Unavailable("too much waits for the disk".to_owned()));
        }
        self.bytes += bytes;
        let (answer, receiver) = oneshot::channel();
        self.tickets += 1;
        let ticket = self.tickets;
        self.pending.push_back(Pending::Append(Waiting { append, bytes, answer, ticket }));
        Ok((ticket, receiver))
    }

    /// Lets a topic wait for being forgotten.
    pub(super) fn forget(&mut self, forget: Forget) {
        self.pending.push_back(Pending::Forget(forget));
    }

    /// Takes back the publish of a ticket; `running` are the scopes of keys whose publishes the writer has begun with.
    pub(super) fn withdraw(&mut self, ticket: u64, running: &HashSet<[u8; 32]>) -> Withdrawn {
        let is_it = |pending: &Pending| pending.publish().is_some_and(|it| it.ticket == ticket);
        let Some(at) = self.pending.iter().position(is_it) else { return Withdrawn::TooLate };
        let scope = |pending: &Pending| pending.publish().and_then(Waiting::scope);
        let is_repeat = self.pending.get(at).and_then(scope).is_some_and(|its| {
            let mut before = self.pending.range(..at).filter_map(scope);
            running.contains(&its) || before.any(|other| other == its)
        });
        if let Some(Pending::Append(waiting)) = self.pending.remove(at) {
            self.bytes -= waiting.bytes;
        }
        if is_repeat { Withdrawn::Repeat } else { Withdrawn::Unbegun }
    }

    /// The publishes that wait.
    pub(super) fn appends(&self) -> impl Iterator<Item = &Append> {
        self.pending.iter().filter_map(Pending::publish).map(|waiting| &waiting.append)
    }

    /// Takes what has waited for longest.
    pub(super) fn pop(&mut self) -> Option<Pending> {
        let next = self.pending.pop_front()?;
        self.bytes -= next.publish().map_or(0, |waiting| waiting.bytes);
        Some(next)
    }

    /// Lets what was taken last wait again.
    pub(super) fn put_back(&mut self, pending: Pending) {
        self.bytes += pending.publish().map_or(0, |waiting| waiting.bytes);
        self.pending.push_front(pending);
    }

    /// Refuses what waits for a disk that can't be trusted.
    pub(super) fn refuse_all(&mut self) {
        self.bytes = 0;
        for pending in mem::take(&mut self.pending) {
            let reason = "the disk has failed";
            match pending {
                Pending::Append(Waiting { answer, .. }) => {
                    _ = answer.send(Err(AppendError::Unavailable(reason.to_owned())));
                }
                Pending::Forget(forget) => {
                    _ = forget.answer.send(Err(Problem::new(Code::Unavailable, reason)));
                }
            }
        }
    }
}

impl Pending {
    fn publish(&self) -> Option<&Waiting> {
        match self {
            Self::Append(waiting) => Some(waiting),
            Self::Forget(_) => None,
        }
    }
}

impl Waiting {
    /// The scope of its key.
    pub(super) fn scope(&self) -> Option<[u8; 32]> {
        self.append.key.as_ref().map(|key| key.scope)
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::{Asked, IdempotencyKey};
    use super::*;
    use crate::model::Data;

    fn append(scope: Option<u8>) -> Append {
        let event = NewEvent::new(Topic::parse("a").unwrap(), None, Data::from_text("x"));
        let asked = Asked::as_it_came([0; 32]);
        let key = |scope| IdempotencyKey { scope: [scope; 32], asked, is_in_series: false };
        Append { events: vec![event], key: scope.map(key) }
    }

    #[test]
    fn one_publish_waits_however_large_it_is_and_no_more_than_the_bound_with_others() {
        let cost = append(None).events[0].cost();
        let mut queue = Queue::new(cost + cost / 2);
        queue.push(append(None)).unwrap();
        assert!(queue.push(append(None)).is_err());
        let taken = queue.pop().unwrap();
        assert_eq!((queue.bytes, queue.is_empty()), (0, true));
        queue.put_back(taken);
        assert_eq!(queue.bytes, cost);
        assert!(queue.push(append(None)).is_err());
    }

    #[test]
    fn a_repeat_of_what_waits_or_runs_is_told_from_what_was_never_begun() {
        let mut queue = Queue::new(1 << 20);
        let mut push = |scope| queue.push(append(scope)).unwrap().0;
        let [first, repeat, other, last] = [Some(1), Some(1), Some(2), None].map(&mut push);
        let none = HashSet::new();
        assert_eq!(queue.withdraw(repeat, &none), Withdrawn::Repeat);
        assert_eq!(queue.withdraw(repeat, &none), Withdrawn::TooLate);
        assert_eq!(queue.withdraw(first, &none), Withdrawn::Unbegun);
        assert_eq!(queue.withdraw(other, &HashSet::from([[2; 32]])), Withdrawn::Repeat);
        assert_eq!(queue.withdraw(last, &none), Withdrawn::Unbegun);
        assert_eq!((queue.bytes, queue.is_empty()), (0, true));
    }
}
