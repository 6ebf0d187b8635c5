//! Compares a loaded database with its contents.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use futures_util::future::try_join_all;
use futures_util::{StreamExt, TryStreamExt};
use tokio_util::sync::CancellationToken;

use super::connect::{Connector, Session};
use super::details::Details;
use super::table_load::tables_here;
use super::{computed, definitions, inventory, rows};
use crate::engine::postgres::postgres_config::OfExtensions;
use crate::engine::postgres::relations;
use crate::engine::together::{SHORT, groups};
use crate::engine::{Comparison, TableComparison};
use crate::error::Result;
use crate::model::stream::Contents;
use crate::model::table::{RowDigest, TableId, TableProof};

/// Compares all tables, the inventory, sequences and large objects. `rights` says that what only a superuser can restore, owners and grants
/// are to be there too.
pub(crate) async fn compare(
    connector: &Connector,
    session: &Session,
    contents: &Contents,
    details: &Details,
    rights: bool,
    jobs: usize,
    cancel: &CancellationToken,
) -> Result<Comparison> {
    let here: BTreeSet<_> =
        relations::tables(session, OfExtensions::All).await?.into_iter().map(|table| table.id).collect();
    let mut differences = Vec::new();
    let proofs = contents.streams.iter().flat_map(|s| &s.tables);
    for proof in proofs.filter(|proof| !here.contains(&proof.table)) {
        differences.push(format!("table {} is missing", proof.table));
    }
    // As many sessions as are used at a time, for however many tables.
    let idle = Mutex::default();
    let proofs = contents.streams.iter().flat_map(|s| s.tables.iter().map(|proof| (s.length, proof)));
    let reads: Vec<_> = groups(proofs, |(length, _)| *length <= SHORT)
        .into_iter()
        .map(|group| compare_tables((connector, &idle), contents, details, group, &here, cancel))
        .collect();
    let read: Vec<Vec<TableComparison>> =
        futures_util::stream::iter(reads).buffer_unordered(jobs).try_collect().await?;
    let mut tables = read.concat();
    tables.sort_by(|a, b| a.table.cmp(&b.table));
    gather(&mut tables, &roots(session, details).await?);
    let (moved, lost) = sequences(session, details).await?;
    differences.extend(moved);
    differences.extend(large_objects(session, details).await?);
    let (defined, mut excused) = defined(session, details, rights).await?;
    let (links, unseen) = details.links.differences(session, details.server_major).await?;
    differences.extend(links);
    excused.extend(unseen);
    excused.extend(lost);
    if details.large_objects.digest.is_none() && details.large_objects.count > 0 {
        let why = "pg_largeobject could not be read at the source, and so the bytes of large objects could not be compared";
        excused.push(why.to_owned());
    }
    let computing = connector.connect(cancel).await?;
    rows::apply(&computing, &contents.source.settings).await?;
    computing.batch("BEGIN READ ONLY", "begin a transaction").await?;
    let (other, expected) = computed::differences(&details.computed, &computed::read(&computing).await?);
    differences.extend(other);
    excused.extend(expected);
    let gone = details.unregistered.iter().filter(|table| !here.contains(table));
    excused.extend(gone.map(|table| {
        format!("table {table} is missing: it belonged to an extension, which does not make it")
    }));
    let inventory = objects(session, contents, rights).await?;
    Ok(Comparison { tables, inventory, definitions: defined, excused, differences })
}

/// Tables whose rows one session reads, without waiting in between.
async fn compare_tables(
    (connector, idle): (&Connector, &Mutex<Vec<Session>>),
    contents: &Contents,
    details: &Details,
    proofs: Vec<(u64, &TableProof)>,
    here: &BTreeSet<TableId>,
    cancel: &CancellationToken,
) -> Result<Vec<TableComparison>> {
    let ready = idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
    let session = match ready {
        Some(session) => session,
        None => {
            let session = connector.connect(cancel).await?;
            rows::apply(&session, &contents.source.settings).await?;
            session
        }
    };
    let compared = proofs.into_iter().map(|(_, proof)| {
        let there = here.contains(&proof.table);
        compare_table(&session, contents, details, proof, there, cancel)
    });
    let compared = try_join_all(compared).await?;
    idle.lock().unwrap_or_else(PoisonError::into_inner).push(session);
    Ok(compared)
}

async fn compare_table(
    session: &Session,
    contents: &Contents,
    details: &Details,
    proof: &TableProof,
    there: bool,
    cancel: &CancellationToken,
) -> Result<TableComparison> {
    let config = details.config_tables.iter().find(|c| c.table == proof.table);
    let condition = config.map_or("", |config| config.condition.as_str());
    let (rows, digest) = if there {
        if !condition.is_empty() {
            rows::refuse_evaluation(session, &proof.table).await?;
        }
        let sql = rows::copy_out(&proof.table, &proof.columns, condition, &contents.source.settings);
        let digest = rows::digest(session, &sql, &contents.row_key, cancel).await;
        digest.map_err(|e| e.context(&proof.table))?
    } else {
        (0, RowDigest::default())
    };
    Ok(TableComparison {
        table: proof.table.clone(),
        expected_rows: proof.rows,
        rows,
        expected_digest: proof.digest,
        digest,
    })
}

/// The root of each partition, here and in the snapshot.
async fn roots(session: &Session, details: &Details) -> Result<BTreeMap<TableId, TableId>> {
    let here = tables_here(session).await?.into_iter();
    let mut roots: BTreeMap<_, _> = here.filter_map(|(table, here)| Some((table, here.root?))).collect();
    roots.extend(details.scattered.iter().map(|s| (s.partition.clone(), s.root.clone())));
    Ok(roots)
}

/// Rows that have moved between partitions of one root are no difference, if all of them together are the same: hashes and
/// comparisons, which decide where a row belongs, can differ between servers.
fn gather(tables: &mut [TableComparison], roots: &BTreeMap<TableId, TableId>) {
    let different = tables.iter().filter(|table| !table.equal());
    let moved: BTreeSet<&TableId> = different.filter_map(|table| roots.get(&table.table)).collect();
    for root in moved {
        let of_root = |t: &&mut TableComparison| roots.get(&t.table) == Some(root);
        let (mut rows, mut digest) = (0_u64, 0_u128);
        for table in tables.iter_mut().filter(of_root) {
            rows = rows.wrapping_add(table.rows).wrapping_sub(table.expected_rows);
            digest = digest.wrapping_add(table.digest.0).wrapping_sub(table.expected_digest.0);
        }
        if (rows, digest) == (0, 0) {
            for table in tables.iter_mut().filter(of_root) {
                table.rows = table.expected_rows;
                table.digest = table.expected_digest;
            }
        }
    }
}

async fn objects(session: &Session, contents: &Contents, rights: bool) -> Result<Vec<(String, u64, u64)>> {
    let found = inventory::count(session).await?;
    let expected = &contents.source.inventory;
    let types: BTreeSet<&String> = expected.keys().chain(found.keys()).collect();
    Ok(types
        .into_iter()
        .map(|name| {
            let number = |of: &std::collections::BTreeMap<String, u64>| of.get(name).copied().unwrap_or(0);
            (name.clone(), number(expected), number(&found))
        })
        // Without superuser rights not everything can be restored: the load has reported what is missing.
        .filter(|(name, expected, found)| rights || found >= expected || !RESERVED.contains(&name.as_str()))
        .collect())
}

/// Types of objects that only a superuser can always make; what the load excuses.
const RESERVED: [&str; 6] =
    ["comment", "event trigger", "grant", "publication", "publication table", "security label"];

/// Objects that are defined otherwise, and what could not be held against its source.
async fn defined(session: &Session, details: &Details, rights: bool) -> Result<(Vec<String>, Vec<String>)> {
    if details.definitions.is_empty() {
        return Ok((
            Vec::new(),
            vec!["the snapshot is of an earlier release, and has no definitions".to_owned()],
        ));
    }
    if details.definitions_form != definitions::FORM {
        let why = "the snapshot is of another release, which writes definitions otherwise";
        return Ok((Vec::new(), vec![why.to_owned()]));
    }
    let (was, is) = (details.server_major, session.version.major);
    if was != is {
        let why = format!("PostgreSQL {is} writes definitions otherwise than {was}");
        return Ok((Vec::new(), vec![why]));
    }
    Ok(definitions::differences(&details.definitions, &definitions::read(session).await?, rights))
}

/// Sequences that stand elsewhere, and those of extensions that their extensions do not make here.
async fn sequences(session: &Session, details: &Details) -> Result<(Vec<String>, Vec<String>)> {
    let found = relations::sequences(session).await?;
    let (mut differences, mut lost) = (Vec::new(), Vec::new());
    for expected in &details.sequences {
        let name = format!("sequence {}.{}", expected.schema.escape_debug(), expected.name.escape_debug());
        let same = |s: &&relations::Sequence| s.schema == expected.schema && s.name == expected.name;
        let stands = |s: &relations::Sequence| (s.last_value, s.is_called);
        match found.iter().find(same) {
            None if expected.of_extension => {
                lost.push(format!("{name} is missing: it belonged to an extension, which does not make it"));
            }
            None => differences.push(format!("{name} is missing")),
            Some(found) if stands(found) == stands(expected) => {}
            Some(found) => differences.push(format!(
                "{name} stands at {} (called: {}), not at {} (called: {})",
                found.last_value, found.is_called, expected.last_value, expected.is_called
            )),
        }
    }
    Ok((differences, lost))
}

async fn large_objects(session: &Session, details: &Details) -> Result<Vec<String>> {
    let expected = &details.large_objects;
    let found = relations::large_objects(session).await?;
    if found.count != expected.count {
        return Ok(vec![format!("{} large objects, not {}", found.count, expected.count)]);
    }
    match (&expected.digest, &found.digest) {
        (Some(expected), Some(found)) if expected != found => {
            Ok(vec!["the bytes of large objects differ".to_owned()])
        }
        (Some(_), None) if expected.count > 0 => Ok(vec![
            "the bytes of large objects could not be compared: only a superuser may read them all".to_owned(),
        ]),
        _ => Ok(Vec::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(name: &str) -> TableId {
        TableId { schema: "s".into(), table: name.into() }
    }

    fn compared(name: &str, expected: (u64, u128), found: (u64, u128)) -> TableComparison {
        TableComparison {
            table: table(name),
            expected_rows: expected.0,
            rows: found.0,
            expected_digest: RowDigest(expected.1),
            digest: RowDigest(found.1),
        }
    }

    #[test]
    fn rows_may_move_among_partitions_but_not_vanish() {
        let roots = ["a", "b"].map(|name| (table(name), table("root"))).into();
        let mut moved = [
            compared("a", (2, u128::MAX), (3, 4)),
            compared("b", (2, 7), (1, 2)),
            compared("c", (1, 1), (0, 0)),
        ];
        gather(&mut moved, &roots);
        assert!(moved[0].equal() && moved[1].equal());
        assert!(!moved[2].equal(), "another table is not excused");
        let mut lost = [compared("a", (2, 5), (1, 5)), compared("b", (2, 7), (2, 7))];
        gather(&mut lost, &roots);
        assert!(!lost[0].equal());
    }
}
