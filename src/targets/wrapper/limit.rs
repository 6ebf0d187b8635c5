//! Keeps a target's share of the line within bounds: a wrapper around any target.

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use tokio_util::sync::CancellationToken;

use crate::model::place::Root;
use crate::targets::pace::Pace;
use crate::targets::wrapper::{Answer, Call, Wrapper};
use crate::targets::{ObjectStream, Target, TargetError, Upload};

/// A target whose bytes go up, and come down, at a pace.
#[derive(Debug)]
pub(crate) struct Limit<T> {
    inner: T,
    up: Pace,
    down: Pace,
}

impl<T: Target> Limit<T> {
    /// Wraps a target. Both directions of a line are its own.
    pub(crate) fn new(inner: T, up: Pace, down: Pace) -> Self {
        Self { inner, up, down }
    }
}

#[async_trait]
impl<T: Target> Wrapper for Limit<T> {
    fn description(&self) -> String {
        self.inner.describe()
    }

    fn root_identity(&self) -> Option<Root> {
        self.inner.root()
    }

    async fn call(&self, call: Call<'_>, cancel: &CancellationToken) -> Result<Answer, TargetError> {
        let answer = match call {
            Call::Put { key, upload } => {
                // The adapter keeps the pace, piece by piece: only there can it be smooth.
                let paced = Upload { pace: Some(self.up.clone()), ..upload.clone() };
                Call::Put { key, upload: &paced }.run(&self.inner, cancel).await?
            }
            other => other.run(&self.inner, cancel).await?,
        };
        Ok(answer.map_stream(|stream| {
            let operation = format!("get {} from {}", call.key(), self.inner.describe());
            paced(stream, self.down.clone(), operation, cancel.clone())
        }))
    }
}

/// A stream whose chunks come at a pace.
fn paced(stream: ObjectStream, pace: Pace, operation: String, cancel: CancellationToken) -> ObjectStream {
    let wait = move |chunk: Result<Bytes, TargetError>| {
        let (pace, cancel, operation) = (pace.clone(), cancel.clone(), operation.clone());
        async move {
            let chunk = chunk?;
            tokio::select! {
                biased;
                () = cancel.cancelled() => Err(TargetError::cancelled(operation)),
                () = pace.take(chunk.len() as u64) => Ok(chunk),
            }
        }
    };
    stream.then(wait).boxed()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::*;
    use crate::model::object::ObjectKey;
    use crate::targets::directory::DirectoryTarget;
    use crate::targets::memory::MemoryTarget;
    use crate::targets::{TargetErrorKind, TargetExt};

    const MIB: u64 = 1 << 20;

    fn limited(rate: u64) -> Limit<MemoryTarget> {
        Limit::new(MemoryTarget::new(), Pace::new(rate), Pace::new(rate))
    }

    fn noise() -> Upload {
        Upload::memory(vec![7; 4 * MIB as usize])
    }

    fn key(text: &str) -> ObjectKey {
        text.parse().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn keeps_the_rate_in_both_directions() {
        let (target, cancel) = (limited(MIB), CancellationToken::new());
        let start = Instant::now();
        target.put(&key("a"), &noise(), &cancel).await.unwrap();
        // The last piece need not be waited for.
        let took = start.elapsed().as_secs_f64();
        assert!((3.8..=4.1).contains(&took), "{took}");
        let start = Instant::now();
        assert_eq!(target.fetch_small(&key("a"), 4 * MIB, &cancel).await.unwrap().len() as u64, 4 * MIB);
        let took = start.elapsed().as_secs_f64();
        assert!((3.8..=4.1).contains(&took), "{took}");
    }

    #[tokio::test(start_paused = true)]
    async fn all_transfers_share_one_line_and_nothing_is_saved_up() {
        let (target, cancel) = (limited(4 * MIB), CancellationToken::new());
        tokio::time::sleep(Duration::from_secs(1000)).await;
        let start = Instant::now();
        let (upload, keys) = (noise(), [key("a"), key("b"), key("c")]);
        let puts = keys.iter().map(|key| target.put(key, &upload, &cancel));
        for put in futures_util::future::join_all(puts).await {
            put.unwrap();
        }
        let took = start.elapsed().as_secs_f64();
        assert!((2.8..=3.1).contains(&took), "{took}");
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_ends_when_cancelled() {
        let (target, cancel) = (limited(1), CancellationToken::new());
        let upload = noise();
        let (at, key) = (Instant::now(), key("a"));
        let (put, ()) = tokio::join!(target.put(&key, &upload, &cancel), async {
            tokio::time::sleep(Duration::from_secs(5)).await;
            cancel.cancel();
        });
        assert_eq!(put.unwrap_err().kind, TargetErrorKind::Cancelled);
        assert!(at.elapsed() < Duration::from_secs(10));
    }

    #[tokio::test]
    async fn a_directory_keeps_the_rate_and_can_be_cancelled() {
        let folder = tempfile::tempdir().unwrap();
        let directory = DirectoryTarget::open(folder.path()).await.unwrap();
        let target = Limit::new(directory, Pace::new(8 * MIB), Pace::new(8 * MIB));
        let (start, cancel) = (Instant::now(), CancellationToken::new());
        target.put(&key("a"), &noise(), &cancel).await.unwrap();
        let took = start.elapsed().as_secs_f64();
        assert!((0.4..5.0).contains(&took), "{took}");
        let crawling = DirectoryTarget::open(folder.path()).await.unwrap();
        let target = Limit::new(crawling, Pace::new(1), Pace::new(1));
        let (upload, key) = (noise(), key("b"));
        let (put, ()) = tokio::join!(target.put(&key, &upload, &cancel), async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            cancel.cancel();
        });
        assert_eq!(put.unwrap_err().kind, TargetErrorKind::Cancelled);
        assert!(start.elapsed() < Duration::from_secs(20));
    }
}
