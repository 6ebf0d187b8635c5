//! Targets that must answer soon: for whoever looks, and would rather see what there is than wait for what is missing.

use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt, TryStreamExt};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::model::place::Root;
use crate::targets::wrapper::{Answer, Call, Wrapper};
use crate::targets::{Target, TargetError, TargetErrorKind};

/// A target that is given up as soon as it is silent for too long, or cannot be reached: every later call fails at once.
#[derive(Debug)]
pub(crate) struct Impatient<T> {
    inner: T,
    silence: Arc<Silence>,
}

impl<T: Target> Impatient<T> {
    /// The first answers may take `patience`; after that, half of it between two of them.
    pub(crate) fn new(inner: T, patience: Duration) -> Self {
        let silence = Silence {
            place: inner.describe(),
            patience,
            begun: Instant::now(),
            heard: Mutex::default(),
            given_up: Mutex::default(),
        };
        Self { inner, silence: Arc::new(silence) }
    }
}

/// What was heard of a target, and when.
#[derive(Debug)]
struct Silence {
    place: String,
    patience: Duration,
    begun: Instant,
    heard: Mutex<Option<Instant>>,
    given_up: Mutex<Option<TargetError>>,
}

impl Silence {
    /// When the target will have been silent for too long for work that began then, if nothing is heard until then.
    fn ends(&self, work_began: Instant) -> Instant {
        let heard = *self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let last = heard.map_or(work_began, |heard| heard.max(work_began));
        (self.begun + self.patience).max(last + self.patience / 2)
    }

    /// Waits for an answer, and no longer than for anything else that the target is asked meanwhile.
    async fn broken_by<A>(
        &self,
        work: impl Future<Output = Result<A, TargetError>>,
    ) -> Result<A, TargetError> {
        if let Some(e) = &*self.given_up.lock().unwrap_or_else(PoisonError::into_inner) {
            return Err(e.clone());
        }
        let (began, mut work) = (Instant::now(), pin!(work));
        loop {
            tokio::select! {
                biased;
                done = &mut work => {
                    match &done {
                        Err(e) if e.kind == TargetErrorKind::Unavailable => self.give_up(e),
                        Err(e) if e.kind == TargetErrorKind::Cancelled => {}
                        _ => *self.heard.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now()),
                    }
                    return done;
                }
                () = sleep_until(self.ends(began)) => {}
            }
            if self.ends(began) <= Instant::now() {
                let e = no_answer(&self.place, self.patience);
                self.give_up(&e);
                return Err(e);
            }
        }
    }

    fn give_up(&self, e: &TargetError) {
        self.given_up.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(|| e.clone());
    }
}

/// The error of a target at `place` that did not answer.
pub(crate) fn no_answer(place: &str, patience: Duration) -> TargetError {
    let cause = format!("no answer within {} s", patience.as_secs_f64());
    TargetError::new(TargetErrorKind::Unavailable, format!("reach {place}"), cause)
}

#[async_trait]
impl<T: Target> Wrapper for Impatient<T> {
    fn description(&self) -> String {
        self.inner.describe()
    }

    fn root_identity(&self) -> Option<Root> {
        self.inner.root()
    }

    async fn call(&self, call: Call<'_>, cancel: &CancellationToken) -> Result<Answer, TargetError> {
        let answer = self.silence.broken_by(call.run(&self.inner, cancel)).await?;
        Ok(match answer {
            Answer::Get(stream) => Answer::Get(impatiently(stream, self.silence.clone())),
            Answer::List(pages) => Answer::List(impatiently(pages, self.silence.clone())),
            other => other,
        })
    }
}

/// A stream of which each item must come soon.
fn impatiently<I: Send + 'static>(
    stream: BoxStream<'static, Result<I, TargetError>>,
    silence: Arc<Silence>,
) -> BoxStream<'static, Result<I, TargetError>> {
    let next = |(mut stream, silence): (BoxStream<'static, Result<I, TargetError>>, Arc<Silence>)| async move {
        let item = silence.broken_by(stream.try_next()).await?;
        Ok(item.map(|item| (item, (stream, silence))))
    };
    stream::try_unfold((stream, silence), next).boxed()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::targets::TargetExt;
    use crate::targets::memory::MemoryTarget;

    /// Answers until it hangs.
    #[derive(Debug, Default)]
    struct Hanging {
        inner: MemoryTarget,
        hangs: std::sync::atomic::AtomicBool,
    }

    #[async_trait]
    impl Wrapper for Hanging {
        fn description(&self) -> String {
            "hanging".to_owned()
        }

        fn root_identity(&self) -> Option<Root> {
            None
        }

        async fn call(&self, call: Call<'_>, cancel: &CancellationToken) -> Result<Answer, TargetError> {
            match self.hangs.load(std::sync::atomic::Ordering::Relaxed) {
                true => std::future::pending().await,
                false => call.run(&self.inner, cancel).await,
            }
        }
    }

    const PATIENCE: Duration = Duration::from_secs(4);

    async fn listed(target: &dyn Target) -> (Result<(), TargetError>, Duration) {
        let began = Instant::now();
        let listed = target.list_all(None, &CancellationToken::new()).await.map(drop);
        (listed, began.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_target_is_given_up_once_and_for_all() {
        let target = Impatient::new(Hanging::default(), PATIENCE);
        assert!(listed(&target).await.0.is_ok());
        target.inner.hangs.store(true, std::sync::atomic::Ordering::Relaxed);
        let (outcome, took) = listed(&target).await;
        let e = outcome.unwrap_err();
        assert_eq!((e.kind, e.cause.as_str()), (TargetErrorKind::Unavailable, "no answer within 4 s"));
        assert_eq!(took.as_secs(), 4);
        let (outcome, took) = listed(&target).await;
        assert!(outcome.is_err() && took.is_zero());
        // Whoever asks after a while (a person was asked something) has not used up the time of the target.
        let late = Impatient::new(MemoryTarget::new(), PATIENCE);
        tokio::time::sleep(Duration::from_secs(100)).await;
        assert!(listed(&late).await.0.is_ok());
    }
}
