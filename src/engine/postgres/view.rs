//! One consistent state of a database: an exported snapshot, and the streams that are read under it.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use jiff::Timestamp;
use tokio::io::AsyncReadExt;
use tokio_postgres::error::SqlState;
use tokio_util::sync::CancellationToken;

use super::computed::{self, Computed};
use super::connect::{Connector, Session};
use super::details::{self, Details, Extension};
use super::globals::Globals;
use super::links::{self, Links};
use super::rows::CopyOut;
use super::tools::{Streams, Tools};
use super::{
    capture, catalogues, definitions, extension_tables, inventory, omitted, quote, rows, session_settings,
};
use crate::engine::postgres::relations;
use crate::engine::postgres::relations::{ConfigTable, Scattered, Sequence, Table};
use crate::engine::postgres::{source_facts, table_locks};
use crate::engine::{StreamPlan, StreamSender, TablePlan, View, ViewFacts};
use crate::error::{Error, ErrorKind, Result, ResultExt};
use crate::model::engine_kind::EngineKind;
use crate::model::omission::Omission;
use crate::model::stream::{SourceFacts, StreamKind};
use crate::model::table::TableId;

/// How long the session that holds the snapshot may take to answer a ping.
const ANSWER: Duration = Duration::from_secs(2);

/// The schema: everything before and after the data.
pub(crate) const SCHEMA: &str = "schema.dump";
/// Large objects.
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
    coordinator: Session,
    snapshot: String,
    visible: String,
    consistent_at: Timestamp,
    consistency_point: String,
    standby: bool,
    server_version: String,
    settings: BTreeMap<String, String>,
    tables: BTreeMap<String, Table>,
    config_tables: Vec<ConfigTable>,
    unregistered: Vec<TableId>,
    globals: Globals,
    links: Links,
    omitted: Vec<Omission>,
    sequences: Vec<Sequence>,
    extensions: Vec<Extension>,
    tablespaces: Vec<String>,
    warnings: Vec<String>,
    streams: Vec<StreamPlan>,
    idle: Mutex<Vec<Session>>,
}

impl PostgresView {
    /// Locks all tables, takes the snapshot, and plans the streams.
    pub(super) async fn open(
        connector: &Connector,
        tools: Tools,
        coordinator: Session,
        cancel: &CancellationToken,
    ) -> Result<Self> {
        let held = table_locks::hold(connector, &coordinator, cancel).await?;
        for table in &held.tables {
            connector.known().learn_table(&table.id, &table.columns);
        }
        source_facts::refuse_foreign_options(&coordinator, tools.version).await?;
        let point = source_facts::point(&coordinator).await?;
        let globals = capture::all(&coordinator).await?;
        source_facts::refuse_incomplete(&globals)?;
        let settings = rows::settings(&globals.database.encoding);
        let links = links::read(&coordinator, connector.user()).await?.links;
        let mut warnings =
            source_facts::warnings(&coordinator, &held.tables, point.standby, &globals, &links).await?;
        let unknown = catalogues::unknown(&coordinator).await?;
        warnings.extend(catalogues::warning(&unknown).map(|what| format!("{what}. {}", catalogues::REMEDY)));
        let unregistered = extension_tables::left_out(connector, &coordinator).await?;
        let omitted = omitted::all(connector, &coordinator).await?;
        let config_tables: Vec<ConfigTable> = held.tables.iter().filter_map(config_table).collect();
        let with_rows = held.tables.into_iter().filter(|table| table.has_rows);
        let tables: BTreeMap<String, Table> =
            with_rows.enumerate().map(|(i, table)| (format!("rows/{:04}", i + 1), table)).collect();
        let mut view = Self {
            connector: connector.clone(),
            tools,
            snapshot: held.snapshot,
            visible: point.visible,
            consistent_at: point.at,
            consistency_point: point.lsn,
            standby: point.standby,
            server_version: point.version,
            sequences: relations::sequences(&coordinator).await?,
            extensions: details::extensions(&coordinator).await?,
            tablespaces: details::tablespaces(&coordinator).await?,
            coordinator,
            settings,
            tables,
            config_tables,
            unregistered: unregistered.into_iter().map(|table| table.id).collect(),
            globals,
            links,
            omitted,
            warnings,
            streams: Vec::new(),
            idle: Mutex::new(Vec::new()),
        };
        view.streams = view.plan().await?;
        Ok(view)
    }

    async fn plan(&self) -> Result<Vec<StreamPlan>> {
        let objects = self.coordinator.query("SELECT pg_relation_size('pg_largeobject')", &[]).await?;
        let objects: i64 = objects.first().map_or(0, |row| row.get(0));
        let bytes = |name: &str, estimate: u64| StreamPlan {
            name: name.to_owned(),
            identity: format!("postgres {name}"),
            kind: StreamKind::Bytes,
            table: None,
            estimate,
        };
        let mut streams = vec![
            bytes(DATA, objects.unsigned_abs()),
            bytes(SCHEMA, 2000 * (self.tables.len() as u64 + 10)),
            bytes(GLOBALS, self.globals.script().len() as u64),
            bytes(SEQUENCES, 100 * self.sequences.len() as u64),
        ];
        let links = self.links.script().len() as u64;
        if links > 0 {
            streams.push(bytes(LINKS, links));
        }
        for (name, table) in &self.tables {
            let identity = serde_json::json!([
                "postgres rows",
                table.id.schema,
                table.id.table,
                table.columns,
                table.condition,
                self.settings
            ]);
            streams.push(StreamPlan {
                name: name.clone(),
                identity: identity.to_string(),
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
        Ok(streams)
    }

    async fn read_rows(&self, table: &Table, out: &StreamSender, cancel: &CancellationToken) -> Result<()> {
        let session = self.reader(cancel).await?;
        table_locks::join(&session, &self.snapshot).await?;
        let condition = table.condition.as_deref().unwrap_or_default();
        if !condition.is_empty() {
            rows::refuse_evaluation(&session, &table.id).await?;
        }
        let sql = rows::copy_out(&table.id, &table.columns, condition);
        let copying = async {
            let mut copy = CopyOut::start(&session, &sql).await?;
            while let Some(bytes) = copy.next().await? {
                if let Err(e) = out.send(bytes).await {
                    return Ok(Err(e));
                }
            }
            Ok::<_, tokio_postgres::Error>(Ok(()))
        };
        let copied = tokio::select! {
            biased;
            () = cancel.cancelled() => return Err(Error::interrupted()),
            copied = copying => copied,
        };
        match copied {
            Ok(sent) => sent?,
            Err(error) if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) => {
                return Err(table_locks::blocked(&self.connector, &[table.oid], cancel).await);
            }
            Err(error) => return Err(session.failed(&format!("read table {}", table.id), &error)),
        }
        session.batch("COMMIT", &format!("finish reading table {}", table.id)).await?;
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(session);
        Ok(())
    }

    /// A session for reading rows: an idle one, or a new one.
    async fn reader(&self, cancel: &CancellationToken) -> Result<Session> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        if let Some(session) = idle {
            return Ok(session);
        }
        let session = self.connector.connect(cancel).await?;
        rows::apply(&session, &self.settings).await?;
        Ok(session)
    }

    fn dump_arguments(&self, sections: &[&str]) -> Vec<String> {
        let mut args = vec![
            "--format=custom".to_owned(),
            // Compressed data would differ every night.
            "--compress=0".to_owned(),
            "--no-password".to_owned(),
            format!("--snapshot={}", self.snapshot),
            format!("--lock-wait-timeout={}", self.connector.lock_timeout().as_millis().max(1)),
            format!("--dbname={}", Connector::keepalives()),
        ];
        if let Some(encoding) = self.settings.get("client_encoding") {
            // This is also the encoding of the patterns below.
            args.push(format!("--encoding={encoding}"));
        }
        args.extend(sections.iter().map(|section| format!("--section={section}")));
        args
    }

    async fn read_archive(
        &self,
        args: Vec<String>,
        out: &StreamSender,
        cancel: &CancellationToken,
    ) -> Result<()> {
        let environment = self.connector.environment("marbre pg_dump", self.tools.version.major)?;
        let mut tool = self.tools.start("pg_dump", args, environment, Streams::default()).await?;
        drop(tool.stdin.take());
        let Some(mut stdout) = tool.stdout.take() else {
            return Err(Error::internal("pg_dump has no output"));
        };
        let mut buffer = BytesMut::new();
        loop {
            buffer.reserve(256 * 1024);
            let n = tokio::select! {
                biased;
                () = cancel.cancelled() => return Err(Error::interrupted()),
                n = stdout.read_buf(&mut buffer) => n.or_internal("read from pg_dump")?,
            };
            if n == 0 || buffer.len() >= 64 * 1024 {
                let bytes = buffer.split().freeze();
                if !bytes.is_empty() {
                    out.send(bytes).await?;
                }
            }
            if n == 0 {
                // The end of its output is no proof of success: only its exit status is.
                return tool.succeed(cancel).await;
            }
        }
    }

    fn data_arguments(&self) -> Vec<String> {
        let mut args = self.dump_arguments(&["data"]);
        // No table's rows, and no sequence: those are separate streams. Naming the tables one by one would make
        // pg_dump search the whole catalogue for each.
        args.push("--exclude-table-data=*.*".to_owned());
        args
    }

    fn sequences_script(&self) -> String {
        let lines = self.sequences.iter().map(|s| {
            let name = quote::literal_line(&quote::qualified(&s.schema, &s.name));
            format!("SELECT pg_catalog.setval({name}, {}, {});\n", s.last_value, s.is_called)
        });
        std::iter::once("SET client_encoding = 'UTF8';\n".to_owned()).chain(lines).collect()
    }

    /// Digests of what the server has computed, which no stream holds.
    async fn computed(&self, cancel: &CancellationToken) -> Result<Vec<Computed>> {
        let session = self.reader(cancel).await?;
        computed::read(&session, Some(&self.snapshot)).await
    }

    async fn facts(&self, cancel: &CancellationToken) -> Result<ViewFacts> {
        let details = Details {
            tool_version: self.tools.version.to_string(),
            server_major: self.coordinator.version.major,
            standby: self.standby,
            globals: self.globals.clone(),
            extensions: self.extensions.clone(),
            public_schema: details::public_schema(&self.coordinator).await?,
            tablespaces: self.tablespaces.clone(),
            preloaded: details::preloaded(&self.coordinator).await?,
            sequences: self.sequences.clone(),
            config_tables: self.config_tables.clone(),
            unregistered: self.unregistered.clone(),
            scattered: self.tables.values().filter_map(scattered).collect(),
            links: self.links.clone(),
            computed: self.computed(cancel).await?,
            definitions: definitions::read(&self.coordinator).await?,
            session: session_settings::read(&self.coordinator).await?,
            large_objects: relations::large_objects(&self.coordinator).await?,
        };
        let inventory = inventory::count(&self.coordinator).await?;
        // Last of all: the transaction that holds the snapshot is still alive, and sees what it saw at first.
        let visible = source_facts::visible(&self.coordinator).await?;
        if visible != self.visible {
            return Err(Error::database("the snapshot was lost before everything was read")
                .remedy("Take the snapshot again."));
        }
        self.coordinator.batch("COMMIT", "end the snapshot's transaction").await?;
        Ok(ViewFacts {
            source: SourceFacts {
                omitted: self.omitted.clone(),
                engine: EngineKind::Postgres.name().to_owned(),
                version: self.server_version.clone(),
                consistent_at: self.consistent_at,
                consistency_point: self.consistency_point.clone(),
                settings: self.settings.clone(),
                inventory,
                details: serde_json::to_value(details).or_internal("write the manifest's details")?,
            },
            tables: Vec::new(),
            warnings: self.warnings.clone(),
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
    fn streams(&self) -> &[StreamPlan] {
        &self.streams
    }

    async fn read(&self, stream: &StreamPlan, out: &StreamSender, cancel: &CancellationToken) -> Result<()> {
        let read = self.read_stream(stream, out, cancel).await;
        match read {
            Err(e) if e.kind() == ErrorKind::Database && self.is_lost().await => {
                Err(Error::database("the server ended the session that holds the snapshot")
                    .cause(e)
                    .remedy("See the server's log, and take the snapshot again."))
            }
            read => read,
        }
    }

    async fn close(self: Box<Self>, _row_key: &[u8; 32], cancel: &CancellationToken) -> Result<ViewFacts> {
        tokio::select! {
            biased;
            () = cancel.cancelled() => Err(Error::interrupted()),
            facts = self.facts(cancel) => facts,
        }
    }
}

impl PostgresView {
    /// Whether the session that holds the snapshot is gone. It is pinged, because it may have ended together with a
    /// reader without being noticed. A session that is slow to answer is still there.
    async fn is_lost(&self) -> bool {
        let asked = self.coordinator.client.simple_query("");
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
                let args = self.dump_arguments(&["pre-data", "post-data"]);
                self.read_archive(args, out, cancel).await
            }
            DATA => self.read_archive(self.data_arguments(), out, cancel).await,
            GLOBALS => out.send(Bytes::from(self.globals.script())).await,
            LINKS => out.send(Bytes::from(self.links.script())).await,
            SEQUENCES => out.send(Bytes::from(self.sequences_script())).await,
            name => match self.tables.get(name) {
                Some(table) => self.read_rows(table, out, cancel).await,
                None => Err(Error::internal(format!("stream {name:?} does not belong to this view"))),
            },
        }
    }
}
