//! A message as JSON to a URL.

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use crate::alert::http::{Endpoint, HttpSettings};
use crate::alert::payload::PayloadFormat;
use crate::alert::{Channel, ChannelError, Message, Sent};
use crate::error::Result;

/// The channel.
#[derive(Debug)]
pub struct Webhook {
    endpoint: Endpoint,
    format: PayloadFormat,
}

impl Webhook {
    /// Makes the channel, without connecting.
    pub fn new(settings: &HttpSettings, format: PayloadFormat) -> Result<Self> {
        Ok(Self { endpoint: Endpoint::new(settings)?, format })
    }
}

#[async_trait]
impl Channel for Webhook {
    fn describe(&self) -> String {
        format!("{} at {}", self.format.name(), self.endpoint.host())
    }

    fn is_read_by_people(&self) -> bool {
        !matches!(self.format, PayloadFormat::Template(_) | PayloadFormat::Fields)
    }

    async fn send(&self, message: &Message, cancel: &CancellationToken) -> Result<Sent, ChannelError> {
        let body = self.format.document(message).to_string();
        self.endpoint.post("application/json", body, cancel).await.map(|()| Sent::All)
    }

    async fn check(&self, cancel: &CancellationToken) -> Result<String, ChannelError> {
        self.endpoint.check(cancel).await
    }
}
