//! What reads bytes from outside, one function each: must neither panic nor give what breaks its own rules.
//!
//! Run by `cargo fuzz` with coverage (see `README.md` here), and by `tests/fuzz.rs` over the kept corpus and
//! mutations of it.

use std::sync::{Arc, LazyLock};

use actix_web::http::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use bytes::BytesMut;
use fanfare::auth::{Auth, Caller, KeySet};
use fanfare::clock::Instant;
use fanfare::config::{self, Config, Limits, Sources};
use fanfare::http::Query;
use fanfare::ingress::{Batch, BodyFormat};
use fanfare::model::{Cursor, Pattern, Topic};
use fanfare::protocol::{ClientMessage, NATIVE, Op, ParseLimits, Request, Requests};
use fanfare::session::{Contexts, FrameLimits, FrameReader, Incoming, inflate};
use futures_util::FutureExt;

/// What reads some bytes.
pub type Target = fn(&[u8]);

/// All of them, by name.
pub const TARGETS: &[(&str, Target)] = &[
    ("addresses", addresses),
    ("json", json),
    ("cbor", cbor),
    ("frames", frames),
    ("inflate", inflated),
    ("batch", batch),
    ("body", body),
    ("query", query),
    ("config", configured),
    ("token", token),
    ("key_set", key_set),
];

static LIMITS: LazyLock<Limits> = LazyLock::new(|| {
    let limits = Config::default().limits;
    Limits { event_bytes: 1_024, batch_events: 8, json_depth: 8, ..limits }
});

/// Topics, patterns and cursors.
pub fn addresses(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let (first, second) = text.split_once(' ').unwrap_or((text, text));
    if let Ok(pattern) = Pattern::parse(first) {
        assert_eq!(pattern.as_str(), first);
        assert!(pattern.covers(&pattern) && pattern.overlaps(&pattern));
        if let Ok(topic) = Topic::parse(second) {
            let exact = Pattern::from(&topic);
            assert_eq!(pattern.matches(&topic), pattern.covers(&exact));
        }
    }
    if let Ok(cursor) = Cursor::parse(text) {
        assert_eq!(Cursor::parse(&cursor.to_string()).ok(), Some(cursor));
    }
}

fn parse(dialect: usize, message: ClientMessage<'_>) {
    let (json_depth, event_bytes, patterns, last_events, requests) = (8, 1_024, 4, 9, 1);
    let limits = ParseLimits { json_depth, event_bytes, patterns, last_events, requests };
    let (mut talk, mut asked) = ((NATIVE.entries[0].dialects[dialect].talk)(), Requests::new(1));
    let Ok(()) = talk.hear(message, &limits, Instant::now(), &mut asked) else { return };
    let [request] = asked.into_vec().try_into().expect("a message is one request");
    let Request { op, .. } = request;
    match op {
        Op::Subscribe(subscribe) => assert!((1..=4).contains(&subscribe.patterns.len())),
        Op::Unsubscribe { patterns } => assert!((1..=4).contains(&patterns.len())),
        Op::Publish { event, .. } => assert!(event.data.json().get().len() <= 1_024),
        Op::Auth { .. } | Op::Ping => {}
    }
}

/// What a client says in JSON.
pub fn json(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        parse(0, ClientMessage::Text(text));
    }
    parse(0, ClientMessage::Binary(bytes));
}

/// What a client says in CBOR.
pub fn cbor(bytes: &[u8]) {
    parse(1, ClientMessage::Binary(bytes));
}

/// WebSocket frames, which come in pieces; the first byte says how, and whether compressed ones may.
pub fn frames(bytes: &[u8]) {
    let Some((&how, bytes)) = bytes.split_first() else { return };
    let limits = FrameLimits { message_bytes: 4_096, message_fragments: 4, deflate: how & 1 == 1 };
    let context = Contexts::new(1 << 10).take(10).filter(|_| how & 2 == 2);
    let mut reader = FrameReader::new(limits).remembering(context);
    let mut buffer = BytesMut::new();
    for piece in bytes.chunks(usize::from(how >> 1) + 1) {
        buffer.extend_from_slice(piece);
        loop {
            match reader.next(&mut buffer) {
                Ok(Some(Incoming::Text(text))) => assert!(text.len() <= 4_096),
                Ok(Some(Incoming::Binary(payload))) => assert!(payload.len() <= 4_096),
                Ok(Some(Incoming::Ping(payload))) => assert!(payload.len() <= 125),
                Ok(Some(Incoming::Pong | Incoming::Close(_))) => {}
                Ok(None) => break,
                Err(_) => return,
            }
        }
        assert!(buffer.len() <= 4_096 + 14 + 128, "a frame that may not come is waited for");
    }
}

/// A compressed message.
pub fn inflated(bytes: &[u8]) {
    let mut context = Contexts::new(1 << 10).take(10);
    for context in [None, context.as_mut()] {
        if let Ok(message) = inflate(bytes.into(), 4_096, context) {
            assert!(message.len() <= 4_096);
        }
    }
}

/// Batches, in JSON and line by line.
pub fn batch(bytes: &[u8]) {
    for batch in [Batch::from_json(bytes, &LIMITS), Batch::from_lines(bytes, &LIMITS)] {
        let Ok(batch) = batch else { continue };
        assert!((1..=8).contains(&batch.events.len()));
        assert!(batch.events.iter().all(|event| event.data.json().get().len() <= 1_024));
    }
}

/// The body of one event; the first line is its content type.
pub fn body(bytes: &[u8]) {
    let line = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(0);
    let (content_type, body) = bytes.split_at(line);
    let mut headers = HeaderMap::new();
    if let Ok(content_type) = HeaderValue::from_bytes(content_type) {
        headers.insert(CONTENT_TYPE, content_type);
    }
    let Ok((form, _)) = BodyFormat::of(&headers) else { return };
    if let Ok((data, _)) = form.data(body.get(1..).unwrap_or_default(), &LIMITS) {
        let text = data.json().get();
        assert!(text.len() <= 1_024 && !text.contains(['\r', '\n']));
        assert!(serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok());
    }
}

/// Queries.
pub fn query(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(query) = Query::parse(text, &["topic", "since", "limit", "snapshot"]) else { return };
    assert!(query.all("topic").count() <= 1_024);
    if let Ok(limit) = query.limit("limit", 1, 100) {
        assert!((1..=100).contains(&limit));
    }
    _ = (query.flag("snapshot"), query.cursor("since"), query.topic("topic"));
}

/// Settings, one a line, as on the command line.
pub fn configured(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let sets: Vec<_> = text.lines().take(16).map(str::to_owned).collect();
    match config::load(&Sources { sets, ..Sources::default() }) {
        Ok(config) => assert!(!config.auth.is_open() || config.server.listen.ip().is_loopback()),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

static AUTH: LazyLock<Arc<Auth>> = LazyLock::new(|| {
    let sets = vec!["auth.jwt_secret=a secret of at least thirty-two bytes".to_owned()];
    let sources = Sources { sets, ..Sources::default() };
    let config = config::load(&sources).expect("a configuration");
    Arc::new(Auth::new(&config.auth, config.rules, Vec::new()))
});

/// Tokens. What is good is in the corpus; nothing else can be without its secret.
pub fn token(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let caller = AUTH.identify(Some(text)).now_or_never().expect("nothing to wait for");
    if let Ok(Caller::User(user)) = caller {
        assert_eq!(user.bearer.user, "ada", "a token was forged");
    }
}

/// Published keys.
pub fn key_set(bytes: &[u8]) {
    if let Ok(keys) = KeySet::parse(bytes) {
        assert!((1..=64).contains(&keys.named(None).count()));
        assert!(keys.named(None).all(|key| !key.algorithms.is_empty()));
    }
}
