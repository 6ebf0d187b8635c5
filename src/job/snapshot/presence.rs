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
use crate::repository::oddity::Oddity;
use crate::state::State;
use crate::targets::{NamedTarget, TargetError, TargetErrorKind};

/// What a target was found to hold.
#[derive(Debug, Default)]
pub(super) struct Held {
    /// Packs with the right size, and the right hash where the target tells.
    pub packs: HashSet<Sha256>,
    /// Packs that it lists, and that are not as they were put.
    pub odd: Vec<Oddity>,
}

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
    /// Which of these packs a target holds.
    pub(super) async fn at(
        &self,
        target: &NamedTarget,
        packs: &[PackRef],
        cancel: &CancellationToken,
    ) -> Result<Held> {
        let prefix = layout::key(&self.database, &layout::packs(&self.epoch))?;
        let wanted: HashMap<Sha256, u64> = packs.iter().map(|pack| (pack.sha256, pack.size)).collect();
        match self.listed(target, &prefix, &wanted, cancel).await {
            Ok(found) => Ok(found),
            // Write-only credentials cannot ask. What this agent put there is still there, if it is locked.
            Err(e) if e.kind == TargetErrorKind::Denied && self.locking.contains(&target.name) => {
                let packs = self.ours(target, wanted.into_keys())?;
                Ok(Held { packs, odd: Vec::new() })
            }
            Err(e) if e.kind == TargetErrorKind::Denied => Ok(Held::default()),
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
    ) -> Result<Held, TargetError> {
        let mut pages = target.target.list(Some(prefix), None, cancel).await?;
        let mut held = Held::default();
        while let Some(page) = pages.try_next().await? {
            for object in page {
                let Some(pack) = layout::pack_of(&self.database, &self.epoch, &object.key) else { continue };
                let size = wanted.get(&pack).copied();
                // What lies under a delete marker is sent again: a reader must find it without looking for versions.
                match Oddity::of(&object.key, object.size, object.hidden, size) {
                    Some(odd) => held.odd.push(odd),
                    None if size.is_some() && object.sha256.is_none_or(|sha256| sha256 == pack) => {
                        held.packs.insert(pack);
                    }
                    None => {}
                }
            }
        }
        Ok(held)
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
