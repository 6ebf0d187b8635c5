//! What an auditor looks at: checks, objects, stages, versions, signatures, and how to check all of it.

use super::words::{MANY, counted, doing, engine, shortened, text};
use super::{Bar, Block, Cell, Column, Section, Table, Tone};
use crate::job::drill::report::{CheckReport, CheckResult, DrillReport, ObjectReport};
use crate::job::stopwatch::StageTime;
use crate::keys::allowed_signers::principal;
use crate::model::drill_stage::DrillStage;
use crate::model::human::{count, duration};
use crate::model::isolation::Isolation;

/// Every check, with its answer. What was not run is not green.
pub(super) fn checks(report: &DrillReport) -> Section {
    let heading = "Checks of the restored data";
    if report.checks.is_empty() {
        let none = "No check was run: the drill ended before that.".to_owned();
        return Section { heading, blocks: vec![Block::Text(none)] };
    }
    let of = |group: u8| report.checks.iter().filter(|c| rank(c) == group).count() as u64;
    let mut summary = format!("{} passed, {} failed, {} not run.", count(of(2)), count(of(0)), count(of(1)));
    if of(1) > 0 {
        summary += " A check that was not run says nothing.";
    }
    let mut sorted: Vec<&CheckReport> = report.checks.iter().collect();
    sorted.sort_by_key(|check| rank(check));
    let (shown, rest) = sorted.split_at(sorted.len().min(MANY));
    let mut blocks = vec![
        Block::Text(summary),
        Block::Table(Table {
            caption: "Checks of the restored data",
            columns: vec![
                Column::Left("Check"),
                Column::Left("Result"),
                Column::Left("Answer"),
                Column::Left("Remark"),
            ],
            rows: shown.iter().map(|check| checked(check)).collect(),
        }),
    ];
    if !rest.is_empty() {
        blocks.push(Block::Text(format!("And {}.", counted(rest.len() as u64, "more check", "more checks"))));
    }
    Section { heading, blocks }
}

/// Failed ones first, passed ones last.
fn rank(check: &CheckReport) -> u8 {
    match check.result {
        CheckResult::Failed => 0,
        CheckResult::NoBaseline | CheckResult::Unavailable | CheckResult::Off => 1,
        CheckResult::Passed => 2,
    }
}

fn checked(check: &CheckReport) -> Vec<Cell> {
    let (tone, word) = match check.result {
        CheckResult::Passed => (Tone::Good, "passed"),
        CheckResult::Failed => (Tone::Bad, "FAILED"),
        CheckResult::NoBaseline => (Tone::Open, "not run: no earlier value yet"),
        CheckResult::Unavailable => (Tone::Open, "not run: not possible here"),
        CheckResult::Off => (Tone::Open, "not run: switched off"),
    };
    let value = check.value.as_deref().map(|value| match value.parse::<u64>() {
        Ok(n) if n.to_string() == value => count(n),
        _ => shortened(value),
    });
    vec![
        Cell::Name(check.name.clone()),
        Cell::Mark(tone, word.to_owned()),
        Cell::Text(value.unwrap_or_default()),
        text(check.message.as_deref().unwrap_or_else(|| asked(&check.name))),
    ]
}

/// What marbre's own checks ask; owners know what their own checks ask.
fn asked(check: &str) -> &'static str {
    match check {
        "completeness" => "does the snapshot hold everything that the database has?",
        "empty-tables" => "did a table lose all its rows since the last proven snapshot?",
        "row-count" => "are there about as many rows as in the last proven snapshot?",
        "foreign-keys" => "does every reference lead to a row?",
        "integrity" => "does the engine find its own pages sound?",
        "amcheck" => "does the engine find its own indexes sound?",
        _ => "",
    }
}

/// How many objects of each type.
pub(super) fn objects(report: &DrillReport) -> Option<Section> {
    if report.objects.is_empty() {
        return None;
    }
    let row = |o: &ObjectReport| {
        let mark = match o.expected == o.found {
            true => Cell::Mark(Tone::Good, "equal".to_owned()),
            false => Cell::Mark(Tone::Bad, "DIFFERENT".to_owned()),
        };
        vec![Cell::Text(o.kind.clone()), Cell::Text(count(o.expected)), Cell::Text(count(o.found)), mark]
    };
    let table = Table {
        caption: "Objects of the database by type",
        columns: vec![
            Column::Left("Type"),
            Column::Right("Expected"),
            Column::Right("Found"),
            Column::Left("Result"),
        ],
        rows: report.objects.iter().map(row).collect(),
    };
    Some(Section { heading: "Objects by type", blocks: vec![Block::Table(table)] })
}

/// How long each stage took.
pub(super) fn stages(report: &DrillReport) -> Section {
    let longest = report.stages.iter().map(|s| s.seconds).fold(0.001, f64::max);
    let row = |s: &StageTime<DrillStage>| {
        let what = doing(s.name);
        let what = match report.failed_stage == Some(s.name) {
            true => Cell::Mark(Tone::Bad, format!("{what} (it failed here)")),
            false => Cell::Text(what.to_owned()),
        };
        let bar = Bar { share: s.seconds / longest, limit: None, hollow: !s.name.is_recovery() };
        vec![Cell::Name(s.name.word().to_owned()), what, Cell::Text(duration(s.seconds)), Cell::Bar(bar)]
    };
    let table = Table {
        caption: "Stages of the drill and how long they took",
        columns: vec![
            Column::Left("Stage"),
            Column::Left("What is done"),
            Column::Right("Time"),
            Column::Bars("Chart"),
        ],
        rows: report.stages.iter().map(row).collect(),
    };
    let text = format!(
        "The drill took {}. The stages from “receipts” to “index” are the recovery; the others exist in drills only.",
        duration(report.seconds)
    );
    let legend = Block::Legend("Full bars are the recovery, hollow ones the rest.".to_owned());
    Section { heading: "Stages", blocks: vec![Block::Text(text), Block::Table(table), legend] }
}

/// Which software was used.
pub(super) fn versions(report: &DrillReport) -> Section {
    let unknown = || Cell::Mark(Tone::Open, "not known: the drill ended before that".to_owned());
    let version = |version: &Option<String>| version.as_deref().map_or_else(unknown, text);
    let facts = vec![
        ("Engine", report.engine.as_deref().map_or_else(unknown, |name| text(engine(name)))),
        ("Source server", version(&report.source_version)),
        ("Throwaway server", version(&report.scratch_version)),
        (
            "Code of the database",
            match report.isolation {
                Some(Isolation::None) => Cell::Mark(Tone::Bad, "ran without a sandbox".to_owned()),
                Some(how) => text(&format!("ran {}", how.meaning())),
                None => unknown(),
            },
        ),
        ("Drilled by", Cell::Text(format!("marbre {}", env!("CARGO_PKG_VERSION")))),
    ];
    Section { heading: "Versions", blocks: vec![Block::Facts(facts)] }
}

/// What the proof depends on.
pub(super) fn signatures(report: &DrillReport) -> Section {
    let mut facts = Vec::new();
    facts.extend(report.snapshot.as_ref().map(|s| ("Snapshot", Cell::Name(s.to_string()))));
    facts.extend(report.epoch.as_ref().map(|e| ("Its epoch", Cell::Name(e.to_string()))));
    facts.extend(report.receipt_sha256.map(|hash| ("SHA-256 of its receipt", Cell::Name(hash.to_string()))));
    facts.extend(
        report.snapshot_signer.as_deref().map(|s| ("That receipt is signed by", Cell::Name(s.to_owned()))),
    );
    facts.push(("Drill", Cell::Name(report.drill.to_string())));
    facts.push(("Its receipt is signed by", Cell::Name(report.signer.clone())));
    Section { heading: "Signatures and hashes", blocks: vec![Block::Facts(facts)] }
}

/// How anybody can check it, without marbre.
pub(super) fn by_yourself(report: &DrillReport) -> Section {
    let (drill, who) = (&report.drill, principal(report.by));
    let intro = format!(
        "This page is for reading; the proof is the signed receipt of the drill, drills/{drill}.json. In the folder {}/{} of \
         a target, with the file allowed_signers that you trust and this report as HTML beside it:",
        report.publisher, report.database
    );
    let mut commands = format!(
        "# Who signed the receipt of this drill?\n\
         ssh-keygen -Y verify -f allowed_signers -I {who} -n drill-receipt@marbre \\\n    \
         -s drills/{drill}.json.sig < drills/{drill}.json\n\
         # Is this page the one that the receipt refers to?\n\
         jq -r '.report.page + \"  {drill}.html\"' drills/{drill}.json | sha256sum -c\n"
    );
    if let Some(snapshot) = &report.snapshot {
        commands += &format!(
            "# Is the snapshot's receipt the one that was drilled, and who signed it?\n\
             jq -r '.subject.receipt + \"  receipts/{snapshot}.json\"' drills/{drill}.json | sha256sum -c\n\
             ssh-keygen -Y verify -f allowed_signers -I agent -n snapshot-receipt@marbre \\\n    \
             -s receipts/{snapshot}.json.sig < receipts/{snapshot}.json\n\
             # Is every object of the snapshot still there, as it was written?\n\
             jq -r '.objects[] | .sha256 + \"  \" + .key' receipts/{snapshot}.json | sha256sum -c --quiet && echo intact\n"
        );
    }
    let outro = format!(
        "The first command must say: Good \"drill-receipt@marbre\" signature for {who} with ED25519 key {}. What the \
         drill proves is in the line \"level\" of the receipt; null means nothing.",
        report.signer
    );
    let blocks = vec![Block::Text(intro), Block::Commands(commands), Block::Text(outro)];
    Section { heading: "Check it yourself, without marbre", blocks }
}

/// The copy that was left for people.
pub(super) fn kept(report: &DrillReport) -> Option<Section> {
    let how = report.kept.as_deref()?;
    let blocks = vec![
        Block::Text(
            "The restored copy was left on the machine that made the drill. It holds the data unencrypted, personal \
             data included. Remove it as soon as nobody needs it."
                .to_owned(),
        ),
        Block::Text(shortened(how)),
    ];
    Some(Section { heading: "Kept copy", blocks })
}

/// What people should know.
pub(super) fn warnings(report: &DrillReport) -> Option<Section> {
    if report.warnings.is_empty() {
        return None;
    }
    let mut lines: Vec<String> = report.warnings.iter().take(MANY).map(|w| shortened(w)).collect();
    if report.warnings.len() > MANY {
        lines.push(format!("and {} more", count((report.warnings.len() - MANY) as u64)));
    }
    Some(Section { heading: "Warnings", blocks: vec![Block::List(lines)] })
}
