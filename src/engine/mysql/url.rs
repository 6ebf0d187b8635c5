//! Connection URLs: `mysql://user@host:port/database`, or `mysql:///database?socket=/run/mysqld/mysqld.sock`.

use std::path::{Path, PathBuf};

use percent_encoding::percent_decode_str;
use url::Url;

use crate::error::{Error, ErrorKind, Result};

/// What a URL looks like.
pub(crate) const FORM: &str =
    "mysql://USER@HOST:PORT/DATABASE, or mysql:///DATABASE?socket=/run/mysqld/mysqld.sock&user=USER";

/// Where servers have their sockets, in the order in which they are looked for.
const SOCKETS: [&str; 3] = ["/run/mysqld/mysqld.sock", "/var/lib/mysql/mysql.sock", "/tmp/mysql.sock"];

/// What `ssl-mode` asks for, in the words of MySQL's own client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TlsMode {
    /// Never encrypt.
    Disabled,
    /// Encrypt where the server can, verify nothing: the default.
    Preferred,
    /// Encrypt, verify nothing.
    Required,
    /// Encrypt, and verify the chain.
    VerifyCa,
    /// Encrypt, and verify the chain and the host's name.
    VerifyIdentity,
}

impl TlsMode {
    const NAMES: [(&'static str, Self); 5] = [
        ("disabled", Self::Disabled),
        ("preferred", Self::Preferred),
        ("required", Self::Required),
        ("verify-ca", Self::VerifyCa),
        ("verify-identity", Self::VerifyIdentity),
    ];

    fn parse(text: &str) -> Result<Self> {
        let text = text.to_ascii_lowercase().replace('_', "-");
        let known = Self::NAMES.iter().find(|(name, _)| *name == text);
        known.map(|(_, mode)| *mode).ok_or_else(|| {
            Error::new(ErrorKind::Config, "the URL's ssl-mode is not known")
                .remedy("Use one of disabled, preferred, required, verify-ca, verify-identity.")
        })
    }
}

/// How a server is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Address {
    /// A Unix socket of this machine.
    Socket(PathBuf),
    /// A host and a port.
    Tcp(String, u16),
}

/// A parsed URL. Holds no password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// The server.
    pub address: Address,
    /// The user.
    pub user: String,
    /// The database.
    pub database: String,
    /// Encryption.
    pub tls: TlsMode,
    /// The authority that signs the server's certificate, where it is not one of the system's.
    pub ca: Option<PathBuf>,
}

impl Place {
    /// Reads a URL. No message repeats it: what is wrong with it can be that it holds a password.
    pub(super) fn parse(text: &str) -> Result<Self> {
        let invalid = |what: &str| {
            Error::new(ErrorKind::Config, format!("the URL of a MariaDB or MySQL database {what}"))
                .remedy(format!("Write {FORM}."))
        };
        let url = Url::parse(text).map_err(|e| invalid("cannot be read").cause(e))?;
        if !["mysql", "mariadb"].contains(&url.scheme()) {
            return Err(invalid("does not begin with mysql:// or mariadb://"));
        }
        if url.password().is_some() {
            return Err(invalid("contains a password").remedy(
                "Take it out of the URL, put it in a file that only its owner can read, and name that file with `password_file`.",
            ));
        }
        let decode = |text: &str| {
            let decoded = percent_decode_str(text).decode_utf8().map(|text| text.into_owned());
            decoded.map_err(|_| invalid("is not UTF-8"))
        };
        let database = decode(url.path().trim_start_matches('/'))?;
        if database.is_empty() {
            return Err(invalid("names no database"));
        }
        let mut user = Some(decode(url.username())?).filter(|user| !user.is_empty());
        let (mut socket, mut tls, mut ca) = (None, TlsMode::Preferred, None);
        for (name, value) in url.query_pairs() {
            match &*name {
                "user" => user = Some(value.into_owned()),
                "socket" => socket = Some(PathBuf::from(&*value)),
                "ssl-mode" => tls = TlsMode::parse(&value)?,
                "ssl-ca" => ca = Some(PathBuf::from(&*value)),
                _ => {
                    return Err(invalid(
                        "has a parameter that is not known: there are user, socket, ssl-mode, ssl-ca",
                    ));
                }
            }
        }
        let host = url.host_str().map(decode).transpose()?.filter(|host| !host.is_empty());
        let address = match (host, socket) {
            (Some(_), Some(_)) => return Err(invalid("names a host and a socket")),
            (Some(host), None) => {
                Address::Tcp(host.trim_matches(['[', ']']).to_owned(), url.port().unwrap_or(3306))
            }
            (None, socket) => Address::Socket(socket.unwrap_or_else(usual_socket)),
        };
        let user = user.or_else(|| whoami::username().ok()).ok_or_else(|| invalid("names no user"))?;
        Ok(Self { address, user, database, tls, ca })
    }

    /// The server, for people.
    pub(super) fn server(&self) -> String {
        match &self.address {
            Address::Socket(path) => format!("socket {}", path.display()),
            Address::Tcp(host, 3306) => host.clone(),
            Address::Tcp(host, port) => format!("{host} port {port}"),
        }
    }
}

/// The first usual socket that is there.
fn usual_socket() -> PathBuf {
    let there = SOCKETS.iter().find(|path| Path::new(path).exists());
    PathBuf::from(there.copied().unwrap_or(SOCKETS[0]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_name_a_server_a_user_and_a_database() {
        let place = Place::parse("mysql://mar%62re@db.example.net:3307/bou%20tique?ssl-mode=VERIFY_IDENTITY")
            .unwrap();
        assert_eq!(place.address, Address::Tcp("db.example.net".into(), 3307));
        assert_eq!((place.user.as_str(), place.database.as_str()), ("marbre", "bou tique"));
        assert_eq!(place.tls, TlsMode::VerifyIdentity);
        let place = Place::parse("mariadb:///boutique?socket=/x/s&user=marbre").unwrap();
        assert_eq!(place.address, Address::Socket("/x/s".into()));
        assert_eq!(Place::parse("mysql://u@[::1]/d").unwrap().address, Address::Tcp("::1".into(), 3306));
    }

    #[test]
    fn what_is_wrong_is_said_without_the_url() {
        for bad in [
            "postgres://u@h/d",
            "mysql://u:secret@h/d",
            "mysql://u@h/",
            "mysql://u@h/d?password=secret",
            "mysql://u@h/d?socket=/secret",
            "mysql://u@h/d?ssl-mode=secret",
        ] {
            let error = Place::parse(bad).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config, "{bad}");
            let text = format!("{error} {:?} {:?}", error.cause_text(), error.remedy_text());
            assert!(!text.contains("secret"), "{text}");
        }
    }
}
