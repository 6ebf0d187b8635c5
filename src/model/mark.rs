//! What somebody has decided about one snapshot, whatever the rules of retention say of it.

use std::fmt;

use serde::Serialize;

/// Who decided, and why: texts for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Because {
    /// Who.
    pub by: String,
    /// Why.
    pub reason: String,
}

/// What was decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "mark", rename_all = "kebab-case")]
pub(crate) enum Mark {
    /// It stays.
    Pinned(Because),
    /// It goes.
    Forgotten(Because),
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (word, Because { by, reason }) = match self {
            Mark::Pinned(because) => ("pinned", because),
            Mark::Forgotten(because) => ("forgotten", because),
        };
        write!(f, "{word} by {by}: {reason}")
    }
}
