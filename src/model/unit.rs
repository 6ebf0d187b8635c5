//! Cutting a stream into the units that are hashed and compared: rows, pages, or blocks.

use fastcdc::v2020::FastCDC;

use crate::model::stream::StreamKind;

/// The shortest, the usual and the longest block of a stream of [`StreamKind::Bytes`]. Blocks are cut where the content says
/// (FastCDC, Xia et al., 2020), so what is put in or taken out moves no block after it.
const BLOCK: (usize, usize, usize) = (16 << 10, 64 << 10, 256 << 10);

/// The longest unit that is kept whole. A longer row is hashed as one row all the same, but the
/// caller must hold it in memory; PostgreSQL itself limits a row's text to 1 GiB.
pub(crate) const LONGEST_UNIT: usize = 1 << 30;

/// Cuts bytes that arrive in arbitrary batches into units.
#[derive(Debug)]
pub(crate) struct Cutter {
    kind: StreamKind,
    /// The beginning of a unit whose end has not arrived yet.
    pending: Vec<u8>,
}

/// Why a stream cannot be cut.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CutError {
    /// Rows must end with a line feed, pages must be whole.
    #[error("the stream ends inside a {0}")]
    Torn(&'static str),
    /// Longer than [`LONGEST_UNIT`].
    #[error("a row is longer than 1 GiB")]
    TooLong,
}

impl Cutter {
    /// A cutter for a stream of this kind.
    pub(crate) fn new(kind: StreamKind) -> Self {
        Self { kind, pending: Vec::new() }
    }

    /// Takes some bytes and calls `unit` for every unit that is now complete, in order.
    pub(crate) fn push<E: From<CutError>>(
        &mut self,
        mut bytes: &[u8],
        mut unit: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        if self.kind == StreamKind::Bytes {
            self.pending.extend_from_slice(bytes);
            return self.cut_blocks(BLOCK.2, unit);
        }
        if !self.pending.is_empty() {
            let missing = match self.end_of_unit(bytes) {
                Some(end) => end,
                None => {
                    self.pending.extend_from_slice(bytes);
                    return if self.pending.len() > LONGEST_UNIT {
                        Err(CutError::TooLong.into())
                    } else {
                        Ok(())
                    };
                }
            };
            self.pending.extend_from_slice(&bytes[..missing]);
            bytes = &bytes[missing..];
            unit(&self.pending)?;
            // One very long row must not keep its memory for the rest of the stream.
            if self.pending.capacity() > 4 << 20 {
                self.pending = Vec::new();
            }
            self.pending.clear();
        }
        while let Some(end) = self.end_of_unit(bytes) {
            unit(&bytes[..end])?;
            bytes = &bytes[end..];
        }
        self.pending.extend_from_slice(bytes);
        Ok(())
    }

    /// How many of `bytes` complete the unit that `pending` began.
    fn end_of_unit(&self, bytes: &[u8]) -> Option<usize> {
        let fixed = match self.kind {
            StreamKind::Rows => return memchr::memchr(b'\n', bytes).map(|at| at + 1),
            StreamKind::Pages { page_size } => page_size as usize,
            StreamKind::Bytes => return None,
        };
        let missing = fixed - self.pending.len();
        (bytes.len() >= missing).then_some(missing)
    }

    /// Cuts blocks off the beginning of `pending` as long as more than `keep` bytes are there: a cut needs to see as many as the
    /// longest block has.
    fn cut_blocks<E>(&mut self, keep: usize, mut unit: impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
        let mut start = 0;
        while self.pending.len() - start > keep {
            let (min, usual, max) = BLOCK;
            let rest = &self.pending[start..];
            let (_, length) = FastCDC::new(rest, min, usual, max).cut(0, rest.len());
            unit(&rest[..length])?;
            start += length;
        }
        self.pending.drain(..start);
        Ok(())
    }

    /// The end of the stream: the last block may be short, a row or a page may not.
    pub(crate) fn finish<E: From<CutError>>(
        mut self,
        unit: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        if self.pending.is_empty() {
            return Ok(());
        }
        match self.kind {
            StreamKind::Rows => Err(CutError::Torn("row").into()),
            StreamKind::Pages { .. } => Err(CutError::Torn("page").into()),
            StreamKind::Bytes => self.cut_blocks(0, unit),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cut(kind: StreamKind, batches: &[&[u8]]) -> Result<Vec<Vec<u8>>, CutError> {
        let mut units = Vec::new();
        let mut cutter = Cutter::new(kind);
        for batch in batches {
            cutter.push(batch, |u| {
                units.push(u.to_vec());
                Ok::<_, CutError>(())
            })?;
        }
        cutter.finish(|u| {
            units.push(u.to_vec());
            Ok::<_, CutError>(())
        })?;
        Ok(units)
    }

    #[test]
    fn a_torn_row_or_page_is_an_error() {
        assert_eq!(cut(StreamKind::Rows, &[b"a\nb"]), Err(CutError::Torn("row")));
        assert_eq!(cut(StreamKind::Pages { page_size: 512 }, &[&[0; 513]]), Err(CutError::Torn("page")));
        assert_eq!(cut(StreamKind::Rows, &[b"\n\n"]).unwrap(), [b"\n", b"\n"]);
    }

    /// Bytes that look like nothing in particular.
    fn noise(length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        blake3::Hasher::new().finalize_xof().fill(&mut bytes);
        bytes
    }

    fn lengths(data: &[u8], batch: usize) -> Vec<usize> {
        let batches: Vec<&[u8]> = data.chunks(batch).collect();
        cut(StreamKind::Bytes, &batches).unwrap().iter().map(Vec::len).collect()
    }

    /// Other cut points would send everything again, once, after an update of marbre.
    #[test]
    fn cut_points_are_pinned() {
        let expected =
            [32798, 100912, 40249, 68411, 152004, 75528, 61313, 86054, 69684, 80169, 58517, 51479, 122882];
        assert_eq!(lengths(&noise(1_000_000), 12_345), expected);
        assert_eq!(lengths(&vec![0; 600_000], 77), [262_144, 262_144, 75_712]);
    }

    #[test]
    fn blocks_after_an_insertion_are_the_same() {
        let before = noise(3_000_000);
        let mut after = before.clone();
        after.splice(1_000_000..1_000_000, noise(333));
        let (before, after) = (lengths(&before, 100_000), lengths(&after, 65_536));
        let common = before.iter().rev().zip(after.iter().rev()).take_while(|(a, b)| a == b).count();
        assert!(common > before.len() / 2, "{before:?} {after:?}");
    }

    proptest! {
        #[test]
        fn batches_do_not_matter(rows in proptest::collection::vec("[a-c]{0,9}\n", 0..40), step in 1usize..50) {
            let whole = rows.concat().into_bytes();
            let batches: Vec<&[u8]> = whole.chunks(step).collect();
            let units = cut(StreamKind::Rows, &batches).unwrap();
            prop_assert_eq!(units, rows.iter().map(|r| r.clone().into_bytes()).collect::<Vec<_>>());
        }
    }
}
