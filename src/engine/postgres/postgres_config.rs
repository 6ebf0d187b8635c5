//! What is said of a PostgreSQL database: where it is, and how it is read or loaded.

use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;

use crate::model::preferred_server::PreferredServer;

/// Which tables of extensions count as users' data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OfExtensions {
    /// Those that their extensions registered.
    Registered,
    /// All.
    All,
}

/// What becomes of rows that the server cannot write as text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TooLongRows {
    /// There is no snapshot with them.
    Fail,
    /// A snapshot names them, and holds everything else.
    LeaveOut,
}

/// Where a database is, and how to read or load it.
#[derive(Debug, Clone)]
pub(crate) struct PostgresConfig {
    /// A `postgres://` URL or libpq's `key=value` list, without a password.
    pub url: String,
    /// The password; by default `$PGPASSWORD`, or libpq's password file.
    pub password: Option<SecretString>,
    /// Where `pg_dump` and `pg_restore` are; by default the best match is searched.
    pub bin_dir: Option<PathBuf>,
    /// How long to wait for the lock of a table.
    pub lock_timeout: Duration,
    /// How many connections at the same time.
    pub jobs: usize,
    /// Rows of extensions' tables are read, although the extensions did not register them.
    pub extension_rows: bool,
    /// Rows that the server cannot write are left out, and named.
    pub leave_out_too_long: bool,
    /// Which of several servers is read.
    pub prefer: PreferredServer,
}

impl PostgresConfig {
    /// A database that is loaded, not read: what decides how one is read has its defaults.
    pub(crate) fn destination(url: String, lock_timeout: Duration) -> Self {
        Self {
            url,
            password: None,
            bin_dir: None,
            lock_timeout,
            jobs: 1,
            extension_rows: false,
            leave_out_too_long: false,
            prefer: PreferredServer::Any,
        }
    }
}
