//! A bucket that keeps every promise but those that a test takes away.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use async_trait::async_trait;
use bytes::Bytes;

use super::*;
use crate::job::testing::start;
use crate::model::object::VersionId;
use crate::model::object_lock::Lock;
use crate::model::place::Root;
use crate::targets::memory::MemoryTarget;
use crate::targets::wrapper::{Answer, Call, Wrapper};
use crate::targets::{PutOutcome, TargetErrorKind as Kind};

#[derive(Debug)]
struct Bucket {
    memory: MemoryTarget,
    locks: Mutex<BTreeMap<ObjectKey, Lock>>,
    /// What does not hold, although every answer says that it does.
    weak: BTreeSet<Trial>,
    /// What the credentials may not do: "get", "delete", "read-lock", "list".
    denied: BTreeSet<&'static str>,
}

fn bucket(weak: impl IntoIterator<Item = Trial>) -> Bucket {
    Bucket {
        memory: MemoryTarget::versioned(),
        locks: Mutex::default(),
        weak: weak.into_iter().collect(),
        denied: BTreeSet::new(),
    }
}

fn refused() -> TargetError {
    TargetError::new(Kind::Denied, "try", "the credentials do not allow this")
}

impl Bucket {
    fn lock(&self, key: &ObjectKey) -> Option<Lock> {
        self.locks.lock().unwrap().get(key).copied()
    }

    fn may(&self, right: &str) -> Result<(), TargetError> {
        if self.denied.contains(right) { Err(refused()) } else { Ok(()) }
    }

    fn is_weak(&self, trial: Trial) -> bool {
        self.weak.contains(&trial)
    }

    /// Loses everything under a key, and puts this there.
    async fn replace(&self, key: &ObjectKey, bytes: Bytes) {
        self.memory.delete(key, None, &CancellationToken::new()).await.unwrap();
        self.memory.tamper(key, Some(bytes));
    }
}

#[async_trait]
impl Wrapper for Bucket {
    fn description(&self) -> String {
        "s3://bucket".to_owned()
    }

    fn root_identity(&self) -> Option<Root> {
        None
    }

    async fn call(&self, call: Call<'_>, cancel: &CancellationToken) -> Result<Answer, TargetError> {
        match call {
            Call::Put { key, upload } => {
                if let Some(lock) = upload.lock.filter(|_| !self.is_weak(Trial::Lock)) {
                    self.locks.lock().unwrap().insert(key.clone(), lock);
                }
            }
            Call::Get { .. } => self.may("get")?,
            Call::List { .. } => self.may("list")?,
            Call::Delete { key, .. } => {
                self.may("delete")?;
                if self.lock(key).is_some_and(|lock| lock.until > start()) {
                    return Err(refused());
                }
            }
            Call::Head { .. } | Call::Versions { .. } => {}
        }
        let racing = self.is_weak(Trial::Race) && call.key().ends_with("race");
        Ok(match call.run(&self.memory, cancel).await? {
            Answer::Put(PutOutcome::Exists) if racing || self.is_weak(Trial::CreateIfAbsent) => {
                Answer::Put(PutOutcome::Created { version: None, checked: false })
            }
            other => other,
        })
    }
}

#[async_trait]
impl Attack for Bucket {
    fn caveat(&self) -> Option<&'static str> {
        None
    }

    async fn overwrite(
        &self,
        key: &ObjectKey,
        bytes: Bytes,
        _: &CancellationToken,
    ) -> Result<(), TargetError> {
        match self.is_weak(Trial::Overwrite) {
            true => self.replace(key, bytes).await,
            false => self.memory.tamper(key, Some(bytes)),
        }
        Ok(())
    }

    async fn hide(&self, key: &ObjectKey, c: &CancellationToken) -> Result<(), TargetError> {
        self.may("delete")?;
        match self.is_weak(Trial::Delete) {
            true => self.memory.delete(key, None, c).await?,
            false => self.memory.tamper(key, None),
        }
        Ok(())
    }

    async fn destroy(
        &self,
        key: &ObjectKey,
        version: Option<&VersionId>,
        cancel: &CancellationToken,
    ) -> Result<(), TargetError> {
        self.may("delete")?;
        if self.lock(key).is_some() && !self.is_weak(Trial::DeleteVersion) {
            return Err(refused());
        }
        self.memory.delete(key, version, cancel).await
    }

    async fn lock_of(
        &self,
        key: &ObjectKey,
        _: Option<&VersionId>,
        _: &CancellationToken,
    ) -> Result<Option<Lock>, TargetError> {
        self.may("read-lock")?;
        Ok(self.lock(key))
    }

    async fn relock(
        &self,
        key: &ObjectKey,
        _: Option<&VersionId>,
        lock: Lock,
        _: &CancellationToken,
    ) -> Result<(), TargetError> {
        let Some(before) = self.lock(key) else { return Ok(()) };
        let trial = if lock.mode == before.mode { Trial::ShortenLock } else { Trial::WeakenLock };
        if self.is_weak(trial) {
            self.locks.lock().unwrap().insert(key.clone(), lock);
        }
        // Says yes to everything.
        Ok(())
    }
}

async fn run(bucket: &Bucket, claim: Option<LockMode>) -> Guarantees {
    probe(bucket, claim, start(), &CancellationToken::new()).await.unwrap()
}

fn trials<'a>(found: impl Iterator<Item = (Trial, &'a str)>) -> Vec<Trial> {
    found.map(|(trial, _)| trial).collect()
}

#[tokio::test]
async fn what_holds_is_immutable() {
    for mode in [LockMode::Compliance, LockMode::Governance] {
        let found = run(&bucket([]), Some(mode)).await;
        assert!(found.immutable(), "{found:#?}");
        assert_eq!((found.at, found.place.as_str()), (start(), "s3://bucket"));
    }
    // Without a claim nothing is locked, and so nothing is immutable.
    let found = run(&bucket([]), None).await;
    assert_eq!(trials(found.broken()), [Trial::DeleteVersion]);
    assert!(!found.immutable() && found.mismatches(None).is_empty());
}

#[tokio::test]
async fn every_promise_that_is_not_kept_is_found() {
    for &trial in Trial::ALL {
        let found = run(&bucket([trial]), Some(LockMode::Compliance)).await;
        assert!(trials(found.broken()).contains(&trial), "{trial:?}: {found:#?}");
        assert!(!found.immutable());
        // What is broken for good cannot be tried again, but nothing else is blamed.
        let echo = |t: &Trial| match trial {
            Trial::CreateIfAbsent => *t == Trial::Race,
            Trial::Lock => matches!(t, Trial::ShortenLock | Trial::WeakenLock | Trial::DeleteVersion),
            Trial::Overwrite | Trial::Delete => {
                matches!(t, Trial::Delete | Trial::DeleteVersion)
            }
            _ => false,
        };
        let others = trials(found.broken()).into_iter().filter(|t| *t != trial && !echo(t));
        assert_eq!(others.collect::<Vec<_>>(), [], "{trial:?}: {found:#?}");
    }
}

#[tokio::test]
async fn what_may_not_be_tried_is_not_held() {
    let with = |rights: &[&'static str]| Bucket { denied: rights.iter().copied().collect(), ..bucket([]) };
    let put_only = run(&with(&["get", "delete", "read-lock", "list"]), Some(LockMode::Compliance)).await;
    assert_eq!(trials(put_only.held()), [], "{put_only:#?}");
    assert_eq!(trials(put_only.broken()), [], "{put_only:#?}");
    // Without the right to delete anything a refusal says nothing of the lock.
    let no_delete = run(&with(&["delete"]), Some(LockMode::Compliance)).await;
    assert_eq!(trials(no_delete.untested()), [Trial::DeleteVersion], "{no_delete:#?}");
    assert!(!no_delete.immutable());
}

#[tokio::test]
async fn a_probe_clears_up_after_itself_and_others() {
    let bucket = bucket([]);
    run(&bucket, Some(LockMode::Compliance)).await;
    let left = bucket.list_all(None, &CancellationToken::new()).await.unwrap();
    let names: Vec<&str> = left.iter().map(|o| o.key.as_str().rsplit('/').next().unwrap()).collect();
    assert_eq!(names, ["locked"]);
    bucket.locks.lock().unwrap().clear();
    bucket.memory.tamper(&"marbre-doctor/probe".parse().unwrap(), Some(Bytes::from_static(b"x")));
    // Not while its lock may last.
    let probe_at = |minutes| start() + SignedDuration::from_mins(minutes);
    probe(&bucket, None, probe_at(10), &CancellationToken::new()).await.unwrap();
    assert_eq!(bucket.list_all(None, &CancellationToken::new()).await.unwrap().len(), 2);
    probe(&bucket, None, probe_at(20), &CancellationToken::new()).await.unwrap();
    let left = bucket.list_all(None, &CancellationToken::new()).await.unwrap();
    assert_eq!(left.iter().map(|o| o.key.as_str()).collect::<Vec<_>>(), ["marbre-doctor/probe"]);
}

#[tokio::test]
async fn a_probe_can_be_cancelled() {
    let cancel = CancellationToken::new();
    cancel.cancel();
    let error = probe(&bucket([]), None, start(), &cancel).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Interrupted);
}
