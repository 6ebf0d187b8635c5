//! Targets by the place that they are: proofs follow it, and one place under two names holds one copy.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::support::marbre::marbre;
use crate::support::s3::{ADMIN, LIMITED, PUT_ONLY, SeaweedFs};
use crate::support::sqlite_setup::Setup;

/// How a target stands, as `status` prints it.
fn target<'d>(document: &'d Value, name: &str) -> &'d Value {
    let targets = document["databases"][0]["targets"].as_array().unwrap();
    targets.iter().find(|target| target["name"] == name).unwrap_or_else(|| panic!("{document:#}"))
}

/// What is proven of the newest snapshot at a target: stored, intact, restored; and whether any was restored from there.
#[track_caller]
fn proven(document: &Value, name: &str) -> [bool; 4] {
    let found = target(document, name);
    let levels = &found["levels"];
    [&levels["stored"], &levels["intact"], &levels["restored"], &found["restored"]]
        .map(|level| !level.is_null())
}

#[test]
fn proof_follows_the_place_and_not_the_name() {
    let setup = Setup::new(100, 100);
    setup.configure_directories("");
    setup.snapshot().success();
    setup.provider(&["verify", "abonnes"]).success();
    setup.provider(&["drill", "abonnes", "--target", "a"]).success();
    let status = || setup.provider(&["status"]).success().json();
    assert_eq!(proven(&status(), "a"), [true; 4]);

    // The name leads to a new place, which a sync fills.
    fs::create_dir(setup.path("c")).unwrap();
    setup.configure(&[("a", &setup.target("c")), ("b", &setup.target("b"))], "", "");
    assert_eq!(proven(&status(), "a"), [false; 4], "there is nothing yet");
    let synced = setup.provider(&["sync", "abonnes"]).success();
    assert!(synced.stderr.contains("target a is another place than before"), "{synced}");
    assert_eq!(proven(&status(), "a"), [true, false, false, false]);
    assert_eq!(proven(&status(), "b"), [true, true, false, false]);

    // The old place under a new name keeps what was proven, also for who knows it from its records only.
    setup.configure(&[("vault", &setup.target("a")), ("b", &setup.target("b"))], "", "");
    assert_eq!(proven(&status(), "vault"), [true; 4]);
    fs::remove_dir_all(setup.path("provider/state")).unwrap();
    assert_eq!(proven(&status(), "vault"), [true, false, true, true]);
    let outside = |name: &str, folder: &str| {
        let from = format!("{name}={}", setup.target(folder));
        let run = marbre(["--json", "status", "--from", &from, "--allowed-signers"]);
        let document = run.arg(setup.path("publisher/allowed_signers")).success().json();
        proven(&document, name)
    };
    assert_eq!(outside("any", "a"), [true, false, true, true]);
    assert_eq!(outside("a", "c"), [true, false, false, false]);
}

/// A second way to a directory. Taken away on drop.
struct Bind(PathBuf);

impl Bind {
    fn mount(from: &Path, to: PathBuf) -> Self {
        fs::create_dir(&to).unwrap();
        let mounted = Command::new("mount").arg("--bind").arg(from).arg(&to).status().unwrap();
        assert!(mounted.success());
        Self(to)
    }
}

impl Drop for Bind {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

/// Two targets, `a` and `b`, are one place: everybody says so, and nobody counts it twice.
#[track_caller]
fn counts_once(setup: &Setup, a: &str, b: &str) {
    setup.configure(&[("a", a), ("b", b)], "", "copies = 2");
    let outcome = setup.snapshot().fails_with(8).expect_stderr("the same place as target a");
    let failed = outcome.json();
    assert_eq!(
        (&failed["verdict"], &failed["targets"][0]["level"], &failed["targets"][1]["level"]),
        (&"failed".into(), &"stored".into(), &Value::Null),
        "{b}: {failed:#}"
    );
    let status = setup.provider(&["status", "--rpo", "26h"]).fails_with(9).json();
    assert_eq!(target(&status, "b")["same_place_as"], "a", "{b}: {status:#}");
    assert_eq!(status["databases"][0]["score"]["copies"], 2, "the original, and one: {status:#}");
    let found = setup.provider(&["doctor"]).fails_with(4).json();
    let checks = found["checks"].as_array().unwrap();
    let check = checks.iter().find(|check| check["name"] == "places").unwrap();
    assert_eq!(check["state"], "fail", "{check}");
    // With one copy asked for there is a snapshot, which is not everywhere.
    setup.configure(&[("a", a), ("b", b)], "", "copies = 1");
    setup.snapshot().fails_with(10);
}

#[test]
fn a_directory_under_two_names_is_one_copy() {
    let setup = Setup::new(50, 50);
    let a = setup.path("a");
    symlink(&a, setup.path("link")).unwrap();
    let bind = Bind::mount(&a, setup.path("bound"));
    let root = setup.path("").display().to_string();
    for alias in [
        format!("{}/a", root.trim_end_matches('/').replacen('/', "//", 2)),
        format!("{}/b/../a", root.trim_end_matches('/')),
        setup.target("link"),
        bind.0.display().to_string(),
    ] {
        counts_once(&setup, &setup.target("a"), &alias);
    }
    setup.configure_directories("");
    setup.snapshot().success();
    setup.provider(&["status", "--rpo", "26h"]).fails_with(10);
    setup.provider(&["sync", "abonnes"]).success();
    setup.provider(&["status", "--rpo", "26h"]).success();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_under_two_names_is_one_copy() {
    let server = SeaweedFs::shared().await;
    let bucket = server.bucket(false).await;
    let setup = Setup::new(50, 50);
    let url = server.url(&bucket, LIMITED);
    counts_once(&setup, &url, &url.replace("http://127.0.0.1:", "http://localhost:"));
}

#[test]
fn a_copy_of_a_target_becomes_one_when_it_has_a_marker_of_its_own() {
    let setup = Setup::new(50, 50);
    setup.configure(&[("a", &setup.target("a"))], "", "");
    setup.snapshot().success();
    setup.provider(&["drill", "abonnes"]).success();
    let copied = Command::new("cp").arg("-a").args([setup.path("a"), setup.path("c")]).status().unwrap();
    assert!(copied.success());
    setup.configure(&[("a", &setup.target("a")), ("c", &setup.target("c"))], "", "copies = 1");
    setup.snapshot().fails_with(10).expect_stderr("remove the object place.json of the copy");
    let status = setup.provider(&["status"]).success().json();
    assert!(!proven(&status, "c")[3], "a copy was never restored: {status:#}");
    fs::remove_file(setup.path("c/place.json")).unwrap();
    setup.snapshot().success();
    setup.provider(&["sync", "abonnes"]).success();
    setup.provider(&["status", "--rpo", "26h"]).success();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn credentials_that_may_only_put_mark_a_place() {
    let server = SeaweedFs::shared().await;
    let bucket = server.bucket(true).await;
    let setup = Setup::new(50, 50);
    setup.configure(&[("s3", &server.url(&bucket, PUT_ONLY))], "", "");
    setup.snapshot().success();
    let marker = server.admin().get_object().bucket(&bucket).key("marbre/place.json").send().await.unwrap();
    let bytes = marker.body.collect().await.unwrap().into_bytes();
    let place: Value = serde_json::from_slice(&bytes).unwrap();
    assert_eq!((&place["format"], &place["kind"]), (&1.into(), &"place".into()));
    assert_eq!(place["place"].as_str().unwrap().len(), 32);
    // Nobody who reads, checks or deletes is disturbed by it, and nobody writes it again.
    setup.configure(&[("s3", &server.url(&bucket, ADMIN))], "", "");
    for verb in ["verify", "prune", "sync", "list"] {
        setup.provider(&[verb, "abonnes"]).success();
    }
    setup.snapshot().success();
    let again = server.admin().get_object().bucket(&bucket).key("marbre/place.json").send().await.unwrap();
    assert_eq!(again.body.collect().await.unwrap().into_bytes(), bytes);
    setup.restores_equal(&[&server.url(&bucket, LIMITED)]);
}

#[test]
fn what_was_stored_is_missed_at_a_place_that_was_emptied() {
    let setup = Setup::new(50, 50);
    setup.configure_directories("copies = 1");
    setup.snapshot().success();
    fs::remove_dir_all(setup.path("b")).unwrap();
    fs::create_dir(setup.path("b")).unwrap();
    // The next snapshot makes it a place again, and says that it is another one.
    let snapshot = setup.snapshot().success().json();
    let warnings = snapshot["warnings"].to_string();
    assert!(warnings.contains("target b is another place than before"), "{snapshot:#}");
    setup.provider(&["verify", "abonnes"]).fails_with(9);
}
