//! How the last runs of jobs ended.

use jiff::Timestamp;
use rusqlite::{Row, params};

use super::{State, parse};
use crate::error::{Result, ResultExt};
use crate::model::id::DatabaseId;
use crate::model::job::JobKind;
use crate::model::run::{Ending, LastRun, Numbers, Run};

type Stored = (String, String, String, String, Option<String>, Option<String>);

impl State {
    /// Remembers how a run ended, replacing the previous one. A run that was told to stop, or never began, says
    /// nothing about the database, so the findings of the previous run stay.
    pub(crate) fn record_run(
        &self,
        database: &DatabaseId,
        kind: JobKind,
        (started, finished): (Timestamp, Timestamp),
        run: &Run,
    ) -> Result<()> {
        let ok = match run.ending {
            Ending::Done => true,
            Ending::Failed => false,
            Ending::Interrupted | Ending::Conflict => return Ok(()),
        };
        let what = "save how a run ended in the state";
        let body = serde_json::to_string(run).or_internal(what)?;
        let numbers = serde_json::to_string(&run.numbers).or_internal(what)?;
        self.write(what, |db| {
            db.execute(
                "INSERT INTO run (database, job, started, finished, body, succeeded, numbers)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
                 ON CONFLICT (database, job) DO UPDATE SET started = excluded.started, finished = excluded.finished,
                     body = excluded.body, succeeded = coalesce(excluded.succeeded, succeeded),
                     numbers = coalesce(excluded.numbers, numbers)",
                params![
                    database.to_string(),
                    kind.word(),
                    started.to_string(),
                    finished.to_string(),
                    body,
                    ok.then(|| finished.to_string()),
                    ok.then_some(&numbers)
                ],
            )
        })
        .map(drop)
    }

    /// The last runs of all jobs of a database.
    pub(crate) fn runs(&self, database: &DatabaseId) -> Result<Vec<LastRun>> {
        let what = "read how runs ended from the state";
        let db = self.db();
        let mut statement = db
            .prepare_cached(
                "SELECT job, started, finished, body, succeeded, numbers FROM run WHERE database = ?1 ORDER BY job",
            )
            .or_internal(what)?;
        let stored = |r: &Row<'_>| -> rusqlite::Result<Stored> {
            Ok((r.get(0)?, r.get(1)?, r.get(2)?, r.get(3)?, r.get(4)?, r.get(5)?))
        };
        let rows = statement.query_map([database.to_string()], stored).or_internal(what)?;
        let mut runs = Vec::new();
        for row in rows {
            let (job, started, finished, body, succeeded, numbers) = row.or_internal(what)?;
            // A job or condition of another version of marbre is skipped: the next run reports it again.
            let (Ok(kind), Ok(run)) = (job.parse::<JobKind>(), serde_json::from_str::<Run>(&body)) else {
                continue;
            };
            let numbers = numbers.and_then(|text| serde_json::from_str::<Numbers>(&text).ok());
            runs.push(LastRun {
                database: database.clone(),
                kind,
                started_at: parse(&started)?,
                finished_at: parse(&finished)?,
                run,
                succeeded_at: succeeded.as_deref().map(parse).transpose()?,
                succeeded: numbers,
            });
        }
        Ok(runs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_success_outlives_failures() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::open(folder.path()).unwrap();
        let database: DatabaseId = "gazette/abonnes".parse().unwrap();
        let at = |second: i64| Timestamp::from_second(1_795_000_000 + second).unwrap();
        let run = |ending: Ending, rows: u64| Run {
            ending,
            detail: format!("{rows} rows"),
            proven: ending == Ending::Done,
            conditions: Vec::new(),
            reached: Vec::new(),
            numbers: Numbers { rows, ..Numbers::default() },
        };
        let record = |second: i64, run: &Run| {
            state.record_run(&database, JobKind::Snapshot, (at(second), at(second + 1)), run).unwrap();
        };
        record(0, &run(Ending::Done, 7));
        record(10, &run(Ending::Failed, 0));
        record(20, &run(Ending::Interrupted, 0));
        record(30, &run(Ending::Conflict, 0));
        let runs = state.runs(&database).unwrap();
        assert_eq!(runs.len(), 1);
        assert_eq!((runs[0].started_at, runs[0].run.ending), (at(10), Ending::Failed));
        assert_eq!(runs[0].succeeded_at, Some(at(1)));
        assert_eq!(runs[0].succeeded.map(|n| n.rows), Some(7));
    }
}
