//! PostgreSQL, 12 to 18.
//!
//! A snapshot is one exported snapshot of the server. Its streams:
//!
//! | stream | what it is |
//! | --- | --- |
//! | `globals.sql` | roles and the database itself, for people; marbre takes them from the manifest's details |
//! | `schema.dump` | `pg_dump -Fc` of everything before and after the data |
//! | `data.dump` | `pg_dump -Fc` of the large objects, if there are any |
//! | `sequences.sql` | where sequences stand, for people; marbre takes them from the manifest's details |
//! | `links.sql` | subscriptions and options of user mappings, if there are any, for people; marbre takes them from the manifest's details |
//! | `rows/NNNN` | one table's or leaf partition's own rows in COPY's text form, in the order of its key |
//!
//! A restore gives the archives to `pg_restore` and the rows to COPY. No part of an archive ever goes
//! through `psql`.

mod advice;
mod analyze;
mod archive;
mod archive_load;
mod around;
mod by_path;
mod capture;
mod catalogue_definitions;
mod catalogues;
mod check;
mod compare;
mod complaints;
mod computed;
mod conflict;
mod connect;
mod contents_list;
mod cut;
mod database_properties;
mod definition_select;
mod definitions;
mod destination;
mod details;
mod dial;
mod dump;
mod elsewhere;
mod event_triggers;
mod exceptions;
mod extension_tables;
mod globals;
mod held;
mod inventory;
mod known;
mod links;
mod load_role;
mod loader;
mod loading;
mod lock_watch;
mod neighbours;
mod normal;
mod omitted;
mod parameters;
mod password;
mod postgres_config;
mod quote;
mod readers;
mod relations;
mod replace;
mod rights_definitions;
mod rights_only;
mod roles;
mod row;
mod rows;
mod scratch;
mod second_attempt;
mod sections;
mod server_error;
mod session;
mod session_settings;
mod single_entries;
mod source_facts;
mod sqlstate;
mod sslmode;
mod table_load;
mod table_locks;
mod too_long;
mod tools;
mod url;
mod version;
mod view;
mod wire;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

pub(crate) use loader::PostgresLoader;
pub(crate) use postgres_config::PostgresConfig;
pub(crate) use scratch::{PostgresScratchConfig, PostgresScratchHost};

use self::connect::Connector;
use self::held::Reading;
use self::tools::Tools;
use self::view::PostgresView;
use super::{Engine, Neighbours, OpenOptions, Place, View};
use crate::engine::interruptible;
use crate::error::{Error, Result};
use crate::model::check::Check;

/// Reads one PostgreSQL database.
pub(crate) struct PostgresEngine {
    connector: Connector,
    bin_dir: Option<PathBuf>,
    reading: Reading,
}

impl PostgresEngine {
    /// Reads the configuration; connects to nothing. Fails if the URL or the password file is wrong.
    /// Others wait for a snapshot's locks for at most `give_way_after`.
    pub(crate) fn new(config: PostgresConfig, give_way_after: Duration) -> Result<Self> {
        let reading = Reading { jobs: config.jobs.max(1), give_way_after };
        Ok(Self { connector: Connector::new(&config)?, bin_dir: config.bin_dir, reading })
    }
}

#[async_trait]
impl Engine for PostgresEngine {
    fn describe(&self) -> String {
        self.connector.describe()
    }

    async fn check(&self, cancel: &CancellationToken) -> Vec<Check> {
        check::all(&self.connector.afresh(), self.bin_dir.as_deref(), self.reading.jobs, cancel).await
    }

    async fn open(&self, _: &OpenOptions, cancel: &CancellationToken) -> Result<Box<dyn View>> {
        let connector = self.connector.afresh();
        let opening = connector.convert_or_not(|| async {
            let version = connector.connect(cancel).await?.version;
            let tools = Tools::find(self.bin_dir.as_deref(), version.major).await?;
            PostgresView::open(&connector, tools, self.reading, cancel).await
        });
        let opened = interruptible(cancel, opening).await;
        Ok(Box::new(opened.map_err(|e| conflict::explained(&connector, e))?))
    }

    fn elsewhere(&self, failed: &Error) -> Option<Arc<dyn Engine>> {
        let connector = self.connector.without(conflict::server(failed)?)?;
        Some(Arc::new(Self { connector, bin_dir: self.bin_dir.clone(), reading: self.reading }))
    }

    fn place(&self) -> Option<Place> {
        Some(self.connector.place())
    }

    async fn neighbours(&self, cancel: &CancellationToken) -> Result<Option<Neighbours>> {
        interruptible(cancel, neighbours::ask(&self.connector.afresh(), cancel)).await.map(Some)
    }
}
