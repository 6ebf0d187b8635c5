//! How people are told: the contract of a channel, its adapters, and what messages say.

pub(crate) mod address;
pub(crate) mod channels;
mod digest;
pub(crate) mod dispatcher;
pub(crate) mod http;
mod line;
pub(crate) mod message;
pub(crate) mod payload;
pub(crate) mod ping_urls;
mod reply;

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

pub(crate) use message::{Message, Purpose};

/// A way to tell people.
///
/// The contract:
/// - `send` returns `Ok` only after the service has confirmed that it took the message. It may have taken it even where
///   an error is returned (the answer was lost): messages arrive at least once, and carry an `id` by which a receiver
///   recognises a second copy.
/// - `send` tries once. The caller decides whether and when to try again; the kind of the error says whether that makes
///   sense.
/// - `send` and `check` end within a minute, whatever the other side does, and soon after `cancel` fires.
/// - `check` finds out whether a message could be sent (the name resolves, the certificate is trusted), and sends nothing
///   that people would see.
/// - `describe` and errors contain no secrets, no addresses of people, and no control characters.
#[async_trait]
pub trait Channel: Send + Sync + fmt::Debug {
    /// How people know this channel: its kind and its host.
    fn describe(&self) -> String;

    /// Whether people read its messages, so that several can go as one. Programs get each incident by itself.
    fn is_read_by_people(&self) -> bool {
        false
    }

    /// Sends one message.
    async fn send(&self, message: &Message, cancel: &CancellationToken) -> Result<Sent, ChannelError>;

    /// Finds out whether a message could be sent, and returns a fragment that says what was found.
    async fn check(&self, cancel: &CancellationToken) -> Result<String, ChannelError>;
}

/// That a message was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sent {
    /// By all recipients of the channel.
    All,
    /// By some of them only, with a fragment that says what went wrong for the others.
    Some(String),
}

/// The kinds of failure that are treated differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChannelErrorKind {
    /// No connection, a time-out, a busy server: a later attempt may succeed.
    Unavailable,
    /// The service refused, the certificate is not trusted, the configuration is wrong: somebody must change something.
    Refused,
    /// The caller cancelled.
    Cancelled,
}

/// A channel's failure.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{cause}")]
pub struct ChannelError {
    /// What kind.
    pub kind: ChannelErrorKind,
    /// Why, as a fragment: "smtp.example.com answered 451".
    pub cause: String,
    /// What people can do about it: a full sentence.
    pub remedy: String,
    /// How long the service asks to be left alone, where it says that.
    pub wait: Option<Duration>,
}

impl ChannelError {
    /// A later attempt may succeed.
    pub fn unavailable(cause: impl fmt::Display, remedy: &str) -> Self {
        Self::new(ChannelErrorKind::Unavailable, cause, remedy)
    }

    /// Somebody must change something.
    pub fn refused(cause: impl fmt::Display, remedy: &str) -> Self {
        Self::new(ChannelErrorKind::Refused, cause, remedy)
    }

    /// The caller cancelled.
    pub fn cancelled() -> Self {
        Self::new(ChannelErrorKind::Cancelled, "cancelled before it was done", "Run the command again.")
    }

    fn new(kind: ChannelErrorKind, cause: impl fmt::Display, remedy: &str) -> Self {
        let cause = line::clean(&cause.to_string(), line::LINE);
        Self { kind, cause, remedy: remedy.to_owned(), wait: None }
    }

    /// The same of a service that asks to be left alone for so long.
    #[must_use]
    pub(crate) fn after(self, wait: Duration) -> Self {
        Self { wait: Some(wait), ..self }
    }

    /// Whether trying again at once is pointless.
    pub fn is_permanent(&self) -> bool {
        self.kind == ChannelErrorKind::Refused
    }
}

impl From<ChannelError> for crate::Error {
    fn from(e: ChannelError) -> Self {
        let kind = match e.kind {
            ChannelErrorKind::Cancelled => crate::ErrorKind::Interrupted,
            ChannelErrorKind::Unavailable | ChannelErrorKind::Refused => crate::ErrorKind::Target,
        };
        crate::Error::new(kind, "failed to reach an alert channel").cause(e.cause).remedy(e.remedy)
    }
}

/// Ends the work of an adapter when the caller cancels or the time is up.
async fn bounded<T>(
    time: Duration,
    cancel: &CancellationToken,
    what: &str,
    work: impl Future<Output = Result<T, ChannelError>>,
) -> Result<T, ChannelError> {
    tokio::select! {
        biased;
        () = cancel.cancelled() => Err(ChannelError::cancelled()),
        done = tokio::time::timeout(time, work) => done.unwrap_or_else(|_| {
            let cause = format!("{what} did not answer within {} s", time.as_secs());
            Err(ChannelError::unavailable(cause, "Check that it is up and can be reached from this host."))
        }),
    }
}
