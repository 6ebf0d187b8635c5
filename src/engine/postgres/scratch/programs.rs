//! The server's programs, and the user and the limits that they run under.

use std::ffi::OsString;
use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tokio::process::{Child, Command};

use super::super::tools::{SETPRIV, spawn_on_lasting_thread, tool_version};
use super::super::version::Version;
use crate::error::{Error, Result, ResultExt};

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

    fn missing(bin_dir: Option<&Path>, major: u32, found: &[Self]) -> Error {
        let places = match bin_dir {
            Some(dir) => dir.display().to_string(),
            None => "PATH and /usr/lib/postgresql".to_owned(),
        };
        let install = format!(
            "Install the server programs of PostgreSQL {major} (on Debian the package postgresql-{major})"
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

/// A user of this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct User {
    /// Name.
    pub name: String,
    uid: u32,
    gid: u32,
}

/// Starts programs as the right user, with low priority, and without core dumps.
#[derive(Debug, Clone)]
pub(crate) struct Runner {
    /// The user to switch to, if it is not our own.
    pub user: Option<User>,
    wrappers: Vec<OsString>,
}

impl Runner {
    /// For root: the user of this name, by default `postgres`; for anybody else: the current user.
    pub(super) async fn new(name: Option<&str>) -> Result<Self> {
        let user = match rustix::process::geteuid().is_root() {
            true => Some(look_up(name.unwrap_or("postgres")).await?),
            false => None,
        };
        let mut wrappers: Vec<OsString> = Vec::new();
        let mut wrap = |program: &Path, args: &[&str]| {
            wrappers.push(program.into());
            wrappers.extend(args.iter().map(OsString::from));
        };
        match (&*SETPRIV, &user) {
            (Some(setpriv), Some(user)) => {
                let (uid, gid) = (format!("--reuid={}", user.uid), format!("--regid={}", user.gid));
                wrap(setpriv, &[&uid, &gid, "--init-groups", "--nnp", "--pdeathsig", "KILL", "--"]);
            }
            (Some(setpriv), None) => wrap(setpriv, &["--nnp", "--pdeathsig", "KILL", "--"]),
            (None, Some(_)) => return Err(lacks("setpriv")),
            // Without it, an orphan is only removed by the next drill.
            (None, None) => {}
        }
        wrap(&program("nice")?, &["-n", "10"]);
        if let Ok(ionice) = program("ionice") {
            // -t: ignore it if the kernel does not allow it.
            wrap(&ionice, &["-t", "-c", "3"]);
        }
        // A core dump would contain data of the database.
        wrap(&program("prlimit")?, &["--core=0"]);
        Ok(Self { user, wrappers })
    }

    /// A command that runs the program this way. It does not inherit our environment, which may contain passwords.
    pub(super) fn command(&self, program: &Path) -> Command {
        let mut words = self.wrappers.iter();
        let mut command = match words.next() {
            Some(first) => Command::new(first),
            None => Command::new(program),
        };
        if !self.wrappers.is_empty() {
            command.args(words).arg(program);
        }
        command.env_clear().env("LC_ALL", "C").env("TZ", "UTC").current_dir("/");
        for name in ["PATH", "LD_LIBRARY_PATH"] {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        command
    }

    /// For people: what to put in front of a command that is to be run as that user.
    pub(super) fn prefix(&self) -> String {
        self.user.as_ref().map_or_else(String::new, |user| format!("runuser -u {} -- ", user.name))
    }

    /// Gives a file or folder to the user.
    pub(super) fn give(&self, path: &Path) -> Result<()> {
        let Some(user) = &self.user else { return Ok(()) };
        chown(path, Some(user.uid), Some(user.gid)).or_internal(format!(
            "give {} to user {}",
            path.display(),
            user.name
        ))
    }

    /// Lets the user pass through `parent`, the folder of drills, whose contents stay private. Folders above it are not
    /// ours to open.
    pub(super) async fn open_way(&self, parent: &Path) -> Result<()> {
        let Some(user) = &self.user else { return Ok(()) };
        let what = format!("let user {} through {}", user.name, parent.display());
        let meta = fs::metadata(parent).or_internal(&what)?;
        if meta.mode() & 0o777 == 0o700 && meta.uid() == rustix::process::geteuid().as_raw() {
            fs::set_permissions(parent, fs::Permissions::from_mode(0o711)).or_internal(&what)?;
        }
        self.refuse_closed(parent).await
    }

    /// Fails if the user cannot reach this folder, and names the folder that is closed.
    pub(super) async fn refuse_closed(&self, folder: &Path) -> Result<()> {
        let Some(user) = &self.user else { return Ok(()) };
        let mut way: Vec<&Path> = folder.ancestors().collect();
        way.reverse();
        let test = program("test")?;
        for step in way {
            // Testing it as that user takes groups, access control lists and mounts into account.
            let mut command = self.command(&test);
            command.arg("-x").arg(step).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            let status = command.kill_on_drop(true).status().await;
            if !status.or_internal(format!("run {}", test.display()))?.success() {
                return Err(Error::preflight(format!(
                    "user {} cannot reach {}, where drills restore",
                    user.name,
                    folder.display()
                ))
                .cause(format!("the folder {} is closed to that user", step.display()))
                .remedy(format!(
                    "Run the agent as a user of its own rather than as root; or set `scratch_dir` to a folder that user {} \
                     can reach.",
                    user.name
                )));
            }
        }
        Ok(())
    }
}

fn lacks(name: &str) -> Error {
    Error::preflight(format!(
        "the program {name}, which a throwaway server needs, is not installed on this host"
    ))
    .remedy("Install util-linux and coreutils.")
}

/// A program of the system, in `$PATH` or the usual folders.
pub(crate) fn program(name: &str) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let usual = ["/usr/bin", "/bin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path)
        .filter(|dir| dir.is_absolute())
        .chain(usual)
        .map(|dir| dir.join(name))
        .find(|path| path.is_file())
        .ok_or_else(|| lacks(name))
}

/// Asks `id`, which knows all sources of users.
async fn look_up(name: &str) -> Result<User> {
    let id = program("id")?;
    let ask = async |flag: &str| -> Result<Option<u32>> {
        let mut command = Command::new(&id);
        command.args([flag, "--", name]).stdin(Stdio::null()).kill_on_drop(true);
        let output = command.output().await.or_internal(format!("run {}", id.display()))?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().parse().ok())
    };
    let remedy = "Install a PostgreSQL server, which brings the user postgres, or name another user for drills with `user`.";
    match (ask("-u").await?, ask("-g").await?) {
        (Some(0), _) => {
            Err(Error::preflight(format!("PostgreSQL does not run as {name}, who is root")).remedy(remedy))
        }
        (Some(uid), Some(gid)) => Ok(User { name: name.to_owned(), uid, gid }),
        _ => Err(Error::preflight(format!(
            "there is no user {} on this host to run the throwaway server",
            name.escape_debug()
        ))
        .remedy(remedy)),
    }
}

/// A running program. Dropping it kills it, with its process group.
pub(crate) struct Running {
    child: Child,
    process: Option<Pid>,
}

impl Running {
    /// Starts it in its own process group, so that only we receive the terminal's Ctrl-C. Its output goes to the
    /// log. The kernel kills it when we die.
    pub(super) async fn start(mut command: Command, log: &File) -> Result<Self> {
        let share = || log.try_clone().or_internal("share the log");
        command.stdin(Stdio::null()).stdout(share()?).stderr(share()?).process_group(0).kill_on_drop(true);
        let child = spawn_on_lasting_thread(command).await?.or_internal("start a program")?;
        let process = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        Ok(Self { child, process })
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

    /// Sends it a signal, if it still runs.
    pub(super) fn signal(&self, signal: Signal) {
        if let Some(process) = self.process {
            // It may have ended a moment ago.
            let _gone = kill_process(process, signal);
        }
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

    #[tokio::test]
    async fn unknown_users_and_root_are_refused() {
        for bad in ["no-such-user-here", "root", "-x"] {
            let error = look_up(bad).await.unwrap_err();
            assert_eq!(error.kind(), crate::error::ErrorKind::Preflight, "{bad}");
            assert!(error.remedy_text().is_some());
        }
    }

    #[tokio::test]
    async fn programs_get_nothing_of_our_environment() {
        let runner = Runner { user: None, wrappers: vec!["/usr/bin/nice".into()] };
        let output = runner.command(Path::new("/usr/bin/env")).output().await.unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        for line in text.lines() {
            let known = ["LC_ALL=", "TZ=", "PATH=", "LD_LIBRARY_PATH="];
            assert!(known.iter().any(|name| line.starts_with(name)), "{line}");
        }
    }
}
