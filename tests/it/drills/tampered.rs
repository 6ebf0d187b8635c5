//! Targets that were changed, or that show an old state: a drill must say so, and must say where.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use super::failed_at;
use crate::support::sqlite_setup::{Setup, objects};

struct Planted {
    setup: Setup,
    first: Value,
    second: Value,
}

/// Two snapshots, in two epochs where asked for.
fn planted(epochs: bool) -> Planted {
    let setup = Setup::new(400, 400);
    setup.configure_directories("");
    let first = setup.snapshot().success().json();
    setup.change(3);
    if epochs {
        setup.configure_directories("epoch = \"1s\"");
        std::thread::sleep(std::time::Duration::from_millis(1100));
    }
    let second = setup.snapshot().success().json();
    if epochs {
        setup.configure_directories("");
    }
    Planted { setup, first, second }
}

impl Planted {
    /// The objects of one kind that this snapshot's epoch has at target `a`.
    fn of_kind(&self, snapshot: &Value, kind: &str) -> Vec<(String, PathBuf)> {
        let prefix = format!("epochs/{}/{kind}", snapshot["epoch"].as_str().unwrap());
        objects(&self.setup.path("a")).into_iter().filter(|(key, _)| key.starts_with(&prefix)).collect()
    }

    fn drill(&self) -> crate::support::marbre::Outcome {
        self.setup.provider(&["drill", "abonnes", "--target", "a"]).fails_with(9)
    }
}

#[test]
fn a_flipped_pack_is_caught_forgotten_and_sent_again() {
    let planted = planted(false);
    let (key, path) = planted.of_kind(&planted.second, "packs/").remove(0);
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&path, bytes).unwrap();
    let outcome = planted.drill();
    failed_at(&outcome, "fetch", &[&key, "the object's SHA-256 is"]);
    let status = planted.setup.provider(&["status"]).success().json();
    let database = &status["databases"][0];
    assert!(database["targets"][0]["levels"]["damaged"].is_string(), "{database:#}");
    assert!(database["incidents"].to_string().contains("FAILED at stage fetch"), "{database:#}");
    // The other target is not concerned, and the next snapshot does not lean on the bad pack.
    planted.setup.provider(&["drill", "abonnes", "--target", "b"]).success();
    planted.setup.snapshot().success();
    let report = planted.setup.provider(&["drill", "abonnes", "--target", "a"]).success().json();
    assert_eq!(report["level"], "restored");
}

#[test]
fn proof_is_taken_back_when_damage_is_found_later() {
    let planted = planted(false);
    let levels = |setup: &Setup| {
        setup.provider(&["status"]).success().json()["databases"][0]["targets"][0]["levels"].clone()
    };
    planted.setup.provider(&["drill", "abonnes", "--target", "a"]).success();
    assert!(levels(&planted.setup)["restored"].is_string());
    std::thread::sleep(std::time::Duration::from_millis(1100));
    let (_, path) = planted.of_kind(&planted.second, "packs/").remove(0);
    fs::remove_file(&path).unwrap();
    planted.setup.provider(&["verify", "abonnes"]).fails_with(9);
    assert_eq!(levels(&planted.setup)["restored"], Value::Null);
    // Also for somebody who only sees the receipts, once a drill has failed for it.
    planted.drill();
    fs::remove_dir_all(planted.setup.path("provider/state")).unwrap();
    assert_eq!(levels(&planted.setup)["restored"], Value::Null);
}

#[test]
fn a_pack_of_another_snapshot_is_caught() {
    let planted = planted(false);
    let packs = planted.of_kind(&planted.second, "packs/");
    assert!(packs.len() >= 2, "{packs:?}");
    fs::copy(&packs[0].1, &packs[1].1).unwrap();
    failed_at(&planted.drill(), "fetch", &[&packs[1].0]);
}

#[test]
fn a_manifest_of_another_epoch_is_caught() {
    let planted = planted(true);
    assert_ne!(planted.first["epoch"], planted.second["epoch"]);
    let old = planted.of_kind(&planted.first, "manifests/").remove(0);
    let new = planted.of_kind(&planted.second, "manifests/").remove(0);
    fs::copy(&old.1, &new.1).unwrap();
    failed_at(&planted.drill(), "fetch", &[&new.0]);
}

#[test]
fn an_old_receipt_that_is_shown_as_the_newest_is_caught() {
    let planted = planted(false);
    let newest = planted.second["snapshot"].as_str().unwrap();
    let files = objects(&planted.setup.path("a"));
    let [receipt, signature] = ["json", "json.sig"].map(|s| files[&format!("receipts/{newest}.{s}")].clone());
    let kept = [&receipt, &signature].map(|path| fs::read(path).unwrap());
    for path in [&receipt, &signature] {
        fs::remove_file(path).unwrap();
    }
    failed_at(&planted.drill(), "receipts", &[newest, "does not show it", "an old state is being shown"]);
    // The older receipt under the newest one's name is worth as little.
    let first = planted.first["snapshot"].as_str().unwrap();
    fs::copy(&files[&format!("receipts/{first}.json")], &receipt).unwrap();
    fs::copy(&files[&format!("receipts/{first}.json.sig")], &signature).unwrap();
    let outcome = planted.setup.provider(&["drill", "abonnes", "--target", "a"]).run();
    assert_ne!(outcome.code(), Some(0), "{outcome}");
    // As it was, it passes.
    for (path, bytes) in [&receipt, &signature].into_iter().zip(kept) {
        fs::write(path, bytes).unwrap();
    }
    planted.setup.provider(&["drill", "abonnes", "--target", "a"]).success();
}

#[test]
fn an_unreachable_target_is_a_failed_drill_and_not_a_skipped_one() {
    let planted = planted(false);
    fs::rename(planted.setup.path("a"), planted.setup.path("away")).unwrap();
    let outcome = planted.setup.provider(&["drill", "abonnes", "--target", "a"]).run();
    assert!(matches!(outcome.code(), Some(8 | 9)), "{outcome}");
    let report = outcome.json();
    assert_eq!(
        (&report["passed"], &report["failed_stage"]),
        (&false.into(), &"receipts".into()),
        "{report:#}"
    );
    // What is recorded says so too, at the target that is there.
    let drill = report["drill"].as_str().unwrap();
    let receipt =
        fs::read(objects(&planted.setup.path("b"))[&format!("drills/{drill}.json")].clone()).unwrap();
    let receipt: Value = serde_json::from_slice(&receipt).unwrap();
    assert_eq!((&receipt["level"], &receipt["failure"]["stage"]), (&Value::Null, &"receipts".into()));
}
