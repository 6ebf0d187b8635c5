//! `marbre status`

use jiff::Timestamp;

use super::context::{self, Context};
use super::{output, show, signals};
use crate::error::Result;
use crate::job::catalog::Reader;
use crate::job::status::{DatabaseStatus, StatusReport, database_status};
use crate::model::human::duration;
use crate::state::State;

pub async fn run(context: &Context) -> Result<()> {
    let cancel = signals::cancellation()?;
    let config = context.config()?;
    let state = State::open(&config.state_dir)?;
    let mut report = StatusReport { databases: Vec::new() };
    for database in &config.databases {
        let targets = context::targets(&config, database).await?;
        let trust = context::own_trust(&config, &database.id.publisher)?;
        let reader = Reader { database: &database.id, targets: &targets, trust: &trust, state: Some(&state) };
        let promises = context::promises(database);
        report.databases.push(database_status(&reader, promises, Timestamp::now(), &cancel).await?);
    }
    if context.json {
        return output::json(&report);
    }
    for database in &report.databases {
        print(database);
    }
    Ok(())
}

fn print(database: &DatabaseStatus) {
    let age = match (&database.snapshot, database.age_seconds) {
        (Some(snapshot), Some(age)) => format!("{snapshot}, {} old", duration(age as f64)),
        _ => "no snapshot".to_owned(),
    };
    let late = if database.late { "  LATE" } else { "" };
    output::print(&format!("{}/{}: {age}{late}", database.publisher, database.database));
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
                output::print(&format!("    {word} last: {} on {}", proof.snapshot, proof.at));
            }
        }
    }
    if let Some(drill) = &database.last_drill {
        output::print(&format!("  last drill {}, {}", drill.at, show::drilled(drill)));
    }
    for condition in &database.conditions {
        output::print(&format!("  ! {}", condition.summary));
        if !condition.remedy.is_empty() {
            output::print(&format!("    {}", condition.remedy));
        }
    }
}
