//! Which levels were proven for which snapshot at which target, and where damage was found.

use jiff::Timestamp;
use rusqlite::{OptionalExtension, params};

use super::{State, parse, whole_second};
use crate::error::{Error, Result, ResultExt};
use crate::model::id::{DatabaseId, SnapshotId, TargetName};
use crate::model::level::{Level, Levels};

/// Stored in place of a level, for damage that was found.
const DAMAGED: &str = "damaged";

impl State {
    /// Records that a level was proven. A copy that could be read back completely is not damaged (any more).
    pub(crate) fn prove(
        &self,
        database: &DatabaseId,
        snapshot: &SnapshotId,
        target: &TargetName,
        level: Level,
        at: Timestamp,
    ) -> Result<()> {
        self.save_proof(database, snapshot, target, level.word(), at)?;
        match level {
            Level::Intact => self.forget_proof(database, snapshot, target, DAMAGED),
            _ => Ok(()),
        }
    }

    /// Revokes what was proven about the bytes at a target, because damage was found at this time.
    pub(crate) fn disprove(
        &self,
        database: &DatabaseId,
        snapshot: &SnapshotId,
        target: &TargetName,
        at: Timestamp,
    ) -> Result<()> {
        self.forget_proof(database, snapshot, target, Level::Intact.word())?;
        self.save_proof(database, snapshot, target, DAMAGED, at)
    }

    fn save_proof(
        &self,
        database: &DatabaseId,
        snapshot: &SnapshotId,
        target: &TargetName,
        level: &str,
        at: Timestamp,
    ) -> Result<()> {
        let place = self.place_of(target)?;
        self.db()
            .execute(
                "INSERT OR REPLACE INTO proof (database, snapshot, target, level, at) VALUES (?1, ?2, ?3, ?4, ?5)",
                params![database.to_string(), snapshot.as_str(), place, level, whole_second(at)],
            )
            .or_internal("save a proof in the state")
            .map(drop)
    }

    fn forget_proof(
        &self,
        database: &DatabaseId,
        snapshot: &SnapshotId,
        target: &TargetName,
        level: &str,
    ) -> Result<()> {
        let place = self.place_of(target)?;
        self.db()
            .execute(
                "DELETE FROM proof WHERE database = ?1 AND snapshot = ?2 AND target = ?3 AND level = ?4",
                params![database.to_string(), snapshot.as_str(), place, level],
            )
            .or_internal("revoke a proof in the state")
            .map(drop)
    }

    /// The levels proven for a snapshot at a target without a restore. What drills prove is in their receipts.
    pub(crate) fn levels(
        &self,
        database: &DatabaseId,
        snapshot: &SnapshotId,
        target: &TargetName,
    ) -> Result<Levels> {
        let place = self.place_of(target)?;
        let db = self.db();
        let mut levels = Levels::default();
        let mut statement = db
            .prepare_cached(
                "SELECT level, at FROM proof WHERE database = ?1 AND snapshot = ?2 AND target = ?3",
            )
            .or_internal("read proofs from the state")?;
        let rows = statement
            .query_map([database.to_string(), snapshot.to_string(), place], |r| {
                Ok((r.get::<_, String>(0)?, r.get::<_, String>(1)?))
            })
            .or_internal("read proofs from the state")?;
        for row in rows {
            let (level, at) = row.or_internal("read proofs from the state")?;
            let at = Some(parse(&at)?);
            match level.as_str() {
                "stored" => levels.stored = at,
                "intact" => levels.intact = at,
                DAMAGED => levels.damaged = at,
                // Earlier releases stored these here; they are now read from the receipts of drills.
                "restored" | "owner-restored" => {}
                other => {
                    return Err(Error::internal(format!("the state contains an unknown level {other:?}")));
                }
            }
        }
        Ok(levels)
    }

    /// The newest snapshot, by its place in the chain, that a target once acknowledged.
    pub(crate) fn newest_stored_at(
        &self,
        database: &DatabaseId,
        target: &TargetName,
    ) -> Result<Option<SnapshotId>> {
        let place = self.place_of(target)?;
        let newest: Option<String> = self
            .db()
            .query_row(
                "SELECT p.snapshot FROM proof p JOIN receipt r USING (database, snapshot)
                 WHERE p.database = ?1 AND p.target = ?2 AND p.level = ?3 ORDER BY r.sequence DESC LIMIT 1",
                [database.to_string().as_str(), place.as_str(), Level::Stored.word()],
                |r| r.get(0),
            )
            .optional()
            .or_internal("read the newest stored snapshot from the state")?;
        newest.map(|snapshot| parse(&snapshot)).transpose()
    }

    /// The snapshots of a database that a target once acknowledged, oldest first.
    pub(crate) fn stored_at(&self, database: &DatabaseId, target: &TargetName) -> Result<Vec<SnapshotId>> {
        let what = "read stored snapshots from the state";
        let place = self.place_of(target)?;
        let db = self.db();
        let mut statement = db
            .prepare_cached(
                "SELECT snapshot FROM proof WHERE database = ?1 AND target = ?2 AND level = ?3 ORDER BY snapshot",
            )
            .or_internal(what)?;
        let rows = statement
            .query_map([database.to_string().as_str(), place.as_str(), Level::Stored.word()], |r| {
                r.get::<_, String>(0)
            })
            .or_internal(what)?;
        rows.map(|r| parse(&r.or_internal(what)?)).collect()
    }
}
