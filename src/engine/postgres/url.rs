//! Connection strings: what libpq supports and `tokio-postgres` does not is taken out first.

use std::path::PathBuf;

use tokio_postgres::Config;
use tokio_postgres::config::Host;

use super::sslmode;
use crate::error::{Error, ErrorKind, Result};

/// A parsed connection string, with libpq's defaults filled in. Holds no password.
#[derive(Debug, Clone)]
pub(super) struct Place {
    /// What `tokio-postgres` understands.
    pub config: Config,
    /// Encryption.
    pub tls: sslmode::Mode,
    /// The authority that signs the server's certificate.
    pub root: Option<PathBuf>,
    /// Host names, addresses or socket directories.
    pub hosts: Vec<String>,
    /// One port per host, or one for all.
    pub ports: Vec<u16>,
    /// User.
    pub user: String,
    /// Database.
    pub database: String,
}

const ACCEPTED: &str = "Write it like postgres://user@host:5432/database or \
     postgres:///database?host=/run/postgresql&user=backup, without the password.";

fn invalid(what: impl Into<String>) -> Error {
    Error::new(ErrorKind::Config, what).remedy(ACCEPTED)
}

impl Place {
    /// Parses a URL or a list of `key=value`.
    pub(super) fn parse(text: &str) -> Result<Self> {
        let (rest, extra) = take_ssl(text)?;
        let mut config: Config = rest.parse().map_err(|e: tokio_postgres::Error| {
            // The text itself may contain a password by mistake, so it is not shown.
            let cause = std::error::Error::source(&e).map(ToString::to_string);
            invalid("the database's url is not valid").cause(cause.unwrap_or_default())
        })?;
        if config.get_password().is_some() {
            return Err(invalid("the database's url contains a password")
                .remedy("Put the password into a file and name it with password_file, or use ~/.pgpass."));
        }
        let variable = |name: &str| std::env::var(name).ok().filter(|v| !v.is_empty());
        if config.get_user().is_none() {
            // Like libpq: $PGUSER, else the name of the user that marbre runs as, whatever $USER says.
            let user = variable("PGUSER").or_else(|| whoami::username().ok());
            config.user(user.ok_or_else(|| invalid("the database's url names no user"))?);
        }
        let user = config.get_user().unwrap_or_default().to_owned();
        let Some(database) = config.get_dbname().map(str::to_owned) else {
            return Err(invalid("the database's url names no database"));
        };
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            config.host(variable("PGHOST").unwrap_or_else(default_host));
        }
        if config.get_ports().is_empty()
            && let Some(port) = variable("PGPORT").and_then(|p| p.parse().ok())
        {
            config.port(port);
        }
        let hosts = hosts(&config);
        let on_socket = hosts.iter().all(|host| host.starts_with('/'));
        let mode = match extra.mode {
            _ if on_socket => sslmode::Mode::Disable,
            Some(mode) => mode,
            None => sslmode::Mode::Prefer,
        };
        let ports = config.get_ports().to_vec();
        Ok(Self {
            tls: mode,
            root: extra.root,
            ports: if ports.is_empty() { vec![5432] } else { ports },
            config,
            hosts,
            user,
            database,
        })
    }

    /// For people: no credentials.
    pub(super) fn describe(&self) -> String {
        let port = match self.ports.first() {
            Some(5432) | None => String::new(),
            Some(port) => format!(" port {port}"),
        };
        format!("postgres database {} on {}{port}", self.database.escape_debug(), self.hosts.join(","))
    }
}

fn default_host() -> String {
    ["/run/postgresql", "/var/run/postgresql", "/tmp"]
        .into_iter()
        .find(|dir| std::path::Path::new(dir).join(".s.PGSQL.5432").exists())
        .unwrap_or("localhost")
        .to_owned()
}

fn hosts(config: &Config) -> Vec<String> {
    if config.get_hosts().is_empty() {
        return config.get_hostaddrs().iter().map(ToString::to_string).collect();
    }
    config
        .get_hosts()
        .iter()
        .map(|host| match host {
            Host::Tcp(name) => name.clone(),
            Host::Unix(path) => path.display().to_string(),
        })
        .collect()
}

#[derive(Default)]
struct Extra {
    mode: Option<sslmode::Mode>,
    root: Option<PathBuf>,
}

impl Extra {
    /// Whether this parameter was one of ours. The mode that is left for `tokio-postgres` is set by the connector.
    fn take(&mut self, key: &str, value: &str) -> Result<bool> {
        match key {
            "sslmode" => self.mode = Some(sslmode::Mode::parse(value)?),
            "sslrootcert" if value == "system" => {}
            "sslrootcert" => self.root = Some(value.into()),
            _ => return Ok(false),
        }
        Ok(true)
    }
}

fn take_ssl(text: &str) -> Result<(String, Extra)> {
    let mut extra = Extra::default();
    if text.starts_with("postgres://") || text.starts_with("postgresql://") {
        let Some((base, query)) = text.split_once('?') else {
            return Ok((text.to_owned(), extra));
        };
        let mut kept = Vec::new();
        for pair in query.split('&') {
            let decoded = url::form_urlencoded::parse(pair.as_bytes()).next();
            let (key, value) = decoded.unwrap_or_default();
            if !extra.take(&key, &value)? {
                kept.push(pair);
            }
        }
        return Ok((format!("{base}?{}", kept.join("&")), extra));
    }
    let mut kept = String::new();
    for (key, value) in pairs(text)? {
        if !extra.take(&key, &value)? {
            let value = value.replace('\\', "\\\\").replace('\'', "\\'");
            kept.push_str(&format!("{key}='{value}' "));
        }
    }
    Ok((kept, extra))
}

/// `key = value` pairs with libpq's quotes and backslashes.
fn pairs(text: &str) -> Result<Vec<(String, String)>> {
    let mut pairs = Vec::new();
    let mut chars = text.chars().peekable();
    loop {
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        if chars.peek().is_none() {
            return Ok(pairs);
        }
        let mut key = String::new();
        loop {
            match chars.next() {
                Some('=') => break,
                Some(c) => key.push(c),
                None => return Err(invalid("the database's url is not valid")),
            }
        }
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        let quoted = chars.next_if_eq(&'\'').is_some();
        let mut value = String::new();
        loop {
            match chars.next() {
                Some('\\') => value.extend(chars.next()),
                Some('\'') if quoted => break,
                Some(c) if !quoted && c.is_whitespace() => break,
                Some(c) => value.push(c),
                None if quoted => return Err(invalid("the database's url has an open quote")),
                None => break,
            }
        }
        pairs.push((key.trim().to_owned(), value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_and_pairs_name_the_same_place() {
        for text in [
            "postgres://backup@db.example:5433/subs?sslmode=verify-full&sslrootcert=%2Froot.crt&connect_timeout=5",
            "host=db.example port=5433 user=backup dbname='subs' sslmode=verify-full sslrootcert=/root.crt connect_timeout = 5",
        ] {
            let place = Place::parse(text).unwrap();
            assert_eq!(place.hosts, ["db.example"], "{text}");
            assert_eq!(place.ports, [5433]);
            assert_eq!((place.user.as_str(), place.database.as_str()), ("backup", "subs"));
            assert_eq!(place.tls, sslmode::Mode::VerifyFull);
            assert_eq!(place.root, Some(PathBuf::from("/root.crt")));
        }
    }

    #[test]
    fn sockets_are_not_encrypted() {
        let place = Place::parse("postgres:///s?host=/run/pg&user=u&sslmode=require").unwrap();
        assert_eq!(place.hosts, ["/run/pg"]);
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
