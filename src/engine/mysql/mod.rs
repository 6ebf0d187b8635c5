//! MariaDB, 10.5 and later, and MySQL, 8.0 and later.
//!
//! A snapshot is one state of all tables that know transactions, seen by several connections that began while nobody could write to
//! them (see `held`). Its streams:
//!
//! | stream | what it is |
//! | --- | --- |
//! | `rows/NNNN` | one table's rows as LOAD DATA takes them: in the order of its key, tabs between values, `\N` for NULL |
//! | `schema.sql` | sequences and tables, for people; marbre takes them from the manifest's details |
//! | `load.sql` | the statements that load the rows, for people |
//! | `program.sql` | routines, views, triggers and events, for people; marbre takes them from the manifest's details |
//! | `accounts.sql` | users and their rights in the database, for people; marbre takes them from the manifest's details |
//!
//! Rows are the bytes of the columns: nothing is converted to another character set, which could replace what does not fit, and
//! nothing is written in hexadecimal digits, which gives NULL for values that are longer than half of `max_allowed_packet`.
//! Definitions are the server's own, by SHOW CREATE: no dump tool is needed, and none of another version can be in the way.
//! Reading a table runs no code of the database: views are not read, and what columns compute is left out.

mod accounts;
mod check;
mod compare;
mod connect;
mod definitions;
mod destination;
mod details;
mod handshake;
mod held;
mod inventory;
mod loader;
mod loading;
mod mark;
mod quote;
mod rights;
mod scratch;
mod script;
mod server_error;
mod session;
mod table_parts;
mod tables;
mod url;
mod version;
mod view;
mod watch;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use self::connect::Connector;
pub(crate) use self::connect::MysqlConfig;
pub(crate) use self::loader::MysqlLoader;
pub(crate) use self::scratch::{MysqlScratchConfig, MysqlScratchHost};
use super::{Engine, Neighbours, OpenOptions, Place, View, interruptible};
use crate::error::{Error, Result};
use crate::model::check::Check;

/// Reads one MariaDB or MySQL database.
pub(crate) struct MysqlEngine {
    connector: Connector,
    jobs: usize,
    refuse_non_transactional: bool,
    /// How long others may wait for a snapshot's locks.
    give_way_after: Duration,
}

impl MysqlEngine {
    /// Reads the configuration; connects to nothing. Fails if the URL is wrong.
    pub(crate) fn new(config: &MysqlConfig, give_way_after: Duration) -> Result<Self> {
        Ok(Self {
            connector: Connector::new(config)?,
            jobs: config.jobs.max(1),
            refuse_non_transactional: config.refuse_non_transactional,
            give_way_after,
        })
    }
}

#[async_trait]
impl Engine for MysqlEngine {
    fn describe(&self) -> String {
        self.connector.describe()
    }

    async fn check(&self, cancel: &CancellationToken) -> Vec<Check> {
        check::check_all(&self.connector, self.refuse_non_transactional, cancel).await
    }

    async fn open(&self, _options: &OpenOptions, cancel: &CancellationToken) -> Result<Box<dyn View>> {
        let opening = view::MysqlView::open(
            &self.connector,
            self.jobs,
            self.refuse_non_transactional,
            self.give_way_after,
            cancel,
        );
        Ok(Box::new(interruptible(cancel, opening).await?))
    }

    fn elsewhere(&self, _failed: &Error) -> Option<Arc<dyn Engine>> {
        None
    }

    fn place(&self) -> Option<Place> {
        Some(self.connector.place())
    }

    async fn neighbours(&self, cancel: &CancellationToken) -> Result<Option<Neighbours>> {
        let mut session = self.connector.connect(cancel).await?;
        // A server of MariaDB has no identifier of its own: its address must do.
        let identity = match session.rows("SELECT @@server_uuid").await {
            Ok(rows) => rows.into_iter().next().and_then(|mut row| row.pop().flatten()),
            Err(_) => None,
        };
        let place = self.connector.place();
        let identity = identity.unwrap_or_else(|| format!("{}:{}", place.host, place.port));
        let sql = "SELECT SCHEMA_NAME FROM information_schema.SCHEMATA \
                   WHERE SCHEMA_NAME NOT IN ('information_schema', 'performance_schema', 'mysql', 'sys')";
        let rows = session.query(sql, "list the databases").await?;
        let databases = rows.into_iter().filter_map(|mut row| row.pop().flatten()).collect();
        Ok(Some(Neighbours { identity, place, databases }))
    }
}
