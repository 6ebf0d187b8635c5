//! Who waits for the lock of a reader. Without a write-ahead log, a writer that wants to commit waits until nobody reads any more,
//! and from then on new readers wait for it. SQLite shows that by a lock of its own, on the byte that it calls PENDING.
//! Source: <https://www.sqlite.org/lockingv3.html> and `PENDING_BYTE` in `src/os.h` of SQLite.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::model::human;

/// How often to look.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Where the kernel lists the locks of all processes that are visible here.
const LOCKS: &str = "/proc/locks";

/// The byte that a waiting writer locks.
const PENDING_BYTE: &str = "1073741824";

/// A lock shorter than this is not worth a word, unless somebody waited.
const SHORT: Duration = Duration::from_secs(1);

/// Watches for writers that wait, while a transaction reads.
pub(super) struct Watch {
    task: JoinHandle<()>,
    seen: Arc<Mutex<Seen>>,
    since: Instant,
    limit: Duration,
}

#[derive(Debug, Default, Clone, Copy)]
struct Seen {
    /// Since when somebody waits now.
    waiting: Option<Instant>,
    longest: Duration,
    gave_way: bool,
}

/// How long others were held up.
#[derive(Debug, Clone, Copy)]
pub(super) struct HeldUp {
    /// How long the database was locked against writers.
    pub locked: Duration,
    /// The longest time for which one was seen to wait.
    pub waited: Duration,
    /// The time after which the transaction had to give way has passed.
    pub gave_way: bool,
}

impl Watch {
    /// Begins to watch. When somebody has waited for `limit`, `give_way` is cancelled.
    pub(super) fn start(database: &Path, limit: Duration, give_way: CancellationToken) -> Self {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let inode = std::fs::metadata(database).map_or(0, |metadata| metadata.ino());
        let watched = seen.clone();
        let task = tokio::spawn(async move {
            loop {
                tokio::time::sleep(LOOK_EVERY).await;
                let locks = tokio::fs::read_to_string(LOCKS).await.unwrap_or_default();
                let mut seen = watched.lock().unwrap_or_else(PoisonError::into_inner);
                seen.look(writer_waits(&locks, inode), Instant::now());
                if seen.waiting.is_some() && seen.longest >= limit {
                    seen.gave_way = true;
                    give_way.cancel();
                    return;
                }
            }
        });
        Self { task, seen, since: Instant::now(), limit }
    }

    /// How it is so far.
    pub(super) fn held_up(&self) -> HeldUp {
        let Seen { longest: waited, gave_way, .. } =
            *self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        HeldUp { locked: self.since.elapsed(), waited, gave_way }
    }

    /// See [`Watch::start`].
    pub(super) fn limit(&self) -> Duration {
        self.limit
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Seen {
    fn look(&mut self, waits: bool, now: Instant) {
        self.waiting = waits.then(|| self.waiting.unwrap_or(now));
        if let Some(since) = self.waiting {
            // Whoever is seen has begun to wait after the last look, when nobody was.
            self.longest = self.longest.max(now.duration_since(since) + LOOK_EVERY);
        }
    }
}

/// Whether somebody has locked the byte of waiting writers of this file. The file systems' own numbers of devices are not those of
/// `stat` everywhere, so the inode alone must do.
fn writer_waits(locks: &str, inode: u64) -> bool {
    let inode = inode.to_string();
    locks.lines().any(|line| {
        // `1: POSIX  ADVISORY  WRITE 4711 08:01:123456 1073741824 1073741824`
        let mut words = line.split_whitespace().skip_while(|word| *word != "WRITE").skip(2);
        let file = words.next().and_then(|file| file.rsplit(':').next());
        file == Some(inode.as_str()) && words.next() == Some(PENDING_BYTE)
    })
}

impl HeldUp {
    /// What people should know of it.
    pub(super) fn warning(&self) -> Option<String> {
        let waited = match self.waited {
            Duration::ZERO if self.locked < SHORT => return None,
            Duration::ZERO => "none was seen to wait".to_owned(),
            waited => format!("one waited for {}", human::duration(waited.as_secs_f64())),
        };
        Some(format!(
            "the database is not in WAL mode: nobody could write to it for {} of this snapshot, {waited}. \
             PRAGMA journal_mode = WAL ends this",
            human::duration(self.locked.as_secs_f64())
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_waiting_writers_of_this_file_are_seen() {
        let locks = "1: POSIX  ADVISORY  READ  41 08:01:77 1073741826 1073742335
                     2: POSIX  ADVISORY  WRITE 42 08:01:78 1073741824 1073741824
                     2: -> POSIX  ADVISORY  WRITE 42 08:01:76 1073741824 1073741824
                     3: POSIX  ADVISORY  WRITE 43 08:01:77 1073741825 1073741825
                     4: POSIX  ADVISORY  READ  44 08:01:77 1073741824 1073741824
                     5: FLOCK  ADVISORY  WRITE 45 08:01:77 0 EOF";
        assert!(!writer_waits(locks, 77));
        assert!(writer_waits(locks, 78));
        assert!(writer_waits("9: OFDLCK ADVISORY  WRITE -1 00:2f:77 1073741824 1073741824", 77));
    }

    #[test]
    fn the_longest_wait_counts() {
        let (mut seen, start) = (Seen::default(), Instant::now());
        let looks = [false, true, true, true, false, true, false];
        for (n, waits) in (0..).zip(looks) {
            seen.look(waits, start + LOOK_EVERY * n);
        }
        assert_eq!(seen.longest, LOOK_EVERY * 3);
        let held_up = |locked, waited| HeldUp { locked, waited, gave_way: false }.warning();
        assert_eq!(held_up(SHORT / 2, Duration::ZERO), None);
        assert!(held_up(SHORT, Duration::ZERO).unwrap().contains("none was seen to wait"));
        assert!(
            held_up(SHORT / 2, SHORT / 4)
                .unwrap()
                .contains("for 0.5 s of this snapshot, one waited for 0.2 s")
        );
    }
}
