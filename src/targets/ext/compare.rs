//! Comparing what lies under a key with what was to be put there.

use futures_util::StreamExt;
use sha2::Digest;
use tokio_util::sync::CancellationToken;

use super::{Acknowledged, OLDEST, corrupt, fetch_policy};
use crate::model::id::Sha256;
use crate::model::object::ObjectKey;
use crate::targets::{ObjectInfo, Target, TargetError, TargetErrorKind, Upload};

/// Holds what lies under a key against what was to be put there.
pub(super) async fn compare<T: Target + ?Sized>(
    target: &T,
    key: &ObjectKey,
    upload: &Upload,
    cancel: &CancellationToken,
) -> Result<Acknowledged, TargetError> {
    let operation = format!("put {key} to {}", target.describe());
    let Some(found) = target.head(key, cancel).await? else {
        return Err(TargetError::new(
            TargetErrorKind::Unavailable,
            operation,
            "the object was there, and then it was not: is something else deleting?",
        ));
    };
    let problem = match difference(target, &found, upload, cancel).await? {
        None => return Ok(Acknowledged { version: found.version, created: false, checked: true }),
        Some(problem) => problem,
    };
    // Somebody put other bytes over ours: where the target keeps versions, ours are still there.
    let versions = match target.versions(key, cancel).await {
        Err(e) if e.kind == TargetErrorKind::Cancelled => return Err(e),
        versions => versions.unwrap_or_default(),
    };
    for older in versions.into_iter().filter(|v| v.version != found.version).take(OLDEST) {
        if difference(target, &older, upload, cancel).await?.is_none() {
            tracing::warn!(operation, "{problem}, but an older version of it is ours");
            return Ok(Acknowledged { version: older.version, created: false, checked: true });
        }
    }
    Err(corrupt(operation, format!("the key is taken by another object: {problem}")))
}

/// What makes a version of an object another one than what is to be put; nothing, where it is the same.
async fn difference<T: Target + ?Sized>(
    target: &T,
    found: &ObjectInfo,
    upload: &Upload,
    cancel: &CancellationToken,
) -> Result<Option<String>, TargetError> {
    if found.size != upload.size {
        return Ok(Some(format!("its size is {}, not {}", found.size, upload.size)));
    }
    let sha256 = match found.sha256 {
        Some(sha256) => sha256,
        None => {
            let attempt = || hash(target, found, cancel);
            fetch_policy().run(cancel, attempt).await?
        }
    };
    let differs = sha256 != upload.sha256;
    Ok(differs.then(|| format!("its SHA-256 is {sha256}, not {}", upload.sha256)))
}

/// Reads an object back for its hash.
async fn hash<T: Target + ?Sized>(
    target: &T,
    found: &ObjectInfo,
    cancel: &CancellationToken,
) -> Result<Sha256, TargetError> {
    let mut stream = target.get(&found.key, found.version.as_ref(), cancel).await?;
    let mut hash = sha2::Sha256::new();
    while let Some(chunk) = stream.next().await {
        hash.update(chunk?);
    }
    Ok(Sha256(hash.finalize().into()))
}
