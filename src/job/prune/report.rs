//! How a prune went.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::error::{Error, ErrorKind};
use crate::job::anomaly::Anomaly;
use crate::model::id::{DatabaseId, DatabaseName, PublisherName, SnapshotId, TargetName};
use crate::model::mark::Mark;
use crate::model::retention::{Candidate, Decision, Fate};

/// What was kept and deleted, as `prune --json` prints it for each database.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct PruneReport {
    /// Whose data.
    pub publisher: PublisherName,
    /// Which database.
    pub database: DatabaseName,
    /// Nothing was changed: the numbers say what would be deleted.
    pub dry_run: bool,
    /// Every kept snapshot, oldest first.
    pub kept: Vec<KeptSnapshot>,
    /// Every deleted snapshot, oldest first.
    pub deleted: Vec<DeletedSnapshot>,
    /// How many more would be deleted, but for the limit of one run.
    pub held_back: usize,
    /// Every target.
    pub targets: Vec<PrunedTarget>,
    /// Why no rule deletes a snapshot, if there are no rules.
    pub note: Option<String>,
    /// What is odd about the content, and nobody has accepted: no snapshot from before it is deleted.
    pub held: Vec<String>,
    /// Why objects are kept that might be unneeded.
    pub warnings: Vec<String>,
}

/// A kept snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct KeptSnapshot {
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// Why; at least one reason.
    pub reasons: Vec<String>,
    /// What somebody has decided about it.
    pub mark: Option<Mark>,
}

/// A deleted snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct DeletedSnapshot {
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// Why.
    pub reason: String,
}

/// What was done at one target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct PrunedTarget {
    /// The target.
    pub name: TargetName,
    /// Receipts removed, one for each snapshot that is gone there.
    pub receipts: u64,
    /// Objects removed: packs, manifests, sealed keys.
    pub objects: u64,
    /// Bytes of these.
    pub bytes: u64,
    /// Unneeded objects whose grace period is not over.
    pub waiting: u64,
    /// Bytes of these.
    pub waiting_bytes: u64,
    /// Receipts and objects that the target refuses to delete. The next run tries again.
    pub locked: u64,
    /// Why not everything could be done.
    pub error: Option<String>,
}

impl PruneReport {
    /// The report of a database that has no rules: no snapshot of it is deleted that nobody has forgotten.
    pub(super) fn without_rules(self) -> Self {
        let note = format!(
            "no rule deletes a snapshot, because there is no [database.{}.retention]; what no receipt names goes after the \
             grace",
            self.database
        );
        Self { note: Some(note), ..self }
    }

    /// The same, with what holds snapshots that would go.
    pub(super) fn held(self, anomalies: &[Anomaly]) -> Self {
        Self { held: anomalies.iter().map(Anomaly::what).collect(), ..self }
    }

    /// The same, with what somebody has decided about snapshots that are kept.
    pub(super) fn marked(mut self, candidates: &[Candidate]) -> Self {
        let marks: BTreeMap<&SnapshotId, &Mark> =
            candidates.iter().filter_map(|c| Some((&c.snapshot, c.mark.as_ref()?))).collect();
        for kept in &mut self.kept {
            kept.mark = marks.get(&kept.snapshot).copied().cloned();
        }
        self
    }

    /// Whether something could not be done that is to be done.
    pub(crate) fn has_failed(&self) -> bool {
        !self.warnings.is_empty() || self.targets.iter().any(|t| t.error.is_some())
    }

    pub(super) fn new(
        database: &DatabaseId,
        dry_run: bool,
        decision: Decision,
        targets: Vec<PrunedTarget>,
        warnings: Vec<String>,
    ) -> Self {
        let mut report = Self {
            publisher: database.publisher.clone(),
            database: database.database.clone(),
            dry_run,
            kept: Vec::new(),
            deleted: Vec::new(),
            held_back: decision.held_back,
            targets,
            note: None,
            held: Vec::new(),
            warnings,
        };
        for (snapshot, fate) in decision.fates {
            match fate {
                Fate::Keep(reasons) => {
                    let reasons = reasons.iter().map(ToString::to_string).collect();
                    report.kept.push(KeptSnapshot { snapshot, reasons, mark: None });
                }
                Fate::Delete(reason) => {
                    report.deleted.push(DeletedSnapshot { snapshot, reason: reason.to_string() });
                }
            }
        }
        report
    }

    /// The error that the command ends with, unless everything was done at every target.
    pub(crate) fn error(&self) -> Option<Error> {
        let problem = |t: &PrunedTarget| match (&t.error, t.locked) {
            (Some(e), _) => Some(format!("{}: {e}", t.name)),
            (None, 0) => None,
            // Nobody asked for a deletion: credentials that may not are no failure.
            (None, _) if self.note.is_some() && self.deleted.is_empty() => None,
            (None, n) => Some(format!("{} refuses to delete {n} receipts or objects", t.name)),
        };
        let mut left: Vec<String> = self.targets.iter().filter_map(problem).collect();
        left.extend(self.warnings.iter().cloned());
        let only_held = left.is_empty();
        if self.note.is_none() {
            left.extend(self.held.iter().map(|what| format!("older snapshots are held, because {what}")));
        }
        let what = format!("not everything of {}/{} could be pruned", self.publisher, self.database);
        // The remedy for what does not resolve itself.
        let accept = format!(
            "Look at the source. If nothing is wrong with it, `marbre accept {} --why TEXT` says so, and the next run deletes \
             what no rule keeps. If it is wrong, restore: what was there before is kept.",
            self.database
        );
        let remedy = if only_held {
            &accept
        } else if !self.warnings.is_empty() {
            "`marbre sync` puts a receipt back that the agent or another target still has; `marbre verify` says more about \
             the others. No object is deleted while it is unknown what they need."
        } else if self.targets.iter().any(|t| t.locked > 0) {
            "The next run does the rest. A lock ends by itself; without one, the credentials need permission to list versions \
             and to delete below the target's prefix."
        } else {
            "Bring the target back: the next run does the rest."
        };
        (!left.is_empty())
            .then(|| Error::new(ErrorKind::Degraded, what).cause(left.join("; ")).remedy(remedy))
    }
}
