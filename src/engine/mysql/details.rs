//! What only this engine understands of a snapshot.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::accounts::Account;
use super::definitions::Definition;
use super::tables::Table;
use super::version::Version;
use crate::error::{Error, Result, ResultExt};
use crate::model::stream::Contents;

/// The details in a manifest.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Details {
    /// The source's name.
    pub database: String,
    /// Its character set.
    pub charset: String,
    /// Its collation.
    pub collation: String,
    /// The server's `lower_case_table_names`.
    pub lower_case: String,
    /// All objects, in the order in which they are made.
    pub definitions: Vec<Definition>,
    /// The tables, with what their rows are.
    pub tables: Vec<Table>,
    /// What comes next in each table that counts.
    pub counters: BTreeMap<String, u64>,
    /// What comes next in each sequence.
    pub sequences: BTreeMap<String, String>,
    /// Who may do what in the database.
    pub accounts: Vec<Account>,
}

impl Details {
    /// Of a snapshot.
    pub(super) fn of(contents: &Contents) -> Result<Self> {
        serde_json::from_value(contents.source.details.clone())
            .or_internal("read the details of the manifest")
            .map_err(|e| e.with_kind(crate::error::ErrorKind::Verification))
    }

    /// A table by its name.
    pub(super) fn table(&self, name: &str) -> Result<&Table> {
        let found = self.tables.iter().find(|table| table.name == name);
        found.ok_or_else(|| {
            Error::verification(format!("the manifest does not describe table {}", name.escape_debug()))
        })
    }
}

/// The version of a snapshot's server.
pub(super) fn version(contents: &Contents) -> Result<Version> {
    Version::find(&contents.source.version)
        .ok_or_else(|| Error::verification("the manifest names no version of the server"))
}
