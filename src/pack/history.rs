//! Where the bytes of a stream are, in this snapshot and in the previous one.

use std::collections::HashSet;
use std::io::{self, Read};

use crate::model::id::Sha256;
use crate::model::stream::StreamKind;
use crate::pack::delta::{Matcher, Order, Unit};

/// The pack that some bytes are in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Place {
    /// In a pack of this snapshot, by its number.
    New(u32),
    /// In a pack of an earlier snapshot of the epoch.
    Old(Sha256),
}

/// A run of a stream's bytes inside a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Run {
    /// Which pack.
    pub place: Place,
    /// Offset in the pack's decompressed bytes.
    pub offset: u64,
    /// Number of bytes.
    pub length: u64,
}

/// A run of bytes in a stored pack: (pack, offset, length).
pub(crate) type StoredRun = (Sha256, u64, u64);

/// The same stream in the previous snapshot.
pub(crate) struct Previous {
    /// Where its bytes are, in order.
    pub runs: Vec<StoredRun>,
    /// Its units, as [`Unit::write`] wrote them.
    pub units: Box<dyn Read + Send>,
    /// Packs that must not be referred to any more.
    pub lost: HashSet<Sha256>,
}

/// The previous stream, searched unit by unit.
pub(super) struct History {
    matcher: Matcher<Box<dyn Read + Send>>,
    runs: Vec<StoredRun>,
    /// Offset in the previous stream at which each run starts.
    starts: Vec<u64>,
    lost: HashSet<Sha256>,
}

impl History {
    /// The history of a stream of this kind.
    pub(super) fn new(previous: Previous, kind: StreamKind) -> Self {
        let order = match kind {
            StreamKind::Pages { .. } => Order::ByPlace,
            StreamKind::Rows | StreamKind::Bytes => Order::Shifting,
        };
        let starts = previous.runs.iter().scan(0, |end, (_, _, length)| {
            let start = *end;
            *end += length;
            Some(start)
        });
        Self {
            starts: starts.collect(),
            matcher: Matcher::new(previous.units, order),
            runs: previous.runs,
            lost: previous.lost,
        }
    }

    /// Where the previous stream has this unit, in packs that can still be used.
    pub(super) fn find(&mut self, unit: Unit) -> io::Result<Option<u64>> {
        let found = self.matcher.find(unit)?;
        Ok(found.filter(|at| self.usable(*at, u64::from(unit.length))))
    }

    fn usable(&self, at: u64, length: u64) -> bool {
        self.lost.is_empty()
            || self.locate(at, length).all(|run| match run.place {
                Place::Old(pack) => !self.lost.contains(&pack),
                Place::New(_) => true,
            })
    }

    /// The runs that hold a range of the previous stream.
    pub(super) fn locate(&self, at: u64, length: u64) -> impl Iterator<Item = Run> + '_ {
        let first = self.starts.partition_point(|start| *start <= at).saturating_sub(1);
        let end = at + length;
        self.starts[first..].iter().zip(&self.runs[first..]).take_while(move |(start, _)| **start < end).map(
            move |(start, (pack, offset, run_length))| {
                let from = at.max(*start);
                let to = end.min(start + run_length);
                Run { place: Place::Old(*pack), offset: offset + (from - start), length: to - from }
            },
        )
    }
}
