//! Going on after a run that was cut off: what it packed is known to the next, which asks the targets what arrived.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::journal::{self, Basis, EditsSoFar, Event, PACKS, Prefix, Run, STREAMS};
use super::{CachedFile, CachedLayer, CachedStream, StreamCache, UNCOUNTED};
use crate::model::id::EpochId;
use crate::model::stream::StreamKind;
use crate::pack::extent::{self, Extent, Layer};
use crate::pack::script::ScriptWriter;
use crate::pack::units::{RECORD, Unit};

/// Puts what the journal tells into the saved cache, and saves that. Afterwards there is no journal any more.
pub(super) fn resume(
    folder: &Path,
    epoch: &EpochId,
    saved: Option<StreamCache>,
) -> io::Result<Option<StreamCache>> {
    let Some((run, packs)) = journal::packs(folder)? else { return Ok(saved) };
    let known = saved.as_ref().map_or(0, |cache| cache.packs.len());
    let mut cache = saved.unwrap_or_else(|| StreamCache::new(folder, epoch, Vec::new(), Vec::new()));
    if run == (Run { epoch: epoch.clone(), packs: known })
        && let Some((_, events)) = journal::streams(folder)?.filter(|(same, _)| *same == run)
    {
        cache.packs.extend(packs);
        for stream in read(events, cache.packs.len()).into_values() {
            if let Some(stream) = stream.usable(&cache)? {
                cache.streams.retain(|s| s.identity != stream.identity);
                cache.streams.push(stream);
            }
        }
        cache.save(folder)?;
    }
    for name in [STREAMS, PACKS] {
        std::fs::remove_file(folder.join(name)).or_else(|e| match e.kind() {
            io::ErrorKind::NotFound => Ok(()),
            _ => Err(e),
        })?;
    }
    Ok(Some(cache))
}

/// What a journal tells of a stream.
struct Stream {
    identity: String,
    kind: StreamKind,
    units: String,
    basis: Basis,
    /// What was packed of it, as far as it lies in complete packs.
    data: Vec<Extent>,
    /// How far the stream was then.
    last: Option<(Prefix, Option<EditsSoFar>)>,
    /// Something lies in a pack that was not complete: what was packed after it is of no use.
    cut: bool,
    finished: Option<(CachedFile, Vec<CachedLayer>)>,
}

/// The streams that a journal tells of, by their numbers. The first `complete` packs are complete.
fn read(events: impl Iterator<Item = Event>, complete: usize) -> BTreeMap<usize, Stream> {
    let mut streams: BTreeMap<usize, Stream> = BTreeMap::new();
    for event in events {
        match event {
            Event::Stream { number, identity, kind, units, basis } => {
                let (data, last, cut, finished) = (Vec::new(), None, false, None);
                streams.insert(number, Stream { identity, kind, units, basis, data, last, cut, finished });
            }
            Event::Packed { number, extent, units, edits } => {
                if let Some(stream) = streams.get_mut(&number) {
                    stream.cut |= !is_complete(&extent, complete);
                    if !stream.cut {
                        extent::push(&mut stream.data, extent);
                        stream.last = Some((units, edits));
                    }
                }
            }
            Event::Finished { number, units, layers } => {
                if let Some(stream) = streams.get_mut(&number) {
                    stream.finished = Some((units, layers));
                }
            }
        }
    }
    streams
}

fn is_complete(extent: &Extent, complete: usize) -> bool {
    extent.pack.is_none_or(|pack| (pack as usize) < complete)
}

impl Stream {
    /// As much of it as lies in the packs of `cache`, which are complete: the whole stream; or its beginning, followed by the rest
    /// of the version that it was encoded over.
    fn usable(mut self, cache: &StreamCache) -> io::Result<Option<CachedStream>> {
        let complete = |layer: &CachedLayer| layer.layer.extents().all(|e| is_complete(e, cache.packs.len()));
        if let Some((units, layers)) = self.finished.take_if(|(_, layers)| layers.iter().all(complete)) {
            return Ok(Some(CachedStream { identity: self.identity, kind: self.kind, units, layers }));
        }
        match (&self.basis, self.last.take()) {
            (Basis::Nothing, Some((units, None))) => self.beginning(&cache.folder, &units),
            (Basis::Indexed(_), Some((units, Some(edits)))) => self.edited(cache, &units, &edits),
            _ => Ok(None),
        }
    }

    /// The beginning of a stream of which nothing was known before.
    fn beginning(self, folder: &Path, units: &Prefix) -> io::Result<Option<CachedStream>> {
        let Some(file) = Restored::open(folder, &self.units, units)? else { return Ok(None) };
        let (units, length) = file.finish(&self.units)?;
        let layer = Layer { length, script: Vec::new(), data: first_bytes(&self.data, length) };
        Ok((length > 0).then(|| self.with(units, Vec::new(), CachedLayer { layer, edits: None, spans: 0 })))
    }

    /// The beginning of a stream, and what was to come of the version in the index.
    fn edited(
        mut self,
        cache: &StreamCache,
        units: &Prefix,
        edits: &EditsSoFar,
    ) -> io::Result<Option<CachedStream>> {
        let Basis::Indexed(below) = std::mem::replace(&mut self.basis, Basis::Older) else { return Ok(None) };
        let before = cache.streams.iter().find(|s| s.identity == self.identity);
        let Some((before, top)) = before.zip(below.last()) else { return Ok(None) };
        let at = &edits.checkpoint;
        let Some(rest) = top.layer.length.checked_sub(at.next_offset) else { return Ok(None) };
        let Some(mut file) = Restored::open(&cache.folder, &self.units, units)? else { return Ok(None) };
        let Some(mut old) = cache.open(&before.units) else { return Ok(None) };
        old.seek(at.next_unit * RECORD as u64);
        io::copy(&mut old, &mut file)?;
        let (units, length) = file.finish(&self.units)?;

        let name =
            edits.script.as_ref().map_or_else(|| format!("{}.script", self.units), |(name, _)| name.clone());
        let mut script = match &edits.script {
            Some((name, prefix)) => match Restored::open(&cache.folder, name, prefix)? {
                Some(script) => script,
                None => return Ok(None),
            },
            None => Restored::create(&cache.folder, &name)?,
        };
        let mut end = ScriptWriter::default();
        end.copy(at.step.copy);
        end.skip(at.step.skip + (at.next_offset - at.consumed));
        end.take(at.step.take);
        end.copy(rest);
        end.end();
        script.write_all(&end.drain())?;
        let edits = script.finish_file(&name)?;

        // Its script is nowhere but here: the next snapshot packs it.
        let missing = Extent { pack: None, offset: 0, length: 1 };
        let layer = Layer { length, script: vec![missing], data: std::mem::take(&mut self.data) };
        let spans = if layer.new_bytes() > length / 16 { UNCOUNTED } else { 1 };
        Ok(Some(self.with(units, below, CachedLayer { layer, edits: Some(edits), spans })))
    }

    fn with(self, units: CachedFile, mut layers: Vec<CachedLayer>, layer: CachedLayer) -> CachedStream {
        layers.push(layer);
        CachedStream { identity: self.identity, kind: self.kind, units, layers }
    }
}

/// A file of an interrupted run, cut to what is known to be right, that is written on.
struct Restored {
    file: File,
    hasher: blake3::Hasher,
}

impl Restored {
    fn create(folder: &Path, name: &str) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        let file =
            options.read(true).write(true).create(true).truncate(true).mode(0o600).open(folder.join(name))?;
        Ok(Self { file, hasher: blake3::Hasher::new() })
    }

    /// Nothing if the file does not begin as it should.
    fn open(folder: &Path, name: &str, prefix: &Prefix) -> io::Result<Option<Self>> {
        let Ok(file) = OpenOptions::new().read(true).write(true).open(folder.join(name)) else {
            return Ok(None);
        };
        let mut hasher = blake3::Hasher::new();
        let length = io::copy(&mut (&file).take(prefix.length), &mut hasher)?;
        if length != prefix.length || hasher.finalize().to_hex().as_str() != prefix.hash {
            return Ok(None);
        }
        file.set_len(prefix.length)?;
        Ok(Some(Self { file, hasher }))
    }

    fn finish_file(self, name: &str) -> io::Result<CachedFile> {
        Ok(CachedFile {
            name: name.to_owned(),
            section: None,
            hash: self.hasher.finalize().to_hex().to_string(),
        })
    }

    /// Ends a file of units; also returns how many bytes these have.
    fn finish(mut self, name: &str) -> io::Result<(CachedFile, u64)> {
        self.file.rewind()?;
        let mut units = BufReader::with_capacity(RECORD << 12, &self.file);
        let mut bytes = 0;
        while let Some(unit) = Unit::read(&mut units)? {
            bytes += u64::from(unit.length);
        }
        Ok((self.finish_file(name)?, bytes))
    }
}

impl Write for Restored {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.file.write(bytes)?;
        self.hasher.update(&bytes[..n]);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// The extents of the first bytes: the last unit may not be there whole.
fn first_bytes(extents: &[Extent], mut length: u64) -> Vec<Extent> {
    let mut first = Vec::new();
    for extent in extents {
        let part = Extent { length: extent.length.min(length), ..*extent };
        if part.length > 0 {
            extent::push(&mut first, part);
        }
        length -= part.length;
    }
    first
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::snapshot::stream_cache::Draft;
    use crate::model::id::{Sha256, SnapshotId};
    use crate::model::row_hash::row_hash;
    use crate::pack::base::Base;
    use crate::pack::compose::Composer;
    use crate::pack::script::ScriptReader;
    use crate::pack::stream::{FrameSink, Memory as _, Previous, StreamEncoder};
    use crate::repository::manifest::PackRef;
    use std::sync::{Arc, Mutex};

    fn epoch() -> EpochId {
        "20261122T020000Z-00000001".parse().unwrap()
    }

    /// Five blocks of 10 units of 7 bytes, one to a pack, of which the first three are complete; then the run is cut off.
    fn cut_off(folder: &Path) {
        let run: SnapshotId = "20261122T020000Z-1f3a9c4e".parse().unwrap();
        let draft = Arc::new(Draft::start(folder.to_owned(), run, &epoch(), 0));
        let mut stream = draft.stream(0, "rows of t", StreamKind::Rows, Basis::Nothing);
        for pack in 0..5u32 {
            for n in 0..10 {
                stream.unit(Unit { hash: u128::from(pack * 10 + n), length: 7 });
            }
            // The end of the last unit is in the next pack.
            let length = if pack == 0 { 75 } else { 70 };
            stream.packed(Extent { pack: Some(pack), offset: 0, length }, None);
            if pack < 3 {
                draft.sealed(&PackRef { sha256: Sha256::of(&[pack as u8]), size: 100 });
            }
        }
        assert_eq!(draft.failure(), None);
    }

    #[test]
    fn what_lies_in_complete_packs_is_used_again() {
        let folder = tempfile::tempdir().unwrap();
        cut_off(folder.path());
        let cache = resume(folder.path(), &epoch(), None).unwrap().unwrap();
        assert_eq!(cache.packs.len(), 3);
        let [stream] = &cache.streams[..] else { panic!("{cache:?}") };
        let layer = &stream.layers[0].layer;
        assert_eq!((layer.length, layer.new_bytes(), layer.data.len()), (210, 210, 3));
        assert_eq!(cache.open(&stream.units).unwrap().length(), 30 * 20);
        let again = StreamCache::load(folder.path(), &epoch()).unwrap();
        assert_eq!((again.packs, again.streams), (cache.packs, cache.streams));
        assert!(StreamCache::load(folder.path(), &"20261122T020000Z-00000002".parse().unwrap()).is_none());
    }

    #[test]
    fn a_torn_journal_is_used_up_to_the_tear_and_a_damaged_file_not_at_all() {
        for (name, cut) in
            [PACKS, STREAMS].into_iter().flat_map(|name| [1, 40, 200, 900].map(|cut| (name, cut)))
        {
            let folder = tempfile::tempdir().unwrap();
            cut_off(folder.path());
            let journal = folder.path().join(name);
            let bytes = std::fs::read(&journal).unwrap();
            std::fs::write(&journal, &bytes[..bytes.len().saturating_sub(cut)]).unwrap();
            let Some(cache) = resume(folder.path(), &epoch(), None).unwrap() else { continue };
            let length = cache.streams.first().map_or(0, |s| s.layers[0].layer.length);
            assert!(length.is_multiple_of(70) && length <= 70 * cache.packs.len() as u64, "{cut}: {cache:?}");
        }
        let folder = tempfile::tempdir().unwrap();
        cut_off(folder.path());
        let units = std::fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().path());
        let units = units.into_iter().find(|p| p.extension().is_some_and(|e| e == "units")).unwrap();
        let mut bytes = std::fs::read(&units).unwrap();
        bytes[17] ^= 1;
        std::fs::write(&units, bytes).unwrap();
        assert_eq!(resume(folder.path(), &epoch(), None).unwrap().unwrap().streams, []);
    }

    /// Packs in memory, one for each frame.
    #[derive(Default)]
    struct Packs(Mutex<Vec<Vec<u8>>>);

    impl FrameSink for Packs {
        fn append(&self, data: &[u8]) -> io::Result<Extent> {
            let mut packs = self.0.lock().unwrap();
            packs.push(data.to_vec());
            let pack = Some(packs.len() as u32 - 1);
            Ok(Extent { pack, offset: 0, length: data.len() as u64 })
        }
    }

    impl Packs {
        fn refs(&self) -> Vec<PackRef> {
            let packs = self.0.lock().unwrap();
            packs.iter().map(|p| PackRef { sha256: Sha256::of(p), size: p.len() as u64 }).collect()
        }

        /// The bytes of a stream in the cache.
        fn stream(&self, cache: &StreamCache, stream: &CachedStream) -> Vec<u8> {
            let packs = self.0.lock().unwrap();
            let data = |layer: &CachedLayer| -> Vec<u8> {
                let part = |e: &Extent| {
                    &packs[e.pack.unwrap() as usize][e.offset as usize..(e.offset + e.length) as usize]
                };
                layer.layer.data.iter().flat_map(part).copied().collect()
            };
            let sources: Vec<Vec<u8>> = stream.layers.iter().map(data).collect();
            let scripts = cache.scripts(&stream.layers[1..]).unwrap();
            let mut composer =
                Composer::new(sources[0].len() as u64, scripts.into_iter().map(ScriptReader::new));
            let mut made = Vec::new();
            while let Some(p) = composer.next(u64::MAX).unwrap() {
                made.extend_from_slice(&sources[p.source][p.offset as usize..(p.offset + p.length) as usize]);
            }
            made
        }
    }

    /// A run that encodes the first bytes of a stream and, if it is not cut off, saves it. Returns how much it packed.
    fn run(folder: &Path, name: &str, packs: &Packs, data: &[u8], cut: Option<usize>) -> u64 {
        let cache = StreamCache::load(folder, &epoch());
        let known = cache.as_ref().map_or(0, |c| c.packs.len());
        let draft = Arc::new(Draft::start(folder.to_owned(), name.parse().unwrap(), &epoch(), known));
        let before = cache.as_ref().and_then(|c| c.streams.first());
        let below = before.map_or(Vec::new(), |s| s.layers.clone());
        let previous = before.zip(cache.as_ref()).map(|(stream, cache)| {
            let lost = |(_, l): &(usize, &CachedLayer)| l.layer.script.iter().any(|e| e.pack.is_none());
            let lost_scripts = below.iter().enumerate().filter(lost);
            Previous {
                units: cache.open(&stream.units).unwrap(),
                below: below.iter().map(|l| l.layer.clone()).collect(),
                base: Base::default(),
                lost_scripts: lost_scripts
                    .map(|(n, l)| (n, cache.scripts(std::slice::from_ref(l)).unwrap().remove(0)))
                    .collect(),
            }
        });
        let basis = if before.is_some() { Basis::Indexed(below.clone()) } else { Basis::Nothing };
        let memory = draft.stream(0, "rows of t", StreamKind::Rows, basis);
        let mut encoder = StreamEncoder::new(StreamKind::Rows, [1; 32], packs, previous, memory).unwrap();
        for batch in data[..cut.unwrap_or(data.len())].chunks(10_000) {
            encoder.push(batch).unwrap();
        }
        let finished = cut.is_none().then(|| encoder.finish().unwrap());
        packs.refs()[known..].iter().for_each(|pack| draft.sealed(pack));
        let Some((encoded, memory)) = finished else { return 0 };
        let cached = memory.finish(&encoded, &below, 1).unwrap();
        draft.keep(&epoch(), packs.refs(), vec![cached]).unwrap();
        encoded.new_bytes
    }

    fn rows(changed: u32) -> Vec<u8> {
        let row =
            |i: u32| format!("{i}\tname of {i}, changed {}\n", if i.is_multiple_of(3) { changed } else { 0 });
        (0..150_000).map(row).collect::<String>().into_bytes()
    }

    /// However often runs are cut off, and wherever: the next one knows a version of the stream that is right to the byte, and
    /// sends little of what was packed before.
    #[test]
    fn runs_that_are_cut_off_one_after_the_other_get_there() {
        let folder = tempfile::tempdir().unwrap();
        let packs = Packs::default();
        let (first, second) = (rows(0), rows(1));
        let names = |n: usize| format!("20261122T0200{n:02}Z-1f3a9c4e");
        let check = |cuts: usize, old: &[u8], new: &[u8]| {
            let cache = StreamCache::load(folder.path(), &epoch()).unwrap();
            let stream = &cache.streams[0];
            let made = packs.stream(&cache, stream);
            assert_eq!(stream.layers.last().unwrap().layer.length, made.len() as u64);
            let same = made.iter().zip(new).take_while(|(a, b)| a == b).count();
            assert!(old.ends_with(&made[same..]), "{cuts} cuts");
            let units = cache.open(&stream.units).unwrap();
            let mut units = BufReader::new(units);
            for row in made.split_inclusive(|b| *b == b'\n') {
                let unit = Unit::read(&mut units).unwrap().unwrap();
                assert_eq!(unit.hash, row_hash(&[1; 32], &row[..row.len() - 1]));
            }
            assert_eq!(Unit::read(&mut units).unwrap(), None);
            same
        };
        let length = first.len();
        for n in 1..4 {
            run(folder.path(), &names(n), &packs, &first, Some(length * n / 4));
            assert!(check(n, b"", &first) + (1 << 20) > length * n / 4);
        }
        let sent = run(folder.path(), &names(4), &packs, &first, None) as usize;
        assert!(sent < length / 4 + (1 << 20), "{sent}");
        for n in 1..4 {
            run(folder.path(), &names(10 + n), &packs, &second, Some(length * n / 4));
            assert!(check(n, &first, &second) + (2 << 20) > length * n / 4);
        }
        let sent = run(folder.path(), &names(20), &packs, &second, None) as usize;
        assert!(sent < length / 12 + (1 << 20), "{sent}");
        assert_eq!(
            packs.stream(
                &StreamCache::load_saved(folder.path()).unwrap(),
                &StreamCache::load_saved(folder.path()).unwrap().streams[0]
            ),
            second
        );
    }
}
