//! Opens SQLite files for reading, works on them outside the async threads, and explains errors helpfully.
//!
//! Nothing here opens a database file except through SQLite: closing any other descriptor of the
//! file would drop the POSIX locks of every SQLite connection of this process.
//! Source: <https://www.sqlite.org/howtocorrupt.html>, 2.2.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, InterruptHandle, OpenFlags, ffi};
use tokio_util::sync::CancellationToken;

use super::words::{self, code_and_message};
use crate::error::{Error, ErrorKind, Result};

/// How long to wait for a locked database.
pub(super) const LOCK_WAIT: Duration = Duration::from_secs(30);

/// How long SQLite itself waits for a lock before this code checks for cancellation.
const LOCK_POLL: Duration = Duration::from_millis(100);

/// How often to try to begin several transactions in the same state.
const ATTEMPTS: usize = 10;

/// Opens a database that others may be using, for reading only.
pub(super) fn open_shared(path: &Path) -> Result<Connection> {
    let metadata = std::fs::metadata(path).map_err(|e| cannot_stat(path, e))?;
    if !metadata.is_file() {
        return Err(Error::preflight(format!("{} is not a regular file", path.display()))
            .remedy("Name the database file itself."));
    }
    let has_log = side_file(path, "-wal").exists() || side_file(path, "-journal").exists();
    if metadata.len() == 0 && !has_log {
        return Err(Error::preflight(format!("{} is an empty file", path.display()))
            .remedy("Check the path: a database with any content is not empty."));
    }
    Connection::open_with_flags(path, flags()).and_then(harden).map_err(|e| failed(path, "open", e))
}

/// Opens a database file that nobody writes: no lock is taken and no file is created next to it.
pub(super) fn open_still(path: &Path) -> Result<Connection> {
    let mut uri = b"file:".to_vec();
    for &byte in path.as_os_str().as_bytes() {
        if byte.is_ascii_alphanumeric() || b"/._-~".contains(&byte) {
            uri.push(byte);
        } else {
            uri.extend_from_slice(format!("%{byte:02X}").as_bytes());
        }
    }
    uri.extend_from_slice(b"?immutable=1");
    let uri = PathBuf::from(std::ffi::OsString::from(String::from_utf8_lossy(&uri).into_owned()));
    Connection::open_with_flags(uri, flags() | OpenFlags::SQLITE_OPEN_URI)
        .and_then(harden)
        .map_err(|e| failed(path, "open", e))
}

fn flags() -> OpenFlags {
    OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX
}

fn harden(connection: Connection) -> rusqlite::Result<Connection> {
    connection.busy_timeout(LOCK_POLL)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    // Nothing of a database may reach the disk through a temporary file.
    connection.execute_batch("PRAGMA temp_store = MEMORY; PRAGMA query_only = ON;")?;
    Ok(connection)
}

/// Starts the read transaction and reads the schema in it: from here on the state does not change.
/// Waits for locks for up to `lock_wait`.
pub(super) fn begin(
    connection: &Connection,
    path: &Path,
    lock_wait: Duration,
    cancel: &CancellationToken,
) -> Result<()> {
    let deadline = Instant::now() + lock_wait;
    loop {
        if cancel.is_cancelled() {
            return Err(Error::interrupted());
        }
        let begun = connection
            .execute_batch("BEGIN")
            .and_then(|()| connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(())));
        match begun {
            Ok(()) => return Ok(()),
            Err(e) => {
                // If BEGIN itself failed there is nothing to roll back, and this error is meaningless.
                let _ = connection.execute_batch("ROLLBACK");
                if !is_locked(&e) || Instant::now() >= deadline {
                    return Err(failed(path, "read", e));
                }
            }
        }
    }
}

/// Starts read transactions on several connections so that all see the same state. If a writer prevents that, only the
/// first connection is returned.
///
/// A connection's `data_version` changes when another one commits. If none has changed between a check before the
/// first transaction starts and a check in the transactions of the others, nothing was committed in between, and
/// all see the same state. Source: <https://www.sqlite.org/pragma.html#pragma_data_version>.
pub(super) fn begin_together(
    mut connections: Vec<Connection>,
    path: &Path,
    lock_wait: Duration,
    cancel: &CancellationToken,
) -> Result<Vec<Connection>> {
    let version = |connection: &Connection| {
        connection.query_row("PRAGMA main.data_version", [], |row| row.get::<_, i64>(0))
    };
    for _ in 0..ATTEMPTS {
        let (first, others) = match connections.split_first() {
            Some((first, others)) if !others.is_empty() => (first, others),
            _ => break,
        };
        // Do not wait for readers that are blocked now (by a writer that is about to commit).
        let Ok(before) = others.iter().map(version).collect::<rusqlite::Result<Vec<_>>>() else { break };
        begin(first, path, lock_wait, cancel)?;
        let same = others.iter().zip(before).all(|(connection, before)| {
            let begun = connection.execute_batch("BEGIN").and_then(|()| version(connection));
            begun.is_ok_and(|now| now == before)
        });
        if same {
            return Ok(connections);
        }
        for connection in &connections {
            // Not all of them had begun.
            let _ = connection.execute_batch("ROLLBACK");
        }
    }
    connections.truncate(1);
    for connection in &connections {
        begin(connection, path, lock_wait, cancel)?;
    }
    Ok(connections)
}

/// A connection that is used by one blocking task at a time.
pub(super) struct Reader {
    connection: Mutex<Connection>,
    interrupt: InterruptHandle,
}

impl Reader {
    /// Takes over a connection.
    pub(super) fn new(connection: Connection) -> Arc<Self> {
        Arc::new(Self { interrupt: connection.get_interrupt_handle(), connection: Mutex::new(connection) })
    }

    /// Runs `work` on its own thread. When `cancel` fires, or the returned future is dropped, the
    /// token given to `work` fires and running statements are interrupted.
    pub(super) async fn run<T, F>(self: &Arc<Self>, cancel: &CancellationToken, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Connection, &CancellationToken) -> Result<T> + Send + 'static,
    {
        let stop = StopOnDrop { reader: Arc::clone(self), token: cancel.child_token() };
        let (reader, token) = (Arc::clone(self), stop.token.clone());
        let mut task = tokio::task::spawn_blocking(move || {
            let connection = reader.connection.lock().unwrap_or_else(PoisonError::into_inner);
            work(&connection, &token)
        });
        loop {
            tokio::select! {
                joined = &mut task => {
                    return joined.map_err(|e| Error::internal("the SQLite thread failed").cause(e))?;
                }
                // Again and again: an interrupt reaches only a statement that is running at that moment.
                () = soon_after(cancel) => self.interrupt.interrupt(),
            }
        }
    }
}

async fn soon_after(cancel: &CancellationToken) {
    cancel.cancelled().await;
    tokio::time::sleep(Duration::from_millis(20)).await;
}

struct StopOnDrop {
    reader: Arc<Reader>,
    token: CancellationToken,
}

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.token.cancel();
        self.reader.interrupt.interrupt();
    }
}

/// `<path><suffix>`, e.g. the write-ahead log `<path>-wal`.
pub(super) fn side_file(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Compiling failed because the schema uses something unknown, e.g. a collation or a function that only the
/// application has.
pub(super) fn asks_for_unknown(code: ffi::Error) -> bool {
    matches!(code.extended_code, ffi::SQLITE_ERROR | ffi::SQLITE_ERROR_MISSING_COLLSEQ)
}

fn is_locked(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}

fn cannot_stat(path: &Path, error: std::io::Error) -> Error {
    let name = path.display();
    match error.kind() {
        std::io::ErrorKind::NotFound => {
            Error::new(ErrorKind::NotFound, format!("there is no database file {name}"))
                .remedy("Check the path of the database.")
        }
        std::io::ErrorKind::PermissionDenied => no_access(path),
        _ => Error::preflight(format!("cannot look at {name}")).cause(error),
    }
}

fn no_access(path: &Path) -> Error {
    Error::preflight(format!("no permission to read {}", path.display())).remedy(
        "Run marbre as the user that owns the database, or give its user access to the file and its folder.",
    )
}

/// Explains a failure of SQLite: `doing` is what was tried, e.g. "read".
pub(super) fn failed(path: &Path, doing: &str, error: rusqlite::Error) -> Error {
    let name = path.display();
    let (code, message) = code_and_message(&error);
    let Some(code) = code else {
        return Error::internal(format!("failed to {doing} {name}")).cause(message);
    };
    if words::raw(&error).is_some_and(|(_, text)| text == "no such table: sqlite_dbpage") {
        return Error::internal("the SQLite library was built without sqlite_dbpage").remedy(
            "Build marbre in its own source folder, where .cargo/config.toml sets LIBSQLITE3_FLAGS.",
        );
    }
    let explained = match (code.code, code.extended_code) {
        (ErrorCode::OperationInterrupted, _) => return Error::interrupted(),
        (ErrorCode::NotADatabase, _) => {
            Error::preflight(format!("{name} is not a SQLite database, or it is encrypted")).remedy(
                "Check the path. Databases encrypted by SQLCipher or the like are backed up as a directory.",
            )
        }
        (ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked, _) => {
            Error::database(format!("{name} is locked by another process")).remedy(
                "Find the process that holds a transaction open (fuser, lsof), or set PRAGMA journal_mode = WAL: readers then never wait.",
            )
        }
        (_, ffi::SQLITE_READONLY_ROLLBACK) => {
            Error::preflight(format!("{name} has a journal of an interrupted transaction")).remedy(
                "Open the database once with its application, or sqlite3 as its owner, so that SQLite rolls it back.",
            )
        }
        (
            ErrorCode::ReadOnly,
            ffi::SQLITE_READONLY_RECOVERY | ffi::SQLITE_READONLY_CANTINIT | ffi::SQLITE_READONLY_DIRECTORY,
        )
        | (ErrorCode::ReadOnly, _) => needs_shared_memory(path),
        (ErrorCode::CannotOpen, _) => cannot_open(path),
        (ErrorCode::PermissionDenied, _) => no_access(path),
        (ErrorCode::DatabaseCorrupt, _) => {
            Error::database(format!("{name} is damaged")).remedy(
                "Run PRAGMA integrity_check on it; earlier snapshots hold the state before the damage.",
            )
        }
        _ => Error::database(format!("failed to {doing} {name}")),
    };
    explained.cause(message)
}

/// SQLite only says "unable to open database file"; this finds the reason.
fn cannot_open(path: &Path) -> Error {
    if rustix::fs::access(path, rustix::fs::Access::READ_OK).is_err() {
        no_access(path)
    } else {
        needs_shared_memory(path)
    }
}

fn needs_shared_memory(path: &Path) -> Error {
    Error::preflight(format!(
        "{} is in WAL mode, and marbre cannot write its {} file",
        path.display(),
        side_file(Path::new(path.file_name().unwrap_or_default()), "-shm").display()
    ))
    .remedy("Readers of a database in WAL mode share that file: give marbre's user write access to it and to the folder, or run marbre as the owner of the database.")
}
