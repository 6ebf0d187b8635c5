//! Targets that are down, full, slow, refusing or broken: the others hold a good snapshot.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::support::marbre::Outcome;
use crate::support::proxy::{FaultProxy, Mode};
use crate::support::s3::{LIMITED, SeaweedFs, UNKNOWN_KEY, WRONG_SECRET};
use crate::support::sqlite_setup::{Setup, one_chain, sound, sound_receipts};

/// What a report says about one target.
#[track_caller]
fn of_target<'a>(report: &'a serde_json::Value, name: &str) -> &'a serde_json::Value {
    let targets = report["targets"].as_array().unwrap_or_else(|| panic!("{report}"));
    targets.iter().find(|t| t["name"] == name).unwrap()
}

/// The report, which is the one document on standard output; the error is an event on standard error.
#[track_caller]
fn report(outcome: &Outcome) -> serde_json::Value {
    outcome.json()
}

#[test]
fn one_target_is_gone_and_comes_back() {
    let setup = Setup::new(2_000, 2_000);
    setup.configure_directories("copies = 1");
    setup.snapshot().success();
    let (b, hidden) = (setup.path("b"), setup.path("hidden"));
    fs::rename(&b, &hidden).unwrap();
    setup.change(10);
    let degraded = report(&setup.snapshot().fails_with(10));
    assert_eq!(degraded["verdict"], "degraded");
    assert_eq!(of_target(&degraded, "a")["level"], "stored");
    let lost = of_target(&degraded, "b");
    assert!(lost["error"].as_str().unwrap().contains("does not exist; is its disk mounted?"), "{lost}");
    assert!(lost["remedy"].as_str().unwrap().contains("Check"), "{lost}");
    setup.restores_equal(&[&setup.target("a")]);
    // The publisher names both, and is told about the one that is not there.
    setup.restores_equal(&[&setup.target("b"), &setup.target("a")]);
    // With two copies wanted, the same is a failure.
    setup.configure_directories("copies = 2");
    setup.change(10);
    let failed = report(&setup.snapshot().fails_with(8));
    assert_eq!(failed["verdict"], "failed");
    setup.restores_equal(&[&setup.target("a")]);
    // Back again, it gets what it missed as ciphertext of the other.
    fs::rename(&hidden, &b).unwrap();
    setup.change(10);
    let complete = report(&setup.snapshot().success());
    assert_eq!(complete["verdict"], "complete");
    assert_eq!(complete["full"], false);
    sound(&setup);
    fs::rename(setup.path("a"), setup.path("hidden")).unwrap();
    setup.restores_equal(&[&setup.target("b")]);
}

#[test]
fn without_any_target_the_database_is_not_read() {
    let setup = Setup::new(10, 10);
    let port = crate::support::free_ports::<1>()[0];
    let closed =
        format!("s3://bucket/p?endpoint=http://127.0.0.1:{port}&credentials_file={}", credentials(&setup));
    setup.configure(&[("gone", &setup.target("gone")), ("closed", &closed)], "", "");
    fs::remove_file(setup.database()).unwrap();
    let outcome = setup.snapshot().fails_with(8);
    let error = outcome.json();
    assert!(
        error["error"].as_str().unwrap().contains("no target of gazette/abonnes can be reached"),
        "{error}"
    );
    assert!(error["cause"].as_str().unwrap().contains("gone: open "), "{error}");
    assert!(error["cause"].as_str().unwrap().contains("closed: list s3://bucket/p"), "{error}");
    assert!(error["remedy"].as_str().unwrap().contains("Check that the target is up"), "{error}");
    assert!(outcome.seconds < 60.0, "{outcome}");
}

fn credentials(setup: &Setup) -> String {
    let path = setup.path("credentials");
    fs::write(&path, "[default]\naws_access_key_id = x\naws_secret_access_key = y\n").unwrap();
    path.display().to_string()
}

/// A file system of a few MB of one's own; unmounted on drop. Needs root.
struct Tmpfs(std::path::PathBuf);

impl Tmpfs {
    fn mount(path: &Path, size: &str) -> Self {
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]).arg(path);
        assert!(mount.status().unwrap().success(), "mounting a tmpfs needs root");
        Self(path.to_owned())
    }

    fn resize(&self, size: &str) {
        let mut mount = Command::new("mount");
        mount.args(["-o", &format!("remount,size={size}")]).arg(&self.0);
        assert!(mount.status().unwrap().success());
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_full_target_does_not_stop_the_other() {
    let setup = Setup::new(2_000, 4_000);
    setup.configure_directories("");
    let disk = Tmpfs::mount(&setup.path("b"), "2m");
    let degraded = report(&setup.snapshot().fails_with(10));
    assert_eq!(degraded["verdict"], "degraded");
    let full = of_target(&degraded, "b");
    assert!(full["error"].as_str().unwrap().to_lowercase().contains("no space"), "{full}");
    assert!(full["remedy"].as_str().unwrap().contains("Free space at the target"), "{full}");
    assert!(sound_receipts(&setup, &setup.path("b")).is_empty());
    setup.restores_equal(&[&setup.target("a")]);
    disk.resize("64m");
    setup.change(20);
    assert_eq!(report(&setup.snapshot().success())["full"], false);
    sound(&setup);
    setup.restores_equal(&[&setup.target("b")]);
}

#[test]
fn a_full_spool_is_no_snapshot() {
    let setup = Setup::new(2_000, 4_000);
    fs::create_dir(setup.path("spool")).unwrap();
    let _disk = Tmpfs::mount(&setup.path("spool"), "1m");
    let (a, b) = (setup.target("a"), setup.target("b"));
    setup.configure(&[("a", &a), ("b", &b)], "spool_dir = \"../spool\"", "");
    let error = setup.snapshot().fails_with(4).json();
    assert!(error["error"].as_str().unwrap().contains("spool"), "{error}");
    assert!(error["remedy"].as_str().unwrap().contains("Free space"), "{error}");
    assert!(sound(&setup).is_empty());
}

/// An S3 target in a bucket of its own, behind a proxy, as one of the profiles.
async fn behind(server: &SeaweedFs, proxy: &FaultProxy, profile: &str) -> String {
    let bucket = server.bucket(false).await;
    let file = server.location(&bucket, "p", profile).credentials_file.unwrap();
    format!(
        "s3://{bucket}/p?endpoint={}&profile={profile}&credentials_file={}",
        proxy.endpoint(),
        file.display()
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_refuses_does_not_stop_the_other() {
    let server = SeaweedFs::shared().await;
    let setup = Setup::new(500, 1_000);
    let proxy = FaultProxy::start(server.address(), Mode::Pass).await;
    for profile in [UNKNOWN_KEY, WRONG_SECRET] {
        let url = behind(&server, &proxy, profile).await;
        for (copies, code, verdict) in [(1, 10, "degraded"), (2, 8, "failed")] {
            setup.configure(&[("a", &setup.target("a")), ("s3", &url)], "", &format!("copies = {copies}"));
            setup.change(10);
            let outcome = setup.snapshot().fails_with(code);
            let report = outcome.json();
            assert_eq!(report["verdict"], verdict);
            assert_eq!(of_target(&report, "a")["level"], "stored");
            let refused = of_target(&report, "s3");
            assert!(refused["remedy"].as_str().unwrap().contains("credentials"), "{refused}");
            assert!(!outcome.to_string().contains("hunter2"), "{outcome}");
            setup.restores_equal(&[&setup.target("a")]);
        }
        // Alone it is a failure, and no receipt is anywhere.
        setup.configure(&[("s3", &url)], "", "");
        let error = setup.snapshot().fails_with(8).json();
        assert!(error.to_string().contains("credentials"), "{error}");
    }
    one_chain(sound_receipts(&setup, &setup.path("a")));
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_of_a_server_in_the_middle_are_tried_again_and_then_cost_only_that_target() {
    let server = SeaweedFs::shared().await;
    let setup = Setup::new(2_000, 3_000);
    let proxy = FaultProxy::start(server.address(), Mode::StatusEvery(3, 503)).await;
    let url = behind(&server, &proxy, LIMITED).await;
    setup.configure(&[("a", &setup.target("a")), ("s3", &url)], "", "");
    assert_eq!(setup.snapshot().success().json()["verdict"], "complete");
    setup.restores_equal(&[&url]);
    // Now from the first pack on, and for good.
    proxy.set(Mode::Pass);
    setup.change(1);
    let run = setup.snapshot().start();
    while !run.stderr().contains("\"stage\":\"read\"") {
        std::thread::sleep(Duration::from_millis(1));
    }
    proxy.set(Mode::StatusEvery(1, 500));
    let report = run.wait().expect_code(10).json();
    assert_eq!(report["verdict"], "degraded");
    let broken = of_target(&report, "s3");
    assert!(broken["error"].as_str().unwrap().contains("given up after 6 attempts"), "{broken}");
    assert!(broken["remedy"].as_str().unwrap().contains("Check that the target is up"), "{broken}");
    setup.restores_equal(&[&setup.target("a")]);
    // The server is back: it gets what it missed, and is enough to restore from.
    proxy.set(Mode::Pass);
    setup.change(20);
    let report = setup.snapshot().success().json();
    assert_eq!((&report["verdict"], &report["full"]), (&"complete".into(), &false.into()));
    setup.restores_equal(&[&url]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_target_is_left_behind_when_the_spool_is_full() {
    let server = SeaweedFs::shared().await;
    // Some 150 MB that do not compress: five packs, of which two fit into the spool.
    let setup = Setup::new(1_500, 100_000);
    let proxy = FaultProxy::start(server.address(), Mode::Pass).await;
    let url = behind(&server, &proxy, LIMITED).await;
    let slow = "spool_limit = \"64 MiB\"\nspool_wait = \"2s\"";
    setup.configure(&[("s3", &url), ("a", &setup.target("a"))], slow, "");
    let run = setup.snapshot().start();
    while !run.stderr().contains("\"stage\":\"read\"") {
        std::thread::sleep(Duration::from_millis(1));
    }
    proxy.set(Mode::Delay(Duration::from_secs(25)));
    let outcome = run.wait().expect_code(10);
    assert!(outcome.seconds < 25.0, "the slow target held the snapshot up: {outcome}");
    let report = outcome.json();
    let behind = of_target(&report, "s3");
    assert!(behind["error"].as_str().unwrap().contains("too slow"), "{behind}");
    assert!(behind["remedy"].as_str().unwrap().contains("spool_wait"), "{behind}");
    assert!(setup.spooled().is_empty());
    setup.restores_equal(&[&setup.target("a")]);
}
