//! What an auditor looks at: checks, objects, stages, versions, signatures, and how to check all of it.

use super::cells::{MANY, engine, first_lines, text};
use crate::job::drill::report::{CheckReport, CheckResult, DrillReport, ObjectReport};
use crate::job::stopwatch::StageTime;
use crate::keys::allowed_signers::principal;
use crate::model::drill_stage::DrillStage;
use crate::model::isolation::Isolation;
use crate::report::page::{Bar, Block, Cell, Column, Section, Table, Tone};
use crate::report::words::Words;

/// Every check, with its answer. What was not run is not green.
pub(super) fn checks(report: &DrillReport, words: Words<'_>) -> Section {
    let heading = words.checks();
    if report.checks.is_empty() {
        return Section::new(heading, vec![Block::Text(words.no_check().to_owned())]);
    }
    let of = |group: u8| report.checks.iter().filter(|c| rank(c) == group).count() as u64;
    let mut summary = words.checks_summary(words.count(of(2)), words.count(of(0)), words.count(of(1)));
    if of(1) > 0 {
        summary += &format!(" {}", words.not_run_says_nothing());
    }
    let mut sorted: Vec<&CheckReport> = report.checks.iter().collect();
    sorted.sort_by_key(|check| rank(check));
    let (shown, rest) = sorted.split_at(sorted.len().min(MANY));
    let mut blocks = vec![
        Block::Text(summary),
        Block::Table(Table {
            caption: words.checks(),
            columns: vec![
                Column::Left(words.check()),
                Column::Left(words.result()),
                Column::Left(words.answer()),
                Column::Left(words.remark()),
            ],
            rows: shown.iter().map(|check| checked(check, words)).collect(),
        }),
    ];
    if !rest.is_empty() {
        blocks.push(Block::Text(words.further(words.more_checks(rest.len() as u64))));
    }
    Section::new(heading, blocks)
}

/// Failed ones first, passed ones last.
fn rank(check: &CheckReport) -> u8 {
    match check.result {
        CheckResult::Failed => 0,
        CheckResult::NoBaseline | CheckResult::Unavailable | CheckResult::Off => 1,
        CheckResult::Passed => 2,
    }
}

fn checked(check: &CheckReport, words: Words<'_>) -> Vec<Cell> {
    let (tone, word) = match check.result {
        CheckResult::Passed => (Tone::Good, words.check_passed()),
        CheckResult::Failed => (Tone::Bad, words.check_failed_word()),
        CheckResult::NoBaseline => (Tone::Open, words.no_baseline()),
        CheckResult::Unavailable => (Tone::Open, words.unavailable()),
        CheckResult::Off => (Tone::Open, words.switched_off()),
    };
    let value = check.value.as_deref().map(|value| match value.parse::<u64>() {
        Ok(n) if n.to_string() == value => words.count(n),
        _ => words.shortened(value),
    });
    vec![
        Cell::Name(check.name.clone()),
        Cell::Mark(tone, word.to_owned()),
        Cell::Text(value.unwrap_or_default()),
        text(check.message.as_deref().unwrap_or_else(|| asked(&check.name, words)), words),
    ]
}

/// What marbre's own checks ask; owners know what their own checks ask.
fn asked(check: &str, words: Words<'_>) -> &'static str {
    match check {
        "completeness" => words.asks_completeness(),
        "empty-tables" => words.asks_empty_tables(),
        "row-count" => words.asks_row_count(),
        "foreign-keys" => words.asks_foreign_keys(),
        "integrity" => words.asks_integrity(),
        "amcheck" => words.asks_amcheck(),
        _ => "",
    }
}

/// How many objects of each type.
pub(super) fn objects(report: &DrillReport, words: Words<'_>) -> Option<Section> {
    if report.objects.is_empty() {
        return None;
    }
    let row = |o: &ObjectReport| {
        let mark = match o.expected == o.found {
            true => Cell::Mark(Tone::Good, words.equal().to_owned()),
            false => Cell::Mark(Tone::Bad, words.different().to_owned()),
        };
        vec![
            Cell::Text(o.kind.clone()),
            Cell::Text(words.count(o.expected)),
            Cell::Text(words.count(o.found)),
            mark,
        ]
    };
    let table = Table {
        caption: words.objects_caption(),
        columns: vec![
            Column::Left(words.object_type()),
            Column::Right(words.expected()),
            Column::Right(words.found()),
            Column::Left(words.result()),
        ],
        rows: report.objects.iter().map(row).collect(),
    };
    Some(Section::new(words.objects_by_type(), vec![Block::Table(table)]))
}

/// How long each stage took.
pub(super) fn stages(report: &DrillReport, words: Words<'_>) -> Section {
    let longest = report.stages.iter().map(|s| s.seconds).fold(0.001, f64::max);
    let row = |s: &StageTime<DrillStage>| {
        let what = words.doing(s.name);
        let what = match report.failed_stage == Some(s.name) {
            true => Cell::Mark(Tone::Bad, words.failed_here(what)),
            false => Cell::Text(what.to_owned()),
        };
        let bar = Bar { share: s.seconds / longest, limit: None, hollow: !s.name.is_recovery() };
        vec![
            Cell::Name(s.name.word().to_owned()),
            what,
            Cell::Text(words.duration(s.seconds)),
            Cell::Bar(bar),
        ]
    };
    let table = Table {
        caption: words.stages_caption(),
        columns: vec![
            Column::Left(words.stage()),
            Column::Left(words.what_is_done()),
            Column::Right(words.time_taken()),
            Column::Bars(words.chart()),
        ],
        rows: report.stages.iter().map(row).collect(),
    };
    let text = words.drill_took(words.duration(report.seconds));
    let legend = Block::Legend(words.full_bars().to_owned());
    Section::new(words.stages(), vec![Block::Text(text), Block::Table(table), legend])
}

/// Which software was used.
pub(super) fn versions(report: &DrillReport, words: Words<'_>) -> Section {
    let unknown = || Cell::Mark(Tone::Open, words.unknown_ended().to_owned());
    let version =
        |version: &Option<String>| version.as_deref().map_or_else(unknown, |version| text(version, words));
    let facts = vec![
        (words.engine(), report.engine.as_deref().map_or_else(unknown, |name| text(engine(name), words))),
        (words.source_server(), version(&report.source_version)),
        (words.throwaway_server(), version(&report.scratch_version)),
        (
            words.database_code(),
            match report.isolation {
                Some(how @ Isolation::None) => Cell::Mark(Tone::Bad, words.isolation(how).to_owned()),
                Some(how) => Cell::Text(words.isolation(how).to_owned()),
                None => unknown(),
            },
        ),
        (words.drilled_by(), Cell::Text(format!("marbre {}", env!("CARGO_PKG_VERSION")))),
    ];
    Section::new(words.versions(), vec![Block::Facts(facts)])
}

/// What the proof depends on.
pub(super) fn signatures(report: &DrillReport, words: Words<'_>) -> Section {
    let mut facts = Vec::new();
    facts.extend(report.snapshot.as_ref().map(|s| (words.snapshot(), Cell::Name(s.to_string()))));
    facts.extend(report.epoch.as_ref().map(|e| (words.its_epoch(), Cell::Name(e.to_string()))));
    facts.extend(report.receipt_sha256.map(|hash| (words.receipt_hash(), Cell::Name(hash.to_string()))));
    facts.extend(
        report.snapshot_signer.as_deref().map(|s| (words.snapshot_signed_by(), Cell::Name(s.to_owned()))),
    );
    facts.push((words.drill(), Cell::Name(report.drill.to_string())));
    facts.push((words.drill_signed_by(), Cell::Name(report.signer.clone())));
    Section::new(words.signatures(), vec![Block::Facts(facts)])
}

/// How anybody can check it, without marbre.
pub(super) fn by_yourself(report: &DrillReport, words: Words<'_>) -> Section {
    let (drill, who) = (&report.drill, principal(report.by));
    let intro = words.page_is_for_reading(drill, format!("{}/{}", report.publisher, report.database));
    let mut commands = format!(
        "# {}\n\
         ssh-keygen -Y verify -f allowed_signers -I {who} -n drill-receipt@marbre \\\n    \
         -s drills/{drill}.json.sig < drills/{drill}.json\n\
         # {}\n\
         jq -r '.report.page + \"  {drill}.html\"' drills/{drill}.json | sha256sum -c\n",
        words.who_signed(),
        words.is_this_the_page()
    );
    if let Some(snapshot) = &report.snapshot {
        commands += &format!(
            "# {}\n\
             jq -r '.subject.receipt + \"  receipts/{snapshot}.json\"' drills/{drill}.json | sha256sum -c\n\
             ssh-keygen -Y verify -f allowed_signers -I agent -n snapshot-receipt@marbre \\\n    \
             -s receipts/{snapshot}.json.sig < receipts/{snapshot}.json\n\
             # {}\n\
             jq -r '.objects[] | .sha256 + \"  \" + .key' receipts/{snapshot}.json | sha256sum -c --quiet && echo intact\n",
            words.is_it_the_receipt(),
            words.is_everything_there()
        );
    }
    let answer =
        format!("Good \"drill-receipt@marbre\" signature for {who} with ED25519 key {}", report.signer);
    let outro = words.must_say(answer);
    let blocks = vec![Block::Text(intro), Block::Commands(commands), Block::Text(outro)];
    Section::new(words.check_yourself(), blocks)
}

/// The copy that was left for people.
pub(super) fn kept(report: &DrillReport, words: Words<'_>) -> Option<Section> {
    let how = report.kept.as_deref()?;
    let blocks =
        vec![Block::Text(words.kept_copy_is_readable().to_owned()), Block::Text(words.shortened(how))];
    Some(Section::new(words.kept_copy(), blocks))
}

/// What people should know.
pub(super) fn warnings(report: &DrillReport, words: Words<'_>) -> Option<Section> {
    if report.warnings.is_empty() {
        return None;
    }
    let lines: Vec<&String> = report.warnings.iter().collect();
    Some(Section::new(words.warnings(), vec![Block::List(first_lines(&lines, words))]))
}
