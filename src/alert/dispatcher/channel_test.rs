//! Whether messages arrive: `marbre alert test`.

use futures_util::future::join_all;
use jiff::Timestamp;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::RoutedChannel;
use crate::alert::{ChannelError, Message, Purpose, Sent};
use crate::error::{Error, ErrorKind};
use crate::model::id::ChannelName;
use crate::model::notice::{Notice, Phase};
use crate::model::route::Role;

/// What `alert test --json` prints.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct ChannelTestReport {
    /// Every channel that was asked for.
    pub channels: Vec<ChannelTest>,
}

/// The result for one channel.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct ChannelTest {
    /// Its name.
    pub channel: ChannelName,
    /// What it is.
    pub what: String,
    /// It took a message, or could have where none was sent.
    pub ok: bool,
    /// What happened: a fragment.
    pub found: String,
    /// What to do, where something is wrong.
    pub remedy: Option<String>,
}

impl ChannelTestReport {
    /// The error that the command ends with, unless every channel works.
    pub(crate) fn error(&self) -> Option<Error> {
        let failed: Vec<&str> = self.channels.iter().filter(|c| !c.ok).map(|c| c.channel.as_str()).collect();
        if failed.is_empty() {
            return None;
        }
        let what = match failed.len() {
            1 => "1 alert channel did not take its test message".to_owned(),
            n => format!("{n} alert channels did not take their test message"),
        };
        let error = Error::new(ErrorKind::Target, what).cause(failed.join(", "));
        Some(error.remedy("Follow the advice for each channel, and run `marbre alert test` again."))
    }
}

/// Sends a test through these channels, all at the same time. The state is not touched; see [`super::Dispatcher::tested`].
pub(crate) async fn test_channels(
    channels: &[RoutedChannel],
    agent: &str,
    now: Timestamp,
    cancel: &CancellationToken,
) -> ChannelTestReport {
    let tested = channels.iter().map(|channel| async move {
        let found = test_channel(channel, agent, now, cancel).await;
        let (ok, found, remedy) = match found {
            Ok(found) => (true, found, None),
            Err(e) => (false, e.cause, Some(e.remedy)),
        };
        let route = &channel.route;
        ChannelTest { channel: route.name.clone(), what: channel.channel.describe(), ok, found, remedy }
    });
    ChannelTestReport { channels: join_all(tested).await }
}

async fn test_channel(
    channel: &RoutedChannel,
    agent: &str,
    now: Timestamp,
    cancel: &CancellationToken,
) -> Result<String, ChannelError> {
    let message = match channel.route.role {
        Role::Main | Role::Escalation | Role::Fallback => Message::test(agent, now),
        Role::Canary => Message::of(&Notice::Canary { healthy: true }, 0, agent, now, now),
        Role::Job(..) => {
            let found = channel.channel.check(cancel).await?;
            return Ok(format!("{found}; no ping was sent, since it would report a job as done"));
        }
    };
    match channel.channel.send(&message, cancel).await? {
        Sent::All if message.purpose == Purpose::Ping(Phase::Success) => Ok("took a sign of life".to_owned()),
        Sent::All => Ok("took the message".to_owned()),
        Sent::Some(lacking) => Err(ChannelError::refused(lacking, "Check `to` of the channel.")),
    }
}
