//! An application as a publisher.

use crate::auth::{Caller, Publisher};

/// What the idempotency keys of a session are known by that shows an API key. That of others follows from who they are.
pub fn application(caller: &Caller, credential: Option<&str>) -> Option<Box<Publisher>> {
    let is_application = matches!(caller, Caller::Application(_) | Caller::Key(_));
    let credential = credential.filter(|_| is_application);
    credential.map(|credential| Box::new(Publisher::with_credential(Some(credential))))
}
