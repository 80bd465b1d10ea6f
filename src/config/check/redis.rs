//! What was typed of Redis: the one that the nodes share, and those that feed events.

use redis::IntoConnectionInfo;

use super::super::redis::{Redis, RedisSource, SourceKeys, Tap};
use super::super::schema::{self, Typed};
use super::super::value::Hidden;
use super::auth::key_hash;
use super::complaints::Complaints;
use crate::model::EventType;

/// The Redis of the nodes.
pub(super) fn redis(typed: &schema::Redis, complaints: &mut Complaints) -> Option<Redis> {
    if typed.prefix.is_empty() || typed.prefix.contains(['{', '}']) {
        complaints.add("redis.prefix", "must not be empty, nor contain `{` or `}`");
    }
    let url = typed.url.as_ref()?;
    redis_url(complaints, "redis.url", url);
    for (name, urls) in [("sentinels", &typed.sentinels), ("seeds", &typed.seeds)] {
        for (index, url) in urls.iter().enumerate() {
            redis_url(complaints, &format!("redis.{name}[{index}]"), url);
        }
    }
    if !typed.sentinels.is_empty() && !typed.seeds.is_empty() {
        let message = "are of a Redis Cluster, which has no sentinels: set one of the two";
        complaints.add("redis.seeds", message);
    }
    let most_replicas = 100;
    if typed.wait_replicas > most_replicas {
        complaints.add("redis.wait_replicas", format!("must be at most {most_replicas}"));
    }
    Some(Redis {
        url: url.clone(),
        sentinels: typed.sentinels.clone(),
        seeds: typed.seeds.clone(),
        prefix: typed.prefix.clone(),
        wait_replicas: typed.wait_replicas,
        recent_bytes: typed.recent_bytes.0,
    })
}

/// What applications' own Redis feed.
pub(super) fn sources(typed: &Typed, complaints: &mut Complaints) -> Vec<RedisSource> {
    let mut sources = Vec::new();
    for (index, source) in typed.ingress_redis.iter().enumerate() {
        let path = format!("ingress.redis[{index}]");
        match self::source(&path, source, typed, complaints) {
            Ok(source) => sources.push(source),
            Err(message) => complaints.add(&path, message),
        }
    }
    sources
}

fn source(
    path: &str,
    typed: &schema::RedisSource,
    all: &Typed,
    complaints: &mut Complaints,
) -> Result<RedisSource, String> {
    let redis = match &typed.url {
        Some(url) => {
            redis_url(complaints, &format!("{path}.url"), url);
            Redis::at(&url.0)
        }
        None => redis(&all.redis, &mut Complaints::default())
            .ok_or("needs a url, for redis.url is not set")?,
    };
    let tap = match (&typed.channel, &typed.stream) {
        (Some(name), None) => Tap::Channel(name.clone()),
        (None, Some(name)) => {
            let (group, field) = (typed.group.clone(), typed.field.clone());
            Tap::Stream { name: name.clone(), group, field }
        }
        _ => return Err("needs a channel or a stream, and not both".to_owned()),
    };
    if tap.name().is_empty() || typed.group.is_empty() {
        return Err("has an empty name".to_owned());
    }
    let topic = typed.topic.clone().ok_or("needs the topic of its events")?;
    let kind = typed.kind.as_deref().map(EventType::parse).transpose();
    let kind = kind.map_err(|error| format!("has a type that is none: {error}"))?;
    let keys = keys(typed, all)?;
    let source = RedisSource { redis, tap, topic, kind, keys };
    let name = if source.tap.is_pattern() { "name" } else { source.tap.name() };
    let topic = source.topic_of(name);
    let topic = topic.map_err(|error| format!("has a topic that is none: {error}"))?;
    if topic.is_reserved() {
        return Err("has a topic that begins with `$`, which are the broker's own".to_owned());
    }
    Ok(source)
}

/// Where a source gives idempotency keys.
fn keys(typed: &schema::RedisSource, all: &Typed) -> Result<Option<SourceKeys>, String> {
    let (name, api_key) = match (&typed.key, &typed.api_key) {
        (None, None) => return Ok(None),
        (None, Some(_)) => {
            return Err("has an api_key, which is of use beside key alone".to_owned());
        }
        (Some(name), api_key) => (name.clone(), api_key.clone()),
    };
    if name.is_empty() {
        return Err("has an empty key".to_owned());
    }
    if let Some(api_key) = &api_key {
        let hash = key_hash(api_key).ok();
        let scoped = all.auth_keys.iter().filter_map(|scoped| scoped.key.as_ref());
        let mut known = all.auth.api_keys.iter().chain(scoped).map(|key| key_hash(key).ok());
        if hash.is_none() || !known.any(|known| known == hash) || api_key.0.starts_with("sha256:") {
            return Err("has an api_key that is none of auth.api_keys or [[auth.keys]]; it must be the key \
                        itself, not its hash"
                .to_owned());
        }
    }
    Ok(Some(SourceKeys { name, api_key }))
}

/// Complains of what is not the URL of a Redis.
fn redis_url(complaints: &mut Complaints, key: &str, Hidden(text): &Hidden) {
    // What the parser says may quote the URL, which may hold a password.
    let form = "the form is redis[s]://[USER:PASSWORD@]HOST[:PORT][/DATABASE], and in a password \
                `/` is written %2F, `?` %3F, `@` %40 and `%` %25";
    match redis::parse_redis_url(text).map(IntoConnectionInfo::into_connection_info) {
        // Whatever follows it is no part of the address; `#insecure` would switch off the check of the
        // server's certificate.
        _ if text.contains('#') => {
            complaints.add(key, "must not contain `#`: one in a password is written %23");
        }
        Some(Ok(_)) => {}
        Some(Err(_)) | None => {
            complaints.add(key, format!("not a Redis URL; {form}"));
        }
    }
}
