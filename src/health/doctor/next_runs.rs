//! When the daemon will run which job of a database.

use jiff::Timestamp;

use super::{check, ok};
use crate::config::Database;
use crate::health::status::{Rpo, RpoSource};
use crate::model::check::{Check, CheckState};
use crate::model::human;
use crate::model::job::JobKind;

/// How many runs are shown.
const SHOWN: usize = 5;

/// One check for each job that is scheduled, and one for a snapshot or a drill that is not.
pub(super) fn checks(db: &Database, now: Timestamp) -> Vec<Check> {
    let zone = &db.schedules.time_zone;
    let mut checks = Vec::new();
    for (kind, schedule) in &db.schedules.jobs {
        let runs = std::iter::successors(schedule.next(now, zone), |slot| schedule.next(*slot, zone));
        let runs: Vec<String> = runs
            .take(SHOWN)
            .map(|slot| zone.to_datetime(slot).strftime("%a %Y-%m-%d %H:%M:%S").to_string())
            .collect();
        let zone = zone.iana_name().unwrap_or("local time");
        checks.push(ok(&format!("{kind} at"), format!("\"{schedule}\" ({zone}): {}", runs.join(", "))));
    }
    if db.schedules.of(JobKind::Snapshot).is_none() {
        let remedy = "Give the database `schedule.snapshot`, as \"30 2 * * *\", or make sure that something else runs `marbre snapshot`.";
        checks.push(check("snapshot at", CheckState::Warn, "the daemon takes no snapshot", Some(remedy)));
    }
    checks.push(rpo(db));
    checks
}

/// Whether anybody has said how old the newest snapshot may become: what a schedule or marbre assumes was agreed with nobody.
fn rpo(db: &Database) -> Check {
    let rpo = Rpo::of_database(db);
    let found = format!("{}, {}", human::duration(rpo.within.as_secs_f64()), rpo.from.words());
    match rpo.from {
        RpoSource::Configuration | RpoSource::CommandLine => ok("rpo", found),
        RpoSource::Schedule | RpoSource::Default => {
            let remedy = "Say with `rpo` of `[database.NAME]` how old the newest snapshot may become, as agreed with the publisher.";
            check("rpo", CheckState::Warn, found, Some(remedy))
        }
    }
}
