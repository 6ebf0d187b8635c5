//! The manifest: the encrypted description of a snapshot (see `docs/FORMAT.md`).

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::model::id::{DatabaseName, EpochId, PublisherName, Sha256, SnapshotId};
use crate::model::stream::{Contents, SourceFacts, StreamFacts, StreamKind};
use crate::model::table::TableProof;
use crate::pack::extent::{Extent, Layer, total};

/// The version of the format that this code writes, and the newest it reads.
pub(crate) const FORMAT: u32 = 1;

/// A manifest is smaller than this, decompressed.
pub(crate) const MANIFEST_LIMIT: usize = 1 << 30;

/// The most layers of a stream.
pub(crate) const MOST_LAYERS: usize = 256;

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
    /// The packs that the extents of layers refer to by their place in this list.
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
    /// How its bytes are had: the lowest layer first. None for an empty stream.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub layers: Vec<Layer>,
}

impl StreamEntry {
    /// Whether its layers are well-formed, all packs being among the first `packs`.
    pub(crate) fn well_formed(&self, packs: usize) -> bool {
        let inside = |e: &Extent| e.length > 0 && e.pack.is_none_or(|pack| (pack as usize) < packs);
        let layers = &self.layers;
        let lowest = layers.first().is_none_or(|l| l.script.is_empty() && total(&l.data) == Some(l.length));
        lowest
            && layers.len() <= MOST_LAYERS
            && layers.last().map_or(0, |l| l.length) == self.length
            && layers.iter().skip(1).all(|l| !l.script.is_empty())
            && layers.iter().all(|l| total(&l.data).is_some() && total(&l.script).is_some())
            && layers.iter().flat_map(Layer::extents).all(inside)
    }
}
