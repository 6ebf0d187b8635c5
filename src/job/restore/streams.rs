//! Reads a snapshot's streams out of its packs, which are fetched when needed and removed after use.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use sha2::Digest;
use tokio::runtime::Handle;
use tokio::sync::{Mutex, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use crate::engine::{StreamItem, StreamReceiver, StreamSource};
use crate::error::{Error, Result, ResultExt};
use crate::job::restore::open::{Fetcher, OpenSnapshot};
use crate::keys::EpochKey;
use crate::model::id::Sha256;
use crate::model::observer::Observer;
use crate::pack::pack_reader::PackReader;
use crate::repository::layout;
use crate::repository::manifest::{Extent, Manifest, StreamEntry};
use crate::repository::receipt::ObjectRef;

/// Packs that are fetched at the same time.
const FETCHES: usize = 3;
/// Packs that one stream keeps open: its rows may alternate between as many snapshots.
const OPEN_PACKS: usize = 8;
/// Bytes per item of a stream, about.
const BATCH: usize = 256 << 10;
/// Items buffered for the loader, per stream.
const ITEMS: usize = 4;

/// The streams of an open snapshot.
#[derive(Clone)]
pub(crate) struct Streams {
    shared: Arc<Shared>,
}

struct Shared {
    manifest: Arc<Manifest>,
    key: EpochKey,
    fetcher: Fetcher,
    folder: PathBuf,
    packs: Vec<Pack>,
    fetches: Semaphore,
    observer: Arc<dyn Observer>,
    cancel: CancellationToken,
}

struct Pack {
    object: ObjectRef,
    /// Whether the verified file is there.
    here: Mutex<bool>,
    /// Extents that are still to be read from it; at 0 its file is removed.
    uses: AtomicU64,
}

impl Streams {
    /// The streams of `snapshot`; packs are kept in `folder`, which must be private and on a disk that can
    /// hold the part of the snapshot that is being read. Packs that are already there were fetched and checked.
    pub(crate) fn new(
        snapshot: &OpenSnapshot,
        folder: &Path,
        observer: Arc<dyn Observer>,
        cancel: &CancellationToken,
    ) -> Self {
        let manifest = snapshot.manifest.clone();
        let mut uses = vec![0; manifest.packs.len()];
        for extent in manifest.streams.iter().flat_map(|s| &s.extents) {
            uses[extent.pack as usize] += 1;
        }
        let packs = manifest
            .packs
            .iter()
            .zip(uses)
            .map(|(pack, uses)| Pack {
                object: ObjectRef {
                    key: layout::pack(&manifest.epoch, &pack.sha256),
                    sha256: pack.sha256,
                    size: pack.size,
                },
                here: Mutex::new(folder.join(pack.sha256.to_string()).exists()),
                uses: AtomicU64::new(uses),
            })
            .collect();
        let shared = Shared {
            manifest,
            key: snapshot.key.clone(),
            fetcher: snapshot.fetcher.clone(),
            folder: folder.to_owned(),
            packs,
            fetches: Semaphore::new(FETCHES),
            observer,
            cancel: cancel.clone(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Fetches and opens one pack; returns its size, for an estimate.
    pub(crate) async fn try_one_pack(&self) -> Result<Option<u64>> {
        if self.shared.packs.is_empty() {
            return Ok(None);
        }
        let path = self.shared.fetch(0).await?;
        PackReader::open(&path, self.shared.key.identity())
            .map_err(|e| damaged(&self.shared.packs[0].object, e))?;
        Ok(Some(self.shared.packs[0].object.size))
    }
}

#[async_trait]
impl StreamSource for Streams {
    async fn open(&self, name: &str) -> Result<StreamReceiver> {
        let shared = self.shared.clone();
        let index = shared
            .manifest
            .streams
            .iter()
            .position(|s| s.name == name)
            .ok_or_else(|| Error::verification(format!("the snapshot has no stream {name:?}")))?;
        let (sender, receiver) = mpsc::channel(ITEMS);
        let runtime = Handle::current();
        tokio::task::spawn_blocking(move || {
            let out = Output { sender: sender.clone(), batch: BytesMut::new() };
            let reader = ExtentReader { shared: &shared, runtime, out, open: Vec::new() };
            let last = reader.run(&shared.manifest.streams[index]).map(|()| StreamItem::End);
            // A loader that has given up has closed its end.
            let _ = sender.blocking_send(last);
        });
        Ok(StreamReceiver(receiver))
    }
}

impl Shared {
    /// The verified file of a pack, fetched if necessary.
    async fn fetch(&self, index: usize) -> Result<PathBuf> {
        let pack = &self.packs[index];
        let path = self.folder.join(pack.object.sha256.to_string());
        let mut here = pack.here.lock().await;
        if !*here {
            let _slot = self.fetches.acquire().await.or_internal("wait for a download")?;
            self.fetcher.fetch(&pack.object, &path, &*self.observer, &self.cancel).await?;
            *here = true;
        }
        Ok(path)
    }

    /// Notes that an extent of a pack was read.
    async fn used(&self, index: usize) {
        let pack = &self.packs[index];
        let before = pack.uses.fetch_update(Ordering::AcqRel, Ordering::Acquire, |n| n.checked_sub(1));
        if before == Ok(1) {
            let mut here = pack.here.lock().await;
            let _ = tokio::fs::remove_file(self.folder.join(pack.object.sha256.to_string())).await;
            *here = false;
        }
    }
}

/// Reads one stream on its own thread.
struct ExtentReader<'a> {
    shared: &'a Arc<Shared>,
    runtime: Handle,
    out: Output,
    /// Open packs, the one used last at the end.
    open: Vec<(u32, PackReader)>,
}

struct Output {
    sender: mpsc::Sender<Result<StreamItem>>,
    batch: BytesMut,
}

impl Output {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.batch.extend_from_slice(bytes);
        if self.batch.len() >= BATCH { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<()> {
        if self.batch.is_empty() {
            return Ok(());
        }
        let batch: Bytes = self.batch.split().freeze();
        self.sender.blocking_send(Ok(StreamItem::Bytes(batch))).map_err(|_| Error::interrupted())
    }
}

impl ExtentReader<'_> {
    fn run(mut self, stream: &StreamEntry) -> Result<()> {
        let mut hash = sha2::Sha256::new();
        for (number, extent) in stream.extents.iter().enumerate() {
            if self.shared.cancel.is_cancelled() {
                return Err(Error::interrupted());
            }
            self.fetch_ahead(&stream.extents[number..]);
            let mut reader = self.reader(extent.pack)?;
            let out = &mut self.out;
            let read = reader.read(extent.offset, extent.length, |bytes| {
                hash.update(bytes);
                out.write(bytes).map_err(std::io::Error::other)
            });
            self.open.push((extent.pack, reader));
            read.map_err(|e| match e.downcast::<Error>() {
                Ok(e) => e,
                Err(e) => damaged(&self.shared.packs[extent.pack as usize].object, e),
            })?;
            self.runtime.block_on(self.shared.used(extent.pack as usize));
        }
        self.out.flush()?;
        if Sha256(hash.finalize().into()) == stream.sha256 {
            Ok(())
        } else {
            Err(Error::verification(format!(
                "stream {} does not have the bytes that the manifest states",
                stream.name
            ))
            .remedy("Restore another snapshot, and report this as a bug."))
        }
    }

    /// The reader of a pack: an open one, or a new one.
    fn reader(&mut self, pack: u32) -> Result<PackReader> {
        if let Some(at) = self.open.iter().position(|(p, _)| *p == pack) {
            return Ok(self.open.remove(at).1);
        }
        if self.open.len() >= OPEN_PACKS {
            self.open.remove(0);
        }
        let index = pack as usize;
        let path = self.runtime.block_on(self.shared.fetch(index))?;
        PackReader::open(&path, self.shared.key.identity())
            .map_err(|e| damaged(&self.shared.packs[index].object, e))
    }

    /// Starts fetching the pack after the current one, so that reading need not wait.
    fn fetch_ahead(&self, extents: &[Extent]) {
        let next = extents.iter().map(|e| e.pack).find(|p| Some(*p) != extents.first().map(|e| e.pack));
        let Some(next) = next.filter(|p| !self.open.iter().any(|(open, _)| open == p)) else {
            return;
        };
        let index = next as usize;
        // If the lock is taken, the pack is already being fetched.
        if self.shared.packs[index].here.try_lock().is_ok_and(|here| !*here) {
            let shared = self.shared.clone();
            self.runtime.spawn(async move {
                // A failure here recurs when the pack is really needed.
                let _ = shared.fetch(index).await;
            });
        }
    }
}

fn damaged(object: &ObjectRef, e: std::io::Error) -> Error {
    Error::verification(format!("{} cannot be read, although its hash is right", object.key))
        .cause(e)
        .remedy("Restore another snapshot, and report this as a bug.")
}
