//! A provider with one database, its publisher's keys, and two targets: what most journeys start from.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::marbre::{Marbre, marbre};
use super::postgres::{Database, Version, run};
use super::s3::{LIMITED, SeaweedFs};

/// The name of the database in configuration and targets.
pub const DATABASE: &str = "abonnes";

/// Keys, configuration and targets in a folder that goes with the test.
pub struct Provider {
    folder: tempfile::TempDir,
    targets: Vec<(&'static str, String)>,
    source: String,
    more: String,
}

impl Provider {
    /// The database is at this place; one directory target, `nas`.
    pub fn new(source: String) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        marbre(["keygen", "--agent"]).arg(path("agent_ed25519")).success();
        marbre(["keygen", "--signer"]).args([path("agent_ed25519.pub"), path("keys")]).success();
        std::fs::create_dir(path("nas")).unwrap();
        let provider = Self {
            targets: vec![("nas", path("nas").display().to_string())],
            folder,
            source,
            more: String::new(),
        };
        provider.write();
        provider
    }

    /// A provider of this PostgreSQL database.
    pub fn of(database: &Database<'_>) -> Self {
        Self::new(postgres(&database.url()))
    }

    /// One more target, `s3`: a new bucket, for the user that may put, get and list.
    pub async fn with_s3(mut self, server: &SeaweedFs) -> Self {
        let bucket = server.bucket(false).await;
        let location = server.location(&bucket, "marbre", LIMITED);
        let url = format!(
            "s3://{bucket}/marbre?endpoint={}&region=us-east-1&profile={LIMITED}&credentials_file={}",
            server.endpoint(),
            location.credentials_file.unwrap().display()
        );
        self.targets.push(("s3", url));
        self.write();
        self
    }

    /// Another source: the lines of `[database.abonnes]` that say where it is.
    pub fn set_source(&mut self, source: String) {
        self.source = source;
        self.write();
    }

    /// More lines at the top of the configuration.
    pub fn set_more(&mut self, more: &str) {
        self.more = more.to_owned();
        self.write();
    }

    fn write(&self) {
        let mut config = format!(
            "state_dir = \"state\"\nsigning_key = \"agent_ed25519\"\n{}\n\
             [publisher.gazette]\nrecipients_file = \"keys/restore.pub\"\n",
            self.more
        );
        for (name, url) in &self.targets {
            config += &format!("[target.{name}]\nurl = {url:?}\n");
        }
        let names: Vec<&str> = self.targets.iter().map(|(name, _)| *name).collect();
        config += &format!(
            "[database.{DATABASE}]\npublisher = \"gazette\"\ntargets = {names:?}\n{}\n",
            self.source
        );
        std::fs::write(self.config(), config).unwrap();
    }

    fn config(&self) -> PathBuf {
        self.path("marbre.toml")
    }

    /// Something in the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The URL of a target.
    pub fn target(&self, name: &str) -> &str {
        let found = self.targets.iter().find(|(n, _)| *n == name);
        &found.unwrap().1
    }

    /// `marbre snapshot`, as JSON.
    pub fn snapshot(&self) -> Marbre {
        with_tools(marbre(["--json", "--config"]).arg(self.config()).args(["snapshot", DATABASE]))
    }

    /// `marbre restore latest`, as JSON, with what the publisher has: a target, keys and nothing else.
    pub fn restore(&self, from: &str, to: &str) -> Marbre {
        with_tools(
            marbre(["--json", "restore", "latest", "--from", self.target(from)])
                .args(["--database", "gazette/abonnes", "--key"])
                .arg(self.path("keys/restore.key"))
                .args(["--to", to]),
        )
    }

    /// The folder of the database at the directory target.
    pub fn objects(&self) -> PathBuf {
        self.path("nas/gazette").join(DATABASE)
    }

    /// The names of the receipts at the directory target.
    pub fn receipts(&self) -> Vec<String> {
        let Ok(folder) = std::fs::read_dir(self.objects().join("receipts")) else {
            return Vec::new();
        };
        let mut names: Vec<String> = folder
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.ends_with(".json"))
            .collect();
        names.sort();
        names
    }
}

/// Where a PostgreSQL database is.
pub fn postgres(url: &str) -> String {
    format!("engine = \"postgres\"\nurl = {url:?}\nlock_timeout = \"2s\"\n")
}

/// Where a SQLite database is.
pub fn sqlite(path: &Path) -> String {
    format!("engine = \"sqlite\"\npath = {path:?}\n")
}

/// Tools of both versions can be found: those of 15 where Debian has them, those of 18 on the PATH.
fn with_tools(run: Marbre) -> Marbre {
    run.tools_from(&Version::V18.bin())
}

/// A small disk. Taken away on drop. Only root may mount.
pub struct Tmpfs(PathBuf);

impl Tmpfs {
    /// Makes the folder, and mounts a disk of this size on it.
    pub fn mount(at: &Path, size: &str) -> Self {
        std::fs::create_dir_all(at).unwrap();
        let option = format!("size={size}");
        run(Command::new("mount").args(["-t", "tmpfs", "-o", &option, "tmpfs"]).arg(at));
        Self(at.to_owned())
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}
