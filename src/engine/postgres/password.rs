//! The libpq password file, as chapter "The Password File" of the PostgreSQL documentation describes it.

use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use secrecy::SecretString;

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

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// The password.
    pub password: Option<SecretString>,
    /// Why a password file was passed over, as libpq does: it matters only if the server wants a password.
    pub passed_over: Option<String>,
}

/// The password for this place from `$PGPASSWORD`, or from the password file: the one that is named, `$PGPASSFILE` or
/// `~/.pgpass`.
pub(crate) fn from_environment(named: Option<&Path>, place: Place<'_>) -> Found {
    if let Ok(password) = std::env::var("PGPASSWORD") {
        return Found { password: Some(password.into()), passed_over: None };
    }
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let path = named.map(Path::to_owned).or_else(|| variable("PGPASSFILE"));
    match path.or_else(|| variable("HOME").map(|home| home.join(".pgpass"))) {
        Some(path) => from_file(&path, place),
        None => Found::default(),
    }
}

/// The password for this place from this file. A missing file holds none.
fn from_file(path: &Path, place: Place<'_>) -> Found {
    let passed_over = |why: String| Found {
        password: None,
        passed_over: Some(format!("password file {} {why}", path.display())),
    };
    let metadata = match std::fs::metadata(path) {
        Ok(metadata) => metadata,
        // Below a home that is no folder there is no file either.
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Found::default();
        }
        Err(e) => return passed_over(format!("could not be read: {e}")),
    };
    if !metadata.is_file() {
        return passed_over("is no file".to_owned());
    }
    if metadata.mode() & 0o077 != 0 {
        return passed_over("was not used, because others can read it (run: chmod 600)".to_owned());
    }
    match std::fs::read_to_string(path) {
        Ok(text) => Found { password: find(&text, place).map(Into::into), passed_over: None },
        Err(e) => passed_over(format!("could not be read: {e}")),
    }
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
    fn a_file_that_cannot_be_used_is_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pgpass");
        for nowhere in [path.clone(), PathBuf::from("/dev/null/.pgpass")] {
            let found = from_file(&nowhere, PLACE);
            assert!(found.password.is_none() && found.passed_over.is_none());
        }
        assert!(from_file(dir.path(), PLACE).passed_over.unwrap().ends_with("is no file"));
        std::fs::write(&path, "*:*:*:*:secret\n").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        let found = from_file(&path, PLACE);
        assert!(found.password.is_none());
        let why = found.passed_over.unwrap();
        assert!(why.contains("chmod 600") && !why.contains("secret"));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(from_file(&path, PLACE).password.unwrap().expose_secret(), "secret");
    }
}
