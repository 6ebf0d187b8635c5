//! Tries again what may work in a moment: a wrapper around any target.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use backon::{BackoffBuilder, ExponentialBuilder};
use futures_util::{StreamExt, stream};
use tokio::sync::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::model::object::ObjectKey;
use crate::model::place::Root;
use crate::targets::wrapper::{Answer, Call, Wrapper};
use crate::targets::{ObjectInfo, ObjectPages, Target, TargetError, TargetErrorKind};

/// How often, and for how long, something is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// The most attempts, the first one included; at least 1.
    pub attempts: usize,
    /// The wait after the first attempt; each further wait is twice as long, and up to as much again is
    /// added at random, so that several agents do not come back at the same moment.
    pub first_wait: Duration,
    /// The longest wait, before the random part.
    pub longest_wait: Duration,
    /// No attempt starts later than this after the first failure. An attempt that took longer than this before it
    /// failed was no part of the trouble before it: then the time counts from its failure.
    pub total: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            attempts: 6,
            first_wait: Duration::from_millis(500),
            longest_wait: Duration::from_secs(20),
            total: Duration::from_secs(300),
        }
    }
}

/// What arrived damaged may have been damaged on the way, once. A second time it is no accident.
const CORRUPT_ATTEMPTS: usize = 2;

impl RetryPolicy {
    /// One attempt, and no other.
    pub fn never() -> Self {
        Self { attempts: 1, ..Self::default() }
    }

    /// A second attempt after a moment.
    pub(crate) fn once_more() -> Self {
        let wait = Duration::from_millis(200);
        Self { attempts: 2, first_wait: wait, longest_wait: wait, ..Self::default() }
    }

    /// Runs `attempt` until it succeeds, fails for good, or the policy's bounds are reached.
    pub async fn run<T, F, A>(&self, cancel: &CancellationToken, mut attempt: A) -> Result<T, TargetError>
    where
        A: FnMut() -> F + Send,
        F: Future<Output = Result<T, TargetError>> + Send,
        T: Send,
    {
        let mut first_failure: Option<Instant> = None;
        let mut waits = ExponentialBuilder::default()
            .with_min_delay(self.first_wait)
            .with_max_delay(self.longest_wait)
            .with_max_times(self.attempts.saturating_sub(1))
            .with_jitter()
            .build();
        let mut attempts = 0;
        loop {
            let started = Instant::now();
            let error = match attempt().await {
                Ok(value) => return Ok(value),
                Err(e) => e,
            };
            attempts += 1;
            let failed = Instant::now();
            let since = first_failure.filter(|_| failed - started <= self.total).unwrap_or(failed);
            first_failure = Some(since);
            let worn_out = error.kind == TargetErrorKind::Corrupt && attempts >= CORRUPT_ATTEMPTS;
            if error.kind.is_permanent() || worn_out {
                return Err(error);
            }
            let wait = waits.next().filter(|w| failed - since + *w <= self.total);
            let Some(wait) = wait else {
                return Err(given_up(error, attempts));
            };
            tracing::warn!(
                operation = error.operation,
                cause = error.cause,
                attempt = attempts,
                wait_seconds = wait.as_secs_f64(),
                "target operation failed and is tried again"
            );
            tokio::select! {
                biased;
                () = cancel.cancelled() => return Err(TargetError::cancelled(error.operation)),
                () = tokio::time::sleep(wait) => {}
            }
        }
    }
}

fn given_up(error: TargetError, attempts: usize) -> TargetError {
    if attempts < 2 {
        return error;
    }
    TargetError { cause: format!("{} (given up after {attempts} attempts)", error.cause), ..error }
}

/// A target whose operations are tried again while their failures are not permanent.
///
/// A put whose answer was lost may have created the object: the next attempt then says
/// [`PutOutcome::Exists`](crate::targets::PutOutcome::Exists), as after anybody else's put. [`crate::targets::TargetExt::put_or_compare`] tells
/// the difference, by comparing. A list goes on after its last page. A stream that breaks after [`Target::get`] returned is
/// not mended here: [`crate::targets::TargetExt::fetch_to_file`] does that.
#[derive(Debug)]
pub struct Retry<T> {
    inner: Arc<T>,
    policy: RetryPolicy,
}

impl<T: Target> Retry<T> {
    /// Wraps a target.
    pub fn new(inner: T, policy: RetryPolicy) -> Self {
        Self { inner: Arc::new(inner), policy }
    }
}

/// A list of which each page is tried again.
struct Listing<T> {
    inner: Arc<T>,
    policy: RetryPolicy,
    cancel: CancellationToken,
    prefix: Option<ObjectKey>,
    /// The last key of the pages before.
    after: Option<ObjectKey>,
    /// The rest of the list, unless it broke.
    pages: Mutex<Option<ObjectPages>>,
}

impl<T: Target> Listing<T> {
    async fn next(mut self) -> Result<Option<(Vec<ObjectInfo>, Self)>, TargetError> {
        let page = self.policy.run(&self.cancel, || self.page()).await?;
        if let Some(last) = page.as_ref().and_then(|page| page.last()) {
            self.after = Some(last.key.clone());
        }
        Ok(page.map(|page| (page, self)))
    }

    async fn page(&self) -> Result<Option<Vec<ObjectInfo>>, TargetError> {
        let mut pages = self.pages.lock().await;
        let mut rest = match pages.take() {
            Some(rest) => rest,
            None => self.inner.list(self.prefix.as_ref(), self.after.as_ref(), &self.cancel).await?,
        };
        let page = rest.next().await.transpose()?;
        *pages = Some(rest);
        Ok(page)
    }
}

#[async_trait]
impl<T: Target + 'static> Wrapper for Retry<T> {
    fn description(&self) -> String {
        self.inner.describe()
    }

    fn root_identity(&self) -> Option<Root> {
        self.inner.root()
    }

    async fn call(&self, call: Call<'_>, cancel: &CancellationToken) -> Result<Answer, TargetError> {
        let Call::List { prefix, after } = call else {
            return self.policy.run(cancel, || call.run(&*self.inner, cancel)).await;
        };
        let listing = Listing {
            inner: self.inner.clone(),
            policy: self.policy,
            cancel: cancel.clone(),
            prefix: prefix.cloned(),
            after: after.cloned(),
            pages: Mutex::default(),
        };
        Ok(Answer::List(stream::try_unfold(listing, Listing::next).boxed()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::targets::memory::MemoryTarget;
    use crate::targets::wrapper::faulty::{Fault, Faulty, Operation};
    use crate::targets::{PutOutcome, TargetExt, Upload};

    fn policy() -> RetryPolicy {
        RetryPolicy {
            first_wait: Duration::from_millis(1),
            longest_wait: Duration::from_millis(2),
            ..RetryPolicy::default()
        }
    }

    async fn put_with(fault: TargetErrorKind, failures: u64) -> (u64, Result<PutOutcome, TargetError>) {
        let faulty = Faulty::new(MemoryTarget::new()).with(Operation::Put, 1..=failures, Fault::Fail(fault));
        let target = Retry::new(faulty, policy());
        let outcome =
            target.put(&"a/b".parse().unwrap(), &Upload::memory("x"), &CancellationToken::new()).await;
        (target.inner.calls(Operation::Put), outcome)
    }

    #[tokio::test]
    async fn tries_again_what_may_pass() {
        let (calls, outcome) = put_with(TargetErrorKind::Unavailable, 3).await;
        assert!(matches!(outcome, Ok(PutOutcome::Created { .. })), "{outcome:?}");
        assert_eq!(calls, 4);
    }

    #[tokio::test]
    async fn a_list_that_breaks_goes_on_where_it_was() {
        let memory = MemoryTarget::new();
        let cancel = CancellationToken::new();
        let names: Vec<String> = (0..2500).map(|i| format!("many/{i:04}")).collect();
        for name in &names {
            memory.put(&name.parse().unwrap(), &Upload::memory("x"), &cancel).await.unwrap();
        }
        // Also the list that goes on after the first page breaks.
        let faulty = Faulty::new(memory).with(Operation::List, 1..=2, Fault::Break(1));
        let target = Retry::new(faulty, policy());
        let listed = target.list_all(None, &cancel).await.unwrap();
        assert_eq!(listed.iter().map(|o| o.key.as_str()).collect::<Vec<_>>(), names);
        assert_eq!(target.inner.calls(Operation::List), 3);
        let faulty = Faulty::new(MemoryTarget::new()).with(
            Operation::List,
            1..=u64::MAX,
            Fault::Fail(TargetErrorKind::Denied),
        );
        let error = Retry::new(faulty, policy()).list_all(None, &cancel).await.unwrap_err();
        assert_eq!(error.kind, TargetErrorKind::Denied);
    }

    #[tokio::test]
    async fn gives_up_in_the_end_and_says_so() {
        let (calls, outcome) = put_with(TargetErrorKind::Unavailable, 100).await;
        let error = outcome.unwrap_err();
        assert_eq!((calls, error.kind), (6, TargetErrorKind::Unavailable));
        assert!(error.cause.contains("given up after 6 attempts"), "{error}");
    }

    #[tokio::test]
    async fn does_not_repeat_what_cannot_work() {
        for kind in [
            TargetErrorKind::Denied,
            TargetErrorKind::Full,
            TargetErrorKind::NotFound,
            TargetErrorKind::Unsupported,
            TargetErrorKind::Cancelled,
        ] {
            let (calls, outcome) = put_with(kind, 100).await;
            assert_eq!((calls, outcome.unwrap_err().kind), (1, kind));
        }
        let (calls, _) = put_with(TargetErrorKind::Corrupt, 100).await;
        assert_eq!(calls, 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_long_attempt_uses_up_no_time_of_the_next() {
        let hour = Duration::from_secs(3600);
        let policy = RetryPolicy::default();
        let unavailable = || TargetError::new(TargetErrorKind::Unavailable, "put a", "it broke");
        // Long uploads that break, each by itself.
        let mut left = 5;
        let outcome = policy
            .run(&CancellationToken::new(), || {
                left -= 1;
                async move {
                    tokio::time::sleep(hour).await;
                    if left > 0 { Err(unavailable()) } else { Ok(()) }
                }
            })
            .await;
        assert_eq!((outcome.map_err(|e| e.cause), left), (Ok(()), 0));
        // One that broke, and then a server that is gone: it has all of its time, and no more.
        let (mut calls, start) = (0, Instant::now());
        let patient = RetryPolicy { attempts: 1000, ..policy };
        let outcome: Result<(), _> = patient
            .run(&CancellationToken::new(), || {
                calls += 1;
                let took = if calls == 1 { hour } else { Duration::from_secs(1) };
                async move {
                    tokio::time::sleep(took).await;
                    Err(unavailable())
                }
            })
            .await;
        let after = start.elapsed() - hour;
        assert!(outcome.is_err() && calls > 6, "{calls}");
        assert!(after > policy.total / 2 && after <= policy.total + Duration::from_secs(1), "{after:?}");
    }

    #[tokio::test]
    async fn stops_waiting_when_cancelled_and_when_time_is_up() {
        let dead = || {
            Faulty::new(MemoryTarget::new()).with(
                Operation::Head,
                1..=u64::MAX,
                Fault::Fail(TargetErrorKind::Unavailable),
            )
        };
        let slow = RetryPolicy {
            attempts: 1000,
            first_wait: Duration::from_millis(100),
            longest_wait: Duration::from_millis(100),
            total: Duration::from_millis(600),
        };
        let key: ObjectKey = "a".parse().unwrap();
        let start = Instant::now();
        let target = Retry::new(dead(), slow);
        let error = target.head(&key, &CancellationToken::new()).await.unwrap_err();
        assert_eq!(error.kind, TargetErrorKind::Unavailable);
        assert!(start.elapsed() < Duration::from_secs(2));

        let sleepy = RetryPolicy {
            first_wait: Duration::from_secs(100),
            longest_wait: Duration::from_secs(100),
            total: Duration::from_secs(1000),
            ..slow
        };
        let target = Retry::new(dead(), sleepy);
        let cancel = CancellationToken::new();
        let (outcome, ()) = tokio::join!(target.head(&key, &cancel), async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            cancel.cancel();
        });
        assert!(start.elapsed() < Duration::from_secs(10));
        assert_eq!(outcome.unwrap_err().kind, TargetErrorKind::Cancelled);
    }
}
