//! `marbre accept`: what is odd holds retention until somebody accepts it; what is damaged and known turns nothing red any
//! more; and what comes next is seen.

use std::fs;

use rusqlite::Connection;
use serde_json::Value;

use crate::heal::decisions;
use crate::support::marbre::{Marbre, marbre};
use crate::support::sqlite_setup::{Setup, objects};
use crate::sync::content;

const RULES: &str = "[database.abonnes.retention]\nkeep_last = 1\ngrace = \"1s\"\n";

fn sql(setup: &Setup, sql: &str) {
    Connection::open(setup.database()).unwrap().execute_batch(sql).unwrap();
}

fn accept(setup: &Setup, args: &[&str]) -> Marbre {
    setup.provider(&["accept", "abonnes"]).args(args)
}

/// Accepting this is refused, with these words.
#[track_caller]
fn refused(setup: &Setup, args: &[&str], code: i32, words: &str) {
    let outcome = accept(setup, args).fails_with(code);
    assert!(outcome.stdout.contains(words), "{outcome}");
}

/// What is wrong, as `status` says it.
#[track_caller]
fn incidents(setup: &Setup) -> String {
    setup.provider(&["status"]).success().json()["databases"][0]["incidents"].to_string()
}

fn receipts(setup: &Setup, target: &str) -> Vec<String> {
    let all = objects(&setup.path(target)).into_keys();
    all.filter(|key| key.starts_with("receipts/") && key.ends_with(".json")).collect()
}

#[test]
fn a_dropped_table_is_named_and_holds_what_is_older_until_somebody_accepts_it() {
    let setup = Setup::new(20_000, 10);
    sql(
        &setup,
        "CREATE TABLE paiement (id INTEGER PRIMARY KEY, cents INTEGER);
         CREATE INDEX paiement_cents ON paiement (cents);
         INSERT INTO paiement WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000) SELECT i, i FROM n",
    );
    setup.configure_directories(RULES);
    setup.snapshot().success();
    setup.change(500);
    setup.snapshot().success();
    setup.provider(&["drill", "abonnes", "--target", "a"]).success();
    sql(&setup, "DROP TABLE paiement");
    setup.snapshot().success();
    // 3,000 of 23,000 rows: the number of rows says nothing, the name does.
    let drill = setup.provider(&["drill", "abonnes", "--target", "a"]).fails_with(9).json();
    let checks = drill["checks"].as_array().unwrap();
    let failed: Vec<&Value> = checks.iter().filter(|check| check["result"] == "failed").collect();
    let names: Vec<&str> = failed.iter().map(|check| check["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["missing-tables", "missing-objects"], "{drill:#}");
    assert_eq!(failed[0]["message"], "gone since the last proven snapshot: paiement");
    assert!(failed[1]["message"].as_str().unwrap().ends_with("1 of 1 of type index"), "{drill:#}");
    assert!(incidents(&setup).contains("FAILED at stage checks"), "{}", incidents(&setup));
    // What alerts say of it.
    let state = Connection::open(setup.path("provider/state/state.sqlite")).unwrap();
    let told: String =
        state.query_row("SELECT body FROM run WHERE job = 'drill'", [], |row| row.get(0)).unwrap();
    assert!(told.contains("missing-tables (gone since the last proven snapshot: paiement)"), "{told}");
    // One more, so that the rules would keep nothing from before.
    setup.change(500);
    setup.snapshot().success();
    let held = setup.provider(&["prune", "abonnes"]).fails_with(10);
    assert!(held.stderr.contains("marbre accept"), "{held}");
    let report = &held.json()["databases"][0];
    assert!(report["held"][0].as_str().unwrap().contains("its content failed the checks"), "{report:#}");
    let kept: Vec<&Value> = report["kept"].as_array().unwrap().iter().collect();
    assert!(kept.iter().filter(|k| k["reasons"].to_string().contains("held: ")).count() == 2, "{report:#}");
    assert_eq!(report["deleted"].as_array().unwrap().len(), 1, "what came after it is not held: {report:#}");

    // It is listed, and accepted by nobody in silence.
    let listed = accept(&setup, &[]).success().json();
    assert_eq!(listed["acceptable"][0]["name"], "content", "{listed:#}");
    refused(&setup, &["content"], 2, "--why");
    let accepted = accept(&setup, &["--why", "moved to the new shop", "--by", "claire"]).success().json();
    assert!(accepted["about"][0].as_str().unwrap().starts_with("content:"), "{accepted:#}");
    for target in ["a", "b"] {
        let said = decisions(&setup, &setup.path(target));
        assert_eq!(said.len(), 1);
        assert_eq!((&said[0]["by"], &said[0]["reason"]), (&"claire".into(), &"moved to the new shop".into()));
        assert_eq!(said[0]["about"][0]["matter"], "content");
    }
    setup.provider(&["prune", "abonnes"]).success();
    // What was accepted is the measure from then on.
    setup.provider(&["drill", "abonnes", "--target", "a"]).success();
    setup.provider(&["drill", "abonnes", "--target", "b"]).success();
    refused(&setup, &["--why", "again"], 5, "nothing is odd");
    let shown =
        marbre(["--config"]).arg(setup.path("provider/marbre.toml")).args(["show", "latest"]).success();
    assert!(shown.stdout.contains("by claire: content:") && shown.stdout.contains("the new shop"), "{shown}");
}

#[test]
fn a_table_that_may_go_may_go() {
    let setup = Setup::new(500, 10);
    sql(&setup, "CREATE TABLE log_2026_01 (id INTEGER PRIMARY KEY); INSERT INTO log_2026_01 VALUES (1)");
    setup.configure_directories("drills.may_be_missing = [\"log_*\"]");
    setup.snapshot().success();
    setup.provider(&["drill", "abonnes"]).success();
    sql(&setup, "DROP TABLE log_2026_01");
    setup.snapshot().success();
    setup.provider(&["drill", "abonnes"]).success();
}

#[test]
fn lost_rows_hold_retention_also_on_a_host_that_has_never_seen_them() {
    let setup = Setup::new(1000, 10);
    setup.configure_directories(RULES);
    setup.snapshot().success();
    // Little by little: no night loses a quarter.
    for upto in [150, 300] {
        sql(&setup, &format!("DELETE FROM subscriber WHERE id <= {upto}"));
        setup.snapshot().success();
    }
    // As from another host with the same key and no drills.
    fs::remove_dir_all(setup.path("provider/state")).unwrap();
    let before = [content(&setup.path("a")), content(&setup.path("b"))];
    let held = setup.provider(&["prune", "abonnes"]).fails_with(10).json();
    let why = held["databases"][0]["held"][0].as_str().unwrap();
    assert!(why.contains("30 % fewer than the"), "{held:#}");
    assert!(incidents(&setup).contains("Rows are gone: the newest snapshot holds"), "{}", incidents(&setup));
    assert_eq!(receipts(&setup, "a").len(), 3, "{held:#}");
    assert!([content(&setup.path("a")), content(&setup.path("b"))] == before, "nothing is deleted");
    accept(&setup, &["--why", "the trial subscriptions ended"]).success();
    assert_eq!(incidents(&setup), "[]");
    setup.provider(&["prune", "abonnes"]).success();
    assert_eq!(receipts(&setup, "a").len(), 2, "the newest, and what begins its epoch");
    // The next loss is seen.
    sql(&setup, "DELETE FROM subscriber WHERE id <= 600");
    setup.snapshot().success();
    assert!(incidents(&setup).contains("Rows are gone"), "{}", incidents(&setup));
}

#[test]
fn a_lost_receipt_that_is_known_is_not_red_and_the_next_one_is() {
    let setup = Setup::new(300, 100);
    setup.configure_directories("[database.abonnes.retention]\nkeep_last = 100\ngrace = \"1s\"\n");
    for _ in 0..4 {
        setup.change(20);
        setup.snapshot().success();
    }
    let lose = |number: u64| {
        for target in ["a", "b"] {
            for (key, path) in objects(&setup.path(target)) {
                if key.starts_with("receipts/") && key.ends_with(".json") {
                    let receipt: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
                    if receipt["sequence"] == number {
                        fs::remove_file(&path).unwrap();
                    }
                }
            }
        }
    };
    lose(2);
    fs::remove_dir_all(setup.path("provider/state")).unwrap();
    let red = |expected: &str| {
        assert!(incidents(&setup).contains(expected), "{}", incidents(&setup));
        setup.provider(&["verify", "abonnes"]).fails_with(9);
        setup.provider(&["prune", "abonnes"]).fails_with(10);
    };
    red("receipt number 2 is missing");
    refused(&setup, &["receipts:missing:3", "--why", "no"], 5, "receipts:missing:2");
    accept(&setup, &["receipts:missing:2", "--why", "a disk died in May"]).success();
    setup.provider(&["verify", "abonnes"]).success();
    setup.provider(&["prune", "abonnes"]).success();
    assert_eq!(incidents(&setup), "[]");
    // Who watches from outside believes the record, too.
    let signers = setup.path("publisher/allowed_signers");
    let outside = |verb: &str| {
        let from = format!("a={}", setup.target("a"));
        marbre(["--json", verb, "--from", &from, "--allowed-signers"]).arg(&signers).run()
    };
    outside("verify").expect_code(0);
    assert_eq!(outside("list").expect_code(0).json()["problems"], serde_json::json!([]));
    lose(3);
    fs::remove_dir_all(setup.path("provider/state")).unwrap();
    red("receipts number 2 to 3 are missing");
    outside("verify").expect_code(9);
}

#[test]
fn a_damage_that_is_known_stays_known_until_it_is_mended() {
    let setup = Setup::new(300, 100);
    setup.configure_directories("");
    for _ in 0..2 {
        setup.change(20);
        setup.snapshot().success();
    }
    let flip = |nth: usize| {
        let all: Vec<_> =
            objects(&setup.path("a")).into_iter().filter(|(key, _)| key.contains("/manifests/")).collect();
        let (key, path) = &all[nth];
        let mut bytes = fs::read(path).unwrap();
        bytes[20] ^= 1;
        fs::write(path, bytes).unwrap();
        key.clone()
    };
    let key = flip(0);
    let verify = || setup.provider(&["verify", "abonnes"]);
    verify().fails_with(9);
    let name = format!("a:{key}");
    refused(&setup, &[&format!("b:{key}"), "--why", "wrong"], 5, "is intact at b");
    refused(&setup, &["a:epochs/nothing", "--why", "wrong"], 5, "there is nothing named");
    accept(&setup, &[&name, "--why", "old disk"]).success();
    let verified = verify().success().json();
    assert_eq!(verified["damaged"], serde_json::json!([]));
    assert_eq!(verified["known"].as_array().unwrap().len(), 1, "{verified:#}");
    assert_eq!(verified["targets"][0]["intact"], 1, "it is not called intact: {verified:#}");
    assert_eq!(incidents(&setup), "[]");
    setup.provider(&["sync", "abonnes"]).success();
    // The next one is seen.
    flip(1);
    let damaged = verify().fails_with(9).json();
    assert_eq!(damaged["damaged"].as_array().unwrap().len(), 1, "{damaged:#}");
    // What was mended is known no longer: if it rots again, that is new.
    setup.provider(&["sync", "abonnes", "--heal"]).success();
    let whole = verify().success().json();
    assert_eq!(whole["known"], serde_json::json!([]));
    flip(0);
    verify().fails_with(9);
}

#[test]
fn what_was_accepted_is_nothing_to_look_at_any_more() {
    let setup = Setup::new(4000, 10);
    setup.configure_directories(RULES);
    setup.snapshot().success();
    sql(&setup, "DELETE FROM subscriber WHERE id > 1000");
    setup.snapshot().success();
    for words in ["Rows are gone", "The newest snapshot holds"] {
        assert!(incidents(&setup).contains(words), "{}", incidents(&setup));
    }
    accept(&setup, &["--why", "the summer list has ended"]).success();
    assert_eq!(incidents(&setup), "[]");
    // The next loss is told again.
    sql(&setup, "DELETE FROM subscriber WHERE id > 300");
    setup.snapshot().success();
    assert!(incidents(&setup).contains("Rows are gone"), "{}", incidents(&setup));
}
