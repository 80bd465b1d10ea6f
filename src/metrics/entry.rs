//! Who comes in: sockets, TLS, requests, credentials, and what is held back for coming too fast.

use std::sync::LazyLock;
use std::time::Duration;

use prometheus_client::registry::{Registry, Unit};

use super::TRANSPORTS;
use super::histogram::Histogram;
use super::sum::Sum;
use super::table::Table;

/// What a request of HTTP is for: a group of routes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RouteGroup {
    /// Events to publish.
    Publish,
    /// Kept events, topics, current values.
    Read,
    /// Events and values to be forgotten.
    Forget,
    /// An event stream.
    Stream,
    /// An upgrade to WebSocket that is none.
    Socket,
    /// Sessions, presence, revocations.
    Admin,
    /// Tickets.
    Tickets,
    /// Whether the broker is well.
    Health,
    /// These numbers.
    Metrics,
    /// Pages, scripts, the description of the API.
    Pages,
    /// Whatever else was asked for.
    Other,
}

const GROUPS: [&str; 11] = [
    "publish", "read", "forget", "stream", "socket", "admin", "tickets", "health", "metrics",
    "pages", "other",
];

const STATUSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// What became of a look at a credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Check {
    /// None was shown.
    Nothing,
    /// An API key.
    Key,
    /// A token that holds.
    Token,
    /// It holds not, or is nobody's.
    Refused,
    /// It could not be checked, for the keys could not be had.
    NoKeys,
}

const CHECKS: [&str; 5] = ["anonymous", "key", "token", "refused", "no_keys"];

/// Which limit of a rate somebody went over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rate {
    /// `limits.connects_per_second`.
    Connects,
    /// `limits.messages_per_second`.
    Messages,
    /// `limits.bytes_per_second`.
    Bytes,
    /// `auth.publishes_per_second`.
    Publishes,
}

const RATES: [&str; 4] =
    ["connects_per_second", "messages_per_second", "bytes_per_second", "publishes_per_second"];

/// Who comes in.
#[derive(Debug)]
pub struct Entry {
    connects: Table<Sum>,
    handshakes: Table<Sum>,
    /// How long agreeing upon TLS took.
    pub handshake: Histogram,
    requests: Table<Sum>,
    latencies: Table<Histogram>,
}

/// Those of the process, which has one guard at all its doors.
pub static GUARD: LazyLock<Guard> = LazyLock::new(Guard::default);

/// What became of those who show a credential, and of those who come too fast.
#[derive(Debug)]
pub struct Guard {
    checks: Table<Sum>,
    rates: Table<Sum>,
}

impl Default for Guard {
    fn default() -> Self {
        Self {
            checks: Table::by("outcome", CHECKS, Sum::default),
            rates: Table::by("limit", RATES, Sum::default),
        }
    }
}

impl Guard {
    pub(super) fn register(&self, to: &mut Registry) {
        let help = "Looks at the credential of a request or session, by outcome";
        to.register("token_checks", help, self.checks.clone());
        let help = "Requests, messages and connections over a limit of a rate, by limit";
        to.register("rate_limited", help, self.rates.clone());
    }

    /// A credential was looked at.
    pub fn checked(&self, check: Check) {
        if let Some(sum) = self.checks.at(check as usize) {
            sum.inc();
        }
    }

    /// Somebody went over a limit of a rate.
    pub fn limited(&self, rate: Rate) {
        if let Some(sum) = self.rates.at(rate as usize) {
            sum.inc();
        }
    }
}

impl Entry {
    pub(super) fn new(registry: &mut Registry) -> Self {
        let entry = Self {
            connects: Table::by("transport", TRANSPORTS, Sum::default),
            handshakes: Table::by("outcome", ["done", "failed"], Sum::default),
            handshake: Histogram::of_times_by_label(),
            requests: Table::by_both(("route", &GROUPS), ("status", &STATUSES), Sum::default),
            latencies: Table::by("route", GROUPS, Histogram::of_times_by_label),
        };
        entry.register(registry);
        entry
    }

    fn register(&self, to: &mut Registry) {
        to.register("connects", "Sessions that began, by transport", self.connects.clone());
        let help = "Handshakes of TLS, by outcome";
        to.register("tls_handshakes", help, self.handshakes.clone());
        let help = "How long agreeing upon TLS took";
        to.register_with_unit("tls_handshake", help, Unit::Seconds, self.handshake.clone());
        let help = "Requests of HTTP that were answered, by what they were for and their status";
        to.register("http_requests", help, self.requests.clone());
        let help = "From the head of a request of HTTP until its answer began";
        to.register_with_unit("http_request", help, Unit::Seconds, self.latencies.clone());
    }

    /// A session began.
    pub fn connected(&self, is_websocket: bool) {
        if let Some(sum) = self.connects.at(usize::from(!is_websocket)) {
            sum.inc();
        }
    }

    /// How many sessions began.
    pub fn connects(&self) -> u64 {
        self.connects.rows().map(|(_, sum)| sum.get()).sum()
    }

    /// A handshake of TLS ended after so long.
    pub fn shook_hands(&self, is_done: bool, took: Duration) {
        if let Some(sum) = self.handshakes.at(usize::from(!is_done)) {
            sum.inc();
        }
        if is_done {
            self.handshake.observe(took);
        }
    }

    /// A request was answered with a status after so long.
    pub fn answered(&self, group: RouteGroup, status: u16, took: Duration) {
        let class = usize::from(status / 100).clamp(1, STATUSES.len()) - 1;
        if let Some(sum) = self.requests.at(group as usize * STATUSES.len() + class) {
            sum.inc();
        }
        if let Some(histogram) = self.latencies.at(group as usize) {
            histogram.observe(took);
        }
    }
}

impl RouteGroup {
    /// What a request is for, by its method and path.
    pub fn of(method: &str, path: &str) -> Self {
        let is_read = matches!(method, "GET" | "HEAD");
        match path {
            "/metrics" => return Self::Metrics,
            "/v1/ws" => return Self::Socket,
            "/v1/sse" => return Self::Stream,
            "/v1/tickets" => return Self::Tickets,
            _ => {}
        }
        let Some(rest) = path.strip_prefix("/v1/") else {
            return match () {
                () if path.starts_with("/health/") => Self::Health,
                () if is_read => Self::Pages,
                () => Self::Other,
            };
        };
        let of = |name: &str| {
            rest == name || rest.strip_prefix(name).is_some_and(|it| it.starts_with('/'))
        };
        match method {
            _ if of("sessions") || of("users") || of("revocations") => Self::Admin,
            _ if rest.ends_with("/presence") => Self::Admin,
            _ if !(of("topics") || of("events") || of("snapshot") || of("cursor")) => Self::Other,
            "POST" => Self::Publish,
            "DELETE" => Self::Forget,
            _ if is_read => Self::Read,
            _ => Self::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_request_is_for_is_seen_by_its_method_and_path() {
        for (method, path, group) in [
            ("POST", "/v1/topics/a/events", RouteGroup::Publish),
            ("POST", "/v1/events", RouteGroup::Publish),
            ("GET", "/v1/events", RouteGroup::Read),
            ("HEAD", "/v1/topics/a", RouteGroup::Read),
            ("GET", "/v1/snapshot", RouteGroup::Read),
            ("DELETE", "/v1/topics/a", RouteGroup::Forget),
            ("GET", "/v1/topics/a/presence", RouteGroup::Admin),
            ("DELETE", "/v1/users/ada/sessions", RouteGroup::Admin),
            ("GET", "/v1/sessions", RouteGroup::Admin),
            ("GET", "/v1/sessionsx", RouteGroup::Other),
            ("POST", "/v1/sse", RouteGroup::Stream),
            ("GET", "/v1/ws", RouteGroup::Socket),
            ("GET", "/health/ready", RouteGroup::Health),
            ("GET", "/metrics", RouteGroup::Metrics),
            ("GET", "/", RouteGroup::Pages),
            ("POST", "/", RouteGroup::Other),
        ] {
            assert_eq!(RouteGroup::of(method, path), group, "{method} {path}");
        }
    }

    #[test]
    fn each_label_is_found_at_its_number() {
        assert_eq!(GROUPS[RouteGroup::Other as usize], "other");
        assert_eq!(CHECKS[Check::NoKeys as usize], "no_keys");
        assert_eq!(RATES[Rate::Publishes as usize], "publishes_per_second");
        let entry = Entry::new(&mut Registry::default());
        for status in [0, 101, 200, 404, 503, 999] {
            entry.answered(RouteGroup::Read, status, Duration::ZERO);
        }
        let first = RouteGroup::Read as usize * STATUSES.len();
        let read = (first..first + 5).map(|row| entry.requests.at(row).unwrap().get());
        assert_eq!(read.collect::<Vec<_>>(), [2, 1, 0, 1, 2]);
    }
}
