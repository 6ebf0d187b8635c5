//! `marbre doctor`

use std::time::Duration;

use futures_util::future::{join, join_all};
use jiff::Timestamp;

use super::compose::channels;
use super::compose::{engines, glance, targets};
use super::context::Context;
use super::paint::{Line, Paint};
use super::{layout, output, signals};
use crate::cli::compose::surroundings;
use crate::error::{Error, Result};
use crate::health::doctor::{DoctorJob, DoctorReport, word};
use crate::model::check::{Check, CheckState};

/// Arguments of `doctor`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The database, by its name in the configuration [default: all]
    #[arg(value_name = "DB")]
    name: Option<String>,

    /// How long a target may be silent before the rest is shown without it [default: 4s]
    #[arg(long, value_name = "DURATION", value_parser = crate::config::duration)]
    wait: Option<Duration>,

    /// Show what is well too
    #[arg(long, short = 'v')]
    verbose: bool,
}

pub(crate) async fn run(args: &Args, context: &Context) -> Result<Option<Error>> {
    let cancel = signals::cancellation()?;
    let mut config = context.config()?;
    if let Some(name) = &args.name {
        let only = config.database(name)?.clone();
        config.targets.retain(|name, _| only.targets.contains(name));
        config.publishers.retain(|name, _| *name == only.id.publisher);
        config.databases = vec![only];
    }
    let patience = args.wait.unwrap_or(glance::PATIENCE);
    let opened = config.targets.keys().map(async |name| {
        let target = targets::at_a_glance(&config, name, patience);
        let (target, attackable) = join(target, targets::attackable_target(&config, name, patience)).await;
        ((name.clone(), target.map(|named| named.target)), (name.clone(), attackable))
    });
    let (targets, attackable) = join_all(opened).await.into_iter().unzip();
    let engines = config.databases.iter().map(|db| (db.id.clone(), engines::engine(db))).collect();
    let hosts = config.databases.iter().map(|db| (db.id.clone(), engines::drill_host(db))).collect();
    let alerts = channels::alert_channels(&config);
    let surroundings = surroundings::of(&config);
    let whole = args.name.is_none();
    let job = DoctorJob {
        config,
        targets,
        attackable,
        engines,
        hosts,
        channels: alerts,
        surroundings,
        patience,
        whole,
    };
    let report = job.run(Timestamp::now(), &cancel).await?;
    output::report(context.json, &report, |report| print(report, args.verbose, output::width()))?;
    Ok(report.error())
}

/// Blocks of what is not well, and a last line of totals. `verbose`: of everything.
fn print(report: &DoctorReport, verbose: bool, width: usize) {
    for block in blocks(report, verbose) {
        output::print_line(&[(Paint::Strong, block.title())]);
        for check in block.checks {
            let (paint, mark) = (of_state(check.state), format!("[{}]", word(check.state)));
            let found = layout::wrap(&format!("  {mark:<9} {}: {}", check.name, check.found), width, INDENT);
            let mut lines = found.lines();
            let first = lines.next().unwrap_or_default();
            // The mark is what the eye looks for.
            let (mark, rest) = first.split_at_checked(INDENT).unwrap_or((first, ""));
            output::print_line(&[(paint, mark.to_owned()), (Paint::Plain, rest.to_owned())]);
            lines.for_each(output::print);
            if let Some(remedy) = check.remedy.as_ref().filter(|_| check.state != CheckState::Ok) {
                let indented = format!("{}{remedy}", " ".repeat(INDENT));
                output::print(&layout::wrap(&indented, width, INDENT));
            }
        }
    }
    output::print_line(&totals(report, verbose));
}

const INDENT: usize = 12;

fn of_state(state: CheckState) -> Paint {
    match state {
        CheckState::Ok => Paint::Good,
        CheckState::Warn | CheckState::Skipped => Paint::Warning,
        CheckState::Fail => Paint::Bad,
    }
}

/// Checks that have one result, and the groups that all of them are in.
struct Block<'a> {
    groups: Vec<&'a str>,
    checks: Vec<&'a Check>,
}

impl Block<'_> {
    fn title(&self) -> String {
        match self.groups.as_slice() {
            [] => String::new(),
            [one] => (*one).to_owned(),
            [first, second] => format!("{first}, {second}"),
            [first, second, rest @ ..] => format!("{first}, {second} and {} more", rest.len()),
        }
    }
}

/// What is the same for many databases or targets is told once. What has failed comes first.
fn blocks(report: &DoctorReport, verbose: bool) -> Vec<Block<'_>> {
    let mut blocks: Vec<Block<'_>> = Vec::new();
    let mut told: Vec<&Check> = Vec::new();
    let is_shown = |check: &Check| verbose || check.state != CheckState::Ok;
    for (group, check) in report.checks.iter().filter(|(_, check)| is_shown(check)) {
        let alike = |other: &Check| other.state != CheckState::Ok && *other == *check;
        if told.iter().any(|other| alike(other)) {
            continue;
        }
        told.push(check);
        let of_others = report.checks.iter().filter(|(other, found)| alike(found) && other != group);
        let mut groups = vec![group.as_str()];
        groups.extend(of_others.map(|(other, _)| other.as_str()));
        match blocks.iter_mut().find(|block| block.groups == groups) {
            Some(block) => block.checks.push(check),
            None => blocks.push(Block { groups, checks: vec![check] }),
        }
    }
    let has_failed = |block: &Block<'_>| block.checks.iter().any(|check| check.state == CheckState::Fail);
    blocks.sort_by_key(|block| !has_failed(block));
    blocks
}

fn totals(report: &DoctorReport, verbose: bool) -> Line {
    let mut line = Line::new();
    for (state, words) in [
        (CheckState::Ok, "ok"),
        (CheckState::Warn, "warnings"),
        (CheckState::Fail, "failed"),
        (CheckState::Skipped, "not looked at"),
    ] {
        let n = report.number(state);
        let words = if n == 1 { words.trim_end_matches('s') } else { words };
        if !line.is_empty() {
            line.push((Paint::Plain, ", ".to_owned()));
        }
        let paint = if n == 0 && state != CheckState::Ok { Paint::Plain } else { of_state(state) };
        line.push((paint, format!("{n} {words}")));
    }
    if !verbose {
        line.push((Paint::Faint, " (-v shows what is well)".to_owned()));
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, state: CheckState) -> Check {
        Check { name: name.to_owned(), state, found: "found".to_owned(), remedy: None }
    }

    #[test]
    fn what_is_the_same_for_many_is_told_once_and_what_is_well_not_at_all() {
        let of = |group: &str, check: Check| (group.to_owned(), check);
        let report = DoctorReport {
            checks: vec![
                of("keys", check("recipients", CheckState::Warn)),
                of("database a", check("open", CheckState::Ok)),
                of("database a", check("rpo", CheckState::Warn)),
                of("database b", check("rpo", CheckState::Warn)),
                of("database b", check("open", CheckState::Fail)),
                of("database c", check("rpo", CheckState::Warn)),
            ],
        };
        let shown = |verbose| -> Vec<(String, usize)> {
            blocks(&report, verbose).iter().map(|block| (block.title(), block.checks.len())).collect()
        };
        let block = |title: &str| (title.to_owned(), 1);
        assert_eq!(
            shown(false),
            [block("database b"), block("keys"), block("database a, database b and 1 more")]
        );
        assert!(shown(true).contains(&block("database a")));
        let line: String = totals(&report, true).into_iter().map(|(_, text)| text).collect();
        assert_eq!(line, "1 ok, 4 warnings, 1 failed, 0 not looked at");
    }
}
