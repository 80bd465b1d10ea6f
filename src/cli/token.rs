//! `fanfare token`: makes API keys and subscribers' tokens, and says what a token is worth.
//!
//! For operators at a terminal and for tests. An application that serves many users makes its tokens
//! itself, with any JWT library. Keys and secrets come from the configuration, files and standard
//! input, never from the command line, where others on this machine could see them.

use std::fmt::Write;
use std::io::Read;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use actix_web::rt;
use aws_lc_rs::digest::{SHA256, digest};
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD, Engine};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use rand::RngExt;
use serde_json::{Value, json};

use super::{ConfigArgs, Failure, note, print};
use crate::auth::{Auth, Caller, User};
use crate::config::{Hidden, Loaded, Owner, Rules, Span, load_with_origins, secret_bytes};
use crate::model::{Info, Pattern, Timestamp};

const EXAMPLES: &str = "\
Examples:
  fanfare token key                               a new API key, and what to configure for it
  fanfare token make --sub ada --subscribe 'orders.>' --expires 1h
  fanfare token make --sub ada --private-key ed25519.pem
  echo $TOKEN | fanfare token explain             what it says, and whether it is valid here";

/// The most that is read as a token, in bytes.
const MAX_TOKEN_BYTES: u64 = 64 * 1024;

/// What `token` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Make an API key for a publishing application
    Key,
    /// Make a secret for auth.jwt_secret, to sign subscribers' tokens with
    Secret,
    /// Make a token for a subscriber
    Make(Make),
    /// Say what a token says, and whether this configuration takes it
    Explain(Explain),
}

#[derive(Debug, clap::Args)]
struct Make {
    #[command(flatten)]
    config: ConfigArgs,
    /// Whose token it is
    #[arg(long, value_name = "NAME")]
    sub: String,
    /// A pattern that it may subscribe to; may be repeated
    #[arg(long, value_name = "PATTERN", value_parser = Pattern::parse)]
    subscribe: Vec<Pattern>,
    /// A pattern that it may publish to; may be repeated
    #[arg(long, value_name = "PATTERN", value_parser = Pattern::parse)]
    publish: Vec<Pattern>,
    /// What others may see of it in presence, at most 1 KiB
    #[arg(long, value_name = "JSON", value_parser = info)]
    info: Option<Value>,
    /// How long it is valid
    #[arg(long, value_name = "DURATION", default_value = "1h")]
    expires: Span,
    /// Sign with the private key of this file (PEM, PKCS#8) instead of auth.jwt_secret
    #[arg(long, value_name = "FILE")]
    private_key: Option<PathBuf>,
    /// The algorithm [default: HS256, RS256, ES256 or EdDSA, as the key is]
    #[arg(long, value_name = "NAME")]
    algorithm: Option<Algorithm>,
}

#[derive(Debug, clap::Args)]
struct Explain {
    #[command(flatten)]
    config: ConfigArgs,
}

/// Makes or explains.
pub fn run(args: Args, before: ConfigArgs) -> Result<(), Failure> {
    match args.command {
        Command::Key => new_key(),
        Command::Secret => new_secret(),
        Command::Make(make) => {
            let loaded = load_with_origins(&make.config.clone().over(before).sources())?;
            print(make.token(&loaded)?)
        }
        Command::Explain(explain) => {
            let loaded = load_with_origins(&explain.config.over(before).sources())?;
            let mut token = String::new();
            let input = std::io::stdin().take(MAX_TOKEN_BYTES);
            { input }.read_to_string(&mut token).map_err(Failure::failed)?;
            let explained = explained(token.trim(), &loaded)?;
            print(explained.text.trim_end())?;
            match explained.refused {
                Some(why) => Err(Failure::Failed(format!("the token is refused: {why}"))),
                None => Ok(()),
            }
        }
    }
}

fn random() -> Result<[u8; 32], Failure> {
    let mut bits = [0; 32];
    aws_lc_rs::rand::fill(&mut bits).map_err(|_| Failure::failed("there is no randomness"))?;
    Ok(bits)
}

/// 256 random bits for HS256, as libraries that take bytes and such that take a text can have them.
fn new_secret() -> Result<(), Failure> {
    note(
        "For auth.jwt_secret, with its `base64:`. Who signs tokens signs with the bytes behind that, decoded\n\
         (jjwt: Decoders.BASE64; jose and jsonwebtoken for Node.js: Buffer.from(text, 'base64')).",
    );
    print(format_args!("base64:{}", BASE64_STANDARD.encode(random()?)))
}

/// 256 random bits, and the hash that the broker has to know.
fn new_key() -> Result<(), Failure> {
    let bits = random()?;
    // The prefix tells scanners for leaked secrets what it is.
    let key = format!("ffk_{}", BASE64_URL_SAFE_NO_PAD.encode(bits));
    let hash = digest(&SHA256, key.as_bytes());
    let hex = hash.as_ref().iter().fold(String::new(), |mut hex, byte| {
        _ = write!(hex, "{byte:02x}");
        hex
    });
    note(
        "The key is for the application, and is not shown again; its hash belongs into auth.api_keys, or into\nan entry of [[auth.keys]] where it is to have some rights only.",
    );
    print(format_args!("key   {key}\nhash  sha256:{hex}"))
}

impl Make {
    fn token(&self, loaded: &Loaded) -> Result<String, Failure> {
        let (key, usual) = self.key(loaded.typed.auth.jwt_secret.as_ref())?;
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let now = now.map_err(Failure::failed)?.as_secs();
        let mut claims = json!({
            "sub": self.sub,
            "jti": format!("{:032x}", rand::rng().random::<u128>()),
            "iat": now,
            "exp": now.saturating_add(self.expires.0.as_secs()),
            "fanfare": { "subscribe": texts(&self.subscribe), "publish": texts(&self.publish) },
        });
        if let Some(info) = &self.info {
            claims["fanfare"]["info"] = info.clone();
        }
        let auth = &loaded.typed.auth;
        for (claim, value) in [("iss", &auth.issuer), ("aud", &auth.audience)] {
            if let Some(value) = value {
                claims[claim] = value.as_str().into();
            }
        }
        encode(&Header::new(self.algorithm.unwrap_or(usual)), &claims, &key)
            .map_err(|error| Failure::Usage(format!("the token can't be signed: {error}")))
    }

    /// The key to sign with, and the algorithm that is usual for it.
    fn key(&self, secret: Option<&Hidden>) -> Result<(EncodingKey, Algorithm), Failure> {
        let Some(path) = &self.private_key else {
            let Some(secret) = secret else {
                let reason =
                    "there is no auth.jwt_secret to sign with; set it, or give --private-key";
                return Err(Failure::Usage(reason.to_owned()));
            };
            let bytes = secret_bytes(secret)
                .map_err(|reason| Failure::Usage(format!("auth.jwt_secret: {reason}")))?;
            return Ok((EncodingKey::from_secret(&bytes), Algorithm::HS256));
        };
        let pem = std::fs::read(path)
            .map_err(|error| Failure::Usage(format!("{}: {error}", path.display())))?;
        let keys = [
            (EncodingKey::from_rsa_pem(&pem), Algorithm::RS256),
            (EncodingKey::from_ec_pem(&pem), Algorithm::ES256),
            (EncodingKey::from_ed_pem(&pem), Algorithm::EdDSA),
        ];
        let key = keys.into_iter().find_map(|(key, usual)| key.ok().map(|key| (key, usual)));
        key.ok_or_else(|| {
            let form = "holds no private key of RSA, P-256, P-384 or Ed25519 in PEM (PKCS#8)";
            Failure::Usage(format!("{} {form}", path.display()))
        })
    }
}

fn texts(patterns: &[Pattern]) -> Vec<&str> {
    patterns.iter().map(Pattern::as_str).collect()
}

/// What is to be said of a token.
struct Explained {
    /// What it says, and what this configuration makes of it.
    text: String,
    /// Why it is refused, if it is.
    refused: Option<String>,
}

/// What a token says, and what this configuration makes of it.
fn explained(token: &str, loaded: &Loaded) -> Result<Explained, Failure> {
    let part = |part: Option<&str>| -> Option<Value> {
        serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(part?).ok()?).ok()
    };
    let mut parts = token.split('.');
    let (Some(header), Some(claims)) = (part(parts.next()), part(parts.next())) else {
        return Err(Failure::failed("this is not a JSON Web Token: HEADER.CLAIMS.SIGNATURE"));
    };
    let mut text = format!("header     {header}\nclaims     {claims}\n");
    for (claim, word) in [("iat", "made"), ("nbf", "valid from"), ("exp", "expires")] {
        if let Some(at) = claims[claim].as_f64().and_then(moment) {
            _ = writeln!(text, "{word:<10} {at}");
        }
    }
    if loaded.config.auth.jwt.is_none() {
        text += "verdict    not checked: none of auth.jwt_secret, auth.jwt_public_key and auth.jwks_url is set\n";
        return Ok(Explained { text, refused: None });
    }
    let auth = Auth::new(&loaded.config.auth, loaded.config.rules.clone(), Vec::new());
    // Published keys may have to be fetched.
    match rt::System::new().block_on(auth.identify(Some(token))) {
        Ok(Caller::User(user)) => text += &rights(&user, &loaded.config.rules),
        Ok(Caller::Key(key)) => {
            _ = writeln!(text, "verdict    valid as the API key {:?}", key.name);
        }
        Ok(Caller::Application(_)) => text += "verdict    valid as an API key\n",
        Ok(Caller::Anonymous) => text += "verdict    no credential\n",
        Err(problem) => {
            _ = writeln!(text, "verdict    refused: {}", problem.detail);
            return Ok(Explained { text, refused: Some(problem.detail) });
        }
    }
    Ok(Explained { text, refused: None })
}

/// Who it is that a valid token is about, and what they may do.
fn rights(user: &User, rules: &Rules) -> String {
    // A session has a name of its own each time.
    let owner = Owner { sub: Some(&user.bearer.user), session: Some("{session}") };
    let rules = || rules.listed.iter().filter_map(|rule| rule.own.as_ref());
    let own: Vec<_> = rules().filter_map(|own| own.of(owner)).collect();
    let list = |patterns: &[Pattern]| match patterns {
        [] => "nothing".to_owned(),
        patterns => texts(patterns).join(" "),
    };
    let mut text = format!("verdict    valid, for {:?}\n", user.bearer.user);
    _ = writeln!(text, "subscribe  {}", list(&user.subscribe));
    _ = writeln!(text, "publish    {}", list(&user.publish));
    _ = writeln!(text, "own        {}", list(&own));
    if let Some(info) = &user.bearer.info {
        _ = writeln!(text, "info       {}", info.as_str());
    }
    for own in rules().filter(|own| own.of(owner).is_none()) {
        let rule = own.as_str();
        _ = writeln!(text, "           none of {rule}: `sub` is not one plain segment of a topic");
    }
    text
}

/// What others may see of a user.
fn info(text: &str) -> Result<Value, String> {
    let value = serde_json::from_str(text).map_err(|error| format!("it is not JSON: {error}"))?;
    Info::of(&value).map(|_| value).map_err(|why| format!("it {why}"))
}

fn moment(seconds: f64) -> Option<Timestamp> {
    let since_1970 = Duration::try_from_secs_f64(seconds).ok()?;
    SystemTime::UNIX_EPOCH.checked_add(since_1970).map(Timestamp::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Sources;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        make: Make,
    }

    const SECRET: &str = "auth.jwt_secret=a secret of at least thirty-two bytes";

    fn loaded(sets: &[&str]) -> Loaded {
        let sets = sets.iter().map(|set| (*set).to_owned()).collect();
        load_with_origins(&Sources { sets, ..Sources::default() }).unwrap()
    }

    fn make(arguments: &[&str]) -> Make {
        Line::try_parse_from([&["make"], arguments].concat()).unwrap().make
    }

    #[test]
    fn a_token_that_was_made_is_valid_and_explained() {
        let topics = "topics=[{match = \"users.{sub}.>\"}]";
        let loaded = loaded(&[SECRET, "auth.issuer=me", "auth.audience=us", topics]);
        let rights = ["--sub", "ada", "--subscribe", "orders.>", "--publish", "chat.*"];
        let token = make(&[&rights[..], &["--info", r#"{"name":"Ada"}"#]].concat());
        let Explained { text, refused } =
            explained(&token.token(&loaded).unwrap(), &loaded).unwrap();
        assert_eq!(refused, None);
        for line in [
            "verdict    valid, for \"ada\"",
            "subscribe  orders.>",
            "publish    chat.*",
            "own        users.ada.>",
            r#"info       {"name":"Ada"}"#,
        ] {
            assert!(text.contains(line), "{text}");
        }
    }

    #[test]
    fn a_token_is_signed_with_the_bytes_of_a_secret_in_base64() {
        let text = "8J+QmPCfkJjwn5CY8J+QmPCfkJjwn5CY8J+QmPCfkJg=";
        let written = loaded(&[&format!("auth.jwt_secret=base64:{text}")]);
        let token = make(&["--sub", "ada"]).token(&written).unwrap();
        assert_eq!(explained(&token, &written).unwrap().refused, None);
        let key = jsonwebtoken::DecodingKey::from_base64_secret(text).unwrap();
        let validation = jsonwebtoken::Validation::new(Algorithm::HS256);
        jsonwebtoken::decode::<Value>(&token, &key, &validation).unwrap();
        let as_text = explained(&token, &loaded(&[&format!("auth.jwt_secret={text}")])).unwrap();
        assert!(as_text.refused.is_some(), "the text is another key");
    }

    #[test]
    fn a_token_of_another_secret_is_explained_and_refused() {
        let other = loaded(&["auth.jwt_secret=another secret of thirty-two bytes or more"]);
        let token = make(&["--sub", "ada"]).token(&other).unwrap();
        let Explained { text, refused } = explained(&token, &loaded(&[SECRET])).unwrap();
        assert!(refused.is_some(), "{text}");
        assert!(text.contains("\"sub\":\"ada\"") && text.contains("refused: "), "{text}");
        assert!(explained("nonsense", &loaded(&[SECRET])).is_err());
    }

    #[test]
    fn a_user_who_can_own_nothing_is_told_why() {
        let loaded = loaded(&[SECRET, "topics=[{match = \"users.{sub}.>\"}]"]);
        let token = make(&["--sub", "ada@example.com"]).token(&loaded).unwrap();
        let text = explained(&token, &loaded).unwrap().text;
        assert!(text.contains("own        nothing"), "{text}");
        assert!(text.contains("none of users.{sub}.>: `sub` is not one plain segment"), "{text}");
    }

    #[test]
    fn a_grant_of_a_later_version_is_refused_by_its_name() {
        let loaded = loaded(&[SECRET]);
        let claims = json!({"sub": "ada", "exp": 4_000_000_000.0, "fanfare": {"subscribe": ["a"], "only": 1}});
        let secret = EncodingKey::from_secret(SECRET.split_once('=').unwrap().1.as_bytes());
        let token = encode(&Header::new(Algorithm::HS256), &claims, &secret).unwrap();
        let text = explained(&token, &loaded).unwrap().text;
        assert!(text.contains("expires    2096-10-02"), "{text}");
        assert!(
            text.contains("refused: the token is not valid: `fanfare.only` is not known"),
            "{text}"
        );
    }

    #[test]
    fn what_can_not_be_signed_is_said() {
        let reason = |made: Result<String, Failure>| match made {
            Err(Failure::Usage(reason)) => reason,
            other => panic!("{other:?}"),
        };
        let without = make(&["--sub", "ada"]).token(&loaded(&[]));
        assert!(reason(without).contains("auth.jwt_secret"));
        let other = make(&["--sub", "ada", "--algorithm", "ES256"]).token(&loaded(&[SECRET]));
        assert!(reason(other).contains("can't be signed"));
        let missing = make(&["--sub", "ada", "--private-key", "/nowhere.pem"]);
        assert!(reason(missing.token(&loaded(&[]))).starts_with("/nowhere.pem: "));
    }
}
