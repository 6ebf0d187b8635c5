//! One job per database at a time, across processes.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::error::{Error, ErrorKind, Result, ResultExt};
use crate::model::id::DatabaseId;
use crate::state::make_private_folder;

/// Held while a job runs. The kernel releases it with the process, even after `kill -9`.
#[derive(Debug)]
pub(crate) struct Lock(File);

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing the file is not enough: a child process that is just being started shares it until it runs its own
        // program, and would hold the lock for so long. What cannot be unlocked is released with the process.
        let _ = self.0.unlock();
    }
}

impl Lock {
    /// Takes the lock of a job, or says which process holds it.
    pub(crate) fn take(path: &Path, database: &DatabaseId) -> Result<Self> {
        Self::take_as(path, &format!("another job runs for {database}"))
    }

    /// Takes the lock of a whole state: that of its folder, which cannot be removed from under its holder as a file in it can.
    /// (The file of the state itself is SQLite's to lock: closing it here would end SQLite's locks.) `file` says who holds it,
    /// and is the lock where a file system cannot lock folders; `taken` is the error message if another process holds it.
    pub(crate) fn take_folder(folder: &Path, file: &Path, taken: &str) -> Result<[Option<Self>; 2]> {
        make_private_folder(folder)?;
        let opened = File::open(folder).or_internal(format!("lock {}", folder.display()))?;
        let of_folder = match opened.try_lock() {
            Ok(()) => Some(Self(opened)),
            Err(std::fs::TryLockError::WouldBlock) => {
                let holder = std::fs::read_to_string(file).unwrap_or_default();
                return Err(held(taken, &holder, folder));
            }
            Err(std::fs::TryLockError::Error(_)) => None,
        };
        Ok([of_folder, Some(Self::take_as(file, taken)?)])
    }

    /// Takes a lock; `taken` is the error message if another process holds it.
    pub(crate) fn take_as(path: &Path, taken: &str) -> Result<Self> {
        if let Some(folder) = path.parent() {
            make_private_folder(folder)?;
        }
        let what = format!("lock {}", path.display());
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .or_internal(&what)?;
        match file.try_lock() {
            Ok(()) => {
                file.set_len(0).or_internal(&what)?;
                writeln!(file, "{}", std::process::id()).or_internal(&what)?;
                Ok(Self(file))
            }
            Err(std::fs::TryLockError::WouldBlock) => {
                let mut holder = String::new();
                let _ = file.rewind().and_then(|()| file.read_to_string(&mut holder));
                Err(held(taken, &holder, path))
            }
            Err(std::fs::TryLockError::Error(e)) => Err(e).or_internal(&what),
        }
    }
}

/// `holder` is what the holder wrote about itself, if it can still be read.
fn held(taken: &str, holder: &str, what: &Path) -> Error {
    let process = match holder.trim() {
        "" => "another process".to_owned(),
        number => format!("process {number}"),
    };
    Error::new(ErrorKind::Conflict, taken)
        .cause(format!("{process} holds {}", what.display()))
        .remedy("Wait until it is done; a lock never outlives its process.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_free_at_once_although_a_child_being_started_shares_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let (path, database) = (folder.path().join("locks/x"), "gazette/abonnes".parse().unwrap());
        let lock = Lock::take(&path, &database).unwrap();
        assert_eq!(Lock::take(&path, &database).unwrap_err().kind(), ErrorKind::Conflict);
        let of_the_child = lock.0.try_clone().unwrap();
        drop(lock);
        Lock::take(&path, &database).unwrap();
        drop(of_the_child);
    }

    #[test]
    fn a_state_is_held_also_when_what_is_in_it_was_removed() {
        let folder = tempfile::tempdir().unwrap();
        let take = || Lock::take_folder(folder.path(), &folder.path().join("locks/daemon"), "taken");
        let held = take().unwrap();
        let cause = |e: Error| e.cause_text().unwrap_or_default().to_owned();
        assert!(cause(take().unwrap_err()).starts_with(&format!("process {} holds", std::process::id())));
        std::fs::remove_dir_all(folder.path().join("locks")).unwrap();
        let refused = take().unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Conflict);
        assert!(cause(refused).starts_with("another process holds"));
        drop(held);
        take().unwrap();
    }
}
