//! Reading all streams of a view, several at a time, into the packer.

use std::sync::Arc;

use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::engine::queue::{Batch, Room};
use crate::engine::together::{SHORT, groups};
use crate::engine::{StreamPlan, View, ViewFacts};
use crate::error::{Error, ErrorKind, Result, ResultExt};
use crate::job::snapshot::packer::{Packer, unwrap_error};
use crate::job::snapshot::reuse::{Earlier, Reuse};
use crate::job::snapshot::stream_cache::{Basis, CachedStream, Draft};
use crate::model::observer::Observer;
use crate::model::stage::Stage;
use crate::model::stream::StreamKind;
use crate::pack::stream::{Encoded, StreamEncoder};
use crate::repository::manifest::PackRef;

/// Bytes buffered between the database and the encoders, of all streams together.
const QUEUED: usize = 8 << 20;

/// Of streams that are read together, so many bytes are collected before a thread encodes them. In a database with many tables
/// most streams end long before that, and a thread that waits for each costs more than its bytes.
const FIRST: usize = 64 << 10;

/// A stream as it was encoded, and as it is remembered.
type Read = (Encoded, Option<CachedStream>);

/// One pass over a view.
pub(crate) struct Reading {
    /// The consistent state.
    pub view: Box<dyn View>,
    /// How many streams are read at the same time.
    pub jobs: usize,
    /// What the encoders share.
    pub encoder_context: Arc<EncoderContext>,
}

/// What the encoders share, each of which runs on its own thread.
pub(crate) struct EncoderContext {
    /// Where new data goes.
    pub packer: Packer,
    /// Where units are recorded for the next snapshot.
    pub draft: Arc<Draft>,
    /// The previous snapshot.
    pub reuse: Reuse,
    /// The key of the row hashes.
    pub row_key: [u8; 32],
    /// Receives progress.
    pub observer: Arc<dyn Observer>,
}

/// Everything that was read.
#[derive(Debug)]
pub(crate) struct Content {
    /// What the engine reports.
    pub facts: ViewFacts,
    /// The streams as planned, as encoded, and as they are remembered.
    pub streams: Vec<(Arc<StreamPlan>, Encoded, Option<CachedStream>)>,
    /// All packs, by their numbers.
    pub packs: Vec<PackRef>,
    /// How many of these are older than this snapshot.
    pub older: usize,
}

impl Reading {
    /// Reads everything. `Ok` only if every stream was complete and the view was intact to its end.
    pub(super) async fn run(self, cancel: &CancellationToken) -> Result<Content> {
        let observer = self.encoder_context.observer.clone();
        observer.stage(Stage::Read);
        let plans = self.view.streams().to_vec();
        observer.expect(plans.iter().map(|p| p.estimate).sum());
        let room = Room::new(QUEUED);
        let read: Result<Vec<Vec<(usize, Read)>>> =
            stream::iter(groups(plans.iter().cloned().enumerate(), |(_, plan)| is_short(plan)))
                .map(|group| self.group(group, &room, cancel))
                .buffer_unordered(self.jobs.max(1))
                .try_collect()
                .await;
        let mut encoded = match read {
            Ok(encoded) => encoded.into_iter().flatten().collect::<Vec<_>>(),
            Err(e) => {
                // The view is released; an error of its own does not matter any more.
                let _ = self.view.close(cancel).await;
                return Err(e);
            }
        };
        encoded.sort_by_key(|(number, ..)| *number);
        observer.stage(Stage::Close);
        let facts = self.view.close(cancel).await?;
        let encoder_context = self.encoder_context.clone();
        let (packs, older) = blocking(move || encoder_context.packer.finish()).await?;
        let streams = plans.into_iter().zip(encoded);
        let streams = streams.map(|(plan, (_, (encoded, cached)))| (plan, encoded, cached)).collect();
        Ok(Content { facts, streams, packs, older })
    }

    /// Reads the streams of a group, and encodes them one after the other.
    async fn group(
        &self,
        group: Vec<(usize, Arc<StreamPlan>)>,
        room: &Room,
        cancel: &CancellationToken,
    ) -> Result<Vec<(usize, Read)>> {
        let (mut sources, mut sinks) = (Vec::new(), Vec::new());
        for (number, plan) in group {
            let (sender, batches) = room.queue();
            sources.push((plan.clone(), sender));
            sinks.push(Sink { number, plan, first: Vec::new(), batches });
        }
        let source = async {
            let read = self.view.read_together(&sources, cancel).await;
            // Only a complete source sends the end mark (see `EncoderContext::encode`).
            drop(sources);
            read
        };
        let (source, sink) = tokio::join!(source, self.encode(sinks));
        match (source, sink) {
            // If the encoder failed, the source only noticed that its channel was closed.
            (Err(e), Err(sink)) if Error::kind(&e) == ErrorKind::Interrupted => Err(sink),
            (Err(e), _) => Err(e),
            (Ok(()), sink) => sink,
        }
    }

    /// Collects short streams, for one thread to encode them all.
    async fn encode(&self, sinks: Vec<Sink>) -> Result<Vec<(usize, Read)>> {
        let (mut encoded, mut collected, mut bytes) = (Vec::new(), Vec::new(), 0);
        let mut left = sinks.len();
        for mut sink in sinks {
            let ended = sink.collect(&mut bytes).await;
            collected.push(sink);
            left -= 1;
            if !ended || left == 0 || bytes >= FIRST {
                let (context, sinks) = (self.encoder_context.clone(), std::mem::take(&mut collected));
                let encode = move || sinks.into_iter().map(|sink| context.encode(sink)).collect();
                encoded.extend::<Vec<_>>(blocking(encode).await?);
                bytes = 0;
            }
        }
        Ok(encoded)
    }
}

/// A stream on its way to the encoder.
struct Sink {
    number: usize,
    plan: Arc<StreamPlan>,
    first: Vec<Batch>,
    batches: mpsc::Receiver<Batch>,
}

impl Sink {
    /// Takes the first batches, until there are [`FIRST`] bytes with those of other streams. Whether the stream has ended.
    async fn collect(&mut self, bytes: &mut usize) -> bool {
        while *bytes < FIRST {
            let Some(batch) = self.batches.recv().await else { return true };
            *bytes += batch.bytes.len();
            let ended = batch.bytes.is_empty();
            self.first.push(batch);
            if ended {
                return true;
            }
        }
        false
    }
}

fn is_short(plan: &StreamPlan) -> bool {
    plan.kind == StreamKind::Rows && plan.estimate <= SHORT
}

impl EncoderContext {
    fn encode(&self, sink: Sink) -> Result<(usize, Read)> {
        let Sink { number, plan, first, mut batches } = sink;
        let what = format!("pack stream {}", plan.name);
        let (previous, below, spans, basis) = match self.reuse.stream(&plan.identity, plan.kind) {
            Some(Earlier { previous, below, spans, basis }) => (Some(previous), below, spans, basis),
            None => (None, Vec::new(), 0, Basis::Nothing),
        };
        let memory = self.draft.stream(number, &plan.identity, plan.kind, basis);
        let mut encoder = StreamEncoder::new(plan.kind, self.row_key, &self.packer, previous, memory)
            .map_err(|e| unwrap_error(e, &what))?;
        for batch in first.into_iter().chain(std::iter::from_fn(|| batches.blocking_recv())) {
            if batch.bytes.is_empty() {
                let (encoded, memory) = encoder.finish().map_err(|e| unwrap_error(e, &what))?;
                let cached = memory.finish(&encoded, &below, spans);
                return Ok((number, (encoded, cached)));
            }
            self.observer.bytes(batch.bytes.len() as u64);
            encoder.push(&batch.bytes).map_err(|e| unwrap_error(e, &what))?;
        }
        // The source ended without the end mark.
        Err(Error::interrupted())
    }
}

/// Runs blocking work on its own thread.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.or_internal("run a worker thread")?
}
