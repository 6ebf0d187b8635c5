//! A directory of this host (a disk, a network mount) as a target.
//!
//! An object is a file of mode 0600 in folders of mode 0700. It is written below `.tmp`, synced, and then
//! appears under its name at once, without ever replacing anything; the folders that gained an entry are
//! synced before `put` returns.
//!
//! The directory itself is never made by [`DirectoryTarget::open`]: where a disk is not mounted, its mount
//! point would be filled instead. A folder *below* the mount point is therefore the best place for a
//! target. [`DirectoryTarget::create`] makes the directory when that is asked for, below an existing parent.

mod attack;
mod files;
mod hang;
mod walk;
mod write;

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use tokio_util::sync::CancellationToken;

use crate::model::object::{ObjectKey, VersionId};
use crate::model::place::Root;
use crate::targets::directory::files::{Disk, failure};
use crate::targets::upload::CHUNK;
use crate::targets::{
    ObjectInfo, ObjectPages, ObjectStream, PutOutcome, Target, TargetError, TargetErrorKind, Upload,
};

/// A target in a directory.
#[derive(Debug, Clone)]
pub struct DirectoryTarget {
    path: PathBuf,
    disk: Arc<Disk>,
}

impl DirectoryTarget {
    /// Opens an existing directory. Fails with [`TargetErrorKind::NotFound`] where there is none.
    pub async fn open(path: impl Into<PathBuf>) -> Result<Self, TargetError> {
        let path = path.into();
        let operation = format!("open {}", path.display());
        let at = path.clone();
        let (named, nothing_ends_it) = (operation.clone(), CancellationToken::new());
        let disk =
            hang::run(&path, operation, &nothing_ends_it, move |call| Disk::open(&at, call, &named)).await?;
        Ok(Self { path, disk: Arc::new(disk) })
    }

    /// Makes the directory if it is missing, and opens it. Its parent must exist.
    pub async fn create(path: impl Into<PathBuf>) -> Result<Self, TargetError> {
        let path = path.into();
        let operation = format!("create {}", path.display());
        let at = path.clone();
        let (named, nothing_ends_it) = (operation.clone(), CancellationToken::new());
        hang::run(&path, operation, &nothing_ends_it, move |_| make_root(&at, &named)).await?;
        Self::open(path).await
    }

    /// The objects below a folder that come next after a key.
    async fn page(
        &self,
        prefix: Option<ObjectKey>,
        after: Option<ObjectKey>,
        cancel: &CancellationToken,
    ) -> Result<Vec<ObjectInfo>, TargetError> {
        let operation = format!("list {}", self.describe());
        let (disk, named) = (self.disk.clone(), operation.clone());
        let walk = move |call: &hang::Call| disk.page(prefix.as_ref(), after.as_ref(), call, &named);
        hang::run(&self.path, operation, cancel, walk).await
    }
}

fn make_root(path: &Path, operation: &str) -> Result<(), TargetError> {
    let fail = |e: std::io::Error| failure(operation, &path.display().to_string(), e);
    match std::fs::DirBuilder::new().mode(0o700).create(path) {
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => return Ok(()),
        made => made.map_err(fail)?,
    }
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    File::open(parent).and_then(|parent| parent.sync_all()).map_err(fail)
}

#[async_trait]
impl Target for DirectoryTarget {
    fn describe(&self) -> String {
        self.path.display().to_string()
    }

    fn root(&self) -> Option<Root> {
        Some(self.disk.root_identity())
    }

    async fn put(
        &self,
        key: &ObjectKey,
        upload: &Upload,
        cancel: &CancellationToken,
    ) -> Result<PutOutcome, TargetError> {
        let operation = format!("put {key} to {}", self.describe());
        let (disk, key, upload, named) = (self.disk.clone(), key.clone(), upload.clone(), operation.clone());
        hang::run(&self.path, operation, cancel, move |call| disk.put(&key, &upload, call, &named)).await
    }

    async fn head(
        &self,
        key: &ObjectKey,
        cancel: &CancellationToken,
    ) -> Result<Option<ObjectInfo>, TargetError> {
        let operation = format!("look up {key} at {}", self.describe());
        let (disk, key, named) = (self.disk.clone(), key.clone(), operation.clone());
        hang::run(&self.path, operation, cancel, move |_| {
            let size = disk.stat(&key, &named)?;
            Ok(size.map(|size| ObjectInfo { key, size, sha256: None, version: None, hidden: false }))
        })
        .await
    }

    async fn get(
        &self,
        key: &ObjectKey,
        version: Option<&VersionId>,
        cancel: &CancellationToken,
    ) -> Result<ObjectStream, TargetError> {
        let operation = format!("get {key} from {}", self.describe());
        if let Some(version) = version {
            return Err(TargetError::new(
                TargetErrorKind::NotFound,
                operation,
                format!("version {:?} is not there: a directory has no versions", version.0),
            ));
        }
        let (disk, key, named) = (self.disk.clone(), key.clone(), operation.clone());
        let opened = hang::run(&self.path, operation.clone(), cancel, move |_| disk.read(&key, &named));
        let (file, left) = opened.await?;
        let reading = Reading {
            file: Handle(Some(file)),
            left,
            place: self.path.clone(),
            operation,
            cancel: cancel.clone(),
        };
        Ok(stream::try_unfold(reading, Reading::next).boxed())
    }

    async fn list(
        &self,
        prefix: Option<&ObjectKey>,
        after: Option<&ObjectKey>,
        cancel: &CancellationToken,
    ) -> Result<ObjectPages, TargetError> {
        let (target, prefix, cancel) = (self.clone(), prefix.cloned(), cancel.clone());
        let begin = Some(after.cloned());
        Ok(stream::try_unfold(begin, move |after| {
            let (target, prefix, cancel) = (target.clone(), prefix.clone(), cancel.clone());
            async move {
                let Some(after) = after else { return Ok(None) };
                let page = target.page(prefix, after, &cancel).await?;
                // A page that is not full is the last one.
                let full = page.len() == walk::PAGE;
                let last = page.last().filter(|_| full).map(|object| Some(object.key.clone()));
                Ok(Some((page, last)))
            }
        })
        .boxed())
    }

    async fn versions(
        &self,
        key: &ObjectKey,
        cancel: &CancellationToken,
    ) -> Result<Vec<ObjectInfo>, TargetError> {
        Ok(self.head(key, cancel).await?.into_iter().collect())
    }

    async fn delete(
        &self,
        key: &ObjectKey,
        version: Option<&VersionId>,
        cancel: &CancellationToken,
    ) -> Result<(), TargetError> {
        let operation = format!("delete {key} from {}", self.describe());
        let (disk, key, named) = (self.disk.clone(), key.clone(), operation.clone());
        // A directory has no versions, so one that is named is not there.
        let named_version = version.is_some();
        let delete = move |call: &hang::Call| match named_version {
            true => Ok(()),
            false => disk.delete(&key, call, &named),
        };
        hang::run(&self.path, operation, cancel, delete).await
    }
}

/// A file that is closed on a thread for that: on a network mount, closing asks the server too.
struct Handle(Option<File>);

impl Drop for Handle {
    fn drop(&mut self) {
        let Some(file) = self.0.take() else { return };
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(move || drop(file))),
            Err(_) => drop(file),
        }
    }
}

/// An object that is being read.
struct Reading {
    file: Handle,
    left: u64,
    place: PathBuf,
    operation: String,
    cancel: CancellationToken,
}

impl Reading {
    async fn next(self) -> Result<Option<(Bytes, Self)>, TargetError> {
        let (place, operation, cancel) = (self.place.clone(), self.operation.clone(), self.cancel.clone());
        hang::run(&place, operation, &cancel, move |_| self.read()).await
    }

    fn read(mut self) -> Result<Option<(Bytes, Self)>, TargetError> {
        // This thread may close it.
        if self.left == 0 {
            drop(self.file.0.take());
            return Ok(None);
        }
        let Some(file) = &mut self.file.0 else { return Ok(None) };
        let wanted = self.left.min(CHUNK as u64);
        let mut buffer = Vec::with_capacity(CHUNK.min(wanted as usize));
        let read = file.take(wanted).read_to_end(&mut buffer);
        let n = read.map_err(|e| failure(&self.operation, "the file", e))?;
        if n == 0 {
            return Err(TargetError::new(
                TargetErrorKind::Unavailable,
                self.operation,
                format!("the file ended {} bytes early", self.left),
            ));
        }
        self.left -= n as u64;
        Ok(Some((Bytes::from(buffer), self)))
    }
}
