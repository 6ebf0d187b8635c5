//! The archive of a database that left the configuration: it is shown, counted, and deleted by a signed record, after which a
//! new archive of that name is no surprise to anybody.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use crate::heal::decisions;
use crate::support::marbre::{Marbre, marbre};
use crate::support::s3::{ADMIN, LIMITED, SeaweedFs};
use crate::support::sqlite_setup::{Setup, files, objects, rows};

/// Two directories with three snapshots, a drill and a prune, whose database then leaves the configuration.
fn left() -> Setup {
    let setup = Setup::new(300, 100);
    setup.configure_directories(
        "[database.abonnes.drills]\nevery = \"8d\"\n[database.abonnes.retention]\nkeep_last = 2\ngrace = \"1s\"\n",
    );
    for _ in 0..4 {
        setup.change(50);
        setup.snapshot().success();
    }
    setup.provider(&["drill", "abonnes", "--target", "a"]).success();
    setup.provider(&["prune", "abonnes"]).success();
    leave(&setup);
    setup
}

fn config(setup: &Setup, from: &str, to: &str) {
    let path = setup.path("provider/marbre.toml");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace(from, to)).unwrap();
}

fn leave(setup: &Setup) {
    config(setup, "[database.abonnes", "[database.boutique");
}

fn come_back(setup: &Setup) {
    config(setup, "[database.boutique", "[database.abonnes");
}

fn delete(setup: &Setup, more: &[&str]) -> Marbre {
    let args = ["delete-archive", "gazette/abonnes", "--why", "the contract ended", "--by", "claire"];
    setup.provider(&args).args(more)
}

fn text(setup: &Setup, args: &[&str]) -> String {
    let run = marbre(["--config"]).arg(setup.path("provider/marbre.toml")).args(args);
    run.env("COLUMNS", "80").run().stdout
}

/// What is left at a directory: the folders, without the record and its signature.
fn left_at(target: &Path) -> BTreeSet<String> {
    objects(target).into_keys().map(|key| key.split('/').next().unwrap().to_owned()).collect()
}

/// Everything is as it should be, also for who remembers nothing.
#[track_caller]
fn sound(setup: &Setup) {
    setup.provider(&["verify", "abonnes"]).success();
    let status = setup.provider(&["status"]).success().json();
    assert_eq!(status["databases"][0]["incidents"], json!([]), "{status:#}");
    let listed = setup.provider(&["list", "abonnes"]).success().json();
    assert_eq!(listed["problems"], json!([]), "{listed:#}");
    let watched = setup.watch(&["a", "b"], &[]).success().json();
    assert_eq!(watched["databases"][0]["incidents"], json!([]), "{watched:#}");
    setup.restores_equal(&[&setup.target("a")]);
}

/// What must not be deleted is not, and nothing is changed by the attempt.
#[track_caller]
fn refused_as_long_as_it_must_be(setup: &Setup) {
    // Nobody is at a terminal, and nobody has said yes.
    let before = [objects(&setup.path("a")), objects(&setup.path("b"))];
    let refused = delete(setup, &[]).fails_with(4).json();
    assert!(refused["cause"].as_str().unwrap().contains("target a: 3 snapshots, "), "{refused:#}");
    come_back(setup);
    assert!(delete(setup, &["--yes"]).fails_with(4).stdout.contains("is in the configuration"));
    leave(setup);
    delete(setup, &["--yes", "--target", "c"]).fails_with(2);
    setup.provider(&["delete-archive", "gazette/nothing", "--why", "x", "--yes"]).fails_with(5);
    assert!([objects(&setup.path("a")), objects(&setup.path("b"))] == before, "nothing was changed");
}

#[test]
fn an_archive_that_left_the_configuration_is_shown_deleted_and_begins_anew() {
    let setup = left();
    let last = 4;
    let shown = setup.provider(&["status"]).success().json();
    assert_eq!(shown["left"][0]["database"], "abonnes");
    assert_eq!(shown["left"][0]["targets"], json!(["a", "b"]));
    let status = text(&setup, &["status"]);
    let folded = status.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(folded.contains("gazette/abonnes: not in the configuration; last snapshot 2"), "{status}");
    assert!(folded.contains("its archive is still at a, b"), "{status}");
    let doctor = setup.provider(&["doctor"]).run().json();
    let check = doctor["checks"].as_array().unwrap().iter().find(|c| c["name"] == "archive").unwrap();
    assert_eq!((&check["state"], &check["group"]), (&json!("ok"), &json!("configuration")));

    refused_as_long_as_it_must_be(&setup);
    assert!(!files(&setup.path("provider/state/epoch-keys")).is_empty());

    let done = delete(&setup, &["--yes"]).success().json();
    assert_eq!((&done["forgotten"], &done["by"]), (&json!(true), &json!("claire")), "{done:#}");
    for target in ["a", "b"] {
        let path = setup.path(target);
        assert_eq!(left_at(&path), BTreeSet::from(["decisions".to_owned()]));
        let [record] = &decisions(&setup, &path)[..] else { panic!("there are several records") };
        let about = &record["about"][0];
        assert_eq!((&about["matter"], &about["snapshots"]), (&json!("deleted"), &json!(3)));
        assert_eq!((&about["targets"], &about["elsewhere"]), (&json!(["a", "b"]), &json!([])));
        assert_eq!(about["last"]["sequence"], last);
        assert_eq!(about["drills"][0]["sequence"], 1);
    }
    assert!(files(&setup.path("provider/state/epoch-keys")).is_empty());
    assert_eq!(setup.provider(&["status"]).success().json()["left"], json!([]));
    assert!(!text(&setup, &["stats"]).contains("marbre delete-archive"), "only records are left");
    // Once more: there is nothing to do, and nothing more is recorded.
    delete(&setup, &["--yes"]).success();
    assert_eq!(decisions(&setup, &setup.path("a")).len(), 1);

    come_back(&setup);
    setup.change(50);
    let snapshot = setup.snapshot().success().json();
    let listed = setup.provider(&["list", "abonnes"]).success().json();
    assert_eq!(listed["snapshots"].as_array().unwrap().len(), 1);
    assert_eq!(listed["snapshots"][0]["sequence"], last + 1, "the chain goes on after what was deleted");
    assert_eq!(
        (&listed["snapshots"][0]["full"], &listed["snapshots"][0]["snapshot"]),
        (&json!(true), &snapshot["snapshot"])
    );
    // The first proof is not due at once.
    let status = setup.provider(&["status"]).success().json();
    assert_eq!(status["databases"][0]["incidents"], json!([]), "{status:#}");
    setup.provider(&["drill", "abonnes", "--target", "b"]).success();
    sound(&setup);
    // As on another host.
    fs::remove_dir_all(setup.path("provider/state")).unwrap();
    sound(&setup);
    setup.change(50);
    setup.snapshot().success();
    setup.provider(&["drill", "abonnes", "--target", "a"]).success();
    setup.provider(&["prune", "abonnes"]).success();
    setup.provider(&["sync", "abonnes"]).success();
    sound(&setup);
    // And again.
    leave(&setup);
    delete(&setup, &["--yes"]).success();
    come_back(&setup);
    setup.snapshot().success();
    sound(&setup);
    assert_eq!(setup.provider(&["list", "abonnes"]).success().json()["snapshots"][0]["sequence"], last + 3);
}

#[test]
fn an_owner_without_a_state_sees_no_cut_in_the_chain_and_another_gap_all_the_same() {
    let setup = left();
    delete(&setup, &["--yes"]).success();
    come_back(&setup);
    for _ in 0..3 {
        setup.change(50);
        setup.snapshot().success();
    }
    sound(&setup);
    // What is missing since then is no part of what was deleted.
    for target in ["a", "b"] {
        let receipts = setup.path(target).join("gazette/abonnes/receipts");
        // Names of one second have no order.
        let is_sixth = |path: &PathBuf| {
            let receipt: Option<Value> = serde_json::from_slice(&fs::read(path).unwrap()).ok();
            receipt.is_some_and(|receipt| receipt["sequence"] == 6)
        };
        fs::remove_file(files(&receipts).into_iter().find(is_sixth).unwrap()).unwrap();
    }
    let watched = setup.watch(&["a", "b"], &[]).run().json();
    assert!(watched["databases"][0]["incidents"].to_string().contains("number 6 is missing"), "{watched:#}");
}

#[test]
fn a_deletion_that_was_killed_goes_on() {
    let setup = left();
    let all = objects(&setup.path("a")).len();
    for round in 0..4 {
        delete(&setup, &["--yes"]).kill_after(Duration::from_millis(20 + 25 * round)).run();
        let now = objects(&setup.path("a"));
        // A receipt is there only with everything that it needs.
        let receipts = now.keys().filter(|k| k.starts_with("receipts/") && k.ends_with(".json"));
        let deleting = receipts.count() < 3;
        assert!(deleting || now.len() >= all - 1, "data went before the receipts");
    }
    let done = delete(&setup, &["--yes"]).success().json();
    assert_eq!(done["forgotten"], true);
    for target in ["a", "b"] {
        assert_eq!(left_at(&setup.path(target)), BTreeSet::from(["decisions".to_owned()]));
        assert_eq!(decisions(&setup, &setup.path(target)).len(), 1, "one record, however often it was begun");
    }
    come_back(&setup);
    setup.snapshot().success();
    sound(&setup);
}

#[test]
fn at_one_target_only_the_other_copy_stays_whole() {
    let setup = left();
    let done = delete(&setup, &["--yes", "--target", "a"]).success().json();
    assert_eq!((&done["elsewhere"], &done["forgotten"]), (&json!(["b"]), &json!(false)), "{done:#}");
    assert_eq!(left_at(&setup.path("a")), BTreeSet::from(["decisions".to_owned()]));
    let shown = setup.provider(&["status"]).success().json();
    assert_eq!(shown["left"][0]["targets"], json!(["b"]), "{shown:#}");
    setup.restores_equal(&[&setup.target("b")]);
    // A record of a copy that is gone hides no loss of the other one.
    let receipts = setup.path("b").join("gazette/abonnes/receipts");
    let newest = files(&receipts).into_iter().rfind(|p| p.extension().is_some_and(|e| e == "json")).unwrap();
    let bytes = fs::read(&newest).unwrap();
    fs::remove_file(&newest).unwrap();
    come_back(&setup);
    setup.provider(&["verify", "abonnes"]).fails_with(9);
    fs::write(&newest, bytes).unwrap();
    leave(&setup);
    delete(&setup, &["--yes"]).success();
    come_back(&setup);
    setup.snapshot().success();
    sound(&setup);
}

#[test]
fn what_lies_where_is_counted() {
    let setup = left();
    setup.provider(&["snapshot", "boutique"]).success();
    let stats = setup.provider(&["stats"]).success().json();
    let of = |target: usize, archive: usize| &stats["targets"][target]["archives"][archive];
    assert_eq!((&of(0, 0)["database"], &of(0, 0)["configured"]), (&json!("abonnes"), &json!(false)));
    assert_eq!((&of(0, 1)["database"], &of(0, 1)["configured"]), (&json!("boutique"), &json!(true)));
    for (target, name) in ["a", "b"].into_iter().enumerate() {
        let found = objects(&setup.path(name));
        let bytes: u64 = found.values().map(|path| fs::metadata(path).unwrap().len()).sum();
        let counted = of(target, 0);
        assert_eq!(counted["total"], json!({"objects": found.len(), "bytes": bytes}));
        assert_eq!((&counted["snapshots"], &counted["epochs"]), (&json!(3), &json!(1)));
        let parts: u64 = ["packs", "manifests", "records"]
            .iter()
            .map(|part| counted[part]["bytes"].as_u64().unwrap())
            .sum();
        assert_eq!(parts, bytes);
    }
    assert_eq!(stats["publishers"][0]["archives"], 2);
    let one = setup.provider(&["stats", "gazette/abonnes"]).success().json();
    assert_eq!(one["targets"][0]["archives"].as_array().unwrap().len(), 1);
    setup.provider(&["stats", "gazette/nothing"]).fails_with(5);
    let shown = text(&setup, &["stats"]);
    assert!(shown.contains("gazette/abonnes *") && shown.contains("* not in the configuration"), "{shown}");
    assert!(shown.lines().all(|line| line.chars().count() <= 80), "{shown}");
    // One that is away hides nothing of the other.
    fs::rename(setup.path("b"), setup.path("away")).unwrap();
    let stats = setup.provider(&["stats"]).fails_with(8).json();
    assert!(stats["targets"][1]["error"].is_string(), "{stats:#}");
    assert_eq!(stats["targets"][0]["archives"][0]["snapshots"], 3);
    delete(&setup, &["--yes"]).fails_with(8);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_may_not_be_deleted_is_counted_and_goes_later() {
    let server = SeaweedFs::shared().await;
    let bucket = server.bucket(true).await;
    let setup = Setup::new(200, 100);
    let (a, limited) = (setup.target("a"), server.url(&bucket, LIMITED));
    setup.configure(&[("a", &a), ("s3", &limited)], "", "");
    for _ in 0..2 {
        setup.snapshot().success();
    }
    leave(&setup);
    let done = delete(&setup, &["--yes"]).fails_with(10);
    assert!(done.stderr.contains("credentials_file"), "{done}");
    let done = done.json();
    assert_eq!(left_at(&setup.path("a")), BTreeSet::from(["decisions".to_owned()]));
    assert!(done["targets"][1]["locked"]["objects"].as_u64().unwrap() > 5, "{done:#}");
    assert_eq!((&done["targets"][1]["deleted"]["objects"], &done["forgotten"]), (&json!(0), &json!(false)));
    let shown = setup.provider(&["status"]).run().json();
    assert_eq!(shown["left"][0]["targets"], json!(["s3"]), "{shown:#}");
    // With the right to delete, it goes on, with the same record.
    config(&setup, &limited, &server.url(&bucket, ADMIN));
    let done = delete(&setup, &["--yes"]).success().json();
    assert_eq!(done["forgotten"], true, "{done:#}");
    let versions = server.admin().list_object_versions().bucket(&bucket).send().await.unwrap();
    let left: Vec<&str> = versions.versions().iter().filter_map(|v| v.key()).collect();
    assert!(left.iter().all(|key| key.contains("/decisions/") || key.ends_with("place.json")), "{left:?}");
    assert!(versions.delete_markers().is_empty(), "nothing is only hidden");
    come_back(&setup);
    setup.snapshot().success();
    setup.restores_equal(&[&server.url(&bucket, ADMIN)]);
    assert!(!rows(&setup.database()).is_empty());
}
