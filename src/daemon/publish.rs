//! How the daemon is heard and seen: incidents go to the dispatcher, and what it knows is published.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;

use super::work::{Order, Sight};
use super::{Daemon, LOOK_DEADLINE, conditions};
use crate::error::Result;
use crate::model::condition::{ConditionKind, Severity};
use crate::model::id::DatabaseId;
use crate::model::incident::{Event, EventKind, Unknown};
use crate::model::job::JobKind;
use crate::model::notice::Phase;
use crate::model::run::LastRun;
use crate::web::{ConfigLoad, JobFigures, Look, OpenIncident, Published, PublishedDatabase};

/// A look counts for so many times the span between two looks.
const LOOKS: u32 = 3;

/// How often messages that wait are tried.
const DELIVER_EVERY: SignedDuration = SignedDuration::from_secs(30);
/// How long the last messages may take when the daemon ends.
const GOODBYE: Duration = Duration::from_secs(10);

/// What is published before anything is known.
pub fn nothing_yet(databases: &[DatabaseId], now: Timestamp) -> Published {
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

/// Where the daemon publishes.
pub type Board = watch::Sender<Arc<Published>>;

/// What the last look did not see: of it nothing is known, neither that it is wrong nor that it is mended.
pub(super) fn unknown(sight: &Sight, looked: Option<Timestamp>) -> Vec<Unknown> {
    if looked.is_none() {
        return vec![Unknown { kind: None, database: None, object: None }];
    }
    let unseen = sight.unseen.iter().map(|(database, _)| Unknown {
        kind: None,
        database: Some(database.clone()),
        object: None,
    });
    let away = sight.databases.iter().flat_map(|status| {
        let database = status.id();
        let away = status.targets.iter().filter(|target| target.error.is_some());
        away.flat_map(move |target| {
            let behind = (ConditionKind::TargetBehind, Some(target.name.to_string()));
            // What made them suspicious may lie at the target that is away.
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
    unseen.chain(away).chain(sight.unknown.iter().cloned()).collect()
}

/// What people are told is in the log too, whatever becomes of the channels.
fn log(event: &Event) {
    let condition = &event.incident.condition;
    let (word, key, summary) = (event.kind.word(), condition.key(), &condition.summary);
    let parts = [Some(summary.as_str()), condition.error.as_deref(), Some(condition.remedy.as_str())];
    let says = parts.into_iter().flatten().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" | ");
    match (event.kind, event.incident.severity) {
        (EventKind::Resolved, _) => tracing::info!("incident {word}: {key}: it was: {summary}"),
        (_, Severity::Warning) => tracing::warn!("incident {word}: {key}: {says}"),
        (_, Severity::Critical) => tracing::error!("incident {word}: {key}: {says}"),
    }
}

impl Daemon {
    /// Tells the dispatcher everything that is wrong now, and publishes it.
    pub(super) fn tell(&mut self) {
        let now = self.clock.now();
        if let Err(e) = self.state.lay_ballast() {
            tracing::warn!("{e}");
        }
        let jobs = self.agenda.items.iter().map(|item| (item.plan.database.clone(), item.plan.kind));
        let jobs: Vec<(DatabaseId, JobKind)> = jobs.collect();
        self.watch.save(&self.state);
        let told = conditions::all(&self.state, &self.sight, &jobs, &self.watch, now).and_then(|found| {
            let unknown = unknown(&self.sight, self.looked);
            let events = self.setup.dispatcher.observe(&found, &unknown, now)?;
            for event in events {
                log(&event);
            }
            Ok(())
        });
        match told.and(self.publish()) {
            Ok(()) => self.watch.state_works(),
            Err(e) => {
                tracing::error!("{e}");
                self.watch.state_failed(&e);
            }
        }
        // What was just put down goes out now.
        self.delivered = None;
    }

    pub(super) fn tell_job(&self, order: &Order, phase: Phase, now: Timestamp) {
        if let Err(e) = self.setup.dispatcher.job(&order.database, order.kind, phase, now) {
            tracing::error!("{e}");
        }
    }

    /// Sends what is put down for people. A channel that hangs holds up the next round, and nothing else.
    pub(super) fn deliver_if_due(&mut self, now: Timestamp) {
        let rested = |at: Timestamp| now.duration_since(at).abs() >= DELIVER_EVERY;
        if !self.deliveries.is_empty() || self.delivered.is_some_and(|at| !rested(at)) {
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

    /// One last round for what is put down; what is not taken by then goes out after the next start.
    pub(super) async fn say_goodbye(&mut self) {
        self.deliver_if_due(self.clock.now());
        let all = async { while self.deliveries.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(GOODBYE, all).await;
        self.deliver_until.cancel();
    }

    /// What is to be seen from outside.
    fn publish(&self) -> Result<()> {
        let mut databases = Vec::new();
        for database in &self.setup.databases {
            let status = self.sight.of(database).cloned();
            let look = self.looked.zip(status).map(|(at, status)| Look { at, status });
            databases.push(PublishedDatabase {
                database: database.clone(),
                look,
                jobs: self.figures(database)?,
            });
        }
        let incidents = self.setup.dispatcher.incidents()?;
        let refused_at = self.refused_at;
        self.board.send_replace(Arc::new(Published {
            started_at: self.started_at,
            config: ConfigLoad { loaded_at: self.loaded_at, refused_at },
            look_within: self.setup.plan.look_every.saturating_mul(LOOKS) + LOOK_DEADLINE,
            databases,
            incidents: incidents.iter().map(|i| OpenIncident::of(&i.condition, i.since)).collect(),
        }));
        Ok(())
    }

    fn figures(&self, database: &DatabaseId) -> Result<Vec<JobFigures>> {
        let runs = self.state.runs(database)?;
        let mut figures = Vec::new();
        for item in self.agenda.items.iter().filter(|item| item.plan.database == *database) {
            let kind = item.plan.kind;
            let run: Option<&LastRun> = runs.iter().find(|run| run.kind == kind);
            let slot = self.state.last_slot(database, kind)?;
            figures.push(JobFigures::of(kind, item.next(), slot.as_ref(), run));
        }
        let planned: Vec<_> = figures.iter().map(|figures| figures.job).collect();
        let others = runs.iter().filter(|run| !planned.contains(&run.kind));
        figures.extend(others.map(|run| JobFigures::of(run.kind, None, None, Some(run))));
        Ok(figures)
    }
}
