//! `marbre delete-archive`

use jiff::Timestamp;

use super::because::because;
use super::compose::jobs;
use super::context::Context;
use super::{confirm, output, show, signals, usage_error};
use crate::error::{Error, Result};
use crate::job::delete_archive::{DeleteReport, DeletedAt, Plan, Planned, still_configured};
use crate::job::tally::Sum;
use crate::model::human::{bytes, counted};
use crate::model::id::{DatabaseId, TargetName};

/// Arguments of `delete-archive`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The archive, as publisher/database
    #[arg(value_name = "PUBLISHER/DATABASE")]
    database: DatabaseId,

    /// Why, for those who read the record later
    #[arg(long, value_name = "TEXT")]
    why: String,

    /// Who decides it [default: the name of the user who runs the command]
    #[arg(long, value_name = "NAME")]
    by: Option<String>,

    /// Delete it at this target of the configuration. May be given several times [default: all]
    #[arg(long, value_name = "NAME")]
    target: Vec<TargetName>,

    /// Do not ask: needed where there is no terminal
    #[arg(long)]
    yes: bool,
}

pub(crate) async fn run(args: &Args, context: &Context) -> Result<Option<Error>> {
    let because = because(args.by.as_deref(), &args.why)?;
    let cancel = signals::cancellation()?;
    let config = context.config()?;
    if config.databases.iter().any(|db| db.id == args.database) {
        return Err(still_configured(&args.database));
    }
    if let Some(unknown) = args.target.iter().find(|name| !config.targets.contains_key(*name)) {
        let known: Vec<&str> = config.targets.keys().map(TargetName::as_str).collect();
        return Err(usage_error(format!("there is no target {unknown}; known: {}", known.join(", "))));
    }
    let job = jobs::delete_job(&config, &args.database, &args.target).await?;
    // Held until everything is done: nothing may be written there between the question and the answer.
    let _locks = job.lock()?;
    let plan = job.plan(&cancel).await?;
    if !args.yes && !confirm::by_its_name(&question(&args.database, &plan), &args.database.to_string()) {
        return Err(not_confirmed(&args.database, &plan));
    }
    let report = job.run(plan, &because, Timestamp::now(), context.observer(), &cancel).await?;
    output::report(context.json, &report, print)?;
    Ok(report.error())
}

fn not_confirmed(database: &DatabaseId, plan: &Plan) -> Error {
    Error::preflight(format!("nobody has confirmed that the archive of {database} is to be deleted"))
        .cause(what(plan).join("; "))
        .remedy("At a terminal, type its name when you are asked; where there is none, give --yes. Nothing was changed.")
}

fn question(database: &DatabaseId, plan: &Plan) -> String {
    let begun = if plan.goes_on() { " (a deletion that was begun goes on)" } else { "" };
    let mut text = format!("The archive of {database} would be deleted for ever{begun}:\n");
    what(plan).iter().for_each(|line| text += &format!("  {line}\n"));
    text + &format!(
        "What stays is the signed record of the deletion, and who may have signed it.\nType {database} to delete it: "
    )
}

/// What would be deleted, a line for each target.
fn what(plan: &Plan) -> Vec<String> {
    let of = |Planned { name, tally }: &Planned| {
        let snapshots = counted(tally.snapshots, "snapshot", "snapshots");
        let mut line = format!("target {name}: {snapshots}, {}", sum(tally.total));
        if let (Some(oldest), Some(newest)) = (&tally.oldest, &tally.newest) {
            line += &format!(", {oldest} to {newest}");
        }
        line
    };
    let mut lines: Vec<String> = plan.targets.iter().map(of).collect();
    if !plan.elsewhere().is_empty() {
        lines.push(format!("kept at {}", names(plan.elsewhere())));
    }
    lines
}

fn names(targets: &[TargetName]) -> String {
    targets.iter().map(TargetName::as_str).collect::<Vec<_>>().join(", ")
}

fn sum(sum: Sum) -> String {
    format!("{} ({})", counted(sum.objects, "object", "objects"), bytes(sum.bytes))
}

fn print(report: &DeleteReport) {
    output::print(&format!("{}/{}: {}", report.publisher, report.database, show::decided(&report.decision)));
    for target in &report.targets {
        output::print(&format!("  target {}: {}", target.name, done(target)));
    }
    if !report.elsewhere.is_empty() {
        output::print(&format!("  kept at {}", names(&report.elsewhere)));
    }
    if report.forgotten {
        output::print("  The agent has forgotten it; the keys of its epochs are destroyed.");
    }
}

fn done(target: &DeletedAt) -> String {
    let mut text = format!("deleted {}", sum(target.deleted));
    if target.locked.objects > 0 {
        text += &format!(", {} REFUSED", sum(target.locked));
        text += &match target.locked_until {
            Some(until) => format!(", locked until {until} at least"),
            None => ": locked, or the credentials may not delete".to_owned(),
        };
    }
    if let Some(e) = &target.error {
        text += &format!(", FAILED: {e}");
    }
    text
}
