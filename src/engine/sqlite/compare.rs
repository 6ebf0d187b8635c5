//! Compares a loaded database with its contents.
//!
//! The source itself is not judged here: the pages of a damaged index are equal to their source, and must not be refused
//! in an emergency. Drills look for such damage (see `integrity`).

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::Connection;
use tokio_util::sync::CancellationToken;

use super::connection::{LOCK_WAIT, Reader, begin, failed, open_shared, open_still};
use super::facts::{self, Facts, LASTING};
use super::proving::{Proof, Proving, readers};
use super::tables::Table;
use crate::engine::{Comparison, TableComparison};
use crate::error::Result;
use crate::model::stream::SourceFacts;
use crate::model::stream::{Contents, StreamFacts};
use crate::model::table::{RowDigest, TableProof};

/// Compares the database in `path`. `still` means that nobody else uses it: then no file is created next to it.
pub(super) async fn compare(
    path: PathBuf,
    still: bool,
    contents: &Contents,
    entry: &StreamFacts,
    cancel: &CancellationToken,
) -> Result<Comparison> {
    // If nobody writes, all connections see the same state.
    let open = || if still { open_still(&path) } else { open_shared(&path) };
    let connections = if still { readers() } else { 1 };
    let readers: Vec<Arc<Reader>> =
        (0..connections).map(|_| open().map(Reader::new)).collect::<Result<_>>()?;
    let (place, source, row_key) = (path.clone(), contents.source.clone(), contents.row_key);
    let tables: Vec<Table> = entry.tables.iter().map(Table::of).collect();
    let planned = readers[0].run(cancel, move |connection, cancel| {
        begin(connection, &place, LOCK_WAIT, cancel)?;
        let mut comparison = Comparison::default();
        compare_settings(connection, &place, &source, &mut comparison)?;
        Ok((comparison, Proving::plan(connection, place, tables, row_key)))
    });
    let (mut comparison, proving) = planned.await?;
    for reader in &readers[1..] {
        let place = path.clone();
        let begun =
            reader.run(cancel, move |connection, cancel| begin(connection, &place, LOCK_WAIT, cancel));
        begun.await?;
    }
    let proving = Arc::new(proving);
    proving.run(&readers, cancel).await?;
    for (expected, proof) in entry.tables.iter().zip(proving.finish()?) {
        compare_table(expected, proof, &mut comparison);
    }
    Ok(comparison)
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
        let count = |inventory: &BTreeMap<String, u64>| inventory.get(kind).copied().unwrap_or(0);
        comparison.inventory.push((kind.clone(), count(&source.inventory), count(&found)));
    }
    Ok(())
}

fn compare_table(expected: &TableProof, found: Proof, comparison: &mut Comparison) {
    let (rows, digest) = match found {
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
}
