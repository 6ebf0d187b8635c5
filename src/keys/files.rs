//! Files that hold keys: read without leaving copies behind, written for their owner alone.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind as IoErrorKind, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use secrecy::zeroize::Zeroizing;

use crate::error::{Error, Result};

/// More than any key file holds; what is longer is something else.
const SIZE_LIMIT: u64 = 1024 * 1024;

/// What was read from a key file.
pub(super) struct KeyFile {
    /// Its bytes, wiped when dropped.
    pub(super) bytes: Zeroizing<Vec<u8>>,
    /// The permission bits of its group and of others, e.g. `0o044`.
    pub(super) exposed: u32,
}

/// Reads a key file. `what` names it in messages, e.g. "restore key".
pub(super) fn read(what: &str, path: &Path) -> Result<KeyFile> {
    let name = path.display();
    let failed = |e: std::io::Error| match e.kind() {
        IoErrorKind::NotFound => Error::key(format!("{what} {name}: no such file"))
            .remedy("Give the path of the key file; check that the medium that holds it is mounted."),
        IoErrorKind::PermissionDenied => Error::key(format!("{what} {name} cannot be read")).cause(e).remedy(
            "Run marbre as the owner of the file, or give it to marbre's user: `chown marbre: FILE`.",
        ),
        _ => Error::key(format!("{what} {name} cannot be read")).cause(e),
    };
    let file = File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if metadata.is_dir() {
        return Err(Error::key(format!("{what} {name} is a directory"))
            .remedy("Give the path of the key file itself."));
    }
    // One allocation of the full size, so that no half-grown copies stay behind in memory.
    let mut bytes = Zeroizing::new(Vec::with_capacity(metadata.len().min(SIZE_LIMIT) as usize + 1));
    file.take(SIZE_LIMIT + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > SIZE_LIMIT {
        return Err(Error::key(format!("{what} {name} is too large to be a key file")));
    }
    Ok(KeyFile { bytes, exposed: metadata.permissions().mode() & 0o077 })
}

/// Writes a new file that only its owner can read, durably. Fails if the name is taken.
pub(super) fn create(path: &Path, bytes: &[u8]) -> Result<()> {
    let failed = |e: std::io::Error| match e.kind() {
        IoErrorKind::AlreadyExists => exists(path),
        _ => Error::preflight(format!("failed to write {}", path.display())).cause(e),
    };
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    written.map_err(|e| {
        // The file is ours and incomplete; the error that matters is the first one.
        let _ = std::fs::remove_file(path);
        failed(e)
    })
}

/// The refusal to overwrite.
pub(super) fn exists(path: &Path) -> Error {
    Error::preflight(format!("{} exists already; nothing was written", path.display()))
        .remedy("Choose another folder, or move the old keys away. Never delete a restore key while snapshots need it.")
}

/// Makes the names of new files in a folder durable.
pub(super) fn sync_folder(folder: &Path) -> Result<()> {
    File::open(folder)
        .and_then(|f| f.sync_all())
        .map_err(|e| Error::preflight(format!("failed to sync {}", folder.display())).cause(e))
}

/// The folder of a file: `.` for a bare name.
pub(super) fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(p) if !p.as_os_str().is_empty() => p,
        _ => Path::new("."),
    }
}
