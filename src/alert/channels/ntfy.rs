//! ntfy, by its JSON form: <https://docs.ntfy.sh/publish/#publish-as-json>. Headers, its other form, hold no Unicode.

use async_trait::async_trait;
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::alert::http::{Endpoint, HttpSettings};
use crate::alert::line::shorten;
use crate::alert::{Channel, ChannelError, Message, Purpose, Sent};
use crate::error::Result;
use crate::model::condition::Severity;
use crate::model::incident::EventKind;

/// The public server.
pub(crate) const DEFAULT_URL: &str = "https://ntfy.sh/";
/// What is longer than 4096 bytes becomes an attachment; a character has up to four bytes.
const LONGEST: usize = 4096;

/// The channel.
#[derive(Debug)]
pub(crate) struct Ntfy {
    endpoint: Endpoint,
    topic: SecretString,
}

impl Ntfy {
    /// Makes the channel, without connecting. Whoever knows the topic of a public server can read it.
    pub(crate) fn new(settings: &HttpSettings, topic: SecretString) -> Result<Self> {
        Ok(Self { endpoint: Endpoint::new(settings)?, topic })
    }
}

#[async_trait]
impl Channel for Ntfy {
    fn describe(&self) -> String {
        format!("ntfy at {}", self.endpoint.host())
    }

    fn is_read_by_people(&self) -> bool {
        true
    }

    async fn send(&self, message: &Message, cancel: &CancellationToken) -> Result<Sent, ChannelError> {
        let (priority, tag) = match (message.purpose, message.severity) {
            (Purpose::Incident(EventKind::Resolved), _) => (3, "white_check_mark"),
            (Purpose::Test | Purpose::Ping(_), _) => (2, "wave"),
            (Purpose::Digest, _) => (2, "bar_chart"),
            (_, Severity::Critical) => (5, "rotating_light"),
            (_, Severity::Warning) => (4, "warning"),
        };
        let mut text = message.text.clone();
        let mut most = LONGEST;
        while text.len() > LONGEST {
            most -= 96;
            text = shorten(&message.text, most);
        }
        let document = json!({
            "topic": self.topic.expose_secret(), "title": message.subject, "message": text,
            "priority": priority, "tags": [tag]
        });
        let body = document.to_string();
        self.endpoint.post("application/json", body, cancel).await.map(|()| Sent::All)
    }

    async fn check(&self, cancel: &CancellationToken) -> Result<String, ChannelError> {
        self.endpoint.check(cancel).await
    }
}
