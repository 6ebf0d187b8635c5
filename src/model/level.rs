//! The levels of proof. They are never merged into one tick.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// When each level was last proven for one snapshot at one target; `None` is "not proven".
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Levels {
    /// Every object acknowledged by the target, receipt written last.
    pub stored: Option<Timestamp>,
    /// Every object read back from the target, size and hash equal the receipt's.
    pub intact: Option<Timestamp>,
    /// Loaded into a scratch server by the agent and found equal to the source.
    pub restored: Option<Timestamp>,
    /// The same by the publisher, from their own key.
    pub owner_restored: Option<Timestamp>,
    /// Damage that was found there since: what was proven before it does not count any more.
    pub damaged: Option<Timestamp>,
}

/// One level of proof.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// See [`Levels::stored`].
    Stored,
    /// See [`Levels::intact`].
    Intact,
    /// See [`Levels::restored`].
    Restored,
    /// See [`Levels::owner_restored`].
    OwnerRestored,
}

/// Who made a drill.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum By {
    /// The agent, with the epoch key that it still held.
    Agent,
    /// The owner of the data, with their restore key.
    Owner,
}

impl By {
    /// The word used in messages and documents.
    pub fn word(self) -> &'static str {
        match self {
            By::Agent => "agent",
            By::Owner => "owner",
        }
    }

    /// The level that a drill of theirs proves.
    pub fn level(self) -> Level {
        match self {
            By::Agent => Level::Restored,
            By::Owner => Level::OwnerRestored,
        }
    }
}

impl Level {
    /// The word used in messages and documents.
    pub fn word(self) -> &'static str {
        match self {
            Level::Stored => "stored",
            Level::Intact => "intact",
            Level::Restored => "restored",
            Level::OwnerRestored => "owner-restored",
        }
    }
}

impl Levels {
    /// Adds a level that was proven at this time, unless damage was found since.
    pub fn add(&mut self, level: Level, at: Timestamp) {
        if self.damaged.is_some_and(|damaged| damaged >= at) {
            return;
        }
        let place = match level {
            Level::Stored => &mut self.stored,
            Level::Intact => &mut self.intact,
            Level::Restored => &mut self.restored,
            Level::OwnerRestored => &mut self.owner_restored,
        };
        *place = (*place).max(Some(at));
    }

    /// The highest level that has been proven, with its time.
    pub fn highest(&self) -> Option<(Level, Timestamp)> {
        [
            (Level::OwnerRestored, self.owner_restored),
            (Level::Restored, self.restored),
            (Level::Intact, self.intact),
            (Level::Stored, self.stored),
        ]
        .into_iter()
        .find_map(|(level, at)| at.map(|at| (level, at)))
    }
}
