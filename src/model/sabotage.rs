//! Damage that a drill does to its own copy, to show that it notices.

use std::str::FromStr;

use serde::{Deserialize, Serialize};
use strum::VariantArray;

use crate::model::drill_stage::DrillStage;

/// What is damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, VariantArray)]
#[serde(rename_all = "kebab-case")]
pub enum Sabotage {
    /// One byte of a pack, on its way from the target.
    Byte,
    /// One row of the restored database.
    Row,
    /// One of its tables.
    MissingTable,
    /// One of its indexes.
    Index,
    /// The value of one of its sequences.
    Sequence,
    /// The newest receipt is hidden: the target shows an older state.
    Stale,
}

impl Sabotage {
    /// All of them.
    pub const ALL: &[Self] = Self::VARIANTS;

    /// The word used on the command line and in documents.
    pub fn word(self) -> &'static str {
        match self {
            Self::Byte => "byte",
            Self::Row => "row",
            Self::MissingTable => "missing-table",
            Self::Index => "index",
            Self::Sequence => "sequence",
            Self::Stale => "stale",
        }
    }

    /// The stage at which a drill must fail because of it.
    pub fn stage(self) -> DrillStage {
        match self {
            Self::Stale => DrillStage::Receipts,
            Self::Byte => DrillStage::Fetch,
            Self::Row | Self::MissingTable | Self::Index | Self::Sequence => DrillStage::Compare,
        }
    }
}

impl FromStr for Sabotage {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let words: Vec<&str> = Self::ALL.iter().map(|s| s.word()).collect();
        let found = Self::ALL.iter().copied().find(|s| s.word() == text);
        found.ok_or_else(|| format!("{text:?} is not one of {}", words.join(", ")))
    }
}
