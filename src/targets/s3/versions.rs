//! Locks and versions of a bucket: what lies under a delete marker is still there.

use std::sync::atomic::{AtomicBool, Ordering};

use aws_sdk_s3::Client;
use aws_sdk_s3::operation::list_object_versions::ListObjectVersionsOutput;
use aws_sdk_s3::primitives::DateTime;
use aws_sdk_s3::types::{EncodingType, ObjectLockMode};
use jiff::Timestamp;
use tokio::sync::OnceCell;
use tokio_util::sync::CancellationToken;

use crate::model::object_lock::LockMode;
use crate::targets::s3::error::Failure;
use crate::targets::s3::names::decoded;
use crate::targets::s3::upload::Progress;
use crate::targets::s3::{S3Target, advance};
use crate::targets::{TargetError, TargetErrorKind};

/// What was learnt of a bucket's versions, so that it is asked for once only.
#[derive(Debug, Default)]
pub(super) struct VersionSupport {
    /// The bucket keeps versions, or does not say.
    versioned: OnceCell<bool>,
    /// The credentials may not list versions, or the server cannot.
    pub(super) unlistable: AtomicBool,
}

/// Whether versions cannot be listed here, now or later. A server that lacks them may answer something that makes no sense.
pub(super) fn cannot_list(e: &Failure) -> bool {
    matches!(e.kind, TargetErrorKind::Denied | TargetErrorKind::Unsupported | TargetErrorKind::NotFound)
        || e.status.is_some_and(|status| (200..300).contains(&status))
}

/// The mode in the words of the protocol.
pub(super) fn lock_mode(mode: LockMode) -> ObjectLockMode {
    match mode {
        LockMode::Compliance => ObjectLockMode::Compliance,
        LockMode::Governance => ObjectLockMode::Governance,
    }
}

/// The moment, or the next whole second: servers may cut fractions off, and a lock must not end early.
pub(super) fn whole_second(at: Timestamp) -> DateTime {
    DateTime::from_secs(at.as_second() + i64::from(at.subsec_nanosecond() > 0))
}

impl S3Target {
    /// Whether objects may lie under delete markers that these credentials may look under.
    pub(super) async fn keeps_hidden(
        &self,
        operation: &str,
        cancel: &CancellationToken,
    ) -> Result<bool, TargetError> {
        Ok(!self.version_support.unlistable.load(Ordering::Relaxed)
            && self.keeps_versions(operation, cancel).await?)
    }

    /// Every page that names versions of this one key; `None` where the server has no versions. `map_failure` may turn a failure
    /// into another one.
    pub(super) async fn pages_of(
        &self,
        full_key: &str,
        operation: &str,
        map_failure: impl Fn(Failure) -> Failure,
        cancel: &CancellationToken,
    ) -> Result<Option<Vec<ListObjectVersionsOutput>>, TargetError> {
        let mut pages = Vec::new();
        let mut marker: Option<(String, String)> = None;
        loop {
            let (key_marker, version_marker) = marker.clone().unzip();
            let request = |client: &Client| {
                client
                    .list_object_versions()
                    .bucket(&self.location.bucket)
                    .prefix(full_key)
                    .encoding_type(EncodingType::Url)
                    .set_key_marker(key_marker)
                    .set_version_id_marker(version_marker)
                    .send()
            };
            let page = match self.call(cancel, &Progress::default(), request).await {
                Ok(page) => page,
                Err(e) if e.kind == TargetErrorKind::Unsupported => return Ok(None),
                Err(e) => return Err(map_failure(e).of(operation)),
            };
            // Keys come in order, so nothing of this one follows a page that ends with another.
            let next_key = page.next_key_marker().map(decoded);
            let last = !page.is_truncated().unwrap_or(false) || next_key.as_deref() != Some(full_key);
            let next = next_key.zip(page.next_version_id_marker().map(str::to_owned));
            pages.push(page);
            if last {
                return Ok(Some(pages));
            }
            marker = Some(advance(marker.as_ref(), next, operation)?);
        }
    }

    /// Whether the bucket keeps versions. One that may not be asked may.
    async fn keeps_versions(&self, operation: &str, cancel: &CancellationToken) -> Result<bool, TargetError> {
        let ask = async || {
            let request =
                |client: &Client| client.get_bucket_versioning().bucket(&self.location.bucket).send();
            match self.call(cancel, &Progress::default(), request).await {
                Ok(answer) => Ok(answer.status().is_some()),
                Err(e) if matches!(e.kind, TargetErrorKind::Cancelled | TargetErrorKind::Unavailable) => {
                    Err(e.of(operation))
                }
                Err(_) => Ok(true),
            }
        };
        self.version_support.versioned.get_or_try_init(ask).await.copied()
    }
}
