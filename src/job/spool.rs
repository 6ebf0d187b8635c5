//! Packs and objects on their way to targets: ciphertext in a folder, bounded in size.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::error::{Error, Result, ResultExt};
use crate::model::id::Sha256;
use crate::pack::pack_writer::{PACK, Sealed};
use crate::state::make_private_folder;

/// The spool of one attempt of a run. The folder of the database is emptied when it is opened: what it contains is left over from
/// an earlier run, because only one job runs per database. It has a folder of its own in there, which is removed when it is
/// dropped: who packs for an attempt that was given up may notice that later than the next one begins.
#[derive(Debug)]
pub(crate) struct Spool {
    folder: PathBuf,
    room: Arc<Semaphore>,
}

/// A pack in the spool. When the last target is done with it, its file is removed and its room is free again.
#[derive(Debug)]
pub(crate) struct SpooledPack {
    /// Its file.
    pub path: PathBuf,
    /// Size of the ciphertext.
    pub size: u64,
    /// Its name.
    pub sha256: Sha256,
    _permit: OwnedSemaphorePermit,
}

impl Spool {
    /// Opens the spool in `folder` for at most `limit` bytes (at least two packs).
    pub(crate) fn open(folder: &Path, limit: u64) -> Result<Self> {
        if folder.exists() {
            std::fs::remove_dir_all(folder).or_internal(format!("empty the spool {}", folder.display()))?;
        }
        let folder = folder.join(format!("{:08x}", rand::random::<u32>()));
        make_private_folder(&folder)?;
        let packs = usize::try_from(limit / (PACK + (2 << 20))).unwrap_or(usize::MAX).clamp(2, 4096);
        Ok(Self { folder, room: Arc::new(Semaphore::new(packs)) })
    }

    /// Where packs are written.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Waits for room for one pack. `full` is called each time `interval` passes without any.
    pub(crate) async fn room(
        &self,
        interval: Duration,
        full: impl Fn(),
        cancel: &CancellationToken,
    ) -> Result<OwnedSemaphorePermit> {
        loop {
            tokio::select! {
                () = cancel.cancelled() => return Err(Error::interrupted()),
                permit = self.room.clone().acquire_owned() => return permit.or_internal("wait for the spool"),
                () = tokio::time::sleep(interval) => full(),
            }
        }
    }
}

impl SpooledPack {
    /// A sealed pack, and the permit for its room.
    pub(crate) fn new(sealed: &Sealed, permit: OwnedSemaphorePermit) -> Self {
        Self { path: sealed.path.clone(), size: sealed.size, sha256: sealed.sha256, _permit: permit }
    }
}

impl Drop for SpooledPack {
    fn drop(&mut self) {
        // If this fails, the next run empties the folder; it is ciphertext.
        let _ = std::fs::remove_file(&self.path);
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
        // That of the database, unless another attempt has begun.
        let _ = self.folder.parent().map(std::fs::remove_dir);
    }
}
