//! What retention has removed from a database.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::error::Result;
use crate::keys::Namespace;
use crate::model::id::{DatabaseId, PruneId, Sha256, SnapshotId, TargetName};
use crate::model::object::ObjectKey;
use crate::repository::chain::Link;
use crate::repository::layout;
use crate::repository::oddity::Oddity;
use crate::repository::prune_record::{PruneRecord, Pruned};
use crate::repository::reader::{BadRecord, Reader};
use crate::repository::record_catalog::{Known, Recorded, Records};
use crate::repository::remembered::Remembered as _;
use crate::repository::signed_record::Signed;
use crate::state::State;
use crate::targets::NamedTarget;

impl Recorded for PruneRecord {
    type Id = PruneId;
    const NAMES: (&'static str, &'static str) = ("prunes", "prune");
    /// 100,000 snapshots.
    const LIMIT: u64 = 32 << 20;
    const NAMESPACE: Namespace = Namespace::PruneRecord;
    const RIGHT: Namespace = Namespace::PruneRecord;

    fn id(&self) -> &PruneId {
        &self.prune
    }

    fn decided_at(&self) -> Timestamp {
        self.decided_at
    }

    fn keys(id: &PruneId) -> [String; 2] {
        [layout::prune(id), layout::prune_signature(id)]
    }

    fn id_of(database: &DatabaseId, key: &ObjectKey) -> Option<PruneId> {
        layout::prune_of(database, key)
    }

    fn parse(bytes: &[u8], database: &DatabaseId, id: &PruneId) -> Result<Self> {
        Self::parse(bytes, database, id)
    }

    fn remembered(state: &State, database: &DatabaseId) -> Result<Vec<Signed<Self>>> {
        state.prunes(database)
    }

    fn remember(state: &State, database: &DatabaseId, signed: &Signed<Self>) -> Result<()> {
        state.remember_prune(database, signed)
    }
}

/// What retention has removed.
#[derive(Debug, Clone, Default)]
pub(crate) struct Prunes {
    /// Every record with a good signature on some target, oldest first.
    pub records: BTreeMap<PruneId, Known<PruneRecord>>,
    /// Records that failed a check.
    pub bad: Vec<BadRecord>,
    /// Records that a target lists other than they were written.
    pub oddities: BTreeMap<TargetName, Vec<Oddity>>,
    /// Receipts of branches that the history did not go on with.
    pub branches: BTreeSet<Sha256>,
}

impl Prunes {
    /// The snapshots that the records name. Where the receipt of one is missing, nobody else has deleted it.
    pub(crate) fn snapshots(&self) -> BTreeSet<SnapshotId> {
        self.links().map(|link| link.id).collect()
    }

    /// The links that take the place of removed receipts in the chain.
    pub(crate) fn links(&self) -> impl Iterator<Item = Link> {
        let links =
            self.records.values().flat_map(|known| known.signed.record.snapshots.iter().map(Pruned::link));
        links.filter(|link| !self.branches.contains(&link.hash))
    }
}

impl Reader<'_> {
    /// Reads what retention has removed, from these targets and from the state.
    pub(crate) async fn prunes(
        &self,
        targets: &[&NamedTarget],
        cancel: &CancellationToken,
    ) -> Result<Prunes> {
        let Records { records, bad, oddities } = self.records::<PruneRecord>(targets, cancel).await?;
        Ok(Prunes { records, bad, oddities, branches: BTreeSet::new() })
    }
}
