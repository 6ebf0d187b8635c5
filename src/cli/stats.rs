//! `marbre stats`

use std::collections::BTreeSet;
use std::time::Duration;

use super::compose::targets;
use super::context::Context;
use super::layout::{fit, wrap};
use super::{output, signals};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::job::stats::{ArchiveStats, StatsJob, StatsReport, TargetStats};
use crate::job::tally::Sum;
use crate::model::human::{bytes, count, counted};
use crate::model::id::{DatabaseId, SnapshotId};

/// How long a target may take, unless somebody says otherwise.
const WAIT: &str = "60s";
/// The columns of what stands beside the name of an archive.
const FIGURES: usize = 40;

/// Arguments of `stats`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The database, by its name in the configuration, or as publisher/database where it left the configuration [default:
    /// every archive at every target]
    #[arg(value_name = "DB")]
    database: Option<String>,

    /// How long a target may take before what was counted until then is shown
    #[arg(long, value_name = "DURATION", default_value = WAIT, value_parser = crate::config::duration)]
    wait: Duration,
}

pub(crate) async fn run(args: &Args, context: &Context) -> Result<Option<Error>> {
    let cancel = signals::cancellation()?;
    let config = context.config()?;
    let only = args.database.as_deref().map(|name| archive(&config, name)).transpose()?;
    let names = config.targets.keys().collect();
    let opened = targets::for_a_glance(&config, names, args.wait).await?;
    let configured: BTreeSet<DatabaseId> = config.databases.iter().map(|db| db.id.clone()).collect();
    let job =
        StatsJob { targets: opened.into_values().collect(), only: only.clone(), configured, wait: args.wait };
    let report = job.run(&cancel).await?;
    output::report(context.json, &report, |report| print(report, output::width()))?;
    Ok(report.error(only.as_ref()))
}

/// A database of the configuration by its name, or an archive by its whole name.
fn archive(config: &Config, name: &str) -> Result<DatabaseId> {
    match (config.database(name), name.parse::<DatabaseId>()) {
        (Ok(database), _) => Ok(database.id.clone()),
        (Err(_), Ok(id)) => Ok(id),
        (Err(e), Err(_)) => Err(e),
    }
}

fn print(report: &StatsReport, width: usize) {
    for target in &report.targets {
        print_target(target, width);
    }
    for of in &report.publishers {
        let archives = counted(of.archives, "archive", "archives");
        output::print(&format!("publisher {}: {archives}, {}", of.publisher, sum(of.total)));
    }
    let left = |target: &TargetStats| target.archives.iter().any(ArchiveStats::is_left);
    if report.targets.iter().any(left) {
        output::print("* not in the configuration: `marbre delete-archive` deletes it");
    }
}

fn print_target(target: &TargetStats, width: usize) {
    output::print(&format!("target {}", target.name));
    let name = width - FIGURES;
    if !target.archives.is_empty() {
        let header = fit("  ARCHIVE", name);
        output::print(&format!("{header}{:>9}{:>8}{:>11}{:>12}", "SNAPSHOTS", "EPOCHS", "OBJECTS", "BYTES"));
    }
    for archive in &target.archives {
        print_archive(archive, name);
    }
    output::print(&format!("  together {}", sum(target.total)));
    if let Some(e) = &target.error {
        output::print(&wrap(&format!("  INCOMPLETE: {e}"), width, 4));
    }
}

fn print_archive(archive: &ArchiveStats, width: usize) {
    let ArchiveStats { publisher, database, tally, .. } = archive;
    let mark = if archive.is_left() { " *" } else { "" };
    let room = width.saturating_sub(mark.len() + 1);
    let full = format!("  {publisher}/{database}");
    let name = fit(&(fit(&full, room.min(full.chars().count())) + mark), width);
    let [snapshots, epochs, objects] = [tally.snapshots, tally.epochs, tally.total.objects].map(count);
    output::print(&format!("{name}{snapshots:>9}{epochs:>8}{objects:>11}{:>12}", bytes(tally.total.bytes)));
    let [packs, manifests, records] =
        [tally.packs, tally.manifests, tally.records].map(|sum| bytes(sum.bytes));
    output::print(&format!("    packs {packs}, manifests {manifests}, receipts and records {records}"));
    if let (Some(oldest), Some(newest)) = (&tally.oldest, &tally.newest) {
        output::print(&format!("    snapshots of {} to {}", day(oldest), day(newest)));
    }
}

fn sum(sum: Sum) -> String {
    format!("{}, {}", counted(sum.objects, "object", "objects"), bytes(sum.bytes))
}

/// The day that is in a snapshot's name.
fn day(snapshot: &SnapshotId) -> String {
    let text = snapshot.as_str();
    match (text.get(..4), text.get(4..6), text.get(6..8)) {
        (Some(year), Some(month), Some(day)) => format!("{year}-{month}-{day}"),
        _ => text.to_owned(),
    }
}
