//! How connections begin on a worker thread: a few at a time, and what is ready beside them in between.
//!
//! To begin costs a connection as much as a hundred deliveries. Where thousands come at once, hundreds are ready in the same
//! moment, and an event would wait for all of them at each of its steps. So what has come of a connection is looked
//! at once it is let in, and those that are not stand in no queue but that of the gate.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use tokio::sync::oneshot;
use tokio::task::yield_now;

/// How many begin before everything else that is ready has had its turn.
const A_ROUND: usize = 4;

/// The gate of one worker thread.
#[derive(Clone, Default)]
pub(super) struct Gate(Rc<RefCell<Round>>);

#[derive(Default)]
struct Round {
    /// How many were let in in this round.
    begun: usize,
    /// Somebody begins the next one.
    is_watched: bool,
    waiting: VecDeque<oneshot::Sender<()>>,
}

impl Gate {
    /// Waits to be let in, in the order in which this is asked; at once where few have come.
    pub(super) async fn pass(&self) {
        let waiting = {
            let mut round = self.0.borrow_mut();
            if !std::mem::replace(&mut round.is_watched, true) {
                actix_web::rt::spawn(self.clone().watch());
            }
            if round.begun < A_ROUND && round.waiting.is_empty() {
                round.begun += 1;
                None
            } else {
                let (let_in, waiting) = oneshot::channel();
                round.waiting.push_back(let_in);
                Some(waiting)
            }
        };
        if let Some(waiting) = waiting {
            // Nobody is left at a gate that nobody watches.
            _ = waiting.await;
        }
    }

    /// Begins one round after the other, until nobody came in the last one.
    async fn watch(self) {
        loop {
            // Behind all that is ready, what the sockets have meanwhile among it.
            yield_now().await;
            let mut round = self.0.borrow_mut();
            if round.begun == 0 {
                round.is_watched = false;
                return;
            }
            round.begun = 0;
            while round.begun < A_ROUND
                && let Some(next) = round.waiting.pop_front()
            {
                // Who has gone meanwhile takes nobody's place.
                round.begun += usize::from(next.send(()).is_ok());
            }
        }
    }
}

#[cfg(test)]
impl Gate {
    /// A gate that lets nobody in, until it is opened.
    pub(super) fn shut() -> Self {
        let round = Round { begun: A_ROUND, is_watched: true, waiting: VecDeque::new() };
        Self(Rc::new(RefCell::new(round)))
    }

    pub(super) fn open(&self) {
        actix_web::rt::spawn(self.clone().watch());
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[actix_web::test]
    async fn what_is_ready_has_its_turn_between_a_few_that_begin() {
        let (gate, begun) = (Gate::default(), Rc::new(Cell::new(0)));
        for _ in 0..100 {
            let (gate, begun) = (gate.clone(), begun.clone());
            actix_web::rt::spawn(async move {
                gate.pass().await;
                begun.set(begun.get() + 1);
            });
        }
        // Some go before it is their turn.
        drop((0..3).map(|_| Box::pin(gate.pass())).collect::<Vec<_>>());
        let (mut rounds, mut before) = (0, 0);
        while begun.get() < 100 {
            yield_now().await;
            assert!(begun.get() - before <= 2 * A_ROUND, "{} behind {before}", begun.get());
            (rounds, before) = (rounds + 1, begun.get());
            assert!(rounds < 1_000, "{} have begun", begun.get());
        }
        assert!(rounds >= 100 / (2 * A_ROUND), "{rounds}");
        for _ in 0..3 {
            yield_now().await;
        }
        assert!(!gate.0.borrow().is_watched, "nobody runs where nobody comes");
        gate.pass().await;
    }
}
