//! The units of a stream (rows, pages, blocks) as they are remembered on disk for the next snapshot: 20 bytes each.

use std::io::{self, Read, Write};

/// A unit as it is recorded: its keyed hash and its length in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unit {
    /// [`crate::model::row_hash::row_hash`] of the whole unit.
    pub hash: u128,
    /// Its length in bytes.
    pub length: u32,
}

/// Bytes of one unit in a file of units.
pub(crate) const RECORD: usize = 20;

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
        Ok(Some(Self::from_bytes(record)))
    }

    /// The unit in a record of a file of units.
    pub(crate) fn from_bytes(record: [u8; RECORD]) -> Self {
        let (hash, length) = record.split_at(16);
        let mut h = [0; 16];
        h.copy_from_slice(hash);
        let mut l = [0; 4];
        l.copy_from_slice(length);
        Self { hash: u128::from_le_bytes(h), length: u32::from_le_bytes(l) }
    }
}
