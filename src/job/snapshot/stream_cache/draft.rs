//! What a run remembers while it reads. The state's disk being full or broken must not cost the snapshot: the first failure
//! ends the draft, and the run goes on without it.

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use super::draft_file::{DraftFile, ShortFiles};
use super::journal::{Basis, EditsSoFar, Event, Journal, Run};
use super::{CachedFile, CachedLayer, CachedStream, StreamCache};
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
    short: ShortFiles,
}

impl Draft {
    /// Starts a draft in the folder of a database, beside what is there. `packs` is the number of packs that `previous` knows.
    pub(crate) fn start(folder: PathBuf, run: SnapshotId, epoch: &EpochId, packs: usize) -> Self {
        let journal = make_private_folder(&folder)
            .map_err(io::Error::other)
            .and_then(|()| Journal::create(&folder, &Run { epoch: epoch.clone(), packs }));
        let short = ShortFiles::new(&folder, format!("{run}.short"));
        Self { folder, run, journal: Mutex::new(journal.map_err(|e| e.to_string())), short }
    }

    /// Begins a stream, the one with this number.
    pub(crate) fn stream(
        self: &Arc<Self>,
        number: usize,
        identity: &str,
        kind: StreamKind,
        basis: Basis,
    ) -> StreamDraft {
        let remembers = self.failure().is_none();
        let units = remembers.then(|| DraftFile::new(format!("{}-{number:05}.units", self.run)));
        let resumable = basis != Basis::Older;
        let identity = identity.to_owned();
        let short = Some(Short { basis, packed: None });
        StreamDraft { draft: self.clone(), number, identity, kind, resumable, units, script: None, short }
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
            None => StreamCache::new(&self.folder, epoch, packs, streams).save(&self.folder),
        }
    }

    fn note(&self, events: &[Event]) {
        self.append(|journal| journal.events(events));
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
    short: Option<Short>,
}

/// What the journal does not know yet of a stream that may turn out to be short. If the run is cut off then, the stream is read
/// and packed again.
#[derive(Debug)]
struct Short {
    basis: Basis,
    packed: Option<Event>,
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
        let finished = Event::Finished { number: self.number, units: units.clone(), layers: layers.clone() };
        let begun = self.short.take().and_then(|short| self.begun(short.basis));
        self.draft.note(&begun.into_iter().chain([finished]).collect::<Vec<_>>());
        Some(CachedStream { identity: self.identity, kind: self.kind, units, layers })
    }

    fn close(&mut self, file: impl Fn(&mut Self) -> Option<&mut DraftFile>) -> Option<CachedFile> {
        let draft = self.draft.clone();
        match file(self)?.finish(&draft.short) {
            Ok(file) => Some(file),
            Err(e) => {
                draft.fail(e);
                None
            }
        }
    }

    fn begun(&self, basis: Basis) -> Option<Event> {
        let units = self.units.as_ref()?.name.clone();
        Some(Event::Stream {
            number: self.number,
            identity: self.identity.clone(),
            kind: self.kind,
            units,
            basis,
        })
    }

    /// The stream is not short: from now on its files are its own, and the journal says how far it is.
    fn spill(&mut self) -> io::Result<()> {
        for file in [&mut self.units, &mut self.script].into_iter().flatten() {
            file.spill(&self.draft.folder)?;
        }
        if let Some(Short { basis, packed }) = self.short.take() {
            let events: Vec<Event> = self.begun(basis).into_iter().chain(packed).collect();
            self.draft.note(&events);
        }
        Ok(())
    }

    /// Fails the draft if this has failed.
    fn done(&mut self, result: io::Result<()>) {
        if let Err(e) = result {
            self.draft.fail(e);
            self.units = None;
            self.script = None;
        }
    }

    fn written(&mut self, result: io::Result<()>) {
        let long = |file: &Option<DraftFile>| file.as_ref().is_some_and(DraftFile::is_long);
        let is_long = long(&self.units) || long(&self.script);
        let result = result.and_then(|()| if is_long { self.spill() } else { Ok(()) });
        self.done(result);
    }

    fn is_packed(&mut self, extent: Extent, over: Option<Checkpoint>) -> io::Result<()> {
        let Some(units) = self.units.as_mut().filter(|_| self.resumable) else { return Ok(()) };
        let units = units.prefix()?;
        let script = self.script.as_mut().map(|file| Ok::<_, io::Error>((file.name.clone(), file.prefix()?)));
        let script = script.transpose()?;
        let edits = over.map(|checkpoint| EditsSoFar { script, checkpoint });
        let event = Event::Packed { number: self.number, extent, units, edits };
        match &mut self.short {
            // A short stream is packed once, when it ends.
            Some(Short { packed: packed @ None, .. }) => *packed = Some(event),
            short => {
                if short.is_some() {
                    self.spill()?;
                }
                self.draft.note(&[event]);
            }
        }
        Ok(())
    }
}

impl Memory for StreamDraft {
    fn unit(&mut self, unit: Unit) {
        if let Some(units) = &mut self.units {
            let result = unit.write(units);
            self.written(result);
        }
    }

    fn script(&mut self, bytes: &[u8]) {
        if self.units.is_none() || bytes.is_empty() {
            return;
        }
        let name = || DraftFile::new(format!("{}-{:05}.script", self.draft.run, self.number));
        let result = self.script.get_or_insert_with(name).write_all(bytes);
        let result = result.and_then(|()| if self.short.is_none() { self.spill() } else { Ok(()) });
        self.written(result);
    }

    fn packed(&mut self, extent: Extent, over: Option<Checkpoint>) {
        let result = self.is_packed(extent, over);
        self.done(result);
    }
}
