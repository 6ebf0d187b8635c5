//! Throwaway SQLite files for drills: a private folder with one database in it.

use std::fs::{self, DirBuilder};
use std::io::ErrorKind as IoErrorKind;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use super::confined::{Looker, Question};
use super::integrity::{self, Violation};
use super::{STREAM, SqliteLoader, check};
use crate::engine::Loader;
use crate::engine::scratch::{Damage, Examination, Scratch, ScratchHost, isolation_check};
use crate::error::{BoxError, Error, Result, ResultExt};
use crate::model::check::Check;
use crate::model::isolation::Isolation;
use crate::model::stream::Contents;

/// Makes throwaway SQLite files.
#[derive(Debug)]
pub(crate) struct SqliteScratchHost {
    isolation: Isolation,
}

impl SqliteScratchHost {
    /// A host.
    pub(crate) fn new(isolation: Isolation) -> Self {
        Self { isolation }
    }
}

#[async_trait]
impl ScratchHost for SqliteScratchHost {
    fn isolation(&self) -> Isolation {
        self.isolation
    }

    async fn check(&self, _folder: &Path, _cancel: &CancellationToken) -> Vec<Check> {
        vec![
            check::library(),
            isolation_check(self.isolation, Looker::new(self.isolation).await.err().as_ref()),
        ]
    }

    async fn start(
        &self,
        contents: &Contents,
        folder: &Path,
        cancel: &CancellationToken,
    ) -> Result<Box<dyn Scratch>> {
        let looker = Looker::new(self.isolation).await?;
        looker.open_way(folder.parent().unwrap_or(Path::new("/"))).await?;
        DirBuilder::new()
            .mode(0o700)
            .create(folder)
            .or_internal(format!("make the folder {}", folder.display()))?;
        let loader = Arc::new(SqliteLoader::new(folder.join(STREAM)).in_drill(looker.clone()));
        // Checks that the snapshot is one of SQLite, and that there is room for it.
        loader.inspect(contents, cancel).await?;
        let violations = integrity::recorded(&contents.source.details);
        Ok(Box::new(SqliteScratch { folder: folder.to_owned(), loader, looker, violations }))
    }

    async fn sweep(&self, folder: &Path) -> Result<()> {
        clear(folder.to_owned()).await
    }
}

/// One throwaway file.
#[derive(Debug)]
struct SqliteScratch {
    folder: PathBuf,
    loader: Arc<SqliteLoader>,
    looker: Looker,
    /// The foreign keys that the source broke.
    violations: Vec<Violation>,
}

#[async_trait]
impl Scratch for SqliteScratch {
    fn describe(&self) -> String {
        format!("a throwaway file, SQLite {}", rusqlite::version())
    }

    fn version(&self) -> String {
        rusqlite::version().to_owned()
    }

    fn trouble(&self) -> Option<String> {
        None
    }

    fn loader(&self) -> Arc<dyn Loader> {
        self.loader.clone()
    }

    async fn query(
        &self,
        sql: &str,
        timeout: Duration,
        cancel: &CancellationToken,
    ) -> Result<Option<String>> {
        let question = Question::Query { sql: sql.to_owned(), timeout };
        self.looker.ask(self.loader.current(), question, cancel).await
    }

    async fn examine(&self, skip: &[String], cancel: &CancellationToken) -> Result<Vec<Examination>> {
        let question = Question::Examine { skip: skip.to_vec(), source: self.violations.clone() };
        self.looker.ask(self.loader.current(), question, cancel).await
    }

    async fn damage(
        &self,
        damage: Damage,
        contents: &Contents,
        cancel: &CancellationToken,
    ) -> Result<String> {
        let question = Question::Damage(damage, Box::new(contents.clone()));
        self.looker.ask(self.loader.current(), question, cancel).await
    }

    async fn keep(self: Box<Self>) -> Result<String> {
        let path = self.loader.current();
        Ok(match path.is_file() {
            true => {
                let quoted = path.display().to_string().replace('\'', r"'\''");
                format!(
                    "The restored database is in {}, unencrypted. Look at it with: sqlite3 '{quoted}'",
                    path.display()
                )
            }
            false => {
                format!("No database was restored; what there is can be found in {}.", self.folder.display())
            }
        })
    }

    async fn remove(self: Box<Self>) -> Result<()> {
        clear(self.folder.clone()).await
    }
}

/// Removes a folder with everything in it, and verifies that it is gone.
async fn clear(folder: PathBuf) -> Result<()> {
    let removal = tokio::task::spawn_blocking(move || {
        let failed = |cause: BoxError| {
            Error::internal(format!("failed to remove {}", folder.display()))
                .cause(cause)
                .remedy("Remove it by hand: it holds an unencrypted copy of the database.")
        };
        match fs::remove_dir_all(&folder) {
            Err(e) if e.kind() != IoErrorKind::NotFound => return Err(failed(e.into())),
            _ => {}
        }
        match fs::symlink_metadata(&folder) {
            Err(e) if e.kind() == IoErrorKind::NotFound => Ok(()),
            Err(e) => Err(failed(e.into())),
            Ok(_) => Err(failed("it is still there".into())),
        }
    });
    removal.await.or_internal("run a worker thread")?
}
