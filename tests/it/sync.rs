//! `marbre sync`: a target that missed something gets it from another one, as ciphertext, whole or not at all.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::support::marbre::{Marbre, marbre};
use crate::support::proxy::{FaultProxy, Mode};
use crate::support::s3::{LIMITED, PUT_ONLY, SeaweedFs, UNKNOWN_KEY};
use crate::support::short_or_long;
use crate::support::sqlite_setup::{SECRET, Setup, objects, one_chain, sound, sound_receipts};

pub fn sync(setup: &Setup) -> Marbre {
    setup.provider(&["sync", "abonnes"])
}

/// What the report says about one target.
#[track_caller]
pub fn of_target<'a>(report: &'a Value, name: &str) -> &'a Value {
    let targets = report["databases"][0]["targets"].as_array().unwrap_or_else(|| panic!("{report:#}"));
    targets.iter().find(|t| t["name"] == name).unwrap()
}

/// Everything at a directory target, byte for byte, but for claims: they say who wrote there, and are not copied.
pub fn content(target: &Path) -> BTreeMap<String, Vec<u8>> {
    let objects = objects(target).into_iter().filter(|(key, _)| !key.starts_with("claims/"));
    objects.map(|(key, path)| (key, fs::read(path).unwrap())).collect()
}

/// The target is away while this happens.
pub fn without(setup: &Setup, target: &str, act: impl FnOnce()) {
    let (here, away) = (setup.path(target), setup.path("away"));
    fs::rename(&here, &away).unwrap();
    act();
    fs::rename(&away, &here).unwrap();
}

/// A snapshot of changed data that not every target gets.
pub fn degraded(setup: &Setup) {
    setup.change(5);
    setup.snapshot().fails_with(10);
}

/// Three snapshots in two epochs.
fn three_nights(setup: &Setup) {
    degraded(setup);
    std::thread::sleep(Duration::from_millis(1_100));
    setup.configure_directories("epoch = \"1s\"");
    degraded(setup);
    setup.configure_directories("");
    degraded(setup);
}

#[track_caller]
fn nothing_waits(setup: &Setup) {
    assert!(setup.spooled().is_empty(), "{:?}", setup.spooled());
    setup.no_plaintext(&[SECRET]);
}

/// The key of a pack that the newest snapshot of the first target needs, and its path at `target`.
fn a_pack(target: &Path) -> (String, std::path::PathBuf) {
    objects(target).into_iter().rfind(|(key, _)| key.contains("/packs/")).unwrap()
}

fn flip_a_byte(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::remove_file(path).unwrap();
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_target_that_was_down_is_caught_up_and_is_enough_to_restore() {
    let setup = Setup::new(2_000, 1_000);
    setup.configure_directories("");
    setup.snapshot().success();
    without(&setup, "b", || three_nights(&setup));
    let status = setup.provider(&["status"]).success().json();
    assert!(
        status.to_string().contains("lacks 3 of 4 snapshots, among them the newest (the oldest is"),
        "{status:#}"
    );
    let epochs = fs::read_dir(setup.path("a/gazette/abonnes/epochs")).unwrap().count();
    assert_eq!(epochs, 2);
    // The database is not read, and no key is needed.
    let hidden = setup.path("database-away");
    fs::rename(setup.database(), &hidden).unwrap();
    let report = sync(&setup).success().json();
    fs::rename(&hidden, setup.database()).unwrap();
    let (a, b) = (of_target(&report, "a"), of_target(&report, "b"));
    assert_eq!((&a["snapshots_copied"], &a["objects"]), (&0.into(), &0.into()), "{report:#}");
    assert_eq!(
        (&b["snapshots_copied"], &b["still_behind"], &b["error"]),
        (&3.into(), &0.into(), &Value::Null)
    );
    assert_eq!(content(&setup.path("a")), content(&setup.path("b")));
    assert_eq!(sound(&setup).len(), 4);
    nothing_waits(&setup);
    let status = setup.provider(&["status"]).success().json();
    for target in status["databases"][0]["targets"].as_array().unwrap() {
        assert_eq!(target["behind"], 0, "{status:#}");
        assert!(target["levels"]["stored"].is_string(), "{status:#}");
    }
    fs::remove_dir_all(setup.path("a")).unwrap();
    setup.restores_equal(&[&setup.target("b")]);
}

#[test]
fn where_nothing_is_behind_it_says_so() {
    let setup = Setup::new(50, 50);
    setup.configure_directories("");
    let people = || marbre(["--config"]).arg(setup.path("provider/marbre.toml")).arg("sync");
    let first = people().success();
    assert!(first.stdout.contains("nothing to do: there is no snapshot yet"), "{first}");
    setup.snapshot().success();
    let before = content(&setup.path("b"));
    let again = people().success();
    assert!(again.stdout.contains("nothing to do: every target holds all 1 snapshots"), "{again}");
    assert_eq!(content(&setup.path("b")), before);
    // Targets that lost everything are no reason to be content.
    for target in ["a", "b"] {
        fs::remove_dir_all(setup.path(target).join("gazette")).unwrap();
    }
    sync(&setup).fails_with(9).expect_stderr("receipts");
}

#[test]
fn each_of_two_targets_gets_what_the_other_has() {
    let setup = Setup::new(300, 500);
    setup.configure_directories("");
    setup.snapshot().success();
    without(&setup, "b", || degraded(&setup));
    without(&setup, "a", || degraded(&setup));
    // An object of a snapshot that was whole is gone, too.
    let (here, there) = (objects(&setup.path("a")), objects(&setup.path("b")));
    let both = here.into_iter().rfind(|(key, _)| key.contains("/packs/") && there.contains_key(key));
    let (lost, path) = both.unwrap();
    fs::remove_file(path).unwrap();
    setup.provider(&["verify", "abonnes"]).fails_with(9);
    sync(&setup).success();
    assert_eq!(content(&setup.path("a")), content(&setup.path("b")));
    assert!(objects(&setup.path("a")).contains_key(&lost));
    assert_eq!(sound(&setup).len(), 3);
    setup.provider(&["verify", "abonnes"]).success();
}

#[test]
fn a_damaged_copy_is_passed_over_where_another_is_whole() {
    let setup = Setup::new(300, 500);
    let targets = [("a", setup.target("a")), ("b", setup.target("b")), ("c", setup.target("c"))];
    let targets: Vec<(&str, &str)> = targets.iter().map(|(name, url)| (*name, url.as_str())).collect();
    setup.configure(&targets, "", "");
    degraded(&setup);
    fs::create_dir(setup.path("c")).unwrap();
    let (key, path) = a_pack(&setup.path("a"));
    flip_a_byte(&path);
    let outcome = sync(&setup).fails_with(9);
    let report = outcome.json();
    let damaged = &report["databases"][0]["damaged"];
    assert_eq!(damaged.as_array().unwrap().len(), 1, "{report:#}");
    assert_eq!(damaged[0]["target"], "a");
    assert!(damaged[0]["object"].as_str().unwrap().ends_with(&key), "{report:#}");
    assert_eq!(of_target(&report, "c")["still_behind"], 0, "{report:#}");
    assert_eq!(content(&setup.path("c")), content(&setup.path("b")));
    setup.restores_equal(&[&setup.target("c")]);
    nothing_waits(&setup);
}

#[test]
fn where_no_copy_is_whole_nothing_is_recorded() {
    let setup = Setup::new(300, 500);
    setup.configure_directories("");
    without(&setup, "b", || {
        degraded(&setup);
        flip_a_byte(&a_pack(&setup.path("a")).1);
    });
    let report = sync(&setup).fails_with(9).json();
    let b = of_target(&report, "b");
    assert_eq!((&b["snapshots_copied"], &b["still_behind"]), (&0.into(), &1.into()), "{report:#}");
    assert!(b["error"].as_str().unwrap().contains("no other target has a good copy"), "{report:#}");
    assert!(sound_receipts(&setup, &setup.path("b")).is_empty());
    let keys: Vec<String> = objects(&setup.path("b")).into_keys().collect();
    assert!(keys.iter().all(|key| key.ends_with("/epoch.age")), "{keys:?}");
    nothing_waits(&setup);
}

#[test]
fn what_lies_at_the_destination_is_never_changed() {
    let setup = Setup::new(300, 500);
    setup.configure_directories("");
    setup.snapshot().success();
    without(&setup, "b", || degraded(&setup));
    let (key, path) = a_pack(&setup.path("b"));
    fs::remove_file(&path).unwrap();
    fs::write(&path, b"other bytes").unwrap();
    let report = sync(&setup).fails_with(9).json();
    assert_eq!(fs::read(&path).unwrap(), b"other bytes");
    let damaged = report["databases"][0]["damaged"].as_array().unwrap();
    assert!(damaged.iter().any(|d| d["object"].as_str().unwrap().ends_with(&key)), "{report:#}");
    // The second snapshot refers to that pack, and so it is not there either.
    assert_eq!(of_target(&report, "b")["still_behind"], 2, "{report:#}");
    assert_eq!(objects(&setup.path("b")).keys().filter(|k| k.starts_with("receipts/")).count(), 2);
}

#[test]
fn a_bad_pack_of_the_right_size_does_not_complete_a_snapshot() {
    let setup = Setup::new(300, 500);
    setup.configure_directories("");
    setup.snapshot().success();
    without(&setup, "b", || degraded(&setup));
    flip_a_byte(&a_pack(&setup.path("b")).1);
    setup.provider(&["verify", "abonnes"]).fails_with(9);
    let report = sync(&setup).fails_with(9).json();
    assert_eq!(of_target(&report, "b")["snapshots_copied"], 0, "{report:#}");
    assert_eq!(objects(&setup.path("b")).keys().filter(|k| k.starts_with("receipts/")).count(), 2);
}

#[test]
fn a_damaged_receipt_is_not_copied() {
    let setup = Setup::new(50, 50);
    setup.configure_directories("");
    without(&setup, "b", || degraded(&setup));
    // An agent without memory, so that the targets are all there is.
    fs::remove_dir_all(setup.path("provider/state")).unwrap();
    let (_, receipt) = objects(&setup.path("a"))
        .into_iter()
        .find(|(k, _)| k.starts_with("receipts/") && k.ends_with(".json"))
        .unwrap();
    flip_a_byte(&receipt);
    let report = sync(&setup).fails_with(9).json();
    assert!(objects(&setup.path("b")).is_empty());
    assert!(
        report["databases"][0]["damaged"][0]["object"].as_str().unwrap().contains("receipts/"),
        "{report:#}"
    );
}

#[test]
fn records_of_drills_are_copied_too() {
    let setup = Setup::new(50, 50);
    setup.configure_directories("");
    setup.snapshot().success();
    without(&setup, "b", || {
        setup.provider(&["drill", "abonnes"]).run();
    });
    let drills = |target: &str| -> Vec<String> {
        objects(&setup.path(target)).into_keys().filter(|k| k.starts_with("drills/")).collect()
    };
    assert_eq!((drills("a").len(), drills("b").len()), (3, 0), "receipt, signature and page");
    let report = sync(&setup).success().json();
    assert_eq!(of_target(&report, "b")["records_copied"], 1, "{report:#}");
    assert_eq!(content(&setup.path("a")), content(&setup.path("b")));
}

/// Stops a run as soon as so many objects have come to `b`; returns whether it was stopped before its end.
fn stopped_at(setup: &Setup, arrived: usize, signal: Signal) -> bool {
    let mut run = sync(setup).start();
    // Before the first stage nobody listens for signals yet.
    let copies = |stderr: String| stderr.contains("\"stage\":") && objects(&setup.path("b")).len() >= arrived;
    while run.is_running() && !copies(run.stderr()) {
        std::thread::sleep(Duration::from_micros(200));
    }
    run.signal(signal);
    let outcome = run.wait();
    match signal {
        Signal::KILL => assert!(matches!(outcome.code(), None | Some(0)), "{outcome}"),
        _ => assert!(matches!(outcome.code(), Some(130 | 0)), "{outcome}"),
    }
    outcome.code() != Some(0)
}

#[test]
fn killed_or_interrupted_at_any_point_nothing_is_half_recorded() {
    let setup = Setup::new(400, 5_000);
    setup.configure_directories("");
    without(&setup, "b", || (0..5).for_each(|_| degraded(&setup)));
    let all = objects(&setup.path("a")).len();
    for signal in [Signal::KILL, Signal::INT, Signal::TERM] {
        let mut stopped = 0;
        for arrived in (0..all).step_by(short_or_long(4, 1)) {
            stopped += usize::from(stopped_at(&setup, arrived, signal));
            // Whatever has a receipt is whole and signed.
            sound_receipts(&setup, &setup.path("b"));
            setup.no_plaintext(&[SECRET]);
            if signal != Signal::KILL {
                assert!(setup.spooled().is_empty(), "{:?}", setup.spooled());
            }
        }
        assert!(stopped > 0, "it was always faster than {signal:?}");
        sync(&setup).success();
        assert_eq!(content(&setup.path("a")), content(&setup.path("b")));
        nothing_waits(&setup);
        fs::remove_dir_all(setup.path("b").join("gazette")).unwrap();
    }
}

#[test]
fn it_runs_beside_a_snapshot_and_not_beside_another_sync_or_a_prune() {
    let setup = Setup::new(50, 50);
    setup.configure_directories("[database.abonnes.retention]\nkeep_last = 1");
    setup.snapshot().success();
    sync(&setup).success();
    let lock = |of_sync: bool| {
        let locks = fs::read_dir(setup.path("provider/state/locks")).unwrap();
        let mine = |p: &PathBuf| p.extension().is_some_and(|e| e == "sync") == of_sync;
        let path = locks.flatten().map(|e| e.path()).find(mine).unwrap();
        let lock = fs::File::open(path).unwrap();
        lock.lock().unwrap();
        lock
    };
    let snapshot = lock(false);
    sync(&setup).success();
    setup.provider(&["prune"]).fails_with(7);
    drop(snapshot);
    let other = lock(true);
    sync(&setup).fails_with(7);
    setup.provider(&["prune"]).fails_with(7);
    setup.snapshot().success();
    drop(other);
    sync(&setup).success();
}

#[test]
fn a_target_that_is_still_down_is_a_failure_and_does_not_stop_the_others() {
    let setup = Setup::new(50, 50);
    let targets = [("a", setup.target("a")), ("b", setup.target("b")), ("c", setup.target("c"))];
    let targets: Vec<(&str, &str)> = targets.iter().map(|(name, url)| (*name, url.as_str())).collect();
    setup.configure(&targets, "", "");
    without(&setup, "b", || degraded(&setup));
    let report = sync(&setup).fails_with(8).json();
    assert_eq!(of_target(&report, "b")["still_behind"], 0, "{report:#}");
    let away = of_target(&report, "c");
    assert_eq!(away["still_behind"], Value::Null, "{report:#}");
    assert!(away["remedy"].is_string(), "{report:#}");
    assert_eq!(content(&setup.path("a")), content(&setup.path("b")));
}

/// A bucket as one of the profiles sees it.
fn url(server: &SeaweedFs, endpoint: &str, bucket: &str, profile: &str) -> String {
    let file = server.location(bucket, "p", profile).credentials_file.unwrap();
    format!("s3://{bucket}/p?endpoint={endpoint}&profile={profile}&credentials_file={}", file.display())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_is_caught_up_with_rights_to_put_get_and_list() {
    let server = SeaweedFs::shared().await;
    let bucket = server.bucket(true).await;
    let proxy = FaultProxy::start(server.address(), Mode::Pass).await;
    let setup = Setup::new(1_000, 2_000);
    let configure = |url: &str| setup.configure(&[("a", &setup.target("a")), ("s3", url)], "", "");
    let as_user = |profile| url(&server, &proxy.endpoint(), &bucket, profile);
    configure(&as_user(LIMITED));
    setup.snapshot().success();
    configure(&as_user(UNKNOWN_KEY));
    (0..3).for_each(|_| degraded(&setup));
    for profile in [UNKNOWN_KEY, PUT_ONLY] {
        configure(&as_user(profile));
        let outcome = sync(&setup).fails_with(8);
        let report = outcome.json();
        let refused = of_target(&report, "s3");
        assert_eq!(refused["still_behind"], Value::Null, "{report:#}");
        assert!(refused["remedy"].as_str().unwrap().contains("may put, get and list"), "{report:#}");
        assert!(!outcome.to_string().contains("hunter2"), "{outcome}");
    }
    configure(&as_user(LIMITED));
    // Every third answer is an error, and is asked for again.
    proxy.set(Mode::StatusEvery(3, 503));
    let report = sync(&setup).success().json();
    assert_eq!(of_target(&report, "s3")["snapshots_copied"], 3, "{report:#}");
    proxy.set(Mode::Pass);
    assert_eq!(of_target(&sync(&setup).success().json(), "s3")["objects"], 0);
    setup.provider(&["verify", "abonnes"]).success();
    nothing_waits(&setup);
    setup.restores_equal(&[&as_user(LIMITED)]);
    // And the other way round: a new disk gets everything from the bucket.
    let before = content(&setup.path("a"));
    fs::remove_dir_all(setup.path("a").join("gazette")).unwrap();
    sync(&setup).success();
    assert_eq!(content(&setup.path("a")), before);
    one_chain(sound_receipts(&setup, &setup.path("a")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_breaks_in_the_middle_is_still_behind() {
    let server = SeaweedFs::shared().await;
    let bucket = server.bucket(false).await;
    let proxy = FaultProxy::start(server.address(), Mode::Pass).await;
    let setup = Setup::new(400, 5_000);
    let s3 = url(&server, &proxy.endpoint(), &bucket, LIMITED);
    setup.configure_directories("");
    without(&setup, "b", || (0..4).for_each(|_| degraded(&setup)));
    setup.configure(&[("a", &setup.target("a")), ("s3", &s3)], "", "");
    let run = sync(&setup).start();
    while !run.stderr().contains("\"stage\":\"copy\"") {
        std::thread::sleep(Duration::from_millis(1));
    }
    proxy.set(Mode::StatusEvery(1, 500));
    let report = run.wait().expect_code(10).json();
    let broken = of_target(&report, "s3");
    assert!(broken["still_behind"].as_u64().unwrap() > 0, "{report:#}");
    assert!(broken["remedy"].as_str().unwrap().contains("Check that the target is up"), "{report:#}");
    nothing_waits(&setup);
    proxy.set(Mode::Pass);
    sync(&setup).success();
    setup.restores_equal(&[&s3]);
}
