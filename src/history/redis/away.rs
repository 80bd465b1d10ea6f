//! Why Redis can't be used, in words for its operator, without the texts of a request.

use redis::RedisError;

use crate::trust;

/// What stands before a name that the server does not know.
const UNKNOWN: [&str; 3] = ["unknown command '", "unknown command `", "unknown subcommand '"];

/// The most characters of the name of a command, with its subcommand.
const NAME: usize = 40;

/// Redis can't be used at the moment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("Redis is away: {0}")]
pub struct Away(pub String);

impl Away {
    /// The server does not know these commands.
    pub(super) fn lacking(commands: &str) -> Self {
        Self(format!(
            "it does not have {commands}: it is too old, of another kind, or they were renamed"
        ))
    }

    /// The user may not do this.
    pub(super) fn forbidding(what: &str) -> Self {
        Self(format!("it does not allow this user {what}"))
    }

    /// What an answer refuses, where it names a command or says what it is about.
    fn refused(error: &RedisError) -> Option<Self> {
        let detail = error.detail()?;
        let named = |before: &str| {
            let (_, rest) = detail.split_once(before)?;
            let name = rest.split(['\'', '`']).next()?;
            let is_name = |c: char| c.is_ascii_alphanumeric() || "|-_.".contains(c);
            let is_one = (1..=NAME).contains(&name.len()) && name.chars().all(is_name);
            is_one.then(|| name.replace('|', " ").to_ascii_uppercase())
        };
        match error.code()? {
            "NOPERM" => Some(match named("run the '") {
                Some(name) => Self::forbidding(&name),
                None if detail.contains("channel") => {
                    Self::forbidding("the channels that are used")
                }
                None => Self::forbidding("the keys that are used"),
            }),
            "ERR" if detail.contains("The user executing the script") => {
                Some(Self::forbidding("what a script does"))
            }
            "ERR" if detail.contains("compiling script") => {
                Some(Self::lacking("scripts as Redis 7 does"))
            }
            "ERR" => UNKNOWN.into_iter().find_map(named).map(|name| Self::lacking(&name)),
            _ => None,
        }
    }
}

impl From<RedisError> for Away {
    fn from(error: RedisError) -> Self {
        away(&error)
    }
}

/// Why Redis can't be used, as an error of the client library shows it.
pub(super) fn away(error: &RedisError) -> Away {
    Away::refused(error).unwrap_or_else(|| {
        Away(match error.code() {
            Some(code) => format!("it says {code}"),
            None if error.is_timeout() => "it does not answer".to_owned(),
            None => {
                let cause = trust::lasting_text(&error.to_string());
                cause.unwrap_or_else(|| error.category().to_owned())
            }
        })
    })
}
