//! How fast bytes may go.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// The pieces in which paced bytes go out: small enough that a slow line is seen to move.
pub(crate) const PIECE: usize = 64 * 1024;

/// So many bytes per second, for everybody who holds a clone together.
///
/// The bucket holds one piece: what was not used while nobody sent anything is not saved up, so nothing goes out in
/// bursts.
#[derive(Debug, Clone)]
pub struct Pace {
    rate: u64,
    /// When the line is free again.
    free: Arc<Mutex<Option<Instant>>>,
}

impl Pace {
    /// At most `rate` bytes per second; at least 1.
    pub fn new(rate: u64) -> Self {
        Self { rate: rate.max(1), free: Arc::default() }
    }

    /// Waits until `bytes` may go. Whoever drops this while it waits has used its share all the same.
    pub async fn take(&self, bytes: u64) {
        let start = {
            // No code panics while it holds the lock.
            let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            let start = free.map_or(now, |free| free.max(now));
            *free = Some(start + Duration::from_secs_f64(bytes as f64 / self.rate as f64));
            start
        };
        sleep_until(start).await;
    }
}
