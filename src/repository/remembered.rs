//! Records that the agent's state remembers. It keeps their bytes; what they say is known here.

use std::collections::BTreeMap;

use crate::error::{Result, ResultExt};
use crate::model::id::{DatabaseId, DrillId, SnapshotId};
use crate::repository::drill_receipt::{DrillReceipt, SignedDrill};
use crate::repository::prune_record::{PruneRecord, SignedPrune};
use crate::repository::receipt::{Receipt, SignedReceipt, Summary};
use crate::state::{SavedDrill, SavedReceipt, SavedRecord, SavedSummary, State};

/// Signed records in the state. Every one that goes in has had its signature checked.
pub(crate) trait Remembered {
    /// Remembers a receipt.
    fn remember_receipt(&self, database: &DatabaseId, receipt: &SignedReceipt) -> Result<()>;
    /// A receipt seen before.
    fn receipt(&self, database: &DatabaseId, snapshot: &SnapshotId) -> Result<Option<SignedReceipt>>;
    /// All receipts of a database seen before, without their objects.
    fn summaries(&self, database: &DatabaseId) -> Result<BTreeMap<SnapshotId, Summary>>;
    /// Remembers a drill.
    fn remember_drill(&self, database: &DatabaseId, drill: &SignedDrill) -> Result<()>;
    /// All drills of a database, oldest first.
    fn drills(&self, database: &DatabaseId) -> Result<Vec<SignedDrill>>;
    /// Remembers what a prune has removed.
    fn remember_prune(&self, database: &DatabaseId, prune: &SignedPrune) -> Result<()>;
    /// What prunes have removed, oldest first.
    fn prunes(&self, database: &DatabaseId) -> Result<Vec<SignedPrune>>;
}

impl SignedReceipt {
    /// The form in which the state keeps it.
    pub(crate) fn to_saved(&self) -> Result<SavedReceipt> {
        let Summary { receipt, hash, size } = self.summary();
        let summary = SavedSummary { bytes: receipt.to_bytes()?, size, hash };
        Ok(SavedReceipt {
            snapshot: receipt.snapshot,
            sequence: receipt.sequence,
            epoch: receipt.epoch,
            summary,
            record: SavedRecord {
                bytes: self.bytes.clone(),
                signature: self.signature.clone(),
                signer: self.signer.clone(),
            },
        })
    }
}

fn signed_drill(database: &DatabaseId, drill: &DrillId, saved: SavedRecord) -> Result<SignedDrill> {
    let SavedRecord { bytes, signature, signer } = saved;
    Ok(SignedDrill { receipt: DrillReceipt::parse(&bytes, database, drill)?, bytes, signature, signer })
}

impl Remembered for State {
    fn remember_receipt(&self, database: &DatabaseId, receipt: &SignedReceipt) -> Result<()> {
        self.save_receipt(database, &receipt.to_saved()?)
    }

    fn receipt(&self, database: &DatabaseId, snapshot: &SnapshotId) -> Result<Option<SignedReceipt>> {
        let Some(saved) = self.saved_receipt(database, snapshot)? else { return Ok(None) };
        let SavedRecord { bytes, signature, signer } = saved;
        let receipt = Receipt::parse(&bytes, database, snapshot)?;
        Ok(Some(SignedReceipt { receipt, bytes, signature, signer }))
    }

    fn summaries(&self, database: &DatabaseId) -> Result<BTreeMap<SnapshotId, Summary>> {
        let saved = self.saved_summaries(database)?.into_iter();
        saved
            .map(|(snapshot, SavedSummary { bytes, size, hash })| {
                let receipt = serde_json::from_slice(&bytes)
                    .or_internal("understand the state (delete the state folder: it is only a cache)")?;
                Ok((snapshot, Summary { receipt, hash, size }))
            })
            .collect()
    }

    fn remember_drill(&self, database: &DatabaseId, drill: &SignedDrill) -> Result<()> {
        let SignedDrill { receipt, bytes, signature, signer } = drill.clone();
        let record = SavedRecord { bytes, signature, signer };
        let (by, sequence) = (receipt.by, receipt.sequence);
        self.save_drill(database, &SavedDrill { drill: receipt.drill, by, sequence, record })
    }

    fn drills(&self, database: &DatabaseId) -> Result<Vec<SignedDrill>> {
        let saved = self.saved_drills(database)?;
        saved.into_iter().map(|(drill, saved)| signed_drill(database, &drill, saved)).collect()
    }

    fn remember_prune(&self, database: &DatabaseId, prune: &SignedPrune) -> Result<()> {
        self.save_prune(database, &prune.record.prune, &prune.bytes, &prune.signature)
    }

    fn prunes(&self, database: &DatabaseId) -> Result<Vec<SignedPrune>> {
        let saved = self.saved_prunes(database)?.into_iter();
        saved
            .map(|(prune, bytes, signature)| {
                let record = PruneRecord::parse(&bytes, database, &prune)?;
                Ok(SignedPrune { record, bytes, signature })
            })
            .collect()
    }
}
