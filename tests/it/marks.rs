//! `marbre pin`, `unpin` and `forget`: what people decide about single snapshots, as the next prune heeds it.

use serde_json::Value;

use crate::heal::decisions;
use crate::support::marbre::{Marbre, Outcome, marbre};
use crate::support::sqlite_setup::{Setup, objects};

const RULES: &str = "[database.abonnes.retention]\nkeep_last = 2\ngrace = \"1s\"\n";
const LAVISH: &str = "[database.abonnes.retention]\nkeep_last = 100\ngrace = \"1s\"\n";

/// Two directories with so many snapshots, and these rules. The names of the snapshots, oldest first.
fn snapshots(rules: &str, number: usize) -> (Setup, Vec<String>) {
    let setup = Setup::new(300, 100);
    setup.configure_directories(rules);
    let mut names = Vec::new();
    for _ in 0..number {
        setup.change(50);
        names.push(setup.snapshot().success().json()["snapshot"].as_str().unwrap().to_owned());
    }
    (setup, names)
}

fn decide(setup: &Setup, verb: &str, snapshot: &str, why: &str) -> Marbre {
    setup.provider(&[verb, snapshot, "--by", "claire", "--why", why])
}

/// Refused beforehand, with these words, and nothing is written anywhere.
#[track_caller]
fn refused(setup: &Setup, run: Marbre, words: &[&str]) {
    let before = [objects(&setup.path("a")), objects(&setup.path("b"))];
    let outcome: Outcome = run.fails_with(4);
    for word in words {
        assert!(outcome.stdout.contains(word), "no {word:?}: {outcome}");
    }
    assert!([objects(&setup.path("a")), objects(&setup.path("b"))] == before, "{outcome}");
}

/// These names in the order of a list: of one second, names do not show the order of the chain.
fn sorted<const N: usize>(names: [&String; N]) -> Vec<String> {
    let mut names = names.map(String::clone).to_vec();
    names.sort();
    names
}

fn receipts(setup: &Setup, target: &str) -> Vec<String> {
    let all = objects(&setup.path(target)).into_keys();
    let name = |key: String| Some(key.strip_prefix("receipts/")?.strip_suffix(".json")?.to_owned());
    all.filter_map(name).collect()
}

/// As people see it.
fn text(setup: &Setup, args: &[&str]) -> String {
    marbre(["--config"]).arg(setup.path("provider/marbre.toml")).args(args).success().stdout
}

#[test]
fn a_pinned_snapshot_outlives_every_rule_until_it_is_unpinned() {
    let (setup, names) = snapshots(RULES, 5);
    let pinned = decide(&setup, "pin", &names[1], "the court\u{1b}[2J asked").success().json();
    assert_eq!((&pinned["snapshot"], &pinned["by"]), (&names[1].as_str().into(), &"claire".into()));
    assert_eq!(pinned["about"], serde_json::json!([format!("pin:{}", names[1])]));
    for target in ["a", "b"] {
        let said = decisions(&setup, &setup.path(target));
        assert_eq!((said.len(), &said[0]["about"][0]["matter"]), (1, &"pin".into()));
    }
    for args in [&["list", "abonnes"][..], &["show", &names[1]], &["prune", "abonnes", "--dry-run"]] {
        let shown = text(&setup, args);
        assert!(shown.contains("pinned by claire: the court\\u001b[2J asked"), "{args:?}: {shown}");
    }
    let listed = setup.provider(&["list", "abonnes"]).success().json();
    assert_eq!(listed["snapshots"][1]["mark"]["mark"], "pinned");
    assert_eq!(listed["snapshots"][0]["mark"], Value::Null);
    let pruned = text(&setup, &["prune", "abonnes"]);
    assert!(pruned.contains(&format!("keep    {}  pinned by claire", names[1])), "{pruned}");
    assert_eq!(receipts(&setup, "a"), sorted([&names[0], &names[1], &names[3], &names[4]]));
    refused(&setup, decide(&setup, "forget", &names[1], "x"), &["pinned by claire", "marbre unpin"]);
    refused(&setup, decide(&setup, "unpin", &names[3], "x"), &["is not pinned"]);
    // At once: of two decisions of one second the later one counts.
    decide(&setup, "unpin", &names[1], "the trial is over").success();
    decide(&setup, "pin", &names[1], "it is not").success();
    decide(&setup, "unpin", &names[1], "now it is").success();
    assert!(!text(&setup, &["list", "abonnes"]).contains("pinned"));
    setup.provider(&["prune", "abonnes"]).success();
    assert_eq!(receipts(&setup, "b"), sorted([&names[0], &names[3], &names[4]]));
    // Every host reads it: without a state, the decisions come from the targets.
    decide(&setup, "pin", "latest", "as from another host").success();
    std::fs::remove_dir_all(setup.path("provider/state")).unwrap();
    let listed = setup.provider(&["list", "abonnes"]).success().json();
    assert_eq!(listed["snapshots"][2]["mark"]["reason"], "as from another host");
}

#[test]
fn a_forgotten_snapshot_goes_with_the_next_prune_and_the_others_restore() {
    let (setup, names) = snapshots(LAVISH, 5);
    let said = text(&setup, &["forget", &names[2], "--by", "claire", "--why", "article 17"]);
    assert!(said.contains("`marbre prune abonnes` does it now"), "{said}");
    assert_eq!(receipts(&setup, "a").len(), 5, "nothing is deleted by the decision itself");
    let dry = text(&setup, &["prune", "abonnes", "--dry-run"]);
    assert!(dry.contains(&format!("delete  {}  forgotten by claire: article 17", names[2])), "{dry}");
    setup.provider(&["prune", "abonnes"]).success();
    for target in ["a", "b"] {
        assert_eq!(receipts(&setup, target), sorted([&names[0], &names[1], &names[3], &names[4]]));
    }
    let (_, record) = objects(&setup.path("a"))
        .into_iter()
        .find(|(key, _)| key.starts_with("prunes/") && key.ends_with(".json"))
        .unwrap();
    let record: Value = serde_json::from_slice(&std::fs::read(record).unwrap()).unwrap();
    assert_eq!(record["snapshots"][0]["reason"], "forgotten by claire: article 17");
    setup.provider(&["verify", "abonnes"]).success();
    setup.provider(&["status"]).success();
    setup.restores_equal(&[&setup.target("a")]);
    let older = setup.path("older.db");
    setup.restore(&names[3], &[&setup.target("b")], older.to_str().unwrap()).success();
}

#[test]
fn what_must_outlive_every_rule_cannot_be_forgotten() {
    let (setup, names) = snapshots(LAVISH, 4);
    setup.provider(&["drill", "abonnes", "--target", "a"]).success();
    let forget = |name: &str| decide(&setup, "forget", name, "x");
    refused(&setup, forget("latest"), &["newest that a restore has proven", "Nothing was changed"]);
    refused(&setup, forget(&names[0]), &["begins the epoch of the newest proven"]);
    forget("20200101T000000Z-00000000").fails_with(5);
    setup.provider(&["forget", &names[1]]).fails_with(2);
    decide(&setup, "forget", &names[1], " ").fails_with(2);
    // It may go; then what is newer turns out to be rotten, and it may not.
    forget(&names[2]).success();
    for target in ["a", "b"] {
        let path = setup.path(target).join("gazette/abonnes/epochs");
        let manifest = crate::support::sqlite_setup::files(&path)
            .into_iter()
            .find(|path| path.to_str().unwrap().contains(&format!("manifests/{}", names[3])))
            .unwrap();
        std::fs::write(manifest, "rotten").unwrap();
    }
    setup.provider(&["verify", "abonnes"]).fails_with(9);
    let kept = text(&setup, &["prune", "abonnes"]);
    let line = format!("keep    {}  forgotten by claire: x; kept all the same: newest that is", names[2]);
    assert!(kept.contains(&line), "{kept}");
    assert_eq!(receipts(&setup, "a").len(), names.len());
}

#[test]
fn without_rules_only_what_is_forgotten_goes() {
    let (setup, names) = snapshots("", 3);
    decide(&setup, "forget", &names[1], "article 17").success();
    let pruned = setup.provider(&["prune", "abonnes"]).success().json();
    assert!(pruned["databases"][0]["note"].as_str().unwrap().contains("no rule deletes"), "{pruned:#}");
    assert_eq!(receipts(&setup, "a"), sorted([&names[0], &names[2]]));
}
