//! The tables of a database that have rows of their own.

use rusqlite::Connection;

use crate::model::table::TableProof;

/// A table that has rows of its own.
#[derive(Debug, Clone)]
pub(super) struct Table {
    pub name: String,
    /// The columns, without generated ones.
    pub columns: Vec<String>,
    /// The columns of the declared primary key, in its order.
    pub key: Vec<String>,
}

impl Table {
    /// The table that was proven.
    pub(super) fn of(proof: &TableProof) -> Self {
        Self { name: proof.table.table.clone(), columns: proof.columns.clone(), key: proof.key.clone() }
    }
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

/// A name for the rowid of a table that none of its columns has, including generated ones; `None` for a table
/// without rowids, or if that is unknown.
pub(super) fn rowid(connection: &Connection, table: &str) -> Option<&'static str> {
    let mut named = connection
        .prepare("SELECT count(*) FROM pragma_table_xinfo(?1) WHERE name = ?2 COLLATE NOCASE")
        .ok()?;
    let mut is_free = |word: &&str| named.query_row([table, word], |row| Ok(row.get::<_, i64>(0)? == 0));
    let word = ["rowid", "_rowid_", "oid"].into_iter().find(|word| is_free(word).unwrap_or(false))?;
    let sql = format!("SELECT {word} FROM main.{} NOT INDEXED", quoted(table));
    connection.prepare(&sql).is_ok().then_some(word)
}

/// A quoted name for SQL.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
