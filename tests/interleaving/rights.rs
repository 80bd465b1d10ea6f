//! Who may see what, as the operator of a run knows it: tokens, what became of them, and a topic
//! whose rule is opened and closed.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use aws_lc_rs::digest::{SHA256, digest};
use fanfare::clock::Clock;
use fanfare::config::{Config, Jwt, KeyHash, Rule, Storage, TokenKey, Who};
use fanfare::model::{Pattern, Topic};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, encode};
use serde_json::json;
use tokio::time::Instant;

/// A key with every right.
pub const API_KEY: &str = "an-api-key-for-the-maze";

/// All topics: two that tokens are for, one that is everyone's, one whose rule changes.
pub const TOPICS: [&str; 6] = ["eu.a", "eu.b", "us.a", "us.b", "open.a", "gate.a"];

/// How much later than its answer an operator's act may still be on its way to sessions.
pub const SETTLE: Duration = Duration::from_secs(1);

/// How far `exp` and the clock may be apart.
pub const LEEWAY: Duration = Duration::from_secs(5);

const SECRET: &[u8] = b"a secret of at least thirty-two bytes";

/// What the time is, to the broker and so to this test.
pub fn wall() -> SystemTime {
    CLOCK.with(|clock| clock.get().time())
}

/// The clock of a run that begins. Its time of day begins with a whole second, for tokens have no parts
/// of one.
pub fn begin() -> Clock {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a time");
    let second = SystemTime::UNIX_EPOCH + Duration::from_secs(now.as_secs());
    CLOCK.with(|clock| {
        clock.set(Clock::starting_at(second));
        clock.get()
    })
}

thread_local! {
    static CLOCK: Cell<Clock> = Cell::default();
}

/// Lets the time that [`wall`] tells go by.
pub async fn pass(time: Duration) {
    tokio::time::sleep(time).await;
}

/// A token.
#[derive(Debug)]
pub struct Credential {
    /// Its `jti`.
    pub id: String,
    /// As it is shown.
    pub token: String,
    /// What it grants.
    pub grants: Vec<Pattern>,
    /// Its `exp`.
    pub expires: SystemTime,
    /// From when on no session may have it.
    pub revoked: Cell<Option<Instant>>,
}

impl Credential {
    /// A token that expires so many seconds from now.
    pub fn new(user: &str, id: &str, grants: &[&str], seconds: i64) -> Rc<Self> {
        let since_1970 = wall().duration_since(SystemTime::UNIX_EPOCH).expect("a time").as_secs();
        let exp = since_1970.saturating_add_signed(seconds);
        let rights = json!({ "subscribe": grants, "publish": grants });
        let claims = json!({ "sub": user, "jti": id, "exp": exp, "fanfare": rights });
        let key = EncodingKey::from_secret(SECRET);
        Rc::new(Self {
            id: id.to_owned(),
            token: encode(&Header::default(), &claims, &key).expect("a token"),
            grants: grants.iter().map(|text| pattern(text)).collect(),
            expires: SystemTime::UNIX_EPOCH + Duration::from_secs(exp),
            revoked: Cell::new(None),
        })
    }

    /// Whether it may have given a right to a topic at a moment after `since`.
    pub fn may_see(&self, topic: &Topic, since: Instant) -> bool {
        let is_revoked = self.revoked.get().is_some_and(|at| at < since);
        !is_revoked && self.grants.iter().any(|pattern| pattern.matches(topic))
    }
}

/// When the changing rule lets everyone in.
#[derive(Debug, Default)]
pub struct Gate {
    /// From when to when it may have been open; the last may have no end.
    open: RefCell<Vec<(Instant, Option<Instant>)>>,
}

impl Gate {
    /// It is about to be opened.
    pub fn opens(&self) {
        let mut open = self.open.borrow_mut();
        match open.last_mut() {
            // It may not have been closed everywhere.
            Some((_, end)) if end.is_none_or(|end| end >= Instant::now()) => *end = None,
            _ => open.push((Instant::now(), None)),
        }
    }

    /// It was closed.
    pub fn closed(&self) {
        if let Some((_, end @ None)) = self.open.borrow_mut().last_mut() {
            *end = Some(Instant::now() + SETTLE);
        }
    }

    /// Whether it may have been open at a moment after `since`.
    pub fn may_have_been_open(&self, since: Instant) -> bool {
        let open = self.open.borrow();
        open.iter().any(|(_, end)| end.is_none_or(|end| end >= since))
    }
}

/// The configuration of a run.
pub fn config(gate_is_open: bool, max_user_connections: usize) -> Config {
    let mut config = Config::default();
    config.server.shutdown_grace = Duration::from_millis(200);
    config.server.flush_interval = Duration::ZERO;
    config.rules.default.storage = Storage::Memory;
    let rule = |name: &str, subscribe| Rule {
        pattern: pattern(name),
        subscribe,
        presence: true,
        ..config.rules.default.clone()
    };
    let gate = if gate_is_open { Who::Anyone } else { Who::Token };
    config.rules.listed =
        vec![rule("open.>", Who::Anyone), rule("gate.>", gate), rule(">", Who::Token)];
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, API_KEY.as_bytes()).as_ref());
    config.auth.api_keys = vec![KeyHash(hash)];
    let (algorithms, key) = (vec![Algorithm::HS256], DecodingKey::from_secret(SECRET));
    let keys = vec![TokenKey { algorithms, key }];
    let jwt = Jwt { keys, jwks: None, issuer: None, audience: None, leeway: LEEWAY };
    config.auth.jwt = Some(jwt);
    config.limits.connections_per_user = max_user_connections;
    config.limits.connects_per_second = 0;
    config.limits.messages_per_second = 0;
    config.limits.bytes_per_second = 0;
    config.limits.auth_timeout = Duration::from_secs(3600);
    config
}

/// A pattern that is known to be one.
pub fn pattern(text: &str) -> Pattern {
    Pattern::parse(text).expect("a pattern")
}
