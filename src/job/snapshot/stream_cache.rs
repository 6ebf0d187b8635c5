//! What is remembered of a snapshot's streams, so that the next one can refer to them. Losing this cache
//! costs a full upload. It holds keyed hashes and positions in packs, no data.
//!
//! A wrong length in it would make the next snapshot refer to the wrong bytes, so every file is checked
//! against its hash before it is used.

use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io::{BufReader, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Result, ResultExt};
use crate::model::id::{EpochId, Sha256, SnapshotId};
use crate::pack::history::{Previous, StoredRun};
use crate::state::make_private_folder;

const INDEX: &str = "index.json";

/// The streams of the newest snapshot.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct StreamCache {
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// Its epoch.
    pub epoch: EpochId,
    streams: Vec<Remembered>,
    #[serde(skip)]
    folder: PathBuf,
}

#[derive(Debug, Serialize, Deserialize)]
struct Remembered {
    identity: String,
    units: String,
    /// BLAKE3 of the file of units.
    hash: String,
    runs: Vec<StoredRun>,
}

/// The cache of a snapshot that is being taken; discarded unless [`Draft::keep`] is called.
#[derive(Debug)]
pub(crate) struct Draft {
    folder: PathBuf,
    kept: bool,
}

impl StreamCache {
    /// Loads what is remembered in the folder of a database, if it is usable.
    pub(super) fn load(folder: &Path) -> Option<Self> {
        let current = folder.join("current");
        let index = std::fs::read(current.join(INDEX)).ok()?;
        let (hash, json) = index.split_at_checked(64)?;
        if blake3::hash(json).to_hex().as_bytes() != hash {
            return None;
        }
        let mut cache: Self = serde_json::from_slice(json).ok()?;
        cache.folder = current;
        Some(cache)
    }

    /// The stream with this identity, without the lost packs.
    pub(super) fn stream(&self, identity: &str, lost: &HashSet<Sha256>) -> Option<Previous> {
        let remembered = self.streams.iter().find(|s| s.identity == identity)?;
        let path = self.folder.join(&remembered.units);
        if hash_of(&path).ok()? != remembered.hash {
            return None;
        }
        let units = File::open(path).ok()?;
        Some(Previous {
            runs: remembered.runs.clone(),
            units: Box::new(BufReader::with_capacity(256 << 10, units)),
            lost: lost.clone(),
        })
    }
}

impl Draft {
    /// Starts a draft in the folder of a database; what an earlier run left there is removed.
    pub(super) fn start(folder: &Path) -> Result<Self> {
        let draft = folder.join("draft");
        if draft.exists() {
            std::fs::remove_dir_all(&draft).or_internal(format!("remove {}", draft.display()))?;
        }
        make_private_folder(&draft)?;
        Ok(Self { folder: draft, kept: false })
    }

    /// The file for the units of the stream with this number.
    pub(super) fn units(&self, number: usize) -> Result<BufWriter<File>> {
        let path = self.folder.join(units_name(number));
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .or_internal(format!("make {}", path.display()))?;
        Ok(BufWriter::with_capacity(256 << 10, file))
    }

    /// The snapshot is stored: the draft becomes the cache. `streams` are (identity, runs) in order.
    pub(super) fn keep(
        mut self,
        snapshot: &SnapshotId,
        epoch: &EpochId,
        streams: Vec<(String, Vec<StoredRun>)>,
    ) -> Result<()> {
        let what = "save what is remembered of the snapshot";
        let streams = streams
            .into_iter()
            .enumerate()
            .map(|(number, (identity, runs))| {
                let units = units_name(number);
                let hash = hash_of(&self.folder.join(&units)).or_internal(what)?;
                Ok(Remembered { identity, units, hash, runs })
            })
            .collect::<Result<_>>()?;
        let cache =
            StreamCache { snapshot: snapshot.clone(), epoch: epoch.clone(), streams, folder: PathBuf::new() };
        let json = serde_json::to_vec(&cache).or_internal(what)?;
        let mut index = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(self.folder.join(INDEX))
            .or_internal(what)?;
        index.write_all(blake3::hash(&json).to_hex().as_bytes()).or_internal(what)?;
        index.write_all(&json).or_internal(what)?;
        let current = self.folder.with_file_name("current");
        if current.exists() {
            std::fs::remove_dir_all(&current).or_internal(what)?;
        }
        std::fs::rename(&self.folder, &current).or_internal(what)?;
        self.kept = true;
        Ok(())
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.kept {
            // If this fails, the next run removes it.
            let _ = std::fs::remove_dir_all(&self.folder);
        }
    }
}

fn hash_of(path: &Path) -> std::io::Result<String> {
    let mut hasher = blake3::Hasher::new();
    std::io::copy(&mut File::open(path)?, &mut hasher)?;
    Ok(hasher.finalize().to_hex().to_string())
}

fn units_name(number: usize) -> String {
    format!("{number:05}.units")
}
