//! Did it pass? One honest word, which follows from the report.

use super::report::{DrillReport, SabotageReport};
use crate::model::drill_stage::DrillStage;
use crate::model::level::Level;
use crate::model::sabotage::Sabotage;

/// How a drill ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It proves a level.
    Passed(Level),
    /// It proves nothing.
    Failed,
    /// It noticed its own damage, where it had to.
    Noticed,
    /// It did not notice its own damage.
    NotNoticed,
    /// It failed before the damage could be noticed, for a reason of its own.
    Untested,
}

impl Verdict {
    /// Of this drill.
    pub(crate) fn of(report: &DrillReport) -> Self {
        match (&report.sabotage, report.level) {
            (None, Some(level)) if report.passed && report.error.is_none() => Self::Passed(level),
            (None, _) => Self::Failed,
            (Some(sabotage), _) if sabotage.caught => Self::Noticed,
            (Some(sabotage), _) if went_past(report, sabotage) => Self::NotNoticed,
            (Some(_), _) => Self::Untested,
        }
    }

    /// The word.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Passed(_) => "PASSED",
            Self::Failed | Self::Untested => "FAILED",
            Self::Noticed => "SABOTAGE NOTICED",
            Self::NotNoticed => "SABOTAGE NOT NOTICED",
        }
    }
}

/// The drill came further than its damage should have let it. An old state is shown from the start; any other damage
/// must have been done first.
fn went_past(report: &DrillReport, sabotage: &SabotageReport) -> bool {
    let done = sabotage.done.is_some() || sabotage.kind == Sabotage::Stale;
    done && report.failed_stage.unwrap_or(DrillStage::Verdict) > sabotage.expected_stage
}
