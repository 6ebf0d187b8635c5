//! `marbre prune`

use jiff::Timestamp;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::compose::jobs;
use super::context::Context;
use super::{output, signals, worst};
use crate::config::{Config, Database};
use crate::error::{Error, ErrorKind, Result};
use crate::health::findings;
use crate::job::prune::{KeptSnapshot, PruneReport, PrunedTarget};
use crate::model::human::{bytes, counted};
use crate::model::job::JobKind;
use crate::model::mark::Mark;
use crate::model::visible::visible;

/// Arguments of `prune`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The database, by its name in the configuration [default: all]
    #[arg(value_name = "DB")]
    name: Option<String>,

    /// Only say what would be deleted, and why each snapshot stays
    #[arg(long)]
    dry_run: bool,
}

/// What `prune --json` prints.
#[derive(Debug, Serialize)]
pub(super) struct Pruned {
    /// Every database that was asked for.
    databases: Vec<PruneReport>,
}

pub(crate) async fn run(args: &Args, context: &Context) -> Result<Option<Error>> {
    let cancel = signals::cancellation()?;
    let config = context.config()?;
    let databases = config.databases_named(args.name.as_deref())?;
    let (mut reports, mut errors) = (Vec::new(), Vec::new());
    for database in databases {
        match prune(&config, database, args.dry_run, context, &cancel).await {
            Ok(report) => {
                errors.extend(report.error());
                reports.push(report);
            }
            Err(e) if e.kind() == ErrorKind::Interrupted => return Err(e),
            // The others are pruned all the same.
            Err(e) => errors.push(e),
        }
    }
    match worst(errors) {
        Some(e) if reports.is_empty() => Err(e),
        error => {
            let document = Pruned { databases: reports };
            output::report(context.json, &document, |document| document.databases.iter().for_each(print))?;
            Ok(error)
        }
    }
}

async fn prune(
    config: &Config,
    database: &Database,
    dry_run: bool,
    context: &Context,
    cancel: &CancellationToken,
) -> Result<PruneReport> {
    let job = jobs::prune_job(config, database, dry_run).await?;
    let started = Timestamp::now();
    let (id, state) = (&database.id, job.state.clone());
    let report = job.run(started, context.observer(), cancel).await;
    if !dry_run {
        jobs::record(&state, (id, JobKind::Prune, started), &report, |report| {
            findings::of_prune(id, report)
        })?;
    }
    report
}

fn print(report: &PruneReport) {
    let database = format!("{}/{}", report.publisher, report.database);
    if let Some(note) = &report.note {
        output::print(&format!("{database}: {note}"));
    }
    let would = if report.dry_run { " (dry run: nothing was changed)" } else { "" };
    let (kept, deleted) = (snapshots(report.kept.len()), snapshots(report.deleted.len()));
    output::print(&format!("{database}: {kept} kept, {deleted} deleted{would}"));
    for kept in report.kept.iter().filter(|kept| report.dry_run || kept.mark.is_some()) {
        output::print(&format!("  keep    {}  {}", kept.snapshot, visible(&why(kept))));
    }
    for deleted in &report.deleted {
        output::print(&format!("  delete  {}  {}", deleted.snapshot, visible(&deleted.reason)));
    }
    if report.held_back > 0 {
        let more = snapshots(report.held_back);
        output::print(&format!("  {more} more would go: `max_delete` leaves them to the next runs"));
    }
    for target in &report.targets {
        output::print(&format!("  target {}: {}", target.name, done(target)));
    }
    report.held.iter().for_each(|what| {
        output::print(&format!("  ! older snapshots are held until somebody accepts it: {what}"))
    });
    report.warnings.iter().for_each(|warning| output::print(&format!("  ! {warning}")));
}

/// Why it is kept: that somebody has forgotten it is no reason, and must be said all the same.
fn why(kept: &KeptSnapshot) -> String {
    let reasons = kept.reasons.join("; ");
    match &kept.mark {
        Some(mark @ Mark::Forgotten(_)) => format!("{mark}; kept all the same: {reasons}"),
        _ => reasons,
    }
}

fn snapshots(n: usize) -> String {
    counted(n as u64, "snapshot", "snapshots")
}

fn done(target: &PrunedTarget) -> String {
    let (receipts, objects) =
        (counted(target.receipts, "receipt", "receipts"), counted(target.objects, "object", "objects"));
    let mut text = format!("{receipts}, {objects} ({})", bytes(target.bytes));
    if target.waiting > 0 {
        let objects = counted(target.waiting, "object", "objects");
        text += &format!(", waiting for the end of `grace`: {objects} ({})", bytes(target.waiting_bytes));
    }
    if target.locked > 0 {
        text += &format!(", {} REFUSED", counted(target.locked, "deletion", "deletions"));
    }
    if let Some(e) = &target.error {
        text += &format!(", LEFT FOR NEXT TIME: {e}");
    }
    text
}
