//! Records that the agent's state remembers. It keeps their bytes; what they say is known here.

use std::collections::BTreeMap;

use crate::error::{Result, ResultExt};
use crate::keys::signing;
use crate::model::id::{DatabaseId, SnapshotId};
use crate::repository::decision::Decision;
use crate::repository::drill_receipt::DrillReceipt;
use crate::repository::prune_record::PruneRecord;
use crate::repository::receipt::{Receipt, SignedReceipt, Summary};
use crate::repository::signed_record::Signed;
use crate::repository::succession::{self, Succession};
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
    fn remember_drill(&self, database: &DatabaseId, drill: &Signed<DrillReceipt>) -> Result<()>;
    /// All drills of a database, oldest first.
    fn drills(&self, database: &DatabaseId) -> Result<Vec<Signed<DrillReceipt>>>;
    /// Remembers what a prune has removed.
    fn remember_prune(&self, database: &DatabaseId, prune: &Signed<PruneRecord>) -> Result<()>;
    /// What prunes have removed, oldest first.
    fn prunes(&self, database: &DatabaseId) -> Result<Vec<Signed<PruneRecord>>>;
    /// Remembers a decision.
    fn remember_decision(&self, database: &DatabaseId, decision: &Signed<Decision>) -> Result<()>;
    /// Decisions seen before, oldest first.
    fn decisions(&self, database: &DatabaseId) -> Result<Vec<Signed<Decision>>>;
    /// Remembers a succession.
    fn remember_succession(&self, database: &DatabaseId, succession: &Signed<Succession>) -> Result<()>;
    /// Successions seen before, by number.
    fn successions(&self, database: &DatabaseId) -> Result<Vec<Signed<Succession>>>;
}

impl SignedReceipt {
    /// The form in which the state keeps it.
    pub(crate) fn to_saved(&self) -> Result<SavedReceipt> {
        let Summary { receipt, hash, size, stored, .. } = self.summary()?;
        let summary = SavedSummary { bytes: receipt.to_bytes()?, size, hash, stored };
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
            .map(|(snapshot, SavedSummary { bytes, size, hash, stored }, signature)| {
                let receipt = serde_json::from_slice(&bytes)
                    .or_internal("understand the state (delete the state folder: it is only a cache)")?;
                let signer = signing::signer_of(signature.as_bytes())?;
                Ok((snapshot, Summary { receipt, hash, signer, size, stored }))
            })
            .collect()
    }

    fn remember_drill(&self, database: &DatabaseId, drill: &Signed<DrillReceipt>) -> Result<()> {
        let DrillReceipt { drill: id, by, sequence, .. } = &drill.record;
        let record = saved(drill);
        self.save_drill(database, &SavedDrill { drill: id.clone(), by: *by, sequence: *sequence, record })
    }

    fn drills(&self, database: &DatabaseId) -> Result<Vec<Signed<DrillReceipt>>> {
        let found = self.saved_drills(database)?.into_iter();
        found
            .map(|(drill, saved)| signed(saved, |saved| DrillReceipt::parse(&saved.bytes, database, &drill)))
            .collect()
    }

    fn remember_prune(&self, database: &DatabaseId, prune: &Signed<PruneRecord>) -> Result<()> {
        self.save_prune(database, &prune.record.prune, &saved(prune))
    }

    fn prunes(&self, database: &DatabaseId) -> Result<Vec<Signed<PruneRecord>>> {
        let found = self.saved_prunes(database)?.into_iter();
        found
            .map(|(prune, saved)| signed(saved, |saved| PruneRecord::parse(&saved.bytes, database, &prune)))
            .collect()
    }

    fn remember_decision(&self, database: &DatabaseId, decision: &Signed<Decision>) -> Result<()> {
        self.save_decision(database, &decision.record.decision, &saved(decision))
    }

    fn decisions(&self, database: &DatabaseId) -> Result<Vec<Signed<Decision>>> {
        let found = self.saved_decisions(database)?.into_iter();
        found.map(|(id, saved)| signed(saved, |saved| Decision::parse(&saved.bytes, database, &id))).collect()
    }

    fn remember_succession(&self, database: &DatabaseId, succession: &Signed<Succession>) -> Result<()> {
        self.save_succession(database, succession.record.number, &saved(succession))
    }

    fn successions(&self, database: &DatabaseId) -> Result<Vec<Signed<Succession>>> {
        let parse = |number, saved: &SavedRecord| {
            let signers = succession::signers(saved.signature.as_bytes(), &saved.bytes)?;
            Succession::parse(&saved.bytes, &signers, database, number)
        };
        let found = self.saved_successions(database)?.into_iter();
        found.map(|(number, saved)| signed(saved, |saved| parse(number, saved))).collect()
    }
}

/// The form in which the state keeps a record.
fn saved<T>(signed: &Signed<T>) -> SavedRecord {
    SavedRecord {
        bytes: signed.bytes.clone(),
        signature: signed.signature.clone(),
        signer: signed.signer.clone(),
    }
}

fn signed<T>(saved: SavedRecord, parse: impl FnOnce(&SavedRecord) -> Result<T>) -> Result<Signed<T>> {
    let record = parse(&saved)?;
    let SavedRecord { bytes, signature, signer } = saved;
    Ok(Signed { record, bytes, signature, signer })
}
