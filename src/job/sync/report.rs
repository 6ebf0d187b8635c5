//! How a sync went.

use serde::Serialize;

use super::copy::Completed;
use crate::error::{Error, ErrorKind};
use crate::job::verify::Damage;
use crate::model::human;
use crate::model::id::{DatabaseName, PublisherName, TargetName};
use crate::targets::TargetError;

/// What `sync --json` prints.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct SyncReport {
    /// Every requested database.
    pub databases: Vec<DatabaseSync>,
}

/// How the sync of one database went.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct DatabaseSync {
    /// Whose data.
    pub publisher: PublisherName,
    /// Which database.
    pub database: DatabaseName,
    /// Snapshots that every target must hold.
    pub snapshots: u64,
    /// Every target.
    pub targets: Vec<TargetSync>,
    /// Everything found that does not match its signed receipt, and was not replaced. It is not copied.
    pub damaged: Vec<Damage>,
    /// How long it took.
    pub seconds: f64,
}

/// How the sync went at one target.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct TargetSync {
    /// The target.
    pub name: TargetName,
    /// Snapshots that it lacked wholly or in part, and that it now holds completely.
    pub snapshots_copied: u64,
    /// The same for the signed records of drills and prunes.
    pub records_copied: u64,
    /// Objects copied for these, signatures and receipts included.
    pub objects: u64,
    /// Bytes of these.
    pub bytes: u64,
    /// Of these, objects that took the place of damaged copies.
    pub replaced: u64,
    /// Snapshots that it still does not hold completely; `null` if it cannot be reached.
    pub still_behind: Option<u64>,
    /// Records that it still lacks; `null` if it cannot be reached.
    pub records_behind: Option<u64>,
    /// Why it is behind: the first cause.
    pub error: Option<String>,
    /// What to do about that.
    pub remedy: Option<String>,
}

impl TargetSync {
    /// A target that answers, to which nothing has been copied yet.
    pub(super) fn reached(name: TargetName) -> Self {
        Self {
            name,
            snapshots_copied: 0,
            records_copied: 0,
            objects: 0,
            bytes: 0,
            replaced: 0,
            still_behind: Some(0),
            records_behind: Some(0),
            error: None,
            remedy: None,
        }
    }

    /// A target that cannot even be listed.
    pub(super) fn unreachable(name: TargetName, e: &TargetError) -> Self {
        let mut report = Self { still_behind: None, records_behind: None, ..Self::reached(name) };
        report.fail(&Error::from(e.clone()));
        report
    }

    pub(super) fn completed_snapshot(&mut self, done: &Completed) {
        self.snapshots_copied += u64::from(done.anything());
        self.add(done);
    }

    pub(super) fn completed_record(&mut self, done: &Completed) {
        self.records_copied += u64::from(done.anything());
        self.add(done);
    }

    fn add(&mut self, done: &Completed) {
        self.objects += done.objects;
        self.bytes += done.bytes;
        self.replaced += done.replaced;
    }

    pub(super) fn still_lacks_snapshots(&mut self, number: u64, e: Error) {
        self.still_behind = self.still_behind.map(|n| n + number);
        self.fail(&e);
    }

    pub(super) fn still_lacks_records(&mut self, number: u64, e: Error) {
        self.records_behind = self.records_behind.map(|n| n + number);
        self.fail(&e);
    }

    fn fail(&mut self, e: &Error) {
        if self.error.is_none() {
            self.error = Some(e.to_string());
            self.remedy = e.remedy_text().map(str::to_owned);
        }
    }

    /// Whether it could be reached.
    pub(crate) fn is_reached(&self) -> bool {
        self.still_behind.is_some()
    }

    /// Whether it is known to lack something.
    pub(crate) fn is_behind(&self) -> bool {
        self.still_behind.unwrap_or(0) + self.records_behind.unwrap_or(0) > 0
    }
}

impl SyncReport {
    /// The error that the command ends with, unless every target was reached and lacks nothing. Damage counts more than
    /// a target that cannot be reached, and that more than one that is still behind.
    pub(crate) fn error(&self) -> Option<Error> {
        let targets = || self.databases.iter().flat_map(|db| &db.targets);
        let damaged: Vec<&Damage> = self.databases.iter().flat_map(|db| &db.damaged).collect();
        let away: Vec<&TargetSync> = targets().filter(|t| !t.is_reached()).collect();
        let behind: Vec<&TargetSync> = targets().filter(|t| t.is_behind()).collect();
        if !damaged.is_empty() {
            Some(damage_error(&damaged))
        } else if !away.is_empty() {
            Some(explained(ErrorKind::Target, "targets could not be reached", &away))
        } else if !behind.is_empty() {
            Some(explained(ErrorKind::Degraded, "targets are still behind", &behind))
        } else {
            None
        }
    }
}

fn damage_error(damaged: &[&Damage]) -> Error {
    let what = match damaged.len() {
        1 => "1 damaged object or receipt was found".to_owned(),
        n => format!("{n} damaged objects or receipts were found"),
    };
    let causes: Vec<String> = damaged.iter().map(ToString::to_string).collect();
    Error::verification(what).cause(human::first_few(&causes, 3)).remedy(
        "Nothing damaged was copied. Find out who or what changed the target; `marbre verify` checks all of it, `marbre sync \
         --heal` replaces bad copies by good ones from another target, and `marbre snapshot` uploads lost data again.",
    )
}

fn explained(kind: ErrorKind, what: &str, targets: &[&TargetSync]) -> Error {
    let cause = |t: &&TargetSync| format!("{}: {}", t.name, t.error.as_deref().unwrap_or("unknown"));
    let causes: Vec<String> = targets.iter().map(cause).collect();
    let error = Error::new(kind, what).cause(causes.join("; "));
    match targets.iter().find_map(|t| t.remedy.as_ref()) {
        Some(remedy) => error.remedy(remedy.clone()),
        None => error,
    }
}
