//! Loads the rows of one table, with the rights of its owner.

use std::collections::BTreeMap;

use futures_util::{SinkExt, StreamExt, TryStreamExt};
use tokio_postgres::error::SqlState;
use tokio_util::sync::CancellationToken;

use super::archive::next;
use super::connect::{Connector, Session};
use super::details::Details;
use super::load_role::LoadRole;
use super::rows;
use crate::engine::StreamSource;
use crate::error::{Error, Result};
use crate::model::observer::LoadObserver;
use crate::model::stream::{Contents, StreamFacts, StreamKind};
use crate::model::table::{TableId, TableProof};

/// What loads of tables have in common.
pub(crate) struct TableLoads<'a> {
    /// The database, as its user.
    pub connector: Connector,
    /// The role that loads in a superuser's stead.
    pub role: Option<&'a LoadRole>,
    /// Who owns each table, if there is such a role.
    pub owners: BTreeMap<TableId, String>,
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
}

/// Why a table was not loaded.
enum CopyFailed {
    /// The role lacks a right; nothing was loaded.
    Rights(Error),
    Other(Error),
}

impl CopyFailed {
    fn of(session: &Session, operation: &str, error: &tokio_postgres::Error) -> Self {
        let failure = session.failed(operation, error);
        match error.code() {
            Some(&SqlState::INSUFFICIENT_PRIVILEGE) => Self::Rights(failure),
            _ => Self::Other(failure),
        }
    }

    fn into_error(self) -> Error {
        match self {
            Self::Rights(error) | Self::Other(error) => error,
        }
    }
}

impl From<Error> for CopyFailed {
    fn from(error: Error) -> Self {
        Self::Other(error)
    }
}

impl TableLoads<'_> {
    /// Loads all tables, so many at a time. Returns the number of rows.
    pub(super) async fn all(&self, jobs: usize) -> Result<u64> {
        let tables: Vec<&StreamFacts> =
            self.contents.streams.iter().filter(|stream| stream.kind == StreamKind::Rows).collect();
        let loads: Vec<_> = tables.into_iter().map(|stream| self.load(stream)).collect();
        futures_util::stream::iter(loads)
            .buffer_unordered(jobs.max(1))
            .try_fold(0, async |sum, rows| Ok(sum + rows))
            .await
    }

    /// Loads a table's rows as its owner; where the owner lacks a right for that, as the role that acts for all owners. Without such
    /// a role, as the user of the destination.
    async fn load(&self, stream: &StreamFacts) -> Result<u64> {
        let [proof] = stream.tables.as_slice() else {
            return Err(Error::verification(format!("stream {} does not name its table", stream.name)));
        };
        let Some(role) = self.role else {
            let session = self.connector.connect(self.cancel).await?;
            return self.copy(&session, stream, proof).await.map_err(CopyFailed::into_error);
        };
        let root = self.details.root_of(&proof.table).unwrap_or(&proof.table);
        if let Some(owner) = self.owners.get(root).filter(|owner| role.acts_for(owner)) {
            let session = role.session(Some(owner), self.cancel).await?;
            match self.copy(&session, stream, proof).await {
                Err(CopyFailed::Rights(_)) => {}
                copied => return copied.map_err(CopyFailed::into_error),
            }
        }
        let session = role.session(None, self.cancel).await?;
        self.copy(&session, stream, proof).await.map_err(CopyFailed::into_error)
    }

    async fn copy(
        &self,
        session: &Session,
        stream: &StreamFacts,
        proof: &TableProof,
    ) -> std::result::Result<u64, CopyFailed> {
        let operation = format!("load table {}", proof.table);
        rows::apply(session, &self.contents.source.settings).await?;
        session.batch("SET synchronous_commit = off", "set up the session").await?;
        let root = self.details.root_of(&proof.table).unwrap_or(&proof.table);
        let sql = rows::copy_in(root, &proof.columns);
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

/// Who owns each table.
pub(crate) async fn owners_of_tables(session: &Session) -> Result<BTreeMap<TableId, String>> {
    let sql = "SELECT n.nspname::text, c.relname::text, pg_get_userbyid(c.relowner)::text \
               FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'p')";
    let rows = session.query(sql, &[]).await?;
    Ok(rows.iter().map(|row| (TableId { schema: row.get(0), table: row.get(1) }, row.get(2))).collect())
}
