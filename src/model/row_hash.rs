//! The keyed hash of a row (or page, or block), and the order-independent digest of a table.
//!
//! BLAKE3 was chosen by measurement among keyed hashes with 128 bits of output that a stranger cannot
//! collide without the key: `cargo bench --bench row_hash` has the comparison.

use crate::model::stream::StreamKind;
use crate::model::table::RowDigest;
use crate::model::unit::{CutError, Cutter, Piece};

/// The hash of one unit: the first 16 bytes of keyed BLAKE3, little-endian.
pub fn row_hash(key: &[u8; 32], row: &[u8]) -> u128 {
    first_bytes(blake3::keyed_hash(key, row))
}

fn first_bytes(hash: blake3::Hash) -> u128 {
    let mut first = [0; 16];
    first.copy_from_slice(&hash.as_bytes()[..16]);
    u128::from_le_bytes(first)
}

/// The [`row_hash`] of a row that comes in parts.
#[derive(Debug, Clone)]
pub(crate) struct RowHash(blake3::Hasher);

impl RowHash {
    /// Starts with no bytes.
    pub(crate) fn new(key: &[u8; 32]) -> Self {
        Self(blake3::Hasher::new_keyed(key))
    }

    /// Takes the next bytes.
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The hash of all of them; then starts again.
    pub(crate) fn finish(&mut self) -> u128 {
        let hash = self.0.finalize();
        self.0.reset();
        first_bytes(hash)
    }
}

/// Counts rows and adds up their hashes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct DigestSum {
    rows: u64,
    sum: u128,
}

impl DigestSum {
    /// Adds one row by its [`row_hash`].
    pub(crate) fn add(&mut self, hash: u128) {
        self.rows += 1;
        self.sum = self.sum.wrapping_add(hash);
    }

    /// Number of rows.
    pub(crate) fn rows(&self) -> u64 {
        self.rows
    }

    /// The digest.
    pub(crate) fn digest(&self) -> RowDigest {
        RowDigest(self.sum)
    }
}

/// Hashes pieces one by one, and adds up the hashes of whole units.
#[derive(Debug)]
pub(crate) struct PieceHasher {
    kind: StreamKind,
    key: [u8; 32],
    /// The row of which pieces have come, but not the last one.
    long: Option<RowHash>,
    sum: DigestSum,
}

impl PieceHasher {
    /// Starts with no units.
    pub(crate) fn new(kind: StreamKind, key: &[u8; 32]) -> Self {
        Self { kind, key: *key, long: None, sum: DigestSum::default() }
    }

    /// Takes the next piece, and returns its own hash: of a unit in one piece, this is the hash of the unit.
    pub(crate) fn piece(&mut self, piece: Piece<'_>) -> u128 {
        // The line feed that ends a row is no part of it.
        let bytes = match self.kind {
            StreamKind::Rows if piece.last => piece.bytes.strip_suffix(b"\n").unwrap_or(piece.bytes),
            _ => piece.bytes,
        };
        let hash = row_hash(&self.key, bytes);
        if piece.last && self.long.is_none() {
            self.sum.add(hash);
            return hash;
        }
        let long = self.long.get_or_insert_with(|| RowHash::new(&self.key));
        long.update(bytes);
        if piece.last {
            self.sum.add(long.finish());
            self.long = None;
        }
        hash
    }

    /// Count and digest of the units so far.
    pub(crate) fn sum(&self) -> DigestSum {
        self.sum
    }
}

/// The digest of rows that arrive as lines, in batches cut anywhere.
#[derive(Debug)]
pub(crate) struct RowHasher {
    cutter: Cutter,
    pieces: PieceHasher,
}

impl RowHasher {
    /// Starts with no rows.
    pub(crate) fn new(key: &[u8; 32]) -> Self {
        Self { cutter: Cutter::new(StreamKind::Rows), pieces: PieceHasher::new(StreamKind::Rows, key) }
    }

    /// Takes the next bytes.
    pub(crate) fn update(&mut self, bytes: &[u8]) -> Result<(), CutError> {
        self.cutter.push(bytes, |piece| {
            self.pieces.piece(piece);
            Ok(())
        })
    }

    /// Count and digest. Fails where the last row has no line feed.
    pub(crate) fn finish(self) -> Result<DigestSum, CutError> {
        self.cutter.finish(|_| Ok(()))?;
        Ok(self.pieces.sum())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn digest(rows: &[String]) -> DigestSum {
        let mut sum = DigestSum::default();
        for row in rows {
            sum.add(row_hash(&[7; 32], row.as_bytes()));
        }
        sum
    }

    #[test]
    fn rows_may_be_cut_anywhere() {
        let digest = |parts: &[&str]| {
            let mut hasher = RowHasher::new(&[7; 32]);
            parts.iter().for_each(|p| hasher.update(p.as_bytes()).unwrap());
            hasher.finish()
        };
        let whole = digest(&["a\nbb\n\n"]).unwrap();
        assert_eq!(whole.rows(), 3);
        assert_eq!(digest(&["a", "\nb", "b\n", "\n"]).unwrap(), whole);
        assert_eq!(digest(&["\nbb\na\n"]).unwrap(), whole);
        assert_ne!(digest(&["a\nbb\n"]).unwrap(), whole);
        assert!(digest(&["a\nbb"]).is_err());
    }

    #[test]
    fn a_row_in_several_pieces_has_the_hash_of_the_whole() {
        let rows = ["x".repeat(5 << 19), "y".repeat(1 << 20), "z".to_owned()];
        let mut hasher = RowHasher::new(&[7; 32]);
        hasher.update((rows.join("\n") + "\n").as_bytes()).unwrap();
        assert_eq!(hasher.finish().unwrap(), digest(&rows));
    }

    proptest! {
        #[test]
        fn order_does_not_matter_but_everything_else_does(mut rows in proptest::collection::vec("[ab]{0,3}", 1..30), at in 0usize..30) {
            let before = digest(&rows);
            rows.reverse();
            prop_assert_eq!(before, digest(&rows));
            let at = at % rows.len();
            let twice = rows[at].clone();
            rows.push(twice);
            prop_assert_ne!(before.digest(), digest(&rows).digest());
            rows.pop();
            rows[at].push('x');
            prop_assert_ne!(before.digest(), digest(&rows).digest());
        }
    }
}
