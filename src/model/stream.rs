//! What an engine says about its source, and how the streams of a snapshot are cut.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::id::SnapshotId;
use super::omission::Omission;
use super::table::TableProof;

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
    /// What the database has and the snapshot does not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub omitted: Vec<Omission>,
    /// The server that ended the first attempt at this snapshot, which was then taken from another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instead_of: Option<String>,
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

/// What a snapshot holds, without where its bytes are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contents {
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// What was read, and when.
    pub source: SourceFacts,
    /// The key of the row hashes.
    pub row_key: [u8; 32],
    /// The streams, in the order in which they were planned.
    pub streams: Vec<StreamFacts>,
}

/// One stream of a snapshot, without where its bytes are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamFacts {
    /// Its name, unique in the snapshot, e.g. `rows/0001`.
    pub name: String,
    /// How it is cut.
    pub kind: StreamKind,
    /// Its length in bytes.
    pub length: u64,
    /// The tables in it, with their proofs.
    pub tables: Vec<TableProof>,
}
