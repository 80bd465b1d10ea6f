//! What the sessions of one worker thread have in common.

use std::sync::Arc;

use super::places::Places;
use crate::auth::Auth;
use crate::broker::BrokerHandle;
use crate::clock::Clock;
use crate::config::Limits;

/// What the sessions of one worker thread have in common.
pub struct House {
    /// Who knows credentials.
    pub auth: Arc<Auth>,
    /// The node's broker.
    pub broker: BrokerHandle,
    /// What a session may do.
    pub limits: Arc<Limits>,
    /// Where sessions are counted.
    pub places: Places,
    /// What time it is.
    pub clock: Clock,
}
