//! A target at which the objects of a database are locked for as long as they may be needed: a wrapper, so that no job
//! has to think of it.

use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::model::id::{DatabaseId, EpochId};
use crate::model::object::{ObjectKey, VersionId};
use crate::model::object_lock::{Lock, LockTerm};
use crate::targets::{ObjectInfo, ObjectStream, PutOutcome, Target, TargetError, Upload};

/// Puts every object of one database with its lock.
#[derive(Debug)]
pub struct Locked {
    inner: Arc<dyn Target>,
    database: DatabaseId,
    term: LockTerm,
    now: Timestamp,
}

impl Locked {
    /// Wraps a target, for a job that starts `now`.
    pub fn new(inner: Arc<dyn Target>, database: DatabaseId, term: LockTerm, now: Timestamp) -> Self {
        Self { inner, database, term, now }
    }

    /// The lock of an object. What is not the database's gets none.
    fn lock(&self, key: &ObjectKey) -> Option<Lock> {
        let relative = key.as_str().strip_prefix(&format!("{}/", self.database))?;
        let epoch = relative.strip_prefix("epochs/").and_then(|rest| rest.split('/').next());
        let began = epoch.and_then(|id| id.parse::<EpochId>().ok()).map(|id| id.time());
        Some(self.term.lock(began, self.now))
    }
}

#[async_trait]
impl Target for Locked {
    fn describe(&self) -> String {
        self.inner.describe()
    }

    async fn put(
        &self,
        key: &ObjectKey,
        upload: &Upload,
        cancel: &CancellationToken,
    ) -> Result<PutOutcome, TargetError> {
        match self.lock(key) {
            Some(lock) => self.inner.put(key, &upload.clone().locked(lock), cancel).await,
            None => self.inner.put(key, upload, cancel).await,
        }
    }

    async fn head(
        &self,
        key: &ObjectKey,
        cancel: &CancellationToken,
    ) -> Result<Option<ObjectInfo>, TargetError> {
        self.inner.head(key, cancel).await
    }

    async fn get(
        &self,
        key: &ObjectKey,
        version: Option<&VersionId>,
        cancel: &CancellationToken,
    ) -> Result<ObjectStream, TargetError> {
        self.inner.get(key, version, cancel).await
    }

    async fn list(
        &self,
        prefix: Option<&ObjectKey>,
        cancel: &CancellationToken,
    ) -> Result<Vec<ObjectInfo>, TargetError> {
        self.inner.list(prefix, cancel).await
    }

    async fn versions(
        &self,
        key: &ObjectKey,
        cancel: &CancellationToken,
    ) -> Result<Vec<ObjectInfo>, TargetError> {
        self.inner.versions(key, cancel).await
    }

    async fn delete(
        &self,
        key: &ObjectKey,
        version: Option<&VersionId>,
        cancel: &CancellationToken,
    ) -> Result<(), TargetError> {
        self.inner.delete(key, version, cancel).await
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::model::object_lock::LockMode;
    use crate::targets::memory::MemoryTarget;

    #[test]
    fn objects_of_an_epoch_are_locked_from_its_end() {
        let days = |n: u64| Duration::from_secs(n * 86_400);
        let term = LockTerm { mode: LockMode::Compliance, epoch: days(30), keep: days(90) };
        let now = "2026-11-22T02:00:00Z".parse().unwrap();
        let target =
            Locked::new(Arc::new(MemoryTarget::new()), "gazette/abonnes".parse().unwrap(), term, now);
        let until = |key: &str| target.lock(&key.parse().unwrap()).map(|lock| lock.until.to_string());
        // 30 days of the epoch, 90 days, and one of margin.
        let pack = "gazette/abonnes/epochs/20261102T020000Z-1f3a9c4e/packs/00.zst.age";
        assert_eq!(until(pack).as_deref(), Some("2027-03-03T02:00:00Z"));
        let receipt = "gazette/abonnes/receipts/20261122T020000Z-1f3a9c4e.json";
        assert_eq!(until(receipt).as_deref(), Some("2027-03-23T02:00:00Z"));
        // An epoch that is long over, as when it is copied: from now on.
        let old = "gazette/abonnes/epochs/20200102T020000Z-1f3a9c4e/epoch.age";
        assert_eq!(until(old).as_deref(), Some("2027-02-21T02:00:00Z"));
        assert_eq!(until("gazette/boutique/receipts/x.json"), None);
        assert_eq!(until("marbre-doctor/probe"), None);
    }
}
