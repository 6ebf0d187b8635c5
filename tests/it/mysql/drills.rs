//! Drills: a throwaway server of the same product, what it must notice, and that nothing is left behind.

use crate::support::mysql::Flavor;

use super::{DATABASE, shop};

with_both!(drills_pass_and_notice_what_was_damaged);

/// What is damaged, and at which stage that must be noticed.
const STAGES: [(&str, &str); 3] = [("row", "compare"), ("missing-table", "compare"), ("index", "compare")];

fn drills_pass_and_notice_what_was_damaged(flavor: Flavor) {
    let (server, provider) = shop(flavor);
    provider.snapshot().success();
    let report = provider.drill().success().json();
    assert_eq!((&report["passed"], &report["level"]), (&true.into(), &"restored".into()), "{report:#}");
    assert_eq!(provider.traces(), Vec::<String>::new());
    for (kind, stage) in STAGES {
        let report = provider.drill().args(["--sabotage", kind]).fails_with(9).json();
        assert_eq!(report["passed"], false, "{report:#}");
        assert_eq!(report["sabotage"]["kind"], kind, "{report:#}");
        assert_eq!(report["sabotage"]["caught"], true, "{report:#}");
        assert_eq!(report["failed_stage"], stage, "{report:#}");
        assert_eq!(provider.traces(), Vec::<String>::new());
    }
    // The source is none of a drill's business.
    assert_eq!(server.sql("", &format!("SELECT COUNT(*) FROM {DATABASE}.customer")), "900");
    let others = "SELECT COUNT(*) FROM information_schema.schemata WHERE schema_name NOT IN
      ('mysql', 'sys', 'information_schema', 'performance_schema', 'boutique')";
    assert_eq!(server.sql("", others), "0");
}
