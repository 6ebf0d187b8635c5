//! Every engine by its kind: the one place that knows them all.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::mysql::{MysqlEngine, MysqlLoader, MysqlScratchConfig, MysqlScratchHost};
use super::postgres::{PostgresEngine, PostgresLoader, PostgresScratchHost};
use super::scratch::ScratchHost;
use super::sqlite::{SqliteEngine, SqliteLoader, SqliteScratchHost};
use super::{Engine, Loader};
use crate::error::{Error, ErrorKind, Result};
use crate::model::engine_kind::EngineKind;

pub(crate) use super::mysql::MysqlConfig;
pub(crate) use super::postgres::PostgresConfig;
/// Where throwaway places are made. Those of MariaDB, MySQL and SQLite need a part of it.
pub(crate) use super::postgres::PostgresScratchConfig as ScratchOptions;

/// How long a restore waits for a lock in its destination.
const RESTORE_LOCK_TIMEOUT: Duration = Duration::from_secs(60);

/// Where a database is, and how it is read.
#[derive(Debug, Clone)]
pub(crate) enum EngineSettings {
    /// On a server; others wait for a snapshot's locks for at most so long.
    Postgres(PostgresConfig, Duration),
    /// The same of MariaDB or MySQL.
    Mysql(MysqlConfig, Duration),
    /// In a file.
    Sqlite {
        /// Which.
        path: PathBuf,
        /// How long a writer may wait for a snapshot.
        give_way_after: Duration,
    },
}

/// The engine that reads this database.
pub(crate) fn engine(settings: EngineSettings) -> Result<Arc<dyn Engine>> {
    Ok(match settings {
        EngineSettings::Postgres(config, give_way_after) => {
            Arc::new(PostgresEngine::new(config, give_way_after)?)
        }
        EngineSettings::Mysql(config, give_way_after) => Arc::new(MysqlEngine::new(&config, give_way_after)?),
        EngineSettings::Sqlite { path, give_way_after } => {
            Arc::new(SqliteEngine::new(path).giving_way_after(give_way_after))
        }
    })
}

/// The loader that puts a snapshot of this engine into a destination given as text, with up to `jobs` connections.
pub(crate) fn loader(
    engine: &str,
    destination: &str,
    jobs: usize,
    bin_dir: Option<&Path>,
) -> Result<Arc<dyn Loader>> {
    let is_mysql = destination.starts_with("mysql://") || destination.starts_with("mariadb://");
    let is_postgres = destination.starts_with("postgres://") || destination.starts_with("postgresql://");
    let mismatch = |accepted: &str| {
        let what = format!("the snapshot is of a {engine} database, but --to is not");
        Err(Error::new(ErrorKind::Usage, what).remedy(format!("Give --to as {accepted}.")))
    };
    match EngineKind::from_name(engine) {
        Some(EngineKind::Postgres) if is_postgres => Ok(Arc::new(PostgresLoader::new(PostgresConfig {
            bin_dir: bin_dir.map(Path::to_owned),
            jobs,
            ..PostgresConfig::destination(destination.to_owned(), RESTORE_LOCK_TIMEOUT)
        })?)),
        Some(EngineKind::Postgres) => mismatch("postgres://user@host/newdatabase"),
        Some(kind @ (EngineKind::MariaDb | EngineKind::MySql)) if is_mysql => {
            let config = MysqlConfig::destination(kind, destination.to_owned(), jobs, RESTORE_LOCK_TIMEOUT);
            Ok(Arc::new(MysqlLoader::new(&config)?))
        }
        Some(EngineKind::MariaDb | EngineKind::MySql) => mismatch("mysql://user@host/newdatabase"),
        Some(EngineKind::Sqlite) if destination.contains("://") => mismatch("the path of a new file"),
        Some(EngineKind::Sqlite) => Ok(Arc::new(SqliteLoader::new(destination))),
        None => Err(Error::preflight(format!(
            "this version of marbre cannot load a snapshot of a {engine} database"
        ))
        .remedy("Use a newer version of marbre, or the reader in docs/recovery.")),
    }
}

/// The host of throwaway places for snapshots of this engine.
pub(crate) fn scratch_host(engine: &str, options: &ScratchOptions) -> Result<Arc<dyn ScratchHost>> {
    match EngineKind::from_name(engine) {
        Some(EngineKind::Postgres) => Ok(Arc::new(PostgresScratchHost::new(options.clone())?)),
        Some(kind @ (EngineKind::MariaDb | EngineKind::MySql)) => {
            let ScratchOptions { bin_dir, user, isolation, jobs, .. } = options.clone();
            Ok(Arc::new(MysqlScratchHost::new(MysqlScratchConfig { kind, bin_dir, user, isolation, jobs })?))
        }
        Some(EngineKind::Sqlite) => Ok(Arc::new(SqliteScratchHost::new(options.isolation))),
        None => Err(Error::preflight(format!(
            "this version of marbre cannot drill a snapshot of a {engine} database"
        ))
        .remedy("Use a newer version of marbre.")),
    }
}

/// A host for the leftovers of a drill of unknown engine: only servers leave more than a folder.
pub(crate) fn any_scratch_host(options: &ScratchOptions) -> Option<Arc<dyn ScratchHost>> {
    scratch_host(EngineKind::Postgres.name(), options).ok()
}

/// If this process was started to answer one question in the sandbox of a drill: answers it, and says that it was. No argument of
/// people is like that.
pub(crate) async fn answer_in_sandbox() -> Option<Result<()>> {
    let asked = std::env::args_os().nth(1).is_some_and(|word| word == super::sqlite::LOOK_VERB);
    match asked {
        true => Some(super::sqlite::answer_one().await),
        false => None,
    }
}
