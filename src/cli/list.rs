//! `marbre list`

use super::context::Context;
use super::{output, signals};
use crate::cli::compose::source::{Source, SourceArgs};
use crate::error::{Error, ErrorKind, Result};
use crate::job::list::{self, ListReport, Listed};
use crate::model::human::{bytes, count};
use crate::model::level::Levels;
use crate::model::visible::visible;

/// Arguments of `list`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The database, by its name in the configuration [default: all]
    #[arg(value_name = "DB", conflicts_with = "database")]
    name: Option<String>,

    #[command(flatten)]
    source: SourceArgs,
}

pub(crate) async fn run(args: &Args, context: &Context) -> Result<()> {
    let cancel = signals::cancellation()?;
    let sources = Source::all(&args.source, args.name.as_deref(), None, context, &cancel).await?;
    let mut report = ListReport { snapshots: Vec::new(), set_aside: Vec::new(), problems: Vec::new() };
    for source in &sources {
        let one = list::list(&source.reader(), &cancel).await?;
        report.snapshots.extend(one.snapshots);
        report.set_aside.extend(one.set_aside);
        report.problems.extend(one.problems);
    }
    if report.snapshots.is_empty() && !report.problems.is_empty() {
        return Err(
            Error::new(ErrorKind::Target, "no snapshot can be shown").cause(report.problems.join("; "))
        );
    }
    output::report(context.json, &report, print)
}

fn print(report: &ListReport) {
    if report.snapshots.is_empty() {
        output::print("There is no snapshot yet.");
        return;
    }
    let header = ["SNAPSHOT", "DATABASE", "ENGINE", "ROWS", "NEW", "RESTORE", "TARGETS"];
    let rows: Vec<Vec<String>> = report.snapshots.iter().map(row).collect();
    output::print(&output::table(&header, &rows));
    if !report.set_aside.is_empty() {
        output::print("set aside (not of the history that goes on; restored only if named):");
        let rows: Vec<Vec<String>> = report.set_aside.iter().map(row).collect();
        output::print(&output::table(&header, &rows));
    }
    for snapshot in &report.snapshots {
        if let Some(mark) = &snapshot.mark {
            output::print(&format!("{}: {}", snapshot.snapshot, visible(&mark.to_string())));
        }
    }
    for problem in &report.problems {
        output::print(&format!("problem: {problem}"));
    }
}

fn row(snapshot: &Listed) -> Vec<String> {
    let kind = if snapshot.full { " full" } else { "" };
    let targets: Vec<String> =
        snapshot.targets.iter().map(|t| format!("{}: {}", t.name, word(&t.levels))).collect();
    vec![
        snapshot.snapshot.to_string(),
        format!("{}/{}", snapshot.publisher, snapshot.database),
        snapshot.engine.clone(),
        count(snapshot.rows),
        format!("{}{kind}", bytes(snapshot.stored_bytes)),
        bytes(snapshot.size),
        targets.join(", "),
    ]
}

/// The highest level, as a word.
pub(crate) fn word(levels: &Levels) -> &'static str {
    match (levels.damaged, levels.highest()) {
        (Some(_), _) => "DAMAGED",
        (None, Some((level, _))) => level.word(),
        (None, None) => "missing",
    }
}
