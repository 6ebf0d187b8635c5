//! One consistent state of a database: an exported snapshot, and the streams that are read under it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::try_join_all;
use jiff::Timestamp;
use tokio_postgres::error::SqlState;
use tokio_util::sync::CancellationToken;

use super::around::{self, LeftOut};
use super::computed::{self, Computed};
use super::connect::{Connector, Session};
use super::details::{self, Details, Extension};
use super::dump::{Dump, Part};
use super::globals::Globals;
use super::held::{self, Held, Reading};
use super::links::Links;
use super::omitted::{self, Look};
use super::postgres_config::TooLongRows;
use super::rows::Stopped;
use super::tools::Tools;
use super::url::Server;
use super::{
    by_path, capture, catalogues, conflict, definitions, inventory, quote, rows, session_settings, too_long,
};
use crate::engine::postgres::relations;
use crate::engine::postgres::relations::{ConfigTable, Scattered, Table};
use crate::engine::postgres::{source_facts, table_locks};
use crate::engine::{StreamPlan, StreamSender, TablePlan, View, ViewFacts, one_by_one};
use crate::error::{Error, ErrorKind, Result, ResultExt};
use crate::model::engine_kind::EngineKind;
use crate::model::omission::Omission;
use crate::model::raw_text;
use crate::model::stream::{SourceFacts, StreamKind};
use crate::model::table::TableId;

/// How long the session that holds the snapshot may take to answer a ping.
const ANSWER: Duration = Duration::from_secs(2);

/// The schema: everything before and after the data.
pub(crate) const SCHEMA: &str = "schema.dump";
/// Large objects, if there are any.
pub(crate) const DATA: &str = "data.dump";
/// Roles and the database itself, as SQL for people.
pub(crate) const GLOBALS: &str = "globals.sql";
/// The positions of sequences, as SQL for people.
pub(crate) const SEQUENCES: &str = "sequences.sql";

/// Subscriptions, and the options of user mappings, as SQL for people.
pub(crate) const LINKS: &str = "links.sql";

/// An open snapshot of a PostgreSQL database.
pub(crate) struct PostgresView {
    connector: Connector,
    tools: Tools,
    held: Held,
    schema: Mutex<Option<Dump>>,
    visible: String,
    consistent_at: Timestamp,
    consistency_point: String,
    standby: bool,
    server_version: String,
    tables: BTreeMap<String, Table>,
    config_tables: Vec<ConfigTable>,
    unregistered: Vec<TableId>,
    globals: Globals,
    links: Links,
    omitted: Vec<Omission>,
    left_out: LeftOut,
    extensions: Vec<Extension>,
    tablespaces: Vec<String>,
    warnings: Vec<String>,
    streams: Vec<Arc<StreamPlan>>,
}

impl PostgresView {
    /// Locks all tables, takes the snapshot, and plans the streams.
    pub(super) async fn open(
        connector: &Connector,
        tools: Tools,
        reading: Reading,
        cancel: &CancellationToken,
    ) -> Result<Self> {
        let mut held = held::take(connector, &tools, reading, cancel).await?;
        let coordinator = &held.coordinator;
        for table in &held.tables {
            connector.known().learn_table(&table.id, &table.columns);
        }
        source_facts::refuse_foreign_options(coordinator, tools.version).await?;
        let point = source_facts::point(coordinator).await?;
        let globals = capture::all(coordinator).await?;
        source_facts::refuse_incomplete(&globals)?;
        let Look { links, unregistered, omitted } = omitted::look(connector, coordinator).await?;
        let mut warnings =
            source_facts::warnings(coordinator, &held.tables, point.standby, &globals, &links).await?;
        warnings.extend(connector.instead_of().map(|standby| conflict::warning(connector, standby)));
        let unknown = catalogues::unknown(coordinator).await?;
        warnings.extend(catalogues::warning(&unknown).map(|what| format!("{what}. {}", catalogues::REMEDY)));
        let extensions = details::extensions(coordinator).await?;
        let tablespaces = details::tablespaces(coordinator).await?;
        let config_tables: Vec<ConfigTable> = held.tables.iter().filter_map(config_table).collect();
        let with_rows = std::mem::take(&mut held.tables).into_iter().filter(|table| table.has_rows);
        let tables: BTreeMap<String, Table> =
            with_rows.enumerate().map(|(i, table)| (format!("rows/{:04}", i + 1), table)).collect();
        let mut view = Self {
            connector: connector.clone(),
            tools,
            visible: point.visible,
            consistent_at: point.at,
            consistency_point: point.lsn,
            standby: point.standby,
            server_version: point.version,
            extensions,
            tablespaces,
            schema: Mutex::new(held.schema.take()),
            held,
            tables,
            config_tables,
            unregistered: unregistered.into_iter().map(|table| table.id).collect(),
            globals,
            links,
            omitted,
            left_out: LeftOut::default(),
            warnings,
            streams: Vec::new(),
        };
        view.streams = view.plan().await?;
        Ok(view)
    }

    async fn plan(&self) -> Result<Vec<Arc<StreamPlan>>> {
        let objects = relations::size_of_large_objects(&self.held.coordinator).await?;
        let bytes = |name: &str, estimate: u64| StreamPlan {
            name: name.to_owned(),
            identity: format!("postgres {name}"),
            kind: StreamKind::Bytes,
            table: None,
            estimate,
        };
        let mut streams = vec![
            bytes(GLOBALS, self.globals.script().len() as u64),
            bytes(SEQUENCES, 100 * self.held.sequences.len() as u64),
        ];
        // Another dump reads the whole catalogue once more, so it had better be needed.
        streams.extend(objects.map(|size| bytes(DATA, size)));
        let links = self.links.script().len() as u64;
        if links > 0 {
            streams.push(bytes(LINKS, links));
        }
        for (name, table) in &self.tables {
            // There can be very many, and all are remembered.
            let how = serde_json::json!([table.columns, table.condition, self.held.settings]).to_string();
            let how = &blake3::hash(how.as_bytes()).to_hex()[..32];
            streams.push(StreamPlan {
                name: name.clone(),
                identity: format!(
                    "postgres rows {} {how}",
                    quote::qualified(&table.id.schema, &table.id.table)
                ),
                kind: StreamKind::Rows,
                table: Some(TablePlan {
                    table: table.id.clone(),
                    columns: table.columns.clone(),
                    key: table.key.clone(),
                }),
                estimate: table.size,
            });
        }
        streams.sort_by(|a, b| b.estimate.cmp(&a.estimate).then(a.name.cmp(&b.name)));
        // First of all, because `pg_dump` holds it, and a connection.
        streams.insert(0, bytes(SCHEMA, 2000 * (self.tables.len() as u64 + 10)));
        Ok(streams.into_iter().map(Arc::new).collect())
    }

    async fn read_rows(&self, table: &Table, out: &StreamSender, cancel: &CancellationToken) -> Result<()> {
        let copy = async |session: Session| Ok((self.copy(&session, table, out, cancel).await?, session));
        self.held.readers.read(copy).await
    }

    /// Reads some tables with one session: while it sends the rows of one, it knows already which are next.
    async fn read_tables(
        &self,
        tables: &[(&StreamPlan, &Table, &StreamSender)],
        cancel: &CancellationToken,
    ) -> Result<()> {
        let copy = async |session: Session| {
            let copies = tables.iter().map(async |(plan, table, out)| {
                self.copy(&session, table, out, cancel).await.map_err(|e| plan.failed(e))?;
                out.end().await
            });
            try_join_all(copies).await?;
            Ok(((), session))
        };
        self.held.readers.read(copy).await
    }

    /// The table of a stream, if reading it is one statement.
    fn plain_table(&self, plan: &StreamPlan) -> Option<&Table> {
        let whole = self.connector.too_long_rows() != TooLongRows::LeaveOut;
        let absent = |table: &Table| table.unlogged && self.standby;
        self.tables.get(&plan.name).filter(|table| whole && table.condition.is_none() && !absent(table))
    }

    async fn copy(
        &self,
        session: &Session,
        table: &Table,
        out: &StreamSender,
        cancel: &CancellationToken,
    ) -> Result<()> {
        let condition = table.condition.as_deref().unwrap_or_default();
        if !condition.is_empty() {
            rows::refuse_evaluation(session, &table.id).await?;
        }
        let copying = async {
            let settings = &self.held.settings;
            match self.connector.too_long_rows() {
                // A part of a table is read by a query, which has no place to go on from.
                TooLongRows::LeaveOut if condition.is_empty() => {
                    self.left_out.add(table, around::read(session, table, settings, out).await?);
                }
                _ => {
                    let sql = rows::copy_out(&table.id, &table.columns, condition, settings);
                    rows::send(session, &sql, out, &mut 0).await?;
                }
            }
            Ok(())
        };
        let copied = tokio::select! {
            biased;
            () = cancel.cancelled() => return Err(Error::interrupted()),
            copied = copying => copied,
        };
        match copied {
            Ok(()) => Ok(()),
            Err(Stopped::Other(error)) => Err(error),
            Err(Stopped::Server(error)) if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) => {
                Err(table_locks::blocked(&self.connector, &[table.oid], cancel).await)
            }
            Err(Stopped::Server(error)) => {
                Err(too_long::unread(session, table, self.held.name(), &error).await)
            }
        }
    }

    fn sequences_script(&self) -> String {
        let lines = self.held.sequences.iter().map(|s| {
            let name = quote::literal_line(&quote::qualified(&s.schema, &s.name));
            format!("SELECT pg_catalog.setval({name}, {}, {});\n", s.last_value, s.is_called)
        });
        std::iter::once("SET client_encoding = 'UTF8';\n".to_owned()).chain(lines).collect()
    }

    /// A script, in UTF-8 where that is possible.
    fn script(&self, script: &str) -> Bytes {
        if !raw_text::has_raw(script) {
            return Bytes::copy_from_slice(script.as_bytes());
        }
        let encoding = format!("SET client_encoding = '{}'", self.held.encoding);
        let script = script.replacen("SET client_encoding = 'UTF8'", &encoding, 1);
        Bytes::from(raw_text::encode(&script).into_owned())
    }

    /// Digests of what the server has computed, which no stream holds.
    async fn computed(&self) -> Result<Vec<Computed>> {
        let read = self.held.readers.read(async |session| Ok((computed::read(&session).await?, session)));
        let mut computed = read.await?;
        // Nothing can be equal to what is computed of rows that no stream holds.
        for of in computed.iter_mut().filter(|of| self.left_out.is_of(&of.table)) {
            of.found = None;
        }
        Ok(computed)
    }

    async fn facts(&mut self) -> Result<ViewFacts> {
        let details = Details {
            tool_version: self.tools.version.to_string(),
            server_major: self.held.coordinator.version.major,
            standby: self.standby,
            in_bytes: self.held.coordinator.is_raw(),
            globals: std::mem::take(&mut self.globals),
            extensions: std::mem::take(&mut self.extensions),
            public_schema: details::public_schema(&self.held.coordinator).await?,
            tablespaces: std::mem::take(&mut self.tablespaces),
            preloaded: details::preloaded(&self.held.coordinator).await?,
            sequences: std::mem::take(&mut self.held.sequences),
            config_tables: std::mem::take(&mut self.config_tables),
            unregistered: std::mem::take(&mut self.unregistered),
            scattered: self.tables.values().filter_map(scattered).collect(),
            by_path: by_path::read(&self.held.coordinator).await?,
            links: std::mem::take(&mut self.links),
            computed: self.computed().await?,
            definitions: std::mem::take(&mut self.held.definitions),
            definitions_form: definitions::FORM,
            session: session_settings::read(&self.held.coordinator).await?,
            large_objects: relations::large_objects(&self.held.coordinator).await?,
        };
        let inventory = inventory::count(&self.held.coordinator).await?;
        // Last of all: the transaction that holds the snapshot is still alive, and sees what it saw at first.
        let visible = source_facts::visible(&self.held.coordinator).await?;
        if visible != self.visible {
            return Err(Error::database("the snapshot was lost before everything was read")
                .remedy("Take the snapshot again."));
        }
        self.held.coordinator.batch("COMMIT", "end the snapshot's transaction").await?;
        Ok(ViewFacts {
            source: SourceFacts {
                omitted: self.omitted.iter().cloned().chain(self.left_out.omissions()).collect(),
                instead_of: self.connector.instead_of().map(Server::name),
                engine: EngineKind::Postgres.name().to_owned(),
                version: self.server_version.clone(),
                consistent_at: self.consistent_at,
                consistency_point: self.consistency_point.clone(),
                settings: self.held.settings.clone(),
                inventory,
                details: serde_json::to_value(details).or_internal("write the manifest's details")?,
            },
            tables: Vec::new(),
            warnings: self.warnings.iter().cloned().chain(self.held.watch.warning()).collect(),
        })
    }
}

fn scattered(table: &Table) -> Option<Scattered> {
    Some(Scattered { partition: table.id.clone(), root: table.scattered.clone()? })
}

fn config_table(table: &Table) -> Option<ConfigTable> {
    let condition = table.condition.clone()?;
    table.has_rows.then(|| ConfigTable {
        table: table.id.clone(),
        columns: table.columns.clone(),
        condition,
        whole: table.unregistered,
    })
}

#[async_trait]
impl View for PostgresView {
    fn streams(&self) -> &[Arc<StreamPlan>] {
        &self.streams
    }

    async fn read(&self, stream: &StreamPlan, out: &StreamSender, cancel: &CancellationToken) -> Result<()> {
        self.watched(self.read_stream(stream, out, cancel)).await
    }

    async fn read_together(
        &self,
        streams: &[(Arc<StreamPlan>, StreamSender)],
        cancel: &CancellationToken,
    ) -> Result<()> {
        let plain = streams.iter().map(|(plan, out)| Some((&**plan, self.plain_table(plan)?, out)));
        match plain.collect::<Option<Vec<_>>>() {
            Some(tables) => self.watched(self.read_tables(&tables, cancel)).await,
            None => one_by_one(self, streams, cancel).await,
        }
    }

    async fn close(mut self: Box<Self>, cancel: &CancellationToken) -> Result<ViewFacts> {
        let facts = tokio::select! {
            biased;
            () = cancel.cancelled() => return Err(Error::interrupted()),
            facts = self.facts() => facts,
        };
        self.explained(facts).await
    }
}

impl PostgresView {
    /// Reads until it is done, or has to give way to others.
    async fn watched(&self, reading: impl Future<Output = Result<()>>) -> Result<()> {
        let read = tokio::select! {
            read = reading => read,
            gave_way = self.held.watch.must_give_way() => return Err(gave_way),
        };
        self.explained(read).await
    }

    /// What was read, or why it was not, where that lies behind what the server has said.
    async fn explained<T>(&self, read: Result<T>) -> Result<T> {
        let is_other = |e: &Error| e.kind() == ErrorKind::Database && conflict::server(e).is_none();
        match read.map_err(|e| conflict::explained(&self.connector, e)) {
            Err(e) if is_other(&e) && self.is_lost().await => Err(conflict::lost(&self.connector, e)),
            read => read,
        }
    }

    /// Whether the session that holds the snapshot is gone. It is pinged, because it may have ended together with a
    /// reader without being noticed. A session that is slow to answer is still there.
    async fn is_lost(&self) -> bool {
        let asked = self.held.coordinator.client.simple_query("");
        matches!(tokio::time::timeout(ANSWER, asked).await, Ok(Err(_)))
    }

    async fn read_stream(
        &self,
        stream: &StreamPlan,
        out: &StreamSender,
        cancel: &CancellationToken,
    ) -> Result<()> {
        match stream.name.as_str() {
            SCHEMA => {
                let dump = self.schema.lock().unwrap_or_else(PoisonError::into_inner).take();
                dump.ok_or_else(|| Error::internal("the schema is read twice"))?.read(out, cancel).await
            }
            DATA => {
                let snapshot = self.held.snapshot(&self.connector, &self.tools);
                Dump::start(snapshot, Part::LargeObjects).await?.read(out, cancel).await
            }
            GLOBALS => out.send(self.script(&self.globals.script())).await,
            LINKS => out.send(self.script(&self.links.script())).await,
            SEQUENCES => out.send(self.script(&self.sequences_script())).await,
            name => match self.tables.get(name) {
                // A standby has their definition only, as the server itself has it after a crash.
                Some(table) if table.unlogged && self.standby => Ok(()),
                Some(table) => self.read_rows(table, out, cancel).await,
                None => Err(Error::internal(format!("stream {name:?} does not belong to this view"))),
            },
        }
    }
}
