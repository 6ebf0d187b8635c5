//! A second attempt at entries of an archive that were not restored: after everything else, because things depend on rows of other
//! tables, of which an archive knows nothing.

use super::archive_load::{Outcome, Unrestored};
use super::single_entries::{Attempt, SingleEntries};
use crate::error::Result;

/// Tries all of these once. The outcome names what is still not restored.
pub(super) async fn all(
    entries: &SingleEntries<'_>,
    failed: Vec<Unrestored>,
    attempt: Attempt,
) -> Result<Outcome> {
    if failed.iter().all(|entry| entry.made) {
        return Ok(Outcome { warnings: Vec::new(), failed });
    }
    let (loader, session) = (entries.load.loader, entries.load.session);
    if let Some(loader) = loader {
        loader.open_schemas(session).await?;
        loader.open_tables(session).await?;
    }
    let mut outcome = Outcome::default();
    for entry in failed {
        outcome.extend(if entry.made {
            Outcome::failed(entry)
        } else {
            entries.make(entry, attempt).await?
        });
    }
    if let Some(loader) = loader {
        loader.close(session).await?;
    }
    Ok(outcome)
}
