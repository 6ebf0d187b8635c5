//! Words and numbers that several parts of the page use.

use jiff::Timestamp;

use super::Cell;
use crate::job::drill::report::DrillReport;
use crate::model::drill_stage::DrillStage;
use crate::model::engine_kind::EngineKind;
use crate::model::human::count;
use crate::model::level::By;
use crate::model::sabotage::Sabotage;
use crate::model::visible::visible;

/// Rows of a table that people will look through.
pub(super) const MANY: usize = 200;

/// Characters of one text: whatever a server says, the page stays readable.
const LONG: usize = 2000;

/// `1 table`, `2 tables`.
pub(super) fn counted(n: u64, one: &str, many: &str) -> String {
    format!("{} {}", count(n), if n == 1 { one } else { many })
}

/// `2026-11-22 02:00:00Z`: RFC 3339 with the space that it allows for people.
pub(super) fn time(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%SZ").to_string()
}

/// A text of somebody else, which may be of any length.
pub(super) fn text(text: &str) -> Cell {
    Cell::Text(shortened(text))
}

/// At most so much of it as people will read.
pub(super) fn shortened(text: &str) -> String {
    match text.char_indices().nth(LONG) {
        None => text.to_owned(),
        Some((end, _)) => {
            let left = text[end..].chars().count() as u64;
            format!("{}… ({} more)", &text[..end], counted(left, "character", "characters"))
        }
    }
}

/// With a full stop at its end.
pub(super) fn sentence(text: &str) -> String {
    let text = shortened(text.trim_end());
    if text.ends_with(['.', '!', '?']) { text } else { text + "." }
}

/// Who makes drills.
pub(super) fn maker(by: By) -> &'static str {
    match by {
        By::Agent => "the agent",
        By::Owner => "the owner of the data",
    }
}

/// The engine's own name.
pub(super) fn engine(engine: &str) -> &str {
    EngineKind::from_name(engine).map_or(engine, |kind| kind.title())
}

/// What is done at a stage.
pub(super) fn doing(stage: DrillStage) -> &'static str {
    match stage {
        DrillStage::Start => "beginning",
        DrillStage::Receipts => "reading the signed receipts and choosing the snapshot",
        DrillStage::Fetch => "fetching every object of the snapshot from the target, and checking its hash",
        DrillStage::Open => "decrypting the snapshot's list of contents",
        DrillStage::Server => "starting the throwaway database",
        DrillStage::Load => "decrypting the data and loading it",
        DrillStage::Index => "building the indexes",
        DrillStage::Compare => "comparing what was restored with what was saved",
        DrillStage::Checks => "running the checks",
        DrillStage::Remove => "removing the restored copy",
        DrillStage::Verdict => "judging what was found",
    }
}

/// The stage at which a drill ended.
pub(super) fn last_stage(report: &DrillReport) -> DrillStage {
    report.failed_stage.unwrap_or(DrillStage::Verdict)
}

/// While it was doing what.
pub(super) fn at_stage(report: &DrillReport) -> String {
    format!("while {}", doing(last_stage(report)))
}

/// What a sabotage does, in words.
pub(super) fn meaning(sabotage: Sabotage) -> &'static str {
    match sabotage {
        Sabotage::Byte => "one bit was changed on its way from the target",
        Sabotage::Row => "one row of the restored database was changed",
        Sabotage::MissingTable => "one table of the restored database was dropped",
        Sabotage::Index => "one index of the restored database was dropped",
        Sabotage::Sequence => "one sequence of the restored database was set back",
        Sabotage::Stale => "the newest snapshot was hidden, as if the target showed an old state",
    }
}

/// A text with its line breaks as spaces, for a page that breaks lines itself.
pub(super) fn on_one_line(text: &str) -> String {
    visible(&text.split_whitespace().collect::<Vec<_>>().join(" ")).into_owned()
}
