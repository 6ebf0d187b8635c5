//! What the daemon does by itself, and what became of it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use strum::VariantArray;

/// A kind of work that can be scheduled for a database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, VariantArray)]
#[serde(rename_all = "kebab-case")]
pub enum JobKind {
    /// A snapshot.
    Snapshot,
    /// A drill.
    Drill,
    /// A drill that damages its own copy, and must notice it.
    Sabotage,
    /// Reading everything back.
    Verify,
    /// Deleting what no rule keeps.
    Prune,
    /// Copying what targets lack from those that have it.
    Sync,
}

impl JobKind {
    /// All of them.
    pub const ALL: &[Self] = Self::VARIANTS;

    /// Its key in the configuration, and its word everywhere else.
    pub fn word(self) -> &'static str {
        match self {
            Self::Snapshot => "snapshot",
            Self::Drill => "drill",
            Self::Sabotage => "sabotage",
            Self::Verify => "verify",
            Self::Prune => "prune",
            Self::Sync => "sync",
        }
    }
}

impl fmt::Display for JobKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl FromStr for JobKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.iter().copied().find(|kind| kind.word() == text);
        found.ok_or_else(|| format!("there is no job {text:?}"))
    }
}

/// What became of a scheduled slot. Every slot has exactly one of these in the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, VariantArray)]
#[serde(rename_all = "kebab-case")]
pub enum SlotState {
    /// Its job is at work.
    Running,
    /// Its job has done what it had to.
    Done,
    /// Its job has failed.
    Failed,
    /// Its job ended with the daemon; the next start makes up for it.
    Interrupted,
    /// Its job was never started: another process was at work.
    Missed,
    /// Its job was never started: the one before was still at work.
    Overlapped,
}

impl SlotState {
    /// All of them.
    pub const ALL: &[Self] = Self::VARIANTS;

    /// The word used in the state and in logs.
    pub fn word(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Interrupted => "interrupted",
            Self::Missed => "missed",
            Self::Overlapped => "overlapped",
        }
    }
}

impl FromStr for SlotState {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.iter().copied().find(|state| state.word() == text);
        found.ok_or_else(|| format!("there is no state {text:?} of a slot"))
    }
}
