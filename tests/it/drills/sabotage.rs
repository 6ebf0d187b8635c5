//! A check that cannot fail proves nothing: drills that damage their own copy must notice it, at the right stage.

use serde_json::Value;

use crate::support::postgres::{Cluster, Version};
use crate::support::setup::Provider;
use crate::support::sqlite_setup::Setup;

const STAGES: [(&str, &str); 6] = [
    ("byte", "fetch"),
    ("row", "compare"),
    ("missing-table", "compare"),
    ("index", "compare"),
    ("sequence", "compare"),
    ("stale", "receipts"),
];

#[track_caller]
fn caught(report: &Value, kind: &str, stage: &str) {
    assert_eq!((&report["passed"], &report["level"]), (&false.into(), &Value::Null), "{report:#}");
    assert_eq!(report["sabotage"]["kind"], kind, "{report:#}");
    assert_eq!(report["sabotage"]["caught"], true, "{report:#}");
    assert_eq!(report["failed_stage"], stage, "{report:#}");
}

#[test]
fn every_sabotage_of_postgres_is_noticed_where_it_must_be() {
    let cluster = Cluster::start(Version::V15);
    let database = cluster.create_db("abonnes");
    database.load_subscriptions(300);
    let provider = Provider::of(&database);
    provider.snapshot().success();
    provider.snapshot().success();
    for (kind, stage) in STAGES {
        let outcome = provider.drill().args(["--sabotage", kind]).fails_with(9);
        caught(&outcome.json(), kind, stage);
        outcome.expect_stderr("as it had to");
    }
    let status = provider.marbre(&["status"]).success().json();
    let database = &status["databases"][0];
    assert_eq!(database["targets"][0]["levels"]["restored"], Value::Null, "a sabotage never counts as proof");
    assert_eq!(database["last_drill"], Value::Null, "nor as a drill that failed");
    assert_eq!(database["incidents"], Value::Array(Vec::new()), "{database:#}");
    // Nothing that a sabotage did stays.
    assert_eq!(provider.traces(), Vec::<String>::new());
    let report = provider.drill().success().json();
    assert_eq!(report["level"], "restored");
    let receipt = provider.objects().join("drills").read_dir().unwrap().count();
    assert_eq!(receipt, 7 * 3, "all are recorded: receipt, signature and page");
}

#[test]
fn every_sabotage_of_sqlite_is_noticed_where_it_must_be() {
    let setup = Setup::new(200, 100);
    let db = rusqlite::Connection::open(setup.database()).unwrap();
    db.execute_batch(
        "CREATE TABLE letter (id INTEGER PRIMARY KEY AUTOINCREMENT, text TEXT);
         INSERT INTO letter (text) VALUES ('a'), ('b'); CREATE INDEX by_name ON subscriber (name);",
    )
    .unwrap();
    setup.configure_directories("");
    setup.snapshot().success();
    setup.snapshot().success();
    for (kind, stage) in STAGES {
        let outcome = setup.provider(&["drill", "abonnes", "--sabotage", kind]).fails_with(9);
        caught(&outcome.json(), kind, stage);
    }
    let receipts = crate::support::sqlite_setup::objects(&setup.path("a"));
    let lost = receipts.keys().filter(|key| key.contains("/packs/")).count();
    setup.provider(&["drill", "abonnes"]).success();
    setup.snapshot().success();
    let after = crate::support::sqlite_setup::objects(&setup.path("a"));
    assert_eq!(
        after.keys().filter(|key| key.contains("/packs/")).count(),
        lost,
        "our own damage loses no pack"
    );
}

#[test]
fn what_cannot_be_damaged_so_is_said_and_is_no_success() {
    let setup = Setup::new(20, 20);
    setup.configure_directories("");
    setup.snapshot().success();
    for kind in ["index", "sequence"] {
        let outcome = setup.provider(&["drill", "abonnes", "--sabotage", kind]).fails_with(4);
        let report = outcome.json();
        assert_eq!(report["sabotage"]["caught"], false, "{report:#}");
        assert_eq!(report["passed"], false);
    }
    let outcome = setup.provider(&["drill", "abonnes", "--sabotage", "coffee"]).fails_with(2);
    assert!(outcome.stdout.contains("byte, row, missing-table, index, sequence, stale"), "{outcome}");
}
