//! From what was typed to what it means: values are checked by themselves and with each other.
//!
//! Always gives a whole configuration, so that everything that is wrong is found in one go; one with
//! complaints must not be used.

mod redis;
mod server;
mod webhooks;

use std::sync::Arc;
use std::time::Duration;

use actix_web::http::Uri;
use aws_lc_rs::digest::{SHA256, digest};

use super::schema::{self, Typed};
use super::value::{Hidden, Medium, Size, Span};
use super::{
    ApiKey, Auth, Certificate, Config, History, Jwks, Jwt, KeyHash, Limits, Log, Own, Rule, Rules,
    Storage, Who, token_keys,
};
use crate::model::{Pattern, Topic};

/// An API key with fewer bytes is warned of: 16 random characters of Base64 are 96 bits.
const STRONG_KEY_BYTES: usize = 16;

/// What is wrong with the value of a key. Never holds a secret.
#[derive(Debug)]
pub struct Complaint {
    /// The section and key, and the item of a list.
    pub key: String,
    /// What is wrong, and what would be right.
    pub message: String,
}

/// The complaints so far.
type Complaints = Vec<Complaint>;

fn complain(complaints: &mut Complaints, key: &str, message: impl Into<String>) {
    complaints.push(Complaint { key: key.to_owned(), message: message.into() });
}

impl Default for Config {
    /// The checked defaults: loopback, open, everything bounded.
    fn default() -> Self {
        check(&Typed::default(), &mut Vec::new()).0
    }
}

/// Gives what was typed its meaning, with warnings about what is probably not meant.
pub fn check(typed: &Typed, complaints: &mut Complaints) -> (Config, Vec<String>) {
    let webhooks = webhooks::webhooks(typed, complaints);
    let config = Config {
        server: server::server(&typed.server, complaints),
        auth: auth(typed, complaints),
        history: history(&typed.history, &typed.limits, complaints),
        redis: redis::redis(&typed.redis, complaints),
        sources: redis::sources(typed, complaints),
        rules: rules(typed, complaints),
        notices: webhooks::notices(&typed.notices, &webhooks),
        webhooks,
        limits: limits(&typed.limits, complaints),
        log: log(&typed.log, complaints),
    };
    server::require_credentials(&config, complaints);
    let warnings = warnings(typed, &config);
    (config, warnings)
}

fn auth(typed: &Typed, complaints: &mut Complaints) -> Auth {
    let scoped_keys = typed.auth_keys.iter().enumerate();
    let scoped_keys = scoped_keys.filter_map(|(index, key)| api_key(index, key, complaints));
    let scoped_keys = scoped_keys.map(Arc::new).collect();
    let typed = &typed.auth;
    let mut api_keys = Vec::new();
    for (index, key) in typed.api_keys.iter().enumerate() {
        match key_hash(key) {
            Ok(hash) => api_keys.push(hash),
            Err(message) => complain(complaints, &format!("auth.api_keys[{index}]"), message),
        }
    }
    let mut keys = Vec::new();
    if let Some(secret) = &typed.jwt_secret {
        match token_keys::of_secret(secret) {
            Ok(key) => keys.push(key),
            Err(message) => complain(complaints, "auth.jwt_secret", message),
        }
    }
    if let Some(pem) = &typed.jwt_public_key {
        match token_keys::of_pem(pem) {
            Ok(public) => keys.extend(public),
            Err(message) => complain(complaints, "auth.jwt_public_key", message),
        }
    }
    let jwks = jwks(typed, complaints);
    let checks_tokens =
        typed.jwt_secret.is_some() || typed.jwt_public_key.is_some() || typed.jwks_url.is_some();
    for (key, value) in [
        ("auth.issuer", &typed.issuer),
        ("auth.audience", &typed.audience),
        ("auth.cookie", &typed.cookie),
    ] {
        if value.as_ref().is_some_and(String::is_empty) {
            complain(complaints, key, "is empty, which no token has");
        } else if value.is_some() && !checks_tokens {
            let message =
                "means nothing without auth.jwt_secret, auth.jwt_public_key or auth.jwks_url";
            complain(complaints, key, message);
        }
    }
    if typed.cookie.as_ref().is_some_and(|name| !is_cookie_name(name)) {
        let message = "must be the name of a cookie: letters, digits, `-`, `_` and `.`";
        complain(complaints, "auth.cookie", message);
    }
    let leeway = between(complaints, "auth.leeway", typed.leeway, 0, 300);
    let (issuer, audience) = (typed.issuer.clone(), typed.audience.clone());
    let jwt = checks_tokens.then_some(Jwt { keys, jwks, issuer, audience, leeway });
    let window = typed.revocation_window;
    at_least_one(complaints, "auth.revocations", typed.revocations);
    at_least_one(complaints, "auth.tickets", typed.tickets);
    Auth {
        api_keys,
        scoped_keys,
        jwt,
        cookie: typed.cookie.clone(),
        revocation_window: between(complaints, "auth.revocation_window", window, 1, YEAR),
        revocations: typed.revocations,
        publishes_per_second: typed.publishes_per_second,
        tickets: typed.tickets,
    }
}

/// Whether a cookie may be called so; of what RFC 6265 allows, what nobody has to escape.
fn is_cookie_name(name: &str) -> bool {
    !name.is_empty()
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

/// Where keys are published. Whoever could change them on the way could make tokens.
fn jwks(typed: &schema::Auth, complaints: &mut Complaints) -> Option<Jwks> {
    let refresh = between(complaints, "auth.jwks_refresh", typed.jwks_refresh, 5, DAY);
    let keep = between(complaints, "auth.jwks_keep", typed.jwks_keep, 1, WEEK);
    let url = typed.jwks_url.clone()?;
    let is_safe = url.parse::<Uri>().is_ok_and(|uri| match (uri.scheme_str(), uri.host()) {
        (Some("https"), Some(_)) => true,
        (Some("http"), Some(host)) => ["127.0.0.1", "[::1]", "localhost"].contains(&host),
        _ => false,
    });
    if !is_safe {
        let message = "must be an https:// URL, or http:// on 127.0.0.1, [::1] or localhost";
        complain(complaints, "auth.jwks_url", message);
    }
    Some(Jwks { url, refresh, keep })
}

fn api_key(index: usize, typed: &schema::ApiKey, complaints: &mut Complaints) -> Option<ApiKey> {
    let path = format!("auth.keys[{index}]");
    let name = typed.name.clone().filter(|name| !name.is_empty());
    if name.is_none() {
        complain(complaints, &path, "has no name");
    }
    let hash = match typed.key.as_ref().map(key_hash) {
        Some(Ok(hash)) => Some(hash),
        Some(Err(message)) => {
            complain(complaints, &format!("{path}.key"), message);
            None
        }
        None => {
            complain(complaints, &path, "has no key");
            None
        }
    };
    let mut patterns = |list: &str, texts: &[String]| {
        let parsed = texts.iter().enumerate().filter_map(|(at, text)| {
            let refused = |error| {
                let message = format!("{text:?} is not a pattern: {error}");
                complain(complaints, &format!("{path}.{list}[{at}]"), message);
            };
            Pattern::parse(text).map_err(refused).ok()
        });
        parsed.collect::<Vec<_>>()
    };
    let publish = patterns("publish", &typed.publish);
    let subscribe = patterns("subscribe", &typed.subscribe);
    if publish.is_empty() && subscribe.is_empty() && !typed.admin {
        complain(complaints, &path, "may do nothing: it needs publish, subscribe or admin");
    }
    Some(ApiKey { name: name?, hash: hash?, publish, subscribe, admin: typed.admin })
}

/// The hash of a key, from the key itself or from `sha256:HEX`.
fn key_hash(Hidden(key): &Hidden) -> Result<KeyHash, &'static str> {
    if let Some(hex) = key.strip_prefix("sha256:") {
        let hash = bytes_of_hex(hex).and_then(|bytes| bytes.try_into().ok());
        return hash.map(KeyHash).ok_or("has no 64 hexadecimal digits after `sha256:`");
    }
    if key.is_empty() {
        return Err("is empty");
    }
    if token_keys::is_path(key) {
        return Err("is the path of a file; the key itself belongs here");
    }
    if !key.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("has characters other than visible ASCII, which no header could carry");
    }
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, key.as_bytes()).as_ref());
    Ok(KeyHash(hash))
}

fn bytes_of_hex(hex: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let (pairs, rest) = hex.as_bytes().as_chunks::<2>();
    let bytes = pairs.iter().map(|&[high, low]| Some(digit(high)? << 4 | digit(low)?)).collect();
    if rest.is_empty() { bytes } else { None }
}

fn history(
    typed: &schema::History,
    limits: &schema::Limits,
    complaints: &mut Complaints,
) -> History {
    for (key, bytes) in [
        ("history.disk_bytes", typed.disk_bytes),
        ("history.wal_bytes", typed.wal_bytes),
        ("history.memory_bytes", typed.memory_bytes),
        ("history.redis_bytes", typed.redis_bytes),
        ("history.newest_bytes", typed.newest_bytes),
        ("history.pending_bytes", typed.pending_bytes),
    ] {
        at_least_one(complaints, key, bytes.0);
    }
    at_least_one(complaints, "history.newest_topics", typed.newest_topics);
    at_least_one(complaints, "history.idempotency_keys", typed.idempotency_keys);
    at_least_one(complaints, "limits.bound_topics", limits.bound_topics);
    History {
        path: typed.path.clone(),
        fsync: typed.fsync,
        disk_bytes: typed.disk_bytes.0,
        reserve_bytes: typed.reserve_bytes.0,
        wal_bytes: typed.wal_bytes.0,
        memory_bytes: typed.memory_bytes.0,
        redis_bytes: typed.redis_bytes.0,
        newest_topics: typed.newest_topics,
        newest_bytes: typed.newest_bytes.0,
        pending_bytes: typed.pending_bytes.0,
        commit_timeout: between(complaints, "history.commit_timeout", typed.commit_timeout, 1, 600),
        idempotency_window: between(
            complaints,
            "history.idempotency_window",
            typed.idempotency_window,
            1,
            WEEK,
        ),
        idempotency_keys: typed.idempotency_keys,
        bound_topics: limits.bound_topics,
        bound_linger: between(complaints, "limits.bound_linger", limits.bound_linger, 0, 3_600),
    }
}

fn rules(typed: &Typed, complaints: &mut Complaints) -> Rules {
    let history = &typed.history;
    let is_cluster = typed.redis.url.is_some();
    let usual = if is_cluster { Medium::Redis } else { Medium::Disk };
    let kept = Kept {
        is_cluster,
        storage: history.storage.unwrap_or(usual),
        max_events: history.max_events,
        max_bytes: history.max_bytes,
        max_age: history.max_age,
        keep_newest: history.keep_newest,
    };
    let storage_key = "history.storage";
    let default = kept.rule("history", storage_key, Pattern::everything(), complaints);
    let listed = typed.topics.iter().enumerate();
    let listed: Vec<_> = listed.map(|(at, rule)| kept.listed(at, rule, complaints)).collect();
    let is_on_disk = listed.iter().chain([&default]).any(|rule| rule.storage == Storage::Disk);
    let safest = match (is_cluster, is_on_disk) {
        (true, _) => Storage::Redis,
        (false, true) => Storage::Disk,
        (false, false) => Storage::Memory,
    };
    Rules {
        listed,
        revocations: revocations(&default, safest, &typed.auth),
        webhook_offsets: webhook_offsets(&default, safest),
        notices: notices(&default, safest, !typed.webhooks.is_empty()),
        default,
    }
}

/// What is kept of notices: enough for webhooks to be away for a while, and nothing where there are none.
fn notices(default: &Rule, safest: Storage, are_posted: bool) -> Rule {
    Rule {
        pattern: Pattern::everything(),
        storage: if are_posted { safest } else { Storage::None },
        max_events: 100_000,
        max_bytes: 64 << 20,
        max_age: Duration::from_secs(DAY),
        keep_newest: false,
        ..default.clone()
    }
}

/// What is kept of revocations: in the safest place there is, and as long as they are remembered. How many
/// there may be is looked at where they are made, for none that is in force may be removed.
fn revocations(default: &Rule, storage: Storage, auth: &schema::Auth) -> Rule {
    Rule {
        pattern: Pattern::from(&Topic::revocations()),
        storage,
        max_events: usize::MAX,
        max_bytes: usize::MAX,
        max_age: auth.revocation_window.0.max(Duration::from_secs(1)),
        keep_newest: false,
        subscribe: Who::Nobody,
        publish: Who::Nobody,
        ..default.clone()
    }
}

/// What is kept of how far webhooks got: the last steps of each, for good, in the safest place there is.
fn webhook_offsets(default: &Rule, storage: Storage) -> Rule {
    Rule {
        pattern: Pattern::everything(),
        storage,
        max_events: 1_000,
        max_bytes: usize::MAX,
        max_age: Duration::MAX,
        keep_newest: false,
        ..default.clone()
    }
}

/// What is kept of a topic, before it is checked.
#[derive(Clone, Copy)]
struct Kept {
    is_cluster: bool,
    storage: Medium,
    max_events: usize,
    max_bytes: Size,
    max_age: Span,
    keep_newest: bool,
}

impl Kept {
    /// A rule with these bounds, whose keys begin with `path`.
    fn rule(
        self,
        path: &str,
        storage_key: &str,
        pattern: Pattern,
        complaints: &mut Complaints,
    ) -> Rule {
        at_least_one(complaints, &format!("{path}.max_events"), self.max_events);
        at_least_one(complaints, &format!("{path}.max_bytes"), self.max_bytes.0);
        let max_age = between(complaints, &format!("{path}.max_age"), self.max_age, 1, CENTURY);
        let (pattern, own) = Own::split(pattern);
        Rule {
            pattern,
            own,
            storage: self.storage(storage_key, complaints),
            max_events: self.max_events,
            max_bytes: self.max_bytes.0,
            max_age,
            keep_newest: self.keep_newest,
            presence: false,
            from: true,
            subscribe: Who::Token,
            publish: Who::Token,
        }
    }

    fn storage(self, key: &str, complaints: &mut Complaints) -> Storage {
        match (self.storage, self.is_cluster) {
            (Medium::None, _) => return Storage::None,
            (Medium::Redis, true) => return Storage::Redis,
            (Medium::Disk, false) => return Storage::Disk,
            (Medium::Memory, false) => return Storage::Memory,
            (Medium::Redis, false) => complain(complaints, key, "\"redis\" needs redis.url"),
            (Medium::Disk | Medium::Memory, true) => {
                let message = "with redis.url, events are kept in Redis for all nodes: use \"redis\" \
                               or \"none\"";
                complain(complaints, key, message);
            }
        }
        Storage::None
    }

    /// A rule of `[[topics]]`, for which these are the defaults.
    fn listed(self, index: usize, typed: &schema::Rule, complaints: &mut Complaints) -> Rule {
        let path = format!("topics[{index}]");
        let pattern = match &typed.pattern {
            None => Err("is missing: a rule needs the pattern it is about".to_owned()),
            Some(text) => Pattern::parse(text).map_err(|error| format!("not a pattern: {error}")),
        };
        let pattern = pattern.unwrap_or_else(|message| {
            complain(complaints, &format!("{path}.match"), message);
            Pattern::everything()
        });
        let kept = Self {
            is_cluster: self.is_cluster,
            storage: typed.history.unwrap_or(self.storage),
            max_events: typed.max_events.unwrap_or(self.max_events),
            max_bytes: typed.max_bytes.unwrap_or(self.max_bytes),
            max_age: typed.max_age.unwrap_or(self.max_age),
            keep_newest: typed.keep_newest.unwrap_or(self.keep_newest),
        };
        let rule = kept.rule(&path, &format!("{path}.history"), pattern, complaints);
        for (key, who) in [("subscribe", typed.subscribe), ("publish", typed.publish)] {
            if who == Some(Who::Own) && rule.own.is_none() {
                let message = "\"own\" needs a segment {sub} or {session} in match";
                complain(complaints, &format!("{path}.{key}"), message);
            }
        }
        let usual = if rule.own.is_some() { Who::Own } else { Who::Token };
        let subscribe = typed.subscribe.unwrap_or(usual);
        let publish = typed.publish.unwrap_or(Who::Token);
        Rule { presence: typed.presence, from: typed.from, subscribe, publish, ..rule }
    }
}

fn limits(typed: &schema::Limits, complaints: &mut Complaints) -> Limits {
    let mut count = |name: &str, value: usize| {
        at_least_one(complaints, &format!("limits.{name}"), value);
        value
    };
    let event_bytes = count("event_bytes", typed.event_bytes.0);
    let batch_bytes = count("batch_bytes", typed.batch_bytes.0);
    let message_bytes = count("message_bytes", typed.message_bytes.0);
    let http2_streams = count("http2_streams", typed.http2_streams);
    let limits = Limits {
        connections: count("connections", typed.connections),
        connections_per_address: typed.connections_per_address,
        connections_per_user: typed.connections_per_user,
        connects_per_second: typed.connects_per_second,
        messages_per_second: typed.messages_per_second,
        bytes_per_second: typed.bytes_per_second.0,
        subscriptions: count("subscriptions", typed.subscriptions),
        replays: count("replays", typed.replays),
        last_events: count("last_events", typed.last_events),
        event_bytes,
        batch_bytes,
        batch_events: count("batch_events", typed.batch_events),
        json_depth: count("json_depth", typed.json_depth),
        message_bytes,
        message_fragments: count("message_fragments", typed.message_fragments),
        inflate_bytes: typed.inflate_bytes.0,
        bad_messages: count("bad_messages", typed.bad_messages),
        outbox_bytes: count("outbox_bytes", typed.outbox_bytes.0),
        catchup_bytes: count("catchup_bytes", typed.catchup_bytes.0),
        conflated_bytes: count("conflated_bytes", typed.conflated_bytes.0),
        inbox_events: count("inbox_events", typed.inbox_events),
        send_buffer_bytes: count("send_buffer_bytes", typed.send_buffer_bytes.0),
        auth_timeout: timeout(complaints, "auth_timeout", typed.auth_timeout),
        close_timeout: timeout(complaints, "close_timeout", typed.close_timeout),
        stall_timeout: timeout(complaints, "stall_timeout", typed.stall_timeout),
        request_timeout: timeout(complaints, "request_timeout", typed.request_timeout),
        body_timeout: timeout(complaints, "body_timeout", typed.body_timeout),
        // One body at a time is always taken.
        bodies_bytes: typed.bodies_bytes.0.max(batch_bytes),
        bodies_bytes_per_address: typed.bodies_bytes_per_address.0.max(batch_bytes),
        handshake_timeout: timeout(complaints, "handshake_timeout", typed.handshake_timeout),
        http2_streams,
    };
    for (key, bytes) in
        [("limits.batch_bytes", batch_bytes), ("limits.message_bytes", message_bytes)]
    {
        if bytes < event_bytes {
            let message = format!("must be at least limits.event_bytes, {}", Size(event_bytes));
            complain(complaints, key, message);
        }
    }
    limits
}

fn log(typed: &schema::Log, complaints: &mut Complaints) -> Log {
    if tracing_subscriber::EnvFilter::try_new(&typed.filter).is_err() {
        let message = "not a filter; write a level such as info, or info,fanfare=debug";
        complain(complaints, "log.filter", message);
    }
    Log { filter: typed.filter.clone(), format: typed.format }
}

const HOUR: u64 = 3_600;
const DAY: u64 = 24 * HOUR;
const YEAR: u64 = 365 * DAY;
const WEEK: u64 = 7 * DAY;
const CENTURY: u64 = 100 * 365 * 24 * HOUR;

/// Checks a duration against its bounds in seconds.
fn between(
    complaints: &mut Complaints,
    key: &str,
    Span(value): Span,
    least: u64,
    most: u64,
) -> Duration {
    let bound = |seconds| Span(Duration::from_secs(seconds));
    if value < bound(least).0 || value > bound(most).0 {
        complain(complaints, key, format!("must be from {} to {}", bound(least), bound(most)));
    }
    value
}

fn timeout(complaints: &mut Complaints, name: &str, Span(value): Span) -> Duration {
    let most = Span(Duration::from_secs(HOUR));
    if value.is_zero() || value > most.0 {
        let message = format!("must be more than 0s, and at most {most}");
        complain(complaints, &format!("limits.{name}"), message);
    }
    value
}

fn at_least_one(complaints: &mut Complaints, key: &str, value: usize) {
    if value == 0 {
        complain(complaints, key, "must be at least 1");
    }
}

fn warnings(typed: &Typed, config: &Config) -> Vec<String> {
    let mut warnings = Vec::new();
    if config.auth.is_open() {
        let beyond = match config.server.trusted_proxies.is_empty() {
            true => "",
            false => ", and so may everyone whom a proxy on it passes on",
        };
        warnings.push(format!(
            "open mode: no credentials are configured, so everyone on this machine may publish \
             and subscribe{beyond}"
        ));
    }
    for (index, Hidden(key)) in typed.auth.api_keys.iter().enumerate() {
        if key.len() < STRONG_KEY_BYTES {
            warnings.push(format!(
                "auth.api_keys[{index}] has fewer than {STRONG_KEY_BYTES} bytes, so few that it may \
                 be guessed"
            ));
        }
    }
    if let Some(bytes) = typed.auth.jwt_secret.as_ref().and_then(token_keys::looks_like_base64) {
        warnings.push(format!(
            "auth.jwt_secret looks like base64 of {bytes} bytes, and is taken as it stands: if who signs \
             tokens signs with those bytes (as jjwt does), write `base64:` before it"
        ));
    }
    if config.server.certificate.as_ref().is_some_and(Certificate::is_exposed) {
        warnings.push("server.tls_key may be read by every user of this machine".to_owned());
    }
    warnings.extend(server::without_tls(config));
    warnings.extend(webhooks::unfed(typed, config));
    if !config.history.fsync && config.rules.all().any(|rule| rule.storage == Storage::Disk) {
        warnings.push(
            "history.fsync is off: acknowledged events may be lost with the power".to_owned(),
        );
    }
    let limits = &config.limits;
    if limits.outbox_bytes < limits.event_bytes {
        warnings.push(
            "limits.outbox_bytes is less than limits.event_bytes: an event of the largest size \
             would close its subscribers' connections"
                .to_owned(),
        );
    }
    let listed = &config.rules.listed;
    for (index, (rule, typed)) in listed.iter().zip(&typed.topics).enumerate() {
        warnings.extend(rule.own.iter().flat_map(|_| meant_otherwise(index, typed)));
        let covered = |before: &Rule| before.pattern.covers(&rule.pattern);
        if let Some(before) = listed[..index].iter().position(covered) {
            let warning = format!(
                "topics[{index}] never applies: topics[{before}] stands before it and matches all \
                 of its topics"
            );
            warnings.push(warning);
        }
    }
    warnings
}

/// What earlier releases took for something else in a rule about topics that belong to users.
fn meant_otherwise(index: usize, typed: &schema::Rule) -> Vec<String> {
    let mut warnings = Vec::new();
    if typed.publish.is_none() {
        warnings.push(format!(
            "topics[{index}] does not say who may publish: users may no longer do so to topics of their own \
             without a grant; publish = \"own\" lets them, \"token\" or \"nobody\" does not"
        ));
    }
    for (key, who) in [("subscribe", typed.subscribe), ("publish", typed.publish)] {
        if who == Some(Who::Token) {
            warnings.push(format!(
                "topics[{index}].{key} = \"token\" asks for a grant of the user to whom the topic belongs, too; \
                 \"own\" does not"
            ));
        }
    }
    warnings
}

#[cfg(test)]
mod tests;
