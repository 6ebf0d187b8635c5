//! Everything about one database.

use jiff::tz::TimeZone;

use crate::cli::{layout, output, show};
use crate::health::status::DatabaseStatus;
use crate::model::human::{self, duration};

/// Prints it, with moments on the clock of who looks.
pub(super) fn print(database: &DatabaseStatus, zone: &TimeZone) {
    let age = match (&database.snapshot, database.age_seconds, database.ahead_seconds) {
        (Some(snapshot), Some(age), _) => format!("{snapshot}, {} old", duration(age as f64)),
        (Some(snapshot), _, Some(ahead)) => {
            format!("{snapshot}, dated {} in the FUTURE", duration(ahead as f64))
        }
        _ => "no snapshot".to_owned(),
    };
    let late = if database.late { "  LATE" } else { "" };
    say(&format!("{}/{}: {age}{late}", database.publisher, database.database));
    if let Some((rpo, from)) = database.rpo_seconds.zip(database.rpo_from) {
        say(&format!("  may be {} old, {}", duration(rpo as f64), from.words()));
    }
    if let Some(next) = database.next_run {
        say(&format!("  next snapshot {}", layout::moment(next, zone)));
    }
    if let Some(so_far) = &database.packed_so_far {
        let size = human::bytes(so_far.bytes);
        say(&format!("  first snapshot of an epoch: {size} packed so far; the next run goes on there"));
    }
    for target in &database.targets {
        let state = match (&target.error, &target.snapshot) {
            (Some(e), _) => format!("NOT REACHED: {e}"),
            (None, None) => "no snapshot".to_owned(),
            (None, Some(snapshot)) => {
                format!("{snapshot}: {}", show::levels(&target.levels, |at| layout::moment(at, zone)))
            }
        };
        let behind = match target.behind {
            Some(n) if n > 0 => format!(" (lacks {n})"),
            _ => String::new(),
        };
        say(&format!("  target {}: {state}{behind}", target.name));
        for (word, proof) in [("restored", &target.restored), ("owner-restored", &target.owner_restored)] {
            if let Some(proof) = proof {
                let remark = match proof.older_versions {
                    0 => String::new(),
                    n => format!(", ONLY FROM OLDER VERSIONS: {n} objects were damaged or deleted"),
                };
                let at = layout::moment(proof.at, zone);
                say(&format!("    {word} last: {} on {at}{remark}", proof.snapshot));
            }
        }
    }
    if let Some(drill) = &database.last_drill {
        let at = layout::moment(drill.at, zone);
        say(&format!("  last drill {at}, {}", show::drilled(drill)));
    }
    if let Some(last) = database.successions.last() {
        say(&format!(
            "  agent {} since {} (succession {}, {}: {})",
            last.to,
            layout::moment(last.at, zone),
            last.number,
            last.action,
            last.reason
        ));
    }
    if let Some(score) = &database.score {
        let met = if score.met { "met".to_owned() } else { score.to_string() };
        say(&format!("  3-2-1-1-0: {met}"));
        for missing in &score.missing {
            say(&format!("    missing: {missing}"));
        }
    }
    for condition in &database.conditions {
        say(&format!("  ! {}", condition.summary));
        if !condition.remedy.is_empty() {
            say(&format!("    {}", condition.remedy));
        }
    }
    for condition in &database.awaited {
        say(&format!("  not due yet: {}", condition.summary));
    }
}

/// Prints lines that fit the terminal.
fn say(text: &str) {
    let indent = text.len() - text.trim_start().len() + 4;
    output::print(&layout::wrap(text, output::width(), indent));
}
