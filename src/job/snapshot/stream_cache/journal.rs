//! The journal of a run: what it has packed so far, line by line, so that the next run can go on if this one is cut off. It has
//! two files, since how far a run is can be told from its packs alone.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::marker::PhantomData;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{CachedFile, CachedLayer};
use crate::model::id::EpochId;
use crate::model::stream::StreamKind;
use crate::pack::extent::Extent;
use crate::pack::stream::Checkpoint;
use crate::repository::manifest::PackRef;

/// The complete packs, one line each, in the order of their numbers.
pub(super) const PACKS: &str = "journal.packs";

/// What became of the streams, one [`Event`] a line.
pub(super) const STREAMS: &str = "journal.streams";

/// The first line of both files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Run {
    /// The epoch.
    pub epoch: EpochId,
    /// How many packs the index has: those of this run are numbered after them.
    pub packs: usize,
}

/// What became of a stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Event {
    /// A stream is being encoded.
    Stream { number: usize, identity: String, kind: StreamKind, units: String, basis: Basis },
    /// Of a stream, these bytes are in a pack, and all units so far are in what was packed or is copied.
    Packed { number: usize, extent: Extent, units: Prefix, edits: Option<EditsSoFar> },
    /// A stream is complete, with these layers.
    Finished { number: usize, units: CachedFile, layers: Vec<CachedLayer> },
}

/// What a stream is encoded over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Basis {
    /// Nothing.
    Nothing,
    /// The version in the index, which has these layers.
    Indexed(Vec<CachedLayer>),
    /// An older version: if the run is cut off, what it packed of this stream is not used.
    Older,
}

/// The beginning of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Prefix {
    pub length: u64,
    /// BLAKE3, in hexadecimal.
    pub hash: String,
}

/// The script over the version in the index, as far as it is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct EditsSoFar {
    /// Its file, and how much of that counts; no file where nothing is written yet.
    pub script: Option<(String, Prefix)>,
    /// What follows, and how far the version was used.
    pub checkpoint: Checkpoint,
}

/// Appends to a journal.
#[derive(Debug)]
pub(super) struct Journal {
    packs: File,
    streams: File,
}

impl Journal {
    /// Begins a journal in the cache's folder.
    pub(super) fn create(folder: &Path, run: &Run) -> io::Result<Self> {
        let begin = |name: &str| {
            let path = folder.join(name);
            let mut file =
                OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
            file.write_all(&line(run)?)?;
            Ok::<_, io::Error>(file)
        };
        Ok(Self { packs: begin(PACKS)?, streams: begin(STREAMS)? })
    }

    /// Notes a complete pack.
    pub(super) fn sealed(&mut self, pack: &PackRef) -> io::Result<()> {
        self.packs.write_all(&line(pack)?)
    }

    /// Notes what became of a stream.
    pub(super) fn events(&mut self, events: &[Event]) -> io::Result<()> {
        let lines: io::Result<Vec<Vec<u8>>> = events.iter().map(line).collect();
        self.streams.write_all(&lines?.concat())
    }
}

fn line(of: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(of)?;
    line.push(b'\n');
    Ok(line)
}

/// The complete packs of the run that left a journal here.
pub(super) fn packs(folder: &Path) -> io::Result<Option<(Run, Vec<PackRef>)>> {
    Ok(read(folder, PACKS)?.map(|(run, lines)| (run, lines.collect())))
}

/// What became of its streams, in the order in which it was noted.
pub(super) fn streams(folder: &Path) -> io::Result<Option<(Run, Lines<Event>)>> {
    read(folder, STREAMS)
}

fn read<T>(folder: &Path, name: &str) -> io::Result<Option<(Run, Lines<T>)>> {
    let file = match File::open(folder.join(name)) {
        Ok(file) => BufReader::new(file),
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e),
    };
    let mut first = Lines { file, lines: PhantomData };
    Ok(first.next().map(|run| (run, Lines { file: first.file, lines: PhantomData })))
}

/// The lines of a file, up to the first that was not written whole.
pub(super) struct Lines<T> {
    file: BufReader<File>,
    lines: PhantomData<T>,
}

impl<T: DeserializeOwned> Iterator for Lines<T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        let mut line = Vec::new();
        self.file.read_until(b'\n', &mut line).ok()?;
        line.ends_with(b"\n").then(|| serde_json::from_slice(&line).ok()).flatten()
    }
}
