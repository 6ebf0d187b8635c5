//! Connections to the server, for this process and for its children.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use tokio_postgres::config::{ChannelBinding, SslNegotiation};
use tokio_postgres_rustls::MakeRustlsConnect;
use tokio_util::sync::CancellationToken;

use super::advice::{is_io, is_unknown_role, login, origin, refused_login, unknown_role, unreachable};
use super::dial::{self, Connected, Refusal};
use super::event_triggers::{self, OFF};
use super::known::Known;
use super::password;
use super::postgres_config::{OfExtensions, PostgresConfig, TooLongRows};
use super::session::{Language, cause};
pub(super) use super::session::{Session, set_config};
use super::sqlstate;
use super::sslmode;
use super::tools::Environment;
use super::url::{Keepalive, Place, Server};
use super::version::OLDEST_SERVER;
use crate::error::{Error, ErrorKind, Result};

/// Everything that connections have in common.
#[derive(Clone)]
pub(crate) struct Connector {
    place: Place,
    password: Option<SecretString>,
    tls: Option<MakeRustlsConnect>,
    lock_timeout: Duration,
    of_extensions: OfExtensions,
    /// The first connection already asks for no event triggers; otherwise later ones do, once it is known that they may.
    quiet_at_first: bool,
    too_long_rows: TooLongRows,
    /// What errors may name.
    known: Arc<Known>,
    found: Arc<Found>,
    /// The standby that ended an attempt before this one.
    instead_of: Option<Server>,
}

/// What the first connection has found out; later ones, and children, go by it.
#[derive(Debug, Default)]
struct Found {
    /// The server, of several: one snapshot is of one server.
    server: OnceLock<Server>,
    /// It is a standby.
    standby: AtomicBool,
    /// The server speaks another language than English to this user, who may change that.
    translated: AtomicBool,
    /// Role or database want transactions of another kind.
    odd_transactions: AtomicBool,
    /// Names hold bytes that cannot be converted to UTF-8.
    raw: AtomicBool,
    /// Whether connections ask for no event triggers.
    quiet: OnceLock<bool>,
}

/// What children are told where transactions would be of another kind.
const PLAIN_TRANSACTIONS: &str = "-c default_transaction_isolation=read\\ committed -c default_transaction_read_only=off \
     -c default_transaction_deferrable=off";

impl Connector {
    /// Reads the configuration; connects to nothing.
    pub(super) fn new(config: &PostgresConfig) -> Result<Self> {
        let mut place = Place::parse(&config.url)?;
        place.prefer(config.prefer)?;
        let known = Arc::new(Known::default());
        known.learn(
            place
                .servers
                .iter()
                .map(|server| &server.host)
                .chain([&place.user, &place.database])
                .map(String::as_str),
        );
        Ok(Self {
            tls: sslmode::connector(place.tls, place.root.as_ref(), place.client.as_ref())?,
            place,
            password: config.password.clone(),
            lock_timeout: config.lock_timeout,
            of_extensions: if config.extension_rows { OfExtensions::All } else { OfExtensions::Registered },
            quiet_at_first: false,
            too_long_rows: if config.leave_out_too_long { TooLongRows::LeaveOut } else { TooLongRows::Fail },
            known,
            found: Arc::default(),
            instead_of: None,
        })
    }

    /// The same, for a database that is written to: event triggers must not fire for that, from the first session on.
    pub(super) fn quiet(self) -> Self {
        Self { quiet_at_first: true, ..self }
    }

    /// Whether no event trigger fires for its sessions, as far as there was one.
    pub(super) fn without_event_triggers(&self) -> bool {
        self.found.quiet.get() == Some(&true)
    }

    /// Which tables of extensions are read.
    pub(super) fn of_extensions(&self) -> OfExtensions {
        self.of_extensions
    }

    /// What becomes of rows that are too long.
    pub(super) fn too_long_rows(&self) -> TooLongRows {
        self.too_long_rows
    }

    /// The same, without what was found out: of several servers any can be found.
    pub(super) fn afresh(&self) -> Self {
        Self { found: Arc::default(), ..self.clone() }
    }

    /// The same database on the other servers that are named, if there are any, after this standby ended an attempt.
    pub(super) fn without(&self, standby: &Server) -> Option<Self> {
        let mut other = self.afresh();
        other.place.servers.retain(|server| server != standby);
        other.instead_of = Some(standby.clone());
        (!other.place.servers.is_empty()).then_some(other)
    }

    /// The standby that ended an attempt before this one.
    pub(super) fn instead_of(&self) -> Option<&Server> {
        self.instead_of.as_ref()
    }

    /// The server that was found, if it is a standby.
    pub(super) fn standby(&self) -> Option<&Server> {
        self.found.server.get().filter(|_| self.found.standby.load(Ordering::Relaxed))
    }

    /// From now on names are read and written as bytes: they cannot be converted to UTF-8.
    pub(super) fn speak_bytes(&self) {
        self.found.raw.store(true, Ordering::Relaxed);
    }

    /// Does something, and does it again in bytes if text could not be converted to UTF-8.
    pub(super) async fn convert_or_not<T, F>(&self, work: impl Fn() -> F) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        match work().await {
            Err(e) if is_about_encoding(&e) && !self.found.raw.load(Ordering::Relaxed) => {
                self.speak_bytes();
                work().await
            }
            done => done,
        }
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

    /// The servers that may be meant: the one that was found, or all.
    fn servers(&self) -> &[Server] {
        self.found.server.get().map_or(self.place.servers.as_slice(), std::slice::from_ref)
    }

    /// The server and the database; of several servers the one that was found, or the first.
    pub(super) fn place(&self) -> crate::engine::Place {
        let server = self.servers().first();
        crate::engine::Place {
            host: server.map(|server| server.host.clone()).unwrap_or_default(),
            port: server.map_or(5432, |server| server.port),
            encrypted: !matches!(self.place.tls, sslmode::Mode::Disable | sslmode::Mode::Prefer),
            database: self.place.database.clone(),
        }
    }

    /// Whether the server is reached over a network without verifying its identity.
    pub(super) fn unproven_network(&self) -> bool {
        !self.place.servers.iter().all(Server::is_local) && self.place.tls != sslmode::Mode::VerifyFull
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
        let found = Found::default();
        if let Some(server) = self.found.server.get() {
            let _new = found.server.set(server.clone());
        }
        found.raw.store(self.found.raw.load(Ordering::Relaxed), Ordering::Relaxed);
        other.found = Arc::new(found);
        other.quiet_at_first = false;
        other.place.user = user.to_owned();
        other.place.config.user(user);
        other.password = Some(password);
        other
    }

    /// The password for a server.
    fn password(&self, server: &Server) -> password::Found {
        if let Some(password) = &self.password {
            return password::Found { password: Some(password.clone()), passed_over: None };
        }
        let host = match server.host.as_str() {
            "/run/postgresql" | "/var/run/postgresql" | "/tmp" => "localhost",
            host => host,
        };
        let place = password::Place {
            host,
            port: server.port,
            database: &self.place.database,
            user: &self.place.user,
        };
        password::from_environment(self.place.passfile.as_deref(), place)
    }

    /// Connects, and pins the settings that could change the meaning of our statements.
    pub(super) async fn connect(&self, cancel: &CancellationToken) -> Result<Session> {
        let (server, connected) = tokio::select! {
            biased;
            () = cancel.cancelled() => return Err(Error::interrupted()),
            dialled = self.dial() => dialled.map_err(|refusal| self.refused(refusal))?,
        };
        let greeting = &connected.greeting;
        // Before anything is set: in a pooler it would stay, and meet others.
        if connected.link.process() != greeting.pid {
            return Err(self.pooled());
        }
        if greeting.version.major < OLDEST_SERVER {
            return Err(Error::preflight(format!(
                "server {} is older than {OLDEST_SERVER}, the oldest that marbre reads",
                greeting.version
            ))
            .remedy("Upgrade the server."));
        }
        self.found.odd_transactions.fetch_or(!greeting.plain, Ordering::Relaxed);
        let raw = greeting.encoding == "SQL_ASCII" || self.found.raw.load(Ordering::Relaxed);
        self.found.standby.store(greeting.standby, Ordering::Relaxed);
        let _same = self.found.server.set(server);
        let (session, language) = Session::set_up(connected, self.known.clone(), self.lock_timeout).await?;
        if language == Language::Other {
            self.found.translated.store(true, Ordering::Relaxed);
        }
        if raw {
            session.speak_bytes().await?;
        }
        Ok(session)
    }

    /// Reaches a server, without event triggers where that may be had.
    async fn dial(&self) -> std::result::Result<(Server, Connected), Refusal> {
        if let Some(quiet) = self.found.quiet.get() {
            return self.dial_once(*quiet).await;
        }
        let first = self.dial_once(self.quiet_at_first).await;
        let (quiet, dialled) = match (first, self.quiet_at_first) {
            (Err(Refusal::Failed(_, e)), true) if event_triggers::refused(&e) => {
                (false, self.dial_once(false).await)
            }
            (Err(Refusal::Failed(server, e)), false) if event_triggers::refused_by_code(&e) => {
                // If that may not be asked for, what counts is why it was needed.
                let again = self.dial_once(true).await;
                (true, again.map_err(|_| Refusal::Failed(server, e)))
            }
            (Ok((server, connected)), quiet) => {
                let greeting = &connected.greeting;
                let may = greeting.superuser && greeting.version.major >= event_triggers::SINCE;
                (quiet || may, Ok((server, connected)))
            }
            (Err(refusal), quiet) => (quiet, Err(refusal)),
        };
        if dialled.is_ok() {
            let _same = self.found.quiet.set(quiet);
        }
        dialled
    }

    async fn dial_once(&self, quiet: bool) -> std::result::Result<(Server, Connected), Refusal> {
        let servers =
            self.servers().iter().map(|server| (server.clone(), self.password(server).password)).collect();
        let mut place = self.place.clone();
        if quiet {
            // What the connection's own options say comes last, and counts.
            let options: Vec<&str> = [OFF].into_iter().chain(self.place.config.get_options()).collect();
            place.config.options(options.join(" "));
        }
        dial::dial(&place, servers, self.tls.as_ref()).await
    }

    fn pooled(&self) -> Error {
        Error::preflight(format!("{} is not the server itself, but a pooler or a proxy before it", self.describe()))
            .cause("the process that answers is not the one that was promised: settings and locks of a session could meet others")
            .remedy("Name the host and the port of the PostgreSQL server behind it in the url.")
    }

    fn refused(&self, refusal: Refusal) -> Error {
        let failed = |server: &Server| {
            let place = Place { servers: vec![server.clone()], ..self.place.clone() };
            Error::database(format!("failed to connect to {}", place.describe()))
        };
        let (server, error) = match refusal {
            Refusal::Unfit => {
                let wanted = self.place.attributes.name();
                return Error::database(format!("failed to connect to {}", self.describe()))
                    .cause(format!("none of these servers is what target_session_attrs={wanted} asks for"))
                    .remedy("Check which of them is the primary, or ask for another kind of server.");
            }
            Refusal::Unreachable(server, why) => {
                return failed(&server).origin(origin(&server)).cause(why).remedy(unreachable(&server));
            }
            Refusal::Failed(server, error) => (server, error),
        };
        let passed_over = self.password(&server).passed_over;
        let failed = failed(&server).cause(match passed_over {
            Some(why) => format!("{}; {why}", cause(&error, &self.known)),
            None => cause(&error, &self.known),
        });
        match error.code().map(tokio_postgres::error::SqlState::code) {
            Some("28000") if is_unknown_role(&error) => {
                failed.origin(login(&server, self.user())).remedy(unknown_role(self.user()))
            }
            Some("3D000") => failed.with_kind(ErrorKind::NotFound).remedy("Check the database's name in `url`; `psql -l` lists those that the server has."),
            Some("28P01" | "28000") => {
                failed.origin(login(&server, self.user())).remedy(refused_login(&server, self.user()))
            }
            Some("53300") => failed.origin(origin(&server)).remedy("End connections that nobody needs, or raise `max_connections`."),
            Some("57P03") => failed.origin(origin(&server)).remedy(
                "The server starts, stops or recovers: wait until it takes connections. Where it never does, its log says why.",
            ),
            Some(_) if event_triggers::refused_by_code(&error) => failed.remedy(format!(
                "A login event trigger of the database refuses the session. Let a superuser run: ALTER ROLE {} {}.",
                self.place.user.escape_debug(),
                event_triggers::OFF_FOR_ROLE
            )),
            // The server has answered, and said what is wrong.
            Some(_) => failed,
            None if is_io(&error) => failed.origin(origin(&server)).remedy(unreachable(&server)),
            None => failed.remedy("Check that the server runs and that host, port and password are right."),
        }
    }

    /// The connection as the environment of a child process, so that no list of processes shows it.
    pub(super) fn environment(&self, application: &str, tool_major: u32) -> Result<Environment> {
        let place = &self.place;
        let servers = self.servers();
        let list = |of: &dyn Fn(&Server) -> String| servers.iter().map(of).collect::<Vec<_>>().join(",");
        let mut environment = vec![
            ("PGHOST", list(&|server| server.host.clone())),
            ("PGPORT", list(&|server| server.port.to_string())),
            ("PGUSER", place.user.clone()),
            ("PGDATABASE", place.database.clone()),
            ("PGSSLMODE", place.tls.name().to_owned()),
            ("PGAPPNAME", application.to_owned()),
            ("PGCONNECT_TIMEOUT", place.timeout.as_secs().to_string()),
            // The password was already found; no other must be used.
            ("PGPASSFILE", "/dev/null/none".to_owned()),
            // We do not speak Kerberos, and they must not be somebody else at the server.
            ("PGGSSENCMODE", "disable".to_owned()),
            ("LC_ALL", "C".to_owned()),
        ];
        if servers.iter().any(|server| server.address.is_some()) {
            let address = |server: &Server| server.address.map(|ip| ip.to_string()).unwrap_or_default();
            environment.push(("PGHOSTADDR", list(&address)));
        }
        if servers.len() > 1 {
            environment.push(("PGTARGETSESSIONATTRS", place.attributes.name().to_owned()));
        }
        if let Some(password) = servers.first().and_then(|server| self.password(server).password) {
            environment.push(("PGPASSWORD", password.expose_secret().to_owned()));
        }
        // Not where it is not needed: a server that refuses options would refuse the connection.
        let english = self.found.translated.load(Ordering::Relaxed).then_some("-c lc_messages=C");
        let plain = self.found.odd_transactions.load(Ordering::Relaxed).then_some(PLAIN_TRANSACTIONS);
        let quiet = self.without_event_triggers().then_some(OFF);
        let own = place.config.get_options();
        let options: Vec<&str> = quiet.into_iter().chain(own).chain(english).chain(plain).collect();
        if !options.is_empty() {
            environment.push(("PGOPTIONS", options.join(" ")));
        }
        environment.extend(self.encryption(tool_major)?);
        let variables = environment.into_iter().map(|(k, v)| (k.to_owned(), v)).collect();
        Ok(Environment { variables, known: Arc::clone(&self.known) })
    }

    fn encryption(&self, tool_major: u32) -> Result<Vec<(&'static str, String)>> {
        let place = &self.place;
        let mut environment = Vec::new();
        match place.config.get_channel_binding() {
            ChannelBinding::Disable => environment.push(("PGCHANNELBINDING", "disable".to_owned())),
            ChannelBinding::Require => environment.push(("PGCHANNELBINDING", "require".to_owned())),
            _ => {}
        }
        if place.config.get_ssl_negotiation() == SslNegotiation::Direct {
            environment.push(("PGSSLNEGOTIATION", "direct".to_owned()));
        }
        if let Some(client) = &place.client {
            environment.push(("PGSSLCERT", client.certificate.display().to_string()));
            environment.push(("PGSSLKEY", client.key.display().to_string()));
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
        Ok(environment)
    }

    /// The part of a tool's `--dbname` that its environment cannot express.
    pub(super) fn keepalives(&self) -> String {
        let Keepalive { on, idle, interval, count, user_timeout } = &self.place.keepalive;
        let on = u8::from(*on);
        let base = format!(
            "keepalives={on} keepalives_idle={idle} keepalives_interval={interval} keepalives_count={count}"
        );
        match user_timeout {
            Some(timeout) => format!("{base} tcp_user_timeout={}", timeout.as_millis()),
            None => base,
        }
    }
}

/// Whether text could not be converted between the encodings of the database and of the session.
fn is_about_encoding(error: &Error) -> bool {
    sqlstate::is_one_of(error, &["22P05", "22021"])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn children_get_their_place_by_environment() {
        let url = "postgres://u@h:1/d?sslmode=require".to_owned();
        let config = PostgresConfig {
            password: Some("secret".into()),
            ..PostgresConfig::destination(url, Duration::from_secs(1))
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
