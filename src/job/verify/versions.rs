//! Which version of an object has the bytes that it should have.

use futures_util::StreamExt;
use sha2::Digest;
use tokio_util::sync::CancellationToken;

use crate::error::{Error, Result};
use crate::model::id::Sha256;
use crate::model::object::{ObjectKey, VersionId};
use crate::repository::receipt::ObjectRef;
use crate::targets::wrapper::retry::RetryPolicy;
use crate::targets::{Target, TargetError, TargetErrorKind};

/// How often a stream that broke is read again from its start.
pub(super) fn policy() -> RetryPolicy {
    RetryPolicy { attempts: 3, ..RetryPolicy::default() }
}

/// Which version of an object is as it should be.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// The newest.
    Newest,
    /// An older one.
    Older(VersionId),
    /// None.
    Nowhere,
}

/// Which version of an object has these bytes.
pub(super) async fn standing(
    target: &dyn Target,
    key: &ObjectKey,
    object: &ObjectRef,
    cancel: &CancellationToken,
) -> Result<Standing> {
    if is(target, key, None, object, cancel).await? {
        return Ok(Standing::Newest);
    }
    older(target, key, object, cancel).await
}

/// Which older version of an object has these bytes.
pub(super) async fn older(
    target: &dyn Target,
    key: &ObjectKey,
    object: &ObjectRef,
    cancel: &CancellationToken,
) -> Result<Standing> {
    let versions = match target.versions(key, cancel).await {
        Ok(versions) => versions,
        Err(e) if e.kind == TargetErrorKind::Cancelled => return Err(Error::interrupted()),
        // Credentials need not be allowed to see versions; then there are none for us.
        Err(_) => return Ok(Standing::Nowhere),
    };
    for found in versions {
        if let Some(version) = found.version
            && found.size == object.size
            && is(target, key, Some(&version), object, cancel).await?
        {
            return Ok(Standing::Older(version));
        }
    }
    Ok(Standing::Nowhere)
}

/// Whether a version of an object can be read and has these bytes.
async fn is(
    target: &dyn Target,
    key: &ObjectKey,
    version: Option<&VersionId>,
    object: &ObjectRef,
    cancel: &CancellationToken,
) -> Result<bool> {
    let attempt = || hash(target, key, version, object.size, &|_| (), cancel);
    match policy().run(cancel, attempt).await {
        Ok(found) => Ok(found == (object.size, object.sha256)),
        Err(e) if e.kind == TargetErrorKind::Cancelled => Err(Error::interrupted()),
        Err(_) => Ok(false),
    }
}

/// Size and SHA-256 of an object; not more than one piece beyond `limit` bytes are read.
pub(crate) async fn hash(
    target: &dyn Target,
    key: &ObjectKey,
    version: Option<&VersionId>,
    limit: u64,
    seen: &(dyn Fn(u64) + Send + Sync),
    cancel: &CancellationToken,
) -> Result<(u64, Sha256), TargetError> {
    let mut stream = target.get(key, version, cancel).await?;
    let mut hash = sha2::Sha256::new();
    let mut size = 0;
    while size <= limit
        && let Some(chunk) = stream.next().await
    {
        let chunk = chunk?;
        size += chunk.len() as u64;
        hash.update(&chunk);
        seen(chunk.len() as u64);
    }
    Ok((size, Sha256(hash.finalize().into())))
}
