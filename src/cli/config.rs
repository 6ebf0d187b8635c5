//! `marbre config`

use serde::Serialize;

use super::context::Context;
use super::output;
use crate::config::{Config, Effective, Setting};
use crate::error::Result;

/// Arguments of `config`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Look whether the files make a configuration; connects to nothing
    Check,
    /// Show what counts for each database and target, and where it is said
    Show {
        /// The database, by its name in the configuration [default: all databases and targets]
        #[arg(value_name = "DB")]
        database: Option<String>,
    },
}

/// A configuration without mistakes.
#[derive(Debug, Serialize)]
pub(super) struct Checked {
    /// The main file.
    file: String,
    databases: usize,
    targets: usize,
    publishers: usize,
    /// What works, but should be better.
    warnings: Vec<String>,
}

/// What counts.
#[derive(Debug, Serialize)]
pub(super) struct Shown {
    /// By family, name and key.
    sections: Effective,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<()> {
    let config = context.config()?;
    match &args.verb {
        Verb::Check => output::report(context.json, &checked(&config), print_checked),
        Verb::Show { database } => {
            let shown = Shown { sections: effective(config, database.as_deref())? };
            output::report(context.json, &shown, |shown| print_effective(&shown.sections))
        }
    }
}

fn checked(config: &Config) -> Checked {
    Checked {
        file: config.origin.display().to_string(),
        databases: config.databases.len(),
        targets: config.targets.len(),
        publishers: config.publishers.len(),
        warnings: config.warnings.clone(),
    }
}

fn print_checked(checked: &Checked) {
    output::print(&format!(
        "{} is right: databases: {}, targets: {}, publishers: {}",
        checked.file, checked.databases, checked.targets, checked.publishers
    ));
    for warning in &checked.warnings {
        output::print(&format!("  warning   {warning}"));
    }
    output::print("Whether what it names is there and can be reached, `marbre doctor` says.");
}

/// What counts for this database, or for everything.
fn effective(config: Config, database: Option<&str>) -> Result<Effective> {
    let Some(name) = database else { return Ok(config.effective) };
    let name = config.database(name)?.id.database.to_string();
    let mut wanted = config.effective;
    wanted.retain(|family, _| *family == "database");
    wanted.values_mut().for_each(|members| members.retain(|member, _| *member == name));
    Ok(wanted)
}

fn print_effective(effective: &Effective) {
    for (family, members) in effective {
        for (name, settings) in members {
            let row = |(key, setting): (&String, &Setting)| {
                let by_default = if setting.by_default { ", by default" } else { "" };
                vec![format!("  {key}"), one_line(&setting.value), format!("{}{by_default}", setting.at)]
            };
            let rows: Vec<Vec<String>> = settings.iter().map(row).collect();
            let section = format!("[{family}.{name}]");
            output::print(&output::table(&[section.as_str(), "", ""], &rows));
            output::print("");
        }
    }
    output::print("Keys that are not listed have the defaults that docs/CONFIGURATION.md names.");
}

/// A list over several lines, in one.
fn one_line(value: &str) -> String {
    value.split_whitespace().collect::<Vec<_>>().join(" ")
}
