//! A target in memory: for tests, and as the simplest example of the contract.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use tokio_util::sync::CancellationToken;

use crate::model::id::Sha256;
use crate::model::object::{ObjectKey, VersionId};
use crate::model::place::Root;
use crate::targets::{
    Body, ObjectInfo, ObjectPages, ObjectStream, PutOutcome, Target, TargetError, TargetErrorKind, Upload,
};

/// Size of the pieces in which an object is given out, so that readers meet more than one.
const CHUNK: usize = 64 * 1024;

/// A target that keeps everything in this process's memory.
#[derive(Debug, Default)]
pub struct MemoryTarget {
    versioned: bool,
    objects: Arc<Mutex<Objects>>,
}

/// The versions of every object, oldest first.
type Objects = BTreeMap<ObjectKey, Vec<Entry>>;

/// One version of an object, or a delete marker over the older ones.
#[derive(Debug, Clone)]
struct Entry {
    id: VersionId,
    bytes: Option<Bytes>,
}

/// How many objects a page of a list has.
const PAGE: usize = 1000;

impl MemoryTarget {
    /// An empty target without versions.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty target that keeps versions, as an S3 bucket with versioning does.
    pub fn versioned() -> Self {
        Self { versioned: true, ..Self::default() }
    }

    /// Does what the contract has no word for, as an attacker or a broken disk would: replaces an
    /// object's bytes, or removes it (with versions: puts a new version or a delete marker over it).
    pub fn tamper(&self, key: &ObjectKey, bytes: Option<Bytes>) {
        let mut objects = self.lock();
        let entries = objects.entry(key.clone()).or_default();
        if !self.versioned {
            entries.clear();
        }
        let id = next_version(entries);
        entries.push(Entry { id, bytes });
    }

    /// The keys of all objects that can be seen.
    #[cfg(test)]
    pub(crate) fn keys(&self) -> Vec<ObjectKey> {
        let objects = self.lock();
        let seen = objects.iter().filter(|(_, entries)| entries.last().is_some_and(|e| e.bytes.is_some()));
        seen.map(|(key, _)| key.clone()).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Objects> {
        lock(&self.objects)
    }

    fn info(&self, key: &ObjectKey, entry: &Entry) -> Option<ObjectInfo> {
        info(self.versioned, key, entry)
    }
}

fn lock(objects: &Mutex<Objects>) -> MutexGuard<'_, Objects> {
    // No code panics while it holds the lock.
    objects.lock().unwrap_or_else(PoisonError::into_inner)
}

fn info(versioned: bool, key: &ObjectKey, entry: &Entry) -> Option<ObjectInfo> {
    let bytes = entry.bytes.as_ref()?;
    Some(ObjectInfo {
        key: key.clone(),
        size: bytes.len() as u64,
        sha256: Some(Sha256::of(bytes)),
        version: versioned.then(|| entry.id.clone()),
        hidden: false,
    })
}

/// What a list shows of an object: under a marker the oldest version, which is the object that was put.
fn listed(versioned: bool, key: &ObjectKey, entries: &[Entry]) -> Option<ObjectInfo> {
    match entries.last().filter(|newest| newest.bytes.is_some()) {
        Some(visible) => info(versioned, key, visible),
        None => {
            let oldest = info(versioned, key, entries.iter().find(|e| e.bytes.is_some())?)?;
            Some(ObjectInfo { hidden: true, ..oldest })
        }
    }
}

/// A version that no entry has: older ones may have been deleted.
fn next_version(entries: &[Entry]) -> VersionId {
    let last = entries.last().and_then(|entry| entry.id.0.parse::<u64>().ok()).unwrap_or(0);
    VersionId(format!("{}", last + 1))
}

async fn read(upload: &Upload, operation: &str) -> Result<Bytes, TargetError> {
    let bytes = match &upload.body {
        Body::Memory(bytes) => bytes.clone(),
        Body::File(path) => tokio::fs::read(path).await.map(Bytes::from).map_err(|e| {
            TargetError::new(
                TargetErrorKind::Unavailable,
                operation,
                format!("spooled file cannot be read: {e}"),
            )
            .with_source(e)
        })?,
    };
    upload.check(bytes.len() as u64, Sha256::of(&bytes), operation)?;
    Ok(bytes)
}

/// Spends the time that an upload takes at its pace.
async fn keep_pace(upload: &Upload, operation: &str, cancel: &CancellationToken) -> Result<(), TargetError> {
    let Some(pace) = &upload.pace else { return Ok(()) };
    let sending = async {
        let mut left = upload.size;
        while left > 0 {
            let piece = left.min(CHUNK as u64);
            pace.take(piece).await;
            left -= piece;
        }
    };
    tokio::select! {
        biased;
        () = cancel.cancelled() => Err(TargetError::cancelled(operation)),
        () = sending => Ok(()),
    }
}

#[async_trait]
impl Target for MemoryTarget {
    fn describe(&self) -> String {
        "memory".to_owned()
    }

    fn root(&self) -> Option<Root> {
        None
    }

    async fn put(
        &self,
        key: &ObjectKey,
        upload: &Upload,
        cancel: &CancellationToken,
    ) -> Result<PutOutcome, TargetError> {
        let operation = format!("put {key} to memory");
        if cancel.is_cancelled() {
            return Err(TargetError::cancelled(operation));
        }
        let bytes = read(upload, &operation).await?;
        keep_pace(upload, &operation, cancel).await?;
        let mut objects = self.lock();
        let entries = objects.entry(key.clone()).or_default();
        if !upload.replace && entries.last().is_some_and(|newest| newest.bytes.is_some()) {
            return Ok(PutOutcome::Exists);
        }
        let id = next_version(entries);
        if !self.versioned {
            entries.clear();
        }
        entries.push(Entry { id: id.clone(), bytes: Some(bytes) });
        Ok(PutOutcome::Created { version: self.versioned.then_some(id), checked: true })
    }

    async fn head(
        &self,
        key: &ObjectKey,
        cancel: &CancellationToken,
    ) -> Result<Option<ObjectInfo>, TargetError> {
        if cancel.is_cancelled() {
            return Err(TargetError::cancelled(format!("look up {key} in memory")));
        }
        let objects = self.lock();
        let newest = objects.get(key).and_then(|entries| entries.last());
        Ok(newest.and_then(|entry| self.info(key, entry)))
    }

    async fn get(
        &self,
        key: &ObjectKey,
        version: Option<&VersionId>,
        cancel: &CancellationToken,
    ) -> Result<ObjectStream, TargetError> {
        let operation = format!("get {key} from memory");
        if cancel.is_cancelled() {
            return Err(TargetError::cancelled(operation));
        }
        let bytes = {
            let objects = self.lock();
            let entries = objects.get(key).map_or(&[][..], Vec::as_slice);
            match version {
                Some(version) => entries.iter().find(|e| &e.id == version),
                None => entries.last(),
            }
            .and_then(|entry| entry.bytes.clone())
        };
        let Some(bytes) = bytes else {
            return Err(TargetError::new(TargetErrorKind::NotFound, operation, "the object does not exist"));
        };
        let cancel = cancel.clone();
        Ok(stream::try_unfold(bytes, move |mut rest| {
            let next = if cancel.is_cancelled() {
                Err(TargetError::cancelled(operation.clone()))
            } else if rest.is_empty() {
                Ok(None)
            } else {
                let chunk = rest.split_to(CHUNK.min(rest.len()));
                Ok(Some((chunk, rest)))
            };
            std::future::ready(next)
        })
        .boxed())
    }

    async fn list(
        &self,
        prefix: Option<&ObjectKey>,
        after: Option<&ObjectKey>,
        cancel: &CancellationToken,
    ) -> Result<ObjectPages, TargetError> {
        let below = prefix.map(|prefix| format!("{prefix}/"));
        let begin = after.or(prefix).map_or(Bound::Unbounded, |key| Bound::Excluded(key.clone()));
        let (objects, versioned, cancel) = (self.objects.clone(), self.versioned, cancel.clone());
        Ok(stream::try_unfold(begin, move |begin| {
            let next = || {
                if cancel.is_cancelled() {
                    return Err(TargetError::cancelled("list memory"));
                }
                let mine = |key: &ObjectKey| below.as_ref().is_none_or(|b| key.as_str().starts_with(b));
                let page: Vec<ObjectInfo> = lock(&objects)
                    .range((begin, Bound::Unbounded))
                    .filter(|(key, _)| mine(key))
                    .filter_map(|(key, entries)| listed(versioned, key, entries))
                    .take(PAGE)
                    .collect();
                let last = page.last().map(|last| Bound::Excluded(last.key.clone()));
                Ok(last.map(|last| (page, last)))
            };
            std::future::ready(next())
        })
        .boxed())
    }

    async fn versions(
        &self,
        key: &ObjectKey,
        cancel: &CancellationToken,
    ) -> Result<Vec<ObjectInfo>, TargetError> {
        if cancel.is_cancelled() {
            return Err(TargetError::cancelled(format!("list the versions of {key} in memory")));
        }
        let objects = self.lock();
        let entries = objects.get(key).map_or(&[][..], Vec::as_slice);
        Ok(entries.iter().filter_map(|e| self.info(key, e)).collect())
    }

    async fn delete(
        &self,
        key: &ObjectKey,
        version: Option<&VersionId>,
        cancel: &CancellationToken,
    ) -> Result<(), TargetError> {
        if cancel.is_cancelled() {
            return Err(TargetError::cancelled(format!("delete {key} from memory")));
        }
        let mut objects = self.lock();
        match (version, objects.get_mut(key)) {
            (Some(version), Some(entries)) => entries.retain(|entry| entry.id != *version),
            _ => drop(objects.remove(key)),
        }
        Ok(())
    }
}
