//! What was typed of notices and of where they are posted to.

use actix_web::http::Uri;
use base64::prelude::{BASE64_STANDARD, Engine};

use super::super::Config;
use super::super::notices::{Notices, Webhook, WebhookSecret};
use super::super::schema::{self, Typed};
use super::super::value::Hidden;
use super::complaints::Complaints;
use crate::model::{NoticeKind, Pattern, Topic};

/// How long a secret may be, in bytes: as the Standard Webhooks specification says.
const SECRET_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// What is taken notice of: what is asked for, and what webhooks want.
pub(super) fn notices(typed: &schema::Notices, webhooks: &[Webhook]) -> Notices {
    use NoticeKind::{SessionConnected, SessionDisconnected, TopicOccupied, TopicVacated};
    let wanted = |kinds: &[NoticeKind]| {
        webhooks.iter().any(|hook| hook.events.iter().any(|kind| kinds.contains(kind)))
    };
    Notices {
        sessions: typed.sessions || wanted(&[SessionConnected, SessionDisconnected]),
        topics: typed.topics || wanted(&[TopicOccupied, TopicVacated]),
        presence: typed.presence,
    }
}

/// Where notices are posted to.
pub(super) fn webhooks(typed: &Typed, complaints: &mut Complaints) -> Vec<Webhook> {
    let mut webhooks: Vec<Webhook> = Vec::new();
    for (index, hook) in typed.webhooks.iter().enumerate() {
        let path = format!("webhooks[{index}]");
        match webhook(hook) {
            Ok(hook) if webhooks.iter().any(|other| other.name == hook.name) => {
                complaints.add(&path, format!("another one is called {:?}", hook.name));
            }
            Ok(hook) => webhooks.push(hook),
            Err(message) => complaints.add(&path, message),
        }
    }
    webhooks
}

/// Warns of webhooks that ask for what is never noticed: who is present, where no rule has presence.
pub(super) fn unfed(typed: &Typed, config: &Config) -> Vec<String> {
    use NoticeKind::{PresenceJoined, PresenceLeft};
    let asks = |typed: &schema::Webhook| {
        let mut kinds = typed.events.iter().filter_map(|name| NoticeKind::parse(name));
        kinds.any(|kind| [PresenceJoined, PresenceLeft].contains(&kind))
    };
    let is_fed = |hook: &Webhook| {
        let of = |pattern: &Pattern| hook.topics.iter().any(|topic| topic.overlaps(pattern));
        let mut rules = config.rules.listed.iter();
        config.notices.presence && rules.any(|rule| rule.presence && of(&rule.pattern))
    };
    let hooks = typed.webhooks.iter().zip(&config.webhooks).enumerate();
    let unfed = hooks.filter(|(_, (typed, hook))| asks(typed) && !is_fed(hook));
    let warning = |(index, _)| {
        let wanting = match config.notices.presence {
            true => "no rule of [[topics]] has presence for its topics",
            false => "notices.presence is off",
        };
        format!("webhooks[{index}] asks for who is present, and never hears of anyone: {wanting}")
    };
    unfed.map(warning).collect()
}

fn webhook(typed: &schema::Webhook) -> Result<Webhook, String> {
    let name = typed.name.clone().ok_or("has no name")?;
    if name.contains('.') || Topic::parse(&name).is_err() || name.len() > 64 {
        return Err("has a name that is not one segment of a topic, of at most 64 bytes".into());
    }
    let url = typed.url.clone().ok_or("has no url")?;
    let is_web = url.0.parse::<Uri>().is_ok_and(|uri| {
        matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some()
    });
    if !is_web {
        return Err("has a url that is not http:// or https://".to_owned());
    }
    let events = typed.events.iter().map(|name| {
        NoticeKind::parse(name).ok_or_else(|| {
            let known: Vec<_> = NoticeKind::ALL.iter().map(|kind| kind.name()).collect();
            format!("has an event {name:?} that is none of {}", known.join(", "))
        })
    });
    let topics = typed.topics.iter().map(|text| {
        Pattern::parse(text).map_err(|error| format!("{text:?} is not a pattern: {error}"))
    });
    let (mut events, mut topics) =
        (events.collect::<Result<Vec<_>, _>>()?, topics.collect::<Result<Vec<_>, _>>()?);
    if events.is_empty() {
        events = NoticeKind::ALL.to_vec();
    }
    if topics.is_empty() {
        topics.push(Pattern::everything());
    }
    Ok(Webhook { name, url, secret: secret(typed.secret.as_ref())?, events, topics })
}

fn secret(typed: Option<&Hidden>) -> Result<WebhookSecret, String> {
    let Hidden(text) = typed.ok_or("has no secret")?;
    let bytes = text.strip_prefix("whsec_").and_then(|text| BASE64_STANDARD.decode(text).ok());
    let bytes = bytes.filter(|bytes| SECRET_BYTES.contains(&bytes.len()));
    let wanted = "has a secret that is not `whsec_` and 24 to 64 bytes in base64";
    bytes.map(WebhookSecret).ok_or_else(|| wanted.to_owned())
}

#[cfg(test)]
mod tests {
    use super::super::super::{Sources, load};
    use super::*;

    fn loaded(webhooks: &str) -> Result<Config, String> {
        let sets = vec![format!("webhooks=[{webhooks}]")];
        load(&Sources { sets, ..Sources::default() }).map_err(|error| error.to_string())
    }

    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    #[test]
    fn a_webhook_turns_on_the_notices_that_it_wants() {
        let hook = |events: &str| {
            let hook = format!(
                r#"{{name = "a", url = "https://a.example/", secret = "{SECRET}", events = [{events}]}}"#
            );
            loaded(&hook).unwrap()
        };
        let all = hook("");
        assert_eq!(all.webhooks[0].events, NoticeKind::ALL);
        assert!(all.notices.sessions && all.notices.topics && all.notices.presence);
        let some = hook("\"topic.vacated\"");
        assert!(!some.notices.sessions && some.notices.topics);
        assert!(!format!("{:?}", some.webhooks).contains("MfKQ9r8"));
    }

    #[test]
    fn what_is_no_webhook_is_refused() {
        let good = [("name", "a"), ("url", "https://a.example/"), ("secret", SECRET)];
        for (key, value, message) in [
            ("name", "a.b", "one segment"),
            ("name", "", "one segment"),
            ("url", "ftp://a.example/", "not http"),
            ("url", "/hooks", "not http"),
            ("secret", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_"),
            ("secret", "whsec_c2hvcnQ=", "24 to 64"),
            ("events", "session.began", "none of"),
            ("topics", "a..b", "not a pattern"),
        ] {
            let typed = good.iter().filter(|(name, _)| *name != key);
            let mut typed: Vec<_> =
                typed.map(|(name, value)| format!("{name} = {value:?}")).collect();
            typed.push(match key {
                "events" | "topics" => format!("{key} = [{value:?}]"),
                _ => format!("{key} = {value:?}"),
            });
            let refused = loaded(&format!("{{{}}}", typed.join(", "))).unwrap_err();
            assert!(refused.contains(message), "{refused}");
            assert!(key != "secret" || !refused.contains(value), "{refused}");
        }
    }
}
