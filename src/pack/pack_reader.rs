//! Reading packs: any frame of a pack, from a verified file of ciphertext.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use age::stream::StreamReader;

use crate::pack::pack_writer::{FRAME, MOST_FRAMES, SEEKABLE_MAGIC, TABLE_MAGIC};

/// A pack, opened with its epoch's key.
pub(crate) struct PackReader {
    input: StreamReader<BufReader<File>>,
    frames: Vec<Frame>,
}

/// Decompresses frames; one serves many packs.
pub(crate) struct FrameDecoder {
    compressed: Vec<u8>,
    decompressor: zstd::bulk::Decompressor<'static>,
}

impl FrameDecoder {
    /// A decoder.
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self { compressed: Vec::new(), decompressor: zstd::bulk::Decompressor::new()? })
    }
}

#[derive(Debug, Clone, Copy)]
struct Frame {
    at: u64,
    length: u32,
    content_at: u64,
    content_length: u32,
}

impl PackReader {
    /// Opens a pack whose size and hash were checked before, and reads its seek table.
    pub(crate) fn open(path: &Path, identity: &age::x25519::Identity) -> io::Result<Self> {
        let file = BufReader::with_capacity(64 << 10, File::open(path)?);
        let mut input = age::Decryptor::new_buffered(file)
            .and_then(|d| d.decrypt(std::iter::once(identity as &dyn age::Identity)))
            .map_err(io::Error::other)?;
        let frames = read_table(&mut input)?;
        Ok(Self { input, frames })
    }

    /// Puts the frame that holds an offset of the pack's decompressed bytes into `content`; returns the offset at which
    /// it starts.
    pub(crate) fn frame(
        &mut self,
        offset: u64,
        decoder: &mut FrameDecoder,
        content: &mut Vec<u8>,
    ) -> io::Result<u64> {
        let frame = self.frame_at(offset).ok_or_else(|| invalid("an extent is outside its pack"))?;
        self.input.seek(SeekFrom::Start(frame.at))?;
        decoder.compressed.resize(frame.length as usize, 0);
        self.input.read_exact(&mut decoder.compressed)?;
        content.resize(frame.content_length as usize, 0);
        let n = decoder.decompressor.decompress_to_buffer(&decoder.compressed, &mut content[..])?;
        if n != content.len() {
            return Err(invalid("a frame is shorter than the seek table says"));
        }
        Ok(frame.content_at)
    }

    fn frame_at(&self, offset: u64) -> Option<Frame> {
        let after = self.frames.partition_point(|f| f.content_at <= offset);
        let frame = self.frames[after.checked_sub(1)?];
        (offset < frame.content_at + u64::from(frame.content_length)).then_some(frame)
    }
}

fn read_table(input: &mut StreamReader<BufReader<File>>) -> io::Result<Vec<Frame>> {
    let end = input.seek(SeekFrom::End(0))?;
    let footer_at = end.checked_sub(9).ok_or_else(|| invalid("the pack has no seek table"))?;
    let mut footer = [0; 9];
    input.seek(SeekFrom::Start(footer_at))?;
    input.read_exact(&mut footer)?;
    let count = le32(&footer[..4]);
    if le32(&footer[5..]) != SEEKABLE_MAGIC || footer[4] != 0 || count > MOST_FRAMES {
        return Err(invalid("the pack has no seek table"));
    }
    let length = u64::from(count) * 8 + 9;
    let table_at = end.checked_sub(length + 8).ok_or_else(|| invalid("the seek table is truncated"))?;
    let mut table = vec![0; (length + 8) as usize];
    input.seek(SeekFrom::Start(table_at))?;
    input.read_exact(&mut table)?;
    if le32(&table[..4]) != TABLE_MAGIC || u64::from(le32(&table[4..8])) != length {
        return Err(invalid("the seek table is damaged"));
    }
    let (mut at, mut content_at) = (0, 0);
    let mut frames = Vec::with_capacity(count as usize);
    for entry in table[8..8 + count as usize * 8].chunks_exact(8) {
        let (length, content_length) = (le32(&entry[..4]), le32(&entry[4..]));
        if content_length as usize > FRAME || u64::from(length) > table_at {
            return Err(invalid("a frame is larger than the format allows"));
        }
        if content_length > 0 {
            frames.push(Frame { at, length, content_at, content_length });
        }
        at += u64::from(length);
        content_at += u64::from(content_length);
    }
    if at == table_at { Ok(frames) } else { Err(invalid("the seek table does not fit its pack")) }
}

fn le32(bytes: &[u8]) -> u32 {
    bytes.iter().rev().fold(0, |n, b| n << 8 | u32::from(*b))
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// Opens a small object made by [`crate::pack::pack_writer::seal_small`], refusing more than `limit` bytes.
pub(crate) fn open_small(
    sealed: &[u8],
    identity: &age::x25519::Identity,
    limit: usize,
) -> io::Result<Vec<u8>> {
    let plaintext = age::decrypt(identity, sealed).map_err(io::Error::other)?;
    let mut content = Vec::new();
    zstd::stream::read::Decoder::new(plaintext.as_slice())?
        .take(limit as u64 + 1)
        .read_to_end(&mut content)?;
    if content.len() > limit { Err(invalid("larger than expected")) } else { Ok(content) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pack::pack_writer::{PackWriter, compress, seal_small};

    #[test]
    fn ranges_come_back_and_stock_tools_agree() {
        let dir = tempfile::tempdir().unwrap();
        let identity = age::x25519::Identity::generate();
        let mut pack = PackWriter::create(dir.path(), 0, &identity.to_public()).unwrap();
        let data: Vec<u8> = (0..300_000u32).flat_map(u32::to_le_bytes).collect();
        for chunk in data.chunks(100_000) {
            pack.append(&compress(chunk).unwrap(), chunk.len() as u32).unwrap();
        }
        let sealed = pack.finish(true).unwrap();
        let bytes = std::fs::read(&sealed.path).unwrap();
        assert_eq!((bytes.len() as u64, crate::model::id::Sha256::of(&bytes)), (sealed.size, sealed.sha256));
        let plain = age::decrypt(&identity, &bytes).unwrap();
        assert_eq!(crate::pack::padme::padded(plain.len() as u64), plain.len() as u64);
        assert_eq!(zstd::stream::decode_all(plain.as_slice()).unwrap(), data);

        let mut reader = PackReader::open(&sealed.path, &identity).unwrap();
        let (mut content, mut decoder) = (Vec::new(), FrameDecoder::new().unwrap());
        for (offset, start) in [(0, 0), (99_999, 0), (100_000, 100_000), (1_199_999, 1_100_000), (7, 0)] {
            assert_eq!(reader.frame(offset, &mut decoder, &mut content).unwrap(), start);
            assert_eq!(content, data[start as usize..start as usize + 100_000]);
        }
        assert!(reader.frame(1_200_000, &mut decoder, &mut content).is_err());
    }

    #[test]
    fn an_abandoned_pack_leaves_no_file() {
        let dir = tempfile::tempdir().unwrap();
        drop(PackWriter::create(dir.path(), 0, &age::x25519::Identity::generate().to_public()).unwrap());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn small_things_are_padded_and_bounded() {
        let identity = age::x25519::Identity::generate();
        let sealed = seal_small(&identity.to_public(), &[b'x'; 5000]).unwrap();
        assert_eq!(open_small(&sealed, &identity, 5000).unwrap(), [b'x'; 5000]);
        assert!(open_small(&sealed, &identity, 4999).is_err());
    }
}
