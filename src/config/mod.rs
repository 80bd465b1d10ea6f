//! What the operator decided, checked and with units in its types.
//!
//! Two layers: [`schema`] is what was typed (file, environment, flags), this is what it means.
//! Everything inside the broker sees only this; secrets do not show themselves in `Debug`.

mod auth;
mod certificate;
mod changes;
mod check;
pub mod document;
mod history;
mod key;
mod limits;
mod load;
mod log;
mod notices;
mod origin;
mod own;
mod ratio;
mod redis;
mod resumption;
mod rules;
pub mod schema;
mod server;
mod token_keys;
mod traces;
mod value;
mod words;

pub use self::auth::{ApiKey, Auth, Jwks, Jwt, KeyHash, TokenKey};
pub use self::certificate::Certificate;
pub use self::changes::{KeptOtherwise, needs_restart};
pub use self::history::History;
pub use self::limits::Limits;
pub use self::load::{ConfigError, Loaded, Origin, Setting, Sources, load, load_with_origins};
pub use self::log::{Log, LogFormat};
pub use self::notices::{Notices, Webhook, WebhookSecret};
pub use self::own::{Lack, Own, Owner, is_segment};
pub use self::ratio::Ratio;
pub use self::redis::{Redis, RedisSource, SourceKeys, Tap};
pub use self::resumption::ResumptionSecret;
pub use self::rules::{Rule, Rules, Storage, Who};
pub use self::server::{ProxyHeaders, Server};
pub use self::token_keys::secret_bytes;
pub use self::traces::Traces;
pub use self::value::{Given, Hidden, Size, SizeError, Span, SpanError, Value};
pub use self::words::Medium;

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
    /// Where traces are exported to, if they are.
    pub traces: Option<Traces>,
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
        let traces = self.traces.iter().map(|traces| traces.endpoint.0.as_str());
        let mut urls = jwks.chain(webhooks).chain(redis).chain(traces);
        urls.any(|url| url.starts_with("https:") || url.starts_with("rediss:"))
    }
}
