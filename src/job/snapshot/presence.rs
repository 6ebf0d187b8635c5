//! Which packs of the epoch a target holds: asked before reading, to know what can be referred to, and again at the commit,
//! as evidence.

use std::collections::{BTreeSet, HashMap, HashSet};

use futures_util::TryStreamExt as _;
use tokio_util::sync::CancellationToken;

use crate::error::{Error, Result};
use crate::model::id::{DatabaseId, EpochId, Sha256, TargetName};
use crate::model::object::ObjectKey;
use crate::repository::layout;
use crate::repository::manifest::PackRef;
use crate::state::State;
use crate::targets::{NamedTarget, TargetError, TargetErrorKind};

/// Looks for packs of an epoch.
#[derive(Debug, Clone)]
pub(super) struct Presence {
    pub database: DatabaseId,
    pub epoch: EpochId,
    /// Where versions are remembered.
    pub state: State,
    /// The targets that lock what is put there.
    pub locking: BTreeSet<TargetName>,
}

impl Presence {
    /// Which of these packs a target holds, with the right size, and the right hash where it tells.
    pub(super) async fn at(
        &self,
        target: &NamedTarget,
        packs: &[PackRef],
        cancel: &CancellationToken,
    ) -> Result<HashSet<Sha256>> {
        let prefix = layout::key(&self.database, &layout::packs(&self.epoch))?;
        let wanted: HashMap<Sha256, u64> = packs.iter().map(|pack| (pack.sha256, pack.size)).collect();
        match self.listed(target, &prefix, &wanted, cancel).await {
            Ok(found) => Ok(found),
            // Write-only credentials cannot ask. What this agent put there is still there, if it is locked.
            Err(e) if e.kind == TargetErrorKind::Denied && self.locking.contains(&target.name) => {
                self.ours(target, wanted.into_keys())
            }
            Err(e) if e.kind == TargetErrorKind::Denied => Ok(HashSet::new()),
            Err(e) if e.kind == TargetErrorKind::Cancelled => Err(Error::interrupted()),
            Err(e) => Err(e.into()),
        }
    }

    async fn listed(
        &self,
        target: &NamedTarget,
        prefix: &ObjectKey,
        wanted: &HashMap<Sha256, u64>,
        cancel: &CancellationToken,
    ) -> Result<HashSet<Sha256>, TargetError> {
        let mut pages = target.target.list(Some(prefix), None, cancel).await?;
        let mut found = HashSet::new();
        while let Some(page) = pages.try_next().await? {
            found.extend(page.into_iter().filter_map(|object| {
                let pack = layout::pack_of(&self.database, &self.epoch, &object.key)?;
                let same = object.sha256.is_none_or(|sha256| sha256 == pack);
                (wanted.get(&pack) == Some(&object.size) && same).then_some(pack)
            }));
        }
        Ok(found)
    }

    fn ours(&self, target: &NamedTarget, packs: impl Iterator<Item = Sha256>) -> Result<HashSet<Sha256>> {
        let mut ours = HashSet::new();
        for pack in packs {
            let key = layout::key(&self.database, &layout::pack(&self.epoch, &pack))?;
            if self.state.version(&target.name, &key)?.is_some() {
                ours.insert(pack);
            }
        }
        Ok(ours)
    }
}
