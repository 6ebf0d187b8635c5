//! Colour, where somebody looks who has not declined it.

use std::borrow::Cow;
use std::sync::OnceLock;

use clap::ColorChoice;

use crate::model::visible::visible;

/// What a piece of text is, for the eye.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Paint {
    /// As it is.
    Plain,
    /// What others belong to.
    Strong,
    /// What matters less.
    Faint,
    /// As it should be.
    Good,
    /// Somebody should look at it.
    Warning,
    /// Somebody must look at it.
    Bad,
}

/// A line in pieces.
pub(super) type Line = Vec<(Paint, String)>;

static CHOICE: OnceLock<ColorChoice> = OnceLock::new();

/// Says once what the command line wants.
pub(super) fn choose(choice: ColorChoice) {
    let _ = CHOICE.set(choice);
}

/// Whether colour is wanted; `None` where that depends on whether somebody looks.
pub(super) fn wanted() -> Option<bool> {
    let declined = || std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let is_dumb = || std::env::var_os("TERM").is_some_and(|value| value == "dumb");
    match CHOICE.get().copied().unwrap_or(ColorChoice::Auto) {
        ColorChoice::Always => Some(true),
        ColorChoice::Never => Some(false),
        ColorChoice::Auto => (declined() || is_dumb()).then_some(false),
    }
}

/// The text, with what is hidden in it made visible, in its colour.
pub(super) fn painted(line: &[(Paint, String)], coloured: bool) -> String {
    let mut out = String::new();
    for (paint, text) in line {
        let code = match paint {
            _ if !coloured => "",
            Paint::Plain => "",
            Paint::Strong => "1",
            Paint::Faint => "2",
            Paint::Good => "32",
            Paint::Warning => "33",
            Paint::Bad => "1;31",
        };
        let text: Cow<'_, str> = visible(text);
        match code.is_empty() || text.trim().is_empty() {
            true => out += &text,
            false => out += &format!("\u{1b}[{code}m{text}\u{1b}[0m"),
        }
    }
    out.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colour_is_ours_and_never_of_a_name() {
        let line = [(Paint::Bad, "late".to_owned()), (Paint::Plain, " \u{1b}[0m".to_owned())];
        assert_eq!(painted(&line, true), "\u{1b}[1;31mlate\u{1b}[0m \\u001b[0m");
        assert_eq!(painted(&line, false), "late \\u001b[0m");
    }
}
