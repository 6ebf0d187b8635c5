//! The keyed hash of a row (or page, or block), and the order-independent digest of a table.
//!
//! BLAKE3 was chosen by measurement among keyed hashes with 128 bits of output that a stranger cannot
//! collide without the key: `cargo bench --bench row_hash` has the comparison.

use crate::model::stream::StreamKind;
use crate::model::table::RowDigest;
use crate::model::unit::{CutError, Cutter};

/// The hash of one unit: the first 16 bytes of keyed BLAKE3, little-endian.
pub fn row_hash(key: &[u8; 32], row: &[u8]) -> u128 {
    let hash = blake3::keyed_hash(key, row);
    let mut first = [0; 16];
    first.copy_from_slice(&hash.as_bytes()[..16]);
    u128::from_le_bytes(first)
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

/// The digest of rows that arrive as lines, in batches cut anywhere.
#[derive(Debug)]
pub(crate) struct RowHasher {
    key: [u8; 32],
    cutter: Cutter,
    sum: DigestSum,
}

impl RowHasher {
    /// Starts with no rows.
    pub(crate) fn new(key: &[u8; 32]) -> Self {
        Self { key: *key, cutter: Cutter::new(StreamKind::Rows), sum: DigestSum::default() }
    }

    /// Takes the next bytes.
    pub(crate) fn update(&mut self, bytes: &[u8]) -> Result<(), CutError> {
        let (key, sum) = (&self.key, &mut self.sum);
        self.cutter.push(bytes, |line| {
            sum.add(row_hash(key, without_line_feed(line)));
            Ok(())
        })
    }

    /// Count and digest. Fails where the last row has no line feed.
    pub(crate) fn finish(self) -> Result<DigestSum, CutError> {
        self.cutter.finish(|_| Ok(()))?;
        Ok(self.sum)
    }
}

/// A row's bytes without the line feed that ends it.
pub(crate) fn without_line_feed(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\n").unwrap_or(line)
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
