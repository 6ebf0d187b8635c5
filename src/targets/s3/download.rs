//! An object on its way from an S3 server.

use std::time::Duration;

use aws_sdk_s3::primitives::ByteStream;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use tokio_util::sync::CancellationToken;

use crate::targets::s3::error::Failure;
use crate::targets::{ObjectStream, TargetError, TargetErrorKind};

/// The bytes of an answer, `left` of them where the server said how many, while they come without a gap of `idle`.
pub(super) fn download(
    body: ByteStream,
    left: Option<u64>,
    idle: Duration,
    operation: String,
    cancel: CancellationToken,
) -> ObjectStream {
    stream::try_unfold(Reading { body, left, idle, operation, cancel }, Reading::next).boxed()
}

/// An object that is being read.
struct Reading {
    body: ByteStream,
    /// How many bytes must still come, where the server said so.
    left: Option<u64>,
    idle: Duration,
    operation: String,
    cancel: CancellationToken,
}

impl Reading {
    async fn next(mut self) -> Result<Option<(Bytes, Self)>, TargetError> {
        let next = tokio::select! {
            biased;
            () = self.cancel.cancelled() => return Err(Failure::cancelled().of(&self.operation)),
            next = tokio::time::timeout(self.idle, self.body.next()) => next,
        };
        let Ok(next) = next else {
            return Err(Failure::stalled(self.idle).of(&self.operation));
        };
        let chunk = match (next, self.left) {
            (None, None | Some(0)) => return Ok(None),
            (None, Some(left)) => return Err(self.broken(&format!("{left} bytes too early"))),
            (Some(Err(e)), _) => return Err(self.broken("before it was complete").with_source(e)),
            (Some(Ok(chunk)), _) => chunk,
        };
        self.left = self.left.map(|left| left.saturating_sub(chunk.len() as u64));
        Ok(Some((chunk, self)))
    }

    fn broken(&self, when: &str) -> TargetError {
        TargetError::new(
            TargetErrorKind::Unavailable,
            &self.operation,
            format!("the connection broke {when}"),
        )
    }
}
