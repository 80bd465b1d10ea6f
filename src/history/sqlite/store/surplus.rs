//! What the database has that is over its bound or free, and giving that up.

use tracing::warn;

use super::super::failure::Failure;
use super::super::retention::Removing;
use super::super::rows::collect;
use super::super::space;
use super::Store;

impl Store {
    /// By how much the database will be over its bound with what comes, in bytes.
    pub(in super::super) fn excess(&self, coming: u64) -> rusqlite::Result<u64> {
        Ok((space::used(&self.db)? + coming).saturating_sub(self.max.database + self.spared.bytes))
    }

    /// Removes some of the oldest events where the database will be over its bound with what comes; how
    /// many.
    pub(in super::super) fn remove_excess(
        &mut self,
        coming: u64,
        most: usize,
    ) -> Result<usize, Failure> {
        let excess = self.excess(coming).map_err(|error| Failure::before_commit(error.into()))?;
        let (max_bytes, mut spared, mut left) = (self.max.cost, self.spared, most);
        self.transact(|transaction, log, topics, rules| {
            let spared = &mut spared;
            let mut removal = Removing { transaction, log, topics, spared, left };
            removal.over_all(rules, max_bytes, excess)?;
            removal.over_stays()?;
            left = removal.left;
            Ok(())
        })?;
        self.spared = spared;
        Ok(most - left)
    }

    /// Gives some free pages of the database back.
    pub(in super::super) fn vacuum(&mut self, pages: usize) -> Result<(), Failure> {
        self.transact(|transaction, _, _, _| {
            // Each step gives one page back.
            collect(transaction, &format!("PRAGMA incremental_vacuum({pages})"), (), |_| Ok(()))?;
            Ok(())
        })
    }

    /// Moves all of SQLite's log into the database, so that it begins anew, if that can be.
    pub(in super::super) fn empty_log(&self) {
        if let Err(error) = space::checkpoint(&self.db, "TRUNCATE") {
            warn!(%error, "no checkpoint was made");
        }
    }
}
