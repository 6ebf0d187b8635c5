//! The room that is left on a disk.

use std::path::Path;

/// How many bytes this user can still write to the file system of this path, which must exist.
pub(crate) fn free(path: &Path) -> std::io::Result<u64> {
    let stat = rustix::fs::statvfs(path)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}
