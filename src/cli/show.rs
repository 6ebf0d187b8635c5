//! `marbre show`

use jiff::Timestamp;

use super::context::Context;
use super::restore::wanted;
use super::{output, signals};
use crate::cli::compose::source::{Source, SourceArgs};
use crate::error::{Error, ErrorKind, Result};
use crate::job::list::{self, ShowReport};
use crate::job::recorded_at::RecordedAt;
use crate::job::restore::open::Wanted;
use crate::model::drill_stage::DrillStage;
use crate::model::human::{bytes, count, duration};
use crate::model::isolation::Isolation;
use crate::model::level::Levels;
use crate::model::observer::Observer;
use crate::model::visible::visible;
use crate::repository::decision_catalog::DecisionSummary;
use crate::repository::drill_catalog::DrillSummary;

/// Arguments of `show`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The snapshot, or `latest`
    #[arg(value_name = "SNAPSHOT")]
    snapshot: String,

    #[command(flatten)]
    source: SourceArgs,
}

pub(super) async fn run(args: &Args, context: &Context) -> Result<()> {
    let wanted = wanted(&args.snapshot)?;
    let cancel = signals::cancellation()?;
    let sources = Source::all(&args.source, None, None, context, &cancel).await?;
    let report = find(&sources, &wanted, &*context.observer(), &cancel).await?;
    output::report(context.json, &report, print)
}

/// A snapshot's name is enough to find it among several databases; `latest` is not.
async fn find(
    sources: &[Source],
    wanted: &Wanted,
    observer: &dyn Observer,
    cancel: &tokio_util::sync::CancellationToken,
) -> Result<ShowReport> {
    if *wanted == Wanted::Latest && sources.len() > 1 {
        return Err(Error::new(ErrorKind::Usage, "`latest` of which database?")
            .remedy("Say which with --database publisher/database."));
    }
    let mut last = Error::new(ErrorKind::NotFound, "there is no database to look in");
    for source in sources {
        match list::show(&source.reader(), wanted, observer, cancel).await {
            Ok(report) => return Ok(report),
            Err(e) if e.kind() == ErrorKind::NotFound => last = e,
            Err(e) => return Err(e),
        }
    }
    Err(last)
}

fn print(report: &ShowReport) {
    let listed = &report.listed;
    let kind = if listed.full { "full, begins its epoch" } else { "new data only" };
    // Whoever signed the receipt wrote some of the values: none of them begins a line of its own.
    let line = |name: &str, value: String| output::print(&format!("{name:<12}{}", visible(&value)));
    line("snapshot", format!("{} ({kind})", listed.snapshot));
    line("database", format!("{}/{}", listed.publisher, listed.database));
    line("state of", listed.consistent_at.to_string());
    line("run", format!("{} to {}", report.started_at, report.finished_at));
    line("engine", format!("{} {}", listed.engine, report.engine_version));
    if !report.tool_version.is_empty() {
        line("tool", report.tool_version.clone());
    }
    line(
        "content",
        format!("{} streams, {} rows, {}", report.streams, count(listed.rows), bytes(listed.bytes_read)),
    );
    line("new", format!("{}, stored as {}", bytes(listed.new_bytes), bytes(listed.stored_bytes)));
    line("restore", format!("fetches {} in {} objects", bytes(listed.size), report.objects.len()));
    line("epoch", listed.epoch.to_string());
    line("receipt", format!("number {}, {}", listed.sequence, report.receipt_sha256));
    line("signed by", format!("{} ({})", report.signer, report.agent));
    for recipient in &report.recipients {
        line("recipient", recipient.to_string());
    }
    for target in &listed.targets {
        line("target", format!("{}: {}", target.name, levels(&target.levels, |at| at.to_string())));
    }
    for drill in &report.drills {
        line("drill", drilled(drill));
    }
    if let Some(mark) = &listed.mark {
        line("retention", mark.to_string());
    }
    for decision in &report.decisions {
        line("decision", decided(decision));
    }
    for problem in &report.chain {
        line("CHAIN", problem.clone());
    }
}

/// One decision on a line.
pub(super) fn decided(decision: &DecisionSummary) -> String {
    let DecisionSummary { at, by, reason, about, .. } = decision;
    format!("{at} by {by}: {}: {reason}", about.join(", "))
}

/// Where a record was put, a line for each target.
pub(super) fn recorded(targets: &[RecordedAt]) {
    for target in targets {
        match &target.error {
            None => output::print(&format!("  target {}: recorded", target.name)),
            Some(e) => output::print(&format!("  target {}: FAILED: {e}", target.name)),
        }
    }
}

/// One drill on a line.
pub(super) fn drilled(drill: &DrillSummary) -> String {
    let target = drill.target.as_ref().map(|t| format!(" from {t}")).unwrap_or_default();
    let stage = drill.failed_stage.as_deref().unwrap_or(DrillStage::Start.word());
    let outcome = match (&drill.sabotage, drill.passed) {
        (Some(sabotage), _) => format!("sabotage `{}`, no proof", sabotage.word()),
        (None, true) => "passed".to_owned(),
        (None, false) => format!("FAILED at stage {stage}"),
    };
    let open = match drill.isolation {
        Some(how @ Isolation::None) => format!(", {}", how.meaning()),
        _ => String::new(),
    };
    let recovery = drill.rto_seconds.map(|s| format!(", recovered in {}", duration(s))).unwrap_or_default();
    format!("{} by the {}{target}: {outcome}{recovery}{open}", drill.drill, drill.by.word())
}

/// All levels with their times: they are never merged.
pub(super) fn levels(levels: &Levels, moment: impl Fn(Timestamp) -> String) -> String {
    let proven: Vec<String> = [
        ("stored", levels.stored),
        ("intact", levels.intact),
        ("restored", levels.restored),
        ("owner-restored", levels.owner_restored),
        ("DAMAGED", levels.damaged),
    ]
    .into_iter()
    .filter_map(|(word, at)| at.map(|at| format!("{word} {}", moment(at))))
    .collect();
    if proven.is_empty() { "missing".to_owned() } else { proven.join(", ") }
}
