//! The work of one bench: what was asked for, checked.

use std::time::Duration;

/// What a bench does.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// How many topics there are.
    pub topics: usize,
    /// How many connections subscribe to each topic by its name.
    pub subscribers_per_topic: usize,
    /// How many topics each of these connections subscribes to.
    pub topics_per_connection: usize,
    /// How many connections subscribe to a wildcard pattern, a share of the topics each.
    pub patterns: usize,
    /// Bytes of data an event.
    pub payload: usize,
    /// The share of the connections that read slowly.
    pub slow: f64,
    /// How many bytes a second these read; 0 is none at all.
    pub slow_pace: usize,
    /// How subscribers are spoken to.
    pub protocol: Protocol,
    /// How fast events are published.
    pub pace: Pace,
    /// How they are published.
    pub publish: Publish,
    /// Events a publish, where several go in one.
    pub batch: usize,
    /// Publishes that may wait for their answer at a time.
    pub in_flight: usize,
    /// How many of them share a connection.
    pub pipeline: usize,
    /// How long is measured.
    pub duration: Duration,
    /// How long is not, before that.
    pub warmup: Duration,
    /// Threads that subscribers live on.
    pub threads: usize,
    /// Addresses of this machine that connections come from; 0 leaves it to the system.
    pub sources: usize,
    /// What goes on beside.
    pub storm: Option<Storm>,
}

/// How subscribers are spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Protocol {
    /// WebSocket, in JSON
    #[value(name = "ws")]
    Json,
    /// WebSocket, in CBOR
    #[value(name = "ws+cbor")]
    Cbor,
    /// Server-Sent Events
    #[value(name = "sse")]
    Sse,
}

/// How events are published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Publish {
    /// One event an HTTP request
    Single,
    /// Several in one JSON body
    Batch,
    /// Several in one body, one a line
    Ndjson,
    /// One a message over WebSocket
    #[value(name = "ws")]
    WebSocket,
}

/// How fast events are published.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Pace {
    /// Not at all: connections stay idle.
    Idle,
    /// So many events a second, due at their moments whatever the server does.
    Rate(f64),
    /// As many as are acknowledged.
    Max,
    /// Several at once, again and again, with a pause once all have arrived.
    Burst {
        /// Events a burst.
        events: usize,
        /// The pause.
        pause: Duration,
    },
    /// The highest rate whose 99th percentile of latency stays within a limit.
    Search {
        /// The limit.
        p99: Duration,
    },
}

/// Connections that do not stay as they are while the rest is measured.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Storm {
    /// What they do.
    pub kind: StormKind,
    /// How often a second, all together.
    pub rate: f64,
}

/// What a storm does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum StormKind {
    /// Subscribe and unsubscribe, on connections that stay
    Subscribe,
    /// Connect with a subscription, and disconnect once it is live
    Connect,
}

impl Load {
    /// The least data of an event: its marker has to fit.
    pub const MIN_PAYLOAD: usize = 64;

    /// How many publishes are in flight, and how many of them share a connection, where nobody says
    /// otherwise: a burst goes out at once, over four connections.
    pub fn flight(burst: Option<usize>) -> (usize, usize) {
        burst.map_or((16, 1), |events| (events.max(1), events.div_ceil(4).max(1)))
    }

    /// How many connections subscribe.
    pub fn connections(&self) -> usize {
        self.subscribers_per_topic * self.topics.div_ceil(self.topics_per_connection)
            + self.patterns
    }

    /// Events of one publish.
    pub fn events_a_publish(&self) -> usize {
        match self.publish {
            Publish::Single | Publish::WebSocket => 1,
            Publish::Batch | Publish::Ndjson => self.batch,
        }
    }

    /// How many connections publish.
    pub fn publishers(&self) -> usize {
        self.in_flight.div_ceil(self.pipeline)
    }

    /// Says what can't be done together.
    pub fn check(&self) -> Result<(), String> {
        let wrong = |what: &str| Err(what.to_owned());
        let counts = [self.topics, self.topics_per_connection, self.batch, self.in_flight];
        if counts.contains(&0) || self.pipeline == 0 || self.threads == 0 {
            return wrong("topics, batch, in-flight, pipeline and threads are at least 1");
        }
        if self.patterns > self.topics {
            return wrong("there can't be more patterns than topics for them to match");
        }
        if self.payload < Self::MIN_PAYLOAD {
            return Err(format!("the payload is at least {} bytes", Self::MIN_PAYLOAD));
        }
        if !(0.0..1.0).contains(&self.slow) {
            return wrong("the share of slow connections is a number from 0 to below 1");
        }
        if matches!(self.pace, Pace::Search { .. }) && self.connections() == 0 {
            return wrong("a search is for a rate of deliveries, so it needs subscribers");
        }
        if self.storm.is_some_and(|storm| storm.kind == StormKind::Subscribe)
            && self.protocol != Protocol::Json
        {
            return wrong("a storm of subscribes needs --protocol ws");
        }
        Ok(())
    }
}

impl Default for Load {
    /// One topic, a thousand subscribers, 50 events a second.
    fn default() -> Self {
        Self {
            topics: 1,
            subscribers_per_topic: 1_000,
            topics_per_connection: 1,
            patterns: 0,
            payload: 128,
            slow: 0.0,
            slow_pace: 0,
            protocol: Protocol::Json,
            pace: Pace::Rate(50.0),
            publish: Publish::Single,
            batch: 100,
            in_flight: 16,
            pipeline: 1,
            duration: Duration::from_secs(10),
            warmup: Duration::from_secs(2),
            threads: 1,
            sources: 0,
            storm: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_follow_from_topics_and_subscribers() {
        let load = Load {
            topics: 1_005,
            subscribers_per_topic: 2,
            topics_per_connection: 10,
            patterns: 7,
            ..Load::default()
        };
        assert_eq!(load.connections(), 2 * 101 + 7);
    }

    #[test]
    fn what_can_not_be_done_is_refused() {
        assert_eq!(Load::default().check(), Ok(()));
        let load = Load::default;
        for wrong in [
            Load { topics: 0, ..load() },
            Load { patterns: 2, ..load() },
            Load { payload: 10, ..load() },
            Load { slow: 1.0, ..load() },
            Load { slow: f64::NAN, ..load() },
            Load { threads: 0, ..load() },
        ] {
            assert!(wrong.check().is_err(), "{wrong:?}");
        }
    }
}
