//! Locks all tables, and says who is in the way if that fails.

use std::collections::BTreeSet;

use tokio_postgres::error::SqlState;
use tokio_util::sync::CancellationToken;

use super::connect::{Connector, Session};
use super::quote::literal;
use crate::engine::postgres::relations;
use crate::engine::postgres::relations::Table;
use crate::error::{Error, Result};

/// A transaction that has locked all tables and exported its snapshot.
pub(crate) struct Locked {
    /// The exported snapshot's name.
    pub snapshot: String,
    /// All tables as of that snapshot.
    pub tables: Vec<Table>,
}

/// How many tables one statement locks.
const TABLES_AT_A_TIME: usize = 100;

/// How often the list of tables may change while they are being locked.
const ATTEMPTS: usize = 5;

/// Locks all tables, and only then takes the snapshot: a table that changes in between would be read empty
/// or not at all. If a table appears in between, it starts again.
pub(crate) async fn hold(
    connector: &Connector,
    session: &Session,
    cancel: &CancellationToken,
) -> Result<Locked> {
    let of_extensions = connector.of_extensions();
    for _ in 0..ATTEMPTS {
        let wanted = relations::tables(session, of_extensions).await?;
        let missing = relations::missing_rights(session, &wanted, connector.user()).await?;
        if !missing.is_empty() {
            return Err(relations::rights_error(&missing, connector.user()));
        }
        session.batch("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", "begin a transaction").await?;
        if lock(connector, session, &wanted, cancel).await? {
            let rows = session.query("SELECT pg_export_snapshot()", &[]).await?;
            let snapshot: String = rows.first().map(|row| row.get(0)).unwrap_or_default();
            let locked: BTreeSet<u32> = wanted.iter().map(|table| table.oid).collect();
            let tables = relations::locked_tables(session, of_extensions).await?;
            if tables.iter().all(|table| locked.contains(&table.oid)) {
                return Ok(Locked { snapshot, tables });
            }
        }
        session.batch("ROLLBACK", "end a transaction").await?;
    }
    Err(Error::database("failed to lock the tables: tables keep appearing and disappearing")
        .remedy("Take the snapshot while no job creates and drops tables."))
}

/// Whether all of them could be locked; `false` if one was dropped in the meantime.
pub(crate) async fn lock(
    connector: &Connector,
    session: &Session,
    tables: &[Table],
    cancel: &CancellationToken,
) -> Result<bool> {
    for batch in tables.chunks(TABLES_AT_A_TIME) {
        let names: Vec<String> = batch.iter().map(|t| format!("ONLY {}", t.sql())).collect();
        let sql = format!("LOCK TABLE {} IN ACCESS SHARE MODE", names.join(", "));
        let locked = tokio::select! {
            biased;
            () = cancel.cancelled() => return Err(Error::interrupted()),
            locked = session.client.batch_execute(&sql) => locked,
        };
        let Err(error) = locked else { continue };
        return match error.code() {
            Some(code) if *code == SqlState::UNDEFINED_TABLE || *code == SqlState::INVALID_SCHEMA_NAME => {
                Ok(false)
            }
            Some(code) if *code == SqlState::LOCK_NOT_AVAILABLE => {
                let oids: Vec<u32> = batch.iter().map(|table| table.oid).collect();
                Err(blocked(connector, &oids, cancel).await)
            }
            _ => Err(session.failed("lock the tables", &error)),
        };
    }
    Ok(true)
}

/// The error for a lock timeout: which table, and who holds it or waits for it before us.
pub(crate) async fn blocked(connector: &Connector, oids: &[u32], cancel: &CancellationToken) -> Error {
    let seconds = connector.lock_timeout().as_secs_f64();
    let holder = holder(connector, oids, cancel).await.ok().flatten();
    let error = match &holder {
        Some((table, _)) => Error::database(format!("table {table} could not be locked within {seconds} s")),
        None => Error::database(format!("a table could not be locked within {seconds} s")),
    };
    let cause = holder.map_or("another session holds it".to_owned(), |(_, who)| who);
    error.cause(cause).remedy("End that session, take the snapshot at another time, or raise lock_timeout.")
}

async fn holder(
    connector: &Connector,
    oids: &[u32],
    cancel: &CancellationToken,
) -> Result<Option<(String, String)>> {
    let session = connector.connect(cancel).await?;
    let rows = session
        .query(
            "SELECT n.nspname || '.' || c.relname, l.pid, COALESCE(a.application_name, ''), l.granted
             FROM pg_locks l JOIN pg_class c ON c.oid = l.relation
             JOIN pg_namespace n ON n.oid = c.relnamespace
             LEFT JOIN pg_stat_activity a ON a.pid = l.pid
             WHERE l.locktype = 'relation' AND l.mode = 'AccessExclusiveLock' AND l.relation = ANY ($1)
               AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
             ORDER BY l.granted DESC LIMIT 1",
            &[&oids],
        )
        .await?;
    Ok(rows.first().map(|row| {
        let table: String = row.get(0);
        let pid: i32 = row.get(1);
        let application: String = row.get(2);
        let verb = if row.get(3) { "holds it" } else { "waits for it before us" };
        let who = format!("process {pid} (application {application:?}) {verb}");
        (table.escape_debug().to_string(), who)
    }))
}

/// Lets another session use the exported snapshot.
pub(crate) async fn join(session: &Session, snapshot: &str) -> Result<()> {
    let sql = format!(
        "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET TRANSACTION SNAPSHOT {}",
        literal(snapshot)
    );
    session.batch(&sql, "open the exported snapshot").await
}
