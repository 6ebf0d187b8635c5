//! The one stream that a snapshot of SQLite has.

use super::STREAM;
use crate::error::{Error, Result};
use crate::model::engine_kind::EngineKind;
use crate::model::stream::{Contents, StreamFacts, StreamKind};

/// The only stream of a SQLite snapshot, and its page size.
pub(super) fn database_stream(contents: &Contents) -> Result<(&StreamFacts, u32)> {
    if contents.source.engine != EngineKind::Sqlite.name() {
        return Err(Error::preflight(format!(
            "snapshot {} is of a {} database, not of SQLite",
            contents.snapshot, contents.source.engine
        ))
        .remedy("Name a destination of the same engine."));
    }
    match contents.streams.as_slice() {
        [entry] if entry.name == STREAM => match entry.kind {
            StreamKind::Pages { page_size } => Ok((entry, page_size)),
            _ => Err(unexpected(contents)),
        },
        _ => Err(unexpected(contents)),
    }
}

fn unexpected(contents: &Contents) -> Error {
    Error::verification(format!(
        "snapshot {} does not contain the pages of one SQLite database",
        contents.snapshot
    ))
    .remedy("Restore it with the version of marbre that made it.")
}
