//! What is put down for a channel until the channel has taken it.

use serde::{Deserialize, Serialize};

use super::condition::Severity;
use super::digest::Digest;
use super::id::DatabaseId;
use super::incident::Event;
use super::job::JobKind;
use super::route::Audience;

/// How a job goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// It has begun.
    Start,
    /// It is done, and has proven what it is there to prove.
    Success,
    /// It has failed, or has proven too little.
    Fail,
}

impl Phase {
    /// How a job ended. Done is not enough: only what is proven counts as success.
    pub fn of_end(done: bool, proof_reached: bool) -> Self {
        if done && proof_reached { Self::Success } else { Self::Fail }
    }

    /// The word used in messages.
    pub fn word(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Success => "success",
            Self::Fail => "fail",
        }
    }
}

/// A message on its way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Notice {
    /// Something happened to an incident.
    Incident(Box<Event>),
    /// A job of a database goes so.
    Job {
        /// The database.
        database: DatabaseId,
        /// The job.
        kind: JobKind,
        /// How it goes.
        phase: Phase,
    },
    /// The agent lives, and its channels take messages, or do not.
    Canary {
        /// Whether they do.
        healthy: bool,
    },
    /// How the databases stand.
    Digest(Box<Digest>),
}

impl Notice {
    /// How urgent it is.
    pub(crate) fn severity(&self) -> Severity {
        match self {
            Self::Incident(event) => event.incident.severity,
            // A monitor that counts must not wait for the end of quiet hours.
            Self::Job { .. } | Self::Canary { .. } => Severity::Critical,
            Self::Digest(_) => Severity::Warning,
        }
    }

    /// Whether such readers may hear of it.
    pub(crate) fn is_for(&self, audience: &Audience) -> bool {
        match self {
            Self::Incident(event) => audience.may_hear_of_condition(&event.incident.condition),
            Self::Job { database, .. } => audience.may_hear_of(Some(database)),
            Self::Canary { .. } => audience.may_hear_of(None),
            Self::Digest(digest) => !digest.narrowed(audience).databases.is_empty(),
        }
    }
}
