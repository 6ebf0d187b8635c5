//! A target that several hold: so that a wrapper can be put around one that is in use.

use std::sync::Arc;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use crate::model::object::{ObjectKey, VersionId};
use crate::targets::{ObjectInfo, ObjectStream, PutOutcome, Target, TargetError, Upload};

#[async_trait]
impl<T: Target + ?Sized> Target for Arc<T> {
    fn describe(&self) -> String {
        (**self).describe()
    }

    async fn put(
        &self,
        key: &ObjectKey,
        upload: &Upload,
        cancel: &CancellationToken,
    ) -> Result<PutOutcome, TargetError> {
        (**self).put(key, upload, cancel).await
    }

    async fn head(
        &self,
        key: &ObjectKey,
        cancel: &CancellationToken,
    ) -> Result<Option<ObjectInfo>, TargetError> {
        (**self).head(key, cancel).await
    }

    async fn get(
        &self,
        key: &ObjectKey,
        version: Option<&VersionId>,
        cancel: &CancellationToken,
    ) -> Result<ObjectStream, TargetError> {
        (**self).get(key, version, cancel).await
    }

    async fn list(
        &self,
        prefix: Option<&ObjectKey>,
        cancel: &CancellationToken,
    ) -> Result<Vec<ObjectInfo>, TargetError> {
        (**self).list(prefix, cancel).await
    }

    async fn versions(
        &self,
        key: &ObjectKey,
        cancel: &CancellationToken,
    ) -> Result<Vec<ObjectInfo>, TargetError> {
        (**self).versions(key, cancel).await
    }

    async fn delete(
        &self,
        key: &ObjectKey,
        version: Option<&VersionId>,
        cancel: &CancellationToken,
    ) -> Result<(), TargetError> {
        (**self).delete(key, version, cancel).await
    }
}
