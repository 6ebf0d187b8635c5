//! The sentences that everybody should read.

use super::words::{at_stage, counted, maker, meaning, sentence, time};
use crate::job::drill::report::{CheckReport, CheckResult, DrillReport};
use crate::job::drill::verdict::Verdict;
use crate::model::human::duration;
use crate::model::level::By;

/// The sentences under the word.
pub(super) fn lead(report: &DrillReport, verdict: Verdict) -> Vec<String> {
    let mut lead = match verdict {
        Verdict::Passed(_) => passed(report),
        Verdict::Failed => failed(report),
        Verdict::Noticed => vec![
            format!("{} It failed where it had to, {}.", damaged(report), at_stage(report)),
            "This was a test of the drill, not of the backup: it shows that drills here can fail. It never counts as \
             proof that a snapshot can be restored. Only the drill's own copy was damaged."
                .to_owned(),
        ],
        Verdict::NotNoticed => vec![
            format!("{} It did not notice this where it had to.", damaged(report)),
            "Drills on this machine prove nothing until this is fixed, and those that passed here are in doubt. This \
             drill itself never counts as proof. Only its own copy was damaged."
                .to_owned(),
        ],
        Verdict::Untested => vec![
            format!(
                "The drill was meant to damage its own copy, and to notice that. It failed for another reason, {}, so nobody \
                 knows whether it would have noticed the damage.",
                at_stage(report)
            ),
            "A drill with sabotage never counts as proof, however it ends.".to_owned(),
        ],
    };
    lead.extend(aside(report));
    lead
}

fn passed(report: &DrillReport) -> Vec<String> {
    let tables = counted(report.tables.len() as u64, "table", "tables");
    let rows = counted(report.rows, "row", "rows");
    let mut lead = vec![format!(
        "The snapshot{} was restored completely from {}: {tables} with {rows}, all of them equal to what was saved.",
        report.consistent_at.map(|at| format!(" of {}", time(at))).unwrap_or_default(),
        report.target.as_ref().map_or("the target".to_owned(), |t| format!("the target {t}")),
    )];
    lead.extend(report.rto_seconds.map(|took| {
        let took_so_long = format!("The recovery took {}", duration(took));
        match report.rto_promised_seconds.map(|rto| rto as f64) {
            Some(rto) if took > rto => format!("{took_so_long}: longer than the promised {}.", duration(rto)),
            Some(rto) => format!("{took_so_long}, within the promised {}.", duration(rto)),
            None => format!("{took_so_long}. No limit has been agreed."),
        }
    }));
    lead.push(checks(report));
    lead.push(
        match report.by {
            By::Agent => {
                "It was opened with the key that the agent still holds. Only drills by the owner show whether the owner's own \
                 key opens it."
            }
            By::Owner => {
                "It was opened with the owner's own key, as it would be if the provider and its agent were gone."
            }
        }
        .to_owned(),
    );
    lead
}

fn checks(report: &DrillReport) -> String {
    let of = |wanted: CheckResult| report.checks.iter().filter(|c| c.result == wanted).count() as u64;
    let (passed, failed) = (of(CheckResult::Passed), of(CheckResult::Failed));
    let not_made = report.checks.len() as u64 - passed - failed;
    let passed = counted(passed, "check of the restored data passed", "checks of the restored data passed");
    match not_made {
        0 => format!("{passed}."),
        n => format!("{passed}; {}.", counted(n, "check was not run", "checks were not run")),
    }
}

fn failed(report: &DrillReport) -> Vec<String> {
    let checks: Vec<&CheckReport> =
        report.checks.iter().filter(|check| check.result == CheckResult::Failed).collect();
    let equal = !report.tables.is_empty() && report.tables.iter().all(|table| table.equal);
    let mut lead = match checks.as_slice() {
        checks @ [_, ..] if equal => failed_checks(report, checks),
        _ => {
            let why = report.error.as_ref().map(|e| sentence(&e.message)).unwrap_or_default();
            vec![format!("The drill failed {}: {why}", at_stage(report))]
        }
    };
    let remedy = report.error.as_ref().and_then(|e| e.remedy.as_deref());
    lead.extend(remedy.map(|r| format!("What to do: {}", sentence(r))));
    let counts = match (equal, checks.is_empty()) {
        (true, false) => "A drill with a failed check does not count as a proof.",
        (true, true) => "Every table came back as it was saved, but this drill does not count as a proof.",
        (false, _) => "This drill proves nothing about the snapshot.",
    };
    lead.push(counts.to_owned());
    lead
}

/// The checks that failed, by name: what was restored is what was saved, and something is wrong with that.
fn failed_checks(report: &DrillReport, checks: &[&CheckReport]) -> Vec<String> {
    let names: Vec<&str> = checks.iter().take(NAMED).map(|check| check.name.as_str()).collect();
    let more = match checks.len().saturating_sub(NAMED) as u64 {
        0 => String::new(),
        n => format!(" and {}", counted(n, "other", "others")),
    };
    let which = if checks.len() == 1 { "The check" } else { "The checks" };
    let tables = counted(report.tables.len() as u64, "table", "tables");
    let mut lead = vec![format!(
        "{which} {}{more} failed. The snapshot was restored completely, {tables} as they were saved.",
        names.join(", ")
    )];
    let why = checks
        .iter()
        .take(NAMED)
        .filter_map(|c| Some(format!("{}: {}", c.name, sentence(c.message.as_ref()?))));
    lead.extend(why);
    lead
}

/// So many failed checks are named at the head of the page.
const NAMED: usize = 3;

fn damaged(report: &DrillReport) -> String {
    let what = report.sabotage.as_ref().map_or("", |s| meaning(s.kind));
    format!("The drill by {} damaged its own copy on purpose: {what}.", maker(report.by))
}

/// What must not be missed at the end of the page.
fn aside(report: &DrillReport) -> Vec<String> {
    let kept = report.kept.as_ref().map(|_| {
        "The restored copy was left for people to look at. It is readable, and must be removed by hand: see “Kept copy”."
            .to_owned()
    });
    let warnings = match report.warnings.len() as u64 {
        0 => None,
        n => Some(format!(
            "There {}: see the end.",
            match n {
                1 => "is 1 warning".to_owned(),
                n => format!("are {}", counted(n, "warning", "warnings")),
            }
        )),
    };
    kept.into_iter().chain(warnings).collect()
}
