//! Which objects are still needed.

use std::collections::{BTreeMap, BTreeSet};

use tokio_util::sync::CancellationToken;

use crate::error::{ErrorKind, Result};
use crate::job::snapshot;
use crate::model::id::SnapshotId;
use crate::repository::catalog::Catalog;
use crate::repository::layout;
use crate::repository::reader::Reader;
use crate::repository::remembered::Remembered as _;
use crate::state::State;

/// The objects that must stay, by their keys relative to the database.
#[derive(Debug, Default)]
pub(super) struct Needed {
    /// What the kept snapshots need, at whichever target they are, and what the next snapshot may refer to.
    pub objects: BTreeSet<String>,
    /// What each deleted snapshot needs for as long as its receipt exists.
    pub going: BTreeMap<SnapshotId, BTreeSet<String>>,
    /// Receipts whose needs are unknown: then no object may be deleted.
    pub unknown: Vec<String>,
}

impl Needed {
    pub(super) async fn gather(
        reader: &Reader<'_>,
        state: &State,
        catalog: &Catalog,
        going: &BTreeSet<SnapshotId>,
        cancel: &CancellationToken,
    ) -> Result<Self> {
        let mut needed = Self::default();
        for (snapshot, entry) in catalog.entries.iter().chain(&catalog.aside) {
            match reader.load(entry, cancel).await {
                Ok(signed) => {
                    let keys = signed.receipt.objects.into_iter().map(|o| o.key);
                    match going.contains(snapshot) {
                        true => needed.going.entry(snapshot.clone()).or_default().extend(keys),
                        false => needed.objects.extend(keys),
                    }
                }
                Err(e) if e.kind() == ErrorKind::Interrupted => return Err(e),
                Err(e) => {
                    needed.unknown.push(format!("objects are kept, because {snapshot} cannot be read: {e}"))
                }
            }
        }
        for bad in &catalog.bad {
            let snapshot = bad.key.parse().ok().and_then(|key| layout::snapshot_of(reader.database, &key));
            if snapshot.is_some_and(|snapshot| catalog.find(&snapshot).is_none()) {
                let why = format!("objects are kept, because {} cannot be trusted: {}", bad.key, bad.error);
                needed.unknown.push(why);
            }
        }
        needed.require_whole(reader, catalog)?;
        needed.add_remembered(reader, state, catalog, going)?;
        Ok(needed)
    }

    /// A receipt that is not shown is no evidence that nobody needs its objects: an accident, or a storage that hides it,
    /// would have them deleted.
    fn require_whole(&mut self, reader: &Reader<'_>, catalog: &Catalog) -> Result<()> {
        for entry in catalog.hidden.values() {
            self.unknown.push(format!(
                "objects are kept, because no target shows the receipt of {} (number {}), although it was stored",
                entry.receipt.snapshot, entry.receipt.sequence
            ));
        }
        let gaps = reader.gaps(catalog)?;
        self.unknown.extend(
            gaps.iter().map(|gap| format!("objects are kept, because {gap}, and no prune has removed that")),
        );
        Ok(())
    }

    /// Adds what the agent remembers of targets that do not answer, and what its next snapshot may refer to.
    fn add_remembered(
        &mut self,
        reader: &Reader<'_>,
        state: &State,
        catalog: &Catalog,
        going: &BTreeSet<SnapshotId>,
    ) -> Result<()> {
        let database = reader.database;
        let pruned = catalog.prunes.snapshots();
        for (target, _) in &catalog.unreachable {
            for snapshot in state.stored_at(database, target)? {
                let kept = !going.contains(&snapshot) && !pruned.contains(&snapshot);
                if let (true, Some(signed)) = (kept, state.receipt(database, &snapshot)?) {
                    self.objects.extend(signed.receipt.objects.into_iter().map(|o| o.key));
                }
            }
        }
        self.objects.extend(snapshot::referable(state, database));
        self.objects.extend(state.epoch(database)?.map(|current| layout::epoch(&current.epoch)));
        Ok(())
    }
}
