//! The verdict of a snapshot, built from evidence and from nothing else (invariant I1).

use std::collections::BTreeSet;
use std::num::NonZeroUsize;

use serde::Serialize;

use crate::model::id::TargetName;

/// Evidence that one target holds a whole snapshot: every object acknowledged, and then its
/// receipt. Only [`TargetLedger::close`] makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stored {
    target: TargetName,
    objects: u64,
}

impl Stored {
    /// The target that holds the snapshot.
    pub(crate) fn target(&self) -> &TargetName {
        &self.target
    }
}

/// Counts what a target must hold against what it acknowledged.
#[derive(Debug)]
pub(crate) struct TargetLedger {
    target: TargetName,
    expected: u64,
    acknowledged: u64,
}

impl TargetLedger {
    /// Opens the account of one target that must come to hold `expected` objects.
    pub(crate) fn open(target: TargetName, expected: u64) -> Self {
        Self { target, expected, acknowledged: 0 }
    }

    /// One more object is known to be there.
    pub(crate) fn acknowledge(&mut self) {
        self.acknowledged += 1;
    }

    /// Evidence, if nothing is missing; otherwise how many objects are.
    pub(crate) fn close(self) -> Result<Stored, u64> {
        if self.expected > 0 && self.acknowledged == self.expected {
            Ok(Stored { target: self.target, objects: self.acknowledged })
        } else {
            Err(self.expected.abs_diff(self.acknowledged).max(1))
        }
    }
}

/// How a snapshot ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Word {
    /// Every target holds it.
    Complete,
    /// At least `copies` targets hold it, and every required one, but not all.
    Degraded,
    /// Fewer than `copies` targets hold it, or a required one does not.
    Failed,
}

/// The verdict over all targets. Its word follows from the evidence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Verdict {
    word: Word,
    stored: Vec<Stored>,
}

impl Verdict {
    /// Weighs the evidence of `targets` targets, of which at least `copies`, and all that are `required`, must hold the
    /// snapshot. Evidence given twice for one target counts once.
    pub(crate) fn weigh(
        mut stored: Vec<Stored>,
        targets: NonZeroUsize,
        copies: NonZeroUsize,
        required: &BTreeSet<TargetName>,
    ) -> Self {
        stored.sort_by(|a, b| a.target.cmp(&b.target));
        stored.dedup_by(|a, b| a.target == b.target);
        let holds = |name: &TargetName| stored.iter().any(|evidence| evidence.target == *name);
        let word = if !required.iter().all(holds) {
            Word::Failed
        } else if stored.len() >= targets.get().max(copies.get()) {
            Word::Complete
        } else if stored.len() >= copies.get() {
            Word::Degraded
        } else {
            Word::Failed
        };
        Self { word, stored }
    }

    /// The word.
    pub(crate) fn word(&self) -> Word {
        self.word
    }

    /// The targets that hold the snapshot.
    pub(crate) fn stored(&self) -> &[Stored] {
        &self.stored
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn evidence(name: &str) -> Stored {
        let mut ledger = TargetLedger::open(name.parse().unwrap(), 1);
        ledger.acknowledge();
        ledger.close().unwrap()
    }

    fn weigh(stored: Vec<Stored>, targets: NonZeroUsize, copies: NonZeroUsize) -> Verdict {
        Verdict::weigh(stored, targets, copies, &BTreeSet::new())
    }

    fn n(n: usize) -> NonZeroUsize {
        NonZeroUsize::new(n).unwrap()
    }

    #[test]
    fn nothing_acknowledged_is_never_evidence() {
        assert_eq!(TargetLedger::open("a".parse().unwrap(), 0).close(), Err(1));
        assert_eq!(TargetLedger::open("a".parse().unwrap(), 3).close(), Err(3));
        let mut over = TargetLedger::open("a".parse().unwrap(), 1);
        over.acknowledge();
        over.acknowledge();
        assert_eq!(over.close(), Err(1));
    }

    #[test]
    fn the_word_follows_the_evidence() {
        assert_eq!(weigh(vec![], n(2), n(1)).word(), Word::Failed);
        assert_eq!(weigh(vec![evidence("a")], n(2), n(1)).word(), Word::Degraded);
        assert_eq!(weigh(vec![evidence("a")], n(2), n(2)).word(), Word::Failed);
        assert_eq!(weigh(vec![evidence("a"), evidence("b")], n(2), n(2)).word(), Word::Complete);
    }

    #[test]
    fn a_required_target_outweighs_any_number_of_others() {
        let required = BTreeSet::from(["b".parse().unwrap()]);
        let word = |stored| Verdict::weigh(stored, n(3), n(1), &required).word();
        assert_eq!(word(vec![evidence("a"), evidence("c")]), Word::Failed);
        assert_eq!(word(vec![evidence("b")]), Word::Degraded);
        assert_eq!(word(vec![evidence("a"), evidence("b"), evidence("c")]), Word::Complete);
    }

    #[test]
    fn one_target_twice_is_one_copy() {
        let twice = vec![evidence("a"), evidence("a")];
        assert_eq!(weigh(twice, n(2), n(2)).word(), Word::Failed);
    }
}
