//! Counts and hashes the rows of all tables on several connections: the digest is a sum, so the parts of a table
//! add up.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::join_all;
use rusqlite::limits::Limit;
use rusqlite::{Connection, ErrorCode};
use tokio_util::sync::CancellationToken;

use super::connection::{Reader, asks_for_unknown, failed};
use super::digest::{self, FUNCTION, Hasher, MOST_ARGUMENTS};
use super::long_rows::{LONGEST, LongRows};
use super::tables::{Table, quoted, rowid};
use super::words::code_and_message;
use crate::error::{Error, ErrorKind, Result};
use crate::model::table::{RowDigest, TableId, TableProof};

/// The most connections that read one database.
const MOST_READERS: usize = 4;

/// Rowids in one part of a table, unless that makes too many parts.
const PART: i128 = 1 << 16;

/// The most parts of one table.
const MOST_PARTS: i128 = 64;

/// How many connections this machine should read with.
pub(super) fn readers() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| cores.get().min(MOST_READERS))
}

/// The result of reading a table.
pub(super) enum Proof {
    /// Every row was read.
    Read(TableProof),
    /// The table cannot be read without something that only its application has (a collation), with the reason.
    Unreadable(String),
}

/// The tables to prove, cut into parts, and what was found so far.
pub(super) struct Proving {
    path: PathBuf,
    row_key: [u8; 32],
    tables: Vec<Table>,
    /// What their rowids are called, see [`rowid`].
    rowids: Vec<Option<&'static str>>,
    parts: Vec<Part>,
    /// The next part to read.
    next: AtomicUsize,
    found: Mutex<Found>,
}

/// A part of a table.
struct Part {
    table: usize,
    /// The condition that selects the rows of this part, or nothing.
    condition: String,
}

#[derive(Default)]
struct Found {
    /// Parts that were read completely.
    parts: usize,
    /// Rows and sum of hashes by table; or why it cannot be read.
    tables: Vec<Result<(u64, u128), String>>,
}

impl Proving {
    /// Cuts the tables into parts.
    pub(super) fn plan(
        connection: &Connection,
        path: PathBuf,
        tables: Vec<Table>,
        row_key: [u8; 32],
    ) -> Self {
        let rowids: Vec<_> = tables.iter().map(|table| rowid(connection, &table.name)).collect();
        let parts = tables
            .iter()
            .zip(&rowids)
            .enumerate()
            .flat_map(|(table, (t, rowid))| {
                conditions(connection, t, *rowid).into_iter().map(move |condition| Part { table, condition })
            })
            .collect();
        let found = Found { parts: 0, tables: vec![Ok((0, 0)); tables.len()] };
        Self { path, row_key, tables, rowids, parts, next: AtomicUsize::new(0), found: Mutex::new(found) }
    }

    /// Takes parts until none is left. The connections must all be in transactions that see the same state.
    pub(super) async fn run(
        self: &Arc<Self>,
        readers: &[Arc<Reader>],
        cancel: &CancellationToken,
    ) -> Result<()> {
        let stop = cancel.child_token();
        let stop = &stop;
        let runs = readers.iter().map(|reader| async move {
            let proving = Arc::clone(self);
            let done =
                reader.run(stop, move |connection, cancel| proving.take_parts(connection, cancel)).await;
            if done.is_err() {
                stop.cancel();
            }
            done
        });
        let mut done = join_all(runs).await;
        // An interruption may just be the consequence of another reader's error.
        done.sort_by_key(|done| match done {
            Err(e) if e.kind() != ErrorKind::Interrupted => 0,
            Err(_) => 1,
            Ok(()) => 2,
        });
        done.into_iter().next().unwrap_or(Ok(()))
    }

    fn take_parts(&self, connection: &Connection, cancel: &CancellationToken) -> Result<()> {
        digest::register(connection, self.row_key).map_err(|e| failed(&self.path, "read", e))?;
        while let Some(part) = self.parts.get(self.next.fetch_add(1, Ordering::Relaxed)) {
            if cancel.is_cancelled() {
                return Err(Error::interrupted());
            }
            let read = self.read(part, connection)?;
            let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
            found.parts += 1;
            let table = &mut found.tables[part.table];
            match (table.as_mut(), read) {
                (Ok((rows, sum)), Ok((more_rows, more))) => {
                    *rows += more_rows;
                    *sum = sum.wrapping_add(more);
                }
                (Ok(_), Err(why)) => *table = Err(why),
                (Err(_), _) => {}
            }
        }
        // After some failures SQLite rolls back by itself; what is read then belongs to another state.
        if connection.is_autocommit() {
            return Err(Error::database(format!(
                "the read transaction on {} ended early",
                self.path.display()
            )));
        }
        Ok(())
    }

    /// Rows and sum of one part; or why the table cannot be read.
    fn read(&self, part: &Part, connection: &Connection) -> Result<Result<(u64, u128), String>> {
        let table = &self.tables[part.table];
        let mut compiled = false;
        let error = match self.rows(part, connection, &mut compiled) {
            Ok(found) => return Ok(Ok(found)),
            Err(e) => e,
        };
        let (code, message) = code_and_message(&error);
        match code {
            Some(code) if !compiled && asks_for_unknown(code) => Ok(Err(message)),
            _ => Err(failed(&self.path, &format!("read table {} of", table.name.escape_debug()), error)),
        }
    }

    /// Reads rows as SQLite hands them over; where one has a value that is too long for that, those that have in pieces.
    fn rows(
        &self,
        part: &Part,
        connection: &Connection,
        compiled: &mut bool,
    ) -> rusqlite::Result<(u64, u128)> {
        let table = &self.tables[part.table];
        let limit = connection.set_limit(Limit::SQLITE_LIMIT_LENGTH, LONGEST)?;
        let read = self.handed_over(table, &part.condition, connection, compiled);
        connection.set_limit(Limit::SQLITE_LIMIT_LENGTH, limit)?;
        match read {
            Err(e) if e.sqlite_error_code() == Some(ErrorCode::TooBig) => {}
            read => return read,
        }
        let Some(long) = LongRows::of(connection, table, self.rowids[part.table])? else {
            return self.handed_over(table, &part.condition, connection, compiled);
        };
        let (rows, sum) = self.handed_over(table, &long.others(&part.condition), connection, compiled)?;
        let mut hasher = Hasher::new(self.row_key);
        long.hash(&part.condition, &mut hasher)?;
        let (more_rows, more) = hasher.total();
        Ok((rows + more_rows, sum.wrapping_add(more)))
    }

    fn handed_over(
        &self,
        table: &Table,
        condition: &str,
        connection: &Connection,
        compiled: &mut bool,
    ) -> rusqlite::Result<(u64, u128)> {
        let wide = table.columns.len() > MOST_ARGUMENTS;
        let columns = table.columns.iter().map(|name| quoted(name)).collect::<Vec<_>>().join(", ");
        let what = if wide { columns } else { format!("{FUNCTION}({columns})") };
        // NOT INDEXED: the table itself is read, and indexes with unknown collations are ignored.
        let sql = format!("SELECT {what} FROM main.{} NOT INDEXED{condition}", quoted(&table.name));
        let mut statement = connection.prepare(&sql)?;
        *compiled = true;
        if !wide {
            return statement.query_row([], |row| digest::total(row.get_ref(0)?.as_blob()?));
        }
        let mut rows = statement.query([])?;
        let mut hasher = Hasher::new(self.row_key);
        while let Some(row) = rows.next()? {
            hasher.row(row, table.columns.len())?;
        }
        Ok(hasher.total())
    }

    /// What was found, table by table. Fails unless every part of every table was read.
    pub(super) fn finish(&self) -> Result<Vec<Proof>> {
        let found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        if found.parts != self.parts.len() {
            return Err(Error::interrupted());
        }
        let proof = |(table, found): (&Table, &Result<(u64, u128), String>)| match found {
            Err(why) => Proof::Unreadable(why.clone()),
            Ok((rows, sum)) => Proof::Read(TableProof {
                table: TableId { schema: String::new(), table: table.name.clone() },
                columns: table.columns.clone(),
                key: table.key.clone(),
                rows: *rows,
                digest: RowDigest(*sum),
            }),
        };
        Ok(self.tables.iter().zip(&found.tables).map(proof).collect())
    }

    /// The name of a table, by its place in [`Proving::finish`].
    pub(super) fn name(&self, table: usize) -> &str {
        &self.tables[table].name
    }
}

/// Cuts a table into adjacent ranges of rowids, the outer ones open-ended, so that each rowid is in exactly one. A table
/// without rowids, or for which this is unknown, is one part.
fn conditions(connection: &Connection, table: &Table, rowid: Option<&str>) -> Vec<String> {
    let whole = vec![String::new()];
    let Some(rowid) = rowid else { return whole };
    let name = quoted(&table.name);
    let from = format!("FROM main.{name} NOT INDEXED");
    let ends = connection.query_row(
        &format!("SELECT (SELECT min({rowid}) {from}), (SELECT max({rowid}) {from})"),
        [],
        |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?)),
    );
    // An empty table has no ends; any other error will recur and be reported when the table is read.
    let Ok((first, last)) = ends else { return whole };
    let span = i128::from(last) - i128::from(first);
    let parts = (span / PART + 1).min(MOST_PARTS);
    // Between the two ends, so it is within the range of rowids.
    let bound = |part: i128| i128::from(first) + span * part / parts;
    (0..parts)
        .map(|part| {
            let lower = (part > 0).then(|| format!("{rowid} > {}", bound(part)));
            let upper = (part < parts - 1).then(|| format!("{rowid} <= {}", bound(part + 1)));
            match (lower, upper) {
                (None, None) => String::new(),
                (Some(one), None) | (None, Some(one)) => format!(" WHERE {one}"),
                (Some(lower), Some(upper)) => format!(" WHERE {lower} AND {upper}"),
            }
        })
        .collect()
}
