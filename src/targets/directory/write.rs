//! The writing half of the directory target: files that are not whole yet, and the bytes for them.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags, RenameFlags};
use rustix::io::Errno;
use sha2::Digest;

use crate::model::id::Sha256;
use crate::targets::directory::hang::Call;
use crate::targets::upload::Pieces;
use crate::targets::{TargetError, TargetErrorKind, Upload};

/// Where files lie until they are whole. No key starts with a dot, so none can be in there.
pub(super) const TEMPORARY: &str = ".tmp";

/// The lock of whoever gives a file its name, where the file system needs that.
pub(super) const LOCK: &str = "lock";

/// How long to wait before asking for the lock again. It is held for two system calls.
const TURN: Duration = Duration::from_millis(5);

pub(super) const FOLDER: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// How much may wait in this host's memory: a slow network mount is seen to answer while a pack goes out, and does not
/// have to take all of it in one call at the end.
const SYNC_EVERY: usize = 8 << 20;

/// A file that is not whole yet. Goes away when it is dropped before it was placed.
pub(super) struct Temporary {
    folder: OwnedFd,
    name: String,
    pub(super) file: File,
}

impl Temporary {
    pub(super) fn create(root: &OwnedFd) -> Result<Self, Errno> {
        match rustix::fs::mkdirat(root, TEMPORARY, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(e) => return Err(e),
        }
        let folder = rustix::fs::openat(root, TEMPORARY, FOLDER, Mode::empty())?;
        let name = format!("{}-{:016x}", std::process::id(), rand::random::<u64>());
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&folder, &name, flags, Mode::RUSR | Mode::WUSR)?;
        Ok(Self { folder, name, file: File::from(file) })
    }

    /// Gives the file its name, unless that is taken: then `EEXIST`. Never replaces anything. `EOPNOTSUPP` where the file
    /// system cannot promise that: then [`Temporary::place_in_turn`] can.
    pub(super) fn place(&self, folder: BorrowedFd<'_>, name: &str) -> Result<(), Errno> {
        let renamed =
            rustix::fs::renameat_with(&self.folder, &self.name, folder, name, RenameFlags::NOREPLACE);
        match renamed {
            // NFS and some others cannot do that, but have hard links, which do not replace either.
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
                let linked = rustix::fs::linkat(&self.folder, &self.name, folder, name, AtFlags::empty());
                // exFAT, FAT and some mounts of NTFS and SMB have no links either. That they call "not permitted".
                linked.map_err(|e| match e {
                    Errno::PERM | Errno::INVAL | Errno::NOSYS | Errno::MLINK => Errno::OPNOTSUPP,
                    e => e,
                })
            }
            other => other,
        }
    }

    /// The same by taking turns: whoever holds the lock of the target looks whether the name is free, and then takes it. A
    /// lock ends with its process. Of writers on other hosts, only those are kept out whose file system shares locks.
    pub(super) fn place_in_turn(
        &self,
        folder: BorrowedFd<'_>,
        name: &str,
        call: &Call,
        operation: &str,
        fail: &dyn Fn(Errno) -> TargetError,
    ) -> Result<Result<(), Errno>, TargetError> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let turn = rustix::fs::openat(&self.folder, LOCK, flags, Mode::RUSR | Mode::WUSR).map_err(fail)?;
        loop {
            call.step(operation)?;
            match rustix::fs::flock(&turn, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => break,
                Err(Errno::WOULDBLOCK) => call.pause(tokio::time::sleep(TURN)),
                Err(Errno::INTR) => {}
                Err(e) => {
                    let cause =
                        "its file system can neither create names without replacing others, nor lock files";
                    return Err(TargetError {
                        kind: TargetErrorKind::Unsupported,
                        cause: cause.to_owned(),
                        ..fail(e)
                    });
                }
            }
        }
        Ok(match rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) => Err(Errno::EXIST),
            Err(Errno::NOENT) => rustix::fs::renameat(&self.folder, &self.name, folder, name),
            Err(e) => Err(e),
        })
    }
}

impl Temporary {
    /// Gives the file its name, in the place of whatever has that.
    pub(super) fn replace(&self, folder: BorrowedFd<'_>, name: &str) -> Result<(), Errno> {
        rustix::fs::renameat(&self.folder, &self.name, folder, name)
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // After a rename it is not there any more; what cannot be removed is cleared a day later.
        let _ = rustix::fs::unlinkat(&self.folder, &self.name, AtFlags::empty());
    }
}

/// Copies an upload's bytes; returns how many they were, and their hash.
pub(super) fn copy(
    upload: &Upload,
    mut to: &File,
    call: &Call,
    operation: &str,
    fail_writing: &dyn Fn(io::Error) -> TargetError,
) -> Result<(u64, Sha256), TargetError> {
    let mut source = Pieces::open(&upload.body, operation)?;
    let mut hash = sha2::Sha256::new();
    let mut count = 0;
    let mut unsynced = 0;
    while let Some(chunk) = source.next(operation)? {
        call.step(operation)?;
        count += chunk.len() as u64;
        if count > upload.size {
            break;
        }
        hash.update(&chunk);
        if let Some(pace) = &upload.pace {
            call.pause(pace.take(chunk.len() as u64));
        }
        to.write_all(&chunk).map_err(fail_writing)?;
        unsynced += chunk.len();
        if unsynced >= SYNC_EVERY {
            unsynced = 0;
            rustix::fs::fdatasync(to).map_err(|e| fail_writing(e.into()))?;
        }
    }
    Ok((count, Sha256(hash.finalize().into())))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::fd::AsFd;
    use std::path::Path;

    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::targets::directory::files::failure;
    use crate::targets::directory::hang;

    /// Whether this writer's file got the name.
    async fn take(root: &Path, body: u8) -> bool {
        let (at, place, cancel) = (root.to_owned(), root.to_owned(), CancellationToken::new());
        let put = move |call: &Call| {
            let fail = |e: Errno| failure("put x", "x", e);
            let root = rustix::fs::open(&at, FOLDER, Mode::empty()).map_err(fail)?;
            let temporary = Temporary::create(&root).map_err(fail)?;
            (&temporary.file).write_all(&[body; 1000]).unwrap();
            match temporary.place_in_turn(root.as_fd(), "x", call, "put x", &fail)? {
                Ok(()) => Ok(true),
                Err(Errno::EXIST) => Ok(false),
                Err(e) => Err(fail(e)),
            }
        };
        hang::run(&place, "put x".to_owned(), &cancel, put).await.unwrap()
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn of_writers_that_take_turns_one_wins() {
        for _ in 0..20 {
            let root = tempfile::tempdir().unwrap();
            let puts = (1..=8).map(|body| take(root.path(), body));
            let won = futures_util::future::join_all(puts).await;
            assert_eq!(won.iter().filter(|won| **won).count(), 1, "{won:?}");
            let winner = won.iter().position(|won| *won).unwrap() as u8 + 1;
            assert_eq!(std::fs::read(root.path().join("x")).unwrap(), [winner; 1000]);
            let left = std::fs::read_dir(root.path().join(TEMPORARY)).unwrap();
            let left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
            assert_eq!(left, [LOCK], "only the lock stays");
        }
    }
}
