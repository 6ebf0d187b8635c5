//! What targets really guarantee, as probes found it, and until when epochs are locked there.

use jiff::Timestamp;
use rusqlite::OptionalExtension;

use super::{State, parse};
use crate::error::{Result, ResultExt};
use crate::model::guarantee::Guarantees;
use crate::model::id::{DatabaseId, EpochId, TargetName};

impl State {
    /// Remembers what the last probe of a target found.
    pub(crate) fn remember_guarantees(&self, target: &TargetName, found: &Guarantees) -> Result<()> {
        let body = serde_json::to_string(found).or_internal("serialise the guarantees of a target")?;
        self.write("save the guarantees of a target in the state", |db| {
            db.execute(
                "INSERT OR REPLACE INTO guarantee (target, body) VALUES (?1, ?2)",
                [target.as_str(), body.as_str()],
            )
        })
        .map(drop)
    }

    /// What the last probe of a target found. One that an older version of marbre wrote in another form is ignored.
    pub(crate) fn guarantees(&self, target: &TargetName) -> Result<Option<Guarantees>> {
        let body: Option<String> = self
            .db()
            .query_row("SELECT body FROM guarantee WHERE target = ?1", [target.as_str()], |r| r.get(0))
            .optional()
            .or_internal("read the guarantees of a target from the state")?;
        Ok(body.and_then(|body| serde_json::from_str(&body).ok()))
    }

    /// Until when at least all objects of an epoch are locked at a target.
    pub(crate) fn epoch_lock(
        &self,
        database: &DatabaseId,
        epoch: &EpochId,
        target: &TargetName,
    ) -> Result<Option<Timestamp>> {
        let until: Option<String> = self
            .db()
            .query_row(
                "SELECT until FROM epoch_lock WHERE database = ?1 AND epoch = ?2 AND target = ?3",
                [database.to_string().as_str(), epoch.as_str(), target.as_str()],
                |r| r.get(0),
            )
            .optional()
            .or_internal("read the lock of an epoch from the state")?;
        until.map(|until| parse(&until)).transpose()
    }

    /// Remembers until when an epoch is locked, and forgets earlier epochs.
    pub(crate) fn set_epoch_lock(
        &self,
        database: &DatabaseId,
        epoch: &EpochId,
        target: &TargetName,
        until: Timestamp,
    ) -> Result<()> {
        let (db, database) = (self.db(), database.to_string());
        let change = || -> rusqlite::Result<()> {
            db.execute(
                "DELETE FROM epoch_lock WHERE database = ?1 AND target = ?2 AND epoch <> ?3",
                [database.as_str(), target.as_str(), epoch.as_str()],
            )?;
            db.execute(
                "INSERT OR REPLACE INTO epoch_lock (database, epoch, target, until) VALUES (?1, ?2, ?3, ?4)",
                [database.as_str(), epoch.as_str(), target.as_str(), until.to_string().as_str()],
            )
            .map(drop)
        };
        change().or_internal("save the lock of an epoch in the state")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::guarantee::{Outcome, Trial};

    #[test]
    fn the_last_probe_and_the_current_epoch_are_remembered() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::open(folder.path()).unwrap();
        let (target, at) = ("nas".parse().unwrap(), "2026-11-22T02:00:00Z".parse().unwrap());
        assert_eq!(state.guarantees(&target).unwrap(), None);
        let mut found = Guarantees {
            at,
            place: "s3://bucket".to_owned(),
            caveat: None,
            trials: [(Trial::Race, Outcome::Held("one".to_owned()))].into(),
        };
        state.remember_guarantees(&target, &found).unwrap();
        found.trials.insert(Trial::Lock, Outcome::Untested("why".to_owned()));
        state.remember_guarantees(&target, &found).unwrap();
        assert_eq!(state.guarantees(&target).unwrap(), Some(found));

        let database = "gazette/abonnes".parse().unwrap();
        let [one, two] = [EpochId::new(at, 1), EpochId::new(at, 2)];
        let lock = |epoch| state.epoch_lock(&database, epoch, &target).unwrap();
        assert_eq!(lock(&one), None);
        state.set_epoch_lock(&database, &one, &target, at).unwrap();
        assert_eq!(lock(&one), Some(at));
        state.set_epoch_lock(&database, &two, &target, at).unwrap();
        assert_eq!((lock(&one), lock(&two)), (None, Some(at)));
    }
}
