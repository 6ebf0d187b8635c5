//! What people and programs see: text, or one JSON document on stdout. Everything that marbre writes to a terminal goes
//! through here, where it becomes harmless: names and messages of databases, programs and other people's records may hold
//! what steers one.

use std::io::{IsTerminal, Write};

use serde::Serialize;
use tracing_subscriber::EnvFilter;

use super::journal;
use super::paint::{self, Paint};
use super::screen;
use crate::error::{Error, Result, ResultExt};
use crate::model::document::{Document, Named};
use crate::model::visible::{visible, visible_lines};

/// The columns of a terminal of which nobody knows how wide it is, and the least that anything is laid out for.
const USUAL_WIDTH: usize = 80;
const LEAST_WIDTH: usize = 60;

/// Logs go to stderr: what `MARBRE_LOG` asks for (e.g. `MARBRE_LOG=marbre=debug`), else `default`.
pub(crate) fn start_tracing(default: &str) {
    let filter = EnvFilter::try_from_env("MARBRE_LOG").unwrap_or_else(|_| EnvFilter::new(default));
    // Colours are what the writer makes harmless.
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(|| Log).with_ansi(false);
    // The only other subscriber there could be is one from an earlier call: then that one stays.
    let _ = match journal::is_stderr() {
        true => tracing::subscriber::set_global_default(builder.event_format(journal::Lines).finish()),
        false => tracing::subscriber::set_global_default(builder.finish()),
    };
}

impl Document for Failure<'_> {
    const NAME: &'static str = "error";
    const VERSION: u32 = 1;
}

/// Why a command failed, where it has nothing else to print.
#[derive(Serialize)]
pub(crate) struct Failure<'a> {
    /// What failed.
    error: &'a str,
    /// Why.
    cause: Option<&'a str>,
    /// What to do.
    remedy: Option<&'a str>,
    /// What the command ends with.
    exit_code: u8,
}

impl<'a> Failure<'a> {
    fn of(e: &'a Error) -> Self {
        Self {
            error: e.message(),
            cause: e.cause_text(),
            remedy: e.remedy_text(),
            exit_code: e.kind().exit_code(),
        }
    }
}

/// Prints a failure: cause and remedy apart, or as the JSON document of the command.
pub(crate) fn error(e: &Error, as_json: bool) {
    if !as_json {
        return explain(e);
    }
    // Texts and a number always become JSON.
    let _ = json(&Failure::of(e));
}

/// Prints why a command that has printed its report does not end with 0. stdout has its one document
/// already, so for programs this is a line on stderr.
pub(crate) fn verdict(e: &Error, json: bool) {
    if !json {
        return explain(e);
    }
    event("error", &Failure::of(e));
}

fn explain(e: &Error) {
    let mut text = format!("marbre: {}", e.message());
    for (label, part) in [("cause", e.cause_text()), ("remedy", e.remedy_text())] {
        if let Some(part) = part.filter(|p| !p.is_empty()) {
            text += &format!("\n  {label}: {}", part.trim_end().replace('\n', "\n    "));
        }
    }
    note(&journal::failure(text));
}

/// Prints the one JSON document of a command.
pub(crate) fn json<D: Document>(document: &D) -> Result<()> {
    print(&serde_json::to_string_pretty(&Named::of(document)).or_internal("serialise the result")?);
    Ok(())
}

/// Prints a line of JSON on stderr, for programs that follow what a command does: `docs/schemas/event.schema.json`.
pub(crate) fn event<C: Serialize>(event: &'static str, content: &C) {
    #[derive(Serialize)]
    struct Named<'a, C> {
        event: &'static str,
        #[serde(flatten)]
        content: &'a C,
    }
    // What is no JSON is no event either.
    if let Ok(line) = serde_json::to_string(&Named { event, content }) {
        note(&line);
    }
}

/// Prints a result: the one JSON document, or what people see.
pub(crate) fn report<D: Document>(as_json: bool, report: &D, people: impl FnOnce(&D)) -> Result<()> {
    if as_json {
        return json(report);
    }
    people(report);
    Ok(())
}

/// Prints a line on stdout. A reader that went away is not our failure.
pub(crate) fn print(line: &str) {
    let _ = write(std::io::stdout(), &format!("{line}\n"));
}

/// Prints a line in colours, where somebody looks who wants them.
pub(crate) fn print_line(line: &[(Paint, String)]) {
    let line = paint::painted(line, is_coloured());
    // What was hidden in it is visible already, and what is left steers colours only.
    let _ = screen::suspended(|| std::io::stdout().write_all(format!("{line}\n").as_bytes()));
}

/// Whether standard output is coloured.
fn is_coloured() -> bool {
    paint::wanted().unwrap_or_else(|| std::io::stdout().is_terminal())
}

/// How many columns there are: as `$COLUMNS` or the terminal says, else 80.
pub(crate) fn width() -> usize {
    let said = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    let shown = || rustix::termios::tcgetwinsize(std::io::stdout()).ok().map(|size| usize::from(size.ws_col));
    said.or_else(shown).filter(|width| *width > 0).unwrap_or(USUAL_WIDTH).max(LEAST_WIDTH)
}

/// Prints a line on stderr, where nobody may be looking.
pub(crate) fn note(line: &str) {
    let _ = write(std::io::stderr(), &format!("{line}\n"));
}

/// Asks on stderr for a line, where a person is at the terminal; `None` where nobody can be asked, or does not answer.
pub(crate) fn ask(question: &str) -> Option<String> {
    if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
        return None;
    }
    screen::suspended(|| {
        put(std::io::stderr(), question).ok()?;
        let mut answer = String::new();
        std::io::stdin().read_line(&mut answer).ok()?;
        Some(answer.trim().to_owned())
    })
}

/// Writes a text, and not into a bar that is drawn.
fn write(to: impl Write, text: &str) -> std::io::Result<()> {
    screen::suspended(|| put(to, text))
}

/// Writes a text at once, with what is hidden in it made visible.
fn put(mut to: impl Write, text: &str) -> std::io::Result<()> {
    to.write_all(visible_lines(text).as_bytes())?;
    to.flush()
}

/// Takes whole lines of the log to stderr.
struct Log;

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        write(std::io::stderr(), &String::from_utf8_lossy(bytes))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A table with aligned columns; numbers are aligned by their caller.
pub(crate) fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let width = |s: &str| s.chars().count();
    let rows: Vec<Vec<String>> =
        rows.iter().map(|row| row.iter().map(|cell| visible(cell).into_owned()).collect()).collect();
    let mut widths: Vec<usize> = header.iter().map(|h| width(h)).collect();
    for row in &rows {
        for (w, cell) in widths.iter_mut().zip(row) {
            *w = (*w).max(width(cell));
        }
    }
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let padded: Vec<String> =
            cells.zip(&widths).map(|(cell, w)| format!("{cell}{}", " ".repeat(w - width(cell)))).collect();
        padded.join("  ").trim_end().to_owned()
    };
    let mut lines = vec![line(&mut header.iter().copied())];
    lines.extend(rows.iter().map(|row| line(&mut row.iter().map(String::as_str))));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    #[test]
    fn columns_are_aligned() {
        let rows = vec![vec!["é".to_owned(), "22".to_owned()], vec!["abc".to_owned(), String::new()]];
        assert_eq!(super::table(&["A", "B"], &rows), "A    B\né    22\nabc");
        let rows = vec![vec!["\u{1b}".to_owned(), "b\nc".to_owned()]];
        assert_eq!(super::table(&["A", "B"], &rows), "A       B\n\\u001b  b\\u000ac");
    }
}
