//! Finding every object below a folder of the directory target.

use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, Dir, FileType, Mode};
use rustix::io::Errno;

use crate::model::object::ObjectKey;
use crate::targets::directory::files::{Disk, failure, size};
use crate::targets::directory::hang::Call;
use crate::targets::directory::write::FOLDER;
use crate::targets::{ObjectInfo, TargetError, TargetErrorKind};

impl Disk {
    /// Every object below a folder, sorted by key.
    pub(super) fn list(
        &self,
        prefix: Option<&ObjectKey>,
        call: &Call,
        operation: &str,
    ) -> Result<Vec<ObjectInfo>, TargetError> {
        let root = self.root(operation)?;
        let prefix = prefix.map_or("", ObjectKey::as_str);
        let start = match self.folder(root, prefix, operation) {
            Ok(Some(folder)) => folder,
            Ok(None) => return Ok(Vec::new()),
            Err(e) if e.kind == TargetErrorKind::Unsupported && self.is_file(prefix) => {
                return Ok(Vec::new());
            }
            Err(e) => return Err(e),
        };
        let mut found = Vec::new();
        let mut todo = vec![(prefix.to_owned(), start)];
        while let Some((path, folder)) = todo.pop() {
            self.list_folder(&path, &folder, call, operation, &mut found, &mut todo)?;
        }
        found.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(found)
    }

    fn is_file(&self, path: &str) -> bool {
        std::fs::symlink_metadata(self.path.join(path)).is_ok_and(|m| m.is_file())
    }

    fn list_folder(
        &self,
        path: &str,
        folder: &OwnedFd,
        call: &Call,
        operation: &str,
        found: &mut Vec<ObjectInfo>,
        todo: &mut Vec<(String, OwnedFd)>,
    ) -> Result<(), TargetError> {
        let fail = |e| failure(operation, &self.shown(path), e);
        for entry in Dir::read_from(folder).map_err(fail)? {
            let entry = entry.map_err(fail)?;
            call.step(operation)?;
            let Ok(name) = entry.file_name().to_str() else {
                continue;
            };
            let below = if path.is_empty() { name.to_owned() } else { format!("{path}/{name}") };
            // What is no key was not put there by us; that includes `.tmp`.
            let Ok(key) = below.parse::<ObjectKey>() else {
                continue;
            };
            let stat = match rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => stat,
                Err(Errno::NOENT) => continue,
                Err(e) => return Err(fail(e)),
            };
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory => {
                    let next = rustix::fs::openat(folder, name, FOLDER, Mode::empty());
                    todo.push((below, next.map_err(fail)?));
                }
                FileType::RegularFile => {
                    found.push(ObjectInfo { key, size: size(&stat), sha256: None, version: None })
                }
                _ => {}
            }
        }
        Ok(())
    }
}
