//! The code that reads and loads one kind of database, behind one contract.
//!
//! A snapshot uses [`Engine::open`] to get a [`View`], one consistent state, whose streams it reads
//! (several at a time). A restore uses a [`Loader`], which is told what the snapshot holds and fetches
//! streams from a [`StreamSource`] in the order that suits its database.

pub(crate) mod mysql;
pub(crate) mod postgres;
pub(crate) mod queue;
pub(crate) mod registry;
pub(crate) mod scratch;
pub(crate) mod sqlite;
pub(crate) mod throwaway;
pub(crate) mod together;

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

pub use self::queue::StreamSender;
use crate::error::{Error, Result};
use crate::model::check::Check;
use crate::model::id::SnapshotId;
use crate::model::observer::LoadObserver;
use crate::model::stream::Contents;
use crate::model::stream::{SourceFacts, StreamKind};
use crate::model::table::{RowDigest, TableId, TableProof};

/// The code that can read one database.
#[async_trait]
pub trait Engine: Send + Sync {
    /// Describes the database for people: engine and place, without credentials.
    fn describe(&self) -> String;

    /// Looks at versions, rights and settings without changing anything.
    async fn check(&self, cancel: &CancellationToken) -> Vec<Check>;

    /// Opens one consistent state of the database and holds it until [`View::close`].
    /// Fails, and leaves nothing behind, if there can be no such state.
    async fn open(&self, options: &OpenOptions, cancel: &CancellationToken) -> Result<Box<dyn View>>;

    /// Reads the same database from another of its servers, if reading ended with this error because the server put something of
    /// its own first. `None` if trying again is of no use, or there is no other server.
    fn elsewhere(&self, failed: &Error) -> Option<Arc<dyn Engine>>;

    /// The server that holds the database, as the configuration names it. `None` if there is no server.
    fn place(&self) -> Option<Place>;

    /// Asks the server which databases it holds. `None` if there is no server.
    async fn neighbours(&self, cancel: &CancellationToken) -> Result<Option<Neighbours>>;
}

/// What a view may use.
#[derive(Debug, Clone)]
pub struct OpenOptions {
    /// Keys the digests of tables that the engine itself must compute (see [`ViewFacts::tables`]).
    pub row_key: [u8; 32],
    /// A private folder for what must wait for the targets: ciphertext only.
    pub spool: PathBuf,
    /// Bytes of its disk that belong to others.
    pub reserved: u64,
}

/// A database on a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The server's name, its address, or the folder of its socket.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Connections must be encrypted.
    pub encrypted: bool,
    /// The database.
    pub database: String,
}

/// Which databases a server holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Neighbours {
    /// An identifier of the server and all its replicas, whichever address is used to reach them.
    pub identity: String,
    /// The address that was used.
    pub place: Place,
    /// Every database that accepts connections and is not a template, including this one, but none that was made by a
    /// drill of marbre.
    pub databases: Vec<String>,
}

/// A stream that a view offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamPlan {
    /// Its name in the contents, unique within the snapshot (e.g. `schema.dump`, `rows/0001`).
    pub name: String,
    /// Identifies the same stream in other snapshots of this database, so that older data can be reused.
    /// Must change when the bytes would be cut or written differently (e.g. other columns).
    pub identity: String,
    /// How it is cut into units.
    pub kind: StreamKind,
    /// For a stream of rows: its table. Row count and digest are computed from the bytes.
    pub table: Option<TablePlan>,
    /// A guess at its size in bytes, for progress.
    pub estimate: u64,
}

impl StreamPlan {
    /// Names the stream in an error.
    pub(crate) fn failed(&self, error: Error) -> Error {
        error.context(format!("stream {}", self.name))
    }
}

/// A table read as rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TablePlan {
    /// The table.
    pub table: TableId,
    /// The columns of the rows' text, in order.
    pub columns: Vec<String>,
    /// The columns that order the rows; empty if there is no key.
    pub key: Vec<String>,
}

/// One consistent state of a database.
#[async_trait]
pub trait View: Send + Sync {
    /// The streams, all of which must be read. Large ones first.
    fn streams(&self) -> &[Arc<StreamPlan>];

    /// Reads one stream to its end. `Ok` is evidence that the source itself said that the stream is
    /// complete (end of COPY, exit status 0 of a child); anything else is an error. Called for several
    /// streams at the same time.
    async fn read(&self, stream: &StreamPlan, out: &StreamSender, cancel: &CancellationToken) -> Result<()>;

    /// Reads one stream, or some short ones of rows, to their ends, each like [`View::read`], and ends each with
    /// [`StreamSender::end`]: in this order, but without waiting for anything in between where the source can do that.
    async fn read_together(
        &self,
        streams: &[(Arc<StreamPlan>, StreamSender)],
        cancel: &CancellationToken,
    ) -> Result<()> {
        one_by_one(self, streams, cancel).await
    }

    /// Called once, after all streams were read: last consistency checks, release of the state.
    /// May also be called early, when the run was given up: then errors do not matter.
    async fn close(self: Box<Self>, cancel: &CancellationToken) -> Result<ViewFacts>;
}

/// Reads streams one after the other, as [`View::read_together`] does where nothing is quicker.
pub(crate) async fn one_by_one(
    view: &(impl View + ?Sized),
    streams: &[(Arc<StreamPlan>, StreamSender)],
    cancel: &CancellationToken,
) -> Result<()> {
    for (plan, out) in streams {
        view.read(plan, out, cancel).await.map_err(|e| plan.failed(e))?;
        out.end().await?;
    }
    Ok(())
}

/// Runs the future unless the run is cancelled: then it is dropped, with its sessions and tools.
pub(crate) async fn interruptible<T>(
    cancel: &CancellationToken,
    future: impl Future<Output = Result<T>>,
) -> Result<T> {
    tokio::select! {
        biased;
        () = cancel.cancelled() => Err(Error::interrupted()),
        result = future => result,
    }
}

/// What a view reports when it is closed.
#[derive(Debug, Clone)]
pub struct ViewFacts {
    /// Engine, version, consistency point, settings, inventory.
    pub source: SourceFacts,
    /// Proofs of tables that are inside streams of pages or bytes: (stream name, tables).
    pub tables: Vec<(String, Vec<TableProof>)>,
    /// What people should know, e.g. "3 unlogged tables were read".
    pub warnings: Vec<String>,
}

/// Where a loader gets a snapshot's streams from. The bytes are verified: a stream that differs from the
/// contents ends with an error item.
#[async_trait]
pub trait StreamSource: Send + Sync {
    /// Opens one stream by its name in the contents.
    async fn open(&self, name: &str) -> Result<StreamReceiver>;
}

/// A stream's bytes in order. It is complete only if [`StreamItem::End`] was received.
#[derive(Debug)]
pub struct StreamReceiver(pub mpsc::Receiver<Result<StreamItem>>);

/// What comes out of a [`StreamReceiver`].
#[derive(Debug)]
pub enum StreamItem {
    /// Some bytes.
    Bytes(Bytes),
    /// All bytes were delivered, and their SHA-256 (and, for rows, count and digest) were right.
    End,
}

impl StreamReceiver {
    /// The next bytes; `None` after a verified end. A stream that stops without its end is an error.
    pub async fn next(&mut self) -> Result<Option<Bytes>> {
        match self.0.recv().await {
            Some(Ok(StreamItem::Bytes(bytes))) => Ok(Some(bytes)),
            Some(Ok(StreamItem::End)) => Ok(None),
            Some(Err(e)) => Err(e),
            None => Err(Error::interrupted()),
        }
    }
}

/// What a restore's destination holds now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// Nothing; the loader will create it.
    Absent,
    /// An empty database.
    Empty,
    /// The remains of an interrupted restore of this snapshot; the loader will start again.
    Incomplete(Option<SnapshotId>),
    /// Something else, e.g. "12 tables in 2 schemas".
    Occupied(String),
}

/// How to load.
#[derive(Debug, Clone)]
pub struct LoadOptions {
    /// Replace what is there.
    pub overwrite: bool,
    /// How many connections or jobs at a time.
    pub jobs: usize,
    /// Which roles are made at a server.
    pub roles: Roles,
}

/// Which roles of a snapshot a load makes. Those that exist stay as they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Roles {
    /// All, without what would give them rights beyond their databases, and without passwords.
    Plain,
    /// All, exactly as they were.
    AsTheyWere,
    /// None: everything belongs to this role, by default to the user of the destination, and grants are left out.
    None {
        /// The role; it must exist.
        owner: Option<String>,
    },
}

/// What a load did.
#[derive(Debug, Clone, Default)]
pub struct LoadReport {
    /// Rows loaded as rows.
    pub rows: u64,
    /// Bytes of all streams that went in.
    pub bytes: u64,
    /// What could not be set, e.g. "role \"app\" was not created: permission denied".
    pub warnings: Vec<String>,
    /// What was left out on purpose, e.g. "role \"app\": its password".
    pub left_out: Vec<String>,
    /// What could not be restored, or not as it was. Everything else is there.
    pub exceptions: Exceptions,
    /// What cannot be had in a drill, and says nothing about the snapshot, e.g. "materialized view public.v: it reads from another server".
    pub not_here: Vec<String>,
}

/// What of a snapshot could not be restored, or not as it was.
#[derive(Debug, Clone, Default)]
pub struct Exceptions {
    /// One by one.
    pub list: Vec<Exception>,
    /// Statements that would make them, for people to mend and run. They may hold secrets, as a subscription's password.
    pub script: Vec<u8>,
}

/// One thing that could not be restored, or not as it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exception {
    /// Its kind and its name, e.g. `FK CONSTRAINT public orders orders_customer_fkey`.
    pub object: String,
    /// Why, or what became of it, in words that hold no data.
    pub reason: String,
    /// The table whose rows are missing because of that.
    pub table: Option<TableId>,
}

impl std::fmt::Display for Exception {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.object, self.reason)
    }
}

/// One table of the destination compared with the manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableComparison {
    /// The table.
    pub table: TableId,
    /// What the snapshot held.
    pub expected_rows: u64,
    /// What the destination holds.
    pub rows: u64,
    /// Its digest in the snapshot.
    pub expected_digest: RowDigest,
    /// Its digest in the destination.
    pub digest: RowDigest,
}

impl TableComparison {
    /// Count and digest are both equal.
    pub fn equal(&self) -> bool {
        self.expected_rows == self.rows && self.expected_digest == self.digest
    }
}

/// The result of comparing a loaded database with its contents.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Comparison {
    /// Every table of the contents.
    pub tables: Vec<TableComparison>,
    /// Every type of object: (type, expected, found).
    pub inventory: Vec<(String, u64, u64)>,
    /// Objects that are defined differently, missing or additional, each in words.
    pub definitions: Vec<String>,
    /// What could not be compared, or could not be restored here: neither a difference nor a proof.
    pub excused: Vec<String>,
    /// Anything else that differs: what, in words, naming objects and no data.
    pub differences: Vec<String>,
}

impl Comparison {
    /// Nothing differs, and something was compared.
    pub fn equal(&self) -> bool {
        self.tables.iter().all(TableComparison::equal)
            && !(self.tables.is_empty() && self.inventory.is_empty())
            && self.inventory.iter().all(|(_, expected, found)| expected == found)
            && self.definitions.is_empty()
            && self.differences.is_empty()
    }
}

/// The code that can load one kind of snapshot into one destination.
#[async_trait]
pub trait Loader: Send + Sync {
    /// Describes the destination for people, without credentials.
    fn describe(&self) -> String;

    /// What the destination holds now. Changes nothing. Fails if a load cannot work (server too old, missing tools).
    async fn inspect(&self, contents: &Contents, cancel: &CancellationToken) -> Result<Destination>;

    /// Loads the snapshot. The destination is marked incomplete before anything is put in it, and stays
    /// marked until [`Loader::finish`]. What [`Loader::inspect`] called incomplete is cleared first. What it called
    /// occupied stays as it is until [`Loader::finish`]: the snapshot is loaded beside it.
    async fn load(
        &self,
        contents: &Contents,
        streams: &dyn StreamSource,
        options: &LoadOptions,
        observer: &dyn LoadObserver,
        cancel: &CancellationToken,
    ) -> Result<LoadReport>;

    /// What a load with these options would do beyond the database itself, each in words: roles, and what is left out.
    fn plan(&self, contents: &Contents, options: &LoadOptions) -> Result<Vec<String>>;

    /// Compares the loaded database with the contents. The destination may still be marked.
    async fn compare(&self, contents: &Contents, cancel: &CancellationToken) -> Result<Comparison>;

    /// Removes the mark, and puts what was loaded in the place of what is to be overwritten: the restore is complete.
    /// After an error what was there is as it was. Returns what people should know.
    async fn finish(&self) -> Result<Vec<String>>;

    /// The same for a load that had exceptions, but what is replaced is kept, under another name. Returns what people should know.
    async fn finish_with_exceptions(&self) -> Result<Vec<String>>;

    /// Gives up a load. What it was to overwrite is as it was, and what was loaded beside it is removed; any other
    /// destination stays marked as incomplete.
    async fn abandon(&self) -> Result<()>;
}
