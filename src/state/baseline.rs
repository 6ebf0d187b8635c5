//! What the last proven snapshot held.

use rusqlite::{OptionalExtension, params};

use super::State;
use crate::error::{Result, ResultExt};
use crate::model::id::DatabaseId;

/// What the last proven snapshot held, for checks that compare with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Baseline {
    /// The snapshot's place in the chain.
    pub sequence: u64,
    /// What was found, in the form that its writer chose.
    pub body: String,
}

impl State {
    /// What the last proven snapshot held.
    pub(crate) fn baseline(&self, database: &DatabaseId) -> Result<Option<Baseline>> {
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
    pub(crate) fn set_baseline(&self, database: &DatabaseId, baseline: &Baseline) -> Result<()> {
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
