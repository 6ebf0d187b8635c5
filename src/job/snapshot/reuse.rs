//! Which packs of the previous snapshot can be referred to, and where they are.

use std::collections::{BTreeMap, HashSet};

use futures_util::{StreamExt, stream};
use tokio_util::sync::CancellationToken;

use crate::error::{Error, Result};
use crate::job::snapshot::SnapshotJob;
use crate::job::snapshot::epoch::Epoch;
use crate::job::snapshot::stream_cache::StreamCache;
use crate::model::id::{DatabaseId, Sha256, TargetName};
use crate::pack::history::Previous;
use crate::repository::layout;
use crate::repository::receipt::ObjectRef;
use crate::repository::remembered::Remembered as _;
use crate::state::State;
use crate::targets::NamedTarget;
use crate::targets::TargetErrorKind;

/// HEAD requests at the same time, per target.
const PARALLEL: usize = 16;

/// Every object that the next snapshot may refer to: retention keeps them, even if it deletes the snapshot that they
/// come from.
pub(crate) fn referable(state: &State, database: &DatabaseId) -> Result<Vec<ObjectRef>> {
    let Some(cache) = StreamCache::load(&state.streams_folder(database)) else { return Ok(Vec::new()) };
    Ok(state.receipt(database, &cache.snapshot)?.map(|signed| signed.receipt.objects).unwrap_or_default())
}

/// The previous snapshot of this epoch, as far as it can be referred to.
#[derive(Debug, Default)]
pub(crate) struct Reuse {
    cache: Option<StreamCache>,
    /// Packs that no target holds, or that failed a check.
    lost: HashSet<Sha256>,
    /// Size of every pack of the previous snapshot.
    pub sizes: BTreeMap<Sha256, u64>,
    /// Which of them each target holds.
    pub present: BTreeMap<TargetName, HashSet<Sha256>>,
}

impl Reuse {
    /// Asks every target for every pack of the previous snapshot.
    pub(super) async fn find(
        job: &SnapshotJob,
        epoch: &Epoch,
        targets: &[NamedTarget],
        cancel: &CancellationToken,
    ) -> Result<Self> {
        if epoch.full {
            return Ok(Self::default());
        }
        let folder = job.state.streams_folder(&job.database);
        let Some(cache) = StreamCache::load(&folder).filter(|m| m.epoch == epoch.state.epoch) else {
            return Ok(Self::default());
        };
        let Some(previous) = job.state.receipt(&job.database, &cache.snapshot)? else {
            return Ok(Self::default());
        };
        let mut reuse = Self { cache: Some(cache), ..Self::default() };
        let packs: Vec<ObjectRef> = previous
            .receipt
            .objects
            .into_iter()
            .filter(|o| o.key == layout::pack(&epoch.state.epoch, &o.sha256))
            .collect();
        reuse.sizes = packs.iter().map(|o| (o.sha256, o.size)).collect();
        reuse.lost = job.state.lost_packs(&job.database)?.into_iter().collect();
        for target in targets {
            let ask = |object: ObjectRef| async move {
                let key = layout::key(&job.database, &object.key)?;
                match target.target.head(&key, cancel).await {
                    Ok(found) => Ok(found
                        .filter(|f| f.size == object.size && f.sha256.is_none_or(|s| s == object.sha256))
                        .map(|_| object.sha256)),
                    Err(e) if e.kind == TargetErrorKind::Cancelled => Err(Error::interrupted()),
                    // Write-only credentials cannot ask. What this agent put there is still there, as it is locked.
                    Err(e) if e.kind == TargetErrorKind::Denied && job.locks.contains_key(&target.name) => {
                        let ours = job.state.version(&target.name, &key)?;
                        Ok(ours.map(|_| object.sha256))
                    }
                    // Otherwise it is not known to be there.
                    Err(_) => Ok(None),
                }
            };
            let asked: Vec<_> = packs.iter().cloned().map(ask).collect();
            let answers: Vec<Result<Option<Sha256>>> =
                stream::iter(asked).buffer_unordered(PARALLEL).collect().await;
            let present = answers.into_iter().filter_map(Result::transpose).collect::<Result<_>>()?;
            reuse.present.insert(target.name.clone(), present);
        }
        let nowhere = |pack: &&Sha256| !reuse.present.values().any(|p| p.contains(pack));
        reuse.lost.extend(reuse.sizes.keys().filter(nowhere).copied().collect::<Vec<_>>());
        Ok(reuse)
    }

    /// The previous version of the stream with this identity.
    pub(super) fn stream(&self, identity: &str) -> Option<Previous> {
        self.cache.as_ref()?.stream(identity, &self.lost)
    }
}
