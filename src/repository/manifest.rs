//! The manifest: the encrypted description of a snapshot (see `docs/FORMAT.md`).

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::model::id::{DatabaseName, EpochId, PublisherName, Sha256, SnapshotId};
use crate::model::stream::{Contents, SourceFacts, StreamFacts, StreamKind};
use crate::model::table::TableProof;
use crate::pack::extent::{Extent, Layer, total};
use crate::pack::pack_writer::MOST_CONTENT;

/// The version of the format that this code writes, and the newest it reads.
pub(crate) const FORMAT: u32 = 1;

/// A manifest is smaller than this, decompressed.
pub(crate) const MANIFEST_LIMIT: usize = 1 << 30;

/// The most layers of a stream.
pub(crate) const MOST_LAYERS: usize = 256;

/// The most extents in all layers of a snapshot: a database of 16 TiB has fewer, whatever the order in which its tables
/// fill the packs.
pub(crate) const MOST_EXTENTS: usize = 1 << 24;

/// Why readers refuse a manifest, and writers do not write it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    /// A stream breaks a rule of the format.
    #[error("stream {0:?} is not well-formed")]
    Stream(String),
    /// It would take too long.
    #[error("it has {} extents, more than the {} that a snapshot may have", .0, MOST_EXTENTS)]
    Extents(usize),
    /// No pack has so many bytes, so they would be read again and again.
    #[error("it wants {wanted} bytes of pack {pack}, more than the {most} that a pack may hold", most = MOST_CONTENT)]
    Pack {
        /// Which.
        pack: Sha256,
        /// The lengths of its extents, added up.
        wanted: u64,
    },
}

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
    /// Checks its streams, and that reading them takes a bounded time, whoever wrote them.
    pub(crate) fn check(&self) -> std::result::Result<(), Refused> {
        self.check_with(MOST_EXTENTS)
    }

    fn check_with(&self, most_extents: usize) -> std::result::Result<(), Refused> {
        let mut names = HashSet::new();
        let mut wanted = vec![0u64; self.packs.len()];
        let mut extents = 0;
        for stream in &self.streams {
            if !names.insert(&stream.name) || !stream.well_formed(self.packs.len()) {
                return Err(Refused::Stream(stream.name.clone()));
            }
            for extent in stream.layers.iter().flat_map(Layer::extents) {
                extents += 1;
                if let Some(pack) = extent.pack {
                    let of_pack = &mut wanted[pack as usize];
                    *of_pack = of_pack.saturating_add(extent.length);
                }
            }
        }
        if extents > most_extents {
            return Err(Refused::Extents(extents));
        }
        match wanted.iter().zip(&self.packs).find(|(wanted, _)| **wanted > MOST_CONTENT) {
            Some((wanted, pack)) => Err(Refused::Pack { pack: pack.sha256, wanted: *wanted }),
            None => Ok(()),
        }
    }

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
        let inside = |e: &Extent| {
            let in_pack = e.pack.is_none_or(|pack| (pack as usize) < packs);
            in_pack && e.length > 0 && e.offset.checked_add(e.length).is_some()
        };
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// A stream's name, and its extents: pack, offset, length.
    type Extents<'a> = (&'a str, &'a [(u32, u64, u64)]);

    /// A manifest of two packs, and streams with these extents as their only layers.
    fn manifest(streams: &[Extents<'_>]) -> Manifest {
        let streams: Vec<_> = streams
            .iter()
            .map(|(name, extents)| {
                let length: u64 = extents.iter().map(|e| e.2).fold(0, u64::saturating_add);
                json!({"name": name, "kind": "bytes", "length": length, "sha256": "00".repeat(32),
                       "layers": [{"length": length, "data": extents}]})
            })
            .collect();
        let pack = |n: u8| json!({"sha256": hex::encode([n; 32]), "size": 1});
        let source = json!({"engine": "sqlite", "version": "3", "consistent_at": "2026-11-22T02:00:01Z", "consistency_point": "",
                            "settings": {}, "inventory": {}, "details": {}});
        serde_json::from_value(json!({
            "format": 1, "publisher": "gazette", "database": "abonnes", "snapshot": "20261122T020000Z-1f3a9c4e",
            "epoch": "20261122T020000Z-00000001", "source": source, "row_key": "00".repeat(32),
            "packs": [pack(1), pack(2)], "streams": streams,
        }))
        .unwrap()
    }

    #[test]
    fn what_would_take_too_long_is_refused_and_the_limit_named() {
        let half = MOST_CONTENT / 2;
        let most =
            manifest(&[("a", &[(0, 0, half), (1, 0, half)]), ("b", &[(0, half, half), (1, half, half)])]);
        assert_eq!(most.check(), Ok(()));
        let more = manifest(&[("a", &[(0, 0, half), (1, 0, half)]), ("b", &[(1, 0, half), (1, 0, 1)])]);
        let refused = more.check().unwrap_err();
        assert_eq!(refused, Refused::Pack { pack: Sha256([2; 32]), wanted: MOST_CONTENT + 1 });
        assert!(refused.to_string().contains("more than the 68719476736 that a pack may hold"), "{refused}");
        assert_eq!(most.check_with(4), Ok(()));
        assert_eq!(most.check_with(3), Err(Refused::Extents(4)));
        assert!(Refused::Extents(1 << 25).to_string().contains("more than the 16777216"));
    }

    #[test]
    fn streams_that_break_a_rule_are_refused() {
        let bad: [&[Extents<'_>]; 4] = [
            &[("a", &[(0, 0, 1)]), ("a", &[(0, 0, 1)])],
            &[("a", &[(2, 0, 1)])],
            &[("a", &[(0, 0, 0)])],
            &[("a", &[(0, u64::MAX, 1)])],
        ];
        for streams in bad {
            assert_eq!(manifest(streams).check(), Err(Refused::Stream("a".to_owned())), "{streams:?}");
        }
    }
}
