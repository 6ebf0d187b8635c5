//! Databases that the agent remembers, and forgetting one whose archive was deleted.

use jiff::Timestamp;
use rusqlite::params;

use super::{State, parse};
use crate::error::{Result, ResultExt};
use crate::model::id::{DatabaseId, DecisionId, TargetName};

/// What is remembered of a database, but for who wrote it and what was decided: that is what a later archive of this name
/// goes on from.
const FORGOTTEN: [&str; 15] = [
    "epoch",
    "receipt",
    "proof",
    "drill",
    "prune",
    "known_chain",
    "claim",
    "claimed",
    "unneeded",
    "baseline",
    "lost_pack",
    "epoch_lock",
    "scheduled",
    "run",
    "slot",
];

impl State {
    /// The databases of which a receipt is remembered.
    pub(crate) fn databases(&self) -> Result<Vec<DatabaseId>> {
        let what = "read the databases from the state";
        let db = self.db();
        let mut statement =
            db.prepare_cached("SELECT DISTINCT database FROM receipt ORDER BY database").or_internal(what)?;
        let rows = statement.query_map([], |r| r.get::<_, String>(0)).or_internal(what)?;
        rows.map(|row| parse(&row.or_internal(what)?)).collect()
    }

    /// Forgets what a target holds of a database: it is gone there.
    pub(crate) fn forget_database_at(&self, database: &DatabaseId, target: &TargetName) -> Result<()> {
        let (name, place) = (database.to_string(), self.place_of(target)?);
        self.write("forget what a target holds in the state", |db| {
            let transaction = db.transaction()?;
            for (table, at) in [
                ("proof", place.as_str()),
                ("claimed", place.as_str()),
                ("unneeded", target.as_str()),
                ("epoch_lock", target.as_str()),
            ] {
                let delete = format!("DELETE FROM {table} WHERE database = ?1 AND target = ?2");
                transaction.execute(&delete, [name.as_str(), at])?;
            }
            transaction.execute(
                "DELETE FROM version WHERE target = ?1 AND substr(key, 1, length(?2)) = ?2",
                [place.as_str(), &format!("{name}/")],
            )?;
            transaction.commit()
        })
    }

    /// Until when at least the objects of the newest epoch of a database are locked at a target.
    pub(crate) fn locked_until(
        &self,
        database: &DatabaseId,
        target: &TargetName,
    ) -> Result<Option<Timestamp>> {
        let until: Option<String> = self
            .db()
            .query_row(
                "SELECT max(until) FROM epoch_lock WHERE database = ?1 AND target = ?2",
                [database.to_string().as_str(), target.as_str()],
                |r| r.get(0),
            )
            .or_internal("read the locks of a database from the state")?;
        until.map(|until| parse(&until)).transpose()
    }

    /// Forgets a database but for its agents and these decisions, and destroys the keys of its epochs.
    pub(crate) fn forget_database(&self, database: &DatabaseId, but: &[DecisionId]) -> Result<()> {
        self.destroy_epoch_keys(database)?;
        let streams = self.streams_folder(database);
        match std::fs::remove_dir_all(&streams) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                return Err(e).or_internal(format!("remove {}", streams.display()));
            }
            _ => {}
        }
        let decisions: Vec<DecisionId> =
            self.saved_decisions(database)?.into_iter().map(|(decision, _)| decision).collect();
        let name = database.to_string();
        self.write("forget a database in the state", |db| {
            let transaction = db.transaction()?;
            for table in FORGOTTEN {
                transaction.execute(&format!("DELETE FROM {table} WHERE database = ?1"), [&name])?;
            }
            for decision in decisions.iter().filter(|decision| !but.contains(decision)) {
                transaction.execute(
                    "DELETE FROM decision WHERE database = ?1 AND decision = ?2",
                    params![name, decision.as_str()],
                )?;
            }
            transaction
                .execute("DELETE FROM version WHERE substr(key, 1, length(?1)) = ?1", [format!("{name}/")])?;
            transaction.commit()
        })
    }

    /// Destroys the keys of all epochs of a database.
    pub(crate) fn destroy_epoch_keys(&self, database: &DatabaseId) -> Result<()> {
        self.kept_epochs(database)?.iter().try_for_each(|epoch| self.destroy_epoch_key(database, epoch))
    }
}
