//! What every caller needs on top of the contract: comparing what exists, and fetching whole objects.

mod compare;
mod fetch;
mod listed;

use std::path::Path;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt, TryStreamExt};
use tokio_util::sync::CancellationToken;

use self::compare::compare;
use self::fetch::fetch_some_version;
use crate::model::id::Sha256;
use crate::model::object::{ObjectKey, VersionId};
use crate::targets::wrapper::retry::RetryPolicy;
use crate::targets::{ObjectInfo, PutOutcome, Target, TargetError, TargetErrorKind, Upload};

/// Evidence that a target holds an object with the bytes that were to be put there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acknowledged {
    /// The version that holds them, where the target has versions.
    pub version: Option<VersionId>,
    /// This put created the object; otherwise it was there already, and is equal.
    pub created: bool,
    /// The SHA-256 was computed at, or from what was read back from, the target.
    pub checked: bool,
}

/// What an object must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    /// The version to read first; without it, the newest.
    pub version: Option<VersionId>,
    /// Its size in bytes.
    pub size: u64,
    /// Its SHA-256.
    pub sha256: Sha256,
}

/// What was fetched: an object whose size and hash were right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// Set if the object that was asked for was gone or damaged, and this version of it was good:
    /// people should be told.
    pub instead: Option<VersionId>,
}

/// Conveniences on every target, with the contract's guarantees.
#[async_trait]
pub trait TargetExt: Target {
    /// Puts an object, and where its key is taken compares what lies there: by size and by the hash
    /// that the target keeps, or else by reading it back. Fails with [`TargetErrorKind::Corrupt`]
    /// where it differs.
    async fn put_or_compare(
        &self,
        key: &ObjectKey,
        upload: &Upload,
        cancel: &CancellationToken,
    ) -> Result<Acknowledged, TargetError>;

    /// Holds what lies under a key against what was to be put there, as [`TargetExt::put_or_compare`] does.
    async fn compare(
        &self,
        key: &ObjectKey,
        upload: &Upload,
        cancel: &CancellationToken,
    ) -> Result<Acknowledged, TargetError>;

    /// Fetches an object into a file of mode 0600, which is replaced if it exists. Whatever breaks on the
    /// way is tried again from the start; a damaged or missing object is looked for among its older
    /// versions, oldest first. The file is removed unless its size and hash are those expected; it is not
    /// synced.
    async fn fetch_to_file(
        &self,
        key: &ObjectKey,
        expected: &Expected,
        path: &Path,
        cancel: &CancellationToken,
    ) -> Result<Fetched, TargetError>;

    /// Fetches a small object into memory, at most `limit` bytes. Nothing is known of its hash here.
    async fn fetch_small(
        &self,
        key: &ObjectKey,
        limit: u64,
        cancel: &CancellationToken,
    ) -> Result<Bytes, TargetError>;

    /// Whether a list shows an object, as readers look for it. A list that does not is asked again, for 15 seconds.
    async fn is_listed(&self, key: &ObjectKey, cancel: &CancellationToken) -> Result<bool, TargetError>;

    /// Every object below a prefix at once, for a folder that is known to be small.
    async fn list_all(
        &self,
        prefix: Option<&ObjectKey>,
        cancel: &CancellationToken,
    ) -> Result<Vec<ObjectInfo>, TargetError>;
}

/// How many versions of an object are looked at, oldest first. The oldest is what was put; whoever may put can lay any
/// number over it.
pub(crate) const OLDEST: usize = 4;

/// How often a whole object is fetched again after its stream broke.
fn fetch_policy() -> RetryPolicy {
    RetryPolicy { attempts: 3, ..RetryPolicy::default() }
}

#[async_trait]
impl<T: Target + ?Sized> TargetExt for T {
    async fn put_or_compare(
        &self,
        key: &ObjectKey,
        upload: &Upload,
        cancel: &CancellationToken,
    ) -> Result<Acknowledged, TargetError> {
        match self.put(key, upload, cancel).await? {
            PutOutcome::Created { version, checked } => Ok(Acknowledged { version, created: true, checked }),
            PutOutcome::Exists => compare(self, key, upload, cancel).await,
        }
    }

    async fn compare(
        &self,
        key: &ObjectKey,
        upload: &Upload,
        cancel: &CancellationToken,
    ) -> Result<Acknowledged, TargetError> {
        compare(self, key, upload, cancel).await
    }

    async fn fetch_to_file(
        &self,
        key: &ObjectKey,
        expected: &Expected,
        path: &Path,
        cancel: &CancellationToken,
    ) -> Result<Fetched, TargetError> {
        let fetched = fetch_some_version(self, key, expected, path, cancel).await;
        if fetched.is_err() {
            // Nothing that failed its check may be taken for the object. It may not exist at all.
            let _ = tokio::fs::remove_file(path).await;
        }
        fetched
    }

    async fn fetch_small(
        &self,
        key: &ObjectKey,
        limit: u64,
        cancel: &CancellationToken,
    ) -> Result<Bytes, TargetError> {
        let attempt = || async {
            let mut stream = self.get(key, None, cancel).await?;
            let mut bytes = BytesMut::new();
            while let Some(chunk) = stream.next().await {
                let chunk = chunk?;
                if (bytes.len() + chunk.len()) as u64 > limit {
                    return Err(corrupt(
                        format!("get {key} from {}", self.describe()),
                        format!("the object is larger than {limit} bytes"),
                    ));
                }
                bytes.extend_from_slice(&chunk);
            }
            Ok(bytes.freeze())
        };
        fetch_policy().run(cancel, attempt).await
    }

    async fn is_listed(&self, key: &ObjectKey, cancel: &CancellationToken) -> Result<bool, TargetError> {
        listed::is_listed(self, key, cancel).await
    }

    async fn list_all(
        &self,
        prefix: Option<&ObjectKey>,
        cancel: &CancellationToken,
    ) -> Result<Vec<ObjectInfo>, TargetError> {
        self.list(prefix, None, cancel).await?.try_concat().await
    }
}

fn corrupt(operation: String, cause: String) -> TargetError {
    TargetError::new(TargetErrorKind::Corrupt, operation, cause)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::targets::memory::MemoryTarget;
    use crate::targets::wrapper::faulty::{Fault, Faulty, Operation};
    use TargetErrorKind as Kind;

    const BODY: &[u8] = b"a body of a few bytes";

    fn key() -> ObjectKey {
        "a/b".parse().unwrap()
    }

    fn expected() -> Expected {
        Expected { version: None, size: BODY.len() as u64, sha256: Sha256::of(BODY) }
    }

    async fn filled(target: MemoryTarget) -> MemoryTarget {
        let outcome = target.put(&key(), &Upload::memory(BODY), &CancellationToken::new()).await;
        assert!(matches!(outcome, Ok(PutOutcome::Created { .. })));
        target
    }

    /// What a fetch says, and what it leaves in the file.
    async fn fetch(target: &dyn Target) -> (Result<Fetched, Kind>, Option<Vec<u8>>) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("fetched");
        let outcome = target.fetch_to_file(&key(), &expected(), &path, &CancellationToken::new()).await;
        (outcome.map_err(|e| e.kind), std::fs::read(&path).ok())
    }

    #[tokio::test]
    async fn a_lost_answer_counts_when_the_object_is_ours() {
        let target = Faulty::new(MemoryTarget::new()).with(Operation::Put, 1..=1, Fault::FailAfter);
        let cancel = CancellationToken::new();
        let upload = Upload::memory(BODY);
        let lost = target.put_or_compare(&key(), &upload, &cancel).await;
        assert_eq!(lost.unwrap_err().kind, Kind::Unavailable);
        let again = target.put_or_compare(&key(), &upload, &cancel).await.unwrap();
        assert!(!again.created && again.checked);
    }

    #[tokio::test]
    async fn another_object_under_the_key_is_an_error() {
        let cancel = CancellationToken::new();
        for other in [&b"a body of a fev bytes"[..], b"short"] {
            let target = filled(MemoryTarget::new()).await;
            let error = target.put_or_compare(&key(), &Upload::memory(other), &cancel).await.unwrap_err();
            assert_eq!(error.kind, Kind::Corrupt);
            assert!(error.to_string().contains("a/b"), "{error}");
        }
    }

    #[tokio::test]
    async fn ours_below_another_version_is_ours() {
        let cancel = CancellationToken::new();
        let target = filled(MemoryTarget::versioned()).await;
        target.tamper(&key(), Some(Bytes::from_static(b"somebody else's")));
        let done = target.put_or_compare(&key(), &Upload::memory(BODY), &cancel).await.unwrap();
        assert_eq!((done.version, done.created), (Some(VersionId("1".to_owned())), false));
        let other = target.put_or_compare(&key(), &Upload::memory("a third one"), &cancel).await;
        assert_eq!(other.unwrap_err().kind, Kind::Corrupt);
    }

    #[tokio::test]
    async fn a_broken_stream_is_fetched_again() {
        for fault in [Fault::Break(5), Fault::Truncate(5), Fault::FlipBit(3)] {
            let target = Faulty::new(filled(MemoryTarget::new()).await).with(Operation::Get, 1..=1, fault);
            let (outcome, file) = fetch(&target).await;
            assert_eq!(outcome, Ok(Fetched { instead: None }), "{fault:?}");
            assert_eq!(file.as_deref(), Some(BODY));
        }
    }

    #[tokio::test]
    async fn nothing_damaged_is_left_in_the_file() {
        for (fault, kind) in [
            (Fault::Break(5), Kind::Unavailable),
            (Fault::Truncate(5), Kind::Corrupt),
            (Fault::FlipBit(3), Kind::Corrupt),
        ] {
            let target =
                Faulty::new(filled(MemoryTarget::new()).await).with(Operation::Get, 1..=u64::MAX, fault);
            assert_eq!(fetch(&target).await, (Err(kind), None), "{fault:?}");
        }
        let target = filled(MemoryTarget::new()).await;
        target.tamper(&key(), Some(Bytes::from(vec![0; 1_000_000])));
        assert_eq!(fetch(&target).await, (Err(Kind::Corrupt), None));
        target.tamper(&key(), None);
        assert_eq!(fetch(&target).await, (Err(Kind::NotFound), None));
    }

    #[tokio::test]
    async fn an_older_version_stands_in() {
        for over in [None, Some(Bytes::from_static(b"b body of a few bytes"))] {
            let target = filled(MemoryTarget::versioned()).await;
            target.tamper(&key(), over);
            let (outcome, file) = fetch(&target).await;
            let instead = Some(VersionId("1".to_owned()));
            assert_eq!(outcome, Ok(Fetched { instead }));
            assert_eq!(file.as_deref(), Some(BODY));
        }
    }

    #[tokio::test]
    async fn small_objects_have_a_limit() {
        let target = filled(MemoryTarget::new()).await;
        let cancel = CancellationToken::new();
        let size = BODY.len() as u64;
        assert_eq!(target.fetch_small(&key(), size, &cancel).await.unwrap(), BODY);
        let error = target.fetch_small(&key(), size - 1, &cancel).await.unwrap_err();
        assert_eq!(error.kind, Kind::Corrupt);
    }
}
