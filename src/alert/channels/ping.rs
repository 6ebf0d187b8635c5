//! An external monitor in the manner of healthchecks: `URL/start`, `URL`, `URL/fail`. It reports pings that do not
//! arrive: <https://healthchecks.io/docs/http_api/>.

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use crate::alert::http::{Endpoint, HttpSettings};
use crate::alert::{Channel, ChannelError, Message, Purpose, Sent};
use crate::error::Result;
use crate::model::notice::Phase;

/// The channel.
#[derive(Debug)]
pub(crate) struct Ping {
    endpoint: Endpoint,
}

impl Ping {
    /// Makes the channel, without connecting.
    pub(crate) fn new(settings: &HttpSettings) -> Result<Self> {
        Ok(Self { endpoint: Endpoint::new(settings)? })
    }
}

#[async_trait]
impl Channel for Ping {
    fn describe(&self) -> String {
        format!("ping at {}", self.endpoint.host())
    }

    async fn send(&self, message: &Message, cancel: &CancellationToken) -> Result<Sent, ChannelError> {
        let below = match message.purpose {
            Purpose::Ping(Phase::Start) => Some("start"),
            Purpose::Ping(Phase::Success) => None,
            Purpose::Ping(Phase::Fail) => Some("fail"),
            Purpose::Incident(_) | Purpose::Test => {
                let cause = "a ping can only report how a job is going";
                return Err(ChannelError::refused(cause, "Use another type of channel for messages."));
            }
        };
        let body = message.text.clone();
        let kind = "text/plain; charset=utf-8";
        match below {
            None => self.endpoint.post(kind, body, cancel).await?,
            Some(below) => self.endpoint.post_below(below, kind, body, cancel).await?,
        }
        Ok(Sent::All)
    }

    async fn check(&self, cancel: &CancellationToken) -> Result<String, ChannelError> {
        self.endpoint.check(cancel).await
    }
}
