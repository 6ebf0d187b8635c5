//! Whether the packs of a running epoch are locked long enough for another snapshot to refer to them.

use jiff::Timestamp;

use super::SnapshotJob;
use crate::error::Result;
use crate::model::id::EpochId;
use crate::model::object_lock::LockTerm;

impl SnapshotJob {
    /// Whether everything stored of an epoch is locked, at every target, for as long as snapshots that still join it
    /// require. If the configuration now requires longer locks, those of older packs end too early: a new epoch shares
    /// none of them.
    pub(super) fn locked_long_enough(&self, epoch: &EpochId) -> Result<bool> {
        for (target, term) in &self.locks {
            let known = self.state.epoch_lock(&self.database, epoch, target)?;
            if known.is_none_or(|until| until < until_at_least(term, epoch)) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Remembers until when everything in the epoch is locked now: for a shorter time than before, if the configuration
    /// now requires less.
    pub(super) fn remember_locks(&self, epoch: &EpochId) -> Result<()> {
        for (target, term) in &self.locks {
            self.state.set_epoch_lock(&self.database, epoch, target, until_at_least(term, epoch))?;
        }
        Ok(())
    }
}

/// Until when everything that is put during the epoch is locked at least.
fn until_at_least(term: &LockTerm, epoch: &EpochId) -> Timestamp {
    let began = epoch.time();
    term.lock(Some(began), began).until
}
