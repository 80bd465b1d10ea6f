//! What the operator decided, checked and with units in its types.
//!
//! Two layers: [`schema`] is what was typed (file, environment, flags), this is what it means.
//! Everything inside the broker sees only this; secrets do not show themselves in `Debug`.

mod certificate;
mod changes;
mod check;
pub mod document;
mod load;
mod origin;
mod own;
pub mod schema;
mod token_keys;
mod value;

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use jsonwebtoken::{Algorithm, DecodingKey};

pub use certificate::Certificate;
pub use changes::{KeptOtherwise, needs_restart};
pub use load::{ConfigError, Loaded, Origin, Setting, Sources, load, load_with_origins};
pub use own::{Lack, Own, Owner, is_segment};
pub use token_keys::secret_bytes;
pub use value::{Given, Hidden, Medium, Size, SizeError, Span, SpanError, Value};

use crate::model::{EventType, NoticeKind, Pattern, Topic, TopicError};

/// The whole of the configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where and how to serve.
    pub server: Server,
    /// Who is known.
    pub auth: Auth,
    /// What is kept of every topic's history together.
    pub history: History,
    /// What the nodes of a cluster share; none for a broker on its own.
    pub redis: Option<Redis>,
    /// What an application's own Redis feeds.
    pub sources: Vec<RedisSource>,
    /// What is allowed on different topics.
    pub rules: Rules,
    /// What the broker says about itself.
    pub notices: Notices,
    /// Where that is posted to.
    pub webhooks: Vec<Webhook>,
    /// The limits on what comes from outside.
    pub limits: Limits,
    /// What is logged, and how.
    pub log: Log,
}

impl Config {
    /// Whether the broker itself connects to something over TLS.
    pub fn calls_over_tls(&self) -> bool {
        let jwks = self.auth.jwt.iter().filter_map(|jwt| Some(jwt.jwks.as_ref()?.url.as_str()));
        let webhooks = self.webhooks.iter().map(|hook| hook.url.0.as_str());
        let sources = self.sources.iter().map(|source| &source.redis);
        let redis = self.redis.iter().chain(sources);
        let redis = redis.flat_map(|redis| [&redis.url].into_iter().chain(&redis.sentinels));
        let redis = redis.map(|Hidden(url)| url.as_str());
        let mut urls = jwks.chain(webhooks).chain(redis);
        urls.any(|url| url.starts_with("https:") || url.starts_with("rediss:"))
    }
}

/// Where and how to serve.
#[derive(Debug, Clone)]
pub struct Server {
    /// The address to serve on; port 0 takes a free one.
    pub listen: SocketAddr,
    /// An address of their own for operators and publishers.
    pub internal_listen: Option<SocketAddr>,
    /// Origins of pages that may connect beside those of the broker's own address, exactly as a
    /// browser sends them (RFC 6454).
    pub allowed_origins: Vec<String>,
    /// What to serve TLS with; none to serve without.
    pub certificate: Option<Certificate>,
    /// Reverse proxies whose word on a client is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// How they say it.
    pub proxy_headers: ProxyHeaders,
    /// Threads that serve connections.
    pub workers: usize,
    /// How long a connection without a request is kept.
    pub keep_alive: Duration,
    /// Time between heartbeats on a WebSocket, whole seconds.
    pub heartbeat: Duration,
    /// On an event stream, likewise.
    pub stream_heartbeat: Duration,
    /// How long what an event brings may be held back while more comes.
    pub flush_interval: Duration,
    /// The length in bytes from which on messages are compressed for WebSocket clients that offer
    /// it; `None` for never.
    pub compression: Option<usize>,
    /// Whether readers are given the `traceparent` of a publish.
    pub trace_context: bool,
    /// How long a stop serves on first, so that nobody new comes.
    pub shutdown_delay: Duration,
    /// How long a stop takes at most to say good-bye to every session.
    pub shutdown_grace: Duration,
}

/// The headers in which a reverse proxy says who asked, and for what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyHeaders {
    /// `X-Forwarded-For`, `X-Forwarded-Proto` and `X-Forwarded-Host`.
    XForwarded,
    /// `Forwarded` (RFC 7239).
    Forwarded,
}

/// Who is known.
#[derive(Debug, Clone, Default)]
pub struct Auth {
    /// API keys with full rights, as hashes.
    pub api_keys: Vec<KeyHash>,
    /// API keys with some rights.
    pub scoped_keys: Vec<Arc<ApiKey>>,
    /// How subscribers' tokens are checked, where they are.
    pub jwt: Option<Jwt>,
    /// The name of the cookie that may hold a subscriber's token, for pages whose origin is known.
    pub cookie: Option<String>,
    /// How long revocations are remembered.
    pub revocation_window: Duration,
    /// The most revocations remembered at a time; one more gets 429 `too_many`.
    pub revocations: usize,
    /// Events a second with one credential; more gets 429 `too_many`. 0 for any number.
    pub publishes_per_second: usize,
    /// The most tickets that wait to be used; one more gets 429 `too_many`.
    pub tickets: usize,
}

impl Auth {
    /// Whether no credential is configured: everyone who reaches the broker has every right.
    pub fn is_open(&self) -> bool {
        self.api_keys.is_empty() && self.scoped_keys.is_empty() && self.jwt.is_none()
    }
}

/// An API key with some rights, beside what anyone may, whatever else the rules of topics say.
#[derive(Debug)]
pub struct ApiKey {
    /// What it is called.
    pub name: String,
    /// Its hash.
    pub hash: KeyHash,
    /// Patterns that it may publish to.
    pub publish: Vec<Pattern>,
    /// Patterns that it may subscribe to.
    pub subscribe: Vec<Pattern>,
    /// Whether it may do what is for operators.
    pub admin: bool,
}

/// The SHA-256 hash of an API key.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct KeyHash(pub [u8; 32]);

impl fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyHash(…)")
    }
}

/// How JSON Web Tokens (RFC 7519) are checked.
#[derive(Debug, Clone)]
pub struct Jwt {
    /// The keys that signatures are checked with; one of them has to fit.
    pub keys: Vec<TokenKey>,
    /// Where more keys are published.
    pub jwks: Option<Jwks>,
    /// The `iss` a token must have.
    pub issuer: Option<String>,
    /// The `aud` a token must have.
    pub audience: Option<String>,
    /// How far clocks may differ.
    pub leeway: Duration,
}

/// Where public keys are published (RFC 7517).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Jwks {
    /// The address of the set.
    pub url: String,
    /// How old keys may become before they are fetched again.
    pub refresh: Duration,
    /// How old they may become while they can't be.
    pub keep: Duration,
}

/// A key that the signatures of tokens are checked with.
#[derive(Clone)]
pub struct TokenKey {
    /// The algorithms it may be used with, all of one family: a token's header chooses among these
    /// and never beyond them.
    pub algorithms: Vec<Algorithm>,
    /// The key itself.
    pub key: DecodingKey,
}

impl fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TokenKey").field(&self.algorithms).finish()
    }
}

/// What is kept of every topic's history together; what is kept of one topic is in its [`Rule`].
#[derive(Debug, Clone)]
pub struct History {
    /// The data directory.
    pub path: PathBuf,
    /// Whether a publish waits until the disk itself has it, and survives a power failure.
    pub fsync: bool,
    /// The most bytes kept on disk of all topics: data, addresses and a flat charge an event.
    pub disk_bytes: usize,
    /// Bytes of the disk that are kept back for removals.
    pub reserve_bytes: usize,
    /// The most bytes of SQLite's log while another process holds it.
    pub wal_bytes: usize,
    /// The most bytes kept in memory of all topics, counted alike.
    pub memory_bytes: usize,
    /// The most bytes kept in Redis of all topics, counted alike.
    pub redis_bytes: usize,
    /// The most values that stay beyond their age or the bytes of all topics.
    pub newest_topics: usize,
    /// The most bytes of them, counted alike.
    pub newest_bytes: usize,
    /// The most bytes of events that wait for the disk or for Redis, counted alike.
    pub pending_bytes: usize,
    /// How long a publish waits for the disk.
    pub commit_timeout: Duration,
    /// How long an idempotency key is remembered.
    pub idempotency_window: Duration,
    /// The most idempotency keys remembered at once.
    pub idempotency_keys: usize,
    /// The most values that are bound to one session: `limits.bound_topics`.
    pub bound_topics: usize,
    /// How long they stay after it was cut: `limits.bound_linger`.
    pub bound_linger: Duration,
}

/// What the nodes of a cluster share.
#[derive(Debug, Clone)]
pub struct Redis {
    /// Where it is, and as whom to use it; with sentinels, the name of the master is in the host's place.
    pub url: Hidden,
    /// Sentinels that know where the master is.
    pub sentinels: Vec<Hidden>,
    /// More servers of a cluster that know where the log is.
    pub seeds: Vec<Hidden>,
    /// What the names of all keys and channels begin with.
    pub prefix: String,
    /// How many replicas are waited for at each publish.
    pub wait_replicas: usize,
    /// The most bytes of recent events that a node keeps.
    pub recent_bytes: usize,
}

impl Redis {
    /// One server, used as by default.
    pub fn at(url: &str) -> Self {
        Self {
            url: Hidden(url.to_owned()),
            sentinels: Vec::new(),
            seeds: Vec::new(),
            prefix: "fanfare".to_owned(),
            wait_replicas: 0,
            recent_bytes: 16 << 20,
        }
    }
}

/// A channel or stream of an application's own Redis that feeds events.
#[derive(Debug, Clone)]
pub struct RedisSource {
    /// Where it is.
    pub redis: Redis,
    /// What is read there.
    pub tap: Tap,
    /// The topic, in which [`Self::NAME`] stands for the name of the channel or stream.
    pub topic: String,
    /// The type of the events.
    pub kind: Option<EventType>,
    /// Where they give idempotency keys, if they do.
    pub keys: Option<SourceKeys>,
}

/// Where what is read gives idempotency keys, and whose they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceKeys {
    /// The field of an entry, or the member of a JSON object.
    pub name: String,
    /// The API key whose they are; none for that of an open broker.
    pub api_key: Option<Hidden>,
}

impl RedisSource {
    /// What stands for a name in a topic.
    pub const NAME: &str = "{name}";

    /// The topic of what comes from the channel or stream of this name.
    pub fn topic_of(&self, name: &str) -> Result<Topic, TopicError> {
        Topic::parse(&self.topic.replace(Self::NAME, &name.replace([':', '/'], ".")))
    }
}

/// What is read of an application's own Redis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tap {
    /// A channel, or channels by a pattern.
    Channel(String),
    /// A stream.
    Stream {
        /// Its name.
        name: String,
        /// The consumer group that reads it.
        group: String,
        /// The field that is the data; all of them where none is named.
        field: Option<String>,
    },
}

impl Tap {
    /// The name of what is read.
    pub fn name(&self) -> &str {
        match self {
            Self::Channel(name) | Self::Stream { name, .. } => name,
        }
    }

    /// Whether the name stands for many channels.
    pub fn is_pattern(&self) -> bool {
        matches!(self, Self::Channel(name) if name.contains(['*', '?', '[']))
    }
}

/// What the broker says about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Notices {
    /// Sessions that begin and end.
    pub sessions: bool,
    /// Topics that are listened to, or no longer.
    pub topics: bool,
    /// Who subscribes to a topic, where its rule has presence.
    pub presence: bool,
}

/// An application that notices are posted to.
#[derive(Debug, Clone)]
pub struct Webhook {
    /// What it is called.
    pub name: String,
    /// Where it is; it may hold a secret.
    pub url: Hidden,
    /// What notices are signed with.
    pub secret: WebhookSecret,
    /// Which are posted.
    pub events: Vec<NoticeKind>,
    /// About which topics.
    pub topics: Vec<Pattern>,
}

/// What notices are signed with: 24 to 64 bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct WebhookSecret(pub Vec<u8>);

impl fmt::Debug for WebhookSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WebhookSecret(…)")
    }
}

/// What is allowed on different topics: the first rule that matches a topic decides.
#[derive(Debug, Clone)]
pub struct Rules {
    /// The rules in their order.
    pub listed: Vec<Rule>,
    /// For topics that no listed rule matches.
    pub default: Rule,
    /// For what is accepted no longer, which only applications may see.
    pub revocations: Rule,
    /// For how far webhooks got.
    pub webhook_offsets: Rule,
    /// For what the broker says about itself, where no listed rule says otherwise.
    pub notices: Rule,
}

impl Rules {
    /// The rule that decides about `topic`.
    pub fn of(&self, topic: &Topic) -> &Rule {
        if topic.is_state() {
            let is_revocations = self.revocations.pattern.matches(topic);
            return if is_revocations { &self.revocations } else { &self.webhook_offsets };
        }
        let other = if topic.is_reserved() { &self.notices } else { &self.default };
        self.listed.iter().find(|rule| rule.pattern.matches(topic)).unwrap_or(other)
    }

    /// The different ages that events are kept for, where they are not kept for good.
    pub fn ages(&self) -> Vec<Duration> {
        let own = [&self.revocations, &self.webhook_offsets, &self.notices];
        let mut ages: Vec<_> = self.all().chain(own).map(|rule| rule.max_age).collect();
        ages.retain(|age| *age != Duration::MAX);
        ages.sort_unstable();
        ages.dedup();
        ages
    }

    /// Every rule for events of others, in the order in which they decide.
    pub fn all(&self) -> impl Iterator<Item = &Rule> {
        self.listed.iter().chain([&self.default])
    }

    /// Whether anyone may subscribe to all that `pattern` matches, as far as one rule after the other says so; never true
    /// where it is not so.
    pub fn open_whole(&self, pattern: &Pattern) -> bool {
        // Of the broker's own topics some have rules of their own.
        if pattern.as_str().starts_with('$') {
            return false;
        }
        let mut deciding = self.listed.iter().filter(|rule| rule.pattern.overlaps(pattern));
        let end =
            deciding.find(|rule| rule.subscribe != Who::Anyone || rule.pattern.covers(pattern));
        end.is_some_and(|rule| rule.subscribe == Who::Anyone)
    }

    /// Whether `pattern` may match a topic whose events are kept so.
    pub fn may_match(&self, pattern: &Pattern, storage: Storage) -> bool {
        for rule in self.all().filter(|rule| rule.pattern.overlaps(pattern)) {
            if rule.storage == storage {
                return true;
            }
            if rule.pattern.covers(pattern) {
                return false;
            }
        }
        let others = [&self.default, &self.revocations, &self.webhook_offsets, &self.notices];
        others.iter().any(|rule| rule.storage == storage)
    }
}

/// What is allowed on the topics of one pattern, and what is kept of each.
#[derive(Debug, Clone)]
pub struct Rule {
    /// The topics it is about.
    pub pattern: Pattern,
    /// Whose they are, where each belongs to a user.
    pub own: Option<Own>,
    /// Where events are kept.
    pub storage: Storage,
    /// The most events kept a topic.
    pub max_events: usize,
    /// The most bytes kept a topic, counted as for [`History::disk_bytes`].
    pub max_bytes: usize,
    /// The oldest event kept.
    pub max_age: Duration,
    /// Whether the newest event of a topic stays beyond that, and beyond the bytes of all topics.
    pub keep_newest: bool,
    /// Whether one may ask who is subscribed.
    pub presence: bool,
    /// Whether readers are told who sent what clients publish.
    pub from: bool,
    /// Who may subscribe.
    pub subscribe: Who,
    /// Which clients may publish.
    pub publish: Who,
}

impl Rule {
    /// Whether the newest event of a topic stays where it is kept so: not where events are kept elsewhere now.
    pub fn keeps_newest(&self, storage: Storage) -> bool {
        self.keep_newest && self.storage == storage
    }
}

/// Where the events of a topic are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Storage {
    /// On disk, for good.
    Disk,
    /// In memory, until the broker stops.
    Memory,
    /// In Redis, for all nodes.
    Redis,
    /// Nowhere: the topic is ephemeral.
    None,
}

/// Who may do a thing, beside applications with an API key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// Everyone.
    Anyone,
    /// Whoever has a token that grants it, and the user whose own it is.
    Own,
    /// Whoever has a token that grants it.
    Token,
    /// No one.
    Nobody,
}

/// The limits on what comes from outside. Each has its verdict beside it.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Open sessions of this node; one more gets 503 `unavailable` (SSE: `fanfare.bye`). At so many
    /// sockets, one that does nothing is closed for each that comes.
    pub connections: usize,
    /// Of both, from one address. 0 for any number, as below.
    pub connections_per_address: usize,
    /// Of those, of one user; one more gets 503, or `unavailable`.
    pub connections_per_user: usize,
    /// Connections a second from one address; one more gets 503.
    pub connects_per_second: usize,
    /// Messages a second of one connection; more closes with 4429.
    pub messages_per_second: usize,
    /// Bytes of them; more closes with 4429.
    pub bytes_per_second: usize,
    /// Patterns a session; one more gets `too_many`.
    pub subscriptions: usize,
    /// Replays of one session at a time; one more gets `too_many`.
    pub replays: usize,
    /// Events that `last` or `tail` of a subscribe come to; more get `too_many`.
    pub last_events: usize,
    /// Data of an event in bytes of JSON; more gets 413 or `too_large`.
    pub event_bytes: usize,
    /// Body of a batch in bytes; more gets 413.
    pub batch_bytes: usize,
    /// Events a batch; more gets 413.
    pub batch_events: usize,
    /// Depth of arrays and objects in data; more gets 422 or `invalid_event`.
    pub json_depth: usize,
    /// WebSocket message in bytes; more closes with 1009.
    pub message_bytes: usize,
    /// Frames a WebSocket message may come in; more closes with 1009.
    pub message_fragments: usize,
    /// Bytes kept of what clients sent compressed, for all connections; without room a client gets no compression.
    pub inflate_bytes: usize,
    /// Bad messages of a session in a row; more closes with 4400.
    pub bad_messages: usize,
    /// Bytes that wait for one client; more closes with 4409.
    pub outbox_bytes: usize,
    /// Bytes of live events held while a replay runs; more are read from the history again.
    pub catchup_bytes: usize,
    /// Bytes of newest events that wait for one client in mode `latest`; more closes with 4409.
    pub conflated_bytes: usize,
    /// Events that wait for one worker thread; publishers wait, then get 503 `unavailable`.
    pub inbox_events: usize,
    /// Time a session may stay without a credential where one is needed; then closes with 4401.
    pub auth_timeout: Duration,
    /// Time a WebSocket client has to answer our close frame; then the connection is cut.
    pub close_timeout: Duration,
    /// Time data may wait in the kernel without the client's acknowledgement; then it is cut.
    pub stall_timeout: Duration,
    /// Bytes that the kernel takes for a client that does not read yet.
    pub send_buffer_bytes: usize,
    /// Time to send the head of a request; then 408.
    pub request_timeout: Duration,
    /// Time to send the body of a request; then 408.
    pub body_timeout: Duration,
    /// Bytes of all bodies that are being read; more get 503 `unavailable`.
    pub bodies_bytes: usize,
    /// Of those, from one address; more get 429 `too_many`.
    pub bodies_bytes_per_address: usize,
    /// Time to agree upon TLS; then the connection is cut.
    pub handshake_timeout: Duration,
    /// Requests open at a time on one connection of HTTP/2; one more is refused by a reset.
    pub http2_streams: usize,
}

impl Limits {
    /// The sockets that there may be where `limit` are to be used: a tenth more, for who publishes and
    /// who is refused while sessions take all of the others.
    pub fn with_spare(limit: usize) -> usize {
        limit.saturating_add((limit / 10).max(Self::LEAST_SPARE))
    }

    /// The fewest sockets that are spare.
    const LEAST_SPARE: usize = 16;
}

/// What is logged, and how.
#[derive(Debug, Clone)]
pub struct Log {
    /// A `tracing` filter such as `info` or `fanfare=debug,actix=warn`.
    pub filter: String,
    /// The form of a line.
    pub format: LogFormat,
}

/// The form of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}
