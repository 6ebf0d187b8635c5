//! Receipts that were stored once, that no target shows now, and that no prune has removed.

use std::collections::{BTreeMap, BTreeSet};

use crate::error::Result;
use crate::model::id::SnapshotId;
use crate::repository::catalog::{Catalog, Entry};
use crate::repository::chain::{self, Break, Link};
use crate::repository::decision::Chain;
use crate::repository::reader::Reader;
use crate::repository::receipt::Summary;
use crate::repository::remembered::Remembered as _;

impl Entry {
    /// A snapshot whose receipt no target has shown yet.
    pub(super) fn of(summary: &Summary) -> Self {
        Self {
            link: Link::of(&summary.receipt, summary.hash),
            receipt: summary.receipt.clone(),
            size: summary.size,
            signer: summary.signer,
            targets: BTreeSet::new(),
        }
    }
}

impl Reader<'_> {
    /// The snapshots that a target which can be reached has acknowledged, and that none shows any more, unless somebody has
    /// said that they are lost. `known` are the receipts that the state remembers.
    pub(super) fn hidden(
        &self,
        catalog: &Catalog,
        known: &BTreeMap<SnapshotId, Summary>,
    ) -> Result<BTreeMap<SnapshotId, Entry>> {
        let Some(state) = self.state else { return Ok(BTreeMap::new()) };
        let pruned = catalog.prunes.snapshots();
        let mut hidden = BTreeMap::new();
        for target in self.targets.iter().filter(|target| !catalog.is_away(&target.name)) {
            for snapshot in state.stored_at(self.database, &target.name)? {
                let gone = pruned.contains(&snapshot) || catalog.agents.sets_aside(&snapshot);
                if gone || catalog.find(&snapshot).is_some() {
                    continue;
                }
                let counts = |seen: &&Summary| {
                    let checked = catalog.agents.check_receipt(&seen.receipt, &seen.signer, self.trust);
                    checked.is_ok() && !catalog.is_aside(&seen.hash)
                };
                let known = known.get(&snapshot).filter(counts);
                if let Some(summary) = known.filter(|s| !catalog.decisions.know_lost(s.receipt.sequence)) {
                    hidden.insert(snapshot, Entry::of(summary));
                }
            }
        }
        Ok(hidden)
    }

    /// The numbers of receipts of which nobody knows what they need: no target shows them, no prune has removed them, and the
    /// state does not remember them. Those that a target which cannot be reached has acknowledged are known.
    pub(crate) fn gaps(&self, catalog: &Catalog) -> Result<Vec<Break>> {
        let mut links: Vec<Link> = catalog.entries.values().map(|e| e.link.clone()).collect();
        links.extend(catalog.prunes.links());
        links.extend(catalog.hidden.values().map(|e| e.link.clone()));
        if let Some(state) = self.state {
            for (target, _) in &catalog.unreachable {
                for snapshot in state.stored_at(self.database, target)? {
                    let receipt = state.receipt(self.database, &snapshot)?;
                    links.extend(receipt.map(|signed| Link::of(&signed.receipt, signed.hash())));
                }
            }
        }
        let missing =
            |b: &Break| matches!(b, Break::Missing(..)) && !catalog.decisions.know_break(Chain::Receipts, b);
        Ok(chain::check(&links, true, None).into_iter().filter(missing).collect())
    }
}
