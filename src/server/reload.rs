//! Another configuration for a broker that serves.
//!
//! Credentials, origins, the rights in rules and the certificate are replaced all together or not at
//! all, and every session is asked to look again at what it may. What cannot be replaced is refused with
//! its reason, and the old configuration stays in force.

use std::sync::Arc;

use super::tls::Tls;
use crate::admin::settings::{Line, Settings, Told};
use crate::auth::Auth;
use crate::broker::BrokerHandle;
use crate::config::schema::KEYS;
use crate::config::{Config, KeptOtherwise, Loaded, Rules};

/// What may be replaced of a running broker.
#[derive(Clone)]
pub struct Reload {
    pub(super) auth: Arc<Auth>,
    pub(super) broker: BrokerHandle,
    pub(super) tls: Option<Tls>,
    /// Those that the history keeps events by.
    pub(super) rules: Rules,
    pub(super) settings: Arc<Settings>,
}

/// Why a configuration can't come into force while the broker serves.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReloadError {
    /// Whoever reaches the broker would have every right.
    #[error("it has no credentials, and would open the broker to everyone: that needs a restart")]
    Opens,
    /// A listener speaks TLS or does not.
    #[error("it switches TLS on or off: that needs a restart")]
    Tls,
    /// Events are where they are.
    #[error("topics: {0}: that needs a restart")]
    Kept(#[from] KeptOtherwise),
}

impl Reload {
    /// Puts `config` in force, as far as that can be done without a restart.
    pub async fn apply(&self, config: &Config) -> Result<(), ReloadError> {
        if config.auth.is_open() && !self.auth.policy().is_open() {
            return Err(ReloadError::Opens);
        }
        self.rules.keeps_like(&config.rules)?;
        let secret = config.server.resumption_secret.as_ref();
        match (&self.tls, &config.server.certificate) {
            (Some(tls), Some(certificate)) => tls.replace(certificate, secret),
            (None, None) => {}
            _ => return Err(ReloadError::Tls),
        }
        let origins = config.server.allowed_origins.clone();
        self.auth.replace(&config.auth, config.rules.clone(), origins);
        self.broker.recheck_rights().await;
        Ok(())
    }

    /// Tells operators of the configuration that is in force, of which something may need a restart.
    pub fn tell(&self, loaded: &Loaded, needs_restart: Vec<String>) {
        let origin_of = |path: &str| {
            let setting = loaded.settings.iter().find(|setting| setting.key == path);
            setting.map(|setting| setting.origin.to_string())
        };
        let sections = KEYS.iter().map(|key| Line {
            value: (key.show)(&loaded.typed),
            origin: origin_of(&key.path()),
            about: Some(key.doc.trim()),
            key: key.path(),
        });
        // What may come many times is told where it was set.
        let is_known = |path: &str| KEYS.iter().any(|key| key.path() == path);
        let entries = loaded.settings.iter().filter(|setting| !is_known(&setting.key));
        let entries = entries.map(|setting| Line {
            key: setting.key.clone(),
            value: Some(setting.value.clone()),
            origin: Some(setting.origin.to_string()),
            about: None,
        });
        let (settings, warnings) = (sections.chain(entries).collect(), loaded.warnings.clone());
        self.settings.replace(Told { settings, warnings, needs_restart, ..Told::default() });
    }
}
