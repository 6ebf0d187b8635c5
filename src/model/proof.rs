//! The proof of a drill, built from evidence and from nothing else (invariant I1).

use crate::model::level::{By, Level};
use crate::model::sabotage::Sabotage;

/// What a drill has shown. Everything starts at nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Evidence {
    /// Objects that the receipt names.
    pub objects: u64,
    /// Of these, fetched from the one target, with the right size and hash.
    pub fetched: u64,
    /// Types of objects whose number was compared.
    pub types: u64,
    /// Tables that the manifest names.
    pub tables: u64,
    /// Of these, equal in count and digest.
    pub equal: u64,
    /// Types of objects whose number differs, and whatever else differs.
    pub differences: u64,
    /// What could not be restored, or not as it was.
    pub exceptions: u64,
    /// Checks that did not hold, or could not be asked.
    pub checks_failed: u64,
    /// Everything that the drill made was removed, and looked for.
    pub removed: bool,
    /// The drill damaged its own copy.
    pub sabotage: Option<Sabotage>,
}

/// A drill that passed. Only [`Evidence::weigh`] makes one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Proof(Level);

impl Proof {
    /// The level that was proven.
    pub(crate) fn level(self) -> Level {
        self.0
    }
}

impl Evidence {
    /// The proof, if nothing is missing; otherwise what is.
    pub(crate) fn weigh(&self, by: By) -> Result<Proof, &'static str> {
        if self.sabotage.is_some() {
            Err("a sabotage proves nothing about the snapshot")
        } else if self.objects == 0 || self.fetched != self.objects {
            Err("not every object was fetched")
        } else if self.tables == 0 && self.types == 0 {
            Err("nothing was compared")
        } else if self.exceptions > 0 {
            Err("something could not be restored")
        } else if self.equal != self.tables || self.differences > 0 {
            Err("what came back is not equal")
        } else if self.checks_failed > 0 {
            Err("a check has failed")
        } else if !self.removed {
            Err("the restored copy was not removed")
        } else {
            Ok(Proof(by.level()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complete() -> Evidence {
        Evidence { objects: 3, fetched: 3, tables: 2, equal: 2, removed: true, ..Evidence::default() }
    }

    #[test]
    fn only_complete_evidence_is_a_proof() {
        assert_eq!(complete().weigh(By::Agent).unwrap().level(), Level::Restored);
        assert_eq!(complete().weigh(By::Owner).unwrap().level(), Level::OwnerRestored);
        assert!(Evidence::default().weigh(By::Agent).is_err());
        let without_tables = Evidence { tables: 0, equal: 0, types: 2, ..complete() };
        assert!(without_tables.weigh(By::Agent).is_ok(), "a database may have none");
        let spoilt: [fn(&mut Evidence); 10] = [
            |e| e.objects = 0,
            |e| e.fetched = 2,
            |e| (e.tables, e.equal) = (0, 0),
            |e| e.exceptions = 1,
            |e| e.equal = 1,
            |e| e.equal = 3,
            |e| e.differences = 1,
            |e| e.checks_failed = 1,
            |e| e.removed = false,
            |e| e.sabotage = Some(Sabotage::Row),
        ];
        for (number, spoil) in spoilt.iter().enumerate() {
            let mut evidence = complete();
            spoil(&mut evidence);
            assert!(evidence.weigh(By::Agent).is_err(), "{number}");
        }
    }
}
