//! Protocols: what the broker has to know of one to serve whoever speaks it.
//!
//! A language is one static value in the table of those that are spoken. It says where its connections begin, what they
//! bring and want, in which forms events leave, and who talks for the broker on each connection: a [`Talk`].
//! All routes are built from the table, those of upgrades included.

use super::{Form, ParseLimits, Query, Subscribe, Talk, Token};
use crate::model::{Cursor, Problem};

/// A language.
pub struct Protocol {
    /// Its name.
    pub name: &'static str,
    /// Where its connections begin.
    pub entries: &'static [Entry],
    /// How clients say things over requests beside their connection, where they do.
    pub way_back: Option<WayBack>,
}

/// A place where connections of a language begin.
pub struct Entry {
    /// The path; a segment in braces is a parameter, as in `/app/{key}`.
    pub path: &'static str,
    /// What carries the connection.
    pub carrier: Carrier,
    /// The parameters that a query may have.
    pub query: Known,
    /// The variants in which it is spoken; the first where the client names none. At least one.
    pub dialects: &'static [Dialect],
    /// Which credentials the query has.
    pub brings: fn(&Query) -> Result<Brings, Problem>,
    /// What the connection wants from its beginning.
    pub wants: fn(&Knock<'_>) -> Result<Wants, Problem>,
    /// The same of a body, where a connection may begin with a `POST`.
    pub by_body: Option<ByBody>,
    /// Whether its clients say things over the [`WayBack`] of the language: they are told a secret for that.
    pub has_way_back: bool,
}

/// What carries a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carrier {
    /// A WebSocket (RFC 6455).
    WebSocket,
    /// A response that never ends, as event streams are (WHATWG HTML, section 9.2).
    Stream {
        /// Its `Content-Type`.
        media_type: &'static str,
    },
}

/// Which parameters a query may have.
#[derive(Debug, Clone, Copy)]
pub enum Known {
    /// These: another is refused by name.
    Only(&'static [&'static str]),
    /// Any; those that mean nothing are passed over, because clients of the language send them.
    Any,
}

/// A variant of a language: its form, and who talks.
pub struct Dialect {
    /// What it is asked for by: in `Sec-WebSocket-Protocol` (RFC 6455, section 1.9) on a WebSocket.
    pub name: &'static str,
    /// The form of events.
    pub form: &'static Form,
    /// Who talks on a connection of which nothing else is known.
    pub talk: fn() -> Box<dyn Talk>,
}

/// A request that opens a connection.
pub struct Knock<'a> {
    /// The parameters of its path.
    pub path: Vec<(&'static str, &'a str)>,
    /// Its query.
    pub query: &'a Query,
    /// Its `Last-Event-ID`, where that is a place.
    pub last_event_id: Option<Cursor>,
    /// What was agreed upon by name, or the first.
    pub dialect: &'static Dialect,
    /// All that may be asked for in this way.
    pub dialects: &'static [Dialect],
    /// What may be asked for.
    pub limits: &'a ParseLimits,
}

/// What a connection brings: by what it shows who it is, beside `Authorization` and cookies.
#[derive(Debug, Default)]
pub struct Brings {
    /// A token or key.
    pub token: Option<Token>,
    /// A ticket, which is good once.
    pub ticket: Option<Token>,
}

/// What a connection wants from its beginning.
pub struct Wants {
    /// The variant that it speaks.
    pub dialect: &'static Dialect,
    /// Who talks on it.
    pub talk: Box<dyn Talk>,
    /// What it is to be subscribed to.
    pub subscribe: Option<Subscribe>,
    /// Seconds between heartbeats that the client wants to see, if it does.
    pub heartbeat: Option<u32>,
}

/// How a connection begins with a body.
pub struct ByBody {
    /// The parameters that its query may have.
    pub query: Known,
    /// What the body says.
    pub wants: fn(&[u8], &ParseLimits) -> Result<Wants, Problem>,
}

/// How clients say things over requests beside their connection, at whatever node these come in: for carriers that lead
/// one way only.
pub struct WayBack {
    /// The path of a `POST`.
    pub path: &'static str,
    /// What its body says.
    pub read: fn(&[u8]) -> Result<Letter, Problem>,
}

/// What a client says over a request beside its connection.
pub struct Letter {
    /// Whose client: the id of a session, which others may know.
    pub session: String,
    /// What was told to this session alone.
    pub secret: Token,
    /// The message.
    pub message: String,
}

impl Brings {
    /// The token or key, as it was sent.
    pub fn token(&self) -> Option<&str> {
        self.token.as_ref().map(|Token(token)| token.as_str())
    }
}

impl Entry {
    /// The parameters of a path that leads here; none where it does not.
    pub fn find<'a>(&self, path: &'a str) -> Option<Vec<(&'static str, &'a str)>> {
        let (mut template, mut given) = (self.path.split('/'), path.split('/'));
        let mut found = Vec::new();
        loop {
            match (template.next(), given.next()) {
                (None, None) => return Some(found),
                (Some(part), Some(text)) => match part.strip_prefix('{') {
                    Some(name) if !text.is_empty() => {
                        found.push((name.trim_end_matches('}'), text));
                    }
                    None if part == text => {}
                    _ => return None,
                },
                _ => return None,
            }
        }
    }

    /// The variant where the client names none.
    pub fn first(&self) -> &'static Dialect {
        // Each has one, which the table's own test holds.
        &self.dialects[0]
    }

    /// The variant of this name.
    pub fn dialect(&self, name: &str) -> Option<&'static Dialect> {
        self.dialects.iter().find(|dialect| dialect.name == name)
    }
}

impl Known {
    /// Reads a query by it.
    pub fn read(self, query: &str) -> Result<Query, Problem> {
        match self {
            Self::Only(known) => Query::parse(query, known),
            Self::Any => Query::parse_any(query, &[]),
        }
    }
}

/// The protocols that are spoken.
#[derive(Clone, Copy)]
pub struct Protocols(pub &'static [&'static Protocol]);

impl Protocols {
    /// The places where connections begin.
    pub fn entries(self) -> impl Iterator<Item = &'static Entry> {
        self.0.iter().flat_map(|protocol| protocol.entries)
    }

    /// Those where WebSockets begin.
    pub fn websockets(self) -> impl Iterator<Item = &'static Entry> {
        self.entries().filter(|entry| entry.carrier == Carrier::WebSocket)
    }

    /// Those where streams begin.
    pub fn streams(self) -> impl Iterator<Item = &'static Entry> {
        self.entries().filter(|entry| matches!(entry.carrier, Carrier::Stream { .. }))
    }

    /// The place of a path where a WebSocket begins.
    pub fn websocket_at(self, path: &str) -> Option<&'static Entry> {
        self.websockets().find(|entry| entry.find(path).is_some())
    }

    /// How clients say things beside their connection.
    pub fn ways_back(self) -> impl Iterator<Item = &'static WayBack> {
        self.0.iter().filter_map(|protocol| protocol.way_back.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use super::super::{NATIVE, PROTOCOLS};
    use super::*;

    #[test]
    fn a_path_is_found_by_its_template() {
        let entry = Entry { path: "/app/{key}/{x}", ..native() };
        assert_eq!(entry.find("/app/k/1"), Some(vec![("key", "k"), ("x", "1")]));
        for other in ["/app/k", "/app/k/", "/app//1", "/app/k/1/2", "/apps/k/1", ""] {
            assert_eq!(entry.find(other), None, "{other}");
        }
        assert_eq!(native().find("/v1/ws"), Some(Vec::new()));
    }

    fn native() -> Entry {
        let Entry { path, carrier, query, dialects, brings, wants, .. } = NATIVE.entries[0];
        let (by_body, has_way_back) = (None, false);
        Entry { path, carrier, query, dialects, brings, wants, by_body, has_way_back }
    }

    #[test]
    fn no_two_entries_are_at_one_place() {
        let mut paths: Vec<_> = PROTOCOLS.entries().map(|entry| entry.path).collect();
        paths.sort_unstable();
        let count = paths.len();
        paths.dedup();
        assert_eq!(paths.len(), count);
        assert!(PROTOCOLS.entries().all(|entry| !entry.dialects.is_empty()));
    }
}
