//! Signed records seen before: their bytes as they were signed. Their meaning is not known here.

use std::str::FromStr;

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{Head, State, parse};
use crate::error::{BoxError, Result, ResultExt};
use crate::model::id::{DatabaseId, DecisionId, DrillId, EpochId, PruneId, Sha256, SnapshotId};
use crate::model::level::By;

/// A record whose signature was checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SavedRecord {
    /// The bytes that were signed.
    pub bytes: Vec<u8>,
    /// The armored signature.
    pub signature: String,
    /// Fingerprint of the signer, `SHA256:…`.
    pub signer: String,
}

/// The receipt of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SavedReceipt {
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// Its place in the chain.
    pub sequence: u64,
    /// Its epoch.
    pub epoch: EpochId,
    /// What a look at the database needs of it.
    pub summary: SavedSummary,
    /// The receipt.
    pub record: SavedRecord,
}

/// A receipt at a glance: it may name ten thousand objects, which are not read with every look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SavedSummary {
    /// The receipt without its objects.
    pub bytes: Vec<u8>,
    /// Bytes of its objects.
    pub size: u64,
    /// The hash of the receipt.
    pub hash: Sha256,
    /// Bytes of the receipt itself, and of its signature.
    pub stored: [u64; 2],
}

/// The receipt of a drill.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SavedDrill {
    /// The drill.
    pub drill: DrillId,
    /// Who made it.
    pub by: By,
    /// Its place in the chain of its maker's drills.
    pub sequence: u64,
    /// The receipt.
    pub record: SavedRecord,
}

fn saved(row: &Row<'_>) -> rusqlite::Result<SavedRecord> {
    Ok(SavedRecord { bytes: row.get(0)?, signature: row.get(1)?, signer: row.get(2)? })
}

pub(super) fn integer(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

impl State {
    /// Remembers a receipt.
    pub(crate) fn save_receipt(&self, database: &DatabaseId, receipt: &SavedReceipt) -> Result<()> {
        save_receipt(&self.db(), database, receipt).or_internal("save a receipt in the state")
    }

    /// A receipt seen before.
    pub(crate) fn saved_receipt(
        &self,
        database: &DatabaseId,
        snapshot: &SnapshotId,
    ) -> Result<Option<SavedRecord>> {
        self.db()
            .query_row(
                "SELECT body, signature, signer FROM receipt WHERE database = ?1 AND snapshot = ?2",
                [database.to_string(), snapshot.to_string()],
                saved,
            )
            .optional()
            .or_internal("read a receipt from the state")
    }

    /// All receipts of a database at a glance, oldest first, each with its signature.
    pub(crate) fn saved_summaries(
        &self,
        database: &DatabaseId,
    ) -> Result<Vec<(SnapshotId, SavedSummary, String)>> {
        let what = "read receipts from the state";
        let db = self.db();
        let mut statement = db
            .prepare_cached(
                "SELECT snapshot, summary, size, hash, signature, length(body) FROM receipt WHERE database = ?1 ORDER BY sequence",
            )
            .or_internal(what)?;
        let rows = statement
            .query_map([database.to_string()], |r| {
                Ok((
                    r.get::<_, String>(0)?,
                    r.get(1)?,
                    r.get::<_, i64>(2)?,
                    r.get::<_, String>(3)?,
                    r.get::<_, String>(4)?,
                    r.get::<_, i64>(5)?,
                ))
            })
            .or_internal(what)?;
        rows.map(|row| {
            let (snapshot, bytes, size, hash, signature, body) = row.or_internal(what)?;
            let stored = [body.unsigned_abs(), signature.len() as u64];
            let summary = SavedSummary { bytes, size: size.unsigned_abs(), hash: parse(&hash)?, stored };
            Ok((parse(&snapshot)?, summary, signature))
        })
        .collect()
    }

    /// The newest receipt ever seen.
    pub(crate) fn head(&self, database: &DatabaseId) -> Result<Option<Head>> {
        let row = self
            .db()
            .query_row(
                "SELECT sequence, hash, snapshot FROM receipt WHERE database = ?1 ORDER BY sequence DESC LIMIT 1",
                [database.to_string()],
                |r| Ok((r.get::<_, i64>(0)?, r.get::<_, String>(1)?, r.get::<_, String>(2)?)),
            )
            .optional()
            .or_internal("read the head of the chain from the state")?;
        row.map(|(sequence, hash, snapshot)| {
            Ok(Head { sequence: sequence.unsigned_abs(), hash: parse(&hash)?, snapshot: parse(&snapshot)? })
        })
        .transpose()
    }

    /// The place in the chain of the newest known snapshot of an epoch.
    pub(crate) fn newest_of_epoch(&self, database: &DatabaseId, epoch: &EpochId) -> Result<Option<u64>> {
        let newest: Option<i64> = self
            .db()
            .query_row(
                "SELECT max(sequence) FROM receipt WHERE database = ?1 AND epoch = ?2",
                [database.to_string().as_str(), epoch.as_str()],
                |r| r.get(0),
            )
            .or_internal("read the snapshots of an epoch from the state")?;
        Ok(newest.map(i64::unsigned_abs))
    }

    /// Forgets a receipt that no target has any more. The newest is never one of these.
    pub(crate) fn forget_receipt(&self, database: &DatabaseId, snapshot: &SnapshotId) -> Result<()> {
        self.db()
            .execute(
                "DELETE FROM receipt WHERE database = ?1 AND snapshot = ?2
                 AND sequence < (SELECT max(sequence) FROM receipt WHERE database = ?1)",
                [database.to_string().as_str(), snapshot.as_str()],
            )
            .or_internal("forget a receipt in the state")
            .map(drop)
    }

    /// Remembers a drill.
    pub(crate) fn save_drill(&self, database: &DatabaseId, drill: &SavedDrill) -> Result<()> {
        let record = &drill.record;
        self.db()
            .execute(
                "INSERT OR REPLACE INTO drill (database, drill, maker, sequence, hash, body, signature, signer)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
                params![
                    database.to_string(),
                    drill.drill.as_str(),
                    drill.by.word(),
                    integer(drill.sequence),
                    Sha256::of(&record.bytes).to_string(),
                    record.bytes,
                    record.signature,
                    record.signer
                ],
            )
            .or_internal("save a drill in the state")
            .map(drop)
    }

    /// All drills of a database, oldest first.
    pub(crate) fn saved_drills(&self, database: &DatabaseId) -> Result<Vec<(DrillId, SavedRecord)>> {
        let what = "read drills from the state";
        let db = self.db();
        let mut statement = db
            .prepare_cached(
                "SELECT body, signature, signer, drill FROM drill WHERE database = ?1 ORDER BY drill",
            )
            .or_internal(what)?;
        let rows = statement
            .query_map([database.to_string()], |r| Ok((r.get::<_, String>(3)?, saved(r)?)))
            .or_internal(what)?;
        rows.map(|row| {
            let (drill, record) = row.or_internal(what)?;
            Ok((parse(&drill)?, record))
        })
        .collect()
    }

    /// The newest drill of one maker: its place in their chain, and its hash.
    pub(crate) fn drill_head(&self, database: &DatabaseId, by: By) -> Result<Option<(u64, Sha256)>> {
        let row = self
            .db()
            .query_row(
                "SELECT sequence, hash FROM drill WHERE database = ?1 AND maker = ?2
                 ORDER BY sequence DESC LIMIT 1",
                [database.to_string().as_str(), by.word()],
                |r| Ok((r.get::<_, i64>(0)?, r.get::<_, String>(1)?)),
            )
            .optional()
            .or_internal("read the newest drill from the state")?;
        row.map(|(sequence, hash)| Ok((sequence.unsigned_abs(), parse(&hash)?))).transpose()
    }

    /// Remembers the record of a prune.
    pub(crate) fn save_prune(
        &self,
        database: &DatabaseId,
        prune: &PruneId,
        record: &SavedRecord,
    ) -> Result<()> {
        self.save_under("prune", database, prune.as_str(), record)
    }

    /// Every record of a prune seen before, oldest first.
    pub(crate) fn saved_prunes(&self, database: &DatabaseId) -> Result<Vec<(PruneId, SavedRecord)>> {
        self.saved_under("prune", database)
    }

    /// Remembers a decision.
    pub(crate) fn save_decision(
        &self,
        database: &DatabaseId,
        decision: &DecisionId,
        record: &SavedRecord,
    ) -> Result<()> {
        self.save_under("decision", database, decision.as_str(), record)
    }

    /// Every decision seen before, oldest first.
    pub(crate) fn saved_decisions(&self, database: &DatabaseId) -> Result<Vec<(DecisionId, SavedRecord)>> {
        self.saved_under("decision", database)
    }

    /// Remembers a record of this kind, which is the name of its table and of the column of its id.
    fn save_under(&self, kind: &str, database: &DatabaseId, id: &str, record: &SavedRecord) -> Result<()> {
        let insert = format!(
            "INSERT OR REPLACE INTO {kind} (database, {kind}, body, signature, signer) VALUES (?1, ?2, ?3, ?4, ?5)"
        );
        self.db()
            .execute(
                &insert,
                params![database.to_string(), id, record.bytes, record.signature, record.signer],
            )
            .or_internal(format!("save a {kind} in the state"))
            .map(drop)
    }

    fn saved_under<I>(&self, kind: &str, database: &DatabaseId) -> Result<Vec<(I, SavedRecord)>>
    where
        I: FromStr<Err: Into<BoxError>>,
    {
        let what = format!("read the {kind}s from the state");
        let db = self.db();
        let select =
            format!("SELECT body, signature, signer, {kind} FROM {kind} WHERE database = ?1 ORDER BY {kind}");
        let mut statement = db.prepare_cached(&select).or_internal(&what)?;
        let rows = statement
            .query_map([database.to_string()], |r| Ok((r.get::<_, String>(3)?, saved(r)?)))
            .or_internal(&what)?;
        rows.map(|row| {
            let (id, record) = row.or_internal(&what)?;
            Ok((parse(&id)?, record))
        })
        .collect()
    }

    /// The snapshots of remembered receipts with a number above this one.
    pub(crate) fn snapshots_after(&self, database: &DatabaseId, sequence: u64) -> Result<Vec<SnapshotId>> {
        let what = "read receipts from the state";
        let db = self.db();
        let mut statement = db
            .prepare_cached("SELECT snapshot FROM receipt WHERE database = ?1 AND sequence > ?2")
            .or_internal(what)?;
        let rows = statement
            .query_map(params![database.to_string(), integer(sequence)], |r| r.get::<_, String>(0))
            .or_internal(what)?;
        rows.map(|row| parse(&row.or_internal(what)?)).collect()
    }
}

pub(super) fn save_receipt(
    db: &Connection,
    database: &DatabaseId,
    receipt: &SavedReceipt,
) -> rusqlite::Result<()> {
    let record = &receipt.record;
    db.execute(
        "INSERT OR REPLACE INTO receipt
         (database, snapshot, sequence, epoch, hash, summary, size, body, signature, signer)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
        params![
            database.to_string(),
            receipt.snapshot.as_str(),
            integer(receipt.sequence),
            receipt.epoch.as_str(),
            receipt.summary.hash.to_string(),
            receipt.summary.bytes,
            integer(receipt.summary.size),
            record.bytes,
            record.signature,
            record.signer
        ],
    )
    .map(drop)
}
