//! Connections to one database, and where they lead.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use secrecy::SecretString;
use tokio::net::{TcpStream, UnixStream};
use tokio_util::sync::CancellationToken;

use super::handshake::{self, Refusal};
use super::session::Session;
use super::url::{Address, Place, TlsMode};
use super::version;
use super::wire::Wire;
use crate::engine;
use crate::error::{Error, ErrorKind, Origin, Result, ResultExt};
use crate::model::engine_kind::EngineKind;
use crate::system::socket::Socket;
use crate::system::tls::{self, Verification};

/// How long a server may take to answer at first.
const ANSWER: Duration = Duration::from_secs(30);

/// Settings of every session. The server writes texts in UTF-8 and instants in UTC, repairs nothing, and waits as long as a target may
/// take: without that it would close a connection whose rows are taken slowly.
const SETTINGS: &str = "SET SESSION sql_mode = '', SESSION time_zone = '+00:00', SESSION sql_quote_show_create = 1, \
     SESSION wait_timeout = 2147483, SESSION net_write_timeout = 31536000, SESSION net_read_timeout = 31536000, \
     SESSION sql_select_limit = 18446744073709551615, SESSION foreign_key_checks = 0, SESSION unique_checks = 1, \
     SESSION autocommit = 1, SESSION sql_safe_updates = 0, SESSION div_precision_increment = 4";

/// What only one of the two kinds knows.
fn own_settings(kind: EngineKind) -> &'static str {
    match kind {
        EngineKind::MySql => {
            "SET SESSION max_execution_time = 0, SESSION information_schema_stats_expiry = 0, \
             SESSION show_create_table_skip_secondary_engine = 0"
        }
        _ => "SET SESSION max_statement_time = 0, SESSION sql_if_exists = 0",
    }
}

/// Where a database is, and how it is read or loaded.
#[derive(Debug, Clone)]
pub(crate) struct MysqlConfig {
    /// MariaDB or MySQL.
    pub kind: EngineKind,
    /// See [`super::url::FORM`].
    pub url: String,
    /// The password, if one is needed.
    pub password: Option<SecretString>,
    /// How long a statement may wait for a lock.
    pub lock_timeout: Duration,
    /// How many connections at the same time.
    pub jobs: usize,
    /// Tables without transactions are an error, instead of being locked while they are read.
    pub refuse_non_transactional: bool,
}

impl MysqlConfig {
    /// A destination of a restore.
    pub(crate) fn destination(kind: EngineKind, url: String, jobs: usize, lock_timeout: Duration) -> Self {
        Self { kind, url, password: None, lock_timeout, jobs, refuse_non_transactional: false }
    }
}

/// Connects to one database.
#[derive(Clone)]
pub(crate) struct Connector {
    kind: EngineKind,
    place: Place,
    password: Option<SecretString>,
    tls: Option<Arc<ClientConfig>>,
    lock_timeout: Duration,
}

impl Connector {
    /// Reads the configuration; connects to nothing. Fails if the URL is wrong.
    pub(super) fn new(config: &MysqlConfig) -> Result<Self> {
        let place = Place::parse(&config.url)?;
        let tls = match place.address {
            Address::Socket(_) => None,
            Address::Tcp(..) => encryption(&place)?,
        };
        let password = match &config.password {
            Some(password) => Some(password.clone()),
            None => std::env::var("MYSQL_PWD").ok().map(Into::into),
        };
        Ok(Self { kind: config.kind, place, password, tls, lock_timeout: config.lock_timeout })
    }

    /// MariaDB or MySQL.
    pub(super) fn kind(&self) -> EngineKind {
        self.kind
    }

    /// The database.
    pub(super) fn database(&self) -> &str {
        &self.place.database
    }

    /// The user.
    pub(super) fn user(&self) -> &str {
        &self.place.user
    }

    /// How long a statement may wait for a lock.
    pub(super) fn lock_timeout(&self) -> Duration {
        self.lock_timeout
    }

    /// For people.
    pub(super) fn describe(&self) -> String {
        format!(
            "{} database {} at {}",
            self.kind.title(),
            self.place.database.escape_debug(),
            self.place.server()
        )
    }

    /// The server, as the configuration names it.
    pub(super) fn place(&self) -> engine::Place {
        let (host, port) = match &self.place.address {
            Address::Socket(path) => (path.display().to_string(), 0),
            Address::Tcp(host, port) => (host.clone(), *port),
        };
        let encrypted = self.tls.is_some() && self.place.tls != TlsMode::Preferred;
        engine::Place { host, port, encrypted, database: self.place.database.clone() }
    }

    /// Connects to the database.
    pub(super) async fn connect(&self, cancel: &CancellationToken) -> Result<Session> {
        self.session(Some(self.database()), cancel).await
    }

    /// Connects to the database to read rows, which come as the bytes of their columns.
    pub(super) async fn connect_for_rows(&self, cancel: &CancellationToken) -> Result<Session> {
        let mut session = self.connect(cancel).await?;
        session.run("SET SESSION character_set_results = NULL", "set up a reader").await?;
        Ok(session)
    }

    /// Connects to the server: the database need not be there.
    pub(super) async fn connect_to_server(&self, cancel: &CancellationToken) -> Result<Session> {
        self.session(None, cancel).await
    }

    async fn session(&self, database: Option<&str>, cancel: &CancellationToken) -> Result<Session> {
        let introduced = async {
            let wire = Wire::new(self.socket().await?);
            handshake::introduce(wire, &self.place, self.tls.as_ref(), self.password.as_ref(), database).await
        };
        let introduced = tokio::select! {
            biased;
            () = cancel.cancelled() => return Err(Error::interrupted()),
            introduced = tokio::time::timeout(ANSWER, introduced) => introduced,
        };
        let wire = match introduced {
            Ok(Ok(introduced)) => introduced,
            Ok(Err(refusal)) => return Err(self.refused(&refusal)),
            Err(_) => return Err(self.unreachable("no answer in time")),
        };
        let mut session = Session::new(wire, self.describe());
        session.learn_version().await?;
        self.refuse_other_kind(&session)?;
        session.run(SETTINGS, "set up the session").await?;
        session.run(own_settings(self.kind), "set up the session").await?;
        let seconds = self.lock_timeout.as_secs().max(1);
        session.run(&format!("SET SESSION lock_wait_timeout = {seconds}"), "set up the session").await?;
        session.run("SET NAMES utf8mb4", "set up the session").await?;
        Ok(session)
    }

    async fn socket(&self) -> std::io::Result<Socket> {
        match &self.place.address {
            Address::Socket(path) => Ok(Socket::new(UnixStream::connect(path).await?)),
            Address::Tcp(host, port) => {
                let stream = TcpStream::connect((host.as_str(), *port)).await?;
                stream.set_nodelay(true)?;
                let keepalive = socket2::TcpKeepalive::new()
                    .with_time(Duration::from_secs(60))
                    .with_interval(Duration::from_secs(10))
                    .with_retries(6);
                socket2::SockRef::from(&stream).set_tcp_keepalive(&keepalive)?;
                Ok(Socket::new(stream))
            }
        }
    }

    /// A snapshot of one kind is not one of the other, and neither are the statements.
    fn refuse_other_kind(&self, session: &Session) -> Result<()> {
        let is = version::kind(session.version_text());
        if is == self.kind {
            return Ok(());
        }
        Err(Error::preflight(format!(
            "the server at {} is {}, not {}",
            self.place.server(),
            is.title(),
            self.kind.title()
        ))
        .remedy(format!("Write `engine = {:?}`, or name another server.", is.name())))
    }

    fn refused(&self, refusal: &Refusal) -> Error {
        let server = self.place.server();
        let failed = |remedy: String| {
            Error::database(format!("failed to log in at {server} as {}", self.place.user.escape_debug()))
                .cause(refusal.to_string())
                .remedy(remedy)
        };
        match refusal {
            Refusal::Io(e) => self.unreachable(&e.to_string()),
            Refusal::Server(e) if e.code == 1044 => {
                Error::preflight(format!("{} may not use the database {}, or there is none of that name", self.place.user.escape_debug(), self.place.database.escape_debug()))
                    .cause(e.cause())
                    .remedy("Check the database's name in the URL, and grant the user its rights there (docs/MYSQL.md).")
            }
            Refusal::Server(e) if [1045, 1698].contains(&e.code) => failed(
                "Check user and password: the URL names the user, `password_file` the file that holds the password. A user with \
                 `unix_socket` or `auth_socket` logs in only as the operating system's user of that name."
                    .to_owned(),
            )
            .origin(Origin::Login(format!("{server} as {}", self.place.user))),
            Refusal::Server(e) if e.code == 1049 => Error::new(ErrorKind::NotFound, "there is no such database")
                .cause(format!("{} has no database {}", server, self.place.database.escape_debug()))
                .remedy("Check the database's name in the URL."),
            Refusal::Server(e) if e.code == 1040 => failed("Raise the server's max_connections, or lower `jobs`.".into()),
            Refusal::Server(_) => failed("Do what the server's message asks for.".to_owned()),
            Refusal::NoTls | Refusal::InClear => failed(
                "Let the server offer TLS and write `ssl-mode=required` (or better) in the URL; or use its Unix socket.".to_owned(),
            ),
            Refusal::Plugin(_) => failed(
                "Let the user log in with caching_sha2_password, ed25519, mysql_native_password or the Unix socket.".to_owned(),
            ),
        }
    }

    fn unreachable(&self, why: &str) -> Error {
        let server = self.place.server();
        Error::database(format!("the database server at {server} cannot be reached"))
            .cause(why.to_owned())
            .remedy("Check that it runs, and the address in the URL.")
            .origin(Origin::Server(server))
    }
}

/// The encryption that a URL asks for.
fn encryption(place: &Place) -> Result<Option<Arc<ClientConfig>>> {
    let verification = match (place.tls, &place.ca) {
        (TlsMode::Disabled, _) => return Ok(None),
        (TlsMode::Preferred | TlsMode::Required, _) => Verification::Nothing,
        (TlsMode::VerifyCa, None) => {
            return Err(Error::new(
                ErrorKind::Config,
                "ssl-mode verify-ca has no certificate of an authority",
            )
            .remedy("Add ssl-ca=FILE, or use ssl-mode=verify-identity."));
        }
        (TlsMode::VerifyIdentity, None) => Verification::ChainAndName(tls::system_authorities().0),
        (TlsMode::VerifyCa, Some(file)) => Verification::Chain(authorities(file)?),
        (TlsMode::VerifyIdentity, Some(file)) => Verification::ChainAndName(authorities(file)?),
    };
    Ok(Some(Arc::new(tls::config(verification)?)))
}

fn authorities(file: &Path) -> Result<rustls::RootCertStore> {
    let reading = || format!("read ssl-ca {}", file.display());
    let certificates = tls::read(file).or_kind(ErrorKind::Config, reading())?;
    tls::authorities(certificates).or_kind(ErrorKind::Config, reading())
}
