//! What decides about a topic: the rule of `[[topics]]`, and those before it that do not match.

use actix_web::{HttpRequest, HttpResponse, web};
use serde_json::{Value, json};

use crate::auth::Access;
use crate::config::{Rule, Storage, Who};
use crate::http::Query;
use crate::model::{Problem, Topic};

/// How many of the rules before the one that decides are told.
const MAX_PASSED: usize = 100;

/// `GET /v1/topics/{topic}/rule`: what is allowed on a topic and kept of it, and why that.
pub async fn read_rule(
    access: Access,
    topic: web::Path<String>,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    Query::parse(request.query_string(), &[])?;
    let topic = Topic::parse(&topic)?;
    access.require_admin()?;
    let listed = &access.rules().listed;
    let rule = access.rules().of(&topic);
    let number = listed.iter().position(|other| std::ptr::eq(other, rule));
    let mut told = shown(rule);
    told["topic"] = topic.as_str().into();
    told["origin"] = match number {
        Some(_) => "listed",
        None if topic.is_reserved() => "broker",
        None => "default",
    }
    .into();
    let before = number.unwrap_or(listed.len());
    let passed = listed[..before].iter().take(MAX_PASSED).map(written);
    told["passed"] = passed.collect::<Vec<_>>().into();
    if let Some(number) = number {
        told["number"] = (number + 1).into();
    }
    Ok(HttpResponse::Ok().json(told))
}

/// The pattern of a rule as its operator wrote it.
fn written(rule: &Rule) -> &str {
    rule.own.as_ref().map_or(rule.pattern.as_str(), |own| own.as_str())
}

fn shown(rule: &Rule) -> Value {
    let mut shown = json!({
        "match": written(rule),
        "subscribe": who(rule.subscribe),
        "publish": who(rule.publish),
        "history": storage(rule.storage),
        "max_events": rule.max_events,
        "max_bytes": rule.max_bytes,
        "keep_newest": rule.keep_newest,
        "presence": rule.presence,
        "from": rule.from,
    });
    if let Ok(age) = u64::try_from(rule.max_age.as_millis()) {
        shown["max_age_ms"] = age.into();
    }
    shown
}

fn who(who: Who) -> &'static str {
    match who {
        Who::Anyone => "anyone",
        Who::Own => "own",
        Who::Token => "token",
        Who::Nobody => "nobody",
    }
}

fn storage(storage: Storage) -> &'static str {
    match storage {
        Storage::Disk => "disk",
        Storage::Memory => "memory",
        Storage::Redis => "redis",
        Storage::None => "none",
    }
}
