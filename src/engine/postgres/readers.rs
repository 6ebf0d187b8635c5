//! The sessions that read rows. Each holds the locks of all tables before anything is read.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use futures_util::future::try_join_all;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::connect::{Connector, Session};
use super::lock_watch::Ours;
use super::relations::Table;
use super::{rows, table_locks};
use crate::error::{Error, Result};

/// Idle sessions, each in a transaction that sees the snapshot and holds the locks of all tables. A lock that is asked for
/// later would queue behind whoever waits for a lock of ours.
pub(crate) struct Readers {
    idle: Mutex<Vec<Session>>,
    free: Semaphore,
}

impl Readers {
    /// Opens them all.
    pub(super) async fn open(
        count: usize,
        connector: &Connector,
        settings: &BTreeMap<String, String>,
        (snapshot, tables): (&str, &[Table]),
        ours: &Ours,
        cancel: &CancellationToken,
    ) -> Result<Self> {
        let opening =
            (0..count.max(1)).map(|_| open_one(connector, settings, (snapshot, tables), ours, cancel));
        let idle: Vec<Session> = try_join_all(opening).await?;
        Ok(Self { free: Semaphore::new(idle.len()), idle: Mutex::new(idle) })
    }

    /// Reads with one of them, as soon as one is idle. After an error its transaction is of no use any more.
    pub(super) async fn read<T, F>(&self, read: impl FnOnce(Session) -> F) -> Result<T>
    where
        F: Future<Output = Result<(T, Session)>>,
    {
        let lost = || Error::interrupted();
        let _turn = self.free.acquire().await.map_err(|_| lost())?;
        let session = self.sessions().pop().ok_or_else(lost)?;
        let (found, session) = read(session).await?;
        self.sessions().push(session);
        Ok(found)
    }

    fn sessions(&self) -> std::sync::MutexGuard<'_, Vec<Session>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn open_one(
    connector: &Connector,
    settings: &BTreeMap<String, String>,
    (snapshot, tables): (&str, &[Table]),
    ours: &Ours,
    cancel: &CancellationToken,
) -> Result<Session> {
    let session = connector.connect(cancel).await?;
    ours.add(session.pid);
    rows::apply(&session, settings).await?;
    table_locks::join(&session, snapshot).await?;
    match table_locks::lock(connector, &session, tables, cancel).await? {
        true => Ok(session),
        false => Err(Error::internal("a table was dropped although it is locked")),
    }
}

/// How many sessions may read, of those that were asked for: all hold a lock on each table, and the server has room for twice
/// as many as it has slots, of which some must be left for others. The session that holds the snapshot and `pg_dump` come
/// on top.
pub(crate) fn how_many(asked: usize, tables: usize, slots: u64) -> usize {
    let fit = (slots + slots / 2) / (tables.max(1) as u64);
    asked.min(usize::try_from(fit.saturating_sub(2)).unwrap_or(asked)).max(1)
}

/// How many locks the server has room for.
pub(crate) const SLOTS: &str = "current_setting('max_locks_per_transaction')::int8 \
     * (current_setting('max_connections')::int8 + current_setting('max_prepared_transactions')::int8)";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locks_of_many_tables_leave_room_for_others() {
        assert_eq!(how_many(4, 0, 6400), 4);
        assert_eq!(how_many(4, 1000, 6400), 4);
        assert_eq!(how_many(4, 2000, 6400), 2);
        assert_eq!(how_many(4, 100_000, 6400), 1);
        assert_eq!(how_many(1, 10, 6400), 1);
    }
}
