//! The folder of a throwaway server, and what is read and written there.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use crate::error::{Error, Result, ResultExt};
use crate::system::programs::shell_word;
use crate::system::runner::Runner;

/// The longest path that a socket can have, in bytes.
const LONGEST_SOCKET: usize = 107;

/// Fails if the path of a server's socket, below this folder, is too long.
pub(crate) fn refuse_long(socket: &Path, folder: &Path) -> Result<()> {
    let length = socket.as_os_str().len();
    if length <= LONGEST_SOCKET {
        return Ok(());
    }
    Err(Error::preflight("the path of the throwaway server's socket would be too long")
        .cause(format!("{length} bytes below {}, but {LONGEST_SOCKET} is the maximum", folder.display()))
        .remedy("Set `scratch_dir` to a folder with a shorter path."))
}

/// The path as the kernel shows it in `/proc`, even if its last part does not exist (any more).
pub(crate) fn real_path(folder: &Path) -> PathBuf {
    if let Ok(real) = folder.canonicalize() {
        return real;
    }
    let absolute = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
    match (absolute.parent().map(Path::canonicalize), absolute.file_name()) {
        (Some(Ok(parent)), Some(name)) => parent.join(name),
        _ => absolute,
    }
}

/// The data of the server in this folder.
pub(crate) fn data(folder: &Path) -> PathBuf {
    folder.join("data")
}

/// The user that the server in this folder runs as: its data belong to it.
pub(crate) fn owner(folder: &Path) -> Option<u32> {
    fs::symlink_metadata(data(folder)).ok().map(|meta| meta.uid())
}

/// Makes a folder that only the server's user can enter.
pub(crate) fn make_private(folder: &Path, runner: &Runner) -> Result<()> {
    let what = format!("make the folder {}", folder.display());
    DirBuilder::new().mode(0o700).create(folder).or_internal(&what)?;
    let flags = (OFlags::DIRECTORY | OFlags::NOFOLLOW).bits().cast_signed();
    let opened = OpenOptions::new().read(true).custom_flags(flags).open(folder).or_internal(&what)?;
    runner.give(&opened)
}

/// Makes a file that only the server's user can read.
pub(crate) fn create(path: &Path, content: &str, runner: &Runner) -> Result<File> {
    let operation = format!("write {}", path.display());
    let mut options = OpenOptions::new();
    let mut file = options.append(true).create_new(true).mode(0o600).open(path).or_internal(&operation)?;
    file.write_all(content.as_bytes()).or_internal(&operation)?;
    runner.give(&file)?;
    Ok(file)
}

/// A path as text, for a setting.
pub(crate) fn text(path: &Path) -> Result<&str> {
    path.to_str().ok_or_else(|| {
        Error::preflight(format!("the path {} is not UTF-8", path.display()))
            .remedy("Set `scratch_dir` to a folder with a simpler path.")
    })
}

/// A path as a word of a command.
pub(crate) fn word(path: &Path) -> String {
    shell_word(&path.display().to_string())
}

/// Opens a file in a folder where the server's user may write: it must be neither a link nor a pipe.
pub(crate) fn open_regular(path: &Path) -> std::io::Result<File> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(std::io::Error::other("not a regular file")),
    }
}

/// The end of a file, of limited size: the relevant part of a log.
pub(crate) fn tail(path: &Path) -> Vec<u8> {
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = open_regular(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(16 * 1024)))?;
        let mut bytes = Vec::new();
        file.take(16 * 1024).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    read().unwrap_or_default()
}

/// Removes a folder with everything in it, and verifies that it is gone.
pub(crate) async fn remove_folder(folder: &Path) -> Result<()> {
    let path = folder.to_owned();
    let removed = tokio::task::spawn_blocking(move || fs::remove_dir_all(path)).await;
    let cause = match removed.or_internal("remove a folder")? {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => e.to_string(),
        _ if fs::symlink_metadata(folder).is_err() => return Ok(()),
        _ => "it is still there".to_owned(),
    };
    Err(Error::internal(format!("failed to remove {}", folder.display()))
        .cause(cause)
        .remedy("Remove it by hand: it holds unencrypted data."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_paths_are_refused_with_a_remedy() {
        let folder = Path::new("/var/lib/marbre/scratch/20261122T020000Z-1f3a9c4e.place");
        refuse_long(&folder.join("s/.s.PGSQL.5432"), folder).unwrap();
        let long = PathBuf::from("/x").join("y".repeat(100));
        let error = refuse_long(&long.join("s/sock"), &long).unwrap_err();
        assert_eq!(error.kind(), crate::error::ErrorKind::Preflight);
        assert!(error.remedy_text().unwrap().contains("scratch_dir"));
    }

    #[tokio::test]
    async fn nothing_to_remove_is_well() {
        let folder = tempfile::tempdir().unwrap();
        remove_folder(&folder.path().join("absent")).await.unwrap();
    }
}
