//! What callers may do, and the policies and callers that all tests of rights ask.

use super::*;
use crate::auth::User;
use crate::config::{Config, KeyHash};
use crate::model::{Bearer, Code, Problem};
use std::time::SystemTime;

pub(super) fn pattern(text: &str) -> Pattern {
    Pattern::parse(text).expect(text)
}

pub(super) fn rules() -> Rules {
    let mut rules = Config::default().rules;
    let rule = |text, subscribe| Rule {
        pattern: pattern(text),
        subscribe,
        publish: subscribe,
        ..rules.default.clone()
    };
    rules.listed = vec![
        rule("a.secret.>", Who::Nobody),
        rule("a.public.*", Who::Anyone),
        rule("b.>", Who::Token),
    ];
    rules
}

/// The policy of a broker with an API key and these rules of `[[topics]]`.
pub(super) fn policy(topics: &str) -> Arc<Policy> {
    let sets = vec!["auth.api_keys=sixteen-bytes-key".to_owned(), format!("topics=[{topics}]")];
    let sources = crate::config::Sources { sets, ..Default::default() };
    let config = crate::config::load(&sources).unwrap();
    Arc::new(Policy::new(&config.auth, config.rules, Vec::new(), None))
}

pub(super) fn access(caller: Caller) -> Access {
    let config =
        crate::config::Auth { api_keys: vec![KeyHash([0; 32])], ..crate::config::Auth::default() };
    Access::new(Arc::new(Policy::new(&config, rules(), Vec::new(), None)), caller)
}

pub(super) fn bearer() -> Bearer {
    Bearer { user: "u".to_owned(), token: "t".to_owned(), issued: None, info: None }
}

pub(super) fn user(grants: &[&str]) -> Access {
    let grants: Vec<_> = grants.iter().map(|text| pattern(text)).collect();
    let (subscribe, publish) = (grants.clone(), grants);
    let expires = SystemTime::UNIX_EPOCH;
    let bearer = bearer();
    access(Caller::User(Box::new(User {
        bearer,
        proof: Proof::default(),
        expires,
        subscribe,
        publish,
    })))
}

#[test]
fn the_first_matching_rule_and_the_grant_decide() {
    for (who, access, allowed) in [
        ("application", access(Caller::Application(Proof::default())), [true, true, true, true]),
        ("anonymous", access(Caller::Anonymous), [false, true, false, false]),
        ("user of a", user(&["a.>"]), [false, true, false, false]),
        ("user of b and c", user(&["b.*", "c"]), [false, true, true, true]),
    ] {
        let topics = ["a.secret.x", "a.public.x", "b.x", "c"].map(|t| Topic::parse(t).unwrap());
        assert_eq!(topics.each_ref().map(|topic| access.may_subscribe(topic)), allowed, "{who}");
        assert_eq!(topics.each_ref().map(|topic| access.may_publish(topic)), allowed, "{who}");
    }
}

#[test]
fn who_may_publish_nowhere_is_known_without_a_topic() {
    let somewhere = |access: Access| access.may_publish_somewhere();
    // `a.public.*` is open to anyone.
    assert!(somewhere(access(Caller::Anonymous)));
    let user = |name: &str, publish: &[&str]| {
        Caller::User(Box::new(User {
            bearer: Bearer { user: name.to_owned(), ..bearer() },
            proof: Proof::default(),
            expires: SystemTime::UNIX_EPOCH,
            subscribe: Vec::new(),
            publish: publish.iter().map(|text| pattern(text)).collect(),
        }))
    };
    let own = policy("{match = \"users.{sub}.>\", publish = \"own\"}");
    let heard = policy("{match = \"users.{sub}.>\"}");
    let none = policy("");
    for (policy, caller, expected) in [
        (&none, Caller::Application(Proof::default()), true),
        (&none, Caller::Anonymous, false),
        (&none, user("ada", &[]), false),
        (&none, user("ada", &["a"]), true),
        (&own, Caller::Anonymous, false),
        (&own, user("ada", &[]), true),
        (&own, user("a.b", &[]), false),
        (&heard, user("ada", &[]), false),
    ] {
        let access = Access::new(policy.clone(), caller);
        assert_eq!(access.may_publish_somewhere(), expected, "{:?}", access.caller());
    }
}

#[test]
fn a_topic_of_ones_own_is_to_listen_to_and_to_publish_to_only_where_its_rule_says_so() {
    let (mine, others) = (Topic::parse("users.u.x").unwrap(), Topic::parse("users.v.x").unwrap());
    for (keys, grants, may_subscribe, may_publish) in [
        ("", &[][..], true, false),
        (", publish = \"own\"", &[], true, true),
        (", publish = \"token\"", &[], true, false),
        (", subscribe = \"token\", publish = \"own\"", &[], false, true),
        (", subscribe = \"nobody\", publish = \"nobody\"", &["users.>"], false, false),
        ("", &["users.u.*"], true, true),
    ] {
        let policy = policy(&format!("{{match = \"users.{{sub}}.>\"{keys}}}"));
        let access = Access::new(policy, user(grants).caller().clone());
        assert_eq!(access.may_subscribe(&mine), may_subscribe, "{keys}");
        assert_eq!(access.may_publish(&mine), may_publish, "{keys}");
        let is_told = |problem: Problem| problem.code == Code::Forbidden;
        assert!(may_publish || access.require_publish(&mine).is_err_and(is_told), "{keys}");
        if grants.is_empty() {
            let asked = access.coverage(&pattern("users.u.>"));
            assert_eq!(asked != Coverage::None, may_subscribe, "{keys}");
            assert!(!access.may_subscribe(&others) && !access.may_publish(&others), "{keys}");
        }
    }
}

#[test]
fn what_is_a_sessions_own_is_that_sessions_alone_and_nobodys_without_a_credential() {
    let policy = policy(
        "{match = \"cursors.*.{session}\", subscribe = \"anyone\", publish = \"own\"}, \
         {match = \"mine.{sub}.{session}\", publish = \"own\"}",
    );
    let caller = || user(&["seats.{session}", "inbox.{sub}.>"]).caller().clone();
    let access = |caller| Access::new(policy.clone(), caller);
    let topic = |text: &str| Topic::parse(text).unwrap();
    let own = ["cursors.room.s1", "mine.u.s1", "seats.s1"];
    let others = [
        "cursors.room.s2",
        "mine.u.s2",
        "mine.v.s1",
        "seats.s2",
        "seats.{session}",
        "cursors.room.{session}",
        "inbox.v.a",
        "inbox.{sub}.a",
    ];
    let session = access(caller()).of_session("s1".into());
    let renewed = session.of_caller(caller());
    let again = session.under(policy.clone(), caller());
    for access in [&session, &renewed, &again] {
        assert!(own.iter().all(|text| access.may_publish(&topic(text))));
        assert!(access.may_publish(&topic("inbox.u.a")));
        assert!(!others.iter().any(|text| access.may_publish(&topic(text))));
        assert!(access.may_subscribe(&topic("mine.u.s1")));
        assert_eq!(access.coverage(&pattern("mine.u.*")), Coverage::Part);
    }
    let over_http = access(caller());
    let anonymous = access(Caller::Anonymous).of_session("s1".into());
    for access in [&over_http, &anonymous] {
        assert!(!own.iter().chain(&others).any(|text| access.may_publish(&topic(text))));
    }
    assert!(over_http.may_publish(&topic("inbox.u.a")));
    let refused = over_http.require_publish(&topic("cursors.room.s1")).unwrap_err();
    assert!(refused.detail.contains("{session}"), "{refused}");
    assert!(anonymous.of_caller(caller()).may_publish(&topic("cursors.room.s1")));
}
