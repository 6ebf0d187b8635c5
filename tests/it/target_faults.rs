//! Targets that fail: refusing, unreachable, slow, full, killed in the middle.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use aws_sdk_s3::error::ProvideErrorMetadata;
use aws_sdk_s3::primitives::ByteStream;
use futures_util::StreamExt;
use marbre::internal::{
    DirectoryTarget, Expected, ObjectKey, PutOutcome, Retry, RetryPolicy, S3Location, S3Target, S3Timeouts,
    Sha256, Target, TargetErrorKind as Kind, TargetExt, TargetUrl, Upload,
};
use tokio_util::sync::CancellationToken;

use crate::support::proxy::{FaultProxy, Mode};
use crate::support::s3::{LIMITED, SeaweedFs, UNKNOWN_KEY, WRONG_SECRET};
use crate::support::{free_ports, s3::ADMIN};
use crate::target_conformance::{file_upload, noise, read};

const QUICK: S3Timeouts = S3Timeouts { connect: Duration::from_secs(5), idle: Duration::from_millis(700) };

fn key(text: &str) -> ObjectKey {
    text.parse().unwrap()
}

fn token() -> CancellationToken {
    CancellationToken::new()
}

fn patient() -> RetryPolicy {
    RetryPolicy { first_wait: Duration::from_millis(20), ..RetryPolicy::default() }
}

async fn open(location: &S3Location) -> S3Target {
    S3Target::open(location, QUICK).await.unwrap()
}

/// What each operation says about a target that does not work, and that no secret is in it.
async fn failures(location: &S3Location) -> Vec<(Kind, String)> {
    let target = open(location).await;
    let name = key("some/object");
    let upload = Upload::memory(noise(100_000));
    let outcomes = [
        target.put(&name, &upload, &token()).await.map(drop),
        target.head(&name, &token()).await.map(drop),
        target.get(&name, None, &token()).await.map(drop),
        target.list_all(None, &token()).await.map(drop),
        target.versions(&name, &token()).await.map(drop),
    ];
    let errors = outcomes.map(|outcome| outcome.unwrap_err());
    for e in &errors {
        let shown = format!("{e} {e:?}");
        assert!(!shown.contains("hunter2") && !shown.contains("nobodykey"), "{shown}");
        assert!(shown.contains("s3://"), "{shown}");
    }
    errors.into_iter().map(|e| (e.kind, e.cause)).collect()
}

fn all_are(failures: &[(Kind, String)], kind: Kind, words: &str) {
    for (found, cause) in failures {
        assert_eq!(*found, kind, "{cause}");
    }
    assert!(failures[0].1.contains(words), "{}", failures[0].1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s3_that_refuses_says_why() {
    let server = SeaweedFs::shared().await;
    let bucket = server.bucket(false).await;
    let at = |profile| server.location(&bucket, "p", profile);
    all_are(&failures(&at(UNKNOWN_KEY)).await, Kind::Denied, "does not know the access key");
    all_are(&failures(&at(WRONG_SECRET)).await, Kind::Denied, "secret key is wrong");
    all_are(&failures(&at("absent")).await, Kind::Denied, "no usable credentials");
    let missing = server.location("no-such-bucket", "p", LIMITED);
    all_are(&failures(&missing).await, Kind::NotFound, "bucket does not exist");

    let mut unreadable = at(LIMITED);
    unreadable.credentials_file = Some(PathBuf::from("/nonexistent/keys"));
    let error = S3Target::open(&unreadable, QUICK).await.unwrap_err();
    assert_eq!(error.kind, Kind::Denied);
    assert!(error.cause.contains("/nonexistent/keys"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s3_that_is_not_there() {
    let server = SeaweedFs::shared().await;
    let mut location = server.location("bucket", "p", LIMITED);
    let [closed] = free_ports();
    location.endpoint = Some(format!("http://127.0.0.1:{closed}"));
    all_are(&failures(&location).await, Kind::Unavailable, "connection was refused");
    location.endpoint = Some("https://no-such-host.invalid".to_owned());
    all_are(&failures(&location).await, Kind::Unavailable, "no connection");
    // Plain HTTP answers where TLS is expected.
    location.endpoint = Some(format!("https://{}", server.address()));
    let said = failures(&location).await;
    assert!(said.iter().all(|(kind, _)| *kind != Kind::NotFound), "{said:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s3_user_that_may_only_put_cannot_delete() {
    let server = SeaweedFs::shared().await;
    let bucket = server.bucket(true).await;
    let target = open(&server.location(&bucket, "p", LIMITED)).await;
    let put = target.put(&key("x"), &Upload::memory("kept"), &token()).await;
    let Ok(PutOutcome::Created { version: Some(version), .. }) = put else {
        panic!("{put:?}");
    };
    for id in [None, Some(version.0.clone())] {
        let delete = server.limited().delete_object().bucket(&bucket).key("p/x");
        let refused = delete.set_version_id(id).send().await.unwrap_err();
        assert_eq!(refused.code(), Some("AccessDenied"));
    }
    assert_eq!(read(&target, "x").await.unwrap(), b"kept");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s3_versions_outlive_delete_markers_and_overwriting() {
    let server = SeaweedFs::shared().await;
    let bucket = server.bucket(true).await;
    let target = open(&server.location(&bucket, "p", LIMITED)).await;
    let bytes = noise(100_000);
    let put = target.put(&key("x"), &Upload::memory(bytes.clone()), &token()).await;
    let Ok(PutOutcome::Created { version: Some(version), .. }) = put else {
        panic!("{put:?}");
    };
    // Another object whose key begins with this one's must not be taken for it.
    target.put(&key("x.sig"), &Upload::memory("s"), &token()).await.unwrap();
    let admin = server.admin();
    let mut wrong = bytes.clone();
    wrong[50] ^= 1;
    let expected = Expected { version: None, size: bytes.len() as u64, sha256: Sha256::of(&bytes) };
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("fetched");
    for (over, count) in [(None, 1), (Some(wrong), 2)] {
        match over {
            None => drop(admin.delete_object().bucket(&bucket).key("p/x").send().await.unwrap()),
            Some(bytes) => {
                let put = admin.put_object().bucket(&bucket).key("p/x");
                put.body(ByteStream::from(bytes)).send().await.unwrap();
            }
        }
        let versions = target.versions(&key("x"), &token()).await.unwrap();
        assert_eq!(versions.len(), count);
        assert_eq!(versions[0].version.as_ref(), Some(&version), "oldest first");
        let mut old = target.get(&key("x"), Some(&version), &token()).await.unwrap();
        assert!(old.next().await.unwrap().is_ok());
        let fetched = target.fetch_to_file(&key("x"), &expected, &path, &token()).await;
        assert_eq!(fetched.unwrap().instead.as_ref(), Some(&version));
        assert!(std::fs::read(&path).unwrap() == bytes);
    }
    admin.delete_object().bucket(&bucket).key("p/x").send().await.unwrap();
    assert_eq!(target.head(&key("x"), &token()).await.unwrap(), None);
    assert_eq!(read(&target, "x").await.unwrap_err().kind, Kind::NotFound);
}

/// A bucket behind a proxy, and the same bucket without it.
async fn behind_proxy(mode: Mode) -> (std::sync::Arc<SeaweedFs>, FaultProxy, S3Target, S3Target) {
    let server = SeaweedFs::shared().await;
    let bucket = server.bucket(false).await;
    let direct = server.location(&bucket, "p", ADMIN);
    let proxy = FaultProxy::start(server.address(), mode).await;
    let mut broken = direct.clone();
    broken.endpoint = Some(proxy.endpoint());
    let (broken, direct) = (open(&broken).await, open(&direct).await);
    (server, proxy, broken, direct)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s3_answer_that_breaks_off_is_an_error_and_is_fetched_again() {
    let (_server, proxy, target, direct) = behind_proxy(Mode::BreakAnswerAfter(300_000)).await;
    let bytes = noise(1 << 20);
    direct.put(&key("x"), &Upload::memory(bytes.clone()), &token()).await.unwrap();
    let error = read(&target, "x").await.unwrap_err();
    assert_eq!(error.kind, Kind::Unavailable, "{error}");
    assert!(error.cause.contains("broke"), "{error}");

    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("fetched");
    let expected = Expected { version: None, size: bytes.len() as u64, sha256: Sha256::of(&bytes) };
    let (name, cancel) = (key("x"), token());
    let (fetched, ()) = tokio::join!(target.fetch_to_file(&name, &expected, &path, &cancel), async {
        while proxy.requests() < 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        proxy.set(Mode::Pass);
    });
    fetched.unwrap();
    assert!(std::fs::read(&path).unwrap() == bytes);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s3_upload_that_breaks_off_leaves_nothing() {
    let (_server, proxy, target, direct) = behind_proxy(Mode::BreakRequestAfter(500_000)).await;
    let spool = tempfile::tempdir().unwrap();
    let bytes = noise(4 << 20);
    let upload = file_upload(spool.path(), &bytes);
    let error = target.put(&key("x"), &upload, &token()).await.unwrap_err();
    assert_eq!(error.kind, Kind::Unavailable, "{error}");
    assert_eq!(direct.head(&key("x"), &token()).await.unwrap(), None);
    assert_eq!(direct.list_all(None, &token()).await.unwrap(), []);
    proxy.set(Mode::Pass);
    let again = target.put_or_compare(&key("x"), &upload, &token()).await.unwrap();
    assert!(again.created);

    proxy.set(Mode::Close);
    let error = target.head(&key("x"), &token()).await.unwrap_err();
    assert_eq!(error.kind, Kind::Unavailable, "{error}");

    // The answer to a put is lost: the next attempt finds our own object.
    proxy.set(Mode::BreakAnswerAfter(10));
    let before = proxy.requests();
    let target = Retry::new(target, patient());
    let cancel = token();
    let other = key("y");
    let (outcome, ()) = tokio::join!(target.put_or_compare(&other, &upload, &cancel), async {
        while proxy.requests() == before {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        proxy.set(Mode::Pass);
    });
    assert!(!outcome.unwrap().created);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s3_that_answers_5xx_now_and_then_is_tried_again() {
    let (_server, proxy, target, _) = behind_proxy(Mode::StatusEvery(1, 503)).await;
    let error = target.put(&key("x"), &Upload::memory(noise(100_000)), &token()).await;
    let error = error.unwrap_err();
    assert_eq!(error.kind, Kind::Unavailable, "{error}");
    assert!(error.cause.contains("503"), "{error}");

    proxy.set(Mode::StatusEvery(2, 500));
    let target = Retry::new(target, patient());
    for i in 0..6 {
        let name = format!("many/{i}");
        let upload = Upload::memory(noise(200_000));
        target.put_or_compare(&key(&name), &upload, &token()).await.unwrap();
    }
    assert_eq!(target.list_all(Some(&key("many")), &token()).await.unwrap().len(), 6);
    proxy.set(Mode::StatusEvery(1, 507));
    let full = target.put(&key("y"), &Upload::memory("y"), &token()).await;
    assert_eq!(full.unwrap_err().kind, Kind::Full);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s3_that_hangs_is_noticed_and_one_that_is_slow_is_not_disturbed() {
    let (_server, proxy, target, direct) = behind_proxy(Mode::Hang).await;
    let bytes = noise(24 << 20);
    let start = Instant::now();
    for error in [
        target.put(&key("x"), &Upload::memory(bytes.clone()), &token()).await.unwrap_err(),
        target.head(&key("x"), &token()).await.unwrap_err(),
    ] {
        assert_eq!(error.kind, Kind::Unavailable, "{error}");
        assert!(error.cause.contains("no progress"), "{error}");
    }
    assert!(start.elapsed() < Duration::from_secs(6), "{:?}", start.elapsed());

    direct.put(&key("y"), &Upload::memory(bytes.clone()), &token()).await.unwrap();
    proxy.set(Mode::HangAnswerAfter(100_000));
    let error = read(&target, "y").await.unwrap_err();
    assert!(error.cause.contains("no progress"), "{error}");

    proxy.set(Mode::Hang);
    let cancel = token();
    let name = key("z");
    let upload = Upload::memory(bytes);
    let start = Instant::now();
    let (outcome, ()) = tokio::join!(target.put(&name, &upload, &cancel), async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        cancel.cancel();
    });
    assert_eq!(outcome.unwrap_err().kind, Kind::Cancelled);
    assert!(start.elapsed() < Duration::from_millis(600));

    proxy.set(Mode::Delay(Duration::from_millis(400)));
    assert!(target.head(&key("y"), &token()).await.unwrap().is_some());
}

#[tokio::test]
async fn directory_that_is_missing_is_not_made() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("mnt/disk");
    let error = DirectoryTarget::open(&root).await.unwrap_err();
    assert_eq!(error.kind, Kind::NotFound);
    assert!(error.cause.contains("is its disk mounted"), "{error}");
    assert_eq!(DirectoryTarget::create(&root).await.unwrap_err().kind, Kind::NotFound);
    assert!(!root.exists());
    let url: TargetUrl = root.to_str().unwrap().parse().unwrap();
    let error = marbre::internal::open(&url).await.map(drop).unwrap_err();
    assert_eq!(error.kind(), marbre::ErrorKind::NotFound);

    std::fs::create_dir_all(&root).unwrap();
    let target = marbre::internal::open(&url).await.unwrap();
    std::fs::rename(&root, dir.path().join("elsewhere")).unwrap();
    let upload = Upload::memory("x");
    let gone = target.put(&key("x"), &upload, &token()).await.unwrap_err();
    assert_eq!(gone.kind, Kind::NotFound);
    assert_eq!(target.head(&key("x"), &token()).await.unwrap_err().kind, Kind::NotFound);
    // An empty mount point is another directory than the disk that was mounted on it.
    std::fs::create_dir(&root).unwrap();
    let direct = DirectoryTarget::open(dir.path().join("elsewhere")).await.unwrap();
    std::fs::rename(dir.path().join("elsewhere"), dir.path().join("away")).unwrap();
    std::fs::create_dir(dir.path().join("elsewhere")).unwrap();
    let swapped = direct.put(&key("x"), &upload, &token()).await.unwrap_err();
    assert_eq!(swapped.kind, Kind::Unavailable, "{swapped}");
}

#[tokio::test]
async fn directory_follows_no_link_out_of_itself() {
    let dir = tempfile::tempdir().unwrap();
    let (root, outside) = (dir.path().join("root"), dir.path().join("outside"));
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("secret"), "outside").unwrap();
    let target = DirectoryTarget::create(&root).await.unwrap();
    std::os::unix::fs::symlink(&outside, root.join("folder")).unwrap();
    std::os::unix::fs::symlink(outside.join("secret"), root.join("file")).unwrap();
    for name in ["folder/secret", "file"] {
        let error = read(&target, name).await.unwrap_err();
        assert_eq!(error.kind, Kind::Unsupported, "{error}");
        assert!(target.head(&key(name), &token()).await.is_err());
    }
    let put = target.put(&key("folder/new"), &Upload::memory("x"), &token()).await;
    assert_eq!(put.unwrap_err().kind, Kind::Unsupported);
    assert!(!outside.join("new").exists());
    assert_eq!(target.list_all(None, &token()).await.unwrap(), []);
}

/// A small file system that goes away with the test.
struct Tmpfs(PathBuf);

impl Tmpfs {
    fn mount(at: &Path) -> Self {
        std::fs::create_dir(at).unwrap();
        run("mount", &["-t", "tmpfs", "-o", "size=1m", "tmpfs", at.to_str().unwrap()]);
        Self(at.to_owned())
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

fn run(program: &str, args: &[&str]) {
    let done = Command::new(program).args(args).output();
    let done = done.unwrap_or_else(|e| panic!("cannot run {program}: {e}; run tests/run as root"));
    assert!(done.status.success(), "{program} {args:?}: {done:?}; run tests/run as root");
}

#[tokio::test]
async fn directory_that_is_full_or_read_only_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let mounted = Tmpfs::mount(&dir.path().join("disk"));
    let target = DirectoryTarget::create(mounted.0.join("target")).await.unwrap();
    target.put(&key("a/kept"), &Upload::memory(noise(1000)), &token()).await.unwrap();
    let big = Upload::memory(noise(2 << 20));
    let error = target.put(&key("a/big"), &big, &token()).await.unwrap_err();
    assert_eq!(error.kind, Kind::Full, "{error}");
    // What was written of it was removed again.
    let half = Upload::memory(noise(700_000));
    target.put(&key("a/half"), &half, &token()).await.unwrap();
    let names: Vec<_> = target.list_all(None, &token()).await.unwrap();
    assert_eq!(names.len(), 2);

    run("mount", &["-o", "remount,ro", mounted.0.to_str().unwrap()]);
    let error = target.put(&key("a/new"), &Upload::memory("x"), &token()).await.unwrap_err();
    assert_eq!(error.kind, Kind::Denied, "{error}");
    assert_eq!(read(&target, "a/kept").await.unwrap(), noise(1000));
    DirectoryTarget::open(mounted.0.join("target")).await.unwrap();
}

const CHILD_ROOT: &str = "MARBRE_TEST_CHILD_ROOT";
const CHILD_BODY: &str = "MARBRE_TEST_CHILD_BODY";

/// Not a test of its own: the tests below start it as a process, to kill it or to break its system calls.
#[tokio::test]
#[ignore = "is run as a child process by other tests"]
async fn child_that_puts() {
    let root = std::env::var_os(CHILD_ROOT).unwrap();
    let body = std::env::var_os(CHILD_BODY).unwrap();
    let target = DirectoryTarget::open(PathBuf::from(root)).await.unwrap();
    let bytes = noise(2 << 20);
    let upload = Upload::file(PathBuf::from(body), bytes.len() as u64, Sha256::of(&bytes));
    let outcome = target.put(&key("a/b/x"), &upload, &token()).await;
    println!("outcome: {outcome:?}");
}

fn child(wrapper: &[&str], root: &Path, body: &Path) -> Command {
    let this = std::env::current_exe().unwrap();
    let mut words = wrapper.to_vec();
    words.extend([this.to_str().unwrap(), "target_faults::child_that_puts"]);
    words.extend(["--exact", "--ignored", "--nocapture"]);
    let mut command = Command::new(words[0]);
    command
        .args(&words[1..])
        .env(CHILD_ROOT, root)
        .env(CHILD_BODY, body)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

#[tokio::test]
async fn directory_writer_killed_in_the_middle_leaves_nothing_visible() {
    let dir = tempfile::tempdir().unwrap();
    let (root, body) = (dir.path().join("root"), dir.path().join("body"));
    let target = DirectoryTarget::create(&root).await.unwrap();
    run("mkfifo", &[body.to_str().unwrap()]);
    let mut writer = child(&[], &root, &body).spawn().unwrap();
    // The child reads half of the body, and then waits for the rest.
    let mut fifo = std::fs::OpenOptions::new().write(true).open(&body).unwrap();
    std::io::Write::write_all(&mut fifo, &noise(2 << 20)[..1 << 20]).unwrap();
    let temporary = root.join(".tmp");
    let half_written = || {
        let mut files = std::fs::read_dir(&temporary).ok()?.flatten();
        files.find(|f| f.metadata().is_ok_and(|m| m.len() > 500_000))
    };
    let deadline = Instant::now() + Duration::from_secs(20);
    while half_written().is_none() {
        assert!(Instant::now() < deadline, "the child wrote nothing");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    writer.kill().unwrap();
    writer.wait().unwrap();
    let leftover = half_written().unwrap().path();

    assert_eq!(target.list_all(None, &token()).await.unwrap(), []);
    assert_eq!(target.head(&key("a/b/x"), &token()).await.unwrap(), None);
    // It may be somebody's upload, until it is old.
    DirectoryTarget::open(&root).await.unwrap();
    assert!(leftover.exists());
    let file = std::fs::File::options().write(true).open(&leftover).unwrap();
    let old = SystemTime::now() - Duration::from_secs(25 * 60 * 60);
    file.set_modified(old).unwrap();
    DirectoryTarget::open(&root).await.unwrap();
    assert!(!leftover.exists());
    let upload = Upload::memory(noise(2 << 20));
    assert!(target.put_or_compare(&key("a/b/x"), &upload, &token()).await.unwrap().created);
}

/// Puts in a child process whose system calls fail as strace is told; returns what the put said.
fn put_with_injected(fault: &str, root: &Path, body: &Path) -> String {
    let trace = root.with_extension("trace");
    let trace = trace.to_str().unwrap();
    let inject = format!("inject={fault}");
    let strace = ["strace", "-f", "-qq", "-o", trace, "-e", &inject];
    let spawned = child(&strace, root, body).output();
    let done = spawned.unwrap_or_else(|e| panic!("cannot run strace: {e}; run tests/run"));
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(said.contains("outcome: "), "{done:?}");
    let traced = std::fs::read_to_string(trace).unwrap();
    assert!(traced.contains("(INJECTED)"), "{fault} was never called");
    said
}

#[tokio::test]
async fn directory_puts_without_renameat2_and_never_hides_a_failed_fsync() {
    let dir = tempfile::tempdir().unwrap();
    let body = dir.path().join("body");
    std::fs::write(&body, noise(2 << 20)).unwrap();
    for (i, (fault, created, said)) in [
        ("renameat2:error=EINVAL", true, "Created"),
        ("renameat2,linkat:error=EPERM", false, "kind: Denied"),
        ("fsync:error=EIO:when=1", false, "kind: Unavailable"),
    ]
    .into_iter()
    .enumerate()
    {
        let root = dir.path().join(format!("root{i}"));
        let target = DirectoryTarget::create(&root).await.unwrap();
        let outcome = put_with_injected(fault, &root, &body);
        assert!(outcome.contains(said), "{fault}: {outcome}");
        let listed = target.list_all(None, &token()).await.unwrap();
        assert_eq!(listed.len(), usize::from(created), "{fault}");
        assert_eq!(std::fs::read_dir(root.join(".tmp")).unwrap().count(), 0, "{fault}");
    }
}
