//! Words and numbers that several parts of the page use.

use jiff::Timestamp;

use super::Cell;
use crate::model::engine_kind::EngineKind;
use crate::model::human::count;
use crate::model::level::By;

/// Rows of a table that people will look through.
pub const MANY: usize = 200;

/// Characters of one text: whatever a server says, the page stays readable.
const LONG: usize = 2000;

/// `1 table`, `2 tables`.
pub fn counted(n: u64, one: &str, many: &str) -> String {
    format!("{} {}", count(n), if n == 1 { one } else { many })
}

/// `2026-11-22 02:00:00Z`: RFC 3339 with the space that it allows for people.
pub fn time(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%SZ").to_string()
}

/// A text of somebody else, which may be of any length.
pub fn text(text: &str) -> Cell {
    Cell::Text(shortened(text))
}

/// At most so much of it as people will read.
pub fn shortened(text: &str) -> String {
    match text.char_indices().nth(LONG) {
        None => text.to_owned(),
        Some((end, _)) => {
            let left = text[end..].chars().count() as u64;
            format!("{}… ({} more)", &text[..end], counted(left, "character", "characters"))
        }
    }
}

/// With a dot at its end.
pub fn sentence(text: &str) -> String {
    let text = shortened(text.trim_end());
    if text.ends_with(['.', '!', '?']) { text } else { text + "." }
}

/// Who makes drills.
pub fn maker(by: By) -> &'static str {
    match by {
        By::Agent => "the agent",
        By::Owner => "the owner of the data",
    }
}

/// The engine's own name.
pub fn engine(engine: &str) -> &str {
    EngineKind::from_name(engine).map_or(engine, |kind| kind.title())
}

/// The stages in their order.
const STAGES: [(&str, &str); 11] = [
    ("start", "beginning"),
    ("receipts", "reading the signed receipts and choosing the snapshot"),
    ("fetch", "fetching every object of the snapshot from the target, and checking its hash"),
    ("open", "decrypting the snapshot's list of contents"),
    ("server", "starting the throwaway database"),
    ("load", "decrypting the data and loading it"),
    ("index", "building the indexes"),
    ("compare", "comparing what came back with what was saved"),
    ("checks", "making the checks"),
    ("remove", "removing the restored copy"),
    ("verdict", "weighing what was found"),
];

/// What is done at a stage.
pub fn stage(name: &str) -> &'static str {
    STAGES.iter().find(|(stage, _)| *stage == name).map_or("", |(_, doing)| doing)
}

/// Whether one stage comes after another.
pub fn is_after(stage: &str, other: &str) -> bool {
    let place = |name: &str| STAGES.iter().position(|(stage, _)| *stage == name);
    place(stage) > place(other)
}

/// The stages whose time is the measured recovery.
pub fn is_recovery(stage: &str) -> bool {
    is_after(stage, "start") && !is_after(stage, "index")
}

/// A text with its line breaks as spaces, for a page that breaks lines itself.
pub fn on_one_line(text: &str) -> String {
    visible(&text.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// With whatever could not be seen, or could turn the text around it, written out: names come from databases.
pub fn visible(text: &str) -> String {
    let hidden = |c: char| {
        c.is_control()
            || matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}')
            || matches!(c, '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
    };
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match hidden(c) {
            true => out.extend(c.escape_default()),
            false => out.push(c),
        }
    }
    out
}
