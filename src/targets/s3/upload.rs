//! An upload on its way to an S3 server: read piece by piece, hashed, and watched.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use aws_runtime::auth::PayloadSigningOverride;
use aws_sdk_s3::config::interceptors::BeforeTransmitInterceptorContextMut;
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;
use aws_sdk_s3::primitives::SdkBody;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use sha2::Digest;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::model::id::Sha256;
use crate::targets::pace::{PIECE, Pace};
use crate::targets::upload::Pieces;
use crate::targets::{TargetError, Upload};

/// How many bytes have gone out.
#[derive(Debug, Default)]
pub(super) struct Progress(AtomicU64);

impl Progress {
    fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// Runs `work`, and gives it up when nothing went out (and no answer came) for `idle`, or for
    /// twice that at most. Then says `None`.
    pub(super) async fn watch<T>(&self, idle: Duration, work: impl Future<Output = T>) -> Option<T> {
        tokio::pin!(work);
        loop {
            let before = self.0.load(Ordering::Relaxed);
            tokio::select! {
                output = &mut work => return Some(output),
                () = tokio::time::sleep(idle) => {
                    if self.0.load(Ordering::Relaxed) == before {
                        return None;
                    }
                }
            }
        }
    }
}

/// The body of a PUT request.
struct UploadBody {
    chunks: mpsc::Receiver<Bytes>,
    left: u64,
    progress: Arc<Progress>,
}

impl Body for UploadBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.chunks.poll_recv(cx).map(|chunk| match chunk {
            Some(chunk) => {
                self.left = self.left.saturating_sub(chunk.len() as u64);
                self.progress.add(chunk.len() as u64);
                Some(Ok(Frame::data(chunk)))
            }
            None if self.left == 0 => None,
            // The feeder knows why; this makes the connection break before the object is whole.
            None => Some(Err("the upload was given up".into())),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

/// Reads an upload for a request, until it is dropped: a server that hangs must hold up neither a thread
/// nor the end of the process.
pub(super) struct Feeder {
    task: JoinHandle<()>,
    fault: Arc<OnceLock<TargetError>>,
}

impl Feeder {
    /// Starts reading. The last piece is held back until the hash is known, so that a server never gets a
    /// whole wrong object.
    pub(super) fn start(upload: &Upload, operation: &str, progress: &Arc<Progress>) -> (SdkBody, Self) {
        let (sender, chunks) = mpsc::channel(2);
        let body =
            SdkBody::from_body_1_x(UploadBody { chunks, left: upload.size, progress: progress.clone() });
        let fault = Arc::new(OnceLock::new());
        let (upload, operation) = (upload.clone(), operation.to_owned());
        let found = fault.clone();
        let task = tokio::spawn(async move {
            if let Err(e) = feed(upload, operation, &sender).await {
                // Before the sender goes, and with it the request that will be asked why.
                let _ = found.set(e);
            }
        });
        (body, Self { task, fault })
    }

    /// Why the upload could not go on, where that was not the request's fault.
    pub(super) fn fault(&self) -> Option<TargetError> {
        self.fault.get().cloned()
    }
}

impl Drop for Feeder {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Runs blocking work where it holds nobody up.
async fn blocking<T: Send + 'static>(
    operation: String,
    work: impl FnOnce() -> Result<T, TargetError> + Send + 'static,
) -> Result<T, TargetError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|e| Err(TargetError::given_up(operation, e)))
}

async fn feed(upload: Upload, operation: String, sender: &mpsc::Sender<Bytes>) -> Result<(), TargetError> {
    let name = operation.clone();
    let pace = upload.pace.clone();
    let mut reading = blocking(name.clone(), move || Reading::open(upload, operation)).await?;
    let mut held: Option<Bytes> = None;
    loop {
        let (next, chunk) = blocking(name.clone(), move || reading.next()).await?;
        reading = next;
        let Some(chunk) = chunk else { break };
        if let Some(earlier) = held.replace(chunk)
            && !send(earlier, pace.as_ref(), sender).await
        {
            // The request ended before its body did; it knows why.
            return Ok(());
        }
    }
    reading.finish()?;
    if let Some(last) = held {
        send(last, pace.as_ref(), sender).await;
    }
    Ok(())
}

/// Hands bytes to the request, at a pace in pieces. Says whether it still takes any.
async fn send(mut chunk: Bytes, pace: Option<&Pace>, sender: &mpsc::Sender<Bytes>) -> bool {
    let Some(pace) = pace else { return sender.send(chunk).await.is_ok() };
    while !chunk.is_empty() {
        let piece = chunk.split_to(PIECE.min(chunk.len()));
        pace.take(piece.len() as u64).await;
        if sender.send(piece).await.is_err() {
            return false;
        }
    }
    true
}

/// An upload that is being read and hashed.
struct Reading {
    source: Pieces,
    upload: Upload,
    operation: String,
    hash: sha2::Sha256,
    count: u64,
}

impl Reading {
    fn open(upload: Upload, operation: String) -> Result<Self, TargetError> {
        Ok(Self {
            source: Pieces::open(&upload.body, &operation)?,
            upload,
            operation,
            hash: sha2::Sha256::new(),
            count: 0,
        })
    }

    fn next(mut self) -> Result<(Self, Option<Bytes>), TargetError> {
        let Some(chunk) = self.source.next(&self.operation)? else {
            return Ok((self, None));
        };
        self.count += chunk.len() as u64;
        self.hash.update(&chunk);
        // What is already too long need not be read to its end.
        let fits = self.count <= self.upload.size;
        Ok((self, fits.then_some(chunk)))
    }

    fn finish(self) -> Result<(), TargetError> {
        let sha256 = Sha256(self.hash.finalize().into());
        self.upload.check(self.count, sha256, &self.operation)
    }
}

/// Signs a request for the body's known SHA-256, although the body is streamed: a server that checks
/// signatures then checks the body too, also where it knows nothing of checksums.
#[derive(Debug)]
pub(super) struct SignedPayload(pub(super) Sha256);

impl Intercept for SignedPayload {
    fn name(&self) -> &'static str {
        "SignedPayload"
    }

    fn modify_before_signing(
        &self,
        _context: &mut BeforeTransmitInterceptorContextMut<'_>,
        _components: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        config.interceptor_state().store_put(PayloadSigningOverride::Precomputed(self.0.to_string()));
        Ok(())
    }
}
