//! Finding a server: every host of a connection string in its order, as libpq does.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rand::seq::SliceRandom;
use secrecy::{ExposeSecret, SecretString};
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinHandle;
use tokio_postgres::config::SslMode;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{Client, Config, NoTls, SimpleQueryMessage};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::sslmode;
use super::url::{Attributes, Keepalive, Place, Server};
use super::version::Version;
use super::wire::{Above, Link, Wire};
use crate::system::socket::Socket;

/// What a server says of itself at first. Asking for it leaves nothing behind, in whatever stands between.
#[derive(Debug, Clone)]
pub(crate) struct Greeting {
    /// Its version.
    pub version: Version,
    /// The process that answers.
    pub pid: i32,
    /// The encoding of the database.
    pub encoding: String,
    /// It is a standby.
    pub standby: bool,
    /// Transactions are read-only, unless they say otherwise.
    pub read_only: bool,
    /// Transactions are as they are by default.
    pub plain: bool,
    /// The user is a superuser.
    pub superuser: bool,
}

const GREETING: &str = "BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY; \
     SELECT pg_catalog.current_setting('server_version_num'), pg_catalog.pg_backend_pid(), pg_catalog.getdatabaseencoding(), \
     pg_catalog.pg_is_in_recovery(), pg_catalog.current_setting('default_transaction_read_only'), \
     pg_catalog.current_setting('default_transaction_isolation'), pg_catalog.current_setting('default_transaction_deferrable'), \
     pg_catalog.current_setting('is_superuser'); \
     COMMIT";

/// An open connection, of which no setting was changed.
pub(crate) struct Connected {
    /// Speaks.
    pub client: Client,
    /// Moves the bytes.
    pub task: JoinHandle<()>,
    /// What is known of the connection.
    pub link: Arc<Link>,
    /// What the server said of itself.
    pub greeting: Greeting,
}

/// Why no server was found.
pub(crate) enum Refusal {
    /// One that was reached has refused, or none could be reached.
    Failed(Server, tokio_postgres::Error),
    /// None could be reached in time, or at all: the server, and why.
    Unreachable(Server, String),
    /// Those that were reached are not what was asked for.
    Unfit,
}

/// Connects to the first of these servers, each with its password, that is what the place asks for.
pub(crate) async fn dial(
    place: &Place,
    mut servers: Vec<(Server, Option<SecretString>)>,
    tls: Option<&MakeRustlsConnect>,
) -> Result<(Server, Connected), Refusal> {
    if place.random_order {
        servers.shuffle(&mut rand::rng());
    }
    let passes: &[Attributes] = match place.attributes {
        Attributes::PreferStandby => &[Attributes::Standby, Attributes::Any],
        Attributes::PreferPrimary => &[Attributes::Primary, Attributes::Any],
        ref other => std::slice::from_ref(other),
    };
    let mut refusal = Refusal::Unfit;
    for wanted in passes {
        for (server, password) in &servers {
            let mut config = place.config.clone();
            if let Some(password) = password {
                config.password(password.expose_secret());
            }
            match tokio::time::timeout(place.timeout, connect(place, server, &config, tls)).await {
                Err(_) => refusal = Refusal::Unreachable(server.clone(), "no answer in time".into()),
                Ok(Ok(connected))
                    if wanted.fits(connected.greeting.standby, connected.greeting.read_only) =>
                {
                    return Ok((server.clone(), connected));
                }
                Ok(Ok(_)) => {}
                Ok(Err(Refusal::Failed(server, e))) if is_final(&e) => {
                    return Err(Refusal::Failed(server, e));
                }
                Ok(Err(other)) => refusal = other,
            }
        }
    }
    Err(refusal)
}

/// Whether another server would say the same: this one has answered, and is not just starting or stopping.
fn is_final(error: &tokio_postgres::Error) -> bool {
    error.code().is_some_and(|code| !matches!(code.code(), "57P03" | "53300"))
}

async fn connect(
    place: &Place,
    server: &Server,
    config: &Config,
    tls: Option<&MakeRustlsConnect>,
) -> Result<Connected, Refusal> {
    let failed = |e| Refusal::Failed(server.clone(), e);
    let Some(tls) = tls.filter(|_| !server.is_socket()) else {
        return in_clear(place, server, config).await;
    };
    let link = Arc::new(Link::default());
    let mut config = config.clone();
    config.ssl_mode(SslMode::Require);
    let mut tls = tls.clone();
    let stream = open(place, server).await?;
    let connector = MakeTlsConnect::<Socket>::make_tls_connect(&mut tls, &server.host)
        .map_err(|e| Refusal::Unreachable(server.clone(), e.to_string()))?;
    let above = Above { tls: connector, link: link.clone() };
    match config.connect_raw(stream, above).await {
        Ok((client, connection)) => {
            let task = tokio::spawn(async move { drop(connection.await) });
            greet(client, task, link).await.map_err(failed)
        }
        // Like libpq: a server that cannot encrypt is taken as it is, if nothing else was asked for.
        Err(e) if place.tls == sslmode::Mode::Prefer && e.as_db_error().is_none() => {
            in_clear(place, server, &config).await.map_err(|_| failed(e))
        }
        Err(e) => Err(failed(e)),
    }
}

async fn in_clear(place: &Place, server: &Server, config: &Config) -> Result<Connected, Refusal> {
    let failed = |e| Refusal::Failed(server.clone(), e);
    let link = Arc::new(Link::default());
    let mut config = config.clone();
    config.ssl_mode(SslMode::Disable);
    let wire = Wire::new(open(place, server).await?, link.clone());
    let (client, connection) = config.connect_raw(wire, NoTls).await.map_err(failed)?;
    let task = tokio::spawn(async move { drop(connection.await) });
    greet(client, task, link).await.map_err(failed)
}

/// The connection itself.
async fn open(place: &Place, server: &Server) -> Result<Socket, Refusal> {
    let unreachable = |e: std::io::Error| Refusal::Unreachable(server.clone(), e.to_string());
    if server.is_socket() {
        let path = format!("{}/.s.PGSQL.{}", server.host, server.port);
        // An abstract socket begins with @.
        let stream = match path.strip_prefix('@') {
            Some(name) => UnixStream::connect(format!("\0{name}")).await,
            None => UnixStream::connect(&path).await,
        };
        return Ok(Socket::new(stream.map_err(unreachable)?));
    }
    let addresses: Vec<SocketAddr> = match server.address {
        Some(address) => vec![SocketAddr::new(address, server.port)],
        None => {
            tokio::net::lookup_host((server.host.as_str(), server.port)).await.map_err(unreachable)?.collect()
        }
    };
    let mut last = std::io::Error::other("its name has no address");
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(stream) => {
                keep_alive(&stream, &place.keepalive).map_err(unreachable)?;
                return Ok(Socket::new(stream));
            }
            Err(e) => last = e,
        }
    }
    Err(unreachable(last))
}

fn keep_alive(stream: &TcpStream, keepalive: &Keepalive) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    if let Some(timeout) = keepalive.user_timeout {
        socket.set_tcp_user_timeout(Some(timeout))?;
    }
    if !keepalive.on {
        return Ok(());
    }
    let seconds = Duration::from_secs;
    let times = TcpKeepalive::new()
        .with_time(seconds(keepalive.idle))
        .with_interval(seconds(keepalive.interval))
        .with_retries(keepalive.count);
    socket.set_tcp_keepalive(&times)
}

async fn greet(
    client: Client,
    task: JoinHandle<()>,
    link: Arc<Link>,
) -> Result<Connected, tokio_postgres::Error> {
    let messages = client.simple_query(GREETING).await?;
    let row = messages.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    let text = |column| row.and_then(|row| row.get(column)).unwrap_or_default();
    let number = |column| text(column).parse().unwrap_or_default();
    let greeting = Greeting {
        version: Version::from_number(number(0)),
        pid: text(1).parse().unwrap_or_default(),
        encoding: text(2).to_owned(),
        standby: text(3) == "t",
        read_only: text(4) == "on",
        plain: (text(4), text(5), text(6)) == ("off", "read committed", "off"),
        superuser: text(7) == "on",
    };
    Ok(Connected { client, task, link, greeting })
}
