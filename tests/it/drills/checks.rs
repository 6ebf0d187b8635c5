//! Checks of the restored data: those that people write, and those that marbre makes by itself.

use rusqlite::Connection;
use serde_json::Value;

use super::failed_at;
use crate::support::marbre::Outcome;
use crate::support::sqlite_setup::{SECRET, Setup};

fn with_checks(setup: &Setup, lines: &str) {
    setup.configure_directories(&format!("[database.abonnes.drills]\nrows_change = \"50%\"\n{lines}"));
}

fn drill(setup: &Setup) -> Outcome {
    setup.provider(&["drill", "abonnes", "--target", "a"]).run()
}

#[track_caller]
fn result(outcome: &Outcome, name: &str) -> Value {
    let report = outcome.json();
    let found = report["checks"].as_array().unwrap().iter().find(|c| c["name"] == name);
    found.unwrap_or_else(|| panic!("no check {name} in {outcome}")).clone()
}

fn sql(setup: &Setup, sql: &str) {
    Connection::open(setup.database()).unwrap().execute_batch(sql).unwrap();
}

const EVERY_KIND: &str = r#"
[database.abonnes.checks.enough]
sql = "SELECT count(*) FROM subscriber"
min = 100
max = 100000
[database.abonnes.checks.exact]
sql = "SELECT count(*) FROM subscriber WHERE name IS NULL"
equals = 0
[database.abonnes.checks.steady]
sql = "SELECT count(*) FROM subscriber"
max_change = "5%"
message = "Ask the provider what happened to the subscribers"
[database.abonnes.checks.fresh]
sql = "SELECT max(at) FROM event"
fresh_within = "26h"
"#;

#[test]
fn checks_of_every_kind() {
    let setup = Setup::new(300, 50);
    sql(
        &setup,
        "CREATE TABLE event (at TEXT); INSERT INTO event VALUES (strftime('%Y-%m-%dT%H:%M:%SZ', 'now', '-1 hour'))",
    );
    with_checks(&setup, EVERY_KIND);
    setup.snapshot().success();
    let first = drill(&setup).expect_code(0);
    for (name, expected) in
        [("enough", "passed"), ("exact", "passed"), ("fresh", "passed"), ("steady", "no-baseline")]
    {
        assert_eq!(result(&first, name)["result"], expected, "{first}");
    }
    assert_eq!(result(&first, "enough")["value"], "300");
    assert_eq!(result(&first, "steady")["passed"], false, "what was not compared is not green");

    // 10 % fewer: still restored row for row, but not as it should be.
    sql(&setup, "DELETE FROM subscriber WHERE id <= 30");
    setup.snapshot().success();
    let second = drill(&setup).expect_code(9);
    failed_at(&second, "checks", &["steady", "270 is more than 5 % away from 300", "Ask the provider"]);
    assert!(second.json()["tables"].as_array().unwrap().iter().all(|t| t["equal"] == true));
    // What failed is no measure for the next one.
    let third = drill(&setup).expect_code(9);
    failed_at(&third, "checks", &["away from 300"]);

    // A replica that has stopped is restored well, and is stale.
    sql(
        &setup,
        "UPDATE event SET at = strftime('%Y-%m-%dT%H:%M:%SZ', 'now', '-3 days'); INSERT INTO subscriber SELECT NULL, name, data FROM subscriber LIMIT 30",
    );
    setup.snapshot().success();
    failed_at(&drill(&setup).expect_code(9), "checks", &["fresh", "may be 1 d 2 h old"]);
}

#[test]
fn a_check_that_cannot_be_asked_is_a_failure() {
    let setup = Setup::new(20, 20);
    let cases = [
        ("SELECT x FROM nowhere", "no such table"),
        ("SELECT name FROM subscriber WHERE id = -1", "no row"),
        ("SELECT id FROM subscriber", "row"),
        ("SELECT id, name FROM subscriber LIMIT 1", "column"),
        ("DELETE FROM subscriber", ""),
        ("ATTACH '/etc/passwd' AS p", ""),
        (
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n",
            "longer than 1",
        ),
    ];
    setup.configure_directories("");
    setup.snapshot().success();
    for (query, words) in cases {
        let check = format!("[database.abonnes.checks.odd]\nsql = \"{query}\"\nmin = 0\ntimeout = \"1s\"");
        with_checks(&setup, &check);
        let outcome = drill(&setup).expect_code(9);
        failed_at(&outcome, "checks", &["odd", words]);
        assert!(!outcome.stdout.contains(SECRET) && !outcome.stderr.contains(SECRET), "{outcome}");
    }
}

#[test]
fn what_marbre_checks_by_itself() {
    let setup = Setup::new(200, 20);
    sql(&setup, "CREATE TABLE plan (id INTEGER PRIMARY KEY); INSERT INTO plan VALUES (1)");
    setup.configure_directories("");
    setup.snapshot().success();
    drill(&setup).expect_code(0);
    sql(&setup, "DELETE FROM plan");
    setup.snapshot().success();
    failed_at(&drill(&setup).expect_code(9), "checks", &["empty-tables", "plan"]);
    with_checks(&setup, "may_be_empty = [\"plan\"]");
    assert_eq!(result(&drill(&setup).expect_code(0), "empty-tables")["result"], "passed");
    sql(&setup, "DELETE FROM subscriber WHERE id > 50");
    setup.snapshot().success();
    failed_at(
        &drill(&setup).expect_code(9),
        "checks",
        &["row-count", "more than 50 % away", "marbre accept"],
    );
    with_checks(&setup, "may_be_empty = [\"plan\"]\nskip = [\"row-count\"]");
    let outcome = drill(&setup).expect_code(0);
    assert_eq!(result(&outcome, "row-count")["result"], "off");
    assert_eq!(result(&outcome, "row-count")["passed"], false, "what is switched off is not green");
    // Somebody has looked, and says that it is right: from then on that is the measure.
    with_checks(&setup, "may_be_empty = [\"plan\"]");
    sql(&setup, "DELETE FROM subscriber WHERE id > 10");
    setup.snapshot().success();
    drill(&setup).expect_code(9);
    let accepted = setup.provider(&["drill", "abonnes", "--new-baseline"]).success();
    assert_eq!(result(&accepted, "row-count")["result"], "no-baseline");
    assert_eq!(result(&drill(&setup).expect_code(0), "row-count")["result"], "passed");
    // A reference to nothing: SQLite does not mind, and the source has it too.
    sql(
        &setup,
        "PRAGMA foreign_keys = OFF; CREATE TABLE letter (to_id INTEGER REFERENCES subscriber (id)); INSERT INTO letter VALUES (9999)",
    );
    setup.snapshot().success();
    let found = result(&drill(&setup).expect_code(0), "foreign-keys").to_string();
    assert!(found.contains("as in the source: 1 row of letter"), "{found}");
}
