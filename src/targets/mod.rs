//! Where copies are kept: the contract every target fulfils, and its adapters.

pub(crate) mod attack;
pub(crate) mod directory;
mod error;
pub(crate) mod ext;
pub(crate) mod memory;
pub(crate) mod pace;
pub(crate) mod registry;
pub(crate) mod s3;
mod upload;
mod url;
pub(crate) mod wrapper;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use tokio_util::sync::CancellationToken;

use crate::model::id::{Sha256, TargetName};
use crate::model::object::{ObjectKey, VersionId};
use crate::model::place::Root;

pub use error::{TargetError, TargetErrorKind};
pub(crate) use ext::Acknowledged;
pub use ext::{Expected, Fetched, TargetExt};
pub(crate) use upload::Body;
pub use upload::Upload;
pub use url::{S3Location, TargetUrl};

/// What a target said about a put.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PutOutcome {
    /// The object was not there and now is, durably.
    Created {
        /// Its version, where the target has versions.
        version: Option<VersionId>,
        /// The target itself computed the SHA-256 of what it received and compared it with ours.
        checked: bool,
    },
    /// An object of this name was there already. It was not touched; the caller compares.
    Exists,
}

/// What a target says an object is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectInfo {
    /// Its key.
    pub key: ObjectKey,
    /// Its size in bytes.
    pub size: u64,
    /// The SHA-256 that the target keeps beside it, if it does.
    pub sha256: Option<Sha256>,
    /// Its version, if the target has versions.
    pub version: Option<VersionId>,
    /// A delete marker lies over it: it is still there, and a reader without a version does not see it.
    pub hidden: bool,
}

/// An object's bytes in order. An error item ends the stream.
pub(crate) type ObjectStream = BoxStream<'static, Result<Bytes, TargetError>>;

/// A list page by page, so that nobody holds the names of a whole bucket. An error item ends the stream.
pub(crate) type ObjectPages = BoxStream<'static, Result<Vec<ObjectInfo>, TargetError>>;

/// A place where copies are kept.
///
/// The contract, which `tests/it/target_conformance.rs` holds every adapter to:
/// - `put` is create-if-absent and atomic: a reader sees either nothing or all the bytes, also after a
///   crash; of several writers of one key exactly one gets `Created`. When it returns `Created` the object
///   is durable. Bytes that do not have the announced size and SHA-256 are refused and leave nothing behind.
/// - An upload that is to replace what lies there is put all the same, as atomically: a new version where the target has
///   versions. What the target protects stays, and that is [`TargetErrorKind::Refused`] or [`TargetErrorKind::Denied`].
/// - `get` and `head` see an object at once after its `put`. A missing object is [`TargetErrorKind::NotFound`]
///   for `get` and `None` for `head`.
/// - `list` returns every object whose key starts with `prefix/` (or all, for `None`) and is greater than `after`, sorted by
///   key, and nothing that is half-written. Objects under a delete marker are among them, where the credentials allow to see
///   them. Of two folders of which one's name begins with the other's (`a` and `a-b`), either may come first: some servers
///   walk a tree. A failure may come as an error of the call or as the stream's last item.
/// - `delete` removes an object with all its versions, or exactly the version that is named. What is not there is `Ok`. What
///   the target protects (by a lock, or a missing right) is [`TargetErrorKind::Refused`], and then nothing was laid over it that
///   would hide it. When it returns `Ok` the object is gone for good, durably.
/// - Every call gives up soon after `cancel` fires, with [`TargetErrorKind::Cancelled`].
/// - Errors never contain credentials.
#[async_trait]
pub trait Target: Send + Sync + fmt::Debug {
    /// How people know this target: its URL without credentials.
    fn describe(&self) -> String;

    /// What the operating system knows the place by; `None` where it is no directory of this host.
    fn root(&self) -> Option<Root>;

    /// Creates an object unless its key is taken.
    async fn put(
        &self,
        key: &ObjectKey,
        upload: &Upload,
        cancel: &CancellationToken,
    ) -> Result<PutOutcome, TargetError>;

    /// What is stored under a key, or `None`.
    async fn head(
        &self,
        key: &ObjectKey,
        cancel: &CancellationToken,
    ) -> Result<Option<ObjectInfo>, TargetError>;

    /// Reads an object; with a version, exactly that one, even when something newer (or a delete
    /// marker) lies over it.
    async fn get(
        &self,
        key: &ObjectKey,
        version: Option<&VersionId>,
        cancel: &CancellationToken,
    ) -> Result<ObjectStream, TargetError>;

    /// Every object below a prefix (given without its trailing slash); with `after`, only what comes after this key.
    async fn list(
        &self,
        prefix: Option<&ObjectKey>,
        after: Option<&ObjectKey>,
        cancel: &CancellationToken,
    ) -> Result<ObjectPages, TargetError>;

    /// All versions of one object, oldest first, also those under a delete marker. Targets without
    /// versions return what `head` returns.
    async fn versions(
        &self,
        key: &ObjectKey,
        cancel: &CancellationToken,
    ) -> Result<Vec<ObjectInfo>, TargetError>;

    /// Removes an object with all its versions; with a version, only that one.
    async fn delete(
        &self,
        key: &ObjectKey,
        version: Option<&VersionId>,
        cancel: &CancellationToken,
    ) -> Result<(), TargetError>;
}

/// A target and its name in this run.
#[derive(Debug, Clone)]
pub struct NamedTarget {
    /// Its name in the configuration, or one made up for `--from`.
    pub name: TargetName,
    /// The target.
    pub target: Arc<dyn Target>,
}
