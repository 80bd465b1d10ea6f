//! A run against several nodes while something fails: three processes, publishers, clients, a checker.
//!
//! Runs are short by default; the environment makes them long, as `docs/cluster.md` says.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use super::fleet::{Fleet, Load, node};
use super::process::Process;

fn parameter(name: &str, default: usize) -> usize {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

fn seconds(seconds: usize) -> Duration {
    Duration::from_secs(seconds as u64)
}

/// A run: its nodes, those who use them, and how often and how long something fails.
pub struct Run {
    pub nodes: Vec<Process>,
    pub turns: usize,
    /// How long nothing can be published.
    pub outage: Duration,
    /// How long one node misses what others publish: long enough for each connection to be given up.
    pub cut: Duration,
    settings: Vec<Vec<String>>,
    fleet: Arc<Fleet>,
}

impl Run {
    /// Starts three nodes that find Redis by the same settings.
    pub async fn start(settings: &[String]) -> Self {
        Self::over(vec![settings.to_vec(); 3]).await
    }

    /// Starts a node for each of these settings.
    pub async fn over(settings: Vec<Vec<String>>) -> Self {
        let nodes: Vec<_> = settings.iter().map(|settings| node(settings, 0)).collect();
        let rate = parameter("FANFARE_CLUSTER_RATE", 300);
        let load = Load {
            publishers: parameter("FANFARE_CLUSTER_PUBLISHERS", 6),
            clients: parameter("FANFARE_CLUSTER_CLIENTS", 18),
            rate,
            // As long on each connection whatever the rate, or reconnecting would be all they do.
            stay: rate / 15..rate * 4 / 3,
        };
        let addresses = nodes.iter().map(|node| node.address.clone()).collect();
        let fleet = Fleet::start(addresses, &load).await;
        let turns = parameter("FANFARE_CLUSTER_TURNS", 2);
        let outage = seconds(parameter("FANFARE_CLUSTER_OUTAGE", 2));
        let cut = seconds(parameter("FANFARE_CLUSTER_CUT", 4));
        sleep(Duration::from_millis(500)).await;
        Self { nodes, turns, outage, cut, settings, fleet }
    }

    /// Starts a node again that has ended, on its port.
    pub fn restart(&mut self, at: usize) {
        let (_, port) = self.nodes[at].address.rsplit_once(':').expect("a port");
        let port = port.parse().expect("a number");
        self.nodes[at] = node(&self.settings[at], port);
    }

    /// Waits until all is well, which must not take long.
    pub async fn expect_flow(&self) {
        let took = self.fleet.flow().await;
        println!("everything flows after {took:?}");
        // More only where the machine has other work to do.
        assert!(took < seconds(parameter("FANFARE_CLUSTER_HEALED", 5)), "it took {took:?}");
        sleep(Duration::from_millis(300)).await;
    }

    /// How many gaps clients were told of.
    pub fn gaps(&self) -> usize {
        self.fleet.gaps()
    }

    /// Lets everybody come to an end and looks at what they saw.
    pub async fn finish(self, is_lossy: bool) {
        let faults = self.fleet.finish(is_lossy).await;
        let some = &faults[..faults.len().min(5)];
        assert!(faults.is_empty(), "{} faults, first {some:?}", faults.len());
    }
}
