//! What the manifest says about a PostgreSQL source in addition to what it says for all engines.

use serde::{Deserialize, Serialize};

use super::by_path::ByPath;
use super::computed::Computed;
use super::connect::Session;
use super::definitions::Definitions;
use super::globals::Globals;
use super::known::Known;
use super::links::Links;
use super::row::Row;
use super::session_settings::SessionSettings;
use crate::engine::postgres::relations::{ConfigTable, LargeObjects, Scattered, Sequence};
use crate::error::{Error, Result, ResultExt};
use crate::model::engine_kind::EngineKind;
use crate::model::stream::Contents;
use crate::model::table::TableId;

/// `source.details` of the contents.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Details {
    /// Version of `pg_dump`.
    pub tool_version: String,
    /// Major version of the server.
    pub server_major: u32,
    /// The source was a hot standby.
    pub standby: bool,
    /// Its names and its code hold bytes that could not be converted to UTF-8.
    #[serde(default)]
    pub in_bytes: bool,
    /// Roles, settings, the database's properties.
    pub globals: Globals,
    /// Extensions.
    pub extensions: Vec<Extension>,
    /// It has the schema `public`, which every new database has.
    pub public_schema: bool,
    /// Tablespaces that relations of the database are in, other than its default.
    pub tablespaces: Vec<String>,
    /// Where sequences stood.
    pub sequences: Vec<Sequence>,
    /// The libraries that the server preloads, where the user may see that.
    #[serde(default)]
    pub preloaded: Vec<String>,
    /// Tables of extensions: their streams hold the rows that match a condition, which are the user's.
    pub config_tables: Vec<ConfigTable>,
    /// Tables that belong to an extension which did not register them, and that the snapshot does not hold.
    #[serde(default)]
    pub unregistered: Vec<TableId>,
    /// Partitions whose rows may belong to another partition at the destination.
    pub scattered: Vec<Scattered>,
    /// The definitions of its objects; empty in snapshots of the first releases.
    #[serde(default)]
    pub definitions: Definitions,
    /// How they are written; 0 in snapshots of the first releases.
    #[serde(default)]
    pub definitions_form: u32,
    /// The settings with which sessions of the database begin.
    #[serde(default)]
    pub session: SessionSettings,
    /// Objects whose meaning depends on the search path under which they are made.
    #[serde(default)]
    pub by_path: Vec<ByPath>,
    /// Subscriptions, and the options of user mappings.
    #[serde(default)]
    pub links: Links,
    /// What materialized views and stored generated columns held.
    #[serde(default)]
    pub computed: Vec<Computed>,
    /// Large objects, whose bytes are in `data.dump`.
    pub large_objects: LargeObjects,
}

/// An installed extension.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Extension {
    /// Name.
    pub name: String,
    /// Version.
    pub version: String,
}

impl Details {
    /// The root through which this table is loaded, if it is not loaded itself.
    pub(super) fn root_of(&self, table: &TableId) -> Option<&TableId> {
        let scattered = self.scattered.iter().find(|s| s.partition == *table)?;
        Some(&scattered.root)
    }

    /// Tells what is known to be a name every name that a snapshot has.
    pub(super) fn teach(&self, known: &Known, contents: &Contents) {
        for proof in contents.streams.iter().flat_map(|stream| &stream.tables) {
            known.learn_table(&proof.table, &proof.columns);
        }
        let globals = &self.globals;
        let database = &globals.database;
        known.learn([&database.name, &database.owner, &database.encoding].map(String::as_str));
        known.learn([&database.collate, &database.ctype].map(String::as_str));
        known.learn(database.locale.as_deref());
        known.learn(globals.roles.iter().map(|role| role.name.as_str()));
        known.learn(globals.settings.iter().map(|setting| setting.name.as_str()));
        known.learn(self.extensions.iter().map(|extension| extension.name.as_str()));
        known.learn(self.tablespaces.iter().map(String::as_str));
        known.learn(self.sequences.iter().flat_map(|s| [s.schema.as_str(), s.name.as_str()]));
        known.learn(self.links.subscriptions.iter().flat_map(|s| [s.name.as_str(), s.owner.as_str()]));
        known.learn(self.links.user_mappings.iter().map(|mapping| mapping.server.as_str()));
        known.learn(self.definitions.values().flat_map(|names| names.keys()).map(String::as_str));
    }

    /// The details of a snapshot's contents.
    pub(super) fn of(contents: &Contents) -> Result<Self> {
        if contents.source.engine != EngineKind::Postgres.name() {
            return Err(Error::preflight(format!(
                "a snapshot of {} cannot be loaded into postgres",
                contents.source.engine
            ))
            .remedy("Give a destination of the same kind as the source."));
        }
        serde_json::from_value(contents.source.details.clone())
            .or_internal("read the manifest's details of PostgreSQL")
    }
}

/// The extensions of this database.
pub(crate) async fn extensions(session: &Session) -> Result<Vec<Extension>> {
    let rows = session.query("SELECT extname::text, extversion FROM pg_extension ORDER BY 1", &[]).await?;
    let extension = |row: &Row| Extension { name: row.get(0), version: row.get(1) };
    Ok(rows.iter().map(extension).collect())
}

/// The tablespaces that its relations name.
pub(crate) async fn tablespaces(session: &Session) -> Result<Vec<String>> {
    let rows = session
        .query(
            "SELECT DISTINCT t.spcname::text FROM pg_class c
             JOIN pg_tablespace t ON t.oid = c.reltablespace
             WHERE t.spcname <> 'pg_global' ORDER BY 1",
            &[],
        )
        .await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// The libraries that the server preloads; none where the user may not see that.
pub(crate) async fn preloaded(session: &Session) -> Result<Vec<String>> {
    let sql = "SELECT setting FROM pg_settings WHERE name = 'shared_preload_libraries'";
    let rows = session.query(sql, &[]).await?;
    let list: String = rows.first().map(|row| row.get(0)).unwrap_or_default();
    let names = list.split(',').map(|name| name.trim().trim_matches('"').to_owned());
    Ok(names.filter(|name| !name.is_empty()).collect())
}

/// Whether there is a schema `public`.
pub(crate) async fn public_schema(session: &Session) -> Result<bool> {
    let rows =
        session.query("SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = 'public')", &[]).await?;
    Ok(rows.first().is_some_and(|row| row.get(0)))
}
