//! The files of a restore: the incomplete one, and how it takes its place.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FlockOperation, OFlags, RenameFlags};

use super::connection::side_file;
use crate::error::{Error, ErrorKind, Result};

/// Opens, locks and empties the incomplete file. From the start, only its owner can read it.
pub(super) fn claim(path: &Path) -> Result<File> {
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
        .open(path)
        .map_err(|e| cannot_write(path, e))?;
    let taken = || {
        Error::new(ErrorKind::Conflict, format!("another restore is writing {}", path.display()))
            .remedy("Wait for it, or name another destination.")
    };
    rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|_| taken())?;
    // A restore that finished between our open and our lock has renamed the file that is now locked.
    let ours = file.metadata().map_err(|e| cannot_write(path, e))?;
    let named = fs::symlink_metadata(path).map_err(|_| taken())?;
    if (ours.dev(), ours.ino()) != (named.dev(), named.ino()) {
        return Err(taken());
    }
    file.set_permissions(fs::Permissions::from_mode(0o600))
        .and_then(|()| file.set_len(0))
        .map_err(|e| cannot_write(path, e))?;
    Ok(file)
}

/// Renames without replacing anything; on file systems that cannot do this atomically, by a second link.
pub(super) fn rename_new(from: &Path, to: &Path) -> std::io::Result<()> {
    match rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => {
            fs::hard_link(from, to)?;
            fs::remove_file(from)
        }
        done => Ok(done?),
    }
}

/// Removes a file that may not exist.
pub(super) fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(cannot_write(path, e)),
        _ => Ok(()),
    }
}

/// Where a log of the old database is while the new one takes its place.
pub(super) fn aside(log: &Path) -> PathBuf {
    side_file(log, ".marbre-old")
}

/// Puts a log aside. Returns whether there was one.
pub(super) fn set_aside(log: &Path) -> Result<bool> {
    match fs::rename(log, aside(log)) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(cannot_write(log, e)),
    }
}

/// Explains why a file could not be written.
pub(super) fn cannot_write(path: &Path, error: std::io::Error) -> Error {
    let remedy = match error.kind() {
        std::io::ErrorKind::PermissionDenied => {
            "Run the restore as a user that may write there, or name another destination."
        }
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
            "Free some space, or name another destination; then run the restore again."
        }
        _ => "Check the file system of the destination; then run the restore again.",
    };
    Error::database(format!("failed to write {}", path.display())).cause(error).remedy(remedy)
}
