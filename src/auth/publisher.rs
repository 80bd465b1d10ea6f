//! Whose idempotency keys they are, whichever way they come.

use std::net::IpAddr;

use aws_lc_rs::digest::{Context, SHA256};

use super::caller::Caller;
use crate::model::PublishKey;

/// A publisher, as idempotency keys are told apart by it. A user is known by name, because tokens are renewed; who
/// has no credential by address, or one would be told what became of another's event; an application by its credential, of which no
/// more is kept than a digest under way.
#[derive(Clone)]
pub struct Publisher(Context);

impl Publisher {
    /// Who publishes, with what was shown and from where.
    pub fn new(caller: &Caller, credential: Option<&str>, address: Option<IpAddr>) -> Self {
        match caller {
            Caller::User(user) => Self::of("user", &user.bearer.user),
            Caller::Application(_) | Caller::Key(_) => Self::with_credential(credential),
            Caller::Anonymous => {
                let address = address.map(|address| address.to_string());
                Self::of("address", &address.unwrap_or_default())
            }
        }
    }

    /// An application that is known by its API key, or by none where the broker is open.
    pub fn with_credential(credential: Option<&str>) -> Self {
        Self::of("credential", credential.unwrap_or_default())
    }

    fn of(kind: &str, name: &str) -> Self {
        let mut context = Context::new(&SHA256);
        add(&mut context, kind);
        add(&mut context, name);
        Self(context)
    }

    /// The scope of a key of this publisher's. Receipts of every release are found by it.
    pub fn scope(mut self, key: &PublishKey) -> [u8; 32] {
        add(&mut self.0, key.as_str());
        let mut scope = [0; 32];
        scope.copy_from_slice(self.0.finish().as_ref());
        scope
    }
}

/// Adds a text with its length, so that nothing can move over to what follows.
fn add(context: &mut Context, text: &str) {
    context.update(&(text.len() as u64).to_be_bytes());
    context.update(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Proof;

    #[test]
    fn each_publisher_has_keys_of_its_own() {
        let key = |text| PublishKey::parse(text).unwrap();
        let application = Caller::Application(Proof::default());
        let address = |text: &str| Some(text.parse().unwrap());
        let all = [
            Publisher::new(&application, None, None),
            Publisher::new(&application, Some("one-key-of-the-two"), None),
            Publisher::new(&application, Some("the-other-of-the-two"), None),
            Publisher::new(&Caller::Anonymous, None, address("127.0.0.1")),
            Publisher::new(&Caller::Anonymous, None, address("127.0.0.2")),
        ];
        for (at, one) in all.iter().enumerate() {
            assert_eq!(one.clone().scope(&key("k")), one.clone().scope(&key("k")));
            assert_ne!(one.clone().scope(&key("k")), one.clone().scope(&key("l")));
            for other in &all[at + 1..] {
                assert_ne!(one.clone().scope(&key("k")), other.clone().scope(&key("k")));
            }
        }
        let elsewhere = Publisher::new(&application, None, address("127.0.0.1"));
        assert_eq!(elsewhere.scope(&key("k")), all[0].clone().scope(&key("k")));
    }
}
