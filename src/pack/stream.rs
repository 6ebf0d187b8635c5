//! Encodes one stream: hashes every unit, copies what the epoch already holds, and packs what is new.

use std::io::{self, Read};

use serde::{Deserialize, Serialize};
use sha2::Digest;

use crate::model::id::Sha256;
use crate::model::row_hash::{DigestSum, PieceHasher};
use crate::model::stream::StreamKind;
use crate::model::unit::{CutError, Cutter, Piece};
use crate::pack::base::{Base, LocalScript};
use crate::pack::extent::{self, Extent, Layer};
use crate::pack::file_section::FileSection;
use crate::pack::matcher::{Matcher, Order};
use crate::pack::pack_writer::FRAME;
use crate::pack::script::{Edit, ScriptWriter};
use crate::pack::units::Unit;

/// The most bytes in a frame of a layer over others: a reader holds one frame of each layer in memory.
const LAYER_FRAME: usize = 256 << 10;

/// The most bytes of an edit script in a frame, for the same reason.
const SCRIPT_FRAME: usize = 64 << 10;

/// Takes frames into packs.
pub(crate) trait FrameSink {
    /// Compresses and appends a frame of at most [`FRAME`] bytes; returns where they are.
    fn append(&self, data: &[u8]) -> io::Result<Extent>;
}

/// Takes what the next snapshot needs to know of a stream. It is a cache, so its failures are its own.
pub(crate) trait Memory {
    /// The next unit.
    fn unit(&mut self, unit: Unit);
    /// The next bytes of the edit script.
    fn script(&mut self, bytes: &[u8]);
    /// The next new bytes are packed: together with what was packed before, they hold all units so far that are new.
    /// Over an earlier version, this is how far that one was used.
    fn packed(&mut self, extent: Extent, over: Option<Checkpoint>);
}

/// How far the version below was used, at a moment when all that was taken is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Checkpoint {
    /// The step of the script that was begun, after all that were handed over.
    pub step: Edit,
    /// How many bytes of the version below were copied or skipped.
    pub consumed: u64,
    /// The unit of the previous version that is expected next, by its number.
    pub next_unit: u64,
    /// Its offset there.
    pub next_offset: u64,
}

/// Why a stream could not be encoded.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EncodeError {
    /// Reading or writing local files, or the pack, failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The source's bytes cannot be cut into units.
    #[error(transparent)]
    Cut(#[from] CutError),
}

/// The same stream before.
pub(crate) struct Previous {
    /// Its units, as [`Unit::write`] wrote them.
    pub units: FileSection,
    /// The layers that a new one goes over.
    pub below: Vec<Layer>,
    /// Where its bytes are in what these layers make.
    pub base: Base,
    /// Scripts of layers, by their place in `below`, that must be packed again because theirs are lost.
    pub lost_scripts: Vec<(usize, LocalScript)>,
}

/// An encoded stream.
#[derive(Debug)]
pub(crate) struct Encoded {
    /// Its length in bytes.
    pub length: u64,
    /// SHA-256 of all its bytes.
    pub sha256: Sha256,
    /// Count and digest of its units: for rows, of the table.
    pub sum: DigestSum,
    /// Its layers, the lowest first.
    pub layers: Vec<Layer>,
    /// How many of these are older.
    pub kept: usize,
    /// How many of its bytes were newly packed.
    pub new_bytes: u64,
}

/// Encodes one stream. Bytes go in by [`StreamEncoder::push`]; only [`StreamEncoder::finish`] makes an [`Encoded`].
pub(crate) struct StreamEncoder<'a, M> {
    cutter: Option<Cutter>,
    state: State<'a, M>,
}

struct State<'a, M> {
    hasher: PieceHasher,
    sink: &'a (dyn FrameSink + Sync),
    history: Option<History>,
    memory: M,
    hash: sha2::Sha256,
    length: u64,
    /// Where the new bytes are.
    data: Vec<Extent>,
    new_bytes: u64,
    /// New bytes that do not fill a frame yet: a changed row here and there must not cost a frame each.
    fresh: Vec<u8>,
    /// The most bytes in a frame of new data.
    frame: usize,
}

/// The previous version, and the script that makes this one of it.
struct History {
    matcher: Matcher,
    base: Base,
    below: Vec<Layer>,
    script: ScriptWriter,
    /// What of the script does not fill a frame yet.
    unpacked_script: Vec<u8>,
    packed_script: Vec<Extent>,
    /// How far the version below was copied or skipped.
    at: u64,
    copied: u64,
}

impl<'a, M: Memory> StreamEncoder<'a, M> {
    /// Encodes a stream of this kind into `sink`, over `previous` if there is one.
    pub(crate) fn new(
        kind: StreamKind,
        key: [u8; 32],
        sink: &'a (dyn FrameSink + Sync),
        previous: Option<Previous>,
        memory: M,
    ) -> Result<Self, EncodeError> {
        let history = previous.map(|previous| History::new(previous, kind, sink)).transpose()?;
        let state = State {
            hasher: PieceHasher::new(kind, &key),
            sink,
            frame: if history.is_some() { LAYER_FRAME } else { FRAME },
            history,
            memory,
            hash: sha2::Sha256::new(),
            length: 0,
            data: Vec::new(),
            new_bytes: 0,
            fresh: Vec::new(),
        };
        Ok(Self { cutter: Some(Cutter::new(kind)), state })
    }

    /// The next bytes of the stream.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        self.state.hash.update(bytes);
        self.state.length += bytes.len() as u64;
        let state = &mut self.state;
        match &mut self.cutter {
            Some(cutter) => cutter.push(bytes, |piece| state.piece(piece)),
            None => Ok(()),
        }
    }

    /// Finishes the stream; to be called only when the source has said that it is complete.
    pub(crate) fn finish(mut self) -> Result<(Encoded, M), EncodeError> {
        let state = &mut self.state;
        if let Some(cutter) = self.cutter.take() {
            cutter.finish(|piece| state.piece(piece))?;
        }
        state.flush()?;
        self.state.end()
    }
}

impl History {
    fn new(previous: Previous, kind: StreamKind, sink: &dyn FrameSink) -> io::Result<Self> {
        let Previous { units, mut below, base, lost_scripts } = previous;
        for (layer, mut script) in lost_scripts {
            let mut block = Vec::new();
            below[layer].script.clear();
            while script.by_ref().take(SCRIPT_FRAME as u64).read_to_end(&mut block)? > 0 {
                extent::push(&mut below[layer].script, sink.append(&block)?);
                block.clear();
            }
        }
        let order = match kind {
            StreamKind::Pages { .. } => Order::ByPlace,
            StreamKind::Rows | StreamKind::Bytes => Order::Shifting,
        };
        Ok(Self {
            matcher: Matcher::new(units, order),
            base,
            below,
            script: ScriptWriter::default(),
            unpacked_script: Vec::new(),
            packed_script: Vec::new(),
            at: 0,
            copied: 0,
        })
    }

    /// Copies the unit, if the version below has it.
    fn copy(&mut self, unit: Unit) -> io::Result<bool> {
        let Some(at) = self.matcher.find(unit)? else { return Ok(false) };
        let length = u64::from(unit.length);
        let Some(at) = self.base.locate(at, length)? else { return Ok(false) };
        self.script.skip(at - self.at);
        self.script.copy(length);
        self.at = at + length;
        self.copied += length;
        Ok(true)
    }

    fn unchanged(&self) -> bool {
        self.script.copied_only() == Some(self.below.last().map_or(0, |layer| layer.length))
    }

    /// Hands over what is encoded of the script.
    fn drain_script(&mut self, memory: &mut impl Memory) {
        let bytes = self.script.drain();
        memory.script(&bytes);
        self.unpacked_script.extend(bytes);
    }

    fn pack_script(&mut self, sink: &dyn FrameSink) -> io::Result<()> {
        for block in std::mem::take(&mut self.unpacked_script).chunks(SCRIPT_FRAME) {
            extent::push(&mut self.packed_script, sink.append(block)?);
        }
        Ok(())
    }

    fn checkpoint(&self) -> Checkpoint {
        let (next_unit, next_offset) = self.matcher.position();
        Checkpoint { step: self.script.current(), consumed: self.at, next_unit, next_offset }
    }
}

impl<M: Memory> State<'_, M> {
    fn piece(&mut self, piece: Piece<'_>) -> Result<(), EncodeError> {
        let bytes = piece.bytes;
        // A piece is at most 1 MiB, see `unit::LONGEST_PIECE`: a longer row is remembered as several units.
        let unit = Unit { hash: self.hasher.piece(piece), length: bytes.len() as u32 };
        let copied = match &mut self.history {
            Some(history) => history.copy(unit)?,
            None => false,
        };
        if !copied {
            self.fresh(bytes)?;
        }
        if let Some(history) = &mut self.history
            && history.script.pending() + history.unpacked_script.len() >= SCRIPT_FRAME
        {
            history.drain_script(&mut self.memory);
            history.pack_script(self.sink)?;
        }
        self.memory.unit(unit);
        Ok(())
    }

    fn fresh(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        self.new_bytes += bytes.len() as u64;
        if self.fresh.len() + bytes.len() > self.frame {
            self.flush()?;
        }
        if bytes.len() >= self.frame {
            bytes.chunks(self.frame).try_for_each(|piece| self.pack(piece))?;
        } else {
            self.fresh.extend_from_slice(bytes);
        }
        if let Some(history) = &mut self.history {
            history.script.take(bytes.len() as u64);
        }
        Ok(())
    }

    /// Packs the collected new bytes.
    fn flush(&mut self) -> Result<(), EncodeError> {
        if self.fresh.is_empty() {
            return Ok(());
        }
        let mut fresh = std::mem::take(&mut self.fresh);
        self.pack(&fresh)?;
        fresh.clear();
        self.fresh = fresh;
        Ok(())
    }

    fn pack(&mut self, data: &[u8]) -> Result<(), EncodeError> {
        let extent = self.sink.append(data)?;
        extent::push(&mut self.data, extent);
        let over = self.history.as_mut().map(|history| {
            history.drain_script(&mut self.memory);
            history.checkpoint()
        });
        self.memory.packed(extent, over);
        Ok(())
    }

    /// Closes the layer of this version, if it needs one of its own.
    fn end(mut self) -> Result<(Encoded, M), EncodeError> {
        let mut layer = Layer { length: self.length, script: Vec::new(), data: self.data };
        let mut layers = Vec::new();
        let mut unchanged = self.length == 0;
        if let Some(mut history) = self.history {
            unchanged |= history.unchanged();
            // Over a version of which it keeps nothing, a layer would only cost its readers time.
            if unchanged || history.copied > 0 {
                layers = std::mem::take(&mut history.below);
            }
            if !unchanged && history.copied > 0 {
                history.script.end();
                history.drain_script(&mut self.memory);
                history.pack_script(self.sink)?;
                layer.script = history.packed_script;
            }
        }
        if self.length == 0 {
            layers.clear();
        }
        let kept = layers.len();
        if !unchanged {
            layers.push(layer);
        }
        let encoded = Encoded {
            length: self.length,
            sha256: Sha256(self.hash.finalize().into()),
            sum: self.hasher.sum(),
            layers,
            kept,
            new_bytes: self.new_bytes,
        };
        Ok((encoded, self.memory))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pack::base::Lost;
    use crate::pack::compose::{Composer, Origins};
    use crate::pack::script::ScriptReader;
    use proptest::prelude::*;
    use std::io::{Cursor, Write};
    use std::sync::Mutex;

    /// Packs of decompressed bytes in memory, closed after 3,000 bytes.
    #[derive(Default)]
    struct Packs(Mutex<Vec<Vec<u8>>>);

    impl FrameSink for Packs {
        fn append(&self, data: &[u8]) -> io::Result<Extent> {
            let mut packs = self.0.lock().unwrap();
            if packs.last().is_none_or(|p| p.len() > 3000) {
                packs.push(Vec::new());
            }
            let number = packs.len() as u32 - 1;
            let pack = packs.last_mut().unwrap();
            let offset = pack.len() as u64;
            pack.extend(data);
            Ok(Extent { pack: Some(number), offset, length: data.len() as u64 })
        }
    }

    impl Packs {
        fn read(&self, extents: &[Extent]) -> Vec<u8> {
            let packs = self.0.lock().unwrap();
            let part = |e: &Extent| {
                &packs[e.pack.unwrap() as usize][e.offset as usize..(e.offset + e.length) as usize]
            };
            extents.iter().flat_map(part).copied().collect()
        }

        fn scripts<'a>(
            &self,
            layers: &'a [Layer],
        ) -> impl Iterator<Item = ScriptReader<LocalScript>> + use<'a, '_> {
            layers
                .iter()
                .skip(1)
                .map(|l| ScriptReader::new(Box::new(Cursor::new(self.read(&l.script))) as LocalScript))
        }

        /// The stream that these layers make.
        fn stream(&self, layers: &[Layer]) -> Vec<u8> {
            let Some(bottom) = layers.first() else { return Vec::new() };
            assert_eq!(bottom.new_bytes(), bottom.length);
            let data: Vec<Vec<u8>> = layers.iter().map(|l| self.read(&l.data)).collect();
            let mut composer = Composer::new(bottom.length, self.scripts(layers));
            let mut made = Vec::new();
            while let Some(p) = composer.next(u64::MAX).unwrap() {
                made.extend_from_slice(&data[p.source][p.offset as usize..(p.offset + p.length) as usize]);
            }
            made
        }
    }

    #[derive(Default)]
    struct Remembered(Vec<u8>);

    impl Memory for Remembered {
        fn unit(&mut self, unit: Unit) {
            unit.write(&mut self.0).unwrap();
        }
        fn script(&mut self, _: &[u8]) {}
        fn packed(&mut self, _: Extent, _: Option<Checkpoint>) {}
    }

    fn encode(
        packs: &Packs,
        kind: StreamKind,
        data: &[u8],
        previous: Option<Previous>,
    ) -> (Encoded, FileSection) {
        let mut encoder = StreamEncoder::new(kind, [1; 32], packs, previous, Remembered::default()).unwrap();
        for batch in data.chunks(777) {
            encoder.push(batch).unwrap();
        }
        let (encoded, remembered) = encoder.finish().unwrap();
        assert!(packs.stream(&encoded.layers) == data);
        assert_eq!((encoded.length, encoded.sha256), (data.len() as u64, Sha256::of(data)));
        let mut units = tempfile::tempfile().unwrap();
        units.write_all(&remembered.0).unwrap();
        (encoded, FileSection::whole(units).unwrap())
    }

    fn over(encoded: Encoded, units: FileSection) -> Previous {
        Previous { units, below: encoded.layers, base: Base::default(), lost_scripts: Vec::new() }
    }

    /// Snapshots `first`, then `second` on top of it; returns what `second` packed.
    fn second_snapshot(kind: StreamKind, first: &[u8], second: &[u8]) -> Encoded {
        let packs = Packs::default();
        let (one, units) = encode(&packs, kind, first, None);
        encode(&packs, kind, second, Some(over(one, units))).0
    }

    fn rows(range: std::ops::Range<u32>, changed: impl Fn(u32) -> bool) -> Vec<u8> {
        range
            .flat_map(|i| format!("{i}\tname {i} {}\n", if changed(i) { "new" } else { "old" }).into_bytes())
            .collect()
    }

    #[test]
    fn only_what_changed_is_packed() {
        let before = rows(0..20_000, |_| false);
        let same = second_snapshot(StreamKind::Rows, &before, &before);
        assert_eq!((same.new_bytes, same.layers.len()), (0, 1));
        let after = rows(5..20_010, |i| i % 1000 == 7);
        let new = second_snapshot(StreamKind::Rows, &before, &after).new_bytes;
        let is_new = |i: &u32| i % 1000 == 7 || *i >= 20_000;
        let fresh: usize = (5..20_010).filter(is_new).map(|i| rows(i..i + 1, |_| false).len()).sum();
        assert_eq!(new as usize, fresh);
    }

    #[test]
    fn a_changed_piece_of_a_long_row_costs_that_piece() {
        let with = |changed: u8| {
            let mut row: Vec<u8> = (0..5 << 20).map(|n| b'a' + (n / 1000 % 23) as u8).collect();
            row[3 << 20] = changed;
            row.push(b'\n');
            [rows(0..10, |_| false), row, rows(10..20, |_| false)].concat()
        };
        let second = second_snapshot(StreamKind::Rows, &with(b'x'), &with(b'y'));
        assert_eq!((second.new_bytes, second.sum.rows()), (1 << 20, 21));
    }

    #[test]
    fn an_emptied_or_replaced_stream_keeps_no_old_layer() {
        let before = rows(0..100, |_| false);
        assert_eq!(second_snapshot(StreamKind::Rows, &before, b"").layers, []);
        let replaced = second_snapshot(StreamKind::Rows, &before, &rows(0..100, |_| true));
        assert_eq!((replaced.layers.len(), replaced.kept), (1, 0));
        assert_eq!(second_snapshot(StreamKind::Rows, b"", &before).kept, 0);
    }

    #[test]
    fn many_nights_over_each_other_and_written_as_one() {
        let packs = Packs::default();
        let night = |n: u32| rows(n..3_000 + n, |i| i % 100 < n);
        let (mut last, mut units) = encode(&packs, StreamKind::Rows, &night(0), None);
        for n in 1..10 {
            (last, units) = encode(&packs, StreamKind::Rows, &night(n), Some(over(last, units)));
            assert_eq!((last.layers.len(), last.kept), (n as usize + 1, n as usize));
        }
        // What changed since the third night, as one layer.
        let origins = Origins::new(Composer::new(last.layers[3].length, packs.scripts(&last.layers[3..])));
        let below = last.layers[..4].to_vec();
        let previous = Previous {
            units,
            below,
            base: Base { older: Some(origins), lost: None },
            lost_scripts: Vec::new(),
        };
        let (last, units) = encode(&packs, StreamKind::Rows, &night(10), Some(previous));
        assert_eq!((last.layers.len(), last.kept), (5, 4));
        let (last, _) = encode(&packs, StreamKind::Rows, &night(11), Some(over(last, units)));
        assert_eq!(last.layers.len(), 6);
    }

    #[test]
    fn what_lies_in_a_lost_pack_is_packed_again() {
        let packs = Packs::default();
        let (before, after) = (rows(0..1_000, |_| false), rows(0..1_000, |i| i % 50 == 0));
        let (first, units) = encode(&packs, StreamKind::Rows, &before, None);
        let (mut second, units) = encode(&packs, StreamKind::Rows, &after, Some(over(first, units)));
        let origins = Origins::new(Composer::new(second.layers[0].length, packs.scripts(&second.layers)));
        let script = packs.read(&second.layers[1].script);
        second.layers[1].script[0].pack = None;
        let previous = Previous {
            units,
            below: second.layers,
            base: Base {
                older: None,
                lost: Some(Lost { origins, ranges: vec![vec![0..500, 1_000..1_001], Vec::new()] }),
            },
            lost_scripts: vec![(1, Box::new(Cursor::new(script)))],
        };
        let (third, _) = encode(&packs, StreamKind::Rows, &after, Some(previous));
        assert!(third.layers[1].script[0].pack.is_some());
        assert!((500..600).contains(&third.new_bytes), "{}", third.new_bytes);
    }

    proptest! {
        #[test]
        fn every_byte_comes_back(first in proptest::collection::vec("[ab]{0,400}\n", 0..60), second in proptest::collection::vec("[ab]{0,400}\n", 0..60), shared in 0usize..60) {
            let second: Vec<String> = first.iter().take(shared).cloned().chain(second).collect();
            let (first, second) = (first.concat(), second.concat());
            second_snapshot(StreamKind::Rows, first.as_bytes(), second.as_bytes());
            second_snapshot(StreamKind::Bytes, first.as_bytes(), second.as_bytes());
        }
    }
}
