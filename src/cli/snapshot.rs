//! `marbre snapshot`

use jiff::Timestamp;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::compose::jobs;
use super::context::Context;
use super::{output, signals, worst};
use crate::cli::compose::launcher;
use crate::config::{Config, Database};
use crate::error::{Error, ErrorKind, Result};
use crate::health::findings;
use crate::job::snapshot::SnapshotReport;
use crate::model::human::{bytes, count, duration};
use crate::model::id::{DatabaseId, DatabaseName, PublisherName};
use crate::model::job::JobKind;
use crate::model::verdict::Word;
use crate::model::wildcard;

/// Arguments of `snapshot`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The databases, by their names in the configuration, or by patterns as 'shop-*'
    #[arg(value_name = "DB", required_unless_present = "all")]
    databases: Vec<String>,

    /// All databases, one after the other
    #[arg(long, conflicts_with = "databases")]
    all: bool,
}

/// What `snapshot --json` prints of several databases.
#[derive(Debug, Serialize)]
pub(super) struct Snapshots {
    /// The snapshots that were taken, also those that are not complete.
    snapshots: Vec<SnapshotReport>,
    /// The databases of which there is no snapshot.
    failed: Vec<NotTaken>,
}

/// A database of which no snapshot could be taken.
#[derive(Debug, Serialize)]
struct NotTaken {
    publisher: PublisherName,
    database: DatabaseName,
    /// Why.
    error: String,
    /// What to do.
    remedy: Option<String>,
    /// What `snapshot` of this database alone would have ended with.
    exit_code: u8,
}

pub(crate) async fn run(args: &Args, context: &Context) -> Result<Option<Error>> {
    // First of all: from here on a signal ends the run gracefully.
    let cancel = signals::cancellation()?;
    let config = context.config()?;
    let databases = match args.all {
        true => config.databases_named(None)?,
        false => config.databases_matching(&args.databases)?,
    };
    jobs::sweep_scratch(&config, &*context.observer()).await?;
    match args.databases.as_slice() {
        [name] if !wildcard::is_pattern(name) => {
            let report = take(&config, databases[0], context, &cancel).await?;
            output::report(context.json, &report, print)?;
            Ok(report.error())
        }
        _ => several(&config, &databases, context, &cancel).await,
    }
}

async fn take(
    config: &Config,
    database: &Database,
    context: &Context,
    cancel: &CancellationToken,
) -> Result<SnapshotReport> {
    let job = jobs::snapshot_job(config, database).await?;
    let (id, state) = (&database.id, job.state.clone());
    let before = launcher::last_numbers(&state, id)?;
    let started = Timestamp::now();
    let report = job.run(started, context.observer(), cancel).await;
    jobs::record(&state, (id, JobKind::Snapshot, started), &report, |report| {
        findings::of_snapshot(id, report, before.as_ref())
    })?;
    report
}

/// One after the other. What is wrong with one does not keep the others from theirs.
async fn several(
    config: &Config,
    databases: &[&Database],
    context: &Context,
    cancel: &CancellationToken,
) -> Result<Option<Error>> {
    let mut document = Snapshots { snapshots: Vec::new(), failed: Vec::new() };
    let mut errors: Vec<(&DatabaseId, Error)> = Vec::new();
    for database in databases {
        let id = &database.id;
        match take(config, database, context, cancel).await {
            Ok(report) => {
                if !context.json {
                    print(&report);
                }
                errors.extend(report.error().map(|e| (id, e)));
                document.snapshots.push(report);
            }
            Err(e) if e.kind() == ErrorKind::Interrupted => return Err(e),
            Err(e) => {
                output::verdict(&e.clone().context(id), context.json);
                document.failed.push(NotTaken {
                    publisher: id.publisher.clone(),
                    database: id.database.clone(),
                    error: e.to_string(),
                    remedy: e.remedy_text().map(str::to_owned),
                    exit_code: e.kind().exit_code(),
                });
                errors.push((id, e));
            }
        }
    }
    output::report(context.json, &document, |document| print_totals(document, databases.len()))?;
    Ok(verdict(errors, databases.len()))
}

fn print_totals(document: &Snapshots, all: usize) {
    let of = |word: Word| document.snapshots.iter().filter(|report| report.verdict == word).count();
    let (complete, degraded) = (of(Word::Complete), of(Word::Degraded));
    let failed = all - complete - degraded;
    let databases = if all == 1 { "database" } else { "databases" };
    output::print(&format!("{all} {databases}: {complete} complete, {degraded} degraded, {failed} failed"));
}

/// What the whole ends with.
fn verdict(errors: Vec<(&DatabaseId, Error)>, all: usize) -> Option<Error> {
    let (ids, errors): (Vec<&DatabaseId>, Vec<Error>) = errors.into_iter().unzip();
    let kind = worst(errors)?.kind();
    let names: Vec<String> = ids.iter().map(ToString::to_string).collect();
    let what = format!("{} of {all} databases have no complete snapshot: {}", names.len(), names.join(", "));
    Some(Error::new(kind, what).remedy("What is wrong with each is said above."))
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
