//! What the daemon says of a snapshot by its date.

use jiff::SignedDuration;

use super::harness::{NEVER, Site};

const LATE: &str = "snapshot-late gazette/abonnes";

#[test]
fn a_snapshot_that_is_dated_ahead_is_late_until_there_is_another() {
    let site = Site::new(50, 50);
    site.scheduled("", &format!("snapshot = \"{NEVER}\""));
    site.setup.snapshot().success();
    site.setup.redate(&["a"], SignedDuration::from_hours(365 * 24));
    let daemon = site.daemon();
    daemon.opens(LATE);
    let (code, body) = daemon.get("/healthz").unwrap();
    assert!(code == 503 && body.contains("in the future"), "{code} {body}");
    let metrics = daemon.get("/metrics").unwrap().1;
    assert!(metrics.contains("marbre_rpo_met{publisher=\"gazette\",database=\"abonnes\"} 0\n"), "{metrics}");
    site.setup.snapshot().success();
    daemon.resolves(LATE);
    daemon.until("it is healthy", || (daemon.get("/healthz")?.0 == 200).then_some(()));
    // What was dated wrongly is still said.
    assert!(daemon.is_open("clock-skew gazette/abonnes order").unwrap());
    daemon.stop();
}

#[test]
fn a_database_without_an_rpo_can_be_late() {
    let site = Site::new(50, 50);
    site.scheduled("", &format!("snapshot = \"{NEVER}\""));
    site.setup.snapshot().success();
    // A year is the longest gap of this schedule, and half of one may pass after it.
    site.setup.redate(&["a"], SignedDuration::from_hours(-550 * 24));
    let daemon = site.daemon();
    daemon.opens(LATE);
    assert_eq!(daemon.get("/healthz").unwrap().0, 503);
    let status = daemon.database("abonnes").unwrap();
    assert_eq!(
        (&status["rpo_seconds"], &status["rpo_from"]),
        (&(549 * 86_400).into(), &"schedule".into()),
        "{status:#}"
    );
    daemon.stop();
}
