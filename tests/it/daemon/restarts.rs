//! One daemon for each state, and what is made up for after one that was killed.

use marbre::internal::{JobKind, SlotState};

use super::harness::{ALWAYS, NEVER, Site};

/// Slow enough that a snapshot of the data below takes a minute.
const SLOW: &str = "bandwidth = \"64 KiB/s\"";

#[test]
fn a_second_daemon_on_the_same_state_is_refused() {
    let site = Site::new(10, 10);
    site.scheduled("", &format!("snapshot = \"{NEVER}\""));
    let first = site.daemon();
    first.until("it answers", || first.get("/healthz"));
    let second = site.run().fails_with(7);
    let said = second.json();
    assert_eq!(said["error"], "another daemon runs on this state", "{second}");
    let remedy = said["remedy"].as_str().unwrap();
    assert!(remedy.contains("stop the other one"), "{second}");
    assert!(said["cause"].as_str().unwrap().starts_with("process "), "{second}");
    // Nor is there room for a second one where somebody removed the locks.
    std::fs::remove_dir_all(site.path("provider/state/locks")).unwrap();
    let second = site.run().fails_with(7);
    assert_eq!(second.json()["error"], "another daemon runs on this state", "{second}");
    // The first one has not even noticed.
    assert_eq!(first.get("/status.json").unwrap().0, 200);
    first.stop();
    let next = site.daemon();
    next.says("is running");
    next.stop();
}

#[test]
fn what_was_at_work_when_it_was_killed_is_made_up_for_once() {
    let site = Site::new(400, 10_000);
    site.scheduled(SLOW, &format!("snapshot = \"{ALWAYS}\""));
    let first = site.daemon();
    first.until("packs wait", || (!site.setup.spooled().is_empty()).then_some(()));
    // Later slots have found it at work: they must not hide what it owes.
    first.opens("slot-overlapped gazette/abonnes snapshot");
    first.kill();
    assert_eq!(site.last_run(JobKind::Snapshot), Some(SlotState::Running));
    assert!(site.path("provider/state/locks/daemon").exists(), "its lock is still there");

    site.scheduled("", &format!("snapshot = \"{NEVER}\""));
    let second = site.daemon();
    second.until("what was interrupted is made up for", || {
        (site.last_run(JobKind::Snapshot)? == SlotState::Done).then_some(())
    });
    second.resolves("slot-overlapped gazette/abonnes snapshot");
    second.stop();
    let began: Vec<SlotState> =
        site.slots(JobKind::Snapshot).into_iter().map(|record| record.state).collect();
    let count = |state| began.iter().filter(|began| **began == state).count();
    assert_eq!((count(SlotState::Done), count(SlotState::Interrupted)), (1, 1), "{began:?}");
    assert_eq!(count(SlotState::Running), 0);
    site.nothing_is_left();
    // And it is made up for only once.
    let third = site.daemon();
    third.until("it has looked", || third.database("abonnes")?["looked_at"].as_str().map(drop));
    third.stop();
    let done = site.slots(JobKind::Snapshot).iter().filter(|r| r.state == SlotState::Done).count();
    assert_eq!(done, 1);
    site.setup.provider(&["verify", "abonnes"]).success();
    site.setup.restores_equal(&[&site.setup.target("a")]);
}
