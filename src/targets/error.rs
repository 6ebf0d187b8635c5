//! How an operation on a target fails.

use crate::error::READ_ONLY;
use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

/// The error below a target's failure. It is for programs: its text may say more than people should be shown.
pub(super) type Source = Arc<dyn StdError + Send + Sync>;

/// A target's failure.
#[derive(Clone, thiserror::Error)]
#[error("{operation}: {cause}")]
pub struct TargetError {
    /// What kind.
    pub kind: TargetErrorKind,
    /// What was attempted, e.g. "put receipts/x.json to s3://bucket/prefix".
    pub operation: String,
    /// Why it failed, in the target's own words.
    pub cause: String,
    /// The error below, where there is one.
    pub(super) source: Option<Source>,
}

/// Without the source, which is shown nowhere.
impl fmt::Debug for TargetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TargetError")
            .field("kind", &self.kind)
            .field("operation", &self.operation)
            .field("cause", &self.cause)
            .finish_non_exhaustive()
    }
}

/// The kinds of failure that callers and people treat differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TargetErrorKind {
    /// The object, bucket or directory does not exist.
    NotFound,
    /// Credentials are missing or wrong, or do not allow this.
    Denied,
    /// The target protects the object: a lock, a retention time, or credentials without the right to delete.
    Refused,
    /// No space, or a quota is used up.
    Full,
    /// No connection, a time-out, a 5xx, throttling: may be better in a moment.
    Unavailable,
    /// What arrived is not what was announced.
    Corrupt,
    /// The request can never work: wrong endpoint kind, unsupported by the server, bad configuration.
    Unsupported,
    /// The caller cancelled.
    Cancelled,
}

impl TargetErrorKind {
    /// Whether trying again at once is pointless.
    pub fn is_permanent(self) -> bool {
        match self {
            TargetErrorKind::NotFound
            | TargetErrorKind::Denied
            | TargetErrorKind::Refused
            | TargetErrorKind::Full
            | TargetErrorKind::Unsupported
            | TargetErrorKind::Cancelled => true,
            TargetErrorKind::Unavailable | TargetErrorKind::Corrupt => false,
        }
    }

    /// What the operator can do about it.
    pub fn remedy(self) -> &'static str {
        match self {
            TargetErrorKind::NotFound => "Check the bucket or directory and the prefix of the target.",
            TargetErrorKind::Denied => {
                "Check the target's credentials (the file that `credentials_file` names; is it there, readable for the user of marbre, and not expired?) and that they may put, get and list objects below its prefix."
            }
            TargetErrorKind::Refused => {
                "A lock ends by itself, and the next run tries again. Where there is none, the credentials lack the right to delete."
            }
            TargetErrorKind::Full => "Free space at the target or raise its quota.",
            TargetErrorKind::Unavailable => "Check that the target is up and can be reached from this host.",
            TargetErrorKind::Corrupt => "Check the network and the target's disks, then run `marbre verify`.",
            TargetErrorKind::Unsupported => "Check the target's endpoint and kind in the configuration.",
            TargetErrorKind::Cancelled => "Run the command again.",
        }
    }
}

impl TargetError {
    /// What the operator can do about it.
    pub fn remedy(&self) -> &'static str {
        if self.cause.ends_with("Read-only file system") { READ_ONLY } else { self.kind.remedy() }
    }

    /// A failure of `operation`.
    pub fn new(kind: TargetErrorKind, operation: impl Into<String>, cause: impl fmt::Display) -> Self {
        Self { kind, operation: operation.into(), cause: cause.to_string(), source: None }
    }

    /// A failure of `operation` whose cause is this error.
    pub fn caused_by(
        kind: TargetErrorKind,
        operation: impl Into<String>,
        e: impl StdError + Send + Sync + 'static,
    ) -> Self {
        Self::new(kind, operation, &e).with_source(e)
    }

    /// The same with the error below it, which the cause tells in other words.
    #[must_use]
    pub(super) fn with_source(self, e: impl StdError + Send + Sync + 'static) -> Self {
        Self { source: Some(Arc::new(e)), ..self }
    }

    /// `operation` was cancelled by its caller.
    pub fn cancelled(operation: impl Into<String>) -> Self {
        Self::new(TargetErrorKind::Cancelled, operation, "cancelled before it was done")
    }

    /// The thread that was at work on it ended without an answer.
    pub(crate) fn given_up(operation: impl Into<String>, e: tokio::task::JoinError) -> Self {
        Self::new(TargetErrorKind::Unavailable, operation, format!("the work was given up: {e}"))
            .with_source(e)
    }
}

impl From<TargetError> for crate::Error {
    fn from(e: TargetError) -> Self {
        let kind = match e.kind {
            TargetErrorKind::Cancelled => crate::ErrorKind::Interrupted,
            TargetErrorKind::NotFound => crate::ErrorKind::NotFound,
            TargetErrorKind::Corrupt => crate::ErrorKind::Verification,
            TargetErrorKind::Denied
            | TargetErrorKind::Refused
            | TargetErrorKind::Full
            | TargetErrorKind::Unavailable
            | TargetErrorKind::Unsupported => crate::ErrorKind::Target,
        };
        crate::Error::new(kind, format!("failed to {}", e.operation)).remedy(e.remedy()).cause(e.cause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_source_is_kept_and_shown_nowhere() {
        let below = std::io::Error::other("a secret of what lies below");
        let error = TargetError::new(TargetErrorKind::Unavailable, "get x", "it broke").with_source(below);
        assert!(error.source().is_some_and(|e| e.to_string().contains("secret")));
        for shown in [format!("{error} {error:?} {error:#?}"), format!("{:?}", crate::Error::from(error))] {
            assert!(!shown.contains("secret") && shown.contains("it broke"), "{shown}");
        }
    }
}
