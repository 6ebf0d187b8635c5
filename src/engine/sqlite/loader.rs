//! Loads a SQLite snapshot: the pages are written next to the destination, checked, and then put in its place.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, fchown};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use tokio::io::AsyncWriteExt;
use tokio_util::sync::CancellationToken;

use super::confined::{Looker, Question};
use super::connection::{open_still, side_file};
use super::database_stream::database_stream;
use super::place::{
    aside, cannot_write, claim, other_mode, remove, rename_new, set_aside, set_mode, sync_folder,
};
use super::{STREAM, absolute, compare, facts};
use crate::engine::{Comparison, Destination, LoadOptions, LoadReport, Loader, StreamSource};
use crate::error::{Error, ErrorKind, Result, ResultExt};
use crate::model::human;
use crate::model::observer::LoadObserver;
use crate::model::stage::Stage;
use crate::model::stream::{Contents, StreamFacts};
use crate::system::disk;

/// The first bytes of every database. Source: <https://www.sqlite.org/fileformat2.html>, 1.3.
const MAGIC: &[u8; 16] = b"SQLite format 3\0";

/// Length of the database header.
const HEADER: usize = 100;

/// Loads snapshots into one database file. Until [`Loader::finish`] the bytes are in
/// `<destination>.marbre-incomplete`, and the destination is untouched.
#[derive(Debug)]
pub struct SqliteLoader {
    path: PathBuf,
    /// Who compares, in a drill.
    in_drill: Option<Looker>,
    loading: Mutex<Option<Loading>>,
}

/// A load that was begun by this loader.
#[derive(Debug)]
struct Loading {
    /// The incomplete file: its lock excludes other restores.
    lock: File,
    overwrite: bool,
    loaded: bool,
}

impl SqliteLoader {
    /// A loader into this file.
    pub fn new(path: impl AsRef<Path>) -> Self {
        Self { path: absolute(path.as_ref()), in_drill: None, loading: Mutex::new(None) }
    }

    /// The same loader for a drill.
    pub(super) fn in_drill(self, looker: Looker) -> Self {
        Self { in_drill: Some(looker), ..self }
    }

    fn incomplete(&self) -> PathBuf {
        side_file(&self.path, ".marbre-incomplete")
    }

    /// The file in which the database is now: the incomplete one until [`Loader::finish`].
    pub(super) fn current(&self) -> PathBuf {
        if self.loading().is_some() { self.incomplete() } else { self.path.clone() }
    }

    fn loading(&self) -> MutexGuard<'_, Option<Loading>> {
        self.loading.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The `-wal` and `-journal` next to the destination that are not empty: SQLite would apply them to
    /// whatever database it finds under the destination's name.
    fn leftovers(&self) -> Vec<PathBuf> {
        ["-wal", "-journal"]
            .into_iter()
            .map(|suffix| side_file(&self.path, suffix))
            .filter(|path| fs::symlink_metadata(path).is_ok_and(|m| m.len() > 0))
            .collect()
    }

    fn fits(&self, entry: &StreamFacts) -> Result<()> {
        let folder = self.path.parent().unwrap_or(Path::new("/"));
        if !folder.is_dir() {
            return Err(Error::preflight(format!("there is no folder {}", folder.display()))
                .remedy("Create it, or name another destination."));
        }
        let free = disk::free(folder).or_internal(format!("look at the space in {}", folder.display()))?;
        // What an interrupted restore left will be overwritten.
        let left = fs::symlink_metadata(self.incomplete()).map_or(0, |m| m.blocks() * 512);
        let free = free.saturating_add(left);
        if free < entry.length {
            return Err(Error::preflight(format!(
                "{} has {} free, but the database needs {}",
                folder.display(),
                human::bytes(free),
                human::bytes(entry.length)
            ))
            .remedy("Free some space, or name another destination."));
        }
        Ok(())
    }
}

#[async_trait]
impl Loader for SqliteLoader {
    fn describe(&self) -> String {
        format!("SQLite database {}", self.path.display())
    }

    fn plan(&self, _contents: &Contents, _options: &LoadOptions) -> Result<Vec<String>> {
        Ok(Vec::new())
    }

    async fn inspect(&self, contents: &Contents, _cancel: &CancellationToken) -> Result<Destination> {
        self.fits(database_stream(contents)?.0)?;
        let metadata = match fs::symlink_metadata(&self.path) {
            Ok(metadata) => Some(metadata),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => None,
            Err(e) => {
                return Err(Error::preflight(format!("cannot look at {}", self.path.display())).cause(e));
            }
        };
        if metadata.as_ref().is_some_and(|m| !m.is_file()) {
            return Err(Error::preflight(format!("{} is not a regular file", self.path.display()))
                .remedy("Name the database file that the restore is to make."));
        }
        let size = metadata.as_ref().map_or(0, fs::Metadata::len);
        Ok(if size > 0 {
            Destination::Occupied(describe(&self.path, size))
        } else if let Some(leftover) = self.leftovers().first() {
            Destination::Occupied(format!("a log without its database: {}", leftover.display()))
        } else if self.incomplete().exists() {
            Destination::Incomplete(None)
        } else if metadata.is_some() {
            Destination::Empty
        } else {
            Destination::Absent
        })
    }

    async fn load(
        &self,
        contents: &Contents,
        streams: &dyn StreamSource,
        options: &LoadOptions,
        observer: &dyn LoadObserver,
        cancel: &CancellationToken,
    ) -> Result<LoadReport> {
        let (entry, page_size) = database_stream(contents)?;
        observer.stage(Stage::Pages);
        let path = self.incomplete();
        // An earlier attempt of this loader releases its lock.
        *self.loading() = None;
        let lock = claim(&path)?;
        let file = lock.try_clone().or_internal(format!("write {}", path.display()))?;
        *self.loading() = Some(Loading { lock, overwrite: options.overwrite, loaded: false });
        let mut file = tokio::fs::File::from_std(file);
        let received = with(cancel, receive(&mut file, &path, streams, observer)).await;
        // Also after a failure: a pending write would hold the lock.
        let flushed = file.flush().await;
        let (written, head) = received?;
        flushed.map_err(|e| cannot_write(&path, e))?;
        observer.stage(Stage::Check);
        check_shape(entry, page_size, written, &head)?;
        let synced = file.sync_all().await;
        synced.map_err(|e| cannot_write(&path, e))?;
        let mode = file.metadata().await.map_or(0, |metadata| metadata.mode()) & 0o777;
        let warnings = if mode & 0o077 != 0 { vec![other_mode(&self.path, 0o600, mode)] } else { Vec::new() };
        if let Some(loading) = self.loading().as_mut() {
            loading.loaded = true;
        }
        Ok(LoadReport { bytes: written, warnings, ..LoadReport::default() })
    }

    async fn compare(&self, contents: &Contents, cancel: &CancellationToken) -> Result<Comparison> {
        let (entry, _) = database_stream(contents)?;
        if let Some(looker) = &self.in_drill {
            return looker.ask(self.current(), Question::Compare(Box::new(contents.clone())), cancel).await;
        }
        let still = self.loading().is_some();
        compare::compare(self.current(), still, contents, entry, cancel).await
    }

    async fn finish(&self) -> Result<Vec<String>> {
        let mut loading = self.loading();
        let warnings = match loading.as_ref() {
            Some(Loading { lock, overwrite, loaded: true }) => self.put_in_place(lock, *overwrite)?,
            _ => return Err(Error::internal("finish of a restore that did not load")),
        };
        // Only now another restore may take the name of the incomplete file.
        *loading = None;
        Ok(warnings)
    }

    async fn finish_with_exceptions(&self) -> Result<Vec<String>> {
        Err(Error::internal("the pages of a SQLite database are restored all, or not at all"))
    }

    async fn abandon(&self) -> Result<()> {
        let mut loading = self.loading();
        if self.path.exists() && loading.as_ref().is_some_and(|loading| loading.overwrite) {
            remove(&self.incomplete())?;
        }
        *loading = None;
        Ok(())
    }
}

impl SqliteLoader {
    /// Returns what people should know.
    fn put_in_place(&self, lock: &File, overwrite: bool) -> Result<Vec<String>> {
        let (from, to) = (self.incomplete(), self.path.as_path());
        let existing = fs::symlink_metadata(to).ok();
        let empty = existing.as_ref().is_some_and(|m| m.is_file() && m.len() == 0);
        let in_the_way = || {
            Error::new(ErrorKind::Conflict, format!("{} was created during the restore", to.display()))
                .remedy(format!(
                    "The restored database is complete and stays in {}: move it where you want it.",
                    from.display()
                ))
        };
        if !overwrite && !self.leftovers().is_empty() {
            return Err(in_the_way());
        }
        let mut warnings = Vec::new();
        if let Some(existing) = &existing {
            // Whoever could read the old file can read the new one; if that is not allowed, it stays ours.
            let _ = fchown(lock, Some(existing.uid()), Some(existing.gid()));
            let wanted = existing.mode() & 0o777;
            let found = set_mode(lock, wanted).or_internal(format!("set the mode of {}", from.display()))?;
            // That of a file without modes was told while it was loaded.
            warnings.extend(found.filter(|_| wanted != 0o600).map(|found| other_mode(to, wanted, found)));
        }
        // First the old logs: SQLite would apply them to the new database. They go back if the old one stays.
        let mut logs = Vec::new();
        for log in ["-wal", "-shm", "-journal"].map(|suffix| side_file(to, suffix)) {
            if set_aside(&log)? {
                logs.push(log);
            }
        }
        let renamed = if overwrite || empty {
            fs::rename(&from, to).map_err(|e| cannot_write(to, e))
        } else {
            rename_new(&from, to).map_err(|e| match e.kind() {
                std::io::ErrorKind::AlreadyExists => in_the_way(),
                _ => cannot_write(to, e),
            })
        };
        for log in &logs {
            match &renamed {
                Ok(()) => remove(&aside(log))?,
                Err(_) => fs::rename(aside(log), log).map_err(|e| cannot_write(log, e))?,
            }
        }
        renamed?;
        sync_folder(to.parent().unwrap_or(Path::new("/")))?;
        Ok(warnings)
    }
}

/// Writes the pages as they come. Returns their length and the first bytes, which describe the database.
async fn receive(
    file: &mut tokio::fs::File,
    path: &Path,
    streams: &dyn StreamSource,
    observer: &dyn LoadObserver,
) -> Result<(u64, Vec<u8>)> {
    let mut stream = streams.open(STREAM).await?;
    let mut head = Vec::with_capacity(HEADER);
    let mut written = 0;
    while let Some(bytes) = stream.next().await? {
        if head.len() < HEADER {
            head.extend_from_slice(&bytes[..bytes.len().min(HEADER - head.len())]);
        }
        let wrote = file.write_all(&bytes).await;
        wrote.map_err(|e| cannot_write(path, e))?;
        written += bytes.len() as u64;
        observer.bytes(bytes.len() as u64);
    }
    Ok((written, head))
}

/// Gives up waiting when `cancel` fires.
async fn with<T>(cancel: &CancellationToken, work: impl Future<Output = Result<T>> + Send) -> Result<T> {
    tokio::select! {
        biased;
        () = cancel.cancelled() => Err(Error::interrupted()),
        done = work => done,
    }
}

fn check_shape(entry: &StreamFacts, page_size: u32, written: u64, head: &[u8]) -> Result<()> {
    // Bytes 16 and 17: the page size, where 1 stands for 65536.
    let declared = match head.get(16..18) {
        Some([0, 1]) => 65_536,
        Some(&[high, low]) => u32::from(u16::from_be_bytes([high, low])),
        _ => 0,
    };
    if written != entry.length
        || !written.is_multiple_of(u64::from(page_size.max(1)))
        || !head.starts_with(MAGIC)
        || declared != page_size
    {
        return Err(Error::verification(format!(
            "the {written} bytes of {STREAM} are not a database of {} bytes in pages of {page_size}",
            entry.length
        )));
    }
    Ok(())
}

/// What is in an existing file, as far as can be seen without changing anything.
fn describe(path: &Path, size: u64) -> String {
    let tables = open_still(path).ok().and_then(|connection| {
        let inventory = facts::inventory(&connection).ok()?;
        Some(inventory.get("table").copied().unwrap_or(0))
    });
    match tables {
        Some(tables) => {
            format!("SQLite database, {}, {}", human::counted(tables, "table", "tables"), human::bytes(size))
        }
        None => format!("a file of {} that is not a readable SQLite database", human::bytes(size)),
    }
}
