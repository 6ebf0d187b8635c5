//! The server's programs.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use super::super::version::{self, Version};
use crate::engine::throwaway::installation::{candidates, installation};
use crate::error::{Error, Result};
use crate::model::engine_kind::EngineKind;

/// Where packages put servers. Most of these are in nobody's `$PATH` but root's.
const USUAL: [&str; 6] =
    ["/usr/sbin", "/usr/bin", "/usr/local/sbin", "/usr/local/bin", "/usr/local/mysql/bin", "/usr/libexec"];

/// The names of what makes the data of a server of MariaDB. A server of MySQL does that itself.
const INSTALLERS: [&str; 2] = ["mariadb-install-db", "mysql_install_db"];

/// Folders of one installation, beside that of its server.
const BESIDE: [&str; 3] = ["bin", "sbin", "scripts"];

/// How long a program may take to say its version.
const ANSWER: Duration = Duration::from_secs(10);

/// All names of programs that run in a drill.
pub(super) const NAMES: &[&str] = &["mariadbd", "mysqld", INSTALLERS[0], INSTALLERS[1]];

/// The programs of one server.
#[derive(Debug, Clone)]
pub(super) struct Programs {
    /// MariaDB or MySQL.
    pub kind: EngineKind,
    /// The server.
    pub server: PathBuf,
    /// What makes its data, if it does not do that itself.
    pub installer: Option<PathBuf>,
    /// Its version.
    pub version: Version,
}

impl Programs {
    /// All that can be found: in `bin_dir`, else in `$PATH` and the usual folders. Oldest first.
    pub(super) async fn all(kind: EngineKind, bin_dir: Option<&Path>) -> Vec<Self> {
        let mut found = Vec::new();
        for directory in candidates(bin_dir, USUAL.map(PathBuf::from)) {
            found.extend(Self::in_directory(kind, &directory).await);
        }
        found.sort_by_key(|programs| programs.version);
        found
    }

    async fn in_directory(kind: EngineKind, directory: &Path) -> Option<Self> {
        for name in servers(kind) {
            let server = directory.join(name);
            let Some(text) = version_text(&server).await else { continue };
            let Some(version) = Version::find(&text).filter(|_| version::kind(&text) == kind) else {
                continue;
            };
            let installer = beside(directory, &INSTALLERS);
            if kind == EngineKind::MySql || installer.is_some() {
                let installer = installer.filter(|_| kind == EngineKind::MariaDb);
                return Some(Self { kind, server, installer, version });
            }
        }
        None
    }

    /// The newest of exactly this series: another one could prove neither that the snapshot is restored as it was, nor what would
    /// happen in a disaster.
    pub(super) async fn find(kind: EngineKind, bin_dir: Option<&Path>, wanted: Version) -> Result<Self> {
        let mut found = Self::all(kind, bin_dir).await;
        match found.iter().rposition(|programs| programs.version.series() == wanted.series()) {
            Some(at) => Ok(found.swap_remove(at)),
            None => Err(missing(kind, bin_dir, wanted, &found)),
        }
    }

    /// The folder of the server.
    pub(super) fn directory(&self) -> &Path {
        self.server.parent().unwrap_or(Path::new("/"))
    }

    /// Where the installation begins, if the programs do not know that themselves: those of packages do, and so do scripts in front of
    /// programs elsewhere.
    pub(super) fn prefix(&self) -> Option<PathBuf> {
        let real = self.directory().canonicalize().ok()?;
        let prefix = real.parent().filter(|prefix| *prefix != Path::new("/usr"))?;
        let messages = ["mysql", "mariadb", "english"].map(|name| prefix.join("share").join(name));
        messages.iter().any(|folder| folder.is_dir()).then(|| prefix.to_owned())
    }

    /// What the programs need to be able to read, where it is not among the system's.
    pub(super) async fn installation(&self) -> Vec<PathBuf> {
        let mut folders = installation(self.directory(), NAMES).await;
        if let Some(directory) = self.installer.as_ref().and_then(|installer| installer.parent())
            && directory != self.directory()
        {
            folders.extend(installation(directory, &[]).await);
        }
        folders.sort();
        folders.dedup();
        folders
    }

    /// The client with which people look at a kept database.
    pub(super) fn client(&self) -> PathBuf {
        let name = match self.kind {
            EngineKind::MariaDb => "mariadb",
            _ => "mysql",
        };
        beside(self.directory(), &[name]).unwrap_or_else(|| name.into())
    }
}

/// The names of the server itself.
fn servers(kind: EngineKind) -> &'static [&'static str] {
    match kind {
        EngineKind::MariaDb => &["mariadbd", "mysqld"],
        _ => &["mysqld"],
    }
}

/// A program in this folder, or in another one of the same installation.
fn beside(directory: &Path, names: &[&str]) -> Option<PathBuf> {
    let others = directory.parent().map(|prefix| BESIDE.map(|name| prefix.join(name)));
    let mut folders = std::iter::once(directory.to_owned()).chain(others.into_iter().flatten());
    folders.find_map(|folder| names.iter().map(|name| folder.join(name)).find(|path| path.is_file()))
}

/// What a program says of its version, if it is there and says anything.
async fn version_text(path: &Path) -> Option<String> {
    if !path.is_file() {
        return None;
    }
    let mut command = Command::new(path);
    command.args(["--no-defaults", "--version"]).stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(ANSWER, command.output()).await.ok()?.ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// What is needed, in words.
pub(super) fn wanted(kind: EngineKind) -> &'static str {
    match kind {
        EngineKind::MariaDb => "mariadbd and mariadb-install-db",
        _ => "mysqld",
    }
}

/// Where programs are looked for, in words.
pub(super) fn places(bin_dir: Option<&Path>) -> String {
    match bin_dir {
        Some(dir) => dir.display().to_string(),
        None => format!("PATH, {}", USUAL.join(", ")),
    }
}

/// `10.11.19 in /usr/sbin, …`.
pub(super) fn list(found: &[Programs]) -> String {
    let one = |p: &Programs| format!("{} in {}", p.version, p.directory().display());
    found.iter().map(one).collect::<Vec<_>>().join(", ")
}

fn missing(kind: EngineKind, bin_dir: Option<&Path>, version: Version, found: &[Programs]) -> Error {
    let (major, minor) = version.series();
    let server = format!("{} {major}.{minor}", kind.title());
    let package = match kind {
        EngineKind::MariaDb => "mariadb-server",
        _ => "mysql-server",
    };
    let install = format!("Install the server of {server} (the package {package})");
    if found.is_empty() {
        return Error::preflight(format!("a throwaway server of {server} cannot be started"))
            .cause(format!("{}: not found in {}", wanted(kind), places(bin_dir)))
            .remedy(format!("{install}, or name its folder with bin_dir."));
    }
    Error::preflight(format!("a throwaway server of {server} cannot be started: wrong version"))
        .cause(format!("the snapshot's server was {version}, but only these were found: {}", list(found)))
        .remedy(match bin_dir {
            Some(_) => format!("{install}, and set bin_dir to its folder."),
            None => format!("{install}, or name its folder with bin_dir."),
        })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn version(text: &str) -> Version {
        Version::find(text).unwrap()
    }

    #[tokio::test]
    async fn missing_programs_are_said_to_be_missing() {
        let empty = tempfile::tempdir().unwrap();
        for (kind, package) in [(EngineKind::MariaDb, "mariadb-server"), (EngineKind::MySql, "mysql-server")]
        {
            let error = Programs::find(kind, Some(empty.path()), version("10.11.19")).await.unwrap_err();
            assert_eq!(error.kind(), crate::error::ErrorKind::Preflight);
            assert!(error.to_string().contains(&empty.path().display().to_string()), "{error}");
            assert!(error.remedy_text().unwrap().contains(package));
        }
    }

    #[test]
    fn another_version_is_named_as_wrong() {
        let programs = |text: &str, server: &str| Programs {
            kind: EngineKind::MySql,
            server: server.into(),
            installer: None,
            version: version(text),
        };
        let found = [programs("8.0.44", "/a/mysqld"), programs("9.7.4", "/b/mysqld")];
        let error = missing(EngineKind::MySql, None, version("8.4.3"), &found).to_string();
        for wanted in ["wrong version", "MySQL 8.4", "8.0.44 in /a", "9.7.4 in /b"] {
            assert!(error.contains(wanted), "{error}");
        }
    }

    #[tokio::test]
    async fn a_server_is_known_by_what_it_says() {
        let prefix = tempfile::tempdir().unwrap();
        let bin = prefix.path().join("bin");
        fs::create_dir(&bin).unwrap();
        let script = |name: &str, says: &str| {
            let path = bin.join(name);
            fs::write(&path, format!("#!/bin/sh\necho '{says}'\n")).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        };
        script("mysqld", "mysqld  Ver 10.5.29-MariaDB for Linux on x86_64");
        assert!(Programs::all(EngineKind::MariaDb, Some(&bin)).await.is_empty(), "nothing makes its data");
        script("mysql_install_db", "");
        assert_eq!(Programs::all(EngineKind::MariaDb, Some(&bin)).await.len(), 1);
        assert!(Programs::all(EngineKind::MySql, Some(&bin)).await.is_empty());
        script("mysqld", "/x/mysqld  Ver 9.7.4-2 for Linux on x86_64 ((Debian))");
        let found = Programs::all(EngineKind::MySql, Some(&bin)).await;
        assert_eq!((found.len(), list(&found)), (1, format!("9.7.4 in {}", bin.display())));
        assert_eq!(found[0].prefix(), None);
        fs::create_dir_all(prefix.path().join("share/english")).unwrap();
        assert_eq!(found[0].prefix().unwrap(), prefix.path().canonicalize().unwrap());
    }
}
