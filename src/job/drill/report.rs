//! What a drill found: as JSON for programs, and the content of the pages for people (see `report::drill`).

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::engine::Exception;
use crate::error::ErrorRecord;
use crate::job::recorded_at::RecordedAt;
use crate::job::restore::TableReport;
use crate::job::stopwatch::StageTime;
use crate::model::drill_stage::DrillStage;
use crate::model::id::{DatabaseName, DrillId, EpochId, PublisherName, Sha256, SnapshotId, TargetName};
use crate::model::isolation::Isolation;
use crate::model::level::{By, Level};
use crate::model::omission::Omission;
use crate::model::sabotage::Sabotage;

/// How a drill went, as `drill --json` prints it.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct DrillReport {
    /// The drill.
    pub drill: DrillId,
    /// Whose data.
    pub publisher: PublisherName,
    /// Which database.
    pub database: DatabaseName,
    /// Who ran it.
    pub by: By,
    /// The snapshot; `null` where the drill failed before one was chosen.
    pub snapshot: Option<SnapshotId>,
    /// Its epoch.
    pub epoch: Option<EpochId>,
    /// The moment whose state it holds.
    pub consistent_at: Option<Timestamp>,
    /// The target that everything was fetched from.
    pub target: Option<TargetName>,
    /// The level that was proven, and nothing else.
    pub level: Option<Level>,
    /// Everything was checked and found right. Never so for a sabotage.
    pub passed: bool,
    /// The damage that this drill did to its own copy.
    pub sabotage: Option<SabotageReport>,
    /// The stage at which it failed.
    pub failed_stage: Option<DrillStage>,
    /// Why it failed.
    pub error: Option<ErrorRecord>,
    /// Every table that was compared.
    pub tables: Vec<TableReport>,
    /// Every type of object.
    pub objects: Vec<ObjectReport>,
    /// What could not be restored, or not as it was.
    pub exceptions: Vec<Exception>,
    /// What else differs, in words.
    pub differences: Vec<String>,
    /// What the source had and the snapshot does not hold.
    pub omitted: Vec<Omission>,
    /// Every check.
    pub checks: Vec<CheckReport>,
    /// Rows that came back, over all tables.
    pub rows: u64,
    /// Bytes of all streams.
    pub bytes: u64,
    /// Bytes fetched from the target.
    pub fetched_bytes: u64,
    /// Objects that were damaged or deleted there, and of which an older version was good and was used.
    pub older_versions: u64,
    /// When it started.
    pub started_at: Timestamp,
    /// When it was over.
    pub finished_at: Timestamp,
    /// How long it took.
    pub seconds: f64,
    /// Of these, the recovery: receipts, fetch, open, server, load and index. The measured RTO.
    pub rto_seconds: Option<f64>,
    /// How long a recovery may take, where that is agreed.
    pub rto_promised_seconds: Option<u64>,
    /// How long each stage took.
    pub stages: Vec<StageTime<DrillStage>>,
    /// Engine.
    pub engine: Option<String>,
    /// Version of the source's server.
    pub source_version: Option<String>,
    /// Where it was restored, for people.
    pub scratch: Option<String>,
    /// What kept the code of the restored database apart.
    pub isolation: Option<Isolation>,
    /// Version of the scratch server.
    pub scratch_version: Option<String>,
    /// Fingerprint of the signer of the snapshot's receipt.
    pub snapshot_signer: Option<String>,
    /// SHA-256 of the snapshot's receipt.
    pub receipt_sha256: Option<Sha256>,
    /// Fingerprint of the signer of this drill's receipt.
    pub signer: String,
    /// The drills before this one, oldest first: the trend of the measured RTO.
    pub trend: Vec<TrendPoint>,
    /// Where the receipt of this drill was put.
    pub targets: Vec<RecordedAt>,
    /// Where the pages for people are.
    pub reports: Vec<String>,
    /// What was left for people to look at (`--keep-on-failure`), and how.
    pub kept: Option<String>,
    /// What people should know.
    pub warnings: Vec<String>,
}

/// A sabotage, and whether it was noticed.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct SabotageReport {
    /// What was damaged.
    pub kind: Sabotage,
    /// What was done, in words.
    pub done: Option<String>,
    /// Where the drill had to fail.
    pub expected_stage: DrillStage,
    /// It failed there: the damage was noticed.
    pub caught: bool,
}

/// How many objects of one type were expected and found.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct ObjectReport {
    /// `table`, `index`, …
    #[serde(rename = "type")]
    pub kind: String,
    /// In the snapshot.
    pub expected: u64,
    /// After the restore.
    pub found: u64,
}

/// A check of the restored data.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct CheckReport {
    /// Its name.
    pub name: String,
    /// `true` only if it was run and held.
    pub passed: bool,
    /// How it came out.
    pub result: CheckResult,
    /// The answer, where there is one.
    pub value: Option<String>,
    /// Why it failed or was not run, and the message that its owner configured for that.
    pub message: Option<String>,
}

impl CheckReport {
    /// How a check came out. Only [`CheckResult::Passed`] has passed.
    pub(crate) fn new(
        name: &str,
        result: CheckResult,
        value: Option<String>,
        message: Option<String>,
    ) -> Self {
        Self { name: name.to_owned(), passed: result == CheckResult::Passed, result, value, message }
    }
}

/// How a check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum CheckResult {
    /// It held.
    Passed,
    /// It did not, or could not be asked: the drill has failed.
    Failed,
    /// There is no earlier proven value to compare with yet.
    NoBaseline,
    /// It cannot be run here.
    Unavailable,
    /// It is switched off.
    Off,
}

/// One earlier drill.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct TrendPoint {
    /// The drill.
    pub drill: DrillId,
    /// When it was over.
    pub at: Timestamp,
    /// Whether it passed.
    pub passed: bool,
    /// Its measured recovery.
    pub rto_seconds: Option<f64>,
}
