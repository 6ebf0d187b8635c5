//! The writing half of the directory target: files that are not whole yet, and the bytes for them.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{BorrowedFd, OwnedFd};

use bytes::Bytes;
use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags};
use rustix::io::Errno;
use sha2::Digest;

use crate::model::id::Sha256;
use crate::target::disk::{CHUNK, FOLDER, TEMPORARY};
use crate::target::hang::Call;
use crate::target::{Body, TargetError, TargetErrorKind, Upload};

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
    fail_writing: &dyn Fn(Errno) -> TargetError,
) -> Result<(u64, Sha256), TargetError> {
    let mut source = Source::open(&upload.body, operation)?;
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
        to.write_all(&chunk).map_err(|e| fail_writing(Errno::from_io_error(&e).unwrap_or(Errno::IO)))?;
        unsynced += chunk.len();
        if unsynced >= SYNC_EVERY {
            unsynced = 0;
            rustix::fs::fdatasync(to).map_err(fail_writing)?;
        }
    }
    Ok((count, Sha256(hash.finalize().into())))
}

/// An upload's bytes, piece by piece.
pub(super) enum Source {
    Memory(Bytes),
    File(File, Vec<u8>),
}

impl Source {
    pub(super) fn open(body: &Body, operation: &str) -> Result<Self, TargetError> {
        match body {
            Body::Memory(bytes) => Ok(Self::Memory(bytes.clone())),
            Body::File(path) => File::open(path)
                .map(|file| Self::File(file, vec![0; CHUNK]))
                .map_err(|e| spool_failure(operation, &e)),
        }
    }

    /// The next piece, of at most [`CHUNK`] bytes; `None` at the end.
    pub(super) fn next(&mut self, operation: &str) -> Result<Option<Bytes>, TargetError> {
        match self {
            Self::Memory(rest) if rest.is_empty() => Ok(None),
            Self::Memory(rest) => Ok(Some(rest.split_to(CHUNK.min(rest.len())))),
            Self::File(file, buffer) => match file.read(buffer) {
                Ok(0) => Ok(None),
                Ok(n) => Ok(Some(Bytes::copy_from_slice(&buffer[..n]))),
                Err(e) => Err(spool_failure(operation, &e)),
            },
        }
    }
}

/// The spool is on this host: a file that cannot be read there is no fault of the target, and does not
/// come back by trying again.
fn spool_failure(operation: &str, e: &std::io::Error) -> TargetError {
    TargetError::new(
        TargetErrorKind::Unsupported,
        operation,
        format!("spooled file on this host cannot be read: {e}"),
    )
}
