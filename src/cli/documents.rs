//! The names and versions of what the verbs print with `--json`, and of what is kept as JSON: see [`Document`] and
//! `docs/schemas/`.

use crate::model::document::Document;

macro_rules! documents {
    ($($document:ty = $name:literal, $version:literal;)*) => {
        $(impl Document for $document {
            const NAME: &'static str = $name;
            const VERSION: u32 = $version;
        })*
    };
}

documents! {
    super::accept::Choice = "acceptable", 1;
    crate::job::accept::AcceptReport = "accept", 1;
    crate::job::succession::SuccessionReport = "adopt", 1;
    crate::alert::dispatcher::ChannelTestReport = "alert-test", 1;
    super::alert::Incidents = "alert-list", 1;
    super::completions::Completions = "completions", 1;
    super::config::Checked = "config-check", 1;
    super::config::Shown = "config-show", 1;
    crate::job::delete_archive::DeleteReport = "delete-archive", 1;
    super::demo::Story = "demo", 1;
    crate::health::doctor::DoctorReport = "doctor", 1;
    crate::job::drill::report::DrillReport = "drill", 1;
    super::keygen::AgentKeys = "keygen-agent", 1;
    super::keygen::PublisherKeys = "keygen", 1;
    crate::job::list::ListReport = "list", 1;
    super::man::Pages = "man", 1;
    crate::job::mark::MarkReport = "mark", 1;
    super::prune::Pruned = "prune", 1;
    super::report::Written = "report", 1;
    crate::job::restore::RestoreReport = "restore", 1;
    super::rotate::Rotated = "rotate", 1;
    crate::job::list::ShowReport = "show", 1;
    crate::job::snapshot::SnapshotReport = "snapshot", 1;
    super::snapshot::Snapshots = "snapshots", 1;
    crate::job::stats::StatsReport = "stats", 1;
    crate::health::status::StatusReport = "status", 1;
    crate::job::sync::SyncReport = "sync", 1;
    crate::job::verify::VerifyReport = "verify", 1;
}
