//! The server's programs.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::{Child, Command};

use super::super::tools::tool_version;
use super::super::version::Version;
use crate::error::{Error, Result, ResultExt};
use crate::system::programs::find;
use crate::system::runner::Confined;

/// `initdb` and `postgres` of one version.
#[derive(Debug, Clone)]
pub(crate) struct Programs {
    /// Where they are.
    pub directory: PathBuf,
    /// Their version.
    pub version: Version,
}

impl Programs {
    /// All that can be found: in `bin_dir`, else in `$PATH` and the folders of distributions. Oldest first.
    pub(super) async fn all(bin_dir: Option<&Path>) -> Vec<Self> {
        let mut found = Vec::new();
        for directory in candidates(bin_dir) {
            let server = tool_version(&directory.join("postgres")).await;
            let initdb = tool_version(&directory.join("initdb")).await;
            if let (Some(server), Some(initdb)) = (server, initdb)
                && server == initdb
            {
                found.push(Self { directory, version: server });
            }
        }
        found.sort_by_key(|programs| programs.version);
        found
    }

    /// The newest of exactly this major version: another one could prove neither that the snapshot is restored as it
    /// was, nor what would happen to the publisher in a disaster.
    pub(super) async fn find(bin_dir: Option<&Path>, major: u32) -> Result<Self> {
        let mut found = Self::all(bin_dir).await;
        match found.iter().rposition(|programs| programs.version.major == major) {
            Some(at) => Ok(found.swap_remove(at)),
            None => Err(Self::missing(bin_dir, major, &found)),
        }
    }

    /// What the programs of this folder need to be able to read, where it is not among the system's: the folders beside their
    /// own that belong to an installation, and those of their libraries.
    pub(super) async fn installation(directory: &Path) -> Vec<PathBuf> {
        let real = directory.canonicalize().unwrap_or_else(|_| directory.to_owned());
        if real.starts_with("/usr") {
            return Vec::new();
        }
        let mut folders = vec![real.clone()];
        if let Some(prefix) = real.parent() {
            folders.extend(["lib", "lib64", "share", "libexec"].map(|name| prefix.join(name)));
        }
        for name in ["initdb", "postgres", "pg_restore"] {
            folders.extend(folders_of_libraries(&real.join(name)).await);
        }
        folders.retain(|folder| folder.is_dir() && !folder.starts_with("/usr"));
        folders.sort();
        folders.dedup();
        folders
    }

    fn missing(bin_dir: Option<&Path>, major: u32, found: &[Self]) -> Error {
        let places = match bin_dir {
            Some(dir) => dir.display().to_string(),
            None => "PATH and /usr/lib/postgresql".to_owned(),
        };
        let install = format!(
            "Install the server programs of PostgreSQL {major} (on Debian `sudo apt-get install postgresql-{major}`)"
        );
        if found.is_empty() {
            return Error::preflight(format!("a throwaway server of PostgreSQL {major} cannot be started"))
                .cause(format!("initdb and postgres were not found in {places}"))
                .remedy(format!("{install}, or name their folder with bin_dir."));
        }
        Error::preflight(format!(
            "a throwaway server of PostgreSQL {major} cannot be started: wrong major version"
        ))
        .cause(format!("the snapshot's server was {major}, but only these were found: {}", list(found)))
        .remedy(match bin_dir {
            Some(_) => format!("{install}, and set bin_dir to their folder."),
            None => format!("{install}, or name their folder with bin_dir."),
        })
    }
}

/// `15.20 in /usr/lib/postgresql/15/bin, …`.
pub(crate) fn list(found: &[Programs]) -> String {
    let one = |p: &Programs| format!("{} in {}", p.version, p.directory.display());
    found.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// The folders of the libraries that a program loads, according to `ldd`.
async fn folders_of_libraries(program: &Path) -> Vec<PathBuf> {
    let Some(ldd) = find("ldd").filter(|_| program.is_file()) else { return Vec::new() };
    let output = Command::new(ldd).arg(program).stdin(Stdio::null()).kill_on_drop(true).output().await;
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    // `libpq.so.5 => /opt/lib/libpq.so.5 (0x…)`
    let paths =
        text.lines().filter_map(|line| line.split_once(" => ")?.1.split_once(" (").map(|(path, _)| path));
    paths.filter_map(|path| Some(Path::new(path).canonicalize().ok()?.parent()?.to_owned())).collect()
}

fn candidates(bin_dir: Option<&Path>) -> Vec<PathBuf> {
    if let Some(dir) = bin_dir {
        return vec![dir.to_owned()];
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut directories: Vec<PathBuf> =
        std::env::split_paths(&path).filter(|dir| dir.is_absolute()).collect();
    let packaged = fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
    directories.extend(packaged.flatten().map(|entry| entry.path().join("bin")));
    // On many systems /bin is /usr/bin.
    let mut seen = std::collections::BTreeSet::new();
    directories.retain(|dir| dir.canonicalize().is_ok_and(|real| seen.insert(real)));
    directories
}

/// A running program. Dropping it kills it, with its process group.
pub(crate) struct Running {
    child: Child,
    process: Option<Pid>,
}

impl Running {
    /// Starts it. Its output goes to the log.
    pub(super) async fn start(mut confined: Confined, log: &File) -> Result<Self> {
        let share = || log.try_clone().or_internal("share the log");
        confined.command.stdin(Stdio::null()).stdout(share()?).stderr(share()?);
        let child = confined.spawn().await?.or_internal("start a program")?;
        let process = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        Ok(Self { child, process })
    }

    /// Its process group, while it runs.
    pub(super) fn group(&self) -> Option<Pid> {
        self.process
    }

    /// How it ended, if it has.
    pub(super) fn ended(&mut self) -> Result<Option<ExitStatus>> {
        let ended = self.child.try_wait().or_internal("wait for a program")?;
        if ended.is_some() {
            self.process = None;
        }
        Ok(ended)
    }

    /// Waits for its end.
    pub(super) async fn wait(&mut self) -> Result<ExitStatus> {
        let status = self.child.wait().await.or_internal("wait for a program")?;
        self.process = None;
        Ok(status)
    }

    /// Kills it, and in a sandbox everything else there, and waits for its end.
    pub(super) async fn kill(&mut self) -> Result<()> {
        if let Some(group) = self.process {
            // It may have ended a moment ago.
            let _gone = kill_process_group(group, Signal::KILL);
        }
        self.wait().await.map(drop)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(group) = self.process.take() {
            let _gone = kill_process_group(group, Signal::KILL);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn programs(number: u32, directory: &str) -> Programs {
        Programs { directory: directory.into(), version: Version::from_number(number) }
    }

    #[tokio::test]
    async fn missing_programs_are_said_to_be_missing() {
        let empty = tempfile::tempdir().unwrap();
        let error = Programs::find(Some(empty.path()), 15).await.unwrap_err();
        assert_eq!(error.kind(), crate::error::ErrorKind::Preflight);
        assert!(error.to_string().contains(&empty.path().display().to_string()), "{error}");
        assert!(error.remedy_text().unwrap().contains("postgresql-15"));
    }

    #[test]
    fn another_major_version_is_named_as_wrong() {
        let found = [programs(140_019, "/a"), programs(180_001, "/b")];
        let error = Programs::missing(None, 15, &found).to_string();
        for wanted in ["wrong major version", "15", "14.19 in /a", "18.1 in /b"] {
            assert!(error.contains(wanted), "{error}");
        }
    }
}
