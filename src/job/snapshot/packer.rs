//! Collects the frames of all streams in one open pack; full packs go to the targets.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;

use crate::error::{Error, Origin, Result, ResultExt, disk_remedy};
use crate::job::snapshot::stream_cache::Draft;
use crate::job::snapshot::uploader::Uploaders;
use crate::job::spool::{Spool, SpooledPack};
use crate::pack::extent::Extent;
use crate::pack::pack_writer::{Compressors, PackWriter};
use crate::pack::stream::FrameSink;
use crate::repository::manifest::PackRef;

/// Collects frames into packs. Used from blocking threads only: it waits while the spool is full.
pub(crate) struct Packer {
    open: Mutex<Open>,
    compressors: Compressors,
    spool: Arc<Spool>,
    recipient: age::x25519::Recipient,
    uploaders: Arc<Uploaders>,
    draft: Arc<Draft>,
    max_wait: Duration,
    runtime: Handle,
    cancel: CancellationToken,
}

struct Open {
    pack: Option<(PackWriter, OwnedSemaphorePermit)>,
    /// All packs of the epoch that are known, those of this run at the end: extents count from the beginning.
    packs: Vec<PackRef>,
    /// How many of them are older.
    older: usize,
}

impl Packer {
    /// A packer for one snapshot, whose packs are numbered after the `older` ones. Slow targets may delay the snapshot for
    /// `max_wait`; then they are given up.
    pub(super) fn new(
        spool: Arc<Spool>,
        recipient: age::x25519::Recipient,
        uploaders: Arc<Uploaders>,
        draft: Arc<Draft>,
        older: &[PackRef],
        max_wait: Duration,
        cancel: &CancellationToken,
    ) -> Self {
        Self {
            open: Mutex::new(Open { pack: None, packs: older.to_vec(), older: older.len() }),
            compressors: Compressors::default(),
            spool,
            recipient,
            uploaders,
            draft,
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
        let ordinal = open.packs.len() as u32;
        let pack = PackWriter::create(self.spool.folder(), ordinal, &self.recipient)
            .map_err(|e| spool_failure(&self.spool, e))?;
        open.pack = Some((pack, permit));
        Ok(())
    }

    fn seal(&self, open: &mut Open, pad: bool) -> Result<()> {
        if let Some((pack, permit)) = open.pack.take() {
            let sealed = pack.finish(pad).map_err(|e| spool_failure(&self.spool, e))?;
            let pack = PackRef { sha256: sealed.sha256, size: sealed.size };
            self.draft.sealed(&pack);
            open.packs.push(pack);
            self.uploaders.send_pack(SpooledPack::new(&sealed, permit));
        }
        Ok(())
    }

    /// Seals the last pack, padded, and returns all packs by their numbers, and how many of them are older than this snapshot.
    pub(super) fn finish(&self) -> Result<(Vec<PackRef>, usize)> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        self.seal(&mut open, true)?;
        Ok((std::mem::take(&mut open.packs), open.older))
    }
}

fn spool_failure(spool: &Spool, e: io::Error) -> Error {
    // The folder of this attempt is not what anybody looks for.
    let folder = spool.folder().parent().unwrap_or(spool.folder()).display().to_string();
    let full = matches!(e.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
    let remedy = match disk_remedy(&e).filter(|_| !full) {
        Some(remedy) => remedy.to_owned(),
        None => format!("Free space at {folder}, or name another `spool_dir`; it holds encrypted data only."),
    };
    let error =
        Error::preflight(format!("failed to write a pack in the spool {folder}")).cause(e).remedy(remedy);
    if full { error.origin(Origin::Disk("spool".to_owned())) } else { error }
}

impl FrameSink for Packer {
    fn append(&self, data: &[u8]) -> io::Result<Extent> {
        let frame = self.compressors.compress(data)?;
        // A frame is at most 1 MiB.
        let decompressed = data.len() as u32;
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let place = (|| {
            if open.pack.is_none() {
                self.open_pack(&mut open)?;
            }
            let (pack, _) = open.pack.as_mut().ok_or_else(|| Error::internal("no pack is open"))?;
            let offset = pack.append(&frame, decompressed).map_err(|e| spool_failure(&self.spool, e))?;
            let place = Extent { pack: Some(pack.ordinal()), offset, length: u64::from(decompressed) };
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
