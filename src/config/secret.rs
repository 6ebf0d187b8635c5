//! Secrets: the configuration says where one is; it is read when it is needed, and shown nowhere.

use std::fs::Metadata;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use secrecy::SecretString;
use secrecy::zeroize::Zeroizing;

use crate::error::{Error, ErrorKind, Result};

/// More than any password; keeps a wrong path (a device, a dump) from being read whole.
const MAX_SECRET: u64 = 64 * 1024;

/// Where credentials are when the environment does not say it: systemd's folder for `marbre.service`,
/// which root can also read from a shell while the service runs.
const DEFAULT_CREDENTIALS_DIRECTORY: &str = "/run/credentials/marbre.service";

/// Where a secret is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Secret {
    /// A file that only its owner can read. One line feed at its end does not count.
    File(PathBuf),
    /// An environment variable.
    Env(String),
    /// A systemd credential: a file in `$CREDENTIALS_DIRECTORY`.
    Credential(String),
}

impl Secret {
    /// Reads the secret, now.
    ///
    /// # Errors
    /// Kind `Config` if it is not there, empty, not UTF-8, or in a file that others can read. The
    /// message names the place, never the content.
    pub(crate) fn read(&self) -> Result<SecretString> {
        let text = match self {
            Secret::File(path) => read_file(path, true)?,
            // systemd guards its folder itself, partly with access lists that show as group rights.
            Secret::Credential(name) => read_file(&credential_path(name), false)?,
            Secret::Env(name) => Zeroizing::new(std::env::var(name).map_err(|_| {
                failed(&format!("the environment variable {name}"))
                    .cause("not set, or not UTF-8")
                    .remedy(format!("Set {name} in the environment of marbre."))
            })?),
        };
        let secret = text.strip_suffix('\n').unwrap_or(&text);
        let secret = secret.strip_suffix('\r').unwrap_or(secret);
        if secret.is_empty() {
            return Err(failed(&self.place()).cause("it is empty").remedy("Put the secret there."));
        }
        Ok(SecretString::from(secret))
    }

    fn place(&self) -> String {
        match self {
            Secret::File(path) => path.display().to_string(),
            Secret::Env(name) => format!("the environment variable {name}"),
            Secret::Credential(name) => credential_path(name).display().to_string(),
        }
    }
}

/// The file of a systemd credential.
pub(super) fn credential_path(name: &str) -> PathBuf {
    let folder = std::env::var_os("CREDENTIALS_DIRECTORY").filter(|folder| !folder.is_empty());
    let folder = folder.map_or(PathBuf::from(DEFAULT_CREDENTIALS_DIRECTORY), PathBuf::from);
    folder.join(name)
}

/// What is wrong with the rights of a secret's file, and the remedy; nothing if only its owner has any.
pub(super) fn exposed(path: &Path, metadata: &Metadata) -> Option<(String, String)> {
    let path = path.display();
    if !metadata.is_file() {
        let what = format!("{path} is not a file");
        return Some((what, "Name the file that holds the secret.".to_owned()));
    }
    let mode = metadata.permissions().mode() & 0o777;
    (mode & 0o077 != 0).then(|| {
        let what = format!("{path} can be used by others than its owner (mode {mode:04o})");
        (what, format!("Run `chmod 600 '{path}'`."))
    })
}

fn read_file(path: &Path, owner_only: bool) -> Result<Zeroizing<String>> {
    let place = path.display().to_string();
    let unreadable = |e: std::io::Error| {
        failed(&place).cause(e).remedy("Create the file, or let the user that runs marbre own it.")
    };
    // Looked at before it is opened: opening a named pipe would wait for its other end.
    if let Some((what, remedy)) =
        exposed(path, &std::fs::metadata(path).map_err(unreadable)?).filter(|_| owner_only)
    {
        return Err(failed(&place).cause(what).remedy(remedy));
    }
    let mut text = Zeroizing::new(String::new());
    std::fs::File::open(path)
        .and_then(|file| file.take(MAX_SECRET + 1).read_to_string(&mut text))
        .map_err(unreadable)?;
    if text.len() as u64 > MAX_SECRET {
        return Err(failed(&place)
            .cause("it is larger than 64 KiB")
            .remedy("Name the file that holds the secret, and nothing else."));
    }
    Ok(text)
}

fn failed(place: &str) -> Error {
    Error::new(ErrorKind::Config, format!("failed to read a secret from {place}"))
}
