//! `marbre rotate`

use std::path::PathBuf;

use jiff::Timestamp;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::compose::jobs;
use super::context::Context;
use super::{adopt, output, signals, worst};
use crate::config::{Config, Database};
use crate::error::{Error, ErrorKind, Result};
use crate::job::succession::{SuccessionReport, Way};
use crate::keys::SigningKey;

/// Arguments of `rotate`.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("which").required(true))]
pub(crate) struct Args {
    /// The database, by its name in the configuration
    #[arg(value_name = "DB", group = "which")]
    database: Option<String>,

    /// Every database of the configuration that has snapshots
    #[arg(long, group = "which")]
    all: bool,

    /// The agent's old signing key, which hands over to the one in the configuration
    #[arg(long, value_name = "FILE")]
    old_key: PathBuf,

    /// Why, for those who read the record later
    #[arg(long, value_name = "TEXT", default_value = "the agent's key was replaced")]
    reason: String,
}

/// What `rotate --json` prints.
#[derive(Debug, Serialize)]
pub(super) struct Rotated {
    /// Every database whose chain was handed over.
    databases: Vec<SuccessionReport>,
}

pub(crate) async fn run(args: &Args, context: &Context) -> Result<Option<Error>> {
    let cancel = signals::cancellation()?;
    let config = context.config()?;
    let databases = config.databases_named(args.database.as_deref())?;
    let (mut reports, mut errors) = (Vec::new(), Vec::new());
    for database in databases {
        match rotate(args, &config, database, &cancel).await {
            Ok(report) => {
                errors.extend(report.error());
                reports.push(report);
            }
            Err(e) if e.kind() == ErrorKind::Interrupted => return Err(e),
            // A database without snapshots has no chain that could pass on.
            Err(e) if args.all && e.kind() == ErrorKind::NotFound => {
                context.observer().warn(&format!("{}: {e}", database.id));
            }
            // The others are rotated all the same.
            Err(e) => errors.push(e),
        }
    }
    match worst(errors) {
        Some(e) if reports.is_empty() => Err(e),
        error => {
            let document = Rotated { databases: reports };
            output::report(context.json, &document, |document| {
                document.databases.iter().for_each(adopt::print);
            })?;
            Ok(error)
        }
    }
}

async fn rotate(
    args: &Args,
    config: &Config,
    database: &Database,
    cancel: &CancellationToken,
) -> Result<SuccessionReport> {
    let way = Way::Rotate(Box::new(SigningKey::load(&args.old_key)?));
    let job = jobs::succession_job(config, database, way, args.reason.clone()).await?;
    let plan = job.plan(Timestamp::now(), cancel).await?;
    job.carry_out(plan, cancel).await
}
