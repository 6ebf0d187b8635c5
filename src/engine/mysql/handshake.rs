//! Introducing oneself to a server: encryption, and proof of the password.
//! Source: <https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_connection_phase.html>.

use std::io;
use std::sync::Arc;

use mysql_common::auth::plugins::{AuthProc, ChallengeResponsePlugin, Context, Response};
use mysql_common::constants::CapabilityFlags as Flags;
use mysql_common::io::ParseBuf;
use mysql_common::packets::{AuthPlugin, AuthSwitchRequest, HandshakePacket, HandshakeResponse, SslRequest};
use mysql_common::proto::MySerialize;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use secrecy::{ExposeSecret, SecretString};
use tokio_rustls::TlsConnector;

use super::server_error::ServerError;
use super::url::{Address, Place, TlsMode};
use super::wire::{Wire, malformed};
use crate::system::socket::Socket;

/// The longest message that we can take.
const LARGEST: u32 = 1 << 30;

/// `utf8mb4_general_ci`, which all servers know.
const UTF8MB4: u8 = 45;

/// In place of the server's key, by which a password could be sent without TLS: anybody could answer with a key of their own.
const WANTS_KEY: [&[u8]; 2] = [&[1], &[2]];

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    /// The connection failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The server refuses.
    #[error("{}", .0.cause())]
    Server(ServerError),
    /// It cannot encrypt.
    #[error("the server offers no TLS")]
    NoTls,
    /// The password would be sent in clear.
    #[error("the server wants the password itself, and the connection is not encrypted")]
    InClear,
    /// It wants a proof that we do not know.
    #[error("the server wants the plugin {0:?} for the password, which is not supported")]
    Plugin(String),
}

struct Secrets<'a> {
    password: &'a [u8],
    scramble: &'a [u8],
    socket: bool,
    encrypted: bool,
}

impl Context for &Secrets<'_> {
    fn pass(&self) -> &[u8] {
        self.password
    }

    fn is_ipc_transport(&self) -> bool {
        self.socket
    }

    fn is_tls_transport(&self) -> bool {
        self.encrypted
    }

    fn scramble(&self) -> &[u8] {
        self.scramble
    }

    fn server_key_pem(&self) -> Option<&[u8]> {
        None
    }
}

/// Reads the server's greeting and answers. Afterwards commands can be sent.
pub(super) async fn introduce(
    mut wire: Wire,
    place: &Place,
    tls: Option<&Arc<ClientConfig>>,
    password: Option<&SecretString>,
    database: Option<&str>,
) -> Result<Wire, Refusal> {
    let greeting = wire.message().await?;
    if greeting.first() == Some(&0xff) {
        return Err(Refusal::Server(ServerError::parse(&greeting, false)));
    }
    let greeting: HandshakePacket<'_> = ParseBuf(&greeting).parse(())?;
    let offered = greeting.capabilities();
    let mut wanted = Flags::CLIENT_PROTOCOL_41
        | Flags::CLIENT_SECURE_CONNECTION
        | Flags::CLIENT_LONG_PASSWORD
        | Flags::CLIENT_LONG_FLAG
        | Flags::CLIENT_TRANSACTIONS
        | Flags::CLIENT_PLUGIN_AUTH
        | Flags::CLIENT_PLUGIN_AUTH_LENENC_CLIENT_DATA
        | Flags::CLIENT_LOCAL_FILES;
    wanted &= offered | Flags::CLIENT_LOCAL_FILES | Flags::CLIENT_LONG_PASSWORD;
    if database.is_some() {
        wanted |= Flags::CLIENT_CONNECT_WITH_DB;
    }
    let encrypted = match (tls, &place.address) {
        (Some(config), Address::Tcp(host, _)) if offered.contains(Flags::CLIENT_SSL) => {
            wanted |= Flags::CLIENT_SSL;
            wire = encrypt(wire, config, host, wanted).await?;
            true
        }
        (Some(_), Address::Tcp(..)) if place.tls != TlsMode::Preferred => return Err(Refusal::NoTls),
        _ => false,
    };
    let nonce = greeting.nonce();
    let password = password.map(ExposeSecret::expose_secret).unwrap_or_default();
    let secrets = Secrets {
        password: password.as_bytes(),
        scramble: &nonce,
        socket: matches!(place.address, Address::Socket(_)),
        encrypted,
    };
    let plugin = greeting.auth_plugin().unwrap_or(AuthPlugin::MysqlNativePassword);
    // What is sent in clear, or hardly better, is asked for again by the server, and refused there.
    let (plugin, mut proof) = match proof(&plugin, &secrets) {
        Ok(proof) => (plugin, proof),
        Err(_) => {
            let other = AuthPlugin::MysqlNativePassword;
            let proof = proof(&other, &secrets)?;
            (other, proof)
        }
    };
    let first = step(&mut proof, &secrets, &nonce)?;
    let answer = HandshakeResponse::new(
        first.data(),
        (8, 0, 0),
        Some(place.user.as_bytes()),
        database.map(str::as_bytes),
        Some(plugin.borrow()),
        wanted,
        None,
        LARGEST,
    );
    wire.send(&serialized(&answer)).await?;
    prove(&mut wire, proof, &secrets).await?;
    Ok(wire)
}

/// Answers the server's questions about the password, until it is content.
async fn prove(wire: &mut Wire, mut proof: AuthProc, secrets: &Secrets<'_>) -> Result<(), Refusal> {
    let mut nonce = secrets.scramble.to_vec();
    // A server that never ends is none.
    for _ in 0..10 {
        let message = wire.message().await?;
        let secrets = &Secrets { scramble: &nonce.clone(), ..*secrets };
        let response = match message.first() {
            Some(0x00) => return Ok(()),
            Some(0xff) => return Err(Refusal::Server(ServerError::parse(&message, true))),
            Some(0xfe) => {
                let switch: AuthSwitchRequest<'_> = ParseBuf(&message).parse(())?;
                proof = self::proof(&switch.auth_plugin(), secrets)?;
                nonce = switch.plugin_data().to_vec();
                step(&mut proof, &Secrets { scramble: &nonce, ..*secrets }, &nonce)?
            }
            Some(0x01) => step(&mut proof, secrets, &message[1..])?,
            _ => step(&mut proof, secrets, &message)?,
        };
        if let Some(packet) = response.data() {
            wire.send(packet).await?;
        }
    }
    Err(malformed("too many questions about the password").into())
}

fn proof(plugin: &AuthPlugin<'_>, secrets: &Secrets<'_>) -> Result<AuthProc, Refusal> {
    let safe = secrets.socket || secrets.encrypted;
    match plugin {
        AuthPlugin::MysqlClearPassword if !safe => Err(Refusal::InClear),
        AuthPlugin::MysqlOldPassword => Err(Refusal::Plugin("mysql_old_password".to_owned())),
        plugin => plugin
            .init()
            .map_err(|_| Refusal::Plugin(String::from_utf8_lossy(plugin.as_bytes()).into_owned())),
    }
}

fn step(proof: &mut AuthProc, secrets: &Secrets<'_>, challenge: &[u8]) -> Result<Response, Refusal> {
    let response = proof.run(secrets, challenge).map_err(|e| Refusal::Plugin(e.to_string()))?;
    let by_key = matches!(proof, AuthProc::CachingSha2Password(_) | AuthProc::Sha256Password(_));
    if by_key && response.data().is_some_and(|data| WANTS_KEY.contains(&data)) {
        return Err(Refusal::InClear);
    }
    Ok(response)
}

async fn encrypt(
    mut wire: Wire,
    config: &Arc<ClientConfig>,
    host: &str,
    capabilities: Flags,
) -> Result<Wire, Refusal> {
    let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
    wire.send(&serialized(&SslRequest::new(capabilities, LARGEST, UTF8MB4))).await?;
    let (socket, sequence) = wire.bare()?;
    let encrypted = TlsConnector::from(config.clone()).connect(name, socket).await?;
    Ok(Wire::resume(Socket::new(encrypted), sequence))
}

fn serialized(packet: &impl MySerialize) -> Vec<u8> {
    let mut bytes = Vec::new();
    packet.serialize(&mut bytes);
    bytes
}
