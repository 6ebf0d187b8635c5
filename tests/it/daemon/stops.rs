//! SIGTERM in each stage: the daemon ends in order and in time, nothing is half-recorded, and the next start makes up
//! for what was interrupted.

use marbre::internal::{JobKind, SlotState};

use super::harness::{ALWAYS, Daemon, Migration, NEVER, Site, postgres};
use crate::support::marbre::Outcome;
use crate::support::postgres::{Cluster, Version};

const SLOW: &str = "bandwidth = \"64 KiB/s\"";

/// Ends it, and holds what it left against what may be left.
#[track_caller]
fn interrupted(site: &Site, daemon: Daemon, kind: JobKind) -> Outcome {
    let outcome = daemon.stop();
    assert_eq!(site.last_run(kind), Some(SlotState::Interrupted), "{outcome}");
    assert!(outcome.stderr.contains(&format!("{kind} of gazette/abonnes: interrupted")), "{outcome}");
    assert!(!outcome.stderr.contains("ERROR marbre::daemon: "), "no run has failed: {outcome}");
    site.nothing_is_left();
    outcome
}

/// Starts it again, and waits for the run that makes up for the other.
#[track_caller]
fn made_up_for(site: &Site, kind: JobKind) {
    let daemon = site.daemon();
    daemon.until("it is made up for", || (site.last_run(kind)? == SlotState::Done).then_some(()));
    daemon.stop();
    let done = site.slots(kind).iter().filter(|record| record.state == SlotState::Done).count();
    assert_eq!(done, 1, "{:?}", site.slots(kind));
    site.nothing_is_left();
    site.setup.provider(&["verify", "abonnes"]).success();
}

#[test]
fn while_it_waits_for_a_lock() {
    let (site, cluster) = (Site::new(1, 1), Cluster::start(Version::V15));
    let database = cluster.create_db("abonnes");
    database.sql("CREATE TABLE login (id int PRIMARY KEY); INSERT INTO login SELECT generate_series(1, 100)");
    let migration = Migration::begin(&database, "login");
    postgres(&site, &database, "lock_timeout = \"5m\"", &schedule(ALWAYS));
    let daemon = site.daemon();
    daemon.until("it waits for the lock", || migration.is_waited_for().then_some(()));
    interrupted(&site, daemon, JobKind::Snapshot);
    migration.end();
    postgres(&site, &database, "lock_timeout = \"5m\"", &schedule(NEVER));
    made_up_for(&site, JobKind::Snapshot);
}

fn schedule(snapshot: &str) -> String {
    format!("[database.abonnes.schedule]\nsnapshot = \"{snapshot}\"")
}

#[test]
fn while_it_reads_and_uploads() {
    let site = Site::new(400, 10_000);
    site.scheduled(SLOW, &format!("snapshot = \"{ALWAYS}\""));
    let daemon = site.daemon();
    // All is read, and the target is slow to take it.
    daemon.says("snapshot of gazette/abonnes: commit");
    let outcome = interrupted(&site, daemon, JobKind::Snapshot);
    assert!(outcome.stderr.contains("snapshot of gazette/abonnes: read"), "{outcome}");
    // Nothing is recorded: there is no receipt, and so no snapshot.
    let status = site.setup.provider(&["status"]).run().json();
    assert_eq!(status["databases"][0]["snapshot"], serde_json::Value::Null, "{status:#}");
    site.scheduled("", &format!("snapshot = \"{NEVER}\""));
    made_up_for(&site, JobKind::Snapshot);
    site.setup.restores_equal(&[&site.setup.target("a")]);
}

#[test]
fn while_a_drill_fetches() {
    let site = Site::new(400, 10_000);
    site.scheduled("", &format!("snapshot = \"{NEVER}\""));
    site.setup.snapshot().success();
    site.scheduled(SLOW, &format!("snapshot = \"{NEVER}\"\ndrill = \"{ALWAYS}\""));
    let daemon = site.daemon();
    daemon.says("drill of gazette/abonnes: fetch");
    interrupted(&site, daemon, JobKind::Drill);
    site.scheduled("", &format!("snapshot = \"{NEVER}\"\ndrill = \"{NEVER}\""));
    made_up_for(&site, JobKind::Drill);
    let status = site.setup.provider(&["status"]).success().json();
    assert_eq!(status["databases"][0]["last_drill"]["passed"], true, "{status:#}");
}

#[test]
fn while_the_server_of_a_drill_is_at_work() {
    let (site, cluster) = (Site::new(1, 1), Cluster::start(Version::V15));
    let database = cluster.create_db("abonnes");
    database.sql("CREATE TABLE login (id int PRIMARY KEY); INSERT INTO login SELECT generate_series(1, 100)");
    let drill = |schedule: &str, seconds: u32| {
        format!(
            "[database.abonnes.schedule]\nsnapshot = \"{NEVER}\"\ndrill = \"{schedule}\"\n\
             [database.abonnes.checks.slow]\nsql = \"SELECT count(*) FROM pg_sleep({seconds})\"\nequals = 1\n\
             timeout = \"10m\""
        )
    };
    postgres(&site, &database, "", &drill(ALWAYS, 500));
    site.setup.snapshot().success();
    let daemon = site.daemon();
    daemon.says("drill of gazette/abonnes: checks");
    interrupted(&site, daemon, JobKind::Drill);
    postgres(&site, &database, "", &drill(NEVER, 0));
    made_up_for(&site, JobKind::Drill);
}
