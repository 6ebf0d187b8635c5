//! What the daemon needs from the rest of marbre: to run a job, and to look at databases and targets.

use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::error::Error;
use crate::health::status::DatabaseStatus;
use crate::model::condition::Condition;
use crate::model::id::DatabaseId;
use crate::model::incident::Unknown;
use crate::model::job::JobKind;
use crate::model::observer::Observer;
use crate::model::run::Run;

/// One run of one job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct JobSpec {
    /// The database.
    pub database: DatabaseId,
    /// The job.
    pub kind: JobKind,
    /// How many runs of it were started before: sabotage drills rotate through their kinds.
    pub turn: u64,
}

/// What a look at the databases, their targets and this host found.
#[derive(Debug, Clone, Default)]
pub(crate) struct LookReport {
    /// Every database that could be looked at.
    pub databases: Vec<DatabaseStatus>,
    /// What is wrong with this host or with a target, in addition to the databases' own `conditions`.
    pub conditions: Vec<Condition>,
    /// Databases that could not be looked at, and why: their condition is unknown.
    pub unseen: Vec<(DatabaseId, Error)>,
    /// What else could not be looked at.
    pub unknown: Vec<Unknown>,
}

impl LookReport {
    /// The status of a database, if it could be looked at.
    pub(crate) fn of(&self, database: &DatabaseId) -> Option<&DatabaseStatus> {
        let is_it =
            |s: &&DatabaseStatus| s.publisher == database.publisher && s.database == database.database;
        self.databases.iter().find(is_it)
    }
}

/// Runs jobs and looks. The composition root builds one for each configuration.
#[async_trait]
pub(crate) trait Work: Send + Sync {
    /// Runs a job to its end. Once `cancel` fires it ends soon, and leaves nothing half-recorded. Dropping the future
    /// ends its child processes too.
    async fn run(
        &self,
        spec: &JobSpec,
        now: Timestamp,
        observer: Arc<dyn Observer>,
        cancel: &CancellationToken,
    ) -> Run;

    /// Looks at everything, without changing anything.
    async fn look(&self, now: Timestamp, cancel: &CancellationToken) -> LookReport;
}

/// The time of day, which tests can set.
pub(crate) trait Clock: Send + Sync {
    /// The time now.
    fn now(&self) -> Timestamp;
}

/// The clock of this host.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct HostClock;

impl Clock for HostClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}
