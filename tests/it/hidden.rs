//! Receipts that are not shown any more: nothing that they need is deleted, and `sync` puts them back.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use crate::support::sqlite_setup::{Setup, objects, sound};
use crate::sync::{content, sync};

const LAVISH: &str = "[database.abonnes.retention]\nkeep_last = 100\ngrace = \"1s\"\n";

/// Two directories with four snapshots, of which every one is kept.
fn four() -> Setup {
    let setup = Setup::new(500, 400);
    setup.configure_directories(LAVISH);
    for _ in 0..4 {
        setup.change(50);
        setup.snapshot().success();
    }
    setup
}

/// Hides the receipts of these numbers at both directories. Returns where they lie now.
fn hide(setup: &Setup, numbers: &[u64]) -> Vec<(PathBuf, PathBuf)> {
    let mut moved = Vec::new();
    for target in ["a", "b"] {
        for (key, path) in objects(&setup.path(target)) {
            if !key.starts_with("receipts/") || !key.ends_with(".json") {
                continue;
            }
            let receipt: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
            if !numbers.contains(&receipt["sequence"].as_u64().unwrap()) {
                continue;
            }
            for path in [path.clone(), path.with_extension("json.sig")] {
                let name = path.file_name().unwrap().to_str().unwrap();
                let away = setup.path(&format!("hidden-{target}-{name}"));
                fs::rename(&path, &away).unwrap();
                moved.push((path, away));
            }
        }
    }
    assert_eq!(moved.len(), 4 * numbers.len());
    moved
}

/// Prunes until every time of grace would be over. Returns what the last run said.
fn prune_for_long(setup: &Setup, code: i32) -> Value {
    for _ in 0..3 {
        setup.provider(&["prune", "abonnes"]).fails_with(code);
        std::thread::sleep(Duration::from_millis(600));
    }
    setup.provider(&["prune", "abonnes"]).fails_with(code).json()
}

#[test]
fn what_hidden_receipts_need_stays_and_sync_puts_them_back() {
    let setup = four();
    let whole = [content(&setup.path("a")), content(&setup.path("b"))];
    // In the middle of the chain, and at its end, where no gap shows it.
    for numbers in [&[2, 3][..], &[4]] {
        let moved = hide(&setup, numbers);
        let left = [content(&setup.path("a")), content(&setup.path("b"))];
        let said = prune_for_long(&setup, 10);
        let warnings = said["databases"][0]["warnings"].to_string();
        for number in numbers {
            let named = format!("(number {number}), although it was stored");
            assert!(warnings.contains(&named), "{said:#}");
        }
        assert_eq!([content(&setup.path("a")), content(&setup.path("b"))], left);
        sync(&setup).success();
        assert_eq!([content(&setup.path("a")), content(&setup.path("b"))], whole);
        setup.provider(&["verify", "abonnes"]).success();
        prune_for_long(&setup, 0);
        moved.iter().for_each(|(_, away)| fs::remove_file(away).unwrap());
        assert_eq!(sound(&setup).len(), 4);
    }
}

#[test]
fn a_gap_keeps_every_object_also_where_nobody_remembers_what_was_there() {
    let setup = four();
    let moved = hide(&setup, &[2, 3]);
    let left = [content(&setup.path("a")), content(&setup.path("b"))];
    // As on another host, which has the key and has never seen them.
    fs::remove_dir_all(setup.path("provider/state")).unwrap();
    let said = prune_for_long(&setup, 10);
    assert!(said.to_string().contains("receipts number 2 to 3 are missing"), "{said:#}");
    assert_eq!([content(&setup.path("a")), content(&setup.path("b"))], left);
    // A target that has them explains everything.
    for (path, away) in moved.iter().filter(|(path, _)| path.starts_with(setup.path("b"))) {
        fs::rename(away, path).unwrap();
    }
    sync(&setup).success();
    prune_for_long(&setup, 0);
    assert_eq!(content(&setup.path("a")), content(&setup.path("b")));
    assert_eq!(sound(&setup).len(), 4);
}
