//! `marbre doctor`

use jiff::Timestamp;

use super::compose::channels;
use super::compose::{engines, targets};
use super::context::Context;
use super::{output, signals};
use crate::cli::compose::surroundings;
use crate::error::{Error, Result};
use crate::health::doctor::{DoctorJob, DoctorReport, word};
use crate::model::check::CheckState;

/// Arguments of `doctor`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The database, by its name in the configuration [default: all]
    #[arg(value_name = "DB")]
    name: Option<String>,
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
    let (mut targets, mut attackable) = (Vec::new(), Vec::new());
    for name in config.targets.keys() {
        attackable.push((name.clone(), targets::attackable_target(&config, name).await));
        let opened = targets::configured_target(&config, name).await;
        targets.push((name.clone(), opened.map(|t| t.target)));
    }
    let engines = config.databases.iter().map(|db| (db.id.clone(), engines::engine(db))).collect();
    let hosts = config.databases.iter().map(|db| (db.id.clone(), engines::drill_host(db))).collect();
    let alerts = channels::alert_channels(&config);
    let surroundings = surroundings::of(&config);
    let whole = args.name.is_none();
    let job =
        DoctorJob { config, targets, attackable, engines, hosts, channels: alerts, surroundings, whole };
    let report = job.run(Timestamp::now(), &cancel).await?;
    output::report(context.json, &report, print)?;
    Ok(report.error())
}

fn print(report: &DoctorReport) {
    let mut group = "";
    for (about, check) in &report.checks {
        if about != group {
            output::print(about);
            group = about;
        }
        let mark = format!("[{}]", word(check.state));
        output::print(&format!("  {mark:<9} {}: {}", check.name, check.found));
        if let Some(remedy) = check.remedy.as_ref().filter(|_| check.state != CheckState::Ok) {
            output::print(&format!("            {remedy}"));
        }
    }
}
