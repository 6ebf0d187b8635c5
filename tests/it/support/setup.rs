//! A provider with one database, its publisher's keys, and two targets: what most journeys start from.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::marbre::{Marbre, marbre};
use super::postgres::{Database, Version, run};
use super::s3::{LIMITED, SeaweedFs};
use super::sqlite_setup::files;

/// The name of the database in configuration and targets.
pub const DATABASE: &str = "abonnes";

/// Keys, configuration and targets in a folder that goes with the test.
pub struct Provider {
    folder: tempfile::TempDir,
    targets: Vec<(&'static str, String)>,
    source: String,
    more: String,
    drills: String,
    scratch: tempfile::TempDir,
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
            drills: String::new(),
            scratch: scratch_folder(),
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

    /// More lines of `[database.abonnes.drills]`, and tables after it.
    pub fn set_drills(&mut self, lines: &str) {
        self.drills = lines.to_owned();
        self.write();
    }

    fn write(&self) {
        let mut config = format!(
            "state_dir = \"state\"\nscratch_dir = {:?}\nsigning_key = \"agent_ed25519\"\n{}\n\
             [publisher.gazette]\nrecipients_file = \"keys/restore.pub\"\nsigners_file = \"keys/publisher_ed25519.pub\"\n",
            self.scratch(),
            self.more
        );
        for (name, url) in &self.targets {
            config += &format!("[target.{name}]\nurl = {url:?}\n");
        }
        let names: Vec<&str> = self.targets.iter().map(|(name, _)| *name).collect();
        config += &format!(
            "[database.{DATABASE}]\npublisher = \"gazette\"\ntargets = {names:?}\n{}\n\
             [database.{DATABASE}.drills]\n{}\n",
            self.source, self.drills
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

    /// marbre with the provider's configuration, as JSON.
    pub fn marbre(&self, args: &[&str]) -> Marbre {
        with_tools(marbre(["--json", "--config"]).arg(self.config()).args(args))
    }

    /// `marbre drill`, as JSON.
    pub fn drill(&self) -> Marbre {
        self.marbre(&["drill", DATABASE])
    }

    /// `marbre drill --as-owner` from this target, as JSON, with the restore key that lies beside the publisher's.
    pub fn drill_as_owner(&self, from: &str) -> Marbre {
        let drill = marbre(["--json", "drill", "--as-owner", "--from", self.target(from), "-i"]);
        let drill = drill.arg(self.path("keys/restore.key")).args(["--database", "gazette/abonnes"]);
        let drill = drill.arg("--scratch-dir").arg(self.scratch()).arg("--report").arg(self.path("reports"));
        with_tools(drill)
    }

    /// Where drills restore.
    pub fn scratch(&self) -> PathBuf {
        self.scratch.path().join("s")
    }

    /// What drills have left: files in the scratch folder, and processes that work there.
    pub fn traces(&self) -> Vec<String> {
        let files = files(&self.scratch()).into_iter().map(|path| path.display().to_string());
        files.chain(processes_below(&self.scratch())).collect()
    }

    /// `marbre restore latest`, as JSON, with what the publisher has: a target, keys and nothing else.
    pub fn restore(&self, from: &str, to: &str) -> Marbre {
        with_tools(
            marbre(["--json", "restore", "latest", "--from", self.target(from)])
                .args(["--database", "gazette/abonnes", "--key"])
                .arg(self.path("keys/restore.key"))
                .args(["--to", to])
                // What it writes for people lies here.
                .current_dir(self.path("")),
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

/// A folder that user postgres can get to, whom a throwaway server runs as where marbre is root.
pub fn scratch_folder() -> tempfile::TempDir {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::Builder::new().prefix("mscr-").tempdir_in("/tmp").unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o711)).unwrap();
    folder
}

/// Processes whose working directory or command line lies below a folder.
pub fn processes_below(folder: &Path) -> Vec<String> {
    let text = folder.to_str().unwrap();
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Ok(pid) = entry.file_name().into_string().unwrap_or_default().parse::<u32>() else { continue };
        let cwd = std::fs::read_link(entry.path().join("cwd")).unwrap_or_default();
        let command = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        if pid != std::process::id() && (cwd.starts_with(folder) || command.contains(text)) {
            found.push(format!("process {pid}: {command}"));
        }
    }
    found
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

/// A small disk with exFAT, which has neither modes nor links. Taken away on drop. Only root may mount.
pub struct Exfat {
    at: PathBuf,
    device: String,
}

impl Exfat {
    /// Makes the folder, and mounts a disk of this size on it, whose content lies in a file beside it.
    pub fn mount(at: &Path, size: &str) -> Self {
        std::fs::create_dir_all(at).unwrap();
        let file = at.with_extension("exfat");
        run(Command::new("truncate").args(["-s", size]).arg(&file));
        run(Command::new("mkfs.exfat").arg(&file));
        let device = run(Command::new("losetup").args(["-f", "--show"]).arg(&file));
        let disk = Self { at: at.to_owned(), device: String::from_utf8(device).unwrap().trim().to_owned() };
        run(Command::new("mount.exfat-fuse").arg(&disk.device).arg(at));
        disk
    }
}

impl Drop for Exfat {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.at).status();
        let _ = Command::new("losetup").arg("-d").arg(&self.device).status();
    }
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
