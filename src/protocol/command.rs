//! What an operator, or a language for its application, has sessions do.

use super::members::read_bytes;
use super::request::{Frame, bad, optional, required, subscribe};
use super::{ParseLimits, Subscribe, Token};
use crate::model::{Audience, Close, Pattern, Problem};

/// What sessions are to do: as if their clients had asked, and they are told.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// Be subscribed, as far as they have the right.
    Subscribe(Subscribe),
    /// Be so no longer.
    Unsubscribe {
        /// The patterns as they were subscribed.
        patterns: Vec<Pattern>,
    },
    /// End.
    Disconnect {
        /// What their clients are told.
        close: Close,
    },
    /// Become whom a token says: for how long, and with which rights. Of another user it makes nobody.
    Refresh {
        /// The token. Never logged.
        token: Token,
    },
}

/// Why a command may end sessions.
const CLOSES: [Close; 5] =
    [Close::Policy, Close::Unauthorized, Close::Forbidden, Close::Restart, Close::Unavailable];

impl Command {
    /// Reads `{"op","session"|"user"|"all":true,…}`: `subscribe` and `unsubscribe` have the members of the messages of this
    /// name, `disconnect` has `code` (the name of a close, `policy` where there is none), `refresh` has `token`.
    pub fn parse(body: &[u8], limits: &ParseLimits) -> Result<(Audience, Self), Problem> {
        read_bytes(body)?.command(limits)
    }
}

impl Frame<'_> {
    fn command(mut self, limits: &ParseLimits) -> Result<(Audience, Command), Problem> {
        if let Some(fault) = self.fault.take() {
            return Err(fault);
        }
        let audience = self.audience()?;
        let op = required(self.text("op")?, "op")?;
        let command = match &*op {
            "subscribe" => Command::Subscribe(subscribe(&mut self, limits)?),
            "unsubscribe" => Command::Unsubscribe { patterns: self.patterns(limits.patterns)? },
            "disconnect" => Command::Disconnect { close: self.close()? },
            "refresh" => {
                Command::Refresh { token: Token(required(self.optional_text("token")?, "token")?) }
            }
            _ => return Err(bad("`op` must be subscribe, unsubscribe, disconnect or refresh")),
        };
        match self.given().next() {
            Some((left, _)) => Err(bad(format!("`{left}` is not a member of the command `{op}`"))),
            None => Ok((audience, command)),
        }
    }

    fn audience(&mut self) -> Result<Audience, Problem> {
        let session = self.optional_text("session")?.map(Audience::Session);
        let user = self.optional_text("user")?.map(Audience::User);
        let all = self.flag("all")?.then_some(Audience::All);
        let mut named = [session, user, all].into_iter().flatten();
        match (named.next(), named.next()) {
            (Some(audience), None) => Ok(audience),
            _ => Err(bad("one of `session`, `user` and `\"all\":true` says whom it is for")),
        }
    }

    fn close(&mut self) -> Result<Close, Problem> {
        let Some(name) = self.optional_text("code")? else { return Ok(Close::Policy) };
        let named = CLOSES.into_iter().find(|close| close.name() == name);
        named.ok_or_else(|| optional("code", &CLOSES.map(Close::name).join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::LIMITS;
    use super::*;

    fn parse(text: &str) -> Result<(Audience, Command), String> {
        Command::parse(text.as_bytes(), &LIMITS).map_err(|problem| problem.detail)
    }

    #[test]
    fn a_command_says_what_and_to_whom() {
        let a = || vec![Pattern::parse("a").unwrap()];
        let session = || Audience::Session("s".to_owned());
        for (text, expected) in [
            (
                r#"{"op":"subscribe","session":"s","topics":["a"]}"#,
                (session(), Command::Subscribe(Subscribe::to(a()))),
            ),
            (
                r#"{"op":"unsubscribe","user":"u","topics":["a"]}"#,
                (Audience::User("u".to_owned()), Command::Unsubscribe { patterns: a() }),
            ),
            (
                r#"{"op":"disconnect","all":true}"#,
                (Audience::All, Command::Disconnect { close: Close::Policy }),
            ),
            (
                r#"{"op":"disconnect","session":"s","code":"restart"}"#,
                (session(), Command::Disconnect { close: Close::Restart }),
            ),
            (
                r#"{"op":"refresh","session":"s","token":"t"}"#,
                (session(), Command::Refresh { token: Token("t".to_owned()) }),
            ),
        ] {
            assert_eq!(parse(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn a_command_that_says_too_little_or_too_much_is_refused() {
        let whom = "one of `session`, `user` and `\"all\":true` says whom it is for";
        let codes = "policy, unauthorized, forbidden, restart, unavailable";
        for (text, detail) in [
            (r#"{"op":"disconnect"}"#, whom),
            (r#"{"op":"disconnect","all":false}"#, whom),
            (r#"{"op":"disconnect","all":true,"user":"u"}"#, whom),
            (r#"{"session":"s"}"#, "`op` is missing"),
            (
                r#"{"op":"ping","session":"s"}"#,
                "`op` must be subscribe, unsubscribe, disconnect or refresh",
            ),
            (r#"{"op":"refresh","session":"s"}"#, "`token` is missing"),
            (r#"{"op":"subscribe","session":"s"}"#, "`topics` is missing"),
            (
                r#"{"op":"disconnect","session":"s","topics":["a"]}"#,
                "`topics` is not a member of the command `disconnect`",
            ),
            (
                r#"{"op":"disconnect","session":"s","code":"slow_consumer"}"#,
                &format!("`code` must be {codes}; else leave it out"),
            ),
        ] {
            assert_eq!(parse(text), Err(detail.to_owned()), "{text}");
        }
    }
}
