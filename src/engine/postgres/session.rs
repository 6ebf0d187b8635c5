//! One connection, and its settings.

use std::sync::Arc;
use std::time::Duration;

use futures_util::TryStreamExt;
use tokio::task::JoinHandle;
use tokio_postgres::Client;
use tokio_postgres::types::ToSql;

use super::dial::Connected;
use super::known::Known;
use super::quote::literal;
use super::row::{RawParameter, Row};
use super::server_error;
use super::version::Version;
use super::wire::Link;
use crate::error::{Error, Result};

/// One connection. When it is dropped, the server notices at once, and stops what it was doing.
pub(crate) struct Session {
    /// For COPY.
    pub client: Client,
    /// The server's version.
    pub version: Version,
    /// The server's process.
    pub pid: i32,
    link: Arc<Link>,
    known: Arc<Known>,
    task: JoinHandle<()>,
}

impl Drop for Session {
    fn drop(&mut self) {
        // Otherwise an unfinished COPY would be read to its end for nothing.
        self.task.abort();
    }
}

impl Session {
    /// What was connected, with the settings that keep the meaning of our statements.
    pub(super) async fn set_up(
        connected: Connected,
        known: Arc<Known>,
        lock_timeout: Duration,
    ) -> Result<(Self, Language)> {
        let Connected { client, task, link, greeting } = connected;
        let (version, pid) = (greeting.version, greeting.pid);
        let session = Self { client, version, pid, link, known, task };
        // On its own, because a standby takes no other statement as long as this is not so.
        session.batch(PLAIN_TRANSACTIONS, "set up the session").await?;
        // Before any name is looked up: a database's own search path could put another function in its place. And before
        // a time limit of the database's own ends the session, between two of our statements.
        let sql =
            format!("{}; {WITHOUT_LIMITS}; {IN_ENGLISH}", set_config([("search_path", "")].into_iter()));
        session.batch(&sql, "set up the session").await?;
        let rows = session.query(TRANSLATED, &[]).await?;
        session.pin(lock_timeout).await?;
        let language = match rows.first().is_some_and(|row| row.get(0)) {
            true => Language::Other,
            false => Language::English,
        };
        Ok((session, language))
    }

    /// Takes text in bytes from now on, and gives it so: nothing is converted, and nothing can fail to be.
    pub(super) async fn speak_bytes(&self) -> Result<()> {
        self.batch("SET client_encoding = 'SQL_ASCII'", "set up the session").await?;
        self.link.set_raw();
        Ok(())
    }

    /// Whether text is in bytes.
    pub(super) fn is_raw(&self) -> bool {
        self.link.is_raw()
    }

    /// Rows of a query.
    pub(super) async fn query(&self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>> {
        let raw = self.link.is_raw();
        let rows = match raw {
            false => self.client.query(sql, params).await,
            true => {
                let params: Vec<RawParameter<'_>> = params.iter().map(|param| RawParameter(*param)).collect();
                let params: Vec<&(dyn ToSql + Sync)> = params.iter().map(|param| param as _).collect();
                self.client.query(sql, &params).await
            }
        };
        let rows = rows.map_err(|e| self.failed("query the server", &e))?;
        Ok(rows.into_iter().map(|row| Row::new(row, raw)).collect())
    }

    /// What a query without parameters returns, made of each row as it comes: for what can have very many rows.
    pub(super) async fn each<T>(&self, sql: &str, of: impl Fn(Row) -> T) -> Result<Vec<T>> {
        let failed = |e| self.failed("query the server", &e);
        let raw = self.link.is_raw();
        let none: [&(dyn ToSql + Sync); 0] = [];
        let rows = self.client.query_raw(sql, none).await.map_err(failed)?;
        rows.map_ok(|row| of(Row::new(row, raw))).map_err(failed).try_collect().await
    }

    /// Runs statements.
    pub(super) async fn batch(&self, sql: &str, operation: &str) -> Result<()> {
        self.client.batch_execute(sql).await.map_err(|e| self.failed(operation, &e))
    }

    /// A failed statement, as an error that holds no data.
    pub(super) fn failed(&self, operation: &str, error: &tokio_postgres::Error) -> Error {
        let failed = Error::database(format!("failed to {operation}")).cause(self.cause(error));
        server_error::remedied(failed, error)
    }

    /// Why a statement failed, in words that hold no data.
    pub(super) fn cause(&self, error: &tokio_postgres::Error) -> String {
        cause(error, &self.known)
    }

    async fn pin(&self, lock_timeout: Duration) -> Result<()> {
        let settings = [
            ("lock_timeout", lock_timeout.as_millis().max(1).to_string()),
            ("synchronize_seqscans", "off".into()),
            ("row_security", "off".into()),
            // A database may have its own settings for the text form of values, but what is read from catalogues
            // here is written to another server.
            ("standard_conforming_strings", "on".into()),
            ("array_nulls", "on".into()),
            ("DateStyle", "ISO, YMD".into()),
            ("IntervalStyle", "postgres".into()),
            ("TimeZone", "UTC".into()),
            ("bytea_output", "hex".into()),
            ("extra_float_digits", "3".into()),
            ("quote_all_identifiers", "off".into()),
            // Planning must not evaluate the checks of tables.
            ("constraint_exclusion", "off".into()),
            // To compile what asks for all definitions takes longer than to run it.
            ("jit", "off".into()),
        ];
        let sql = set_config(settings.iter().map(|(n, v)| (*n, v.as_str())));
        self.batch(&sql, "set up the session").await
    }
}

/// Takes away the time limits of a session, on servers of any version: not all of them have each.
const WITHOUT_LIMITS: &str = "SELECT set_config(name, '0', false) FROM pg_settings \
     WHERE name IN ('statement_timeout', 'idle_session_timeout', 'idle_in_transaction_session_timeout', \
     'transaction_timeout')";

/// Messages in English, where the user may say so. Nothing depends on it: what a server says is never told. It lets the
/// server's administrator look for our statements in its log.
const IN_ENGLISH: &str =
    "SELECT set_config('lc_messages', 'C', false) FROM pg_roles WHERE rolname = current_user AND rolsuper";

/// Whether the server's messages are in another language than English for other sessions of this user.
const TRANSLATED: &str = "SELECT EXISTS (SELECT FROM pg_settings s, pg_roles r \
     WHERE s.name = 'lc_messages' AND s.reset_val !~ '^(C|POSIX|en)' AND r.rolname = current_user AND r.rolsuper)";

/// Transactions as they are by default, whatever role and database say.
const PLAIN_TRANSACTIONS: &str = "SET default_transaction_isolation = 'read committed'; \
     SET default_transaction_read_only = off; SET default_transaction_deferrable = off";

/// In what language a server speaks to this user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Language {
    /// English, or the user may not change it.
    English,
    /// Another one, unless a session says otherwise.
    Other,
}

/// One statement that sets all of these for the session.
pub(crate) fn set_config<'a>(settings: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let calls: Vec<String> = settings
        .map(|(name, value)| format!("pg_catalog.set_config({}, {}, false)", literal(name), literal(value)))
        .collect();
    format!("SELECT {}", calls.join(", "))
}

/// Why something failed at a server, in words that hold no data.
pub(super) fn cause(error: &tokio_postgres::Error, known: &Known) -> String {
    if let Some(db) = error.as_db_error() {
        return server_error::words(db, known);
    }
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}
