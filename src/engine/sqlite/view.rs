//! One consistent state of a SQLite database: held by a read transaction, or as a copy where writers wait for that.
//!
//! In WAL mode writers go on, and pages are read at the targets' pace. In the other modes they wait for every reader. There the
//! pages are copied to the spool and the rows are counted at the pace of the disk, then the transaction ends, and the targets get
//! the copy. When a writer has waited for too long even so, the transaction ends at once, and is tried again.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::STREAM;
use super::copy::{Copy, CopyWriter, fill};
use super::transaction::{BATCH, Pages, Transaction};
use super::waiting::Watch;
use crate::engine::{OpenOptions, StreamPlan, StreamSender, View, ViewFacts};
use crate::error::{Error, Result, ResultExt};
use crate::model::human;
use crate::model::stream::StreamKind;
use crate::system::disk;

/// How often a transaction that had to give way is begun again, and how long others may do as they like in between.
const ATTEMPTS: u32 = 5;
const PAUSE: Duration = Duration::from_secs(1);

/// See the module documentation.
pub(super) struct SqliteView {
    path: PathBuf,
    row_key: [u8; 32],
    streams: [Arc<StreamPlan>; 1],
    state: State,
    /// Every page was sent.
    complete: AtomicBool,
}

enum State {
    /// The transaction goes on. Where others wait for it, somebody watches.
    Open(Transaction, Option<Guard>),
    /// It is over.
    Copied(Copy, Box<ViewFacts>),
}

/// Ends a transaction for which somebody has waited for too long.
struct Guard {
    watch: Watch,
    give_way: CancellationToken,
}

impl Guard {
    fn start(path: &Path, limit: Duration, give_way: CancellationToken) -> Self {
        Self { watch: Watch::start(path, limit, give_way.clone()), give_way }
    }

    /// Does the work unless that takes others too long.
    async fn run<T>(guard: Option<&Self>, path: &Path, work: impl Future<Output = Result<T>>) -> Result<T> {
        let Some(guard) = guard else { return work.await };
        tokio::select! {
            biased;
            done = work => done,
            () = guard.give_way.cancelled() => Err(gave_way(path, guard.watch.limit(), 1)),
        }
    }
}

impl SqliteView {
    /// Starts the read transaction, and where others wait for it, also ends it.
    pub(super) async fn open(
        path: PathBuf,
        limit: Duration,
        options: &OpenOptions,
        cancel: &CancellationToken,
    ) -> Result<Self> {
        for attempt in 0..ATTEMPTS {
            if attempt > 0 {
                tokio::select! {
                    () = cancel.cancelled() => return Err(Error::interrupted()),
                    () = tokio::time::sleep(PAUSE * attempt) => {}
                }
            }
            let transaction = Transaction::begin(&path, cancel).await?;
            if !transaction.holds_up_writers() {
                return Ok(Self::new(path, options, plan(&transaction), State::Open(transaction, None)));
            }
            let guard = Guard::start(&path, limit, cancel.child_token());
            let plan = plan(&transaction);
            if !has_room(&options.spool, plan.estimate.saturating_add(options.reserved))? {
                return Ok(Self::new(path, options, plan, State::Open(transaction, Some(guard))));
            }
            match copied(&transaction, options, &guard.give_way).await {
                Ok((copy, mut facts)) => {
                    drop(transaction);
                    facts.warnings.extend(guard.watch.held_up().warning());
                    return Ok(Self::new(path, options, plan, State::Copied(copy, Box::new(facts))));
                }
                Err(_) if guard.watch.held_up().gave_way && !cancel.is_cancelled() => {}
                Err(e) => return Err(e),
            }
        }
        Err(gave_way(&path, limit, ATTEMPTS))
    }

    fn new(path: PathBuf, options: &OpenOptions, plan: StreamPlan, state: State) -> Self {
        let (row_key, complete) = (options.row_key, AtomicBool::new(false));
        Self { path, row_key, streams: [Arc::new(plan)], state, complete }
    }
}

fn plan(transaction: &Transaction) -> StreamPlan {
    let facts = &transaction.facts;
    StreamPlan {
        name: STREAM.to_owned(),
        identity: format!("pages/{}", facts.page_size),
        kind: StreamKind::Pages { page_size: facts.page_size },
        table: None,
        estimate: facts.page_count * u64::from(facts.page_size),
    }
}

fn has_room(spool: &Path, needed: u64) -> Result<bool> {
    let free = disk::free(spool).or_internal(format!("look at the space in {}", spool.display()))?;
    Ok(free >= needed)
}

fn gave_way(path: &Path, limit: Duration, times: u32) -> Error {
    let times = if times == 1 { String::new() } else { format!(", {times} times") };
    Error::database(format!("the snapshot of {} gave way to its writers", path.display()))
        .cause(format!(
            "one has waited for {}{times}: the database is not in WAL mode, so nobody can write to it while it is read",
            human::duration(limit.as_secs_f64())
        ))
        .remedy(
            "Set PRAGMA journal_mode = WAL: then nobody waits. Otherwise take the snapshot when little is written, raise `give_way_after`, \
             or see that `spool_dir` has room for a copy of the database.",
        )
}

async fn copied(
    transaction: &Transaction,
    options: &OpenOptions,
    cancel: &CancellationToken,
) -> Result<(Copy, ViewFacts)> {
    let writer = CopyWriter::create(&options.spool).map_err(|e| spool_failure(&options.spool, e))?;
    let pages = transaction.pages(ToSpool { writer, spool: options.spool.clone() }, cancel).await?;
    let facts = transaction.prove(options.row_key, cancel).await?;
    let copy = pages.writer.finish().map_err(|e| spool_failure(&options.spool, e))?;
    Ok((copy, facts))
}

fn spool_failure(spool: &Path, e: std::io::Error) -> Error {
    Error::preflight(format!("failed to copy the database into the spool {}", spool.display()))
        .cause(e)
        .remedy("Free space there, or name another `spool_dir`; it holds encrypted data only.")
}

struct ToSpool {
    writer: CopyWriter,
    spool: PathBuf,
}

impl Pages for ToSpool {
    fn take(&mut self, batch: Vec<u8>, _: &CancellationToken) -> Result<()> {
        self.writer.write(&batch).map_err(|e| spool_failure(&self.spool, e))
    }
}

struct ToTargets(StreamSender);

impl Pages for ToTargets {
    fn take(&mut self, batch: Vec<u8>, cancel: &CancellationToken) -> Result<()> {
        Handle::current().block_on(async {
            tokio::select! {
                biased;
                () = cancel.cancelled() => Err(Error::interrupted()),
                sent = self.0.send(Bytes::from(batch)) => sent,
            }
        })
    }
}

#[async_trait]
impl View for SqliteView {
    fn streams(&self) -> &[Arc<StreamPlan>] {
        &self.streams
    }

    async fn read(&self, stream: &StreamPlan, out: &StreamSender, cancel: &CancellationToken) -> Result<()> {
        if stream.name != STREAM {
            return Err(Error::internal(format!("a SQLite database has no stream {:?}", stream.name)));
        }
        let out = ToTargets(out.clone());
        match &self.state {
            State::Open(transaction, guard) => {
                Guard::run(guard.as_ref(), &self.path, transaction.pages(out, cancel)).await?;
            }
            State::Copied(copy, _) => send_copy(copy, self.streams[0].estimate, out, cancel).await?,
        }
        self.complete.store(true, Ordering::Release);
        Ok(())
    }

    async fn close(self: Box<Self>, cancel: &CancellationToken) -> Result<ViewFacts> {
        if !self.complete.load(Ordering::Acquire) {
            return Err(Error::interrupted());
        }
        match self.state {
            State::Open(transaction, guard) => {
                let proving = transaction.prove(self.row_key, cancel);
                let mut facts = Guard::run(guard.as_ref(), &self.path, proving).await?;
                facts.warnings.extend(guard.and_then(|guard| guard.watch.held_up().warning()));
                Ok(facts)
            }
            State::Copied(_, facts) => Ok(*facts),
        }
    }
}

/// Sends a copy of so many bytes.
async fn send_copy(copy: &Copy, length: u64, mut out: ToTargets, cancel: &CancellationToken) -> Result<()> {
    let mut from = copy.read().or_internal("read the copy of the database")?;
    let cancel = cancel.clone();
    let sending = tokio::task::spawn_blocking(move || {
        let mut sent = 0;
        while sent < length {
            let mut batch = vec![0; BATCH.min(usize::try_from(length - sent).unwrap_or(BATCH))];
            let filled = fill(&mut from, &mut batch).or_internal("read the copy of the database")?;
            if filled < batch.len() {
                return Err(Error::internal("the copy of the database is too short"));
            }
            sent += filled as u64;
            out.take(batch, &cancel)?;
        }
        // Only its last chunk says that a copy is whole.
        match from.read(&mut [0]).or_internal("read the copy of the database")? {
            0 => Ok(()),
            _ => Err(Error::internal("the copy of the database is too long")),
        }
    });
    sending.await.or_internal("run a worker thread")?
}
