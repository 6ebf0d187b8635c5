//! Throwaway places that drills restore into: made for one drill, and removed after it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::Loader;
use crate::error::{Error, Result};
use crate::model::check::{Check, CheckState};
use crate::model::isolation::Isolation;
use crate::model::stream::Contents;

/// Makes throwaway places for snapshots of one engine.
#[async_trait]
pub(crate) trait ScratchHost: Send + Sync {
    /// What keeps the code of a restored database apart from this host.
    fn isolation(&self) -> Isolation;

    /// Looks at what a drill will need (programs, versions, user, folder, server) without changing
    /// anything. `folder` is where [`ScratchHost::start`] would make its own.
    async fn check(&self, folder: &Path, cancel: &CancellationToken) -> Vec<Check>;

    /// Makes a place for this snapshot: an empty server (or database, or file) of the same engine and major
    /// version that nobody else can reach. Its files are in `folder`, which does not exist yet, but whose
    /// parent does. After an error nothing is left that [`ScratchHost::sweep`] of that folder does not remove.
    async fn start(
        &self,
        contents: &Contents,
        folder: &Path,
        cancel: &CancellationToken,
    ) -> Result<Box<dyn Scratch>>;

    /// Removes what a crashed drill left of the place in `folder`: its processes, its database on a remote
    /// server, and finally the folder itself. Succeeds if there is nothing. Fails if something remains.
    async fn sweep(&self, folder: &Path) -> Result<()>;
}

/// One throwaway place.
#[async_trait]
pub(crate) trait Scratch: Send + Sync {
    /// What it is, for people: "a throwaway server, PostgreSQL 15.20".
    fn describe(&self) -> String;

    /// The version of its server or library, e.g. `15.20`.
    fn version(&self) -> String;

    /// The loader of its database: the same as a restore uses.
    fn loader(&self) -> Arc<dyn Loader>;

    /// Runs one of the owner's queries in the restored database, as a user who may only read. The answer
    /// is the one column of the one row, as text; `None` is NULL. Anything but one row of one column is an error
    /// of kind `Database`, and so are the server's own errors and `timeout`.
    async fn query(&self, sql: &str, timeout: Duration, cancel: &CancellationToken)
    -> Result<Option<String>>;

    /// The engine's own checks of a restored database. An error means that a check could not be carried out.
    /// Checks that `skip` names are left out.
    async fn examine(&self, skip: &[String], cancel: &CancellationToken) -> Result<Vec<Examination>>;

    /// Damages the restored database in this way, and says what was done, naming no data. Fails with kind
    /// `Preflight` if the database has nothing that could be damaged like this.
    async fn damage(&self, damage: Damage, contents: &Contents, cancel: &CancellationToken)
    -> Result<String>;

    /// The last serious problem that the place reports about itself (a full disk, a crash), for an error that does not
    /// say why. It names no data.
    fn trouble(&self) -> Option<String>;

    /// Stops what runs, keeps the data for people to look at, and says how: one or more full sentences.
    async fn keep(self: Box<Self>) -> Result<String>;

    /// Stops and removes everything, and verifies that it is gone. Must not be interrupted.
    async fn remove(self: Box<Self>) -> Result<()>;
}

/// What one of the engine's own checks found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Examination {
    /// Its name: `integrity`, `foreign-keys`, `amcheck`.
    pub name: String,
    /// Its result.
    pub result: ExaminationResult,
    /// What was found, e.g. "14 indexes".
    pub found: String,
}

/// The result of one of the engine's own checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum ExaminationResult {
    /// Nothing is wrong.
    Passed,
    /// Something is.
    Failed,
    /// It cannot be carried out here. Not a pass.
    Unavailable,
}

/// Damage to a restored database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Damage {
    /// One row is changed or deleted, in a table that has rows.
    Row,
    /// A table is dropped.
    MissingTable,
    /// An index is dropped.
    Index,
    /// A sequence is set back.
    Sequence,
}

/// What `doctor` says about the isolation of drills. `refused` is why the host offers none.
pub(crate) fn isolation_check(isolation: Isolation, refused: Option<&Error>) -> Check {
    let check = |state, remedy: Option<&str>| Check {
        name: "isolation".to_owned(),
        state,
        found: format!("drills run {}", isolation.meaning()),
        remedy: remedy.map(str::to_owned),
    };
    match (isolation, refused) {
        (_, Some(e)) => Check {
            name: "isolation".to_owned(),
            state: CheckState::Fail,
            found: e.to_string(),
            remedy: e.remedy_text().map(str::to_owned),
        },
        (Isolation::Sandbox | Isolation::Server, None) => check(CheckState::Ok, None),
        (Isolation::None, None) => check(
            CheckState::Warn,
            Some(
                "Install bubblewrap and take `isolation` out of the database's `drills`, or drill elsewhere.",
            ),
        ),
    }
}
