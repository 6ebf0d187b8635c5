//! What is seen by listing alone: objects that were emptied, hidden or deleted are said at once, by everything that lists.

use std::fs;

use aws_sdk_s3::Client;
use serde_json::Value;

use crate::support::s3::{LIMITED, SeaweedFs};
use crate::support::sqlite_setup::{Setup, objects};

/// How a target stands, as `status` prints it.
fn target<'d>(document: &'d Value, name: &str) -> &'d Value {
    let targets = document["databases"][0]["targets"].as_array().unwrap();
    targets.iter().find(|target| target["name"] == name).unwrap()
}

/// What is wrong, as one text.
fn incidents(document: &Value) -> String {
    document["databases"][0]["incidents"].to_string()
}

/// Nothing that was proven of the newest snapshot at this target counts any more.
#[track_caller]
fn nothing_counts(document: &Value, name: &str) {
    let levels = &target(document, name)["levels"];
    assert!(levels["damaged"].is_string(), "{document:#}");
    for level in ["stored", "intact", "restored", "owner_restored"] {
        assert!(levels[level].is_null(), "{level} {document:#}");
    }
}

/// What `doctor` says of the objects that targets hold.
fn stored_objects(setup: &Setup, code: i32) -> Value {
    let found = setup.provider(&["doctor"]).fails_with(code).json();
    let checks = found["checks"].as_array().unwrap();
    checks.iter().find(|check| check["name"] == "stored objects").unwrap().clone()
}

/// Empties every object of target `b` whose key holds this.
fn empty(setup: &Setup, part: &str) {
    let emptied = objects(&setup.path("b")).into_iter().filter(|(key, _)| key.contains(part));
    assert!(emptied.map(|(_, path)| fs::write(path, "").unwrap()).count() > 0, "{part}");
}

#[test]
fn emptied_objects_are_not_stored() {
    for part in ["/packs/", "/manifests/", "receipts/", ""] {
        let setup = Setup::new(100, 100);
        setup.configure_directories("copies = 1");
        setup.snapshot().success();
        setup.provider(&["verify", "abonnes"]).success();
        setup.provider(&["status", "--rpo", "26h"]).success();
        assert_eq!(stored_objects(&setup, 0)["state"], "ok");
        empty(&setup, part);

        let inside = setup.provider(&["status", "--rpo", "26h"]).fails_with(9).json();
        assert!(incidents(&inside).contains("of another size"), "{part}: {inside:#}");
        assert!(target(&inside, "a")["levels"]["stored"].is_string(), "{inside:#}");
        assert!(target(&inside, "a")["levels"]["damaged"].is_null(), "{inside:#}");
        for level in ["stored", "intact"] {
            assert!(target(&inside, "b")["levels"][level].is_null(), "{part}: {inside:#}");
        }
        assert_eq!(inside["databases"][0]["score"]["copies"], 2, "the original, and a: {inside:#}");
        setup.watch(&["a", "b"], &["--rpo", "26h"]).fails_with(9);
        setup.watch(&["b"], &["--rpo", "26h"]).fails_with(9);
        assert_eq!(stored_objects(&setup, 4)["state"], "fail");
        setup.provider(&["drill", "abonnes", "--target", "b"]).fails_with(9);
        // Every way of reading it avoids what was emptied.
        setup.restores_equal(&[&setup.target("b"), &setup.target("a")]);
    }
}

#[test]
fn deleted_packs_are_missed_before_anybody_needs_them() {
    let setup = Setup::new(100, 100);
    setup.configure_directories("");
    setup.snapshot().success();
    for (key, path) in objects(&setup.path("b")) {
        if key.contains("/packs/") {
            fs::remove_file(path).unwrap();
        }
    }
    for run in [setup.provider(&["status", "--rpo", "26h"]), setup.watch(&["b"], &["--rpo", "26h"])] {
        let document = run.fails_with(9).json();
        assert!(incidents(&document).contains("1 missing"), "{document:#}");
        nothing_counts(&document, "b");
    }
    // A sync brings them back, and then all is well.
    setup.provider(&["sync", "abonnes"]).success();
    setup.provider(&["status", "--rpo", "26h"]).success();
}

#[test]
fn a_target_that_lacks_snapshots_does_not_verify() {
    let setup = Setup::new(50, 50);
    setup.configure_directories("");
    setup.snapshot().success();
    setup.provider(&["verify", "abonnes"]).success();
    fs::remove_dir_all(setup.path("b")).unwrap();
    fs::create_dir(setup.path("b")).unwrap();
    // Who remembers knows that it was there; the others see that it is not.
    setup.provider(&["verify", "abonnes"]).fails_with(9);
    fs::remove_dir_all(setup.path("provider/state")).unwrap();
    let outcome = setup.provider(&["verify", "abonnes"]).fails_with(10);
    outcome.expect_stderr("b lacks 1");
    setup.provider(&["sync", "abonnes"]).success();
    setup.provider(&["verify", "abonnes"]).success();
}

async fn hide(admin: &Client, bucket: &str, part: &str) -> usize {
    let listed = admin.list_objects_v2().bucket(bucket).send().await.unwrap();
    let keys: Vec<&str> = listed.contents().iter().filter_map(|o| o.key()).collect();
    let hidden: Vec<&str> = keys.into_iter().filter(|key| key.contains(part)).collect();
    for key in &hidden {
        admin.delete_object().bucket(bucket).key(*key).send().await.unwrap();
    }
    hidden.len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn objects_under_delete_markers_are_told_at_once() {
    const HIDDEN: &str = "under a delete marker";
    let server = SeaweedFs::shared().await;
    for part in ["gazette/", "/receipts/", "/packs/"] {
        let bucket = server.bucket(true).await;
        let setup = Setup::new(100, 100);
        setup.configure(&[("s3", &server.url(&bucket, LIMITED))], "", "");
        setup.snapshot().success();
        setup.provider(&["drill", "abonnes"]).success();
        let before = setup.provider(&["status", "--rpo", "26h"]).success().json();
        assert_eq!(target(&before, "s3")["restored"]["older_versions"], 0, "{before:#}");
        assert!(hide(&server.admin(), &bucket, part).await > 0);

        let after = setup.provider(&["status", "--rpo", "26h"]).fails_with(9).json();
        assert!(incidents(&after).contains(HIDDEN), "{part}: {after:#}");
        nothing_counts(&after, "s3");
        let check = stored_objects(&setup, 4);
        assert!(check["found"].as_str().unwrap().contains(HIDDEN), "{check}");

        // What lies below can still be restored, and whoever reads the proof is told that it was below.
        let drill = setup.provider(&["drill", "abonnes"]).fails_with(10);
        let report = drill.json();
        assert_eq!((&report["passed"], &report["level"]), (&true.into(), &"restored".into()), "{report:#}");
        assert!(report["older_versions"].as_u64().unwrap() > 0, "{report:#}");
        drill.expect_stderr("deleted");
        let proven = setup.provider(&["status", "--rpo", "26h"]).fails_with(9).json();
        let proof = &target(&proven, "s3")["restored"];
        assert_eq!(proof["older_versions"], report["older_versions"], "{proven:#}");

        // The next snapshot is whole, and does not keep silent about the others.
        setup.change(10);
        let snapshot = setup.snapshot().fails_with(10).json();
        assert_eq!(snapshot["verdict"], "complete", "{snapshot:#}");
        assert!(snapshot["targets"][0]["damaged"].as_str().unwrap().contains(HIDDEN), "{snapshot:#}");
        setup.restores_equal(&[&server.url(&bucket, LIMITED)]);
        let next = setup.provider(&["status", "--rpo", "26h"]).fails_with(9).json();
        assert!(target(&next, "s3")["levels"]["stored"].is_string(), "{next:#}");
    }
}
