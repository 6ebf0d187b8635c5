//! What whoever has the credentials of an S3 target can do to its objects.

use async_trait::async_trait;
use aws_sdk_s3::Client;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{ObjectLockRetention, ObjectLockRetentionMode};
use bytes::Bytes;
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::model::id::Sha256;
use crate::model::object::{ObjectKey, VersionId};
use crate::model::object_lock::{Lock, LockMode};
use crate::targets::attack::Attack;
use crate::targets::s3::upload::Progress;
use crate::targets::s3::versions::whole_second;
use crate::targets::s3::{S3Target, base64_of};
use crate::targets::{TargetError, TargetErrorKind};

#[async_trait]
impl Attack for S3Target {
    fn caveat(&self) -> Option<&'static str> {
        None
    }

    async fn overwrite(
        &self,
        key: &ObjectKey,
        bytes: Bytes,
        cancel: &CancellationToken,
    ) -> Result<(), TargetError> {
        let request = |client: &Client| {
            client
                .put_object()
                .bucket(&self.location.bucket)
                .key(self.full_key(key))
                .checksum_sha256(base64_of(Sha256::of(&bytes)))
                .body(ByteStream::from(bytes))
                .send()
        };
        let sent = self.call(cancel, &Progress::default(), request).await;
        sent.map(drop).map_err(|e| e.of(&format!("overwrite {key} at {}", self.at())))
    }

    async fn hide(&self, key: &ObjectKey, cancel: &CancellationToken) -> Result<(), TargetError> {
        let request = |client: &Client| {
            client.delete_object().bucket(&self.location.bucket).key(self.full_key(key)).send()
        };
        let sent = self.call(cancel, &Progress::default(), request).await;
        sent.map(drop).map_err(|e| e.of(&format!("delete {key} at {}", self.at())))
    }

    async fn destroy(
        &self,
        key: &ObjectKey,
        version: Option<&VersionId>,
        cancel: &CancellationToken,
    ) -> Result<(), TargetError> {
        let deletion = |client: &Client, bypass: Option<bool>| {
            client
                .delete_object()
                .bucket(&self.location.bucket)
                .key(self.full_key(key))
                .set_version_id(version.map(|v| v.0.clone()))
                .set_bypass_governance_retention(bypass)
                .send()
        };
        // Asking to go around a lock is a right of its own: who lacks it may still delete what is not locked.
        let sent = match self.call(cancel, &Progress::default(), |client| deletion(client, Some(true))).await
        {
            Err(e) if e.kind == TargetErrorKind::Denied => {
                self.call(cancel, &Progress::default(), |client| deletion(client, None)).await
            }
            sent => sent,
        };
        sent.map(drop).map_err(|e| e.of(&format!("delete a version of {key} at {}", self.at())))
    }

    async fn lock_of(
        &self,
        key: &ObjectKey,
        version: Option<&VersionId>,
        cancel: &CancellationToken,
    ) -> Result<Option<Lock>, TargetError> {
        let operation = format!("read the lock of {key} at {}", self.at());
        let request = |client: &Client| {
            client
                .get_object_retention()
                .bucket(&self.location.bucket)
                .key(self.full_key(key))
                .set_version_id(version.map(|v| v.0.clone()))
                .send()
        };
        let answer = match self.call(cancel, &Progress::default(), request).await {
            Ok(answer) => answer,
            // "This object has no lock" is a 404, and on servers without locks a refusal.
            Err(e) if e.kind == TargetErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e.of(&operation)),
        };
        let Some(retention) = answer.retention() else { return Ok(None) };
        let mode = match retention.mode() {
            Some(ObjectLockRetentionMode::Compliance) => LockMode::Compliance,
            Some(ObjectLockRetentionMode::Governance) => LockMode::Governance,
            _ => return Ok(None),
        };
        let until = retention.retain_until_date().and_then(|at| Timestamp::from_second(at.secs()).ok());
        Ok(until.map(|until| Lock { mode, until }))
    }

    async fn relock(
        &self,
        key: &ObjectKey,
        version: Option<&VersionId>,
        lock: Lock,
        cancel: &CancellationToken,
    ) -> Result<(), TargetError> {
        let mode = match lock.mode {
            LockMode::Compliance => ObjectLockRetentionMode::Compliance,
            LockMode::Governance => ObjectLockRetentionMode::Governance,
        };
        let retention =
            ObjectLockRetention::builder().mode(mode).retain_until_date(whole_second(lock.until)).build();
        let change = |client: &Client, bypass: Option<bool>| {
            client
                .put_object_retention()
                .bucket(&self.location.bucket)
                .key(self.full_key(key))
                .set_version_id(version.map(|v| v.0.clone()))
                .set_bypass_governance_retention(bypass)
                .retention(retention.clone())
                .send()
        };
        let sent = match self.call(cancel, &Progress::default(), |client| change(client, Some(true))).await {
            Err(e) if e.kind == TargetErrorKind::Denied => {
                self.call(cancel, &Progress::default(), |client| change(client, None)).await
            }
            sent => sent,
        };
        sent.map(drop).map_err(|e| e.of(&format!("change the lock of {key} at {}", self.at())))
    }
}
