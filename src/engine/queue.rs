//! The queue between a view, which reads, and whoever takes what it reads. All streams that are read at the same time share
//! one bound, in bytes: a slow taker slows down the readers, however many there are and however long their rows.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use crate::error::{Error, Result};

/// The most bytes in a batch.
const LARGEST: usize = 1 << 20;

/// The most batches of one stream that wait: small ones cost more than their bytes.
const BATCHES: usize = 64;

/// Room for the bytes that wait, of all streams together.
#[derive(Debug, Clone)]
pub(crate) struct Room {
    free: Arc<Semaphore>,
}

impl Room {
    /// Room for so many bytes, and for one batch at least.
    pub(crate) fn new(bytes: usize) -> Self {
        Self { free: Arc::new(Semaphore::new(bytes.max(LARGEST))) }
    }

    /// The queue of one stream.
    pub(crate) fn queue(&self) -> (StreamSender, mpsc::Receiver<Batch>) {
        let (batches, receiver) = mpsc::channel(BATCHES);
        (StreamSender { batches, room: self.clone() }, receiver)
    }
}

/// Some bytes of a stream. When it is dropped, their room is free again.
#[derive(Debug)]
pub(crate) struct Batch {
    /// The bytes.
    pub bytes: Bytes,
    _room: OwnedSemaphorePermit,
}

/// Where a view writes a stream's bytes. Bounded: a slow taker slows down the reader.
#[derive(Debug, Clone)]
pub struct StreamSender {
    batches: mpsc::Sender<Batch>,
    room: Room,
}

impl StreamSender {
    /// Says that the stream is complete: only after its source has said so. Who takes the bytes sees a batch without any.
    pub async fn end(&self) -> Result<()> {
        self.send(Bytes::new()).await
    }

    /// Passes on some bytes, in order. Batches of 64 KiB to 1 MiB are best, longer ones are cut; rows may be cut anywhere.
    pub async fn send(&self, mut bytes: Bytes) -> Result<()> {
        // The other end is only dropped when it has failed, and then reports why.
        let gone = || Error::interrupted();
        loop {
            let batch = bytes.split_to(bytes.len().min(LARGEST));
            let wanted = u32::try_from(batch.len()).map_err(|_| gone())?;
            let room = tokio::select! {
                () = self.batches.closed() => return Err(gone()),
                room = self.room.free.clone().acquire_many_owned(wanted) => room.map_err(|_| gone())?,
            };
            self.batches.send(Batch { bytes: batch, _room: room }).await.map_err(|_| gone())?;
            if bytes.is_empty() {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    /// Whether the bytes can be sent without anybody taking something.
    async fn fits(sender: &StreamSender, bytes: usize) -> bool {
        tokio::time::timeout(Duration::from_secs(1), sender.send(Bytes::from(vec![0; bytes]))).await.is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn all_streams_share_one_bound_in_bytes() {
        let room = Room::new(3 << 20);
        let (first, mut from_first) = room.queue();
        let (second, mut from_second) = room.queue();
        assert!(fits(&first, 2 << 20).await);
        assert!(fits(&second, 1 << 20).await);
        assert!(!fits(&second, 1).await, "three batches wait, and there is no room for another byte");
        let batch = from_first.recv().await.unwrap();
        assert_eq!(batch.bytes.len(), 1 << 20, "long bytes are cut");
        assert!(!fits(&second, 1).await, "who has taken a batch still holds it");
        drop(batch);
        assert!(fits(&second, 1 << 20).await);
        // A stream that nobody takes any more frees its room, and its reader learns of it.
        from_second.close();
        drop(from_second);
        assert!(second.send(Bytes::from_static(b"x")).await.is_err());
        assert!(fits(&first, 2 << 20).await);
    }
}
