//! The sentences that everybody should read.

use crate::job::drill::report::{CheckReport, CheckResult, DrillReport};
use crate::job::drill::verdict::Verdict;
use crate::model::level::By;
use crate::report::words::Words;

/// The sentences under the word.
pub(super) fn lead(report: &DrillReport, verdict: Verdict, words: Words<'_>) -> Vec<String> {
    let mut lead = match verdict {
        Verdict::Passed(_) => passed(report, words),
        Verdict::Failed => failed(report, words),
        Verdict::Noticed => vec![
            words.failed_where_it_had_to(damaged(report, words), words.at_stage(report)),
            words.test_of_the_drill().to_owned(),
        ],
        Verdict::NotNoticed => {
            vec![words.did_not_notice(damaged(report, words)), words.drills_prove_nothing().to_owned()]
        }
        Verdict::Untested => vec![
            words.failed_for_another_reason(words.at_stage(report)),
            words.sabotage_is_no_proof().to_owned(),
        ],
    };
    lead.extend(aside(report, words));
    lead
}

fn passed(report: &DrillReport, words: Words<'_>) -> Vec<String> {
    let from = report.target.as_ref().map_or(words.a_target().to_owned(), |t| words.the_target(t));
    let (tables, rows) = (words.tables(report.tables.len() as u64), words.rows(report.rows));
    let mut lead = vec![match report.consistent_at {
        Some(at) => words.restored_completely_of(words.moment(at), from, tables, rows),
        None => words.restored_completely(from, tables, rows),
    }];
    lead.extend(report.rto_seconds.map(|took| {
        let (time, rto) = (words.duration(took), report.rto_promised_seconds.map(|rto| rto as f64));
        match rto {
            Some(rto) if took > rto => words.recovery_too_long(time, words.duration(rto)),
            Some(rto) => words.recovery_in_time(time, words.duration(rto)),
            None => words.recovery_without_limit(time),
        }
    }));
    lead.push(checks(report, words));
    let opened = match report.by {
        By::Agent => words.opened_by_agent(),
        By::Owner => words.opened_by_owner(),
    };
    lead.push(opened.to_owned());
    lead
}

fn checks(report: &DrillReport, words: Words<'_>) -> String {
    let of = |wanted: CheckResult| report.checks.iter().filter(|c| c.result == wanted).count() as u64;
    let (passed, failed) = (of(CheckResult::Passed), of(CheckResult::Failed));
    let not_made = report.checks.len() as u64 - passed - failed;
    let passed = words.passed_checks(passed);
    match not_made {
        0 => format!("{passed}."),
        n => words.both(passed, words.skipped_checks(n)),
    }
}

fn failed(report: &DrillReport, words: Words<'_>) -> Vec<String> {
    let checks: Vec<&CheckReport> =
        report.checks.iter().filter(|check| check.result == CheckResult::Failed).collect();
    let equal = !report.tables.is_empty() && report.tables.iter().all(|table| table.equal);
    let mut lead = match checks.as_slice() {
        checks @ [_, ..] if equal => failed_checks(report, checks, words),
        _ => {
            let why = report.error.as_ref().map(|e| words.sentence(&e.message)).unwrap_or_default();
            vec![words.drill_failed(words.at_stage(report), why)]
        }
    };
    let remedy = report.error.as_ref().and_then(|e| e.remedy.as_deref());
    lead.extend(remedy.map(|remedy| words.what_to_do_is(words.sentence(remedy))));
    let counts = match (equal, checks.is_empty()) {
        (true, false) => words.failed_check_is_no_proof(),
        (true, true) => words.equal_but_no_proof(),
        (false, _) => words.proves_nothing(),
    };
    lead.push(counts.to_owned());
    lead
}

/// The checks that failed, by name: what was restored is what was saved, and something is wrong with that.
fn failed_checks(report: &DrillReport, checks: &[&CheckReport], words: Words<'_>) -> Vec<String> {
    let named = || checks.iter().take(NAMED);
    let names = named().map(|check| check.name.as_str()).collect::<Vec<_>>().join(", ");
    let names = match checks.len().saturating_sub(NAMED) as u64 {
        0 => names,
        n => words.and_others(names, words.others(n)),
    };
    let tables = words.tables(report.tables.len() as u64);
    let mut lead = vec![match checks.len() {
        1 => words.check_failed(names, tables),
        _ => words.checks_failed(names, tables),
    }];
    lead.extend(named().filter_map(|c| Some(words.pair(&c.name, words.sentence(c.message.as_ref()?)))));
    lead
}

/// So many failed checks are named at the head of the page.
const NAMED: usize = 3;

fn damaged(report: &DrillReport, words: Words<'_>) -> String {
    let what = report.sabotage.as_ref().map_or("", |s| words.damage(s.kind));
    match report.by {
        By::Agent => words.damaged_on_purpose_by_agent(what),
        By::Owner => words.damaged_on_purpose_by_owner(what),
    }
}

/// What must not be missed at the end of the page.
fn aside(report: &DrillReport, words: Words<'_>) -> Vec<String> {
    let kept = report.kept.as_ref().map(|_| words.copy_was_kept().to_owned());
    let warnings = match report.warnings.len() as u64 {
        0 => None,
        1 => Some(words.there_is(words.warnings_below(1))),
        n => Some(words.there_are(words.warnings_below(n))),
    };
    kept.into_iter().chain(warnings).collect()
}
