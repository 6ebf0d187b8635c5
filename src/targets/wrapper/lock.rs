//! A target at which the objects of a database are locked for as long as they may be needed: a wrapper, so that no job
//! has to think of it.

use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::model::id::{DatabaseId, EpochId};
use crate::model::object::ObjectKey;
use crate::model::object_lock::{Lock, LockTerm};
use crate::model::place::Root;
use crate::targets::wrapper::{Answer, Call, Wrapper};
use crate::targets::{Target, TargetError};

/// Puts every object of one database with its lock.
#[derive(Debug)]
pub(crate) struct Locked {
    inner: Arc<dyn Target>,
    database: DatabaseId,
    term: LockTerm,
    now: Timestamp,
}

impl Locked {
    /// Wraps a target, for a job that starts `now`.
    pub(crate) fn new(inner: Arc<dyn Target>, database: DatabaseId, term: LockTerm, now: Timestamp) -> Self {
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
impl Wrapper for Locked {
    fn description(&self) -> String {
        self.inner.describe()
    }

    fn root_identity(&self) -> Option<Root> {
        self.inner.root()
    }

    async fn call(&self, call: Call<'_>, cancel: &CancellationToken) -> Result<Answer, TargetError> {
        if let Call::Put { key, upload } = call
            && let Some(lock) = self.lock(key)
        {
            let locked = upload.clone().locked(lock);
            return Call::Put { key, upload: &locked }.run(&*self.inner, cancel).await;
        }
        call.run(&*self.inner, cancel).await
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
