//! What is looked at from outside once a second: how this node keeps up.

use super::BrokerHandle;
use super::exam::Examined;
use super::fanout::Examine;

impl BrokerHandle {
    /// How the sessions of this node keep up.
    pub async fn examine(&self) -> Examined {
        let all = self.ask_all(|worker| worker.examine.send(Examine)).await;
        all.into_iter().fold(Examined::default(), Examined::and)
    }

    /// How much waits in the longest inbox of a worker.
    pub fn longest_inbox(&self) -> usize {
        self.shared.router.longest_inbox()
    }

    /// How many nodes are there, this one included.
    pub fn nodes(&self) -> usize {
        self.shared.relay.others().len() + 1
    }
}
