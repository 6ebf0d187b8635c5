//! Text that was not written here, as lines that do no harm; and moments, to the second.

use jiff::Timestamp;

/// The most characters of a line that was not written here.
pub(super) const LINE: usize = 400;

/// One line of at most so many characters. Whatever could end a line or a header, or control a terminal, becomes a space.
pub(super) fn clean(text: &str, most: usize) -> String {
    let harmful = |c: char| {
        // Line separators, and marks that change the direction of the text after them.
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
    };
    let spaced: String = text.chars().map(|c| if harmful(c) { ' ' } else { c }).collect();
    let line = spaced.split_whitespace().collect::<Vec<_>>().join(" ");
    shorten(&line, most)
}

/// The beginning of a text, with an ellipsis if there was more.
pub(super) fn shorten(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        None => text.to_owned(),
        Some(_) => text.chars().take(most.saturating_sub(1)).chain(['…']).collect(),
    }
}

/// A moment as messages name it: `2026-11-25T02:00:00Z`.
pub(super) fn second(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
