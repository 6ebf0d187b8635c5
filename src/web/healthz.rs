//! `/healthz`: whether the backups are as they should be, and the daemon still watches them.

use jiff::Timestamp;
use serde::Serialize;

use super::published::Published;
use crate::model::condition::Severity;
use crate::model::human;
use crate::model::id::DatabaseId;

/// What `/healthz` answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Health {
    /// There is no reason to say otherwise.
    pub healthy: bool,
    /// Why not.
    pub reasons: Vec<Reason>,
}

/// One reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Reason {
    /// `not-looked`, `look-old`, `late`, or the kind of a critical incident.
    pub kind: &'static str,
    /// The database that it is about.
    pub database: Option<String>,
    /// A full sentence.
    pub message: String,
}

/// Whether all is well at `now`. This is judged at the time of the request, so that it turns bad by itself when the
/// daemon stops looking.
pub(crate) fn health(published: &Published, now: Timestamp) -> Health {
    let mut reasons = Vec::new();
    let mut add = |kind, database: Option<&DatabaseId>, message| {
        reasons.push(Reason { kind, database: database.map(DatabaseId::to_string), message });
    };
    for database in &published.databases {
        let id = &database.database;
        let Some(look) = &database.look else {
            // A daemon that has just started, or read its configuration again, still knows what is wrong: incidents are kept.
            let begun = published.started_at.max(published.config.loaded_at);
            if now.duration_since(begun).unsigned_abs() <= published.look_within {
                continue;
            }
            add("not-looked", Some(id), format!("The daemon has not looked at {id} since it started."));
            continue;
        };
        let ago = now.duration_since(look.at).unsigned_abs();
        if ago > published.look_within {
            let ago = human::duration(ago.as_secs_f64());
            add(
                "look-old",
                Some(id),
                format!("The newest look at {id} was {ago} ago: the daemon has stopped."),
            );
        }
        let Some(status) = database.status_at(now).filter(|status| status.late) else { continue };
        let message = match (status.age_seconds, status.ahead_seconds) {
            (_, Some(ahead)) => format!(
                "The newest snapshot of {id} is dated {} in the future: nobody knows how old it is.",
                human::duration(ahead as f64)
            ),
            (Some(age), None) => {
                format!(
                    "The newest snapshot of {id} is {} old, which is too old.",
                    human::duration(age as f64)
                )
            }
            (None, None) => format!("There is no snapshot of {id}."),
        };
        add("late", Some(id), message);
    }
    for incident in published.incidents.iter().filter(|i| i.severity == Severity::Critical && !i.gone) {
        add(incident.kind.word(), incident.database.as_ref(), incident.summary.clone());
    }
    Health { healthy: reasons.is_empty(), reasons }
}
