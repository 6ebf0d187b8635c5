//! The composition root: from configuration or arguments to engines, targets and keys.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::config::{Config, Database, Source, TargetConfig};
use crate::engine::postgres::{PostgresConfig, PostgresEngine, PostgresLoader};
use crate::engine::sqlite::{SqliteEngine, SqliteLoader};
use crate::engine::{Engine, Loader};
use crate::error::{Error, ErrorKind, Result};
use crate::job::snapshot::SnapshotJob;
use crate::job::{NamedTarget, Observer};
use crate::keys::{Recipients, SigningKey, TrustStore};
use crate::model::id::TargetName;
use crate::repository::manifest::Manifest;
use crate::state::State;
use crate::target::{self, TargetUrl};

use super::progress;

/// How long a restore waits for a lock in its destination.
const RESTORE_LOCK_TIMEOUT: Duration = Duration::from_secs(60);

/// What every verb has.
pub struct Context {
    config: Option<PathBuf>,
    /// Whether output is JSON.
    pub json: bool,
}

impl Context {
    /// The context of these global arguments.
    pub fn new(config: Option<PathBuf>, json: bool) -> Self {
        Self { config, json }
    }

    /// Loads the configuration.
    pub fn config(&self) -> Result<Config> {
        Config::load(self.config.as_deref())
    }

    /// An observer for one job.
    pub fn observer(&self) -> Arc<dyn Observer> {
        progress::observer(self.json)
    }
}

/// Opens the targets of a database.
pub async fn targets(config: &Config, database: &Database) -> Result<Vec<NamedTarget>> {
    let mut targets = Vec::new();
    for name in &database.targets {
        targets.push(configured_target(config, name).await?);
    }
    Ok(targets)
}

/// Opens one target of the configuration.
pub async fn configured_target(config: &Config, name: &TargetName) -> Result<NamedTarget> {
    let settings = config
        .targets
        .get(name)
        .ok_or_else(|| Error::internal(format!("target {name} is not in the configuration")))?;
    let open = async {
        let url = target_url(settings)?;
        target::open_if_up(&url).await
    };
    let target = open.await.map_err(|e| e.context(format!("target.{name}")))?;
    Ok(NamedTarget { name: name.clone(), target })
}

/// The URL of a configured target, with what stands beside it.
fn target_url(settings: &TargetConfig) -> Result<TargetUrl> {
    let mut url: TargetUrl = settings.url.parse()?;
    if let Some(file) = &settings.credentials_file {
        match &mut url {
            TargetUrl::S3(location) => location.credentials_file = Some(file.clone()),
            TargetUrl::Directory(_) => {
                return Err(Error::new(ErrorKind::Config, "`credentials_file` is for s3:// targets")
                    .remedy("Take it out: a directory needs no credentials."));
            }
        }
    }
    Ok(url)
}

/// Opens targets that were named on the command line.
pub async fn named_targets(urls: &[String]) -> Result<Vec<NamedTarget>> {
    let mut targets = Vec::new();
    for (number, text) in urls.iter().enumerate() {
        let url: TargetUrl = from_here(text).parse().map_err(|e: Error| e.with_kind(ErrorKind::Usage))?;
        let name = format!("from-{}", number + 1)
            .parse()
            .map_err(|e| Error::internal("a made-up target name is not valid").cause(e))?;
        targets.push(NamedTarget { name, target: target::open_if_up(&url).await? });
    }
    Ok(targets)
}

/// On the command line a directory may be named from where one is.
fn from_here(text: &str) -> String {
    match std::path::absolute(text) {
        Ok(path) if !text.contains("://") => path.display().to_string(),
        _ => text.to_owned(),
    }
}

/// The engine of a configured database.
pub fn engine(database: &Database) -> Result<Arc<dyn Engine>> {
    Ok(match &database.source {
        Source::Postgres { url, password, bin_dir, lock_timeout } => {
            let password = password.as_ref().map(crate::config::Secret::read).transpose()?;
            Arc::new(PostgresEngine::new(PostgresConfig {
                url: url.clone(),
                password,
                bin_dir: bin_dir.clone(),
                lock_timeout: *lock_timeout,
                jobs: database.jobs,
            })?)
        }
        Source::Sqlite { path } => Arc::new(SqliteEngine::new(path)),
    })
}

/// The loader that puts a snapshot into a destination given as text.
pub fn loader(
    manifest: &Manifest,
    destination: &str,
    jobs: usize,
    bin_dir: Option<&Path>,
) -> Result<Arc<dyn Loader>> {
    let is_postgres = destination.starts_with("postgres://") || destination.starts_with("postgresql://");
    let mismatch = |accepted: &str| {
        Error::new(
            ErrorKind::Usage,
            format!("the snapshot is of a {} database, --to is not", manifest.source.engine),
        )
        .remedy(format!("Give --to as {accepted}."))
    };
    match manifest.source.engine.as_str() {
        "postgres" if is_postgres => Ok(Arc::new(PostgresLoader::new(PostgresConfig {
            url: destination.to_owned(),
            password: None,
            bin_dir: bin_dir.map(Path::to_owned),
            lock_timeout: RESTORE_LOCK_TIMEOUT,
            jobs,
        })?)),
        "postgres" => Err(mismatch("postgres://user@host/newdatabase")),
        "sqlite" if is_postgres || destination.contains("://") => Err(mismatch("the path of a new file")),
        "sqlite" => Ok(Arc::new(SqliteLoader::new(destination))),
        other => Err(Error::preflight(format!("this marbre cannot load a snapshot of a {other} database"))
            .remedy("Use a newer marbre, or the reader in docs/recovery.")),
    }
}

/// The snapshot job of a configured database.
pub async fn snapshot_job(config: &Config, database: &Database) -> Result<SnapshotJob> {
    let publisher = config
        .publishers
        .get(&database.id.publisher)
        .ok_or_else(|| Error::internal("a database's publisher is not in the configuration"))?;
    Ok(SnapshotJob {
        database: database.id.clone(),
        engine: engine(database)?,
        targets: targets(config, database).await?,
        copies: database.copies,
        recipients: Recipients::parse(&publisher.recipients)?,
        signing_key: signing_key(config)?,
        state: State::open(&config.state_dir)?,
        spool_dir: config.spool_dir.clone(),
        spool_limit: config.spool_limit,
        spool_wait: config.spool_wait,
        jobs: database.jobs,
        epoch: database.epoch,
    })
}

/// The agent trusts its own key.
pub fn own_trust(config: &Config) -> Result<TrustStore> {
    Ok(TrustStore::Own(signing_key(config)?.signer()))
}

fn signing_key(config: &Config) -> Result<SigningKey> {
    let path = &config.signing_key;
    SigningKey::load(path).map_err(|e| {
        if path.exists() {
            return e;
        }
        e.remedy(format!(
            "Make it with `marbre keygen --agent {}`, and give the line that it prints to the publishers.",
            path.display()
        ))
    })
}
