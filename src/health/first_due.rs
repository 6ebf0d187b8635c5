//! When a database that was just added should have its first snapshot.

use jiff::{SignedDuration, Timestamp};

use crate::config::Database;
use crate::error::Result;
use crate::model::job::JobKind;
use crate::state::{Scheduled, State};

/// How long a first snapshot may take, and wait for others, from its slot on.
const PATIENCE: SignedDuration = SignedDuration::from_hours(12);

/// When there should be a first snapshot of a database at the latest. `None` where one was already tried, and where nobody
/// knows: it has no schedule, or no daemon has seen the schedule yet.
pub(crate) fn first_due_at(database: &Database, state: &State) -> Result<Option<Timestamp>> {
    let (id, kind, schedules) = (&database.id, JobKind::Snapshot, &database.schedules);
    let Some(schedule) = schedules.of(kind) else { return Ok(None) };
    if state.runs(id)?.iter().any(|run| run.kind == kind) {
        return Ok(None);
    }
    let zone = &schedules.time_zone;
    let rule = Scheduled { database: id.clone(), kind, rule: schedule.rule(zone) };
    let slot = match state.slots(id, kind)?.pop() {
        Some(first) => Some(first.slots.first),
        None => state.accounted(&rule)?.and_then(|added| schedule.next(added, zone)),
    };
    Ok(slot.and_then(|slot| slot.checked_add(PATIENCE).ok()))
}
