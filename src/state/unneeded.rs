//! Retention in the state: for how long objects are known to be unneeded, and what is forgotten with them.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use rusqlite::params;

use super::{State, parse};
use crate::error::{Result, ResultExt};
use crate::model::id::{DatabaseId, SnapshotId, TargetName};
use crate::model::object::ObjectKey;

/// For how long an object has been known to be unneeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Waited {
    /// The counted time, in whole milliseconds.
    pub time: Duration,
    /// When this was last updated, by the clock at that time.
    pub seen: Timestamp,
    /// Its bytes.
    pub size: u64,
}

impl State {
    /// For how long each object of a database at a target has been known to be unneeded.
    pub(crate) fn unneeded(
        &self,
        database: &DatabaseId,
        target: &TargetName,
    ) -> Result<BTreeMap<ObjectKey, Waited>> {
        let what = "read unneeded objects from the state";
        let db = self.db();
        let mut statement = db
            .prepare_cached(
                "SELECT key, waited, seen, size FROM unneeded WHERE database = ?1 AND target = ?2",
            )
            .or_internal(what)?;
        let rows = statement
            .query_map([database.to_string().as_str(), target.as_str()], |r| {
                Ok((r.get::<_, String>(0)?, r.get::<_, i64>(1)?, r.get::<_, String>(2)?, r.get::<_, i64>(3)?))
            })
            .or_internal(what)?;
        rows.map(|row| {
            let (key, time, seen, size) = row.or_internal(what)?;
            let time = Duration::from_millis(time.max(0).unsigned_abs());
            Ok((parse(&key)?, Waited { time, seen: parse(&seen)?, size: size.unsigned_abs() }))
        })
        .collect()
    }

    /// Bytes of the objects of a database that were unneeded at a target when it was last pruned.
    pub(crate) fn unneeded_bytes(&self, database: &DatabaseId, target: &TargetName) -> Result<u64> {
        let sum: i64 = self
            .db()
            .query_row(
                "SELECT coalesce(sum(size), 0) FROM unneeded WHERE database = ?1 AND target = ?2",
                [database.to_string().as_str(), target.as_str()],
                |r| r.get(0),
            )
            .or_internal("read unneeded objects from the state")?;
        Ok(sum.unsigned_abs())
    }

    /// Remembers exactly these as unneeded. An object that is needed again in between starts over.
    pub(crate) fn set_unneeded(
        &self,
        database: &DatabaseId,
        target: &TargetName,
        objects: &BTreeMap<ObjectKey, Waited>,
    ) -> Result<()> {
        let mut db = self.db();
        let mut change = || -> rusqlite::Result<()> {
            let transaction = db.transaction()?;
            let [database, target] = [database.to_string(), target.to_string()];
            let mut delete =
                transaction.prepare("DELETE FROM unneeded WHERE database = ?1 AND target = ?2")?;
            delete.execute([&database, &target])?;
            let mut insert = transaction.prepare(
                "INSERT INTO unneeded (database, target, key, waited, seen, size) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            )?;
            for (key, waited) in objects {
                let time = i64::try_from(waited.time.as_millis()).unwrap_or(i64::MAX);
                let (seen, size) = (waited.seen.to_string(), i64::try_from(waited.size).unwrap_or(i64::MAX));
                insert.execute(params![database, target, key.as_str(), time, seen, size])?;
            }
            drop((delete, insert));
            transaction.commit()
        };
        change().or_internal("save unneeded objects in the state")
    }

    /// Forgets that a target ever held a snapshot: retention has removed it there.
    pub(crate) fn forget_snapshot_at(
        &self,
        database: &DatabaseId,
        snapshot: &SnapshotId,
        target: &TargetName,
    ) -> Result<()> {
        self.db()
            .execute(
                "DELETE FROM proof WHERE database = ?1 AND snapshot = ?2 AND target = ?3",
                [database.to_string().as_str(), snapshot.as_str(), target.as_str()],
            )
            .or_internal("forget a snapshot in the state")
            .map(drop)
    }

    /// Forgets which version of an object was ours: it is gone.
    pub(crate) fn forget_version(&self, target: &TargetName, key: &ObjectKey) -> Result<()> {
        self.db()
            .execute("DELETE FROM version WHERE target = ?1 AND key = ?2", [target.as_str(), key.as_str()])
            .or_internal("forget an object's version in the state")
            .map(drop)
    }
}
