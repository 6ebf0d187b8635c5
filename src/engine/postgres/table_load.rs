//! Loads the rows of one table, with the rights of its owner.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use futures_util::{SinkExt as _, StreamExt as _};
use tokio_postgres::error::SqlState;
use tokio_util::sync::CancellationToken;

use super::archive::next;
use super::connect::{Connector, Session, set_config};
use super::details::Details;
use super::load_role::LoadRole;
use super::quote::{ident, qualified};
use super::row::Row;
use super::rows;
use super::server_error::ends_a_session;
use super::session_settings::of_role;
use crate::engine::StreamSource;
use crate::error::{Error, Result};
use crate::model::observer::LoadObserver;
use crate::model::stream::{Contents, StreamFacts};
use crate::model::table::{TableId, TableProof};

/// What loads of tables have in common.
pub(crate) struct TableLoads<'a> {
    /// The database, as its user.
    pub connector: Connector,
    /// The role that loads in a superuser's stead.
    pub role: Option<&'a LoadRole>,
    /// The tables that are there.
    pub here: BTreeMap<TableId, Here>,
    /// What is loaded.
    pub contents: &'a Contents,
    /// Its details.
    pub details: &'a Details,
    /// Where it comes from.
    pub streams: &'a dyn StreamSource,
    /// Who is told.
    pub observer: &'a dyn LoadObserver,
    /// Ends it.
    pub cancel: &'a CancellationToken,
    /// Sessions that are ready to load.
    pub idle: Mutex<BTreeMap<As, Vec<Session>>>,
}

/// The most sessions that wait for a table.
const IDLE: usize = 8;

/// As whom a table is loaded.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct As {
    /// The owner whose rights it has; none for those of the role that acts for all owners.
    acting: Option<String>,
    /// The owner whose settings it has.
    owner: Option<String>,
}

/// A table of which no row was loaded.
#[derive(Debug)]
pub(crate) struct NotLoaded<'a> {
    /// Its stream.
    pub stream: &'a StreamFacts,
    /// The table.
    pub proof: &'a TableProof,
    /// Why, in words that hold no data.
    pub reason: String,
    /// The rows break this constraint of the table itself.
    pub check: Option<String>,
}

/// Why a COPY failed.
enum CopyFailed {
    /// The role lacks a right; nothing was loaded.
    Rights(String),
    /// The rows belong to another partition here.
    OtherPartition(String),
    /// The server refuses a row, or the table.
    Refused {
        /// Why.
        reason: String,
        /// The check that the rows break.
        check: Option<String>,
    },
    /// Nothing else can be loaded either.
    Fatal(Error),
}

impl CopyFailed {
    fn of(session: &Session, operation: &str, error: &tokio_postgres::Error) -> Self {
        let reason = session.cause(error);
        let Some(db) = error.as_db_error().filter(|_| !ends_a_session(error)) else {
            return Self::Fatal(session.failed(operation, error));
        };
        match (db.code(), db.constraint(), db.datatype()) {
            (&SqlState::INSUFFICIENT_PRIVILEGE, ..) => Self::Rights(reason),
            (&SqlState::CHECK_VIOLATION, None, _) => Self::OtherPartition(reason),
            (&SqlState::CHECK_VIOLATION, check, None) => {
                Self::Refused { reason, check: check.map(str::to_owned) }
            }
            _ => Self::Refused { reason, check: None },
        }
    }
}

impl From<Error> for CopyFailed {
    fn from(error: Error) -> Self {
        Self::Fatal(error)
    }
}

impl<'a> TableLoads<'a> {
    /// Loads these tables, so many at a time. Returns the number of rows, and which could not be loaded.
    pub(super) async fn all(
        &self,
        tables: Vec<&'a StreamFacts>,
        jobs: usize,
    ) -> Result<(u64, Vec<NotLoaded<'a>>)> {
        let loads: Vec<_> = tables.into_iter().map(|stream| self.load(stream)).collect();
        let mut loads = futures_util::stream::iter(loads).buffer_unordered(jobs.max(1));
        let (mut sum, mut failed) = (0, Vec::new());
        while let Some(loaded) = loads.next().await {
            match loaded? {
                Ok(rows) => sum += rows,
                Err(not_loaded) => failed.push(not_loaded),
            }
        }
        failed.sort_by(|a, b| a.proof.table.cmp(&b.proof.table));
        Ok((sum, failed))
    }

    /// Loads a table's rows. Where the partition refuses them, they go in through the root of its partitions: what a hash or a
    /// comparison says can be another thing on another server.
    async fn load(&self, stream: &'a StreamFacts) -> Result<std::result::Result<u64, NotLoaded<'a>>> {
        let [proof] = stream.tables.as_slice() else {
            return Err(Error::verification(format!("stream {} does not name its table", stream.name)));
        };
        let own = self.details.root_of(&proof.table).unwrap_or(&proof.table);
        let mut loaded = self.load_into(own, stream, proof).await;
        if let Err(CopyFailed::OtherPartition(_)) = &loaded
            && let Some(root) = self.here.get(&proof.table).and_then(|table| table.root.as_ref())
        {
            loaded = self.load_into(root, stream, proof).await;
        }
        let not_loaded = |reason, check| NotLoaded { stream, proof, reason, check };
        match loaded {
            Ok(rows) => Ok(Ok(rows)),
            Err(CopyFailed::Fatal(error)) => Err(error),
            Err(CopyFailed::Rights(reason) | CopyFailed::OtherPartition(reason)) => {
                Ok(Err(not_loaded(reason, None)))
            }
            Err(CopyFailed::Refused { reason, check }) => Ok(Err(not_loaded(reason, check))),
        }
    }

    /// Loads rows as the owner of the table that they go into; where the owner lacks a right for that, as the role that acts for all
    /// owners. Without such a role, as the user of the destination.
    async fn load_into(
        &self,
        table: &TableId,
        stream: &StreamFacts,
        proof: &TableProof,
    ) -> std::result::Result<u64, CopyFailed> {
        let owner = self.here.get(table).map(|here| here.owner.clone());
        let acts_for = |owner: &String| self.role.is_some_and(|role| role.acts_for(owner));
        if let Some(acting) = owner.clone().filter(acts_for) {
            match self.copy(As { acting: Some(acting), owner: owner.clone() }, table, stream, proof).await {
                Err(CopyFailed::Rights(_)) => {}
                copied => return copied,
            }
        }
        self.copy(As { acting: None, owner }, table, stream, proof).await
    }

    /// A session that loads like this: an idle one, or a new one.
    async fn session(&self, who: &As) -> Result<Session> {
        let idle = self.idle().get_mut(who).and_then(Vec::pop);
        if let Some(session) = idle {
            return Ok(session);
        }
        let session = match self.role {
            Some(role) => role.session(who.acting.as_deref(), self.cancel).await?,
            None => self.connector.connect(self.cancel).await?,
        };
        rows::apply(&session, &self.contents.source.settings).await?;
        // What decides how a text is read stays as it is: a value is written so that it means the same under any of these.
        let own = of_role(&self.details.session, &self.details.globals.settings, who.owner.as_deref());
        let own = own.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let settings = own.chain([("synchronous_commit", "off"), ("xmloption", "content")]);
        session.batch(&set_config(settings), "set up the session").await?;
        Ok(session)
    }

    fn idle(&self) -> MutexGuard<'_, BTreeMap<As, Vec<Session>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn copy(
        &self,
        who: As,
        table: &TableId,
        stream: &StreamFacts,
        proof: &TableProof,
    ) -> std::result::Result<u64, CopyFailed> {
        let session = self.session(&who).await?;
        let loaded = self.copy_in(&session, table, stream, proof).await?;
        // Thousands of small tables would otherwise need as many connections; thousands of owners must not keep as many.
        let mut idle = self.idle();
        if idle.values().map(Vec::len).sum::<usize>() >= IDLE {
            idle.clear();
        }
        idle.entry(who).or_default().push(session);
        Ok(loaded)
    }

    /// Loads tables whose rows break checks of the table itself, which then hold for new rows only. Returns what was done to
    /// which table, and what still could not be loaded.
    pub(super) async fn without_checks(
        &self,
        session: &Session,
        failed: Vec<NotLoaded<'a>>,
    ) -> Result<(u64, Vec<(TableId, String)>, Vec<NotLoaded<'a>>)> {
        let (mut sum, mut done, mut left) = (0, Vec::new(), Vec::new());
        for table in failed {
            let id = table.proof.table.clone();
            match self.without_its_checks(session, table).await? {
                Ok((rows, what)) => {
                    sum += rows;
                    done.push((id, what));
                }
                Err(table) => left.push(table),
            }
        }
        Ok((sum, done, left))
    }

    async fn without_its_checks(
        &self,
        session: &Session,
        mut table: NotLoaded<'a>,
    ) -> Result<std::result::Result<(u64, String), NotLoaded<'a>>> {
        let name = qualified(&table.proof.table.schema, &table.proof.table.table);
        let (mut checks, mut back, mut loaded) = (Vec::new(), String::new(), None);
        while let Some(check) = table.check.take() {
            let Some(definition) = own_check(session, &name, &check).await? else { break };
            let check = ident(&check);
            let without = format!("ALTER TABLE {name} DROP CONSTRAINT {check}");
            session.batch(&without, "leave out a check for a while").await?;
            back += &format!("ALTER TABLE {name} ADD CONSTRAINT {check} {definition} NOT VALID;\n");
            checks.push(check);
            match self.load(table.stream).await? {
                Ok(rows) => loaded = Some(rows),
                Err(still) => table = still,
            }
        }
        session.batch(&back, "put back the checks").await?;
        Ok(loaded.map(|rows| (rows, checks.join(", "))).ok_or(table))
    }

    async fn copy_in(
        &self,
        session: &Session,
        table: &TableId,
        stream: &StreamFacts,
        proof: &TableProof,
    ) -> std::result::Result<u64, CopyFailed> {
        let operation = format!("load table {}", proof.table);
        if self.details.config_tables.iter().any(|config| config.whole && config.table == proof.table) {
            let own = format!("DELETE FROM ONLY {}", qualified(&proof.table.schema, &proof.table.table));
            let deleted = session.client.batch_execute(&own).await;
            deleted.map_err(|e| CopyFailed::of(session, "remove the extension's own rows", &e))?;
        }
        let sql = rows::copy_in(table, &proof.columns, &self.contents.source.settings);
        let sink = session.client.copy_in(&sql).await;
        let mut sink = Box::pin(sink.map_err(|e| CopyFailed::of(session, &operation, &e))?);
        let mut bytes = self.streams.open(&stream.name).await?;
        while let Some(bytes) = next(&mut bytes, self.cancel).await? {
            let length = bytes.len() as u64;
            let sent = tokio::select! {
                biased;
                () = self.cancel.cancelled() => return Err(Error::interrupted().into()),
                sent = sink.send(bytes) => sent,
            };
            if sent.is_err() {
                // The server has refused a row: the end of the COPY says why.
                break;
            }
            self.observer.bytes(length);
        }
        let loaded = tokio::select! {
            biased;
            () = self.cancel.cancelled() => return Err(Error::interrupted().into()),
            loaded = sink.as_mut().finish() => loaded.map_err(|e| CopyFailed::of(session, &operation, &e))?,
        };
        if loaded != proof.rows {
            let what = format!("table {} took {loaded} rows of {}", proof.table, proof.rows);
            return Err(Error::verification(what).into());
        }
        Ok(loaded)
    }
}

/// The definition of a check that a table has by itself, and not from one that it inherits from or is a partition of.
async fn own_check(session: &Session, table: &str, check: &str) -> Result<Option<String>> {
    let sql = "SELECT pg_get_constraintdef(oid) FROM pg_constraint \
               WHERE conrelid = $1::text::regclass AND conname = $2::text AND contype = 'c' AND coninhcount = 0 AND convalidated";
    let rows = session.query(sql, &[&table, &check]).await?;
    Ok(rows.first().map(|row| row.get(0)))
}

/// A table at the destination.
pub(crate) struct Here {
    /// Its owner.
    pub owner: String,
    /// For a partition that holds rows, the root.
    pub root: Option<TableId>,
}

/// All tables at the destination.
pub(crate) async fn tables_here(session: &Session) -> Result<BTreeMap<TableId, Here>> {
    let sql = "SELECT n.nspname::text, c.relname::text, pg_get_userbyid(c.relowner)::text, rn.nspname::text, r.relname::text \
               FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
               LEFT JOIN pg_class r ON c.relispartition AND c.relkind = 'r' AND r.oid = pg_partition_root(c.oid) \
               LEFT JOIN pg_namespace rn ON rn.oid = r.relnamespace \
               WHERE c.relkind IN ('r', 'p')";
    let rows = session.query(sql, &[]).await?;
    let here = |row: &Row| {
        let root = row.get::<_, Option<String>>(3).map(|schema| TableId { schema, table: row.get(4) });
        (TableId { schema: row.get(0), table: row.get(1) }, Here { owner: row.get(2), root })
    };
    Ok(rows.iter().map(here).collect())
}
