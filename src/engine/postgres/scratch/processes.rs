//! What a throwaway server may leave behind: processes and a segment of shared memory.

use std::fs::{self, OpenOptions};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open, pidfd_send_signal};
use tokio::process::Command;

use crate::engine::postgres::sqlstate::meaning;
use crate::error::{Error, Result, ResultExt};
use crate::system::programs::program;

/// The server's name in the titles of its processes, derived from the folder, so that a later run recognizes it too.
pub(crate) fn cluster_name(folder: &Path) -> String {
    let hash = blake3::hash(folder.as_os_str().as_bytes());
    format!("marbre_{}", &hash.to_hex()[..16])
}

/// The relevant facts about a process.
struct Process {
    /// Its working folder, if we may see it.
    cwd: Option<PathBuf>,
    /// Its arguments, or its title.
    arguments: Vec<u8>,
    uid: u32,
}

impl Process {
    fn read(pid: u32) -> Option<Self> {
        let place = PathBuf::from(format!("/proc/{pid}"));
        let uid = fs::metadata(&place).ok()?.uid();
        let cwd = fs::read_link(place.join("cwd")).ok();
        let arguments = fs::read(place.join("cmdline")).unwrap_or_default();
        Some(Self { cwd, arguments, uid })
    }

    /// Whether it belongs to the server in this folder: the server's own processes, and everything that they start, have
    /// its data folder as their working folder. If we may not see that (root in a container), the name tells.
    fn belongs(&self, folder: &Path) -> bool {
        if self.cwd.as_ref().is_some_and(|cwd| cwd.starts_with(folder)) {
            return true;
        }
        let title = format!("postgres: {}: ", cluster_name(folder));
        if self.arguments.starts_with(title.as_bytes()) {
            return true;
        }
        let mut words = self.arguments.split(|byte| *byte == 0);
        let program = words.next().unwrap_or_default();
        let program = Path::new(std::ffi::OsStr::from_bytes(program)).file_name();
        let data = folder.join("data");
        program.is_some_and(|name| name == "postgres" || name == "initdb" || name == "bwrap")
            && words.any(|word| word == data.as_os_str().as_bytes())
    }
}

/// The processes of the server in this folder. Those of other users (somebody who looks at the folder) are not.
fn of_server(folder: &Path) -> Vec<u32> {
    let owner = owner(folder);
    let ours = std::process::id();
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .filter(|pid| *pid != ours && is_of(*pid, folder, owner))
        .collect()
}

/// The user that the server runs as: its data belong to it.
fn owner(folder: &Path) -> Option<u32> {
    fs::symlink_metadata(folder.join("data")).ok().map(|meta| meta.uid())
}

fn is_of(pid: u32, folder: &Path, owner: Option<u32>) -> bool {
    Process::read(pid)
        .is_some_and(|process| owner.is_none_or(|uid| uid == process.uid) && process.belongs(folder))
}

fn kill(pid: u32, folder: &Path) {
    let Some(process) = Pid::from_raw(pid.cast_signed()) else { return };
    // With a pidfd, the process cannot be confused with a new one between check and signal. It may already be gone.
    match pidfd_open(process, PidfdFlags::empty()) {
        Ok(held) if is_of(pid, folder, owner(folder)) => drop(pidfd_send_signal(&held, Signal::KILL)),
        Ok(_) | Err(rustix::io::Errno::SRCH) => {}
        Err(_) => drop(kill_process(process, Signal::KILL)),
    }
}

/// The pause between checks for processes that should be gone, and the number of checks.
const LOOK: (Duration, u32) = (Duration::from_millis(50), 400);

/// Ends every process of the server in this folder, and verifies that they are gone.
pub(crate) async fn end(folder: &Path) -> Result<()> {
    let (pause, looks) = LOOK;
    let mut left = of_server(folder);
    for _ in 0..looks {
        if left.is_empty() {
            return Ok(());
        }
        left.iter().for_each(|pid| kill(*pid, folder));
        tokio::time::sleep(pause).await;
        left = of_server(folder);
    }
    let pids: Vec<String> = left.iter().map(ToString::to_string).collect();
    Err(Error::internal(format!("the throwaway server in {} does not end", folder.display()))
        .cause(format!("these processes are still there: {}", pids.join(", ")))
        .remedy("End them by hand, then remove the folder: it holds unencrypted data."))
}

/// The small segment of System V shared memory by which servers exclude each other. A killed server leaves it behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Segment {
    key: u32,
    id: u32,
    creator: u32,
    /// The owner of the server's data: code in the server may write to its lock file, so only this user's segments count.
    owner: u32,
}

impl Segment {
    /// The segment of the server in this folder, according to its lock file, if there is one.
    pub(super) fn of(folder: &Path) -> Option<Self> {
        let file = open_regular(&folder.join("data/postmaster.pid")).ok()?;
        let mut text = String::new();
        file.take(4096).read_to_string(&mut text).ok()?;
        Self::parse(&text, owner(folder)?)
    }

    fn parse(text: &str, owner: u32) -> Option<Self> {
        let mut lines = text.lines();
        let creator = lines.next()?.trim().parse().ok()?;
        let mut words = lines.nth(5)?.split_whitespace();
        let key: u64 = words.next()?.parse().ok()?;
        // The kernel's keys are 32 bits wide, whatever sign they are written with.
        Some(Self { key: (key & 0xffff_ffff) as u32, id: words.next()?.parse().ok()?, creator, owner })
    }

    /// Whether the kernel's list still has it: the same key, made by the same process, of the server's user.
    fn is_in(&self, list: &str) -> bool {
        list.lines().skip(1).any(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let number = |at: usize| words.get(at).and_then(|word| word.parse::<i64>().ok());
            let wanted = [i64::from(self.key.cast_signed()), i64::from(self.id), i64::from(self.creator)];
            [number(0), number(1), number(4)] == wanted.map(Some) && number(7) == Some(i64::from(self.owner))
        })
    }

    /// Whether it is still there.
    pub(super) fn is_there(&self) -> bool {
        fs::read_to_string("/proc/sysvipc/shm").is_ok_and(|list| self.is_in(&list))
    }

    /// Removes it, if it is still there. The server's processes have ended before.
    pub(super) async fn remove(&self) -> Result<()> {
        if !self.is_there() {
            return Ok(());
        }
        let mut command = Command::new(program("ipcrm")?);
        command
            .args(["-m", &self.id.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let _status = command.kill_on_drop(true).status().await.or_internal("run ipcrm")?;
        match self.is_there() {
            false => Ok(()),
            true => Err(Error::internal("the throwaway server's segment of shared memory is still there")
                .remedy(format!("Remove it by hand: ipcrm -m {}", self.id))),
        }
    }
}

/// The path as the kernel shows it in `/proc`, even if its last part does not exist (any more).
pub(crate) fn real_path(folder: &Path) -> PathBuf {
    if let Ok(real) = folder.canonicalize() {
        return real;
    }
    let absolute = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
    match (absolute.parent().map(Path::canonicalize), absolute.file_name()) {
        (Some(Ok(parent)), Some(name)) => parent.join(name),
        _ => absolute,
    }
}

/// The beginning of each message in the log of a throwaway server: the error's code, which no text of a message can put
/// at the beginning of a line, because the server indents what follows the first one.
pub(crate) const LOG_PREFIX: &str = "%e ";

/// The last serious problem in a server's log, by its code. The texts are not told: code of the database writes there too.
pub(crate) fn trouble(log: &[u8]) -> Option<String> {
    String::from_utf8_lossy(log).lines().rev().find_map(|line| {
        let (code, message) = line.split_once(' ')?;
        let severity = ["FATAL", "PANIC"].into_iter().find(|word| message.starts_with(&format!("{word}:")));
        let severity = severity.or_else(|| code.starts_with("53").then_some("LOG"))?;
        Some(format!("{} ({severity}, SQLSTATE {code})", meaning(code)?))
    })
}

/// The last message of the log about a failure, in a log to which nothing but the server's own programs has written.
pub(crate) fn last_message(log: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(log).into_owned();
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let fatal = |line: &&&str| ["FATAL:", "PANIC:", "error:"].iter().any(|word| line.contains(word));
    // The last lines of initdb only say that a program of its ended, and that it removes what it made.
    let says_why =
        |line: &&&str| !line.starts_with("initdb: removing ") && !line.starts_with("child process ");
    let last = lines.iter().rfind(fatal).or(lines.iter().rfind(says_why)).or(lines.last())?;
    let last = match (last.find("FATAL:"), last.find("PANIC:")) {
        (Some(at), _) | (None, Some(at)) => &last[at..],
        (None, None) => last,
    };
    Some(last.chars().filter(|c| !c.is_control()).take(400).collect())
}

/// Opens a file in a folder where the server's user may write: it must be neither a link nor a pipe.
fn open_regular(path: &Path) -> std::io::Result<fs::File> {
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    let file = OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(std::io::Error::other("not a regular file")),
    }
}

/// The end of a file, of limited size: the relevant part of a log.
pub(crate) fn tail(path: &Path) -> Vec<u8> {
    use std::io::{Seek, SeekFrom};
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = open_regular(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(16 * 1024)))?;
        let mut bytes = Vec::new();
        file.take(16 * 1024).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    read().unwrap_or_default()
}

/// Removes a folder with everything in it, and verifies that it is gone.
pub(crate) async fn remove_folder(folder: &Path) -> Result<()> {
    let path = folder.to_owned();
    let removed = tokio::task::spawn_blocking(move || fs::remove_dir_all(path)).await;
    let cause = match removed.or_internal("remove a folder")? {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => e.to_string(),
        _ if fs::symlink_metadata(folder).is_err() => return Ok(()),
        _ => "it is still there".to_owned(),
    };
    Err(Error::internal(format!("failed to remove {}", folder.display()))
        .cause(cause)
        .remedy("Remove it by hand: it holds unencrypted data."))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(cwd: Option<&str>, arguments: &str) -> Process {
        Process { cwd: cwd.map(PathBuf::from), arguments: arguments.as_bytes().to_vec(), uid: 1 }
    }

    #[test]
    fn only_processes_of_the_server_belong_to_it() {
        let folder = Path::new("/x/drill.place");
        let title = format!("postgres: {}: checkpointer ", cluster_name(folder));
        for (cwd, arguments) in [
            (Some("/x/drill.place/data"), "sh"),
            (Some("/x/drill.place/data (deleted)"), "sh"),
            (None, title.as_str()),
            (None, "/usr/lib/postgresql/15/bin/postgres\0-D\0/x/drill.place/data\0"),
            (None, "/b/initdb\0-D\0/x/drill.place/data\0"),
        ] {
            assert!(process(cwd, arguments).belongs(folder), "{cwd:?} {arguments}");
        }
        for (cwd, arguments) in [
            (Some("/x/drill.place2/data"), "sh"),
            (Some("/x"), "postgres: checkpointer "),
            (None, "ls\0/x/drill.place/data\0"),
            (None, "/b/postgres\0-D\0/x/other.place/data\0"),
            (None, ""),
        ] {
            assert!(!process(cwd, arguments).belongs(folder), "{cwd:?} {arguments}");
        }
    }

    #[test]
    fn segments_are_known_by_key_number_and_creator() {
        let lock = "4711\n/x/data\n1700000000\n5432\n/x/s\n\n3489661033        65\nready   \n";
        let segment = Segment::parse(lock, 105).unwrap();
        assert_eq!(segment, Segment { key: 3_489_661_033, id: 65, creator: 4711, owner: 105 });
        let list = |key: &str, id: u32, creator: u32| {
            format!(
                "       key      shmid perms  size  cpid  lpid nattch uid\n{key} {id}   600 56 {creator} 1 0 105\n"
            )
        };
        assert!(segment.is_in(&list("-805306263", 65, 4711)));
        assert!(!segment.is_in(&list("-805306263", 66, 4711)));
        assert!(!segment.is_in(&list("-805306263", 65, 4712)));
        let of_root = Segment { owner: 0, ..segment };
        assert!(!of_root.is_in(&list("-805306263", 65, 4711)), "another user's is none of ours");
        assert_eq!(Segment::parse("4711\n/x/data\n", 105), None);
    }

    #[test]
    fn trouble_is_told_by_its_code() {
        let log = "00000 LOG:  starting\n53100 PANIC:  could not write to file \"x\"\n\t57P01 FATAL:  Dupont\n\
            00000 LOG:  FATAL:  Dupont\nP0001 LOG:  Dupont\n";
        assert_eq!(
            trouble(log.as_bytes()).unwrap(),
            "no space is left on the server's disk (PANIC, SQLSTATE 53100)"
        );
        assert_eq!(trouble(b"00000 LOG:  No space left on device\nAB123 FATAL:  Dupont\n"), None);
    }

    #[test]
    fn logs_end_with_a_reason() {
        let log = "creating\n2026-01-01 UTC [1] LOG:  could not bind\n2026-01-01 UTC [1] FATAL:  no sockets\n\
            child process exited with exit code 1\ninitdb: removing data directory\n";
        assert_eq!(last_message(log.as_bytes()).unwrap(), "FATAL:  no sockets");
        let log = "sh: 1: cannot create /dev/null: Permission denied\nchild process exited with exit code 2\n\
            initdb: removing contents of data directory \"/d\"\n";
        assert_eq!(
            last_message(log.as_bytes()).unwrap(),
            "sh: 1: cannot create /dev/null: Permission denied"
        );
        assert_eq!(last_message(b"a\nb\n\n").unwrap(), "b");
        assert_eq!(last_message(b""), None);
    }

    #[tokio::test]
    async fn nothing_to_end_is_well() {
        let folder = tempfile::tempdir().unwrap();
        end(&folder.path().join("absent")).await.unwrap();
        remove_folder(&folder.path().join("absent")).await.unwrap();
    }
}
