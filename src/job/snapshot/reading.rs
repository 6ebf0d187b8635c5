//! Reading all streams of a view, several at a time, into the packer.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::engine::{StreamPlan, StreamSender, View, ViewFacts};
use crate::error::{Error, ErrorKind, Result, ResultExt};
use crate::job::snapshot::packer::{Packer, unwrap_error};
use crate::job::snapshot::previous::Draft;
use crate::job::snapshot::reuse::Reuse;
use crate::model::observer::Observer;
use crate::model::stage::Stage;
use crate::pack::stream::{Encoded, StreamEncoder};
use crate::repository::manifest::PackRef;

/// Batches that wait between the database and the encoder, per stream.
const BATCHES: usize = 4;

/// One pass over a view.
pub struct Reading {
    /// The consistent state.
    pub view: Box<dyn View>,
    /// Streams at the same time.
    pub jobs: usize,
    /// What the encoders share.
    pub bench: Arc<Bench>,
}

/// What encoders work with, each on a thread of its own.
pub struct Bench {
    /// Where new data goes.
    pub packer: Packer,
    /// Where units are remembered.
    pub draft: Arc<Draft>,
    /// The previous snapshot.
    pub reuse: Reuse,
    /// Key of the row hashes.
    pub row_key: [u8; 32],
    /// Who hears of progress.
    pub observer: Arc<dyn Observer>,
}

/// Everything that was read.
#[derive(Debug)]
pub struct Content {
    /// What the engine reports.
    pub facts: ViewFacts,
    /// The streams as planned, and what became of them.
    pub streams: Vec<(StreamPlan, Encoded)>,
    /// The packs written, by their number.
    pub packs: Vec<PackRef>,
}

impl Reading {
    /// Reads everything. `Ok` only if every stream was complete and the view was whole to its end.
    pub async fn run(self, cancel: &CancellationToken) -> Result<Content> {
        let observer = self.bench.observer.clone();
        observer.stage(Stage::Read);
        let plans = self.view.streams().to_vec();
        observer.expect(plans.iter().map(|p| p.estimate).sum());
        let read: Result<Vec<(usize, Encoded)>> = stream::iter(plans.clone().into_iter().enumerate())
            .map(|(number, plan)| {
                let reading = &self;
                async move { reading.stream(number, &plan, cancel).await }
            })
            .buffer_unordered(self.jobs.max(1))
            .try_collect()
            .await;
        let row_key = &self.bench.row_key;
        let mut encoded = match read {
            Ok(encoded) => encoded,
            Err(e) => {
                // The view is released, and what it says now does not matter any more.
                let _ = self.view.close(row_key, cancel).await;
                return Err(e);
            }
        };
        encoded.sort_by_key(|(number, _)| *number);
        observer.stage(Stage::Close);
        let facts = self.view.close(row_key, cancel).await?;
        let bench = self.bench.clone();
        let packs = blocking(move || bench.packer.finish()).await?;
        let streams = plans.into_iter().zip(encoded).map(|(plan, (_, encoded))| (plan, encoded)).collect();
        Ok(Content { facts, streams, packs })
    }

    async fn stream(
        &self,
        number: usize,
        plan: &StreamPlan,
        cancel: &CancellationToken,
    ) -> Result<(usize, Encoded)> {
        let (sender, batches) = mpsc::channel(BATCHES);
        let sender = StreamSender(sender);
        let source = async {
            self.view.read(plan, &sender, cancel).await?;
            // Only a complete source gives the end mark (see `Bench::encode`).
            sender.send(Bytes::new()).await?;
            drop(sender);
            Ok(())
        };
        let (bench, plan_too) = (self.bench.clone(), plan.clone());
        let sink = blocking(move || bench.encode(number, &plan_too, batches));
        let (source, sink) = tokio::join!(source, sink);
        match (source, sink) {
            // If the encoder failed, the source only saw that nobody listens any more.
            (Err(e), Err(sink)) if Error::kind(&e) == ErrorKind::Interrupted => Err(sink),
            (Err(e), _) => Err(e.context(format!("stream {}", plan.name))),
            (Ok(()), sink) => Ok((number, sink?)),
        }
    }
}

impl Bench {
    fn encode(
        &self,
        number: usize,
        plan: &StreamPlan,
        mut batches: mpsc::Receiver<Bytes>,
    ) -> Result<Encoded> {
        let what = format!("pack stream {}", plan.name);
        let units = self.draft.units(number)?;
        let previous = self.reuse.stream(&plan.identity);
        let mut encoder = StreamEncoder::new(plan.kind, self.row_key, &self.packer, previous, units);
        while let Some(batch) = batches.blocking_recv() {
            if batch.is_empty() {
                return encoder.finish().map_err(|e| unwrap_error(e, &what));
            }
            self.observer.bytes(batch.len() as u64);
            encoder.push(&batch).map_err(|e| unwrap_error(e, &what))?;
        }
        // The source stopped without saying that it was complete.
        Err(Error::interrupted())
    }
}

/// Runs blocking work on a thread of its own.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.or_internal("run a worker thread")?
}
