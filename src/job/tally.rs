//! What lies of one database at one target, counted while it is listed: nobody holds the names.

use serde::Serialize;

use crate::model::id::SnapshotId;
use crate::repository::part::Part;

/// Objects, and their bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Sum {
    /// How many.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Sum {
    /// Adds others.
    pub(crate) fn add(&mut self, other: Sum) {
        self.objects += other.objects;
        self.bytes += other.bytes;
    }
}

/// What was counted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Tally {
    /// Receipts of snapshots.
    pub snapshots: u64,
    /// Epochs of which there is an object.
    pub epochs: u64,
    /// All objects.
    pub total: Sum,
    /// Of these, encrypted data.
    pub packs: Sum,
    /// Of these, encrypted descriptions of snapshots.
    pub manifests: Sum,
    /// Of these, receipts, signatures and other records, and the sealed keys of epochs.
    pub records: Sum,
    /// The oldest snapshot with a receipt.
    pub oldest: Option<SnapshotId>,
    /// The newest.
    pub newest: Option<SnapshotId>,
    #[serde(skip)]
    epoch: String,
}

impl Tally {
    /// Counts an object. `relative` is its key below the database; they come in the order of a list.
    pub(crate) fn add(&mut self, relative: &str, bytes: u64) {
        let one = Sum { objects: 1, bytes };
        self.total.add(one);
        match Part::of(relative) {
            Part::Pack => self.packs.add(one),
            Part::Manifest => self.manifests.add(one),
            part => {
                self.records.add(one);
                if part == Part::Receipt {
                    self.receipt(relative);
                }
            }
        }
        let epoch = relative.strip_prefix("epochs/").and_then(|rest| rest.split_once('/'));
        if let Some((epoch, _)) = epoch.filter(|(epoch, _)| *epoch != self.epoch) {
            self.epochs += 1;
            epoch.clone_into(&mut self.epoch);
        }
    }

    fn receipt(&mut self, relative: &str) {
        let name = relative.strip_prefix("receipts/").and_then(|file| file.strip_suffix(".json"));
        let Some(snapshot) = name.and_then(|name| name.parse::<SnapshotId>().ok()) else { return };
        self.snapshots += 1;
        if self.oldest.as_ref().is_none_or(|oldest| snapshot < *oldest) {
            self.oldest = Some(snapshot.clone());
        }
        if self.newest.as_ref().is_none_or(|newest| snapshot > *newest) {
            self.newest = Some(snapshot);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_counted_by_what_they_are() {
        let mut tally = Tally::default();
        for (key, bytes) in [
            ("claims/0/1.json", 1),
            ("epochs/20261101T000000Z-00000000/epoch.age", 10),
            ("epochs/20261101T000000Z-00000000/manifests/x.json.zst.age", 100),
            ("epochs/20261101T000000Z-00000000/packs/00.zst.age", 1000),
            ("epochs/20261102T000000Z-00000000/packs/00.zst.age", 2000),
            ("receipts/20261102T000000Z-00000000.json", 5),
            ("receipts/20261102T000000Z-00000000.json.sig", 5),
            ("receipts/20261101T000000Z-00000000.json", 5),
            ("receipts/nothing.json", 5),
        ] {
            tally.add(key, bytes);
        }
        assert_eq!((tally.snapshots, tally.epochs), (2, 2));
        assert_eq!(tally.packs, Sum { objects: 2, bytes: 3000 });
        assert_eq!(tally.manifests, Sum { objects: 1, bytes: 100 });
        assert_eq!(tally.records, Sum { objects: 6, bytes: 31 });
        assert_eq!(tally.total, Sum { objects: 9, bytes: 3131 });
        assert_eq!(tally.oldest.unwrap().as_str(), "20261101T000000Z-00000000");
        assert_eq!(tally.newest.unwrap().as_str(), "20261102T000000Z-00000000");
    }
}
