//! Targets whose answers are heard: a job that asks thousands of small questions, or waits for large uploads, is seen
//! to move.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use tokio_util::sync::CancellationToken;

use crate::model::observer::Observer;
use crate::model::place::Root;
use crate::targets::wrapper::{Answer, Call, Wrapper};
use crate::targets::{NamedTarget, Target, TargetError};

/// Lets the observer hear every answer of these targets.
pub(crate) fn watch(targets: &mut [NamedTarget], observer: &Arc<dyn Observer>) {
    for named in targets {
        named.target = Arc::new(Watched { inner: named.target.clone(), observer: observer.clone() });
    }
}

struct Watched {
    inner: Arc<dyn Target>,
    observer: Arc<dyn Observer>,
}

impl fmt::Debug for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Watched").field(&self.inner).finish()
    }
}

#[async_trait]
impl Wrapper for Watched {
    fn description(&self) -> String {
        self.inner.describe()
    }

    fn root_identity(&self) -> Option<Root> {
        self.inner.root()
    }

    async fn call(&self, call: Call<'_>, cancel: &CancellationToken) -> Result<Answer, TargetError> {
        // Only what succeeds is movement: a target that fails all day stands still.
        let answer = call.run(&*self.inner, cancel).await?;
        self.observer.moves();
        Ok(match answer {
            Answer::Get(stream) => Answer::Get(heard(stream, &self.observer)),
            Answer::List(pages) => Answer::List(heard(pages, &self.observer)),
            other => other,
        })
    }
}

/// A stream every good item of which the observer hears.
fn heard<T: 'static>(
    stream: BoxStream<'static, Result<T, TargetError>>,
    observer: &Arc<dyn Observer>,
) -> BoxStream<'static, Result<T, TargetError>> {
    let observer = observer.clone();
    let hear = move |item: &Result<T, TargetError>| {
        if item.is_ok() {
            observer.moves();
        }
    };
    stream.inspect(hear).boxed()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;
    use crate::model::object::ObjectKey;
    use crate::model::observer::LoadObserver;
    use crate::model::stage::Stage;
    use crate::targets::memory::MemoryTarget;
    use crate::targets::{TargetExt, Upload};

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
        assert_eq!(target.list_all(None, &cancel).await.unwrap().len(), 1);
        assert_eq!(heard(), 3, "the calls and a page");
        target.fetch_small(&key, 100, &cancel).await.unwrap();
        assert!(heard() >= 2, "the answer and what came of it");
        target.delete(&key, None, &cancel).await.unwrap();
        assert_eq!(heard(), 1);
    }
}
