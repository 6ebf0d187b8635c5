//! What a run remembers while it reads. The state's disk being full or broken must not cost the snapshot: the first failure
//! ends the draft, and the run goes on without it.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use super::journal::{Basis, EditsSoFar, Event, Journal, Prefix, Run};
use super::{CachedFile, CachedLayer, CachedStream, HashingFile, StreamCache};
use crate::model::id::{EpochId, SnapshotId};
use crate::model::stream::StreamKind;
use crate::pack::extent::Extent;
use crate::pack::stream::{Checkpoint, Encoded, Memory};
use crate::pack::units::Unit;
use crate::repository::manifest::PackRef;
use crate::state::make_private_folder;

/// The streams of a snapshot that is being taken.
#[derive(Debug)]
pub(crate) struct Draft {
    folder: PathBuf,
    run: SnapshotId,
    journal: Mutex<Result<Journal, String>>,
}

impl Draft {
    /// Starts a draft in the folder of a database, beside what is there. `packs` is the number of packs that `previous` knows.
    pub(crate) fn start(folder: PathBuf, run: SnapshotId, epoch: &EpochId, packs: usize) -> Self {
        let journal = make_private_folder(&folder)
            .map_err(io::Error::other)
            .and_then(|()| Journal::create(&folder, &Run { epoch: epoch.clone(), packs }));
        Self { folder, run, journal: Mutex::new(journal.map_err(|e| e.to_string())) }
    }

    /// Begins a stream, the one with this number.
    pub(crate) fn stream(
        self: &Arc<Self>,
        number: usize,
        identity: &str,
        kind: StreamKind,
        basis: Basis,
    ) -> StreamDraft {
        let units = self.create(format!("{}-{number:05}.units", self.run));
        let resumable = basis != Basis::Older;
        let identity = identity.to_owned();
        if let Some(units) = &units {
            let (identity, units) = (identity.clone(), units.name.clone());
            self.note(&Event::Stream { number, identity, kind, units, basis });
        }
        StreamDraft { draft: self.clone(), number, identity, kind, resumable, units, script: None }
    }

    /// A pack is complete.
    pub(crate) fn sealed(&self, pack: &PackRef) {
        self.append(|journal| journal.sealed(pack));
    }

    /// Why nothing is remembered any more, if so.
    pub(crate) fn failure(&self) -> Option<String> {
        self.journal.lock().unwrap_or_else(PoisonError::into_inner).as_ref().err().cloned()
    }

    /// The snapshot is stored: what was noted becomes the cache.
    pub(crate) fn keep(
        &self,
        epoch: &EpochId,
        packs: Vec<PackRef>,
        streams: Vec<CachedStream>,
    ) -> io::Result<()> {
        match self.failure() {
            Some(failure) => Err(io::Error::other(failure)),
            None => StreamCache { epoch: epoch.clone(), packs, streams, folder: PathBuf::new() }
                .save(&self.folder),
        }
    }

    fn note(&self, event: &Event) {
        self.append(|journal| journal.event(event));
    }

    fn append(&self, line: impl FnOnce(&mut Journal) -> io::Result<()>) {
        let mut journal = self.journal.lock().unwrap_or_else(PoisonError::into_inner);
        if let Ok(writer) = &mut *journal
            && let Err(e) = line(writer)
        {
            *journal = Err(e.to_string());
        }
    }

    fn fail(&self, e: io::Error) {
        self.append(|_| Err(e));
    }

    fn create(&self, name: String) -> Option<DraftFile> {
        if self.failure().is_some() {
            return None;
        }
        let path = self.folder.join(&name);
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
        match file {
            Ok(file) => {
                let out = HashingFile::new(BufWriter::with_capacity(256 << 10, file));
                Some(DraftFile { name, out })
            }
            Err(e) => {
                self.fail(e);
                None
            }
        }
    }
}

#[derive(Debug)]
struct DraftFile {
    name: String,
    out: HashingFile<BufWriter<File>>,
}

impl DraftFile {
    fn finish(&mut self) -> io::Result<CachedFile> {
        let Prefix { hash, .. } = self.prefix()?;
        Ok(CachedFile { name: self.name.clone(), hash })
    }

    /// What is written so far.
    fn prefix(&mut self) -> io::Result<Prefix> {
        self.out.flush()?;
        Ok(Prefix { length: self.out.length, hash: self.out.hash() })
    }
}

/// What is remembered of one stream.
#[derive(Debug)]
pub(crate) struct StreamDraft {
    draft: Arc<Draft>,
    number: usize,
    identity: String,
    kind: StreamKind,
    resumable: bool,
    units: Option<DraftFile>,
    script: Option<DraftFile>,
}

impl StreamDraft {
    /// The stream is complete. `below` are the layers that it was encoded over. Returns what the cache keeps of it.
    pub(crate) fn finish(
        mut self,
        encoded: &Encoded,
        below: &[CachedLayer],
        spans: u64,
    ) -> Option<CachedStream> {
        let units = self.close(|draft| draft.units.as_mut())?;
        let mut layers = below[..encoded.kept.min(below.len())].to_vec();
        for (cached, layer) in layers.iter_mut().zip(&encoded.layers) {
            // A script that was lost may have been packed again.
            cached.layer = layer.clone();
        }
        if let Some(layer) = encoded.layers.get(encoded.kept) {
            let edits = match encoded.kept {
                0 => None,
                _ => Some(self.close(|draft| draft.script.as_mut())?),
            };
            layers.push(CachedLayer { layer: layer.clone(), edits, spans });
        }
        let (number, draft) = (self.number, &self.draft);
        draft.note(&Event::Finished { number, units: units.clone(), layers: layers.clone() });
        Some(CachedStream { identity: self.identity, kind: self.kind, units, layers })
    }

    fn close(&mut self, file: impl Fn(&mut Self) -> Option<&mut DraftFile>) -> Option<CachedFile> {
        match file(self)?.finish() {
            Ok(file) => Some(file),
            Err(e) => {
                self.draft.fail(e);
                None
            }
        }
    }

    fn write(&mut self, result: io::Result<()>) {
        if let Err(e) = result {
            self.draft.fail(e);
            self.units = None;
            self.script = None;
        }
    }
}

impl Memory for StreamDraft {
    fn unit(&mut self, unit: Unit) {
        if let Some(units) = &mut self.units {
            let result = unit.write(&mut units.out);
            self.write(result);
        }
    }

    fn script(&mut self, bytes: &[u8]) {
        if self.script.is_none() && self.units.is_some() && !bytes.is_empty() {
            self.script = self.draft.create(format!("{}-{:05}.script", self.draft.run, self.number));
        }
        if let Some(script) = &mut self.script {
            let result = script.out.write_all(bytes);
            self.write(result);
        }
    }

    fn packed(&mut self, extent: Extent, over: Option<Checkpoint>) {
        let Some(units) = self.units.as_mut().filter(|_| self.resumable) else { return };
        let prefixes = units.prefix().and_then(|units| {
            let script =
                self.script.as_mut().map(|file| Ok::<_, io::Error>((file.name.clone(), file.prefix()?)));
            Ok((units, script.transpose()?))
        });
        match prefixes {
            Ok((units, script)) => {
                let edits = over.map(|checkpoint| EditsSoFar { script, checkpoint });
                self.draft.note(&Event::Packed { number: self.number, extent, units, edits });
            }
            Err(e) => self.write(Err(e)),
        }
    }
}
