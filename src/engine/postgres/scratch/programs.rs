//! The server's programs.

use std::fs;
use std::path::{Path, PathBuf};

use super::super::tools::tool_version;
use super::super::version::Version;
use crate::engine::throwaway::installation::{self, installation};
use crate::error::{Error, Result};

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

    /// What the programs of this folder need to be able to read, where it is not among the system's.
    pub(super) async fn installation(directory: &Path) -> Vec<PathBuf> {
        installation(directory, &["initdb", "postgres", "pg_restore"]).await
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

fn candidates(bin_dir: Option<&Path>) -> Vec<PathBuf> {
    let packaged = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    installation::candidates(bin_dir, packaged.map(|entry| entry.path().join("bin")))
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
