//! Carrying a decision out at one target: the record of it first, then receipts, then what nobody needs any more.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::{StreamExt, stream};
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::needed::Needed;
use super::{PruneJob, PrunedTarget};
use crate::error::{Error, Result};
use crate::model::id::SnapshotId;
use crate::model::object::ObjectKey;
use crate::repository::catalog::Catalog;
use crate::repository::layout;
use crate::repository::prune_catalog::KnownPrune;
use crate::repository::reader::PARALLEL;
use crate::state::Waited;
use crate::targets::NamedTarget;
use crate::targets::{TargetError, TargetErrorKind, TargetExt, Upload};

/// What is to be done, wherever.
pub(super) struct Sweep<'a> {
    pub job: &'a PruneJob,
    pub catalog: &'a Catalog,
    pub going: &'a BTreeSet<SnapshotId>,
    pub records: &'a [KnownPrune],
    pub needed: &'a Needed,
    pub now: Timestamp,
    pub cancel: &'a CancellationToken,
}

/// Why a target is left as it is.
enum Left {
    /// The target failed: the next run goes on.
    Target(TargetError),
    /// The agent itself failed, or was interrupted.
    Job(Error),
}

impl From<TargetError> for Left {
    fn from(e: TargetError) -> Self {
        match e.kind {
            TargetErrorKind::Cancelled => Left::Job(Error::interrupted()),
            _ => Left::Target(e),
        }
    }
}

impl From<Error> for Left {
    fn from(e: Error) -> Self {
        Left::Job(e)
    }
}

/// In the reverse order of writing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Manifest,
    Pack,
    Epoch,
}

/// An object that nobody needs.
#[derive(Clone)]
struct Unneeded {
    kind: Kind,
    key: ObjectKey,
    size: u64,
    waited: Waited,
}

impl Sweep<'_> {
    /// Does what can be done at a target. An error is the agent's own; the target's is in the result.
    pub async fn target(&self, target: &NamedTarget) -> Result<PrunedTarget> {
        let mut done = PrunedTarget {
            name: target.name.clone(),
            receipts: 0,
            objects: 0,
            bytes: 0,
            waiting: 0,
            locked: 0,
            error: None,
        };
        if let Some((_, e)) = self.catalog.unreachable.iter().find(|(name, _)| *name == target.name) {
            done.error = Some(e.to_string());
            return Ok(done);
        }
        match self.sweep(target, &mut done).await {
            Ok(()) => {}
            Err(Left::Target(e)) => done.error = Some(e.to_string()),
            Err(Left::Job(e)) => return Err(e),
        }
        Ok(done)
    }

    async fn sweep(&self, target: &NamedTarget, done: &mut PrunedTarget) -> Result<(), Left> {
        self.put_records(target).await?;
        let (held, gone) = self.receipts(target, done).await?;
        self.signatures(target, &gone, done).await?;
        self.objects(target, &held, done).await
    }

    /// A receipt may only be missing where a record says why.
    async fn put_records(&self, target: &NamedTarget) -> Result<(), Left> {
        let missing = self.records.iter().filter(|known| !known.targets.contains(&target.name));
        for known in missing.filter(|_| !self.job.dry_run) {
            let (prune, signed) = (&known.signed.record.prune, &known.signed);
            let objects = [
                (layout::prune_signature(prune), signed.signature.clone().into_bytes()),
                (layout::prune(prune), signed.bytes.clone()),
            ];
            for (relative, bytes) in objects {
                let key = layout::key(&self.job.database, &relative)?;
                target.target.put_or_compare(&key, &Upload::memory(bytes), self.cancel).await?;
            }
        }
        Ok(())
    }

    /// Removes receipts. Returns what snapshots need whose receipts are held fast, and the snapshots that are gone here.
    async fn receipts(
        &self,
        target: &NamedTarget,
        done: &mut PrunedTarget,
    ) -> Result<(BTreeSet<String>, BTreeSet<SnapshotId>), Left> {
        let (mut held, mut gone) = (BTreeSet::new(), BTreeSet::new());
        let database = &self.job.database;
        for snapshot in self.going {
            let here = self.catalog.entries.get(snapshot).is_some_and(|e| e.targets.contains(&target.name));
            if !here {
                continue;
            }
            let receipt = layout::key(database, &layout::receipt(snapshot))?;
            if !self.delete(target, &receipt, done).await? {
                held.extend(self.needed.going.get(snapshot).into_iter().flatten().cloned());
                continue;
            }
            done.receipts += 1;
            gone.insert(snapshot.clone());
            if !self.job.dry_run {
                self.job.state.forget_snapshot_at(database, snapshot, &target.name)?;
            }
        }
        Ok((held, gone))
    }

    /// Removes the signatures of receipts that are gone, also those that an earlier run was killed before.
    async fn signatures(
        &self,
        target: &NamedTarget,
        gone: &BTreeSet<SnapshotId>,
        done: &mut PrunedTarget,
    ) -> Result<(), Left> {
        let database = &self.job.database;
        let pruned: BTreeSet<SnapshotId> = self.catalog.prunes.snapshots().union(gone).cloned().collect();
        if pruned.is_empty() || self.job.dry_run {
            return Ok(());
        }
        let listed = target.target.list(Some(&layout::key(database, "receipts")?), self.cancel).await?;
        let keys: BTreeSet<&ObjectKey> = listed.iter().map(|o| &o.key).collect();
        for snapshot in &pruned {
            let signature = layout::key(database, &layout::signature(snapshot))?;
            let receipt = layout::key(database, &layout::receipt(snapshot))?;
            if keys.contains(&signature) && !keys.contains(&receipt) {
                self.delete(target, &signature, done).await?;
            }
        }
        Ok(())
    }

    /// Removes what nobody has needed for the time of grace.
    async fn objects(
        &self,
        target: &NamedTarget,
        held: &BTreeSet<String>,
        done: &mut PrunedTarget,
    ) -> Result<(), Left> {
        if !self.needed.unknown.is_empty() {
            return Ok(());
        }
        let (unneeded, mut alive) = self.unneeded(target, held).await?;
        let mut noted: BTreeMap<ObjectKey, Waited> =
            unneeded.iter().map(|o| (o.key.clone(), o.waited)).collect();
        self.note(target, &noted)?;
        let ripe = |o: &Unneeded| o.waited.time >= self.job.grace;
        let (ripe, waiting): (Vec<Unneeded>, Vec<Unneeded>) = unneeded.into_iter().partition(ripe);
        done.waiting = waiting.len() as u64;
        alive.extend(waiting.iter().map(|o| epoch_folder(&o.key).to_owned()));
        for kind in [Kind::Manifest, Kind::Pack, Kind::Epoch] {
            // Without its key an epoch cannot be opened: that is the last to go.
            let free = |o: &&Unneeded| kind != Kind::Epoch || !alive.contains(epoch_folder(&o.key));
            let these: Vec<&Unneeded> = ripe.iter().filter(|o| o.kind == kind).filter(free).collect();
            let delete = |object: Unneeded| async move {
                let answer = self.ask(target, &object.key).await;
                (object, answer)
            };
            let deletions: Vec<_> = these.into_iter().cloned().map(delete).collect();
            let mut deleted = stream::iter(deletions).buffer_unordered(PARALLEL);
            while let Some((object, answer)) = deleted.next().await {
                if self.count(answer, done)? {
                    done.objects += 1;
                    done.bytes += object.size;
                    noted.remove(&object.key);
                    if !self.job.dry_run {
                        self.job.state.forget_version(&target.name, &object.key)?;
                    }
                } else {
                    alive.insert(epoch_folder(&object.key).to_owned());
                }
            }
        }
        self.note(target, &noted)
    }

    fn note(&self, target: &NamedTarget, noted: &BTreeMap<ObjectKey, Waited>) -> Result<(), Left> {
        if !self.job.dry_run {
            self.job.state.set_unneeded(&self.job.database, &target.name, noted)?;
        }
        Ok(())
    }

    /// The objects at a target that nobody needs, and the epochs in which something is needed.
    async fn unneeded(
        &self,
        target: &NamedTarget,
        held: &BTreeSet<String>,
    ) -> Result<(Vec<Unneeded>, BTreeSet<String>), Left> {
        let database = &self.job.database;
        let prefix = format!("{database}/");
        let known = self.job.state.unneeded(database, &target.name)?;
        let listed = target.target.list(Some(&layout::key(database, "epochs")?), self.cancel).await?;
        let mut unneeded = Vec::new();
        let mut alive = BTreeSet::new();
        for object in listed {
            let relative = object.key.as_str().strip_prefix(&prefix).unwrap_or_default();
            let Some(kind) = kind(relative) else { continue };
            if self.needed.objects.contains(relative) || held.contains(relative) {
                alive.insert(epoch_folder(&object.key).to_owned());
                continue;
            }
            let waited = self.waited(known.get(&object.key));
            unneeded.push(Unneeded { kind, size: object.size, waited, key: object.key });
        }
        Ok((unneeded, alive))
    }

    /// How long an object has waited until now. Clocks jump, ahead and back: what passed since the last run counts for half
    /// of the time of grace at most, and never for less than nothing. So three runs at least have seen what goes.
    fn waited(&self, before: Option<&Waited>) -> Waited {
        let passed = |before: &Waited| {
            let passed = Duration::try_from(self.now.duration_since(before.seen)).unwrap_or_default();
            before.time.saturating_add(passed.min(self.job.grace / 2))
        };
        Waited { time: before.map(passed).unwrap_or_default(), seen: self.now }
    }

    /// Deletes an object; says whether it is gone (in a dry run: would be).
    async fn delete(
        &self,
        target: &NamedTarget,
        key: &ObjectKey,
        done: &mut PrunedTarget,
    ) -> Result<bool, Left> {
        let answer = self.ask(target, key).await;
        self.count(answer, done)
    }

    async fn ask(&self, target: &NamedTarget, key: &ObjectKey) -> Result<(), TargetError> {
        match self.job.dry_run {
            true => Ok(()),
            false => target.target.delete(key, None, self.cancel).await,
        }
    }

    fn count(&self, answer: Result<(), TargetError>, done: &mut PrunedTarget) -> Result<bool, Left> {
        match answer {
            Ok(()) => Ok(true),
            Err(e) if e.kind == TargetErrorKind::Refused => {
                tracing::debug!(operation = e.operation, cause = e.cause, "left for the next run");
                done.locked += 1;
                Ok(false)
            }
            Err(e) => Err(e.into()),
        }
    }
}

/// What an object is; nothing, where no writer of this format has put it there.
fn kind(relative: &str) -> Option<Kind> {
    let mut parts = relative.strip_prefix("epochs/")?.split('/').skip(1);
    match (parts.next()?, parts.next(), parts.next()) {
        ("epoch.age", None, None) => Some(Kind::Epoch),
        ("packs", Some(name), None) if name.ends_with(".zst.age") => Some(Kind::Pack),
        ("manifests", Some(name), None) if name.ends_with(".json.zst.age") => Some(Kind::Manifest),
        _ => None,
    }
}

/// The folder of an object's epoch: `publisher/database/epochs/epoch`.
fn epoch_folder(key: &ObjectKey) -> &str {
    let key = key.as_str();
    key.match_indices('/').nth(3).map_or(key, |(end, _)| &key[..end])
}
