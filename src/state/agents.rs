//! Who writes: successions seen before, and the numbers that this agent has claimed.

use rusqlite::{Connection, OptionalExtension, params};

use super::State;
use super::records::{SavedRecord, integer};
use crate::error::{Result, ResultExt};
use crate::model::id::{DatabaseId, Sha256, TargetName};

/// Notes that this agent knows where the chain of a database ends: it has written a receipt, or has been told.
pub(super) fn know_chain(db: &Connection, database: &DatabaseId) -> rusqlite::Result<()> {
    db.execute("INSERT OR IGNORE INTO known_chain (database) VALUES (?1)", [database.to_string()]).map(drop)
}

impl State {
    /// Notes that this agent knows where the chain of a database ends.
    pub(crate) fn know_chain(&self, database: &DatabaseId) -> Result<()> {
        know_chain(&self.db(), database).or_internal("save in the state that the chain is known")
    }

    /// Whether this agent has known where the chain ends. That it remembers receipts is not enough: it may have read them
    /// while the target with the newest was away.
    pub(crate) fn knows_chain(&self, database: &DatabaseId) -> Result<bool> {
        let found: Option<i64> = self
            .db()
            .query_row("SELECT 1 FROM known_chain WHERE database = ?1", [database.to_string()], |r| r.get(0))
            .optional()
            .or_internal("read from the state whether the chain is known")?;
        Ok(found.is_some())
    }

    /// Remembers a succession.
    pub(crate) fn save_succession(
        &self,
        database: &DatabaseId,
        number: u64,
        record: &SavedRecord,
    ) -> Result<()> {
        self.db()
            .execute(
                "INSERT OR REPLACE INTO succession (database, hash, number, body, signature, signer)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                params![
                    database.to_string(),
                    Sha256::of(&record.bytes).to_string(),
                    integer(number),
                    record.bytes,
                    record.signature,
                    record.signer
                ],
            )
            .or_internal("save a succession in the state")
            .map(drop)
    }

    /// Every succession seen before, by number.
    pub(crate) fn saved_successions(&self, database: &DatabaseId) -> Result<Vec<(u64, SavedRecord)>> {
        let what = "read successions from the state";
        let db = self.db();
        let mut statement = db
            .prepare_cached(
                "SELECT body, signature, signer, number FROM succession WHERE database = ?1 ORDER BY number",
            )
            .or_internal(what)?;
        let rows = statement
            .query_map([database.to_string()], |r| {
                let record = SavedRecord { bytes: r.get(0)?, signature: r.get(1)?, signer: r.get(2)? };
                Ok((r.get::<_, i64>(3)?.unsigned_abs(), record))
            })
            .or_internal(what)?;
        rows.map(|row| row.or_internal(what)).collect()
    }

    /// The claim that this agent has made of a number, perhaps in a run that was cut off.
    pub(crate) fn claim(
        &self,
        database: &DatabaseId,
        succession: u64,
        sequence: u64,
    ) -> Result<Option<Vec<u8>>> {
        self.db()
            .query_row(
                "SELECT body FROM claim WHERE database = ?1 AND succession = ?2 AND sequence = ?3",
                params![database.to_string(), integer(succession), integer(sequence)],
                |r| r.get(0),
            )
            .optional()
            .or_internal("read a claim from the state")
    }

    /// Remembers a claim, before it is put anywhere. Older ones are done with.
    pub(crate) fn remember_claim(
        &self,
        database: &DatabaseId,
        (succession, sequence): (u64, u64),
        body: &[u8],
    ) -> Result<()> {
        let what = "save a claim in the state";
        let mut db = self.db();
        let transaction = db.transaction().or_internal(what)?;
        for table in ["claim", "claimed"] {
            let forget = format!(
                "DELETE FROM {table} WHERE database = ?1 AND (succession < ?2 OR succession = ?2 AND sequence < ?3)"
            );
            transaction
                .execute(&forget, params![database.to_string(), integer(succession), integer(sequence)])
                .or_internal(what)?;
        }
        transaction
            .execute(
                "INSERT OR REPLACE INTO claim (database, succession, sequence, body) VALUES (?1, ?2, ?3, ?4)",
                params![database.to_string(), integer(succession), integer(sequence), body],
            )
            .or_internal(what)?;
        transaction.commit().or_internal(what)
    }

    /// Remembers that a target has created this agent's claim.
    pub(crate) fn claim_created(
        &self,
        database: &DatabaseId,
        (succession, sequence): (u64, u64),
        target: &TargetName,
    ) -> Result<()> {
        let place = self.place_of(target)?;
        self.db()
            .execute(
                "INSERT OR REPLACE INTO claimed (database, succession, sequence, target) VALUES (?1, ?2, ?3, ?4)",
                params![database.to_string(), integer(succession), integer(sequence), place],
            )
            .or_internal("save a claim in the state")
            .map(drop)
    }

    /// Whether a target once said that it created this agent's claim.
    pub(crate) fn is_claimed_at(
        &self,
        database: &DatabaseId,
        (succession, sequence): (u64, u64),
        target: &TargetName,
    ) -> Result<bool> {
        let place = self.place_of(target)?;
        let found: Option<i64> = self
            .db()
            .query_row(
                "SELECT 1 FROM claimed WHERE database = ?1 AND succession = ?2 AND sequence = ?3 AND target = ?4",
                params![database.to_string(), integer(succession), integer(sequence), place],
                |r| r.get(0),
            )
            .optional()
            .or_internal("read a claim from the state")?;
        Ok(found.is_some())
    }
}
