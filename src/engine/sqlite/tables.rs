//! The tables of a database: their rows counted and hashed (see `docs/FORMAT.md`, "SQLite").

use std::path::Path;

use rusqlite::Connection;
use rusqlite::types::ValueRef;
use tokio_util::sync::CancellationToken;

use super::connection::{code_and_message, failed};
use crate::error::{Error, Result};
use crate::pack::hash::{DigestSum, row_hash};
use crate::repository::manifest::{TableId, TableProof};

/// Rows between two looks at the cancellation token.
const ROWS_PER_LOOK: u64 = 4096;

/// The buffer of a row is given back when a row has made it bigger than this.
const ROW_BUFFER: usize = 1 << 20;

/// A table that has rows of its own.
#[derive(Debug, Clone)]
pub(super) struct Table {
    pub name: String,
    /// The columns, generated ones left out.
    pub columns: Vec<String>,
    /// The columns of the declared primary key, in its order.
    pub key: Vec<String>,
}

/// The schema table and every table that the schema stores on pages: also those of virtual tables, and
/// SQLite's own sequences and statistics. Virtual tables themselves have no pages, and their modules may be
/// unknown here.
pub(super) fn list(connection: &Connection) -> rusqlite::Result<Vec<Table>> {
    let mut names = connection.prepare(
        "SELECT 'sqlite_schema' UNION ALL
         SELECT * FROM (SELECT name FROM sqlite_schema WHERE type = 'table' AND rootpage > 0 ORDER BY name)",
    )?;
    let names: Vec<String> = names.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
    let mut columns =
        connection.prepare("SELECT name, pk FROM pragma_table_xinfo(?1) WHERE hidden = 0 ORDER BY cid")?;
    let mut tables = Vec::with_capacity(names.len());
    for name in names {
        let found: Vec<(String, i64)> = columns
            .query_map([&name], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<rusqlite::Result<_>>()?;
        let mut key: Vec<&(String, i64)> = found.iter().filter(|(_, pk)| *pk > 0).collect();
        key.sort_by_key(|(_, pk)| *pk);
        tables.push(Table {
            key: key.into_iter().map(|(name, _)| name.clone()).collect(),
            columns: found.into_iter().map(|(name, _)| name).collect(),
            name,
        });
    }
    Ok(tables)
}

/// What came of looking at a table.
pub(super) enum Proof {
    /// Every row was read.
    Read(TableProof),
    /// The table cannot be read without what only its application has (a collation): why.
    Unreadable(String),
}

/// Counts and hashes the rows of a table.
pub(super) fn prove(
    connection: &Connection,
    path: &Path,
    table: &Table,
    row_key: &[u8; 32],
    cancel: &CancellationToken,
) -> Result<Proof> {
    let columns: Vec<String> = table.columns.iter().map(|name| quoted(name)).collect();
    // NOT INDEXED: the table itself is read, and indexes with unknown collations are not looked at.
    let sql = format!("SELECT {} FROM main.{} NOT INDEXED", columns.join(", "), quoted(&table.name));
    let doing = || format!("read table {} of", table.name.escape_debug());
    let mut statement = match connection.prepare(&sql) {
        Ok(statement) => statement,
        Err(e) => {
            let (code, message) = code_and_message(&e);
            // A plain SQLITE_ERROR while the statement is compiled: the schema asks for something unknown.
            return match code {
                Some(code) if code.extended_code == rusqlite::ffi::SQLITE_ERROR => {
                    Ok(Proof::Unreadable(message))
                }
                _ => Err(failed(path, &doing(), e)),
            };
        }
    };
    let mut rows = statement.query([]).map_err(|e| failed(path, &doing(), e))?;
    let mut sum = DigestSum::default();
    let mut buffer = Vec::new();
    while let Some(row) = rows.next().map_err(|e| failed(path, &doing(), e))? {
        buffer.clear();
        for column in 0..columns.len() {
            if column > 0 {
                buffer.push(b',');
            }
            let value = row.get_ref(column).map_err(|e| failed(path, &doing(), e))?;
            encode(value, &mut buffer);
        }
        sum.add(row_hash(row_key, &buffer));
        buffer.shrink_to(ROW_BUFFER);
        if sum.rows().is_multiple_of(ROWS_PER_LOOK) && cancel.is_cancelled() {
            return Err(Error::interrupted());
        }
    }
    Ok(Proof::Read(TableProof {
        table: TableId { schema: String::new(), table: table.name.clone() },
        columns: table.columns.clone(),
        key: table.key.clone(),
        rows: sum.rows(),
        digest: sum.digest(),
    }))
}

/// Appends the one form in which a value is hashed.
pub(super) fn encode(value: ValueRef<'_>, out: &mut Vec<u8>) {
    let sized = |tag: char, bytes: &[u8], out: &mut Vec<u8>| {
        out.extend_from_slice(format!("{tag}{}:", bytes.len()).as_bytes());
        out.extend_from_slice(bytes);
    };
    match value {
        ValueRef::Null => out.push(b'n'),
        ValueRef::Integer(i) => out.extend_from_slice(format!("i{i}").as_bytes()),
        ValueRef::Real(r) => out.extend_from_slice(format!("r{:016x}", r.to_bits()).as_bytes()),
        ValueRef::Text(text) => sized('t', text, out),
        ValueRef::Blob(blob) => sized('b', blob, out),
    }
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
