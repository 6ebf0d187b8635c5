//! Sees who waits for the locks that a snapshot holds, and whether a snapshot waits for itself.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::connect::Session;
use super::row::Row;
use crate::error::{Error, Result};
use crate::model::human;

/// How often it looks while locks are taken.
const OPENING: Duration = Duration::from_millis(200);
/// How often it looks while the snapshot is read.
const READING: Duration = Duration::from_secs(1);
/// It spends at most one part in so many of its time on looking.
const PAUSE: u32 = 20;
/// A wait that is shorter is not worth telling.
const WORTH_TELLING: Duration = Duration::from_secs(5);
/// How many waits are told.
const MOST: usize = 5;

/// The processes of the server that work for one snapshot.
#[derive(Debug, Default)]
pub(crate) struct Ours(Mutex<Vec<i32>>);

impl Ours {
    /// Another one.
    pub(super) fn add(&self, pid: i32) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(pid);
    }

    fn all(&self) -> Vec<i32> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Who waits, and for what.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Waiter {
    pid: i32,
    application: String,
    table: String,
}

impl Waiter {
    fn describe(&self) -> String {
        let table = self.table.escape_debug();
        format!("process {} (application {:?}) for table {table}", self.pid, self.application)
    }
}

/// Whether one of our processes ($1, and those whose application is $2) waits for another of them, directly or through others.
const ENTANGLED: &str = "
WITH RECURSIVE ours AS (SELECT pid FROM pg_stat_activity WHERE pid = ANY ($1) OR application_name = $2),
chain(pid) AS (
  SELECT unnest(pg_blocking_pids(pid)) FROM ours
  UNION SELECT unnest(pg_blocking_pids(c.pid)) FROM chain c WHERE c.pid <> 0)
SELECT EXISTS (SELECT FROM chain WHERE pid IN (SELECT pid FROM ours))";

/// Who is blocked by our processes.
const BLOCKED: &str = "
SELECT array_agg(pid) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> ALL ($1) AND pid <> pg_backend_pid() AND pg_blocking_pids(pid) && $1";

/// Of these, who waits for the lock of a table.
const WAITING: &str = "
SELECT l.pid, COALESCE(a.application_name, ''), n.nspname || '.' || c.relname
FROM pg_locks l JOIN pg_class c ON c.oid = l.relation JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_stat_activity a ON a.pid = l.pid
WHERE l.pid = ANY ($1) AND NOT l.granted AND l.locktype = 'relation'
  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())";

/// Returns as soon as one of our processes waits for another: who came in between, in words. A look that fails sees nothing: the time limit of locks is
/// still there.
pub(crate) async fn entangled(session: &Session, ours: &Ours, application: &str) -> String {
    loop {
        tokio::time::sleep(OPENING).await;
        let found = session.query(ENTANGLED, &[&ours.all(), &application]).await;
        if found.is_ok_and(|rows| rows.iter().any(|row| row.get(0))) {
            let waiting = waiting(session, ours).await.unwrap_or_default();
            return waiting.iter().map(Waiter::describe).take(MOST).collect::<Vec<_>>().join("; ");
        }
    }
}

async fn waiting(session: &Session, ours: &Ours) -> Result<Vec<Waiter>> {
    let rows = session.query(BLOCKED, &[&ours.all()]).await?;
    let Some(blocked) = rows.first().and_then(|row| row.get::<_, Option<Vec<i32>>>(0)) else {
        return Ok(Vec::new());
    };
    let rows = session.query(WAITING, &[&blocked]).await?;
    let waiter = |row: &Row| Waiter { pid: row.get(0), application: row.get(1), table: row.get(2) };
    Ok(rows.iter().map(waiter).collect())
}

/// When somebody was first and last seen waiting.
#[derive(Debug, Clone, Copy)]
struct Wait {
    first: Instant,
    last: Instant,
}

#[derive(Debug, Default)]
struct Seen {
    waits: Mutex<BTreeMap<Waiter, Wait>>,
    gave_way: CancellationToken,
}

impl Seen {
    fn waits(&self) -> MutexGuard<'_, BTreeMap<Waiter, Wait>> {
        self.waits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds what was seen now. Returns how long the most patient of them has waited.
    fn note(&self, waiting: Vec<Waiter>, now: Instant) -> Duration {
        let mut waits = self.waits();
        let of = |waiter| {
            let wait = waits.entry(waiter).or_insert(Wait { first: now, last: now });
            wait.last = now;
            now - wait.first
        };
        waiting.into_iter().map(of).max().unwrap_or_default()
    }

    /// The longest waits, of those that are as long as this.
    fn longest(&self, least: Duration) -> Vec<String> {
        let waits = self.waits();
        let mut long: Vec<(Duration, String)> = waits
            .iter()
            .map(|(waiter, wait)| (wait.last - wait.first, waiter.describe()))
            .filter(|(time, _)| *time >= least)
            .collect();
        long.sort_by(|a, b| b.cmp(a));
        let told = long
            .iter()
            .take(MOST)
            .map(|(time, who)| format!("{who}, {}", human::duration(time.as_secs_f64())));
        let more = long.len().saturating_sub(MOST);
        told.chain((more > 0).then(|| format!("{more} more"))).collect()
    }
}

/// Looks on while a snapshot is read. It ends when it is dropped.
pub(crate) struct LockWatch {
    seen: Arc<Seen>,
    give_way_after: Duration,
    task: JoinHandle<()>,
}

impl Drop for LockWatch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl LockWatch {
    /// Begins to look, in a session of its own.
    pub(super) fn start(session: Session, ours: Ours, give_way_after: Duration) -> Self {
        let seen = Arc::new(Seen::default());
        let task = tokio::spawn(look_on(session, ours, seen.clone(), give_way_after));
        Self { seen, give_way_after, task }
    }

    /// Returns when somebody has waited for too long, so that the snapshot has to give way.
    pub(super) async fn must_give_way(&self) -> Error {
        self.seen.gave_way.cancelled().await;
        Error::database("the snapshot was given up, because another session waited for its locks")
            .cause(self.seen.longest(self.give_way_after).join("; "))
            .remedy("Take the snapshot at a time when no job changes, truncates or drops tables, or raise give_way_after.")
    }

    /// What people should know about those who had to wait.
    pub(super) fn warning(&self) -> Option<String> {
        let waits = self.seen.longest(WORTH_TELLING);
        (!waits.is_empty())
            .then(|| format!("other sessions waited for locks that this snapshot held: {}", waits.join("; ")))
    }
}

async fn look_on(session: Session, ours: Ours, seen: Arc<Seen>, give_way_after: Duration) {
    loop {
        let before = Instant::now();
        // Whoever watches must not end the snapshot: a look that fails sees nothing.
        let waiting = waiting(&session, &ours).await.unwrap_or_default();
        let now = Instant::now();
        let longest = seen.note(waiting, now);
        if longest >= give_way_after {
            seen.gave_way.cancel();
            return;
        }
        tokio::time::sleep(READING.max((now - before) * PAUSE)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiter(pid: i32) -> Waiter {
        Waiter { pid, application: "app".into(), table: "public.t".into() }
    }

    #[test]
    fn the_longest_waits_are_told_first() {
        let seen = Seen::default();
        let begin = Instant::now();
        let at = |seconds| begin + Duration::from_secs(seconds);
        assert_eq!(seen.note(vec![waiter(1)], at(0)), Duration::ZERO);
        assert_eq!(seen.note(vec![waiter(1), waiter(2)], at(10)), Duration::from_secs(10));
        assert_eq!(seen.note((2..10).map(waiter).collect(), at(20)), Duration::from_secs(10));
        let told = seen.longest(WORTH_TELLING);
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(told[0].starts_with("process 2 (application \"app\") for table public.t, 10"), "{told:?}");
        seen.note((2..10).map(waiter).collect(), at(30));
        let told = seen.longest(WORTH_TELLING);
        assert_eq!(told.len(), MOST + 1);
        assert_eq!(told.last().unwrap(), "4 more");
    }
}
