use std::path::Path;

use jiff::tz::TimeZone;

use super::*;
use crate::health::status::{DrillSummary, TargetStatus};
use crate::model::condition::{Condition, ConditionKind, Severity};
use crate::model::level::{By, Level, Levels};
use crate::model::locale::Language;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn now() -> Timestamp {
    at("2026-11-25T08:00:00Z")
}

fn target(name: &str, snapshot: &str, proven: Option<&str>) -> TargetStatus {
    let stored = Some(at("2026-11-25T02:10:00Z"));
    let proof = proven.map(|snapshot| DrillProof {
        snapshot: snapshot.parse().unwrap(),
        target: name.parse().unwrap(),
        place: None,
        level: Level::Restored,
        at: at("2026-11-22T10:28:44Z"),
        drill: "20261122T100000Z-7be01d42".parse().unwrap(),
        older_versions: 0,
    });
    let restored = proof.as_ref().filter(|p| p.snapshot.as_str() == snapshot).map(|p| p.at);
    TargetStatus {
        name: name.parse().unwrap(),
        snapshot: Some(snapshot.parse().unwrap()),
        levels: Levels { stored, restored, ..Levels::default() },
        restored: proof,
        owner_restored: None,
        behind: Some(0),
        behind_seconds: None,
        same_place_as: None,
        unneeded_bytes: None,
        error: None,
    }
}

const NEWEST: &str = "20261125T020000Z-1f3a9c4e";
const EARLIER: &str = "20261122T020000Z-0badcafe";

fn database(name: &str, state: Standing, targets: Vec<TargetStatus>) -> DatabaseStatus {
    DatabaseStatus {
        publisher: "gazette".parse().unwrap(),
        database: name.parse().unwrap(),
        state,
        snapshot: Some(NEWEST.parse().unwrap()),
        consistent_at: Some(at("2026-11-25T02:00:03Z")),
        dated_at: None,
        age_seconds: Some(21_597),
        ahead_seconds: None,
        rpo_seconds: Some(93_600),
        rpo_from: None,
        late: false,
        first_due_at: None,
        next_run: None,
        figures: None,
        packed_so_far: None,
        targets,
        last_drill: Some(drill(true)),
        drill_every_seconds: Some(7 * 86_400),
        successions: Vec::new(),
        decisions: Vec::new(),
        score: None,
        conditions: Vec::new(),
        awaited: Vec::new(),
    }
}

fn drill(passed: bool) -> DrillSummary {
    DrillSummary {
        drill: "20261122T100000Z-7be01d42".parse().unwrap(),
        by: By::Agent,
        at: at("2026-11-22T10:28:44Z"),
        snapshot: Some(EARLIER.parse().unwrap()),
        target: Some("nas".parse().unwrap()),
        passed,
        sabotage: None,
        failed_stage: (!passed).then(|| "checks".to_owned()),
        isolation: None,
        rto_seconds: Some(1285.9),
        rto_promised_seconds: Some(14_400),
    }
}

fn kept(checks: &str) -> KeptReport {
    let text =
        format!("{{\"by\": \"agent\", \"sabotage\": null, \"rto_seconds\": 1210.0, \"checks\": {checks}}}");
    serde_json::from_str(&text).unwrap()
}

fn well() -> DatabaseStatus {
    let mut well = database("boutique", Standing::Well, vec![target("nas", NEWEST, Some(NEWEST))]);
    let proof = well.targets[0].restored.clone();
    well.targets[0].owner_restored = proof.map(|proof| DrillProof { level: Level::OwnerRestored, ..proof });
    well.targets[0].levels.owner_restored = well.targets[0].levels.restored;
    well
}

/// One that is well; one whose last drill failed, with a target that does not answer; one without a snapshot.
fn three() -> Overview {
    let mut failing = database(
        "abonnes",
        Standing::Failing,
        vec![target("nas", NEWEST, Some(EARLIER)), target("ovh", NEWEST, None), target("usb", EARLIER, None)],
    );
    failing.targets[1].error = Some("connection refused".into());
    failing.targets[2].behind = Some(3);
    failing.last_drill = Some(drill(false));
    let condition = Condition::new(
        ConditionKind::DrillFailed,
        Severity::Critical,
        "The last drill of gazette/abonnes failed.",
    )
    .remedy("Look at its report.");
    failing.conditions = vec![condition];
    let mut new = database("photos", Standing::New, Vec::new());
    (new.snapshot, new.age_seconds, new.last_drill) = (None, None, None);
    let checks = "[{\"name\": \"recent-payments\", \"result\": \"failed\"}, {\"name\": \"row-count\", \"result\": \"failed\"},
        {\"name\": \"foreign-keys\", \"result\": \"off\"}, {\"name\": \"integrity\", \"result\": \"passed\"}]";
    let known = Known { no_key: false, last_drill: Some(kept(checks)), proof: Some(kept("[]")) };
    Overview {
        known: BTreeMap::from([
            (failing.id(), known),
            (new.id(), Known { no_key: true, ..Known::default() }),
        ]),
        status: StatusReport::of(now(), vec![well(), new, failing], None),
        publisher: None,
    }
}

fn of(databases: Vec<DatabaseStatus>) -> Overview {
    Overview {
        status: StatusReport::of(now(), databases, None),
        publisher: Some("gazette".parse().unwrap()),
        known: BTreeMap::new(),
    }
}

fn locale(language: Language, zone: &str) -> Locale {
    Locale { language, time_zone: TimeZone::get(zone).unwrap() }
}

fn english(overview: &Overview) -> String {
    markdown(overview, &locale(Language::English, "UTC"))
}

/// The pages are in `tests/golden/overview`, to be looked at with a browser.
/// `GOLDEN=overwrite` writes them anew; read the difference before it is committed.
#[test]
fn pages_are_as_they_were_read() {
    for (name, overview) in [("three", three()), ("well", of(vec![well()]))] {
        for (folder, locale) in
            [("en", locale(Language::English, "UTC")), ("fr", locale(Language::French, "Europe/Paris"))]
        {
            golden(&format!("{folder}/{name}.html"), &html(&overview, &locale));
            golden(&format!("{folder}/{name}.md"), &markdown(&overview, &locale));
        }
    }
}

fn golden(name: &str, page: &str) {
    let page = page.replace(concat!("marbre ", env!("CARGO_PKG_VERSION")), "marbre (version)");
    let path = Path::new("tests/golden/overview").join(name);
    if std::env::var_os("GOLDEN").is_some_and(|mode| mode == "overwrite") {
        std::fs::write(&path, &page).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(page, expected, "{name} (left: now, right: golden)");
}

#[test]
fn the_worst_comes_first_and_only_what_is_proven_is_green() {
    let page = english(&three());
    assert!(page.contains("## ✗ ACT NOW: 1 of 3 at risk"), "{page}");
    let order =
        ["## gazette/abonnes", "## gazette/photos", "## gazette/boutique"].map(|h| page.find(h).unwrap());
    assert!(order.is_sorted(), "{page}");
    assert!(english(&of(vec![well()])).contains("## ✓ ALL WELL"));

    let old = DatabaseStatus { drill_every_seconds: Some(86_400), ..well() };
    let failed = DatabaseStatus { last_drill: Some(drill(false)), ..well() };
    let unproven = DatabaseStatus { targets: vec![target("nas", NEWEST, None)], ..well() };
    let warned = DatabaseStatus { state: Standing::Warning, ..well() };
    for database in [old, failed, unproven, warned] {
        let page = english(&of(vec![well(), database]));
        assert!(page.contains("## – NOT ALL IS PROVEN: 1 of 2 well and proven"), "{page}");
    }
}

#[test]
fn what_is_not_proven_is_said_with_its_reason() {
    let page = english(&three());
    for line in [
        "The newest snapshot at target nas: the last one that was restored from there is the state of 2026-11-22",
        "What target ovh holds now: it cannot be reached.",
        "Target usb: no snapshot was ever restored from there",
        "That the owner's own key opens it: no drill by the owner is known.",
        "What these checks ask, which the last drill did not run: foreign-keys (switched off).",
        "Anything: there is no snapshot yet.",
    ] {
        assert!(page.contains(&format!("\n- {line}")), "no {line:?} in {page}");
    }
    assert!(page.contains("| Failed checks | `recent-payments, row-count` |"), "{page}");
    // The last drill failed, so the time is that of the drill that proved something.
    assert!(page.contains("| Recovery took | 20 min 10 s (promised: 4 h 0 min at most) |"), "{page}");
    assert!(page.contains("Everything that can be proven here is."), "{page}");
}

#[test]
fn a_damaged_copy_is_not_proven() {
    let mut damaged = well();
    damaged.targets[0].levels.damaged = Some(now());
    let page = english(&of(vec![damaged]));
    assert!(page.contains("The copy at target nas: damage was found there."), "{page}");
    assert!(page.contains("✗ DAMAGED"), "{page}");
}
