//! Holding a loaded database against its manifest.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use rusqlite::Connection;
use tokio_util::sync::CancellationToken;

use super::connection::{LOCK_WAIT, Reader, begin, failed, open_shared, open_still};
use super::facts::{self, Facts, LASTING};
use super::tables::{self, Proof, Table};
use crate::engine::{Comparison, TableComparison};
use crate::error::{Error, Result};
use crate::repository::manifest::{Manifest, RowDigest, SourceFacts, StreamEntry, TableProof};

/// How many complaints of SQLite's integrity check are passed on.
const COMPLAINTS: u32 = 10;

/// Compares the database in `path`. `still` says that nobody else uses it: then no file is made beside it.
pub(super) async fn compare(
    path: PathBuf,
    still: bool,
    manifest: &Manifest,
    entry: &StreamEntry,
    cancel: &CancellationToken,
) -> Result<Comparison> {
    let connection = if still { open_still(&path)? } else { open_shared(&path)? };
    let mut row_key = [0; 32];
    hex::decode_to_slice(&manifest.row_key, &mut row_key).map_err(|_| {
        Error::verification(format!(
            "the row key of snapshot {} is not 64 hexadecimal digits",
            manifest.snapshot
        ))
    })?;
    let (source, proofs) = (manifest.source.clone(), entry.tables.clone());
    Reader::new(connection)
        .run(cancel, move |connection, cancel| {
            begin(connection, &path, LOCK_WAIT, cancel)?;
            let mut comparison = Comparison::default();
            compare_settings(connection, &path, &source, &mut comparison)?;
            for proof in &proofs {
                compare_table(connection, &path, proof, &row_key, &mut comparison, cancel)?;
            }
            check_integrity(connection, &path, &source, &mut comparison)?;
            Ok(comparison)
        })
        .await
}

fn compare_settings(
    connection: &Connection,
    path: &Path,
    source: &SourceFacts,
    comparison: &mut Comparison,
) -> Result<()> {
    let found = Facts::read(connection).map_err(|e| failed(path, "read", e))?.details();
    for name in LASTING {
        let (expected, found) = (&source.details[name], &found[name]);
        if expected != found {
            comparison.differences.push(format!("{name} is {found}, and was {expected}"));
        }
    }
    let found = facts::inventory(connection).map_err(|e| failed(path, "read", e))?;
    let types: BTreeSet<&String> = source.inventory.keys().chain(found.keys()).collect();
    for kind in types {
        let count =
            |inventory: &std::collections::BTreeMap<String, u64>| inventory.get(kind).copied().unwrap_or(0);
        if count(&source.inventory) != count(&found) {
            comparison.inventory.push((kind.clone(), count(&source.inventory), count(&found)));
        }
    }
    Ok(())
}

fn compare_table(
    connection: &Connection,
    path: &Path,
    expected: &TableProof,
    row_key: &[u8; 32],
    comparison: &mut Comparison,
    cancel: &CancellationToken,
) -> Result<()> {
    let table = Table {
        name: expected.table.table.clone(),
        columns: expected.columns.clone(),
        key: expected.key.clone(),
    };
    let (rows, digest) = match tables::prove(connection, path, &table, row_key, cancel)? {
        Proof::Read(proof) => (proof.rows, proof.digest),
        Proof::Unreadable(why) => {
            comparison.differences.push(format!("table {} cannot be read: {why}", expected.table));
            (0, RowDigest::default())
        }
    };
    comparison.tables.push(TableComparison {
        table: expected.table.clone(),
        expected_rows: expected.rows,
        rows,
        expected_digest: expected.digest,
        digest,
    });
    Ok(())
}

/// Runs SQLite's own check. Foreign keys are not checked: SQLite does not enforce them unless an application asks
/// for it, so a sound source may hold violations, and equal rows hold the same ones.
fn check_integrity(
    connection: &Connection,
    path: &Path,
    source: &SourceFacts,
    comparison: &mut Comparison,
) -> Result<()> {
    if let Some(why) = facts::uncheckable(connection) {
        // What only the application has was missing for the snapshot too, which warned of it.
        if source.details["uncheckable"].as_str() != Some(&why) {
            comparison.differences.push(format!("SQLite's integrity check cannot run: {why}"));
        }
        return Ok(());
    }
    let check = |e| failed(path, "check", e);
    let mut statement =
        connection.prepare(&format!("PRAGMA main.integrity_check({COMPLAINTS})")).map_err(check)?;
    let mut rows = statement.query([]).map_err(check)?;
    while let Some(row) = rows.next().map_err(check)? {
        let line: String = row.get(0).map_err(check)?;
        if line != "ok" {
            comparison.differences.push(format!("SQLite's integrity check: {line}"));
        }
    }
    Ok(())
}
