//! Everything about one database.

use jiff::Timestamp;

use super::{Known, gaps, last_proof, proven_age, tone};
use crate::health::status::{DatabaseStatus, TargetStatus};
use crate::job::drill::report::CheckResult;
use crate::report::page::{Block, Cell, Column, Section, Table, Tone};
use crate::report::words::Words;

/// Facts, targets, and what is missing.
pub(super) fn section(database: &DatabaseStatus, known: &Known, now: Timestamp, words: Words<'_>) -> Section {
    let mut blocks =
        vec![Block::Facts(facts(database, known, now, words)), Block::Table(targets(database, words))];
    let gaps = gaps::gaps(database, known, now, words);
    if gaps.is_empty() {
        blocks.push(Block::Text(words.everything_proven().to_owned()));
    } else {
        blocks.extend([Block::Text(words.not_proven().to_owned()), Block::List(gaps)]);
    }
    if !database.conditions.is_empty() {
        let wrong = database.conditions.iter().map(|condition| {
            let remedy = words.shortened(&condition.remedy);
            format!("{} {remedy}", words.sentence(&condition.summary)).trim_end().to_owned()
        });
        blocks.extend([Block::Text(words.what_is_wrong().to_owned()), Block::List(wrong.collect())]);
    }
    Section::new(database.id().to_string(), blocks)
}

/// How long a recovery took, in seconds: in the last drill, if that passed, else in the one that the newest proof is of.
pub(super) fn recovery(database: &DatabaseStatus, known: &Known) -> Option<f64> {
    let last = database.last_drill.as_ref().filter(|drill| drill.passed).and_then(|drill| drill.rto_seconds);
    last.or_else(|| known.proof.as_ref()?.rto_seconds)
}

fn facts(
    database: &DatabaseStatus,
    known: &Known,
    now: Timestamp,
    words: Words<'_>,
) -> Vec<(&'static str, Cell)> {
    let state = Cell::Mark(tone(database.state), words.standing(database.state).to_owned());
    let newest = match (&database.snapshot, database.age_seconds, database.ahead_seconds) {
        (Some(snapshot), _, Some(ahead)) => {
            Cell::Mark(Tone::Bad, words.dated_ahead(snapshot, words.duration(ahead as f64)))
        }
        (Some(snapshot), Some(age), None) => Cell::Text(words.so_old(snapshot, words.duration(age as f64))),
        _ => Cell::Mark(Tone::Open, words.none_yet().to_owned()),
    };
    let mut facts = vec![(words.state(), state), (words.newest_snapshot(), newest)];
    match last_proof(database) {
        Some(proof) => {
            let (at, age) = (words.moment(proof.snapshot.time()), words.duration(proven_age(proof, now)));
            facts.push((words.last_proven(), Cell::Text(words.proof_is(&proof.snapshot, at, age))));
            let from = words.proof_from(words.level(proof.level), &proof.target, words.moment(proof.at));
            facts.push((words.proven_by(), Cell::Mark(Tone::Good, from)));
        }
        None => facts.push((words.last_proven(), Cell::Mark(Tone::Open, words.none_yet().to_owned()))),
    }
    facts.push((words.recovery_time(), recovery_cell(database, known, words)));
    facts.push((words.last_drill(), last_drill(database, words)));
    let failed = named(known, |result| result == CheckResult::Failed);
    if !failed.is_empty() && database.last_drill.as_ref().is_some_and(|drill| !drill.passed) {
        facts.push((words.failed_checks(), Cell::Name(failed.join(", "))));
    }
    facts
}

fn recovery_cell(database: &DatabaseStatus, known: &Known, words: Words<'_>) -> Cell {
    let promised = database.last_drill.as_ref().and_then(|drill| drill.rto_promised_seconds);
    match (recovery(database, known), promised.map(|rto| rto as f64)) {
        (None, _) => Cell::Mark(Tone::Open, words.not_measured().to_owned()),
        (Some(took), None) => Cell::Text(words.duration(took)),
        (Some(took), Some(rto)) if took > rto => {
            Cell::Mark(Tone::Bad, words.longer_than_promised(words.duration(took), words.duration(rto)))
        }
        (Some(took), Some(rto)) => Cell::Text(words.with_promise(words.duration(took), words.duration(rto))),
    }
}

fn last_drill(database: &DatabaseStatus, words: Words<'_>) -> Cell {
    let Some(drill) = &database.last_drill else {
        return Cell::Mark(Tone::Open, words.no_drill().to_owned());
    };
    let at = words.moment(drill.at);
    let from = drill.target.as_ref().map_or("?", |target| target.as_str());
    match drill.passed {
        true => Cell::Mark(Tone::Good, words.drill_passed_at(at, from)),
        false => {
            let stage = drill.failed_stage.as_deref().unwrap_or("?");
            Cell::Mark(Tone::Bad, words.drill_failed_at(at, stage))
        }
    }
}

/// The checks of the last drill that came out so.
fn named(known: &Known, so: impl Fn(CheckResult) -> bool) -> Vec<String> {
    let checks = known.last_drill.iter().flat_map(|report| &report.checks);
    checks.filter(|check| so(check.result)).map(|check| check.name.clone()).collect()
}

fn targets(database: &DatabaseStatus, words: Words<'_>) -> Table {
    let row = |target: &TargetStatus| {
        let snapshot = target.snapshot.as_ref().map(ToString::to_string);
        let (level, at) = match (target.levels.damaged, target.levels.highest()) {
            (Some(at), _) => (Cell::Mark(Tone::Bad, words.damaged().to_owned()), Some(at)),
            (None, Some((level, at))) => (Cell::Text(words.level(level).to_owned()), Some(at)),
            (None, None) => (Cell::Mark(Tone::Open, words.missing().to_owned()), None),
        };
        vec![
            Cell::Name(target.name.to_string()),
            snapshot.map_or_else(|| Cell::Text(String::new()), Cell::Name),
            level,
            at.map_or_else(|| Cell::Text(String::new()), Cell::Time),
            remark(target, words),
        ]
    };
    Table {
        caption: words.levels_caption(),
        columns: vec![
            Column::Left(words.target()),
            Column::Left(words.newest_there()),
            Column::Left(words.level_heading()),
            Column::Left(words.proven_on()),
            Column::Left(words.remark()),
        ],
        rows: database.targets.iter().map(row).collect(),
    }
}

fn remark(target: &TargetStatus, words: Words<'_>) -> Cell {
    match (&target.error, target.behind, &target.same_place_as) {
        (Some(_), ..) => Cell::Mark(Tone::Bad, words.not_reached().to_owned()),
        (None, Some(n), _) if n > 0 => Cell::Mark(Tone::Open, words.lacks(words.snapshots(n))),
        (None, _, Some(other)) => Cell::Mark(Tone::Open, words.same_place(other)),
        (None, _, None) => Cell::Text(String::new()),
    }
}
