//! A glance at databases: what the agent remembers, and what the targets answer in time.

use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::source::Source;
use super::{jobs, launcher};
use crate::config::Config;
use crate::error::{Error, ErrorKind, Result};
use crate::health::look::database_status;
use crate::health::status::{DatabaseStatus, Promises, Rpo};

/// How long targets may be silent, unless somebody says otherwise: a person looks, and wants to see what there is.
pub(crate) const PATIENCE: Duration = Duration::from_secs(4);
/// Databases that are looked at at the same time.
const PARALLEL: usize = 16;

/// Those of one publisher.
///
/// # Errors
/// Kind `NotFound`, with the known publishers.
pub(crate) fn of_publisher(sources: Vec<Source>, publisher: &str) -> Result<Vec<Source>> {
    let mut known: Vec<String> = sources.iter().map(|source| source.database.publisher.to_string()).collect();
    let of_it = |source: &Source| source.database.publisher.as_str() == publisher;
    let sources: Vec<Source> = sources.into_iter().filter(of_it).collect();
    if sources.is_empty() {
        known.sort_unstable();
        known.dedup();
        let error =
            Error::new(ErrorKind::NotFound, format!("there is no database of publisher {publisher:?}"));
        return Err(error.remedy(format!("Known publishers: {}.", known.join(", "))));
    }
    Ok(sources)
}

/// How these databases stand, in their order. `asked` is how old their newest snapshots may be, where whoever looks says
/// so; without a configuration nothing else is known of what was promised.
pub(crate) async fn statuses(
    sources: &[Source],
    config: Option<&Config>,
    asked: Option<Rpo>,
    now: Timestamp,
    cancel: &CancellationToken,
) -> Result<Vec<DatabaseStatus>> {
    let looks = stream::iter(sources).map(|source| status(source, config, asked, now, cancel));
    looks.buffered(PARALLEL).try_collect().await
}

async fn status(
    source: &Source,
    config: Option<&Config>,
    asked: Option<Rpo>,
    now: Timestamp,
    cancel: &CancellationToken,
) -> Result<DatabaseStatus> {
    let Some(config) = config else {
        let promises = Promises { rpo: asked, ..Promises::default() };
        return database_status(&source.reader(), promises, now, cancel).await;
    };
    let settings = config.database(&source.database.to_string())?;
    let mut promises = jobs::promises(settings);
    promises.rpo = asked.or(promises.rpo);
    launcher::status(config, settings, &source.reader(), promises, now, cancel).await
}
