//! Whether the packs of a running epoch are locked for long enough that another snapshot may refer to them.

use jiff::Timestamp;

use super::SnapshotJob;
use crate::error::Result;
use crate::model::id::EpochId;
use crate::model::object_lock::LockTerm;

impl SnapshotJob {
    /// Whether what was put of an epoch is locked everywhere for as long as snapshots that still join it ask for. Where
    /// the configuration now asks for more than it did, older packs are free too early: a new epoch shares none of them.
    pub(super) fn locked_long_enough(&self, epoch: &EpochId) -> Result<bool> {
        for (target, term) in &self.locks {
            let known = self.state.epoch_lock(&self.database, epoch, target)?;
            if known.is_none_or(|until| until < until_at_least(term, epoch)) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Remembers until when everything of the epoch is locked now: for less long than before, where the configuration has
    /// come to ask for less.
    pub(super) fn remember_locks(&self, epoch: &EpochId) -> Result<()> {
        for (target, term) in &self.locks {
            self.state.set_epoch_lock(&self.database, epoch, target, until_at_least(term, epoch))?;
        }
        Ok(())
    }
}

/// Until when everything is locked that is put while the epoch lasts.
fn until_at_least(term: &LockTerm, epoch: &EpochId) -> Timestamp {
    let began = epoch.time();
    term.lock(Some(began), began).until
}
