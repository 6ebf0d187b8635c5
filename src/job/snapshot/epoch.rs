//! The epoch that a snapshot joins or begins.

use jiff::Timestamp;

use super::SnapshotJob;
use crate::error::{Error, Result};
use crate::job::key_policy;
use crate::keys::EpochKey;
use crate::model::id::EpochId;
use crate::state::EpochState;

/// The epoch of this run: a running one, or one that has just begun.
pub(super) struct Epoch {
    pub state: EpochState,
    pub recipient: age::x25519::Recipient,
    /// No snapshot of it is recorded yet.
    pub full: bool,
    /// What people should know.
    pub warnings: Vec<String>,
}

impl SnapshotJob {
    /// The epoch in the state, as long as it is young enough and its recipients are the configured ones; else a new one.
    pub(super) fn epoch(&self, now: Timestamp) -> Result<Epoch> {
        if let Some(mut state) = self.state.epoch(&self.database)? {
            let full = self.state.newest_of_epoch(&self.database, &state.epoch)?.is_none();
            if self.goes_on(&state, full, now)? {
                let recipient = state
                    .recipient
                    .parse()
                    .map_err(|e| Error::internal("the state holds no valid epoch recipient").cause(e))?;
                if full {
                    // It counts from its first snapshot, however many runs that took.
                    state.created_at = now;
                }
                return Ok(Epoch { state, recipient, full, warnings: Vec::new() });
            }
        }
        self.begin(now)
    }

    fn goes_on(&self, state: &EpochState, full: bool, now: Timestamp) -> Result<bool> {
        let age = now.duration_since(state.created_at);
        let young = !age.is_negative() && age.unsigned_abs() < self.epoch;
        // A first snapshot over a slow line may take longer than an epoch. Where objects are locked, what was put first must
        // still be so for as long as the whole.
        let young = young || full && self.locks.is_empty();
        Ok(young
            && state.recipients == self.recipients.fingerprints()
            && self.locked_long_enough(&state.epoch)?)
    }

    fn begin(&self, now: Timestamp) -> Result<Epoch> {
        let key = EpochKey::generate();
        let epoch = EpochId::new(now, rand::random());
        let sealed = key.seal(&self.recipients, &epoch, &self.database)?;
        let recipient = key.recipient();
        let state = EpochState {
            epoch,
            recipient: recipient.to_string(),
            row_key: rand::random(),
            sealed,
            created_at: now,
            recipients: self.recipients.fingerprints(),
        };
        // A state that cannot be written costs reuse and drills, not the snapshot.
        let saved = self.save(&state, &key).err();
        let warnings = saved.map(|e| {
            format!("the epoch could not be saved, so the next snapshot begins another, and this one cannot be drilled here: {e}")
        });
        Ok(Epoch { state, recipient, full: true, warnings: warnings.into_iter().collect() })
    }

    /// Unless its key is kept for drills, only the publisher can open the epoch from here on.
    fn save(&self, state: &EpochState, key: &EpochKey) -> Result<()> {
        key_policy::keep(&self.state, &self.database, &state.epoch, key, self.key_policy)?;
        self.state.begin_epoch(&self.database, state)?;
        self.remember_locks(&state.epoch)
    }
}
