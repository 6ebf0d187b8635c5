//! What several parts of the report put into their cells.

use crate::job::drill::report::DrillReport;
use crate::model::drill_stage::DrillStage;
use crate::model::engine_kind::EngineKind;
use crate::report::page::Cell;
use crate::report::words::Words;

/// Rows of a table that people will look through.
pub(super) const MANY: usize = 200;

/// A text of somebody else, which may be of any length.
pub(super) fn text(text: &str, words: Words<'_>) -> Cell {
    Cell::Text(words.shortened(text))
}

/// The engine's own name.
pub(super) fn engine(engine: &str) -> &str {
    EngineKind::from_name(engine).map_or(engine, |kind| kind.title())
}

/// The stage at which a drill ended.
pub(super) fn last_stage(report: &DrillReport) -> DrillStage {
    report.failed_stage.unwrap_or(DrillStage::Verdict)
}

/// At most so many lines as people will look through.
pub(super) fn first_lines(lines: &[&String], words: Words<'_>) -> Vec<String> {
    let mut shown: Vec<String> = lines.iter().take(MANY).map(|line| words.shortened(line)).collect();
    if lines.len() > MANY {
        shown.push(words.and_more(words.count((lines.len() - MANY) as u64)));
    }
    shown
}
