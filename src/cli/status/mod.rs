//! `marbre status`

mod details;
mod table;

use std::time::Duration;

use jiff::Timestamp;

use super::compose::glance;
use super::context::Context;
use super::{layout, output, signals};
use crate::cli::compose::source::{Source, SourceArgs};
use crate::error::{Error, ErrorKind, Result};
use crate::health::status::{DatabaseStatus, Rpo, RpoSource, StatusReport};
use crate::health::{left, presence};
use crate::model::condition::ConditionKind;
use crate::model::standing::Standing;
use crate::state::State;

/// Arguments of `status`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The database, by its name in the configuration: everything about it [default: all, a line for each]
    #[arg(value_name = "DB", conflicts_with = "database")]
    name: Option<String>,

    /// Only the databases of this publisher
    #[arg(long, value_name = "NAME", conflicts_with_all = ["name", "database"])]
    publisher: Option<String>,

    /// Only the databases in this state: late, failing, unknown, warning, new or well. May be given several times
    #[arg(long, value_name = "STATE")]
    state: Vec<Standing>,

    /// How old the newest snapshot may be, as 26h; then what is wrong decides the exit code: 9 where it is older,
    /// or cannot be trusted, or not proven as agreed; 8 where a target cannot be reached; 10 where one lacks snapshots
    #[arg(long, value_name = "DURATION", value_parser = crate::config::duration)]
    rpo: Option<Duration>,

    /// How long a target may be silent before the rest is shown without it [default: 4s; with --rpo, as long as a job would
    /// wait]
    #[arg(long, value_name = "DURATION", value_parser = crate::config::duration)]
    wait: Option<Duration>,

    #[command(flatten)]
    source: SourceArgs,
}

pub(crate) async fn run(args: &Args, context: &Context) -> Result<Option<Error>> {
    let cancel = signals::cancellation()?;
    // Who asks by --rpo is mostly a timer: an alarm because of a short silence would be a false one.
    let patience = args.wait.or(args.rpo.is_none().then_some(glance::PATIENCE));
    let name = args.name.as_deref();
    let mut sources = Source::all_within(patience, &args.source, name, None, context, &cancel).await?;
    if let Some(publisher) = &args.publisher {
        sources = glance::of_publisher(sources, publisher)?;
    }
    let now = Timestamp::now();
    let config = args.source.from.is_empty().then(|| context.config()).transpose()?;
    let databases = glance::statuses(&sources, config.as_ref(), asked(args), now, &cancel).await?;
    let wrong = args.rpo.and_then(|_| databases.iter().filter_map(wrong).max_by_key(|(rank, _)| *rank));
    let daemon = config.as_ref().map(|config| presence::look(&config.state_dir, now));
    let mut report = StatusReport::of(now, databases, daemon);
    let is_whole = name.is_none() && args.source.database.is_none() && args.publisher.is_none();
    if let Some(config) = config.filter(|_| is_whole && args.state.is_empty()) {
        report.left = left::archives(&config, &State::open(&config.state_dir)?)?;
    }
    if !args.state.is_empty() {
        report.databases.retain(|database| args.state.contains(&database.state));
    }
    output::report(context.json, &report, |report| {
        let zone = layout::local();
        if name.or(args.source.database.as_deref()).is_some() {
            report.databases.iter().for_each(|database| details::print(database, &zone));
        } else {
            table::print(report, output::width(), &zone);
        }
    })?;
    Ok(wrong.map(|(_, error)| error))
}

/// What whoever looks asks for.
fn asked(args: &Args) -> Option<Rpo> {
    args.rpo.map(|within| Rpo { within, from: RpoSource::CommandLine })
}

/// What is wrong with a database, as an error, and its rank among the errors of other databases.
fn wrong(database: &DatabaseStatus) -> Option<(u8, Error)> {
    let name = format!("{}/{}", database.publisher, database.database);
    let any = |wanted: &dyn Fn(ConditionKind) -> bool| database.conditions.iter().any(|c| wanted(c.kind));
    let of_targets = [ConditionKind::TargetFailing, ConditionKind::TargetBehind];
    // A clock that was wrong once is worth a remark. Where the newest snapshot is dated ahead, that is late.
    let remarks = [ConditionKind::ClockSkew];
    let (rank, kind, message) = if database.is_blind() {
        (3, ErrorKind::Target, format!("no target of {name} can be reached"))
    } else if database.late {
        let what = match database.ahead_seconds {
            Some(_) => "is dated in the future, so nobody knows how old it is",
            None => "is too old",
        };
        (3, ErrorKind::Verification, format!("the newest snapshot of {name} {what}"))
    } else if any(&|kind| !of_targets.contains(&kind) && !remarks.contains(&kind)) {
        (2, ErrorKind::Verification, format!("{name} has problems"))
    } else if database.targets.iter().any(|target| target.error.is_some()) {
        (1, ErrorKind::Target, format!("not every target of {name} can be reached"))
    } else if any(&|kind| kind == ConditionKind::TargetBehind) {
        (0, ErrorKind::Degraded, format!("not every target has all snapshots of {name}"))
    } else if any(&|kind| kind == ConditionKind::TargetFailing) {
        (1, ErrorKind::Target, format!("not every target of {name} works"))
    } else {
        return None;
    };
    let error = Error::new(kind, message).cause(database.incidents().join(" "));
    Some((rank, error.remedy("Ask whoever runs the agent what has happened since, and do not wait long.")))
}
