//! What became of the slots of schedules.

use jiff::{SignedDuration, Timestamp};
use rusqlite::{OptionalExtension, Row, params};

use super::{State, parse};
use crate::error::{Result, ResultExt};
use crate::model::id::DatabaseId;
use crate::model::job::{JobKind, SlotState};

/// The detail of runs during which the daemon died.
pub(crate) const DIED: &str = "the daemon died while it ran";

/// How many records of one job are kept.
const KEPT: i64 = 1000;

/// A job of a database, and its current rule (expression and time zone).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Scheduled {
    /// The database.
    pub database: DatabaseId,
    /// The job.
    pub kind: JobKind,
    /// The rule as text. Another rule has other slots.
    pub rule: String,
}

/// One or more slots covered by one run (or one miss).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slots {
    /// The first of them.
    pub first: Timestamp,
    /// The last of them.
    pub last: Timestamp,
    /// How many there are.
    pub count: u64,
}

/// What became of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotRecord {
    /// The slots.
    pub slots: Slots,
    /// How late they were noticed; zero if the daemon was running when they came.
    pub late: SignedDuration,
    /// What became of them.
    pub state: SlotState,
    /// Since when.
    pub at: Timestamp,
    /// The reason or the result.
    pub detail: Option<String>,
}

/// A record that was just made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Opened {
    /// Its number.
    pub id: i64,
    /// How many runs of this job were started before.
    pub runs_before: u64,
}

type Stored = (String, String, i64, i64, String, String, Option<String>);

impl State {
    /// Up to which moment every slot of this rule is accounted for. `None` for a new rule.
    pub(crate) fn accounted(&self, job: &Scheduled) -> Result<Option<Timestamp>> {
        let row: Option<(String, String)> = self
            .db()
            .query_row(
                "SELECT rule, accounted FROM scheduled WHERE database = ?1 AND job = ?2",
                [job.database.to_string().as_str(), job.kind.word()],
                |r| Ok((r.get(0)?, r.get(1)?)),
            )
            .optional()
            .or_internal("read the last slot from the state")?;
        row.filter(|(rule, _)| *rule == job.rule).map(|(_, at)| parse(&at)).transpose()
    }

    /// Starts to account for the slots of this rule at this moment.
    pub(crate) fn account_from(&self, job: &Scheduled, at: Timestamp) -> Result<()> {
        self.write("save the last slot in the state", |db| save_accounted(db, job, at))
    }

    /// Records what becomes of slots, and that everything up to `accounted` is accounted for, atomically.
    pub(crate) fn open_slot(
        &self,
        job: &Scheduled,
        record: &SlotRecord,
        accounted: Timestamp,
    ) -> Result<Opened> {
        self.write("save a slot in the state", |db| {
            let transaction = db.transaction()?;
            save_accounted(&transaction, job, accounted)?;
            let (database, kind) = (job.database.to_string(), job.kind.word());
            let runs: i64 = transaction.query_row(
                "SELECT runs FROM scheduled WHERE database = ?1 AND job = ?2",
                [database.as_str(), kind],
                |r| r.get(0),
            )?;
            if record.state == SlotState::Running {
                transaction.execute(
                    "UPDATE scheduled SET runs = runs + 1 WHERE database = ?1 AND job = ?2",
                    [database.as_str(), kind],
                )?;
            }
            transaction.execute(
                "INSERT INTO slot (database, job, first, last, slots, state, at, detail, late)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
                params![
                    database,
                    kind,
                    record.slots.first.to_string(),
                    record.slots.last.to_string(),
                    i64::try_from(record.slots.count).unwrap_or(i64::MAX),
                    record.state.word(),
                    record.at.to_string(),
                    record.detail,
                    record.late.as_secs()
                ],
            )?;
            let id = transaction.last_insert_rowid();
            transaction.execute(
                "DELETE FROM slot WHERE database = ?1 AND job = ?2 AND id NOT IN
                 (SELECT id FROM slot WHERE database = ?1 AND job = ?2 ORDER BY id DESC LIMIT ?3)",
                params![database, kind, KEPT],
            )?;
            transaction.commit()?;
            Ok(Opened { id, runs_before: runs.unsigned_abs() })
        })
    }

    /// Records how a run ended.
    pub(crate) fn close_slot(
        &self,
        id: i64,
        state: SlotState,
        at: Timestamp,
        detail: Option<&str>,
    ) -> Result<()> {
        self.write("save the end of a slot in the state", |db| {
            db.execute(
                "UPDATE slot SET state = ?2, at = ?3, detail = ?4 WHERE id = ?1",
                params![id, state.word(), at.to_string(), detail],
            )
        })
        .map(drop)
    }

    /// Marks runs during which the daemon died as interrupted.
    pub(crate) fn settle_slots(&self, job: &Scheduled, at: Timestamp) -> Result<()> {
        self.write("save the end of slots in the state", |db| {
            db.execute(
                "UPDATE slot SET state = ?3, at = ?4, detail = ?6 WHERE database = ?1 AND job = ?2 AND state = ?5",
                params![
                    job.database.to_string(),
                    job.kind.word(),
                    SlotState::Interrupted.word(),
                    at.to_string(),
                    SlotState::Running.word(),
                    DIED
                ],
            )
        })
        .map(drop)
    }

    /// The records of a job, the newest first.
    pub fn slots(&self, database: &DatabaseId, kind: JobKind) -> Result<Vec<SlotRecord>> {
        self.read_slots(database, kind, KEPT)
    }

    /// The newest records of a job, the newest first.
    pub(crate) fn recent_slots(
        &self,
        database: &DatabaseId,
        kind: JobKind,
        limit: usize,
    ) -> Result<Vec<SlotRecord>> {
        self.read_slots(database, kind, i64::try_from(limit).unwrap_or(KEPT))
    }

    /// The newest record of a job.
    pub(crate) fn last_slot(&self, database: &DatabaseId, kind: JobKind) -> Result<Option<SlotRecord>> {
        Ok(self.read_slots(database, kind, 1)?.pop())
    }

    fn read_slots(&self, database: &DatabaseId, kind: JobKind, limit: i64) -> Result<Vec<SlotRecord>> {
        let what = "read slots from the state";
        let db = self.db();
        let mut statement = db
            .prepare_cached(
                "SELECT first, last, slots, late, state, at, detail FROM slot WHERE database = ?1 AND job = ?2
                 ORDER BY id DESC LIMIT ?3",
            )
            .or_internal(what)?;
        let stored = |r: &Row<'_>| -> rusqlite::Result<Stored> {
            Ok((r.get(0)?, r.get(1)?, r.get(2)?, r.get(3)?, r.get(4)?, r.get(5)?, r.get(6)?))
        };
        let rows = statement
            .query_map(params![database.to_string(), kind.word(), limit], stored)
            .or_internal(what)?;
        rows.map(|row| {
            let (first, last, count, late, state, at, detail) = row.or_internal(what)?;
            let slots = Slots { first: parse(&first)?, last: parse(&last)?, count: count.unsigned_abs() };
            let late = SignedDuration::from_secs(late);
            Ok(SlotRecord { slots, late, state: parse(&state)?, at: parse(&at)?, detail })
        })
        .collect()
    }
}

fn save_accounted(db: &rusqlite::Connection, job: &Scheduled, at: Timestamp) -> rusqlite::Result<()> {
    db.execute(
        "INSERT INTO scheduled (database, job, rule, accounted, runs) VALUES (?1, ?2, ?3, ?4, 0)
         ON CONFLICT (database, job) DO UPDATE SET rule = excluded.rule, accounted = excluded.accounted",
        params![job.database.to_string(), job.kind.word(), job.rule, at.to_string()],
    )
    .map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_795_000_000 + second).unwrap()
    }

    fn record(second: i64, state: SlotState) -> SlotRecord {
        let slots = Slots { first: at(second), last: at(second), count: 1 };
        SlotRecord { slots, late: SignedDuration::ZERO, state, at: at(second), detail: None }
    }

    #[test]
    fn a_record_and_what_is_accounted_for_are_written_together() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::open(folder.path()).unwrap();
        let database: DatabaseId = "gazette/abonnes".parse().unwrap();
        let job =
            Scheduled { database: database.clone(), kind: JobKind::Drill, rule: "@daily UTC".to_owned() };
        assert_eq!(state.accounted(&job).unwrap(), None);
        state.account_from(&job, at(0)).unwrap();
        let first = state.open_slot(&job, &record(1, SlotState::Running), at(1)).unwrap();
        state.open_slot(&job, &record(2, SlotState::Missed), at(2)).unwrap();
        state.close_slot(first.id, SlotState::Done, at(3), Some("passed")).unwrap();
        let second = state.open_slot(&job, &record(4, SlotState::Running), at(4)).unwrap();
        assert_eq!((first.runs_before, second.runs_before), (0, 1), "a slot that was missed is no run");
        assert_eq!(state.accounted(&job).unwrap(), Some(at(4)));
        state.settle_slots(&job, at(9)).unwrap();
        let states: Vec<SlotState> =
            state.slots(&database, JobKind::Drill).unwrap().iter().map(|r| r.state).collect();
        assert_eq!(states, [SlotState::Interrupted, SlotState::Missed, SlotState::Done]);
        assert!(state.slots(&database, JobKind::Snapshot).unwrap().is_empty());
        let other = Scheduled { rule: "@hourly UTC".to_owned(), ..job };
        assert_eq!(state.accounted(&other).unwrap(), None, "another rule has other slots");
    }

    #[test]
    fn old_records_are_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::open(folder.path()).unwrap();
        let database: DatabaseId = "gazette/abonnes".parse().unwrap();
        let job =
            Scheduled { database: database.clone(), kind: JobKind::Verify, rule: "@daily UTC".to_owned() };
        for n in 0..KEPT + 5 {
            state.open_slot(&job, &record(n, SlotState::Done), at(n)).unwrap();
        }
        let records = state.slots(&database, JobKind::Verify).unwrap();
        assert_eq!((records.len() as i64, records[0].slots.last), (KEPT, at(KEPT + 4)));
    }
}
