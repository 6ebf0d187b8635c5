//! Room that is kept for the worst moment: on a full disk the agent must still be able to write down that the disk is
//! full, and whom it has told. A file of a few mebibytes takes that room, and is given up piece by piece when a write
//! finds none; it is laid again when there is enough.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rusqlite::{Connection, ErrorCode};
use rustix::fs::FallocateFlags;

use super::State;
use crate::error::{Result, ResultExt};
use crate::system::disk::free;

const FILE: &str = "ballast";
/// How much is kept.
const SIZE: u64 = 4 << 20;
/// How much is given up at a time: whoever else writes to the disk then does not get all of it.
const PIECE: u64 = 1 << 20;
/// The ballast is laid only where so much is left beside it.
const ROOM: u64 = 16 << 20;
/// An error of input and output counts as a full disk where less than this is left.
const NOTHING: u64 = 256 << 10;

impl State {
    /// Lays the ballast where it is not whole and the disk has room for it. Whether it is whole now.
    ///
    /// # Errors
    /// Where the folder cannot be looked at or written to.
    pub fn lay_ballast(&self) -> Result<bool> {
        let path = self.folder.join(FILE);
        let what = format!("lay {}", path.display());
        let have = std::fs::metadata(&path).map_or(0, |m| m.len());
        if have >= SIZE {
            return Ok(true);
        }
        if free(&self.folder).or_internal(&what)? < SIZE - have + ROOM {
            return Ok(false);
        }
        lay(&path).or_internal(&what).map(|()| true)
    }

    /// Writes to the state. Where there is no room, a piece of the ballast is given up, and it is tried again.
    /// `change` must leave nothing half-done when it fails: one statement, or a transaction.
    pub(super) fn write<T>(
        &self,
        what: &str,
        mut change: impl FnMut(&mut Connection) -> rusqlite::Result<T>,
    ) -> Result<T> {
        let mut db = self.db();
        loop {
            match change(&mut db) {
                Err(e) if is_full(&e, &self.folder) && give_up(&self.folder.join(FILE)) => {
                    tracing::warn!("there is no room to {what}: a piece of the ballast is given up");
                }
                done => return done.or_internal(what),
            }
        }
    }
}

fn lay(path: &Path) -> std::io::Result<()> {
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?;
    // Reserved, not only declared: a file with holes takes no room.
    if rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, SIZE).is_ok() {
        return Ok(());
    }
    fill(&file)
}

/// For file systems that cannot reserve.
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

/// Gives up one piece. Whether there was one.
fn give_up(path: &Path) -> bool {
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
        // SQLite does not say of everything why it failed.
        Some(ErrorCode::SystemIoFailure) => free(folder).is_ok_and(|free| free < NOTHING),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    #[test]
    fn the_ballast_takes_room_and_goes_piece_by_piece() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::open(folder.path()).unwrap();
        let path = folder.path().join(FILE);
        assert!(!give_up(&path), "there is none yet");
        assert!(state.lay_ballast().unwrap());
        let stored = std::fs::metadata(&path).unwrap();
        assert_eq!((stored.len(), stored.permissions().mode() & 0o777), (SIZE, 0o600));
        assert!(stored.blocks() * 512 >= SIZE, "it is reserved");
        let pieces = std::iter::repeat_with(|| give_up(&path)).take_while(|gone| *gone).count();
        assert_eq!(pieces as u64, SIZE / PIECE);
        assert!(state.lay_ballast().unwrap());
        assert_eq!(std::fs::metadata(&path).unwrap().blocks() * 512 / SIZE, 1);
        std::fs::remove_file(&path).unwrap();
        let file = File::create(&path).unwrap();
        fill(&file).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().len(), SIZE);
    }

    #[test]
    fn only_a_full_disk_takes_the_ballast() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::open(folder.path()).unwrap();
        state.lay_ballast().unwrap();
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
        assert!(attempt(rusqlite::ffi::SQLITE_FULL, u32::MAX).is_err(), "there is an end to it");
        assert_eq!(length(), 0);
    }
}
