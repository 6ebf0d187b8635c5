//! The deletion of a whole archive, as a decision records it (see `docs/FORMAT.md`): where its chains ended, so that a later
//! archive of this name goes on after them, and nobody takes what is gone for hidden.

use serde::{Deserialize, Serialize};

use crate::model::id::{Sha256, TargetName};
use crate::model::level::By;
use crate::repository::chain::Link;
use crate::repository::succession::Seen;

/// What is recorded of a deletion, before the first object is deleted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Deletion {
    /// The targets, by the names that they have for the writer.
    pub targets: Vec<TargetName>,
    /// Targets that the writer knows, and that keep their copy.
    pub elsewhere: Vec<TargetName>,
    /// How many snapshots there were.
    pub snapshots: u64,
    /// The last receipt of the chain; none, where there was no snapshot.
    pub last: Option<Seen>,
    /// The ends of the chains of drills, of those there were.
    pub drills: Vec<DrillsEnd>,
}

/// The end of one maker's chain of drills.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DrillsEnd {
    /// The maker.
    pub by: By,
    /// The number of the last receipt.
    pub sequence: u64,
    /// SHA-256 of its bytes.
    pub receipt: Sha256,
}

impl Deletion {
    /// Whether no target that the writer knows keeps a copy. Only then are missing receipts no news.
    pub(crate) fn is_whole(&self) -> bool {
        self.elsewhere.is_empty()
    }

    /// The last receipt, as the link that the next one follows. What came before it is not known.
    pub(super) fn link(&self) -> Option<Link> {
        let Seen { sequence, snapshot, receipt } = self.last.clone()?;
        Some(Link { id: snapshot, sequence, previous: None, hash: receipt })
    }

    /// The end of one maker's chain of drills.
    pub(super) fn drills_end(&self, by: By) -> Option<(u64, Sha256)> {
        self.drills.iter().find(|end| end.by == by).map(|end| (end.sequence, end.receipt))
    }
}
