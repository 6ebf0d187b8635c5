//! The contract of [`marbre::internal::Target`], held against every adapter.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use futures_util::{StreamExt, stream};
use marbre::internal::{
    DirectoryTarget, Expected, Fetched, MemoryTarget, ObjectKey, PutOutcome, Retry, RetryPolicy, S3Target,
    S3Timeouts, Sha256, Target, TargetError, TargetErrorKind as Kind, TargetExt, Upload,
};
use tokio_util::sync::CancellationToken;

use crate::support::s3::{ADMIN, LIMITED, Rclone, SeaweedFs};

fn key(text: &str) -> ObjectKey {
    text.parse().unwrap()
}

fn token() -> CancellationToken {
    CancellationToken::new()
}

/// Bytes that differ everywhere.
pub fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    (0..len)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as u8
        })
        .collect()
}

pub fn file_upload(dir: &Path, bytes: &[u8]) -> Upload {
    let path = dir.join(format!("spool-{:016x}", rand::random::<u64>()));
    std::fs::write(&path, bytes).unwrap();
    Upload::file(path, bytes.len() as u64, Sha256::of(bytes))
}

pub async fn read(target: &dyn Target, name: &str) -> Result<Vec<u8>, TargetError> {
    let mut stream = target.get(&key(name), None, &token()).await?;
    let mut bytes = Vec::new();
    while let Some(chunk) = stream.next().await {
        bytes.extend_from_slice(&chunk?);
    }
    Ok(bytes)
}

async fn names(target: &dyn Target, prefix: Option<&str>) -> Vec<String> {
    let prefix = prefix.map(key);
    let found = target.list_all(prefix.as_ref(), &token()).await.unwrap();
    found.iter().map(|o| o.key.to_string()).collect()
}

/// The whole suite, on an empty target.
async fn conforms(target: &dyn Target) {
    an_empty_target_is_empty(target).await;
    what_is_put_comes_back(target).await;
    nothing_is_replaced(target).await;
    one_of_eight_writers_wins(target).await;
    wrong_bytes_are_refused(target).await;
    lists_are_exact(target).await;
    cancelled_operations_end(target).await;
    whole_objects_are_fetched(target).await;
}

/// Needs the right to delete, which daily work does without.
pub async fn deletes(target: &dyn Target) {
    let none = target.delete(&key("gone/never-there"), None, &token()).await;
    none.unwrap();
    for name in ["gone/x", "gone/deep/er/x", "gone/y"] {
        target.put(&key(name), &Upload::memory("x"), &token()).await.unwrap();
    }
    for name in ["gone/x", "gone/deep/er/x"] {
        target.delete(&key(name), None, &token()).await.unwrap();
        assert_eq!(target.head(&key(name), &token()).await.unwrap(), None);
        assert_eq!(target.versions(&key(name), &token()).await.unwrap(), []);
        // Again, as after an answer that was lost.
        target.delete(&key(name), None, &token()).await.unwrap();
    }
    assert_eq!(names(target, Some("gone")).await, ["gone/y"]);
    let again = target.put(&key("gone/x"), &Upload::memory("other"), &token()).await.unwrap();
    let PutOutcome::Created { version, .. } = again else { panic!("{again:?}") };
    assert_eq!(read(target, "gone/x").await.unwrap(), b"other");
    if let Some(version) = version {
        target.delete(&key("gone/x"), Some(&version), &token()).await.unwrap();
        assert_eq!(target.head(&key("gone/x"), &token()).await.unwrap(), None);
    }
    let cancel = token();
    cancel.cancel();
    let error = target.delete(&key("gone/y"), None, &cancel).await.unwrap_err();
    assert_eq!(error.kind, Kind::Cancelled);
    assert_eq!(read(target, "gone/y").await.unwrap(), b"x");
}

async fn an_empty_target_is_empty(target: &dyn Target) {
    assert_eq!(names(target, None).await, [""; 0]);
    assert_eq!(names(target, Some("none")).await, [""; 0]);
    assert_eq!(target.head(&key("none/x"), &token()).await.unwrap(), None);
    assert_eq!(target.versions(&key("none/x"), &token()).await.unwrap(), []);
    let missing = read(target, "none/x").await.unwrap_err();
    assert_eq!(missing.kind, Kind::NotFound, "{missing}");
    assert!(missing.to_string().contains("none/x"), "{missing}");
}

async fn what_is_put_comes_back(target: &dyn Target) {
    let spool = tempfile::tempdir().unwrap();
    for len in [0, 1, 5000, 600_000, 3 << 20] {
        let bytes = noise(len);
        for (kind, upload) in
            [("memory", Upload::memory(bytes.clone())), ("file", file_upload(spool.path(), &bytes))]
        {
            let name = format!("round/trip/{kind}-{len}");
            let outcome = target.put(&key(&name), &upload, &token()).await.unwrap();
            let PutOutcome::Created { version, .. } = outcome else {
                panic!("{name}: {outcome:?}");
            };
            let head = target.head(&key(&name), &token()).await.unwrap().unwrap();
            assert_eq!((head.size, &head.version), (len as u64, &version));
            assert!(head.sha256.is_none_or(|sha256| sha256 == upload.sha256));
            assert!(read(target, &name).await.unwrap() == bytes, "{name}");
            let versions = target.versions(&key(&name), &token()).await.unwrap();
            assert_eq!(versions.len(), 1, "{versions:?}");
            assert_eq!((versions[0].size, &versions[0].version), (len as u64, &version));
        }
    }
}

async fn nothing_is_replaced(target: &dyn Target) {
    let name = "replace/x";
    let first = Upload::memory("first");
    let created = target.put(&key(name), &first, &token()).await.unwrap();
    assert!(matches!(created, PutOutcome::Created { .. }));
    let again = target.put(&key(name), &Upload::memory("second"), &token()).await;
    assert_eq!(again.unwrap(), PutOutcome::Exists);
    assert_eq!(read(target, name).await.unwrap(), b"first");

    let same = target.put_or_compare(&key(name), &first, &token()).await;
    assert!(!same.unwrap().created);
    for other in ["other", "longer than first"] {
        let upload = Upload::memory(other);
        let taken = target.put_or_compare(&key(name), &upload, &token()).await;
        let error = taken.unwrap_err();
        assert_eq!(error.kind, Kind::Corrupt);
        assert!(error.to_string().contains(name), "{error}");
    }
}

async fn one_of_eight_writers_wins(target: &dyn Target) {
    for round in 0..5 {
        let name = format!("race/{round}");
        let bodies: Vec<_> = (0..8).map(|i| vec![i; 100_000]).collect();
        let puts = bodies.iter().map(|body| {
            let name = key(&name);
            async move {
                let upload = Upload::memory(body.clone());
                target.put(&name, &upload, &token()).await.unwrap()
            }
        });
        let outcomes = futures_util::future::join_all(puts).await;
        let winners: Vec<usize> =
            (0..8).filter(|i| matches!(outcomes[*i], PutOutcome::Created { .. })).collect();
        let [winner] = winners[..] else {
            panic!("{outcomes:?}");
        };
        assert!(read(target, &name).await.unwrap() == bodies[winner]);
    }
}

async fn wrong_bytes_are_refused(target: &dyn Target) {
    let spool = tempfile::tempdir().unwrap();
    for len in [1, 5000, 2 << 20] {
        let bytes = noise(len);
        let announced = Sha256::of(&bytes);
        let mut flipped = bytes.clone();
        flipped[len / 2] ^= 1;
        let longer = [&bytes[..], b"x"].concat();
        for (what, wrong) in [("flipped", &flipped[..]), ("shorter", &bytes[1..]), ("longer", &longer)] {
            let memory = Upload::memory(wrong.to_vec());
            let file = file_upload(spool.path(), wrong);
            for (kind, body) in [("memory", memory.body), ("file", file.body)] {
                let upload = Upload {
                    body,
                    size: len as u64,
                    sha256: announced,
                    lock: None,
                    pace: None,
                    replace: false,
                };
                let name = format!("wrong/{what}-{kind}-{len}");
                let error = target.put(&key(&name), &upload, &token()).await;
                let error = error.expect_err(&name);
                assert_eq!(error.kind, Kind::Corrupt, "{name}: {error}");
                assert_eq!(target.head(&key(&name), &token()).await.unwrap(), None);
            }
        }
    }
    assert_eq!(names(target, Some("wrong")).await, [""; 0]);
}

async fn lists_are_exact(target: &dyn Target) {
    let many = stream::iter(0..1100).for_each_concurrent(16, |i| async move {
        let name = key(&format!("many/{}/{i:04}", i % 3));
        let upload = Upload::memory(format!("{i}"));
        target.put(&name, &upload, &token()).await.unwrap();
    });
    many.await;
    let mut expected: Vec<String> = (0..1100).map(|i| format!("many/{}/{i:04}", i % 3)).collect();
    expected.sort();
    assert_eq!(names(target, Some("many")).await, expected);
    let part = expected.iter().filter(|n| n.starts_with("many/1/"));
    assert_eq!(names(target, Some("many/1")).await, part.cloned().collect::<Vec<_>>());
    // A prefix is whole segments, and an object is not below itself.
    assert_eq!(names(target, Some("man")).await, [""; 0]);
    assert_eq!(names(target, Some("many/0/0000")).await, [""; 0]);
    // From the middle on, and in pages that follow each other.
    for at in [0, 1, 500, 1099] {
        let after = key(&expected[at]);
        let mut pages = target.list(Some(&key("many")), Some(&after), &token()).await.unwrap();
        let mut found = Vec::new();
        while let Some(page) = pages.next().await {
            found.extend(page.unwrap().into_iter().map(|o| o.key.to_string()));
        }
        assert_eq!(found, expected[at + 1..]);
    }
    let none = target.list(Some(&key("many/1")), Some(&key("many/2/0000")), &token()).await.unwrap();
    assert_eq!(none.map(|page| page.unwrap().len()).collect::<Vec<_>>().await.iter().sum::<usize>(), 0);
    for name in ["p/x", "p-/x", "p.q/x", "pp/x", "p0"] {
        target.put(&key(name), &Upload::memory("x"), &token()).await.unwrap();
    }
    assert_eq!(names(target, Some("p")).await, ["p/x"]);
    let all = names(target, None).await;
    assert!(all.is_sorted() && all.contains(&"p0".to_owned()));
}

async fn cancelled_operations_end(target: &dyn Target) {
    let cancel = token();
    cancel.cancel();
    let name = key("cancelled/x");
    let upload = Upload::memory(noise(1000));
    let kinds = [
        target.put(&name, &upload, &cancel).await.map(drop),
        target.head(&name, &cancel).await.map(drop),
        target.get(&name, None, &cancel).await.map(drop),
        target.list_all(None, &cancel).await.map(drop),
        target.versions(&name, &cancel).await.map(drop),
    ]
    .map(|outcome| outcome.unwrap_err().kind);
    assert_eq!(kinds, [Kind::Cancelled; 5]);
    assert_eq!(target.head(&name, &token()).await.unwrap(), None);

    let bytes = noise(8 << 20);
    target.put(&name, &Upload::memory(bytes), &token()).await.unwrap();
    let cancel = token();
    let mut stream = target.get(&name, None, &cancel).await.unwrap();
    stream.next().await.unwrap().unwrap();
    cancel.cancel();
    let error = stream.next().await.unwrap().unwrap_err();
    assert_eq!(error.kind, Kind::Cancelled);
    assert!(stream.next().await.is_none());
}

async fn whole_objects_are_fetched(target: &dyn Target) {
    let dir = tempfile::tempdir().unwrap();
    let bytes = noise(2 << 20);
    let name = key("fetch/x");
    target.put(&name, &Upload::memory(bytes.clone()), &token()).await.unwrap();
    let mut expected = Expected { version: None, size: bytes.len() as u64, sha256: Sha256::of(&bytes) };
    let path = dir.path().join("fetched");
    let fetched = target.fetch_to_file(&name, &expected, &path, &token()).await;
    assert_eq!(fetched.unwrap(), Fetched { instead: None });
    assert!(std::fs::read(&path).unwrap() == bytes);
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let small = target.fetch_small(&name, expected.size, &token()).await;
    assert!(small.unwrap() == bytes);

    expected.sha256 = Sha256::of(b"something else");
    let error = target.fetch_to_file(&name, &expected, &path, &token()).await;
    assert_eq!(error.unwrap_err().kind, Kind::Corrupt);
    assert!(!path.exists());
}

#[tokio::test]
async fn memory() {
    for target in [MemoryTarget::new(), MemoryTarget::versioned()] {
        conforms(&target).await;
        deletes(&target).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn directory() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("target");
    let target = DirectoryTarget::create(&root).await.unwrap();
    conforms(&target).await;
    deletes(&target).await;
    assert!(!root.join("gone/deep").exists(), "empty folders go too");
    let leftovers: Vec<_> = std::fs::read_dir(root.join(".tmp")).unwrap().collect();
    assert!(leftovers.is_empty(), "{leftovers:?}");
    let file = std::fs::metadata(root.join("p/x")).unwrap();
    let folder = std::fs::metadata(root.join("p")).unwrap();
    assert_eq!(file.permissions().mode() & 0o777, 0o600);
    assert_eq!(folder.permissions().mode() & 0o777, 0o700);
}

#[tokio::test]
async fn retry_keeps_the_contract() {
    let target = Retry::new(MemoryTarget::new(), RetryPolicy::default());
    conforms(&target).await;
    deletes(&target).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s3_with_and_without_versions() {
    let server: Arc<SeaweedFs> = SeaweedFs::shared().await;
    for versioned in [false, true] {
        let bucket = server.bucket(versioned).await;
        let location = server.location(&bucket, "some/prefix", LIMITED);
        let target = S3Target::open(&location, S3Timeouts::default()).await.unwrap();
        conforms(&target).await;
        // The server compares the SHA-256 itself, and says so.
        let put = target.put(&key("checked"), &Upload::memory("x"), &token()).await;
        let Ok(PutOutcome::Created { version, checked }) = put else {
            panic!("{put:?}");
        };
        assert!(checked);
        assert_eq!(version.is_some(), versioned);
        let head = target.head(&key("checked"), &token()).await.unwrap().unwrap();
        assert_eq!(head.sha256, Some(Sha256::of(b"x")));
        // What the credentials may not do is refused, and nothing is hidden.
        let error = target.delete(&key("checked"), None, &token()).await.unwrap_err();
        assert_eq!(error.kind, Kind::Refused, "{error}");
        assert_eq!(read(&target, "checked").await.unwrap(), b"x");
        let location = server.location(&bucket, "other/prefix", ADMIN);
        deletes(&S3Target::open(&location, S3Timeouts::default()).await.unwrap()).await;
    }
}

/// This server replaces what is there, which a put cannot see; all else works.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s3_server_that_ignores_conditions() {
    let server = Rclone::start().await;
    let target = S3Target::open(&server.location(), S3Timeouts::default()).await.unwrap();
    an_empty_target_is_empty(&target).await;
    what_is_put_comes_back(&target).await;
    wrong_bytes_are_refused(&target).await;
    whole_objects_are_fetched(&target).await;
    assert!(names(&target, Some("round")).await.len() == 10);
    deletes(&target).await;
}
