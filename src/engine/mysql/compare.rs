//! Compares a loaded database with its contents.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::{StreamExt as _, TryStreamExt as _};
use tokio_util::sync::CancellationToken;

use super::connect::Connector;
use super::definitions::{self, Definition, Kind, requalified, without_counter};
use super::details::{self, Details};
use super::quote::{ident, idents, qualified};
use super::session::{Failure, Session};
use super::table_parts::TableParts;
use super::{accounts, inventory, mark, tables, view};
use crate::engine::{Comparison, TableComparison};
use crate::error::{Error, Result};
use crate::model::row_hash::RowHasher;
use crate::model::stream::Contents;
use crate::model::table::{RowDigest, TableProof};

/// What is to be there beyond tables and their rows.
#[derive(Debug, Clone, Copy)]
pub(super) struct With {
    /// Events.
    pub events: bool,
    /// Users' rights.
    pub accounts: bool,
}

/// Compares rows, definitions, counters, sequences, rights.
pub(super) async fn compare(
    connector: &Connector,
    contents: &Contents,
    details: &Details,
    with: With,
    jobs: usize,
    cancel: &CancellationToken,
) -> Result<Comparison> {
    let database = connector.database();
    let mut session = connector.connect(cancel).await?;
    let here = tables::read(&mut session, database).await?;
    let here: BTreeSet<&str> = here.iter().map(|table| table.name.as_str()).collect();
    let is_here = |proof: &TableProof| here.contains(proof.table.table.as_str());
    let proofs: Vec<&TableProof> = contents.streams.iter().flat_map(|stream| &stream.tables).collect();
    let mut comparison = Comparison::default();
    let missing = proofs.iter().filter(|proof| !is_here(proof));
    comparison.differences.extend(missing.map(|proof| format!("table {} is missing", proof.table)));
    let reads: Vec<_> = proofs
        .iter()
        .map(|proof| table(connector, contents, details, proof, is_here(proof), cancel))
        .collect();
    let mut compared: Vec<TableComparison> =
        futures_util::stream::iter(reads).buffer_unordered(jobs).try_collect().await?;
    compared.sort_by(|a, b| a.table.cmp(&b.table));
    comparison.tables = compared;
    defined(connector, &mut session, contents, details, with, &mut comparison).await?;
    references(&mut session, database, details, &mut comparison).await?;
    if with.accounts {
        rights(connector, &mut session, details, &mut comparison).await?;
    }
    let found = inventory::count(&mut session, database).await?;
    let broken = details.definitions.iter().filter(|d| d.broken).count() as u64;
    let types: BTreeSet<&String> = contents.source.inventory.keys().chain(found.keys()).collect();
    comparison.inventory = types
        .into_iter()
        .filter(|name| with.events || *name != "event")
        .map(|name| {
            let number = |of: &BTreeMap<String, u64>| of.get(name).copied().unwrap_or(0);
            let (expected, found) = (number(&contents.source.inventory), number(&found));
            // One that could not be used need not be there.
            let excused = name == "view" && found < expected && found + broken >= expected;
            (name.clone(), if excused { found } else { expected }, found)
        })
        .collect();
    Ok(comparison)
}

async fn table(
    connector: &Connector,
    contents: &Contents,
    details: &Details,
    proof: &TableProof,
    there: bool,
    cancel: &CancellationToken,
) -> Result<TableComparison> {
    let (rows, digest) = match there {
        true => {
            let table = details.table(&proof.table.table)?;
            digest(connector, contents, table, cancel).await.map_err(|e| e.context(&proof.table))?
        }
        false => (0, RowDigest::default()),
    };
    Ok(TableComparison {
        table: proof.table.clone(),
        expected_rows: proof.rows,
        rows,
        expected_digest: proof.digest,
        digest,
    })
}

/// Count and digest of a table as it is.
pub(super) async fn digest(
    connector: &Connector,
    contents: &Contents,
    table: &tables::Table,
    cancel: &CancellationToken,
) -> Result<(u64, RowDigest)> {
    let mut session = connector.connect_for_rows(cancel).await?;
    let torn = |e| Error::database("failed to read a table").cause(e);
    let mut hasher = RowHasher::new(&contents.row_key);
    let read = session.lines(&table.select_unordered(connector.database()), &mut hasher).await;
    read.map_err(|e| session.failed("read a table", e))?;
    let sum = hasher.finish().map_err(torn)?;
    Ok((sum.rows(), sum.digest()))
}

/// Definitions, counters and sequences.
async fn defined(
    connector: &Connector,
    session: &mut Session,
    contents: &Contents,
    details: &Details,
    with: With,
    comparison: &mut Comparison,
) -> Result<()> {
    let database = connector.database();
    let found = definitions::read(session, database, connector.kind()).await?;
    let sequences = view::sequences(session, database, &found).await?;
    for (name, next) in &details.sequences {
        match sequences.get(name) {
            Some(found) if found == next => {}
            Some(found) => comparison
                .differences
                .push(format!("sequence {} goes on with {found}, not with {next}", name.escape_debug())),
            None => comparison.differences.push(format!("sequence {} is missing", name.escape_debug())),
        }
    }
    let wanted = |d: &&Definition| {
        (with.events || d.kind != Kind::Event) && !(d.kind == Kind::Table && d.name == mark::MARK)
    };
    let by_name = |all: &'_ [Definition]| -> BTreeMap<(Kind, String), Definition> {
        all.iter().filter(wanted).map(|d| ((d.kind, d.name.clone()), d.clone())).collect()
    };
    let (was, is) = (by_name(&details.definitions), by_name(&found));
    let same_series = details::version(contents)?.series() == session.version().series();
    for (name, definition) in &was {
        match is.get(name) {
            None if definition.broken => comparison.excused.push(format!(
                "{} is missing: it cannot be made, and could not be used in the source either",
                definition.what()
            )),
            None => comparison.definitions.push(format!("{} is missing", definition.what())),
            Some(found) if same_series && !same(definition, found, &details.database, database) => {
                comparison.definitions.push(format!("{} is defined differently", definition.what()));
            }
            Some(found) => counter(definition, found, details, comparison),
        }
    }
    let more = is.iter().filter(|(name, _)| !was.contains_key(*name));
    comparison.definitions.extend(more.map(|(_, definition)| format!("{} is additional", definition.what())));
    if !same_series {
        let why = format!(
            "version {} writes definitions otherwise than {}",
            session.version(),
            contents.source.version
        );
        comparison.excused.push(why);
    }
    Ok(())
}

/// A table that counts goes on where the snapshot's would.
fn counter(definition: &Definition, found: &Definition, details: &Details, comparison: &mut Comparison) {
    let Some(expected) = details.counters.get(&definition.name).filter(|_| definition.kind == Kind::Table)
    else {
        return;
    };
    // A counter at its beginning is not written.
    let counts = without_counter(&found.create).1.unwrap_or(1);
    if counts < *expected {
        comparison.differences.push(format!(
            "table {} goes on counting with {counts}, not with {expected}",
            definition.name.escape_debug()
        ));
    }
}

/// Whether two objects are the same, in databases of these names.
fn same(was: &Definition, is: &Definition, from: &str, to: &str) -> bool {
    let create = requalified(&is.create, to, from);
    let same_text = match was.kind {
        Kind::Table => lines(&was.create) == lines(&create),
        // A server writes names in full, or not, as the user who asks has other rights.
        Kind::View => unqualified(&was.create, from) == unqualified(&create, from),
        _ => was.create == create,
    };
    same_text && was.sql_mode == is.sql_mode && was.client == is.client && was.time_zone == is.time_zone
}

fn unqualified(text: &str, database: &str) -> String {
    text.replace(&format!("{}.", ident(database)), "")
}

fn lines(create: &str) -> Vec<String> {
    let create = without_counter(create).0;
    TableParts::parse(&create).map_or_else(|| vec![create], |parts| parts.lines())
}

/// Rows that refer to nothing, because foreign keys were not looked at while they were loaded. The rows are those of the source, so
/// it had them too.
async fn references(
    session: &mut Session,
    database: &str,
    details: &Details,
    comparison: &mut Comparison,
) -> Result<()> {
    let name = super::quote::literal(database);
    let sql = format!(
        "SELECT k.CONSTRAINT_NAME, k.TABLE_NAME, k.COLUMN_NAME, k.REFERENCED_TABLE_SCHEMA, k.REFERENCED_TABLE_NAME, k.REFERENCED_COLUMN_NAME \
         FROM information_schema.KEY_COLUMN_USAGE k WHERE k.CONSTRAINT_SCHEMA = {name} AND k.REFERENCED_TABLE_NAME IS NOT NULL \
         ORDER BY k.TABLE_NAME, k.CONSTRAINT_NAME, k.ORDINAL_POSITION"
    );
    let mut keys = BTreeMap::<(String, String), (String, Vec<(String, String)>)>::new();
    for row in session.query(&sql, "list the foreign keys").await? {
        let text = |at: usize| row.get(at).cloned().flatten().unwrap_or_default();
        let key =
            keys.entry((text(1), text(0))).or_insert_with(|| (qualified(&text(3), &text(4)), Vec::new()));
        key.1.push((text(2), text(5)));
    }
    for ((table, key), (parent, columns)) in keys {
        let of = |alias: &str, column: &String| format!("{alias}.{}", idents(std::slice::from_ref(column)));
        let on: Vec<String> =
            columns.iter().map(|(c, p)| format!("{} = {}", of("p", p), of("c", c))).collect();
        let set: Vec<String> = columns.iter().map(|(c, _)| format!("{} IS NOT NULL", of("c", c))).collect();
        let sql = format!(
            "SELECT COUNT(*) FROM {} c WHERE {} AND NOT EXISTS (SELECT 1 FROM {parent} p WHERE {})",
            qualified(database, &table),
            set.join(" AND "),
            on.join(" AND ")
        );
        let orphans = match session.rows(&sql).await {
            Ok(rows) => rows.into_iter().next().and_then(|mut row| row.pop().flatten()),
            // A table or column that is missing is told as that.
            Err(Failure::Server(e)) if [1054, 1146].contains(&e.code) => None,
            Err(e) => return Err(session.failed(&format!("look at foreign key {}", key.escape_debug()), e)),
        };
        if let Some(orphans) = orphans.filter(|orphans| orphans != "0") {
            comparison.excused.push(format!(
                "foreign key {} of table {}: {orphans} rows refer to nothing, as they did in {}",
                key.escape_debug(),
                table.escape_debug(),
                details.database.escape_debug()
            ));
        }
    }
    Ok(())
}

/// What users may do in the database.
async fn rights(
    connector: &Connector,
    session: &mut Session,
    details: &Details,
    comparison: &mut Comparison,
) -> Result<()> {
    let database = connector.database();
    let found = accounts::read(session, database, connector.kind()).await?;
    if let Some(why) = found.warning {
        comparison.excused.push(why);
        return Ok(());
    }
    for account in &details.accounts {
        let here = found.accounts.iter().find(|a| (&a.user, &a.host) == (&account.user, &account.host));
        let here: Vec<String> = here
            .into_iter()
            .flat_map(|account| &account.grants)
            .map(|grant| requalified(&accounts::plain(grant, database), database, &details.database))
            .collect();
        let grants = account.grants.iter().map(|grant| accounts::plain(grant, &details.database));
        let missing = grants.filter(|grant| !here.contains(grant)).count();
        if missing > 0 {
            comparison.differences.push(format!("{missing} rights of user {} are missing", account.name()));
        }
    }
    Ok(())
}
