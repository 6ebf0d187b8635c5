//! The stages of a drill, as its report names them.

use serde::{Serialize, Serializer};
use strum::VariantArray;

use crate::model::stage::Stage;

/// What a drill is doing, in the order in which it does it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, VariantArray)]
pub enum DrillStage {
    /// Beginning: nothing has been read yet.
    Start,
    /// Reading the receipts and choosing the snapshot.
    Receipts,
    /// Fetching every object of the snapshot.
    Fetch,
    /// Decrypting its manifest.
    Open,
    /// Starting the throwaway server.
    Server,
    /// Loading the data.
    Load,
    /// Building indexes and constraints.
    Index,
    /// Comparing what was restored with what was saved.
    Compare,
    /// Running the checks.
    Checks,
    /// Removing the restored copy.
    Remove,
    /// Judging the evidence: a drill that fails here ran to its end, and did not prove what it had to.
    Verdict,
}

impl DrillStage {
    /// All of them, in their order.
    pub const ALL: &[Self] = Self::VARIANTS;

    /// The word used in receipts, reports and messages.
    pub fn word(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Receipts => "receipts",
            Self::Fetch => "fetch",
            Self::Open => "open",
            Self::Server => "server",
            Self::Load => "load",
            Self::Index => "index",
            Self::Compare => "compare",
            Self::Checks => "checks",
            Self::Remove => "remove",
            Self::Verdict => "verdict",
        }
    }

    /// The one that this word names; `None` for a word that a newer release may know.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|stage| stage.word() == word)
    }

    /// The stage of a drill that a job's stage belongs to; `None` where drills do not have it.
    pub fn of(stage: Stage) -> Option<Self> {
        match stage {
            Stage::Receipts => Some(Self::Receipts),
            Stage::Fetch => Some(Self::Fetch),
            Stage::Open => Some(Self::Open),
            Stage::Server => Some(Self::Server),
            Stage::Roles | Stage::Schema | Stage::Data | Stage::Rows | Stage::Pages | Stage::Check => {
                Some(Self::Load)
            }
            Stage::Indexes | Stage::Analyze => Some(Self::Index),
            Stage::Compare => Some(Self::Compare),
            Stage::Checks => Some(Self::Checks),
            Stage::Remove => Some(Self::Remove),
            Stage::Targets
            | Stage::Read
            | Stage::Close
            | Stage::Record
            | Stage::Commit
            | Stage::Objects
            | Stage::Copy
            | Stage::Delete => None,
        }
    }

    /// Whether it is part of the recovery, whose time is the measured RTO.
    pub fn is_recovery(self) -> bool {
        (Self::Receipts..=Self::Index).contains(&self)
    }

    /// Whether a failed verification in it says something about the snapshot: its objects were damaged, or what was restored is
    /// not what was saved. That a drill could not run says nothing of the kind, nor does a check of data that equal their source.
    pub fn is_about_snapshot(self) -> bool {
        matches!(self, Self::Fetch | Self::Open | Self::Load | Self::Index | Self::Compare)
    }
}

impl Serialize for DrillStage {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.word())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_lead_back_to_their_stages_in_order() {
        assert!(DrillStage::ALL.is_sorted());
        for &stage in DrillStage::ALL {
            assert_eq!(DrillStage::from_word(stage.word()), Some(stage));
        }
        assert_eq!(DrillStage::from_word("rows"), None);
    }

    #[test]
    fn the_recovery_goes_from_the_receipts_to_the_indexes() {
        let recovery = DrillStage::ALL.iter().copied().filter(|stage| stage.is_recovery());
        let words: Vec<&str> = recovery.map(DrillStage::word).collect();
        assert_eq!(words, ["receipts", "fetch", "open", "server", "load", "index"]);
    }
}
