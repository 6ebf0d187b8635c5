//! What the user that runs marbre can do to a directory target.

use std::io;
use std::path::Path;

use async_trait::async_trait;
use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use crate::model::object::{ObjectKey, VersionId};
use crate::model::object_lock::Lock;
use crate::targets::attack::Attack;
use crate::targets::directory::DirectoryTarget;
use crate::targets::directory::files::failure;
use crate::targets::directory::hang;
use crate::targets::{Target, TargetError, TargetErrorKind};

impl DirectoryTarget {
    async fn harm(
        &self,
        operation: String,
        key: &ObjectKey,
        work: impl FnOnce(&Path) -> io::Result<()> + Send + 'static,
    ) -> Result<(), TargetError> {
        let path = self.path.join(key.as_str());
        let named = operation.clone();
        let nothing_ends_it = CancellationToken::new();
        hang::run(&self.path, operation, &nothing_ends_it, move |_| {
            work(&path).map_err(|e| failure(&named, &path.display().to_string(), e))
        })
        .await
    }

    fn no_locks(&self, operation: &str) -> TargetError {
        let operation = format!("{operation} at {}", self.describe());
        TargetError::new(TargetErrorKind::Unsupported, operation, "a directory has no locks")
    }
}

#[async_trait]
impl Attack for DirectoryTarget {
    fn caveat(&self) -> Option<&'static str> {
        Some("nothing binds the host of a directory: whoever is root there can change and remove everything")
    }

    async fn overwrite(
        &self,
        key: &ObjectKey,
        bytes: Bytes,
        _: &CancellationToken,
    ) -> Result<(), TargetError> {
        let operation = format!("overwrite {key} at {}", self.describe());
        self.harm(operation, key, move |path| std::fs::write(path, bytes)).await
    }

    async fn hide(&self, key: &ObjectKey, _: &CancellationToken) -> Result<(), TargetError> {
        let operation = format!("delete {key} at {}", self.describe());
        self.harm(operation, key, |path| std::fs::remove_file(path)).await
    }

    async fn destroy(
        &self,
        key: &ObjectKey,
        _: Option<&VersionId>,
        cancel: &CancellationToken,
    ) -> Result<(), TargetError> {
        self.hide(key, cancel).await
    }

    async fn lock_of(
        &self,
        key: &ObjectKey,
        _: Option<&VersionId>,
        _: &CancellationToken,
    ) -> Result<Option<Lock>, TargetError> {
        Err(self.no_locks(&format!("read the lock of {key}")))
    }

    async fn relock(
        &self,
        key: &ObjectKey,
        _: Option<&VersionId>,
        _: Lock,
        _: &CancellationToken,
    ) -> Result<(), TargetError> {
        Err(self.no_locks(&format!("change the lock of {key}")))
    }
}
