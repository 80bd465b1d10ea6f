//! Who listens to what, and so how often each event has to arrive.
//!
//! Pure: names of topics, the seats of all connections, and the count of what each one is to get.

use std::ops::Range;

use super::load::Load;

/// The topics of a bench and all who listen.
#[derive(Debug)]
pub struct Audience {
    /// The name of each topic.
    pub topics: Vec<String>,
    /// Each connection.
    pub seats: Vec<Seat>,
    groups: usize,
    prefix: String,
}

/// One connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seat {
    interest: Interest,
    /// Whether it reads slowly; what it gets is not counted on.
    pub slow: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Interest {
    /// These topics.
    Topics(Range<usize>),
    /// The pattern of this group of topics.
    Group(usize),
}

impl Audience {
    /// The audience that a load wants, on topics beneath `prefix`. Topic `n` is in group `n` modulo
    /// the number of patterns.
    pub fn new(load: &Load, prefix: String) -> Self {
        let groups = load.patterns.max(1);
        let topics = (0..load.topics).map(|n| format!("{prefix}.{}.{n}", n % groups)).collect();
        let ranges = (0..load.topics).step_by(load.topics_per_connection).map(|start| {
            Interest::Topics(start..load.topics.min(start + load.topics_per_connection))
        });
        let ranges: Vec<_> = ranges.collect();
        let by_name = (0..load.subscribers_per_topic).flat_map(|_| ranges.iter().cloned());
        let interests = by_name.chain((0..load.patterns).map(Interest::Group));
        let seats = interests.enumerate().map(|(index, interest)| {
            let slow_before = |index: usize| (index as f64 * load.slow) as usize;
            Seat { interest, slow: slow_before(index + 1) > slow_before(index) }
        });
        Self { topics, seats: seats.collect(), groups, prefix }
    }

    /// What a connection subscribes to.
    pub fn names(&self, seat: &Seat) -> Vec<String> {
        match &seat.interest {
            Interest::Topics(range) => self.topics[range.clone()].to_vec(),
            Interest::Group(group) => vec![format!("{}.{group}.*", self.prefix)],
        }
    }

    /// How many connections that are not slow listen to each topic.
    pub fn listeners_by_topic(&self) -> Vec<u64> {
        let mut listeners = vec![0; self.topics.len()];
        for seat in self.seats.iter().filter(|seat| !seat.slow) {
            self.of(seat).for_each(|topic| listeners[topic] += 1);
        }
        listeners
    }

    /// How many events a connection is to get, of so many published on each topic.
    pub fn expected(&self, seat: &Seat, published_by_topic: &[u64]) -> u64 {
        self.of(seat).map(|topic| published_by_topic[topic]).sum()
    }

    fn of(&self, seat: &Seat) -> impl Iterator<Item = usize> + use<> {
        match &seat.interest {
            Interest::Topics(range) => range.clone().step_by(1),
            Interest::Group(group) => (*group..self.topics.len()).step_by(self.groups),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn audience(load: Load) -> Audience {
        load.check().unwrap();
        Audience::new(&load, "b".into())
    }

    #[test]
    fn topics_are_shared_out_over_connections() {
        let load = Load {
            topics: 5,
            subscribers_per_topic: 2,
            topics_per_connection: 3,
            ..Load::default()
        };
        let audience = audience(load);
        let names: Vec<_> = audience.seats.iter().map(|seat| audience.names(seat)).collect();
        assert_eq!(names[0], ["b.0.0", "b.0.1", "b.0.2"]);
        assert_eq!(names[1], ["b.0.3", "b.0.4"]);
        assert_eq!((names.len(), &names[2]), (4, &names[0]));
        assert_eq!(audience.listeners_by_topic(), [2; 5]);
        assert_eq!(audience.expected(&audience.seats[1], &[1, 2, 4, 8, 16]), 24);
    }

    #[test]
    fn patterns_share_out_the_topics_among_themselves() {
        let load = Load { topics: 5, subscribers_per_topic: 0, patterns: 2, ..Load::default() };
        let audience = audience(load);
        assert_eq!(audience.names(&audience.seats[1]), ["b.1.*"]);
        assert_eq!(audience.topics[3], "b.1.3");
        assert_eq!(audience.expected(&audience.seats[1], &[1, 2, 4, 8, 16]), 10);
        assert_eq!(audience.listeners_by_topic(), [1; 5]);
    }

    #[test]
    fn slow_connections_are_a_share_that_is_not_counted_on() {
        let load = Load { subscribers_per_topic: 10, slow: 0.3, ..Load::default() };
        let audience = audience(load);
        assert_eq!(audience.seats.iter().filter(|seat| seat.slow).count(), 3);
        assert_eq!(audience.listeners_by_topic(), [7]);
    }
}
