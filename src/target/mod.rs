//! Where copies are kept: the contract every target fulfils, and its adapters.

pub mod attack;
pub mod directory;
mod directory_attack;
mod disk;
mod disk_write;
pub mod ext;
pub mod faulty;
mod hang;
pub mod limit;
pub mod memory;
pub mod retry;
pub mod s3;
mod s3_attack;
mod s3_credentials;
mod s3_delete;
mod s3_error;
mod s3_upload;
mod s3_versions;
mod shared;
mod unopened;
pub mod url;

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use tokio_util::sync::CancellationToken;

use crate::model::id::{InvalidId, Sha256};
use crate::model::lock::Lock;

use directory::DirectoryTarget;
use limit::Pace;
use retry::{Retry, RetryPolicy};
use s3::{S3Target, S3Timeouts};
use unopened::Unopened;

pub use ext::{Acknowledged, Expected, Fetched, TargetExt};
pub use url::{S3Location, TargetUrl};

/// The name of an object below a target's prefix.
///
/// Invariants: 1 to 512 bytes; segments separated by single `/`; every segment is 1 to 128 of
/// `a-z A-Z 0-9 . _ -`, is not `.` or `..`, and does not start with `.`. So a key can be joined to a
/// directory, put in a URL and listed by prefix without escaping and without leaving its place.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey(String);

impl ObjectKey {
    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ObjectKey {
    type Err = InvalidId;

    fn from_str(value: &str) -> Result<Self, InvalidId> {
        let segment = |s: &str| {
            (1..=128).contains(&s.len())
                && !s.starts_with('.')
                && s.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
        };
        if value.len() <= 512 && value.split('/').all(segment) {
            Ok(Self(value.to_owned()))
        } else {
            Err(InvalidId {
                what: "object key",
                value: value.to_owned(),
                accepted: "segments of a-z, A-Z, 0-9, '.', '_' and '-' separated by '/', none starting with '.'",
            })
        }
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The bytes of an object on their way to a target. Cheap to clone: several targets share one.
#[derive(Debug, Clone)]
pub enum Body {
    /// Small objects: receipts, signatures, manifests.
    Memory(Bytes),
    /// A spooled pack (ciphertext).
    File(PathBuf),
}

/// An object to store: its bytes, what they must be, and how they are to be kept.
#[derive(Debug, Clone)]
pub struct Upload {
    /// The bytes.
    pub body: Body,
    /// Their number.
    pub size: u64,
    /// Their SHA-256.
    pub sha256: Sha256,
    /// How the target is to hold the new object fast. Only S3 can; others ignore it.
    pub lock: Option<Lock>,
    /// The pace at which the bytes go out.
    pub pace: Option<Pace>,
}

impl Upload {
    /// An object held in memory.
    pub fn memory(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        let (size, sha256) = (bytes.len() as u64, Sha256::of(&bytes));
        Self { body: Body::Memory(bytes), size, sha256, lock: None, pace: None }
    }

    /// A spooled file of this size and hash.
    pub fn file(path: impl Into<PathBuf>, size: u64, sha256: Sha256) -> Self {
        Self { body: Body::File(path.into()), size, sha256, lock: None, pace: None }
    }

    /// The same, held fast.
    #[must_use]
    pub fn locked(self, lock: Lock) -> Self {
        Self { lock: Some(lock), ..self }
    }

    /// Refuses bytes that are not those announced.
    pub(crate) fn check(&self, size: u64, sha256: Sha256, operation: &str) -> Result<(), TargetError> {
        let cause = if size != self.size {
            format!("the bytes to send are {size}, not {} as announced", self.size)
        } else if sha256 != self.sha256 {
            format!("the bytes to send have the SHA-256 {sha256}, not {} as announced", self.sha256)
        } else {
            return Ok(());
        };
        Err(TargetError::new(TargetErrorKind::Corrupt, operation, cause))
    }
}

/// An opaque version of an object, where a target keeps several under one key (S3 versioning).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VersionId(pub String);

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
}

/// An object's bytes in order. An error item ends the stream.
pub type ObjectStream = BoxStream<'static, Result<Bytes, TargetError>>;

/// A place where copies are kept.
///
/// The contract, which `tests/it/target_conformance.rs` holds every adapter to:
/// - `put` is create-if-absent and atomic: a reader sees either nothing or all the bytes, also after a
///   crash; of several writers of one key exactly one gets `Created`. When it returns `Created` the object
///   is durable. Bytes that do not have the announced size and SHA-256 are refused and leave nothing behind.
/// - `get` and `head` see an object at once after its `put`. A missing object is [`TargetErrorKind::NotFound`]
///   for `get` and `None` for `head`.
/// - `list` returns every object whose key starts with `prefix/` (or all, for `None`), sorted by key, and
///   nothing that is half-written. Objects under a delete marker are among them, where the credentials allow to see them.
/// - `delete` removes an object with all its versions, or exactly the version that is named. What is not there is `Ok`. What
///   the target holds fast (a lock, a missing right) is [`TargetErrorKind::Refused`], and then nothing was laid over it that
///   would hide it. When it returns `Ok` the object is gone for good, durably.
/// - Every call gives up soon after `cancel` fires, with [`TargetErrorKind::Cancelled`].
/// - Errors never contain credentials.
#[async_trait]
pub trait Target: Send + Sync + fmt::Debug {
    /// How people know this target: its URL without credentials.
    fn describe(&self) -> String;

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

    /// Every object below a prefix (given without its trailing slash).
    async fn list(
        &self,
        prefix: Option<&ObjectKey>,
        cancel: &CancellationToken,
    ) -> Result<Vec<ObjectInfo>, TargetError>;

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

/// A target's failure.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{operation}: {cause}")]
pub struct TargetError {
    /// What kind.
    pub kind: TargetErrorKind,
    /// What was attempted, e.g. "put receipts/x.json to s3://bucket/prefix".
    pub operation: String,
    /// Why it failed, in the target's own words.
    pub cause: String,
}

/// The kinds of failure that callers and people treat differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TargetErrorKind {
    /// The object, bucket or directory does not exist.
    NotFound,
    /// Credentials are missing or wrong, or do not allow this.
    Denied,
    /// The target holds the object fast: a lock, a retention time, or credentials without the right to delete.
    Refused,
    /// No space, or a quota is used up.
    Full,
    /// No connection, a time-out, a 5xx, throttling: may be better in a moment.
    Unavailable,
    /// What arrived is not what was announced.
    Corrupt,
    /// The request can never work: wrong endpoint kind, unsupported by the server, bad configuration.
    Unsupported,
    /// The caller cancelled.
    Cancelled,
}

impl TargetErrorKind {
    /// Whether trying again at once is pointless.
    pub fn is_permanent(self) -> bool {
        match self {
            TargetErrorKind::NotFound
            | TargetErrorKind::Denied
            | TargetErrorKind::Refused
            | TargetErrorKind::Full
            | TargetErrorKind::Unsupported
            | TargetErrorKind::Cancelled => true,
            TargetErrorKind::Unavailable | TargetErrorKind::Corrupt => false,
        }
    }

    /// What the operator can do about it.
    pub fn remedy(self) -> &'static str {
        match self {
            TargetErrorKind::NotFound => "Check the bucket or directory and the prefix of the target.",
            TargetErrorKind::Denied => {
                "Check the target's credentials and that they may put, get and list objects below its prefix."
            }
            TargetErrorKind::Refused => {
                "A lock ends by itself, and the next run tries again. Where there is none, the credentials lack the right to delete."
            }
            TargetErrorKind::Full => "Free space at the target or raise its quota.",
            TargetErrorKind::Unavailable => "Check that the target is up and can be reached from this host.",
            TargetErrorKind::Corrupt => "Check the network and the target's disks, then run `marbre verify`.",
            TargetErrorKind::Unsupported => "Check the target's endpoint and kind in the configuration.",
            TargetErrorKind::Cancelled => "Run the command again.",
        }
    }
}

impl TargetError {
    /// A failure of `operation`.
    pub fn new(kind: TargetErrorKind, operation: impl Into<String>, cause: impl fmt::Display) -> Self {
        Self { kind, operation: operation.into(), cause: cause.to_string() }
    }

    /// `operation` was cancelled by its caller.
    pub fn cancelled(operation: impl Into<String>) -> Self {
        Self::new(TargetErrorKind::Cancelled, operation, "cancelled before it was done")
    }

    /// The thread that was at work on it ended without an answer.
    fn given_up(operation: impl Into<String>, e: tokio::task::JoinError) -> Self {
        Self::new(TargetErrorKind::Unavailable, operation, format!("the work was given up: {e}"))
    }
}

/// Opens a target as production uses it: the adapter that the URL names, with retries around it.
/// Changes nothing at the target, and does not speak to an S3 server yet.
pub async fn open(url: &TargetUrl) -> crate::Result<Arc<dyn Target>> {
    Ok(open_adapter(url).await?)
}

/// Like [`open`], for jobs that may have other targets: where this one is down (its disk is not mounted,
/// its credentials are not there), every operation on it fails with what opening it gave. Only a target
/// that can never work is an error here.
pub async fn open_if_up(url: &TargetUrl) -> crate::Result<Arc<dyn Target>> {
    match open_adapter(url).await {
        Ok(target) => Ok(target),
        Err(e) if e.kind == TargetErrorKind::Unsupported => Err(e.into()),
        Err(e) => Ok(Arc::new(Unopened::new(url.to_string(), e))),
    }
}

/// Opens a target for a probe, which tries to break it: the adapter itself, without retries.
pub async fn open_for_attack(url: &TargetUrl) -> crate::Result<Arc<dyn attack::Attack>> {
    Ok(match url {
        TargetUrl::Directory(path) => Arc::new(DirectoryTarget::open(path).await?),
        TargetUrl::S3(location) => Arc::new(S3Target::open(location, S3Timeouts::default()).await?),
    })
}

async fn open_adapter(url: &TargetUrl) -> Result<Arc<dyn Target>, TargetError> {
    Ok(match url {
        TargetUrl::Directory(path) => {
            Arc::new(Retry::new(DirectoryTarget::open(path).await?, RetryPolicy::default()))
        }
        TargetUrl::S3(location) => {
            let target = S3Target::open(location, S3Timeouts::default()).await?;
            Arc::new(Retry::new(target, RetryPolicy::default()))
        }
    })
}

impl From<TargetError> for crate::Error {
    fn from(e: TargetError) -> Self {
        let kind = match e.kind {
            TargetErrorKind::Cancelled => crate::ErrorKind::Interrupted,
            TargetErrorKind::NotFound => crate::ErrorKind::NotFound,
            TargetErrorKind::Corrupt => crate::ErrorKind::Verification,
            TargetErrorKind::Denied
            | TargetErrorKind::Refused
            | TargetErrorKind::Full
            | TargetErrorKind::Unavailable
            | TargetErrorKind::Unsupported => crate::ErrorKind::Target,
        };
        crate::Error::new(kind, format!("failed to {}", e.operation)).cause(&e.cause).remedy(e.kind.remedy())
    }
}
