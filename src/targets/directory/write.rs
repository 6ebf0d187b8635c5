//! The writing half of the directory target: files that are not whole yet, and the bytes for them.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags};
use rustix::io::Errno;
use sha2::Digest;

use crate::model::id::Sha256;
use crate::targets::directory::hang::Call;
use crate::targets::upload::Pieces;
use crate::targets::{TargetError, Upload};

/// Where files lie until they are whole. No key starts with a dot, so none can be in there.
pub(super) const TEMPORARY: &str = ".tmp";

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

    /// Gives the file its name, unless that is taken: then `EEXIST`. Never replaces anything: a file
    /// system that can promise that in no way is refused.
    pub(super) fn place(&self, folder: BorrowedFd<'_>, name: &str) -> Result<(), Errno> {
        let renamed =
            rustix::fs::renameat_with(&self.folder, &self.name, folder, name, RenameFlags::NOREPLACE);
        match renamed {
            // NFS and some others cannot do that, but have hard links, which do not replace either.
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
                rustix::fs::linkat(&self.folder, &self.name, folder, name, AtFlags::empty())
            }
            other => other,
        }
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
