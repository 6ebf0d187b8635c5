//! Reads a snapshot's streams out of its packs, which are fetched when needed and removed after use.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};

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
use crate::pack::extent::Layer;
use crate::pack::layers::{self, PackSource};
use crate::pack::pack_reader::{FrameDecoder, PackReader};
use crate::repository::layout;
use crate::repository::manifest::{Manifest, StreamEntry};
use crate::repository::receipt::ObjectRef;

/// Packs that are fetched at the same time.
const FETCHES: usize = 3;
/// Packs that are kept open between frames: opening one costs about as much as reading a tenth of a frame.
const OPEN_PACKS: usize = 32;
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
    /// The place of each stream in the manifest, by its name.
    places: HashMap<String, usize>,
    key: EpochKey,
    fetcher: Fetcher,
    folder: PathBuf,
    packs: Vec<Pack>,
    /// Open packs that nobody reads at the moment, by their number; the one used last is at the end.
    open: std::sync::Mutex<VecDeque<(u32, PackReader)>>,
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
        let layers = manifest.streams.iter().flat_map(|s| &s.layers);
        for pack in layers.flat_map(Layer::extents).filter_map(|e| e.pack) {
            uses[pack as usize] += 1;
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
        let places = manifest.streams.iter().enumerate().map(|(n, s)| (s.name.clone(), n)).collect();
        let shared = Shared {
            manifest,
            places,
            key: snapshot.key.clone(),
            fetcher: snapshot.fetcher.clone(),
            folder: folder.to_owned(),
            packs,
            open: std::sync::Mutex::default(),
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
        self.shared.open(0, &path)?;
        Ok(Some(self.shared.packs[0].object.size))
    }
}

#[async_trait]
impl StreamSource for Streams {
    async fn open(&self, name: &str) -> Result<StreamReceiver> {
        let shared = self.shared.clone();
        let index = *shared
            .places
            .get(name)
            .ok_or_else(|| Error::verification(format!("the snapshot has no stream {name:?}")))?;
        let (sender, receiver) = mpsc::channel(ITEMS);
        let runtime = Handle::current();
        tokio::task::spawn_blocking(move || {
            let out = Output { sender: sender.clone(), batch: BytesMut::new() };
            let reader = LayerReader { shared: &shared, runtime, out };
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

    /// Opens the fetched file of a pack.
    fn open(&self, index: usize, path: &Path) -> Result<PackReader> {
        PackReader::open(path, self.key.identity()).map_err(|e| damaged(&self.packs[index].object, e))
    }

    /// An open pack that nobody reads at the moment.
    fn take_open(&self, pack: u32) -> Option<PackReader> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let at = open.iter().rposition(|(number, _)| *number == pack)?;
        open.remove(at).map(|(_, reader)| reader)
    }

    fn keep_open(&self, pack: u32, reader: PackReader) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.len() >= OPEN_PACKS {
            open.pop_front();
        }
        open.push_back((pack, reader));
    }

    /// Notes that an extent of a pack was read.
    async fn used(&self, index: usize) {
        let pack = &self.packs[index];
        let before = pack.uses.fetch_update(Ordering::AcqRel, Ordering::Acquire, |n| n.checked_sub(1));
        if before == Ok(1) {
            while self.take_open(index as u32).is_some() {}
            let mut here = pack.here.lock().await;
            let _ = tokio::fs::remove_file(self.folder.join(pack.object.sha256.to_string())).await;
            *here = false;
        }
    }
}

/// Reads one stream on its own thread.
struct LayerReader<'a> {
    shared: &'a Arc<Shared>,
    runtime: Handle,
    out: Output,
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

impl LayerReader<'_> {
    fn run(mut self, stream: &StreamEntry) -> Result<()> {
        let mut hash = sha2::Sha256::new();
        let decoder = FrameDecoder::new().or_internal("prepare decompression")?;
        let source = Packs { shared: self.shared, runtime: self.runtime, decoder: RefCell::new(decoder) };
        let out = &mut self.out;
        let read = layers::read(&stream.layers, &source, |bytes| {
            hash.update(bytes);
            out.write(bytes).map_err(io::Error::other)
        });
        read.map_err(|e| match e.downcast::<Error>() {
            Ok(e) => e,
            Err(e) => wrong_bytes(&stream.name).cause(e),
        })?;
        self.out.flush()?;
        if Sha256(hash.finalize().into()) == stream.sha256 { Ok(()) } else { Err(wrong_bytes(&stream.name)) }
    }
}

/// The packs of the snapshot, for a thread that reads a stream.
struct Packs<'a> {
    shared: &'a Arc<Shared>,
    runtime: Handle,
    decoder: RefCell<FrameDecoder>,
}

impl PackSource for Packs<'_> {
    fn frame(&self, pack: u32, offset: u64, content: &mut Vec<u8>) -> io::Result<u64> {
        let mut read = || {
            if self.shared.cancel.is_cancelled() {
                return Err(Error::interrupted());
            }
            let index = pack as usize;
            let mut reader = match self.shared.take_open(pack) {
                Some(reader) => reader,
                None => {
                    let path = self.runtime.block_on(self.shared.fetch(index))?;
                    self.shared.open(index, &path)?
                }
            };
            let start = reader
                .frame(offset, &mut self.decoder.borrow_mut(), content)
                .map_err(|e| damaged(&self.shared.packs[index].object, e))?;
            self.shared.keep_open(pack, reader);
            Ok(start)
        };
        read().map_err(io::Error::other)
    }

    fn upcoming(&self, pack: u32) {
        let index = pack as usize;
        // If the lock is taken, the pack is already being fetched.
        if self.shared.packs[index].here.try_lock().is_ok_and(|here| !*here) {
            let shared = self.shared.clone();
            self.runtime.spawn(async move {
                // A failure here recurs when the pack is really needed; by now it may have been passed over.
                if shared.packs[index].uses.load(Ordering::Acquire) > 0 {
                    let _ = shared.fetch(index).await;
                }
            });
        }
    }

    fn finished(&self, pack: u32) {
        self.runtime.block_on(self.shared.used(pack as usize));
    }
}

fn wrong_bytes(stream: &str) -> Error {
    Error::verification(format!("stream {stream} does not have the bytes that the manifest states"))
        .remedy("Restore another snapshot, and report this as a bug.")
}

fn damaged(object: &ObjectRef, e: std::io::Error) -> Error {
    Error::verification(format!("{} cannot be read, although its hash is right", object.key))
        .cause(e)
        .remedy("Restore another snapshot, and report this as a bug.")
}
