//! `marbre sync`

use jiff::Timestamp;

use super::compose::jobs;
use super::context::Context;
use super::{output, signals};
use crate::error::{Error, Result};
use crate::health::findings;
use crate::job::sync::{DatabaseSync, SyncReport, TargetSync};
use crate::model::human::{bytes, count, duration};
use crate::model::job::JobKind;

/// Arguments of `sync`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The database, by its name in the configuration [default: all]
    #[arg(value_name = "DB")]
    database: Option<String>,

    /// Read everything back, as `verify` does, and replace copies that do not have the bytes that they must have by good
    /// ones from another target
    #[arg(long)]
    heal: bool,
}

pub(crate) async fn run(args: &Args, context: &Context) -> Result<Option<Error>> {
    // First of all: from here on a signal ends the run gracefully.
    let cancel = signals::cancellation()?;
    let config = context.config()?;
    let databases = config.databases_named(args.database.as_deref())?;
    jobs::sweep_scratch(&config, &*context.observer()).await?;
    let mut report = SyncReport::default();
    for database in databases {
        let started = Timestamp::now();
        let job = jobs::sync_job(&config, database, args.heal).await?;
        let (id, state) = (&database.id, job.state.clone());
        let synced = job.run(context.observer(), &cancel).await;
        jobs::record(&state, (id, JobKind::Sync, started), &synced, |synced| findings::of_sync(id, synced))?;
        report.databases.push(synced?);
    }
    output::report(context.json, &report, |report| report.databases.iter().for_each(print))?;
    Ok(report.error())
}

fn print(database: &DatabaseSync) {
    let copied: u64 = database.targets.iter().map(|t| t.objects).sum();
    let in_order = copied == 0 && database.targets.iter().all(|t| t.is_reached() && !t.is_behind());
    let what = match (in_order, database.snapshots) {
        (true, 0) => "nothing to do: there is no snapshot yet".to_owned(),
        (true, n) => format!("nothing to do: every target holds all {} snapshots", count(n)),
        (false, _) => {
            let moved = database.targets.iter().map(|t| t.bytes).sum();
            format!("{} objects, {} copied in {}", count(copied), bytes(moved), duration(database.seconds))
        }
    };
    output::print(&format!("{}/{}: {what}", database.publisher, database.database));
    for target in &database.targets {
        output::print(&format!("  target {}: {}", target.name, state_of(target)));
    }
    for damage in &database.damaged {
        output::print(&format!("  DAMAGED at {}: {}: {}", damage.target, damage.object, damage.problem));
    }
}

fn state_of(target: &TargetSync) -> String {
    let (Some(snapshots), Some(records)) = (target.still_behind, target.records_behind) else {
        return format!("NOT REACHED: {}", target.error.as_deref().unwrap_or("unknown"));
    };
    let mut parts = Vec::new();
    if target.objects > 0 {
        parts.push(format!(
            "{} snapshots and {} other records copied, {}",
            count(target.snapshots_copied),
            count(target.records_copied),
            bytes(target.bytes)
        ));
    }
    if target.replaced > 0 {
        parts.push(format!("{} of them in the place of damaged ones", count(target.replaced)));
    }
    match (snapshots, records) {
        (0, 0) => parts.push("lacks nothing".to_owned()),
        (n, 0) => parts.push(format!("STILL LACKS {} snapshots", count(n))),
        (0, n) => parts.push(format!("STILL LACKS {} records of drills", count(n))),
        (n, m) => parts.push(format!("STILL LACKS {} snapshots and {} other records", count(n), count(m))),
    }
    parts.extend(target.error.clone());
    parts.join(": ")
}
