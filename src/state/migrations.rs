//! The tables of the state.

use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode};

const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS epoch (
    database TEXT PRIMARY KEY, epoch TEXT NOT NULL, recipient TEXT NOT NULL, row_key BLOB NOT NULL,
    sealed BLOB NOT NULL, created_at TEXT NOT NULL, recipients TEXT NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS receipt (
    database TEXT NOT NULL, snapshot TEXT NOT NULL, sequence INTEGER NOT NULL, epoch TEXT NOT NULL, hash TEXT NOT NULL,
    summary BLOB NOT NULL, size INTEGER NOT NULL, signature TEXT NOT NULL, signer TEXT NOT NULL, body BLOB NOT NULL,
    PRIMARY KEY (database, snapshot)
) STRICT;
CREATE INDEX IF NOT EXISTS receipt_sequence ON receipt (database, sequence);
CREATE INDEX IF NOT EXISTS receipt_epoch ON receipt (database, epoch, sequence);
CREATE TABLE IF NOT EXISTS proof (
    database TEXT NOT NULL, snapshot TEXT NOT NULL, target TEXT NOT NULL, level TEXT NOT NULL, at TEXT NOT NULL,
    PRIMARY KEY (database, snapshot, target, level)
) STRICT;
CREATE TABLE IF NOT EXISTS drill (
    database TEXT NOT NULL, drill TEXT NOT NULL, maker TEXT NOT NULL, sequence INTEGER NOT NULL, hash TEXT NOT NULL,
    body BLOB NOT NULL, signature TEXT NOT NULL, signer TEXT NOT NULL, PRIMARY KEY (database, drill)
) STRICT;
CREATE TABLE IF NOT EXISTS prune (
    database TEXT NOT NULL, prune TEXT NOT NULL, body BLOB NOT NULL, signature TEXT NOT NULL, signer TEXT NOT NULL,
    PRIMARY KEY (database, prune)
) STRICT;
CREATE TABLE IF NOT EXISTS decision (
    database TEXT NOT NULL, decision TEXT NOT NULL, body BLOB NOT NULL, signature TEXT NOT NULL, signer TEXT NOT NULL,
    PRIMARY KEY (database, decision)
) STRICT;
CREATE TABLE IF NOT EXISTS succession (
    database TEXT NOT NULL, hash TEXT NOT NULL, number INTEGER NOT NULL, body BLOB NOT NULL, signature TEXT NOT NULL,
    signer TEXT NOT NULL, PRIMARY KEY (database, hash)
) STRICT;
CREATE TABLE IF NOT EXISTS known_chain (
    database TEXT PRIMARY KEY
) STRICT;
CREATE TABLE IF NOT EXISTS claim (
    database TEXT NOT NULL, succession INTEGER NOT NULL, sequence INTEGER NOT NULL, body BLOB NOT NULL,
    PRIMARY KEY (database, succession, sequence)
) STRICT;
CREATE TABLE IF NOT EXISTS claimed (
    database TEXT NOT NULL, succession INTEGER NOT NULL, sequence INTEGER NOT NULL, target TEXT NOT NULL,
    PRIMARY KEY (database, succession, sequence, target)
) STRICT;
CREATE TABLE IF NOT EXISTS unneeded (
    database TEXT NOT NULL, target TEXT NOT NULL, key TEXT NOT NULL, waited INTEGER NOT NULL, seen TEXT NOT NULL,
    size INTEGER NOT NULL,
    PRIMARY KEY (database, target, key)
) STRICT;
CREATE TABLE IF NOT EXISTS baseline (
    database TEXT PRIMARY KEY, sequence INTEGER NOT NULL, body TEXT NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS lost_pack (
    database TEXT NOT NULL, pack TEXT NOT NULL, PRIMARY KEY (database, pack)
) STRICT;
CREATE TABLE IF NOT EXISTS version (
    target TEXT NOT NULL, key TEXT NOT NULL, version TEXT NOT NULL, PRIMARY KEY (target, key)
) STRICT;
CREATE TABLE IF NOT EXISTS guarantee (
    target TEXT PRIMARY KEY, body TEXT NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS place (
    target TEXT PRIMARY KEY, url TEXT NOT NULL, place TEXT NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS epoch_lock (
    database TEXT NOT NULL, epoch TEXT NOT NULL, target TEXT NOT NULL, until TEXT NOT NULL,
    PRIMARY KEY (database, epoch, target)
) STRICT;
CREATE TABLE IF NOT EXISTS scheduled (
    database TEXT NOT NULL, job TEXT NOT NULL, rule TEXT NOT NULL, accounted TEXT NOT NULL, runs INTEGER NOT NULL,
    PRIMARY KEY (database, job)
) STRICT;
CREATE TABLE IF NOT EXISTS run (
    database TEXT NOT NULL, job TEXT NOT NULL, started TEXT NOT NULL, finished TEXT NOT NULL, body TEXT NOT NULL,
    succeeded TEXT, numbers TEXT, PRIMARY KEY (database, job)
) STRICT;
CREATE TABLE IF NOT EXISTS slot (
    id INTEGER PRIMARY KEY AUTOINCREMENT, database TEXT NOT NULL, job TEXT NOT NULL, first TEXT NOT NULL,
    last TEXT NOT NULL, slots INTEGER NOT NULL, state TEXT NOT NULL, at TEXT NOT NULL, detail TEXT,
    late INTEGER NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS slot_of ON slot (database, job, id);
CREATE TABLE IF NOT EXISTS incident (
    name TEXT PRIMARY KEY, resolved_at TEXT, body TEXT NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS notice (
    id INTEGER PRIMARY KEY AUTOINCREMENT, at TEXT NOT NULL, incident TEXT, urgent INTEGER NOT NULL,
    body TEXT NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS notice_of ON notice (incident);
CREATE TABLE IF NOT EXISTS outbox (
    notice INTEGER NOT NULL, channel TEXT NOT NULL, attempts INTEGER NOT NULL DEFAULT 0, next_at TEXT,
    error TEXT, done_at TEXT, delivered INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (notice, channel)
) STRICT;
CREATE INDEX IF NOT EXISTS outbox_waiting ON outbox (channel, notice) WHERE done_at IS NULL;
CREATE TABLE IF NOT EXISTS channel (
    name TEXT PRIMARY KEY, failures INTEGER NOT NULL, failing_since TEXT, retry_at TEXT, error TEXT, lacking TEXT,
    last_delivery TEXT
) STRICT;
CREATE TABLE IF NOT EXISTS digest (
    one INTEGER PRIMARY KEY CHECK (one = 1), rule TEXT NOT NULL, accounted TEXT NOT NULL, body TEXT
) STRICT;
CREATE TABLE IF NOT EXISTS canary (
    one INTEGER PRIMARY KEY CHECK (one = 1), rule TEXT NOT NULL, accounted TEXT NOT NULL
) STRICT;
";

/// How long one process waits for another that writes.
const PATIENCE: Duration = Duration::from_secs(10);

/// Creates missing tables. Several processes may use the state, and find it empty, at the same time.
pub(super) fn prepare(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(PATIENCE)?;
    // If two processes switch a new file to WAL, SQLite refuses one at once: the timeout does not apply to a lock that
    // both would have to release first (https://www.sqlite.org/c3ref/busy_handler.html).
    let deadline = Instant::now() + PATIENCE;
    loop {
        match make(connection) {
            Err(e) if e.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) && Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(20));
            }
            made => return made,
        }
    }
}

fn make(connection: &Connection) -> rusqlite::Result<()> {
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.execute_batch(SCHEMA)
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;

    #[test]
    fn many_may_open_a_new_state_at_the_same_time() {
        const OPENERS: usize = 8;
        for _ in 0..20 {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("state.sqlite");
            let start = Barrier::new(OPENERS);
            std::thread::scope(|scope| {
                for _ in 0..OPENERS {
                    scope.spawn(|| {
                        start.wait();
                        let connection = Connection::open(&path).unwrap();
                        prepare(&connection).unwrap();
                        connection
                            .query_row("SELECT count(*) FROM canary", [], |r| r.get::<_, i64>(0))
                            .unwrap();
                    });
                }
            });
        }
    }
}
