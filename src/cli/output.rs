//! What people and programs see: text, or one JSON document on stdout.

use std::io::{IsTerminal, Write};

use serde::Serialize;
use tracing_subscriber::EnvFilter;

use crate::error::{Error, Result, ResultExt};

/// Logs go to stderr: what `MARBRE_LOG` asks for (e.g. `MARBRE_LOG=marbre=debug`), else `default`.
pub(crate) fn start_tracing(default: &str) {
    let filter = EnvFilter::try_from_env("MARBRE_LOG").unwrap_or_else(|_| EnvFilter::new(default));
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .finish();
    // The only other subscriber there could be is one from an earlier call: then that one stays.
    let _ = tracing::subscriber::set_global_default(subscriber);
}

/// Prints a failure: cause and remedy apart, or as the JSON document of the command.
pub(crate) fn error(e: &Error, json: bool) {
    if json { print(&document(e).to_string()) } else { explain(e) }
}

/// Prints why a command that has printed its report does not end with 0. stdout has its one document
/// already, so for programs this is a line on stderr.
pub(crate) fn verdict(e: &Error, json: bool) {
    if json {
        let mut line = document(e);
        line["event"] = "error".into();
        let _ = writeln!(std::io::stderr(), "{line}");
    } else {
        explain(e);
    }
}

fn document(e: &Error) -> serde_json::Value {
    serde_json::json!({
        "error": e.message(),
        "cause": e.cause_text(),
        "remedy": e.remedy_text(),
        "exit_code": e.kind().exit_code(),
    })
}

fn explain(e: &Error) {
    let mut text = format!("marbre: {}\n", e.message());
    for (label, part) in [("cause", e.cause_text()), ("remedy", e.remedy_text())] {
        if let Some(part) = part.filter(|p| !p.is_empty()) {
            text += &format!("  {label}: {}\n", part.trim_end().replace('\n', "\n    "));
        }
    }
    let _ = std::io::stderr().write_all(text.as_bytes());
}

/// Prints the one JSON document of a command.
pub(crate) fn json<T: Serialize>(document: &T) -> Result<()> {
    print(&serde_json::to_string_pretty(document).or_internal("serialise the result")?);
    Ok(())
}

/// Prints a result: the one JSON document, or what people see.
pub(crate) fn report<T: Serialize>(as_json: bool, report: &T, people: impl FnOnce(&T)) -> Result<()> {
    if as_json {
        return json(report);
    }
    people(report);
    Ok(())
}

/// Prints a line on stdout. A reader that went away is not our failure.
pub(crate) fn print(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// A table with aligned columns; numbers are aligned by their caller.
pub(crate) fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let width = |s: &str| s.chars().count();
    let mut widths: Vec<usize> = header.iter().map(|h| width(h)).collect();
    for row in rows {
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
    }
}
