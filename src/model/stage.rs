//! The stages of jobs: one list, for whoever announces, times, limits or reports them.

use serde::{Serialize, Serializer};
use strum::VariantArray;

/// What a job is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, VariantArray)]
pub enum Stage {
    /// Listing what the targets hold.
    Targets,
    /// Reading the receipts that lie there.
    Receipts,
    /// Opening the source for a snapshot, or the list of contents of one.
    Open,
    /// Reading the source; what is read goes to the targets meanwhile.
    Read,
    /// Finishing what is read of it as a whole (digests), closing the source, and sending the last packs.
    Close,
    /// Writing and signing what was done.
    Record,
    /// Waiting until the targets hold everything, and putting the record there.
    Commit,
    /// Fetching the objects of a snapshot.
    Fetch,
    /// Starting a throwaway server.
    Server,
    /// Making the roles that the data belongs to.
    Roles,
    /// Making tables and whatever must be there before their rows.
    Schema,
    /// Loading what is not a table: large objects, sequences.
    Data,
    /// Loading rows.
    Rows,
    /// Writing the pages of a SQLite file.
    Pages,
    /// Letting SQLite check the file.
    Check,
    /// Building indexes and constraints.
    Indexes,
    /// Gathering statistics for the planner.
    Analyze,
    /// Comparing what was restored with what was saved.
    Compare,
    /// Running the checks of a drill.
    Checks,
    /// Removing the restored copy.
    Remove,
    /// Reading objects back.
    Objects,
    /// Copying what a target lacks.
    Copy,
    /// Deleting what nothing keeps.
    Delete,
}

impl Stage {
    /// All of them.
    pub const ALL: &[Self] = Self::VARIANTS;

    /// Its key in the configuration, and its word in messages and documents.
    pub fn word(self) -> &'static str {
        match self {
            Self::Targets => "targets",
            Self::Receipts => "receipts",
            Self::Open => "open",
            Self::Read => "read",
            Self::Close => "close",
            Self::Record => "record",
            Self::Commit => "commit",
            Self::Fetch => "fetch",
            Self::Server => "server",
            Self::Roles => "roles",
            Self::Schema => "schema",
            Self::Data => "data",
            Self::Rows => "rows",
            Self::Pages => "pages",
            Self::Check => "check",
            Self::Indexes => "indexes",
            Self::Analyze => "analyze",
            Self::Compare => "compare",
            Self::Checks => "checks",
            Self::Remove => "remove",
            Self::Objects => "objects",
            Self::Copy => "copy",
            Self::Delete => "delete",
        }
    }

    /// Whether it takes seconds whatever the size of the database: it opens something or writes something down.
    pub fn is_brief(self) -> bool {
        match self {
            Self::Open | Self::Record | Self::Server | Self::Roles | Self::Schema => true,
            Self::Close
            | Self::Targets
            | Self::Receipts
            | Self::Read
            | Self::Commit
            | Self::Fetch
            | Self::Data => false,
            Self::Rows | Self::Pages | Self::Check | Self::Indexes | Self::Analyze | Self::Compare => false,
            Self::Checks | Self::Remove | Self::Objects | Self::Copy | Self::Delete => false,
        }
    }

    /// Whether no progress can be seen in it: one statement, or one program, may work for hours.
    pub fn is_silent(self) -> bool {
        match self {
            Self::Close | Self::Check | Self::Indexes | Self::Analyze => true,
            Self::Compare | Self::Checks | Self::Remove => true,
            Self::Targets | Self::Receipts | Self::Open | Self::Read | Self::Record | Self::Commit => false,
            Self::Fetch | Self::Server | Self::Roles | Self::Schema | Self::Data | Self::Rows => false,
            Self::Pages | Self::Objects | Self::Copy | Self::Delete => false,
        }
    }
}

impl Serialize for Stage {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.word())
    }
}
