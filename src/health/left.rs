//! Databases that left the configuration, and of which an archive is still there, as far as the agent remembers.

use jiff::Timestamp;
use serde::Serialize;

use crate::config::Config;
use crate::error::Result;
use crate::model::id::{DatabaseName, PublisherName, SnapshotId, TargetName};
use crate::repository::remembered::Remembered as _;
use crate::state::State;

/// An archive whose database is not in the configuration.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct LeftArchive {
    /// Whose data.
    pub publisher: PublisherName,
    /// Which database.
    pub database: DatabaseName,
    /// The newest snapshot that the agent remembers.
    pub snapshot: SnapshotId,
    /// The moment whose state it holds.
    pub consistent_at: Option<Timestamp>,
    /// The targets of the configuration that should still hold snapshots.
    pub targets: Vec<TargetName>,
}

impl LeftArchive {
    /// In words.
    pub(crate) fn text(&self) -> String {
        let at = match self.consistent_at {
            Some(at) => at.to_string(),
            None => self.snapshot.to_string(),
        };
        let targets: Vec<&str> = self.targets.iter().map(TargetName::as_str).collect();
        let place = match targets.is_empty() {
            true => "at no target of the configuration".to_owned(),
            false => format!("still at {}", targets.join(", ")),
        };
        format!(
            "{}/{}: not in the configuration; last snapshot {at}; its archive is {place}",
            self.publisher, self.database
        )
    }
}

/// Every archive that the agent remembers and the configuration does not name.
pub(crate) fn archives(config: &Config, state: &State) -> Result<Vec<LeftArchive>> {
    let mut left = Vec::new();
    for database in state.databases()? {
        if config.databases.iter().any(|db| db.id == database) {
            continue;
        }
        let Some(head) = state.head(&database)? else { continue };
        let receipt = state.receipt(&database, &head.snapshot)?;
        let mut targets = Vec::new();
        for target in config.targets.keys() {
            if !state.stored_at(&database, target)?.is_empty() {
                targets.push(target.clone());
            }
        }
        left.push(LeftArchive {
            publisher: database.publisher,
            database: database.database,
            snapshot: head.snapshot,
            consistent_at: receipt.map(|signed| signed.receipt.consistent_at),
            targets,
        });
    }
    Ok(left)
}
