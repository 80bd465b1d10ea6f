use super::*;
use std::collections::HashSet;

#[test]
fn every_key_has_a_name_of_its_own() {
    let names: HashSet<_> = KEYS.iter().map(Key::env).collect();
    assert_eq!(names.len(), KEYS.len());
}

#[test]
fn defaults_are_shown_as_they_would_be_typed() {
    let default = |path| KEYS.iter().find(|key| key.path() == path).unwrap().default();
    assert_eq!(default("server.listen").unwrap(), "\"127.0.0.1:8080\"");
    assert_eq!(default("history.max_age").unwrap(), "\"24h\"");
    assert_eq!(default("limits.event_bytes").unwrap(), "\"56KiB\"");
    assert_eq!(default("auth.api_keys").unwrap(), "[]");
    assert_eq!(default("redis.url"), None);
}
