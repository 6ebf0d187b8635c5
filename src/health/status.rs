//! The status of a database: freshness, targets, levels, and what is wrong now.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Serialize, Serializer};

use crate::config::Database;
use crate::health::left::LeftArchive;
use crate::health::presence::Presence;
use crate::job::snapshot::PackedSoFar;
use crate::model::age::Age;
use crate::model::condition::{Condition, ConditionKind, Severity};
use crate::model::drill_check::Percent;
use crate::model::id::{DatabaseId, DatabaseName, PublisherName, SnapshotId, TargetName};
use crate::model::job::JobKind;
use crate::model::level::Levels;
use crate::model::schedule::Schedule;
use crate::model::score::Score;
use crate::model::shown_incident::ShownIncident;
use crate::model::standing::Standing;
use crate::repository::decision_catalog::DecisionSummary;
pub use crate::repository::drill_catalog::{DrillProof, DrillSummary};
use crate::repository::receipt::Receipt;
use crate::repository::succession::Succession;

/// What `status --json` prints.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct StatusReport {
    /// When it was looked.
    pub at: Timestamp,
    /// How many of these databases stand how.
    pub summary: BTreeMap<&'static str, u64>,
    /// The daemon of this host; `null` where its configuration was not asked for.
    pub daemon: Option<Presence>,
    /// The targets that could not be reached, with what the first database met there.
    pub unreachable: Vec<Unreachable>,
    /// Every database that was asked for, the worst first.
    pub databases: Vec<DatabaseStatus>,
    /// Archives of databases that are not in the configuration; of the whole one only.
    pub left: Vec<LeftArchive>,
}

/// A target that could not be reached.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Unreachable {
    /// Its name.
    pub target: TargetName,
    /// Why.
    pub error: String,
    /// How many of the databases shown should be there.
    pub databases: u64,
}

impl StatusReport {
    /// The report of these databases.
    pub(crate) fn of(at: Timestamp, mut databases: Vec<DatabaseStatus>, daemon: Option<Presence>) -> Self {
        databases.sort_by_cached_key(|database| (database.state, database.id()));
        let summary = Standing::ALL.iter().map(|standing| {
            let so = databases.iter().filter(|database| database.state == *standing);
            (standing.word(), so.count() as u64)
        });
        let mut unreachable: Vec<Unreachable> = Vec::new();
        for target in databases.iter().flat_map(|database| &database.targets) {
            let Some(error) = &target.error else { continue };
            match unreachable.iter_mut().find(|known| known.target == target.name) {
                Some(known) => known.databases += 1,
                None => unreachable.push(Unreachable {
                    target: target.name.clone(),
                    error: error.clone(),
                    databases: 1,
                }),
            }
        }
        Self { at, summary: summary.collect(), daemon, unreachable, databases, left: Vec::new() }
    }
}

/// The status of one database.
#[derive(Debug, Clone, Serialize)]
pub struct DatabaseStatus {
    /// Whose data.
    pub publisher: PublisherName,
    /// Which database.
    pub database: DatabaseName,
    /// How it stands, in a word: see [`DatabaseStatus::judge`].
    pub state: Standing,
    /// The newest snapshot.
    pub snapshot: Option<SnapshotId>,
    /// The moment whose state it holds.
    pub consistent_at: Option<Timestamp>,
    /// The latest moment that its receipt names: where that lies in the future, nobody knows how old it is.
    #[serde(skip)]
    pub dated_at: Option<Timestamp>,
    /// Seconds since the moment whose state it holds; `null` where it is dated ahead.
    pub age_seconds: Option<i64>,
    /// By how many seconds it is dated ahead of the clock of who looks; `null` where that is five minutes at most.
    pub ahead_seconds: Option<u64>,
    /// How old it may become, in seconds, where that is known.
    pub rpo_seconds: Option<u64>,
    /// Who says so.
    pub rpo_from: Option<RpoSource>,
    /// It is older than that, or dated ahead, or there is none although one was due.
    pub late: bool,
    /// When there should be a first snapshot at the latest, where none was tried yet and that is known.
    #[serde(skip)]
    pub first_due_at: Option<Timestamp>,
    /// When the next snapshot starts; `null` without a schedule.
    pub next_run: Option<Timestamp>,
    /// What the newest snapshot cost.
    pub figures: Option<SnapshotFigures>,
    /// How far the first snapshot of an epoch is that is being taken, or was cut off; `null` where there is none.
    pub packed_so_far: Option<PackedSoFar>,
    /// Every target.
    pub targets: Vec<TargetStatus>,
    /// The newest drill of the agent that was no sabotage, passed or not.
    pub last_drill: Option<DrillSummary>,
    /// How old the newest proof by a drill of the agent may become, in seconds, where that is agreed.
    pub drill_every_seconds: Option<u64>,
    /// The successions of the accepted history, oldest first: which agents wrote the snapshots.
    pub successions: Vec<SuccessionSummary>,
    /// What was decided about it, oldest first: content that was accepted, damage that is known, copies that were replaced.
    pub decisions: Vec<DecisionSummary>,
    /// Its score by the 3-2-1-1-0 rule; `null` where the configuration of its targets was not looked at.
    pub score: Option<Score>,
    /// What is wrong now.
    #[serde(rename = "incidents", serialize_with = "as_incidents")]
    pub conditions: Vec<Condition>,
    /// What is missing and not due yet: it is wrong only when its time has come.
    #[serde(skip)]
    pub awaited: Vec<Condition>,
}

/// What is wrong, for programs.
fn as_incidents<S: Serializer>(conditions: &[Condition], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(conditions.iter().map(ShownIncident::of))
}

/// One agent went on with the chain of another.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SuccessionSummary {
    /// Its number.
    pub number: u64,
    /// `adopt` or `rotate`.
    pub action: &'static str,
    /// Fingerprint of the agent before.
    pub from: String,
    /// Fingerprint of the agent since then.
    pub to: String,
    /// The snapshot that it went on after.
    pub after: SnapshotId,
    /// When.
    pub at: Timestamp,
    /// Why.
    pub reason: String,
}

impl SuccessionSummary {
    /// What its record says.
    pub(super) fn of(record: &Succession) -> Self {
        Self {
            number: record.number,
            action: record.action.word(),
            from: record.from.fingerprint.clone(),
            to: record.to.fingerprint.clone(),
            after: record.after.snapshot.clone(),
            at: record.decided_at,
            reason: record.reason.clone(),
        }
    }
}

/// What a snapshot cost.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SnapshotFigures {
    /// How long it took to be read and packed.
    pub seconds: f64,
    /// Rows.
    pub rows: u64,
    /// Bytes read from the source.
    pub bytes_read: u64,
    /// Of these, bytes that were new to the epoch.
    pub new_bytes: u64,
    /// Bytes of the objects written for it, at each target.
    pub stored_bytes: u64,
}

impl SnapshotFigures {
    /// What its receipt says.
    pub(super) fn of(receipt: &Receipt) -> Self {
        let took = receipt.finished_at.duration_since(receipt.started_at);
        Self {
            seconds: took.as_secs_f64().max(0.0),
            rows: receipt.rows,
            bytes_read: receipt.bytes_read,
            new_bytes: receipt.new_bytes,
            stored_bytes: receipt.stored_bytes,
        }
    }
}

impl DatabaseStatus {
    /// Which database it is of.
    pub fn id(&self) -> DatabaseId {
        DatabaseId { publisher: self.publisher.clone(), database: self.database.clone() }
    }

    /// The status of this target of it.
    pub fn target(&self, name: &str) -> Option<&TargetStatus> {
        self.targets.iter().find(|target| target.name.as_str() == name)
    }

    /// What is wrong now, in full sentences.
    pub(crate) fn incidents(&self) -> Vec<&str> {
        self.conditions.iter().map(|condition| condition.summary.as_str()).collect()
    }

    /// Whether no target of it could be reached.
    pub(crate) fn is_blind(&self) -> bool {
        self.targets.iter().all(|target| target.error.is_some())
    }

    /// Says in a word how it stands. What could not be looked at is neither well nor late.
    fn judge(&mut self) {
        let any = |wanted: &dyn Fn(&Condition) -> bool| self.conditions.iter().any(wanted);
        let is_late = self.late && self.snapshot.is_some();
        self.state = if self.is_blind() {
            Standing::Unknown
        } else if is_late || any(&|found| found.kind == ConditionKind::SnapshotLate) {
            Standing::Late
        } else if any(&|found| found.severity == Severity::Critical) {
            Standing::Failing
        } else if any(&|_| true) {
            Standing::Warning
        } else if self.snapshot.is_none() {
            Standing::New
        } else {
            Standing::Well
        };
    }

    /// Says what of this is wrong at `now`, and what is not due yet.
    pub(super) fn tell(&mut self, conditions: Vec<Condition>, now: Timestamp) {
        (self.conditions, self.awaited) = (Vec::new(), conditions);
        self.set_age(now);
    }

    /// Says how old the newest snapshot is at `now`, whether that is too old, and what has become due: time passes after a
    /// look.
    pub fn set_age(&mut self, now: Timestamp) {
        self.ahead_seconds = self.dated_at.and_then(|at| Age::of(at, now).ahead());
        let trusted = self.consistent_at.filter(|_| self.ahead_seconds.is_none());
        self.age_seconds = trusted.map(|at| (now.as_second() - at.as_second()).max(0));
        let within = |rpo: u64| self.age_seconds.is_some_and(|age| age.unsigned_abs() <= rpo);
        let awaits_first = self.snapshot.is_none() && self.first_due_at.is_some_and(|at| at > now);
        let is_old = self.ahead_seconds.is_some() || self.rpo_seconds.is_some_and(|rpo| !within(rpo));
        self.late = is_old && !awaits_first;
        let (due, awaited) = std::mem::take(&mut self.awaited)
            .into_iter()
            .partition(|condition| condition.due_at.is_none_or(|at| at <= now));
        self.awaited = awaited;
        self.conditions.extend::<Vec<_>>(due);
        self.judge();
    }
}

/// The status of one target.
#[derive(Debug, Clone, Serialize)]
pub struct TargetStatus {
    /// The target.
    pub name: TargetName,
    /// The newest snapshot that it holds; where it cannot be reached, the newest that it has acknowledged.
    pub snapshot: Option<SnapshotId>,
    /// The levels proven for that snapshot there.
    pub levels: Levels,
    /// The newest snapshot that the agent restored from there and found equal.
    pub restored: Option<DrillProof>,
    /// The newest snapshot that its owner restored from there and found equal.
    pub owner_restored: Option<DrillProof>,
    /// How many snapshots it lacks that another target has; `null` where it cannot be reached.
    pub behind: Option<u64>,
    /// Seconds since the oldest of these was taken; `null` where it lacks none.
    pub behind_seconds: Option<u64>,
    /// The target whose place it is: what both hold is one copy. `null` where it is a place of its own.
    pub same_place_as: Option<TargetName>,
    /// Bytes of its objects that no receipt named when it was last pruned; `null` where that was never looked at.
    pub unneeded_bytes: Option<u64>,
    /// Why it cannot be reached.
    pub error: Option<String>,
}

/// How old the newest snapshot may become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rpo {
    /// So old.
    pub within: Duration,
    /// Who says so.
    pub from: RpoSource,
}

/// Who says how old the newest snapshot may become.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RpoSource {
    /// Whoever looks.
    CommandLine,
    /// `rpo` of the database.
    Configuration,
    /// Nobody: it follows from the schedule of its snapshots.
    Schedule,
    /// Nobody, and there is no schedule either.
    Default,
}

impl RpoSource {
    /// In words.
    pub fn words(self) -> &'static str {
        match self {
            Self::CommandLine => "as the command line says",
            Self::Configuration => "as the configuration says",
            Self::Schedule => "from its schedule: no `rpo` is configured",
            Self::Default => "by default: it has neither `rpo` nor a schedule",
        }
    }
}

impl Rpo {
    /// A snapshot takes its time, however close its slots are.
    const SHORTEST: Duration = Duration::from_secs(600);
    /// Where nothing says how often there should be one.
    const UNSAID: Duration = Duration::from_secs(7 * 86_400);

    /// Of a configured database.
    pub(crate) fn of_database(db: &Database) -> Self {
        Self::of(db.rpo, || db.schedules.of(JobKind::Snapshot).map(Schedule::longest_gap))
    }

    /// What was agreed, or else what follows from the longest gap between two slots: half of that again for the snapshot
    /// itself, and for one that is a little late.
    pub(crate) fn of(agreed: Option<Duration>, longest_gap: impl FnOnce() -> Option<Duration>) -> Self {
        if let Some(within) = agreed {
            return Self { within, from: RpoSource::Configuration };
        }
        match longest_gap() {
            Some(gap) => {
                let within = gap.saturating_add(gap / 2).max(Self::SHORTEST);
                Self { within, from: RpoSource::Schedule }
            }
            None => Self { within: Self::UNSAID, from: RpoSource::Default },
        }
    }
}

/// What was agreed for a database.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Promises {
    /// How old its newest snapshot may become.
    pub rpo: Option<Rpo>,
    /// When there should be a first one at the latest, where none was tried yet and that is known.
    pub first_due_at: Option<Timestamp>,
    /// How old its newest proof by a drill of the agent may become.
    pub drill_every: Option<Duration>,
    /// How old the newest proof may become that its owner has a working key.
    pub key_proof_every: Option<Duration>,
    /// How many rows may be gone before that is odd; by default a quarter.
    pub rows_limit: Option<Percent>,
}
