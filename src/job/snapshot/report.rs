//! How a snapshot went, for people and as JSON.

use serde::Serialize;

use super::SnapshotJob;
use super::epoch::Epoch;
use super::record::Record;
use crate::error::{Error, ErrorKind, Result};
use crate::job::stopwatch::{StageTime, Stopwatch};
use crate::model::id::{EpochId, SnapshotId, TargetName};
use crate::model::level::Level;
use crate::model::verdict::{Stored, Verdict, Word};

/// How a snapshot went, as `snapshot --json` prints it.
#[derive(Debug, Clone, Serialize)]
pub struct SnapshotReport {
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// Whose data.
    pub publisher: String,
    /// Which database.
    pub database: String,
    /// Its epoch.
    pub epoch: EpochId,
    /// Whether this snapshot began its epoch, and so is a full one.
    pub full: bool,
    /// How it ended.
    pub verdict: Word,
    /// Rows.
    pub rows: u64,
    /// Bytes of all streams.
    pub bytes_read: u64,
    /// How many of these are new to the epoch.
    pub new_bytes: u64,
    /// Bytes of the objects written.
    pub stored_bytes: u64,
    /// How long it took.
    pub seconds: f64,
    /// How long each stage took.
    pub stages: Vec<StageTime>,
    /// The outcome at every target.
    pub targets: Vec<TargetReport>,
    /// What people should know.
    pub warnings: Vec<String>,
}

/// How a snapshot went at one target.
#[derive(Debug, Clone, Serialize)]
pub struct TargetReport {
    /// The target.
    pub name: TargetName,
    /// The snapshot fails without this target.
    pub required: bool,
    /// The level reached, if any.
    pub level: Option<Level>,
    /// Why not.
    pub error: Option<String>,
    /// What to do about it.
    pub remedy: Option<String>,
    /// What the target lists of earlier snapshots other than it was stored: somebody has deleted or changed it.
    pub damaged: Option<String>,
}

impl SnapshotReport {
    /// The error that the command ends with, unless the snapshot is complete, and the targets are as they were left.
    pub fn error(&self) -> Option<Error> {
        let failed: Vec<&TargetReport> = self.targets.iter().filter(|t| t.level.is_none()).collect();
        let names: Vec<&str> = failed.iter().map(|t| t.name.as_str()).collect();
        let (cause, remedy) = explain(failed.iter().copied());
        let stored = self.targets.len() - failed.len();
        let required: Vec<&str> = failed.iter().filter(|t| t.required).map(|t| t.name.as_str()).collect();
        match self.verdict {
            Word::Complete => self.damage(),
            Word::Degraded => Some(
                Error::new(
                    ErrorKind::Degraded,
                    format!("snapshot {} is stored, but not at {}", self.snapshot, names.join(", ")),
                )
                .cause(cause)
                .remedy(remedy),
            ),
            Word::Failed => Some(
                Error::new(
                    ErrorKind::Target,
                    match stored {
                        0 => format!("no target holds snapshot {}", self.snapshot),
                        _ if !required.is_empty() => format!(
                            "snapshot {} is not at {}, which is required",
                            self.snapshot,
                            required.join(", ")
                        ),
                        n => format!(
                            "only {n} of the targets hold snapshot {}, fewer than `copies` asks for",
                            self.snapshot
                        ),
                    },
                )
                .cause(cause)
                .remedy(remedy),
            ),
        }
    }
}

impl SnapshotReport {
    fn damage(&self) -> Option<Error> {
        let damaged = self.targets.iter().filter_map(|t| Some((t.name.as_str(), t.damaged.as_deref()?)));
        let (names, causes): (Vec<&str>, Vec<String>) =
            damaged.map(|(name, what)| (name, format!("{name}: {what}"))).unzip();
        let what = format!(
            "snapshot {} is stored, but objects of earlier ones were deleted or changed at {}",
            self.snapshot,
            names.join(", ")
        );
        (!names.is_empty()).then(|| {
            Error::new(ErrorKind::Degraded, what).cause(causes.join("; ")).remedy(
                "Find out who did that, and with which credentials. `marbre verify` says what is left of earlier snapshots.",
            )
        })
    }
}

/// Why each target failed, and what to do about it: the remedy is given once if it is the same for all.
pub(super) fn explain<'a>(failed: impl Iterator<Item = &'a TargetReport> + Clone) -> (String, String) {
    let named = |text: fn(&TargetReport) -> Option<&String>| {
        let lines = failed.clone().filter_map(|t| Some(format!("{}: {}", t.name, text(t)?)));
        lines.collect::<Vec<_>>().join("; ")
    };
    let mut remedies: Vec<&String> = failed.clone().filter_map(|t| t.remedy.as_ref()).collect();
    remedies.dedup();
    let remedy = match remedies.as_slice() {
        [one] => (*one).clone(),
        _ => named(|t| t.remedy.as_ref()),
    };
    (named(|t| t.error.as_ref()), remedy)
}

impl SnapshotJob {
    #[expect(clippy::too_many_arguments, reason = "it only gathers what the run came to")]
    pub(super) fn report(
        &self,
        snapshot: &SnapshotId,
        epoch: &Epoch,
        record: Record,
        verdict: Verdict,
        results: Vec<(TargetName, Result<Stored>)>,
        mut targets: Vec<TargetReport>,
        watch: &Stopwatch,
    ) -> SnapshotReport {
        for (name, result) in results {
            let required = self.required.contains(&name);
            targets.push(match result {
                Ok(_) => TargetReport {
                    name,
                    required,
                    level: Some(Level::Stored),
                    error: None,
                    remedy: None,
                    damaged: None,
                },
                Err(e) => TargetReport {
                    name,
                    required,
                    level: None,
                    error: Some(e.to_string()),
                    remedy: e.remedy_text().map(str::to_owned),
                    damaged: None,
                },
            });
        }
        targets.sort_by_key(|t| self.targets.iter().position(|n| n.name == t.name));
        let receipt = record.receipt.receipt;
        let (stages, seconds) = watch.read();
        SnapshotReport {
            snapshot: snapshot.clone(),
            publisher: self.database.publisher.to_string(),
            database: self.database.database.to_string(),
            epoch: epoch.state.epoch.clone(),
            full: epoch.full,
            verdict: verdict.word(),
            rows: receipt.rows,
            bytes_read: receipt.bytes_read,
            new_bytes: receipt.new_bytes,
            stored_bytes: receipt.stored_bytes,
            seconds,
            stages,
            targets,
            warnings: record.warnings,
        }
    }
}
