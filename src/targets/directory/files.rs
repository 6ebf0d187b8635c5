//! The blocking half of the directory target: system calls relative to open folders, so that no
//! symbolic link is followed and no rename of a parent can lead elsewhere.

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, Once, PoisonError};
use std::time::{Duration, SystemTime};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::model::object::ObjectKey;
use crate::model::place::Root;
use crate::targets::directory::hang::Call;
use crate::targets::directory::write::{FOLDER, LOCK, TEMPORARY, Temporary, copy};
use crate::targets::{PutOutcome, TargetError, TargetErrorKind, Upload};

/// How old a temporary file must be to be the remains of a crash, and not somebody's upload.
const LEFTOVER_AGE: Duration = Duration::from_secs(24 * 60 * 60);

/// A directory that holds objects.
#[derive(Debug)]
pub(super) struct Disk {
    pub(super) path: PathBuf,
    root: Root,
    /// Folders whose entry in their parent this process has seen to be durable.
    durable: Mutex<HashSet<String>>,
    /// Somebody has been told what the file system cannot do.
    limited: Once,
}

/// A system call's failure in the words of the contract. `what` is the path, as people know it.
pub(super) fn failure(operation: &str, what: &str, e: impl Into<io::Error>) -> TargetError {
    use TargetErrorKind as Kind;
    let e = e.into();
    let errno = Errno::from_io_error(&e).unwrap_or(Errno::IO);
    let kind = match errno {
        Errno::NOSPC | Errno::DQUOT => Kind::Full,
        Errno::ACCESS | Errno::PERM | Errno::ROFS => Kind::Denied,
        Errno::NOENT => Kind::NotFound,
        Errno::NOTDIR | Errno::LOOP | Errno::XDEV | Errno::NAMETOOLONG | Errno::ISDIR => Kind::Unsupported,
        _ => Kind::Unavailable,
    };
    let text = io::Error::from(errno).to_string();
    let text = text.split(" (os error").next().unwrap_or(&text);
    TargetError::new(kind, operation, format!("{what}: {text}")).with_source(e)
}

/// What an open directory is known by.
fn identity(directory: &OwnedFd) -> Result<Root, Errno> {
    let stat = rustix::fs::fstat(directory)?;
    let kind = rustix::fs::fstatfs(directory)?.f_type;
    // The fields' types differ between platforms.
    #[allow(clippy::unnecessary_cast)]
    Ok(Root {
        device: stat.st_dev as u64,
        inode: stat.st_ino as u64,
        lasts: !NUMBERS_DIFFER.contains(&(kind as u32)),
    })
}

/// File systems that number their files anew with each mount, or when they have not been used for a while: FUSE, FAT,
/// exFAT, and SMB in its versions.
const NUMBERS_DIFFER: [u32; 6] = [0x6573_5546, 0x4d44, 0x2011_bab0, 0xff53_4d42, 0xfe53_4d42, 0x517b];

impl Disk {
    /// The directory at `path`, which must exist. Clears the remains of crashes.
    pub(super) fn open(path: &Path, call: &Call, operation: &str) -> Result<Self, TargetError> {
        let root = open_root(path, operation)?;
        let shown = path.display().to_string();
        let known = identity(&root).map_err(|e| failure(operation, &shown, e))?;
        let disk =
            Self { path: path.to_owned(), root: known, durable: Mutex::default(), limited: Once::new() };
        if let Err(errno) = clear_leftovers(root.as_fd(), call) {
            // Read-only users open the directory too; what they cannot clear harms nobody.
            tracing::debug!(directory = shown, %errno, "temporary files were not looked through");
        }
        Ok(disk)
    }

    /// What the operating system knows the directory by.
    pub(super) fn root_identity(&self) -> Root {
        self.root
    }

    /// The root, opened anew for each operation: a daemon must not keep a disk from being unmounted,
    /// and must notice when it was.
    pub(super) fn root(&self, operation: &str) -> Result<OwnedFd, TargetError> {
        let root = open_root(&self.path, operation)?;
        let shown = self.path.display().to_string();
        let now = identity(&root).map_err(|e| failure(operation, &shown, e))?;
        if now.device == self.root.device && (now.inode == self.root.inode || !now.lasts) {
            return Ok(root);
        }
        Err(TargetError::new(
            TargetErrorKind::Unavailable,
            operation,
            format!("{shown} is no longer the same directory: was its disk unmounted or replaced?"),
        ))
    }

    pub(super) fn shown(&self, below: &str) -> String {
        self.path.join(below).display().to_string()
    }

    /// Opens the folder of a key, or says `None` where it does not exist.
    pub(super) fn folder(
        &self,
        root: OwnedFd,
        folder: &str,
        operation: &str,
    ) -> Result<Option<OwnedFd>, TargetError> {
        let mut current = root;
        for (name, path) in steps(folder) {
            current = match rustix::fs::openat(&current, name, FOLDER, Mode::empty()) {
                Ok(next) => next,
                Err(Errno::NOENT) => return Ok(None),
                Err(e) => return Err(self.not_a_folder(&current, name, path, operation, e)),
            };
        }
        Ok(Some(current))
    }

    fn not_a_folder(
        &self,
        parent: &OwnedFd,
        name: &str,
        path: &str,
        operation: &str,
        errno: Errno,
    ) -> TargetError {
        let error = failure(operation, &self.shown(path), errno);
        let stat = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW);
        match stat.map(|s| FileType::from_raw_mode(s.st_mode)) {
            Ok(FileType::Symlink) => TargetError {
                cause: format!("{} is a symbolic link, which is not followed", self.shown(path)),
                kind: TargetErrorKind::Unsupported,
                ..error
            },
            _ => error,
        }
    }

    /// Opens the folder of a key; makes what is missing, and makes it durable.
    fn make_folder(
        &self,
        root: OwnedFd,
        folder: &str,
        call: &Call,
        operation: &str,
    ) -> Result<OwnedFd, TargetError> {
        let mut current = root;
        for (name, path) in steps(folder) {
            call.step(operation)?;
            let fail = |e| failure(operation, &self.shown(path), e);
            let made = match rustix::fs::mkdirat(&current, name, Mode::RWXU) {
                Ok(()) => true,
                Err(Errno::EXIST) => false,
                Err(e) => return Err(fail(e)),
            };
            // Somebody else may have made it just now, and not have synced it yet.
            if made || !self.durable().contains(path) {
                sync_folder(current.as_fd()).map_err(fail)?;
                self.durable().insert(path.to_owned());
            }
            let next = rustix::fs::openat(&current, name, FOLDER, Mode::empty());
            current = next.map_err(|e| self.not_a_folder(&current, name, path, operation, e))?;
        }
        Ok(current)
    }

    fn durable(&self) -> std::sync::MutexGuard<'_, HashSet<String>> {
        // No code panics while it holds the lock.
        self.durable.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Creates an object unless its key is taken; durable when it returns.
    pub(super) fn put(
        &self,
        key: &ObjectKey,
        upload: &Upload,
        call: &Call,
        operation: &str,
    ) -> Result<PutOutcome, TargetError> {
        let (folder, name) = split(key);
        let root = self.root(operation)?;
        if self.stat(key, operation)?.is_some() && !upload.replace {
            let folder = self.make_folder(root, folder, call, operation)?;
            return self.sync_existing(&folder, key, operation);
        }
        let fail_temporary = |e: io::Error| failure(operation, &self.shown(TEMPORARY), e);
        let temporary = Temporary::create(&root).map_err(|e| fail_temporary(e.into()))?;
        let copied = copy(upload, &temporary.file, call, operation, &fail_temporary)?;
        upload.check(copied.0, copied.1, operation)?;
        rustix::fs::fsync(&temporary.file).map_err(|e| fail_temporary(e.into()))?;
        let folder = self.make_folder(root, folder, call, operation)?;
        // What was given up while the disk hung must not appear when it answers again.
        call.step(operation)?;
        let fail = |e| failure(operation, &self.shown(key.as_str()), e);
        let placed = match upload.replace {
            true => temporary.replace(folder.as_fd(), name),
            false => self.place(&temporary, folder.as_fd(), key, call, operation)?,
        };
        match placed {
            Ok(()) => sync_folder(folder.as_fd()).map_err(fail)?,
            Err(Errno::EXIST) => return self.sync_existing(&folder, key, operation),
            Err(e) => return Err(fail(e)),
        }
        // The hash was taken on the way to the disk, by ourselves: nobody at the other end checked it.
        Ok(PutOutcome::Created { version: None, checked: false })
    }

    /// Gives a file its name without replacing anything, in whichever way the file system can.
    fn place(
        &self,
        temporary: &Temporary,
        folder: BorrowedFd<'_>,
        key: &ObjectKey,
        call: &Call,
        operation: &str,
    ) -> Result<Result<(), Errno>, TargetError> {
        let (_, name) = split(key);
        match temporary.place(folder, name) {
            Err(Errno::OPNOTSUPP) => {
                self.limited.call_once(|| {
                    tracing::warn!(
                        directory = %self.path.display(),
                        "the file system can neither rename without replacing nor link, so writers take turns; \
                         let no other host write there"
                    );
                });
                let fail = |e| failure(operation, &self.shown(key.as_str()), e);
                temporary.place_in_turn(folder, name, call, operation, &fail)
            }
            placed => Ok(placed),
        }
    }

    /// Whoever is told that an object exists may count on it, so it is made durable first: its writer
    /// may not have come that far.
    fn sync_existing(
        &self,
        folder: &OwnedFd,
        key: &ObjectKey,
        operation: &str,
    ) -> Result<PutOutcome, TargetError> {
        let fail = |e| failure(operation, &self.shown(key.as_str()), e);
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let (_, name) = split(key);
        match rustix::fs::openat(folder, name, flags, Mode::empty()) {
            Ok(file) => rustix::fs::fsync(&file).map_err(fail)?,
            // An object that we may not read cannot be synced by us either; it does exist.
            Err(Errno::ACCESS) => {}
            Err(e) => return Err(fail(e)),
        }
        sync_folder(folder.as_fd()).map_err(fail)?;
        Ok(PutOutcome::Exists)
    }

    /// The size of an object, or `None` where there is none.
    pub(super) fn stat(&self, key: &ObjectKey, operation: &str) -> Result<Option<u64>, TargetError> {
        let (folder, name) = split(key);
        let Some(folder) = self.folder(self.root(operation)?, folder, operation)? else {
            return Ok(None);
        };
        match rustix::fs::statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => self.regular(&stat, key, operation).map(Some),
            Err(Errno::NOENT) => Ok(None),
            Err(e) => Err(failure(operation, &self.shown(key.as_str()), e)),
        }
    }

    fn regular(&self, stat: &Stat, key: &ObjectKey, operation: &str) -> Result<u64, TargetError> {
        if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile {
            return Ok(size(stat));
        }
        Err(TargetError::new(
            TargetErrorKind::Unsupported,
            operation,
            format!("{} is not a regular file", self.shown(key.as_str())),
        ))
    }

    /// Opens an object for reading; with its size.
    pub(super) fn read(&self, key: &ObjectKey, operation: &str) -> Result<(File, u64), TargetError> {
        let fail = |e| failure(operation, &self.shown(key.as_str()), e);
        // Also names what is in the way, should the key be a link or a folder.
        if self.stat(key, operation)?.is_none() {
            return Err(fail(Errno::NOENT));
        }
        let (folder, name) = split(key);
        let folder =
            self.folder(self.root(operation)?, folder, operation)?.ok_or_else(|| fail(Errno::NOENT))?;
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file = rustix::fs::openat(&folder, name, flags, Mode::empty()).map_err(fail)?;
        let stat = rustix::fs::fstat(&file).map_err(fail)?;
        let size = self.regular(&stat, key, operation)?;
        Ok((File::from(file), size))
    }

    /// Removes an object, and the folders that it leaves empty.
    pub(super) fn delete(&self, key: &ObjectKey, call: &Call, operation: &str) -> Result<(), TargetError> {
        let refused = |errno| {
            let error = failure(operation, &self.shown(key.as_str()), errno);
            match error.kind {
                TargetErrorKind::Denied => TargetError { kind: TargetErrorKind::Refused, ..error },
                _ => error,
            }
        };
        let (folder, name) = split(key);
        // Also says so where something else lies there: that is not ours to remove.
        if self.stat(key, operation)?.is_none() {
            return Ok(());
        }
        let Some(parent) = self.folder(self.root(operation)?, folder, operation)? else { return Ok(()) };
        call.step(operation)?;
        match rustix::fs::unlinkat(&parent, name, AtFlags::empty()) {
            Ok(()) => sync_folder(parent.as_fd()).map_err(refused)?,
            Err(Errno::NOENT) => {}
            Err(e) => return Err(refused(e)),
        }
        self.remove_empty(folder, operation);
        Ok(())
    }

    /// Removes a folder and those above it while they are empty. One that stays harms nobody.
    fn remove_empty(&self, folder: &str, operation: &str) {
        let mut folder = folder;
        while !folder.is_empty() {
            let (above, name) = folder.rsplit_once('/').unwrap_or(("", folder));
            let parent = self.root(operation).and_then(|root| self.folder(root, above, operation));
            let Ok(Some(parent)) = parent else { return };
            self.durable().remove(folder);
            if rustix::fs::unlinkat(&parent, name, AtFlags::REMOVEDIR).is_err() {
                return;
            }
            folder = above;
        }
    }
}

fn open_root(path: &Path, operation: &str) -> Result<OwnedFd, TargetError> {
    // The root itself may be a symbolic link: the operator named it.
    let flags = FOLDER.difference(OFlags::NOFOLLOW);
    rustix::fs::openat(CWD, path, flags, Mode::empty()).map_err(|errno| {
        let error = failure(operation, &path.display().to_string(), errno);
        match errno {
            Errno::NOENT => TargetError {
                cause: format!("directory {} does not exist; is its disk mounted?", path.display()),
                ..error
            },
            _ => error,
        }
    })
}

/// The folder and the name of a key; the folder is empty for a key of one segment.
fn split(key: &ObjectKey) -> (&str, &str) {
    key.as_str().rsplit_once('/').unwrap_or(("", key.as_str()))
}

/// For `a/b/c`: (`a`, `a`), (`b`, `a/b`), (`c`, `a/b/c`).
fn steps(folder: &str) -> impl Iterator<Item = (&str, &str)> {
    let mut end = 0;
    folder.split('/').filter(|name| !name.is_empty()).map(move |name| {
        let start = if end == 0 { 0 } else { end + 1 };
        end = start + name.len();
        (name, &folder[..end])
    })
}

pub(super) fn size(stat: &Stat) -> u64 {
    u64::try_from(stat.st_size).unwrap_or(0)
}

/// Makes new entries of a folder durable.
fn sync_folder(folder: BorrowedFd<'_>) -> Result<(), Errno> {
    match rustix::fs::fsync(folder) {
        // Some network file systems have no such operation for folders: their servers sync by themselves.
        Err(Errno::INVAL) => Ok(()),
        other => other,
    }
}

fn clear_leftovers(root: BorrowedFd<'_>, call: &Call) -> Result<(), Errno> {
    let folder = match rustix::fs::openat(root, TEMPORARY, FOLDER, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(()),
        other => other?,
    };
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let limit = i64::try_from(now.saturating_sub(LEFTOVER_AGE).as_secs()).unwrap_or(0);
    for entry in Dir::read_from(&folder)? {
        let entry = entry?;
        call.answered();
        // Whoever waits for this lock must not wait for another file of its name.
        if entry.file_name().to_bytes() == LOCK.as_bytes() {
            continue;
        }
        let stat = rustix::fs::statat(&folder, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW)?;
        let old = stat.st_mtime < limit;
        if old && FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile {
            rustix::fs::unlinkat(&folder, entry.file_name(), AtFlags::empty())?;
        }
    }
    Ok(())
}
