//! Everything that is wrong now: what the last runs and the last look found, what became of the last slots, and what
//! the daemon knows about itself.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

use super::work::LookReport;
use crate::error::{Error, Result};
use crate::health::status::DatabaseStatus;
use crate::model::condition::{Condition, ConditionKind, Severity, first_of_each};
use crate::model::digest::Standing;
use crate::model::fold::fold;
use crate::model::human;
use crate::model::id::DatabaseId;
use crate::model::job::{JobKind, SlotState};
use crate::model::run::{Run, findings};
use crate::state::{DIED, SlotRecord, State};

/// For how many seconds a target may be behind before it is reported: the next sync may catch up first.
const BEHIND: u64 = 2 * 3600;
/// After this many crashes in a row the job is to blame.
const CRASHES: usize = 2;
/// A clock that is off by more than this is wrong.
const SKEW: SignedDuration = SignedDuration::from_mins(5);
/// How long a jump of the clock is reported.
const REMEMBERED: SignedDuration = SignedDuration::from_hours(1);

/// When a run began and ended, and its result.
type Unsaved = ((Timestamp, Timestamp), Run);

/// What the daemon knows about itself: its clock, its state, its configuration.
#[derive(Debug)]
pub(crate) struct SelfMonitor {
    wall: Timestamp,
    steady: Instant,
    jump: Option<(Timestamp, SignedDuration)>,
    state: Option<Error>,
    config: Option<Error>,
    startup_error: Option<Error>,
    look_failed: bool,
    unsaved: BTreeMap<(DatabaseId, JobKind), Unsaved>,
}

impl SelfMonitor {
    /// Starts monitoring.
    pub(crate) fn new(now: Timestamp, startup_error: Option<Error>) -> Self {
        Self {
            startup_error,
            look_failed: false,
            wall: now,
            steady: Instant::now(),
            jump: None,
            state: None,
            config: None,
            unsaved: BTreeMap::new(),
        }
    }

    /// Compares the clock with the time that has really passed.
    pub(crate) fn tick(&mut self, now: Timestamp) {
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
    pub(crate) fn state_failed(&mut self, e: &Error) {
        self.state = Some(e.clone());
    }

    /// The state could be written.
    pub(crate) fn state_works(&mut self) {
        if self.unsaved.is_empty() {
            self.state = None;
        }
    }

    /// Keeps the result of a run that could not be saved until it can be.
    pub(crate) fn unsaved(
        &mut self,
        database: &DatabaseId,
        kind: JobKind,
        times: (Timestamp, Timestamp),
        run: Run,
    ) {
        self.unsaved.insert((database.clone(), kind), (times, run));
    }

    /// Tries again to save what could not be saved.
    pub(crate) fn save(&mut self, state: &State) {
        self.unsaved
            .retain(|(database, kind), (times, run)| state.record_run(database, *kind, *times, run).is_err());
    }

    /// Notes whether the last look succeeded.
    pub(crate) fn looked(&mut self, succeeded: bool) {
        self.look_failed = !succeeded;
    }

    /// How the last reload went.
    pub(crate) fn reloaded(&mut self, e: Option<&Error>) {
        self.config = e.cloned();
    }

    fn conditions(&self) -> Vec<Condition> {
        let mut found: Vec<Condition> =
            self.unsaved.values().flat_map(|(_, run)| run.conditions.iter().cloned()).collect();
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
        if self.look_failed {
            let summary = "The daemon could not look at its targets: what it says about them is out of date.";
            found.push(
                Condition::new(ConditionKind::LookFailed, Severity::Critical, summary).remedy(
                    "Look for a target or a disk that hangs: `marbre doctor`, `journalctl -u marbre`.",
                ),
            );
        }
        if let Some(e) = &self.startup_error {
            let summary = format!("The daemon is running, but {}.", e.message());
            let mut condition =
                Condition::new(ConditionKind::ConfigRefused, Severity::Warning, summary).object("web");
            condition.error = e.cause_text().map(str::to_owned);
            found.push(condition.remedy(e.remedy_text().unwrap_or_default()));
        }
        if let Some(e) = &self.config {
            let summary = "A new configuration was refused; the daemon goes on with the old one.";
            found.push(
                Condition::new(ConditionKind::ConfigRefused, Severity::Warning, summary).error(e).remedy(
                    "Run `marbre doctor`, fix the file, and send SIGHUP (`systemctl reload marbre`).",
                ),
            );
        }
        found
    }
}

/// Everything that is wrong now, each thing once.
pub(crate) fn all(
    state: &State,
    look: &LookReport,
    jobs: &[(DatabaseId, JobKind)],
    monitor: &SelfMonitor,
    now: Timestamp,
) -> Result<Vec<Condition>> {
    let mut found = monitor.conditions();
    for database in databases(jobs, look) {
        let mut runs = state.runs(&database)?;
        let planned: Vec<JobKind> =
            jobs.iter().filter(|(of, _)| *of == database).map(|(_, kind)| *kind).collect();
        for kind in &planned {
            let succeeded = runs.iter().find(|run| run.kind == *kind).and_then(|run| run.succeeded_at);
            let records = state.recent_slots(&database, *kind, CRASHES + 1)?;
            found.extend(records.first().and_then(|record| slot(&database, *kind, record, succeeded, now)));
            found.extend(crashes(&database, *kind, &records));
        }
        // A failed job that is no longer scheduled is no longer a problem.
        runs.retain(|run| !matches!(run.kind, JobKind::Sync | JobKind::Prune) || planned.contains(&run.kind));
        found.extend(findings(&runs).into_iter().filter(|condition| is_configured(condition, look)));
    }
    let seen = look.databases.iter().flat_map(|status| status.conditions.iter().cloned());
    found.extend(seen.filter(|condition| !is_young(condition, look)));
    found.extend(look.conditions.iter().cloned());
    found.extend(look.unseen.iter().map(|(database, e)| {
        let summary = format!("The status of {database} is unknown: {}.", e.message());
        let mut condition =
            Condition::new(ConditionKind::LookFailed, Severity::Critical, summary).of(database);
        condition.error = e.cause_text().map(str::to_owned);
        if e.origin_known().is_some() {
            condition.error = Some(e.why().to_owned());
        }
        condition.origin(e.origin_known()).remedy(e.remedy_text().unwrap_or("Run `marbre doctor`."))
    }));
    let mut found = first_of_each(found);
    for condition in &mut found {
        let of_database = || proven_at(look.of(condition.database.as_ref()?)?);
        condition.proven_at = condition.proven_at.or_else(of_database);
    }
    Ok(fold(found))
}

fn databases(jobs: &[(DatabaseId, JobKind)], look: &LookReport) -> BTreeSet<DatabaseId> {
    let planned = jobs.iter().map(|(database, _)| database.clone());
    planned.chain(look.databases.iter().map(DatabaseStatus::id)).collect()
}

/// Whether its subject is still configured: a target that was removed from the configuration does not fail any more.
fn is_configured(condition: &Condition, look: &LookReport) -> bool {
    let status = condition.database.as_ref().and_then(|database| look.of(database));
    let target = condition.object.as_deref();
    condition.kind != ConditionKind::TargetFailing
        || status.is_none_or(|status| target.is_some_and(|name| status.target(name).is_some()))
}

/// A job that kills the daemon: it is run again at each start, and would otherwise never be reported.
fn crashes(database: &DatabaseId, kind: JobKind, records: &[SlotRecord]) -> Option<Condition> {
    let died = |record: &&SlotRecord| record.detail.as_deref() == Some(DIED);
    let ended = records.iter().filter(|record| record.state != SlotState::Running);
    let times = ended.take_while(died).count();
    (times >= CRASHES).then(|| {
        let summary = format!("The daemon died while it ran the {kind}, {times} times in a row.");
        Condition::new(ConditionKind::SlotMissed, Severity::Critical, summary)
            .of(database)
            .object(format!("{kind} died"))
            .remedy("Look for the cause in `journalctl -u marbre` and `dmesg`: memory, the watchdog, a bug.")
    })
}

/// The problem with the last slot of a job. A later run that succeeded, whoever started it, resolves it.
fn slot(
    database: &DatabaseId,
    kind: JobKind,
    record: &SlotRecord,
    succeeded: Option<Timestamp>,
    now: Timestamp,
) -> Option<Condition> {
    let resolved = succeeded.is_some_and(|at| at > record.at);
    let at = record.slots.last;
    let why = record.detail.as_deref().unwrap_or("unknown");
    let make = |condition, summary: String, remedy: &str| {
        Condition::new(condition, Severity::Warning, summary).of(database).object(kind).remedy(remedy)
    };
    match record.state {
        _ if resolved => None,
        SlotState::Overlapped => Some(make(
            ConditionKind::SlotOverlapped,
            format!("The {kind} of {at} was not started: {why}."),
            "Find out why the previous run takes so long, or give the job more time between its slots.",
        )),
        SlotState::Missed => Some(make(
            ConditionKind::SlotMissed,
            format!("The {kind} of {at} was not started: {why}."),
            "Another marbre process was working on this database; a snapshot is retried soon, other jobs at their next slot.",
        )),
        // A late run is reported even though it made up for the slot.
        SlotState::Done if now.duration_since(record.at) > REMEMBERED => None,
        _ if record.late.is_positive() && kind != JobKind::Sync => {
            let late = human::duration(record.late.as_secs_f64());
            let more = match record.slots.count {
                1 => String::new(),
                n => format!(" ({n} slots since {}, made up for by one run)", record.slots.first),
            };
            Some(make(
                ConditionKind::SlotMissed,
                format!(
                    "The {kind} of {at} started {late} late{more}: the daemon was not running, or was busy with other jobs."
                ),
                "Find out why: `journalctl -u marbre`. If jobs wait for each other, raise `parallel_jobs`.",
            ))
        }
        _ => None,
    }
}

/// Whether a target has only just missed a snapshot, and will probably be caught up.
fn is_young(condition: &Condition, look: &LookReport) -> bool {
    if condition.kind != ConditionKind::TargetBehind {
        return false;
    }
    let status = condition.database.as_ref().and_then(|database| look.of(database));
    let target = status.zip(condition.object.as_deref()).and_then(|(status, name)| status.target(name));
    target.and_then(|t| t.behind_seconds).is_some_and(|age| age < BEHIND)
}

/// How a database stands, for people who hear of it once in a while.
pub(super) fn standing(status: &DatabaseStatus) -> Standing {
    let drill = status.last_drill.as_ref();
    Standing {
        newest: status.consistent_at,
        late: status.late,
        proven: proven_at(status),
        unproven: status.conditions.iter().any(|condition| condition.kind == ConditionKind::DrillOverdue),
        recovery: drill.and_then(|drill| drill.rto_seconds).map(|seconds| (seconds * 1000.0) as u64),
        promised: drill.and_then(|drill| drill.rto_promised_seconds),
        rows: status.figures.as_ref().map_or(0, |figures| figures.rows),
        bytes: status.figures.as_ref().map_or(0, |figures| figures.bytes_read),
    }
}

/// The newest state that is proven to be restorable.
pub(super) fn proven_at(status: &DatabaseStatus) -> Option<Timestamp> {
    let proofs = status.targets.iter().filter_map(|t| t.restored.as_ref());
    proofs.map(|proof| proof.snapshot.time()).max()
}
