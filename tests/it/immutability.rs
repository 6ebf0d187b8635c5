//! What targets guarantee, through the command line: locks that hold, promises that do not, and what lies under a marker.

use std::time::{Duration, Instant};

use aws_sdk_s3::Client;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::ObjectLockRetentionMode;
use serde_json::Value;

use crate::support::marbre::marbre;
use crate::support::s3::{ADMIN, LIMITED, PUT_ONLY, Rclone, SeaweedFs};
use crate::support::sqlite_setup::{Setup, files};

const DAY: i64 = 86_400;

/// Adds lines to the table of a target.
fn claim(setup: &Setup, target: &str, lines: &str) {
    let path = setup.path("provider/marbre.toml");
    let table = format!("[target.{target}]\n");
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains(&table));
    std::fs::write(&path, text.replace(&table, &format!("{table}{lines}\n"))).unwrap();
}

/// One directory `a`, and a target `s3` at this place.
fn with_s3(url: &str, lines: &str) -> Setup {
    let setup = Setup::new(300, 300);
    setup.configure(&[("a", &setup.target("a")), ("s3", url)], "", "");
    claim(&setup, "s3", lines);
    setup
}

const COMPLIANCE: &str = "lock = \"compliance\"\nlock_for = \"2d\"";

/// The check of this name at a target.
fn doctor_check<'d>(document: &'d Value, group: &str, name: &str) -> &'d Value {
    let checks = document["checks"].as_array().unwrap();
    checks.iter().find(|c| c["group"] == group && c["name"] == name).unwrap_or_else(|| panic!("{document:#}"))
}

async fn keys(admin: &Client, bucket: &str, part: &str) -> Vec<String> {
    let listed = admin.list_objects_v2().bucket(bucket).send().await.unwrap();
    let keys = listed.contents().iter().map(|o| o.key().unwrap().to_owned());
    keys.filter(|key| key.contains(part)).collect()
}

async fn lock(admin: &Client, bucket: &str, key: &str) -> (ObjectLockRetentionMode, i64) {
    let answer = admin.get_object_retention().bucket(bucket).key(key).send().await.unwrap();
    let retention = answer.retention().unwrap();
    (retention.mode().unwrap().clone(), retention.retain_until_date().unwrap().secs())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_that_locks_is_proven_immutable() {
    let server = SeaweedFs::shared().await;
    let (bucket, admin) = (server.locking_bucket().await, server.admin());
    let setup = with_s3(&server.url(&bucket, ADMIN), COMPLIANCE);
    let now = jiff::Timestamp::now().as_second();
    setup.snapshot().success();
    // Every object is locked until two days after its epoch, which can last for thirty, and one more.
    let objects = keys(&admin, &bucket, "gazette/").await;
    assert!(objects.len() >= 5, "{objects:?}");
    for key in &objects {
        let (mode, until) = lock(&admin, &bucket, key).await;
        assert_eq!(mode, ObjectLockRetentionMode::Compliance, "{key}");
        assert!((0..120).contains(&(until - now - 33 * DAY)), "{key}: {until}");
    }
    let found = setup.provider(&["doctor"]).run().json();
    let check = doctor_check(&found, "target s3", "guarantees");
    assert_eq!(check["state"], "ok", "{check}");
    assert!(check["found"].as_str().unwrap().starts_with("immutable (lock = \"compliance\")"), "{check}");
    // What the probe leaves is free again within minutes, and is not in the way of anything.
    for key in keys(&admin, &bucket, "marbre-doctor/2").await {
        let (_, until) = lock(&admin, &bucket, &key).await;
        assert!(until - now < 600, "{key}: {until}");
    }
    let status = setup.provider(&["status"]).success().json();
    assert_eq!(status["databases"][0]["score"]["immutable"], 1, "{status:#}");
    setup.provider(&["verify", "abonnes"]).success();
    setup.restores_equal(&[&server.url(&bucket, LIMITED)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_lies_under_markers_and_other_bytes_is_found() {
    let server = SeaweedFs::shared().await;
    let (bucket, admin) = (server.locking_bucket().await, server.admin());
    let setup = with_s3(&server.url(&bucket, LIMITED), COMPLIANCE);
    setup.snapshot().success();
    setup.change(50);
    setup.snapshot().success();
    let objects = keys(&admin, &bucket, "gazette/").await;
    for (n, key) in objects.iter().enumerate() {
        // The locks hold against who may do everything.
        let listed = admin.list_object_versions().bucket(&bucket).prefix(key).send().await.unwrap();
        for version in listed.versions().iter().filter(|v| v.key() == Some(key)) {
            let delete = admin.delete_object().bucket(&bucket).key(key);
            assert!(delete.set_version_id(version.version_id().map(str::to_owned)).send().await.is_err());
        }
        if n % 2 == 0 {
            admin.delete_object().bucket(&bucket).key(key).send().await.unwrap();
        } else {
            let other = ByteStream::from_static(b"somebody else's");
            admin.put_object().bucket(&bucket).key(key).body(other).send().await.unwrap();
        }
    }
    // A fresh machine: no state, no configuration, one target.
    let from = server.url(&bucket, LIMITED);
    let listed = marbre(["--json", "list", "--from", &from, "--allowed-signers"])
        .arg(setup.path("publisher/allowed_signers"))
        .success()
        .json();
    let text = listed.to_string();
    assert_eq!(text.matches("\"snapshot\":").count(), 2, "{listed:#}");
    setup.restores_equal(&[&from]);
    // It is damage all the same, and said to be what it is.
    let found = setup.provider(&["verify", "abonnes"]).fails_with(9).json();
    let damaged = found["damaged"].as_array().unwrap();
    assert!(damaged.len() >= objects.len() / 2, "{found:#}");
    for damage in damaged {
        assert_eq!(damage["target"], "s3");
        assert!(damage["problem"].as_str().unwrap().contains("older version"), "{damage}");
    }
    // The next snapshot is whole again.
    setup.change(30);
    let whole = setup.snapshot().fails_with(10);
    assert_eq!(whole.json()["verdict"], "complete", "{whole}");
    setup.restores_equal(&[&from]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_that_the_bucket_does_not_keep_is_refused() {
    let server = SeaweedFs::shared().await;
    for versioned in [false, true] {
        let bucket = server.bucket(versioned).await;
        let setup = with_s3(&server.url(&bucket, ADMIN), COMPLIANCE);
        let found = setup.provider(&["doctor"]).fails_with(4).json();
        let check = doctor_check(&found, "target s3", "guarantees");
        assert_eq!(check["state"], "fail", "{check}");
        assert!(check["found"].as_str().unwrap().contains("lock"), "{check}");
        assert!(check["remedy"].as_str().unwrap().contains("docs/TARGETS.md"), "{check}");
        // What is to be locked and cannot be is not stored as if it were.
        let failed = setup.snapshot().fails_with(10).json();
        assert_eq!(failed["targets"][1]["level"], Value::Null, "{failed:#}");
        // Without the claim it is an honest target.
        setup.configure(&[("s3", &server.url(&bucket, ADMIN))], "", "");
        let found = setup.provider(&["doctor"]).run().json();
        let check = doctor_check(&found, "target s3", "guarantees");
        assert_eq!(check["state"], "ok", "{check}");
        assert!(check["found"].as_str().unwrap().contains("no lock is claimed"), "{check}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_says_yes_to_everything_is_unmasked() {
    for lines in [COMPLIANCE, ""] {
        let server = Rclone::start().await;
        let setup = with_s3(&server.url(), lines);
        setup.snapshot().success();
        let found = setup.provider(&["doctor"]).fails_with(4).json();
        let check = doctor_check(&found, "target s3", "guarantees");
        assert_eq!(check["state"], "fail", "{check}");
        let text = check["found"].as_str().unwrap();
        assert!(text.contains("create-if-absent: the target said that it created"), "{text}");
        assert!(text.contains(" of 8 were told that they created it"), "{text}");
        if !lines.is_empty() {
            for trial in
                ["overwrite: its bytes were replaced", "delete: it is gone", "delete-version: it is gone"]
            {
                assert!(text.contains(trial), "{text}");
            }
        }
        let status = setup.provider(&["status"]).success().json();
        assert_eq!(status["databases"][0]["score"]["immutable"], 0, "{status:#}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_daily_credentials_may_not_try_is_not_green() {
    let server = SeaweedFs::shared().await;
    for (profile, words) in [
        (
            PUT_ONLY,
            [
                "create-if-absent: the target said that the key was taken; what is there cannot be read",
                "lock:",
            ],
        ),
        (LIMITED, ["delete-version: these credentials may not delete", "not proven"]),
    ] {
        let bucket = server.locking_bucket().await;
        let setup = with_s3(&server.url(&bucket, profile), COMPLIANCE);
        // They suffice for the daily work, in which only what is new is sent.
        assert!(setup.snapshot().success().json()["full"].as_bool().unwrap());
        for _ in 0..2 {
            setup.change(100);
            let next = setup.snapshot().success().json();
            assert_eq!(next["full"], false, "{next:#}");
            assert!(next["new_bytes"].as_u64() < next["bytes_read"].as_u64(), "{next:#}");
        }
        setup.restores_equal(&[&server.url(&bucket, LIMITED)]);
        let found = setup.provider(&["doctor"]).success().json();
        let check = doctor_check(&found, "target s3", "guarantees");
        assert_eq!(check["state"], "warn", "{check}");
        for word in words {
            assert!(check["found"].as_str().unwrap().contains(word), "{check}");
        }
        let status = setup.provider(&["status"]).success().json();
        assert_eq!(status["databases"][0]["score"]["immutable"], 0, "{status:#}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_two_one_one_zero() {
    let server = SeaweedFs::shared().await;
    let bucket = server.locking_bucket().await;
    let setup = with_s3(&server.url(&bucket, ADMIN), COMPLIANCE);
    setup.snapshot().success();
    setup.provider(&["doctor"]).success();
    let score = |setup: &Setup| setup.provider(&["status"]).success().json()["databases"][0]["score"].clone();
    let before = score(&setup);
    assert_eq!(
        (&before["copies"], &before["domains"], &before["met"]),
        (&3.into(), &0.into(), &false.into())
    );
    assert_eq!(before["missing"].as_array().unwrap().len(), 3, "{before:#}");

    claim(&setup, "a", "domain = \"cellar\"\nowner = \"provider\"");
    claim(&setup, "s3", "domain = \"gra\"\nowner = \"third-party\"\noffsite = true");
    setup.provider(&["drill", "abonnes"]).success();
    let met = score(&setup);
    assert_eq!(met["met"], true, "{met:#}");
    let found = setup.provider(&["doctor"]).success().json();
    let check = doctor_check(&found, "database gazette/abonnes", "3-2-1-1-0");
    assert_eq!((&check["state"], &check["found"]), (&"ok".into(), &"3-2-1-1-0".into()));
    // A directory proves nothing against its own host.
    let check = doctor_check(&found, "target a", "guarantees");
    assert!(check["found"].as_str().unwrap().contains("whoever is root there"), "{check}");
    assert!(!files(&setup.path("a")).iter().any(|path| path.to_string_lossy().contains("marbre-doctor/2")));

    // One drill that fails, or one target that lacks the newest, and it is no longer met.
    std::fs::rename(setup.path("a"), setup.path("away")).unwrap();
    setup.change(50);
    setup.snapshot().fails_with(10);
    std::fs::rename(setup.path("away"), setup.path("a")).unwrap();
    let behind = score(&setup);
    assert_eq!((&behind["copies"], &behind["met"]), (&2.into(), &false.into()), "{behind:#}");
    assert!(behind["missing"][0].as_str().unwrap().contains("a should hold the newest"), "{behind:#}");
}

#[test]
fn a_snapshot_fails_without_its_required_target() {
    let setup = Setup::new(300, 300);
    setup.configure_directories("copies = 1");
    claim(&setup, "b", "required = true");
    setup.snapshot().success();
    std::fs::rename(setup.path("b"), setup.path("away")).unwrap();
    setup.change(50);
    let failed = setup.snapshot().fails_with(8);
    let document = failed.json();
    assert_eq!(document["verdict"], "failed", "{document:#}");
    assert_eq!(
        (&document["targets"][0]["level"], &document["targets"][0]["required"]),
        (&"stored".into(), &false.into())
    );
    assert_eq!(
        (&document["targets"][1]["level"], &document["targets"][1]["required"]),
        (&Value::Null, &true.into())
    );
    failed.expect_stderr("is not at b, which is required");
    // What the other target got is good, and the next one is complete.
    setup.restores_equal(&[&setup.target("a")]);
    std::fs::rename(setup.path("away"), setup.path("b")).unwrap();
    setup.snapshot().success();
    setup.restores_equal(&[&setup.target("b")]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_longer_lock_begins_a_new_epoch() {
    let server = SeaweedFs::shared().await;
    let bucket = server.locking_bucket().await;
    let setup = with_s3(&server.url(&bucket, LIMITED), "");
    let full = |setup: &Setup| setup.snapshot().success().json()["full"].as_bool().unwrap();
    assert!(full(&setup));
    assert!(!full(&setup));
    // Nothing of the running epoch is locked.
    claim(&setup, "s3", COMPLIANCE);
    assert!(full(&setup));
    assert!(!full(&setup));
    let path = setup.path("provider/marbre.toml");
    let change = |from: &str, to: &str| {
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(from));
        std::fs::write(&path, text.replace(from, to)).unwrap();
    };
    change("lock_for = \"2d\"", "lock_for = \"3d\"");
    assert!(full(&setup));
    // Less is covered by what there is; more than that less is not.
    change("lock_for = \"3d\"", "lock_for = \"2d\"");
    assert!(!full(&setup));
    change("lock_for = \"2d\"", "lock_for = \"3d\"");
    assert!(full(&setup));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_gets_no_more_than_its_bandwidth() {
    let server = SeaweedFs::shared().await;
    let bucket = server.bucket(false).await;
    let setup = Setup::new(1000, 1024);
    let s3 = server.url(&bucket, LIMITED);
    for (url, name) in [(s3.as_str(), "s3"), (&setup.target("b"), "b")] {
        setup.configure(&[(name, url)], &format!("spool_dir = \"spool-{name}\""), "");
        std::fs::remove_dir_all(setup.path("provider/state")).ok();
        claim(&setup, name, "bandwidth = \"512 KiB/s\"");
        // A megabyte of random bytes.
        let start = Instant::now();
        setup.snapshot().success();
        assert!(start.elapsed() > Duration::from_millis(1400), "{name}: {:?}", start.elapsed());
        let start = Instant::now();
        setup.provider(&["verify", "abonnes"]).success();
        assert!(start.elapsed() > Duration::from_millis(1000), "{name}: {:?}", start.elapsed());
        setup.restores_equal(&[url]);
    }
}
