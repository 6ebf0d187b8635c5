//! SQLite's own checks of a restored database.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, ErrorCode, Statement};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::connection::{Reader, asks_for_unknown, failed, open_still};
use super::facts;
use super::words::{code_and_message, without_row_numbers};
use crate::engine::scratch::{Examination, ExaminationResult};
use crate::error::{Result, ResultExt};
use crate::model::human::count;

/// How many complaints of SQLite are reported.
const COMPLAINTS: usize = 10;

/// The result of a check, and what it found.
type Found = (ExaminationResult, String);

/// A check of the database in this file.
type Run = fn(&Connection, &Path, &[Violation]) -> Result<Found>;

/// All checks by name. Foreign keys are checked although SQLite does not enforce them unless an application asks for it. Some
/// applications break their own, and the restored copy must break no others.
const CHECKS: [(&str, Run); 2] = [("integrity", integrity), ("foreign-keys", foreign_keys)];

/// The member of a snapshot's details that says which foreign keys its source broke.
pub(super) const VIOLATIONS: &str = "foreign_key_violations";

/// Rows that break a foreign key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Violation {
    /// Their table.
    table: String,
    /// The table that lacks what they refer to.
    parent: String,
    /// How many.
    rows: u64,
}

/// Which foreign keys the source of a snapshot breaks; null where that cannot be found out, as where parents have no key.
pub(super) fn of_source(connection: &Connection, path: &Path) -> Result<serde_json::Value> {
    match violations(connection, path)? {
        Ok(violations) => serde_json::to_value(violations).or_internal("write which foreign keys are broken"),
        Err(_) => Ok(serde_json::Value::Null),
    }
}

/// Those that a snapshot's details name; none in those of earlier releases.
pub(super) fn recorded(details: &serde_json::Value) -> Vec<Violation> {
    Vec::deserialize(&details[VIOLATIONS]).unwrap_or_default()
}

/// Runs the wanted checks on a database that nobody else uses, whose source broke these foreign keys.
pub(super) async fn examine(
    path: PathBuf,
    wanted: impl Fn(&'static str) -> bool + Send,
    source: Vec<Violation>,
    cancel: &CancellationToken,
) -> Result<Vec<Examination>> {
    let checks: Vec<_> = CHECKS.into_iter().filter(|(name, _)| wanted(name)).collect();
    let reader = Reader::new(open_still(&path)?);
    reader
        .run(cancel, move |connection, _| {
            let run = |(name, run): (&'static str, Run)| {
                let (result, found) = run(connection, &path, &source)?;
                Ok(Examination { name: name.to_owned(), result, found })
            };
            checks.into_iter().map(run).collect()
        })
        .await
}

fn integrity(connection: &Connection, path: &Path, _: &[Violation]) -> Result<Found> {
    let sql = format!("PRAGMA main.integrity_check({COMPLAINTS})");
    let complaints = prepared(connection, path, &sql, |statement| {
        let lines = statement.query_map([], |row| row.get::<_, String>(0))?;
        let complaints: Vec<String> =
            lines.filter(|line| line.as_ref().map_or(true, |line| line != "ok")).collect::<Result<_, _>>()?;
        Ok(complaints)
    })?;
    let complaints = match complaints {
        Ok(complaints) => complaints,
        Err(found) => return Ok(found),
    };
    if !complaints.is_empty() {
        let told: Vec<String> = complaints.iter().map(|line| without_row_numbers(line)).collect();
        return Ok((ExaminationResult::Failed, told.join("; ")));
    }
    let pages = facts::page_count(connection).map_err(|e| failed(path, "check", e))?;
    Ok((ExaminationResult::Passed, format!("{} pages", count(pages))))
}

fn violations(connection: &Connection, path: &Path) -> Result<Result<Vec<Violation>, Found>> {
    let found = prepared(connection, path, "PRAGMA main.foreign_key_check", |statement| {
        let mut violations: BTreeMap<(String, String), u64> = BTreeMap::new();
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            *violations.entry((row.get(0)?, row.get(2)?)).or_default() += 1;
        }
        Ok(violations)
    })?;
    Ok(found.map(|violations| {
        violations.into_iter().map(|((table, parent), rows)| Violation { table, parent, rows }).collect()
    }))
}

fn foreign_keys(connection: &Connection, path: &Path, source: &[Violation]) -> Result<Found> {
    let violations = match violations(connection, path)? {
        Ok(violations) => violations,
        Err(found) => return Ok(found),
    };
    let keys = facts::foreign_keys(connection).map_err(|e| failed(path, "check", e))?;
    let keys = if keys == 1 { "1 foreign key".to_owned() } else { format!("{} foreign keys", count(keys)) };
    if violations.is_empty() {
        return Ok((ExaminationResult::Passed, keys));
    }
    let mut found: Vec<String> = violations
        .iter()
        .take(COMPLAINTS)
        .map(|Violation { table, parent, rows }| {
            format!(
                "{} of {} without their row of {}",
                rows_of(*rows),
                table.escape_debug(),
                parent.escape_debug()
            )
        })
        .collect();
    if violations.len() > COMPLAINTS {
        found.push(format!("and {} more", violations.len() - COMPLAINTS));
    }
    let found = found.join("; ");
    Ok(match violations == source {
        true => (ExaminationResult::Passed, format!("{keys}; as in the source: {found}")),
        false => (ExaminationResult::Failed, found),
    })
}

fn rows_of(rows: u64) -> String {
    if rows == 1 { "1 row".to_owned() } else { format!("{} rows", count(rows)) }
}

/// Compiles a check and runs it. The inner error is what there is to say where it cannot be compiled here, or meets
/// a file that is so damaged that it cannot be read on.
fn prepared<T>(
    connection: &Connection,
    path: &Path,
    sql: &str,
    run: impl FnOnce(&mut Statement<'_>) -> rusqlite::Result<T>,
) -> Result<Result<T, Found>> {
    let mut compiled = false;
    let done = connection.prepare(sql).and_then(|mut statement| {
        compiled = true;
        run(&mut statement)
    });
    let error = match done {
        Ok(found) => return Ok(Ok(found)),
        Err(e) => e,
    };
    let (code, message) = code_and_message(&error);
    match code {
        Some(code) if matches!(code.code, ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            Ok(Err((ExaminationResult::Failed, message)))
        }
        // The schema asks for a collation, a function or a parent key that is not there.
        Some(code) if !compiled && asks_for_unknown(code) => {
            Ok(Err((ExaminationResult::Unavailable, message)))
        }
        _ => Err(failed(path, "check", error)),
    }
}
