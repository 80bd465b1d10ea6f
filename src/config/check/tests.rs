//! Each test sets keys by their paths, as flags do.

use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};

use super::super::{ConfigError, Sources, Storage, Who, load, load_with_origins};
use super::*;
use crate::model::{Pattern, Topic};

fn with(sets: &[&str]) -> Result<Config, ConfigError> {
    let sets = sets.iter().map(|&set| set.to_owned()).collect();
    load(&Sources { sets, ..Sources::default() })
}

/// The one problem that these settings have.
fn refused(sets: &[&str]) -> String {
    let error = with(sets).expect_err("accepted");
    assert_eq!(error.problems().len(), 1, "{error}");
    error.to_string()
}

const KEY: &str = "auth.api_keys=a-key-of-16-bytes";

#[test]
fn the_defaults_have_nothing_to_complain_about() {
    let mut complaints = Complaints::default();
    let (config, _) = check(&Typed::default(), &mut complaints);
    assert!(complaints.is_empty(), "{complaints:?}");
    assert!(config.auth.is_open() && config.server.workers > 0);
    assert_eq!(config.server.heartbeat, Duration::from_secs(25));
    assert_eq!(config.rules.default.storage, Storage::Disk);
}

#[test]
fn revocations_are_removed_by_their_age_alone_however_few_there_may_be() {
    let rules = with(&["auth.revocations=2", "auth.revocation_window=2h"]).unwrap().rules;
    let rule = rules.of(&Topic::revocations());
    assert_eq!((rule.max_events, rule.max_bytes), (usize::MAX, usize::MAX));
    assert_eq!(rule.max_age, Duration::from_secs(7_200));
    assert!(rules.ages().contains(&rule.max_age), "and somebody looks at that age");
}

#[test]
fn no_rule_for_topics_is_about_what_the_broker_has_to_know() {
    let rules =
        with(&[r#"topics=[{match="$sys.>", history="none", max_events=1}]"#]).unwrap().rules;
    for topic in [Topic::revocations(), Topic::offset_of_webhook("a").unwrap()] {
        let rule = rules.of(&topic);
        assert!(rule.storage == Storage::Disk && rule.max_events > 1, "{topic}");
    }
    assert_eq!(rules.of(&Topic::parse("$sys.topics").unwrap()).storage, Storage::None);
}

#[test]
fn other_addresses_than_loopback_need_a_credential() {
    for address in ["0.0.0.0:8080", "[::]:8080", "192.168.1.7:80"] {
        let listen = format!("server.listen={address}");
        let problem = refused(&[&listen]);
        assert!(problem.contains("auth.api_keys") && problem.contains(address), "{problem}");
        assert!(with(&[&listen, KEY]).is_ok());
    }
    for address in ["127.0.0.1:0", "127.3.4.5:8080", "[::1]:8080", "[::ffff:127.0.0.1]:8080"] {
        assert!(with(&[&format!("server.listen={address}")]).is_ok(), "{address}");
    }
}

#[test]
fn a_key_and_its_hash_are_the_same_key() {
    let hash = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
    let of = |key: &str| with(&[&format!("auth.api_keys={key}")]).unwrap().auth.api_keys;
    let digest = digest(&SHA256, b"correct-horse-battery");
    let hex: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(of("correct-horse-battery"), of(&format!("sha256:{hex}")));
    assert_eq!(of(&format!("sha256:{}", hash.to_uppercase())), of(&format!("sha256:{hash}")));
    // The hash of "test", from another implementation.
    assert_eq!(of(&format!("sha256:{hash}"))[0].0[..4], [0x9f, 0x86, 0xd0, 0x81]);
}

#[test]
fn weak_and_malformed_credentials_are_refused_without_being_shown() {
    for (set, message) in [
        ("auth.api_keys=sha256:hunter2", "64 hexadecimal digits"),
        (
            "auth.api_keys=sha256:hunter2hunter2hunter2hunter2hunter2hunter2hunter2hunter2hunter2",
            "64 hex",
        ),
        ("auth.api_keys=hunter2 with spaces in it", "visible ASCII"),
        ("auth.jwt_secret=hunter2hunter2hunter2", "auth.jwt_secret: has fewer than 32 bytes"),
    ] {
        let problem = refused(&[set]);
        assert!(problem.contains(message), "{problem}");
        assert!(!problem.contains("hunter2"), "{problem}");
    }
}

#[test]
fn a_key_with_some_rights_needs_a_name_a_key_and_a_right() {
    for (entry, message) in [
        (r#"key = "hunter2hunter2hunter2", admin = true"#, "auth.keys[0]: has no name"),
        (r#"name = "a", admin = true"#, "auth.keys[0]: has no key"),
        (r#"name = "a", key = "sha256:hunter2", admin = true"#, "auth.keys[0].key: has no 64 hex"),
        (r#"name = "a", key = "hunter2hunter2hunter2""#, "auth.keys[0]: may do nothing"),
        (
            r#"name = "a", key = "hunter2hunter2hunter2", publish = ["b", "a..b"]"#,
            "auth.keys[0].publish[1]: \"a..b\" is not a pattern",
        ),
    ] {
        let problem = refused(&[&format!("auth.keys=[{{{entry}}}]")]);
        assert!(problem.contains(message), "{problem}");
        assert!(!problem.contains("hunter2"), "{problem}");
    }
    let keys = r#"auth.keys=[{name = "a", key = "hunter2hunter2hunter2", publish = ["b"]}]"#;
    let config = with(&[keys]).unwrap();
    assert!(!config.auth.is_open());
    assert!(!format!("{config:?}").contains("hunter2"));
    assert_eq!(config.auth.scoped_keys[0].name, "a");
}

#[test]
fn a_key_that_may_be_guessed_is_warned_of_without_being_shown() {
    let sets = vec!["auth.api_keys=hunter2,a-key-of-16-bytes".to_owned()];
    let loaded = load_with_origins(&Sources { sets, ..Sources::default() }).unwrap();
    let [warning] = &loaded.warnings[..] else { panic!("{:?}", loaded.warnings) };
    assert!(warning.starts_with("auth.api_keys[0] has fewer than 16 bytes"), "{warning}");
    assert!(!warning.contains("hunter2"), "{warning}");
}

#[test]
fn a_token_needs_the_secret_that_checks_it() {
    assert!(refused(&["auth.issuer=x"]).contains("auth.jwt_secret"));
    let secret = format!("auth.jwt_secret={}", "s".repeat(32));
    let config = with(&[&secret, "auth.issuer=x", "auth.audience=y"]).unwrap();
    let jwt = config.auth.jwt.unwrap();
    assert_eq!((jwt.issuer.as_deref(), jwt.audience.as_deref()), (Some("x"), Some("y")));
    assert_eq!(jwt.leeway, Duration::from_secs(30));
}

#[test]
fn a_cookie_holds_tokens_and_has_a_plain_name() {
    assert!(refused(&["auth.cookie=t"]).contains("auth.jwt_secret"));
    let secret = format!("auth.jwt_secret={}", "s".repeat(32));
    for name in ["a b", "a;b", "a=b", "a,b", "\"a\"", "\u{fc}"] {
        let refused = refused(&[&secret, &format!("auth.cookie={name}")]);
        assert!(refused.contains("the name of a cookie"), "{name}: {refused}");
    }
    let config = with(&[&secret, "auth.cookie=__Host-fanfare"]).unwrap();
    assert_eq!(config.auth.cookie.as_deref(), Some("__Host-fanfare"));
    assert_eq!(with(&[&secret]).unwrap().auth.cookie, None);
}

#[test]
fn with_redis_events_are_kept_there_or_nowhere_and_without_it_never() {
    let needs = "\"redis\" needs redis.url";
    assert!(refused(&["history.storage=redis"]).contains(needs));
    let rule = r#"topics=[{match = "a.>", history = "redis"}]"#;
    assert!(refused(&[rule]).starts_with(&format!("topics[0].history: {needs}")));
    let cluster = "redis.url=redis://127.0.0.1";
    for rule in [r#"history = "disk""#, r#"history = "memory""#] {
        let problem = refused(&[cluster, &format!(r#"topics=[{{match = "a.>", {rule}}}]"#)]);
        assert!(problem.starts_with("topics[0].history: with redis.url"), "{problem}");
    }
    let config = with(&[cluster, r#"topics=[{match = "now.>", history = "none"}]"#]).unwrap();
    assert_eq!(config.rules.default.storage, Storage::Redis);
    assert_eq!(config.rules.listed[0].storage, Storage::None);
    assert_eq!(config.redis.unwrap().prefix, "fanfare");
    assert!(refused(&[cluster, "redis.prefix={a}"]).contains("redis.prefix"));
}

#[test]
fn a_redis_that_cannot_be_used_is_refused_without_showing_its_password() {
    let problem = refused(&["redis.url=rediss://user:hunter2@cache.example:6380/1#insecure"]);
    assert!(problem.contains("written %23") && !problem.contains("hunter2"), "{problem}");
    // A parser finds a host and a port in some of these, and none in others.
    for url in ["redis://:hun#ter2@127.0.0.1", "redis://a:1#hunter2@h", "redis://:#hunter2@h"] {
        let problem = refused(&[&format!("redis.url={url}")]);
        assert!(problem.contains("written %23") && !problem.contains("ter2"), "{problem}");
    }
    assert!(with(&["redis.url=redis://:hun%23ter2@127.0.0.1"]).is_ok());
    for url in ["127.0.0.1:6379", "http://:hunter2@127.0.0.1", "redis://:hunter2@h/nodatabase"] {
        let problem = refused(&[&format!("redis.url={url}")]);
        assert!(problem.contains("not a Redis URL") && !problem.contains("hunter2"), "{problem}");
    }
    let config = with(&["redis.url=rediss://user:hunter2@127.0.0.1/1"]).unwrap();
    assert!(!format!("{config:?}").contains("hunter2"));
    assert!(with(&["redis.url=unix:///r.sock"]).is_ok());
}

#[test]
fn a_rule_inherits_what_it_leaves_out_from_the_history() {
    let rules = with(&[
        "history.max_events=7",
        "history.max_age=1h",
        r#"topics=[{match="a.>", max_bytes="2KiB"}, {match="b", history="none", presence=true, subscribe="anyone", publish="nobody"}]"#,
    ])
    .unwrap()
    .rules;
    let (a, b) = (&rules.listed[0], &rules.listed[1]);
    assert_eq!((a.max_events, a.max_bytes, a.max_age), (7, 2_048, Duration::from_secs(3_600)));
    assert_eq!((a.storage, a.subscribe, a.publish), (Storage::Disk, Who::Token, Who::Token));
    assert_eq!((b.storage, b.subscribe, b.publish), (Storage::None, Who::Anyone, Who::Nobody));
    assert!(b.presence && !a.presence);
    assert_eq!(rules.default.max_bytes, 64 << 20);
}

#[test]
fn which_storages_a_pattern_may_meet_is_known_from_the_rules() {
    let rules = r#"topics=[{match="a.x.>", history="memory"}, {match="a.>"}, {match="a.*", history="none"}]"#;
    let rules = with(&["history.storage=memory", rules, "history.storage=disk"]).unwrap().rules;
    let may = |pattern, storage| rules.may_match(&Pattern::parse(pattern).unwrap(), storage);
    for (pattern, memory, disk, none) in [
        ("a.x.y", true, false, false),
        ("a.x.>", true, false, false),
        ("a.*.y", true, true, false),
        ("a.b", false, true, false),
        ("b.>", false, true, false),
        (">", true, true, true),
    ] {
        assert_eq!(may(pattern, Storage::Memory), memory, "{pattern}");
        assert_eq!(may(pattern, Storage::Disk), disk, "{pattern}");
        assert_eq!(may(pattern, Storage::None), none, "{pattern}");
    }
}

#[test]
fn values_out_of_bounds_name_their_key_and_bounds() {
    for (set, message) in [
        ("server.heartbeat=500ms", "server.heartbeat: must be from 1s to 5m"),
        ("server.heartbeat=6m", "server.heartbeat: must be from 1s to 5m"),
        ("server.heartbeat=1500ms", "server.heartbeat: must be a whole number of seconds"),
        (
            "server.stream_heartbeat=1500ms",
            "server.stream_heartbeat: must be a whole number of seconds",
        ),
        ("server.shutdown_delay=11m", "server.shutdown_delay: must be from 0s to 10m"),
        ("server.workers=100000", "server.workers: must be at most 512"),
        ("history.max_events=0", "history.max_events: must be at least 1"),
        ("limits.outbox_bytes=0", "limits.outbox_bytes: must be at least 1"),
        ("limits.message_bytes=55KiB", "must be at least limits.event_bytes, 56KiB"),
        ("limits.batch_bytes=1", "limits.batch_bytes: must be at least"),
        ("limits.stall_timeout=0s", "limits.stall_timeout: must be more than 0s"),
        ("log.filter=fanfare=loud", "log.filter: not a filter"),
        (
            "server.allowed_origins=http://a/",
            r#""http://a/" has more than an origin; write "http://a""#,
        ),
        (
            "server.trusted_proxies=10.0.0.0/8,10.0.0.0/33",
            r#"server.trusted_proxies[1]: "10.0.0.0/33" is neither"#,
        ),
        ("server.trusted_proxies=proxy.example", r#""proxy.example" is neither"#),
        ("server.internal_listen=0.0.0.0:1", "server.internal_listen: 0.0.0.0:1 is reachable"),
        ("server.tls_key=key.pem", "server.tls_certificate: is needed too"),
        (
            "server.tls_resumption_secret=a secret of at least thirty-two bytes",
            "server.tls_certificate: is needed too",
        ),
        (
            "server.tls_resumption_secret=hunter2",
            "server.tls_resumption_secret: has fewer than 32 bytes",
        ),
        (r#"topics=[{match="a..b"}]"#, "topics[0].match: not a pattern: the segment at byte 2"),
        ("topics=[{presence=true}]", "topics[0].match: is missing"),
    ] {
        let problem = refused(&[set]);
        assert!(problem.contains(message), "{problem}");
    }
}

#[test]
fn what_is_probably_not_meant_is_warned_of() {
    let warnings = |sets: &[&str]| {
        let sets = sets.iter().map(|&set| set.to_owned()).collect();
        let sources = Sources { sets, ..Sources::default() };
        load_with_origins(&sources).unwrap().warnings
    };
    assert!(warnings(&[])[0].starts_with("open mode"));
    assert!(warnings(&[KEY]).is_empty());
    let rules = r#"topics=[{match="a.>"}, {match="b"}, {match="a.*"}]"#;
    assert!(warnings(&[KEY, rules])[0].starts_with("topics[2] never applies: topics[0]"));
    assert!(warnings(&[KEY, "limits.outbox_bytes=1KiB"])[0].contains("limits.outbox_bytes"));
}

fn warnings(sets: &[&str]) -> Vec<String> {
    let sets = sets.iter().map(|&set| set.to_owned()).collect();
    load_with_origins(&Sources { sets, ..Sources::default() }).unwrap().warnings
}

#[test]
fn keys_that_can_be_read_on_the_way_are_warned_of() {
    let public = "server.listen=0.0.0.0:8080";
    let [warning] = &warnings(&[KEY, public])[..] else { panic!("one warning") };
    assert!(warning.contains("0.0.0.0:8080") && warning.contains("server.tls_certificate"));
    assert!(warnings(&[KEY, public, "server.trusted_proxies=10.0.0.0/8"]).is_empty());
    assert!(warnings(&[KEY, "server.listen=127.0.0.1:8080"]).is_empty());
    let inside = warnings(&[KEY, "server.internal_listen=0.0.0.0:9090"]);
    assert!(inside.len() == 1 && inside[0].starts_with("server.internal_listen: "), "{inside:?}");
}

#[test]
fn a_webhook_that_never_hears_of_anyone_is_warned_of() {
    let of = |events: &str, more: &[&str]| {
        let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
        let hook = format!(
            r#"webhooks=[{{name = "a", url = "https://a.example/", secret = "{secret}", topics = ["a.>"], events = [{events}]}}]"#
        );
        warnings(&[&[KEY, &hook], more].concat())
    };
    let presence = r#""presence.joined""#;
    let [warning] = &of(presence, &[])[..] else { panic!("one warning") };
    assert!(warning.starts_with("webhooks[0] asks") && warning.contains("[[topics]]"), "{warning}");
    let rule = |pattern: &str| format!(r#"topics=[{{match = "{pattern}", presence = true}}]"#);
    assert!(of(presence, &[&rule("a.b")]).is_empty());
    assert_eq!(of(presence, &[&rule("b.>")]).len(), 1);
    assert!(of(presence, &[&rule("a.b"), "notices.presence=false"])[0].contains("is off"));
    assert!(of("", &[]).is_empty() && of(r#""topic.vacated""#, &[]).is_empty());
}

#[test]
fn a_secret_that_may_be_meant_as_base64_is_warned_of_without_being_shown() {
    let secret = "8J+QmPCfkJjwn5CY8J+QmPCfkJjwn5CY8J+QmPCfkJg=";
    let [warning] = &warnings(&[&format!("auth.jwt_secret={secret}")])[..] else { panic!("one") };
    assert!(warning.contains("32 bytes") && !warning.contains(secret), "{warning}");
    assert!(warnings(&[&format!("auth.jwt_secret=base64:{secret}")]).is_empty());
}

#[test]
fn what_a_rule_about_topics_of_users_meant_otherwise_before_is_warned_of() {
    for (keys, subscribe, publish, warned) in [
        ("", Who::Own, Who::Token, &["does not say who may publish"][..]),
        (", publish = \"own\"", Who::Own, Who::Own, &[]),
        (", publish = \"nobody\"", Who::Own, Who::Nobody, &[]),
        (", subscribe = \"anyone\", publish = \"own\"", Who::Anyone, Who::Own, &[]),
        (", publish = \"token\"", Who::Own, Who::Token, &["publish = \"token\" asks"]),
        (
            ", subscribe = \"token\"",
            Who::Token,
            Who::Token,
            &["does not say who may publish", "subscribe = \"token\" asks"],
        ),
    ] {
        let rule = format!("topics=[{{match = \"users.{{sub}}.>\"{keys}}}]");
        let sources = Sources { sets: vec![KEY.to_owned(), rule], ..Sources::default() };
        let loaded = load_with_origins(&sources).unwrap();
        let rule = &loaded.config.rules.listed[0];
        assert_eq!((rule.subscribe, rule.publish), (subscribe, publish), "{keys}");
        assert_eq!(loaded.warnings.len(), warned.len(), "{:?}", loaded.warnings);
        for (warning, words) in loaded.warnings.iter().zip(warned) {
            assert!(warning.contains(words), "{warning}");
        }
    }
    let problem = refused(&["topics=[{match = \"users.>\", publish = \"own\"}]"]);
    assert!(problem.contains("topics[0].publish") && problem.contains("{sub}"), "{problem}");
}
