//! What whoever has a target's credentials can try against an object: the means of a probe, and of nothing else.

use async_trait::async_trait;
use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use crate::model::object::{ObjectKey, VersionId};
use crate::model::object_lock::Lock;
use crate::targets::{Target, TargetError};

/// A target that can be attacked. No operation here says whether anything was harmed: look afterwards.
#[async_trait]
pub(crate) trait Attack: Target {
    /// Why nothing that this target refuses binds its host, where that is so.
    fn caveat(&self) -> Option<&'static str>;

    /// Puts bytes under a key, whatever is there.
    async fn overwrite(
        &self,
        key: &ObjectKey,
        bytes: Bytes,
        cancel: &CancellationToken,
    ) -> Result<(), TargetError>;

    /// Deletes an object without naming a version: with versions, that lays a marker over it.
    async fn hide(&self, key: &ObjectKey, cancel: &CancellationToken) -> Result<(), TargetError>;

    /// Deletes the very version, with every right that there may be to go around its lock.
    async fn destroy(
        &self,
        key: &ObjectKey,
        version: Option<&VersionId>,
        cancel: &CancellationToken,
    ) -> Result<(), TargetError>;

    /// The lock of an object, as the target shows it.
    async fn lock_of(
        &self,
        key: &ObjectKey,
        version: Option<&VersionId>,
        cancel: &CancellationToken,
    ) -> Result<Option<Lock>, TargetError>;

    /// Replaces the lock of an object, with every right that there may be to go around it.
    async fn relock(
        &self,
        key: &ObjectKey,
        version: Option<&VersionId>,
        lock: Lock,
        cancel: &CancellationToken,
    ) -> Result<(), TargetError>;
}
