//! People who work beside the daemon.

use std::fs;

use marbre::internal::{JobKind, SlotState};
use rustix::process::Signal;

use super::harness::{ALWAYS, NEVER, Site};
use crate::support::marbre::marbre;

#[test]
fn a_slot_that_finds_a_person_at_work_is_missed_and_told_until_the_next_run() {
    let site = Site::new(400, 10_000);
    site.scheduled("bandwidth = \"64 KiB/s\"", &format!("snapshot = \"{NEVER}\""));
    fs::rename(site.path("provider/marbre.toml"), site.path("provider/slow.toml")).unwrap();
    site.scheduled("", &format!("snapshot = \"{ALWAYS}\""));
    let by_hand = marbre(["--json", "--config"])
        .arg(site.path("provider/slow.toml"))
        .args(["snapshot", "abonnes"])
        .start();
    super::harness::until(
        "a person is at work",
        || by_hand.stderr(),
        || (!site.setup.spooled().is_empty()).then_some(()),
    );
    let daemon = site.daemon();
    daemon.opens("slot-missed gazette/abonnes snapshot");
    let detail = site.slots(JobKind::Snapshot).remove(0).detail.unwrap();
    assert!(detail.contains("another job runs for gazette/abonnes"), "{detail}");
    assert!(!daemon.is_open("snapshot-failed gazette/abonnes").unwrap(), "it is no failure of the database");
    by_hand.signal(Signal::TERM);
    by_hand.wait().expect_code(130);
    daemon.resolves("slot-missed gazette/abonnes snapshot");
    assert_eq!(site.last_run(JobKind::Snapshot), Some(SlotState::Done));
    daemon.stop();
}

#[test]
fn what_a_person_mends_is_over() {
    let site = Site::new(50, 50);
    site.scheduled("", &format!("snapshot = \"{ALWAYS}\""));
    let hidden = site.path("away.db");
    fs::rename(site.setup.database(), &hidden).unwrap();
    let daemon = site.daemon();
    daemon.opens("snapshot-failed gazette/abonnes");
    site.scheduled("", &format!("snapshot = \"{NEVER}\""));
    daemon.signal(Signal::HUP);
    daemon.says("the configuration was read again");
    fs::rename(&hidden, site.setup.database()).unwrap();
    // A run that began before the reload may still be failing.
    daemon.until("nothing runs", || (site.last_run(JobKind::Snapshot)? != SlotState::Running).then_some(()));
    assert!(daemon.is_open("snapshot-failed gazette/abonnes").unwrap());
    assert_eq!(daemon.get("/healthz").unwrap().0, 503);
    site.setup.snapshot().success();
    daemon.resolves("snapshot-failed gazette/abonnes");
    daemon.until("it is healthy", || (daemon.get("/healthz")?.0 == 200).then_some(()));
    daemon.stop();
}
