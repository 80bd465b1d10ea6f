//! What there is to come back for, and what of it each client of a herd asks for.

use std::collections::BTreeSet;

use form_urlencoded::Serializer;

/// What the clients of a herd come for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum HerdKind {
    /// All events that they missed
    Resume,
    /// The current value of each topic
    Snapshot,
    /// The newest value of each topic of which they missed something
    Latest,
    /// So many of the newest events of each topic, which are half of what it has
    Last,
}

/// What a herd asks for.
#[derive(Debug, Clone, Copy)]
pub struct Demand {
    /// What each client comes for.
    pub kind: HerdKind,
    /// How many topics there are.
    pub topics: usize,
    /// How many of them each client asks for by name; with 0 it asks for all of them by a wildcard.
    pub by_name: usize,
    /// How many different sets of patterns ask for them, one client after the other.
    pub sets: usize,
    /// How many events each client has missed, of one topic after the other, or how many of the newest of each it asks for.
    pub behind: usize,
    /// The clients may read every other topic alone: those of `bench.*.a.>`.
    pub is_half_granted: bool,
    /// Whether they have it compressed.
    pub is_compressed: bool,
}

/// One client of a herd that asks.
#[derive(Debug, Clone, Copy)]
pub struct Asking<'a> {
    /// What for.
    pub demand: &'a Demand,
    /// What the names of topics begin with.
    pub prefix: &'a str,
    /// Which client it is.
    pub client: usize,
    /// What the server said when it was asked for its place, before the client missed anything.
    pub place: &'a [u8],
}

impl Demand {
    /// The name of a topic.
    pub fn topic(&self, prefix: &str, number: usize) -> String {
        let half = if number.is_multiple_of(2) { "a" } else { "b" };
        format!("{prefix}.{half}.{number}")
    }

    /// How many events there are before the clients go, to one topic after the other.
    pub fn before(&self) -> usize {
        match self.kind {
            HerdKind::Resume => 0,
            HerdKind::Snapshot | HerdKind::Latest => self.topics,
            HerdKind::Last => 2 * self.behind * self.topics,
        }
    }

    /// How many come while they are away.
    pub fn meanwhile(&self) -> usize {
        match self.kind {
            HerdKind::Resume | HerdKind::Latest => self.behind,
            HerdKind::Snapshot | HerdKind::Last => 0,
        }
    }

    /// How many events a client is to get.
    pub fn due(&self, client: usize) -> usize {
        let granted = |topic: &usize| !self.is_half_granted || topic.is_multiple_of(2);
        let due = |topic: usize| {
            let missed = self.behind / self.topics + usize::from(topic < self.behind % self.topics);
            match self.kind {
                HerdKind::Resume => missed,
                HerdKind::Snapshot => 1,
                HerdKind::Latest => missed.min(1),
                HerdKind::Last => self.behind,
            }
        };
        match self.by_name {
            0 => (0..self.topics).filter(granted).map(due).sum(),
            _ => self.named(client).into_iter().filter(granted).map(due).sum(),
        }
    }

    /// The topics that a client asks for by name.
    fn named(&self, client: usize) -> BTreeSet<usize> {
        let first = client * self.by_name;
        (first..first + self.by_name).map(|number| number % self.topics).collect()
    }
}

impl Asking<'_> {
    /// All topics, by their names.
    pub fn topics(&self) -> Vec<String> {
        (0..self.demand.topics).map(|number| self.demand.topic(self.prefix, number)).collect()
    }

    /// How the client asks Fanfare, as a query.
    pub fn query(&self, since: &str) -> String {
        let Self { demand, prefix, client, .. } = *self;
        let mut query = Serializer::new(String::new());
        match demand.by_name {
            0 if demand.topics == 1 => _ = query.append_pair("topic", &demand.topic(prefix, 0)),
            0 => _ = query.append_pair("topic", &format!("{prefix}.>")),
            _ => {
                for topic in demand.named(client) {
                    query.append_pair("topic", &demand.topic(prefix, topic));
                }
            }
        }
        if demand.sets > 1 {
            // Nothing comes on it: it makes the sets differ, and what they bring not.
            query.append_pair("topic", &format!("{prefix}.c.{}", client % demand.sets));
        }
        match demand.kind {
            HerdKind::Resume => query.append_pair("since", since),
            HerdKind::Snapshot => query.append_pair("snapshot", "true"),
            HerdKind::Latest => query.append_pair("mode", "latest").append_pair("since", since),
            HerdKind::Last => query.append_pair("last", &demand.behind.to_string()),
        };
        query.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Demand = Demand {
        kind: HerdKind::Resume,
        topics: 4,
        by_name: 0,
        sets: 1,
        behind: 10,
        is_half_granted: false,
        is_compressed: false,
    };

    #[test]
    fn each_client_is_due_what_it_asks_for_and_may_read() {
        assert_eq!(ALL.due(0), 10);
        // Topics 0 and 1 have three events each, 2 and 3 two.
        assert_eq!(Demand { is_half_granted: true, ..ALL }.due(0), 5);
        let two = Demand { by_name: 2, ..ALL };
        assert_eq!([two.due(0), two.due(1), two.due(2)], [6, 4, 6]);
        assert_eq!(Demand { by_name: 9, ..ALL }.due(3), 10, "each topic once");
        let latest = Demand { kind: HerdKind::Latest, behind: 3, ..ALL };
        assert_eq!((latest.due(0), latest.before(), latest.meanwhile()), (3, 4, 3));
        let snapshot = Demand { kind: HerdKind::Snapshot, ..ALL };
        assert_eq!((snapshot.due(0), snapshot.before(), snapshot.meanwhile()), (4, 4, 0));
        let last = Demand { kind: HerdKind::Last, ..ALL };
        assert_eq!((last.due(0), last.before(), last.meanwhile()), (40, 80, 0));
        assert_eq!(Demand { by_name: 1, ..last }.due(0), 10);
    }

    #[test]
    fn clients_ask_by_name_or_by_a_wildcard_in_so_many_ways() {
        let query =
            |demand: &Demand, client| Asking { demand, prefix: "x", client, place: &[] }.query("c");
        assert_eq!(query(&ALL, 0), "topic=x.%3E&since=c");
        assert_eq!(query(&Demand { topics: 1, ..ALL }, 0), "topic=x.a.0&since=c");
        let named = Demand { by_name: 2, kind: HerdKind::Latest, ..ALL };
        assert_eq!(query(&named, 1), "topic=x.a.2&topic=x.b.3&mode=latest&since=c");
        let last = Demand { kind: HerdKind::Last, ..ALL };
        assert_eq!(query(&last, 0), "topic=x.%3E&last=10");
        let sets = Demand { sets: 2, kind: HerdKind::Snapshot, ..ALL };
        let asked: Vec<_> = (0..3).map(|client| query(&sets, client)).collect();
        assert!(asked[0] == asked[2] && asked[0] != asked[1], "{asked:?}");
    }
}
