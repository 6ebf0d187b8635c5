//! `marbre status`

use std::time::Duration;

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::compose::jobs;
use super::context::Context;
use super::{output, show, signals};
use crate::cli::compose::launcher;
use crate::cli::compose::source::{Source, SourceArgs};
use crate::error::{Error, ErrorKind, Result};
use crate::health::look::database_status;
use crate::health::status::{DatabaseStatus, Promises, Rpo, RpoSource, StatusReport};
use crate::model::condition::ConditionKind;
use crate::model::human::{self, duration};

/// Arguments of `status`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The database, by its name in the configuration [default: all]
    #[arg(value_name = "DB", conflicts_with = "database")]
    name: Option<String>,

    /// How old the newest snapshot may be, as 26h; then what is wrong decides the exit code: 9 where it is older,
    /// or cannot be trusted, or not proven as agreed; 8 where a target cannot be reached; 10 where one lacks snapshots
    #[arg(long, value_name = "DURATION", value_parser = crate::config::duration)]
    rpo: Option<Duration>,

    #[command(flatten)]
    source: SourceArgs,
}

pub(crate) async fn run(args: &Args, context: &Context) -> Result<Option<Error>> {
    let cancel = signals::cancellation()?;
    let sources = Source::all(&args.source, args.name.as_deref(), None, context, &cancel).await?;
    let mut report = StatusReport { databases: Vec::new() };
    for source in &sources {
        report.databases.push(look(args, source, context, Timestamp::now(), &cancel).await?);
    }
    if context.json {
        output::json(&report)?;
    } else {
        report.databases.iter().for_each(print);
    }
    let wrong =
        args.rpo.and_then(|_| report.databases.iter().filter_map(wrong).max_by_key(|(rank, _)| *rank));
    Ok(wrong.map(|(_, error)| error))
}

/// Looks at one database, using its configuration if there is one.
async fn look(
    args: &Args,
    source: &Source,
    context: &Context,
    now: Timestamp,
    cancel: &CancellationToken,
) -> Result<DatabaseStatus> {
    if !args.source.from.is_empty() {
        let promises = Promises { rpo: asked(args), ..Promises::default() };
        return database_status(&source.reader(), promises, now, cancel).await;
    }
    let config = context.config()?;
    let settings = config.database(&source.database.to_string())?;
    let mut promises = jobs::promises(settings);
    promises.rpo = asked(args).or(promises.rpo);
    launcher::status(&config, settings, &source.reader(), promises, now, cancel).await
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
    let blind = database.targets.iter().all(|target| target.error.is_some());
    let (rank, kind, message) = if blind {
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
    let error = Error::new(kind, message).cause(database.incidents.join(" "));
    Some((rank, error.remedy("Ask whoever runs the agent what has happened since, and do not wait long.")))
}

fn print(database: &DatabaseStatus) {
    let age = match (&database.snapshot, database.age_seconds, database.ahead_seconds) {
        (Some(snapshot), Some(age), _) => format!("{snapshot}, {} old", duration(age as f64)),
        (Some(snapshot), _, Some(ahead)) => {
            format!("{snapshot}, dated {} in the FUTURE", duration(ahead as f64))
        }
        _ => "no snapshot".to_owned(),
    };
    let late = if database.late { "  LATE" } else { "" };
    output::print(&format!("{}/{}: {age}{late}", database.publisher, database.database));
    if let Some((rpo, from)) = database.rpo_seconds.zip(database.rpo_from) {
        output::print(&format!("  may be {} old, {}", duration(rpo as f64), from.words()));
    }
    if let Some(so_far) = &database.packed_so_far {
        let size = human::bytes(so_far.bytes);
        output::print(&format!(
            "  first snapshot of an epoch: {size} packed so far; the next run goes on there"
        ));
    }
    for target in &database.targets {
        let state = match (&target.error, &target.snapshot) {
            (Some(e), _) => format!("NOT REACHED: {e}"),
            (None, None) => "no snapshot".to_owned(),
            (None, Some(snapshot)) => format!("{snapshot}: {}", show::levels(&target.levels)),
        };
        let behind = match target.behind {
            Some(n) if n > 0 => format!(" (lacks {n})"),
            _ => String::new(),
        };
        output::print(&format!("  target {}: {state}{behind}", target.name));
        for (word, proof) in [("restored", &target.restored), ("owner-restored", &target.owner_restored)] {
            if let Some(proof) = proof {
                let remark = match proof.older_versions {
                    0 => String::new(),
                    n => format!(", ONLY FROM OLDER VERSIONS: {n} objects were damaged or deleted"),
                };
                output::print(&format!("    {word} last: {} on {}{remark}", proof.snapshot, proof.at));
            }
        }
    }
    if let Some(drill) = &database.last_drill {
        output::print(&format!("  last drill {}, {}", drill.at, show::drilled(drill)));
    }
    if let Some(last) = database.successions.last() {
        output::print(&format!(
            "  agent {} since {} (succession {}, {}: {})",
            last.to, last.at, last.number, last.action, last.reason
        ));
    }
    if let Some(score) = &database.score {
        let met = if score.met { "met".to_owned() } else { score.to_string() };
        output::print(&format!("  3-2-1-1-0: {met}"));
        for missing in &score.missing {
            output::print(&format!("    missing: {missing}"));
        }
    }
    for condition in &database.conditions {
        output::print(&format!("  ! {}", condition.summary));
        if !condition.remedy.is_empty() {
            output::print(&format!("    {}", condition.remedy));
        }
    }
}
