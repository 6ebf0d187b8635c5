//! The record of a prune: which receipts were removed, in clear and signed, so that anybody can tell a receipt that retention
//! removed from one that somebody deleted (see `docs/FORMAT.md`).

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::model::id::{DatabaseId, DatabaseName, PruneId, PublisherName, Sha256, SnapshotId};
use crate::repository::canonical;
use crate::repository::chain::Link;
use crate::repository::signed_record;

/// What is recorded of a prune, before the first receipt is deleted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PruneRecord {
    /// Format version.
    pub format: u32,
    /// What is recorded; `prune`.
    pub kind: PruneKind,
    /// The owner of the data.
    pub publisher: PublisherName,
    /// The database.
    pub database: DatabaseName,
    /// The record.
    pub prune: PruneId,
    /// Name and version of the writer.
    pub agent: String,
    /// When it was decided.
    pub decided_at: Timestamp,
    /// The snapshots whose receipts are deleted, by their place in the chain; at least one.
    pub snapshots: Vec<Pruned>,
}

/// What a [`PruneRecord`] records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum PruneKind {
    /// A prune.
    Prune,
}

/// A receipt that is deleted: its link stays in the chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Pruned {
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// Its place in the chain.
    pub sequence: u64,
    /// The hash that its receipt names as its predecessor's.
    pub previous: Option<Sha256>,
    /// SHA-256 of its receipt.
    pub receipt: Sha256,
    /// Why it is deleted, for people.
    pub reason: String,
}

impl Pruned {
    /// The link that its receipt was.
    pub(crate) fn link(&self) -> Link {
        Link {
            id: self.snapshot.clone(),
            sequence: self.sequence,
            previous: self.previous,
            hash: self.receipt,
        }
    }
}

impl PruneRecord {
    /// The bytes that are signed and stored.
    pub(crate) fn to_bytes(&self) -> Result<Vec<u8>> {
        canonical::to_bytes(self)
    }

    /// Parses the record that was found at its place. The caller has checked the signature of `bytes`.
    pub(crate) fn parse(bytes: &[u8], database: &DatabaseId, prune: &PruneId) -> Result<Self> {
        let record: Self =
            canonical::from_bytes(bytes).map_err(|e| e.context(format!("record of prune {prune}")))?;
        let says = (&record.publisher, &record.database, &record.prune);
        signed_record::require_place("record at prune", database, prune, says)?;
        if record.snapshots.is_empty() || !record.snapshots.is_sorted_by_key(|p| p.sequence) {
            return Err(Error::verification(format!(
                "record of prune {prune}: its snapshots are not in order"
            )));
        }
        Ok(record)
    }
}
