//! PagerDuty, by its Events API v2: <https://developer.pagerduty.com/docs/events-api-v2/trigger-events/>.

use async_trait::async_trait;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::alert::http::{Endpoint, HttpSettings};
use crate::alert::{Channel, ChannelError, Message, Purpose, Sent};
use crate::error::Result;
use crate::model::id::Sha256;
use crate::model::incident::EventKind;

/// Where events go.
pub(crate) const DEFAULT_URL: &str = "https://events.pagerduty.com/v2/enqueue";
/// The longest key that it takes.
const LONGEST_KEY: usize = 255;

/// The channel.
#[derive(Debug)]
pub(crate) struct PagerDuty {
    endpoint: Endpoint,
    routing_key: SecretString,
}

impl PagerDuty {
    /// Makes the channel, without connecting. `routing_key` is the integration key of a service.
    pub(crate) fn new(settings: &HttpSettings, routing_key: SecretString) -> Result<Self> {
        Ok(Self { endpoint: Endpoint::new(settings)?, routing_key })
    }

    async fn event(
        &self,
        action: &str,
        message: &Message,
        cancel: &CancellationToken,
    ) -> Result<(), ChannelError> {
        let mut document = document(action, message);
        document["routing_key"] = self.routing_key.expose_secret().into();
        self.endpoint.post("application/json", document.to_string(), cancel).await
    }
}

/// An event, without the key of the service.
fn document(action: &str, message: &Message) -> Value {
    let mut document = json!({"event_action": action, "dedup_key": dedup_key(message)});
    if action == "trigger" {
        document["client"] = "marbre".into();
        document["payload"] = json!({
            "summary": message.subject,
            "source": message.agent,
            "severity": if message.purpose == Purpose::Test { "info" } else { message.severity.word() },
            "timestamp": message.field("at"),
            "component": message.field("database"),
            "group": message.field("publisher"),
            "class": message.field("kind"),
            "custom_details": {
                "text": message.text, "stage": message.field("stage"), "error": message.field("error"),
                "proven_at": message.field("proven_at"), "remedy": message.field("remedy")
            },
        });
    }
    document
}

/// The incident's key with the agent's name: two agents can each have a full disk.
fn dedup_key(message: &Message) -> String {
    let key = format!("{}: {}", message.agent, message.key);
    if key.len() <= LONGEST_KEY { key } else { Sha256::of(key.as_bytes()).to_string() }
}

#[async_trait]
impl Channel for PagerDuty {
    fn describe(&self) -> String {
        format!("pagerduty at {}", self.endpoint.host())
    }

    async fn send(&self, message: &Message, cancel: &CancellationToken) -> Result<Sent, ChannelError> {
        match message.purpose {
            Purpose::Incident(EventKind::Resolved) => self.event("resolve", message, cancel).await?,
            Purpose::Incident(_) | Purpose::Ping(_) => self.event("trigger", message, cancel).await?,
            // Nobody is called for it.
            Purpose::Digest => {}
            // A test must leave no incident open.
            Purpose::Test => {
                self.event("trigger", message, cancel).await?;
                self.event("resolve", message, cancel).await?;
            }
        }
        Ok(Sent::All)
    }

    async fn check(&self, cancel: &CancellationToken) -> Result<String, ChannelError> {
        self.endpoint.check(cancel).await
    }
}
