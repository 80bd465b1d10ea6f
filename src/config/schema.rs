//! What can be typed: every section and key with its form, its default and its meaning.
//!
//! The one place that knows them. From this table come the defaults, the names in files, in the
//! environment and on the command line, `fanfare.example.toml` and `docs/configuration.md`; what the
//! values mean together is decided in `check`.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

pub use super::key::Key;
use super::key::{entry, key, sections, typed};
use super::log::LogFormat;
use super::ratio::Ratio;
use super::rules::Who;
use super::server::ProxyHeaders;
use super::value::{Hidden, Size, Span, Value};
use super::words::Medium;

const fn seconds(seconds: u64) -> Span {
    Span(Duration::from_secs(seconds))
}

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;
const GIB: usize = 1 << 30;

sections! {
    /// Where and how to serve.
    server: Server {
        /// The address to serve on; port 0 takes a free one. Addresses beyond this machine need a
        /// credential in `[auth]`.
        listen: SocketAddr = SocketAddr::from((Ipv4Addr::LOCALHOST, 8080));
        /// An address of their own for operators and publishers, such as `127.0.0.1:9090`, without TLS. It
        /// serves everything; the one of `listen` then serves neither the console, the sessions, the
        /// metrics nor publishing by `POST`. Addresses beyond this machine need a credential.
        internal_listen: Option<SocketAddr> = None;
        /// Origins of the pages that may connect from a browser, beside those of the broker's own
        /// address: `["https://dashboard.example"]`. Without credentials, pages of this machine pass
        /// too, on whatever port.
        allowed_origins: Vec<String> = Vec::new();
        /// Threads that serve connections; 0 means one a processor.
        workers: usize = 0;
        /// How long a connection without a request is kept, 1s to 1h. Longer than clients and proxies that reuse theirs
        /// keep it, or they send requests into its end.
        keep_alive: Span = seconds(90);
        /// Time between heartbeats on a WebSocket, 1s to 5m; a client that is silent for two of them is cut off.
        heartbeat: Span = seconds(25);
        /// Time between heartbeats on an event stream, 1s to 5m. Some readers take a stream for dead that is
        /// silent for longer.
        stream_heartbeat: Span = seconds(15);
        /// What a client gets leaves at once, unless something left for it just before: then it
        /// gathers for up to this time and leaves together. At most 100ms; 0s holds nothing back.
        flush_interval: Span = Span(Duration::from_millis(1));
        /// Whether messages are compressed for WebSocket clients that offer it (permessage-deflate,
        /// RFC 7692), as browsers do.
        compression: bool = true;
        /// The shortest message that is compressed; shorter ones gain too little.
        compression_bytes: Size = Size(512);
        /// The certificate to serve HTTPS and WSS with, as PEM, followed by those that stand between it
        /// and a known authority. Read again when it changes.
        tls_certificate: Option<PathBuf> = None;
        /// The private key of the certificate, as PEM, without a password.
        tls_key: Option<PathBuf> = None;
        /// What all nodes share so that clients resume their TLS sessions on any of them, and after a restart: at
        /// least 32 random bytes. Without it they resume where they were, until the broker restarts. Bytes that are
        /// no text are written as `base64:` and their base64.
        tls_resumption_secret: Option<Hidden> = None;
        /// Reverse proxies that stand before the broker, as addresses or networks such as
        /// `10.0.0.0/8`. What they say of a client (its address, and the scheme and host it asked for)
        /// is believed; what others say is not.
        trusted_proxies: Vec<String> = Vec::new();
        /// How the proxies say it: `"x-forwarded"` (`X-Forwarded-For`, `-Proto` and `-Host`) or
        /// `"forwarded"` (RFC 7239). They must set these headers, for one that they pass on untouched
        /// is the client's.
        proxy_headers: ProxyHeaders = ProxyHeaders::XForwarded;
        /// Whether the `traceparent` of a publish over HTTP (W3C Trace Context) is given to the readers of its events, as
        /// `trace`. Every one of them then sees it.
        trace_context: bool = false;
        /// How long a stop serves on before anything else, at most 10m: `/health/ready` says 503, so that balancers
        /// send nobody new, and clients are told to go elsewhere, evenly over this time. Set it behind a
        /// balancer, to more than it needs to notice. 0s for a broker to which clients come straight.
        shutdown_delay: Span = seconds(0);
        /// How long a stop takes at most, after that, to say good-bye to every client.
        shutdown_grace: Span = seconds(5);
    }

    /// Who is known. With nothing set, everyone who reaches the broker may publish and subscribe.
    auth: Auth {
        /// Keys with full rights for publishing applications, 16 random bytes or more each: the key
        /// itself, or `sha256:` and its SHA-256 hash as 64 hexadecimal digits.
        api_keys: Vec<Hidden> = Vec::new();
        /// The secret that subscribers' tokens (JSON Web Tokens) are signed with: at least 32 bytes
        /// for HS256, 48 for HS384 too, 64 for HS512 too. Bytes that are no text are written as
        /// `base64:` and their base64.
        jwt_secret: Option<Hidden> = None;
        /// The public keys of who signs tokens, as PEM, one behind the other: RSA (RS256 to RS512,
        /// PS256 to PS512), P-256 (ES256), P-384 (ES384) or Ed25519 (EdDSA). Line breaks may be
        /// written as `\n`.
        jwt_public_key: Option<String> = None;
        /// Where who signs tokens publishes the public keys, as a JSON Web Key Set (RFC 7517): https,
        /// or http on this machine.
        jwks_url: Option<String> = None;
        /// How old fetched keys may become before they are fetched again, 5s to 1d. A token with a
        /// key that is not known has them fetched at once, at most every 5s.
        jwks_refresh: Span = seconds(600);
        /// How long fetched keys stay in force while they can't be fetched again, at most 7d.
        jwks_keep: Span = seconds(86_400);
        /// The `iss` that a token must have.
        issuer: Option<String> = None;
        /// The `aud` that a token must have.
        audience: Option<String> = None;
        /// How far the clocks of who signs tokens and of the broker may differ, at most 5m.
        leeway: Span = seconds(30);
        /// The name of a cookie that may hold a subscriber's token: best one that begins with `__Host-`. It
        /// counts where the browser says that a page of the broker's own origin or of
        /// `server.allowed_origins` asks, and no other credential comes with the request.
        cookie: Option<String> = None;
        /// How long it is remembered that a token was revoked, 1s to 365d. No token should live
        /// longer.
        revocation_window: Span = seconds(86_400);
        /// The most users and tokens that are revoked at a time; one more is refused with 429 `too_many`.
        /// Who is revoked again is stored again, up to four times as many in all; then likewise.
        revocations: usize = 10_000;
        /// Events that may be published a second with one API key or by one user, and as many at once; more
        /// is answered 429 `too_many`. 0 for any number.
        publishes_per_second: usize = 0;
        /// The most tickets that wait to be used; one more is refused with 429 `too_many`.
        tickets: usize = 100_000;
    }

    /// What is kept, so that a client can resume. A rule in `[[topics]]` may say otherwise.
    history: History {
        /// The data directory, made if need be; one process at a time may use it.
        path: PathBuf = "./fanfare-data".into();
        /// Where events are kept: `"disk"` (the default), `"memory"` (until the broker stops) or
        /// `"none"`; in cluster mode `"redis"` (the default there) or `"none"`.
        storage: Option<Medium> = None;
        /// Whether a publish is acknowledged only once the disk itself has it. Without, the newest
        /// acknowledged events may be lost with the power, but not with the process.
        fsync: bool = true;
        /// The most events kept of a topic.
        max_events: usize = 100_000;
        /// The most bytes kept of a topic; an event counts as its data, its address and 256 bytes.
        max_bytes: Size = Size(64 * MIB);
        /// The oldest event kept.
        max_age: Span = seconds(24 * 3_600);
        /// Whether the newest event of a topic, which is its current value, stays beyond `max_age` and beyond
        /// the bytes of all topics together, until it is removed or replaced.
        keep_newest: bool = true;
        /// The most values that stay so, of all topics together; at one more the oldest goes.
        newest_topics: usize = 100_000;
        /// The most bytes of them, beside `disk_bytes`, `memory_bytes` and `redis_bytes`; the oldest goes.
        newest_bytes: Size = Size(64 * MIB);
        /// The most bytes kept on disk of all topics together, beside what the broker itself has to know:
        /// revocations, and how far webhooks got. Counted are events, as in `max_bytes`, and what the
        /// files really take, with SQLite's log.
        disk_bytes: Size = Size(8 * GIB);
        /// Bytes of the disk that are kept back, so that removals work when it is full; at most an eighth of the
        /// file system. Where they are not there, publishes are answered 503 `storage_full`. 0 for none.
        reserve_bytes: Size = Size(16 * MIB);
        /// The most bytes of SQLite's log while another process, such as a shell or a backup, keeps it from
        /// being emptied; then publishes are answered 503 `unavailable`.
        wal_bytes: Size = Size(256 * MIB);
        /// The most bytes kept in memory of all topics together, likewise.
        memory_bytes: Size = Size(256 * MIB);
        /// The most bytes kept in Redis of all topics together, likewise.
        redis_bytes: Size = Size(GIB);
        /// The most bytes of copies in memory by which clients that come back are answered without reading the
        /// log: half for the newest events, a quarter for current values that were asked for lately, each counted
        /// with what is noted beside it, and a quarter for what events become on the wire, shared out among the
        /// worker threads. A node behind Redis has `redis.recent_bytes` for its newest events instead of that half. 0
        /// for none.
        at_hand_bytes: Size = Size(32 * MIB);
        /// The most bytes of events that wait for the disk or for Redis; a publish beyond them is
        /// answered 503.
        pending_bytes: Size = Size(64 * MIB);
        /// How long a publish waits for the disk; then it is answered 503 `outcome_unknown`.
        commit_timeout: Span = seconds(10);
        /// How long an `Idempotency-Key` is remembered, at most 7d.
        idempotency_window: Span = seconds(86_400);
        /// The most results remembered at once, one an event (in Redis one a key). Where more come the oldest
        /// are forgotten before their window is over, but none within 10 minutes: then a publish with a new
        /// key is answered 429.
        idempotency_keys: usize = 200_000;
    }

    /// Cluster mode: with a `url`, every node with the same Redis, database and prefix is part of one broker.
    redis: Redis {
        /// The Redis (7 or newer, or Valkey) that the nodes share, such as `redis://127.0.0.1:6379`,
        /// `rediss://user:password@redis.example:6380` (TLS) or `redis+unix:///run/redis.sock`.
        url: Option<Hidden> = None;
        /// Sentinels that know where the master is: `["redis://10.0.0.1:26379"]`. The host of `url` is
        /// then the name under which they know it: `redis://mymaster`.
        sentinels: Vec<Hidden> = Vec::new();
        /// More servers of a Redis Cluster, asked where the log is when the one of `url` is away. That it
        /// is a cluster shows by itself.
        seeds: Vec<Hidden> = Vec::new();
        /// What the names of all keys and channels in Redis begin with. Several installations in one Redis have
        /// one each.
        prefix: String = "fanfare".into();
        /// How many replicas must have an event before its publish is acknowledged (`WAIT`); with fewer
        /// it is answered 503 `outcome_unknown`. This narrows what a failover can lose, and promises
        /// nothing.
        wait_replicas: usize = 0;
        /// The most bytes of the newest events that a node keeps of the log, by which clients that were
        /// away for a moment are caught up without reading events from Redis. 0 for none.
        recent_bytes: Size = Size(16 * MIB);
    }

    /// The limits on what comes from outside, and what happens at each.
    limits: Limits {
        /// Sessions of subscribers; one more is answered 503. Sockets too, of whatever kind: at one more
        /// the one that has done nothing for longest is closed, first of those on which no request was
        /// ever answered; where all are busy there may be a tenth more (at least 16), to publish and to
        /// be refused on.
        connections: usize = 10_000;
        /// Of those, from one address (of IPv6, from one /64), sessions and sockets alike. 0 for as many
        /// as there may be. Set it where clients have addresses of their own.
        connections_per_address: usize = 0;
        /// Of those, of one user; one more is answered 503, or its `auth` refused. 0 for as many as
        /// there may be.
        connections_per_user: usize = 1_000;
        /// Connections that may come a second from one address, and as many at once; one more is
        /// answered 503. 0 for any number.
        connects_per_second: usize = 0;
        /// Messages that may come a second on one connection, and as many at once; more closes with
        /// 4429. 0 for any number.
        messages_per_second: usize = 20_000;
        /// Their bytes, likewise.
        bytes_per_second: Size = Size(16 * MIB);
        /// Patterns a connection; one more is refused with `too_many`.
        subscriptions: usize = 1_000;
        /// Replays that run at a time on one connection; one more is refused with `too_many`.
        replays: usize = 8;
        /// Events that `last` of a subscribe may come to over all topics, or `tail` ask for; more are refused with
        /// `too_many`.
        last_events: usize = 10_000;
        /// Values that may be bound to one session (`bound`); one more is refused with `too_many`.
        bound_topics: usize = 1_000;
        /// Time that the values of a session stay which was cut, so that its client may come back and publish them anew. Where
        /// the client closed, or the broker ended the session for good, they end at once.
        bound_linger: Span = seconds(5);
        /// Data of an event, as JSON; more is answered 413. The default leaves room for all that stands around it
        /// within 64 KiB, more than which many clients don't take without being told to.
        event_bytes: Size = Size(56 * KIB);
        /// Body of a batch; more is answered 413. At least `event_bytes`.
        batch_bytes: Size = Size(8 * MIB);
        /// Events a batch; more are answered 413.
        batch_events: usize = 10_000;
        /// Depth of arrays and objects in data; more is answered 422.
        json_depth: usize = 64;
        /// A message from a WebSocket client, also once inflated; more closes with 1009. At least
        /// `event_bytes`. The body of `POST /v1/sse` too; there more is answered 413.
        message_bytes: Size = Size(128 * KIB);
        /// Frames that a WebSocket message may come in; more closes with 1009.
        message_fragments: usize = 1_024;
        /// Requests in one message, in languages whose messages hold several; more are refused, and none of
        /// them is done. The broker's own messages hold one.
        message_requests: usize = 100;
        /// Bytes that are kept of what clients sent compressed, of all connections together, because their next
        /// messages refer to them: 1 KiB or 32 KiB each, as the client's library can. Where there are none left,
        /// who comes then is agreed upon no compression with.
        inflate_bytes: Size = Size(32 * MIB);
        /// Bad messages in a row; more closes with 4400.
        bad_messages: usize = 10;
        /// Bytes that wait for one client; more closes with 4409.
        outbox_bytes: Size = Size(MIB);
        /// Bytes of live events held while a replay runs; more are read from the history again.
        catchup_bytes: Size = Size(MIB);
        /// Bytes of newest events that wait for one client in mode `latest`, counted as their history does;
        /// more closes with 4409.
        conflated_bytes: Size = Size(16 * MIB);
        /// Events that wait for one worker thread; publishers wait, then are answered 503.
        inbox_events: usize = 65_536;
        /// Time that a connection may stay without the credential it needs; then closes with 4401.
        auth_timeout: Span = seconds(10);
        /// Time that a client has to answer a close frame; then the connection is cut.
        close_timeout: Span = seconds(5);
        /// Time that data may wait in the kernel for a client to take it; then the connection is
        /// cut.
        stall_timeout: Span = seconds(30);
        /// Bytes that the kernel takes for a client that does not read yet; it keeps about twice as much
        /// memory for them.
        send_buffer_bytes: Size = Size(256 * KIB);
        /// Time to send the head of a request; then 408.
        request_timeout: Span = seconds(10);
        /// Time to send the body of a request; then 408.
        body_timeout: Span = seconds(30);
        /// Bytes of all bodies of requests together that are being read; more are answered 503. At least
        /// `batch_bytes` in any case.
        bodies_bytes: Size = Size(64 * MIB);
        /// Of those, from one address (of IPv6, from one /64); more are answered 429. At least
        /// `batch_bytes` in any case.
        bodies_bytes_per_address: Size = Size(16 * MIB);
        /// Time to agree upon TLS; then the connection is cut.
        handshake_timeout: Span = seconds(5);
        /// Requests that are open at a time on one connection of HTTP/2, event streams among them;
        /// one more is refused by a reset.
        http2_streams: usize = 100;
    }

    /// What the broker says about itself, as events of its own; a webhook turns on what it wants.
    notices: Notices {
        /// Whether sessions that begin and end are told of.
        sessions: bool = false;
        /// Whether topics that get their first subscriber by name, and lose the last, are told of.
        topics: bool = false;
        /// Whether who subscribes to a topic by name, and who does so no longer, is told on
        /// `$presence.` and the topic, where its rule has `presence`.
        presence: bool = true;
    }

    /// What is logged on standard error, and how. A line that can't be written is lost and counted.
    log: Log {
        /// How much: `error`, `warn`, `info`, `debug`, `trace`, or by module as in
        /// `info,fanfare=debug`.
        filter: String = "info,actix_http=off,actix_server=warn".into();
        /// The form of a line: `"text"` for people, `"json"` for programs.
        format: LogFormat = LogFormat::Text;
    }

    /// Traces of publishes (OpenTelemetry), off without an `endpoint`; they need a binary built with `--features otlp`.
    traces: Traces {
        /// Where spans are posted to, by OTLP over HTTP as JSON: the whole URL, such as
        /// `http://127.0.0.1:4318/v1/traces`.
        endpoint: Option<Hidden> = None;
        /// Headers to post them with: `["authorization: Bearer abc"]`.
        headers: Vec<Hidden> = Vec::new();
        /// What part of the publishes that come without a `traceparent` is traced, from 0 to 1. One that comes with it is
        /// traced where it says that its trace is recorded, and only there.
        sample: Ratio = Ratio(0.01);
        /// The most publishes that are traced a second, and as many at once, whoever asks for it; others pass
        /// untraced, counted. 0 for any number.
        per_second: usize = 100;
        /// The most finished spans that wait for the collector; more are dropped and counted.
        queue: usize = 4_096;
        /// How long the collector may take to answer, 100ms to 1m; then the spans are posted again.
        timeout: Span = seconds(10);
        /// What the broker is called in traces (`service.name`).
        service: String = "fanfare".into();
        /// Whether spans say the topic of their event. Without, they say the pattern of the rule that the topic falls
        /// under, for a topic may name a person.
        topics: bool = false;
    }

    [
        /// The rules about topics, in their order.
        topics: Rule;
        /// What an application's own Redis feeds.
        ingress_redis: RedisSource;
        /// The API keys with some rights, in their order.
        auth_keys: ApiKey;
        /// Where notices are posted to.
        webhooks: Webhook;
    ]
}

entry! {
    " What is allowed on the topics of one pattern, and what is kept of each." "topics" Rule RULE_KEYS:
    /// The topics it is about: a pattern such as `"orders.>"`. Required. A segment `{sub}`, as in
    /// `"users.{sub}.>"`, stands for a user, to whom these topics belong: see `"own"`. `{session}` stands for a
    /// WebSocket session with a credential.
    pattern("match"): Option<String> = None;
    /// Where events are kept, as `history.storage`; `"none"` makes the topics ephemeral.
    history("history"): Option<Medium> = None;
    /// The most events kept of a topic.
    max_events("max_events"): Option<usize> = None;
    /// The most bytes kept of a topic.
    max_bytes("max_bytes"): Option<Size> = None;
    /// The oldest event kept.
    max_age("max_age"): Option<Span> = None;
    /// Whether the newest event of a topic stays beyond that, as `history.keep_newest`.
    keep_newest("keep_newest"): Option<bool> = None;
    /// Whether one may ask who is subscribed.
    presence("presence"): bool = false;
    /// Whether readers are told who sent what clients publish (`from`): the user of the token, which is often
    /// an e-mail address, and the session.
    from("from"): bool = true;
    /// Who may subscribe, beside applications with an API key: `"anyone"`, `"token"` (who has a
    /// token that grants it), `"own"` (beside them, the user to whom the topic belongs) or `"nobody"`.
    /// `"token"` if not set; with `{sub}` in `match`, `"own"`.
    subscribe("subscribe"): Option<Who> = None;
    /// Who may publish, beside applications with an API key, as with `subscribe`. `"token"` if not set, with
    /// `{sub}` too.
    publish("publish"): Option<Who> = None;
}

entry! {
    " A channel or stream of an application's own Redis that feeds events."
    "ingress.redis" RedisSource REDIS_SOURCE_KEYS:
    /// The application's Redis; the one of `[redis]` if not set.
    url("url"): Option<Hidden> = None;
    /// A channel, or channels by a pattern of Redis: `"orders:*"`.
    channel("channel"): Option<String> = None;
    /// A stream, read at least once, in its order.
    stream("stream"): Option<String> = None;
    /// The topic of the events. `{name}` in it is the name of the channel or stream, with `.` for `:`
    /// and `/`. Required.
    topic("topic"): Option<String> = None;
    /// The type of the events.
    kind("type"): Option<String> = None;
    /// The field of a stream's entry that is the data; without it, all fields as a JSON object of texts.
    field("field"): Option<String> = None;
    /// The field of a stream's entry, or the member of a channel's JSON object, that is its idempotency key, as
    /// `Idempotency-Key` is that of a request; what has none is published without.
    key("key"): Option<String> = None;
    /// The API key whose idempotency keys these are too, so that what it published over HTTP or WebSocket is not
    /// published again from here. Without it they are those of who has no credential on an open broker.
    api_key("api_key"): Option<Hidden> = None;
    /// The consumer group that reads a stream. Made where it is missing, to begin with the oldest entry.
    group("group"): String = "fanfare".into();
}

entry! {
    " An API key with some rights." "auth.keys" ApiKey API_KEY_KEYS:
    /// What the key is called in the log and in refusals. Required.
    name("name"): Option<String> = None;
    /// The key itself, or `sha256:` and its SHA-256 hash, as `fanfare token key` makes them. Required.
    key("key"): Option<Hidden> = None;
    /// Patterns that it may publish to.
    publish("publish"): Vec<String> = Vec::new();
    /// Patterns that it may subscribe to, and whose history it may read.
    subscribe("subscribe"): Vec<String> = Vec::new();
    /// Whether it may see and end sessions, see who is present, and forget histories.
    admin("admin"): bool = false;
}

entry! {
    " An application that notices are posted to." "webhooks" Webhook WEBHOOK_KEYS:
    /// What it is called in the log and in the history: a segment of a topic. Required.
    name("name"): Option<String> = None;
    /// Where notices are posted to. Required.
    url("url"): Option<Hidden> = None;
    /// What they are signed with: `whsec_` and 24 to 64 random bytes in base64. Required.
    secret("secret"): Option<Hidden> = None;
    /// Which: `"session.connected"`, `"session.disconnected"`, `"topic.occupied"`, `"topic.vacated"`,
    /// `"presence.joined"`, `"presence.left"`; all of them if there are none here.
    events("events"): Vec<String> = Vec::new();
    /// Patterns of the topics that notices are to be about; about all if there are none here.
    topics("topics"): Vec<String> = Vec::new();
}

#[cfg(test)]
mod tests;
