//! What was typed of who is known: keys, and what tokens are checked with.

use std::sync::Arc;

use actix_web::http::Uri;
use aws_lc_rs::digest::{SHA256, digest};

use super::super::auth::{ApiKey, Auth, Jwks, Jwt, KeyHash, TokenKey};
use super::super::schema::{self, Typed};
use super::super::value::Hidden;
use super::super::{Config, token_keys};
use super::complaints::{Complaints, DAY, WEEK, YEAR};
use crate::model::Pattern;

/// An API key with fewer bytes is warned of: 16 random characters of Base64 are 96 bits.
const STRONG_KEY_BYTES: usize = 16;

/// Who is known.
pub(super) fn auth(typed: &Typed, complaints: &mut Complaints) -> Auth {
    let scoped_keys = typed.auth_keys.iter().enumerate();
    let scoped_keys = scoped_keys.filter_map(|(index, key)| api_key(index, key, complaints));
    let scoped_keys = scoped_keys.map(Arc::new).collect();
    let typed = &typed.auth;
    let mut api_keys = Vec::new();
    for (index, key) in typed.api_keys.iter().enumerate() {
        match key_hash(key) {
            Ok(hash) => api_keys.push(hash),
            Err(message) => complaints.add(&format!("auth.api_keys[{index}]"), message),
        }
    }
    let jwt = jwt(typed, complaints);
    complaints.at_least_one("auth.revocations", typed.revocations);
    complaints.at_least_one("auth.tickets", typed.tickets);
    let window = typed.revocation_window;
    Auth {
        api_keys,
        scoped_keys,
        jwt,
        cookie: typed.cookie.clone(),
        revocation_window: complaints.between("auth.revocation_window", window, 1, YEAR),
        revocations: typed.revocations,
        publishes_per_second: typed.publishes_per_second,
        tickets: typed.tickets,
    }
}

/// How tokens are checked, where they are.
fn jwt(typed: &schema::Auth, complaints: &mut Complaints) -> Option<Jwt> {
    let keys = keys(typed, complaints);
    let jwks = jwks(typed, complaints);
    let checks_tokens =
        typed.jwt_secret.is_some() || typed.jwt_public_key.is_some() || typed.jwks_url.is_some();
    for (key, value) in [
        ("auth.issuer", &typed.issuer),
        ("auth.audience", &typed.audience),
        ("auth.cookie", &typed.cookie),
    ] {
        if value.as_ref().is_some_and(String::is_empty) {
            complaints.add(key, "is empty, which no token has");
        } else if value.is_some() && !checks_tokens {
            let message =
                "means nothing without auth.jwt_secret, auth.jwt_public_key or auth.jwks_url";
            complaints.add(key, message);
        }
    }
    if typed.cookie.as_ref().is_some_and(|name| !is_cookie_name(name)) {
        let message = "must be the name of a cookie: letters, digits, `-`, `_` and `.`";
        complaints.add("auth.cookie", message);
    }
    let leeway = complaints.between("auth.leeway", typed.leeway, 0, 300);
    let (issuer, audience) = (typed.issuer.clone(), typed.audience.clone());
    checks_tokens.then_some(Jwt { keys, jwks, issuer, audience, leeway })
}

/// The keys that tokens are checked with, but for those that are published.
fn keys(typed: &schema::Auth, complaints: &mut Complaints) -> Vec<TokenKey> {
    let mut keys = Vec::new();
    if let Some(secret) = &typed.jwt_secret {
        match token_keys::of_secret(secret) {
            Ok(key) => keys.push(key),
            Err(message) => complaints.add("auth.jwt_secret", message),
        }
    }
    if let Some(pem) = &typed.jwt_public_key {
        match token_keys::of_pem(pem) {
            Ok(public) => keys.extend(public),
            Err(message) => complaints.add("auth.jwt_public_key", message),
        }
    }
    keys
}

/// Whether a cookie may be called so; of what RFC 6265 allows, what nobody has to escape.
fn is_cookie_name(name: &str) -> bool {
    !name.is_empty()
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

/// Where keys are published. Whoever could change them on the way could make tokens.
fn jwks(typed: &schema::Auth, complaints: &mut Complaints) -> Option<Jwks> {
    let refresh = complaints.between("auth.jwks_refresh", typed.jwks_refresh, 5, DAY);
    let keep = complaints.between("auth.jwks_keep", typed.jwks_keep, 1, WEEK);
    let url = typed.jwks_url.clone()?;
    let is_safe = url.parse::<Uri>().is_ok_and(|uri| match (uri.scheme_str(), uri.host()) {
        (Some("https"), Some(_)) => true,
        (Some("http"), Some(host)) => ["127.0.0.1", "[::1]", "localhost"].contains(&host),
        _ => false,
    });
    if !is_safe {
        let message = "must be an https:// URL, or http:// on 127.0.0.1, [::1] or localhost";
        complaints.add("auth.jwks_url", message);
    }
    Some(Jwks { url, refresh, keep })
}

fn api_key(index: usize, typed: &schema::ApiKey, complaints: &mut Complaints) -> Option<ApiKey> {
    let path = format!("auth.keys[{index}]");
    let name = typed.name.clone().filter(|name| !name.is_empty());
    if name.is_none() {
        complaints.add(&path, "has no name");
    }
    let hash = match typed.key.as_ref().map(key_hash) {
        Some(Ok(hash)) => Some(hash),
        Some(Err(message)) => {
            complaints.add(&format!("{path}.key"), message);
            None
        }
        None => {
            complaints.add(&path, "has no key");
            None
        }
    };
    let mut patterns = |list: &str, texts: &[String]| {
        let parsed = texts.iter().enumerate().filter_map(|(at, text)| {
            let refused = |error| {
                let message = format!("{text:?} is not a pattern: {error}");
                complaints.add(&format!("{path}.{list}[{at}]"), message);
            };
            Pattern::parse(text).map_err(refused).ok()
        });
        parsed.collect::<Vec<_>>()
    };
    let publish = patterns("publish", &typed.publish);
    let subscribe = patterns("subscribe", &typed.subscribe);
    if publish.is_empty() && subscribe.is_empty() && !typed.admin {
        complaints.add(&path, "may do nothing: it needs publish, subscribe or admin");
    }
    Some(ApiKey { name: name?, hash: hash?, publish, subscribe, admin: typed.admin })
}

/// The hash of a key, from the key itself or from `sha256:HEX`.
pub(super) fn key_hash(Hidden(key): &Hidden) -> Result<KeyHash, &'static str> {
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

/// Warns of a broker that is open, and of secrets that are probably not what they should be.
pub(super) fn warnings(typed: &Typed, config: &Config) -> Vec<String> {
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
    warnings
}
