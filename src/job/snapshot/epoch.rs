//! The epoch that a snapshot joins or begins.

use jiff::Timestamp;

use super::SnapshotJob;
use crate::error::{Error, Result};
use crate::job::key_policy;
use crate::keys::EpochKey;
use crate::model::id::EpochId;
use crate::repository::catalog::Catalog;
use crate::state::EpochState;

/// The epoch of this run: a running one, or one that has just begun.
pub(super) struct Epoch {
    pub state: EpochState,
    pub recipient: age::x25519::Recipient,
    pub full: bool,
}

impl SnapshotJob {
    /// The epoch in the state, as long as it is young enough and its recipients are the configured ones; else a new one.
    pub(super) fn epoch(&self, catalog: &Catalog, now: Timestamp) -> Result<Epoch> {
        let recipients = self.recipients.fingerprints();
        if let Some(state) = self.state.epoch(&self.database)? {
            let age = now.duration_since(state.created_at);
            let young = !age.is_negative() && age.unsigned_abs() < self.epoch;
            let locked = self.locked_long_enough(&state.epoch)?;
            let begun = catalog.entries.values().any(|e| e.receipt.epoch == state.epoch)
                || catalog.entries.is_empty() && !catalog.unreachable.is_empty();
            if young && begun && locked && state.recipients == recipients {
                let recipient = state
                    .recipient
                    .parse()
                    .map_err(|e| Error::internal("the state holds no valid epoch recipient").cause(e))?;
                return Ok(Epoch { state, recipient, full: false });
            }
        }
        let key = EpochKey::generate();
        let epoch = EpochId::new(now, rand::random());
        let sealed = key.seal(&self.recipients, &epoch, &self.database)?;
        // Unless it is kept for drills, only the publisher can open the epoch from here on: the key is
        // dropped with this scope.
        key_policy::keep(&self.state, &self.database, &epoch, &key, self.key_policy)?;
        let recipient = key.recipient();
        let state = EpochState {
            epoch,
            recipient: recipient.to_string(),
            row_key: rand::random(),
            sealed,
            created_at: now,
            recipients,
        };
        Ok(Epoch { state, recipient, full: true })
    }
}
