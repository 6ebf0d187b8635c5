//! Runs the jobs of one configuration: for the daemon, and for people who ask for one of them now.

use std::sync::Arc;

use async_trait::async_trait;
use futures_util::future::join_all;
use jiff::{SignedDuration, Timestamp};
use tokio_util::sync::CancellationToken;

use super::context;
use crate::config::{Config, Database};
use crate::daemon::work::{Order, Sight, Work};
use crate::error::{Error, Result};
use crate::job::catalog::Reader;
use crate::job::doctor::host;
use crate::job::drill::report::DrillReport;
use crate::job::probe::probe;
use crate::job::score;
use crate::job::status::{DatabaseStatus, Promises, database_status};
use crate::job::{Observer, findings};
use crate::model::condition::Condition;
use crate::model::id::{DatabaseId, TargetName};
use crate::model::job::JobKind;
use crate::model::run::{Ending, Run};
use crate::model::sabotage::Sabotage;
use crate::state::State;

/// How often targets are tried whether they keep what they promise.
const PROBE_EVERY: SignedDuration = SignedDuration::from_hours(7 * 24);

/// Runs the jobs of a configuration.
pub struct Launcher {
    config: Config,
    state: State,
}

impl Launcher {
    /// For this configuration.
    pub fn new(config: Config, state: State) -> Self {
        Self { config, state }
    }

    fn database(&self, id: &DatabaseId) -> Result<&Database> {
        let found = self.config.databases.iter().find(|db| db.id == *id);
        found.ok_or_else(|| Error::internal(format!("database {id} is not in the configuration")))
    }

    async fn try_run(
        &self,
        order: &Order,
        now: Timestamp,
        observer: Arc<dyn Observer>,
        cancel: &CancellationToken,
    ) -> Result<Run> {
        let (config, id) = (&self.config, &order.database);
        let database = self.database(id)?;
        match order.kind {
            JobKind::Snapshot => {
                let before = last_numbers(&self.state, id)?;
                let job = context::snapshot_job(config, database).await?;
                let report = job.run(now, observer, cancel).await?;
                Ok(findings::of_snapshot(id, &report, before.as_ref()))
            }
            JobKind::Drill => {
                let report = self.drill(database, None, now, observer, cancel).await?;
                Ok(findings::of_drill(id, &report))
            }
            JobKind::Sabotage => self.sabotage(database, order.turn, now, observer, cancel).await,
            JobKind::Verify => {
                let job = context::verify_job(config, database).await?;
                Ok(findings::of_verify(id, &job.run(observer, cancel).await?))
            }
            JobKind::Prune => match &database.retention {
                Some(retention) => {
                    let job = context::prune_job(config, database, retention, false).await?;
                    Ok(findings::of_prune(id, &job.run(now, observer, cancel).await?))
                }
                None => Err(Error::internal("a prune without rules")),
            },
            JobKind::Sync => {
                let job = context::sync_job(config, database).await?;
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
        context::sweep_scratch(&self.config, &*observer).await?;
        let mut job = context::drill_job(&self.config, database).await?;
        job.sabotage = sabotage;
        job.run(now, observer, cancel).await
    }

    /// Takes the kinds of damage by turns; where a database has nothing of a kind, the next one is taken.
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
        last.ok_or_else(|| Error::internal("there is no kind of sabotage"))
    }

    /// What a target does not keep of what the configuration claims. Every week it is tried again.
    async fn guarantees(
        &self,
        name: &TargetName,
        now: Timestamp,
        cancel: &CancellationToken,
    ) -> Result<Option<Condition>> {
        let claim = self.config.targets.get(name).and_then(|target| target.lock).map(|lock| lock.mode);
        let known = self.state.guarantees(name)?;
        let young = known.filter(|known| now.duration_since(known.at).abs() < PROBE_EVERY);
        let found = match young {
            Some(known) => known,
            None => {
                let target = context::attackable_target(&self.config, name).await?;
                let found = probe(&*target, claim, now, cancel).await?;
                self.state.remember_guarantees(name, &found)?;
                found
            }
        };
        Ok(found.condition(name, claim))
    }

    async fn status(
        &self,
        database: &Database,
        now: Timestamp,
        cancel: &CancellationToken,
    ) -> Result<DatabaseStatus> {
        let targets = context::targets(&self.config, database).await?;
        let trust = context::own_trust(&self.config, &database.id.publisher)?;
        let state = Some(&self.state);
        let reader = Reader { database: &database.id, targets: &targets, trust: &trust, state };
        status(&self.config, database, &reader, context::promises(database), now, cancel).await
    }
}

/// How a configured database stands, with its next run and its score.
pub async fn status(
    config: &Config,
    database: &Database,
    reader: &Reader<'_>,
    promises: Promises,
    now: Timestamp,
    cancel: &CancellationToken,
) -> Result<DatabaseStatus> {
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
        order: &Order,
        now: Timestamp,
        observer: Arc<dyn Observer>,
        cancel: &CancellationToken,
    ) -> Run {
        let run = self.try_run(order, now, observer, cancel).await;
        run.unwrap_or_else(|e| findings::failed(&order.database, order.kind, None, &e))
    }

    async fn look(&self, now: Timestamp, cancel: &CancellationToken) -> Sight {
        let mut sight = Sight { conditions: host::conditions(&self.config), ..Sight::default() };
        let looks = self.config.databases.iter().map(|database| self.status(database, now, cancel));
        for (database, status) in self.config.databases.iter().zip(join_all(looks).await) {
            match status {
                Ok(status) => sight.databases.push(status),
                Err(e) => sight.unseen.push((database.id.clone(), e)),
            }
        }
        for name in self.config.targets.keys() {
            match self.guarantees(name, now, cancel).await {
                Ok(condition) => sight.conditions.extend(condition),
                // What cannot be reached is told by those whose copies it keeps.
                Err(e) => tracing::warn!("target {name} could not be probed: {e}"),
            }
        }
        sight
    }
}

/// What the last good snapshot held.
pub fn last_numbers(state: &State, database: &DatabaseId) -> Result<Option<crate::model::run::Numbers>> {
    let runs = state.runs(database)?;
    Ok(runs.into_iter().find(|run| run.kind == JobKind::Snapshot).and_then(|run| run.succeeded))
}
