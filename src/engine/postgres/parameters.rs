//! The parameters of a connection string, by libpq's names.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::error::{Error, ErrorKind, Result};

const ACCEPTED: &str = "Write it like postgres://user@host:5432/database or \
     postgres:///database?host=/run/postgresql&user=backup, without the password.";

/// An error about a connection string. The text itself may contain a password by mistake, so it is not shown.
pub(super) fn invalid(what: impl Into<String>) -> Error {
    Error::new(ErrorKind::Config, what).remedy(ACCEPTED)
}

/// What was given, and means something here.
#[derive(Debug, Default)]
pub(crate) struct Parameters(BTreeMap<String, String>);

/// What is taken. `docs/CONFIGURATION.md` has the same list, and a test compares them.
const TAKEN: [&str; 29] = [
    "application_name",
    "channel_binding",
    "client_encoding",
    "connect_timeout",
    "dbname",
    "fallback_application_name",
    "gssencmode",
    "host",
    "hostaddr",
    "keepalives",
    "keepalives_count",
    "keepalives_idle",
    "keepalives_interval",
    "load_balance_hosts",
    "options",
    "passfile",
    "port",
    "service",
    "servicefile",
    "sslcert",
    "sslcompression",
    "sslkey",
    "sslmode",
    "sslnegotiation",
    "sslrootcert",
    "sslsni",
    "target_session_attrs",
    "tcp_user_timeout",
    "user",
];

/// What libpq takes and marbre does not, and why.
const REFUSED: [(&str, &str); 22] = [
    ("gssdelegation", "marbre does not speak Kerberos"),
    ("gsslib", "marbre does not speak Kerberos"),
    ("krbsrvname", "marbre does not speak Kerberos"),
    ("max_protocol_version", "marbre speaks version 3.0 of the protocol only"),
    ("min_protocol_version", "marbre speaks version 3.0 of the protocol only"),
    ("oauth_client_id", "marbre does not log in by OAuth"),
    ("oauth_client_secret", "marbre does not log in by OAuth"),
    ("oauth_issuer", "marbre does not log in by OAuth"),
    ("oauth_scope", "marbre does not log in by OAuth"),
    ("replication", "marbre reads a database, and no stream of replication"),
    ("require_auth", "marbre could not hold the server to it"),
    ("requirepeer", "marbre could not hold the server to it"),
    ("requiressl", "it is obsolete: use sslmode=require"),
    ("scram_client_key", "it is a secret, and must not stand in a url"),
    ("scram_server_key", "it is a secret, and must not stand in a url"),
    ("ssl_max_protocol_version", "marbre always offers TLS 1.2 and 1.3"),
    ("ssl_min_protocol_version", "marbre always offers TLS 1.2 and 1.3"),
    ("sslcertmode", "name a certificate with sslcert, or none"),
    ("sslcrl", "marbre reads no lists of revoked certificates"),
    ("sslcrldir", "marbre reads no lists of revoked certificates"),
    ("sslkeylogfile", "it would write down the keys of the connection"),
    (
        "sslpassword",
        "a password must not stand in a url: name a key without one, which only its owner can read",
    ),
];

impl Parameters {
    /// The value of one, unless it is empty.
    pub(super) fn text(&self, name: &str) -> Option<String> {
        self.0.get(name).filter(|value| !value.is_empty()).cloned()
    }

    /// The value of one, in the form it must have.
    pub(super) fn choice<T>(&self, name: &str, parse: impl Fn(&str) -> Result<T>) -> Result<Option<T>> {
        self.text(name).map(|value| parse(&value)).transpose()
    }

    /// One of these.
    pub(super) fn one_of<T: Copy>(&self, name: &str, accepted: &[(&str, T)]) -> Result<Option<T>> {
        self.choice(name, |value| match accepted.iter().find(|(word, _)| *word == value) {
            Some((_, meaning)) => Ok(*meaning),
            None => {
                let words: Vec<&str> = accepted.iter().map(|(word, _)| *word).collect();
                Err(Error::new(ErrorKind::Config, format!("{name} {value:?} is not known"))
                    .remedy(format!("Use one of {}.", words.join(", "))))
            }
        })
    }

    /// A whole number.
    pub(super) fn number(&self, name: &str) -> Result<Option<u64>> {
        self.choice(name, |value| {
            let number: Result<i64, _> = value.trim().parse();
            number.map(|number| u64::try_from(number).unwrap_or(0)).map_err(|_| {
                Error::new(ErrorKind::Config, format!("{name} {value:?} is not a number"))
                    .remedy("Give a whole number.")
            })
        })
    }

    fn put(&mut self, name: String, value: String) -> Result<()> {
        if name == "password" {
            return Err(invalid("the database's url contains a password")
                .remedy("Put the password into a file and name it with password_file, or use ~/.pgpass."));
        }
        if let Some((name, why)) = REFUSED.iter().find(|(refused, _)| *refused == name) {
            return Err(Error::new(
                ErrorKind::Config,
                format!("the database's url has {name}, which marbre does not take"),
            )
            .cause(*why)
            .remedy(format!("Remove {name}. docs/CONFIGURATION.md lists what is taken.")));
        }
        // libpq took this for an old spelling of sslmode=require in URLs of JDBC.
        let (name, value) = match (name.as_str(), value.as_str()) {
            ("ssl", "true") => ("sslmode".to_owned(), "require".to_owned()),
            _ => (name, value),
        };
        if !TAKEN.contains(&name.as_str()) {
            // What is no name at all can be a part of a password.
            let shown = name.len() < 30 && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
            let shown = if shown { format!(" {name:?}") } else { String::new() };
            return Err(invalid(format!("the database's url has an unknown parameter{shown}")));
        }
        self.0.insert(name, value);
        Ok(())
    }

    /// Refuses what would mean less here than it says.
    fn verified(self) -> Result<Self> {
        let refuse = |name: &str, why: &str| {
            Err(Error::new(
                ErrorKind::Config,
                format!("{name}={} is not possible", self.text(name).unwrap_or_default()),
            )
            .cause(why.to_owned())
            .remedy(format!("Remove {name}.")))
        };
        match (
            self.text("gssencmode").as_deref(),
            self.text("sslsni").as_deref(),
            self.text("sslcompression").as_deref(),
        ) {
            (Some("require"), _, _) => refuse("gssencmode", "marbre does not speak Kerberos"),
            (_, Some("0"), _) => refuse("sslsni", "marbre always names the host it wants"),
            (_, _, Some("1")) => refuse("sslcompression", "compression inside TLS gives secrets away"),
            _ => Ok(self),
        }
    }
}

/// Reads a URL or a list of `key=value`, and what the service that they name has in its file.
pub(super) fn read(text: &str) -> Result<Parameters> {
    let mut given = Parameters::default();
    let url = ["postgres://", "postgresql://"].iter().find_map(|scheme| text.strip_prefix(scheme));
    match url {
        Some(rest) => of_url(rest, &mut given)?,
        None => {
            for (name, value) in pairs(text)? {
                given.put(name, value)?;
            }
        }
    }
    if let Some(service) = given.text("service") {
        let of_service = of_service(&service, given.text("servicefile"))?;
        for (name, value) in of_service.0 {
            given.0.entry(name).or_insert(value);
        }
    }
    given.verified()
}

/// `user@host:port,host:port/database?name=value&…`
fn of_url(rest: &str, given: &mut Parameters) -> Result<()> {
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
    let (user, hosts) = authority.rsplit_once('@').unwrap_or(("", authority));
    let (user, password) = user.split_once(':').unwrap_or((user, ""));
    if !password.is_empty() {
        given.put("password".to_owned(), String::new())?;
    }
    let mut names = Vec::new();
    let mut ports = Vec::new();
    for host in hosts.split(',') {
        // An address of version 6 stands in brackets.
        let (name, port) = match host.strip_prefix('[').and_then(|host| host.split_once(']')) {
            Some((name, port)) => (name, port.strip_prefix(':').unwrap_or(port)),
            None => host.split_once(':').unwrap_or((host, "")),
        };
        names.push(decoded(name)?);
        ports.push(decoded(port)?);
    }
    let named = |list: &[String]| list.iter().any(|text| !text.is_empty());
    for (name, value) in [
        ("user", decoded(user)?),
        ("dbname", decoded(database)?),
        ("host", if named(&names) { names.join(",") } else { String::new() }),
        ("port", if named(&ports) { ports.join(",") } else { String::new() }),
    ] {
        if !value.is_empty() {
            given.put(name.to_owned(), value)?;
        }
    }
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').ok_or_else(|| invalid("the database's url is not valid"))?;
        given.put(decoded(name)?, decoded(value)?)?;
    }
    Ok(())
}

/// Percent-encoded text. A plus is a plus.
fn decoded(text: &str) -> Result<String> {
    let broken =
        || invalid("the database's url is not valid: what follows a percent sign is no byte of text");
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let byte = match byte {
            b'%' => {
                let digits =
                    [rest.next(), rest.next()].map(|digit| digit.and_then(|d| char::from(d).to_digit(16)));
                let [Some(high), Some(low)] = digits else { return Err(broken()) };
                u8::try_from(high * 16 + low).map_err(|_| broken())?
            }
            byte => byte,
        };
        bytes.push(byte);
    }
    String::from_utf8(bytes).ok().filter(|text| !text.contains('\0')).ok_or_else(broken)
}

/// What a service file says of a service. The first file that has it counts.
fn of_service(service: &str, named: Option<String>) -> Result<Parameters> {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let user = named.map(PathBuf::from).or_else(|| variable("PGSERVICEFILE"));
    let user = user.or_else(|| variable("HOME").map(|home| home.join(".pg_service.conf")));
    let system = variable("PGSYSCONFDIR").unwrap_or_else(|| PathBuf::from("/etc/postgresql-common"));
    let files: Vec<PathBuf> = user.into_iter().chain([system.join("pg_service.conf")]).collect();
    for file in &files {
        let Ok(text) = std::fs::read_to_string(file) else { continue };
        let mut found = None;
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
                if found.is_some() {
                    break;
                }
                found = (name == service).then(Parameters::default);
            } else if let Some(parameters) = &mut found
                && let Some((name, value)) = line.split_once('=')
            {
                parameters.put(name.trim().to_owned(), value.trim().to_owned())?;
            }
        }
        if let Some(found) = found {
            return Ok(found);
        }
    }
    let looked: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
    Err(Error::new(ErrorKind::Config, format!("service {service:?} is not defined"))
        .cause(format!("looked in {}", looked.join(", ")))
        .remedy("Define it in one of these files, name another one with servicefile, or write the parameters into the url."))
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
    fn what_is_taken_and_what_is_not_is_documented() {
        let documented = include_str!("../../../docs/CONFIGURATION.md");
        for name in TAKEN.iter().chain(REFUSED.iter().map(|(name, _)| name)) {
            assert!(documented.contains(&format!("`{name}`")), "{name} is not in docs/CONFIGURATION.md");
        }
    }

    #[test]
    fn a_refusal_says_why() {
        for (text, why) in [
            ("postgres://h/d?krbsrvname=x", "Kerberos"),
            ("postgres://h/d?gssencmode=require", "Kerberos"),
            ("host=h dbname=d sslcrl=/x", "revoked"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.cause_text().unwrap().contains(why), "{error}");
        }
    }

    #[test]
    fn a_service_fills_in_what_the_url_leaves_open() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(
            file.path(),
            "# mine\n[other]\nhost=no\n[prod]\nhost = db1,db2\nport=6432\nuser=backup\n[last]\n",
        )
        .unwrap();
        let url = |service: &str| {
            format!("postgres:///subs?service={service}&port=5433&servicefile={}", file.path().display())
        };
        let given = read(&url("prod")).unwrap();
        assert_eq!(given.text("host").as_deref(), Some("db1,db2"));
        assert_eq!(given.text("port").as_deref(), Some("5433"));
        assert_eq!(given.text("user").as_deref(), Some("backup"));
        assert!(read(&url("nobody")).unwrap_err().to_string().contains("not defined"));
    }
}
