//! Throwaway servers of MariaDB and MySQL for drills.
//!
//! A throwaway server has in its folder:
//!
//! | path | what it is |
//! | --- | --- |
//! | `data` | its data |
//! | `s` | its socket: nothing listens on the network |
//! | `t` | its temporary files |
//! | `empty` | a folder without files: where it would look for plugins, and may read and write files for statements |
//! | `passwd` | the name of its user |
//! | `init.sql` | only while it starts: makes its superuser, and drops all other users |
//! | `start` | the script for people who look at a kept database |
//! | `log` | the output of the server, and of what made its data |
//!
//! It runs in a sandbox, where only `data`, `s` and `t` can be written. The database has the name that it had at its source, which
//! views and routines may name.

mod arguments;
mod check_table;
mod damage;
mod layout;
mod log;
mod prerequisites;
mod programs;
mod reader;
mod server;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use self::arguments::Size;
use self::programs::Programs;
use self::reader::Reader;
use self::server::Server;
use super::details::{self, Details};
use super::loader::MysqlLoader;
use crate::engine::Loader;
use crate::engine::scratch::{Damage, Examination, Scratch, ScratchHost};
use crate::engine::throwaway::folder::real_path;
use crate::error::{Error, Result};
use crate::model::check::Check;
use crate::model::engine_kind::EngineKind;
use crate::model::isolation::Isolation;
use crate::model::stream::Contents;
use crate::system::runner::Runner;

/// How long to wait for a lock, in a place where nobody else should hold one.
const LOCK_TIMEOUT: Duration = Duration::from_secs(60);

/// How throwaway servers are made.
#[derive(Debug, Clone)]
pub(crate) struct MysqlScratchConfig {
    /// MariaDB or MySQL.
    pub kind: EngineKind,
    /// The folder of `mariadbd` or `mysqld`; by default matching ones are searched.
    pub bin_dir: Option<PathBuf>,
    /// The user that the server runs as, if marbre is root.
    pub user: Option<String>,
    /// Whether drills run in a sandbox.
    pub isolation: Isolation,
    /// How many connections at the same time.
    pub jobs: usize,
}

impl MysqlScratchConfig {
    fn user(&self) -> &str {
        self.user.as_deref().unwrap_or("mysql")
    }
}

/// Makes throwaway servers.
pub(crate) struct MysqlScratchHost {
    config: MysqlScratchConfig,
}

impl MysqlScratchHost {
    /// Starts nothing. Fails for an engine that is neither MariaDB nor MySQL.
    pub(crate) fn new(config: MysqlScratchConfig) -> Result<Self> {
        match config.kind {
            EngineKind::MariaDb | EngineKind::MySql => Ok(Self { config }),
            other => {
                Err(Error::internal(format!("no server of {} is one of MariaDB or MySQL", other.title())))
            }
        }
    }
}

#[async_trait]
impl ScratchHost for MysqlScratchHost {
    fn isolation(&self) -> Isolation {
        self.config.isolation
    }

    async fn check(&self, folder: &Path, _cancel: &CancellationToken) -> Vec<Check> {
        prerequisites::check(&self.config, &real_path(folder)).await
    }

    async fn start(
        &self,
        contents: &Contents,
        folder: &Path,
        cancel: &CancellationToken,
    ) -> Result<Box<dyn Scratch>> {
        let details = Details::of(contents)?;
        let (kind, version) = (self.config.kind, details::version(contents)?);
        if EngineKind::from_name(&contents.source.engine) != Some(kind) {
            return Err(Error::internal(format!(
                "a snapshot of {} for a server of {}",
                contents.source.engine.escape_debug(),
                kind.title()
            )));
        }
        let programs = Programs::find(kind, self.config.bin_dir.as_deref(), version).await?;
        let runner = Runner::new(self.config.user(), self.config.isolation).await?;
        let jobs = self.config.jobs.max(1);
        let size = Size { jobs, small_letters: details.lower_case != "0" };
        let server =
            Server::start(programs, runner, &real_path(folder), size, &details.database, cancel).await?;
        let connector = server.connector().clone();
        Ok(Box::new(MysqlScratch {
            reader: Reader::new(&server)?,
            loader: Arc::new(MysqlLoader::into_database(connector, jobs)),
            server,
            jobs,
        }))
    }

    async fn sweep(&self, folder: &Path) -> Result<()> {
        server::sweep(&real_path(folder)).await
    }
}

/// A throwaway server with its database.
struct MysqlScratch {
    server: Server,
    reader: Reader,
    /// Shared by all users of the place, because it remembers what it has loaded.
    loader: Arc<MysqlLoader>,
    jobs: usize,
}

#[async_trait]
impl Scratch for MysqlScratch {
    fn describe(&self) -> String {
        format!("a throwaway server, {} {}", self.server.connector().kind().title(), self.server.version())
    }

    fn version(&self) -> String {
        self.server.version().to_string()
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
        self.reader.query(sql, timeout, cancel).await
    }

    async fn examine(&self, skip: &[String], cancel: &CancellationToken) -> Result<Vec<Examination>> {
        match skip.iter().any(|skipped| skipped == check_table::CHECK_TABLE) {
            true => Ok(Vec::new()),
            false => Ok(vec![check_table::tables(self.server.connector(), self.jobs, cancel).await?]),
        }
    }

    async fn damage(
        &self,
        damage: Damage,
        contents: &Contents,
        cancel: &CancellationToken,
    ) -> Result<String> {
        damage::damage(self.server.connector(), damage, contents, cancel).await
    }

    fn trouble(&self) -> Option<String> {
        self.server.trouble()
    }

    async fn keep(self: Box<Self>) -> Result<String> {
        self.server.keep().await
    }

    async fn remove(self: Box<Self>) -> Result<()> {
        self.server.remove().await
    }
}
