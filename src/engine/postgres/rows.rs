//! Rows as text: how they are selected, under which settings, and how they are counted and hashed.

use std::collections::BTreeMap;
use std::pin::Pin;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use futures_util::stream::Fuse;
use tokio_postgres::CopyOutStream;
use tokio_util::sync::CancellationToken;

use super::connect::{Session, set_config};
use super::quote::{idents, literal, qualified};
use crate::engine::StreamSender;
use crate::error::{Error, Result};
use crate::model::row_hash::RowHasher;
use crate::model::table::{RowDigest, TableId};

/// The setting that says in which encoding rows are.
const ENCODING: &str = "client_encoding";

/// Settings that decide how values become text, and back. Recorded in the contents. Rows are in the encoding of the database:
/// nothing is converted, and so nothing can fail to be.
pub(crate) fn settings(server_encoding: &str) -> BTreeMap<String, String> {
    [
        (ENCODING, server_encoding),
        ("TimeZone", "UTC"),
        ("DateStyle", "ISO, YMD"),
        ("IntervalStyle", "postgres"),
        ("extra_float_digits", "3"),
        ("bytea_output", "hex"),
        ("lc_monetary", "C"),
        ("quote_all_identifiers", "off"),
        ("row_security", "off"),
        ("search_path", ""),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into()
}

/// Sets those of the recorded settings that we know: a manifest must not set anything else.
pub(crate) async fn apply(session: &Session, recorded: &BTreeMap<String, String>) -> Result<()> {
    let known = settings("UTF8");
    if let Some(name) = recorded.keys().find(|name| !known.contains_key(*name)) {
        return Err(Error::verification(format!("the manifest's setting {name:?} is not known"))
            .remedy("Use the version of marbre that took the snapshot, or a newer one."));
    }
    // The encoding is not the session's, whose statements hold names in UTF-8: COPY is told it.
    let pairs = recorded.iter().filter(|(name, _)| *name != ENCODING).map(|(n, v)| (n.as_str(), v.as_str()));
    session.batch(&set_config(pairs), "pin the settings of rows").await
}

/// `COPY … TO STDOUT` of one table's own rows, as they lie in the table. `condition` is empty or `WHERE …`.
///
/// A table is read without a query wherever that is possible: planning one evaluates what the database's owner has put into
/// indexes, predicates and statistics. Rows that did not change stay in their order, and nothing is sorted.
pub(crate) fn copy_out(
    table: &TableId,
    columns: &[String],
    condition: &str,
    recorded: &BTreeMap<String, String>,
) -> String {
    let name = qualified(&table.schema, &table.table);
    let what = match (condition, columns) {
        // A row without columns is an empty line; COPY takes no empty list of columns.
        ("", []) => name,
        ("", columns) => format!("{name} ({})", idents(columns)),
        (condition, columns) => format!("(SELECT {} FROM ONLY {name} {condition})", idents(columns)),
    };
    format!("COPY {what} TO STDOUT{}", encoding(recorded))
}

fn encoding(recorded: &BTreeMap<String, String>) -> String {
    recorded.get(ENCODING).map(|name| format!(" (ENCODING {})", literal(name))).unwrap_or_default()
}

/// Fails if planning a query on this table would evaluate expressions of the database, with our rights: of indexes, statistics or
/// virtual columns. Only tables of extensions of which a part belongs to the database are read by a query.
pub(crate) async fn refuse_evaluation(session: &Session, table: &TableId) -> Result<()> {
    if evaluates(session, table).await? {
        return Err(Error::preflight(format!("table {table} cannot be read without running code of the database"))
            .cause("it belongs to an extension, only a part of its rows to the database, and it has an index, statistics or columns with expressions")
            .remedy("Drop what was added to the extension's table, and take the snapshot again."));
    }
    Ok(())
}

/// Whether planning a query on this table would evaluate expressions of the database.
pub(crate) async fn evaluates(session: &Session, table: &TableId) -> Result<bool> {
    let sql = "SELECT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND (i.indexprs IS NOT NULL OR i.indpred IS NOT NULL)) \
               OR EXISTS (SELECT FROM pg_statistic_ext s WHERE s.stxrelid = c.oid) \
               OR EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attgenerated = 'v') \
               FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relname = $2";
    let found = session.query(sql, &[&table.schema, &table.table]).await?;
    Ok(found.iter().any(|row| row.get(0)))
}

/// `COPY … FROM STDIN` into one table.
pub(crate) fn copy_in(table: &TableId, columns: &[String], recorded: &BTreeMap<String, String>) -> String {
    let name = qualified(&table.schema, &table.table);
    // A row without columns is an empty line; COPY takes no empty list of columns.
    let columns = if columns.is_empty() { String::new() } else { format!(" ({})", idents(columns)) };
    format!("COPY {name}{columns} FROM STDIN{}", encoding(recorded))
}

const BATCH: usize = 256 * 1024;
const LARGEST: usize = 1024 * 1024;

/// A running `COPY … TO STDOUT`, in batches.
pub(crate) struct CopyOut {
    stream: Pin<Box<Fuse<CopyOutStream>>>,
    batch: BytesMut,
    large: Bytes,
    failed: Option<tokio_postgres::Error>,
}

impl CopyOut {
    /// Starts it.
    pub(super) async fn start(session: &Session, sql: &str) -> Result<Self, tokio_postgres::Error> {
        Ok(Self {
            stream: Box::pin(session.client.copy_out(sql).await?.fuse()),
            batch: BytesMut::new(),
            large: Bytes::new(),
            failed: None,
        })
    }

    /// The next batch; `None` when the server has reported the end. An error comes after everything that was sent before it.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, tokio_postgres::Error> {
        loop {
            if !self.large.is_empty() {
                if !self.batch.is_empty() {
                    return Ok(Some(self.batch.split().freeze()));
                }
                let length = self.large.len().min(LARGEST);
                return Ok(Some(self.large.split_to(length)));
            }
            if let Some(error) = self.failed.take() {
                return Err(error);
            }
            match self.stream.next().await.transpose() {
                Err(error) if self.batch.is_empty() => return Err(error),
                Err(error) => {
                    self.failed = Some(error);
                    return Ok(Some(self.batch.split().freeze()));
                }
                Ok(None) if self.batch.is_empty() => return Ok(None),
                Ok(None) => return Ok(Some(self.batch.split().freeze())),
                Ok(Some(row)) if row.len() >= BATCH => self.large = row,
                Ok(Some(row)) => {
                    if self.batch.len() + row.len() > BATCH {
                        let full = self.batch.split().freeze();
                        self.batch.reserve(BATCH);
                        self.batch.extend_from_slice(&row);
                        return Ok(Some(full));
                    }
                    self.batch.extend_from_slice(&row);
                }
            }
        }
    }
}

/// Why rows were not sent to their end.
pub(super) enum Stopped {
    /// The server has failed.
    Server(tokio_postgres::Error),
    /// Something else has.
    Other(Error),
}

impl From<tokio_postgres::Error> for Stopped {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Server(error)
    }
}

impl From<Error> for Stopped {
    fn from(error: Error) -> Self {
        Self::Other(error)
    }
}

/// Sends what this COPY gives, and adds the number of rows to `rows`, also where it fails.
pub(super) async fn send(
    session: &Session,
    sql: &str,
    out: &StreamSender,
    rows: &mut u64,
) -> Result<(), Stopped> {
    let mut copy = CopyOut::start(session, sql).await?;
    while let Some(bytes) = copy.next().await? {
        // Each row is a line, and a line feed in a value is written otherwise.
        *rows += memchr::memchr_iter(b'\n', &bytes).count() as u64;
        out.send(bytes).await?;
    }
    Ok(())
}

/// Count and digest of a table as it is in this session.
pub(crate) async fn digest(
    session: &Session,
    sql: &str,
    row_key: &[u8; 32],
    cancel: &CancellationToken,
) -> Result<(u64, RowDigest)> {
    let failed = |e| session.failed("read a table", &e);
    let torn = |e| Error::database("failed to read a table").cause(e);
    let mut hasher = RowHasher::new(row_key);
    let hashing = async {
        let mut copy = CopyOut::start(session, sql).await.map_err(failed)?;
        while let Some(bytes) = copy.next().await.map_err(failed)? {
            hasher.update(&bytes).map_err(torn)?;
        }
        Ok::<(), Error>(())
    };
    tokio::select! {
        biased;
        () = cancel.cancelled() => return Err(Error::interrupted()),
        hashed = hashing => hashed?,
    }
    let sum = hasher.finish().map_err(torn)?;
    Ok((sum.rows(), sum.digest()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> TableId {
        TableId { schema: "s".into(), table: "t\"".into() }
    }

    #[test]
    fn tables_without_columns_and_parts_of_tables_can_be_copied() {
        let columns = ["a".to_owned(), "B".to_owned()];
        let none = BTreeMap::new();
        assert_eq!(
            copy_out(&table(), &columns, "", &settings("WIN1252")),
            "COPY \"s\".\"t\"\"\" (\"a\", \"B\") TO STDOUT (ENCODING 'WIN1252')"
        );
        assert_eq!(copy_out(&table(), &[], "", &none), "COPY \"s\".\"t\"\"\" TO STDOUT");
        assert_eq!(
            copy_out(&table(), &columns[..1], "WHERE a > 1", &none),
            "COPY (SELECT \"a\" FROM ONLY \"s\".\"t\"\"\" WHERE a > 1) TO STDOUT"
        );
        assert_eq!(copy_in(&table(), &[], &none), "COPY \"s\".\"t\"\"\" FROM STDIN");
        assert_eq!(copy_in(&table(), &columns, &none), "COPY \"s\".\"t\"\"\" (\"a\", \"B\") FROM STDIN");
    }
}
