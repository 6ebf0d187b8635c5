//! Listing what lies below a folder of the directory target, a page at a time.

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, Dir, FileType, Mode};
use rustix::io::Errno;

use crate::model::object::ObjectKey;
use crate::targets::directory::files::{Disk, failure, size};
use crate::targets::directory::hang::Call;
use crate::targets::directory::write::FOLDER;
use crate::targets::{ObjectInfo, TargetError, TargetErrorKind};

/// How many objects a page has. Every page reads the folders on its way anew, so that no folder stays open between two
/// pages, and no more names than these are held of a folder of any size.
pub(super) const PAGE: usize = 4096;

/// A walk that fills one page.
struct Walk<'a> {
    disk: &'a Disk,
    call: &'a Call,
    operation: &'a str,
    /// The key after which the page begins.
    after: &'a str,
    found: Vec<ObjectInfo>,
}

impl Disk {
    /// The objects below a folder that come next after a key, sorted by key; fewer than [`PAGE`] are the last.
    pub(super) fn page(
        &self,
        prefix: Option<&ObjectKey>,
        after: Option<&ObjectKey>,
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
        let after = after.map_or("", ObjectKey::as_str);
        let mut walk = Walk { disk: self, call, operation, after, found: Vec::new() };
        walk.folder(prefix, &start)?;
        Ok(walk.found)
    }

    fn is_file(&self, path: &str) -> bool {
        std::fs::symlink_metadata(self.path.join(path)).is_ok_and(|m| m.is_file())
    }
}

impl Walk<'_> {
    /// Adds what lies below a folder, until the page is full.
    fn folder(&mut self, path: &str, folder: &OwnedFd) -> Result<(), TargetError> {
        let mut last = String::new();
        loop {
            let names = self.names(path, folder, &last)?;
            for name in &names {
                if self.found.len() == PAGE {
                    return Ok(());
                }
                self.entry(&format!("{path}{}{name}", separator(path)), name, folder)?;
            }
            match names.last() {
                Some(name) if names.len() == PAGE => last.clone_from(name),
                _ => return Ok(()),
            }
        }
    }

    /// Adds an object, or what lies below a folder, whose name then ends with a slash.
    fn entry(&mut self, path: &str, name: &str, parent: &OwnedFd) -> Result<(), TargetError> {
        let fail = |e| failure(self.operation, &self.disk.shown(path), e);
        self.call.step(self.operation)?;
        if let Some(path) = path.strip_suffix('/') {
            return match rustix::fs::openat(parent, name.trim_end_matches('/'), FOLDER, Mode::empty()) {
                Ok(folder) => self.folder(path, &folder),
                // It was empty and has been removed.
                Err(Errno::NOENT) => Ok(()),
                Err(e) => Err(fail(e)),
            };
        }
        // What is no key was not put there by us.
        let Ok(key) = path.parse::<ObjectKey>() else { return Ok(()) };
        match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile => {
                self.found.push(ObjectInfo {
                    key,
                    size: size(&stat),
                    sha256: None,
                    version: None,
                    hidden: false,
                });
                Ok(())
            }
            Ok(_) | Err(Errno::NOENT) => Ok(()),
            Err(e) => Err(fail(e)),
        }
    }

    /// The next names of a folder after `last` that the page may need, in the order of the keys below them: with a slash
    /// at the end of the names of folders, since `a-b/x` comes before `a/x`.
    fn names(&self, path: &str, folder: &OwnedFd, last: &str) -> Result<BTreeSet<String>, TargetError> {
        let fail = |e| failure(self.operation, &self.disk.shown(path), e);
        let mut names = BTreeSet::new();
        let below = format!("{path}{}", separator(path));
        let after = match self.after.strip_prefix(&below) {
            Some(after) => after,
            None if below.as_str() > self.after => "",
            // All that is below comes before it.
            None => return Ok(names),
        };
        for entry in Dir::read_from(folder).map_err(fail)? {
            let entry = entry.map_err(fail)?;
            self.call.step(self.operation)?;
            let Ok(name) = entry.file_name().to_str() else { continue };
            // What is no key was not put there by us; that includes `.tmp`.
            if name.parse::<ObjectKey>().is_err() {
                continue;
            }
            let kind = match entry.file_type() {
                FileType::Unknown => match rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
                    Ok(stat) => FileType::from_raw_mode(stat.st_mode),
                    Err(Errno::NOENT) => continue,
                    Err(e) => return Err(fail(e)),
                },
                kind => kind,
            };
            let name = match kind {
                FileType::Directory => format!("{name}/"),
                FileType::RegularFile => name.to_owned(),
                _ => continue,
            };
            let begins = name.as_str() > after || (name.ends_with('/') && after.starts_with(&name));
            if begins && name.as_str() > last {
                names.insert(name);
                if names.len() > PAGE {
                    names.pop_last();
                }
            }
        }
        Ok(names)
    }
}

fn separator(path: &str) -> &'static str {
    if path.is_empty() { "" } else { "/" }
}
