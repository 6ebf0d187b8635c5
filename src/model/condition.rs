//! What can be wrong: each condition is either there now or it is not, and says all that people need to act on it.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use strum::VariantArray;

use crate::error::Origin;
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
    /// A database server cannot be reached.
    ServerFailing,
    /// A key of the agent is missing or cannot be used.
    KeyFailing,
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
            Self::ServerFailing => "server-failing",
            Self::KeyFailing => "key-failing",
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
    /// What has to be repaired, where other conditions can come from the same.
    #[serde(default)]
    pub origin: Option<Origin>,
    /// Where several conditions come from one origin, this one stands for all of them: what it means for each database.
    #[serde(default)]
    pub affected: Vec<Affected>,
    /// Before this moment it is shown, but it is no incident: what was promised is not due yet.
    #[serde(skip)]
    pub due_at: Option<Timestamp>,
}

/// What a problem that several databases share means for one of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Affected {
    /// The database.
    pub database: DatabaseId,
    /// What would be wrong with it alone; nothing where it is well again while others are not.
    pub kinds: BTreeSet<ConditionKind>,
    /// The error line of its own, where there is one.
    pub error: Option<String>,
    /// The moment that its newest proven snapshot holds.
    pub proven_at: Option<Timestamp>,
}

impl Condition {
    /// What makes it the same as one seen before.
    pub fn key(&self) -> IncidentKey {
        IncidentKey { kind: self.kind, database: self.database.clone(), object: self.object.clone() }
    }

    /// The databases that share it and are not well again.
    pub fn hit(&self) -> impl Iterator<Item = &Affected> {
        self.affected.iter().filter(|affected| !affected.kinds.is_empty())
    }

    /// Keeps the databases that it hit before, as well again: whoever was told that it hit them hears of its end.
    pub(super) fn keep_hit(&mut self, before: &[Affected]) {
        let known: BTreeSet<&DatabaseId> = self.affected.iter().map(|affected| &affected.database).collect();
        let gone = before.iter().filter(|affected| !known.contains(&affected.database));
        let gone: Vec<Affected> =
            gone.map(|affected| Affected { kinds: BTreeSet::new(), ..affected.clone() }).collect();
        self.affected.extend(gone);
    }

    /// Every database that it concerns or has concerned; none where it concerns the agent alone.
    pub fn databases(&self) -> impl Iterator<Item = &DatabaseId> {
        self.database.iter().chain(self.affected.iter().map(|affected| &affected.database))
    }

    /// Whose data it concerns.
    pub fn publishers(&self) -> BTreeSet<&PublisherName> {
        self.databases().map(|database| &database.publisher).collect()
    }

    /// Where it comes from, as far as its text says that: two texts that differ in numbers only say the same. `None` for
    /// what has no causes that could change, such as a snapshot that is late, or a key that cannot be used.
    pub fn cause(&self) -> Option<String> {
        use ConditionKind as C;
        let has_causes = matches!(
            self.kind,
            C::SnapshotFailed
                | C::DrillFailed
                | C::SabotageFailed
                | C::VerifyFailed
                | C::PruneFailed
                | C::SyncFailed
                | C::TargetFailing
                | C::LookFailed
                | C::ConfigRefused
                | C::ChannelFailing
        );
        // Each job meets what is shared in words of its own. Only what the target itself answered can be compared.
        let met = |affected: &Affected| affected.kinds.contains(&self.kind);
        if !has_causes || !(self.affected.is_empty() || self.affected.iter().any(met)) {
            return None;
        }
        let text = self.error.as_deref().unwrap_or(&self.summary);
        // What a target was asked for is not why it failed.
        let text = match (self.kind, text.split_once(": ")) {
            (C::TargetFailing, Some((_, why))) => why,
            _ => text,
        };
        let words = text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
        let plain = words.filter(|word| !word.contains(|c: char| c.is_ascii_digit()));
        Some(plain.collect::<Vec<_>>().join(" "))
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
            origin: None,
            affected: Vec::new(),
            due_at: None,
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

    /// It comes from this.
    #[must_use]
    pub fn origin(mut self, origin: Option<Origin>) -> Self {
        self.origin = origin;
        self
    }

    /// It is no incident before this moment.
    #[must_use]
    pub fn due(mut self, at: Option<Timestamp>) -> Self {
        self.due_at = at;
        self
    }

    /// What to do next.
    #[must_use]
    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = remedy.into();
        self
    }
}
