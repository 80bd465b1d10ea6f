//! The epochs that have ended, where they are more than the log's record names.
//!
//! All of them are listed beside it; that list changes only where an epoch begins, so it is read once an
//! epoch.

use std::sync::{Arc, Mutex};

use redis::{RedisResult, cmd};

use super::connection::Connection;
use super::keys::Keys;
use super::log_state::{Ended, LogState};
use crate::model::Cursor;
use crate::panics::lock;

/// The ended epochs of the log, as they were read last.
#[derive(Default)]
pub(super) struct Epochs {
    /// With the place that the epoch of then begins with.
    read: Mutex<Option<(Cursor, Arc<[Ended]>)>>,
}

impl Epochs {
    /// A state with all epochs that have ended.
    pub(super) async fn complete(
        &self,
        mut state: LogState,
        connection: &mut Connection,
        keys: &Keys,
    ) -> RedisResult<LogState> {
        if !state.is_cut() {
            return Ok(state);
        }
        let epoch = state.head.at(state.start);
        let read = lock(&self.read).clone().filter(|(of, _)| *of == epoch);
        if let Some((_, ended)) = read {
            state.ended = ended;
            return Ok(state);
        }
        let mut list = cmd("ZRANGE");
        list.arg(keys.epochs()).arg(0).arg(-1);
        let listed: Vec<String> = list.query_async(connection).await?;
        let (ended, is_whole) = state.all_ended(&listed);
        if is_whole {
            *lock(&self.read) = Some((epoch, ended.clone()));
        }
        state.ended = ended;
        Ok(state)
    }
}
