//! SQLite: a database file is read page by page, and loaded as one.
//!
//! The pages come out of the virtual table `sqlite_dbpage` inside one read transaction, as SQLite's own
//! `sqlite3_rsync` does it: a database in WAL mode can still be written, only one batch of pages is in
//! memory, and no copy of the file touches the disk. (The online backup API would need such a copy, or
//! memory for the whole database.) What is read is a complete database file: no `-wal` belongs to it.
//! In the other modes writers wait for readers, so there is an encrypted copy after all (see `view`).
//!
//! The rows of all tables are counted and hashed over several connections, whose transactions see the same state: the
//! digest is a sum, so parts of a table add up.
//!
//! During the transactions the write-ahead log cannot be reset and grows with every write. If nobody else has a database
//! in WAL mode open, a reader leaves an empty `-wal` and a `-shm` behind; they are harmless, and belong to the owner of
//! the database if the reader is its owner or root.

mod check;
mod compare;
mod confined;
mod connection;
mod copy;
mod damage;
mod database_stream;
mod digest;
mod facts;
mod integrity;
mod loader;
mod long_rows;
mod place;
mod proving;
mod query;
mod scratch;
mod tables;
mod transaction;
mod view;
mod waiting;
mod words;

#[cfg(test)]
mod tests;

pub(crate) use confined::{VERB as LOOK_VERB, answer_one};
pub use loader::SqliteLoader;
pub(crate) use scratch::SqliteScratchHost;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use crate::engine::{Engine, Neighbours, OpenOptions, Place, View};
use crate::error::{Error, Result};
use crate::model::check::Check;

/// The name of the one stream of a SQLite snapshot: the database file.
pub(crate) const STREAM: &str = "database.sqlite";

/// The oldest SQLite library that may be used, as `sqlite3_libversion_number` counts: 3.51.3 repaired a
/// race between checkpoints of a write-ahead log that could damage a database.
/// Source: <https://www.sqlite.org/wal.html>, "The WAL-reset bug".
const OLDEST_LIBRARY: i32 = 3_051_003;

/// Reads one SQLite database file.
#[derive(Debug, Clone)]
pub struct SqliteEngine {
    path: PathBuf,
    /// How long a writer may wait for a snapshot.
    give_way_after: Duration,
}

/// Less than most applications wait for a lock before they give up: 5 seconds.
const GIVE_WAY_AFTER: Duration = Duration::from_secs(2);

impl SqliteEngine {
    /// The database in this file. Nothing is opened yet.
    pub fn new(path: impl AsRef<Path>) -> Self {
        Self { path: absolute(path.as_ref()), give_way_after: GIVE_WAY_AFTER }
    }

    /// The same, with another limit for writers that wait.
    pub(super) fn giving_way_after(self, limit: Duration) -> Self {
        Self { give_way_after: limit, ..self }
    }
}

#[async_trait]
impl Engine for SqliteEngine {
    fn describe(&self) -> String {
        format!("SQLite database {}", self.path.display())
    }

    async fn check(&self, cancel: &CancellationToken) -> Vec<Check> {
        check::check(self.path.clone(), cancel).await
    }

    async fn open(&self, options: &OpenOptions, cancel: &CancellationToken) -> Result<Box<dyn View>> {
        if rusqlite::version_number() < OLDEST_LIBRARY {
            return Err(Error::internal(format!("the SQLite library {} is too old", rusqlite::version()))
                .remedy("Build marbre with its bundled SQLite, 3.51.3 or later."));
        }
        let view = view::SqliteView::open(self.path.clone(), self.give_way_after, options, cancel).await?;
        Ok(Box::new(view))
    }

    fn elsewhere(&self, _failed: &Error) -> Option<Arc<dyn Engine>> {
        None
    }

    fn place(&self) -> Option<Place> {
        None
    }

    async fn neighbours(&self, _cancel: &CancellationToken) -> Result<Option<Neighbours>> {
        Ok(None)
    }
}

/// The absolute form of a path. The bundled SQLite takes a name that starts with `file:` for a URI; an
/// absolute path never does.
fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}
