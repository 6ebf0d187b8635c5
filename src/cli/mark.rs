//! `marbre pin`, `marbre unpin` and `marbre forget`

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::because::because;
use super::compose::jobs;
use super::context::Context;
use super::restore::wanted;
use super::{output, show, signals, usage_error};
use crate::config::{Config, Database};
use crate::error::{Error, ErrorKind, Result};
use crate::job::mark::{Choice, MarkJob, MarkReport};
use crate::job::restore::open::Wanted;
use crate::model::mark::Because;

/// Arguments of `pin`, `unpin` and `forget`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The snapshot, or `latest`
    #[arg(value_name = "SNAPSHOT")]
    snapshot: String,

    /// The database, by its name in the configuration [default: the one that has this snapshot]
    #[arg(long, value_name = "DB")]
    database: Option<String>,

    /// Why, for those who read the record later
    #[arg(long, value_name = "TEXT")]
    why: String,

    /// Who decides it [default: the name of the user who runs the command]
    #[arg(long, value_name = "NAME")]
    by: Option<String>,
}

pub(crate) async fn run(args: &Args, choice: Choice, context: &Context) -> Result<Option<Error>> {
    let wanted = wanted(&args.snapshot)?;
    let because = because(args.by.as_deref(), &args.why)?;
    let cancel = signals::cancellation()?;
    let config = context.config()?;
    let databases = config.databases_named(args.database.as_deref())?;
    if wanted == Wanted::Latest && databases.len() > 1 {
        return Err(usage_error("`latest` of which database? Say which with --database"));
    }
    let mut last = Error::new(ErrorKind::NotFound, "there is no database to look in");
    for database in databases {
        match decide(&config, database, choice, (&wanted, &because), context, &cancel).await {
            Ok(report) => {
                output::report(context.json, &report, |report| print(choice, report))?;
                return Ok(report.error());
            }
            Err(e) if e.kind() == ErrorKind::NotFound => last = e,
            Err(e) => return Err(e),
        }
    }
    Err(last)
}

async fn decide(
    config: &Config,
    database: &Database,
    choice: Choice,
    (wanted, because): (&Wanted, &Because),
    context: &Context,
    cancel: &CancellationToken,
) -> Result<MarkReport> {
    let prune = jobs::prune_job(config, database, false).await?;
    let job = MarkJob { prune, choice };
    job.run(wanted, because, Timestamp::now(), &*context.observer(), cancel).await
}

fn print(choice: Choice, report: &MarkReport) {
    output::print(&format!("{}/{}: {}", report.publisher, report.database, show::decided(&report.decision)));
    show::recorded(&report.targets);
    output::print(&format!("  next: {}", report.next));
    if choice == Choice::Forget {
        output::print(&format!("  `marbre prune {}` does it now.", report.database));
    }
}
