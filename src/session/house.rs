//! What the sessions of one worker thread have in common.

use std::cell::RefCell;
use std::sync::Arc;

use super::permits::Permits;
use super::shared_forms::SharedForms;
use super::stumbles::Stumbles;
use crate::auth::Auth;
use crate::broker::BrokerHandle;
use crate::clock::Clock;
use crate::config::Limits;
use crate::metrics::Metrics;

/// What the sessions of one worker thread have in common.
pub struct House {
    /// Who knows credentials.
    pub auth: Arc<Auth>,
    /// The node's broker.
    pub broker: BrokerHandle,
    /// What a session may do.
    pub limits: Arc<Limits>,
    /// Where sessions are counted.
    pub permits: Permits,
    /// Whose clients end at the same event again and again.
    pub stumbles: Arc<Stumbles>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// What was encoded for those who came back.
    pub forms: RefCell<SharedForms>,
    /// What time it is.
    pub clock: Clock,
}
