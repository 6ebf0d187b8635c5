//! `pg_dump` under an exported snapshot.

use bytes::{Bytes, BytesMut};
use tokio::io::AsyncReadExt;
use tokio::process::ChildStdout;
use tokio_util::sync::CancellationToken;

use super::connect::{Connector, Session};
use super::tools::{Streams, Tool, Tools};
use crate::engine::StreamSender;
use crate::error::{Error, Result, ResultExt};

/// Below this, more is read before it is passed on.
const BATCH: usize = 64 * 1024;

/// What `pg_dump` is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// Everything before and after the data. It locks every table.
    Schema,
    /// Large objects. It locks nothing.
    LargeObjects,
}

impl Part {
    fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::Schema => &["--section=pre-data", "--section=post-data"],
            // No table's rows, and no sequence: those are separate streams. Naming the tables one by one would make
            // pg_dump search the whole catalogue for each; and without their schemas it does not lock them either.
            Self::LargeObjects => &["--section=data", "--exclude-table-data=*.*", "--exclude-schema=*"],
        }
    }
}

/// The snapshot that a dump is of, and how it is reached.
#[derive(Clone, Copy)]
pub(crate) struct Snapshot<'a> {
    /// The server and the database.
    pub connector: &'a Connector,
    /// The client tools.
    pub tools: &'a Tools,
    /// The session that holds the snapshot.
    pub coordinator: &'a Session,
    /// The snapshot's name.
    pub name: &'a str,
    /// The encoding of the database.
    pub encoding: &'a str,
}

impl Snapshot<'_> {
    /// The name under which the server knows the dumps of this snapshot. Another one's bear another number.
    pub(super) fn application(&self) -> String {
        application(self.coordinator.pid)
    }

    fn arguments(&self, part: Part) -> Vec<String> {
        let mut args = vec![
            "--format=custom".to_owned(),
            // Compressed data would differ every night.
            "--compress=0".to_owned(),
            "--no-password".to_owned(),
            format!("--snapshot={}", self.name),
            format!("--lock-wait-timeout={}", self.connector.lock_timeout().as_millis().max(1)),
            format!("--dbname={}", self.connector.keepalives()),
        ];
        // The owners of an archive's entries are looked for by names in UTF-8.
        let encoding = if self.coordinator.is_raw() { self.encoding } else { "UTF8" };
        args.push(format!("--encoding={encoding}"));
        args.extend(part.arguments().iter().map(|&arg| arg.to_owned()));
        args
    }
}

/// The application name of the dumps that belong to this coordinator.
pub(crate) fn application(coordinator: i32) -> String {
    format!("marbre pg_dump {coordinator}")
}

/// A running `pg_dump`.
pub(crate) struct Dump {
    tool: Tool,
    stdout: ChildStdout,
    first: Bytes,
}

impl Dump {
    /// Starts it.
    pub(super) async fn start(snapshot: Snapshot<'_>, part: Part) -> Result<Self> {
        let application = snapshot.application();
        let environment = snapshot.connector.environment(&application, snapshot.tools.version.major)?;
        let arguments = snapshot.arguments(part);
        let mut tool = snapshot.tools.start("pg_dump", arguments, environment, Streams::default()).await?;
        drop(tool.stdin.take());
        let Some(stdout) = tool.stdout.take() else {
            return Err(Error::internal("pg_dump has no output"));
        };
        Ok(Self { tool, stdout, first: Bytes::new() })
    }

    /// Waits until it has read the whole catalogue, and so needs no more locks: in the custom format it writes its first
    /// byte only then. The rest of the archive waits in it until it is read.
    pub(super) async fn has_read(mut self, cancel: &CancellationToken) -> Result<Self> {
        let mut buffer = BytesMut::with_capacity(BATCH);
        let n = tokio::select! {
            biased;
            () = cancel.cancelled() => return Err(Error::interrupted()),
            n = self.stdout.read_buf(&mut buffer) => n.or_internal("read from pg_dump")?,
        };
        if n == 0 {
            self.tool.succeed(cancel).await?;
            return Err(Error::database("pg_dump wrote nothing").remedy(
                "See the server's log (on Debian in /var/log/postgresql), and take the snapshot again.",
            ));
        }
        self.first = buffer.freeze();
        Ok(self)
    }

    /// Passes on all that it writes.
    pub(super) async fn read(mut self, out: &StreamSender, cancel: &CancellationToken) -> Result<()> {
        let mut buffer = BytesMut::new();
        if !self.first.is_empty() {
            out.send(std::mem::take(&mut self.first)).await?;
        }
        loop {
            buffer.reserve(4 * BATCH);
            let n = tokio::select! {
                biased;
                () = cancel.cancelled() => return Err(Error::interrupted()),
                n = self.stdout.read_buf(&mut buffer) => n.or_internal("read from pg_dump")?,
            };
            if n == 0 || buffer.len() >= BATCH {
                let bytes = buffer.split().freeze();
                if !bytes.is_empty() {
                    out.send(bytes).await?;
                }
            }
            if n == 0 {
                // The end of its output is no proof of success: only its exit status is.
                return self.tool.succeed(cancel).await;
            }
        }
    }
}
