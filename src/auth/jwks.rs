//! Where keys are published, and what is known of them.
//!
//! Keys are fetched when a token first needs them, again once they are old, and on a token with an
//! unknown key, but never more often than [`LEAST_BETWEEN`]: whoever makes up key names costs the
//! issuer nothing. While the issuer does not answer, what is known stays in force for a stated time.

use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant};

use tokio::sync::Mutex;
use tracing::{info, warn};

use super::key_set::KeySet;
use crate::clock::within;
use crate::config;
use crate::panics::{contained, read, write};
use crate::trust;

/// The shortest time between two fetches.
pub(super) const LEAST_BETWEEN: Duration = Duration::from_secs(5);

/// How long the issuer may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// The longest document, in bytes.
const MAX_BYTES: usize = 256 * 1024;

/// Keys that an issuer publishes.
#[derive(Debug)]
pub struct Jwks {
    at: config::Jwks,
    known: RwLock<Option<Known>>,
    answered: RwLock<Answered>,
    /// Since when an answer is waited for.
    asked: RwLock<Option<Instant>>,
    /// When it was last fetched, or tried to be. Held while that lasts.
    tried: Arc<Mutex<Option<Instant>>>,
}

#[derive(Debug, Clone)]
struct Known {
    keys: Arc<KeySet>,
    since: Instant,
}

/// What became of asking for keys, and since when it is so without a change.
#[derive(Debug, Clone)]
struct Answered {
    /// None while the issuer has not been asked.
    last: Option<Result<(), String>>,
    since: Instant,
}

/// How the issuer is, as far as it was asked.
#[derive(Debug, Clone)]
pub struct Issuer {
    /// What it answered last; None while it has not been asked.
    pub last: Option<Result<(), String>>,
    /// For how long that is so.
    pub lasts: Duration,
    /// For how long an answer is waited for; None while none is.
    pub waits: Option<Duration>,
    /// Whether keys of its are in force.
    pub has_keys: bool,
    /// How long ago those that are known were fetched.
    pub keys_age: Option<Duration>,
}

impl Jwks {
    /// Keys of which nothing is known yet.
    pub(super) fn new(at: config::Jwks) -> Self {
        let answered = RwLock::new(Answered { last: None, since: Instant::now() });
        let (known, asked) = Default::default();
        Self { at, known, answered, asked, tried: Arc::default() }
    }

    /// Whether these are the keys of that place.
    pub(super) fn is_at(&self, at: &config::Jwks) -> bool {
        self.at == *at
    }

    /// The keys that are in force; none where nothing is known that is young enough.
    pub(super) fn keys(&self) -> Option<Arc<KeySet>> {
        let known = read(&self.known).clone()?;
        (known.since.elapsed() < self.at.keep).then_some(known.keys)
    }

    /// How the issuer is.
    pub(super) fn issuer(&self) -> Issuer {
        let keys_age = read(&self.known).as_ref().map(|known| known.since.elapsed());
        let Answered { last, since } = read(&self.answered).clone();
        let waits = read(&self.asked).map(|since| since.elapsed());
        Issuer { last, lasts: since.elapsed(), waits, has_keys: self.keys().is_some(), keys_age }
    }

    /// Whether it is time to look whether the keys are others by now.
    pub(super) fn is_old(&self) -> bool {
        let known = read(&self.known);
        known.as_ref().is_none_or(|known| known.since.elapsed() >= self.at.refresh)
    }

    /// Fetches the keys, unless that was tried a moment ago. Whoever asks while others fetch gets
    /// what they get. It goes on where nobody waits for it any more, so that who asks and leaves costs the issuer
    /// no more than who stays.
    pub(super) async fn fetch(self: &Arc<Self>) {
        let asked = Instant::now();
        let mut tried = self.tried.clone().lock_owned().await;
        let is_recent = |tried: Instant| tried >= asked || tried.elapsed() < LEAST_BETWEEN;
        if tried.is_some_and(is_recent) {
            return;
        }
        let jwks = self.clone();
        let fetching = async move {
            jwks.fetch_now().await;
            *tried = Some(Instant::now());
        };
        // It ends by itself: the issuer has a time to answer in.
        _ = actix_rt::spawn(contained(Box::pin(fetching))).await;
    }

    async fn fetch_now(&self) {
        *write(&self.asked) = Some(Instant::now());
        let published = published_keys(&self.at).await;
        *write(&self.asked) = None;
        self.note(published.as_ref().map(|_| ()).map_err(String::clone));
        match published {
            Ok(keys) => {
                info!(url = %self.at.url, keys = keys.named(None).count(), "keys fetched");
                self.tell_of_left_out(&keys);
                let known = Known { keys: Arc::new(keys), since: Instant::now() };
                *write(&self.known) = Some(known);
            }
            Err(error) => warn!(url = %self.at.url, "keys for tokens can't be fetched: {error}"),
        }
    }

    fn note(&self, answer: Result<(), String>) {
        let mut answered = write(&self.answered);
        if answered.last.as_ref().is_none_or(|last| last.is_ok() != answer.is_ok()) {
            answered.since = Instant::now();
        }
        answered.last = Some(answer);
    }

    /// Names the keys that can't check a token, once for as long as they are the same.
    fn tell_of_left_out(&self, keys: &KeySet) {
        let known = read(&self.known);
        if known.as_ref().is_some_and(|known| known.keys.left_out() == keys.left_out()) {
            return;
        }
        for key in keys.left_out() {
            warn!(url = %self.at.url, "of the keys for tokens, {key}: no token that is signed with it is valid");
        }
    }
}

/// The keys that are published at a place, or why there are none.
pub async fn published_keys(at: &config::Jwks) -> Result<KeySet, String> {
    let document = within(PATIENCE, document(&at.url)).await;
    let document = document.unwrap_or_else(|_| Err("there is no answer in time".to_owned()))?;
    KeySet::parse(&document).map_err(|error| error.to_string())
}

async fn document(url: &str) -> Result<Vec<u8>, String> {
    let client = trust::client(PATIENCE, []).map_err(|error| error.to_string())?;
    let request = client.get(url).insert_header(("accept", "application/json"));
    let mut response = request.send().await.map_err(|error| trust::reason(&error))?;
    if !response.status().is_success() {
        return Err(format!("the answer is {}", response.status()));
    }
    let body = response.body().limit(MAX_BYTES).await;
    Ok(body.map_err(|error| error.to_string())?.to_vec())
}
