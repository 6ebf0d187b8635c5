//! `/status.json`: what `marbre status --json` prints, with the jobs and the incidents that only the daemon knows.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::published::{OpenIncident, Published, PublishedDatabase};

/// The document.
pub(crate) fn status(published: &Published, now: Timestamp) -> Value {
    json!({
        "document": "daemon-status",
        "version": 1,
        "agent": concat!("marbre ", env!("CARGO_PKG_VERSION")),
        "started_at": published.started_at,
        "config": {"loaded_at": published.config.loaded_at, "refused_at": published.config.refused_at},
        "databases": published.databases.iter().map(|d| database(d, now)).collect::<Vec<_>>(),
        "incidents": published.incidents.iter().map(incident).collect::<Vec<_>>(),
    })
}

fn database(database: &PublishedDatabase, now: Timestamp) -> Value {
    // Only maps whose keys are no texts, and values that fail on purpose, cannot become JSON.
    let status = database.status_at(now).and_then(|status| serde_json::to_value(status).ok());
    let mut object = match status {
        Some(Value::Object(object)) => object,
        _ => Map::new(),
    };
    object.insert("publisher".to_owned(), json!(database.database.publisher));
    object.insert("database".to_owned(), json!(database.database.database));
    object.insert("looked_at".to_owned(), json!(database.look.as_ref().map(|look| look.at)));
    object.insert("jobs".to_owned(), json!(database.jobs));
    Value::Object(object)
}

fn incident(incident: &OpenIncident) -> Value {
    json!({
        "key": incident.key,
        "kind": incident.kind,
        "severity": incident.severity,
        "publisher": incident.database.as_ref().map(|d| &d.publisher),
        "database": incident.database.as_ref().map(|d| &d.database),
        "affected": incident.affected.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "since": incident.since,
        "summary": incident.summary,
    })
}
