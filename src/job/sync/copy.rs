//! Copying one record to one target: data first, record last (invariant I2).

use std::collections::{BTreeSet, HashSet};
use std::path::PathBuf;
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::sync::OwnedSemaphorePermit;

use super::Run;
use super::lists::Listed;
use super::record::Record;
use crate::error::{Error, ErrorKind, Result};
use crate::model::id::TargetName;
use crate::model::object::ObjectKey;
use crate::model::observer::LoadObserver as _;
use crate::model::verdict::{Stored, TargetLedger};
use crate::repository::layout;
use crate::repository::put;
use crate::repository::receipt::ObjectRef;
use crate::targets::NamedTarget;
use crate::targets::{Expected, TargetError, TargetErrorKind, TargetExt, Upload};

/// Questions about single objects to a target at the same time.
const QUESTIONS: usize = 16;
/// Uploads to a target at the same time.
const PARALLEL: usize = 3;
/// How often the wait for room in the spool is renewed; nothing else happens then.
const SPOOL_WAIT: Duration = Duration::from_secs(60);

/// Why a record was not completed.
pub(super) enum Failure {
    /// The same as before, because of a damage that somebody has said is known.
    Known,
    /// This record cannot be completed at this target; others may.
    Record(Error),
    /// The target accepts nothing more.
    Target(Error),
    /// The run is over.
    Run(Error),
}

impl Failure {
    /// A failure that says nothing about the target.
    pub(super) fn of_record(e: Error) -> Self {
        match e.kind() {
            ErrorKind::Interrupted | ErrorKind::Internal => Self::Run(e),
            _ => Self::Record(e),
        }
    }

    /// A failure of the target that is being caught up.
    pub(super) fn of_target(e: TargetError) -> Self {
        match e.kind {
            TargetErrorKind::Cancelled => Self::Run(Error::interrupted()),
            _ => Self::Target(Error::from(e).with_kind(ErrorKind::Target)),
        }
    }
}

/// What was copied for one record.
#[derive(Debug, Default)]
pub(super) struct Completed {
    /// Objects, signature and record included.
    pub objects: u64,
    /// Bytes of these.
    pub bytes: u64,
    /// Of these, objects that took the place of damaged copies.
    pub replaced: u64,
}

impl Completed {
    /// Whether the target lacked anything.
    pub(super) fn anything(&self) -> bool {
        self.objects > 0
    }

    fn add(&mut self, object: &ObjectRef) {
        self.objects += 1;
        self.bytes += object.size;
    }
}

/// What a target holds under an object's key.
enum Presence {
    Good,
    Missing,
    /// Something else, with what is wrong with it.
    Damaged(String),
}

/// An object that a target does not have.
struct Lacking<'a> {
    object: &'a ObjectRef,
    /// What is wrong with what it has instead.
    bad: Option<String>,
}

/// Copies one record to one target.
pub(super) struct CopyTask<'a> {
    pub(super) run: &'a Run<'a>,
    pub(super) target: &'a NamedTarget,
    pub(super) record: &'a Record,
    /// The targets that hold the record.
    holders: &'a BTreeSet<TargetName>,
    /// What was listed at the target; without it, each object is asked for.
    listed: Option<&'a Listed>,
}

impl Run<'_> {
    /// Makes a target hold a record: its objects, evidence that all of them are there, its signature, and the record itself.
    /// `present` are the keys of objects that are known to be there; `holders` are the targets that hold the record.
    pub(super) async fn complete(
        &self,
        target: &NamedTarget,
        record: &Record,
        holders: &BTreeSet<TargetName>,
        listed: Option<&Listed>,
        present: &mut HashSet<String>,
    ) -> Result<(Stored, Completed), Failure> {
        let task = CopyTask { run: self, target, record, holders, listed };
        let mut ledger = TargetLedger::open(target.name.clone(), record.objects.len() as u64 + 2);
        let mut done = Completed::default();
        for group in in_order(task.lacking(present).await?) {
            let copies: Vec<_> = group.into_iter().map(|lacking| task.copy(lacking)).collect();
            let mut copies = stream::iter(copies).buffer_unordered(PARALLEL);
            while let Some(Lacking { object, bad }) = copies.try_next().await? {
                done.add(object);
                done.replaced += u64::from(bad.is_some());
                present.insert(object.key.clone());
            }
        }
        let there = record.objects.iter().filter(|o| present.contains(&o.key));
        there.for_each(|_| ledger.acknowledge());
        for small in &record.last {
            let key = layout::key(&self.job.database, &small.object.key).map_err(Failure::Record)?;
            match task.presence(&small.object, &key).await? {
                Presence::Good => {}
                Presence::Missing => {
                    task.put(&small.object, &key, &Upload::memory(small.bytes.clone())).await?;
                    put::listed(target, &key, self.cancel).await.map_err(of_put)?;
                    done.add(&small.object);
                }
                Presence::Damaged(problem) => {
                    task.heal_record(small, &key, &problem).await?;
                    done.add(&small.object);
                    done.replaced += 1;
                }
            }
            ledger.acknowledge();
        }
        let stored = ledger.close().map_err(|missing| {
            Failure::Run(Error::internal(format!(
                "{missing} objects of {} are not accounted for at {}",
                record.name, target.name
            )))
        })?;
        Ok((stored, done))
    }

    async fn room(&self) -> Result<OwnedSemaphorePermit, Failure> {
        self.spool.room(SPOOL_WAIT, || (), self.cancel).await.map_err(Failure::Run)
    }
}

impl<'a> CopyTask<'a> {
    /// The record's objects that the target lacks, or, where it is to be healed, has bad copies of. All others are good there
    /// and are added to `present`; otherwise this fails.
    async fn lacking(&self, present: &mut HashSet<String>) -> Result<Vec<Lacking<'a>>, Failure> {
        let unknown: Vec<&ObjectRef> =
            self.record.objects.iter().filter(|o| !present.contains(&o.key)).collect();
        let question = |object: &'a ObjectRef| async move {
            let key = layout::key(&self.run.job.database, &object.key).map_err(Failure::Record)?;
            let presence = self.presence(object, &key).await?;
            Ok::<_, Failure>((object, key, presence))
        };
        let questions: Vec<_> = unknown.into_iter().map(question).collect();
        let mut answers = stream::iter(questions).buffer_unordered(QUESTIONS);
        let mut lacking = Vec::new();
        while let Some((object, key, presence)) = answers.try_next().await? {
            match presence {
                Presence::Good => {
                    present.insert(object.key.clone());
                }
                Presence::Missing => lacking.push(Lacking { object, bad: None }),
                Presence::Damaged(problem) if self.run.job.heal.is_some() => {
                    lacking.push(Lacking { object, bad: Some(problem) });
                }
                Presence::Damaged(problem) => return Err(self.damaged(object, &key, problem)),
            }
        }
        Ok(lacking)
    }

    async fn presence(&self, object: &ObjectRef, key: &ObjectKey) -> Result<Presence, Failure> {
        if let Some(known) = self.run.damage_at(&self.target.name, key) {
            return Ok(Presence::Damaged(known));
        }
        let listed = match self.listed.map(|listed| listed.get(key.as_str())) {
            Some(None) => return Ok(Presence::Missing),
            // A version may be one that lies under a delete marker.
            Some(Some(object)) if object.version.is_none() => Some(object.clone()),
            _ => self.target.target.head(key, self.run.cancel).await.map_err(Failure::of_target)?,
        };
        let Some(found) = listed else { return Ok(Presence::Missing) };
        if found.size != object.size {
            return Ok(Presence::Damaged(format!("it has {} bytes, not {}", found.size, object.size)));
        }
        match found.sha256 {
            Some(sha256) if sha256 != object.sha256 => {
                Ok(Presence::Damaged(format!("its bytes were changed (their SHA-256 is {sha256})")))
            }
            // A copy was bad somewhere, though of the right size: only reading it back says whether it was this one. Who heals
            // wants to know it of each.
            _ if self.run.job.heal.is_some() || self.run.lost.contains(&object.sha256) => {
                self.read_back(object, key).await
            }
            _ => Ok(Presence::Good),
        }
    }

    async fn read_back(&self, object: &ObjectRef, key: &ObjectKey) -> Result<Presence, Failure> {
        let _room = self.run.room().await?;
        let path = self.spooled(object);
        let expected = Expected { version: None, size: object.size, sha256: object.sha256 };
        let fetched = self.target.target.fetch_to_file(key, &expected, &path, self.run.cancel).await;
        let _ = tokio::fs::remove_file(&path).await;
        match fetched {
            Ok(fetched) if fetched.instead.is_none() => Ok(Presence::Good),
            Ok(_) => Ok(Presence::Damaged("its newest version does not match its receipt".to_owned())),
            Err(e) if e.kind == TargetErrorKind::Corrupt => Ok(Presence::Damaged(e.cause)),
            Err(e) if e.kind == TargetErrorKind::NotFound => Ok(Presence::Missing),
            Err(e) => Err(Failure::of_target(e)),
        }
    }

    /// Copies one object through the spool, to where there is none or in the place of a bad copy.
    async fn copy(&self, lacking: Lacking<'a>) -> Result<Lacking<'a>, Failure> {
        let (run, object) = (self.run, lacking.object);
        let key = layout::key(&run.job.database, &object.key).map_err(Failure::Record)?;
        let _room = run.room().await?;
        let path = self.spooled(object);
        run.fetch(self.target, object, self.holders, &path).await?;
        let upload = Upload::file(&path, object.size, object.sha256);
        let put = match &lacking.bad {
            Some(problem) => self.heal(object, &key, upload, problem).await,
            None => self.put(object, &key, &upload).await,
        };
        let _ = tokio::fs::remove_file(&path).await;
        put?;
        run.watch.bytes(object.size);
        Ok(lacking)
    }

    /// Creates one object, and requires evidence that the target holds it.
    async fn put(&self, object: &ObjectRef, key: &ObjectKey, upload: &Upload) -> Result<(), Failure> {
        let put = put::put(self.target, &self.run.job.state, key, upload, self.run.cancel).await;
        put.map(drop).map_err(|e| match e.kind() {
            ErrorKind::Verification => self.damaged(object, key, e.to_string()),
            _ => of_put(e),
        })
    }

    /// The target holds other bytes under an object's key: the record cannot be completed here.
    pub(super) fn damaged(&self, object: &ObjectRef, key: &ObjectKey, problem: String) -> Failure {
        let message = format!("{} cannot be completed at {}", self.record.name, self.target.name);
        let error = Error::verification(message).cause(format!("{key}: {problem}")).remedy(
            "Find out who or what changed the target. `marbre sync --heal` replaces bad copies by good ones from another \
             target.",
        );
        match self.run.lose(self.target, object, key, problem) {
            Ok(()) if self.run.catalog.decisions.know_damage(&self.target.name, key.as_str()) => {
                Failure::Known
            }
            Ok(()) => Failure::Record(error),
            Err(e) => Failure::Run(e),
        }
    }

    fn spooled(&self, object: &ObjectRef) -> PathBuf {
        self.run.spool.folder().join(format!("{}-{}", self.target.name, object.sha256))
    }
}

/// Whose failure it is that nothing could be put.
fn of_put(e: Error) -> Failure {
    match e.kind() {
        ErrorKind::Interrupted | ErrorKind::Internal => Failure::Run(e),
        _ => Failure::Target(e.with_kind(ErrorKind::Target)),
    }
}

/// The order in which objects are written: what opens the epoch, data, and the manifest that describes them.
fn in_order(objects: Vec<Lacking<'_>>) -> [Vec<Lacking<'_>>; 3] {
    let mut groups: [Vec<Lacking<'_>>; 3] = Default::default();
    for lacking in objects {
        let group = match &lacking.object.key {
            key if key.ends_with("/epoch.age") => 0,
            key if key.contains("/manifests/") => 2,
            _ => 1,
        };
        groups[group].push(lacking);
    }
    groups
}
