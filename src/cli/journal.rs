//! The log as the journal of systemd wants it: each line with its priority, and without a time, which the journal knows.

use std::fmt;
use std::os::unix::fs::MetadataExt;

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// Whether stderr is the journal: systemd names the device and the inode of what it made
/// (<https://systemd.io/JOURNAL_NATIVE_PROTOCOL/>).
pub(super) fn is_stderr() -> bool {
    let Some(named) = std::env::var_os("JOURNAL_STREAM") else { return false };
    let Ok(stderr) = std::fs::metadata("/proc/self/fd/2") else { return false };
    named.to_str() == Some(&format!("{}:{}", stderr.dev(), stderr.ino()))
}

/// A text that says why something failed, for stderr.
pub(super) fn failure(text: String) -> String {
    if !is_stderr() {
        return text;
    }
    marked(priority(Level::ERROR), &text)
}

/// Each line of a text with its priority.
fn marked(priority: u8, text: &str) -> String {
    text.lines().map(|line| format!("<{priority}>{line}")).collect::<Vec<_>>().join("\n")
}

/// Lines for the journal. Each line of a message has the priority: the journal takes each for an entry of its own.
pub(super) struct Lines;

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut to: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut text = String::new();
        context.field_format().format_fields(Writer::new(&mut text), event)?;
        writeln!(to, "{}", marked(priority(*event.metadata().level()), &text))
    }
}

/// The priorities of syslog.
fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        _ => 7,
    }
}
