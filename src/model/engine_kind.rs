//! The kinds of database that marbre can read and load.

use strum::VariantArray;

/// A kind of database, with its own engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, VariantArray)]
pub enum EngineKind {
    /// A PostgreSQL database on a server.
    Postgres,
    /// A MariaDB database on a server.
    MariaDb,
    /// A MySQL database on a server.
    MySql,
    /// An SQLite database in a file.
    Sqlite,
}

impl EngineKind {
    /// All of them.
    pub const ALL: &[Self] = Self::VARIANTS;

    /// Its name in configurations, receipts and manifests.
    pub fn name(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::MariaDb => "mariadb",
            Self::MySql => "mysql",
            Self::Sqlite => "sqlite",
        }
    }

    /// How people write it.
    pub fn title(self) -> &'static str {
        match self {
            Self::Postgres => "PostgreSQL",
            Self::MariaDb => "MariaDB",
            Self::MySql => "MySQL",
            Self::Sqlite => "SQLite",
        }
    }

    /// The one that has this name; `None` for one that a newer release may know.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.name() == name)
    }
}
