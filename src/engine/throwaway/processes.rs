//! The processes of a throwaway server, also of one whose drill is gone.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open, pidfd_send_signal};

use super::folder::{data, owner};
use crate::error::{Error, Result};

/// The program that makes the sandbox.
const BUBBLEWRAP: &str = "bwrap";

/// How the processes of one server are known where their working folder cannot be seen (root in a container).
#[derive(Debug, Clone)]
pub(crate) struct Signs {
    /// The names of its programs: one of them with the data folder as an argument belongs to the server.
    pub programs: &'static [&'static str],
    /// How the titles of its processes begin, if it gives them any.
    pub title: Option<String>,
}

impl Signs {
    fn names(&self, word: &[u8]) -> bool {
        let name = Path::new(OsStr::from_bytes(word)).file_name();
        name.is_some_and(|name| name == BUBBLEWRAP || self.programs.iter().any(|program| name == *program))
    }
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
    /// its data folder as their working folder.
    fn belongs(&self, folder: &Path, signs: &Signs) -> bool {
        if self.cwd.as_ref().is_some_and(|cwd| cwd.starts_with(folder)) {
            return true;
        }
        if signs.title.as_ref().is_some_and(|title| self.arguments.starts_with(title.as_bytes())) {
            return true;
        }
        let mut words = self.arguments.split(|byte| *byte == 0);
        let program = words.next().unwrap_or_default();
        let data = data(folder);
        let data = data.as_os_str().as_bytes();
        let is_data = |word: &[u8]| {
            word.strip_suffix(data).is_some_and(|before| before.is_empty() || before.ends_with(b"="))
        };
        let is_program =
            signs.names(program) || (runs_others(program) && words.clone().any(|w| signs.names(w)));
        is_program && words.any(is_data)
    }
}

/// A shell that runs a script, or the loader of programs, which is in front of one that has libraries of its own.
fn runs_others(program: &[u8]) -> bool {
    let name = Path::new(OsStr::from_bytes(program)).file_name().unwrap_or_default();
    name == "sh" || name.as_bytes().starts_with(b"ld-")
}

/// The processes of the server in this folder. Those of other users (somebody who looks at the folder) are not.
fn of_server(folder: &Path, signs: &Signs) -> Vec<u32> {
    let owner = owner(folder);
    let ours = std::process::id();
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .filter(|pid| *pid != ours && is_of(*pid, folder, signs, owner))
        .collect()
}

fn is_of(pid: u32, folder: &Path, signs: &Signs, owner: Option<u32>) -> bool {
    Process::read(pid)
        .is_some_and(|process| owner.is_none_or(|uid| uid == process.uid) && process.belongs(folder, signs))
}

fn kill(pid: u32, folder: &Path, signs: &Signs) {
    let Some(process) = Pid::from_raw(pid.cast_signed()) else { return };
    // With a pidfd, the process cannot be confused with a new one between check and signal. It may already be gone.
    match pidfd_open(process, PidfdFlags::empty()) {
        Ok(held) if is_of(pid, folder, signs, owner(folder)) => {
            let _gone = pidfd_send_signal(&held, Signal::KILL);
        }
        Ok(_) | Err(rustix::io::Errno::SRCH) => {}
        Err(_) => drop(kill_process(process, Signal::KILL)),
    }
}

/// The pause between checks for processes that should be gone, and the number of checks.
const LOOK: (Duration, u32) = (Duration::from_millis(50), 400);

/// Ends every process of the server in this folder, and verifies that they are gone.
pub(crate) async fn end(folder: &Path, signs: &Signs) -> Result<()> {
    let (pause, looks) = LOOK;
    let mut left = of_server(folder, signs);
    for _ in 0..looks {
        if left.is_empty() {
            return Ok(());
        }
        left.iter().for_each(|pid| kill(*pid, folder, signs));
        tokio::time::sleep(pause).await;
        left = of_server(folder, signs);
    }
    let pids: Vec<String> = left.iter().map(ToString::to_string).collect();
    Err(Error::internal(format!("the throwaway server in {} does not end", folder.display()))
        .cause(format!("these processes are still there: {}", pids.join(", ")))
        .remedy("End them by hand, then remove the folder: it holds unencrypted data."))
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
        let signs = Signs { programs: &["server", "init"], title: Some("server: this: ".to_owned()) };
        for (cwd, arguments) in [
            (Some("/x/drill.place/data"), "sh"),
            (Some("/x/drill.place/data (deleted)"), "sh"),
            (None, "server: this: checkpointer "),
            (None, "/usr/lib/server/15/bin/server\0-D\0/x/drill.place/data\0"),
            (None, "/usr/sbin/server\0--datadir=/x/drill.place/data\0--x\0"),
            (None, "/r/ld-linux-x86-64.so.2\0--library-path\0/r\0/r/server\0--datadir=/x/drill.place/data\0"),
            (None, "/bin/sh\0/b/init\0--datadir=/x/drill.place/data\0"),
            (None, "bwrap\0--bind\0/x/drill.place/data\0"),
        ] {
            assert!(process(cwd, arguments).belongs(folder, &signs), "{cwd:?} {arguments}");
        }
        for (cwd, arguments) in [
            (Some("/x/drill.place2/data"), "sh"),
            (Some("/x"), "server: checkpointer "),
            (None, "ls\0/x/drill.place/data\0"),
            (None, "sh\0-c\0ls\0/x/drill.place/data\0"),
            (None, "ls\0/b/server\0/x/drill.place/data\0"),
            (None, "/b/server\0-D\0/x/other.place/data\0"),
            (None, "/b/server\0-D\0/y/x/drill.place/data\0"),
            (None, ""),
        ] {
            assert!(!process(cwd, arguments).belongs(folder, &signs), "{cwd:?} {arguments}");
        }
    }

    #[tokio::test]
    async fn nothing_to_end_is_well() {
        let folder = tempfile::tempdir().unwrap();
        let signs = Signs { programs: &["server"], title: None };
        end(&folder.path().join("absent"), &signs).await.unwrap();
    }
}
