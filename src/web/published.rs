//! What the daemon publishes.

use std::time::Duration;

use jiff::Timestamp;

use super::job_figures::JobFigures;
use crate::health::status::DatabaseStatus;
use crate::model::condition::{ConditionKind, Severity};
use crate::model::id::DatabaseId;
use crate::model::incident::Incident;
use crate::model::job::JobKind;

/// Everything that requests are answered from, as the daemon knew it at one moment.
#[derive(Debug, Clone)]
pub struct Published {
    /// When the daemon started.
    pub started_at: Timestamp,
    /// What became of its configuration.
    pub config: ConfigLoad,
    /// How old a look at a database may become before it should no longer be relied on: some times as long as
    /// the daemon waits from one look to the next.
    pub look_within: Duration,
    /// Every database of the configuration, in its order.
    pub databases: Vec<PublishedDatabase>,
    /// What is wrong now.
    pub incidents: Vec<OpenIncident>,
}

/// What became of the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConfigLoad {
    /// When the one that is followed was loaded.
    pub loaded_at: Timestamp,
    /// When a newer one was refused; `None` where the newest is followed.
    pub refused_at: Option<Timestamp>,
}

/// One database.
#[derive(Debug, Clone)]
pub struct PublishedDatabase {
    /// The database.
    pub database: DatabaseId,
    /// The newest look at it; `None` until there was one.
    pub look: Option<Look>,
    /// Its jobs: those that have a schedule, or have run.
    pub jobs: Vec<JobFigures>,
}

/// A look at one database and its targets.
#[derive(Debug, Clone)]
pub struct Look {
    /// When it was over.
    pub at: Timestamp,
    /// What was seen.
    pub status: DatabaseStatus,
}

impl PublishedDatabase {
    /// How it stands at `now`, from the newest look: time has passed since, and `late` must say so.
    pub fn status_at(&self, now: Timestamp) -> Option<DatabaseStatus> {
        let mut status = self.look.as_ref()?.status.clone();
        status.set_age(now);
        let snapshot = self.jobs.iter().find(|job| job.job == JobKind::Snapshot);
        status.next_run = snapshot.and_then(|job| job.next_run).or(status.next_run);
        Some(status)
    }
}

/// Something that is wrong now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenIncident {
    /// What distinguishes it from others: stable, so that receivers can group messages.
    pub key: String,
    /// What is wrong.
    pub kind: ConditionKind,
    /// How bad it is.
    pub severity: Severity,
    /// With which database; `None` for what concerns the whole agent.
    pub database: Option<DatabaseId>,
    /// The databases that share it, where it comes from something that they share: a target, a server, a key.
    pub affected: Vec<DatabaseId>,
    /// Since when.
    pub since: Timestamp,
    /// It was not seen any more: it counts as over when it stays away for a while.
    pub gone: bool,
    /// One line for people, a full sentence.
    pub summary: String,
}

impl OpenIncident {
    /// Whether it concerns this database; `None`: whether it concerns the whole agent, and no database in particular.
    pub fn concerns(&self, database: Option<&DatabaseId>) -> bool {
        match database {
            Some(database) => self.database.iter().chain(&self.affected).any(|of| of == database),
            None => self.database.is_none() && self.affected.is_empty(),
        }
    }

    /// What is published of an incident.
    pub fn of(incident: &Incident) -> Self {
        let condition = &incident.condition;
        Self {
            key: condition.key().to_string(),
            kind: condition.kind,
            severity: condition.severity,
            database: condition.database.clone(),
            affected: condition.hit().map(|affected| affected.database.clone()).collect(),
            since: incident.since,
            gone: incident.gone_since.is_some(),
            summary: condition.summary.clone(),
        }
    }
}
