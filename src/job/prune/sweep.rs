//! Carrying out a decision at one target: first its record, then receipts, then objects that are no longer needed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::needed::Needed;
use super::{PruneJob, PrunedTarget};
use crate::error::{Error, Result};
use crate::model::id::SnapshotId;
use crate::model::object::ObjectKey;
use crate::repository::catalog::Catalog;
use crate::repository::layout;
use crate::repository::part::Part;
use crate::repository::prune_record::PruneRecord;
use crate::repository::reader::PARALLEL;
use crate::repository::record_catalog::{Known, put_record};
use crate::state::Waited;
use crate::targets::NamedTarget;
use crate::targets::{TargetError, TargetErrorKind, TargetExt};

/// What is to be done, the same at every target.
pub(super) struct Sweep<'a> {
    pub job: &'a PruneJob,
    pub catalog: &'a Catalog,
    pub going: &'a BTreeSet<SnapshotId>,
    pub records: &'a [Known<PruneRecord>],
    pub needed: &'a Needed,
    pub now: Timestamp,
    pub cancel: &'a CancellationToken,
}

/// Why the work at a target ended early.
enum Failure {
    /// The target failed: the next run goes on.
    Target(TargetError),
    /// The agent itself failed, or was interrupted.
    Job(Error),
}

impl From<TargetError> for Failure {
    fn from(e: TargetError) -> Self {
        match e.kind {
            TargetErrorKind::Cancelled => Failure::Job(Error::interrupted()),
            _ => Failure::Target(e),
        }
    }
}

impl From<Error> for Failure {
    fn from(e: Error) -> Self {
        Failure::Job(e)
    }
}

/// In the reverse order of writing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Manifest,
    Pack,
    Epoch,
}

/// An object that is no longer needed.
#[derive(Clone)]
struct Unneeded {
    kind: Kind,
    key: ObjectKey,
    size: u64,
    waited: Waited,
}

impl Sweep<'_> {
    /// Does what can be done at a target. An error is the agent's own; that of the target is in the result.
    pub(super) async fn target(&self, target: &NamedTarget) -> Result<PrunedTarget> {
        let mut done = PrunedTarget {
            name: target.name.clone(),
            receipts: 0,
            objects: 0,
            bytes: 0,
            waiting: 0,
            waiting_bytes: 0,
            locked: 0,
            error: None,
        };
        if let Some((_, e)) = self.catalog.unreachable.iter().find(|(name, _)| *name == target.name) {
            done.error = Some(e.to_string());
            return Ok(done);
        }
        match self.sweep(target, &mut done).await {
            Ok(()) => {}
            Err(Failure::Target(e)) => done.error = Some(e.to_string()),
            Err(Failure::Job(e)) => return Err(e),
        }
        Ok(done)
    }

    async fn sweep(&self, target: &NamedTarget, done: &mut PrunedTarget) -> Result<(), Failure> {
        self.put_records(target).await?;
        let (held, gone) = self.receipts(target, done).await?;
        self.signatures(target, &gone, done).await?;
        self.objects(target, &held, done).await
    }

    /// Stores the prune records first: a receipt may only be missing where a record says why.
    async fn put_records(&self, target: &NamedTarget) -> Result<(), Failure> {
        let missing = self.records.iter().filter(|known| !known.targets.contains(&target.name));
        for known in missing.filter(|_| !self.job.dry_run) {
            put_record(target, &self.job.database, &known.signed, self.cancel).await?;
        }
        Ok(())
    }

    /// Deletes receipts. Returns the objects of snapshots whose receipts cannot be deleted, and the snapshots that are gone
    /// here.
    async fn receipts(
        &self,
        target: &NamedTarget,
        done: &mut PrunedTarget,
    ) -> Result<(BTreeSet<String>, BTreeSet<SnapshotId>), Failure> {
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

    /// Deletes the signatures of receipts that are gone, including those that an earlier, killed run did not reach.
    async fn signatures(
        &self,
        target: &NamedTarget,
        gone: &BTreeSet<SnapshotId>,
        done: &mut PrunedTarget,
    ) -> Result<(), Failure> {
        let database = &self.job.database;
        let pruned: BTreeSet<SnapshotId> = self.catalog.prunes.snapshots().union(gone).cloned().collect();
        if pruned.is_empty() || self.job.dry_run {
            return Ok(());
        }
        let folder = layout::key(database, "receipts")?;
        let listed = target.target.list_all(Some(&folder), self.cancel).await?;
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

    /// Deletes the objects that were not needed for the whole grace period.
    async fn objects(
        &self,
        target: &NamedTarget,
        held: &BTreeSet<String>,
        done: &mut PrunedTarget,
    ) -> Result<(), Failure> {
        if !self.needed.unknown.is_empty() {
            return Ok(());
        }
        let (unneeded, mut alive) = self.unneeded(target, held).await?;
        let mut noted: BTreeMap<ObjectKey, Waited> =
            unneeded.iter().map(|o| (o.key.clone(), o.waited)).collect();
        self.note(target, &noted)?;
        let expired = |o: &Unneeded| o.waited.time >= self.job.grace;
        let (expired, waiting): (Vec<Unneeded>, Vec<Unneeded>) = unneeded.into_iter().partition(expired);
        done.waiting = waiting.len() as u64;
        done.waiting_bytes = waiting.iter().map(|o| o.size).sum();
        alive.extend(waiting.iter().map(|o| epoch_folder(&o.key).to_owned()));
        for kind in [Kind::Manifest, Kind::Pack, Kind::Epoch] {
            // Without its key an epoch cannot be opened, so the key is deleted last.
            let free = |o: &&Unneeded| kind != Kind::Epoch || !alive.contains(epoch_folder(&o.key));
            let these: Vec<&Unneeded> = expired.iter().filter(|o| o.kind == kind).filter(free).collect();
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

    fn note(&self, target: &NamedTarget, noted: &BTreeMap<ObjectKey, Waited>) -> Result<(), Failure> {
        if !self.job.dry_run {
            self.job.state.set_unneeded(&self.job.database, &target.name, noted)?;
        }
        Ok(())
    }

    /// The unneeded objects at a target, and the epochs in which something is needed.
    async fn unneeded(
        &self,
        target: &NamedTarget,
        held: &BTreeSet<String>,
    ) -> Result<(Vec<Unneeded>, BTreeSet<String>), Failure> {
        let database = &self.job.database;
        let prefix = format!("{database}/");
        let known = self.job.state.unneeded(database, &target.name)?;
        let mut pages =
            target.target.list(Some(&layout::key(database, "epochs")?), None, self.cancel).await?;
        let mut unneeded = Vec::new();
        let mut alive = BTreeSet::new();
        while let Some(page) = pages.try_next().await? {
            for object in page {
                let relative = object.key.as_str().strip_prefix(&prefix).unwrap_or_default();
                let Some(kind) = kind(relative) else { continue };
                if self.needed.objects.contains(relative) || held.contains(relative) {
                    alive.insert(epoch_folder(&object.key).to_owned());
                    continue;
                }
                let waited = self.waited(known.get(&object.key), object.size);
                unneeded.push(Unneeded { kind, size: object.size, waited, key: object.key });
            }
        }
        Ok((unneeded, alive))
    }

    /// How long an object has waited until now. Clocks jump, ahead and back: the time since the last run counts for at most
    /// half of the grace period, and never as negative. So at least three runs have seen an object before it is deleted.
    fn waited(&self, before: Option<&Waited>, size: u64) -> Waited {
        let passed = |before: &Waited| {
            let passed = Duration::try_from(self.now.duration_since(before.seen)).unwrap_or_default();
            before.time.saturating_add(passed.min(self.job.grace / 2))
        };
        Waited { time: before.map(passed).unwrap_or_default(), seen: self.now, size }
    }

    /// Deletes an object; returns whether it is gone (in a dry run: would be).
    async fn delete(
        &self,
        target: &NamedTarget,
        key: &ObjectKey,
        done: &mut PrunedTarget,
    ) -> Result<bool, Failure> {
        let answer = self.ask(target, key).await;
        self.count(answer, done)
    }

    async fn ask(&self, target: &NamedTarget, key: &ObjectKey) -> Result<(), TargetError> {
        match self.job.dry_run {
            true => Ok(()),
            false => target.target.delete(key, None, self.cancel).await,
        }
    }

    fn count(&self, answer: Result<(), TargetError>, done: &mut PrunedTarget) -> Result<bool, Failure> {
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

/// What an object of an epoch is; `None` if this format has no such object.
fn kind(relative: &str) -> Option<Kind> {
    match Part::of(relative) {
        Part::EpochKey => Some(Kind::Epoch),
        Part::Pack => Some(Kind::Pack),
        Part::Manifest => Some(Kind::Manifest),
        _ => None,
    }
}

/// The folder of an object's epoch: `publisher/database/epochs/epoch`.
fn epoch_folder(key: &ObjectKey) -> &str {
    let key = key.as_str();
    key.match_indices('/').nth(3).map_or(key, |(end, _)| &key[..end])
}
