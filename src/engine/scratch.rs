//! Throwaway places in which drills restore: made for one drill, and gone after it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use super::Loader;
use crate::error::Result;
use crate::model::check::Check;
use crate::model::stream::Contents;

/// Makes throwaway places for snapshots of one engine.
#[async_trait]
pub trait ScratchHost: Send + Sync {
    /// Looks at what a drill will need (programs, versions, user, folder, server) without changing
    /// anything. `folder` is where [`ScratchHost::start`] would make its own.
    async fn check(&self, folder: &Path, cancel: &CancellationToken) -> Vec<Check>;

    /// Makes a place for this snapshot: an empty server (or database, or file) of the same engine and major
    /// version, that nobody else can reach. What lies on disk lies in `folder`, which does not exist yet
    /// and whose parent does. After an error nothing is left but what [`ScratchHost::sweep`] of that folder takes away.
    async fn start(
        &self,
        contents: &Contents,
        folder: &Path,
        cancel: &CancellationToken,
    ) -> Result<Box<dyn Scratch>>;

    /// Takes away what a drill that died left of the place in `folder`: its processes, its database on a server
    /// elsewhere, and at last the folder itself. Well if there is nothing. Fails if something stays.
    async fn sweep(&self, folder: &Path) -> Result<()>;
}

/// One throwaway place.
#[async_trait]
pub trait Scratch: Send + Sync {
    /// What it is, for people: "a throwaway server, PostgreSQL 15.20".
    fn describe(&self) -> String;

    /// The version of its server or library, e.g. `15.20`.
    fn version(&self) -> String;

    /// The loader of its database: the same as a restore uses.
    fn loader(&self) -> Arc<dyn Loader>;

    /// Asks one of the owner's queries in the restored database, as somebody who may read and nothing else. The answer
    /// is the one column of the one row, as text; `None` is NULL. Anything but one row of one column is an error
    /// of kind `Database`, and so are the server's own errors and `timeout`.
    async fn query(&self, sql: &str, timeout: Duration, cancel: &CancellationToken)
    -> Result<Option<String>>;

    /// The engine's own checks of a restored database. An error means that looking itself failed.
    /// `skip` names checks that are not to be made: they are left out.
    async fn examine(&self, skip: &[String], cancel: &CancellationToken) -> Result<Vec<Examination>>;

    /// Does this damage to the restored database, and says what was done, naming no data. Fails with kind
    /// `Preflight` where the database has nothing that could be damaged so.
    async fn damage(&self, damage: Damage, contents: &Contents, cancel: &CancellationToken)
    -> Result<String>;

    /// The last serious thing that the place says about itself (a full disk, a crash), for an error that does not say
    /// why. It names no data.
    fn trouble(&self) -> Option<String>;

    /// Stops what runs, leaves the data for people to look at, and says how: one or more full sentences.
    async fn keep(self: Box<Self>) -> Result<String>;

    /// Stops and removes everything, and looks whether it is gone. Must not be interrupted.
    async fn remove(self: Box<Self>) -> Result<()>;
}

/// What one of the engine's own checks found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Examination {
    /// Its name: `integrity`, `foreign-keys`, `amcheck`.
    pub name: &'static str,
    /// How it came out.
    pub result: ExaminationResult,
    /// What was found, e.g. "14 indexes".
    pub found: String,
}

/// How one of the engine's own checks came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExaminationResult {
    /// Nothing is wrong.
    Passed,
    /// Something is.
    Failed,
    /// It cannot be made here. Not a pass.
    Unavailable,
}

/// Damage to a restored database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Damage {
    /// One row is changed or deleted, in a table that has rows.
    Row,
    /// A table is dropped.
    MissingTable,
    /// An index is dropped.
    Index,
    /// A sequence is set back.
    Sequence,
}
