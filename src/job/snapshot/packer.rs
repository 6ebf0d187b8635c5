//! Collects the frames of all streams in one open pack; full packs go to the targets.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;

use crate::error::{Error, Result, ResultExt};
use crate::job::snapshot::uploader::Uploaders;
use crate::job::spool::{Spool, SpooledPack};
use crate::pack::pack_writer::PackWriter;
use crate::pack::stream::FrameSink;
use crate::repository::manifest::PackRef;

/// Collects frames into packs. Used from blocking threads only: it waits while the spool is full.
pub(crate) struct Packer {
    open: Mutex<Open>,
    spool: Arc<Spool>,
    recipient: age::x25519::Recipient,
    uploaders: Arc<Uploaders>,
    max_wait: Duration,
    runtime: Handle,
    cancel: CancellationToken,
}

#[derive(Default)]
struct Open {
    pack: Option<(PackWriter, OwnedSemaphorePermit)>,
    sealed: Vec<PackRef>,
}

impl Packer {
    /// A packer for one snapshot. Slow targets may delay the snapshot for `max_wait`; then they are
    /// given up.
    pub(super) fn new(
        spool: Arc<Spool>,
        recipient: age::x25519::Recipient,
        uploaders: Arc<Uploaders>,
        max_wait: Duration,
        cancel: &CancellationToken,
    ) -> Self {
        Self {
            open: Mutex::default(),
            spool,
            recipient,
            uploaders,
            max_wait,
            runtime: Handle::current(),
            cancel: cancel.clone(),
        }
    }

    fn open_pack(&self, open: &mut Open) -> Result<()> {
        let permit = self.runtime.block_on(self.spool.room(
            self.max_wait,
            || self.uploaders.give_up_slowest(),
            &self.cancel,
        ))?;
        if self.uploaders.all_failed() {
            return Err(Error::new(crate::ErrorKind::Target, "every target has failed"));
        }
        let ordinal = open.sealed.len() as u32;
        let pack = PackWriter::create(self.spool.folder(), ordinal, &self.recipient)
            .map_err(|e| spool_failure(&self.spool, e))?;
        open.pack = Some((pack, permit));
        Ok(())
    }

    fn seal(&self, open: &mut Open, pad: bool) -> Result<()> {
        if let Some((pack, permit)) = open.pack.take() {
            let sealed = pack.finish(pad).map_err(|e| spool_failure(&self.spool, e))?;
            open.sealed.push(PackRef { sha256: sealed.sha256, size: sealed.size });
            self.uploaders.send_pack(SpooledPack::new(&sealed, permit));
        }
        Ok(())
    }

    /// Seals the last pack, padded, and returns the packs of this snapshot in order.
    pub(super) fn finish(&self) -> Result<Vec<PackRef>> {
        let mut open = std::mem::take(&mut *self.open.lock().unwrap_or_else(PoisonError::into_inner));
        self.seal(&mut open, true)?;
        Ok(open.sealed)
    }
}

fn spool_failure(spool: &Spool, e: io::Error) -> Error {
    Error::preflight(format!("failed to write a pack in the spool {}", spool.folder().display()))
        .cause(e)
        .remedy("Free space there, or name another `spool_dir`; it holds encrypted data only.")
}

impl FrameSink for Packer {
    fn append(&self, frame: &[u8], decompressed: u32) -> io::Result<(u32, u64)> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let place = (|| {
            if open.pack.is_none() {
                self.open_pack(&mut open)?;
            }
            let (pack, _) = open.pack.as_mut().ok_or_else(|| Error::internal("no pack is open"))?;
            let offset = pack.append(frame, decompressed).map_err(|e| spool_failure(&self.spool, e))?;
            let place = (pack.ordinal(), offset);
            if pack.is_full() {
                self.seal(&mut open, false)?;
            }
            Ok::<_, Error>(place)
        })();
        place.map_err(io::Error::other)
    }
}

/// Extracts an error of the packer from the `io::Error` that carried it through an encoder.
pub(crate) fn unwrap_error(e: crate::pack::stream::EncodeError, what: &str) -> Error {
    match e {
        crate::pack::stream::EncodeError::Io(e) => match e.downcast::<Error>() {
            Ok(inner) => inner,
            Err(e) => Err::<(), _>(e).or_internal(what).err().unwrap_or_else(Error::interrupted),
        },
        crate::pack::stream::EncodeError::Cut(e) => Error::database(format!("failed to {what}")).cause(e),
    }
}
