//! Drills in the state: their receipts, and what the last proven one found.

use rusqlite::{OptionalExtension, Row, params};

use super::{State, parse};
use crate::error::{Result, ResultExt};
use crate::model::id::{DatabaseId, DrillId, Sha256};
use crate::model::level::By;
use crate::repository::drill::{DrillReceipt, SignedDrill};

/// What the last proven snapshot held, for checks that compare with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Baseline {
    /// The snapshot's place in the chain.
    pub sequence: u64,
    /// What was found, in the form that its writer chose.
    pub body: String,
}

type Stored = (String, Vec<u8>, String, String);

fn stored(row: &Row<'_>) -> rusqlite::Result<Stored> {
    Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
}

fn signed((drill, bytes, signature, signer): Stored, database: &DatabaseId) -> Result<SignedDrill> {
    let receipt = DrillReceipt::parse(&bytes, database, &parse::<DrillId>(&drill)?)?;
    Ok(SignedDrill { receipt, bytes, signature, signer })
}

impl State {
    /// Remembers a drill whose signature was checked.
    pub fn remember_drill(&self, database: &DatabaseId, drill: &SignedDrill) -> Result<()> {
        let receipt = &drill.receipt;
        self.db()
            .execute(
                "INSERT OR REPLACE INTO drill (database, drill, maker, sequence, hash, body, signature, signer)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
                params![
                    database.to_string(),
                    receipt.drill.as_str(),
                    receipt.by.word(),
                    i64::try_from(receipt.sequence).unwrap_or(i64::MAX),
                    drill.hash().to_string(),
                    drill.bytes,
                    drill.signature,
                    drill.signer
                ],
            )
            .or_internal("save a drill in the state")
            .map(drop)
    }

    /// A drill seen before.
    pub fn drill(&self, database: &DatabaseId, drill: &DrillId) -> Result<Option<SignedDrill>> {
        let row = self
            .db()
            .query_row(
                "SELECT drill, body, signature, signer FROM drill WHERE database = ?1 AND drill = ?2",
                [database.to_string().as_str(), drill.as_str()],
                stored,
            )
            .optional()
            .or_internal("read a drill from the state")?;
        row.map(|row| signed(row, database)).transpose()
    }

    /// All drills of a database, oldest first.
    pub fn drills(&self, database: &DatabaseId) -> Result<Vec<SignedDrill>> {
        let what = "read drills from the state";
        let db = self.db();
        let mut statement = db
            .prepare_cached(
                "SELECT drill, body, signature, signer FROM drill WHERE database = ?1 ORDER BY drill",
            )
            .or_internal(what)?;
        let rows = statement.query_map([database.to_string()], stored).or_internal(what)?;
        rows.map(|row| signed(row.or_internal(what)?, database)).collect()
    }

    /// The newest drill of one maker: its place in their chain, and its hash.
    pub fn drill_head(&self, database: &DatabaseId, by: By) -> Result<Option<(u64, Sha256)>> {
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

    /// What the last proven snapshot held.
    pub fn baseline(&self, database: &DatabaseId) -> Result<Option<Baseline>> {
        self.db()
            .query_row(
                "SELECT sequence, body FROM baseline WHERE database = ?1",
                [database.to_string()],
                |r| Ok(Baseline { sequence: r.get::<_, i64>(0)?.unsigned_abs(), body: r.get(1)? }),
            )
            .optional()
            .or_internal("read the last proven values from the state")
    }

    /// Remembers what a proven snapshot held, unless that of a newer one is known.
    pub fn set_baseline(&self, database: &DatabaseId, baseline: &Baseline) -> Result<()> {
        self.db()
            .execute(
                "INSERT INTO baseline (database, sequence, body) VALUES (?1, ?2, ?3)
                 ON CONFLICT (database) DO UPDATE SET sequence = excluded.sequence, body = excluded.body
                 WHERE excluded.sequence >= baseline.sequence",
                params![
                    database.to_string(),
                    i64::try_from(baseline.sequence).unwrap_or(i64::MAX),
                    baseline.body
                ],
            )
            .or_internal("save the last proven values in the state")
            .map(drop)
    }
}
