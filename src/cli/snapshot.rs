//! `marbre snapshot`

use jiff::Timestamp;

use super::compose::jobs;
use super::context::Context;
use super::{output, signals};
use crate::cli::compose::launcher;
use crate::error::{Error, Result};
use crate::health::findings;
use crate::job::snapshot::SnapshotReport;
use crate::model::human::{bytes, count, duration};
use crate::model::job::JobKind;
use crate::model::verdict::Word;

/// Arguments of `snapshot`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The database, by its name in the configuration
    #[arg(value_name = "DB")]
    database: String,
}

pub(crate) async fn run(args: &Args, context: &Context) -> Result<Option<Error>> {
    // First of all: from here on a signal ends the run gracefully.
    let cancel = signals::cancellation()?;
    let config = context.config()?;
    let database = config.database(&args.database)?;
    jobs::sweep_scratch(&config, &*context.observer()).await?;
    let job = jobs::snapshot_job(&config, database).await?;
    let (id, state) = (&database.id, job.state.clone());
    let before = launcher::last_numbers(&state, id)?;
    let started = Timestamp::now();
    let report = job.run(started, context.observer(), &cancel).await;
    jobs::record(&state, (id, JobKind::Snapshot, started), &report, |report| {
        findings::of_snapshot(id, report, before.as_ref())
    })?;
    let report = report?;
    output::report(context.json, &report, print)?;
    Ok(report.error())
}

/// What people see.
pub(crate) fn print(report: &SnapshotReport) {
    let verdict = match report.verdict {
        Word::Complete => "complete: every target holds it",
        Word::Degraded => "degraded: enough targets hold it, but not all",
        Word::Failed => "failed: too few targets hold it",
    };
    output::print(&format!("snapshot {} of {}/{}", report.snapshot, report.publisher, report.database));
    output::print(&format!("  verdict   {verdict}"));
    let kind = if report.full { "full, begins" } else { "new data only, in" };
    output::print(&format!("  epoch     {} ({kind} the epoch)", report.epoch));
    output::print(&format!("  read      {} rows, {}", count(report.rows), bytes(report.bytes_read)));
    output::print(&format!(
        "  new       {} of data, {} stored after compression and encryption",
        bytes(report.new_bytes),
        bytes(report.stored_bytes)
    ));
    output::print(&format!("  took      {}", duration(report.seconds)));
    for target in &report.targets {
        match (&target.level, &target.error) {
            (Some(level), _) => output::print(&format!("  target    {}: {}", target.name, level.word())),
            (None, error) => output::print(&format!(
                "  target    {}: FAILED: {}",
                target.name,
                error.as_deref().unwrap_or("unknown")
            )),
        }
    }
    for (name, what) in report.targets.iter().filter_map(|t| Some((&t.name, t.damaged.as_ref()?))) {
        output::print(&format!("  DAMAGED   {name}: earlier objects: {what}"));
    }
    for warning in &report.warnings {
        output::print(&format!("  warning   {warning}"));
    }
}
