//! The composition root: from configuration or arguments to engines, targets and keys.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use jiff::Timestamp;

use crate::config::{Config, Database, DrillKey, Retention, Source, TargetConfig};
use crate::engine::postgres::{
    PostgresConfig, PostgresEngine, PostgresLoader, PostgresScratchConfig, PostgresScratchHost,
};
use crate::engine::scratch::ScratchHost;
use crate::engine::sqlite::{SqliteEngine, SqliteLoader, SqliteScratchHost};
use crate::engine::{Engine, Loader};
use crate::error::{Error, ErrorKind, Result};
use crate::job::drill::checks::BuiltIn;
use crate::job::drill::{DrillJob, Opens, site};
use crate::job::epoch_keys::KeyPolicy;
use crate::job::locked::Locked;
use crate::job::prune::PruneJob;
use crate::job::restore::open::Wanted;
use crate::job::snapshot::SnapshotJob;
use crate::job::status::Promises;
use crate::job::sync::SyncJob;
use crate::job::verify::VerifyJob;
use crate::job::{NamedTarget, Observer, findings};
use crate::keys::{Recipients, RestoreKey, Signer, SigningKey, TrustStore};
use crate::model::check::Percent;
use crate::model::id::{DatabaseId, PublisherName, TargetName};
use crate::model::job::JobKind;
use crate::model::lock::LockTerm;
use crate::model::run::Run;
use crate::repository::manifest::Manifest;
use crate::state::State;
use crate::target::attack::Attack;
use crate::target::limit::{Limit, Pace};
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

    /// The file that the command line names.
    pub fn config_file(&self) -> Option<PathBuf> {
        self.config.clone()
    }

    /// An observer for one job.
    pub fn observer(&self) -> Arc<dyn Observer> {
        progress::observer(self.json)
    }
}

/// Opens the targets of a database, each of which locks the database's objects as the configuration says.
pub async fn targets(config: &Config, database: &Database) -> Result<Vec<NamedTarget>> {
    // All at a time: one that hangs must not add its time to that of others.
    let opened = join_all(database.targets.iter().map(|name| configured_target(config, name))).await;
    let mut targets = Vec::new();
    for opened in opened {
        let NamedTarget { name, mut target } = opened?;
        if let Some(term) = config.targets.get(&name).and_then(|settings| settings.lock_term(database)) {
            target = Arc::new(Locked::new(target, database.id.clone(), term, Timestamp::now()));
        }
        targets.push(NamedTarget { name, target });
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
    let mut target = open.await.map_err(|e| e.context(format!("target.{name}")))?;
    if let Some(rate) = settings.bandwidth {
        let (up, down) = paces(name, rate);
        target = Arc::new(Limit::new(target, up, down));
    }
    Ok(NamedTarget { name: name.clone(), target })
}

/// The paces of a target. All jobs of this process share its line, so they share these.
fn paces(name: &TargetName, rate: u64) -> (Pace, Pace) {
    static PACES: Mutex<BTreeMap<(TargetName, u64), (Pace, Pace)>> = Mutex::new(BTreeMap::new());
    // No code panics while it holds the lock.
    let mut paces = PACES.lock().unwrap_or_else(PoisonError::into_inner);
    let made = paces.entry((name.clone(), rate)).or_insert_with(|| (Pace::new(rate), Pace::new(rate)));
    made.clone()
}

/// Opens one target of the configuration for a probe.
pub async fn attackable_target(config: &Config, name: &TargetName) -> Result<Arc<dyn Attack>> {
    let settings = config
        .targets
        .get(name)
        .ok_or_else(|| Error::internal(format!("target {name} is not in the configuration")))?;
    target::open_for_attack(&target_url(settings)?).await
}

/// The URL of a configured target, with what stands beside it.
pub fn target_url(settings: &TargetConfig) -> Result<TargetUrl> {
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

/// Opens targets that were named on the command line: `URL`, or `NAME=URL` with the name that the provider uses.
pub async fn named_targets(urls: &[String]) -> Result<Vec<NamedTarget>> {
    let mut targets = Vec::new();
    for (number, text) in urls.iter().enumerate() {
        let named =
            text.split_once('=').and_then(|(name, url)| Some((name.parse::<TargetName>().ok()?, url)));
        let (name, text) = match named {
            Some((name, url)) => (name, url),
            None => {
                let name = format!("from-{}", number + 1);
                let name = name
                    .parse()
                    .map_err(|e| Error::internal("a made-up target name is not valid").cause(e))?;
                (name, text.as_str())
            }
        };
        let url: TargetUrl = from_here(text).parse().map_err(|e: Error| e.with_kind(ErrorKind::Usage))?;
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
        required: required(config, database),
        locks: locks(config, database),
        recipients: Recipients::parse(&publisher.recipients)?,
        signing_key: signing_key(config)?,
        state: State::open(&config.state_dir)?,
        spool_dir: config.spool_dir.clone(),
        spool_limit: config.spool_limit,
        spool_wait: config.spool_wait,
        jobs: database.jobs,
        epoch: database.epoch,
        key_policy: key_policy(database),
    })
}

/// The targets of a database without which a snapshot fails.
fn required(config: &Config, database: &Database) -> BTreeSet<TargetName> {
    let required = |name: &&TargetName| config.targets.get(*name).is_some_and(|settings| settings.required);
    database.targets.iter().filter(required).cloned().collect()
}

/// How the targets of a database lock its objects, where they do.
fn locks(config: &Config, database: &Database) -> BTreeMap<TargetName, LockTerm> {
    let term = |name: &TargetName| Some((name.clone(), config.targets.get(name)?.lock_term(database)?));
    database.targets.iter().filter_map(term).collect()
}

/// Which keys of epochs are kept for drills.
fn key_policy(database: &Database) -> KeyPolicy {
    KeyPolicy { keep: database.drills.key == DrillKey::Epoch, longest: database.drills.keep_key }
}

/// The agent trusts its own key, and the owner's where the owner speaks.
pub fn own_trust(config: &Config, publisher: &PublisherName) -> Result<TrustStore> {
    let signers = config.publishers.get(publisher).map_or(&[][..], |p| &p.signers);
    let owners = signers.iter().map(|text| Signer::parse(text)).collect::<Result<_>>()?;
    Ok(TrustStore::Own { agent: signing_key(config)?.signer(), owners })
}

/// Where drills restore: so far only PostgreSQL has something to choose.
pub type DrillOptions = PostgresScratchConfig;

/// The host of throwaway places for snapshots of one engine.
fn scratch_host(engine: &str, options: &DrillOptions) -> Result<Arc<dyn ScratchHost>> {
    match engine {
        "postgres" => Ok(Arc::new(PostgresScratchHost::new(options.clone())?)),
        "sqlite" => Ok(Arc::new(SqliteScratchHost::new())),
        other => Err(Error::preflight(format!("this marbre cannot drill a snapshot of a {other} database"))
            .remedy("Use a newer marbre.")),
    }
}

fn drill_options(database: &Database) -> Result<DrillOptions> {
    let drills = &database.drills;
    let password = drills.scratch.as_ref().and_then(|s| s.password.as_ref());
    let source_bin_dir = match &database.source {
        Source::Postgres { bin_dir, .. } => bin_dir.clone(),
        Source::Sqlite { .. } => None,
    };
    Ok(DrillOptions {
        scratch: drills.scratch.as_ref().map(|s| s.url.clone()),
        password: password.map(crate::config::Secret::read).transpose()?,
        bin_dir: drills.bin_dir.clone().or(source_bin_dir),
        user: drills.user.clone(),
        jobs: database.jobs,
    })
}

/// The host of a configured database.
pub fn drill_host(database: &Database) -> Result<Arc<dyn ScratchHost>> {
    let engine = match &database.source {
        Source::Postgres { .. } => "postgres",
        Source::Sqlite { .. } => "sqlite",
    };
    scratch_host(engine, &drill_options(database)?)
}

/// A host for whatever a drill of an owner left: the engine is not known, and a folder is all that was made.
pub fn any_host(options: &DrillOptions) -> Option<Arc<dyn ScratchHost>> {
    scratch_host("postgres", options).ok()
}

/// Removes what drills left that died: at the start of everything that the agent does.
pub async fn sweep_scratch(config: &Config, observer: &dyn Observer) -> Result<()> {
    let host = |id: &DatabaseId| {
        let database = config.databases.iter().find(|db| db.id == *id)?;
        drill_host(database).ok()
    };
    let swept = site::sweep(&config.scratch_dir, &host).await?;
    for drill in &swept.removed {
        observer.warn(&format!("drill {drill} had died; what it left is removed"));
    }
    swept.warnings.iter().for_each(|warning| observer.warn(warning));
    Ok(())
}

/// The drill job of a configured database, by the agent.
pub async fn drill_job(config: &Config, database: &Database) -> Result<DrillJob> {
    let drills = &database.drills;
    let options = drill_options(database)?;
    let publisher = config.publishers.get(&database.id.publisher);
    let recipients = publisher.map(|p| Recipients::parse(&p.recipients)).transpose()?;
    Ok(DrillJob {
        database: database.id.clone(),
        targets: targets(config, database).await?,
        target: None,
        wanted: Wanted::Latest,
        trust: own_trust(config, &database.id.publisher)?,
        state: Some(State::open(&config.state_dir)?),
        opens: Opens::Kept,
        key_policy: key_policy(database),
        make_host: Box::new(move |engine| scratch_host(engine, &options)),
        scratch_dir: config.scratch_dir.clone(),
        jobs: database.jobs,
        built_in: BuiltIn {
            rows_change: drills.rows_change,
            may_be_empty: drills.may_be_empty.clone(),
            skip: drills.skip.clone(),
        },
        checks: database.checks.clone(),
        rto: drills.rto,
        signing_key: signing_key(config)?,
        recipients,
        report_dirs: vec![config.report_dir.clone()],
        sabotage: None,
        keep_on_failure: false,
        new_baseline: false,
    })
}

/// The drill job of an owner, on a machine of their own: with marbre's own checks, and no memory.
pub fn owner_drill_job(
    source: super::source::Source,
    key: RestoreKey,
    signing_key: SigningKey,
    scratch_dir: PathBuf,
    options: DrillOptions,
) -> DrillJob {
    DrillJob {
        database: source.database,
        targets: source.targets,
        target: None,
        wanted: Wanted::Latest,
        trust: source.trust,
        state: None,
        opens: Opens::Owner(key),
        key_policy: KeyPolicy { keep: false, longest: Duration::ZERO },
        jobs: options.jobs,
        make_host: Box::new(move |engine| scratch_host(engine, &options)),
        scratch_dir,
        built_in: BuiltIn { rows_change: Percent(100.0), may_be_empty: Vec::new(), skip: Vec::new() },
        checks: Vec::new(),
        rto: None,
        signing_key,
        recipients: None,
        report_dirs: Vec::new(),
        sabotage: None,
        keep_on_failure: false,
        new_baseline: false,
    }
}

/// The prune job of a configured database that has rules of retention.
pub async fn prune_job(
    config: &Config,
    database: &Database,
    retention: &Retention,
    dry_run: bool,
) -> Result<PruneJob> {
    Ok(PruneJob {
        database: database.id.clone(),
        targets: targets(config, database).await?,
        trust: own_trust(config, &database.id.publisher)?,
        state: State::open(&config.state_dir)?,
        signing_key: signing_key(config)?,
        policy: retention.policy.clone(),
        time_zone: retention.time_zone.clone(),
        max_delete: retention.max_delete,
        grace: retention.grace,
        dry_run,
    })
}

/// The verification of a configured database: everything at every target.
pub async fn verify_job(config: &Config, database: &Database) -> Result<VerifyJob> {
    Ok(VerifyJob {
        database: database.id.clone(),
        targets: targets(config, database).await?,
        trust: own_trust(config, &database.id.publisher)?,
        state: Some(State::open(&config.state_dir)?),
        snapshot: None,
    })
}

/// The sync job of a configured database.
pub async fn sync_job(config: &Config, database: &Database) -> Result<SyncJob> {
    Ok(SyncJob {
        database: database.id.clone(),
        targets: targets(config, database).await?,
        trust: own_trust(config, &database.id.publisher)?,
        state: State::open(&config.state_dir)?,
        spool_dir: config.spool_dir.clone(),
        spool_limit: config.spool_limit,
    })
}

/// Remembers how a run ended that a person asked for, and began then: what it found mended is wrong no longer.
pub fn record<T>(
    state: &State,
    (database, kind, started): (&DatabaseId, JobKind, Timestamp),
    outcome: &Result<T>,
    findings: impl FnOnce(&T) -> Run,
) -> Result<()> {
    let run = match outcome {
        Ok(report) => findings(report),
        Err(e) => findings::failed(database, kind, None, e),
    };
    state.record_run(database, kind, (started, Timestamp::now()), &run)
}

/// What was agreed for a configured database.
pub fn promises(database: &Database) -> Promises {
    Promises {
        rpo: database.rpo,
        drill_every: database.drills.every,
        key_proof_every: database.key_proof_every,
    }
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
