//! A ballast file, as databases call a file that reserves disk space for emergencies: on a full disk the agent must
//! still be able to record that the disk is full, and whom it has notified. The file is released piece by piece when a
//! write finds no space, and is created again when there is enough.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rusqlite::{Connection, ErrorCode};
use rustix::fs::FallocateFlags;

use super::State;
use crate::error::{Result, ResultExt};
use crate::system::disk::free;

const FILE: &str = "ballast";
/// How much is reserved.
const SIZE: u64 = 4 << 20;
/// How much is released at a time, so that other writers do not get all of it.
const PIECE: u64 = 1 << 20;
/// The ballast is only created if this much space remains.
const ROOM: u64 = 16 << 20;
/// An I/O error counts as a full disk if less space than this is left.
const NOTHING: u64 = 256 << 10;

impl State {
    /// Creates or completes the ballast if the disk has room for it. Returns whether it is complete now.
    ///
    /// # Errors
    /// If the folder cannot be read or written.
    pub(crate) fn ensure_ballast(&self) -> Result<bool> {
        let path = self.folder.join(FILE);
        let what = format!("create {}", path.display());
        let have = std::fs::metadata(&path).map_or(0, |m| m.len());
        if have >= SIZE {
            return Ok(true);
        }
        if free(&self.folder).or_internal(&what)? < SIZE - have + ROOM {
            return Ok(false);
        }
        allocate(&path).or_internal(&what).map(|()| true)
    }

    /// Writes to the state. If there is no space, a piece of the ballast is released and the write is retried.
    /// `change` must leave nothing half-done when it fails: one statement, or a transaction.
    pub(super) fn write<T>(
        &self,
        what: &str,
        mut change: impl FnMut(&mut Connection) -> rusqlite::Result<T>,
    ) -> Result<T> {
        let mut db = self.db();
        loop {
            match change(&mut db) {
                Err(e) if is_full(&e, &self.folder) && release(&self.folder.join(FILE)) => {
                    tracing::warn!(
                        "there is no disk space to {what}: a piece of the ballast file is released"
                    );
                }
                done => return done.or_internal(what),
            }
        }
    }
}

fn allocate(path: &Path) -> std::io::Result<()> {
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?;
    // Allocated, not only sized: a sparse file takes no space.
    if rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, SIZE).is_ok() {
        return Ok(());
    }
    fill(&file)
}

/// For file systems that cannot allocate.
fn fill(mut file: &File) -> std::io::Result<()> {
    use std::io::{Seek, SeekFrom, Write};
    let at = file.seek(SeekFrom::End(0))?;
    // Not zeros, which some file systems do not store.
    let noise: Vec<u8> = (0..PIECE).map(|_| rand::random::<u8>()).collect();
    let mut left = SIZE.saturating_sub(at);
    while left > 0 {
        let piece = noise.get(..usize::try_from(left.min(PIECE)).unwrap_or(0)).unwrap_or_default();
        file.write_all(piece)?;
        left -= piece.len() as u64;
    }
    file.sync_all()
}

/// Releases one piece. Returns whether there was one.
fn release(path: &Path) -> bool {
    let shorten = || -> std::io::Result<bool> {
        let file = OpenOptions::new().write(true).open(path)?;
        let length = file.metadata()?.len();
        file.set_len(length.saturating_sub(PIECE))?;
        Ok(length > 0)
    };
    shorten().unwrap_or(false)
}

fn is_full(e: &rusqlite::Error, folder: &Path) -> bool {
    match e.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => true,
        // SQLite does not always report the reason.
        Some(ErrorCode::SystemIoFailure) => free(folder).is_ok_and(|free| free < NOTHING),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    #[test]
    fn the_ballast_takes_space_and_is_released_piece_by_piece() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::open(folder.path()).unwrap();
        let path = folder.path().join(FILE);
        assert!(!release(&path), "there is none yet");
        assert!(state.ensure_ballast().unwrap());
        let stored = std::fs::metadata(&path).unwrap();
        assert_eq!((stored.len(), stored.permissions().mode() & 0o777), (SIZE, 0o600));
        assert!(stored.blocks() * 512 >= SIZE, "it is reserved");
        let pieces = std::iter::repeat_with(|| release(&path)).take_while(|gone| *gone).count();
        assert_eq!(pieces as u64, SIZE / PIECE);
        assert!(state.ensure_ballast().unwrap());
        assert_eq!(std::fs::metadata(&path).unwrap().blocks() * 512 / SIZE, 1);
        std::fs::remove_file(&path).unwrap();
        let file = File::create(&path).unwrap();
        fill(&file).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().len(), SIZE);
    }

    #[test]
    fn only_a_full_disk_releases_the_ballast() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::open(folder.path()).unwrap();
        state.ensure_ballast().unwrap();
        let length = || std::fs::metadata(folder.path().join(FILE)).unwrap().len();
        let mut tries = 0;
        let error = |code| rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(code), None);
        let mut attempt = |code, enough: u32| {
            tries = 0;
            state.write("try", |_| {
                tries += 1;
                if tries > enough { Ok(tries) } else { Err(error(code)) }
            })
        };
        assert!(attempt(rusqlite::ffi::SQLITE_BUSY, 1).is_err());
        assert!(attempt(rusqlite::ffi::SQLITE_IOERR, 1).is_err(), "this disk is not full");
        assert_eq!(length(), SIZE);
        assert_eq!(attempt(rusqlite::ffi::SQLITE_FULL, 2).unwrap(), 3);
        assert_eq!(length(), SIZE - 2 * PIECE);
        assert!(attempt(rusqlite::ffi::SQLITE_FULL, u32::MAX).is_err(), "it does not retry forever");
        assert_eq!(length(), 0);
    }
}
