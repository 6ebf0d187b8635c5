//! The receipt of a drill: in clear, signed, chained (see `docs/FORMAT.md`). It names no table and holds no data.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::model::drill_stage::DrillStage;
use crate::model::id::{
    DatabaseId, DatabaseName, DrillId, EpochId, PublisherName, Sha256, SnapshotId, TargetName,
};
use crate::model::isolation::Isolation;
use crate::model::level::{By, Level};
use crate::model::place::PlaceId;
use crate::model::sabotage::Sabotage;
use crate::repository::canonical;
use crate::repository::receipt::ObjectRef;
use crate::repository::signed_record;

/// What is recorded of a drill, passed or not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrillReceipt {
    /// Format version.
    pub format: u32,
    /// What is recorded; `drill`.
    pub kind: DrillKind,
    /// The owner of the data.
    pub publisher: PublisherName,
    /// The database.
    pub database: DatabaseName,
    /// The drill.
    pub drill: DrillId,
    /// Who ran it: each has a chain of their own.
    pub by: By,
    /// Place in that chain, from 1.
    pub sequence: u64,
    /// SHA-256 of the receipt before it.
    pub previous: Option<Sha256>,
    /// Name and version of the writer.
    pub agent: String,
    /// What was drilled; `null` where it failed before a snapshot was chosen.
    pub subject: Option<Subject>,
    /// The target that everything was fetched from; `null` where it failed before one was chosen.
    pub target: Option<TargetName>,
    /// The place that this target was; absent where that was not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<PlaceId>,
    /// When it started.
    pub started_at: Timestamp,
    /// When it was over, and everything was removed again.
    pub finished_at: Timestamp,
    /// The level that was proven; `null` where none was.
    pub level: Option<Level>,
    /// The damage that the drill did to its own copy: then it proves nothing about the snapshot.
    pub sabotage: Option<SabotageRecord>,
    /// Where and how it failed.
    pub failure: Option<Failure>,
    /// What was restored.
    pub found: Found,
    /// What kept the code of the restored database apart; absent in receipts of releases that did not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub isolation: Option<Isolation>,
    /// Objects that were damaged or deleted at the target, and of which an older version was good: the drill has used it.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub older_versions: u64,
    /// How long it took, in milliseconds.
    pub milliseconds: u64,
    /// Of these, the recovery; `null` where it did not get that far.
    pub rto_milliseconds: Option<u64>,
    /// How long a recovery may take, in seconds, where that is agreed.
    pub rto_promised_seconds: Option<u64>,
    /// How long each stage took.
    pub stages: Vec<StageRecord>,
    /// The page for people, sealed to the owner's recipients.
    pub report: Option<ReportRecord>,
}

/// What a [`DrillReceipt`] records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DrillKind {
    /// A drill.
    Drill,
}

/// The snapshot that was drilled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subject {
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// SHA-256 of its receipt.
    pub receipt: Sha256,
    /// Its place in the chain of snapshots.
    pub sequence: u64,
    /// Its epoch.
    pub epoch: EpochId,
    /// The moment whose state it holds.
    pub consistent_at: Timestamp,
    /// Engine.
    pub engine: String,
    /// Version of the source's server.
    pub source_version: String,
    /// Version of the server that it was restored into; `null` where none was started.
    pub scratch_version: Option<String>,
}

/// A sabotage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SabotageRecord {
    /// What was damaged.
    pub kind: Sabotage,
    /// The drill failed where it had to.
    pub caught: bool,
}

/// Where and how a drill failed. The words are in the report, which only the owner opens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The word of the stage; a newer release may have written one that is not known here.
    pub stage: String,
    /// The exit code of this kind of failure (see `docs/EXIT-CODES.md`).
    pub exit_code: u8,
}

impl Failure {
    /// The stage, if it is one that this release knows.
    pub fn known_stage(&self) -> Option<DrillStage> {
        DrillStage::from_word(&self.stage)
    }
}

/// What was restored, in numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// Tables that were compared.
    pub tables: u64,
    /// Tables whose count and digest of rows are equal.
    pub tables_equal: u64,
    /// Types of objects of which the number was compared.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub types: u64,
    /// Rows in all tables.
    pub rows: u64,
    /// Bytes of all streams.
    pub bytes: u64,
    /// Bytes fetched from the target.
    pub fetched_bytes: u64,
    /// Things that the source had and the snapshot does not hold, by its own account: nothing is proven of them.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub omitted: u64,
    /// Checks that held.
    pub checks_passed: u64,
    /// Checks that did not, or could not be asked.
    pub checks_failed: u64,
    /// Things that could not be restored, or not as they were.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub exceptions: u64,
    /// Checks that were not run: switched off, not possible here, or without an earlier value.
    pub checks_not_made: u64,
}

/// A stage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageRecord {
    /// Its name.
    pub name: String,
    /// How long it took.
    pub milliseconds: u64,
}

/// The page for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportRecord {
    /// SHA-256 of the page itself.
    pub page: Sha256,
    /// The sealed page; its key is relative to the database. `null` where it was not put anywhere.
    pub sealed: Option<ObjectRef>,
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

impl DrillReceipt {
    /// The bytes that are hashed, signed and stored.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        canonical::to_bytes(self)
    }

    /// Parses the receipt that was found at its place. The caller has checked the signature of `bytes`.
    pub fn parse(bytes: &[u8], database: &DatabaseId, drill: &DrillId) -> Result<Self> {
        let receipt: Self =
            canonical::from_bytes(bytes).map_err(|e| e.context(format!("receipt of drill {drill}")))?;
        let says = (&receipt.publisher, &receipt.database, &receipt.drill);
        signed_record::require_place("receipt at drill", database, drill, says)?;
        receipt.check()?;
        Ok(receipt)
    }

    /// A level must follow from the rest of the receipt: even who signed it may be wrong.
    fn check(&self) -> Result<()> {
        let wrong = |what: &str| Err(Error::verification(format!("receipt of drill {}: {what}", self.drill)));
        if self.sequence == 0 {
            return wrong("its sequence is 0");
        }
        let Some(level) = self.level else {
            return Ok(());
        };
        let found = &self.found;
        if level != self.by.level() {
            wrong("who made it cannot prove its level")
        } else if self.sabotage.is_some() {
            wrong("a sabotage proves no level")
        } else if self.failure.is_some()
            || found.checks_failed > 0
            || found.exceptions > 0
            || found.tables != found.tables_equal
        {
            wrong("it has failed, and claims a level")
        } else if self.subject.is_none() || self.target.is_none() || (found.tables, found.types) == (0, 0) {
            wrong("it claims a level, and does not say of what")
        } else {
            Ok(())
        }
    }
}
