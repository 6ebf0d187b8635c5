//! Where the programs of a server are, and what they need beside themselves.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::process::Command;

use crate::system::programs::find;

/// What these programs of this folder need to be able to read, where it is not among the system's: the folders beside their own that
/// belong to an installation, and those of their libraries.
pub(crate) async fn installation(directory: &Path, programs: &[&str]) -> Vec<PathBuf> {
    let real = directory.canonicalize().unwrap_or_else(|_| directory.to_owned());
    if real.starts_with("/usr") {
        return Vec::new();
    }
    let mut folders = vec![real.clone()];
    if let Some(prefix) = real.parent() {
        folders.extend(["lib", "lib64", "share", "libexec"].map(|name| prefix.join(name)));
    }
    for name in programs {
        folders.extend(folders_of_libraries(&real.join(name)).await);
    }
    folders.retain(|folder| folder.is_dir() && !folder.starts_with("/usr"));
    folders.sort();
    folders.dedup();
    folders
}

/// The folders of the libraries that a program loads, according to `ldd`.
async fn folders_of_libraries(program: &Path) -> Vec<PathBuf> {
    let Some(ldd) = find("ldd").filter(|_| program.is_file()) else { return Vec::new() };
    let output = Command::new(ldd).arg(program).stdin(Stdio::null()).kill_on_drop(true).output().await;
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    // `libpq.so.5 => /opt/lib/libpq.so.5 (0x…)`
    let paths =
        text.lines().filter_map(|line| line.split_once(" => ")?.1.split_once(" (").map(|(path, _)| path));
    paths.filter_map(|path| Some(Path::new(path).canonicalize().ok()?.parent()?.to_owned())).collect()
}

/// Where a server's programs may be: in `bin_dir`, else in `$PATH` and in `usual`.
pub(crate) fn candidates(bin_dir: Option<&Path>, usual: impl IntoIterator<Item = PathBuf>) -> Vec<PathBuf> {
    if let Some(dir) = bin_dir {
        return vec![dir.to_owned()];
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut directories: Vec<PathBuf> =
        std::env::split_paths(&path).filter(|dir| dir.is_absolute()).collect();
    directories.extend(usual);
    // On many systems /bin is /usr/bin.
    let mut seen = BTreeSet::new();
    directories.retain(|dir| dir.canonicalize().is_ok_and(|real| seen.insert(real)));
    directories
}
