//! What was tested, what was restored, how long it took, and what failed.

use super::cells::{MANY, first_lines, last_stage, text};
use crate::job::drill::report::{DrillReport, TrendPoint};
use crate::job::drill::verdict::Verdict;
use crate::job::restore::TableReport;
use crate::model::level::By;
use crate::report::page::{Bar, Block, Cell, Column, Section, Table, Tone};
use crate::report::words::Words;

/// What, from where, by whom.
pub(super) fn tested(report: &DrillReport, words: Words<'_>) -> Section {
    let none = || Cell::Mark(Tone::Open, words.none_chosen().to_owned());
    let mut facts = vec![
        (words.publisher(), Cell::Name(report.publisher.to_string())),
        (words.database(), Cell::Name(report.database.to_string())),
    ];
    match (&report.snapshot, report.consistent_at) {
        (Some(snapshot), Some(at)) => {
            let age = report.started_at.duration_since(at).as_secs_f64();
            let before = match age >= 0.0 {
                true => words.before_the_drill(words.moment(at), words.duration(age)),
                false => words.moment(at),
            };
            facts.push((words.state_of(), Cell::Text(before)));
            facts.push((words.snapshot(), Cell::Name(snapshot.to_string())));
        }
        _ => facts.push((words.snapshot(), none())),
    }
    facts.push((words.of_target(), report.target.as_ref().map_or_else(none, |t| Cell::Name(t.to_string()))));
    let by = match report.by {
        By::Agent => words.by_agent_with_key(),
        By::Owner => words.by_owner_with_key(),
    };
    facts.push((words.by(), Cell::Text(by.to_owned())));
    facts.extend(report.scratch.as_deref().map(|scratch| (words.restored_into(), text(scratch, words))));
    facts.push((words.drill(), Cell::Name(report.drill.to_string())));
    facts.push((words.started(), Cell::Time(report.started_at)));
    facts.push((words.ended(), Cell::Time(report.finished_at)));
    Section::new(words.what_was_tested(), vec![Block::Facts(facts)])
}

/// The damage that the drill did, and that it proves nothing.
pub(super) fn sabotage(report: &DrillReport, words: Words<'_>) -> Option<Section> {
    let sabotage = report.sabotage.as_ref()?;
    let expected = sabotage.expected_stage;
    let noticed = match Verdict::of(report) {
        Verdict::Noticed => Cell::Mark(Tone::Good, words.noticed_yes(words.at_stage(report))),
        Verdict::NotNoticed => Cell::Mark(Tone::Bad, words.noticed_no().to_owned()),
        _ => Cell::Mark(Tone::Open, words.noticed_unknown().to_owned()),
    };
    let done = match &sabotage.done {
        Some(done) => text(done, words),
        None if Verdict::of(report) == Verdict::Untested => {
            Cell::Mark(Tone::Open, words.nothing_done().to_owned())
        }
        None => Cell::Text(words.damage(sabotage.kind).to_owned()),
    };
    let facts = vec![
        (words.sabotage(), Cell::Name(sabotage.kind.word().to_owned())),
        (words.what_was_done(), done),
        (words.had_to_be_noticed(), Cell::Text(words.at_the_stage(expected.word(), words.doing(expected)))),
        (words.was_noticed(), noticed),
        (words.counts_as_proof(), Cell::Mark(Tone::Open, words.never().to_owned())),
    ];
    Some(Section::new(words.the_sabotage(), vec![Block::Facts(facts)]))
}

/// The rows of each table.
pub(super) fn came_back(report: &DrillReport, words: Words<'_>) -> Section {
    let heading = words.what_was_restored();
    let total = report.tables.len() as u64;
    let mut facts = Vec::new();
    if total > 0 {
        let equal = report.tables.iter().filter(|t| t.equal).count() as u64;
        let tone = if equal == total { Tone::Good } else { Tone::Bad };
        let equal = words.so_many_equal(words.count(equal), words.count(total));
        facts.push((words.tables_heading(), Cell::Mark(tone, equal)));
        facts.push((words.rows_heading(), Cell::Text(words.count(report.rows))));
    }
    if report.bytes > 0 {
        facts.push((words.snapshot_data(), Cell::Text(words.bytes(report.bytes))));
    }
    if report.fetched_bytes > 0 {
        let how = words.compressed(words.bytes(report.fetched_bytes));
        facts.push((words.fetched(), Cell::Text(how)));
    }
    let mut blocks = match facts.is_empty() {
        true => Vec::new(),
        false => vec![Block::Facts(facts)],
    };
    if total == 0 {
        let why = match report.objects.is_empty() {
            true => words.nothing_compared(),
            false => words.no_table(),
        };
        blocks.push(Block::Text(why.to_owned()));
        blocks.extend(exceptions(report, words));
        blocks.extend(differences(report, words));
        return Section::new(heading, blocks);
    }
    if report.sabotage.is_some() {
        blocks.push(Block::Text(words.after_sabotage().to_owned()));
    }
    blocks.push(Block::Text(words.what_equal_means().to_owned()));
    blocks.extend(tables(&report.tables, words));
    blocks.extend(exceptions(report, words));
    blocks.extend(differences(report, words));
    Section::new(heading, blocks)
}

/// Different ones first, then the biggest; the rest as a number.
fn tables(tables: &[TableReport], words: Words<'_>) -> Vec<Block> {
    let mut sorted: Vec<&TableReport> = tables.iter().collect();
    sorted.sort_by(|a, b| {
        let key = |t: &TableReport| (t.equal, std::cmp::Reverse(t.expected_rows.max(t.rows)));
        key(a).cmp(&key(b)).then_with(|| a.name.cmp(&b.name))
    });
    let (shown, rest) = sorted.split_at(sorted.len().min(MANY));
    let row = |t: &&TableReport| {
        let mark = match (t.equal, t.rows == t.expected_rows) {
            (true, _) => Cell::Mark(Tone::Good, words.equal().to_owned()),
            (false, true) => Cell::Mark(Tone::Bad, words.different_content().to_owned()),
            (false, false) => Cell::Mark(Tone::Bad, words.different().to_owned()),
        };
        let (saved, found) = (Cell::Text(words.count(t.expected_rows)), Cell::Text(words.count(t.rows)));
        vec![Cell::Name(t.name.clone()), saved, found, mark]
    };
    let mut blocks = vec![Block::Table(Table {
        caption: words.tables_caption(),
        columns: vec![
            Column::Left(words.table()),
            Column::Right(words.rows_saved()),
            Column::Right(words.rows_restored()),
            Column::Left(words.result()),
        ],
        rows: shown.iter().map(row).collect(),
    })];
    if !rest.is_empty() {
        let rows: u64 = rest.iter().map(|t| t.rows).sum();
        let (more, rows) = (words.more_tables(rest.len() as u64), words.rows(rows));
        blocks.push(Block::Text(match rest.iter().filter(|t| !t.equal).count() as u64 {
            0 => words.further_all_equal(more, rows),
            n => words.further_different(more, rows, words.count(n)),
        }));
    }
    blocks
}

/// All of what could not be restored.
fn exceptions(report: &DrillReport, words: Words<'_>) -> Vec<Block> {
    if report.exceptions.is_empty() {
        return Vec::new();
    }
    let lines = report.exceptions.iter().map(|e| words.shortened(&e.to_string())).collect();
    vec![Block::Text(words.except().to_owned()), Block::List(lines)]
}

/// What the error itself has not said already.
fn differences(report: &DrillReport, words: Words<'_>) -> Vec<Block> {
    let cause = report.error.as_ref().and_then(|e| e.cause.as_deref()).unwrap_or_default();
    let further: Vec<&String> = report.differences.iter().filter(|d| !cause.contains(d.as_str())).collect();
    if further.is_empty() {
        return Vec::new();
    }
    vec![Block::Text(words.differences().to_owned()), Block::List(first_lines(&further, words))]
}

/// How long a recovery takes, against the promise and the drills before.
pub(super) fn recovery(report: &DrillReport, verdict: Verdict, words: Words<'_>) -> Section {
    let rto = report.rto_promised_seconds.map(|rto| rto as f64);
    let passed = matches!(verdict, Verdict::Passed(_));
    let measured = match report.rto_seconds {
        Some(took) if passed => Cell::Text(words.duration(took)),
        Some(took) if report.sabotage.is_some() => {
            Cell::Text(words.does_not_count_sabotage(words.duration(took)))
        }
        Some(took) => Cell::Text(words.does_not_count_failed(words.duration(took))),
        None => Cell::Mark(Tone::Open, words.not_measured_ended().to_owned()),
    };
    let promised =
        rto.map_or_else(|| words.nothing_agreed().to_owned(), |rto| words.at_most(words.duration(rto)));
    let mut facts = vec![(words.recovery_took(), measured), (words.promised(), Cell::Text(promised))];
    if let (Some(took), Some(rto), true) = (report.rto_seconds, rto, passed) {
        facts.push((
            words.promise(),
            match took > rto {
                true => Cell::Mark(Tone::Bad, words.broken().to_owned()),
                false => Cell::Mark(Tone::Good, words.kept().to_owned()),
            },
        ));
    }
    let mut blocks = vec![Block::Facts(facts), Block::Text(words.machine_time().to_owned())];
    blocks.extend(trend(report, rto, words));
    Section::new(words.how_long(), blocks)
}

fn trend(report: &DrillReport, rto: Option<f64>, words: Words<'_>) -> Vec<Block> {
    let this = TrendPoint {
        drill: report.drill.clone(),
        at: report.finished_at,
        passed: report.passed,
        rto_seconds: report.rto_seconds,
    };
    // A sabotage is no drill to measure by.
    let this = report.sabotage.is_none().then_some(&this);
    if report.trend.is_empty() {
        return vec![Block::Text(words.no_earlier_drill(words.made_by(report.by)))];
    }
    let points: Vec<&TrendPoint> = report.trend.iter().chain(this).collect();
    let longest = points.iter().filter_map(|p| p.rto_seconds).fold(0.0, f64::max);
    // A promise far beyond every bar would leave nothing of them to see.
    let limit = rto.filter(|rto| *rto <= longest * 3.0);
    // A little room, so that a line at the end is seen whole.
    let scale = limit.unwrap_or(0.0).max(longest).max(0.001) * 1.02;
    let row = |p: &&TrendPoint| {
        let is_this = this.is_some_and(|this| this.drill == p.drill);
        let word = if p.passed { words.drill_passed() } else { words.drill_failed_word() };
        let word = if is_this { words.this_drill(word) } else { word.to_owned() };
        let tone = if p.passed { Tone::Good } else { Tone::Bad };
        let took = p.rto_seconds.map_or_else(|| words.not_measured().to_owned(), |took| words.duration(took));
        let share = p.rto_seconds.unwrap_or(0.0) / scale;
        let bar = Bar { share, limit: limit.map(|limit| limit / scale), hollow: !p.passed };
        vec![Cell::Time(p.at), Cell::Mark(tone, word), Cell::Text(took), Cell::Bar(bar)]
    };
    let explained = words.drills_listed(words.made_by(report.by));
    let mut legend = Vec::new();
    if let Some(rto) = rto.filter(|_| longest > 0.0) {
        let promise = words.duration(rto);
        legend.push(match limit {
            Some(_) => words.line_is_promise(promise),
            None => words.promise_is_far(promise),
        });
    }
    if points.iter().any(|p| !p.passed && p.rto_seconds.is_some()) {
        legend.push(words.hollow_failed().to_owned());
    }
    let mut blocks = vec![
        Block::Text(explained),
        Block::Table(Table {
            caption: words.trend_caption(),
            columns: vec![
                Column::Left(words.ended_at()),
                Column::Left(words.result()),
                Column::Right(words.recovery()),
                Column::Bars(words.chart()),
            ],
            rows: points.iter().map(row).collect(),
        }),
    ];
    if !legend.is_empty() {
        blocks.push(Block::Legend(legend.join(" ")));
    }
    blocks
}

/// What failed; of a sabotage, how it was noticed.
pub(super) fn failure(report: &DrillReport, verdict: Verdict, words: Words<'_>) -> Option<Section> {
    let error = report.error.as_ref()?;
    let stage = last_stage(report);
    let at = words.stage_is(stage.word(), words.doing(stage));
    let noticed = verdict == Verdict::Noticed;
    let mut facts = vec![(words.stage(), Cell::Text(at)), (words.what(), text(&error.message, words))];
    facts.extend(error.cause.as_deref().map(|cause| (words.why(), text(cause, words))));
    let remedy = match noticed {
        true => Some(words.nothing_to_do()),
        false => error.remedy.as_deref(),
    };
    facts.extend(remedy.map(|remedy| (words.what_to_do(), text(remedy, words))));
    facts.push((words.exit_code(), Cell::Text(words.exit_code_is(error.exit_code))));
    let heading = if noticed { words.how_noticed() } else { words.what_failed() };
    Some(Section::new(heading, vec![Block::Facts(facts)]))
}
