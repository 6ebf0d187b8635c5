//! `marbre accept`

use jiff::Timestamp;
use serde::Serialize;

use super::because::because;
use super::compose::jobs;
use super::context::Context;
use super::{output, show, signals};
use crate::error::{Error, Result};
use crate::job::accept::{AcceptReport, Acceptable};

/// Arguments of `accept`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The database, by its name in the configuration
    #[arg(value_name = "DB")]
    database: String,

    /// What is accepted: `content`, a part of a chain like `receipts:missing:2-3`, or TARGET:KEY for a damaged object
    /// [default: `content`]
    #[arg(value_name = "NAME", requires = "why")]
    names: Vec<String>,

    /// Why, for those who read the record later; without it, what can be accepted is only listed
    #[arg(long, value_name = "TEXT")]
    why: Option<String>,

    /// Who accepts it [default: the name of the user who runs the command]
    #[arg(long, value_name = "NAME", requires = "why")]
    by: Option<String>,
}

/// What `accept --json` prints without `--why`.
#[derive(Debug, Serialize)]
pub(super) struct Choice {
    /// What is odd or wrong now, and not accepted yet.
    acceptable: Vec<Acceptable>,
}

pub(crate) async fn run(args: &Args, context: &Context) -> Result<Option<Error>> {
    let cancel = signals::cancellation()?;
    let config = context.config()?;
    let database = config.database(&args.database)?;
    let job = jobs::accept_job(&config, database).await?;
    let Some(why) = &args.why else {
        let document = Choice { acceptable: job.acceptable(&cancel).await? };
        output::report(context.json, &document, |document| list(&args.database, &document.acceptable))?;
        return Ok(None);
    };
    let because = because(args.by.as_deref(), why)?;
    let report = job.run(&args.names, &because, Timestamp::now(), &cancel).await?;
    output::report(context.json, &report, print)?;
    Ok(report.error())
}

fn list(database: &str, acceptable: &[Acceptable]) {
    if acceptable.is_empty() {
        output::print(&format!("{database}: there is nothing to accept"));
        return;
    }
    for Acceptable { name, problem, .. } in acceptable {
        output::print(&format!("{name}: {problem}"));
    }
    output::print(&format!("To accept one of them: marbre accept {database} NAME --why TEXT"));
}

fn print(report: &AcceptReport) {
    output::print(&format!("{}/{}: {}", report.publisher, report.database, show::decided(&report.decision)));
    show::recorded(&report.targets);
}
