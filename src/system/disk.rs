//! The room that is left on a disk.

use std::path::Path;

use crate::error::{Error, Result, ResultExt};
use crate::model::human;

/// How many bytes this user can still write to the file system of this path, which must exist.
pub(crate) fn free(path: &Path) -> std::io::Result<u64> {
    let stat = rustix::fs::statvfs(path)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// How many bytes the file system of this path holds in all.
pub(crate) fn total(path: &Path) -> std::io::Result<u64> {
    let stat = rustix::fs::statvfs(path)?;
    Ok(stat.f_blocks.saturating_mul(stat.f_frsize))
}

/// Fails unless `what`, of so many bytes, has room in this folder, which must exist. The caller knows the remedy.
pub(crate) fn require(folder: &Path, needed: u64, what: &str) -> Result<()> {
    let free = free(folder).or_internal(format!("look at the space in {}", folder.display()))?;
    if free >= needed {
        return Ok(());
    }
    Err(Error::preflight(format!(
        "{} has {} free, and {what} may need {}",
        folder.display(),
        human::bytes(free),
        human::bytes(needed)
    )))
}
