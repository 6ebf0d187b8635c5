//! Stands in for a channel that could not be made.

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use crate::alert::{Channel, ChannelError, Message, Sent};
use crate::error::Error;

/// A channel whose secret or certificate cannot be read. It always fails with that error, so that its messages go to the
/// fallback channels, and people hear of it.
#[derive(Debug)]
pub(crate) struct Unopened {
    what: String,
    error: ChannelError,
}

impl Unopened {
    /// Stands for the channel `what`, which could not be made.
    pub(crate) fn new(what: impl Into<String>, error: &Error) -> Self {
        let remedy = error.remedy_text().unwrap_or("Run `marbre doctor`.");
        Self { what: what.into(), error: ChannelError::refused(error, remedy) }
    }
}

#[async_trait]
impl Channel for Unopened {
    fn describe(&self) -> String {
        self.what.clone()
    }

    async fn send(&self, _message: &Message, _cancel: &CancellationToken) -> Result<Sent, ChannelError> {
        Err(self.error.clone())
    }

    async fn check(&self, _cancel: &CancellationToken) -> Result<String, ChannelError> {
        Err(self.error.clone())
    }
}
