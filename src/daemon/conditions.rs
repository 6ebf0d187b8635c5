//! Everything that is wrong now: what the last runs found, what the last look saw, what became of the last slots, and
//! what the daemon knows of itself.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

use super::work::Sight;
use crate::error::{Error, Result};
use crate::model::condition::{Condition, ConditionKind, IncidentKey, Severity};
use crate::model::human;
use crate::model::id::DatabaseId;
use crate::model::job::{JobKind, SlotState};
use crate::model::run::Run;
use crate::state::{SlotRecord, State};

/// A target may be behind for so long before anybody is told: the next sync is to catch up first.
const BEHIND: u64 = 2 * 3600;
/// A clock that is off by more than this is wrong.
const SKEW: SignedDuration = SignedDuration::from_mins(5);
/// How long a jump of the clock is told.
const REMEMBERED: SignedDuration = SignedDuration::from_hours(1);

/// What the daemon knows of itself: its clock, its state, its configuration.
#[derive(Debug)]
pub struct ClockWatch {
    wall: Timestamp,
    steady: Instant,
    jump: Option<(Timestamp, SignedDuration)>,
    state: Option<Error>,
    config: Option<Error>,
    trouble: Option<Error>,
    unsaved: BTreeMap<(DatabaseId, JobKind), Vec<Condition>>,
}

impl ClockWatch {
    /// Starts watching.
    pub fn new(now: Timestamp, trouble: Option<Error>) -> Self {
        Self {
            trouble,
            wall: now,
            steady: Instant::now(),
            jump: None,
            state: None,
            config: None,
            unsaved: BTreeMap::new(),
        }
    }

    /// Compares the clock with the time that has really passed.
    pub fn tick(&mut self, now: Timestamp) {
        let passed = SignedDuration::try_from(self.steady.elapsed()).unwrap_or(SignedDuration::ZERO);
        let off = now.duration_since(self.wall) - passed;
        if off.abs() > SKEW {
            self.jump = Some((now, off));
        } else if self.jump.is_some_and(|(at, _)| now.duration_since(at).abs() > REMEMBERED) {
            self.jump = None;
        }
        (self.wall, self.steady) = (now, Instant::now());
    }

    /// The state could not be written.
    pub fn state_failed(&mut self, e: &Error) {
        self.state = Some(e.clone());
    }

    /// The state could be written.
    pub fn state_works(&mut self) {
        self.state = None;
        self.unsaved.clear();
    }

    /// What a run found that could not be saved is kept here.
    pub fn unsaved(&mut self, database: &DatabaseId, kind: JobKind, run: &Run) {
        self.unsaved.insert((database.clone(), kind), run.conditions.clone());
    }

    /// How the last reload went.
    pub fn reloaded(&mut self, e: Option<&Error>) {
        self.config = e.cloned();
    }

    fn conditions(&self) -> Vec<Condition> {
        let mut found: Vec<Condition> = self.unsaved.values().flatten().cloned().collect();
        if let Some((_, off)) = self.jump {
            let word = if off.is_negative() { "back" } else { "ahead" };
            let by = human::duration(off.unsigned_abs().as_secs_f64());
            let summary = format!("The clock of this host was set {word} by {by}, or the host was asleep.");
            found.push(
                Condition::new(ConditionKind::ClockSkew, Severity::Warning, summary)
                    .object("jump")
                    .remedy("Check the time service (`timedatectl`): times in receipts, slots and locks follow this clock."),
            );
        }
        if let Some(e) = &self.state {
            let summary = "The agent cannot write its state.";
            found.push(
                Condition::new(ConditionKind::DiskLow, Severity::Critical, summary)
                    .object("state")
                    .error(e)
                    .remedy("Free space on the disk of `state_dir`, and check that the user of marbre may write there."),
            );
        }
        if let Some(e) = &self.trouble {
            let summary = format!("The daemon works, but {}.", e.message());
            let mut condition =
                Condition::new(ConditionKind::ConfigRefused, Severity::Warning, summary).object("web");
            condition.error = e.cause_text().map(str::to_owned);
            found.push(condition.remedy(e.remedy_text().unwrap_or_default()));
        }
        if let Some(e) = &self.config {
            let summary = "A new configuration was refused; the daemon goes on with the old one.";
            found.push(
                Condition::new(ConditionKind::ConfigRefused, Severity::Warning, summary).error(e).remedy(
                    "Run `marbre doctor`, mend the file, and send SIGHUP (`systemctl reload marbre`).",
                ),
            );
        }
        found
    }
}

/// Everything that is wrong now, each thing once.
pub fn all(
    state: &State,
    sight: &Sight,
    jobs: &[(DatabaseId, JobKind)],
    watch: &ClockWatch,
    now: Timestamp,
) -> Result<Vec<Condition>> {
    let mut found = watch.conditions();
    for (database, kind) in jobs {
        let record = state.last_slot(database, *kind)?;
        found.extend(record.and_then(|record| slot(database, *kind, &record)));
    }
    for database in databases(jobs, sight) {
        found.extend(crate::model::run::findings(&state.runs(&database)?));
    }
    let seen = sight.databases.iter().flat_map(|status| status.conditions.iter().cloned());
    found.extend(seen.filter(|condition| !is_young(condition, sight)));
    found.extend(sight.conditions.iter().cloned());
    found.extend(ahead(sight, now));
    let mut once: BTreeMap<IncidentKey, Condition> = BTreeMap::new();
    for mut condition in found {
        condition.proven_at = condition.proven_at.or_else(|| proven_at(&condition, sight));
        once.entry(condition.key()).or_insert(condition);
    }
    Ok(once.into_values().collect())
}

fn databases(jobs: &[(DatabaseId, JobKind)], sight: &Sight) -> std::collections::BTreeSet<DatabaseId> {
    let planned = jobs.iter().map(|(database, _)| database.clone());
    let seen = sight
        .databases
        .iter()
        .map(|s| DatabaseId { publisher: s.publisher.clone(), database: s.database.clone() });
    planned.chain(seen).collect()
}

/// What became of the last slot of a job.
fn slot(database: &DatabaseId, kind: JobKind, record: &SlotRecord) -> Option<Condition> {
    let at = record.slots.last;
    let why = record.detail.as_deref().unwrap_or("unknown");
    let make = |condition, summary: String, remedy: &str| {
        Condition::new(condition, Severity::Warning, summary).of(database).object(kind).remedy(remedy)
    };
    match record.state {
        SlotState::Overlapped => Some(make(
            ConditionKind::SlotOverlapped,
            format!("The {kind} of {at} was not started: {why}."),
            "Find out why the run before takes so long, or give the job more time between its slots.",
        )),
        SlotState::Missed => Some(make(
            ConditionKind::SlotMissed,
            format!("The {kind} of {at} was not started: {why}."),
            "Another marbre process was at work on this database; the next slot tries again.",
        )),
        // What was late is told even though it is made up for.
        _ if record.late.is_positive() && kind != JobKind::Sync => {
            let late = human::duration(record.late.as_secs_f64());
            let more = match record.slots.count {
                1 => String::new(),
                n => format!(" ({n} slots since {}, made up for by one run)", record.slots.first),
            };
            Some(make(
                ConditionKind::SlotMissed,
                format!("The {kind} of {at} started {late} late{more}: the daemon was not at work."),
                "Find out why the daemon was down: `journalctl -u marbre`.",
            ))
        }
        _ => None,
    }
}

/// A target that has just missed a snapshot is about to be caught up.
fn is_young(condition: &Condition, sight: &Sight) -> bool {
    if condition.kind != ConditionKind::TargetBehind {
        return false;
    }
    let of = |s: &&crate::job::status::DatabaseStatus| {
        condition.database.as_ref().is_some_and(|d| d.publisher == s.publisher && d.database == s.database)
    };
    let targets = sight.databases.iter().find(of).map(|s| s.targets.as_slice()).unwrap_or_default();
    let target = targets.iter().find(|t| Some(t.name.as_str()) == condition.object.as_deref());
    target.and_then(|t| t.behind_seconds).is_some_and(|age| age < BEHIND)
}

/// The state that could be restored for sure now.
fn proven_at(condition: &Condition, sight: &Sight) -> Option<Timestamp> {
    let database = condition.database.as_ref()?;
    let of = |s: &&crate::job::status::DatabaseStatus| {
        s.publisher == database.publisher && s.database == database.database
    };
    let status = sight.databases.iter().find(of)?;
    let proofs = status.targets.iter().filter_map(|t| t.restored.as_ref());
    proofs.map(|proof| proof.snapshot.time()).max()
}

/// A snapshot from the future: this clock is behind, or another one was ahead.
fn ahead(sight: &Sight, now: Timestamp) -> Option<Condition> {
    let newest = sight.databases.iter().filter_map(|s| s.consistent_at).max()?;
    let off = newest.duration_since(now);
    (off > SKEW).then(|| {
        let by = human::duration(off.unsigned_abs().as_secs_f64());
        let summary = format!("The newest snapshot is from {by} in the future: a clock is or was wrong.");
        Condition::new(ConditionKind::ClockSkew, Severity::Warning, summary)
            .object("future")
            .remedy("Check the time service of every host that writes to these targets.")
    })
}
