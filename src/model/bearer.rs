//! Whose token a session came in with, and what is no longer accepted of it.

use serde::{Deserialize, Serialize};

use super::{Info, Timestamp};

/// Whose token is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bearer {
    /// Its `sub`.
    pub user: String,
    /// What it is called: its `jti`, or something that stands for it.
    pub token: String,
    /// Its `iat`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issued: Option<Timestamp>,
    /// Its `fanfare.info`: what others may see of the user where they may see who is in a topic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub info: Option<Info>,
}

/// What is accepted no longer.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Revoked {
    /// Every token of this user that was issued before.
    User(String),
    /// The token with this id.
    Token(String),
}

/// Something is accepted no longer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revocation {
    /// What.
    #[serde(flatten)]
    pub what: Revoked,
    /// Since when.
    pub at: Timestamp,
}

impl Revocation {
    /// Whether it is about this token. `iat` is often in whole seconds: a token issued in the second
    /// of the revocation counts as issued before it.
    pub fn covers(&self, bearer: &Bearer) -> bool {
        let second = |time: Timestamp| time.millis().div_euclid(1_000);
        match &self.what {
            Revoked::Token(token) => bearer.token == *token,
            Revoked::User(user) => {
                bearer.user == *user
                    && bearer.issued.is_none_or(|issued| second(issued) <= second(self.at))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bearer(user: &str, token: &str, issued: Option<i64>) -> Bearer {
        let (user, token) = (user.to_owned(), token.to_owned());
        Bearer { user, token, issued: issued.map(Timestamp::from_millis), info: None }
    }

    #[test]
    fn a_user_gets_in_with_a_token_issued_later_and_with_no_other() {
        let (what, at) = (Revoked::User("ada".to_owned()), Timestamp::from_millis(10_500));
        let revocation = Revocation { what, at };
        for (issued, is_covered) in
            [(None, true), (Some(1_000), true), (Some(10_900), true), (Some(11_000), false)]
        {
            assert_eq!(revocation.covers(&bearer("ada", "t", issued)), is_covered, "{issued:?}");
            assert!(!revocation.covers(&bearer("bob", "t", issued)));
        }
    }

    #[test]
    fn a_token_is_known_by_its_id_alone() {
        let (what, at) = (Revoked::Token("t".to_owned()), Timestamp::from_millis(0));
        let revocation = Revocation { what, at };
        assert!(revocation.covers(&bearer("ada", "t", Some(9_000))));
        assert!(!revocation.covers(&bearer("ada", "u", None)));
    }
}
