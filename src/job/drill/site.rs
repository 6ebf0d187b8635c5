//! Where a drill works on the local disk, and what is left of drills that died.
//!
//! In the scratch folder each drill has, under its own name: a `.lock` file whose lock it holds while it lives,
//! a `.packs` folder for ciphertext, and a `.place` that belongs to the engine and holds readable data. A
//! `.kept` file says that people wanted to look at the place of a failed drill.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind as IoErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::engine::scratch::ScratchHost;
use crate::error::{Error, Result, ResultExt};
use crate::model::id::{DatabaseId, DrillId};
use crate::state::{make_private_folder, write_private_file};

const LOCK: &str = "lock";
const PACKS: &str = "packs";
const PLACE: &str = "place";
const KEPT: &str = "kept";

/// What one running drill has on the disk.
#[derive(Debug)]
pub(crate) struct Site {
    paths: Paths,
    _lock: File,
}

#[derive(Debug, Clone)]
struct Paths {
    folder: PathBuf,
    drill: DrillId,
}

impl Paths {
    fn of(&self, what: &str) -> PathBuf {
        self.folder.join(format!("{}.{what}", self.drill))
    }

    /// What is there of the drill, except its lock.
    fn remains(&self) -> Vec<PathBuf> {
        let all = [PACKS, PLACE, KEPT].map(|what| self.of(what));
        all.into_iter().filter(|path| fs::symlink_metadata(path).is_ok()).collect()
    }

    /// Removes what is ours, the lock last, and looks whether anything is left.
    fn clear(&self) -> Result<()> {
        let what = format!("remove what drill {} left", self.drill);
        match fs::remove_dir_all(self.of(PACKS)) {
            Err(e) if e.kind() != IoErrorKind::NotFound => return Err(e).or_internal(&what),
            _ => {}
        }
        if let Some(left) = self.remains().first() {
            return Err(Error::internal(format!("failed to {what}: {} is still there", left.display()))
                .remedy("Remove it by hand: readable data may lie there."));
        }
        match fs::remove_file(self.of(LOCK)) {
            Err(e) if e.kind() != IoErrorKind::NotFound => Err(e).or_internal(&what),
            _ => Ok(()),
        }
    }
}

impl Site {
    /// Makes the files of a drill in the scratch folder, its lock first.
    pub(crate) fn open(folder: &Path, drill: &DrillId, database: &DatabaseId) -> Result<Self> {
        make_private_folder(folder)?;
        let paths = Paths { folder: folder.to_owned(), drill: drill.clone() };
        let what = format!("make a place for drill {drill} in {}", folder.display());
        // Locked before it has the name under which others look for locks.
        let unnamed = folder.join(format!(".{drill}.{LOCK}"));
        let create = || -> std::io::Result<File> {
            let mut lock = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unnamed)?;
            lock.try_lock()?;
            writeln!(lock, "{database}")?;
            fs::rename(&unnamed, paths.of(LOCK))?;
            Ok(lock)
        };
        let lock = create().or_internal(&what)?;
        let site = Self { paths, _lock: lock };
        make_private_folder(&site.packs())?;
        Ok(site)
    }

    /// A private folder for packs.
    pub(crate) fn packs(&self) -> PathBuf {
        self.paths.of(PACKS)
    }

    /// The engine's folder, which it makes itself.
    pub(crate) fn place(&self) -> PathBuf {
        self.paths.of(PLACE)
    }

    /// Leaves the place for people: no later start removes it.
    pub(crate) fn keep(self, how: &str) -> Result<()> {
        let path = self.paths.of(KEPT);
        write_private_file(&path, how.as_bytes()).or_internal(format!("write {}", path.display()))?;
        let _ = fs::remove_dir_all(self.packs());
        let _ = fs::remove_file(self.paths.of(LOCK));
        Ok(())
    }

    /// Removes everything, and looks whether it is gone. The engine has removed its place before.
    pub(crate) fn clear(self) -> Result<()> {
        self.paths.clear()
    }
}

/// What was found of earlier drills.
#[derive(Debug, Default)]
pub(crate) struct Swept {
    /// Drills that had died, and whose files are gone now.
    pub removed: Vec<DrillId>,
    /// What is left, in full sentences.
    pub warnings: Vec<String>,
}

/// Removes what dead drills left. `hosts` knows the engine's part, for databases that are configured.
pub(crate) async fn sweep(
    folder: &Path,
    hosts: &(dyn Fn(&DatabaseId) -> Option<Arc<dyn ScratchHost>> + Send + Sync),
) -> Result<Swept> {
    let mut swept = Swept::default();
    for (drill, what) in traces(folder)? {
        let paths = Paths { folder: folder.to_owned(), drill };
        if what == KEPT {
            swept.warnings.push(format!(
                "The readable copy of drill {} was kept, and still lies in {}. When you have seen enough: rm -rf {}",
                paths.drill,
                paths.of(PLACE).display(),
                paths.of("*").display()
            ));
            continue;
        }
        let path = paths.of(LOCK);
        let Some((_lock, database)) = take(&path)? else { continue };
        match database.as_ref().and_then(hosts) {
            Some(host) => match host.sweep(&paths.of(PLACE)).await.and_then(|()| paths.clear()) {
                Ok(()) => swept.removed.push(paths.drill),
                Err(e) => swept.warnings.push(format!("Drill {} died, and left something: {e}.", paths.drill)),
            },
            None => swept.warnings.push(format!(
                "Drill {} died, and its database is not in the configuration: look at {} and remove it by hand.",
                paths.drill,
                paths.of("*").display()
            )),
        }
    }
    Ok(swept)
}

/// The drills that have files here: a mark that they were kept, or else a lock.
fn traces(folder: &Path) -> Result<Vec<(DrillId, &'static str)>> {
    let what = format!("look for drills in {}", folder.display());
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == IoErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(e).or_internal(what),
    };
    let mut found = Vec::new();
    for entry in entries {
        let name = entry.or_internal(&what)?.file_name();
        let parts = name.to_str().and_then(|name| name.split_once('.'));
        let Some((drill, kind)) = parts.and_then(|(drill, kind)| Some((drill.parse().ok()?, kind))) else {
            continue;
        };
        match kind {
            KEPT => found.push((drill, KEPT)),
            LOCK => found.push((drill, LOCK)),
            _ => {}
        }
    }
    found.sort();
    Ok(found)
}

/// The lock of a drill that is dead, and its database; `None` while it lives.
fn take(path: &Path) -> Result<Option<(File, Option<DatabaseId>)>> {
    let what = format!("look at {}", path.display());
    let mut lock = match OpenOptions::new().read(true).write(true).open(path) {
        Ok(lock) => lock,
        Err(e) if e.kind() == IoErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e).or_internal(what),
    };
    match lock.try_lock() {
        Err(std::fs::TryLockError::WouldBlock) => return Ok(None),
        Err(std::fs::TryLockError::Error(e)) => return Err(e).or_internal(what),
        Ok(()) => {}
    }
    let mut text = String::new();
    lock.read_to_string(&mut text).or_internal(what)?;
    Ok(Some((lock, text.trim().parse().ok())))
}
