//! Cutting a stream into the units that are hashed and compared: rows, pages, or blocks.

use fastcdc::v2020::FastCDC;

use crate::model::stream::StreamKind;

/// The shortest, the usual and the longest block of a stream of [`StreamKind::Bytes`]. Blocks are cut where the content says
/// (FastCDC, Xia et al., 2020), so what is put in or taken out moves no block after it.
const BLOCK: (usize, usize, usize) = (16 << 10, 64 << 10, 256 << 10);

/// The longest piece of a row. A longer row is cut there, whatever is in it: nobody ever holds it whole.
pub(crate) const LONGEST_PIECE: usize = 1 << 20;

/// Cuts bytes that arrive in arbitrary batches into units.
#[derive(Debug)]
pub(crate) struct Cutter {
    kind: StreamKind,
    /// The beginning of a piece whose end has not arrived yet.
    pending: Vec<u8>,
    /// Pieces of a row were passed on, but not its last one.
    inside: bool,
}

/// A unit, or a part of a row that is longer than [`LONGEST_PIECE`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Piece<'a> {
    /// Its bytes; those of a row's last piece end with its line feed.
    pub bytes: &'a [u8],
    /// The unit ends here.
    pub last: bool,
}

/// Why a stream cannot be cut.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CutError {
    /// Rows must end with a line feed, pages must be whole.
    #[error("the stream ends inside a {0}")]
    Torn(&'static str),
}

impl Cutter {
    /// A cutter for a stream of this kind.
    pub(crate) fn new(kind: StreamKind) -> Self {
        Self { kind, pending: Vec::new(), inside: false }
    }

    /// Takes some bytes and calls `piece` for every piece that is now complete, in order.
    pub(crate) fn push<E: From<CutError>>(
        &mut self,
        mut bytes: &[u8],
        mut piece: impl FnMut(Piece<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        if self.kind == StreamKind::Bytes {
            self.pending.extend_from_slice(bytes);
            return self.cut_blocks(BLOCK.2, piece);
        }
        while let Some((end, last)) = self.end_of_piece(bytes) {
            let (complete, rest) = bytes.split_at(end);
            bytes = rest;
            self.inside = !last;
            if self.pending.is_empty() {
                piece(Piece { bytes: complete, last })?;
            } else {
                self.pending.extend_from_slice(complete);
                piece(Piece { bytes: &self.pending, last })?;
                self.pending.clear();
            }
        }
        self.pending.extend_from_slice(bytes);
        Ok(())
    }

    /// How many of `bytes` complete the piece that `pending` began, and whether its unit ends there.
    fn end_of_piece(&self, bytes: &[u8]) -> Option<(usize, bool)> {
        let missing = |of: usize| of.saturating_sub(self.pending.len());
        match self.kind {
            StreamKind::Rows => {
                let most = missing(LONGEST_PIECE);
                let window = &bytes[..bytes.len().min(most)];
                let end = memchr::memchr(b'\n', window).map(|at| (at + 1, true));
                end.or_else(|| (window.len() == most).then_some((most, false)))
            }
            StreamKind::Pages { page_size } => {
                let missing = missing(page_size as usize);
                (bytes.len() >= missing).then_some((missing, true))
            }
            StreamKind::Bytes => None,
        }
    }

    /// Cuts blocks off the beginning of `pending` as long as more than `keep` bytes are there: a cut needs to see as many as the
    /// longest block has.
    fn cut_blocks<E>(
        &mut self,
        keep: usize,
        mut piece: impl FnMut(Piece<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut start = 0;
        while self.pending.len() - start > keep {
            let (min, usual, max) = BLOCK;
            let rest = &self.pending[start..];
            let (_, length) = FastCDC::new(rest, min, usual, max).cut(0, rest.len());
            piece(Piece { bytes: &rest[..length], last: true })?;
            start += length;
        }
        self.pending.drain(..start);
        Ok(())
    }

    /// The end of the stream: the last block may be short, a row or a page may not.
    pub(crate) fn finish<E: From<CutError>>(
        mut self,
        piece: impl FnMut(Piece<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        if self.pending.is_empty() && !self.inside {
            return Ok(());
        }
        match self.kind {
            StreamKind::Rows => Err(CutError::Torn("row").into()),
            StreamKind::Pages { .. } => Err(CutError::Torn("page").into()),
            StreamKind::Bytes => self.cut_blocks(0, piece),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pieces(kind: StreamKind, batches: &[&[u8]]) -> Result<Vec<(Vec<u8>, bool)>, CutError> {
        let mut pieces = Vec::new();
        let mut take = |piece: Piece<'_>| {
            pieces.push((piece.bytes.to_vec(), piece.last));
            Ok::<_, CutError>(())
        };
        let mut cutter = Cutter::new(kind);
        for batch in batches {
            cutter.push(batch, &mut take)?;
            assert!(cutter.pending.capacity() <= 2 * LONGEST_PIECE, "a cutter holds one piece at most");
        }
        cutter.finish(take)?;
        Ok(pieces)
    }

    fn cut(kind: StreamKind, batches: &[&[u8]]) -> Result<Vec<Vec<u8>>, CutError> {
        Ok(pieces(kind, batches)?.into_iter().map(|(bytes, _)| bytes).collect())
    }

    #[test]
    fn a_torn_row_or_page_is_an_error() {
        assert_eq!(cut(StreamKind::Rows, &[b"a\nb"]), Err(CutError::Torn("row")));
        assert_eq!(cut(StreamKind::Pages { page_size: 512 }, &[&[0; 513]]), Err(CutError::Torn("page")));
        assert_eq!(cut(StreamKind::Rows, &[b"\n\n"]).unwrap(), [b"\n", b"\n"]);
        let torn = vec![b'a'; LONGEST_PIECE];
        assert_eq!(cut(StreamKind::Rows, &[&torn]), Err(CutError::Torn("row")));
    }

    /// Also where the batches end elsewhere than the pieces, and where a row has exactly the longest length.
    #[test]
    fn a_long_row_is_cut_into_pieces() {
        for length in [LONGEST_PIECE - 1, LONGEST_PIECE, LONGEST_PIECE + 1, 3 * LONGEST_PIECE] {
            let row = [vec![b'a'; length - 1], vec![b'\n']].concat();
            let whole = [&row[..], b"b\n"].concat();
            for batch in [whole.len(), 700_001, 3 << 20] {
                let batches: Vec<&[u8]> = whole.chunks(batch).collect();
                let found = pieces(StreamKind::Rows, &batches).unwrap();
                let expected = row.chunks(LONGEST_PIECE).map(|c| (c.to_vec(), c.ends_with(b"\n")));
                let expected: Vec<_> = expected.chain([(b"b\n".to_vec(), true)]).collect();
                assert!(found == expected, "{length} in batches of {batch}");
            }
        }
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
