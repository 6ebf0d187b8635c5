//! How the daemon is heard and seen: incidents go to the desk, and what it knows is published.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::watch;

use super::Daemon;
use super::work::Sight;
use crate::error::Result;
use crate::model::condition::ConditionKind;
use crate::model::id::DatabaseId;
use crate::model::incident::Unknown;
use crate::model::run::LastRun;
use crate::web::{ConfigLoad, JobFigures, Look, OpenIncident, Published, PublishedDatabase};

/// A look counts for so many times the span between two looks.
const LOOKS: u32 = 3;

/// What is published before anything is known.
pub fn nothing_yet(now: Timestamp) -> Published {
    Published {
        started_at: now,
        config: ConfigLoad { loaded_at: now, refused_at: None },
        look_within: std::time::Duration::from_secs(900),
        databases: Vec::new(),
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
        let database = DatabaseId { publisher: status.publisher.clone(), database: status.database.clone() };
        let away = status.targets.iter().filter(|target| target.error.is_some());
        away.map(move |target| Unknown {
            kind: Some(ConditionKind::TargetBehind),
            database: Some(database.clone()),
            object: Some(target.name.to_string()),
        })
    });
    unseen.chain(away).collect()
}

impl Daemon {
    /// What is to be seen from outside.
    pub(super) fn publish(&self, now: Timestamp) -> Result<()> {
        let seen: BTreeMap<DatabaseId, _> = self
            .sight
            .databases
            .iter()
            .map(|s| (DatabaseId { publisher: s.publisher.clone(), database: s.database.clone() }, s))
            .collect();
        let mut databases = Vec::new();
        for database in &self.setup.databases {
            let status = seen.get(database).map(|status| (*status).clone());
            let look = self.looked.zip(status).map(|(at, status)| Look { at, status });
            databases.push(PublishedDatabase {
                database: database.clone(),
                look,
                jobs: self.figures(database)?,
            });
        }
        let incidents = self.setup.desk.incidents()?;
        let refused_at = self.refused_at;
        self.board.send_replace(Arc::new(Published {
            started_at: self.started_at,
            config: ConfigLoad { loaded_at: self.loaded_at, refused_at },
            look_within: self.setup.plan.look_every.saturating_mul(LOOKS),
            databases,
            incidents: incidents.iter().map(|i| OpenIncident::of(&i.condition, i.since)).collect(),
        }));
        tracing::trace!("published at {now}");
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
