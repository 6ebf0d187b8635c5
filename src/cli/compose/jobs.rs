//! Jobs of configured databases, and those of an owner.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use futures_util::future::join_all;
use jiff::Timestamp;

use super::engines::{drill_host, engine, scratch_options};
use super::keys::{key_policy, own_trust, signing_key};
use super::targets::{configured_target, targets};
use crate::cli::compose::source::Source;
use crate::config::{self, Config, Database};
use crate::engine::registry::{self, ScratchOptions};
use crate::error::Error;
use crate::error::Result;
use crate::health::findings;
use crate::health::status::{Promises, Rpo};
use crate::job::accept::AcceptJob;
use crate::job::delete_archive::DeleteJob;
use crate::job::drill::changes::BuiltIn;
use crate::job::drill::{DrillJob, Opens, Pages, ReportRetention, site};
use crate::job::key_policy::KeyPolicy;
use crate::job::prune::PruneJob;
use crate::job::restore::open::Wanted;
use crate::job::snapshot::SnapshotJob;
use crate::job::succession::{SuccessionJob, Way};
use crate::job::sync::SyncJob;
use crate::job::verify::VerifyJob;
use crate::keys::{Recipients, RestoreKey, SigningKey};
use crate::model::drill_check::Percent;
use crate::model::id::{DatabaseId, PublisherName, TargetName};
use crate::model::job::JobKind;
use crate::model::locale::{Language, Locale};
use crate::model::object_lock::LockTerm;
use crate::model::observer::Observer;
use crate::model::run::Run;
use crate::report::drill::{html, markdown};
use crate::state::State;

/// How drills are reported to people.
const PAGES: Pages = Pages { html, markdown };

/// The snapshot job of a configured database.
pub(crate) async fn snapshot_job(config: &Config, database: &Database) -> Result<SnapshotJob> {
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

/// Removes what drills left that died: at the start of everything that the agent does.
pub(crate) async fn sweep_scratch(config: &Config, observer: &dyn Observer) -> Result<()> {
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
pub(crate) async fn drill_job(config: &Config, database: &Database) -> Result<DrillJob> {
    let drills = &database.drills;
    let options = scratch_options(database)?;
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
        make_host: Box::new(move |engine| registry::scratch_host(engine, &options)),
        scratch_dir: config.scratch_dir.clone(),
        jobs: database.jobs,
        built_in: BuiltIn {
            rows_change: drills.rows_change,
            may_be_empty: drills.may_be_empty.clone(),
            may_be_missing: drills.may_be_missing.clone(),
            skip: drills.skip.clone(),
        },
        checks: database.checks.clone(),
        rto: drills.rto,
        signing_key: signing_key(config)?,
        recipients,
        pages: PAGES,
        locale: locale(config, &database.id.publisher),
        report_dirs: vec![config.report_dir.clone()],
        report_retention: Some(ReportRetention { dir: config.report_dir.clone(), keep: drills.keep_reports }),
        sabotage: None,
        keep_on_failure: false,
        new_baseline: false,
    })
}

/// How people of a configured publisher read pages; others read English, on the clock of this host.
pub(crate) fn locale(config: &Config, publisher: &PublisherName) -> Locale {
    config.publishers.get(publisher).map_or_else(default_locale, |publisher| publisher.locale.clone())
}

/// How somebody reads pages of whom nothing is known.
pub(crate) fn default_locale() -> Locale {
    Locale { language: Language::default(), time_zone: config::system_zone() }
}

/// The drill job of an owner, on a machine of their own: with marbre's own checks, and no memory.
pub(crate) fn owner_drill_job(
    source: Source,
    key: RestoreKey,
    signing_key: SigningKey,
    scratch_dir: PathBuf,
    options: ScratchOptions,
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
        make_host: Box::new(move |engine| registry::scratch_host(engine, &options)),
        scratch_dir,
        built_in: BuiltIn {
            rows_change: Percent(100.0),
            may_be_empty: Vec::new(),
            may_be_missing: Vec::new(),
            skip: Vec::new(),
        },
        checks: Vec::new(),
        rto: None,
        signing_key,
        recipients: None,
        pages: PAGES,
        locale: default_locale(),
        report_dirs: Vec::new(),
        report_retention: None,
        sabotage: None,
        keep_on_failure: false,
        new_baseline: false,
    }
}

/// The prune job of a configured database.
pub(crate) async fn prune_job(config: &Config, database: &Database, dry_run: bool) -> Result<PruneJob> {
    let retention = database.retention.clone().unwrap_or_default();
    Ok(PruneJob {
        database: database.id.clone(),
        targets: targets(config, database).await?,
        trust: own_trust(config, &database.id.publisher)?,
        state: State::open(&config.state_dir)?,
        signing_key: signing_key(config)?,
        rows_limit: rows_limit(database),
        policy: retention.policy,
        time_zone: retention.time_zone,
        max_delete: retention.max_delete,
        grace: retention.grace,
        dry_run,
    })
}

/// The verification of a configured database: everything at every target.
pub(crate) async fn verify_job(config: &Config, database: &Database) -> Result<VerifyJob> {
    Ok(VerifyJob {
        database: database.id.clone(),
        targets: targets(config, database).await?,
        trust: own_trust(config, &database.id.publisher)?,
        state: Some(State::open(&config.state_dir)?),
        snapshot: None,
    })
}

/// The sync job of a configured database.
pub(crate) async fn sync_job(config: &Config, database: &Database, heal: bool) -> Result<SyncJob> {
    Ok(SyncJob {
        database: database.id.clone(),
        targets: targets(config, database).await?,
        trust: own_trust(config, &database.id.publisher)?,
        state: State::open(&config.state_dir)?,
        spool_dir: config.spool_dir.clone(),
        spool_limit: config.spool_limit,
        heal: heal.then(|| signing_key(config)).transpose()?,
    })
}

/// The deletion of an archive whose database is not in the configuration, at these targets of it; at all, where none is named.
pub(crate) async fn delete_job(
    config: &Config,
    database: &DatabaseId,
    named: &[TargetName],
) -> Result<DeleteJob> {
    let is_meant = |name: &TargetName| named.is_empty() || named.contains(name);
    let opened = join_all(config.targets.keys().map(|name| configured_target(config, name))).await;
    let opened = opened.into_iter().collect::<Result<Vec<_>>>()?;
    let (targets, others) = opened.into_iter().partition(|target| is_meant(&target.name));
    Ok(DeleteJob {
        database: database.clone(),
        targets,
        others,
        trust: own_trust(config, &database.publisher)?,
        state: State::open(&config.state_dir)?,
        signing_key: signing_key(config)?,
    })
}

/// Accepting what is known of a configured database.
pub(crate) async fn accept_job(config: &Config, database: &Database) -> Result<AcceptJob> {
    Ok(AcceptJob {
        database: database.id.clone(),
        targets: targets(config, database).await?,
        trust: own_trust(config, &database.id.publisher)?,
        state: State::open(&config.state_dir)?,
        signing_key: signing_key(config)?,
        rows_limit: rows_limit(database),
    })
}

/// A succession of a configured database.
pub(crate) async fn succession_job(
    config: &Config,
    database: &Database,
    way: Way,
    reason: String,
) -> Result<SuccessionJob> {
    Ok(SuccessionJob {
        database: database.id.clone(),
        targets: targets(config, database).await?,
        trust: own_trust(config, &database.id.publisher)?,
        state: State::open(&config.state_dir)?,
        signing_key: signing_key(config)?,
        way,
        reason,
    })
}

/// Remembers how a run ended that a person asked for, and began then: what it found mended is wrong no longer.
pub(crate) fn record<T>(
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

/// How many rows of a configured database may be gone before that is odd.
fn rows_limit(database: &Database) -> Percent {
    match database.drills.skip.iter().any(|skipped| skipped == "row-count") {
        true => Percent(100.0),
        false => database.drills.rows_change,
    }
}

/// What was agreed for a configured database.
pub(crate) fn promises(database: &Database) -> Promises {
    Promises {
        rpo: Some(Rpo::of_database(database)),
        first_due_at: None,
        drill_every: database.drills.every,
        key_proof_every: database.key_proof_every,
        rows_limit: Some(rows_limit(database)),
    }
}
