//! A bucket of an S3 server as a target: AWS, or any server that speaks its protocol.
//!
//! Create-if-absent is `If-None-Match: *`. A server that does not know it answers 200 and replaces what is
//! there: that cannot be seen from inside a put, but `doctor` probes for it. Each object is one PUT, so it
//! must be smaller than 5 GiB (packs are below 64 MiB). The endpoint comes from the target's URL alone,
//! never from the environment.

mod attack;
mod credentials;
mod delete;
mod download;
mod error;
mod http;
mod list;
mod names;
pub(in crate::targets) mod proxy;
mod session;
mod upload;
mod versions;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::ChecksumMode;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use tokio_util::sync::CancellationToken;

use crate::model::id::Sha256;
use crate::model::object::{ObjectKey, VersionId};
use crate::model::place::Root;
use crate::targets::s3::download::download;
use crate::targets::s3::error::Failure;
use crate::targets::s3::names::is_named;
use crate::targets::s3::session::Sessions;
use crate::targets::s3::upload::{Feeder, Progress, SignedPayload};
use crate::targets::s3::versions::{VersionSupport, lock_mode, whole_second};
use crate::targets::{
    ObjectInfo, ObjectPages, ObjectStream, PutOutcome, S3Location, Target, TargetError, TargetErrorKind,
    Upload,
};

/// When a server counts as hanging.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct S3Timeouts {
    /// To connect, TLS included.
    pub connect: Duration,
    /// Without any progress: no byte accepted, no byte received, no answer. Noticed after this time,
    /// while sending a body after twice this time at most.
    pub idle: Duration,
}

impl Default for S3Timeouts {
    fn default() -> Self {
        Self { connect: Duration::from_secs(10), idle: Duration::from_secs(30) }
    }
}

/// A target in an S3 bucket.
#[derive(Debug, Clone)]
pub struct S3Target {
    sessions: Arc<Sessions>,
    location: S3Location,
    timeouts: S3Timeouts,
    /// A request has succeeded, so the bucket exists.
    bucket_seen: Arc<AtomicBool>,
    /// What is known of the bucket's versions.
    version_support: Arc<VersionSupport>,
}

impl S3Target {
    /// Prepares the client. Does not speak to the server; reads the credentials file only to see that
    /// it can be read.
    pub async fn open(location: &S3Location, timeouts: S3Timeouts) -> Result<Self, TargetError> {
        let operation = format!("open {location}");
        let unsupported = |e| TargetError::caused_by(TargetErrorKind::Unsupported, &operation, e);
        location.check_transport().map_err(unsupported)?;
        let http = http::client(location, &operation)?;
        Ok(Self {
            sessions: Arc::new(Sessions::begin(location, timeouts, http, &operation).await?),
            location: location.clone(),
            timeouts,
            bucket_seen: Arc::default(),
            version_support: Arc::default(),
        })
    }

    fn at(&self) -> String {
        match &self.location.prefix {
            Some(prefix) => format!("s3://{}/{prefix}", self.location.bucket),
            None => format!("s3://{}", self.location.bucket),
        }
    }

    fn full_key(&self, key: &ObjectKey) -> String {
        match &self.location.prefix {
            Some(prefix) => format!("{prefix}/{key}"),
            None => key.to_string(),
        }
    }

    /// The key below the target's prefix, for what `full_key` may have made.
    fn own_key(&self, full: &str) -> Option<ObjectKey> {
        let below = match &self.location.prefix {
            Some(prefix) => full.strip_prefix(prefix.as_str())?.strip_prefix('/')?,
            None => full,
        };
        below.parse().ok()
    }

    /// Sends a request and waits for the head of its answer, while it makes progress.
    async fn call<O, E, R>(
        &self,
        cancel: &CancellationToken,
        progress: &Progress,
        request: impl FnOnce(&Client) -> R,
    ) -> Result<O, Failure>
    where
        R: Future<Output = Result<O, SdkError<E, HttpResponse>>> + Send,
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    {
        let session = self.sessions.current();
        let watched = progress.watch(self.timeouts.idle, request(&session.client));
        let answer = tokio::select! {
            biased;
            () = cancel.cancelled() => return Err(Failure::cancelled()),
            answer = watched => answer,
        };
        match answer {
            None => Err(Failure::stalled(self.timeouts.idle)),
            Some(Ok(output)) => {
                self.bucket_seen.store(true, Ordering::Relaxed);
                session.has_worked();
                Ok(output)
            }
            Some(Err(e)) => {
                let failure = session.explain(Failure::from_sdk(e)).await;
                tokio::select! {
                    biased;
                    () = cancel.cancelled() => Err(Failure::cancelled()),
                    failure = self.sessions.judge(&session, failure) => Err(failure.with_credentials_of(&self.location)),
                }
            }
        }
    }

    async fn check_bucket(&self, cancel: &CancellationToken) -> Result<(), Failure> {
        if self.bucket_seen.load(Ordering::Relaxed) {
            return Ok(());
        }
        let request = |client: &Client| client.head_bucket().bucket(&self.location.bucket).send();
        match self.call(cancel, &Progress::default(), request).await {
            Err(e) if e.kind == TargetErrorKind::NotFound => {
                Err(Failure { cause: format!("the bucket {} does not exist", self.location.bucket), ..e })
            }
            // Credentials without the right to ask are no reason to doubt the bucket.
            Err(e) if e.kind == TargetErrorKind::Denied => Ok(()),
            other => other.map(|_| ()),
        }
    }
}

fn base64_of(sha256: Sha256) -> String {
    BASE64_STANDARD.encode(sha256.0)
}

/// A checksum as the server tells it; one of a multipart upload is no hash of the object.
fn sha256_from(text: Option<&str>) -> Option<Sha256> {
    let bytes = BASE64_STANDARD.decode(text?).ok()?;
    bytes.try_into().ok().map(Sha256)
}

/// A version, unless it is the one that stands for "this bucket has none".
fn version_from(id: Option<&str>) -> Option<VersionId> {
    id.filter(|id| !id.is_empty() && *id != "null").map(|id| VersionId(id.to_owned()))
}

fn size_from(size: Option<i64>) -> u64 {
    size.and_then(|n| u64::try_from(n).ok()).unwrap_or(0)
}

#[async_trait]
impl Target for S3Target {
    fn describe(&self) -> String {
        self.location.to_string()
    }

    fn root(&self) -> Option<Root> {
        None
    }

    async fn put(
        &self,
        key: &ObjectKey,
        upload: &Upload,
        cancel: &CancellationToken,
    ) -> Result<PutOutcome, TargetError> {
        let operation = format!("put {key} to {}", self.at());
        let progress = Arc::new(Progress::default());
        let (body, feeder) = Feeder::start(upload, &operation, &progress);
        let checksum = base64_of(upload.sha256);
        let length = i64::try_from(upload.size)
            .map_err(|e| TargetError::caused_by(TargetErrorKind::Unsupported, &operation, e))?;
        let request = |client: &Client| {
            client
                .put_object()
                .bucket(&self.location.bucket)
                .key(self.full_key(key))
                .set_if_none_match((!upload.replace).then(|| "*".to_owned()))
                .content_type("application/octet-stream")
                .content_length(length)
                .checksum_sha256(&checksum)
                .set_object_lock_mode(upload.lock.map(|lock| lock_mode(lock.mode)))
                .set_object_lock_retain_until_date(upload.lock.map(|lock| whole_second(lock.until)))
                .body(ByteStream::new(body))
                .customize()
                .interceptor(SignedPayload(upload.sha256))
                .send()
        };
        match self.call(cancel, &progress, request).await {
            Ok(answer) => Ok(PutOutcome::Created {
                version: version_from(answer.version_id()),
                checked: answer.checksum_sha256() == Some(&checksum),
            }),
            Err(e) if e.status == Some(412) => Ok(PutOutcome::Exists),
            Err(e) if e.kind == TargetErrorKind::Cancelled => Err(e.of(&operation)),
            // Bytes that are not those announced break the request: that is the better cause.
            Err(e) => Err(feeder.fault().unwrap_or_else(|| e.of(&operation))),
        }
    }

    async fn head(
        &self,
        key: &ObjectKey,
        cancel: &CancellationToken,
    ) -> Result<Option<ObjectInfo>, TargetError> {
        let operation = format!("look up {key} at {}", self.at());
        let request = |client: &Client| {
            client
                .head_object()
                .bucket(&self.location.bucket)
                .key(self.full_key(key))
                .checksum_mode(ChecksumMode::Enabled)
                .send()
        };
        match self.call(cancel, &Progress::default(), request).await {
            Ok(answer) => Ok(Some(ObjectInfo {
                key: key.clone(),
                size: size_from(answer.content_length()),
                sha256: sha256_from(answer.checksum_sha256()),
                version: version_from(answer.version_id()),
                hidden: false,
            })),
            Err(e) if e.kind == TargetErrorKind::NotFound => {
                // An answer to HEAD has no body that could tell a missing object from a missing bucket.
                self.check_bucket(cancel).await.map_err(|e| e.of(&operation))?;
                Ok(None)
            }
            Err(e) => Err(e.of(&operation)),
        }
    }

    async fn get(
        &self,
        key: &ObjectKey,
        version: Option<&VersionId>,
        cancel: &CancellationToken,
    ) -> Result<ObjectStream, TargetError> {
        let operation = format!("get {key} from {}", self.at());
        let request = |client: &Client| {
            client
                .get_object()
                .bucket(&self.location.bucket)
                .key(self.full_key(key))
                .set_version_id(version.map(|v| v.0.clone()))
                .send()
        };
        let answer = self.call(cancel, &Progress::default(), request).await.map_err(|e| e.of(&operation))?;
        let length = answer.content_length().and_then(|n| u64::try_from(n).ok());
        Ok(download(answer.body, length, self.timeouts.idle, operation, cancel.clone()))
    }

    async fn list(
        &self,
        prefix: Option<&ObjectKey>,
        after: Option<&ObjectKey>,
        cancel: &CancellationToken,
    ) -> Result<ObjectPages, TargetError> {
        let operation = format!("list {}", self.at());
        let below = match (prefix, &self.location.prefix) {
            (Some(prefix), _) => Some(format!("{}/", self.full_key(prefix))),
            (None, Some(prefix)) => Some(format!("{prefix}/")),
            (None, None) => None,
        };
        let scope = list::Scope { below, after: after.map(|key| self.full_key(key)) };
        let hidden = self.keeps_hidden(&operation, cancel).await?;
        Ok(list::Listing::new(self.clone(), scope, hidden, operation, cancel.clone()).pages())
    }

    async fn versions(
        &self,
        key: &ObjectKey,
        cancel: &CancellationToken,
    ) -> Result<Vec<ObjectInfo>, TargetError> {
        let operation = format!("list the versions of {key} at {}", self.at());
        let full = self.full_key(key);
        let Some(pages) = self.pages_of(&full, &operation, |e| e, cancel).await? else {
            return Ok(self.head(key, cancel).await?.into_iter().collect());
        };
        let mut found = Vec::new();
        for page in &pages {
            let mine = page.versions().iter().filter(|v| is_named(v.key(), &full));
            found.extend(mine.map(|v| ObjectInfo {
                key: key.clone(),
                size: size_from(v.size()),
                sha256: None,
                version: v.version_id().map(|id| VersionId(id.to_owned())),
                hidden: false,
            }));
        }
        // A bucket without versions lists its objects as the version "null".
        if let [only] = &mut found[..] {
            only.version = version_from(only.version.as_ref().map(|v| v.0.as_str()));
        }
        // The protocol gives the newest first.
        found.reverse();
        Ok(found)
    }

    async fn delete(
        &self,
        key: &ObjectKey,
        version: Option<&VersionId>,
        cancel: &CancellationToken,
    ) -> Result<(), TargetError> {
        self.delete_versions(key, version, cancel).await
    }
}

/// The next page's marker, which must lead on: a server must not make us ask for ever.
fn advance<M: PartialEq>(last: Option<&M>, next: Option<M>, operation: &str) -> Result<M, TargetError> {
    next.filter(|next| last != Some(next)).ok_or_else(|| {
        TargetError::new(
            TargetErrorKind::Unsupported,
            operation,
            "the server says that there is more, but not where it goes on",
        )
    })
}
