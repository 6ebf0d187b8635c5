//! Read transactions that see one state of a database: its pages, and what is said of them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use rusqlite::Connection;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::STREAM;
use super::connection::{LOCK_WAIT, Reader, begin_together, failed, open_shared};
use super::facts::{self, Facts};
use super::integrity;
use super::proving::{Proof, Proving, readers};
use super::tables;
use crate::engine::ViewFacts;
use crate::error::{Error, Result, ResultExt};
use crate::model::engine_kind::EngineKind;
use crate::model::stream::SourceFacts;

/// Bytes handed over at a time, rounded to whole pages.
pub(super) const BATCH: usize = 1 << 20;

/// Takes the pages of a database, in batches.
pub(super) trait Pages: Send + 'static {
    /// The next batch. Called on a thread that may wait.
    fn take(&mut self, batch: Vec<u8>, cancel: &CancellationToken) -> Result<()>;
}

/// Some connections whose transactions see the same state.
pub(super) struct Transaction {
    path: PathBuf,
    /// The first one reads the pages.
    readers: Vec<Arc<Reader>>,
    /// What the database says about itself.
    pub facts: Facts,
    consistent_at: Timestamp,
}

impl Transaction {
    /// Starts them.
    pub(super) async fn begin(path: &Path, cancel: &CancellationToken) -> Result<Self> {
        let connections: Vec<Connection> =
            (0..readers()).map(|_| open_shared(path)).collect::<Result<_>>()?;
        let (place, cancelled) = (path.to_owned(), cancel.clone());
        // If it is cancelled while it waits for a lock, it ends at its next check of the token.
        let begun = tokio::task::spawn_blocking(move || {
            let connections = begin_together(connections, &place, LOCK_WAIT, &cancelled)?;
            let consistent_at = Timestamp::now();
            let facts = Facts::read(&connections[0]).map_err(|e| failed(&place, "read", e))?;
            Ok::<_, Error>((connections, facts, consistent_at))
        });
        let (connections, facts, consistent_at) = begun.await.or_internal("run a worker thread")??;
        let readers = connections.into_iter().map(Reader::new).collect();
        if facts.page_count == 0 {
            return Err(Error::preflight(format!("{} has no content yet", path.display()))
                .remedy("Check the path: a database with a table has at least one page."));
        }
        Ok(Self { path: path.to_owned(), readers, facts, consistent_at })
    }

    /// Writers of the database wait for its readers.
    pub(super) fn holds_up_writers(&self) -> bool {
        self.facts.journal_mode != "wal"
    }

    /// Hands over all pages, and gives back who took them.
    pub(super) async fn pages<P: Pages>(&self, mut pages: P, cancel: &CancellationToken) -> Result<P> {
        let (path, facts) = (self.path.clone(), self.facts.clone());
        self.readers[0]
            .run(cancel, move |connection, cancel| {
                read_pages(connection, &path, &facts, |batch| pages.take(batch, cancel))?;
                Ok(pages)
            })
            .await
    }

    /// The facts about the database, with a proof of each table.
    pub(super) async fn prove(&self, row_key: [u8; 32], cancel: &CancellationToken) -> Result<ViewFacts> {
        let (path, facts, consistent_at) = (self.path.clone(), self.facts.clone(), self.consistent_at);
        let described = self.readers[0].run(cancel, move |connection, _| {
            let sqlite = |e| failed(&path, "read the schema of", e);
            let tables = tables::list(connection).map_err(sqlite)?;
            let mut described = describe(connection, &facts, consistent_at).map_err(sqlite)?;
            described.source.details[integrity::VIOLATIONS] = integrity::of_source(connection, &path)?;
            Ok((described, Proving::plan(connection, path, tables, row_key)))
        });
        let (mut facts, proving) = described.await?;
        let proving = Arc::new(proving);
        proving.run(&self.readers, cancel).await?;
        let mut proofs = Vec::new();
        for (table, proof) in proving.finish()?.into_iter().enumerate() {
            match proof {
                Proof::Read(proof) => proofs.push(proof),
                Proof::Unreadable(why) => facts.warnings.push(format!(
                    "table {} is in the snapshot, but its rows were not counted: {why}",
                    proving.name(table).escape_debug()
                )),
            }
        }
        facts.tables.push((STREAM.to_owned(), proofs));
        Ok(facts)
    }
}

/// The facts about the database except its tables' rows.
fn describe(connection: &Connection, facts: &Facts, consistent_at: Timestamp) -> rusqlite::Result<ViewFacts> {
    let mut details = facts.details();
    let mut warnings = Vec::new();
    if let Some(why) = facts::uncheckable(connection) {
        warnings.push(format!("drills of this database cannot run SQLite's integrity check: {why}"));
        details["uncheckable"] = json!(why);
    }
    let source = SourceFacts {
        omitted: Vec::new(),
        instead_of: None,
        engine: EngineKind::Sqlite.name().to_owned(),
        version: rusqlite::version().to_owned(),
        consistent_at,
        consistency_point: format!("change counter {}", facts.change_counter),
        settings: BTreeMap::from([("encoding".to_owned(), facts.encoding.clone())]),
        inventory: facts::inventory(connection)?,
        details,
    };
    Ok(ViewFacts { source, tables: Vec::new(), warnings })
}

fn read_pages(
    connection: &Connection,
    path: &Path,
    facts: &Facts,
    mut take: impl FnMut(Vec<u8>) -> Result<()>,
) -> Result<()> {
    let sqlite = |e| failed(path, "read", e);
    let page_size = facts.page_size as usize;
    let capacity = BATCH.max(page_size);
    // No ORDER BY: if SQLite ever sorted here, it would hold the whole database in memory. The order is checked.
    let mut pages = connection.prepare("SELECT pgno, data FROM sqlite_dbpage('main')").map_err(sqlite)?;
    let mut rows = pages.query([]).map_err(sqlite)?;
    let mut batch = Vec::with_capacity(capacity);
    let mut count = 0_u64;
    while let Some(row) = rows.next().map_err(sqlite)? {
        count += 1;
        let number: i64 = row.get(0).map_err(sqlite)?;
        let value = row.get_ref(1).map_err(sqlite)?;
        let page = value.as_blob().unwrap_or_default();
        if number.unsigned_abs() != count || page.len() != page_size {
            return Err(Error::internal(format!(
                "SQLite returned page {number} of {} bytes instead of page {count} of {page_size} bytes",
                page.len()
            )));
        }
        batch.extend_from_slice(page);
        if batch.len() + page_size > capacity {
            take(std::mem::replace(&mut batch, Vec::with_capacity(capacity)))?;
        }
    }
    if !batch.is_empty() {
        take(batch)?;
    }
    still_in_transaction(connection, path)?;
    let expected = facts::page_count(connection).map_err(sqlite)?;
    if count != expected || count != facts.page_count {
        return Err(Error::database(format!(
            "{} has {expected} pages, but {count} could be read",
            path.display()
        )));
    }
    Ok(())
}

/// After some failures SQLite rolls back by itself; what is read then belongs to another state.
fn still_in_transaction(connection: &Connection, path: &Path) -> Result<()> {
    if connection.is_autocommit() {
        return Err(Error::database(format!("the read transaction on {} ended early", path.display())));
    }
    Ok(())
}
