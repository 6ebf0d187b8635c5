//! How old the newest snapshot is, and who says how old it may become: for who looks from inside and from outside.

use jiff::SignedDuration;
use serde_json::Value;

use crate::support::marbre::marbre;
use crate::support::sqlite_setup::Setup;

const YEAR: SignedDuration = SignedDuration::from_hours(365 * 24);

/// What `status` says of the one database.
fn database(document: &Value) -> &Value {
    &document["databases"][0]
}

#[test]
fn what_is_dated_ahead_is_late_for_everybody() {
    let setup = Setup::new(50, 50);
    setup.configure_directories("");
    setup.snapshot().success();
    for (ahead, late) in [(SignedDuration::from_mins(4), false), (YEAR - SignedDuration::from_mins(4), true)]
    {
        setup.redate(&["a", "b"], ahead);
        let inside = setup.provider(&["status", "--rpo", "26h"]);
        let outside = setup.watch(&["a"], &["--rpo", "26h"]);
        for run in [inside, outside] {
            let found = run.fails_with(if late { 9 } else { 0 });
            let document = found.json();
            let status = database(&document);
            assert_eq!(status["late"], late, "{status:#}");
            assert_eq!(status["age_seconds"].is_null(), late, "{status:#}");
            assert_eq!(status["ahead_seconds"].is_u64(), late, "{status:#}");
            if late {
                assert!(
                    status["incidents"][0]["summary"].as_str().unwrap().contains("in the future"),
                    "{status:#}"
                );
                found.expect_stderr("is dated in the future, so nobody knows how old it is");
            }
        }
    }
    let shown = marbre(["status", "--from", &setup.target("a"), "--allowed-signers"])
        .arg(setup.path("publisher/allowed_signers"))
        .success();
    assert!(shown.stdout.contains(" late    ?    stored "), "{shown}");
    assert!(shown.stdout.contains(" dated in the future"), "{shown}");
    // The next snapshot is the newest, whatever the one before is dated, and that is said.
    setup.snapshot().success();
    for run in [setup.provider(&["status", "--rpo", "26h"]), setup.watch(&["a", "b"], &["--rpo", "26h"])] {
        let document = run.success().json();
        let status = database(&document);
        assert_eq!((&status["late"], &status["ahead_seconds"]), (&false.into(), &Value::Null));
        assert!(status["age_seconds"].as_u64().unwrap() < 300, "{status:#}");
        let incidents = status["incidents"].as_array().unwrap();
        assert_eq!(incidents.len(), 1, "{status:#}");
        assert!(
            incidents[0]["summary"].as_str().unwrap().contains("(number 2), which follows it"),
            "{status:#}"
        );
    }
}

#[test]
fn somebody_says_how_old_the_newest_may_become() {
    const SCHEDULED: &str = "[database.abonnes.schedule]\nsnapshot = \"30 2 * * MON-FRI\"";
    let setup = Setup::new(50, 50);
    setup.configure_directories("");
    setup.snapshot().success();
    setup.redate(&["a", "b"], SignedDuration::from_hours(-400 * 24));
    let hours = 3600;
    for (lines, from, seconds, state) in [
        ("", "default", 7 * 24 * hours, "warn"),
        (SCHEDULED, "schedule", 108 * hours, "warn"),
        ("rpo = \"500d\"", "configuration", 500 * 24 * hours, "ok"),
    ] {
        setup.configure_directories(lines);
        let document = setup.provider(&["status"]).success().json();
        let status = database(&document);
        assert_eq!((&status["rpo_from"], &status["rpo_seconds"]), (&from.into(), &seconds.into()));
        assert_eq!(status["late"], from != "configuration", "{status:#}");
        let found = setup.provider(&["doctor"]).run().json();
        let checks = found["checks"].as_array().unwrap();
        let check = checks.iter().find(|check| check["name"] == "rpo").unwrap();
        assert_eq!(check["state"], state, "{check}");
    }
    let asked = setup.provider(&["status", "--rpo", "600d"]).success().json();
    assert_eq!(database(&asked)["rpo_from"], "command-line");
    // A publisher who does not ask is promised nothing.
    let outside = setup.watch(&["a"], &[]).success().json();
    assert_eq!(database(&outside)["rpo_from"], Value::Null);
}
