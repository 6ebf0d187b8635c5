//! One connection: statements, their answers, rows in passing, and rows on their way in.

use bytes::{Bytes, BytesMut};

use super::server_error::ServerError;
use super::version::Version;
use super::wire::{Next, Wire, cell_of, malformed};
use crate::engine::{StreamReceiver, StreamSender};
use crate::error::{Error, ErrorKind, Result};
use crate::model::observer::LoadObserver;
use crate::model::row_hash::RowHasher;

/// The command that runs a statement.
const QUERY: u8 = 3;

/// Bytes of rows that are passed on at a time.
const BATCH: usize = 256 << 10;

/// A row of a short answer: its columns as text, `None` for NULL.
pub(super) type Row = Vec<Option<String>>;

/// Why a statement failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// The server refuses.
    Server(ServerError),
    /// The connection is lost.
    Lost(std::io::Error),
    /// Something else.
    Other(Error),
}

impl From<std::io::Error> for Failure {
    fn from(e: std::io::Error) -> Self {
        Self::Lost(e)
    }
}

impl From<Error> for Failure {
    fn from(e: Error) -> Self {
        Self::Other(e)
    }
}

/// What a statement without rows did.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Done {
    /// Rows that it changed.
    pub rows: u64,
    /// What the server would have said about them.
    pub warnings: u16,
}

/// One connection. What is dropped in the middle of a statement must not be used again.
pub(crate) struct Session {
    wire: Wire,
    describe: String,
    version_text: String,
    version: Version,
}

/// Where rows go.
pub(super) trait Lines: Send {
    /// Takes some lines. They may be cut anywhere.
    fn take(&mut self, lines: Bytes) -> impl Future<Output = Result<()>> + Send;
}

/// To the targets.
impl Lines for &StreamSender {
    async fn take(&mut self, lines: Bytes) -> Result<()> {
        self.send(lines).await
    }
}

/// To be counted and hashed.
impl Lines for RowHasher {
    async fn take(&mut self, lines: Bytes) -> Result<()> {
        self.update(&lines).map_err(|e| Error::database("failed to read a table").cause(e))
    }
}

/// How a statement was answered.
enum Answer {
    Done(Done),
    /// Rows of so many columns follow.
    Rows(u64),
    /// The server wants the file of a LOAD DATA LOCAL.
    File,
}

impl Session {
    pub(super) fn new(wire: Wire, describe: String) -> Self {
        let version = Version { major: 0, minor: 0, patch: 0 };
        Self { wire, describe, version_text: String::new(), version }
    }

    /// The server's version.
    pub(super) fn version(&self) -> Version {
        self.version
    }

    /// The same as the server writes it.
    pub(super) fn version_text(&self) -> &str {
        &self.version_text
    }

    /// Asks for the version.
    pub(super) async fn learn_version(&mut self) -> Result<()> {
        self.version_text = self.value("SELECT VERSION()", "ask for the version").await?.unwrap_or_default();
        self.version = Version::find(&self.version_text)
            .ok_or_else(|| Error::database(format!("{} has an unknown version", self.describe)))?;
        Ok(())
    }

    /// An error for people. `what` completes "failed to …".
    pub(super) fn failed(&self, what: &str, failure: Failure) -> Error {
        match failure {
            Failure::Server(e) if e.is_denied() => Error::new(
                ErrorKind::Preflight,
                format!("{}: failed to {what}", self.describe),
            )
            .cause(e.cause())
            .remedy("Grant the right that the cause names; the documentation lists all that marbre needs."),
            Failure::Server(e) if e.ends_a_session() => self.lost(what, &e.cause()),
            Failure::Server(e) => {
                Error::database(format!("{}: failed to {what}", self.describe)).cause(e.cause())
            }
            Failure::Lost(e) => self.lost(what, &e.to_string()),
            Failure::Other(e) => e,
        }
    }

    fn lost(&self, what: &str, why: &str) -> Error {
        Error::database(format!("{}: the connection was lost: failed to {what}", self.describe))
            .cause(why.to_owned())
            .remedy("Look into the server's log; then run the command again.")
    }

    async fn ask(&mut self, sql: &str) -> Result<Answer, Failure> {
        self.wire.begin();
        let mut message = Vec::with_capacity(sql.len() + 1);
        message.push(QUERY);
        message.extend_from_slice(sql.as_bytes());
        self.wire.send(&message).await?;
        self.answer().await
    }

    async fn answer(&mut self) -> Result<Answer, Failure> {
        let message = self.wire.message().await?;
        match message.split_first() {
            Some((0x00, rest)) => {
                Ok(Answer::Done(done(rest).ok_or_else(|| malformed("an answer that is too short"))?))
            }
            Some((0xff, _)) => Err(Failure::Server(ServerError::parse(&message, true))),
            Some((0xfb, _)) => Ok(Answer::File),
            _ => {
                let columns = cell_of(&message).and_then(|(number, _)| number);
                let columns = columns.ok_or_else(|| malformed("an answer without columns"))?;
                for _ in 0..columns {
                    self.wire.message().await?;
                }
                match self.wire.message().await?.first() {
                    Some(0xfe) => Ok(Answer::Rows(columns as u64)),
                    _ => Err(malformed("columns without an end").into()),
                }
            }
        }
    }

    /// Runs a statement that gives no rows.
    pub(super) async fn execute(&mut self, sql: &str) -> Result<Done, Failure> {
        match self.ask(sql).await? {
            Answer::Done(done) => Ok(done),
            Answer::Rows(columns) => {
                self.all(columns).await?;
                Ok(Done::default())
            }
            Answer::File => Err(malformed("a request for a file that nobody offered").into()),
        }
    }

    /// The same, with an error for people.
    pub(super) async fn run(&mut self, sql: &str, what: &str) -> Result<Done> {
        self.execute(sql).await.map_err(|e| self.failed(what, e))
    }

    /// A short answer as a whole.
    pub(super) async fn rows(&mut self, sql: &str) -> Result<Vec<Row>, Failure> {
        match self.ask(sql).await? {
            Answer::Rows(columns) => self.all(columns).await,
            Answer::Done(_) => Ok(Vec::new()),
            Answer::File => Err(malformed("a request for a file that nobody offered").into()),
        }
    }

    async fn all(&mut self, columns: u64) -> Result<Vec<Row>, Failure> {
        let mut rows = Vec::new();
        loop {
            match self.wire.next_row().await? {
                Next::End => return Ok(rows),
                Next::Failed(payload) => return Err(Failure::Server(ServerError::parse(&payload, true))),
                Next::Row => {}
            }
            let mut row = Vec::new();
            for _ in 0..columns {
                let Some(mut left) = self.wire.cell().await? else {
                    row.push(None);
                    continue;
                };
                let mut text = Vec::new();
                while left > 0 {
                    left -= self.wire.bytes(left, |bytes| text.extend_from_slice(bytes)).await?;
                }
                row.push(Some(String::from_utf8_lossy(&text).into_owned()));
            }
            rows.push(row);
        }
    }

    /// The same, with an error for people.
    pub(super) async fn query(&mut self, sql: &str, what: &str) -> Result<Vec<Row>> {
        self.rows(sql).await.map_err(|e| self.failed(what, e))
    }

    /// The first column of the first row.
    pub(super) async fn value(&mut self, sql: &str, what: &str) -> Result<Option<String>> {
        let rows = self.query(sql, what).await?;
        Ok(rows.into_iter().next().and_then(|row| row.into_iter().next().flatten()))
    }

    /// Runs a query and passes on its rows as lines, in batches. `Ok` says that the server has reported the end.
    pub(super) async fn lines(&mut self, sql: &str, take: &mut impl Lines) -> Result<(), Failure> {
        let Answer::Rows(columns) = self.ask(sql).await? else {
            return Err(malformed("no rows").into());
        };
        let mut batch = BytesMut::with_capacity(BATCH);
        loop {
            match self.wire.next_row().await? {
                Next::Row => {}
                Next::Failed(payload) => return Err(Failure::Server(ServerError::parse(&payload, true))),
                Next::End => {
                    if !batch.is_empty() {
                        take.take(batch.freeze()).await?;
                    }
                    return Ok(());
                }
            }
            match self.wire.buffered() {
                Some(row) => {
                    line(row, columns, &mut batch).ok_or_else(|| malformed("a row that is too short"))?;
                    self.wire.skip();
                }
                None => self.long_line(columns, &mut batch, take).await?,
            }
            flush(&mut batch, take).await?;
        }
    }

    /// Passes on a row that is not in the buffer as a whole, part by part: nobody ever holds it.
    async fn long_line(
        &mut self,
        columns: u64,
        batch: &mut BytesMut,
        take: &mut impl Lines,
    ) -> Result<(), Failure> {
        for column in 0..columns {
            if column > 0 {
                batch.extend_from_slice(b"\t");
            }
            let Some(mut left) = self.wire.cell().await? else {
                batch.extend_from_slice(NULL);
                continue;
            };
            while left > 0 {
                left -= self.wire.bytes(left, |bytes| escape(bytes, batch)).await?;
                flush(batch, take).await?;
            }
        }
        batch.extend_from_slice(b"\n");
        Ok(())
    }

    /// Runs LOAD DATA LOCAL with these bytes.
    pub(super) async fn load(
        &mut self,
        sql: &str,
        from: &mut StreamReceiver,
        observer: &dyn LoadObserver,
    ) -> Result<Done, Failure> {
        match self.ask(sql).await? {
            Answer::File => {}
            Answer::Done(_) | Answer::Rows(_) => return Err(malformed("no request for the rows").into()),
        }
        while let Some(bytes) = from.next().await? {
            observer.bytes(bytes.len() as u64);
            // An empty packet would be the end.
            for part in bytes.chunks(BATCH).filter(|part| !part.is_empty()) {
                self.wire.send(part).await?;
            }
        }
        self.wire.send(&[]).await?;
        match self.answer().await? {
            Answer::Done(done) => Ok(done),
            Answer::File | Answer::Rows(_) => Err(malformed("no answer to the rows").into()),
        }
    }
}

/// How NULL is written.
const NULL: &[u8] = b"\\N";

/// Passes on a batch that is full.
async fn flush(batch: &mut BytesMut, take: &mut impl Lines) -> Result<()> {
    if batch.len() < BATCH {
        return Ok(());
    }
    take.take(batch.split().freeze()).await?;
    batch.reserve(BATCH);
    Ok(())
}

/// Writes a row that is there as a whole.
fn line(mut row: &[u8], columns: u64, out: &mut BytesMut) -> Option<()> {
    for column in 0..columns {
        if column > 0 {
            out.extend_from_slice(b"\t");
        }
        let (length, rest) = cell_of(row)?;
        row = rest;
        match length {
            None => out.extend_from_slice(NULL),
            Some(length) => {
                escape(row.get(..length)?, out);
                row = &row[length..];
            }
        }
    }
    out.extend_from_slice(b"\n");
    Some(())
}

/// Writes a cell so that it ends neither itself nor its row.
fn escape(mut bytes: &[u8], out: &mut BytesMut) {
    while let Some(at) = memchr::memchr3(b'\t', b'\n', b'\\', bytes) {
        out.extend_from_slice(&bytes[..at]);
        out.extend_from_slice(match bytes[at] {
            b'\t' => b"\\t",
            b'\n' => b"\\n",
            _ => b"\\\\",
        });
        bytes = &bytes[at + 1..];
    }
    out.extend_from_slice(bytes);
}

/// Reads what follows the first byte of an answer without rows.
fn done(payload: &[u8]) -> Option<Done> {
    let (rows, rest) = cell_of(payload)?;
    let (_, rest) = cell_of(rest)?;
    let warnings = rest.get(2..4)?;
    Some(Done { rows: rows? as u64, warnings: u16::from_le_bytes([warnings[0], warnings[1]]) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(row: &[u8], columns: u64) -> Option<Vec<u8>> {
        let mut out = BytesMut::new();
        line(row, columns, &mut out)?;
        Some(out.to_vec())
    }

    #[test]
    fn a_row_is_a_line() {
        assert_eq!(written(b"\x01a\xfb\x00\x06\t\n\\\\N\0", 4).unwrap(), b"a\t\\N\t\t\\t\\n\\\\\\\\N\0\n");
        assert_eq!(written(b"\x05ab", 1), None, "a cell that is longer than its row");
    }

    #[test]
    fn answers_say_how_many_rows_and_warnings() {
        let done = done(&[0xfc, 0x10, 0x27, 0, 2, 0, 3, 0]).unwrap();
        assert_eq!((done.rows, done.warnings), (10_000, 3));
    }
}
