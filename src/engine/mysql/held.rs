//! One state of all tables, held by several connections: their transactions begin while nobody can write to any of the tables.
//!
//! | connection | what it does |
//! | --- | --- |
//! | guard | has used every table in its transaction, so that none can be changed in form until that ends |
//! | stop | `LOCK TABLES … READ` on all tables of the database, for as long as the others need to begin |
//! | coordinator, readers | `START TRANSACTION WITH CONSISTENT SNAPSHOT`: they see the same state of transactional tables |
//! | locked | `LOCK TABLES … READ` on the others, until they are read |
//!
//! `FLUSH TABLES WITH READ LOCK`, which is usual, would stop all databases of the server. And in MySQL, one that waited for a long query
//! and gave up has marked its tables as old: everybody then waits until that query ends. A lock of tables that was given up leaves nothing.
//! What is in the binary log at that moment has every change of the database before the state, and none after it.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio_util::sync::CancellationToken;

use super::connect::Connector;
use super::quote::qualified;
use super::rights;
use super::session::{Failure, Session};
use super::tables::{self, Table};
use crate::error::{Error, Result};
use crate::model::engine_kind::EngineKind;
use crate::model::human;

/// How often tables are listed again, where they change in the meantime.
const ATTEMPTS: u32 = 3;

/// Tables that are touched by one statement.
const TOGETHER: usize = 40;

/// Beyond the limit for locks, what the network may take before a lock that is held is given up.
const SLACK: Duration = Duration::from_secs(5);

/// One state.
pub(super) struct Held {
    /// Its tables.
    pub tables: Vec<Table>,
    /// When it was.
    pub at: Timestamp,
    /// The same in the server's log: file and position, and the global identifiers.
    pub point: String,
    /// Sees the state, and lives to the end.
    pub coordinator: Session,
    /// Keeps the tables as they are.
    guard: Session,
    readers: Mutex<Vec<Session>>,
    free: Semaphore,
    locked: tokio::sync::Mutex<Option<Session>>,
    /// What people should know.
    pub warnings: Vec<String>,
}

/// A connection that sees the state.
pub(super) struct Lease<'a> {
    /// It.
    pub session: Session,
    _place: SemaphorePermit<'a>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes hold of one state.
pub(super) async fn take(
    connector: &Connector,
    jobs: usize,
    refuse_non_transactional: bool,
    cancel: &CancellationToken,
) -> Result<Held> {
    let mut guard = connector.connect(cancel).await?;
    rights::refuse(&mut guard, connector).await?;
    guard.run("START TRANSACTION", "begin a transaction").await?;
    let tables = guarded(&mut guard, connector).await?;
    let others = non_transactional(&tables, refuse_non_transactional)?;
    let mut coordinator = connector.connect(cancel).await?;
    let mut readers = Vec::new();
    for _ in 0..jobs.max(1) {
        readers.push(connector.connect_for_rows(cancel).await?);
    }
    let mut locked = match others.is_empty() {
        true => None,
        false => Some(connector.connect_for_rows(cancel).await?),
    };
    let mut stop = connector.connect(cancel).await?;
    let with_rows = tables.iter().filter(|table| table.has_rows).map(|table| table.name.as_str());
    lock_all(connector, &mut stop, with_rows).await?;
    let begun = async {
        for session in readers.iter_mut().chain([&mut coordinator]) {
            begin(session).await?;
        }
        if let Some(session) = &mut locked {
            lock_all(connector, session, others.iter().map(String::as_str)).await?;
        }
        point(connector.kind(), &mut stop).await
    };
    let begun = tokio::time::timeout(connector.lock_timeout() + SLACK, begun).await;
    let (at, point, warning) = begun.map_err(|_| {
        Error::database("the tables were locked for too long, and the lock was given up")
            .remedy("Take the snapshot when the server has less to do.")
    })??;
    stop.run("UNLOCK TABLES", "end the lock").await?;
    Ok(Held {
        tables,
        at,
        point,
        coordinator,
        guard,
        free: Semaphore::new(readers.len()),
        readers: Mutex::new(readers),
        locked: tokio::sync::Mutex::new(locked),
        warnings: warning.into_iter().collect(),
    })
}

/// Lists the tables, and keeps them from being changed.
async fn guarded(guard: &mut Session, connector: &Connector) -> Result<Vec<Table>> {
    let database = connector.database();
    let mut known = tables::read(guard, database).await?;
    for _ in 0..ATTEMPTS {
        for some in known.chunks(TOGETHER) {
            let touch =
                |table: &Table| format!("(SELECT 1 FROM {} LIMIT 0)", qualified(database, &table.name));
            let all: Vec<String> = some.iter().filter(|table| table.has_rows).map(touch).collect();
            if !all.is_empty() {
                match guard.rows(&all.join(" UNION ALL ")).await {
                    Ok(_) => {}
                    Err(Failure::Server(e)) if e.code == 1205 => {
                        let running = longest(guard).await.unwrap_or_default();
                        return Err(in_the_way(connector, &running));
                    }
                    Err(e) => return Err(guard.failed("open the tables", e)),
                }
            }
        }
        let again = tables::read(guard, database).await?;
        let same = |(a, b): (&Table, &Table)| (&a.name, &a.columns, &a.key) == (&b.name, &b.columns, &b.key);
        if known.len() == again.len() && known.iter().zip(&again).all(same) {
            return Ok(again);
        }
        known = again;
    }
    Err(Error::database("the tables change all the time")
        .remedy("Take the snapshot when no tables are made, altered or dropped."))
}

/// Tables of which a transaction does not see one state.
fn non_transactional(tables: &[Table], refuse: bool) -> Result<Vec<String>> {
    let found: Vec<&Table> = tables.iter().filter(|table| table.is_read_locked()).collect();
    if refuse && !found.is_empty() {
        let names: Vec<String> = found.iter().map(|table| table.what()).collect();
        return Err(Error::preflight("some tables know no transactions, and `non_transactional` is \"refuse\"")
            .cause(human::first_few(&names, 10))
            .remedy(
                "Convert them (ALTER TABLE … ENGINE = InnoDB), or write `non_transactional = \"lock\"`: then writers wait while they are \
                 read.",
            ));
    }
    Ok(found.into_iter().map(|table| table.name.clone()).collect())
}

/// Stops all writing to these tables. That waits for transactions that have written to them, and whoever wants to write waits behind it:
/// so it ends soon.
async fn lock_all<'a>(
    connector: &Connector,
    session: &mut Session,
    tables: impl Iterator<Item = &'a str>,
) -> Result<()> {
    let all: Vec<String> =
        tables.map(|name| format!("{} READ", qualified(connector.database(), name))).collect();
    if all.is_empty() {
        return Ok(());
    }
    match session.execute(&format!("LOCK TABLES {}", all.join(", "))).await {
        Ok(_) => Ok(()),
        Err(Failure::Server(e)) if e.code == 1205 => {
            let running = longest(session).await.unwrap_or_default();
            Err(in_the_way(connector, &running))
        }
        Err(e) => Err(session.failed("lock the tables for a moment", e)),
    }
}

fn in_the_way(connector: &Connector, running: &str) -> Error {
    let limit = human::duration(connector.lock_timeout().as_secs_f64());
    let running = match running.is_empty() {
        true => "a statement that this user cannot see (grant PROCESS to see it)",
        false => running,
    };
    Error::database(format!("the tables could not be locked within {limit}, and nobody was to wait longer"))
        .cause(running.to_owned())
        .remedy(
            "Take the snapshot when no transaction that writes runs for long, end that one, or raise `lock_timeout`.",
        )
}

/// Who may stand in the way, without the text of statements: those that do something, and those that have not ended what they did.
async fn longest(session: &mut Session) -> Option<String> {
    let sql = "SELECT p.ID, p.USER, p.TIME FROM information_schema.PROCESSLIST p \
               LEFT JOIN information_schema.INNODB_TRX t ON t.trx_mysql_thread_id = p.ID \
               WHERE (p.COMMAND IN ('Query', 'Execute') OR t.trx_rows_modified > 0) AND p.ID <> CONNECTION_ID() \
               ORDER BY p.TIME DESC LIMIT 3";
    let rows = session.rows(sql).await.unwrap_or_default();
    let who: Vec<String> = rows
        .iter()
        .map(|row| {
            let text = |at: usize| row.get(at).cloned().flatten().unwrap_or_default();
            format!(
                "connection {} of {} runs a statement, or a transaction, since {} s",
                text(0),
                text(1).escape_debug(),
                text(2)
            )
        })
        .collect();
    (!who.is_empty()).then(|| who.join("; "))
}

async fn begin(session: &mut Session) -> Result<()> {
    session.run("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ", "set up a transaction").await?;
    session.run("START TRANSACTION WITH CONSISTENT SNAPSHOT", "begin a transaction").await?;
    Ok(())
}

/// When this is, and where the server's log stands. On the connection that holds the lock.
async fn point(kind: EngineKind, lock: &mut Session) -> Result<(Timestamp, String, Option<String>)> {
    let seconds = lock.value("SELECT UNIX_TIMESTAMP(NOW(6))", "ask for the time").await?;
    let seconds: f64 = seconds.and_then(|text| text.parse().ok()).unwrap_or_default();
    // Microseconds since 1970 fit into an i64 for a long time.
    let at = Timestamp::from_microsecond((seconds * 1e6) as i64)
        .map_err(|e| Error::database("the server's clock is wrong").cause(e))?;
    let gtid = match kind {
        EngineKind::MySql => "SELECT REPLACE(@@GLOBAL.gtid_executed, '\\n', '')",
        _ => "SELECT @@GLOBAL.gtid_current_pos",
    };
    let gtid = lock.value(gtid, "read the global transaction identifiers").await?.unwrap_or_default();
    let status = match kind {
        EngineKind::MySql if lock.version().series() >= (8, 2) => "SHOW BINARY LOG STATUS",
        _ => "SHOW MASTER STATUS",
    };
    let (log, warning) = match lock.rows(status).await {
        Ok(rows) => {
            let row = rows.into_iter().next().unwrap_or_default();
            let text = |at: usize| row.get(at).cloned().flatten();
            (text(0).zip(text(1)).map(|(file, position)| format!("{file}:{position}")), None)
        }
        Err(Failure::Server(e)) if e.is_denied() => {
            let what = "the position in the binary log is not known: grant REPLICATION CLIENT (MariaDB: BINLOG MONITOR) to the user of marbre";
            (None, Some(what.to_owned()))
        }
        Err(e) => return Err(lock.failed("read the position in the binary log", e)),
    };
    let parts = [log, Some(gtid).filter(|gtid| !gtid.is_empty()).map(|gtid| format!("gtid {gtid}"))];
    Ok((at, parts.into_iter().flatten().collect::<Vec<_>>().join(" "), warning))
}

impl Held {
    /// A connection that sees the state, to be given back. One that is not, because its statement failed, is lost.
    pub(super) async fn reader(&self) -> Result<Lease<'_>> {
        let place = self.free.acquire().await.map_err(|_| Error::interrupted())?;
        let session = lock(&self.readers).pop();
        let session =
            session.ok_or_else(|| Error::database("a connection that held the snapshot is lost"))?;
        Ok(Lease { session, _place: place })
    }

    /// Gives it back.
    pub(super) fn give_back(&self, lease: Lease<'_>) {
        lock(&self.readers).push(lease.session);
    }

    /// The connection that has locked the tables that know no transactions, for one table at a time.
    pub(super) async fn locked(&self) -> tokio::sync::MutexGuard<'_, Option<Session>> {
        self.locked.lock().await
    }

    /// Lets the tables go that know no transactions: all of them were read.
    pub(super) async fn unlock(&self) -> Result<()> {
        let Some(mut session) = self.locked.lock().await.take() else { return Ok(()) };
        session.run("UNLOCK TABLES", "end the locks").await.map(drop)
    }

    /// The end. The connections were all there until now, or their state was not the same.
    pub(super) async fn release(mut self) -> Result<()> {
        let mut readers = self.readers.into_inner().unwrap_or_else(PoisonError::into_inner);
        for session in readers.iter_mut().chain([&mut self.coordinator, &mut self.guard]) {
            session.run("COMMIT", "end a transaction").await?;
        }
        Ok(())
    }
}
