//! Finds a stream's units in the previous snapshot of the same stream.
//!
//! Both sequences are read once, in order. A window over the previous sequence lets the search skip
//! deleted units and survive inserted ones; memory is bounded by the window, not by the stream. After a
//! run of removed or inserted units that is longer than the window, the rest of the stream is not found, and is
//! packed again once; a run of changed units may have any length.

use std::collections::{HashMap, VecDeque};
use std::io::{self, Read, Write};

/// How many units the window covers before and after the expected position.
const WINDOW: u64 = 16 * 1024;

/// A unit as it is recorded: its keyed hash and its length in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unit {
    /// [`crate::model::row_hash::row_hash`] of the whole unit.
    pub hash: u128,
    /// Its length in bytes.
    pub length: u32,
}

/// Bytes of one unit in a file of units.
const RECORD: usize = 20;

impl Unit {
    /// Appends the unit to a file of units.
    pub(crate) fn write(self, out: &mut impl Write) -> io::Result<()> {
        let mut record = [0; RECORD];
        record[..16].copy_from_slice(&self.hash.to_le_bytes());
        record[16..].copy_from_slice(&self.length.to_le_bytes());
        out.write_all(&record)
    }

    /// Reads the next unit; `None` at the end of the file.
    pub(crate) fn read(from: &mut impl Read) -> io::Result<Option<Self>> {
        let mut record = [0; RECORD];
        let mut filled = 0;
        while filled < RECORD {
            match from.read(&mut record[filled..])? {
                0 if filled == 0 => return Ok(None),
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                n => filled += n,
            }
        }
        let (hash, length) = record.split_at(16);
        let mut h = [0; 16];
        h.copy_from_slice(hash);
        let mut l = [0; 4];
        l.copy_from_slice(length);
        Ok(Some(Self { hash: u128::from_le_bytes(h), length: u32::from_le_bytes(l) }))
    }
}

/// How units of the two sequences correspond.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// Unit *n* can only equal unit *n*: pages.
    ByPlace,
    /// Units may be inserted and removed: rows, blocks.
    Shifting,
}

/// Walks the previous sequence while the new one is read.
pub(crate) struct Matcher<R> {
    previous: R,
    order: Order,
    ended: bool,
    window: VecDeque<(Unit, u64)>,
    /// Number, in the sequence, of the first unit in the window.
    first: u64,
    /// Number of the unit that the next new unit would equal if nothing had changed.
    expected: u64,
    /// Offset in the previous stream of the unit that is read next.
    offset: u64,
    /// The first place of each hash in the window.
    places: HashMap<u128, u64>,
}

impl<R: Read> Matcher<R> {
    /// Searches in the units that `previous` yields.
    pub(crate) fn new(previous: R, order: Order) -> Self {
        Self {
            previous,
            order,
            ended: false,
            window: VecDeque::new(),
            first: 0,
            expected: 0,
            offset: 0,
            places: HashMap::new(),
        }
    }

    /// The offset of the next new unit in the previous stream, if it was found there. Offsets
    /// only grow from call to call.
    pub(crate) fn find(&mut self, unit: Unit) -> io::Result<Option<u64>> {
        let ahead = match self.order {
            Order::ByPlace => 0,
            Order::Shifting => WINDOW,
        };
        self.load(self.expected + ahead)?;
        let place = match self.order {
            Order::ByPlace => Some(self.expected),
            Order::Shifting if self.at(self.expected).is_some_and(|(u, _)| u == unit) => Some(self.expected),
            Order::Shifting => self.places.get(&unit.hash).copied(),
        };
        let found = place.and_then(|place| self.at(place).map(|(u, offset)| (place, u, offset)));
        let result = match found {
            Some((place, u, offset)) if u == unit => {
                self.expected = place + 1;
                self.forget_before(place + 1);
                Some(offset)
            }
            _ => {
                self.expected += 1;
                None
            }
        };
        let behind = match self.order {
            Order::ByPlace => 0,
            Order::Shifting => WINDOW,
        };
        self.forget_before(self.expected.saturating_sub(behind));
        Ok(result)
    }

    fn at(&self, place: u64) -> Option<(Unit, u64)> {
        let index = usize::try_from(place.checked_sub(self.first)?).ok()?;
        self.window.get(index).copied()
    }

    fn load(&mut self, up_to: u64) -> io::Result<()> {
        while !self.ended && self.first + self.window.len() as u64 <= up_to {
            let Some(unit) = Unit::read(&mut self.previous)? else {
                self.ended = true;
                break;
            };
            let place = self.first + self.window.len() as u64;
            if self.order == Order::Shifting {
                self.places.entry(unit.hash).or_insert(place);
            }
            self.window.push_back((unit, self.offset));
            self.offset += u64::from(unit.length);
        }
        Ok(())
    }

    fn forget_before(&mut self, place: u64) {
        while self.first < place {
            let Some((unit, _)) = self.window.pop_front() else {
                break;
            };
            if self.places.get(&unit.hash) == Some(&self.first) {
                self.places.remove(&unit.hash);
            }
            self.first += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sequence(units: &[u32]) -> Vec<u8> {
        let mut out = Vec::new();
        for &u in units {
            Unit { hash: u128::from(u), length: u % 7 + 1 }.write(&mut out).unwrap();
        }
        out
    }

    fn matches(previous: &[u32], new: &[u32], order: Order) -> Vec<Option<u64>> {
        let previous = sequence(previous);
        let mut matcher = Matcher::new(previous.as_slice(), order);
        new.iter().map(|&u| matcher.find(Unit { hash: u128::from(u), length: u % 7 + 1 }).unwrap()).collect()
    }

    fn offset(previous: &[u32], index: usize) -> u64 {
        previous[..index].iter().map(|u| u64::from(u % 7 + 1)).sum()
    }

    #[test]
    fn rows_changed_removed_and_inserted() {
        let previous = [10, 11, 12, 13, 14, 15];
        let new = [10, 99, 12, 14, 77, 78, 15];
        let at = |i| Some(offset(&previous, i));
        assert_eq!(matches(&previous, &new, Order::Shifting), [at(0), None, at(2), at(4), None, None, at(5)]);
    }

    #[test]
    fn pages_are_compared_by_place() {
        let previous = [10, 11, 12];
        assert_eq!(
            matches(&previous, &[11, 11, 12, 13], Order::ByPlace),
            [None, Some(offset(&previous, 1)), Some(offset(&previous, 2)), None]
        );
    }

    #[test]
    fn runs_up_to_the_window_are_survived() {
        let previous: Vec<u32> = (0..60_000).collect();
        let window = WINDOW as u32;
        let removed: Vec<u32> = (0..10).chain(window..60_000).collect();
        let inserted: Vec<u32> = (0..10).chain(70_000..70_000 + window).chain(10..60_000).collect();
        let changed: Vec<u32> = (0..10).chain(70_000..110_000).chain(40_010..60_000).collect();
        for (new, unchanged) in [(removed, 60_000 - window), (inserted, 60_000), (changed, 20_000)] {
            let found = matches(&previous, &new, Order::Shifting).iter().flatten().count();
            assert!(found as u32 >= unchanged, "{found} of {unchanged}");
        }
    }

    proptest! {
        /// Whatever happened between the two, what is found is equal, and offsets grow.
        #[test]
        fn what_is_found_is_equal(previous in proptest::collection::vec(0u32..40, 0..200), new in proptest::collection::vec(0u32..40, 0..200), by_place: bool) {
            let order = if by_place { Order::ByPlace } else { Order::Shifting };
            let offsets: HashMap<u64, u32> = (0..previous.len()).map(|i| (offset(&previous, i), previous[i])).collect();
            let mut last = None;
            for (found, unit) in matches(&previous, &new, order).into_iter().zip(&new) {
                if let Some(at) = found {
                    prop_assert_eq!(offsets[&at], *unit);
                    prop_assert!(last.is_none_or(|l| l < at));
                    last = Some(at);
                }
            }
        }

        #[test]
        fn an_unchanged_stream_is_found_whole(units in proptest::collection::vec(0u32..9, 0..200)) {
            prop_assert!(matches(&units, &units, Order::Shifting).iter().all(Option::is_some));
            prop_assert!(matches(&units, &units, Order::ByPlace).iter().all(Option::is_some));
        }
    }
}
