use std::time::Duration;

use super::*;

fn file(text: &str) -> (tempfile::TempDir, Sources) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("fanfare.toml");
    std::fs::write(&path, text).unwrap();
    (directory, Sources { file: Some(path), ..Sources::default() })
}

fn env(name: &str, value: &str) -> Sources {
    Sources { env: vec![(name.to_owned(), value.to_owned())], ..Sources::default() }
}

fn set(set: &str) -> Sources {
    Sources { sets: vec![set.to_owned()], ..Sources::default() }
}

fn problem(sources: &Sources) -> String {
    load(sources).expect_err("accepted").to_string()
}

#[test]
fn flags_go_over_the_environment_and_that_over_the_file() {
    let (_directory, mut sources) =
        file("[limits]\nreplays = 1\nconnections = 1\nsubscriptions = 1");
    sources.env = env("FANFARE_LIMITS_CONNECTIONS", "2").env;
    sources.env.push(("FANFARE_LIMITS_SUBSCRIPTIONS".to_owned(), "2".to_owned()));
    sources.sets = vec!["limits.subscriptions=2".to_owned(), "limits.subscriptions=3".to_owned()];
    let loaded = load_with_origins(&sources).unwrap();
    let limits = loaded.config.limits;
    assert_eq!((limits.replays, limits.connections, limits.subscriptions), (1, 2, 3));
    let from: Vec<_> = loaded.settings.iter().map(|setting| setting.origin.to_string()).collect();
    assert_eq!(from[..2], ["FANFARE_LIMITS_CONNECTIONS", "--set limits.subscriptions"]);
    assert!(from[2].ends_with("fanfare.toml, line 2"), "{from:?}");
}

/// The Ed25519 key of RFC 8410, section 10.1.
const PUBLIC_KEY: &str = "-----BEGIN PUBLIC KEY-----
MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=
-----END PUBLIC KEY-----";

/// A value that is not the default of any key with this form.
fn other_value(key: &Key<Typed>) -> &'static str {
    match key.path().as_str() {
        "traces.endpoint" => "http://127.0.0.1:9/v1/traces",
        "traces.headers" => "x-team: a",
        "traces.topics" => "true",
        "auth.api_keys" => "sixteen-bytes-key-1,sixteen-bytes-key-2",
        "auth.jwt_secret" | "server.tls_resumption_secret" => {
            "a secret of at least thirty-two bytes"
        }
        "auth.jwt_public_key" => PUBLIC_KEY,
        "auth.issuer" | "auth.audience" => "someone",
        "auth.jwks_url" => "https://issuer.example/keys",
        "redis.url" | "redis.sentinels" | "redis.seeds" => "redis://127.0.0.1",
        "server.allowed_origins" => "http://a.example,http://b.example",
        "server.listen" | "server.internal_listen" => "127.0.0.1:9",
        "server.trusted_proxies" => "10.0.0.0/8,::1",
        "notices.sessions" | "notices.topics" | "server.trace_context" => "true",
        "server.flush_interval" => "7ms",
        "limits.event_bytes" => "1KiB",
        "limits.batch_bytes" | "limits.message_bytes" => "3MiB",
        _ => match key.word {
            "duration" => "7s",
            "size" => "7KiB",
            "number" => "7",
            "ratio" => "0.5",
            "path" => "elsewhere",
            "text" => "trace",
            "true or false" => "false",
            r#""disk", "memory", "redis" or "none""# => "none",
            r#""text" or "json""# => "json",
            r#""x-forwarded" or "forwarded""# => "forwarded",
            word => panic!("{}: a {word}", key.path()),
        },
    }
}

#[test]
fn every_key_can_be_set_from_the_environment_and_by_a_flag() {
    for key in KEYS {
        let value = other_value(key);
        for mut sources in [env(&key.env(), value), set(&format!("{}={value}", key.path()))] {
            sources.env.push(("FANFARE_AUTH_JWT_SECRET".to_owned(), "s".repeat(32)));
            match load_with_origins(&sources) {
                Ok(loaded) => {
                    let changed = loaded.settings.iter().any(|setting| setting.key == key.path());
                    assert!(changed, "{} has no effect", key.path());
                }
                // A certificate and its key come together.
                Err(error) if key.path().starts_with("server.tls_") => {
                    assert!(error.to_string().contains("is needed too"), "{error}");
                }
                // So does a binary with what it is to do.
                Err(error) if key.path() == "traces.endpoint" && !cfg!(feature = "otlp") => {
                    assert!(error.to_string().contains("--features otlp"), "{error}");
                }
                Err(error) => panic!("{}: {error}", key.path()),
            }
        }
    }
}

#[test]
fn values_from_the_environment_mean_what_they_mean_in_a_file() {
    let config = load(&env("FANFARE_SERVER_HEARTBEAT", "3s")).unwrap();
    assert_eq!(config.server.heartbeat, Duration::from_secs(3));
    let config = load(&env("FANFARE_SERVER_ALLOWED_ORIGINS", "http://a,http://b:80")).unwrap();
    assert_eq!(config.server.allowed_origins, ["http://a", "http://b"]);
    let config = load(&env("FANFARE_AUTH_JWT_SECRET", "")).unwrap();
    assert!(config.auth.is_open());
    let topics = r#"[{match = "a.>", subscribe = "anyone"}, {match = "b"}]"#;
    assert_eq!(load(&env("FANFARE_TOPICS", topics)).unwrap().rules.listed.len(), 2);
}

#[test]
fn a_secret_with_a_line_break_at_its_end_is_the_secret() {
    let plain = "a secret of at least thirty-two bytes";
    let key = |sources: &Sources| load_with_origins(sources).unwrap().typed.auth.jwt_secret;
    let (_directory, in_file) = file(&format!("[auth]\njwt_secret = \"{plain}\\n\""));
    for sources in [
        in_file,
        env("FANFARE_AUTH_JWT_SECRET", &format!("{plain}\n")),
        set(&format!("auth.jwt_secret= {plain}\r\n")),
    ] {
        assert_eq!(key(&sources).unwrap().0, plain);
        let warnings = load_with_origins(&sources).unwrap().warnings;
        let warned = warnings.iter().any(|warning| warning.starts_with("auth.jwt_secret: white"));
        assert!(warned && !warnings.concat().contains(plain), "{warnings:?}");
    }
    let issuer = format!("[auth]\njwt_secret = \"{plain}\"\nissuer = \" me\\t\"");
    let (_directory, sources) = file(&issuer);
    assert_eq!(load(&sources).unwrap().auth.jwt.unwrap().issuer.as_deref(), Some("me"));
    let (_directory, sources) = file(&issuer.replace("me", ""));
    assert!(problem(&sources).starts_with("auth.issuer: is empty"), "{}", problem(&sources));
    assert!(
        load(&env("FANFARE_AUTH_JWT_SECRET", "\n")).unwrap().auth.is_open(),
        "as without a text"
    );
    assert!(load(&env("FANFARE_TOPICS", "\n")).is_ok());
}

#[test]
fn rules_are_read_in_their_order() {
    let (_directory, sources) = file(
        "[[topics]]\nmatch = \"b.>\"\nmax_events = 5\n\n[[topics]]\nmatch = \"a\"\npublish = \"anyone\"\n",
    );
    let rules = load(&sources).unwrap().rules;
    let patterns: Vec<_> = rules.listed.iter().map(|rule| rule.pattern.as_str()).collect();
    assert_eq!(patterns, ["b.>", "a"]);
}

#[test]
fn an_unknown_name_is_refused_with_the_one_that_was_probably_meant() {
    for (text, line, message) in [
        ("\n[server]\nlistne = 1", 3, "unknown key `server.listne`; did you mean `server.listen`?"),
        ("[sever]\nlisten = 1", 1, "unknown section `sever`; did you mean `server`?"),
        ("listen = 1", 1, "unknown key `listen`; did you mean `server.listen`?"),
        (
            "[server]\nmax_age = 1",
            2,
            "unknown key `server.max_age`; did you mean `history.max_age`?",
        ),
        ("[server]\nzzz = 1", 2, "unknown key `server.zzz` ("),
        ("[[topics]]\nmatch = \"a\"\nmax_event = 1", 3, "did you mean `max_events`?"),
        ("[topic]\n", 1, "unknown section `topic`; did you mean `topics`?"),
    ] {
        let (_directory, sources) = file(text);
        let problem = problem(&sources);
        assert!(problem.contains(message), "{problem}");
        assert!(problem.contains(&format!("fanfare.toml, line {line})")), "{problem}");
    }
    assert_eq!(
        problem(&env("FANFARE_SERVER_LISTNE", "x")),
        "unknown variable `FANFARE_SERVER_LISTNE`; did you mean `FANFARE_SERVER_LISTEN`?"
    );
    assert_eq!(
        problem(&set("server.listne=x")),
        "unknown key `server.listne`; did you mean `server.listen`? (--set server.listne)"
    );
    assert!(problem(&set("server.listen")).contains("SECTION.KEY=VALUE"));
}

#[test]
fn variables_that_set_nothing_here_are_passed_over() {
    for (name, value) in [
        ("FANFARE_URL", "http://x"),
        ("FANFARE_API_KEY", "x"),
        ("FANFARE_PROXY_LOGIN", "ada:x"),
        ("HOME", "/"),
        ("FANFARE_SERVICE_HOST", "10.0.0.7"),
        ("FANFARE_SERVICE_PORT_HTTP", "8080"),
        ("FANFARE_PORT", "tcp://10.0.0.7:8080"),
        ("FANFARE_PORT_8080_TCP_ADDR", "10.0.0.7"),
        ("FANFARE_REDIS_MASTER_SERVICE_HOST", "10.0.0.8"),
        ("FANFARE_NAME", "/web/fanfare"),
    ] {
        assert!(load(&env(name, value)).is_ok(), "{name}");
    }
    for (name, value) in [("FANFARE_PORT", "8080"), ("FANFARE_SERVICE_LISTEN", "127.0.0.1:80")] {
        assert!(problem(&env(name, value)).contains("unknown variable"), "{name}");
    }
}

#[test]
fn a_value_of_another_form_is_refused_with_its_key_form_value_and_place() {
    let (_directory, sources) =
        file("[server]\nheartbeat = 25\nworkers = \"two\"\n[log]\nformat = \"xml\"");
    let error = load(&sources).unwrap_err();
    let [heartbeat, workers, format] = error.problems() else { panic!("{error}") };
    assert!(heartbeat.starts_with("server.heartbeat: expected a duration such as"), "{heartbeat}");
    assert!(heartbeat.contains(", found 25 (") && heartbeat.contains("line 2)"), "{heartbeat}");
    assert!(
        workers.contains("server.workers: expected a whole number, found \"two\""),
        "{workers}"
    );
    assert!(format.contains(r#"expected "text" or "json", found "xml""#), "{format}");
    assert_eq!(
        problem(&env("FANFARE_LIMITS_REPLAYS", "-1")),
        "limits.replays: expected a whole number, found \"-1\" (FANFARE_LIMITS_REPLAYS)"
    );
    for text in ["server = 1", "[topics]\nmatch = \"a\"", "topics = [1]"] {
        let (_directory, sources) = file(text);
        assert!(problem(&sources).contains("expected"), "{}", problem(&sources));
    }
}

#[test]
fn a_value_that_means_nothing_is_refused_with_its_place() {
    let (_directory, sources) =
        file("[auth]\n\napi_keys = [\"\"]\n[[topics]]\npublish = \"nobody\"");
    let error = load(&sources).unwrap_err();
    let [keys, rule] = error.problems() else { panic!("{error}") };
    assert!(keys.starts_with("auth.api_keys[0]: ") && keys.ends_with("line 3)"), "{keys}");
    assert!(rule.starts_with("topics[0].match: is missing") && rule.ends_with("line 4)"), "{rule}");
}

#[test]
fn a_file_that_is_not_there_or_not_toml_is_refused() {
    let sources = Sources { file: Some("/nowhere/fanfare.toml".into()), ..Sources::default() };
    assert!(problem(&sources).starts_with("/nowhere/fanfare.toml: "));
    let (_directory, sources) = file("[server]\nlisten = \n");
    assert!(problem(&sources).contains("fanfare.toml, line 2: "), "{}", problem(&sources));
}

#[test]
fn secrets_show_themselves_nowhere() {
    let secret = "hunter2-hunter2-hunter2-hunter2-hunter2";
    let (_directory, sources) =
        file(&format!("[auth]\njwt_secret = \"{secret}\"\napi_keys = [\"{secret}\"]"));
    let loaded = load_with_origins(&sources).unwrap();
    assert_eq!(loaded.settings.len(), 2);
    let mut shown = format!("{loaded:?}");
    for text in [
        format!("[auth]\njwt_secret = [\"{secret}\"]"),
        format!("[auth]\napi_keys = \"{secret}\""),
        format!("[auth]\napi_keys = [1, \"{secret}\"]"),
        format!("[auth]\njwt_secret = \"{secret}"),
        format!("[auth]\njwt_secret = {secret}"),
        format!("[auth]\njwt_secret = \"{secret}\"\njwt_secret = \"{secret}\""),
        format!("[auth]\njwt_secrt = \"{secret}\""),
        format!("auth = \"{secret}\""),
        format!("jwt_secret = \"{secret}\""),
        format!("[redis]\nurl = \"redis://:{secret}@h/nodatabase\""),
    ] {
        let (_directory, sources) = file(&text);
        shown.push_str(&problem(&sources));
    }
    shown.push_str(&problem(&env("FANFARE_AUTH_JWT_SECRT", secret)));
    shown.push_str(&problem(&env("FANFARE_AUTH_API_KEYS", &format!("[{secret}"))));
    shown.push_str(&problem(&set(&format!("auth.jwt_secrt={secret}"))));
    let mut typed = Typed::default();
    let key = KEYS.iter().find(|key| key.path() == "auth.jwt_secret").unwrap();
    (key.set)(&mut typed, Given::Text(secret)).unwrap();
    shown.push_str(&format!("{typed:?} {:?}", (key.show)(&typed)));
    assert!(!shown.contains("hunter2"), "{shown}");
}
