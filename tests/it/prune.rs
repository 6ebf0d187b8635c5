//! Retention through the command line: what is kept restores, what is deleted is recorded, what refuses is left.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;
use std::time::Duration;

use aws_sdk_s3::primitives::DateTime;
use aws_sdk_s3::types::{ObjectLockRetention, ObjectLockRetentionMode};
use rustix::process::Signal;
use serde_json::Value;
use sha2::Digest;

use crate::support::marbre::{Marbre, marbre};
use crate::support::postgres::output_with_input;
use crate::support::s3::{ADMIN, LIMITED, SeaweedFs};
use crate::support::short_or_long;
use crate::support::sqlite_setup::{Setup, files, objects, rows, sound_receipts};
use crate::sync::{content, degraded, of_target, sync, without};

const RULES: &str = "[database.abonnes.retention]\nkeep_last = 2\ngrace = \"1s\"\n";

/// Two directories with five snapshots, and these rules.
fn five(rules: &str) -> Setup {
    let setup = Setup::new(500, 400);
    setup.configure_directories(rules);
    snapshots(&setup, 5);
    setup
}

fn snapshots(setup: &Setup, number: usize) {
    for _ in 0..number {
        setup.change(50);
        setup.snapshot().success();
    }
}

fn prune(setup: &Setup) -> Marbre {
    setup.provider(&["prune", "abonnes"])
}

fn report(document: &Value) -> &Value {
    &document["databases"][0]
}

/// Prunes until the time of grace of what was noted is over: the time between two runs counts for half of it at most.
fn after_grace(setup: &Setup) -> Value {
    for _ in 0..2 {
        std::thread::sleep(Duration::from_millis(600));
        prune(setup).run();
    }
    prune(setup).run().json()
}

/// Everything is as the receipts say, and each of these targets restores every snapshot that it holds.
fn sound(setup: &Setup, targets: &[(&str, &str)]) {
    setup.provider(&["verify", "abonnes"]).success();
    let listed = setup.provider(&["list", "abonnes"]).success().json();
    for (name, url) in targets {
        let held = |s: &&Value| s["targets"].as_array().unwrap().iter().any(|t| t["name"] == *name);
        for snapshot in listed["snapshots"].as_array().unwrap().iter().filter(held) {
            let snapshot = snapshot["snapshot"].as_str().unwrap();
            let to = setup.path(&format!("restored-{:08x}.db", rand::random::<u32>()));
            setup.restore(snapshot, &[url], to.to_str().unwrap()).success();
            assert!(!rows(&to).is_empty());
        }
        setup.restores_equal(&[url]);
    }
}

/// The two directories, all that they hold.
fn both_sound(setup: &Setup) {
    sound(setup, &[("a", &setup.target("a")), ("b", &setup.target("b"))]);
}

/// The names of the receipts at a directory.
fn receipts(setup: &Setup, target: &str) -> Vec<String> {
    let all = objects(&setup.path(target)).into_keys();
    all.filter(|key| key.starts_with("receipts/") && key.ends_with(".json")).collect()
}

#[test]
fn what_is_kept_restores_from_every_target() {
    let setup = five(RULES);
    let before = files(&setup.path("a"));
    let dry = prune(&setup).arg("--dry-run").success().json();
    assert_eq!(files(&setup.path("a")), before);
    assert_eq!(report(&dry)["dry_run"], true);
    assert_eq!(report(&dry)["deleted"].as_array().unwrap().len(), 2, "{dry}");

    let done = prune(&setup).success().json();
    assert_eq!(report(&done)["kept"], report(&dry)["kept"]);
    assert_eq!(report(&done)["targets"][0]["receipts"], 2);
    both_sound(&setup);
    let manifests =
        |target: &str| objects(&setup.path(target)).into_keys().filter(|k| k.contains("/manifests/")).count();
    assert_eq!(manifests("b"), 5, "their time of grace is not over");
    let swept = after_grace(&setup);
    assert_eq!((manifests("a"), manifests("b")), (3, 3), "{swept}");
    both_sound(&setup);
    setup.provider(&["status"]).success();
    // The next snapshot refers to what is left, and everything is sound again.
    snapshots(&setup, 1);
    both_sound(&setup);
}

#[test]
fn without_rules_only_what_no_receipt_names_goes() {
    let setup = five("");
    let before = files(&setup.path("a"));
    let said = prune(&setup).success().json();
    assert!(report(&said)["note"].as_str().unwrap().contains("no rule deletes a snapshot"), "{said}");
    assert_eq!(files(&setup.path("a")), before);
    let wanted = objects(&setup.path("a"));
    let pack = wanted.keys().find(|key| key.contains("/packs/")).unwrap();
    let orphan = setup.path("a").join("gazette/abonnes").join(pack).with_file_name("00.zst.age");
    std::fs::write(&orphan, [7; 5000]).unwrap();
    let dry = prune(&setup).arg("--dry-run").success().json();
    let target = &report(&dry)["targets"][0];
    assert_eq!((&target["waiting"], &target["waiting_bytes"]), (&1.into(), &5000.into()), "{dry}");
    prune(&setup).success();
    let status = setup.provider(&["status"]).run().json();
    assert_eq!(status["databases"][0]["targets"][0]["unneeded_bytes"], 5000, "{status}");
    let doctor = setup.provider(&["doctor"]).run().json();
    let found =
        doctor["checks"].as_array().unwrap().iter().find(|c| c["name"] == "unneeded objects").unwrap();
    assert_eq!(found["found"], "4.9 KiB at a wait for the end of `grace`", "{doctor}");
    assert!(orphan.exists(), "its time of grace is not over");
    both_sound(&setup);
}

/// Kills a prune as soon as so much has changed at `a`; returns whether that was before its end.
fn killed_at(setup: &Setup, changes: usize) -> bool {
    let before = objects(&setup.path("a"));
    let changed = || {
        let now = objects(&setup.path("a"));
        let gone = before.keys().filter(|key| !now.contains_key(*key)).count();
        gone + now.keys().filter(|key| !before.contains_key(*key)).count()
    };
    let mut run = prune(setup).start();
    while run.is_running() && changed() < changes {
        std::thread::sleep(Duration::from_micros(100));
    }
    run.signal(Signal::KILL);
    run.wait().code() != Some(0)
}

#[test]
fn a_prune_that_is_killed_at_any_point_is_finished_by_the_next() {
    let setup = Setup::new(300, 400);
    setup.configure_directories(RULES);
    let moments: Vec<usize> = (0..16).step_by(short_or_long(3, 1)).collect();
    let mut killed = 0;
    for &changes in &moments {
        snapshots(&setup, 4);
        killed += usize::from(killed_at(&setup, changes));
        // Whatever is still listed is whole at either target, and nothing is missed.
        sound_receipts(&setup, &setup.path("a"));
        sound_receipts(&setup, &setup.path("b"));
        setup.provider(&["verify", "abonnes"]).success();
        setup.provider(&["status"]).success();
        prune(&setup).success();
        std::thread::sleep(Duration::from_millis(600));
        prune(&setup).success();
        std::thread::sleep(Duration::from_millis(600));
        killed += usize::from(killed_at(&setup, changes));
        setup.provider(&["verify", "abonnes"]).success();
        prune(&setup).success();
        prune(&setup).success();
        for target in ["a", "b"] {
            let left = objects(&setup.path(target));
            assert_eq!(left.keys().filter(|k| k.starts_with("receipts/")).count(), 6, "{left:?}");
            assert_eq!(left.keys().filter(|k| k.contains("/manifests/")).count(), 3, "{left:?}");
        }
    }
    // Half of them: each moment is tried twice.
    assert!(killed >= moments.len(), "only {killed} were killed before their end");
    both_sound(&setup);
}

#[test]
fn what_was_pruned_while_a_target_was_away_comes_back_nowhere() {
    let setup = five(RULES);
    without(&setup, "b", || {
        prune(&setup).fails_with(10);
        degraded(&setup);
    });
    assert_eq!((receipts(&setup, "a").len(), receipts(&setup, "b").len()), (4, 5));
    let pruned: Vec<String> =
        receipts(&setup, "b").into_iter().filter(|key| !receipts(&setup, "a").contains(key)).collect();
    assert_eq!(pruned.len(), 2);
    let synced = sync(&setup).success().json();
    assert_eq!(of_target(&synced, "a")["objects"], 0, "{synced:#}");
    assert_eq!(of_target(&synced, "b")["snapshots_copied"], 1, "{synced:#}");
    assert_eq!(of_target(&synced, "b")["records_copied"], 1, "the record of the prune: {synced:#}");
    let status = setup.provider(&["status"]).success().json();
    assert!(!status.to_string().contains("lacks"), "{status:#}");
    both_sound(&setup);
    // A new target gets what stays, from whichever of the others, also while the only target that holds back nothing is away.
    let targets = [("a", setup.target("a")), ("b", setup.target("b")), ("c", setup.target("c"))];
    let targets: Vec<(&str, &str)> = targets.iter().map(|(name, url)| (*name, url.as_str())).collect();
    fs::create_dir(setup.path("c")).unwrap();
    setup.configure(&targets, "", RULES);
    without(&setup, "a", || drop(sync(&setup).fails_with(8)));
    assert_eq!(receipts(&setup, "c"), receipts(&setup, "a"));
    // The next prune makes up for it, and deletes nothing else: the newest two are others now.
    let done = prune(&setup).success().json();
    let gone: Vec<u64> = (0..3).map(|t| report(&done)["targets"][t]["receipts"].as_u64().unwrap()).collect();
    assert_eq!(gone, [1, 3, 1], "{done:#}");
    after_grace(&setup);
    let synced = sync(&setup).success().json();
    assert!(["a", "b", "c"].iter().all(|t| of_target(&synced, t)["objects"] == 0), "{synced:#}");
    for target in ["b", "c"] {
        assert!(pruned.iter().all(|key| !receipts(&setup, target).contains(key)));
    }
    assert_eq!(content(&setup.path("a")), content(&setup.path("b")));
    sound(&setup, &targets);
    let status = setup.provider(&["status"]).success().json();
    assert!(!status.to_string().contains("lacks"), "{status:#}");
}

#[test]
fn records_are_checked_and_the_chain_is_followed_with_stock_tools() {
    let setup = five(RULES);
    prune(&setup).success();
    snapshots(&setup, 2);
    prune(&setup).success();
    let verify = |record: &std::path::Path, bytes: &[u8]| {
        let mut command = Command::new("ssh-keygen");
        command.args(["-Y", "verify", "-I", "agent", "-n", "prune-record@marbre", "-f"]);
        command.arg(setup.path("publisher/allowed_signers"));
        command.arg("-s").arg(format!("{}.sig", record.display()));
        output_with_input(&mut command, bytes).status.success()
    };
    let at_b = objects(&setup.path("b"));
    let records: Vec<_> =
        at_b.iter().filter(|(k, _)| k.starts_with("prunes/") && k.ends_with(".json")).collect();
    assert_eq!(records.len(), 2);
    // Each link: its place, the hash of the one before, its own hash.
    let mut chain: BTreeMap<u64, (Option<String>, String)> = BTreeMap::new();
    for (_, path) in &records {
        let bytes = fs::read(path).unwrap();
        assert!(verify(path, &bytes));
        assert!(!verify(path, &[&bytes[..], b" "].concat()));
        let record: Value = serde_json::from_slice(&bytes).unwrap();
        assert!(!record.to_string().contains("subscriber"), "no table is named");
        for pruned in record["snapshots"].as_array().unwrap() {
            let name = format!("receipts/{}.json", pruned["snapshot"].as_str().unwrap());
            assert!(!at_b.contains_key(&name), "{name} is recorded as removed");
            let previous = pruned["previous"].as_str().map(str::to_owned);
            let hash = pruned["receipt"].as_str().unwrap().to_owned();
            assert!(chain.insert(pruned["sequence"].as_u64().unwrap(), (previous, hash)).is_none());
        }
    }
    for (_, bytes) in sound_receipts(&setup, &setup.path("b")) {
        let receipt: Value = serde_json::from_slice(&bytes).unwrap();
        let previous = receipt["previous"].as_str().map(str::to_owned);
        let link = (previous, hex::encode(sha2::Sha256::digest(&bytes)));
        assert!(chain.insert(receipt["sequence"].as_u64().unwrap(), link).is_none());
    }
    assert_eq!(chain.keys().copied().collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6, 7]);
    let mut before = None;
    for (sequence, (previous, hash)) in chain {
        assert_eq!(previous, before, "number {sequence}");
        before = Some(hash);
    }
    // A record that somebody changed covers for nothing.
    fs::write(records[0].1, b"{}").unwrap();
    setup.provider(&["verify", "abonnes"]).fails_with(9).expect_stderr("prunes/");
}

#[test]
fn people_are_told_why_each_snapshot_stays() {
    let setup = five(RULES);
    let people = |args: &[&str]| marbre(["--config"]).arg(setup.path("provider/marbre.toml")).args(args);
    let said = people(&["prune", "--dry-run"]).success().stdout;
    let lines: Vec<&str> = said.lines().collect();
    let head = "gazette/abonnes: 3 snapshots kept, 2 snapshots deleted (dry run: nothing was changed)";
    assert_eq!(lines[0], head, "{said}");
    let mut reasons: Vec<(&str, &str)> =
        lines[1..6].iter().map(|line| (line[..8].trim(), line[10..].split_once("  ").unwrap().1)).collect();
    // Snapshots of one second have no order.
    reasons.sort_unstable();
    let gone = ("delete", "no rule keeps it");
    let begins = ("keep", "begins the epoch of the newest sound");
    assert_eq!(reasons, [gone, gone, begins, ("keep", "last"), ("keep", "newest; last")], "{said}");
    assert!(
        lines[6].starts_with("  target a: 2 receipts, 0 objects (0 B), waiting for the end of `grace`: "),
        "{said}"
    );
    // It asks for no lock; what changes something does.
    let lock = fs::File::open(setup.path("provider/state/locks/gazette.abonnes.snapshot")).unwrap();
    lock.lock().unwrap();
    prune(&setup).arg("--dry-run").success();
    prune(&setup).fails_with(7);
    drop(lock);
    people(&["prune", "elsewhere"]).fails_with(5);
}

#[test]
fn a_drill_that_passed_outlives_the_rules() {
    let setup = five(RULES);
    let drill = setup.provider(&["drill", "abonnes"]).success().json();
    let proven = format!("receipts/{}.json", drill["snapshot"].as_str().unwrap());
    for _ in 0..3 {
        snapshots(&setup, 3);
        prune(&setup).success();
        for target in ["a", "b"] {
            assert!(receipts(&setup, target).contains(&proven));
        }
    }
    let dry = prune(&setup).arg("--dry-run").success().json();
    assert!(report(&dry)["kept"].to_string().contains("newest that a restore has proven"), "{dry:#}");
    after_grace(&setup);
    both_sound(&setup);
}

#[test]
fn another_host_may_prune_while_snapshots_are_made() {
    let setup = five(RULES);
    let config = fs::read_to_string(setup.path("provider/marbre.toml")).unwrap();
    let elsewhere = setup.path("provider/elsewhere.toml");
    fs::write(&elsewhere, config.replace("state_dir = \"state\"", "state_dir = \"elsewhere\"")).unwrap();
    let prune = || marbre(["--json", "--config"]).arg(&elsewhere).args(["prune", "abonnes"]).success();
    std::thread::scope(|scope| {
        let pruning = scope.spawn(|| {
            (0..12).for_each(|_| {
                prune();
                std::thread::sleep(Duration::from_millis(200));
            })
        });
        while !pruning.is_finished() {
            snapshots(&setup, 1);
        }
    });
    both_sound(&setup);
    setup.provider(&["status"]).success();
}

#[test]
fn a_target_that_is_away_is_caught_up_later() {
    let setup = five(RULES);
    let (b, away) = (setup.path("b"), setup.path("away"));
    std::fs::rename(&b, &away).unwrap();
    let done = prune(&setup).fails_with(10).json();
    assert!(report(&done)["targets"][1]["error"].is_string(), "{done}");
    std::fs::rename(&away, &b).unwrap();
    sound(&setup, &[]);
    let done = prune(&setup).success().json();
    assert_eq!(report(&done)["targets"][1]["receipts"], 2, "{done}");
    sound(&setup, &[("b", &setup.target("b"))]);
}

fn url(server: &SeaweedFs, bucket: &str, profile: &str) -> String {
    let file = server.location(bucket, "marbre", profile).credentials_file.unwrap();
    format!(
        "s3://{bucket}/marbre?endpoint={}&region=us-east-1&profile={profile}&credentials_file={}",
        server.endpoint(),
        file.display()
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn credentials_without_the_right_to_delete_are_reported() {
    let server = SeaweedFs::shared().await;
    for versioned in [false, true] {
        let bucket = server.bucket(versioned).await;
        let setup = Setup::new(500, 400);
        let (a, limited) = (setup.target("a"), url(&server, &bucket, LIMITED));
        setup.configure(&[("a", &a), ("s3", &limited)], "", RULES);
        snapshots(&setup, 5);
        let done = prune(&setup).fails_with(10).json();
        assert_eq!(report(&done)["targets"][0]["receipts"], 2, "{done}");
        assert_eq!(report(&done)["targets"][1]["locked"], 2, "{done}");
        sound(&setup, &[("a", &a), ("s3", &limited)]);
        // With the right, everything is done.
        setup.configure(&[("a", &a), ("s3", &url(&server, &bucket, ADMIN))], "", RULES);
        let done = prune(&setup).success().json();
        assert_eq!(report(&done)["targets"][1]["receipts"], 2, "{done}");
        after_grace(&setup);
        sound(&setup, &[("a", &a), ("s3", &url(&server, &bucket, ADMIN))]);
        let versions = server.admin().list_object_versions().bucket(&bucket).send().await.unwrap();
        assert!(versions.delete_markers().is_empty(), "nothing is only hidden");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_locked_object_is_left_until_its_lock_ends() {
    let server = SeaweedFs::shared().await;
    let bucket = format!("test-{:016x}", rand::random::<u64>());
    let admin = server.admin();
    admin.create_bucket().bucket(&bucket).object_lock_enabled_for_bucket(true).send().await.unwrap();
    let setup = Setup::new(500, 400);
    let s3 = url(&server, &bucket, ADMIN);
    setup.configure(&[("a", &setup.target("a")), ("s3", &s3)], "", RULES);
    snapshots(&setup, 5);
    let listed = admin.list_objects_v2().bucket(&bucket).send().await.unwrap();
    let until = jiff::Timestamp::now().as_second() + 20;
    for object in listed.contents().iter().filter(|o| o.key().unwrap().contains("/receipts/")) {
        let retention = ObjectLockRetention::builder()
            .mode(ObjectLockRetentionMode::Compliance)
            .retain_until_date(DateTime::from_secs(until))
            .build();
        let request = admin.put_object_retention().bucket(&bucket).key(object.key().unwrap());
        request.retention(retention).send().await.unwrap();
    }
    let done = prune(&setup).fails_with(10).json();
    assert_eq!(report(&done)["targets"][1]["locked"], 2, "{done}");
    sound(&setup, &[("s3", &s3)]);
    let left = until - jiff::Timestamp::now().as_second() + 1;
    tokio::time::sleep(Duration::from_secs(left.max(0).unsigned_abs())).await;
    let done = prune(&setup).success().json();
    assert_eq!(report(&done)["targets"][1]["receipts"], 2, "{done}");
    sound(&setup, &[("s3", &s3)]);
}
