//! How the databases stand, told once in a while even where nothing is wrong: silence must not be the only good news.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::id::DatabaseId;
use super::route::Audience;

/// What is told of a period.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Digest {
    /// When it begins: when the last one was made.
    pub since: Timestamp,
    /// When it ends.
    pub until: Timestamp,
    /// Every database.
    pub databases: Vec<DatabaseDigest>,
    /// Databases of the last one that are no longer configured.
    pub gone: Vec<DatabaseId>,
}

/// One database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DatabaseDigest {
    /// The database.
    pub database: DatabaseId,
    /// How it stands; `None` where it could not be looked at.
    pub now: Option<Standing>,
    /// How it stood at the end of the last period; `None` where it is new.
    pub before: Option<Standing>,
    /// How many incidents concerned it in the period.
    pub incidents: usize,
    /// What is wrong with it now, in full sentences.
    pub open: Vec<String>,
}

/// How a database stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Standing {
    /// The moment whose state the newest snapshot holds.
    pub newest: Option<Timestamp>,
    /// It is too old.
    pub late: bool,
    /// The moment whose state the newest proven snapshot holds.
    pub proven: Option<Timestamp>,
    /// The proof is missing, or older than agreed.
    pub unproven: bool,
    /// How long the last drill took to recover, in milliseconds.
    pub recovery: Option<u64>,
    /// How long that may take, in seconds.
    pub promised: Option<u64>,
    /// Rows of the newest snapshot.
    pub rows: u64,
    /// Its bytes, as read from the source.
    pub bytes: u64,
}

impl Digest {
    /// What of it is for these readers.
    pub(crate) fn narrowed(&self, audience: &Audience) -> Self {
        let mut narrowed = self.clone();
        narrowed.databases.retain(|of| audience.may_hear_of(Some(&of.database)));
        narrowed.gone.retain(|database| audience.may_hear_of(Some(database)));
        narrowed
    }

    /// How a database stood at its end.
    pub(crate) fn standing(&self, database: &DatabaseId) -> Option<&Standing> {
        self.databases.iter().find(|of| of.database == *database)?.now.as_ref()
    }
}
