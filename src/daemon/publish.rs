//! Reports what the daemon knows: incidents go to the dispatcher, and its status is published.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;

use super::work::{JobSpec, LookReport};
use super::{Daemon, LOOK_DEADLINE, conditions};
use crate::error::Result;
use crate::model::condition::{ConditionKind, Severity};
use crate::model::fold::within;
use crate::model::id::DatabaseId;
use crate::model::incident::{Event, EventKind, Unknown};
use crate::model::job::JobKind;
use crate::model::notice::Phase;
use crate::model::run::LastRun;
use crate::web::{ConfigLoad, JobFigures, Look, OpenIncident, Published, PublishedDatabase};

/// A look is valid for this many intervals between looks.
const LOOK_PERIODS: u32 = 3;

/// How often waiting messages are retried.
const DELIVER_EVERY: SignedDuration = SignedDuration::from_secs(30);
/// How long the last delivery may take when the daemon ends.
const LAST_DELIVERY: Duration = Duration::from_secs(10);

/// What is published before anything is known.
pub(crate) fn nothing_yet(databases: &[DatabaseId], now: Timestamp) -> Published {
    let unseen = |database: &DatabaseId| PublishedDatabase {
        database: database.clone(),
        look: None,
        jobs: Vec::new(),
    };
    Published {
        started_at: now,
        config: ConfigLoad { loaded_at: now, refused_at: None },
        look_within: Duration::from_secs(900),
        databases: databases.iter().map(unseen).collect(),
        incidents: Vec::new(),
    }
}

/// Where the daemon publishes its status.
pub(crate) type StatusSender = watch::Sender<Arc<Published>>;

/// What the last look could not see: it is unknown whether it is wrong or resolved.
pub(super) fn unknown(look: &LookReport, looked: Option<Timestamp>) -> Vec<Unknown> {
    if looked.is_none() {
        return vec![Unknown { kind: None, database: None, object: None }];
    }
    let unseen = look.unseen.iter().map(|(database, _)| Unknown {
        kind: None,
        database: Some(database.clone()),
        object: None,
    });
    let away = look.databases.iter().flat_map(|status| {
        let database = status.id();
        let away = status.targets.iter().filter(|target| target.error.is_some());
        away.flat_map(move |target| {
            let behind = (ConditionKind::TargetBehind, Some(target.name.to_string()));
            // The evidence for them may be at the target that is away.
            let doubts = [ConditionKind::ChainBroken, ConditionKind::SabotageUnnoticed];
            let unknown = std::iter::once(behind).chain(doubts.map(|kind| (kind, None)));
            let database = database.clone();
            unknown.map(move |(kind, object)| Unknown {
                kind: Some(kind),
                database: Some(database.clone()),
                object,
            })
        })
    });
    unseen.chain(away).chain(look.unknown.iter().cloned()).collect()
}

/// Logs what people are told, in case the channels fail.
fn log(event: &Event) {
    let condition = &event.incident.condition;
    let (word, key, summary) = (event.kind.word(), condition.key(), &condition.summary);
    let hit: Vec<String> = condition.hit().map(|hit| hit.database.to_string()).collect();
    let hit = Some(hit.join(", ")).filter(|names| !names.is_empty()).map(|names| format!("it hits {names}"));
    let parts =
        [Some(summary.as_str()), condition.error.as_deref(), hit.as_deref(), Some(condition.remedy.as_str())];
    let text = parts.into_iter().flatten().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" | ");
    match (event.kind, event.incident.severity) {
        (EventKind::Resolved, _) => tracing::info!("incident {word}: {key}: it was: {summary}"),
        (_, Severity::Warning) => tracing::warn!("incident {word}: {key}: {text}"),
        (_, Severity::Critical) => tracing::error!("incident {word}: {key}: {text}"),
    }
}

impl Daemon {
    /// Reports everything that is wrong now to the dispatcher, and publishes the status.
    pub(super) fn report(&mut self) {
        let now = self.clock.now();
        if let Err(e) = self.state.ensure_ballast() {
            tracing::warn!("{e}");
        }
        let jobs = self.scheduler.jobs.iter().map(|job| (job.plan.database.clone(), job.plan.kind));
        let jobs: Vec<(DatabaseId, JobKind)> = jobs.collect();
        self.monitor.save(&self.state);
        self.tell_proven();
        let reported =
            conditions::all(&self.state, &self.last_look, &jobs, &self.monitor, now).and_then(|found| {
                let mut unknown = unknown(&self.last_look, self.looked);
                unknown.extend(within(&found));
                let events = self.setup.dispatcher.observe(&found, &unknown, now)?;
                for event in events {
                    log(&event);
                }
                self.summarize(now)
            });
        match reported.and(self.publish()) {
            Ok(()) => self.monitor.state_works(),
            Err(e) => {
                tracing::error!("{e}");
                self.monitor.state_failed(&e);
            }
        }
        // New messages are delivered at once.
        self.delivered = None;
    }

    /// People hear now and then how everything stands, once it was looked at.
    fn summarize(&self, now: Timestamp) -> Result<()> {
        if self.looked.is_none() {
            return Ok(());
        }
        let standing = |database: &DatabaseId| {
            let standing = self.last_look.of(database).map(conditions::standing);
            (database.clone(), standing)
        };
        let standings: Vec<_> = self.setup.databases.iter().map(standing).collect();
        self.setup.dispatcher.digest(&standings, now)
    }

    /// Messages say what is proven when they are sent.
    fn tell_proven(&self) {
        let proven = self.last_look.databases.iter();
        self.setup.dispatcher.proven(proven.map(|status| (status.id(), conditions::proven_at(status))));
    }

    pub(super) fn notify_job(&self, spec: &JobSpec, phase: Phase, now: Timestamp) {
        if let Err(e) = self.setup.dispatcher.job(&spec.database, spec.kind, phase, now) {
            tracing::error!("{e}");
        }
    }

    /// Delivers waiting messages. A channel that hangs delays only the next delivery.
    pub(super) fn deliver_if_due(&mut self, now: Timestamp) {
        let waited = |at: Timestamp| now.duration_since(at).abs() >= DELIVER_EVERY;
        if !self.deliveries.is_empty() || self.delivered.is_some_and(|at| !waited(at)) {
            return;
        }
        self.delivered = Some(now);
        let (dispatcher, cancel) = (self.setup.dispatcher.clone(), self.deliver_until.clone());
        self.deliveries.spawn(async move {
            if let Err(e) = dispatcher.deliver(now, &cancel).await {
                tracing::error!("{e}");
            }
        });
    }

    /// Delivers waiting messages a last time; those that fail are delivered after the next start.
    pub(super) async fn deliver_last(&mut self) {
        let (dispatcher, cancel, now) =
            (self.setup.dispatcher.clone(), self.deliver_until.clone(), self.clock.now());
        self.deliveries.spawn(async move {
            if let Err(e) = dispatcher.deliver_last(now, &cancel).await {
                tracing::error!("{e}");
            }
        });
        let all = async { while self.deliveries.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(LAST_DELIVERY, all).await;
        self.deliver_until.cancel();
    }

    /// Publishes the status.
    pub(super) fn publish(&self) -> Result<()> {
        let mut databases = Vec::new();
        for database in &self.setup.databases {
            let status = self.last_look.of(database).cloned();
            let look = self.looked.zip(status).map(|(at, status)| Look { at, status });
            databases.push(PublishedDatabase {
                database: database.clone(),
                look,
                jobs: self.figures(database)?,
            });
        }
        let incidents = self.setup.dispatcher.incidents()?;
        let refused_at = self.refused_at;
        self.status_sender.send_replace(Arc::new(Published {
            started_at: self.started_at,
            config: ConfigLoad { loaded_at: self.loaded_at, refused_at },
            look_within: self.setup.plan.look_every.saturating_mul(LOOK_PERIODS) + LOOK_DEADLINE,
            databases,
            incidents: incidents.iter().map(OpenIncident::of).collect(),
        }));
        Ok(())
    }

    fn figures(&self, database: &DatabaseId) -> Result<Vec<JobFigures>> {
        let runs = self.state.runs(database)?;
        let mut figures = Vec::new();
        for job in self.scheduler.jobs.iter().filter(|job| job.plan.database == *database) {
            let kind = job.plan.kind;
            let run: Option<&LastRun> = runs.iter().find(|run| run.kind == kind);
            let slot = self.state.last_slot(database, kind)?;
            figures.push(JobFigures::of(kind, job.next(), slot.as_ref(), run));
        }
        let planned: Vec<_> = figures.iter().map(|figures| figures.job).collect();
        let others = runs.iter().filter(|run| !planned.contains(&run.kind));
        figures.extend(others.map(|run| JobFigures::of(run.kind, None, None, Some(run))));
        Ok(figures)
    }
}
