//! `marbre verify`

use jiff::Timestamp;

use super::context::Context;
use super::restore::wanted;
use super::{output, signals};
use crate::cli::compose::source::{Source, SourceArgs};
use crate::error::{Error, Result};
use crate::health::findings;
use crate::job::restore::open::Wanted;
use crate::job::verify::{VerifyJob, VerifyReport};
use crate::model::human::{bytes, count, duration};
use crate::model::id::DatabaseId;
use crate::model::job::JobKind;

/// Arguments of `verify`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The database, by its name in the configuration [default: all]
    #[arg(value_name = "DB", conflicts_with = "database")]
    name: Option<String>,

    /// Read back only what this snapshot needs
    #[arg(long, value_name = "SNAPSHOT")]
    snapshot: Option<String>,

    #[command(flatten)]
    source: SourceArgs,
}

pub(crate) async fn run(args: &Args, context: &Context) -> Result<Option<Error>> {
    let cancel = signals::cancellation()?;
    let sources = Source::all(&args.source, args.name.as_deref(), None, context, &cancel).await?;
    let wanted = args.snapshot.as_deref().map(wanted).transpose()?;
    let mut reports: Vec<(DatabaseId, VerifyReport)> = Vec::new();
    for source in sources {
        let snapshot = match &wanted {
            None => None,
            Some(Wanted::Snapshot(id)) => Some(id.clone()),
            Some(Wanted::Latest | Wanted::LatestOf(_)) => {
                let catalog = source.reader().read(&cancel).await?;
                catalog.require_one_head(&source.database)?;
                catalog.newest().map(|entry| entry.receipt.snapshot.clone())
            }
        };
        let database = source.database.clone();
        let (started, whole) = (Timestamp::now(), snapshot.is_none());
        let state = source.state.clone();
        let job = VerifyJob {
            database: source.database,
            targets: source.targets,
            trust: source.trust,
            state: source.state,
            snapshot,
        };
        let report = job.run(context.observer(), &cancel).await?;
        if let Some(state) = state.filter(|_| whole) {
            let run = findings::of_verify(&database, &report);
            if let Err(e) = state.record_run(&database, JobKind::Verify, (started, Timestamp::now()), &run) {
                context.observer().warn(&format!("that this verification was made could not be noted: {e}"));
            }
        }
        reports.push((database, report));
    }
    let error = reports.iter().find_map(|(_, report)| report.error());
    if context.json {
        let total = reports.into_iter().map(|(_, r)| r).reduce(VerifyReport::merge);
        output::json(&total.ok_or_else(|| Error::internal("nothing was verified"))?)?;
    } else {
        for (database, report) in &reports {
            print(database, report);
        }
    }
    Ok(error)
}

fn print(database: &DatabaseId, report: &VerifyReport) {
    output::print(&format!(
        "{database}: {} objects, {} read back in {}",
        count(report.objects),
        bytes(report.bytes),
        duration(report.seconds)
    ));
    for target in &report.targets {
        let state = match &target.error {
            Some(e) => format!("NOT VERIFIED: {e}"),
            None if target.behind > 0 => format!(
                "{} of {} snapshots intact, {} never arrived here (`marbre sync` copies them)",
                target.intact, target.snapshots, target.behind
            ),
            None => format!("{} of {} snapshots intact", target.intact, target.snapshots),
        };
        output::print(&format!("  target {}: {state}", target.name));
    }
    for damage in &report.damaged {
        output::print(&format!("  DAMAGED at {}: {}: {}", damage.target, damage.object, damage.problem));
    }
    for known in &report.known {
        output::print(&format!("  known at {}: {}: {}", known.target, known.object, known.problem));
    }
    for problem in &report.chain {
        output::print(&format!("  CHAIN: {problem}"));
    }
}
