//! One consistent state of a database, and the streams that are read under it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use super::accounts::{self, Account};
use super::connect::Connector;
use super::definitions::{self, Definition, Kind};
use super::details::Details;
use super::held::{self, Held};
use super::quote::qualified;
use super::session::Session;
use super::tables::Table;
use super::watch::Watch;
use super::{inventory, script};
use crate::engine::{StreamPlan, StreamSender, TablePlan, View, ViewFacts, interruptible};
use crate::error::{Error, Result, ResultExt};
use crate::model::stream::{SourceFacts, StreamKind};
use crate::model::table::TableId;

/// Sequences and tables, for people.
pub(super) const SCHEMA: &str = "schema.sql";
/// The statements that load the rows, for people.
pub(super) const LOAD: &str = "load.sql";
/// Routines, views, triggers and events, for people.
pub(super) const PROGRAM: &str = "program.sql";
/// Users and their rights, for people.
pub(super) const ACCOUNTS: &str = "accounts.sql";

/// An open snapshot.
pub(super) struct MysqlView {
    connector: Connector,
    held: Held,
    watch: Watch,
    tables: BTreeMap<String, Table>,
    /// Tables that know no transactions and have not been read.
    locked: AtomicUsize,
    definitions: Vec<Definition>,
    accounts: Vec<Account>,
    warnings: Vec<String>,
    streams: Vec<Arc<StreamPlan>>,
}

/// The settings that say how values become text.
fn settings() -> BTreeMap<String, String> {
    [("character_set_results", "binary"), ("sql_mode", ""), ("time_zone", "+00:00")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
}

impl MysqlView {
    /// Takes hold of one state, and plans the streams.
    pub(super) async fn open(
        connector: &Connector,
        jobs: usize,
        refuse_non_transactional: bool,
        give_way_after: Duration,
        cancel: &CancellationToken,
    ) -> Result<Self> {
        let database = connector.database();
        let mut held = held::take(connector, jobs, refuse_non_transactional, cancel).await?;
        let watch = Watch::start(connector, give_way_after, cancel).await?;
        let definitions = definitions::read(&mut held.coordinator, database, connector.kind()).await?;
        refuse_marked(&definitions)?;
        refuse_new(&definitions, &held.tables)?;
        let found = accounts::read(&mut held.coordinator, database, connector.kind()).await?;
        let mut warnings = std::mem::take(&mut held.warnings);
        warnings.extend(found.warning);
        let without = held.tables.iter().filter(|table| !table.has_rows);
        warnings.extend(without.map(|table| {
            format!(
                "table {}: its rows are not in the snapshot, because its engine {} shows those of others",
                table.name.escape_debug(),
                table.engine
            )
        }));
        warnings.extend(
            definitions
                .iter()
                .filter(|d| d.broken)
                .map(|d| format!("{} refers to what is not there, and cannot be made again", d.what())),
        );
        let with_rows: Vec<&Table> = held.tables.iter().filter(|table| table.has_rows).collect();
        let locked = with_rows.iter().filter(|table| table.is_read_locked()).count();
        let tables: BTreeMap<String, Table> = with_rows
            .into_iter()
            .enumerate()
            .map(|(i, table)| (format!("rows/{:04}", i + 1), table.clone()))
            .collect();
        let mut view = Self {
            connector: connector.clone(),
            held,
            watch,
            tables,
            locked: AtomicUsize::new(locked),
            definitions,
            accounts: found.accounts,
            warnings,
            streams: Vec::new(),
        };
        view.streams = view.plan();
        Ok(view)
    }

    fn plan(&self) -> Vec<Arc<StreamPlan>> {
        let mut streams: Vec<StreamPlan> =
            self.tables.iter().map(|(name, table)| plan(name, table)).collect();
        // Somebody may wait for those that are locked.
        let transactional =
            |plan: &StreamPlan| self.tables.get(&plan.name).is_some_and(|table| table.transactional);
        streams.sort_by(|a, b| {
            let first = transactional(a).cmp(&transactional(b));
            first.then(b.estimate.cmp(&a.estimate)).then_with(|| a.name.cmp(&b.name))
        });
        let scripts = [SCHEMA, PROGRAM, LOAD, ACCOUNTS].map(|name| StreamPlan {
            name: name.to_owned(),
            identity: format!("mysql {name}"),
            kind: StreamKind::Bytes,
            table: None,
            estimate: 1000,
        });
        streams.extend(scripts);
        streams.into_iter().map(Arc::new).collect()
    }

    fn script(&self, name: &str) -> Option<String> {
        Some(match name {
            SCHEMA => script::schema(&self.definitions),
            PROGRAM => script::program(&self.definitions),
            LOAD => script::load(self.tables.iter().map(|(stream, table)| (stream.as_str(), table))),
            ACCOUNTS => accounts::script(&self.accounts),
            _ => return None,
        })
    }

    async fn read_stream(&self, stream: &StreamPlan, out: &StreamSender) -> Result<()> {
        if let Some(script) = self.script(&stream.name) {
            return out.send(Bytes::from(script)).await;
        }
        let table = self.tables.get(&stream.name).ok_or_else(|| {
            Error::internal(format!("stream {:?} does not belong to this view", stream.name))
        })?;
        if table.transactional {
            let mut lease = self.held.reader().await?;
            self.rows(&mut lease.session, table, out).await?;
            self.held.give_back(lease);
            return Ok(());
        }
        let mut session = self.held.locked().await;
        let locked = session.as_mut().ok_or_else(|| Error::internal("the locks were given up too early"))?;
        self.rows(locked, table, out).await?;
        drop(session);
        if self.locked.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.held.unlock().await?;
        }
        Ok(())
    }

    async fn rows(&self, session: &mut Session, table: &Table, out: &StreamSender) -> Result<()> {
        let sql = table.select(self.connector.database());
        let mut out = out;
        let read = session.lines(&sql, &mut out).await;
        read.map_err(|e| session.failed(&format!("read table {}", table.name.escape_debug()), e))
    }

    /// Everything is as it was when the state was taken: what no lock holds is compared. Returns it with the counters as they are now, which
    /// are behind every row of the state.
    async fn unchanged(&mut self) -> Result<Vec<Definition>> {
        let database = self.connector.database().to_owned();
        let now = definitions::read(&mut self.held.coordinator, &database, self.connector.kind()).await?;
        let named = |all: &[Definition]| -> BTreeMap<(Kind, String), Definition> {
            all.iter()
                .map(|d| {
                    let create = definitions::without_counter(&d.create).0;
                    ((d.kind, d.name.clone()), Definition { create, ..d.clone() })
                })
                .collect()
        };
        let (was, is) = (named(&self.definitions), named(&now));
        let changed: Vec<String> = was
            .iter()
            .filter(|(name, definition)| is.get(*name) != Some(*definition))
            .chain(is.iter().filter(|(name, _)| !was.contains_key(*name)))
            .map(|(_, definition)| definition.what())
            .collect();
        if !changed.is_empty() {
            let changed: Vec<String> = changed.into_iter().collect::<BTreeSet<_>>().into_iter().collect();
            return Err(Error::database(
                "something was made, altered or dropped while the snapshot was read",
            )
            .cause(crate::model::human::first_few(&changed, 5))
            .remedy("Take the snapshot again."));
        }
        Ok(now)
    }

    async fn facts(mut self) -> Result<ViewFacts> {
        let database = self.connector.database().to_owned();
        let definitions = self.unchanged().await?;
        let tables = definitions.iter().filter(|d| d.kind == Kind::Table);
        let counter = |d: &Definition| Some((d.name.clone(), definitions::without_counter(&d.create).1?));
        let counters = tables.filter_map(counter).collect();
        let session = &mut self.held.coordinator;
        let sequences = sequences(session, &database, &self.definitions).await?;
        let properties = format!(
            "SELECT DEFAULT_CHARACTER_SET_NAME, DEFAULT_COLLATION_NAME, @@lower_case_table_names \
             FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = {}",
            super::quote::literal(&database)
        );
        let row = session.query(&properties, "read the database's properties").await?;
        let row = row.into_iter().next().unwrap_or_default();
        let text = |at: usize| row.get(at).cloned().flatten().unwrap_or_default();
        let inventory = inventory::count(session, &database).await?;
        let version = session.version().to_string();
        let details = Details {
            charset: text(0),
            collation: text(1),
            lower_case: text(2),
            database,
            definitions,
            tables: self.held.tables.clone(),
            counters,
            sequences,
            accounts: self.accounts,
        };
        let (at, point) = (self.held.at, self.held.point.clone());
        // Their transactions were there to the end: whoever has lost one has not seen the state to the end.
        self.held.release().await?;
        Ok(ViewFacts {
            source: SourceFacts {
                engine: self.connector.kind().name().to_owned(),
                version,
                consistent_at: at,
                consistency_point: point,
                settings: settings(),
                inventory,
                omitted: Vec::new(),
                instead_of: None,
                details: serde_json::to_value(details).or_internal("write the manifest's details")?,
            },
            tables: Vec::new(),
            warnings: self.warnings,
        })
    }
}

fn plan(name: &str, table: &Table) -> StreamPlan {
    let columns: Vec<String> = table.columns.iter().map(|column| column.name.clone()).collect();
    let how = serde_json::json!([table.columns, table.key, table.period, settings()]).to_string();
    let how = &blake3::hash(how.as_bytes()).to_hex()[..32];
    StreamPlan {
        name: name.to_owned(),
        identity: format!("mysql rows {} {how}", super::quote::ident(&table.name)),
        kind: StreamKind::Rows,
        table: Some(TablePlan {
            table: TableId { schema: String::new(), table: table.name.clone() },
            columns,
            key: table.key.clone(),
        }),
        estimate: table.size,
    }
}

/// A restore that did not end is no database to save.
fn refuse_marked(definitions: &[Definition]) -> Result<()> {
    if definitions.iter().any(|d| d.kind == Kind::Table && d.name == super::mark::MARK) {
        return Err(Error::preflight("the database is an incomplete restore")
            .cause(format!("it has the table {}", super::mark::MARK))
            .remedy("Finish the restore, or drop the database."));
    }
    Ok(())
}

/// A table that was made between the moment in which the tables were listed and now would come back without its rows.
fn refuse_new(definitions: &[Definition], tables: &[Table]) -> Result<()> {
    let known: BTreeSet<&str> = tables.iter().map(|table| table.name.as_str()).collect();
    let is_new = |d: &&Definition| d.kind == Kind::Table && !known.contains(d.name.as_str());
    match definitions.iter().find(is_new) {
        None => Ok(()),
        Some(new) => Err(Error::database("a table was made while the snapshot began")
            .cause(new.what())
            .remedy("Take the snapshot again.")),
    }
}

/// What comes next in each sequence.
pub(super) async fn sequences(
    session: &mut Session,
    database: &str,
    definitions: &[Definition],
) -> Result<BTreeMap<String, String>> {
    let mut all = BTreeMap::new();
    for sequence in definitions.iter().filter(|d| d.kind == Kind::Sequence) {
        let sql = format!("SELECT next_not_cached_value FROM {}", qualified(database, &sequence.name));
        if let Some(next) = session.value(&sql, "read a sequence").await? {
            all.insert(sequence.name.clone(), next);
        }
    }
    Ok(all)
}

#[async_trait]
impl View for MysqlView {
    fn streams(&self) -> &[Arc<StreamPlan>] {
        &self.streams
    }

    async fn read(&self, stream: &StreamPlan, out: &StreamSender, cancel: &CancellationToken) -> Result<()> {
        interruptible(cancel, self.watch.run(self.read_stream(stream, out))).await
    }

    async fn close(self: Box<Self>, cancel: &CancellationToken) -> Result<ViewFacts> {
        interruptible(cancel, self.facts()).await
    }
}
