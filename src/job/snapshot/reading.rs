//! Reading all streams of a view, several at a time, into the packer.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::engine::queue::{Batch, Room};
use crate::engine::{StreamPlan, View, ViewFacts};
use crate::error::{Error, ErrorKind, Result, ResultExt};
use crate::job::snapshot::packer::{Packer, unwrap_error};
use crate::job::snapshot::reuse::{Earlier, Reuse};
use crate::job::snapshot::stream_cache::{Basis, CachedStream, Draft};
use crate::model::observer::Observer;
use crate::model::stage::Stage;
use crate::pack::stream::{Encoded, StreamEncoder};
use crate::repository::manifest::PackRef;

/// Bytes buffered between the database and the encoders, of all streams together.
const QUEUED: usize = 8 << 20;

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
    pub streams: Vec<(StreamPlan, Encoded, Option<CachedStream>)>,
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
        let read: Result<Vec<(usize, Read)>> = stream::iter(plans.clone().into_iter().enumerate())
            .map(|(number, plan)| {
                let (reading, room) = (&self, &room);
                async move { reading.stream(number, &plan, room, cancel).await }
            })
            .buffer_unordered(self.jobs.max(1))
            .try_collect()
            .await;
        let mut encoded = match read {
            Ok(encoded) => encoded,
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

    async fn stream(
        &self,
        number: usize,
        plan: &StreamPlan,
        room: &Room,
        cancel: &CancellationToken,
    ) -> Result<(usize, Read)> {
        let (sender, batches) = room.queue();
        let source = async {
            self.view.read(plan, &sender, cancel).await?;
            // Only a complete source sends the end mark (see `EncoderContext::encode`).
            sender.send(Bytes::new()).await?;
            drop(sender);
            Ok(())
        };
        let (encoder_context, encoded_plan) = (self.encoder_context.clone(), plan.clone());
        let sink = blocking(move || encoder_context.encode(number, &encoded_plan, batches));
        let (source, sink) = tokio::join!(source, sink);
        match (source, sink) {
            // If the encoder failed, the source only noticed that its channel was closed.
            (Err(e), Err(sink)) if Error::kind(&e) == ErrorKind::Interrupted => Err(sink),
            (Err(e), _) => Err(e.context(format!("stream {}", plan.name))),
            (Ok(()), sink) => Ok((number, sink?)),
        }
    }
}

impl EncoderContext {
    fn encode(&self, number: usize, plan: &StreamPlan, mut batches: mpsc::Receiver<Batch>) -> Result<Read> {
        let what = format!("pack stream {}", plan.name);
        let (previous, below, spans, basis) = match self.reuse.stream(&plan.identity, plan.kind) {
            Some(Earlier { previous, below, spans, basis }) => (Some(previous), below, spans, basis),
            None => (None, Vec::new(), 0, Basis::Nothing),
        };
        let memory = self.draft.stream(number, &plan.identity, plan.kind, basis);
        let mut encoder = StreamEncoder::new(plan.kind, self.row_key, &self.packer, previous, memory)
            .map_err(|e| unwrap_error(e, &what))?;
        while let Some(batch) = batches.blocking_recv() {
            if batch.bytes.is_empty() {
                let (encoded, memory) = encoder.finish().map_err(|e| unwrap_error(e, &what))?;
                let cached = memory.finish(&encoded, &below, spans);
                return Ok((encoded, cached));
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
