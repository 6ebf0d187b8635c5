//! What is wrong, as programs read it: the same in every document.

use serde::Serialize;

use crate::model::condition::{Condition, ConditionKind, Severity};
use crate::model::id::{DatabaseName, PublisherName};

/// Something that is wrong now.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct ShownIncident {
    /// What distinguishes it from others: stable, so that receivers can put sightings together.
    pub key: String,
    /// What is wrong, in a word.
    pub kind: ConditionKind,
    /// How bad it is.
    pub severity: Severity,
    /// Whose data it concerns; `null` for what concerns the whole agent.
    pub publisher: Option<PublisherName>,
    /// Which database.
    pub database: Option<DatabaseName>,
    /// What of it: a target, a channel, a folder, a job.
    pub object: Option<String>,
    /// The databases that share it, each as `PUBLISHER/DATABASE`, where it comes from something that they share.
    pub affected: Vec<String>,
    /// One line for people, a full sentence.
    pub summary: String,
    /// The stage of the job that failed, where one did.
    pub stage: Option<String>,
    /// The error line of the engine, the server or the target, where there is one.
    pub error: Option<String>,
    /// What to do next: full sentences.
    pub remedy: String,
}

impl ShownIncident {
    /// As this condition says.
    pub(crate) fn of(condition: &Condition) -> Self {
        Self {
            key: condition.key().to_string(),
            kind: condition.kind,
            severity: condition.severity,
            publisher: condition.database.as_ref().map(|id| id.publisher.clone()),
            database: condition.database.as_ref().map(|id| id.database.clone()),
            object: condition.object.clone(),
            affected: condition.hit().map(|affected| affected.database.to_string()).collect(),
            summary: condition.summary.clone(),
            stage: condition.stage.clone(),
            error: condition.error.clone(),
            remedy: condition.remedy.clone(),
        }
    }
}
