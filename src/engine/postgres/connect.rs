//! Connections to the server, for this process and for its children.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use tokio::task::JoinHandle;
use tokio_postgres::config::SslMode;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, NoTls, Row};
use tokio_postgres_rustls::MakeRustlsConnect;
use tokio_util::sync::CancellationToken;

use super::known::Known;
use super::password;
use super::quote::literal;
use super::server_error;
use super::sslmode;
use super::tools::Environment;
use super::url::Place;
use super::version::{OLDEST_SERVER, Version};
use crate::engine::postgres::relations::OfExtensions;
use crate::error::{Error, ErrorKind, Result};

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
}

/// Everything that connections have in common.
#[derive(Clone)]
pub(crate) struct Connector {
    place: Place,
    password: Option<SecretString>,
    tls: Option<MakeRustlsConnect>,
    lock_timeout: Duration,
    of_extensions: OfExtensions,
    /// What errors may name.
    known: Arc<Known>,
    /// The server speaks another language than English to this user, who may change that.
    translated: Arc<AtomicBool>,
}

/// How long connecting may take, unless the URL says otherwise.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// A dead peer is noticed after about two minutes, by us and by our children.
const KEEPALIVE: (u64, u64, u32) = (60, 10, 6);

impl Connector {
    /// Reads the configuration; connects to nothing.
    pub(super) fn new(config: &PostgresConfig) -> Result<Self> {
        let mut place = Place::parse(&config.url)?;
        let password = match &config.password {
            Some(password) => Some(password.clone()),
            None => password::from_environment(password::Place {
                host: match place.hosts.first().map(String::as_str) {
                    None | Some("/run/postgresql" | "/var/run/postgresql" | "/tmp") => "localhost",
                    Some(host) => host,
                },
                port: place.ports.first().copied().unwrap_or(5432),
                database: &place.database,
                user: &place.user,
            })?,
        };
        let (idle, interval, retries) = KEEPALIVE;
        place
            .config
            .ssl_mode(match place.tls {
                sslmode::Mode::Disable => SslMode::Disable,
                sslmode::Mode::Prefer => SslMode::Prefer,
                _ => SslMode::Require,
            })
            .keepalives_idle(Duration::from_secs(idle))
            .keepalives_interval(Duration::from_secs(interval))
            .keepalives_retries(retries)
            .application_name("marbre");
        if place.config.get_connect_timeout().is_none() {
            place.config.connect_timeout(CONNECT_TIMEOUT);
        }
        if let Some(password) = &password {
            place.config.password(password.expose_secret());
        }
        let known = Arc::new(Known::default());
        known.learn(place.hosts.iter().chain([&place.user, &place.database]).map(String::as_str));
        Ok(Self {
            tls: sslmode::connector(place.tls, place.root.as_ref())?,
            place,
            password,
            lock_timeout: config.lock_timeout,
            of_extensions: if config.extension_rows { OfExtensions::All } else { OfExtensions::Registered },
            known,
            translated: Arc::default(),
        })
    }

    /// Which tables of extensions are read.
    pub(super) fn of_extensions(&self) -> OfExtensions {
        self.of_extensions
    }

    /// The database's name.
    pub(super) fn database(&self) -> &str {
        &self.place.database
    }

    /// The user's name.
    pub(super) fn user(&self) -> &str {
        &self.place.user
    }

    /// What errors may name, for everything that works on this database.
    pub(super) fn known(&self) -> &Known {
        &self.known
    }

    /// How long to wait for a lock.
    pub(super) fn lock_timeout(&self) -> Duration {
        self.lock_timeout
    }

    /// For people: no credentials.
    pub(super) fn describe(&self) -> String {
        self.place.describe()
    }

    /// The server and the database; of several servers the first.
    pub(super) fn place(&self) -> crate::engine::Place {
        crate::engine::Place {
            host: self.place.hosts.first().cloned().unwrap_or_default(),
            port: self.place.ports.first().copied().unwrap_or(5432),
            encrypted: !matches!(self.place.tls, sslmode::Mode::Disable | sslmode::Mode::Prefer),
            database: self.place.database.clone(),
        }
    }

    /// Whether the server is reached over a network without verifying its identity.
    pub(super) fn unproven_network(&self) -> bool {
        let local =
            |h: &String| h.starts_with('/') || h == "localhost" || h == "::1" || h.starts_with("127.");
        !self.place.hosts.iter().all(local) && self.place.tls != sslmode::Mode::VerifyFull
    }

    /// The same server, another database.
    pub(super) fn with_database(&self, database: &str) -> Self {
        let mut other = self.clone();
        other.known.learn([database]);
        other.place.database = database.to_owned();
        other.place.config.dbname(database);
        other
    }

    /// The same database, as another user.
    pub(super) fn with_user(&self, user: &str, password: SecretString) -> Self {
        let mut other = self.clone();
        other.known.learn([user]);
        other.translated = Arc::default();
        other.place.user = user.to_owned();
        other.place.config.user(user).password(password.expose_secret());
        other.password = Some(password);
        other
    }

    /// Connects, and pins the settings that could change the meaning of our statements.
    pub(super) async fn connect(&self, cancel: &CancellationToken) -> Result<Session> {
        let connecting = async {
            match &self.tls {
                None => {
                    let (client, connection) = self.place.config.connect(NoTls).await?;
                    Ok((client, tokio::spawn(async move { drop(connection.await) })))
                }
                Some(tls) => {
                    let (client, connection) = self.place.config.connect(tls.clone()).await?;
                    Ok((client, tokio::spawn(async move { drop(connection.await) })))
                }
            }
        };
        let (client, task) = tokio::select! {
            biased;
            () = cancel.cancelled() => return Err(Error::interrupted()),
            connected = connecting => connected.map_err(|e| self.refused(&e))?,
        };
        let known = Arc::clone(&self.known);
        let mut session = Session { client, task, known, version: Version::from_number(0) };
        // Before any name is looked up: a database's own search path could put another function in its place. And before
        // a time limit of the database's own ends the session, between two of our statements.
        let sql =
            format!("{}; {WITHOUT_LIMITS}; {IN_ENGLISH}", set_config([("search_path", "")].into_iter()));
        session.batch(&sql, "set up the session").await?;
        let rows = session.query(VERSION_AND_LANGUAGE, &[]).await?;
        let (number, translated): (i32, bool) =
            rows.first().map_or((0, false), |row| (row.get(0), row.get(1)));
        session.version = Version::from_number(number.unsigned_abs());
        if translated {
            self.translated.store(true, Ordering::Relaxed);
        }
        if session.version.major < OLDEST_SERVER {
            return Err(Error::preflight(format!(
                "server {} is older than {OLDEST_SERVER}, the oldest that marbre reads",
                session.version
            ))
            .remedy("Upgrade the server."));
        }
        session.pin(self.lock_timeout).await?;
        Ok(session)
    }

    fn refused(&self, error: &tokio_postgres::Error) -> Error {
        let failed = Error::database(format!("failed to connect to {}", self.describe()))
            .cause(cause(error, &self.known));
        match error.code().map(tokio_postgres::error::SqlState::code) {
            Some("3D000") => failed.with_kind(ErrorKind::NotFound).remedy("Check the database's name."),
            Some("28P01" | "28000") => failed.remedy("Check user, password and pg_hba.conf."),
            Some("53300") => failed.remedy("End connections that nobody needs, or raise `max_connections`."),
            Some("57P03") => failed.remedy("Wait until the server takes connections."),
            // The server has answered, and said what is wrong.
            Some(_) => failed,
            None => failed.remedy("Check that the server runs and that host and port are right."),
        }
    }

    /// The connection as the environment of a child process, so that no list of processes shows it.
    pub(super) fn environment(&self, application: &str, tool_major: u32) -> Result<Environment> {
        let place = &self.place;
        let list = |ports: &[u16]| {
            let ports: Vec<String> = ports.iter().map(ToString::to_string).collect();
            ports.join(",")
        };
        let mut environment = vec![
            ("PGHOST", place.hosts.join(",")),
            ("PGPORT", list(&place.ports)),
            ("PGUSER", place.user.clone()),
            ("PGDATABASE", place.database.clone()),
            ("PGSSLMODE", place.tls.name().to_owned()),
            ("PGAPPNAME", application.to_owned()),
            ("PGCONNECT_TIMEOUT", CONNECT_TIMEOUT.as_secs().to_string()),
            // The password was already found; no other must be used.
            ("PGPASSFILE", "/dev/null/none".to_owned()),
            ("LC_ALL", "C".to_owned()),
        ];
        if let Some(password) = &self.password {
            environment.push(("PGPASSWORD", password.expose_secret().to_owned()));
        }
        // Not where it is not needed: a server that refuses options would refuse the connection.
        let english = self.translated.load(Ordering::Relaxed).then_some("-c lc_messages=C");
        let options: Vec<&str> = place.config.get_options().into_iter().chain(english).collect();
        if !options.is_empty() {
            environment.push(("PGOPTIONS", options.join(" ")));
        }
        match (place.tls, &place.root) {
            (_, Some(root)) => environment.push(("PGSSLROOTCERT", root.display().to_string())),
            (sslmode::Mode::VerifyFull, None) if tool_major >= 16 => {
                environment.push(("PGSSLROOTCERT", "system".to_owned()));
            }
            (sslmode::Mode::VerifyFull, None) => {
                return Err(Error::preflight(
                    "client tools before 16 cannot use the system's root certificates",
                )
                .remedy(
                    "Add sslrootcert=FILE to the database's url, e.g. /etc/ssl/certs/ca-certificates.crt.",
                ));
            }
            _ => {}
        }
        let variables = environment.into_iter().map(|(k, v)| (k.to_owned(), v)).collect();
        Ok(Environment { variables, known: Arc::clone(&self.known) })
    }

    /// The part of a tool's `--dbname` that its environment cannot express.
    pub(super) fn keepalives() -> String {
        let (idle, interval, count) = KEEPALIVE;
        format!("keepalives_idle={idle} keepalives_interval={interval} keepalives_count={count}")
    }
}

/// Runs the future unless the run is cancelled: then it is dropped, with its sessions and tools.
pub(crate) async fn interruptible<T>(
    cancel: &CancellationToken,
    future: impl Future<Output = Result<T>>,
) -> Result<T> {
    tokio::select! {
        biased;
        () = cancel.cancelled() => Err(Error::interrupted()),
        result = future => result,
    }
}

/// One connection. When it is dropped, the server notices at once, and stops what it was doing.
pub(crate) struct Session {
    /// For COPY.
    pub client: Client,
    /// The server's version.
    pub version: Version,
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
    /// Rows of a query.
    pub(super) async fn query(&self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>> {
        self.client.query(sql, params).await.map_err(|e| self.failed("query the server", &e))
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
            ("default_transaction_read_only", "off".into()),
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

/// The server's version, and whether its messages are in another language for other sessions of this user.
const VERSION_AND_LANGUAGE: &str = "SELECT current_setting('server_version_num')::int4, \
     EXISTS (SELECT FROM pg_settings s, pg_roles r WHERE s.name = 'lc_messages' AND s.reset_val !~ '^(C|POSIX|en)' \
             AND r.rolname = current_user AND r.rolsuper)";

/// One statement that sets all of these for the session.
pub(crate) fn set_config<'a>(settings: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let calls: Vec<String> = settings
        .map(|(name, value)| format!("pg_catalog.set_config({}, {}, false)", literal(name), literal(value)))
        .collect();
    format!("SELECT {}", calls.join(", "))
}

fn cause(error: &tokio_postgres::Error, known: &Known) -> String {
    if let Some(db) = error.as_db_error() {
        return server_error::words(db, known);
    }
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn children_get_their_place_by_environment() {
        let config = PostgresConfig {
            url: "postgres://u@h:1/d?sslmode=require".into(),
            password: Some("secret".into()),
            bin_dir: None,
            lock_timeout: Duration::from_secs(1),
            jobs: 1,
            extension_rows: false,
        };
        let connector = Connector::new(&config).unwrap();
        let environment = connector.environment("marbre pg_dump", 15).unwrap();
        for wanted in [
            ("PGHOST", "h"),
            ("PGPORT", "1"),
            ("PGUSER", "u"),
            ("PGDATABASE", "d"),
            ("PGPASSWORD", "secret"),
            ("PGSSLMODE", "require"),
        ] {
            let wanted = (wanted.0.to_owned(), wanted.1.to_owned());
            assert!(environment.variables.contains(&wanted), "{wanted:?}");
        }
        assert!(!format!("{config:?}").contains("secret"));
        assert!(connector.unproven_network());
    }
}
