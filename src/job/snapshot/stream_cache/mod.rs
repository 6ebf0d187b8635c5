//! What is remembered of a database's streams, so that the next snapshot copies what the targets already hold. It has
//! keyed hashes, edit scripts and positions in packs, and no data. Losing it costs a full upload, never a snapshot.
//!
//! A wrong length in it would make the next snapshot refer to the wrong bytes, so every file is checked against its hash
//! before it is used.

mod draft;
mod draft_file;
mod journal;
mod resume;

pub(crate) use draft::Draft;
pub(crate) use journal::Basis;

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use crate::model::id::EpochId;
use crate::model::stream::StreamKind;
use crate::pack::base::LocalScript;
use crate::pack::extent::Layer;
use crate::pack::file_section::FileSection;
use crate::repository::manifest::PackRef;
use crate::state::write_private_file;

const INDEX: &str = "index.json";

/// The streams of the newest snapshot, and of what a run that was cut off has stored since.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct StreamCache {
    /// The epoch.
    pub epoch: EpochId,
    /// The packs that extents refer to by their place in this list.
    pub packs: Vec<PackRef>,
    /// The streams.
    pub streams: Vec<CachedStream>,
    #[serde(skip)]
    folder: PathBuf,
    /// Open files of which parts are read, by their names.
    #[serde(skip)]
    shared: Mutex<HashMap<String, Arc<File>>>,
}

/// One stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CachedStream {
    /// What it is of, from snapshot to snapshot.
    pub identity: String,
    /// How it is cut.
    pub kind: StreamKind,
    /// Its units.
    pub units: CachedFile,
    /// Its layers, the lowest first.
    pub layers: Vec<CachedLayer>,
}

/// One layer of a stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CachedLayer {
    /// Where it is.
    #[serde(flatten)]
    pub layer: Layer,
    /// Its edit script; none for the lowest.
    pub edits: Option<CachedFile>,
    /// How many snapshots it stands for: more than one after layers were written as one, [`UNCOUNTED`] for a large part of a
    /// snapshot that was cut off.
    pub spans: u64,
}

/// Marks a layer that is never written as one with others: that would send again what a slow line has just carried.
pub(crate) const UNCOUNTED: u64 = u64::MAX;

/// A file in the cache's folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CachedFile {
    name: String,
    /// Where it is in this file; `None` if it is all of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    section: Option<Section>,
    /// BLAKE3 of its content, in hexadecimal.
    hash: String,
}

/// A part of a file, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Section {
    offset: u64,
    length: u64,
}

impl StreamCache {
    /// A cache of these streams, in a folder.
    fn new(folder: &Path, epoch: &EpochId, packs: Vec<PackRef>, streams: Vec<CachedStream>) -> Self {
        Self { epoch: epoch.clone(), packs, streams, folder: folder.to_owned(), shared: Mutex::default() }
    }

    /// Loads what is remembered in the folder of a database, if it is usable; with what a run that was cut off has left.
    pub(super) fn load(folder: &Path, epoch: &EpochId) -> Option<Self> {
        let saved = Self::load_saved(folder).filter(|cache| cache.epoch == *epoch);
        match resume::resume(folder, epoch, saved) {
            Ok(cache) => cache,
            Err(e) => {
                tracing::warn!(
                    folder = folder.display().to_string(),
                    cause = e.to_string(),
                    "what an interrupted run has stored is not used"
                );
                Self::load_saved(folder).filter(|cache| cache.epoch == *epoch)
            }
        }
    }

    /// Loads what the last run that ended well has saved.
    pub(super) fn load_saved(folder: &Path) -> Option<Self> {
        let index = std::fs::read(folder.join(INDEX)).ok()?;
        let (hash, json) = index.split_at_checked(64)?;
        if blake3::hash(json).to_hex().as_bytes() != hash {
            return None;
        }
        let mut cache: Self = serde_json::from_slice(json).ok()?;
        cache.folder = folder.to_owned();
        Some(cache)
    }

    /// The packs that the next snapshot may refer to, and their epoch; also those that a run has completed so far.
    pub(super) fn packs(folder: &Path) -> Option<(EpochId, Vec<PackRef>)> {
        let saved = Self::load_saved(folder).map(|cache| (cache.epoch, cache.packs));
        let running = journal::packs(folder).ok().flatten().map(|(run, packs)| (run.epoch, packs));
        match (saved, running) {
            (Some((epoch, mut packs)), Some((running, more))) if epoch == running => {
                packs.extend(more);
                Some((epoch, packs))
            }
            (_, Some(running)) => Some(running),
            (saved, None) => saved,
        }
    }

    /// Saves it in the place of what was there, and removes the files that nothing refers to any more.
    fn save(&self, folder: &Path) -> io::Result<()> {
        let json = serde_json::to_vec(self)?;
        let mut bytes = blake3::hash(&json).to_hex().as_bytes().to_vec();
        bytes.extend(json);
        let new = folder.join("index.new");
        match std::fs::remove_file(&new) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        write_private_file(&new, &bytes)?;
        std::fs::rename(&new, folder.join(INDEX))?;
        self.remove_others(folder)
    }

    fn remove_others(&self, folder: &Path) -> io::Result<()> {
        let files = self.streams.iter().flat_map(|s| {
            s.layers.iter().filter_map(|l| l.edits.as_ref()).chain([&s.units]).map(|file| file.name.as_str())
        });
        let needed: HashSet<&str> = files.chain([INDEX]).collect();
        for entry in std::fs::read_dir(folder)? {
            let entry = entry?;
            if entry.file_name().to_str().is_none_or(|name| !needed.contains(name)) {
                // If this fails, the next run tries again.
                let _ = std::fs::remove_file(entry.path());
            }
        }
        Ok(())
    }

    /// Opens a file of the cache, if it is as it was written.
    pub(super) fn open(&self, file: &CachedFile) -> Option<FileSection> {
        let path = self.folder.join(&file.name);
        let mut opened = match file.section {
            None => FileSection::whole(File::open(path).ok()?).ok()?,
            Some(Section { offset, length }) => {
                let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
                let whole = match shared.get(&file.name) {
                    Some(open) => open.clone(),
                    None => {
                        shared.entry(file.name.clone()).or_insert(Arc::new(File::open(path).ok()?)).clone()
                    }
                };
                FileSection::new(whole, offset, length)
            }
        };
        let mut hasher = blake3::Hasher::new();
        io::copy(&mut opened, &mut hasher).ok()?;
        opened.seek(0);
        (hasher.finalize().to_hex().as_str() == file.hash).then_some(opened)
    }

    /// The edit scripts of these layers, if all of them are at hand.
    pub(super) fn scripts(&self, layers: &[CachedLayer]) -> Option<Vec<LocalScript>> {
        let script = |layer: &CachedLayer| {
            let file = self.open(layer.edits.as_ref()?)?;
            Some(Box::new(BufReader::with_capacity(64 << 10, file)) as LocalScript)
        };
        layers.iter().map(script).collect()
    }
}
