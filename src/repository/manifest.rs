//! The manifest: the encrypted description of a snapshot (see `docs/FORMAT.md`).

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::model::id::{DatabaseName, EpochId, PublisherName, Sha256, SnapshotId};

/// The version of the format that this code writes, and the newest it reads.
pub const FORMAT: u32 = 1;

/// A snapshot's description: its streams and where their bytes are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Format version, [`FORMAT`].
    pub format: u32,
    /// The owner of the data.
    pub publisher: PublisherName,
    /// The database.
    pub database: DatabaseName,
    /// This snapshot.
    pub snapshot: SnapshotId,
    /// Its epoch.
    pub epoch: EpochId,
    /// What was read, and when.
    pub source: SourceFacts,
    /// The key of the row hashes: 32 bytes in hexadecimal, one per epoch.
    pub row_key: String,
    /// The packs that extents refer to by their place in this list.
    pub packs: Vec<PackRef>,
    /// The streams, in the order in which they were planned.
    pub streams: Vec<StreamEntry>,
}

/// A pack of this snapshot's epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackRef {
    /// SHA-256 of the pack's ciphertext: also its name.
    pub sha256: Sha256,
    /// Size of the ciphertext in bytes.
    pub size: u64,
}

/// What the engine says about the source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceFacts {
    /// `postgres`, `sqlite`, …
    pub engine: String,
    /// The server's own version, e.g. `15.20`.
    pub version: String,
    /// The instant whose state the snapshot holds.
    pub consistent_at: Timestamp,
    /// The same as the engine knows it (an LSN, a binlog position, a change counter), or empty.
    pub consistency_point: String,
    /// The settings under which rows became text (encoding, time zone, date style, …).
    pub settings: BTreeMap<String, String>,
    /// How many objects of each type the database has (`table`, `index`, `function`, …).
    pub inventory: BTreeMap<String, u64>,
    /// What only this engine understands.
    pub details: serde_json::Value,
}

/// How a stream is cut into units, which are hashed and compared with the previous snapshot's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StreamKind {
    /// Rows as lines: each unit ends with a line feed, and holds no other.
    Rows,
    /// Pages of one size: the length of the stream is a multiple of it.
    Pages {
        /// Bytes per page, a power of two from 512 to 65536.
        page_size: u32,
    },
    /// Anything else.
    Bytes,
}

/// One stream of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamEntry {
    /// Its name, unique in the snapshot; a relative path of safe characters, e.g. `rows/0001`.
    pub name: String,
    /// How it is cut.
    pub kind: StreamKind,
    /// Its length in bytes.
    pub length: u64,
    /// SHA-256 of all its bytes.
    pub sha256: Sha256,
    /// For rows (and for tables inside pages): which table, and its proof.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tables: Vec<TableProof>,
    /// Where the bytes are, in order: the lengths add up to `length`.
    pub extents: Vec<Extent>,
}

/// A run of a stream's bytes inside a pack, written as `[pack, offset, length]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "(u32, u64, u64)", into = "(u32, u64, u64)")]
pub struct Extent {
    /// Index into [`Manifest::packs`].
    pub pack: u32,
    /// Offset in the pack's decompressed bytes.
    pub offset: u64,
    /// Number of bytes, at least 1.
    pub length: u64,
}

impl From<(u32, u64, u64)> for Extent {
    fn from((pack, offset, length): (u32, u64, u64)) -> Self {
        Self { pack, offset, length }
    }
}

impl From<Extent> for (u32, u64, u64) {
    fn from(e: Extent) -> Self {
        (e.pack, e.offset, e.length)
    }
}

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
