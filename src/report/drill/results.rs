//! What was tested, what was restored, how long it took, and what failed.

use super::words::{MANY, at_stage, counted, doing, last_stage, maker, meaning, shortened, text, time};
use super::{Bar, Block, Cell, Column, Section, Table, Tone};
use crate::job::drill::report::{DrillReport, TrendPoint};
use crate::job::drill::verdict::Verdict;
use crate::job::restore::TableReport;
use crate::model::human::{bytes, count, duration};
use crate::model::level::By;

/// What, from where, by whom.
pub(super) fn tested(report: &DrillReport) -> Section {
    let mut facts = vec![
        ("Publisher", Cell::Name(report.publisher.to_string())),
        ("Database", Cell::Name(report.database.to_string())),
    ];
    match (&report.snapshot, report.consistent_at) {
        (Some(snapshot), Some(at)) => {
            let age = report.started_at.duration_since(at).as_secs_f64();
            let before = match age >= 0.0 {
                true => format!("{}, {} before the drill started", time(at), duration(age)),
                false => time(at),
            };
            facts.push(("State of", Cell::Text(before)));
            facts.push(("Snapshot", Cell::Name(snapshot.to_string())));
        }
        _ => facts.push(("Snapshot", Cell::Mark(Tone::Open, "none was chosen".to_owned()))),
    }
    facts.push(match &report.target {
        Some(target) => ("From target", Cell::Name(target.to_string())),
        None => ("From target", Cell::Mark(Tone::Open, "none was chosen".to_owned())),
    });
    let opened = match report.by {
        By::Agent => "with the key of the epoch, which it still holds",
        By::Owner => "with their own restore key",
    };
    facts.push(("By", Cell::Text(format!("{}, {opened}", maker(report.by)))));
    facts.extend(report.scratch.as_deref().map(|scratch| ("Restored into", text(scratch))));
    facts.push(("Drill", Cell::Name(report.drill.to_string())));
    facts.push(("Started", Cell::Time(report.started_at)));
    facts.push(("Ended", Cell::Time(report.finished_at)));
    Section { heading: "What was tested", blocks: vec![Block::Facts(facts)] }
}

/// The damage that the drill did, and that it proves nothing.
pub(super) fn sabotage(report: &DrillReport) -> Option<Section> {
    let sabotage = report.sabotage.as_ref()?;
    let expected = sabotage.expected_stage;
    let noticed = match Verdict::of(report) {
        Verdict::Noticed => Cell::Mark(Tone::Good, format!("yes, {}", at_stage(report))),
        Verdict::NotNoticed => Cell::Mark(Tone::Bad, "NO".to_owned()),
        _ => Cell::Mark(Tone::Open, "not known: the drill failed for another reason".to_owned()),
    };
    let done = match &sabotage.done {
        Some(done) => text(done),
        None if Verdict::of(report) == Verdict::Untested => {
            Cell::Mark(Tone::Open, "nothing: the drill ended first".to_owned())
        }
        None => Cell::Text(meaning(sabotage.kind).to_owned()),
    };
    let facts = vec![
        ("Sabotage", Cell::Name(sabotage.kind.word().to_owned())),
        ("What was done", done),
        ("Had to be noticed", Cell::Text(format!("at the stage “{}”: {}", expected.word(), doing(expected)))),
        ("Was noticed", noticed),
        ("Counts as proof", Cell::Mark(Tone::Open, "never".to_owned())),
    ];
    Some(Section { heading: "The sabotage", blocks: vec![Block::Facts(facts)] })
}

/// The rows of each table.
pub(super) fn came_back(report: &DrillReport) -> Section {
    let heading = "What was restored";
    let total = report.tables.len() as u64;
    let mut facts = Vec::new();
    if total > 0 {
        let equal = report.tables.iter().filter(|t| t.equal).count() as u64;
        let tone = if equal == total { Tone::Good } else { Tone::Bad };
        facts.push(("Tables", Cell::Mark(tone, format!("{} of {} equal", count(equal), count(total)))));
        facts.push(("Rows", Cell::Text(count(report.rows))));
    }
    if report.bytes > 0 {
        facts.push(("Data of the snapshot", Cell::Text(bytes(report.bytes))));
    }
    if report.fetched_bytes > 0 {
        let how = format!("{}, compressed and encrypted", bytes(report.fetched_bytes));
        facts.push(("Fetched from the target", Cell::Text(how)));
    }
    let mut blocks = match facts.is_empty() {
        true => Vec::new(),
        false => vec![Block::Facts(facts)],
    };
    if total == 0 {
        let why = match report.objects.is_empty() {
            true => "Nothing was compared: the drill ended before that.",
            false => "The database has no table; its other objects were compared.",
        };
        blocks.push(Block::Text(why.to_owned()));
        blocks.extend(exceptions(report));
        blocks.extend(differences(report));
        return Section { heading, blocks };
    }
    if report.sabotage.is_some() {
        blocks
            .push(Block::Text("This is what the drill saw after its sabotage, in its own copy.".to_owned()));
    }
    blocks.push(Block::Text(
        "“Equal” means: as many rows as when the snapshot was taken, and the same digest over all of them."
            .to_owned(),
    ));
    blocks.extend(tables(&report.tables));
    blocks.extend(exceptions(report));
    blocks.extend(differences(report));
    Section { heading, blocks }
}

/// Different ones first, then the biggest; the rest as a number.
fn tables(tables: &[TableReport]) -> Vec<Block> {
    let mut sorted: Vec<&TableReport> = tables.iter().collect();
    sorted.sort_by(|a, b| {
        let key = |t: &TableReport| (t.equal, std::cmp::Reverse(t.expected_rows.max(t.rows)));
        key(a).cmp(&key(b)).then_with(|| a.name.cmp(&b.name))
    });
    let (shown, rest) = sorted.split_at(sorted.len().min(MANY));
    let row = |t: &&TableReport| {
        let mark = match (t.equal, t.rows == t.expected_rows) {
            (true, _) => Cell::Mark(Tone::Good, "equal".to_owned()),
            (false, true) => Cell::Mark(Tone::Bad, "DIFFERENT content".to_owned()),
            (false, false) => Cell::Mark(Tone::Bad, "DIFFERENT".to_owned()),
        };
        let (saved, found) = (Cell::Text(count(t.expected_rows)), Cell::Text(count(t.rows)));
        vec![Cell::Name(t.name.clone()), saved, found, mark]
    };
    let mut blocks = vec![Block::Table(Table {
        caption: "Tables: rows saved and rows restored",
        columns: vec![
            Column::Left("Table"),
            Column::Right("Rows saved"),
            Column::Right("Rows restored"),
            Column::Left("Result"),
        ],
        rows: shown.iter().map(row).collect(),
    })];
    if !rest.is_empty() {
        let rows: u64 = rest.iter().map(|t| t.rows).sum();
        let more = format!(
            "And {} with {}",
            counted(rest.len() as u64, "more table", "more tables"),
            counted(rows, "row", "rows")
        );
        blocks.push(Block::Text(match rest.iter().filter(|t| !t.equal).count() as u64 {
            0 => format!("{more}, all equal."),
            n => format!("{more}, of which {} DIFFERENT.", count(n)),
        }));
    }
    blocks
}

/// All of what could not be restored.
fn exceptions(report: &DrillReport) -> Vec<Block> {
    if report.exceptions.is_empty() {
        return Vec::new();
    }
    let lines = report.exceptions.iter().map(|e| shortened(&e.to_string())).collect();
    vec![Block::Text("Everything was restored except:".to_owned()), Block::List(lines)]
}

/// What the error itself has not said already.
fn differences(report: &DrillReport) -> Vec<Block> {
    let cause = report.error.as_ref().and_then(|e| e.cause.as_deref()).unwrap_or_default();
    let further: Vec<&String> = report.differences.iter().filter(|d| !cause.contains(d.as_str())).collect();
    if further.is_empty() {
        return Vec::new();
    }
    let mut lines: Vec<String> = further.iter().take(MANY).map(|d| shortened(d)).collect();
    if further.len() > MANY {
        lines.push(format!("and {} more", count((further.len() - MANY) as u64)));
    }
    vec![Block::Text("Differences, in words:".to_owned()), Block::List(lines)]
}

/// How long a recovery takes, against the promise and the drills before.
pub(super) fn recovery(report: &DrillReport, verdict: Verdict) -> Section {
    let rto = report.rto_promised_seconds.map(|rto| rto as f64);
    let passed = matches!(verdict, Verdict::Passed(_));
    let measured = match report.rto_seconds {
        Some(took) if passed => Cell::Text(duration(took)),
        Some(took) => {
            let why = if report.sabotage.is_some() { "was a sabotage" } else { "failed" };
            Cell::Text(format!("{}, which does not count, since the drill {why}", duration(took)))
        }
        None => Cell::Mark(
            Tone::Open,
            "not measured: the drill ended before the database was restored".to_owned(),
        ),
    };
    let promised =
        rto.map_or_else(|| "nothing has been agreed".to_owned(), |rto| format!("at most {}", duration(rto)));
    let mut facts = vec![("Recovery took", measured), ("Promised (RTO)", Cell::Text(promised))];
    if let (Some(took), Some(rto), true) = (report.rto_seconds, rto, passed) {
        facts.push((
            "Promise",
            match took > rto {
                true => Cell::Mark(Tone::Bad, "BROKEN".to_owned()),
                false => Cell::Mark(Tone::Good, "kept".to_owned()),
            },
        ));
    }
    let mut blocks = vec![
        Block::Facts(facts),
        Block::Text(
            "This is machine time, from the first receipt to the last index. In a real disaster, the time that people need \
             and the time to get a new server come on top."
                .to_owned(),
        ),
    ];
    blocks.extend(trend(report, rto));
    Section { heading: "How long a recovery takes", blocks }
}

fn trend(report: &DrillReport, rto: Option<f64>) -> Vec<Block> {
    let this = TrendPoint {
        drill: report.drill.clone(),
        at: report.finished_at,
        passed: report.passed,
        rto_seconds: report.rto_seconds,
    };
    // A sabotage is no drill to measure by.
    let this = report.sabotage.is_none().then_some(&this);
    if report.trend.is_empty() {
        return vec![Block::Text(format!(
            "There is no earlier drill by {} to compare with.",
            maker(report.by)
        ))];
    }
    let points: Vec<&TrendPoint> = report.trend.iter().chain(this).collect();
    let longest = points.iter().filter_map(|p| p.rto_seconds).fold(0.0, f64::max);
    // A promise far beyond every bar would leave nothing of them to see.
    let limit = rto.filter(|rto| *rto <= longest * 3.0);
    // A little room, so that a line at the end is seen whole.
    let scale = limit.unwrap_or(0.0).max(longest).max(0.001) * 1.02;
    let row = |p: &&TrendPoint| {
        let is_this = this.is_some_and(|this| this.drill == p.drill);
        let word = if p.passed { "passed" } else { "FAILED" };
        let word = if is_this { format!("{word} (this drill)") } else { word.to_owned() };
        let tone = if p.passed { Tone::Good } else { Tone::Bad };
        let took = p.rto_seconds.map_or_else(|| "not measured".to_owned(), duration);
        let share = p.rto_seconds.unwrap_or(0.0) / scale;
        let bar = Bar { share, limit: limit.map(|limit| limit / scale), hollow: !p.passed };
        vec![Cell::Time(p.at), Cell::Mark(tone, word), Cell::Text(took), Cell::Bar(bar)]
    };
    let explained = format!("The drills by {}, oldest first; sabotages are left out.", maker(report.by));
    let mut legend = Vec::new();
    if let Some(rto) = rto.filter(|_| longest > 0.0) {
        let promise = duration(rto);
        legend.push(match limit {
            Some(_) => format!("The line across the bars is the promise, {promise}."),
            None => format!("The promise, {promise}, is more than three times the longest bar."),
        });
    }
    if points.iter().any(|p| !p.passed && p.rto_seconds.is_some()) {
        legend.push("Hollow bars are of drills that failed.".to_owned());
    }
    let mut blocks = vec![
        Block::Text(explained),
        Block::Table(Table {
            caption: "Time of the recovery, drill by drill",
            columns: vec![
                Column::Left("Ended at"),
                Column::Left("Result"),
                Column::Right("Recovery"),
                Column::Bars("Chart"),
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
pub(super) fn failure(report: &DrillReport, verdict: Verdict) -> Option<Section> {
    let error = report.error.as_ref()?;
    let stage = last_stage(report);
    let at = format!("{}: {}", stage.word(), doing(stage));
    let noticed = verdict == Verdict::Noticed;
    let mut facts = vec![("Stage", Cell::Text(at)), ("What", text(&error.message))];
    facts.extend(error.cause.as_deref().map(|cause| ("Why", text(cause))));
    let remedy = match noticed {
        true => Some("Nothing: the drill failed as it had to."),
        false => error.remedy.as_deref(),
    };
    facts.extend(remedy.map(|remedy| ("What to do", text(remedy))));
    facts.push((
        "Exit code",
        Cell::Text(format!("{} (docs/EXIT-CODES.md says what it means)", error.exit_code)),
    ));
    let heading = if noticed { "How it was noticed" } else { "What failed" };
    Some(Section { heading, blocks: vec![Block::Facts(facts)] })
}
