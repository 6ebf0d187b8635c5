//! A file of the cache while it is written. Most are short, and a file of its own for each would cost more than what is in it: a
//! short one stays in memory until it is complete, and then lies in one file with others.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::journal::Prefix;
use super::{CachedFile, Section};

/// A file stays in memory up to so many bytes.
const SHORT: usize = 16 << 10;

/// A file that is being written.
#[derive(Debug)]
pub(super) struct DraftFile {
    /// Its name, if it does not stay short.
    pub name: String,
    hasher: blake3::Hasher,
    length: u64,
    content: Content,
}

#[derive(Debug)]
enum Content {
    Memory(Vec<u8>),
    Disk(BufWriter<File>),
}

impl DraftFile {
    /// Begins a file, in memory.
    pub(super) fn new(name: String) -> Self {
        Self { name, hasher: blake3::Hasher::new(), length: 0, content: Content::Memory(Vec::new()) }
    }

    /// Whether it has become too long to stay in memory.
    pub(super) fn is_long(&self) -> bool {
        matches!(&self.content, Content::Memory(bytes) if bytes.len() > SHORT)
    }

    /// Goes on in a file of its own.
    pub(super) fn spill(&mut self, folder: &Path) -> io::Result<()> {
        if let Content::Memory(bytes) = &self.content {
            let mut file = BufWriter::with_capacity(256 << 10, create(&folder.join(&self.name))?);
            file.write_all(bytes)?;
            // The journal may tell of these already.
            file.flush()?;
            self.content = Content::Disk(file);
        }
        Ok(())
    }

    /// What is written so far; it can be read as soon as the file is one of its own.
    pub(super) fn prefix(&mut self) -> io::Result<Prefix> {
        if let Content::Disk(file) = &mut self.content {
            file.flush()?;
        }
        Ok(Prefix { length: self.length, hash: self.hash() })
    }

    /// The file is complete.
    pub(super) fn finish(&mut self, short: &ShortFiles) -> io::Result<CachedFile> {
        let (name, section) = match &mut self.content {
            Content::Disk(file) => {
                file.flush()?;
                (self.name.clone(), None)
            }
            Content::Memory(bytes) => {
                let (name, offset) = short.append(bytes)?;
                (name, Some(Section { offset, length: bytes.len() as u64 }))
            }
        };
        Ok(CachedFile { name, section, hash: self.hash() })
    }

    fn hash(&self) -> String {
        self.hasher.finalize().to_hex().to_string()
    }
}

impl Write for DraftFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = match &mut self.content {
            Content::Memory(written) => written.write(bytes)?,
            Content::Disk(file) => file.write(bytes)?,
        };
        self.hasher.update(&bytes[..n]);
        self.length += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.content {
            Content::Memory(_) => Ok(()),
            Content::Disk(file) => file.flush(),
        }
    }
}

/// The short files of a run, one after the other in one.
#[derive(Debug)]
pub(super) struct ShortFiles {
    path: PathBuf,
    name: String,
    /// The file, and how long it is. It is made with the first.
    file: Mutex<Option<(File, u64)>>,
}

impl ShortFiles {
    /// In the folder of a cache, under this name.
    pub(super) fn new(folder: &Path, name: String) -> Self {
        Self { path: folder.join(&name), name, file: Mutex::new(None) }
    }

    /// Appends a file; returns where it is.
    fn append(&self, bytes: &[u8]) -> io::Result<(String, u64)> {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let (file, length) = match &mut *file {
            Some(open) => open,
            none => none.insert((create(&self.path)?, 0)),
        };
        file.write_all(bytes)?;
        let offset = *length;
        *length += bytes.len() as u64;
        Ok((self.name.clone(), offset))
    }
}

fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)
}

#[cfg(test)]
mod tests {
    use super::super::StreamCache;
    use super::*;
    use std::io::Read;

    #[test]
    fn short_files_lie_in_one_and_a_long_one_is_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let short = ShortFiles::new(folder.path(), "run.short".to_owned());
        let written = |name: &str, bytes: &[u8]| {
            let mut file = DraftFile::new(name.to_owned());
            file.write_all(bytes).unwrap();
            if file.is_long() {
                file.spill(folder.path()).unwrap();
            }
            file.finish(&short).unwrap()
        };
        let files = [&b"first"[..], &[7; SHORT + 1], b"", b"last"];
        let cached: Vec<CachedFile> =
            files.iter().enumerate().map(|(n, bytes)| written(&format!("{n}.units"), bytes)).collect();
        let epoch = "20261122T020000Z-00000001".parse().unwrap();
        let read = |file: &CachedFile| {
            let mut bytes = Vec::new();
            let cache = StreamCache::new(folder.path(), &epoch, Vec::new(), Vec::new());
            cache.open(file)?.read_to_end(&mut bytes).unwrap();
            Some(bytes)
        };
        for (file, bytes) in cached.iter().zip(files) {
            assert_eq!(read(file).unwrap(), bytes);
        }
        let mut names: Vec<_> =
            std::fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["1.units", "run.short"]);
        // Each has its own hash: what is damaged is not used, and nothing else suffers.
        std::fs::write(folder.path().join("run.short"), b"firstLast").unwrap();
        assert_eq!(
            cached.iter().map(|file| read(file).is_some()).collect::<Vec<_>>(),
            [true, true, true, false]
        );
    }
}
