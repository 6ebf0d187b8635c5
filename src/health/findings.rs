//! What a run found wrong: from the report of a job to the conditions that people are told of.
//!
//! The same for runs of the daemon and of people, so that what one of them found broken, the other can find fixed.

use crate::error::{Error, ErrorKind, Origin};
use crate::job::drill::changes::BuiltIn;
use crate::job::drill::report::{CheckReport, CheckResult, DrillReport};
use crate::job::drill::verdict::Verdict;
use crate::job::prune::PruneReport;
use crate::job::snapshot::SnapshotReport;
use crate::job::sync::DatabaseSync;
use crate::job::verify::VerifyReport;
use crate::model::condition::{Condition, ConditionKind, Severity};
use crate::model::drill_stage::DrillStage;
use crate::model::human::{bytes, count, duration};
use crate::model::id::{DatabaseId, TargetName};
use crate::model::job::JobKind;
use crate::model::run::{Ending, Numbers, Run};
use crate::model::stage::Stage;
use crate::model::verdict::Word;

/// Fewer rows than this share of those of the snapshot before is worth an alert, and so is the inverse share more.
const BAND: f64 = 0.75;
/// Databases smaller than this may change by any factor.
const SMALL: u64 = 1000;

/// A run of `kind` that ended with an error, before it had anything to report.
pub(crate) fn failed(database: &DatabaseId, kind: JobKind, stage: Option<&str>, e: &Error) -> Run {
    let ending = match e.kind() {
        ErrorKind::Interrupted => Ending::Interrupted,
        ErrorKind::Conflict => Ending::Conflict,
        _ => Ending::Failed,
    };
    let conditions = match ending {
        Ending::Failed => vec![broken(database, kind, stage, e)],
        _ => Vec::new(),
    };
    Run {
        ending,
        detail: e.to_string(),
        proven: false,
        conditions,
        reached: Vec::new(),
        numbers: Numbers::default(),
    }
}

/// The condition that a failed run of a job is.
fn broken(database: &DatabaseId, kind: JobKind, stage: Option<&str>, e: &Error) -> Condition {
    use ConditionKind as C;
    let (condition, severity, what) = match kind {
        JobKind::Snapshot => (C::SnapshotFailed, Severity::Critical, "The last snapshot failed"),
        JobKind::Drill => (C::DrillFailed, Severity::Critical, "The last drill failed"),
        JobKind::Sabotage => (C::SabotageFailed, Severity::Warning, "The last drill with sabotage failed"),
        JobKind::Verify => (C::VerifyFailed, Severity::Warning, "The last verification failed"),
        JobKind::Prune => (C::PruneFailed, Severity::Warning, "The last prune failed"),
        JobKind::Sync => (C::SyncFailed, Severity::Warning, "The last sync failed"),
    };
    let severity = if e.kind() == ErrorKind::Verification { Severity::Critical } else { severity };
    let mut found = Condition::new(condition, severity, format!("{what}: {}.", e.message())).of(database);
    found.stage = stage.map(str::to_owned);
    found.error = e.cause_text().map(str::to_owned);
    if e.origin_known().is_some() {
        // In the same words, whichever job of whichever database met it.
        found.error = Some(e.why().to_owned());
    }
    let read = || match e.origin_known() {
        // Other databases, and their publishers, may share it.
        Some(_) => "Run `marbre doctor`: it looks at everything closely.".to_owned(),
        None => {
            format!(
                "Run `marbre doctor`, and read what came before it: `journalctl -u marbre -g {database}`."
            )
        }
    };
    found.remedy = e.remedy_text().filter(|text| !text.is_empty()).map_or_else(read, str::to_owned);
    found.origin(e.origin_known())
}

/// A failure that comes from a target, as one of this target.
fn coming_from(e: Error, target: Option<&TargetName>) -> Error {
    match target.filter(|_| e.kind() == ErrorKind::Target) {
        Some(name) => e.origin(Origin::Target(name.to_string())),
        None => e,
    }
}

/// A run that has done what it had to.
fn done(detail: String, conditions: Vec<Condition>, reached: Vec<TargetName>) -> Run {
    Run { ending: Ending::Done, detail, proven: true, conditions, reached, numbers: Numbers::default() }
}

/// A target that did not do what was asked of it.
fn failing(database: &DatabaseId, name: &TargetName, error: &str, remedy: Option<&str>) -> Condition {
    let summary = format!("Target {name} fails: {}.", error.trim_end_matches(['.', '?']));
    Condition::new(ConditionKind::TargetFailing, Severity::Warning, summary)
        .of(database)
        .object(name)
        .error(error)
        .origin(Some(Origin::Target(name.to_string())))
        .remedy(remedy.unwrap_or("Run `marbre doctor`: it looks at the target closely."))
}

/// A snapshot; `before`: what the last good one held.
pub(crate) fn of_snapshot(database: &DatabaseId, report: &SnapshotReport, before: Option<&Numbers>) -> Run {
    let mut conditions = Vec::new();
    let mut reached = Vec::new();
    for target in &report.targets {
        match &target.error {
            None => reached.push(target.name.clone()),
            Some(e) => conditions.push(failing(database, &target.name, e, target.remedy.as_deref())),
        }
    }
    let numbers = Numbers {
        rows: report.rows,
        bytes: report.bytes_read,
        new_bytes: report.new_bytes,
        stored_bytes: report.stored_bytes,
    };
    let stored = report.verdict != Word::Failed;
    if let Some(e) = report.error().filter(|_| !stored) {
        let failed = report.targets.iter().find(|target| target.error.is_some());
        let e = coming_from(e, failed.map(|target| &target.name));
        let mut found = broken(database, JobKind::Snapshot, Some(Stage::Commit.word()), &e);
        found.targets = verdicts(report);
        conditions.insert(0, found);
    }
    conditions.extend(before.and_then(|before| out_of_band(database, &numbers, before)));
    let detail = format!(
        "snapshot {}: {} rows, {}, {} new",
        report.snapshot,
        count(report.rows),
        bytes(report.bytes_read),
        bytes(report.new_bytes)
    );
    let ending = if stored { Ending::Done } else { Ending::Failed };
    Run { ending, proven: stored, numbers, ..done(detail, conditions, reached) }
}

fn verdicts(report: &SnapshotReport) -> Vec<(TargetName, String)> {
    let word = |target: &crate::job::snapshot::TargetReport| match (&target.level, &target.error) {
        (Some(level), _) => level.word().to_owned(),
        (None, error) => error.clone().unwrap_or_else(|| "unknown".to_owned()),
    };
    report.targets.iter().map(|target| (target.name.clone(), word(target))).collect()
}

/// A database that suddenly holds much less, or much more, may have been emptied or filled by mistake.
fn out_of_band(database: &DatabaseId, now: &Numbers, before: &Numbers) -> Option<Condition> {
    let outside = |now: u64, before: u64| {
        let (now_f, before_f) = (now as f64, before as f64);
        now.max(before) > SMALL && (now_f < before_f * BAND || now_f * BAND > before_f)
    };
    // Either is enough to make somebody look. A drill does not count all bytes that a snapshot reads.
    let (name, was, is) = if outside(now.rows, before.rows) {
        ("rows", count(before.rows), count(now.rows))
    } else if outside(now.bytes / 1024, before.bytes / 1024) {
        ("bytes", bytes(before.bytes), bytes(now.bytes))
    } else {
        return None;
    };
    let summary = format!(
        "The newest snapshot holds {is} {name}; the last one that was proven, or else the one before, held {was}."
    );
    let found = Condition::new(ConditionKind::SizeOutOfBand, Severity::Warning, summary).of(database);
    Some(found.remedy("Find out whether the database has really changed that much. Older snapshots still hold what was there before."))
}

/// A drill, with or without sabotage.
pub(crate) fn of_drill(database: &DatabaseId, report: &DrillReport) -> Run {
    let kind = if report.sabotage.is_some() { JobKind::Sabotage } else { JobKind::Drill };
    let error = report.error.as_ref().map(Error::from);
    let took = duration(report.seconds);
    let at = report.target.as_ref().map(|t| format!(" at target {t}")).unwrap_or_default();
    let numbers = Numbers { rows: report.rows, bytes: report.bytes, ..Numbers::default() };
    if let Some(e) = error.as_ref().filter(|e| e.kind() == ErrorKind::Interrupted) {
        return failed(database, kind, report.failed_stage.map(DrillStage::word), e);
    }
    let verdict = Verdict::of(report);
    let mut detail = format!("drill {}{at}: {} in {took}", report.drill, verdict.word());
    // A database that has nothing of a kind (no sequence, no index) cannot lose it.
    let nothing_there = error.as_ref().is_some_and(|e| e.kind() == ErrorKind::Preflight)
        && report.sabotage.as_ref().is_some_and(|s| report.failed_stage == Some(s.expected_stage));
    let condition = match (verdict, error) {
        (Verdict::Passed(_) | Verdict::Noticed, _) => None,
        (Verdict::Untested, _) if nothing_there => None,
        (Verdict::NotNoticed, _) => Some(unnoticed(database, report)),
        (Verdict::Failed | Verdict::Untested, e) => {
            let e = e.unwrap_or_else(|| Error::internal("the drill has not passed"));
            let e = coming_from(e, report.target.as_ref());
            let mut found = broken(database, kind, report.failed_stage.map(DrillStage::word), &e);
            // In the words of `status`, which knows the drill from its receipt.
            if kind == JobKind::Drill {
                let stage = report.failed_stage.unwrap_or(DrillStage::Start).word();
                let from = report.target.as_ref().map(|t| format!(" from target {t}")).unwrap_or_default();
                found.summary = format!("The last drill ({}{from}) FAILED at stage {stage}.", report.drill);
                found.error = Some(e.to_string());
            }
            // What a check asked for may be somebody's data: the answer stands in the report, and nowhere else.
            if report.failed_stage == Some(DrillStage::Checks) {
                found.summary = found.summary.replace(&format!(": {}", e.message()), "");
                found.error = Some(failed_checks(report));
            }
            detail += &format!(": {}", found.error.as_deref().unwrap_or(e.message()));
            Some(found)
        }
    };
    let proven = matches!(verdict, Verdict::Passed(_) | Verdict::Noticed);
    if condition.is_none() {
        let reached = report.target.clone().into_iter().collect();
        return Run { proven, numbers, ..done(detail, Vec::new(), reached) };
    }
    let run = done(detail, condition.into_iter().collect(), Vec::new());
    Run { ending: Ending::Failed, proven, numbers, ..run }
}

/// Checks of the owner by their names, since what they asked for may be somebody's data; of marbre's own also what they found:
/// names of tables and objects, and numbers.
fn failed_checks(report: &DrillReport) -> String {
    let failed = report.checks.iter().filter(|check| check.result == CheckResult::Failed);
    let named = |check: &CheckReport| match &check.message {
        Some(message) if BuiltIn::CHANGES.contains(&check.name.as_str()) => {
            format!("{} ({message})", check.name)
        }
        _ => check.name.clone(),
    };
    format!("failed checks: {}", failed.map(named).collect::<Vec<_>>().join(", "))
}

fn unnoticed(database: &DatabaseId, report: &DrillReport) -> Condition {
    let what = report.sabotage.as_ref().map_or("", |sabotage| sabotage.kind.word());
    let summary = format!("A drill damaged its own copy ({what}) and did NOT notice it.");
    Condition::new(ConditionKind::SabotageUnnoticed, Severity::Critical, summary).of(database).remedy(
        "Drills prove nothing on this host until this is understood. Keep the report, and tell the publisher.",
    )
}

/// A verification.
pub(crate) fn of_verify(database: &DatabaseId, report: &VerifyReport) -> Run {
    let detail = format!("{} objects, {} read back", count(report.objects), bytes(report.bytes));
    let numbers = Numbers { bytes: report.bytes, ..Numbers::default() };
    let whole = report.targets.iter().filter(|t| t.error.is_none()).map(|t| t.name.clone());
    // What a target lacks is said by every look.
    match report.error().filter(|e| e.kind() != ErrorKind::Degraded) {
        None => Run { numbers, ..done(detail, Vec::new(), whole.collect()) },
        Some(e) => {
            let failed = report.targets.iter().find(|target| target.error.is_some());
            let condition =
                broken(database, JobKind::Verify, None, &coming_from(e, failed.map(|target| &target.name)));
            let run = done(detail, vec![condition], whole.collect());
            Run { ending: Ending::Failed, proven: false, numbers, ..run }
        }
    }
}

/// A prune. That a lock keeps an object is no finding: it does what it is for. What holds snapshots is told by itself.
pub(crate) fn of_prune(database: &DatabaseId, report: &PruneReport) -> Run {
    let detail = format!("{} snapshots kept, {} deleted", report.kept.len(), report.deleted.len());
    match report.error().filter(|_| report.has_failed()) {
        None => done(detail, Vec::new(), Vec::new()),
        Some(e) => {
            let failed = report.targets.iter().find(|target| target.error.is_some());
            // What a target lets nobody delete is that target's problem, unless receipts are in doubt as well.
            let e = match failed.filter(|_| report.warnings.is_empty()) {
                Some(target) => e.origin(Origin::Target(target.name.to_string())),
                None => e,
            };
            let condition = broken(database, JobKind::Prune, None, &e);
            Run { ending: Ending::Failed, proven: false, ..done(detail, vec![condition], Vec::new()) }
        }
    }
}

/// A sync.
pub(crate) fn of_sync(database: &DatabaseId, report: &DatabaseSync) -> Run {
    let copied: u64 = report.targets.iter().map(|t| t.objects).sum();
    let mut detail = match copied {
        0 => "every target that answers holds everything".to_owned(),
        n => format!("{} objects copied", count(n)),
    };
    let away: Vec<&str> = report
        .targets
        .iter()
        .filter(|t| t.error.is_some() && !t.is_reached())
        .map(|t| t.name.as_str())
        .collect();
    if !away.is_empty() {
        detail += &format!("; not reached: {}", away.join(", "));
    }
    let mut conditions = Vec::new();
    let mut reached = Vec::new();
    for target in &report.targets {
        match &target.error {
            Some(e) if !target.is_reached() => {
                conditions.push(failing(database, &target.name, e, target.remedy.as_deref()));
            }
            None if !target.is_behind() => reached.push(target.name.clone()),
            _ => {}
        }
    }
    let damage = report.damaged.first().map(|first| {
        let what = format!("a sync came across {} damaged objects or receipts", report.damaged.len());
        let e = Error::verification(what)
            .cause(first.to_string())
            .remedy("Nothing damaged was copied. `marbre verify` checks everything, `marbre snapshot` sends lost data again.");
        broken(database, JobKind::Sync, None, &e)
    });
    conditions.extend(damage);
    let ending = if conditions.is_empty() { Ending::Done } else { Ending::Failed };
    Run { ending, proven: ending == Ending::Done, ..done(detail, conditions, reached) }
}
