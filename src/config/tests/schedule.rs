//! Schedules, deadlines, and what the daemon may do at the same time.

use jiff::tz::TimeZone;

use super::*;
use crate::model::job::JobKind;
use crate::model::stage::Stage;

fn only(text: &str) -> Database {
    let [database] = <[Database; 1]>::try_from(parse(text).unwrap().databases).unwrap();
    database
}

#[test]
fn without_a_word_nothing_is_scheduled() {
    let config = parse(&small()).unwrap();
    assert_eq!((config.jitter, config.parallel_jobs.get()), (Duration::ZERO, 2));
    let database = only(&small());
    assert!(database.schedules.jobs.is_empty());
    for &kind in JobKind::ALL {
        assert_eq!(database.deadlines.of(kind), Duration::from_secs(6 * 3600), "{kind}");
    }
}

#[test]
fn everything_about_schedules() {
    let top = "time_zone = \"Europe/Paris\"\njitter = \"5m\"\nparallel_jobs = 3\n";
    let text = format!(
        "{top}{}[database.d.schedule]\nsnapshot = \"30 2 * * *\"\ndrill = \"0 6 * * SAT\"\nsabotage = \"@monthly\"\n\
         verify = \"0 0 12 1 JAN,JUL *\"\n[database.d.deadlines]\nsnapshot = \"4h\"\ndrill = \"5h\"\nverify = \"2d\"\n",
        small()
    );
    let config = parse(&text).unwrap();
    assert_eq!((config.jitter, config.parallel_jobs.get()), (Duration::from_secs(300), 3));
    let database = only(&text);
    assert_eq!(database.schedules.time_zone, TimeZone::get("Europe/Paris").unwrap());
    let jobs: Vec<String> = database.schedules.jobs.iter().map(|(kind, s)| format!("{kind}: {s}")).collect();
    let expected =
        ["snapshot: 30 2 * * *", "drill: 0 6 * * SAT", "sabotage: @monthly", "verify: 0 0 12 1 JAN,JUL *"];
    assert_eq!(jobs, expected);
    let hours = |kind| database.deadlines.of(kind).as_secs() / 3600;
    assert_eq!(JobKind::ALL.iter().copied().map(hours).collect::<Vec<_>>(), [4, 5, 5, 48, 6, 6]);

    let stages =
        |text: &str, stage| only(text).deadlines.stages.get(&stage).map(|limit| limit.as_secs() / 60);
    assert_eq!(stages(&text, Stage::Open), Some(60));
    assert_eq!(stages(&text, Stage::Read), None, "as long as its job");
    let limited = format!("{}deadlines = {{ stages = {{ open = \"10m\", read = \"3h\" }} }}\n", small());
    assert_eq!(stages(&limited, Stage::Open), Some(10));
    assert_eq!(stages(&limited, Stage::Read), Some(180));

    let postgres = "engine = \"postgres\"\nurl = \"postgres://marbre@db/d\"\nlock_timeout = \"1h\"";
    let patient = small().replace("engine = \"sqlite\"\npath = \"d.db\"", postgres);
    assert_eq!(stages(&patient, Stage::Open), None, "{patient}");

    let own = format!("{top}{}schedule = {{ snapshot = \"@daily\", time_zone = \"Asia/Tokyo\" }}\n", small());
    assert_eq!(only(&own).schedules.time_zone, TimeZone::get("Asia/Tokyo").unwrap());
}
