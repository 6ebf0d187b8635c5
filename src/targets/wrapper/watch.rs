//! Targets whose answers are heard: a job that asks thousands of small questions, or waits for large uploads, is seen
//! to move.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::StreamExt;
use tokio_util::sync::CancellationToken;

use crate::model::object::{ObjectKey, VersionId};
use crate::model::observer::Observer;
use crate::targets::NamedTarget;
use crate::targets::{ObjectInfo, ObjectStream, PutOutcome, Target, TargetError, Upload};

/// Lets the observer hear every answer of these targets.
pub fn watch(targets: &mut [NamedTarget], observer: &Arc<dyn Observer>) {
    for named in targets {
        named.target = Arc::new(Watched { inner: named.target.clone(), observer: observer.clone() });
    }
}

struct Watched {
    inner: Arc<dyn Target>,
    observer: Arc<dyn Observer>,
}

impl Watched {
    /// Only what succeeds is movement: a target that fails all day stands still.
    fn heard<T>(&self, answer: Result<T, TargetError>) -> Result<T, TargetError> {
        if answer.is_ok() {
            self.observer.moves();
        }
        answer
    }
}

impl fmt::Debug for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Watched").field(&self.inner).finish()
    }
}

#[async_trait]
impl Target for Watched {
    fn describe(&self) -> String {
        self.inner.describe()
    }

    async fn put(
        &self,
        key: &ObjectKey,
        upload: &Upload,
        cancel: &CancellationToken,
    ) -> Result<PutOutcome, TargetError> {
        self.heard(self.inner.put(key, upload, cancel).await)
    }

    async fn head(
        &self,
        key: &ObjectKey,
        cancel: &CancellationToken,
    ) -> Result<Option<ObjectInfo>, TargetError> {
        self.heard(self.inner.head(key, cancel).await)
    }

    async fn get(
        &self,
        key: &ObjectKey,
        version: Option<&VersionId>,
        cancel: &CancellationToken,
    ) -> Result<ObjectStream, TargetError> {
        let stream = self.heard(self.inner.get(key, version, cancel).await)?;
        let observer = self.observer.clone();
        Ok(stream
            .inspect(move |piece| {
                if piece.is_ok() {
                    observer.moves()
                }
            })
            .boxed())
    }

    async fn list(
        &self,
        prefix: Option<&ObjectKey>,
        cancel: &CancellationToken,
    ) -> Result<Vec<ObjectInfo>, TargetError> {
        self.heard(self.inner.list(prefix, cancel).await)
    }

    async fn versions(
        &self,
        key: &ObjectKey,
        cancel: &CancellationToken,
    ) -> Result<Vec<ObjectInfo>, TargetError> {
        self.heard(self.inner.versions(key, cancel).await)
    }

    async fn delete(
        &self,
        key: &ObjectKey,
        version: Option<&VersionId>,
        cancel: &CancellationToken,
    ) -> Result<(), TargetError> {
        self.heard(self.inner.delete(key, version, cancel).await)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;
    use crate::model::observer::LoadObserver;
    use crate::model::stage::Stage;
    use crate::targets::TargetExt;
    use crate::targets::memory::MemoryTarget;

    #[derive(Default)]
    struct Counter(AtomicU64);

    impl LoadObserver for Counter {
        fn stage(&self, _: Stage) {}
        fn bytes(&self, _: u64) {}
    }

    impl Observer for Counter {
        fn expect(&self, _: u64) {}
        fn moves(&self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
        fn warn(&self, _: &str) {}
    }

    #[tokio::test]
    async fn every_answer_is_heard_and_no_failure() {
        let counter = Arc::new(Counter::default());
        let observer: Arc<dyn Observer> = counter.clone();
        let mut targets = [NamedTarget { name: "a".parse().unwrap(), target: Arc::new(MemoryTarget::new()) }];
        watch(&mut targets, &observer);
        let (target, cancel) = (&targets[0].target, CancellationToken::new());
        let heard = || counter.0.swap(0, Ordering::Relaxed);
        let key: ObjectKey = "a/b".parse().unwrap();
        assert!(target.get(&key, None, &cancel).await.is_err());
        assert_eq!(heard(), 0);
        target.put(&key, &Upload::memory(vec![1; 10]), &cancel).await.unwrap();
        assert_eq!(heard(), 1);
        assert!(target.head(&key, &cancel).await.unwrap().is_some());
        assert_eq!(target.list(None, &cancel).await.unwrap().len(), 1);
        assert_eq!(heard(), 2);
        target.fetch_small(&key, 100, &cancel).await.unwrap();
        assert!(heard() >= 2, "the answer and what came of it");
        target.delete(&key, None, &cancel).await.unwrap();
        assert_eq!(heard(), 1);
    }
}
