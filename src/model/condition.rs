//! What can be wrong: each condition is either there now or it is not, and says all that people need to act on it.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use strum::VariantArray;

use crate::model::id::{DatabaseId, PublisherName, TargetName};

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Somebody should look at it in working hours.
    Warning,
    /// Data are at risk: somebody should look at it now, whatever the hour.
    Critical,
}

impl Severity {
    /// The word used in the configuration and in messages.
    pub fn word(self) -> &'static str {
        match self {
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// The kinds of things that can be wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, VariantArray)]
#[serde(rename_all = "kebab-case")]
pub enum ConditionKind {
    /// The last snapshot failed.
    SnapshotFailed,
    /// The newest snapshot is older than the RPO.
    SnapshotLate,
    /// A slot passed without its job.
    SlotMissed,
    /// A slot found the job before it still at work.
    SlotOverlapped,
    /// The last drill failed.
    DrillFailed,
    /// The newest proof is older than agreed.
    DrillOverdue,
    /// A recovery takes longer than the RTO.
    DrillSlow,
    /// A drill did not notice the damage that it did itself.
    SabotageUnnoticed,
    /// The last drill with sabotage failed before it could show anything.
    SabotageFailed,
    /// The last verification failed, or found damage.
    VerifyFailed,
    /// The last prune failed.
    PruneFailed,
    /// The last sync failed, or met damage.
    SyncFailed,
    /// A chain of receipts is broken, or a record cannot be trusted.
    ChainBroken,
    /// A target cannot be reached, or refuses.
    TargetFailing,
    /// A target lacks snapshots that another one has.
    TargetBehind,
    /// A target does not guarantee what the configuration claims.
    TargetMutable,
    /// A target lists objects under delete markers, of other sizes than signed receipts say, or not at all.
    TargetDamaged,
    /// Two targets are one place, and hold one copy.
    SamePlace,
    /// A snapshot is much smaller or larger than those before.
    SizeOutOfBand,
    /// The content of the newest snapshot is odd, and nobody has accepted that.
    ContentOdd,
    /// The owner has not proven their key for too long.
    KeyProofOverdue,
    /// There is a database on the server that nobody protects.
    UndeclaredDatabase,
    /// The agent's disk is nearly full.
    DiskLow,
    /// The clock of this host is wrong.
    ClockSkew,
    /// A new configuration was refused, and the daemon goes on with the old one.
    ConfigRefused,
    /// Nobody knows how a database, or everything, stands: it could not be looked at.
    LookFailed,
    /// An alert channel does not take its messages.
    ChannelFailing,
    /// A certificate or a token ends soon.
    Expiring,
}

impl ConditionKind {
    /// All of them.
    pub const ALL: &[Self] = Self::VARIANTS;

    /// The word used in keys, messages and metrics.
    pub fn word(self) -> &'static str {
        match self {
            Self::SnapshotFailed => "snapshot-failed",
            Self::SnapshotLate => "snapshot-late",
            Self::SlotMissed => "slot-missed",
            Self::SlotOverlapped => "slot-overlapped",
            Self::DrillFailed => "drill-failed",
            Self::DrillOverdue => "drill-overdue",
            Self::DrillSlow => "drill-slow",
            Self::SabotageUnnoticed => "sabotage-unnoticed",
            Self::SabotageFailed => "sabotage-failed",
            Self::VerifyFailed => "verify-failed",
            Self::PruneFailed => "prune-failed",
            Self::SyncFailed => "sync-failed",
            Self::ChainBroken => "chain-broken",
            Self::TargetFailing => "target-failing",
            Self::TargetBehind => "target-behind",
            Self::TargetMutable => "target-mutable",
            Self::TargetDamaged => "target-damaged",
            Self::SamePlace => "same-place",
            Self::SizeOutOfBand => "size-out-of-band",
            Self::ContentOdd => "content-odd",
            Self::KeyProofOverdue => "key-proof-overdue",
            Self::UndeclaredDatabase => "undeclared-database",
            Self::DiskLow => "disk-low",
            Self::ClockSkew => "clock-skew",
            Self::ConfigRefused => "config-refused",
            Self::LookFailed => "look-failed",
            Self::ChannelFailing => "channel-failing",
            Self::Expiring => "expiring",
        }
    }
}

impl fmt::Display for ConditionKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl FromStr for ConditionKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.iter().copied().find(|kind| kind.word() == text);
        found.ok_or_else(|| format!("there is no condition {text:?}"))
    }
}

/// What makes two sightings the same incident: what is wrong, and with what.
///
/// Its text, `snapshot-late gazette/abonnes` or `target-behind gazette/abonnes nas`, is stable: receivers use it
/// to put messages together.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IncidentKey {
    /// What is wrong.
    pub kind: ConditionKind,
    /// With which database; `None` for what concerns the whole agent.
    pub database: Option<DatabaseId>,
    /// With what of it: a target, a channel, a folder, a job. Without control characters.
    pub object: Option<String>,
}

impl fmt::Display for IncidentKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind.word())?;
        if let Some(database) = &self.database {
            write!(f, " {database}")?;
        }
        if let Some(object) = &self.object {
            write!(f, " {object}")?;
        }
        Ok(())
    }
}

/// Something that is wrong now. It holds no secrets and no personal data: names of databases, targets, files and
/// stages, numbers, times, and the error lines of engines, from which values are removed where they are made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condition {
    /// What is wrong.
    pub kind: ConditionKind,
    /// How bad it is.
    pub severity: Severity,
    /// With which database, and so whose; `None` for what concerns the whole agent, and is no publisher's business.
    pub database: Option<DatabaseId>,
    /// With what of it.
    pub object: Option<String>,
    /// What people read first: one line, a full sentence.
    pub summary: String,
    /// The stage of the job that failed, where one did.
    pub stage: Option<String>,
    /// The error line of the engine, the server or the target, where there is one.
    pub error: Option<String>,
    /// What each target says, where that matters: its name and a fragment.
    pub targets: Vec<(TargetName, String)>,
    /// The state that could be restored for sure now: the moment that the newest proven snapshot holds.
    pub proven_at: Option<Timestamp>,
    /// What to do next: full sentences.
    pub remedy: String,
}

impl Condition {
    /// What makes it the same as one seen before.
    pub fn key(&self) -> IncidentKey {
        IncidentKey { kind: self.kind, database: self.database.clone(), object: self.object.clone() }
    }

    /// Whose data it concerns.
    pub fn publisher(&self) -> Option<&PublisherName> {
        self.database.as_ref().map(|database| &database.publisher)
    }
}

/// Of several conditions about the same thing the first: whoever knows most of it comes first.
pub(crate) fn first_of_each(conditions: Vec<Condition>) -> Vec<Condition> {
    let mut seen = BTreeSet::new();
    conditions.into_iter().filter(|condition| seen.insert(condition.key())).collect()
}

/// Conditions are made step by step, since few of them have everything to say.
impl Condition {
    /// A condition that concerns the whole agent, until [`Condition::of`] says otherwise.
    pub fn new(kind: ConditionKind, severity: Severity, summary: impl Into<String>) -> Self {
        Self {
            kind,
            severity,
            database: None,
            object: None,
            summary: summary.into(),
            stage: None,
            error: None,
            targets: Vec::new(),
            proven_at: None,
            remedy: String::new(),
        }
    }

    /// It concerns this database.
    #[must_use]
    pub fn of(mut self, database: &DatabaseId) -> Self {
        self.database = Some(database.clone());
        self
    }

    /// It concerns this part of it.
    #[must_use]
    pub fn object(mut self, object: impl fmt::Display) -> Self {
        self.object = Some(object.to_string());
        self
    }

    /// What the engine, the server or the target said.
    #[must_use]
    pub fn error(mut self, error: impl fmt::Display) -> Self {
        self.error = Some(error.to_string());
        self
    }

    /// What to do next.
    #[must_use]
    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = remedy.into();
        self
    }
}
