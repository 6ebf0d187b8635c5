//! `marbre alert`

use jiff::Timestamp;
use serde::Serialize;

use super::compose::channels;
use super::context::Context;
use super::{output, signals};
use crate::alert::dispatcher::{ChannelTestReport, test_channels};
use crate::error::{Error, ErrorKind, Result};
use crate::model::human::duration;
use crate::model::incident::Incident;
use crate::model::shown_incident::ShownIncident;

/// Arguments of `alert`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Send a test message through every alert channel, and say what became of it
    Test {
        /// The channel, by its name in the configuration [default: all]
        #[arg(value_name = "CHANNEL")]
        name: Option<String>,
    },
    /// List what is wrong, as the daemon saw it last
    List,
}

pub(super) async fn run(args: &Args, context: &Context) -> Result<Option<Error>> {
    match &args.verb {
        Verb::Test { name } => run_test(name.as_deref(), context).await,
        Verb::List => list(context).map(|()| None),
    }
}

async fn run_test(name: Option<&str>, context: &Context) -> Result<Option<Error>> {
    let cancel = signals::cancellation()?;
    let config = context.config()?;
    let mut wanted = channels::alert_channels(&config);
    if let Some(name) = name {
        let known: Vec<String> = wanted.iter().map(|c| c.route.name.to_string()).collect();
        wanted.retain(|channel| channel.route.name.as_str() == name);
        if wanted.is_empty() {
            let error = Error::new(ErrorKind::NotFound, format!("there is no alert channel {name:?}"));
            return Err(error.remedy(match known.is_empty() {
                true => "Define one in a table [alert.NAME].".to_owned(),
                false => format!("Known channels: {}.", known.join(", ")),
            }));
        }
    }
    if wanted.is_empty() {
        return Err(Error::new(
            ErrorKind::NotFound,
            "there are no alert channels: nobody would be told of anything",
        )
        .remedy("Define at least one in a table [alert.NAME]; see config.example.toml."));
    }
    let report = test_channels(&wanted, &channels::agent_name(&config), Timestamp::now(), &cancel).await;
    if cancel.is_cancelled() {
        return Err(Error::interrupted());
    }
    channels::dispatcher(&config)?.tested(&report, Timestamp::now())?;
    output::report(context.json, &report, print_test)?;
    Ok(report.error())
}

fn print_test(report: &ChannelTestReport) {
    for tested in &report.channels {
        let mark = if tested.ok { "[ok]" } else { "[fail]" };
        output::print(&format!("{mark:<6} {} ({}): {}", tested.channel, tested.what, tested.found));
        if let Some(remedy) = &tested.remedy {
            output::print(&format!("       {remedy}"));
        }
    }
}

/// What `alert list --json` prints.
#[derive(Debug, Serialize)]
pub(super) struct Incidents {
    /// Every open incident.
    incidents: Vec<Row>,
}

/// An open incident, and what people were told of it.
#[derive(Debug, Serialize)]
struct Row {
    /// What is wrong, and how bad it was at its worst.
    #[serde(flatten)]
    shown: ShownIncident,
    /// When it was first seen.
    opened_at: Timestamp,
    /// When it was last seen.
    seen_at: Timestamp,
    /// When people last heard of it.
    told_at: Timestamp,
    /// When it was escalated.
    escalated_at: Option<Timestamp>,
}

impl Row {
    fn of(incident: &Incident) -> Self {
        let shown = ShownIncident { severity: incident.severity, ..ShownIncident::of(&incident.condition) };
        let Incident { opened_at, seen_at, told_at, escalated_at, .. } = *incident;
        Self { shown, opened_at, seen_at, told_at, escalated_at }
    }
}

fn list(context: &Context) -> Result<()> {
    let incidents = channels::dispatcher(&context.config()?)?.incidents()?;
    let document = Incidents { incidents: incidents.iter().map(Row::of).collect() };
    output::report(context.json, &document, |document| {
        if document.incidents.is_empty() {
            output::print("no open incidents");
        }
        for row in &document.incidents {
            let age = Timestamp::now().duration_since(row.opened_at).as_secs_f64();
            output::print(&format!("{} for {}: {}", row.shown.severity, duration(age), row.shown.key));
            output::print(&format!("  {}", row.shown.summary));
            if !row.shown.affected.is_empty() {
                output::print(&format!("  It affects {}.", row.shown.affected.join(", ")));
            }
            output::print(&format!("  {}", row.shown.remedy));
        }
    })
}
