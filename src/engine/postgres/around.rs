//! Reading a table around the rows that the server cannot write as text.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::connect::Session;
use super::relations::Table;
use super::rows::{self, Stopped};
use super::too_long;
use crate::engine::StreamSender;
use crate::model::omission::Omission;
use crate::model::table::TableId;

/// The most rows of a table that are left out: beyond that, something else is wrong with it.
const MOST: usize = 1000;

/// The access method whose rows have an order that a query can go on in.
const HEAP: &str = "heap";

/// Back to before the COPY that failed, with the locks that the session had then. From now on queries read a table from its
/// beginning to its end, as COPY does.
const BACK: &str = "ROLLBACK TO rows; SET LOCAL enable_indexscan = off; SET LOCAL enable_indexonlyscan = off; \
     SET LOCAL enable_bitmapscan = off; SET LOCAL max_parallel_workers_per_gather = 0";

/// What was left out of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Gap {
    /// The row at this place. Rows are named by their places: their keys are data.
    Row(String),
    /// Everything after so many rows.
    Rest(u64),
}

/// Sends the rows of a table without those that the server cannot write, and says which these are.
///
/// COPY sends row by row in the order in which they lie in the table, and fails at the first that it cannot write. So the number
/// of rows that came says which one that is, and a query gives what lies after it. Where planning a query would run code of the
/// database, the rest of the table is left out.
pub(super) async fn read(
    session: &Session,
    table: &Table,
    settings: &BTreeMap<String, String>,
    out: &StreamSender,
) -> Result<Vec<Gap>, Stopped> {
    let (mut gaps, mut after, mut total) = (Vec::new(), String::new(), 0);
    session.batch("SAVEPOINT rows", "begin a transaction").await?;
    loop {
        let sql = rows::copy_out(&table.id, &table.columns, &after, settings);
        let mut sent = 0;
        let failed = match rows::send(session, &sql, out, &mut sent).await {
            Ok(()) => break,
            Err(Stopped::Server(error)) if too_long::is_cause(&error) => error,
            Err(other) => return Err(other),
        };
        total += sent;
        session.batch(BACK, "end a transaction").await?;
        if table.method != HEAP || rows::evaluates(session, &table.id).await? {
            gaps.push(Gap::Rest(total));
            break;
        }
        let sql = format!("SELECT ctid::text FROM ONLY {} {after} OFFSET $1 LIMIT 1", table.sql());
        let found = session.query(&sql, &[&i64::try_from(sent).unwrap_or(i64::MAX)]).await?;
        let Some(place) = found.first().map(|row| row.get::<_, String>(0)).filter(|_| gaps.len() < MOST)
        else {
            return Err(failed.into());
        };
        after = format!("WHERE ctid > '{place}'");
        gaps.push(Gap::Row(place));
    }
    session.batch("RELEASE rows", "end a transaction").await?;
    Ok(gaps)
}

/// What was left out of all tables so far.
#[derive(Debug, Default)]
pub(super) struct LeftOut(Mutex<BTreeMap<TableId, Vec<Gap>>>);

impl LeftOut {
    /// Adds what was left out of a table, if anything was.
    pub(super) fn add(&self, table: &Table, gaps: Vec<Gap>) {
        if !gaps.is_empty() {
            self.all().insert(table.id.clone(), gaps);
        }
    }

    /// Whether something was left out of this table.
    pub(super) fn is_of(&self, table: &TableId) -> bool {
        self.all().contains_key(table)
    }

    /// All of it, by name.
    pub(super) fn omissions(&self) -> Vec<Omission> {
        let (mut rows, mut rests) = (Vec::new(), Vec::new());
        for (table, gaps) in &*self.all() {
            for gap in gaps {
                match gap {
                    Gap::Row(place) => rows.push(format!("{table} at ctid {place}")),
                    Gap::Rest(rows) => rests.push(format!("{table} after its first {rows} rows")),
                }
            }
        }
        too_long::omissions(rows, rests)
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<TableId, Vec<Gap>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
