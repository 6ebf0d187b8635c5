//! Fetching a whole object into a file: the one that is asked for, or a good version of it.

use std::path::Path;

use futures_util::StreamExt;
use sha2::Digest;
use tokio::fs::{File, OpenOptions};
use tokio::io::AsyncWriteExt;
use tokio_util::sync::CancellationToken;

use super::{Expected, Fetched, corrupt, fetch_policy};
use crate::model::id::Sha256;
use crate::model::object::{ObjectKey, VersionId};
use crate::targets::{Target, TargetError, TargetErrorKind};

pub(super) async fn fetch_some_version<T: Target + ?Sized>(
    target: &T,
    key: &ObjectKey,
    expected: &Expected,
    path: &Path,
    cancel: &CancellationToken,
) -> Result<Fetched, TargetError> {
    let first = expected.version.as_ref();
    let attempt = || fetch_version(target, key, first, expected, path, cancel);
    let error = match fetch_policy().run(cancel, attempt).await {
        Ok(()) => return Ok(Fetched { instead: None }),
        Err(e) => e,
    };
    if !matches!(error.kind, TargetErrorKind::Corrupt | TargetErrorKind::NotFound) {
        return Err(error);
    }
    let versions = match target.versions(key, cancel).await {
        Ok(versions) => versions,
        Err(e) if e.kind == TargetErrorKind::Cancelled => return Err(e),
        // What went wrong with the object itself is what people need to know.
        Err(_) => return Err(error),
    };
    for version in versions {
        let Some(id) = version.version else { continue };
        if version.size != expected.size || Some(&id) == first {
            continue;
        }
        let attempt = || fetch_version(target, key, Some(&id), expected, path, cancel);
        match fetch_policy().run(cancel, attempt).await {
            Ok(()) => {
                tracing::warn!(
                    key = key.as_str(),
                    target = target.describe(),
                    version = id.0,
                    cause = error.cause,
                    "object is damaged or deleted, one of its versions is good"
                );
                return Ok(Fetched { instead: Some(id) });
            }
            Err(e) if e.kind == TargetErrorKind::Cancelled => return Err(e),
            Err(_) => {}
        }
    }
    Err(error)
}

async fn fetch_version<T: Target + ?Sized>(
    target: &T,
    key: &ObjectKey,
    version: Option<&VersionId>,
    expected: &Expected,
    path: &Path,
    cancel: &CancellationToken,
) -> Result<(), TargetError> {
    let operation = format!("get {key} from {}", target.describe());
    let mut stream = target.get(key, version, cancel).await?;
    let fail = |e: std::io::Error| local_failure(&operation, path, e);
    let mut file = create(path).await.map_err(fail)?;
    let mut hash = sha2::Sha256::new();
    let mut size = 0;
    while let Some(chunk) = stream.next().await {
        let chunk = chunk?;
        size += chunk.len() as u64;
        if size > expected.size {
            return Err(corrupt(operation, format!("the object is larger than its {} bytes", expected.size)));
        }
        hash.update(&chunk);
        file.write_all(&chunk).await.map_err(fail)?;
    }
    file.flush().await.map_err(fail)?;
    let sha256 = Sha256(hash.finalize().into());
    if size != expected.size {
        return Err(corrupt(operation, format!("the object has {size} bytes, not {}", expected.size)));
    }
    if sha256 != expected.sha256 {
        return Err(corrupt(operation, format!("the object's SHA-256 is {sha256}, not {}", expected.sha256)));
    }
    Ok(())
}

async fn create(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path).await
}

/// A failure on this host while a target is being read; it does not go away by trying again.
fn local_failure(operation: &str, path: &Path, e: std::io::Error) -> TargetError {
    TargetError::new(
        TargetErrorKind::Unsupported,
        operation,
        format!("cannot write {} on this host: {e}", path.display()),
    )
    .with_source(e)
}
