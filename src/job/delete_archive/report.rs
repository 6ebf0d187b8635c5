//! How a deletion went.

use jiff::Timestamp;
use serde::Serialize;

use crate::error::{Error, ErrorKind};
use crate::job::tally::Sum;
use crate::model::id::{DatabaseName, PublisherName, TargetName};
use crate::repository::decision_catalog::DecisionSummary;

/// What was deleted, as `delete-archive --json` prints it.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct DeleteReport {
    /// Whose data.
    pub publisher: PublisherName,
    /// Which database.
    pub database: DatabaseName,
    /// The record.
    #[serde(flatten)]
    pub decision: DecisionSummary,
    /// Every target that was asked for.
    pub targets: Vec<DeletedAt>,
    /// Targets of the configuration that keep their copy.
    pub elsewhere: Vec<TargetName>,
    /// Nothing is left of it anywhere, and the agent remembers the record only.
    pub forgotten: bool,
}

/// What was deleted at one target.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct DeletedAt {
    /// The target.
    pub name: TargetName,
    /// What this run has deleted.
    pub deleted: Sum,
    /// What the target refuses to delete.
    pub locked: Sum,
    /// Until when at least that is locked, as far as the agent knows.
    pub locked_until: Option<Timestamp>,
    /// Why not everything could be done.
    pub error: Option<String>,
}

impl DeletedAt {
    /// Of a target at which nothing was done yet.
    pub(super) fn new(name: &TargetName) -> Self {
        Self {
            name: name.clone(),
            deleted: Sum::default(),
            locked: Sum::default(),
            locked_until: None,
            error: None,
        }
    }

    /// Whether nothing is left there.
    pub(super) fn is_done(&self) -> bool {
        self.error.is_none() && self.locked.objects == 0
    }
}

impl DeleteReport {
    /// The error that the command ends with, unless nothing is left at any target that was asked for.
    pub(crate) fn error(&self) -> Option<Error> {
        let left = |at: &DeletedAt| match &at.error {
            Some(e) => Some(format!("{}: {e}", at.name)),
            None if at.locked.objects > 0 => {
                Some(format!("{} refuses to delete {} objects", at.name, at.locked.objects))
            }
            None => None,
        };
        let left: Vec<String> = self.targets.iter().filter_map(left).collect();
        if left.is_empty() {
            return None;
        }
        let name = format!("{}/{}", self.publisher, self.database);
        let remedy = match self.targets.iter().any(|at| at.error.is_some()) {
            true => "Bring the target back, and run the command again: it goes on.",
            false => {
                "A lock ends by itself: run the command again then. Without one, the credentials lack the right to delete: for \
                 this command, give the target credentials that may list versions and delete objects and versions below its \
                 prefix (`credentials_file`), and take them back afterwards."
            }
        };
        Some(
            Error::new(ErrorKind::Degraded, format!("not everything of {name} could be deleted"))
                .cause(left.join("; "))
                .remedy(remedy),
        )
    }
}
