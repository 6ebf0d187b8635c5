//! Runs the jobs of one configuration, for the daemon and for the command line.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::join_all;
use jiff::{SignedDuration, Timestamp};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::surroundings;
use crate::cli::compose::{jobs, keys, targets};
use crate::config::{Config, Database};
use crate::daemon::work::{JobSpec, LookReport, Work};
use crate::error::{Error, ErrorKind, Result};
use crate::health::doctor::folders;
use crate::health::findings;
use crate::health::first_due::first_due_at;
use crate::health::look::database_status;
use crate::health::score;
use crate::health::status::{DatabaseStatus, Promises, RpoSource};
use crate::health::surroundings::{Known, PATIENCE};
use crate::job::drill::report::DrillReport;
use crate::job::probe::probe;
use crate::model::condition::Condition;
use crate::model::guarantee::Guarantees;
use crate::model::id::{DatabaseId, TargetName};
use crate::model::job::JobKind;
use crate::model::observer::Observer;
use crate::model::run::{Ending, Numbers, Run};
use crate::model::sabotage::Sabotage;
use crate::repository::reader::Reader;
use crate::state::State;
use crate::targets::wrapper::watch::watch;

/// How long a look at one database may take: one that hangs must not hide the others. A hanging target is given up
/// earlier, and is shown as down.
const LOOK_AT_ONE: Duration = Duration::from_secs(400);
/// How often targets are probed for whether they keep their guarantees.
const PROBE_EVERY: SignedDuration = SignedDuration::from_hours(7 * 24);

/// When a failed probe is repeated.
const REPROBE_AFTER: SignedDuration = SignedDuration::from_hours(1);

/// Runs the jobs of a configuration.
pub(crate) struct Launcher {
    config: Config,
    state: State,
    probed: Mutex<BTreeMap<TargetName, Timestamp>>,
    /// What changes slowly is queried rarely.
    known: tokio::sync::Mutex<Known>,
}

impl Launcher {
    /// For this configuration.
    pub(crate) fn new(config: Config, state: State) -> Self {
        Self { config, state, probed: Mutex::default(), known: tokio::sync::Mutex::default() }
    }

    fn database(&self, id: &DatabaseId) -> Result<&Database> {
        let found = self.config.databases.iter().find(|db| db.id == *id);
        found.ok_or_else(|| Error::internal(format!("database {id} is not in the configuration")))
    }

    async fn try_run(
        &self,
        spec: &JobSpec,
        now: Timestamp,
        observer: Arc<dyn Observer>,
        cancel: &CancellationToken,
    ) -> Result<Run> {
        let (config, id) = (&self.config, &spec.database);
        let database = self.database(id)?;
        match spec.kind {
            JobKind::Snapshot => {
                let before = last_numbers(&self.state, id)?;
                let mut job = jobs::snapshot_job(config, database).await?;
                watch(&mut job.targets, &observer);
                let report = job.run(now, observer, cancel).await?;
                Ok(findings::of_snapshot(id, &report, before.as_ref()))
            }
            JobKind::Drill => {
                let report = self.drill(database, None, now, observer, cancel).await?;
                Ok(findings::of_drill(id, &report))
            }
            JobKind::Sabotage => self.sabotage(database, spec.turn, now, observer, cancel).await,
            JobKind::Verify => {
                let mut job = jobs::verify_job(config, database).await?;
                watch(&mut job.targets, &observer);
                Ok(findings::of_verify(id, &job.run(observer, cancel).await?))
            }
            JobKind::Prune => {
                let mut job = jobs::prune_job(config, database, false).await?;
                watch(&mut job.targets, &observer);
                Ok(findings::of_prune(id, &job.run(now, observer, cancel).await?))
            }
            JobKind::Sync => {
                let mut job = jobs::sync_job(config, database, false).await?;
                watch(&mut job.targets, &observer);
                Ok(findings::of_sync(id, &job.run(observer, cancel).await?))
            }
        }
    }

    async fn drill(
        &self,
        database: &Database,
        sabotage: Option<Sabotage>,
        now: Timestamp,
        observer: Arc<dyn Observer>,
        cancel: &CancellationToken,
    ) -> Result<DrillReport> {
        jobs::sweep_scratch(&self.config, &*observer).await?;
        let mut job = jobs::drill_job(&self.config, database).await?;
        job.sabotage = sabotage;
        watch(&mut job.targets, &observer);
        job.run(now, observer, cancel).await
    }

    /// Rotates through the kinds of damage; a kind that does not apply to the database is skipped.
    async fn sabotage(
        &self,
        database: &Database,
        turn: u64,
        now: Timestamp,
        observer: Arc<dyn Observer>,
        cancel: &CancellationToken,
    ) -> Result<Run> {
        let kinds = Sabotage::ALL.len();
        let first = usize::try_from(turn % kinds as u64).unwrap_or(0);
        let mut last = None;
        for kind in Sabotage::ALL.iter().cycle().skip(first).take(kinds) {
            let report = self.drill(database, Some(*kind), now, observer.clone(), cancel).await?;
            let run = findings::of_drill(&database.id, &report);
            if run.proven || run.ending != Ending::Done {
                return Ok(run);
            }
            last = Some(run);
        }
        let mut untested = last.ok_or_else(|| Error::internal("there is no kind of sabotage"))?;
        untested.detail = "the database has nothing that could be damaged".to_owned();
        Ok(untested)
    }

    /// A failed probe is not repeated at once.
    fn may_probe(&self, name: &TargetName, now: Timestamp) -> bool {
        let mut probed = self.probed.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = |at: &Timestamp| now.duration_since(*at).abs() >= REPROBE_AFTER;
        let may = probed.get(name).is_none_or(waited);
        if may {
            probed.insert(name.clone(), now);
        }
        may
    }

    /// Which claims of the configuration a target does not keep. It is probed every week.
    async fn guarantees(
        &self,
        name: &TargetName,
        now: Timestamp,
        cancel: &CancellationToken,
    ) -> Result<Option<Condition>> {
        let claim = self.config.targets.get(name).and_then(|target| target.lock).map(|lock| lock.mode);
        let known = self.state.guarantees(name)?;
        let is_young = |known: &Guarantees| now.duration_since(known.at).abs() < PROBE_EVERY;
        if known.as_ref().is_some_and(is_young) || !self.may_probe(name, now) {
            return Ok(known.and_then(|known| known.condition(name, claim)));
        }
        let target = targets::attackable_target(&self.config, name, PATIENCE).await?;
        match probe(&*target, claim, now, cancel).await {
            Ok(found) => {
                self.state.remember_guarantees(name, &found)?;
                Ok(found.condition(name, claim))
            }
            // The last result is valid until there is a new one.
            Err(e) => {
                tracing::warn!("target {name} could not be probed: {e}");
                Ok(known.and_then(|known| known.condition(name, claim)))
            }
        }
    }

    async fn status(
        &self,
        database: &Database,
        now: Timestamp,
        cancel: &CancellationToken,
    ) -> Result<DatabaseStatus> {
        let targets = targets::targets(&self.config, database).await?;
        let trust = keys::own_trust(&self.config, &database.id.publisher)?;
        let state = Some(&self.state);
        let reader = Reader::new(&database.id, &targets, &trust, state);
        status(&self.config, database, &reader, jobs::promises(database), now, cancel).await
    }
}

/// The status of a configured database, with its next run and its score.
pub(crate) async fn status(
    config: &Config,
    database: &Database,
    reader: &Reader<'_>,
    promises: Promises,
    now: Timestamp,
    cancel: &CancellationToken,
) -> Result<DatabaseStatus> {
    let mut promises = promises;
    // Whoever says on the command line how old a snapshot may be wants one now.
    let asked = promises.rpo.is_some_and(|rpo| rpo.from == RpoSource::CommandLine);
    if let Some(state) = reader.state.filter(|_| !asked) {
        // Before the targets are read: a first snapshot may end meanwhile.
        promises.first_due_at = first_due_at(database, state)?;
    }
    let mut status = database_status(reader, promises, now, cancel).await?;
    let schedules = &database.schedules;
    status.next_run = schedules.of(JobKind::Snapshot).and_then(|s| s.next(now, &schedules.time_zone));
    let known = score::guarantees(database, reader.state)?;
    let place = |name: &TargetName| {
        let target = reader.targets.iter().find(|t| t.name == *name);
        target.map(|t| t.target.describe()).unwrap_or_default()
    };
    status.score = Some(score::score(config, &status, &known, place, now));
    Ok(status)
}

#[async_trait]
impl Work for Launcher {
    async fn run(
        &self,
        spec: &JobSpec,
        now: Timestamp,
        observer: Arc<dyn Observer>,
        cancel: &CancellationToken,
    ) -> Run {
        let run = self.try_run(spec, now, observer, cancel).await;
        run.unwrap_or_else(|e| findings::failed(&spec.database, spec.kind, None, &e))
    }

    async fn look(&self, now: Timestamp, cancel: &CancellationToken) -> LookReport {
        let mut report =
            LookReport { conditions: folders::conditions(&self.config), ..LookReport::default() };
        let looks = self.config.databases.iter().map(|database| async move {
            let status = timeout(LOOK_AT_ONE, self.status(database, now, cancel)).await;
            status.unwrap_or_else(|_| {
                let what = format!("a target did not answer within {} s", LOOK_AT_ONE.as_secs());
                Err(Error::new(ErrorKind::Target, what)
                    .remedy("Look for a disk or a server that hangs: `marbre doctor`."))
            })
        });
        let names: Vec<&TargetName> = self.config.targets.keys().collect();
        let probes = names.iter().map(|name| timeout(LOOK_AT_ONE, self.guarantees(name, now, cancel)));
        let (looks, probes) = tokio::join!(join_all(looks), join_all(probes));
        for (database, status) in self.config.databases.iter().zip(looks) {
            match status {
                Ok(status) => report.databases.push(status),
                Err(e) => report.unseen.push((database.id.clone(), e)),
            }
        }
        for (name, probe) in names.into_iter().zip(probes) {
            match probe {
                Ok(Ok(condition)) => report.conditions.extend(condition),
                // Targets that cannot be reached are reported by the databases that use them.
                Ok(Err(e)) => tracing::warn!("target {name} could not be probed: {e}"),
                Err(_) => tracing::warn!("target {name} could not be probed: it did not answer"),
            }
        }
        let surroundings = surroundings::of(&self.config);
        let mut known = self.known.lock().await;
        surroundings.ask(&mut known, PATIENCE, now, cancel).await;
        let found = surroundings.found(&known, now);
        report.conditions.extend(found.conditions);
        report.unknown.extend(found.unknown);
        report
    }
}

/// What a snapshot is compared with: the last one proven by a drill, or else the previous one.
pub(crate) fn last_numbers(state: &State, database: &DatabaseId) -> Result<Option<Numbers>> {
    let runs = state.runs(database)?;
    let of = |kind| runs.iter().find(|run| run.kind == kind).and_then(|run| run.succeeded);
    Ok(of(JobKind::Drill).or_else(|| of(JobKind::Snapshot)))
}
