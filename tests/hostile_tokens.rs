//! Tokens that somebody made up: forged, of another algorithm or key, with claims that are not ones.

mod support;

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::hmac;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD, Engine};
use fanfare::config::Sources;
use serde_json::{Value, json};
use support::ws::WsClient;
use support::{TestServer, problem};
use tokio_tungstenite::tungstenite::Error;

const SECRET: &str = "a secret of at least sixty-four bytes, so that all three hashes may be used";

/// When all good tokens expire.
const FAR: u64 = 4_000_000_000;

fn part(json: &str) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(json)
}

/// A token with this header and these claims, and the signature that an HMAC with `key` gives.
fn hs256(header: &str, claims: &str, key: &[u8]) -> String {
    let message = format!("{}.{}", part(header), part(claims));
    let signature = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), message.as_bytes());
    format!("{message}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature.as_ref()))
}

/// A token that would be good but for these claims.
fn claiming(claims: &Value) -> String {
    hs256(r#"{"alg":"HS256"}"#, &claims.to_string(), SECRET.as_bytes())
}

/// A token that would be good but for this header.
fn headed(header: &Value) -> String {
    hs256(&header.to_string(), &good().to_string(), SECRET.as_bytes())
}

fn good() -> Value {
    json!({"sub": "ada", "exp": FAR, "iss": "me", "aud": "us", "fanfare": {"subscribe": [">"]}})
}

/// Good claims with one that is another.
fn but(name: &str, value: Value) -> Value {
    let mut claims = good();
    claims[name] = value;
    claims
}

fn without(name: &str) -> Value {
    let mut claims = good();
    claims.as_object_mut().expect("claims").remove(name);
    claims
}

/// The public keys of the issuer: as PEM, and as the bytes in it.
struct Public {
    pem: String,
    der: Vec<u8>,
}

fn public() -> Public {
    let pair = RsaKeyPair::generate(KeySize::Rsa2048).expect("a key");
    let _private: Pkcs8V1Der<'_> = pair.as_der().expect("the key");
    let der: PublicKeyX509Der<'_> = pair.public_key().as_der().expect("the key");
    let der = der.as_ref().to_vec();
    let body = BASE64_STANDARD.encode(&der);
    let pem = format!("-----BEGIN PUBLIC KEY-----\n{body}\n-----END PUBLIC KEY-----\n");
    Public { pem, der }
}

/// Unsigned, or signed by the wrong key or in the wrong way.
fn forged(public: &Public) -> Vec<(&'static str, String)> {
    let claims = good().to_string();
    let unsigned = |alg: &str, signature: &str| {
        format!("{}.{}.{signature}", part(&json!({ "alg": alg }).to_string()), part(&claims))
    };
    let attacker = Ed25519KeyPair::generate().expect("a key");
    let x = BASE64_URL_SAFE_NO_PAD.encode(attacker.public_key().as_ref());
    let by_attacker = |header: &Value| {
        let message = format!("{}.{}", part(&header.to_string()), part(&claims));
        let signature = attacker.sign(message.as_bytes());
        format!("{message}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature.as_ref()))
    };
    let jwk = json!({"kty": "OKP", "crv": "Ed25519", "x": x});
    let hs = r#"{"alg":"HS256"}"#;
    vec![
        ("alg none", unsigned("none", "")),
        ("alg None", unsigned("None", "")),
        ("alg NONE", unsigned("NONE", "")),
        ("alg nOnE with a signature", unsigned("nOnE", "AAAA")),
        ("no alg's name", unsigned("", "")),
        ("HS256 without a signature", unsigned("HS256", "")),
        ("another secret", hs256(hs, &claims, b"another secret of thirty-two bytes")),
        ("an empty secret", hs256(hs, &claims, b"")),
        ("the public key as a secret", hs256(hs, &claims, public.pem.as_bytes())),
        ("the public key, trimmed", hs256(hs, &claims, public.pem.trim_end().as_bytes())),
        ("the bytes of the public key", hs256(hs, &claims, &public.der)),
        ("an HMAC called RS256", headed(&json!({"alg": "RS256"}))),
        ("an HMAC called EdDSA", headed(&json!({"alg": "EdDSA"}))),
        ("an HMAC called HS512", headed(&json!({"alg": "HS512"}))),
        ("a key in the header", by_attacker(&json!({"alg": "EdDSA", "jwk": jwk}))),
        ("a key's address", by_attacker(&json!({"alg": "EdDSA", "jku": "http://127.0.0.1:1/k"}))),
        ("a certificate's", by_attacker(&json!({"alg": "EdDSA", "x5u": "http://127.0.0.1:1/c"}))),
        (
            "a key's name as a path",
            hs256(r#"{"alg":"HS256","kid":"../../dev/null"}"#, &claims, b""),
        ),
        ("a key's name as SQL", hs256(r#"{"alg":"HS256","kid":"x' OR 1=1 --"}"#, &claims, b"x")),
        (
            "a key's name of a megabyte",
            headed(&json!({"alg": "HS256", "kid": "k".repeat(1 << 20)})),
        ),
    ]
}

/// Signed with the right key, and not a token that says who and until when.
fn malformed() -> Vec<(&'static str, String)> {
    let cut = |token: String, bytes: usize| token[..token.len() - bytes].to_owned();
    let token = claiming(&good());
    let (message, signature) = token.rsplit_once('.').expect("a signature");
    let [header, claims] = [0, 1].map(|at| message.split('.').nth(at).expect("a part"));
    let secret = SECRET.as_bytes();
    let twice = r#"{"sub":"ada","exp":1,"exp":4000000000,"iss":"me","aud":"us"}"#;
    vec![
        ("an alg that is a number", headed(&json!({"alg": 256}))),
        ("an alg that is a list", headed(&json!({"alg": ["HS256"]}))),
        ("no alg", headed(&json!({"typ": "JWT"}))),
        ("an unknown alg", headed(&json!({"alg": "HS1"}))),
        ("something critical", headed(&json!({"alg": "HS256", "crit": ["exp"]}))),
        (
            "a payload that is not encoded",
            headed(&json!({"alg": "HS256", "b64": false, "crit": ["b64"]})),
        ),
        ("a header that is a list", hs256("[]", &good().to_string(), secret)),
        ("claims that are a list", hs256(r#"{"alg":"HS256"}"#, "[]", secret)),
        ("claims that are no JSON", hs256(r#"{"alg":"HS256"}"#, "{", secret)),
        ("exp twice", hs256(r#"{"alg":"HS256"}"#, twice, secret)),
        ("exp as a string", claiming(&but("exp", json!("4000000000")))),
        (
            "sub twice",
            hs256(
                r#"{"alg":"HS256"}"#,
                r#"{"sub":"eve","sub":"ada","exp":4000000000,"iss":"me","aud":"us"}"#,
                secret,
            ),
        ),
        (
            "grants twice",
            hs256(
                r#"{"alg":"HS256"}"#,
                r#"{"sub":"ada","exp":4000000000,"iss":"me","aud":"us","fanfare":{},"fanfare":{"subscribe":["a"]}}"#,
                secret,
            ),
        ),
        ("claims that are a string", hs256(r#"{"alg":"HS256"}"#, "\"hunter2\"", secret)),
        ("nbf as a list", claiming(&but("nbf", json!([0])))),
        ("iat as a string", claiming(&but("iat", json!("0")))),
        ("an issuer that is a number", claiming(&but("iss", json!(7)))),
        ("an audience that is null", claiming(&but("aud", json!(null)))),
        ("no exp", claiming(&without("exp"))),
        ("a huge exp", claiming(&but("exp", json!(u64::MAX)))),
        (
            "an exp beyond numbers",
            hs256(r#"{"alg":"HS256"}"#, r#"{"sub":"ada","exp":1e400}"#, secret),
        ),
        ("a negative exp", claiming(&but("exp", json!(-1)))),
        ("exp null", claiming(&but("exp", json!(null)))),
        ("expired", claiming(&but("exp", json!(1)))),
        ("not valid yet", claiming(&but("nbf", json!(FAR)))),
        ("nbf as a string", claiming(&but("nbf", json!("0")))),
        ("no sub", claiming(&without("sub"))),
        ("sub null", claiming(&but("sub", json!(null)))),
        ("sub as an object", claiming(&but("sub", json!({"admin": true})))),
        ("another issuer", claiming(&but("iss", json!("you")))),
        ("no issuer", claiming(&without("iss"))),
        ("another audience", claiming(&but("aud", json!(["them", "those"])))),
        ("no audience", claiming(&without("aud"))),
        ("grants as a string", claiming(&but("fanfare", json!(">")))),
        ("a grant that is no pattern", claiming(&but("fanfare", json!({"subscribe": ["a..b"]})))),
        ("an unknown grant", claiming(&but("fanfare", json!({"admin": true})))),
        ("an endless jti", claiming(&but("jti", json!("j".repeat(300))))),
        ("two parts", message.to_owned()),
        ("four parts", format!("{token}.{signature}")),
        ("five parts", format!("{header}..{claims}.{claims}.{signature}")),
        ("padding", format!("{token}=")),
        ("a space", format!("{header}. {claims}.{signature}")),
        ("a signature cut short", cut(token.clone(), 4)),
        ("other claims than were signed", {
            let claims = part(&but("sub", json!("bob")).to_string());
            format!("{header}.{claims}.{signature}")
        }),
        ("dots", "..".to_owned()),
    ]
}

#[tokio::test]
async fn tokens_that_somebody_made_up_open_no_door() {
    let public = public();
    let server = TestServer::with(|config| {
        let sets = vec![
            format!("auth.jwt_secret={SECRET}"),
            format!("auth.jwt_public_key={}", public.pem),
            "auth.issuer=me".to_owned(),
            "auth.audience=us".to_owned(),
        ];
        let sources = Sources { sets, ..Sources::default() };
        config.auth = fanfare::config::load(&sources).expect("a configuration").auth;
    });
    let read = |token: &str| server.get("/v1/topics/a/events").bearer_auth(token);
    let answer = read(&claiming(&good())).send().await.expect("an answer");
    assert_eq!(answer.status(), 200, "the token that all of these are made of is good");
    let tokens = [forged(&public), malformed()].concat();
    assert!(tokens.len() >= 40);
    let mut anonymous = WsClient::connect(&server, "?topic=a").await;
    for (number, (what, token)) in (1..).zip(&tokens) {
        // What is longer than a head may be is not looked at at all.
        let is_short = token.len() < 8 << 10;
        if is_short {
            let (status, code) = problem(read(token)).await;
            assert_eq!((status, code.as_str()), (401, "unauthorized"), "{what}");
            let encoded: String = form_urlencoded::byte_serialize(token.as_bytes()).collect();
            let query = format!("?topic=a&access_token={encoded}");
            let refused = WsClient::connect_with(&server, &query, &[]).await;
            let is_refused = matches!(&refused, Err(Error::Http(it)) if it.status() == 401);
            assert!(is_refused, "{what}");
            let stream = problem(server.get(&format!("/v1/sse{query}"))).await;
            assert_eq!(stream.0, 401, "{what}");
        }
        let length = token.len().min(100 << 10);
        let refused = anonymous.ask(number, json!({"op": "auth", "token": token[..length]})).await;
        assert_eq!(refused["code"], "unauthorized", "{what}");
        let is_repeated = length > 20 && refused.to_string().contains(&token[..length]);
        assert!(!is_repeated, "{what}");
    }
}
