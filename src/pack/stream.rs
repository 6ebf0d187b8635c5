//! Encodes one stream: hashes every unit, refers to what the epoch already holds, and packs what is new.

use std::io::{self, Write};

use sha2::Digest;

use crate::model::id::Sha256;
use crate::model::row_hash::{DigestSum, row_hash, without_line_feed};
use crate::model::stream::StreamKind;
use crate::model::unit::{CutError, Cutter};
use crate::pack::delta::Unit;
use crate::pack::history::{History, Place, Previous, Run};
use crate::pack::pack_writer::{FRAME, LEVEL};

/// A run of old data shorter than this is packed again: an extent, and a seek on restore, cost more.
const SHORTEST_REUSE: u64 = 1024;

/// Takes compressed frames into packs.
pub(crate) trait FrameSink {
    /// Appends a frame of `decompressed` bytes; returns the pack's number and the offset of the
    /// frame's content in the pack's decompressed bytes.
    fn append(&self, frame: &[u8], decompressed: u32) -> io::Result<(u32, u64)>;
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

/// An encoded stream.
#[derive(Debug)]
pub(crate) struct Encoded {
    /// Its length in bytes.
    pub length: u64,
    /// SHA-256 of all its bytes.
    pub sha256: Sha256,
    /// Count and digest of its units: for rows, of the table.
    pub sum: DigestSum,
    /// Where its bytes are.
    pub runs: Vec<Run>,
    /// How many of its bytes were newly packed.
    pub new_bytes: u64,
}

/// Encodes one stream. Bytes go in by [`StreamEncoder::push`]; only [`StreamEncoder::finish`] makes an [`Encoded`].
pub(crate) struct StreamEncoder<'a, U> {
    cutter: Option<Cutter>,
    state: State<'a, U>,
}

struct State<'a, U> {
    kind: StreamKind,
    key: [u8; 32],
    sink: &'a (dyn FrameSink + Sync),
    history: Option<History>,
    units: U,
    hash: sha2::Sha256,
    length: u64,
    sum: DigestSum,
    /// Where the bytes are, in order: (pack, offset, length). Without a pack, they are still in `fresh`, at that offset.
    runs: Vec<(Option<Place>, u64, u64)>,
    new_bytes: u64,
    /// New bytes that do not fill a frame yet. Bytes from before and after a run of old data share a
    /// frame: a changed row here and there must not cost a frame each.
    fresh: Vec<u8>,
    /// Made with the first frame, and used again for the others.
    compressor: Option<zstd::bulk::Compressor<'static>>,
    /// The first run that may not have a pack yet.
    settled: usize,
    /// Old bytes that were found, but are still too few to be worth a reference.
    held: Vec<u8>,
    /// The position of `held` and what follows it in the previous stream: (offset, length).
    reuse: Option<(u64, u64)>,
}

impl<'a, U: Write> StreamEncoder<'a, U> {
    /// Encodes a stream of this kind into `sink`; its units are recorded in `units`.
    pub(crate) fn new(
        kind: StreamKind,
        key: [u8; 32],
        sink: &'a (dyn FrameSink + Sync),
        previous: Option<Previous>,
        units: U,
    ) -> Self {
        let history = previous.map(|previous| History::new(previous, kind));
        let state = State {
            kind,
            key,
            sink,
            history,
            units,
            hash: sha2::Sha256::new(),
            length: 0,
            sum: DigestSum::default(),
            runs: Vec::new(),
            new_bytes: 0,
            fresh: Vec::new(),
            compressor: None,
            settled: 0,
            held: Vec::new(),
            reuse: None,
        };
        Self { cutter: Some(Cutter::new(kind)), state }
    }

    /// The next bytes of the stream.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        self.state.hash.update(bytes);
        self.state.length += bytes.len() as u64;
        let state = &mut self.state;
        match &mut self.cutter {
            Some(cutter) => cutter.push(bytes, |unit| state.unit(unit)),
            None => Ok(()),
        }
    }

    /// Finishes the stream; to be called only when the source has said that it is complete.
    pub(crate) fn finish(mut self) -> Result<Encoded, EncodeError> {
        let state = &mut self.state;
        if let Some(cutter) = self.cutter.take() {
            cutter.finish(|unit| state.unit(unit))?;
        }
        state.end_reuse()?;
        state.flush()?;
        state.units.flush()?;
        let state = self.state;
        let mut runs = Vec::new();
        for (place, offset, length) in state.runs {
            let place = place.ok_or_else(|| io::Error::other("some bytes are in no pack"))?;
            push_run(&mut runs, Run { place, offset, length });
        }
        Ok(Encoded {
            length: state.length,
            sha256: Sha256(state.hash.finalize().into()),
            sum: state.sum,
            runs,
            new_bytes: state.new_bytes,
        })
    }
}

impl<U: Write> State<'_, U> {
    fn unit(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        let hashed = if self.kind == StreamKind::Rows { without_line_feed(bytes) } else { bytes };
        let hash = row_hash(&self.key, hashed);
        self.sum.add(hash);
        // A unit is at most 1 GiB, see `unit::LONGEST_UNIT`.
        let unit = Unit { hash, length: bytes.len() as u32 };
        unit.write(&mut self.units)?;
        let found = match &mut self.history {
            Some(history) => history.find(unit)?,
            None => None,
        };
        match found {
            Some(at) => self.old(at, bytes),
            None => {
                self.end_reuse()?;
                self.fresh(bytes)
            }
        }
    }

    fn old(&mut self, at: u64, bytes: &[u8]) -> Result<(), EncodeError> {
        match &mut self.reuse {
            Some((start, length)) if *start + *length == at => *length += bytes.len() as u64,
            _ => {
                self.end_reuse()?;
                self.reuse = Some((at, bytes.len() as u64));
            }
        }
        let worthwhile = self.reuse.is_some_and(|(_, length)| length >= SHORTEST_REUSE);
        if worthwhile {
            self.held.clear();
        } else {
            self.held.extend_from_slice(bytes);
        }
        Ok(())
    }

    fn end_reuse(&mut self) -> Result<(), EncodeError> {
        let Some((start, length)) = self.reuse.take() else {
            return Ok(());
        };
        if length < SHORTEST_REUSE {
            let held = std::mem::take(&mut self.held);
            return self.fresh(&held);
        }
        if let Some(history) = &self.history {
            self.runs.extend(history.locate(start, length).map(|r| (Some(r.place), r.offset, r.length)));
        }
        Ok(())
    }

    fn fresh(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        self.new_bytes += bytes.len() as u64;
        // Units are kept whole where they fit, so that a later snapshot can refer to each.
        if self.fresh.len() + bytes.len() > FRAME {
            self.flush()?;
        }
        if bytes.len() >= FRAME {
            for piece in bytes.chunks(FRAME) {
                let (pack, offset) = self.pack(piece)?;
                self.runs.push((Some(Place::New(pack)), offset, piece.len() as u64));
            }
            return Ok(());
        }
        let at = self.fresh.len() as u64;
        match self.runs.last_mut() {
            Some((None, offset, length)) if *offset + *length == at => *length += bytes.len() as u64,
            _ => self.runs.push((None, at, bytes.len() as u64)),
        }
        self.fresh.extend_from_slice(bytes);
        Ok(())
    }

    /// Packs the collected new bytes, and updates the runs that refer to them.
    fn flush(&mut self) -> Result<(), EncodeError> {
        if self.fresh.is_empty() {
            return Ok(());
        }
        let mut fresh = std::mem::take(&mut self.fresh);
        let (pack, base) = self.pack(&fresh)?;
        fresh.clear();
        self.fresh = fresh;
        for (place, offset, _) in &mut self.runs[self.settled..] {
            if place.is_none() {
                *place = Some(Place::New(pack));
                *offset += base;
            }
        }
        self.settled = self.runs.len();
        Ok(())
    }

    fn pack(&mut self, data: &[u8]) -> Result<(u32, u64), EncodeError> {
        let compressor = match &mut self.compressor {
            Some(compressor) => compressor,
            none => none.insert(zstd::bulk::Compressor::new(LEVEL)?),
        };
        // A frame is at most 1 MiB.
        Ok(self.sink.append(&compressor.compress(data)?, data.len() as u32)?)
    }
}

fn push_run(runs: &mut Vec<Run>, run: Run) {
    match runs.last_mut() {
        Some(last) if last.place == run.place && last.offset + last.length == run.offset => {
            last.length += run.length
        }
        _ => runs.push(run),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::{HashMap, HashSet};
    use std::sync::Mutex;

    /// Packs of decompressed bytes in memory, closed after 3,000 bytes.
    #[derive(Default)]
    struct Memory(Mutex<Vec<Vec<u8>>>);

    impl FrameSink for Memory {
        fn append(&self, frame: &[u8], decompressed: u32) -> io::Result<(u32, u64)> {
            let mut packs = self.0.lock().unwrap();
            if packs.last().is_none_or(|p| p.len() > 3000) {
                packs.push(Vec::new());
            }
            let ordinal = packs.len() as u32 - 1;
            let pack = packs.last_mut().unwrap();
            let offset = pack.len() as u64;
            pack.extend(zstd::bulk::decompress(frame, decompressed as usize).unwrap());
            Ok((ordinal, offset))
        }
    }

    fn encode(kind: StreamKind, data: &[u8], previous: Option<Previous>) -> (Encoded, Vec<u8>, Vec<Vec<u8>>) {
        let sink = Memory::default();
        let mut units = Vec::new();
        let mut encoder = StreamEncoder::new(kind, [1; 32], &sink, previous, &mut units);
        for batch in data.chunks(777) {
            encoder.push(batch).unwrap();
        }
        let encoded = encoder.finish().unwrap();
        (encoded, units, sink.0.into_inner().unwrap())
    }

    /// Snapshots `first`, then `second` on top of it; returns what `second` packed, having checked that
    /// the runs give back every byte.
    fn second_snapshot(kind: StreamKind, first: &[u8], second: &[u8], lost: &[usize]) -> u64 {
        let (one, units, packs) = encode(kind, first, None);
        let name = |i: usize| Sha256([i as u8; 32]);
        let old: HashMap<Sha256, &Vec<u8>> = packs.iter().enumerate().map(|(i, p)| (name(i), p)).collect();
        let runs = one
            .runs
            .iter()
            .map(|r| match r.place {
                Place::New(i) => (name(i as usize), r.offset, r.length),
                Place::Old(_) => unreachable!(),
            })
            .collect();
        let lost: HashSet<_> = lost.iter().map(|i| name(*i)).collect();
        let previous = Previous { runs, units: Box::new(io::Cursor::new(units)), lost: lost.clone() };
        let (two, _, new_packs) = encode(kind, second, Some(previous));
        let mut back = Vec::new();
        for run in &two.runs {
            let pack = match run.place {
                Place::New(i) => &new_packs[i as usize],
                Place::Old(p) => {
                    assert!(!lost.contains(&p));
                    old[&p]
                }
            };
            back.extend_from_slice(&pack[run.offset as usize..(run.offset + run.length) as usize]);
        }
        assert!(back == second);
        assert_eq!((two.length, two.sha256), (second.len() as u64, Sha256::of(second)));
        two.new_bytes
    }

    fn rows(range: std::ops::Range<u32>, changed: impl Fn(u32) -> bool) -> Vec<u8> {
        range
            .flat_map(|i| format!("{i}\tname {i} {}\n", if changed(i) { "new" } else { "old" }).into_bytes())
            .collect()
    }

    #[test]
    fn only_what_changed_is_packed() {
        let before = rows(0..20_000, |_| false);
        assert_eq!(second_snapshot(StreamKind::Rows, &before, &before, &[]), 0);
        let after = rows(5..20_010, |i| i % 1000 == 7);
        let new = second_snapshot(StreamKind::Rows, &before, &after, &[]);
        assert!(new > 0 && new < 2_000, "{new}");
    }

    #[test]
    fn a_lost_pack_is_sent_again() {
        let before = rows(0..2_000, |_| false);
        let new = second_snapshot(StreamKind::Rows, &before, &before, &[0]);
        assert!(new > 2_000, "{new}");
    }

    proptest! {
        #[test]
        fn every_byte_comes_back(first in proptest::collection::vec("[ab]{0,400}\n", 0..60), second in proptest::collection::vec("[ab]{0,400}\n", 0..60), shared in 0usize..60) {
            let second: Vec<String> = first.iter().take(shared).cloned().chain(second).collect();
            let (first, second) = (first.concat(), second.concat());
            second_snapshot(StreamKind::Rows, first.as_bytes(), second.as_bytes(), &[]);
            second_snapshot(StreamKind::Bytes, first.as_bytes(), second.as_bytes(), &[]);
        }
    }
}
