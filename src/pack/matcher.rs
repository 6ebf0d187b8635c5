//! Finds a stream's units in the previous version of the same stream.
//!
//! Both sequences are read once, in order, and what is found only moves forward. A unit that is not where it is
//! expected is looked for in the next few; where that fails for many units in a row (a long run was removed, or replaced),
//! an index of a sample of the previous sequence finds the place again. So a change costs its own rows, however long
//! it is, and unchanged rows cost one comparison. Memory is bounded whatever the length of the stream.

use std::collections::VecDeque;
use std::io::{self, BufReader};

use crate::pack::file_section::FileSection;
use crate::pack::units::{RECORD, Unit};

/// How many units after the expected one are compared, one by one.
const NEAR: usize = 256;

/// After so many units in a row that were not found nearby, the index is asked.
const LOST_AFTER: u64 = 256;

/// The most entries in the index: 8 MiB.
const INDEX: u64 = 512 << 10;

/// A place that the index gives is right if so many units up to it are equal.
const CONFIRMED_BY: usize = 8;

/// How units of the two sequences correspond.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// Unit *n* can only equal unit *n*: pages.
    ByPlace,
    /// Units may be inserted and removed: rows, blocks.
    Shifting,
}

/// Walks the previous sequence while the new one is read.
pub(crate) struct Matcher {
    previous: BufReader<FileSection>,
    order: Order,
    count: u64,
    /// The next units of the previous sequence, from the expected one on.
    ahead: VecDeque<Unit>,
    /// Number of the expected unit in the previous sequence.
    expected: u64,
    /// Offset of the expected unit in the previous stream.
    offset: u64,
    /// The hashes of the last new units, the newest at the end.
    recent: VecDeque<u128>,
    /// New units since one was found.
    lost: u64,
    index: Option<Index>,
}

impl Matcher {
    /// Searches in the units that this file holds.
    pub(crate) fn new(units: FileSection, order: Order) -> Self {
        let count = units.length() / RECORD as u64;
        let buffer = usize::try_from(units.length()).unwrap_or(usize::MAX).min(RECORD << 12);
        Self {
            previous: BufReader::with_capacity(buffer, units),
            order,
            count,
            ahead: VecDeque::new(),
            expected: 0,
            offset: 0,
            recent: VecDeque::with_capacity(CONFIRMED_BY),
            lost: 0,
            index: None,
        }
    }

    /// The offset of the next new unit in the previous stream, if it was found there. Offsets only grow from call to call.
    pub(crate) fn find(&mut self, unit: Unit) -> io::Result<Option<u64>> {
        self.look_ahead(1)?;
        if self.ahead.front() == Some(&unit) {
            return Ok(Some(self.found(unit)));
        }
        if self.order == Order::ByPlace {
            self.advance(1)?;
            return Ok(None);
        }
        self.look_ahead(NEAR)?;
        if let Some(distance) = self.ahead.iter().position(|u| *u == unit) {
            self.advance(distance as u64)?;
            return Ok(Some(self.found(unit)));
        }
        self.lost += 1;
        if self.lost > LOST_AFTER
            && let Some(place) = self.far(unit)?
        {
            self.advance(place - self.expected)?;
            self.look_ahead(1)?;
            return Ok(Some(self.found(unit)));
        }
        self.remember(unit);
        Ok(None)
    }

    /// Number and offset of the unit in the previous version that is expected next.
    pub(crate) fn position(&self) -> (u64, u64) {
        (self.expected, self.offset)
    }

    fn found(&mut self, unit: Unit) -> u64 {
        self.ahead.pop_front();
        self.expected += 1;
        self.lost = 0;
        self.remember(unit);
        let at = self.offset;
        self.offset += u64::from(unit.length);
        at
    }

    fn remember(&mut self, unit: Unit) {
        if self.recent.len() == CONFIRMED_BY {
            self.recent.pop_front();
        }
        self.recent.push_back(unit.hash);
    }

    /// Reads until `count` units are at hand, or to the end.
    fn look_ahead(&mut self, count: usize) -> io::Result<()> {
        while self.ahead.len() < count && self.expected + (self.ahead.len() as u64) < self.count {
            let unit = Unit::read(&mut self.previous)?.ok_or(io::ErrorKind::UnexpectedEof)?;
            self.ahead.push_back(unit);
        }
        Ok(())
    }

    /// Passes over units of the previous sequence.
    fn advance(&mut self, units: u64) -> io::Result<()> {
        for _ in 0..units {
            self.look_ahead(1)?;
            if let Some(passed) = self.ahead.pop_front() {
                self.offset += u64::from(passed.length);
                self.expected += 1;
            }
        }
        Ok(())
    }

    /// A place after those at hand, if the index has one that is certain enough.
    fn far(&mut self, unit: Unit) -> io::Result<Option<u64>> {
        let from = self.expected + self.ahead.len() as u64;
        if from >= self.count {
            return Ok(None);
        }
        let index = match self.index.take() {
            Some(index) => index,
            None => Index::build(self.previous.get_ref(), from, self.count)?,
        };
        let place = index.first_from(unit.hash, from);
        self.index = Some(index);
        Ok(match place {
            Some(place) if self.confirmed(place, unit)? => Some(place),
            _ => None,
        })
    }

    /// Whether the units up to `place` are the last new ones.
    fn confirmed(&self, place: u64, unit: Unit) -> io::Result<bool> {
        let before = CONFIRMED_BY as u64 - 1;
        let Some(start) = place.checked_sub(before).filter(|s| *s >= self.expected) else {
            return Ok(false);
        };
        let mut records = [0; CONFIRMED_BY * RECORD];
        self.previous.get_ref().read_exact_at(&mut records, start * RECORD as u64)?;
        let (records, _) = records.as_chunks::<RECORD>();
        let mut units = records.iter().map(|r| Unit::from_bytes(*r));
        let last = units.next_back();
        let recent = self.recent.iter().rev().take(before as usize);
        Ok(last == Some(unit) && units.rev().map(|u| u.hash).eq(recent.copied()))
    }
}

/// Where a sample of the units is: those whose hash is a multiple of a power of two.
struct Index {
    mask: u64,
    /// (hash, place), sorted.
    entries: Vec<(u64, u64)>,
}

impl Index {
    fn build(units: &FileSection, from: u64, count: u64) -> io::Result<Self> {
        let mask = ((count - from) / INDEX + 1).next_power_of_two() - 1;
        let mut entries = Vec::new();
        let mut block = vec![0; RECORD << 12];
        let mut place = from;
        while place < count {
            let take = usize::try_from(count - place).unwrap_or(usize::MAX).min(1 << 12);
            let block = &mut block[..take * RECORD];
            units.read_exact_at(block, place * RECORD as u64)?;
            for record in block.as_chunks::<RECORD>().0 {
                let hash = Unit::from_bytes(*record).hash as u64;
                // Identical units by the thousand would make the sample grow without telling any place.
                if hash & mask == 0 && (entries.len() as u64) < 2 * INDEX {
                    entries.push((hash, place));
                }
                place += 1;
            }
        }
        entries.sort_unstable();
        Ok(Self { mask, entries })
    }

    /// The first place of this hash from a place on.
    fn first_from(&self, hash: u128, from: u64) -> Option<u64> {
        let hash = hash as u64;
        if hash & self.mask != 0 {
            return None;
        }
        let at = self.entries.partition_point(|entry| *entry < (hash, from));
        self.entries.get(at).filter(|(h, _)| *h == hash).map(|(_, place)| *place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    fn unit(u: u32) -> Unit {
        let hash = u128::from_le_bytes(blake3::hash(&u.to_le_bytes()).as_bytes()[..16].try_into().unwrap());
        Unit { hash, length: u % 7 + 1 }
    }

    fn file(units: &[u32]) -> FileSection {
        let mut out = io::BufWriter::new(tempfile::tempfile().unwrap());
        units.iter().for_each(|u| unit(*u).write(&mut out).unwrap());
        FileSection::whole(out.into_inner().unwrap()).unwrap()
    }

    fn matches(previous: &[u32], new: &[u32], order: Order) -> Vec<Option<u64>> {
        let mut matcher = Matcher::new(file(previous), order);
        new.iter().map(|&u| matcher.find(unit(u)).unwrap()).collect()
    }

    fn missed(previous: &[u32], new: &[u32]) -> usize {
        matches(previous, new, Order::Shifting).iter().filter(|m| m.is_none()).count()
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

    /// A long run that was removed, inserted or replaced costs itself, and some hundred units until the place is found.
    #[test]
    fn long_runs_cost_only_themselves() {
        let previous: Vec<u32> = (0..400_000).collect();
        let removed: Vec<u32> = (0..100_000).chain(300_000..400_000).collect();
        assert!(missed(&previous, &removed) < 600);
        let inserted: Vec<u32> = (0..10).chain(500_000..700_000).chain(10..400_000).collect();
        assert_eq!(missed(&previous, &inserted), 200_000);
        let replaced: Vec<u32> = (0..10).chain(500_000..600_000).chain(100_010..400_000).collect();
        assert!(missed(&previous, &replaced) < 100_100);
        let purged: Vec<u32> = (20_000..420_000).collect();
        assert!(missed(&previous, &purged) < 20_600);
        let thinned: Vec<u32> =
            previous.iter().copied().filter(|u| u.wrapping_mul(2_654_435_761) % 10 >= 3).collect();
        assert_eq!(missed(&previous, &thinned), 0);
    }

    /// In a longer sequence the index holds a sample only.
    #[test]
    fn a_sample_is_enough() {
        let previous: Vec<u32> = (0..2_000_000).collect();
        let removed: Vec<u32> = (0..10).chain(1_000_000..2_000_000).collect();
        assert!(missed(&previous, &removed) < 1_000);
    }

    #[test]
    fn a_unit_far_away_alone_is_no_reason_to_go_there() {
        let previous: Vec<u32> = (0..20_000).collect();
        let new: Vec<u32> = (30_000..31_000).chain([15_000]).chain(0..20_000).collect();
        assert_eq!(missed(&previous, &new), 1_001);
    }

    proptest! {
        /// Whatever happened between the two, what is found is equal, and offsets grow.
        #[test]
        fn what_is_found_is_equal(
            previous in proptest::collection::vec(0u32..40, 0..200),
            new in proptest::collection::vec(0u32..40, 0..200),
            by_place: bool,
        ) {
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

        /// Long runs of any kind, at any place: what was there before is nearly all found again.
        #[test]
        fn runs_of_any_length_cost_about_themselves(
            before in 0u32..3_000, removed in 0u32..40_000, inserted in 0u32..3_000, after in 2_000u32..20_000,
        ) {
            let previous: Vec<u32> = (0..before + removed + after).collect();
            let new: Vec<u32> = (0..before).chain(100_000..100_000 + inserted).chain(before + removed..before + removed + after).collect();
            prop_assert!(missed(&previous, &new) < inserted as usize + 400);
        }
    }
}
