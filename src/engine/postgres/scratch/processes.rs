//! What a throwaway server may leave behind: processes and a segment of shared memory.

use std::fs;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::Stdio;

use tokio::process::Command;

use crate::engine::postgres::sqlstate::meaning;
pub(crate) use crate::engine::throwaway::folder::remove_folder;
use crate::engine::throwaway::folder::{open_regular, owner};
use crate::engine::throwaway::processes::{self, Signs};
use crate::error::{Error, Result, ResultExt};
use crate::system::programs::program;

/// The server's name in the titles of its processes, derived from the folder, so that a later run recognizes it too.
pub(crate) fn cluster_name(folder: &Path) -> String {
    let hash = blake3::hash(folder.as_os_str().as_bytes());
    format!("marbre_{}", &hash.to_hex()[..16])
}

/// How the processes of the server in this folder are known.
pub(crate) fn signs(folder: &Path) -> Signs {
    Signs { programs: &["postgres", "initdb"], title: Some(format!("postgres: {}: ", cluster_name(folder))) }
}

/// Ends every process of the server in this folder, and verifies that they are gone.
pub(crate) async fn end(folder: &Path) -> Result<()> {
    processes::end(folder, &signs(folder)).await
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn titles_name_the_server() {
        let signs = signs(Path::new("/x/drill.place"));
        assert_eq!(
            signs.title.unwrap(),
            format!("postgres: {}: ", cluster_name(Path::new("/x/drill.place")))
        );
        assert_ne!(cluster_name(Path::new("/x/drill.place")), cluster_name(Path::new("/x/drill.place2")));
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
}
