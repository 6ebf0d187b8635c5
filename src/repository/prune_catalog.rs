//! What retention has removed from a database: read from the records at its targets, signature by signature.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::{StreamExt, stream};
use tokio_util::sync::CancellationToken;

use crate::error::{Error, ErrorKind, Result};
use crate::keys::Namespace;
use crate::model::id::{PruneId, Sha256, SnapshotId, TargetName};
use crate::repository::chain::Link;
use crate::repository::layout;
use crate::repository::oddity::{Oddity, Problem};
use crate::repository::prune_record::{PruneRecord, Pruned};
use crate::repository::reader::{BadRecord, Listed, PARALLEL, Reader};
use crate::repository::remembered::Remembered as _;
use crate::repository::signed_record::{Depth, Signed, SignedBytes, SignedRecord};
use crate::state::noted;
use crate::targets::NamedTarget;
use crate::targets::{TargetError, TargetErrorKind};

/// A record is smaller than this: 100,000 snapshots.
const RECORD_LIMIT: u64 = 32 << 20;

/// One record.
#[derive(Debug, Clone)]
pub(crate) struct KnownPrune {
    /// The record.
    pub signed: Signed<PruneRecord>,
    /// The targets that have it.
    pub targets: BTreeSet<TargetName>,
}

/// What retention has removed.
#[derive(Debug, Clone, Default)]
pub(crate) struct Prunes {
    /// Every record with a good signature on some target, oldest first.
    pub records: BTreeMap<PruneId, KnownPrune>,
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
    /// Reads the records of these targets, and those that the state remembers: the only target that has one may be away. A
    /// target that does not answer is passed over: whoever lists its receipts finds that out.
    pub(crate) async fn prunes(
        &self,
        targets: Vec<&NamedTarget>,
        cancel: &CancellationToken,
    ) -> Result<Prunes> {
        let mut prunes = Prunes::default();
        let remembered = self.state.map(|s| s.prunes(self.database)).transpose()?.unwrap_or_default();
        for signed in remembered {
            let known = KnownPrune { signed, targets: BTreeSet::new() };
            prunes.records.insert(known.signed.record.prune.clone(), known);
        }
        for target in targets {
            let found = match self.list_prunes(target, cancel).await {
                Ok(found) => found,
                Err(e) if e.kind == TargetErrorKind::Cancelled => return Err(Error::interrupted()),
                Err(_) => continue,
            };
            let mut new = Vec::new();
            for listed in found {
                let known = prunes.records.get_mut(&listed.id).filter(|_| self.state.is_some());
                let oddity = listed.oddity(known.as_ref().map(|known| known.signed.sizes()));
                match known {
                    Some(known) if oddity.as_ref().is_none_or(|odd| odd.problem == Problem::Hidden) => {
                        known.targets.insert(target.name.clone());
                    }
                    Some(_) => {}
                    None => new.push(listed.id),
                }
                if let Some(oddity) = oddity {
                    prunes.oddities.entry(target.name.clone()).or_default().push(oddity);
                }
            }
            let mut fetched = stream::iter(new.into_iter().map(|prune| async move {
                let record = self.prune(target, &prune, cancel).await;
                (prune, record)
            }))
            .buffered(PARALLEL);
            while let Some((prune, record)) = fetched.next().await {
                match record {
                    Ok(signed) => {
                        let targets = BTreeSet::new();
                        let known = prunes.records.entry(prune).or_insert(KnownPrune { signed, targets });
                        known.targets.insert(target.name.clone());
                    }
                    Err(e) if e.kind() == ErrorKind::Interrupted => return Err(e),
                    Err(e) => prunes.bad.push(BadRecord {
                        target: target.name.clone(),
                        key: layout::key(self.database, &layout::prune(&prune))?.to_string(),
                        error: e.context(format!("record of prune {prune} at {}", target.name)),
                    }),
                }
            }
        }
        Ok(prunes)
    }

    async fn list_prunes(
        &self,
        target: &NamedTarget,
        cancel: &CancellationToken,
    ) -> Result<Vec<Listed<PruneId>>, TargetError> {
        self.list_folder(target, "prunes", layout::prune_of, cancel).await
    }

    async fn prune(
        &self,
        target: &NamedTarget,
        prune: &PruneId,
        cancel: &CancellationToken,
    ) -> Result<Signed<PruneRecord>> {
        let keys = [layout::prune(prune), layout::prune_signature(prune)];
        let namespace = Namespace::PruneRecord;
        let agents = self.agents(cancel).await?;
        let accept = |signed: &SignedBytes| {
            let record = PruneRecord::parse(&signed.bytes, self.database, prune)?;
            agents.check_record(&signed.signer, namespace, record.decided_at, self.trust)?;
            Ok(record)
        };
        let record = SignedRecord { database: self.database, keys, limit: RECORD_LIMIT, namespace };
        let (record, read) = record.read(target, Depth::AnyVersion, accept, cancel).await?;
        let signed = Signed::new(record, read);
        if let Some(state) = self.state {
            noted(state.remember_prune(self.database, &signed));
        }
        Ok(signed)
    }
}
