//! The libpq password file, as chapter "The Password File" of the PostgreSQL documentation describes it.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use secrecy::SecretString;

use crate::error::{Error, ErrorKind, Result, ResultExt};

/// What a line of the file is matched with.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    /// Host name; `localhost` for a Unix socket in its usual place, else the socket's directory.
    pub host: &'a str,
    /// Port.
    pub port: u16,
    /// Database.
    pub database: &'a str,
    /// User.
    pub user: &'a str,
}

/// The password for this place from `$PGPASSWORD` or from the password file.
pub(crate) fn from_environment(place: Place<'_>) -> Result<Option<SecretString>> {
    if let Ok(password) = std::env::var("PGPASSWORD") {
        return Ok(Some(password.into()));
    }
    let path = match std::env::var_os("PGPASSFILE") {
        Some(path) => PathBuf::from(path),
        None => match std::env::var_os("HOME") {
            Some(home) => PathBuf::from(home).join(".pgpass"),
            None => return Ok(None),
        },
    };
    from_file(&path, place)
}

/// The password for this place from this file. A missing file holds none.
pub(crate) fn from_file(path: &Path, place: Place<'_>) -> Result<Option<SecretString>> {
    let metadata = match std::fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e).or_kind(ErrorKind::Config, reading(path)),
    };
    if !metadata.is_file() {
        return Ok(None);
    }
    if metadata.mode() & 0o077 != 0 {
        return Err(Error::new(
            ErrorKind::Config,
            format!("password file {} can be read by others", path.display()),
        )
        .remedy(format!("Run: chmod 600 {}", path.display())));
    }
    let text = std::fs::read_to_string(path).or_kind(ErrorKind::Config, reading(path))?;
    Ok(find(&text, place).map(Into::into))
}

fn reading(path: &Path) -> String {
    format!("read password file {}", path.display())
}

/// The password of the first matching line.
fn find(text: &str, place: Place<'_>) -> Option<String> {
    let port = place.port.to_string();
    let wanted = [place.host, &port, place.database, place.user];
    text.lines().find_map(|line| {
        if line.starts_with('#') {
            return None;
        }
        let (fields, password) = split(line)?;
        let matches = fields.iter().zip(wanted).all(|(field, value)| field.raw == "*" || field.text == value);
        (matches && !password.is_empty()).then_some(password)
    })
}

#[derive(Default)]
struct Field {
    raw: String,
    text: String,
}

/// Four fields and the password. A backslash escapes the next character.
fn split(line: &str) -> Option<([Field; 4], String)> {
    let mut fields: [Field; 4] = Default::default();
    let mut chars = line.chars();
    for field in &mut fields {
        loop {
            match chars.next()? {
                ':' => break,
                '\\' => {
                    let next = chars.next()?;
                    field.raw.extend(['\\', next]);
                    field.text.push(next);
                }
                c => {
                    field.raw.push(c);
                    field.text.push(c);
                }
            }
        }
    }
    let mut password = String::new();
    loop {
        match chars.next() {
            None | Some(':') => return Some((fields, password)),
            Some('\\') => password.push(chars.next().unwrap_or('\\')),
            Some(c) => password.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use secrecy::ExposeSecret;

    use super::*;

    const PLACE: Place<'static> = Place { host: "db.example", port: 5433, database: "subs", user: "backup" };

    #[test]
    fn the_first_matching_line_counts() {
        let text = "# a comment\n\
                    other:*:*:*:no\n\
                    db.example:5432:*:*:no\n\
                    db.example:5433:subs:backup:yes\n\
                    *:*:*:*:later\n";
        assert_eq!(find(text, PLACE).as_deref(), Some("yes"));
        assert_eq!(find("*:*:*:*:any", PLACE).as_deref(), Some("any"));
        assert_eq!(find("db.example:5433:subs", PLACE), None);
        assert_eq!(find("db.example:5433:subs:root:x", PLACE), None);
    }

    #[test]
    fn backslashes_escape_colons_and_backslashes() {
        let place = Place { host: "::1", user: "a\\b", ..PLACE };
        assert_eq!(find("\\:\\:1:*:subs:a\\\\b:p\\:w\\\\d", place).as_deref(), Some("p:w\\d"));
        // An escaped star is a star.
        assert_eq!(find("\\*:*:*:*:x", PLACE), None);
    }

    #[test]
    fn a_file_that_others_can_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pgpass");
        assert!(from_file(&path, PLACE).unwrap().is_none());
        std::fs::write(&path, "*:*:*:*:secret\n").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        let error = from_file(&path, PLACE).unwrap_err();
        assert!(error.message().contains("can be read by others"));
        assert!(!format!("{error:?}").contains("secret"));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        let password = from_file(&path, PLACE).unwrap().unwrap();
        assert_eq!(password.expose_secret(), "secret");
    }
}
