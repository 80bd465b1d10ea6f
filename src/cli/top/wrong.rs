//! What is wrong with the nodes, the worst first: what it is, where, since when, and what to do next.
//!
//! The console says the same of the same events (`src/console/numbers.js`), in the same sentences.

use std::time::Duration;

use tokio::time::Instant;

use super::figures::{bytes, count_of, span};
use super::nodes::{Heard, Nodes, Said, State, Webhook};

/// A client that has been waited for so long is slow.
const SLOW_MS: u64 = 2_000;

/// Within this time so many that connect are a herd, where they are a part of all that are there.
const HERD_TIME: Duration = Duration::from_secs(10);
const HERD: u64 = 100;

/// From how much of a limit on it is told, and from how much on it is no mere trouble.
pub(super) const NEAR: f64 = 0.8;
const FULL: f64 = 0.95;

/// How long what has come to pass counts as something of now.
const LATELY: Duration = Duration::from_secs(60);

/// Something that is wrong.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wrong {
    /// Whether something does not work, rather than being in trouble.
    pub(super) is_bad: bool,
    pub(super) what: String,
    /// What to do.
    pub(super) next: Option<&'static Next>,
}

/// What to do, and the alert of `deploy/prometheus` whose runbook says more.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Next {
    pub(super) step: &'static str,
    pub(super) alert: &'static str,
}

const HISTORY: Next = Next {
    step: "Make space, or see what holds up the disk of history.path; nothing has to be restarted.",
    alert: "FanfareHistoryFails",
};
const REDIS: Next = Next {
    step: "See that Redis runs and this node reaches it; publishes are refused until then.",
    alert: "FanfareRedisAway",
};
const AWAY: Next = Next {
    step: "See whether its process runs; its clients come back to the other nodes.",
    alert: "FanfareDown",
};
const ISSUER: Next = Next {
    step: "Fetch auth.jwks_url from this node; sessions stay until their token is over.",
    alert: "FanfareIssuerDown",
};
const SLOW: Next = Next {
    step: "It wants mode \"latest\", max_rate or fewer topics; many at once are a network.",
    alert: "FanfareSlowClients",
};
const HERD_NEXT: Next = Next {
    step: "See how their sessions ended before; limits.connects_per_second holds back.",
    alert: "FanfareHerd",
};
const WEBHOOK: Next = Next {
    step: "Have its target answer 2xx; what waits is posted again, in order, for a day.",
    alert: "FanfareWebhookFails",
};

/// All that is wrong.
pub(super) fn wrong(nodes: &Nodes, now: Instant) -> Vec<Wrong> {
    let mut wrong = Vec::new();
    for (heard, state) in nodes.all(now) {
        match state {
            State::There => of_node(heard, &mut wrong),
            State::Stopped => {}
            State::Away(silent_for) => {
                let seconds = silent_for.as_secs();
                let what = format!("{} away: it has said nothing for {seconds} s", heard.said.node);
                wrong.push(Wrong { is_bad: true, what, next: Some(&AWAY) });
            }
        }
    }
    // Stable, so that what is as bad stays in its order.
    wrong.sort_by_key(|wrong| !wrong.is_bad);
    wrong
}

fn of_node(heard: &Heard, wrong: &mut Vec<Wrong>) {
    let said = &heard.said;
    let mut say = |is_bad, what: String, next| {
        wrong.push(Wrong { is_bad, what: format!("{} {what}", said.node), next });
    };
    checks(said, &mut say);
    issuer(said, &mut say);
    near(said, &mut say);
    // What another node posts by now is no trouble of this one.
    let is_failing = |hook: &&Webhook| hook.outcome == "failed" && hook.turn != Some(false);
    for hook in said.webhooks.iter().filter(is_failing) {
        let behind = span(hook.lag_ms);
        let what = format!("webhook {}: {} ({behind} behind)", hook.name, hook.detail);
        say(false, what, Some(&WEBHOOK));
    }
    slow(said, &mut say);
    let cut = heard.lately(LATELY, |counts| counts.cut);
    if cut > 0 {
        let what = format!("clients: {} cut off within a minute for being slow", count_of(cut));
        say(false, what, Some(&SLOW));
    }
    let gaps = heard.lately(LATELY, |counts| counts.gaps);
    if gaps > 0 {
        let what = format!("gaps: {} told within a minute, clients lost events", count_of(gaps));
        say(false, what, None);
    }
    let came = heard.lately(HERD_TIME, |counts| counts.connected);
    if came > HERD && came > said.sessions.open() / 4 {
        let what =
            format!("herd: {} clients came within {} s", count_of(came), HERD_TIME.as_secs());
        say(false, what, Some(&HERD_NEXT));
    }
}

/// What can say that something is wrong: how bad it is, what it is, and what to do.
type Say<'a> = dyn FnMut(bool, String, Option<&'static Next>) + 'a;

fn checks(said: &Said, say: &mut Say<'_>) {
    let redis = said.failing.iter().find(|failing| failing.check == "redis");
    // Behind Redis the history fails with it, in the same words: then Redis is what to look at.
    let is_of_redis = |detail: &str| redis.is_some_and(|redis| redis.detail == detail);
    for failing in &said.failing {
        let next = match &*failing.check {
            "history" if is_of_redis(&failing.detail) => continue,
            "history" => Some(&HISTORY),
            "redis" => Some(&REDIS),
            _ => None,
        };
        let lasts = span(failing.since_ms);
        say(true, format!("{}: {} (for {lasts})", failing.check, failing.detail), next);
    }
}

fn issuer(said: &Said, say: &mut Say<'_>) {
    let Some(issuer) = said.issuer.as_ref().filter(|issuer| issuer.state == "away") else { return };
    let tokens = if issuer.has_keys { "known keys still hold" } else { "tokens can't be checked" };
    let lasts = span(issuer.since_ms);
    say(
        !issuer.has_keys,
        format!("issuer: {}, {tokens} (for {lasts})", issuer.detail),
        Some(&ISSUER),
    );
}

/// What is near a limit at which something goes wrong; a disk may stand at its own for good, for then the oldest events go.
fn near(said: &Said, say: &mut Say<'_>) {
    let (sessions, memory, queue) = (&said.sessions, &said.memory, &said.queue);
    let show: [fn(u64) -> String; 2] = [count_of, bytes];
    for (what, used, limit, show) in [
        ("sessions", sessions.open(), sessions.limit, show[0]),
        ("memory", memory.rss_bytes, memory.limit_bytes, show[1]),
        ("the largest queue of a client", queue.largest_bytes, queue.limit_bytes, show[1]),
    ] {
        let is_over = |part: f64| limit > 0 && used as f64 >= limit as f64 * part;
        if is_over(NEAR) {
            let what = format!("{what} near the limit: {} of {}", show(used), show(limit));
            say(is_over(FULL), what, None);
        }
    }
}

fn slow(said: &Said, say: &mut Say<'_>) {
    for slow in &said.slowest {
        let is_full = slow.queued_bytes >= said.queue.limit_bytes / 2;
        if slow.lag_ms < SLOW_MS && !is_full {
            continue;
        }
        let who = if slow.user.is_empty() { &slow.session } else { &slow.user };
        let left_out = match slow.skipped {
            0 => String::new(),
            skipped => format!(", {} left out", count_of(skipped)),
        };
        let (waits, behind) = (bytes(slow.queued_bytes), span(slow.lag_ms));
        say(false, format!("client {who}: {waits} wait, {behind} behind{left_out}"), Some(&SLOW));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(said: &[&str]) -> Vec<String> {
        let (mut nodes, now) = (Nodes::default(), Instant::now());
        said.iter().for_each(|said| nodes.hear(said, now));
        wrong(&nodes, now).into_iter().map(|wrong| wrong.what).collect()
    }

    #[tokio::test]
    async fn redis_that_is_away_is_not_told_as_a_disk_that_is_full() {
        let both = r#"{"node":"a","failing":[
            {"check":"history","detail":"refused","since_ms":3000},
            {"check":"redis","detail":"refused","since_ms":3000}]}"#;
        assert_eq!(of(&[both]), ["a redis: refused (for 3s)"]);
        let one = r#"{"node":"a","failing":[{"check":"history","detail":"no space"}]}"#;
        assert_eq!(of(&[one]), ["a history: no space (for 0ms)"]);
    }

    #[tokio::test]
    async fn what_does_not_work_comes_before_what_is_in_trouble() {
        let hook = r#"{"node":"a","webhooks":[{"name":"crm","outcome":"failed","detail":"502"}]}"#;
        let issuer = r#"{"node":"b","issuer":{"state":"away","detail":"refused","since_ms":1000}}"#;
        let wanted = [
            "b issuer: refused, tokens can't be checked (for 1s)",
            "a webhook crm: 502 (0ms behind)",
        ];
        assert_eq!(of(&[hook, issuer]), wanted);
    }

    #[tokio::test]
    async fn a_herd_and_clients_that_were_cut_are_told_by_what_was_counted_of_late() {
        let said = |uptime: u64, connected: u64, cut: u64| {
            format!(
                r#"{{"node":"a","number":{},"uptime_ms":{uptime},"total":{{"connected":{connected}}},
                "closes":{{"slow_consumer":{cut},"stalled":1}}}}"#,
                uptime / 1_000
            )
        };
        let before = said(70_000, 500, 7);
        assert_eq!(of(&[&before, &said(71_000, 600, 7)]), Vec::<String>::new());
        let wanted = [
            "a clients: 2 cut off within a minute for being slow",
            "a herd: 101 clients came within 10 s",
        ];
        assert_eq!(of(&[&before, &said(71_000, 601, 9)]), wanted);
        assert_eq!(of(&[&before, &said(79_000, 700, 9), &said(140_000, 700, 9)]), [""; 0]);
    }

    #[tokio::test]
    async fn what_is_near_its_limit_is_told_in_words_as_colours_may_be_off() {
        let said = r#"{"node":"a","sessions":{"websocket":80,"sse":1,"limit":100},
            "memory":{"rss_bytes":1990,"limit_bytes":2048},
            "queue":{"largest_bytes":7,"limit_bytes":10}}"#;
        let wanted =
            ["a memory near the limit: 1.9KiB of 2.0KiB", "a sessions near the limit: 81 of 100"];
        assert_eq!(of(&[said]), wanted);
    }

    #[tokio::test]
    async fn gaps_are_told_by_what_was_counted_of_late() {
        let said = |uptime: u64, gaps: u64| {
            format!(r#"{{"node":"a","uptime_ms":{uptime},"total":{{"gaps":{gaps}}}}}"#)
        };
        let wanted = ["a gaps: 2 told within a minute, clients lost events"];
        assert_eq!(of(&[&said(70_000, 3), &said(71_000, 5)]), wanted);
        assert_eq!(of(&[&said(70_000, 3), &said(71_000, 3)]), [""; 0]);
    }

    #[tokio::test]
    async fn a_webhook_that_another_node_posts_by_now_is_no_trouble_of_the_one_before() {
        let hook = |turn| {
            format!(
                r#"{{"node":"a","webhooks":[{{"name":"crm","turn":{turn},"outcome":"failed"}}]}}"#
            )
        };
        assert_eq!(of(&[&hook(true)]).len(), 1);
        assert_eq!(of(&[&hook(false)]), [""; 0]);
    }

    #[test]
    fn the_console_says_the_same_sentences() {
        let console = include_str!("../../console/numbers.js");
        let docs = include_str!("../../../docs/operating.md");
        for Next { step, alert } in [HISTORY, REDIS, AWAY, ISSUER, SLOW, HERD_NEXT, WEBHOOK] {
            assert!(console.contains(&step.replace('"', "\\\"")), "{step}");
            assert!(console.contains(alert) && docs.contains(&format!("### {alert}\n")), "{alert}");
        }
    }
}
