//! What a source has and a snapshot of it does not hold.

use serde::{Deserialize, Serialize};

use super::human;

/// How many names of a kind people are shown.
const SHOWN: usize = 10;

/// Things of one kind that are not in a snapshot, because they could not be read or the tools leave them out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Omission {
    /// The kind, in the singular and without names: receipts say it in clear.
    pub kind: String,
    /// Which, by name.
    pub names: Vec<String>,
    /// Why, as a fragment.
    pub why: String,
    /// What makes the next snapshot hold them.
    pub remedy: String,
}

impl Omission {
    /// How many.
    pub(crate) fn number(&self) -> u64 {
        self.names.len() as u64
    }

    /// What is missing, in words that follow "not in the snapshot:".
    pub(crate) fn what(&self) -> String {
        let names: Vec<String> = self.names.iter().map(|name| name.escape_debug().to_string()).collect();
        format!("{} × {} ({})", self.number(), self.kind, human::first_few(&names, SHOWN))
    }

    /// What people should know when a snapshot was taken.
    pub(crate) fn warning(&self) -> String {
        format!("NOT in the snapshot: {}: {}. {}", self.what(), self.why, self.remedy)
    }

    /// What people should know when the snapshot is used.
    pub(crate) fn reminder(&self) -> String {
        format!("was not in the snapshot: {}: {}", self.what(), self.why)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_omission_says_what_why_and_what_to_do() {
        let omission = Omission {
            kind: "subscription".into(),
            names: vec!["a\nb".into(), "c".into()],
            why: "only a superuser may read it".into(),
            remedy: "Be one.".into(),
        };
        assert_eq!(
            omission.warning(),
            "NOT in the snapshot: 2 × subscription (a\\nb; c): only a superuser may read it. Be one."
        );
        assert_eq!(
            omission.reminder(),
            "was not in the snapshot: 2 × subscription (a\\nb; c): only a superuser may read it"
        );
    }
}
