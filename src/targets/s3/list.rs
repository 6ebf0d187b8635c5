//! Listing a bucket, a page at a time: what can be seen, and what lies under a delete marker.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;

use aws_sdk_s3::Client;
use aws_sdk_s3::operation::list_object_versions::ListObjectVersionsOutput;
use aws_sdk_s3::types::EncodingType;
use futures_util::{StreamExt, stream};
use tokio_util::sync::CancellationToken;

use crate::model::object::{ObjectKey, VersionId};
use crate::targets::s3::names::decoded;
use crate::targets::s3::upload::Progress;
use crate::targets::s3::versions::cannot_list;
use crate::targets::s3::{S3Target, advance, size_from};
use crate::targets::{ObjectInfo, ObjectPages, TargetError};

/// What is listed, in the bucket's own keys.
#[derive(Debug, Clone)]
pub(super) struct Scope {
    /// What the keys begin with.
    pub below: Option<String>,
    /// The key after which the list begins.
    pub after: Option<String>,
}

/// Where a list goes on.
enum Next<M> {
    Begin,
    From(M),
    End,
}

/// A list in progress.
pub(super) struct Listing {
    target: S3Target,
    scope: Scope,
    operation: String,
    cancel: CancellationToken,
    visible: Next<String>,
    hidden: Next<(String, Option<String>)>,
    /// Hidden objects that come after the last page.
    ahead: BTreeMap<ObjectKey, ObjectInfo>,
    /// A hidden object of which the page before may not have told all versions.
    open: Option<ObjectKey>,
}

impl Listing {
    /// Begins a list; with `hidden`, of objects under a delete marker too.
    pub(super) fn new(
        target: S3Target,
        scope: Scope,
        hidden: bool,
        operation: String,
        cancel: CancellationToken,
    ) -> Self {
        let hidden = if hidden { Next::Begin } else { Next::End };
        let (ahead, open) = (BTreeMap::new(), None);
        Self { target, scope, operation, cancel, visible: Next::Begin, hidden, ahead, open }
    }

    pub(super) fn pages(self) -> ObjectPages {
        stream::try_unfold(self, Self::next).boxed()
    }

    async fn next(mut self) -> Result<Option<(Vec<ObjectInfo>, Self)>, TargetError> {
        if matches!(self.visible, Next::End) {
            if self.ahead.is_empty() {
                self.read_hidden().await?;
            }
            let rest: Vec<ObjectInfo> = std::mem::take(&mut self.ahead).into_values().collect();
            let ended = rest.is_empty() && matches!(self.hidden, Next::End);
            return Ok((!ended).then_some((rest, self)));
        }
        let mut page = self.read_visible().await?;
        // Until the last key of the page, or to the end with the last page.
        if let Some(last) = page.last().map(|object| object.key.clone()) {
            while !self.hidden_is_past(&last) {
                self.read_hidden().await?;
            }
            let later = self.ahead.split_off(&last);
            page.extend(std::mem::replace(&mut self.ahead, later).into_values());
        }
        page.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(Some((page, self)))
    }

    /// Whether the list of versions was read beyond this key.
    fn hidden_is_past(&self, key: &ObjectKey) -> bool {
        match &self.hidden {
            Next::Begin => false,
            Next::From((at, _)) => *at > self.target.full_key(key),
            Next::End => true,
        }
    }

    /// The next objects that can be seen.
    async fn read_visible(&mut self) -> Result<Vec<ObjectInfo>, TargetError> {
        let token = match &self.visible {
            Next::From(token) => Some(token.clone()),
            _ => None,
        };
        let request = |client: &Client| {
            client
                .list_objects_v2()
                .bucket(&self.target.location.bucket)
                .encoding_type(EncodingType::Url)
                .set_prefix(self.scope.below.clone())
                .set_start_after(self.scope.after.clone())
                .set_continuation_token(token.clone())
                .send()
        };
        let page = self.target.call(&self.cancel, &Progress::default(), request).await;
        let page = page.map_err(|e| e.of(&self.operation))?;
        self.visible = match page.is_truncated().unwrap_or(false) {
            false => Next::End,
            true => {
                let next = page.next_continuation_token().map(str::to_owned);
                Next::From(advance(token.as_ref(), next, &self.operation)?)
            }
        };
        let object = |object: &aws_sdk_s3::types::Object| {
            // What is no key of ours (`folder/` markers, names of other programs) was not put by us.
            let key = object.key().and_then(|key| self.target.own_key(&decoded(key)))?;
            Some(ObjectInfo {
                key,
                size: size_from(object.size()),
                sha256: None,
                version: None,
                hidden: false,
            })
        };
        Ok(page.contents().iter().filter_map(object).collect())
    }

    /// Reads on in the list of versions. Where versions cannot be seen, nothing is hidden.
    async fn read_hidden(&mut self) -> Result<(), TargetError> {
        let (key_marker, version_marker) = match &self.hidden {
            Next::Begin => (self.scope.after.clone(), None),
            Next::From((key, version)) => (Some(key.clone()), version.clone()),
            Next::End => return Ok(()),
        };
        let request = |client: &Client| {
            client
                .list_object_versions()
                .bucket(&self.target.location.bucket)
                .encoding_type(EncodingType::Url)
                .set_prefix(self.scope.below.clone())
                .set_key_marker(key_marker.clone())
                .set_version_id_marker(version_marker.clone())
                .send()
        };
        let page = match self.target.call(&self.cancel, &Progress::default(), request).await {
            Ok(page) => page,
            Err(e) if matches!(self.hidden, Next::Begin) && cannot_list(&e) => {
                tracing::debug!(operation = self.operation, cause = e.cause, "versions cannot be listed");
                self.target.version_support.unlistable.store(true, Ordering::Relaxed);
                self.hidden = Next::End;
                return Ok(());
            }
            Err(e) => return Err(e.of(&self.operation)),
        };
        self.hidden = match page.is_truncated().unwrap_or(false) {
            false => Next::End,
            true => {
                let next = page
                    .next_key_marker()
                    .map(|key| (decoded(key), page.next_version_id_marker().map(str::to_owned)));
                let last = key_marker.map(|key| (key, version_marker));
                Next::From(advance(last.as_ref(), next, &self.operation)?)
            }
        };
        self.note_hidden(&page);
        Ok(())
    }

    /// Notes the objects of a page whose newest version is a delete marker, each with its oldest version: that is the
    /// object that was put.
    fn note_hidden(&mut self, page: &ListObjectVersionsOutput) {
        let own = |key: Option<&str>| key.and_then(|key| self.target.own_key(&decoded(key)));
        let markers = page.delete_markers().iter().filter(|marker| marker.is_latest().unwrap_or(false));
        let mut hidden: BTreeSet<ObjectKey> = markers.filter_map(|marker| own(marker.key())).collect();
        hidden.extend(self.open.take());
        for version in page.versions() {
            let Some(key) = own(version.key()).filter(|key| hidden.contains(key)) else { continue };
            let id = version.version_id().map(|id| VersionId(id.to_owned()));
            let info =
                ObjectInfo { key, size: size_from(version.size()), sha256: None, version: id, hidden: true };
            // The newest comes first.
            self.ahead.insert(info.key.clone(), info);
        }
        if let Next::From((key, _)) = &self.hidden {
            self.open = self.target.own_key(key).filter(|key| hidden.contains(key));
        }
    }
}
