//! Runs programs that touch restored data: as the right user, in the sandbox, with low priority and limits.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::process::{Child, Command};

use super::programs::{SETPRIV, program, shell_word, spawn_on_lasting_thread};
use super::sandbox::{self, Filters, Room};
use crate::error::{Error, Result, ResultExt};
use crate::model::isolation::Isolation;

/// A user of this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct User {
    /// Name.
    pub name: String,
    uid: u32,
    gid: u32,
}

/// Starts programs as the right user, in the sandbox, with low priority, limits, and without core dumps.
#[derive(Debug, Clone)]
pub(crate) struct Runner {
    /// The user to switch to, if it is not our own.
    pub user: Option<User>,
    /// What goes in front of the sandbox.
    outside: Vec<OsString>,
    /// What makes the sandbox; `None` if the operator wants none.
    bubblewrap: Option<PathBuf>,
    /// What goes in front of the program, in the sandbox.
    inside: Vec<OsString>,
}

/// How the programs of one place run, and what they see there.
#[derive(Debug, Clone)]
pub(crate) struct Confinement {
    /// How they run.
    pub runner: Runner,
    /// What they see.
    pub room: Room,
}

impl Confinement {
    /// A command that runs the program this way.
    pub(crate) fn command(&self, program: &Path) -> Result<Confined> {
        self.runner.command(program, &self.room)
    }
}

/// A program that is about to be started.
pub(crate) struct Confined {
    /// For its arguments, and its standard streams.
    pub command: Command,
    /// Kept open until it runs.
    filters: Option<Filters>,
}

impl Confined {
    /// A program outside of any sandbox.
    pub(crate) fn bare(program: &Path) -> Self {
        Self { command: Command::new(program), filters: None }
    }

    /// Starts it in its own process group, so that only we receive the terminal's Ctrl-C. The kernel kills it when we die, and
    /// so does dropping the child.
    pub(crate) async fn spawn(mut self) -> Result<std::io::Result<Child>> {
        self.command.process_group(0).kill_on_drop(true);
        let child = spawn_on_lasting_thread(self.command).await;
        drop(self.filters);
        child
    }
}

/// How many processes may run in a sandbox at a time. A server needs one per connection and some.
const MOST_PROCESSES: &str = "--nproc=1024";
/// How much address space each of them may have, in bytes. Two thirds of that is far more than a server of a drill takes.
const MOST_MEMORY: &str = "--as=8589934592";

impl Runner {
    /// For root: the user of this name; for anybody else: the current user. Fails if the host offers no sandbox, unless none is
    /// wanted.
    pub(crate) async fn new(name: &str, isolation: Isolation) -> Result<Self> {
        let user = match rustix::process::geteuid().is_root() {
            true => Some(look_up(name).await?),
            false => None,
        };
        let bubblewrap = match isolation {
            Isolation::Sandbox => Some(sandbox::bubblewrap()?),
            Isolation::Server | Isolation::None => None,
        };
        // Without a sandbox the user changes first. In one, root makes it, and then nothing on the way to its folders need be open to
        // that user, nor need users be allowed to make namespaces.
        let changes = match &user {
            Some(user) => Some(become_user(user, bubblewrap.is_some())?),
            None => {
                SETPRIV.as_ref().map(|setpriv| words_of(setpriv, &["--nnp", "--pdeathsig", "KILL", "--"]))
            }
        };
        let (mut outside, mut inside) = (lowered()?, Vec::new());
        match (&bubblewrap, &user) {
            (Some(_), Some(_)) => inside.extend(changes.into_iter().flatten()),
            // Without setpriv, an orphan is only removed by the next drill.
            _ => outside.splice(0..0, changes.into_iter().flatten()).for_each(drop),
        }
        inside.extend(limits()?);
        let runner = Self { outside, inside, bubblewrap, user };
        runner.try_out().await?;
        Ok(runner)
    }

    /// A command that runs the program this way. It does not inherit our environment, which may contain passwords.
    pub(crate) fn command(&self, program: &Path, room: &Room) -> Result<Confined> {
        let filters = self.bubblewrap.as_ref().map(|_| Filters::make()).transpose()?;
        let numbers = filters.as_ref().map(Filters::numbers).unwrap_or_default();
        let words = self.words(program, room, &numbers);
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).env_clear().current_dir("/");
        command.envs(environment());
        Ok(Confined { command, filters })
    }

    fn words(&self, program: &Path, room: &Room, filters: &[i32]) -> Vec<OsString> {
        let mut words = self.outside.clone();
        if let Some(bubblewrap) = &self.bubblewrap {
            words.extend(sandbox::words(bubblewrap, room, filters, self.user.is_some()));
            words.extend(self.inside.iter().cloned());
        }
        // In the sandbox nothing is at other paths than its own.
        let real = self.bubblewrap.as_ref().and_then(|_| program.canonicalize().ok());
        words.push(real.map_or_else(|| program.into(), PathBuf::into_os_string));
        words
    }

    /// A script that runs the program this way, for people. Its filters are written into `folder`, which nobody but us and root may
    /// write.
    pub(crate) fn script(
        &self,
        program: &Path,
        args: &[OsString],
        room: &Room,
        folder: &Path,
    ) -> Result<String> {
        let first: i32 = 8;
        let (mut numbers, mut redirections) = (Vec::new(), String::new());
        if self.bubblewrap.is_some() {
            for (number, path) in (first..).zip(sandbox::write_filters(folder)?) {
                numbers.push(number);
                redirections.push_str(&format!(" {number}<{}", quoted(path.as_os_str())?));
            }
        }
        let mut line = vec!["exec env -i".to_owned()];
        for (name, value) in environment() {
            line.push(quoted(
                &[name.as_os_str(), OsStr::new("="), value.as_os_str()].into_iter().collect::<OsString>(),
            )?);
        }
        for word in self.words(program, room, &numbers).iter().chain(args) {
            line.push(quoted(word)?);
        }
        Ok(format!("#!/bin/sh\n{}{redirections}\n", line.join(" ")))
    }

    /// Runs something that does nothing, because only then it is known whether it can be done at all.
    async fn try_out(&self) -> Result<()> {
        if self.bubblewrap.is_none() {
            return Ok(());
        }
        let mut confined = self.command(&program("true")?, &Room::default())?;
        confined.command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let child = confined.spawn().await?.or_internal("start bwrap")?;
        let output = child.wait_with_output().await.or_internal("wait for bwrap")?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let last = said.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it did not say why");
        Err(sandbox::refused(format!("{} ({})", last.trim(), output.status)))
    }

    /// For people: what to put in front of a command that is to be run as that user.
    pub(crate) fn prefix(&self) -> String {
        self.user.as_ref().map_or_else(String::new, |user| format!("runuser -u {} -- ", user.name))
    }

    /// Gives an open file or folder to the user. By its descriptor: a path could lead elsewhere by now.
    pub(crate) fn give(&self, file: &File) -> Result<()> {
        let Some(user) = &self.user else { return Ok(()) };
        fchown(file, Some(user.uid), Some(user.gid))
            .or_internal(format!("give a file of the drill to user {}", user.name))
    }

    /// Gives a folder and the files in it to the user, the files first. Nobody else has had the folder before.
    pub(crate) fn give_all(&self, folder: &Path) -> Result<()> {
        if self.user.is_none() {
            return Ok(());
        }
        let what = format!("give {} to another user", folder.display());
        let open = |path: &Path| {
            let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
            File::options().read(true).custom_flags(flags.bits().cast_signed()).open(path).or_internal(&what)
        };
        for entry in fs::read_dir(folder).or_internal(&what)? {
            self.give(&open(&entry.or_internal(&what)?.path())?)?;
        }
        self.give(&open(folder)?)
    }

    /// The line of `/etc/passwd` for the user that the programs run as.
    pub(crate) fn passwd(&self) -> String {
        let (uid, gid) = match &self.user {
            Some(user) => (user.uid, user.gid),
            None => (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw()),
        };
        format!("marbre:x:{uid}:{gid}::/nonexistent:/usr/sbin/nologin\n")
    }

    /// Without a sandbox: lets the user pass through `parent`, the folder of drills, whose contents stay private. Folders above it are
    /// not ours to open.
    pub(crate) async fn open_way(&self, parent: &Path) -> Result<()> {
        let (Some(user), None) = (&self.user, &self.bubblewrap) else { return Ok(()) };
        let what = format!("let user {} through {}", user.name, parent.display());
        let meta = fs::metadata(parent).or_internal(&what)?;
        if meta.mode() & 0o777 == 0o700 && meta.uid() == rustix::process::geteuid().as_raw() {
            fs::set_permissions(parent, fs::Permissions::from_mode(0o711)).or_internal(&what)?;
        }
        self.refuse_closed(parent).await
    }

    /// Without a sandbox: fails if the user cannot reach this folder, and names the folder that is closed.
    pub(crate) async fn refuse_closed(&self, folder: &Path) -> Result<()> {
        let (Some(user), None) = (&self.user, &self.bubblewrap) else { return Ok(()) };
        let mut way: Vec<&Path> = folder.ancestors().collect();
        way.reverse();
        let test = program("test")?;
        for step in way {
            // Testing it as that user takes groups, access control lists and mounts into account.
            let mut command = Command::new(&self.outside[0]);
            command.args(&self.outside[1..]).arg(&test).arg("-x").arg(step);
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
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

fn words_of(program: &Path, args: &[&str]) -> Vec<OsString> {
    std::iter::once(program.into()).chain(args.iter().map(OsString::from)).collect()
}

/// Becomes the user, for good. In a sandbox nobody knows groups, and there is nothing that they would open.
fn become_user(user: &User, in_sandbox: bool) -> Result<Vec<OsString>> {
    let setpriv = program("setpriv")?;
    let mut words =
        words_of(&setpriv, &[&format!("--reuid={}", user.uid), &format!("--regid={}", user.gid), "--nnp"]);
    let more: &[&str] = match in_sandbox {
        true => &["--clear-groups", "--bounding-set=-all", "--inh-caps=-all", "--"],
        false => &["--init-groups", "--pdeathsig", "KILL", "--"],
    };
    words.extend(more.iter().map(OsString::from));
    Ok(words)
}

/// A low priority, the first place among those that are killed when memory runs out, and no core dump: it would hold data.
fn lowered() -> Result<Vec<OsString>> {
    let mut words = words_of(&program("nice")?, &["-n", "10"]);
    if let Ok(ionice) = program("ionice") {
        // -t: ignore it if the kernel does not allow it.
        words.extend(words_of(&ionice, &["-t", "-c", "3"]));
    }
    if let Ok(choom) = program("choom") {
        words.extend(words_of(&choom, &["-n", "1000", "--"]));
    }
    words.extend(words_of(&program("prlimit")?, &["--core=0", "--"]));
    Ok(words)
}

/// Limits that are counted in the sandbox only.
fn limits() -> Result<Vec<OsString>> {
    Ok(words_of(&program("prlimit")?, &[MOST_PROCESSES, MOST_MEMORY, "--"]))
}

fn environment() -> Vec<(OsString, OsString)> {
    let mut all = vec![("LC_ALL".into(), "C".into()), ("TZ".into(), "UTC".into())];
    for name in ["PATH", "LD_LIBRARY_PATH"] {
        all.extend(std::env::var_os(name).map(|value| (name.into(), value)));
    }
    all
}

/// A word of a script.
fn quoted(word: &OsStr) -> Result<String> {
    let text = word.to_str().ok_or_else(|| Error::internal("a path of the drill is not UTF-8"))?;
    Ok(shell_word(text))
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
    let remedy = "Install the database's server, which brings a user of its own (postgres, mysql), or name another user for drills with `user`.";
    match (ask("-u").await?, ask("-g").await?) {
        (Some(0), _) => {
            Err(Error::preflight(format!("a database server does not run as {name}, who is root"))
                .remedy(remedy))
        }
        (Some(uid), Some(gid)) => Ok(User { name: name.to_owned(), uid, gid }),
        _ => Err(Error::preflight(format!(
            "there is no user {} on this host to run the throwaway server",
            name.escape_debug()
        ))
        .remedy(remedy)),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;

    use super::*;

    #[tokio::test]
    async fn unknown_users_and_root_are_refused() {
        for bad in ["no-such-user-here", "root", "-x"] {
            let error = look_up(bad).await.unwrap_err();
            assert_eq!(error.kind(), crate::error::ErrorKind::Preflight, "{bad}");
            assert!(error.remedy_text().is_some());
        }
    }

    async fn output(isolation: Isolation, words: &[&str]) -> String {
        let runner = Runner::new("nobody", isolation).await.unwrap();
        let mut confined = runner.command(Path::new(words[0]), &Room::default()).unwrap();
        confined.command.args(&words[1..]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = confined.spawn().await.unwrap().unwrap();
        let output = child.wait_with_output().await.unwrap();
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
    }

    #[tokio::test]
    async fn programs_get_nothing_of_our_environment() {
        for isolation in [Isolation::Sandbox, Isolation::None] {
            for line in output(isolation, &["/usr/bin/env"]).await.lines() {
                let known = ["LC_ALL=", "TZ=", "PATH=", "LD_LIBRARY_PATH=", "PWD="];
                assert!(known.iter().any(|name| line.starts_with(name)), "{line}");
            }
        }
    }

    #[tokio::test]
    async fn nothing_of_the_host_is_in_the_sandbox() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("secret"), "planted").unwrap();
        std::fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
        let secret = folder.path().join("secret").display().to_string();
        assert!(output(Isolation::None, &["/bin/cat", &secret]).await.contains("planted"));
        assert!(output(Isolation::Sandbox, &["/bin/cat", &secret]).await.contains("No such file"));
        let top = output(Isolation::Sandbox, &["/bin/ls", "/"]).await;
        for name in top.split_whitespace() {
            let known = ["bin", "dev", "etc", "lib", "lib32", "lib64", "proc", "sbin", "tmp", "usr", "var"];
            assert!(known.contains(&name), "{name}");
        }
        let processes = output(Isolation::Sandbox, &["/bin/sh", "-c", "echo /proc/[0-9]*"]).await;
        assert!(processes.split_whitespace().count() <= 4, "{processes}");
        let links = output(Isolation::Sandbox, &["/bin/cat", "/proc/net/dev"]).await;
        assert_eq!(
            links.lines().filter(|line| line.contains(':')).count(),
            1,
            "only the loopback device: {links}"
        );
        for refused in ["unshare --user true", "unshare --mount true", "mount -t tmpfs none /tmp"] {
            let said = output(Isolation::Sandbox, &["/bin/sh", "-c", refused]).await;
            assert!(
                said.contains("not permitted")
                    || said.contains("denied")
                    || said.contains("must be superuser"),
                "{refused}: {said}"
            );
        }
    }
}
