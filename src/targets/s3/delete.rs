//! Deletion in a bucket: version by version, and never by a marker that would only hide what is locked.

use aws_sdk_s3::Client;
use tokio_util::sync::CancellationToken;

use crate::model::object::{ObjectKey, VersionId};
use crate::targets::s3::S3Target;
use crate::targets::s3::error::Failure;
use crate::targets::s3::names::is_named;
use crate::targets::s3::upload::Progress;
use crate::targets::{TargetError, TargetErrorKind};

impl S3Target {
    /// Removes an object with all its versions and the markers over them; with a version, only that one.
    pub(super) async fn delete_versions(
        &self,
        key: &ObjectKey,
        version: Option<&VersionId>,
        cancel: &CancellationToken,
    ) -> Result<(), TargetError> {
        let operation = format!("delete {key} from {}", self.at());
        let ids = match version {
            Some(version) => Some(vec![version.0.clone()]),
            None => self.all_versions(key, &operation, cancel).await?,
        };
        let Some(ids) = ids else {
            // The server has no versions at all, so nothing but the object itself can go.
            return self.delete_one(key, None, &operation, cancel).await;
        };
        for id in ids {
            // Never without a version where there may be some: that would lay a marker over an object that is locked.
            self.delete_one(key, Some(id), &operation, cancel).await?;
        }
        Ok(())
    }

    /// The ids of all versions of an object, then of the markers over it; `None` where the server has no versions.
    async fn all_versions(
        &self,
        key: &ObjectKey,
        operation: &str,
        cancel: &CancellationToken,
    ) -> Result<Option<Vec<String>>, TargetError> {
        let full = self.full_key(key);
        // Without seeing versions nobody knows what a deletion would do.
        let Some(pages) = self.pages_of(&full, operation, refused, cancel).await? else {
            return Ok(None);
        };
        let (mut versions, mut markers): (Vec<String>, Vec<String>) = Default::default();
        for page in &pages {
            let id = |id: Option<&str>| id.unwrap_or("null").to_owned();
            let ours = page.versions().iter().filter(|v| is_named(v.key(), &full));
            versions.extend(ours.map(|v| id(v.version_id())));
            let ours = page.delete_markers().iter().filter(|m| is_named(m.key(), &full));
            markers.extend(ours.map(|m| id(m.version_id())));
        }
        versions.append(&mut markers);
        Ok(Some(versions))
    }

    async fn delete_one(
        &self,
        key: &ObjectKey,
        version: Option<String>,
        operation: &str,
        cancel: &CancellationToken,
    ) -> Result<(), TargetError> {
        let request = |client: &Client| {
            client
                .delete_object()
                .bucket(&self.location.bucket)
                .key(self.full_key(key))
                .set_version_id(version)
                .send()
        };
        match self.call(cancel, &Progress::default(), request).await {
            Ok(_) => Ok(()),
            Err(e) if e.kind == TargetErrorKind::NotFound && !e.cause.contains("bucket") => Ok(()),
            Err(e) => Err(refused(e).of(operation)),
        }
    }
}

/// Why a deletion was refused. The protocol has one answer for a lock and for a missing right; MinIO says 400 of a lock.
fn refused(failure: Failure) -> Failure {
    let denied = failure.status == Some(403) && failure.cause.contains("do not allow this");
    let locked = failure.status == Some(400) && failure.cause.contains("WORM");
    match failure.kind {
        TargetErrorKind::Denied | TargetErrorKind::Unsupported if denied || locked => Failure {
            kind: TargetErrorKind::Refused,
            cause: "the object is locked, or the credentials may not delete it".to_owned(),
            ..failure
        },
        _ => failure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locks_and_missing_rights_are_refusals_and_nothing_else_is() {
        let of = |kind, status, cause: &str| {
            refused(Failure { status: Some(status), ..Failure::new(kind, cause) }).kind
        };
        use TargetErrorKind::{Denied, Refused, Unavailable, Unsupported};
        assert_eq!(of(Denied, 403, "the credentials do not allow this (AccessDenied, status 403)"), Refused);
        let worm = "the server refuses this request: Object is WORM protected and cannot be overwritten";
        assert_eq!(of(Unsupported, 400, worm), Refused);
        assert_eq!(of(Denied, 403, "the server does not know the access key"), Denied);
        assert_eq!(of(Unsupported, 400, "the server refuses this request"), Unsupported);
        assert_eq!(of(Unavailable, 503, "the server has a problem"), Unavailable);
    }
}
