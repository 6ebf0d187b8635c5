//! The manifest: the encrypted description of a snapshot (see `docs/FORMAT.md`).

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::model::id::{DatabaseName, EpochId, PublisherName, Sha256, SnapshotId};
use crate::model::stream::{Contents, SourceFacts, StreamFacts, StreamKind};
use crate::model::table::TableProof;

/// The version of the format that this code writes, and the newest it reads.
pub(crate) const FORMAT: u32 = 1;

/// A snapshot's description: its streams and where their bytes are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Manifest {
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

impl Manifest {
    /// What engines need to know of it. Fails where the row key is not one.
    pub(crate) fn contents(&self) -> Result<Contents> {
        let mut row_key = [0; 32];
        hex::decode_to_slice(&self.row_key, &mut row_key).map_err(|_| {
            Error::verification(format!(
                "the row key of snapshot {} is not 64 hexadecimal digits",
                self.snapshot
            ))
        })?;
        let stream = |entry: &StreamEntry| StreamFacts {
            name: entry.name.clone(),
            kind: entry.kind,
            length: entry.length,
            tables: entry.tables.clone(),
        };
        Ok(Contents {
            snapshot: self.snapshot.clone(),
            source: self.source.clone(),
            row_key,
            streams: self.streams.iter().map(stream).collect(),
        })
    }
}

/// A pack of this snapshot's epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PackRef {
    /// SHA-256 of the pack's ciphertext: also its name.
    pub sha256: Sha256,
    /// Size of the ciphertext in bytes.
    pub size: u64,
}

/// One stream of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StreamEntry {
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
