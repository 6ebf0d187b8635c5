//! An archive in memory: `pg_restore` seeks in it, and nothing in plaintext may touch the disk.

use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use tokio_util::sync::CancellationToken;

use crate::engine::StreamReceiver;
use crate::error::{Error, Result, ResultExt};
use crate::model::human;
use crate::model::observer::LoadObserver;
use crate::system::memory;

/// The part of the free memory that an archive may take, with what `pg_restore` makes of it: about three times its size.
const SHARE: u64 = 4;

/// An archive in memory.
pub(crate) struct Archive(File);

impl Archive {
    /// Fails if this machine has no room for an archive of this length.
    pub(super) fn require_room(length: u64) -> Result<()> {
        match memory::available() {
            Some(free) if length > free / SHARE => Err(Error::preflight(format!(
                "the snapshot's schema of {} is too large for the memory of this machine, of which {} are free",
                human::bytes(length),
                human::bytes(free)
            ))
            .remedy(format!(
                "Restore on a machine with {} of free memory: `pg_restore` holds all of it.",
                human::bytes(length * SHARE)
            ))),
            _ => Ok(()),
        }
    }

    /// Reads a whole stream.
    pub(super) async fn receive(
        mut stream: StreamReceiver,
        observer: &dyn LoadObserver,
        cancel: &CancellationToken,
    ) -> Result<Self> {
        let mut file = anonymous("marbre-schema")?;
        while let Some(bytes) = next(&mut stream, cancel).await? {
            file.write_all(&bytes).or_internal("write to memory")?;
            observer.bytes(bytes.len() as u64);
        }
        let seals = SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE | SealFlags::SEAL;
        fcntl_add_seals(&file, seals).or_internal("seal a file in memory")?;
        Ok(Self(file))
    }

    /// It, as the input of a program. By the name `/dev/stdin`, each job can open it again and seek in it.
    pub(super) fn stdin(&self) -> Result<OwnedFd> {
        Ok(self.0.try_clone().or_internal("share a file in memory")?.into())
    }
}

fn anonymous(name: &str) -> Result<File> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let fd = memfd_create(name, flags).or_internal("make a file in memory")?;
    Ok(File::from(fd))
}

/// Some bytes as a file.
pub(crate) fn in_memory(name: &str, bytes: &[u8]) -> Result<File> {
    let mut file = anonymous(name)?;
    file.write_all(bytes).or_internal("write to memory")?;
    Ok(file)
}

/// The next bytes of a stream, unless the run is cancelled.
pub(crate) async fn next(
    stream: &mut StreamReceiver,
    cancel: &CancellationToken,
) -> Result<Option<bytes::Bytes>> {
    tokio::select! {
        biased;
        () = cancel.cancelled() => Err(Error::interrupted()),
        bytes = stream.next() => bytes,
    }
}
