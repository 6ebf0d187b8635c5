//! Connection strings: a `postgres://` URL or libpq's `key=value` list.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use tokio_postgres::Config;
use tokio_postgres::config::{ChannelBinding, SslNegotiation};

use super::parameters::{self, Parameters, invalid};
use super::sslmode::{self, ClientCertificate};
use crate::error::{Error, ErrorKind, Result};
use crate::model::preferred_server::PreferredServer;

/// One server of a connection string.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Server {
    /// Its name, its address, or the folder of its socket.
    pub host: String,
    /// Its address, where the name is not to be looked up.
    pub address: Option<IpAddr>,
    /// Its port.
    pub port: u16,
}

impl Server {
    /// For people.
    pub(super) fn name(&self) -> String {
        match self.port {
            5432 => self.host.clone(),
            port => format!("{} port {port}", self.host),
        }
    }

    /// It is reached through a socket of this machine.
    pub(super) fn is_socket(&self) -> bool {
        self.address.is_none() && self.host.starts_with(['/', '@'])
    }

    /// It is on this machine.
    pub(super) fn is_local(&self) -> bool {
        let local = |ip: IpAddr| ip.is_loopback();
        self.is_socket()
            || self
                .address
                .map_or_else(|| self.host == "localhost" || self.host.parse().is_ok_and(local), local)
    }
}

/// Which of several servers is wanted: libpq's `target_session_attrs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Attributes {
    /// The first that answers.
    Any,
    /// One that can be written to.
    ReadWrite,
    /// One that cannot.
    ReadOnly,
    /// One that is not a standby.
    Primary,
    /// A standby.
    Standby,
    /// A standby, and any other if there is none.
    PreferStandby,
    /// The same of a primary, which libpq has no word for.
    PreferPrimary,
}

impl Attributes {
    const NAMES: [(&'static str, Self); 6] = [
        ("any", Self::Any),
        ("read-write", Self::ReadWrite),
        ("read-only", Self::ReadOnly),
        ("primary", Self::Primary),
        ("standby", Self::Standby),
        ("prefer-standby", Self::PreferStandby),
    ];

    /// Its name in libpq.
    pub(super) fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(_, of)| *of == self).map_or("any", |(name, _)| name)
    }

    /// Whether a server is what is wanted, that is a standby or not, and whose transactions are read-only by default or not.
    pub(super) fn fits(self, standby: bool, read_only: bool) -> bool {
        let writable = !standby && !read_only;
        match self {
            Self::Any | Self::PreferStandby | Self::PreferPrimary => true,
            Self::ReadWrite => writable,
            Self::ReadOnly => !writable,
            Self::Primary => !standby,
            Self::Standby => standby,
        }
    }
}

/// How a dead peer is noticed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Keepalive {
    /// Whether it is looked for at all.
    pub on: bool,
    /// Seconds of silence before it is asked for a sign of life.
    pub idle: u64,
    /// Seconds between such questions.
    pub interval: u64,
    /// How many may stay without an answer.
    pub count: u32,
    /// How long what was sent may stay unacknowledged.
    pub user_timeout: Option<Duration>,
}

/// A parsed connection string, with libpq's defaults filled in. Holds no password.
#[derive(Debug, Clone)]
pub(super) struct Place {
    /// What `tokio-postgres` needs: neither servers nor encryption.
    pub config: Config,
    /// Encryption.
    pub tls: sslmode::Mode,
    /// The authority that signs the server's certificate.
    pub root: Option<PathBuf>,
    /// What proves who we are.
    pub client: Option<ClientCertificate>,
    /// At least one server.
    pub servers: Vec<Server>,
    /// Which of them.
    pub attributes: Attributes,
    /// They are tried in any order.
    pub random_order: bool,
    /// How long connecting to one of them may take.
    pub timeout: Duration,
    /// How a dead one is noticed.
    pub keepalive: Keepalive,
    /// A file of passwords.
    pub passfile: Option<PathBuf>,
    /// User.
    pub user: String,
    /// Database.
    pub database: String,
}

/// How long connecting may take, unless the connection string says otherwise.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

impl Place {
    /// Parses a URL or a list of `key=value`.
    pub(super) fn parse(text: &str) -> Result<Self> {
        let given = parameters::read(text)?;
        let variable = |name: &str| std::env::var(name).ok().filter(|v| !v.is_empty());
        // Like libpq: $PGUSER, else the name of the user that marbre runs as, whatever $USER says.
        let user = given.text("user").or_else(|| variable("PGUSER")).or_else(|| whoami::username().ok());
        let user = user.ok_or_else(|| invalid("the database's url names no user"))?;
        let database = given.text("dbname").ok_or_else(|| invalid("the database's url names no database"))?;
        let servers = servers(&given)?;
        let tls = match given.choice("sslmode", sslmode::Mode::parse)? {
            _ if servers.iter().all(Server::is_socket) => sslmode::Mode::Disable,
            Some(mode) => mode,
            // Like libpq: who trusts the system's authorities wants the name verified.
            None if given.text("sslrootcert").as_deref() == Some("system") => sslmode::Mode::VerifyFull,
            None => sslmode::Mode::Prefer,
        };
        let timeout = given.number("connect_timeout")?.filter(|seconds| *seconds > 0);
        Ok(Self {
            config: config(&given, &user, &database, tls)?,
            root: given.text("sslrootcert").filter(|root| root != "system").map(PathBuf::from),
            client: client(&given)?,
            attributes: given.one_of("target_session_attrs", &Attributes::NAMES)?.unwrap_or(Attributes::Any),
            random_order: given
                .one_of("load_balance_hosts", &[("disable", false), ("random", true)])?
                .unwrap_or(false),
            // As libpq, which takes no less than two seconds.
            timeout: timeout.map_or(CONNECT_TIMEOUT, |seconds| Duration::from_secs(seconds.max(2))),
            keepalive: keepalive(&given)?,
            passfile: given.text("passfile").map(PathBuf::from),
            tls,
            servers,
            user,
            database,
        })
    }

    /// Chooses among the servers as the configuration says.
    pub(super) fn prefer(&mut self, preferred: PreferredServer) -> Result<()> {
        let attributes = match preferred {
            PreferredServer::Any => return Ok(()),
            PreferredServer::Primary => Attributes::PreferPrimary,
            PreferredServer::Standby => Attributes::PreferStandby,
        };
        if self.attributes != Attributes::Any {
            let both = format!(
                "the database's url has target_session_attrs={}, and prefer is {:?}",
                self.attributes.name(),
                preferred.word()
            );
            return Err(Error::new(ErrorKind::Config, both)
                .cause("both say which of several servers is meant")
                .remedy("Remove one of them."));
        }
        self.attributes = attributes;
        Ok(())
    }

    /// For people: no credentials.
    pub(super) fn describe(&self) -> String {
        let port = match self.servers.first().map(|server| server.port) {
            Some(5432) | None => String::new(),
            Some(port) => format!(" port {port}"),
        };
        let hosts: Vec<&str> = self.servers.iter().map(|server| server.host.as_str()).collect();
        format!("postgres database {} on {}{port}", self.database.escape_debug(), hosts.join(","))
    }
}

fn config(given: &Parameters, user: &str, database: &str, tls: sslmode::Mode) -> Result<Config> {
    let mut config = Config::new();
    config.user(user).dbname(database);
    let names = ["application_name", "fallback_application_name"];
    let application = names.iter().find_map(|name| given.text(name));
    config.application_name(application.unwrap_or_else(|| "marbre".to_owned()));
    if let Some(options) = given.text("options") {
        config.options(options);
    }
    let bindings = [
        ("disable", ChannelBinding::Disable),
        ("prefer", ChannelBinding::Prefer),
        ("require", ChannelBinding::Require),
    ];
    if let Some(binding) = given.one_of("channel_binding", &bindings)? {
        config.channel_binding(binding);
    }
    let negotiations = [("postgres", SslNegotiation::Postgres), ("direct", SslNegotiation::Direct)];
    if let Some(negotiation) = given.one_of("sslnegotiation", &negotiations)? {
        if negotiation == SslNegotiation::Direct && matches!(tls, sslmode::Mode::Prefer) {
            return Err(invalid("sslnegotiation=direct needs sslmode=require or a stronger one"));
        }
        config.ssl_negotiation(negotiation);
    }
    Ok(config)
}

fn client(given: &Parameters) -> Result<Option<ClientCertificate>> {
    match (given.text("sslcert"), given.text("sslkey")) {
        (None, None) => Ok(None),
        (Some(certificate), Some(key)) => {
            Ok(Some(ClientCertificate { certificate: certificate.into(), key: key.into() }))
        }
        _ => Err(invalid("of sslcert and sslkey, the database's url has only one")),
    }
}

fn keepalive(given: &Parameters) -> Result<Keepalive> {
    let or =
        |name: &str, default: u64| Ok::<_, Error>(given.number(name)?.filter(|n| *n > 0).unwrap_or(default));
    // A dead peer is noticed after about two minutes, by us and by our children.
    Ok(Keepalive {
        on: given.number("keepalives")? != Some(0),
        idle: or("keepalives_idle", 60)?,
        interval: or("keepalives_interval", 10)?,
        count: u32::try_from(or("keepalives_count", 6)?).unwrap_or(u32::MAX),
        user_timeout: given.number("tcp_user_timeout")?.filter(|n| *n > 0).map(Duration::from_millis),
    })
}

fn servers(given: &Parameters) -> Result<Vec<Server>> {
    let variable = |name: &str| std::env::var(name).ok().filter(|v| !v.is_empty());
    let list = |name: &str| -> Vec<String> {
        given.text(name).map(|text| text.split(',').map(str::to_owned).collect()).unwrap_or_default()
    };
    let addresses = list("hostaddr");
    let mut hosts = list("host");
    if hosts.is_empty() && addresses.is_empty() {
        let hosts_of_the_environment = variable("PGHOST").unwrap_or_else(default_host);
        hosts = hosts_of_the_environment.split(',').map(str::to_owned).collect();
    }
    if !hosts.is_empty() && !addresses.is_empty() && hosts.len() != addresses.len() {
        return Err(invalid("the database's url has another number of hosts than of hostaddr"));
    }
    let mut ports = list("port");
    if ports.is_empty() {
        ports.extend(
            variable("PGPORT")
                .into_iter()
                .flat_map(|text| text.split(',').map(str::to_owned).collect::<Vec<_>>()),
        );
    }
    let count = hosts.len().max(addresses.len());
    if ports.len() > 1 && ports.len() != count {
        return Err(invalid("the database's url has another number of ports than of hosts"));
    }
    let server = |at: usize| {
        let port = match ports.get(at).or(ports.first()).map(String::as_str) {
            None | Some("") => 5432,
            Some(text) => text
                .parse()
                .map_err(|_| invalid("a port of the database's url is not a number up to 65535"))?,
        };
        let address = match addresses.get(at).map(String::as_str) {
            None | Some("") => None,
            Some(text) => Some(
                text.parse().map_err(|_| invalid("a hostaddr of the database's url is not an address"))?,
            ),
        };
        let host = hosts.get(at).filter(|host| !host.is_empty()).cloned();
        let named = host.or_else(|| address.map(|address: IpAddr| address.to_string()));
        Ok(Server { host: named.unwrap_or_else(default_host), address, port })
    };
    (0..count).map(server).collect()
}

fn default_host() -> String {
    ["/run/postgresql", "/var/run/postgresql", "/tmp"]
        .into_iter()
        .find(|dir| std::path::Path::new(dir).join(".s.PGSQL.5432").exists())
        .unwrap_or("localhost")
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(host: &str, port: u16) -> Server {
        Server { host: host.into(), address: None, port }
    }

    #[test]
    fn several_servers_are_taken_as_libpq_does() {
        let place = Place::parse("postgres://u@a:1,b,[::1]:3/d?target_session_attrs=prefer-standby").unwrap();
        assert_eq!(place.servers, [server("a", 1), server("b", 5432), server("::1", 3)]);
        assert_eq!(place.attributes, Attributes::PreferStandby);
        let place =
            Place::parse("host=a,b hostaddr=10.0.0.1, port=6432 user=u dbname=d sslrootcert=system").unwrap();
        let address = Some(std::net::IpAddr::from([10, 0, 0, 1]));
        assert_eq!(place.servers, [Server { address, ..server("a", 6432) }, server("b", 6432)]);
        assert_eq!(place.tls, sslmode::Mode::VerifyFull);
        for bad in [
            "host=a,b port=1,2,3",
            "host=a hostaddr=10.0.0.1,10.0.0.2",
            "host=a port=x",
            "host=a target_session_attrs=leader",
        ] {
            assert!(Place::parse(&format!("{bad} user=u dbname=d")).is_err(), "{bad}");
        }
    }

    #[test]
    fn urls_and_pairs_name_the_same_place() {
        for text in [
            "postgres://backup@db.example:5433/subs?sslmode=verify-full&sslrootcert=%2Froot.crt&connect_timeout=5",
            "host=db.example port=5433 user=backup dbname='subs' sslmode=verify-full sslrootcert=/root.crt connect_timeout = 5",
        ] {
            let place = Place::parse(text).unwrap();
            assert_eq!(place.servers, [server("db.example", 5433)], "{text}");
            assert_eq!((place.user.as_str(), place.database.as_str()), ("backup", "subs"));
            assert_eq!(place.tls, sslmode::Mode::VerifyFull);
            assert_eq!(place.root, Some(PathBuf::from("/root.crt")));
        }
    }

    #[test]
    fn sockets_are_not_encrypted() {
        let place = Place::parse("postgres:///s?host=/run/pg&user=u&sslmode=require").unwrap();
        assert_eq!(place.servers, [server("/run/pg", 5432)]);
        assert_eq!(place.tls, sslmode::Mode::Disable);
        assert_eq!(place.describe(), "postgres database s on /run/pg");
    }

    #[test]
    fn quoted_values_come_through() {
        let place = Place::parse(r"host=/s user='a b' dbname='it\'s \\ x'").unwrap();
        assert_eq!(place.user, "a b");
        assert_eq!(place.database, r"it's \ x");
    }

    #[test]
    fn bad_urls_are_refused_without_their_secrets() {
        for bad in [
            "postgres://u:hunter2@h/d",
            "host=h user=u dbname=d password=hunter2",
            "postgres://u@h/",
            "host='h",
            "hunter2",
            "postgres://u@h/d?sslmode=maybe",
            "postgres://u@h/d?nonsense=1",
        ] {
            let error = Place::parse(bad).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config, "{bad}");
            assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
            assert!(error.remedy_text().is_some());
        }
    }
}
