//! Damage on purpose, to a restored copy: what a drill must notice.

use std::path::{Path, PathBuf};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};
use tokio_util::sync::CancellationToken;

use super::connection::{Reader, failed};
use super::tables::{quoted, rowid};
use crate::engine::scratch::Damage;
use crate::error::{Error, Result};
use crate::model::stream::Contents;
use crate::model::table::TableProof;

/// Does the damage to the database in this file, which nobody else uses. See
/// [`crate::engine::scratch::Scratch::damage`].
pub(super) async fn damage(
    path: PathBuf,
    damage: Damage,
    contents: &Contents,
    cancel: &CancellationToken,
) -> Result<String> {
    let mut tables: Vec<TableProof> = contents.streams.iter().flat_map(|s| s.tables.clone()).collect();
    tables.retain(|t| !t.table.table.starts_with("sqlite_"));
    // The biggest first; the order of equals must not depend on anything but their names.
    tables.sort_by(|a, b| b.rows.cmp(&a.rows).then_with(|| a.table.cmp(&b.table)));
    let connection = open(&path).map_err(|e| failed(&path, "open", e))?;
    let reader = Reader::new(connection);
    reader
        .run(cancel, move |connection, _| {
            let done = match damage {
                Damage::Row => change_row(connection, &tables),
                Damage::MissingTable => drop_table(connection, &tables),
                Damage::Index => drop_index(connection),
                Damage::Sequence => set_back(connection),
            };
            let what = done.map_err(|e| failed(&path, "damage", e))?.ok_or_else(|| nothing(damage))?;
            // Back into the one file, which is read without its log.
            settle(connection, &path)?;
            Ok(what)
        })
        .await
}

fn open(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    // Nothing but what is asked for: no triggers, no cascades.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_FKEY, false)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    connection.execute_batch(
        "PRAGMA temp_store = MEMORY; PRAGMA locking_mode = EXCLUSIVE; PRAGMA ignore_check_constraints = ON;",
    )?;
    Ok(connection)
}

/// Takes a write-ahead log back into the file.
fn settle(connection: &Connection, path: &Path) -> Result<()> {
    let busy: i64 = connection
        .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))
        .map_err(|e| failed(path, "damage", e))?;
    match busy {
        0 => Ok(()),
        _ => Err(Error::database(format!("{} is in use", path.display()))),
    }
}

fn nothing(damage: Damage) -> Error {
    let what = match damage {
        Damage::Row => "row that could be changed",
        Damage::MissingTable => "table",
        Damage::Index => "index of its own",
        Damage::Sequence => "sequence: no table with AUTOINCREMENT was ever written",
    };
    Error::preflight(format!("the database has no {what}")).remedy("Sabotage the drill in another way.")
}

/// Alters one row, or deletes it where constraints or missing collations prevent that.
fn change_row(connection: &Connection, tables: &[TableProof]) -> rusqlite::Result<Option<String>> {
    for table in tables.iter().filter(|t| t.rows > 0) {
        let name = quoted(&table.table.table);
        let Some(key) = row_key(connection, table) else { continue };
        let one = |condition: &str| {
            format!("WHERE ({key}) = (SELECT {key} FROM main.{name} NOT INDEXED {condition} LIMIT 1)")
        };
        // What no key is made of first: a key may be looked for in other tables.
        let (keys, others): (Vec<&String>, Vec<_>) =
            table.columns.iter().partition(|column| table.key.contains(column));
        for column in others.into_iter().chain(keys) {
            let column = quoted(column);
            // Every case gives another value, whatever the column's type makes of it.
            let sql = format!(
                "UPDATE main.{name} SET {column} = CASE typeof({column})
                     WHEN 'text' THEN {column} || '.'
                     WHEN 'blob' THEN zeroblob(length({column}) + 1)
                     ELSE CASE WHEN {column} = 1 THEN 2 ELSE 1 END
                 END {}",
                one(&format!("WHERE {column} IS NOT NULL"))
            );
            if connection.execute(&sql, []).is_ok_and(|changed| changed > 0) {
                return Ok(Some(format!("one row of table {} was altered", table.table)));
            }
        }
        if connection.execute(&format!("DELETE FROM main.{name} {}", one("")), []).is_ok_and(|n| n > 0) {
            return Ok(Some(format!("one row of table {} was deleted", table.table)));
        }
    }
    Ok(None)
}

/// The expressions that name one row: its rowid under a name that no column has, or else the primary key.
fn row_key(connection: &Connection, table: &TableProof) -> Option<String> {
    match rowid(connection, &table.table.table) {
        Some(rowid) => Some(rowid.to_owned()),
        None if table.key.is_empty() => None,
        None => Some(table.key.iter().map(|column| quoted(column)).collect::<Vec<_>>().join(", ")),
    }
}

/// Drops the smallest table: the least that can be missing.
fn drop_table(connection: &Connection, tables: &[TableProof]) -> rusqlite::Result<Option<String>> {
    let Some(table) = tables.last() else { return Ok(None) };
    connection.execute_batch(&format!("DROP TABLE main.{}", quoted(&table.table.table)))?;
    Ok(Some(format!("table {} was dropped", table.table)))
}

fn drop_index(connection: &Connection) -> rusqlite::Result<Option<String>> {
    let sql =
        "SELECT name FROM main.sqlite_schema WHERE type = 'index' AND sql IS NOT NULL ORDER BY name LIMIT 1";
    let Some(index) = first(connection, sql)? else { return Ok(None) };
    connection.execute_batch(&format!("DROP INDEX main.{}", quoted(&index)))?;
    Ok(Some(format!("index {} was dropped", index.escape_debug())))
}

fn set_back(connection: &Connection) -> rusqlite::Result<Option<String>> {
    let table = "SELECT name FROM main.sqlite_schema WHERE type = 'table' AND name = 'sqlite_sequence'";
    if first(connection, table)?.is_none() {
        return Ok(None);
    }
    let Some(of) = first(connection, "SELECT name FROM main.sqlite_sequence ORDER BY name LIMIT 1")? else {
        return Ok(None);
    };
    connection.execute("UPDATE main.sqlite_sequence SET seq = seq - 1 WHERE name = ?1", [&of])?;
    Ok(Some(format!("the sequence of table {} was set back by one", of.escape_debug())))
}

fn first(connection: &Connection, sql: &str) -> rusqlite::Result<Option<String>> {
    let mut statement = connection.prepare(sql)?;
    let mut names = statement.query_map([], |row| row.get(0))?;
    names.next().transpose()
}
