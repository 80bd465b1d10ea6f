//! What comes over a Redis and its nodes and loses nothing: a server that stands still, and nodes that vanish.

use std::time::Duration;

use fanfare::history::{Append, AppendError};
use tokio::join;
use tokio::time::sleep;

use super::Life;
use crate::chronicle::Fault;
use crate::log::TOPICS;

impl Life {
    pub(super) async fn be_troubled(&mut self, at: usize) -> Result<(), Fault> {
        match self.book.dice.percent(50) {
            true => self.stand_still(at).await,
            false => self.vanish(at).await,
        }
    }

    /// Redis stands still while something is published: for less than a publisher waits, for more, or for so
    /// long that nodes connect anew.
    async fn stand_still(&mut self, at: usize) -> Result<(), Fault> {
        let millis = self.book.dice.pick(&[200, 1_200, 3_200]);
        self.book.trace.step(format!("Redis stands still for {millis} ms"));
        let stopped = self.redis.stop();
        let goes_on = async move {
            sleep(Duration::from_millis(millis)).await;
            drop(stopped);
        };
        join!(self.publish(at), goes_on).0
    }

    /// A node is cut off and never heard of again, before or behind the moment at which what it publishes is
    /// stored; its publisher goes to another one.
    async fn vanish(&mut self, at: usize) -> Result<(), Fault> {
        if self.nodes.len() == 1 {
            self.join().await?;
        }
        let is_stored = self.book.dice.percent(70);
        self.book.trace.step(format!("node {at} vanishes; behind what it publishes: {is_stored}"));
        let topic = self.book.dice.pick(&TOPICS);
        let append = Append {
            events: self.book.bare_events_of(self.line, &[topic]),
            key: Some(self.book.key()),
        };
        let gone = self.nodes.remove(at);
        gone.network.as_ref().expect("it can be cut").cut(!is_stored, true);
        let may_be_stored = match gone.history.append(append.clone()).await {
            Err(AppendError::Unavailable(_)) => false,
            Err(AppendError::OutcomeUnknown(_)) => true,
            other => return Err(Fault(format!("nothing was answered, and it is said: {other:?}"))),
        };
        drop(gone);
        self.publish_as(0, append, may_be_stored).await
    }
}
