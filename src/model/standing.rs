//! How a database stands, in a word.

use std::str::FromStr;

use serde::Serialize;
use strum::VariantArray;

/// How a database stands: the worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, VariantArray)]
#[serde(rename_all = "lowercase")]
pub enum Standing {
    /// Its newest snapshot is older than it may be, or nobody knows how old it is.
    Late,
    /// Something else is wrong with it that puts data at risk.
    Failing,
    /// No target answered, so nobody knows.
    Unknown,
    /// Somebody should look at it in working hours.
    Warning,
    /// It has no snapshot yet, and none was due.
    New,
    /// All is well.
    Well,
}

impl Standing {
    /// All of them.
    pub const ALL: &[Self] = Self::VARIANTS;

    /// The word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Late => "late",
            Self::Failing => "failing",
            Self::Unknown => "unknown",
            Self::Warning => "warning",
            Self::New => "new",
            Self::Well => "well",
        }
    }
}

impl FromStr for Standing {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let words: Vec<&str> = Self::ALL.iter().map(|standing| standing.word()).collect();
        let found = Self::ALL.iter().copied().find(|standing| standing.word() == text);
        found.ok_or_else(|| format!("say {}", words.join(", ")))
    }
}
