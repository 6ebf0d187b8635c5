//! `marbre adopt`

use jiff::Timestamp;

use super::compose::jobs;
use super::context::Context;
use super::{confirm, output, signals, usage_error};
use crate::error::{Error, Result};
use crate::job::succession::{After, Plan, SuccessionReport, Way};
use crate::keys::TrustStore;
use crate::model::id::SnapshotId;
use crate::repository::succession::Seen;

/// Arguments of `adopt`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The database, by its name in the configuration
    #[arg(value_name = "DB")]
    database: String,

    /// Go on after this snapshot, and set aside what does not lead to it; or after the receipt in a file, with its .sig
    /// beside it, where the credentials may not read [default: the newest]
    #[arg(long, value_name = "SNAPSHOT|FILE.json")]
    after: Option<String>,

    /// Why, for those who read the record later
    #[arg(long, value_name = "TEXT", default_value = "the agent's host or key was lost")]
    reason: String,

    /// The fingerprint of the agent that wrote until now, compared by a person; without it, a terminal asks
    #[arg(long, value_name = "SHA256:…")]
    accept_signer: Option<String>,
}

pub(crate) async fn run(args: &Args, context: &Context) -> Result<Option<Error>> {
    let cancel = signals::cancellation()?;
    let config = context.config()?;
    let database = config.database(&args.database)?;
    let way = Way::Adopt(args.after.as_deref().map(after).transpose()?);
    let job = jobs::succession_job(&config, database, way, args.reason.clone()).await?;
    let plan = job.plan(Timestamp::now(), &cancel).await?;
    if !accepted(args, &plan)? {
        return Err(not_confirmed(args, &plan));
    }
    let report = job.carry_out(plan, &cancel).await?;
    output::report(context.json, &report, print)?;
    Ok(report.error())
}

/// A snapshot's name, or the path of a receipt.
fn after(text: &str) -> Result<After> {
    match text.parse::<SnapshotId>() {
        Ok(snapshot) => Ok(After::Snapshot(snapshot)),
        Err(_) if text.ends_with(".json") => Ok(After::Receipt(text.into())),
        Err(e) => Err(usage_error(format!("--after takes a snapshot or the file of a receipt: {e}"))),
    }
}

/// Whether a person has compared the key of the agent that wrote until now.
fn accepted(args: &Args, plan: &Plan) -> Result<bool> {
    let from = &plan.record.from.fingerprint;
    match &args.accept_signer {
        Some(given) => {
            TrustStore::fingerprint(given)?;
            Ok(given.trim() == from)
        }
        None => Ok(confirm::by_a_person(&format!(
            "{}\nIs the agent with this old key stopped for good, and is this its key? [yes/no] ",
            what(plan)
        ))),
    }
}

fn not_confirmed(args: &Args, plan: &Plan) -> Error {
    let from = &plan.record.from.fingerprint;
    let error = match &args.accept_signer {
        Some(given) => {
            Error::key(format!("the agent that wrote until now is {from}, and not {}", given.trim()))
        }
        None => Error::key(format!("nobody has confirmed that this agent goes on after {from}")),
    };
    error.cause(what(plan)).remedy(format!(
        "Make sure that the agent with this key is stopped for good, and compare its fingerprint with the publisher's \
         allowed_signers. If it is the same, run the command again with `--accept-signer {from}`. Nothing was changed."
    ))
}

/// What will be done, in words.
fn what(plan: &Plan) -> String {
    let record = &plan.record;
    let mut text = format!(
        "agent {} would go on with the chain of {} after snapshot {} (number {})",
        record.to.fingerprint, record.from.fingerprint, record.after.snapshot, record.after.sequence
    );
    if !record.set_aside.is_empty() {
        let aside: Vec<String> = record.set_aside.iter().map(receipt).collect();
        text += &format!(", and set aside {}", aside.join(", "));
    }
    text
}

fn receipt(seen: &Seen) -> String {
    format!("{} (number {})", seen.snapshot, seen.sequence)
}

/// What people see.
pub(super) fn print(report: &SuccessionReport) {
    let line = |name: &str, value: &str| output::print(&format!("  {name:<10}{value}"));
    output::print(&format!(
        "succession {} of {}/{}: {}",
        report.number, report.publisher, report.database, report.action
    ));
    line("from", &report.from);
    line("to", &report.to);
    line("after", &receipt(&report.after));
    report.set_aside.iter().for_each(|seen| line("set aside", &receipt(seen)));
    for target in &report.targets {
        match &target.error {
            None => line("target", &format!("{}: recorded", target.name)),
            Some(e) => line("target", &format!("{}: FAILED: {e}", target.name)),
        }
    }
    if !report.allowed_signers.is_empty() {
        output::print(
            "Give each publisher these lines for their allowed_signers, in place of the old agent's, and the new",
        );
        output::print("fingerprint on the phone:");
        report.allowed_signers.iter().for_each(|line| output::print(line));
    }
}
