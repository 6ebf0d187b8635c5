//! A sandbox for programs that touch restored data, made by bubblewrap.
//!
//! Inside there are namespaces of its own for processes, IPC, network and mounts, and for users unless root makes it: programs and libraries can be
//! read, one folder can be used, `/tmp` and `/dev/shm` are small and its own. Nothing else of the host can be seen: no home, no state,
//! no configuration, no socket, no network. There are no capabilities, no new privileges, no kernel interfaces that such a
//! program does not need ([`seccomp`]), and everything inside, also what detached itself, dies with the sandbox.
//!
//! bubblewrap is what Flatpak runs applications with: <https://github.com/containers/bubblewrap>.

mod seccomp;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use rustix::fs::{MemfdFlags, memfd_create};

use super::programs;
use crate::error::{Error, Result, ResultExt};

/// The largest sum of files in `/tmp`, and in `/dev/shm`, in bytes: they are in memory.
const MEMORY_FILES: &str = "67108864";

/// What a program in the sandbox sees besides the system's programs and libraries.
#[derive(Debug, Clone, Default)]
pub(crate) struct Room {
    /// Folders and files that can be read.
    pub read: Vec<PathBuf>,
    /// Folders that can be written.
    pub write: Vec<PathBuf>,
    /// A file that becomes `/etc/passwd`: some programs must know their user's name.
    pub passwd: Option<PathBuf>,
}

/// A filter of system calls, in a file that the sandbox inherits.
pub(crate) struct Filters(Vec<File>);

impl Filters {
    /// Each start needs its own: it reads them to their end.
    pub(super) fn make() -> Result<Self> {
        let files = seccomp::programs()?.into_iter().map(|program| {
            // Not closed on exec: this is how bubblewrap gets it. It holds no secret, and no other program reads it.
            let memory = memfd_create("marbre-filter", MemfdFlags::empty());
            let mut file = File::from(memory.or_internal("make a file in memory")?);
            file.write_all(&program)
                .and_then(|()| file.seek(SeekFrom::Start(0)))
                .or_internal("write to memory")?;
            Ok(file)
        });
        files.collect::<Result<Vec<File>>>().map(Self)
    }

    /// The numbers of their descriptors.
    pub(super) fn numbers(&self) -> Vec<i32> {
        self.0.iter().map(AsRawFd::as_raw_fd).collect()
    }
}

/// Writes the filters into a folder, for a sandbox that people start by hand. Returns their paths.
pub(crate) fn write_filters(folder: &Path) -> Result<Vec<PathBuf>> {
    let write = |(number, program): (usize, Vec<u8>)| {
        let path = folder.join(format!("filter.{number}"));
        fs::write(&path, program).or_internal(format!("write {}", path.display()))?;
        Ok(path)
    };
    seccomp::programs()?.into_iter().enumerate().map(write).collect()
}

/// The program that makes sandboxes. Fails if it is not installed.
pub(crate) fn bubblewrap() -> Result<PathBuf> {
    programs::find("bwrap").ok_or_else(|| refused("bwrap, which makes the sandbox, was not found in PATH"))
}

/// The error where there can be no sandbox.
pub(crate) fn refused(cause: impl std::fmt::Display) -> Error {
    Error::preflight("drills run in a sandbox, and this host offers none").cause(cause.to_string()).remedy(
        "Install bubblewrap (on Debian the package bubblewrap), and let it make user namespaces (systemd/README.md, docs/CONFIGURATION.md: \
         isolation). Or decide that code in the database may do what marbre's user can: `isolation = \"none\"` in the database's \
         `drills`, with --as-owner `--isolation none`; every record then says so.",
    )
}

/// The words that start a program in the sandbox: they go in front of it. `filters` are descriptors of system call filters. Where
/// root makes it, it needs no namespace of users, and what starts in it must become another user: for that alone it has
/// capabilities.
pub(crate) fn words(bubblewrap: &Path, room: &Room, filters: &[i32], by_root: bool) -> Vec<OsString> {
    let mut words = Words(vec![bubblewrap.into()]);
    // Not --unshare-all: under systemd there may be no right to make a namespace of control groups.
    words.add(["--unshare-pid", "--unshare-net", "--unshare-ipc", "--die-with-parent", "--new-session"]);
    words.add(["--cap-drop", "ALL"]);
    match by_root {
        true => words.add(["--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID", "--cap-add", "CAP_SETPCAP"]),
        false => words.add(["--unshare-user"]),
    }
    system(&mut words);
    words.add(["--proc", "/proc", "--dev", "/dev"]);
    for place in ["/tmp", "/dev/shm"] {
        words.add(["--size", MEMORY_FILES, "--perms", "1777", "--tmpfs", place]);
    }
    if let Some(passwd) = &room.passwd {
        words.bind("--ro-bind", passwd, Path::new("/etc/passwd"));
    }
    words.ways(room.read.iter().chain(&room.write));
    room.read.iter().for_each(|path| words.bind("--ro-bind", path, path));
    room.write.iter().for_each(|path| words.bind("--bind", path, path));
    for number in filters {
        words.add(["--add-seccomp-fd", &number.to_string()]);
    }
    words.add(["--chdir", "/", "--"]);
    words.0
}

/// Programs, libraries, and what they look up. `/bin` and its like are links on merged systems.
fn system(words: &mut Words) {
    words.bind("--ro-bind", Path::new("/usr"), Path::new("/usr"));
    for name in ["/bin", "/sbin", "/lib", "/lib32", "/lib64"] {
        let path = Path::new(name);
        match fs::read_link(path) {
            Ok(link) => words.0.extend(["--symlink".into(), link.into(), path.into()]),
            Err(_) => words.bind("--ro-bind-try", path, path),
        }
    }
    // The last one is where Debian puts the dictionaries of full text search.
    let looked_up =
        ["/etc/ld.so.cache", "/etc/alternatives", "/var/cache/postgresql/dicts"].map(PathBuf::from);
    words.ways(looked_up.iter());
    looked_up.iter().for_each(|path| words.bind("--ro-bind-try", path, path));
}

struct Words(Vec<OsString>);

impl Words {
    fn add<'a>(&mut self, words: impl IntoIterator<Item = &'a str>) {
        self.0.extend(words.into_iter().map(OsString::from));
    }

    /// The folders above these, which everybody may pass through: otherwise only who made the sandbox could.
    fn ways<'a>(&mut self, paths: impl Iterator<Item = &'a PathBuf>) {
        let above: BTreeSet<&Path> = paths.flat_map(|path| path.ancestors().skip(1)).collect();
        // What is there already is not made again: `/`, and `/tmp`.
        for folder in
            above.into_iter().filter(|folder| folder.parent().is_some() && !folder.starts_with("/usr"))
        {
            self.add(["--perms", "0755", "--dir"]);
            self.0.push(folder.into());
        }
    }

    fn bind(&mut self, how: &str, from: &Path, to: &Path) {
        self.0.extend([how.into(), from.into(), to.into()]);
    }
}
