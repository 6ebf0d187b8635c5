//! The files of a restore: the incomplete one, and how it takes its place.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FlockOperation, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

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
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Err(Errno::WOULDBLOCK) => return Err(taken()),
        // Where there are no locks, nobody can be kept away.
        Err(Errno::NOTSUP | Errno::NOSYS | Errno::NOLCK | Errno::INVAL) => {}
        locked => locked.map_err(|e| cannot_write(path, e.into()))?,
    }
    // A restore that finished between our open and our lock has renamed the file that is now locked.
    let ours = file.metadata().map_err(|e| cannot_write(path, e))?;
    let named = fs::symlink_metadata(path).map_err(|_| taken())?;
    if (ours.dev(), ours.ino()) != (named.dev(), named.ino()) {
        return Err(taken());
    }
    set_mode(&file, 0o600).and_then(|_| file.set_len(0)).map_err(|e| cannot_write(path, e))?;
    Ok(file)
}

/// Sets the mode of a file. Returns the mode that it has if that is another one: file systems such as exFAT, NTFS and CIFS keep none.
pub(super) fn set_mode(file: &File, mode: u32) -> std::io::Result<Option<u32>> {
    match rustix::fs::fchmod(file, Mode::from_raw_mode(mode)) {
        Err(Errno::PERM | Errno::ACCESS | Errno::NOTSUP | Errno::NOSYS) | Ok(()) => {}
        Err(e) => return Err(e.into()),
    }
    let found = file.metadata()?.mode() & 0o777;
    Ok((found != mode).then_some(found))
}

/// Says that a file has another mode than it should.
pub(super) fn other_mode(path: &Path, wanted: u32, found: u32) -> String {
    format!(
        "the file system of {} keeps no modes: the restored database has mode {found:03o} instead of {wanted:03o}, and whoever may look \
         there can read it",
        path.display()
    )
}

/// Renames without replacing anything.
pub(super) fn rename_new(from: &Path, to: &Path) -> std::io::Result<()> {
    match rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => rename_over_own(from, to),
        done => Ok(done?),
    }
}

/// The same on file systems that cannot do this in one step, and may have no second links either: takes the name with an empty file,
/// and replaces that.
fn rename_over_own(from: &Path, to: &Path) -> std::io::Result<()> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(to)?;
    fs::rename(from, to)
}

/// Makes what was renamed in this folder last. Some file systems have nothing to do for that, and say so.
pub(super) fn sync_folder(folder: &Path) -> Result<()> {
    let synced = File::open(folder).and_then(|open| match rustix::fs::fsync(&open) {
        Err(Errno::INVAL | Errno::NOTSUP | Errno::NOSYS | Errno::BADF) => Ok(()),
        synced => Ok(synced?),
    });
    synced.map_err(|e| cannot_write(folder, e))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_atomic_renames_nothing_is_replaced_either() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        fs::write(&from, "new").unwrap();
        fs::write(&to, "old").unwrap();
        assert_eq!(rename_over_own(&from, &to).unwrap_err().kind(), std::io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&to).unwrap(), b"old");
        fs::remove_file(&to).unwrap();
        rename_over_own(&from, &to).unwrap();
        assert_eq!((fs::read(&to).unwrap(), from.exists()), (b"new".to_vec(), false));
    }

    #[test]
    fn a_mode_that_is_not_kept_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let file = File::create(folder.path().join("file")).unwrap();
        assert_eq!(set_mode(&file, 0o640).unwrap(), None);
        // The kernel's files of a process keep their modes, whoever asks.
        let kept = File::options().write(true).open("/proc/self/comm").unwrap();
        assert_eq!(set_mode(&kept, 0o600).unwrap(), Some(0o644));
    }
}
