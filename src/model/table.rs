//! Tables: their names, and the proof that a restored one equals its source.

use serde::{Deserialize, Serialize};

/// A table's identity and the proof that a restored one equals it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableProof {
    /// Which table.
    #[serde(flatten)]
    pub table: TableId,
    /// The columns of a row's text, in order.
    pub columns: Vec<String>,
    /// The columns that order the rows; empty for a table without a key.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub key: Vec<String>,
    /// Number of rows.
    pub rows: u64,
    /// Sum modulo 2^128 of the rows' keyed hashes: 32 hexadecimal digits.
    pub digest: RowDigest,
}

/// A table's name: `schema` is empty for engines without schemas.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TableId {
    /// Schema, or empty.
    pub schema: String,
    /// Table.
    pub table: String,
}

impl std::fmt::Display for TableId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.schema.is_empty() {
            write!(f, "{}", self.table.escape_debug())
        } else {
            write!(f, "{}.{}", self.schema.escape_debug(), self.table.escape_debug())
        }
    }
}

/// An order-independent digest of rows: the sum modulo 2^128 of their keyed 128-bit hashes.
/// The hash is BLAKE3 in keyed mode over the row's bytes (a row of text without its line feed),
/// its first 16 bytes read as a little-endian integer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RowDigest(pub u128);

impl From<RowDigest> for String {
    fn from(d: RowDigest) -> String {
        format!("{:032x}", d.0)
    }
}

impl TryFrom<String> for RowDigest {
    type Error = String;

    fn try_from(s: String) -> Result<Self, String> {
        if s.len() == 32 && s.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            u128::from_str_radix(&s, 16).map(Self).map_err(|e| e.to_string())
        } else {
            Err(format!("row digest {s:?} is not 32 lowercase hexadecimal digits"))
        }
    }
}
