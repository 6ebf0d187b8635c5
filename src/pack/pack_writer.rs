//! Writes packs: compressed frames in, encrypted spool files out.
//!
//! A pack's plaintext is in the Zstandard seekable format, so stock `zstd -d` reads it and a reader can
//! jump to any frame. Source: `contrib/seekable_format/zstd_seekable_compression_format.md` of zstd.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use age::stream::StreamWriter;
use sha2::Digest;

use crate::model::id::Sha256;
use crate::pack::padme;

/// The most decompressed bytes in a frame.
pub(crate) const FRAME: usize = 1 << 20;
/// A pack is closed when its plaintext reaches this size.
pub(crate) const PACK: u64 = 32 << 20;
/// A pack is closed when it has so many frames: readers accept [`MOST_FRAMES`].
const FULL_OF_FRAMES: usize = 64 << 10;
/// The most bytes in a pack, decompressed. However well they are compressed, opening all of them takes a minute at most.
pub(crate) const MOST_CONTENT: u64 = (FULL_OF_FRAMES * FRAME) as u64;
/// The most frames in a pack: a bound on what a reader allocates for the seek table.
pub(super) const MOST_FRAMES: u32 = 1 << 20;
/// Compression level: zstd's own default.
const LEVEL: i32 = 3;

pub(super) const PADDING_MAGIC: u32 = 0x184D_2A50;
pub(super) const TABLE_MAGIC: u32 = 0x184D_2A5E;
pub(super) const SEEKABLE_MAGIC: u32 = 0x8F92_EAB1;

/// A complete pack in the spool.
#[derive(Debug)]
pub(crate) struct Sealed {
    /// The file of the ciphertext.
    pub path: PathBuf,
    /// Its size in bytes.
    pub size: u64,
    /// Its SHA-256, which is its name.
    pub sha256: Sha256,
}

/// Compresses one frame of at most [`FRAME`] bytes. The frame states its content size.
pub(crate) fn compress(data: &[u8]) -> io::Result<Vec<u8>> {
    zstd::bulk::compress(data, LEVEL)
}

/// Compresses frames like [`compress`], for several threads. Each time, setting up the memory that it takes would cost more than
/// compressing a short frame.
#[derive(Default)]
pub(crate) struct Compressors(Mutex<Vec<zstd::bulk::Compressor<'static>>>);

impl Compressors {
    /// Compresses one frame.
    pub(crate) fn compress(&self, data: &[u8]) -> io::Result<Vec<u8>> {
        let idle = self.idle().pop();
        let mut compressor = idle.map_or_else(|| zstd::bulk::Compressor::new(LEVEL), Ok)?;
        let frame = compressor.compress(data)?;
        self.idle().push(compressor);
        Ok(frame)
    }

    fn idle(&self) -> MutexGuard<'_, Vec<zstd::bulk::Compressor<'static>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A pack that is being written. Dropped before [`PackWriter::finish`], it leaves no file.
pub(crate) struct PackWriter {
    ordinal: u32,
    path: PathBuf,
    out: Option<StreamWriter<Hashing<BufWriter<File>>>>,
    /// (compressed, decompressed) length of every frame.
    frames: Vec<(u32, u32)>,
    plaintext: u64,
    content: u64,
}

impl PackWriter {
    /// Opens a pack in the spool folder, encrypted to the epoch's recipient.
    pub(crate) fn create(spool: &Path, ordinal: u32, recipient: &age::x25519::Recipient) -> io::Result<Self> {
        let path = spool.join(format!("{ordinal:06}.pack"));
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        let out = encrypt(recipient, Hashing::new(BufWriter::with_capacity(256 << 10, file)))?;
        Ok(Self { ordinal, path, out: Some(out), frames: Vec::new(), plaintext: 0, content: 0 })
    }

    /// The number given at [`PackWriter::create`].
    pub(crate) fn ordinal(&self) -> u32 {
        self.ordinal
    }

    /// Whether the pack is large enough to be closed.
    pub(crate) fn is_full(&self) -> bool {
        self.plaintext >= PACK || self.frames.len() >= FULL_OF_FRAMES
    }

    /// Appends a frame made by [`compress`] of `decompressed` bytes; returns where these start in
    /// the pack's decompressed bytes.
    pub(crate) fn append(&mut self, frame: &[u8], decompressed: u32) -> io::Result<u64> {
        let offset = self.content;
        self.write_frame(frame, decompressed)?;
        self.content += u64::from(decompressed);
        Ok(offset)
    }

    fn write_frame(&mut self, frame: &[u8], decompressed: u32) -> io::Result<()> {
        self.out()?.write_all(frame)?;
        self.plaintext += frame.len() as u64;
        self.frames.push((length32(frame.len())?, decompressed));
        Ok(())
    }

    fn out(&mut self) -> io::Result<&mut StreamWriter<Hashing<BufWriter<File>>>> {
        self.out.as_mut().ok_or_else(|| io::Error::other("the pack is closed"))
    }

    /// Closes the pack: padding if asked for, seek table, the last chunk of age.
    pub(crate) fn finish(mut self, pad: bool) -> io::Result<Sealed> {
        if pad {
            let table = table_length(self.frames.len() + 1);
            let bare = self.plaintext + table + SKIPPABLE_HEADER;
            let padding = skippable(PADDING_MAGIC, &vec![0; (padme::padded(bare) - bare) as usize])?;
            self.write_frame(&padding, 0)?;
        }
        let table = seek_table(&self.frames)?;
        self.out()?.write_all(&table)?;
        let out = self.out.take().ok_or_else(|| io::Error::other("the pack is closed"))?;
        let hashing = out.finish()?;
        let (sha256, size) = hashing.finish()?;
        Ok(Sealed { path: std::mem::take(&mut self.path), size, sha256 })
    }
}

impl Drop for PackWriter {
    fn drop(&mut self) {
        if !self.path.as_os_str().is_empty() {
            // Ciphertext of an aborted run; if it cannot be removed, the next run does it.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

const SKIPPABLE_HEADER: u64 = 8;

fn table_length(frames: usize) -> u64 {
    SKIPPABLE_HEADER + frames as u64 * 8 + 9
}

fn length32(n: usize) -> io::Result<u32> {
    u32::try_from(n).map_err(|_| io::Error::other("a frame is longer than 4 GiB"))
}

fn skippable(magic: u32, content: &[u8]) -> io::Result<Vec<u8>> {
    let mut frame = Vec::with_capacity(content.len() + 8);
    frame.extend_from_slice(&magic.to_le_bytes());
    frame.extend_from_slice(&length32(content.len())?.to_le_bytes());
    frame.extend_from_slice(content);
    Ok(frame)
}

fn seek_table(frames: &[(u32, u32)]) -> io::Result<Vec<u8>> {
    let mut content = Vec::with_capacity(frames.len() * 8 + 9);
    for (compressed, decompressed) in frames {
        content.extend_from_slice(&compressed.to_le_bytes());
        content.extend_from_slice(&decompressed.to_le_bytes());
    }
    content.extend_from_slice(&length32(frames.len())?.to_le_bytes());
    content.push(0);
    content.extend_from_slice(&SEEKABLE_MAGIC.to_le_bytes());
    skippable(TABLE_MAGIC, &content)
}

/// Starts an age file to one recipient.
fn encrypt<W: Write>(recipient: &age::x25519::Recipient, out: W) -> io::Result<StreamWriter<W>> {
    age::Encryptor::with_recipients(std::iter::once(recipient as &dyn age::Recipient))
        .map_err(io::Error::other)?
        .wrap_output(out)
}

/// Compresses, pads and encrypts a small object (a manifest) in memory.
pub(crate) fn seal_small(recipient: &age::x25519::Recipient, content: &[u8]) -> io::Result<Vec<u8>> {
    let mut plaintext = compress(content)?;
    let bare = plaintext.len() as u64 + SKIPPABLE_HEADER;
    let padding = (padme::padded(bare) - bare) as usize;
    plaintext.extend(skippable(PADDING_MAGIC, &vec![0; padding])?);
    let mut out = encrypt(recipient, Vec::new())?;
    out.write_all(&plaintext)?;
    out.finish()
}

/// Hashes and counts what passes through.
struct Hashing<W> {
    inner: W,
    hash: sha2::Sha256,
    size: u64,
}

impl<W: Write> Hashing<W> {
    fn new(inner: W) -> Self {
        Self { inner, hash: sha2::Sha256::new(), size: 0 }
    }

    fn finish(mut self) -> io::Result<(Sha256, u64)> {
        self.inner.flush()?;
        Ok((Sha256(self.hash.finalize().into()), self.size))
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.inner.write(bytes)?;
        self.hash.update(&bytes[..n]);
        self.size += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
