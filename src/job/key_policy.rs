//! How long the agent can open an epoch: while its drills are due, and no longer.

use std::time::Duration;

use jiff::Timestamp;

use crate::error::Result;
use crate::keys::EpochKey;
use crate::model::id::{DatabaseId, EpochId};
use crate::model::level::{By, Level};
use crate::repository::remembered::Remembered as _;
use crate::state::State;

/// Which keys the agent keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyPolicy {
    /// Keep the key of the current epoch. Otherwise the key is dropped once it is sealed, and only the
    /// owner can drill.
    pub keep: bool,
    /// How long the key of a finished epoch waits for its last drill.
    pub longest: Duration,
}

/// Keeps the key of a new epoch, if the policy says so.
pub(crate) fn keep(
    state: &State,
    database: &DatabaseId,
    epoch: &EpochId,
    key: &EpochKey,
    policy: KeyPolicy,
) -> Result<()> {
    match policy.keep {
        true => state.keep_epoch_key(database, epoch, &key.to_secret()),
        false => Ok(()),
    }
}

/// Destroys the keys of epochs for which no drill is due any more, and returns these epochs. The caller holds the
/// database's lock: an epoch that is just beginning is in no receipt yet.
pub(crate) fn retire(
    state: &State,
    database: &DatabaseId,
    policy: KeyPolicy,
    now: Timestamp,
) -> Result<Vec<EpochId>> {
    let kept = state.kept_epochs(database)?;
    let current = state.epoch(database)?.map(|e| e.epoch);
    let mut destroyed = Vec::new();
    for epoch in &kept {
        let is_current = current.as_ref() == Some(epoch);
        // Names of the same second have no order: if there is a current epoch, all others are finished.
        let next = kept.iter().chain(&current).filter(|e| *e > epoch).min().or(current.as_ref());
        let due = match next {
            _ if !policy.keep => false,
            // Without a later epoch, this one may continue.
            _ if is_current => true,
            None => true,
            Some(next) => drill_is_due(state, database, epoch, next, policy.longest, now)?,
        };
        if !due {
            state.destroy_epoch_key(database, epoch)?;
            destroyed.push(epoch.clone());
        }
    }
    Ok(destroyed)
}

/// Whether the newest snapshot of a finished epoch still has to be proven.
fn drill_is_due(
    state: &State,
    database: &DatabaseId,
    epoch: &EpochId,
    next: &EpochId,
    longest: Duration,
    now: Timestamp,
) -> Result<bool> {
    let Some(newest) = state.newest_of_epoch(database, epoch)? else {
        // The run that began it never wrote a receipt.
        return Ok(false);
    };
    let over = now.duration_since(next.time()).as_secs();
    let expired = over > i64::try_from(longest.as_secs()).unwrap_or(i64::MAX);
    let proven = state.drills(database)?.iter().any(|drill| {
        let receipt = &drill.record;
        receipt.by == By::Agent
            && receipt.level == Some(Level::Restored)
            && receipt.subject.as_ref().is_some_and(|s| s.sequence >= newest)
    });
    Ok(!expired && !proven)
}
