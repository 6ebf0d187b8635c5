//! The one error type of the crate: what went wrong, why, and what to do about it.
//!
//! Cause and remedy are separate texts, so that a person, a log line and the JSON
//! document on stdout can each show what they need. Messages are lowercase fragments.

use std::fmt;

/// What kind of failure this is; decides the exit code (see `docs/EXIT-CODES.md`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// A bug in marbre, or the machine failing under it.
    Internal,
    /// The command line was wrong.
    Usage,
    /// The configuration was wrong.
    Config,
    /// A precondition does not hold; nothing was changed.
    Preflight,
    /// The thing asked for does not exist.
    NotFound,
    /// A database, or one of its tools, failed.
    Database,
    /// Another run holds the lock.
    Conflict,
    /// A target could not be reached, or refused.
    Target,
    /// Something does not match its hash, signature, chain or digest.
    Verification,
    /// Done, but on fewer targets than asked for.
    Degraded,
    /// A key or a signature is wrong or missing.
    Key,
    /// Ctrl-C or SIGTERM.
    Interrupted,
}

impl ErrorKind {
    /// The documented exit code of this kind.
    pub fn exit_code(self) -> u8 {
        match self {
            ErrorKind::Internal => 1,
            ErrorKind::Usage => 2,
            ErrorKind::Config => 3,
            ErrorKind::Preflight => 4,
            ErrorKind::NotFound => 5,
            ErrorKind::Database => 6,
            ErrorKind::Conflict => 7,
            ErrorKind::Target => 8,
            ErrorKind::Verification => 9,
            ErrorKind::Degraded => 10,
            ErrorKind::Key => 11,
            ErrorKind::Interrupted => 130,
        }
    }

    /// The kind that has this exit code; `Internal` for one that no kind has.
    pub fn of_exit_code(code: u8) -> Self {
        [
            Self::Usage,
            Self::Config,
            Self::Preflight,
            Self::NotFound,
            Self::Database,
            Self::Conflict,
            Self::Target,
            Self::Verification,
            Self::Degraded,
            Self::Key,
            Self::Interrupted,
        ]
        .into_iter()
        .find(|kind| kind.exit_code() == code)
        .unwrap_or(Self::Internal)
    }
}

/// A failure: its kind, what failed, the cause below it, and the remedy.
#[derive(Debug, Clone)]
pub struct Error {
    kind: ErrorKind,
    message: String,
    cause: Option<String>,
    remedy: Option<String>,
}

/// The result type of the crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// A failure of this kind. `message` is a lowercase fragment that fits "failed: {message}".
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), cause: None, remedy: None }
    }

    /// An internal failure (a bug, or the machine failing under us).
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Internal, message)
    }

    /// A precondition that does not hold.
    pub fn preflight(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Preflight, message)
    }

    /// A database failure.
    pub fn database(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Database, message)
    }

    /// Something does not match its evidence.
    pub fn verification(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Verification, message)
    }

    /// A key or signature problem.
    pub fn key(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Key, message)
    }

    /// The run was cancelled by a signal.
    pub fn interrupted() -> Self {
        Self::new(ErrorKind::Interrupted, "interrupted")
    }

    /// Adds why it happened.
    #[must_use]
    pub fn cause(mut self, cause: impl fmt::Display) -> Self {
        self.cause = Some(cause.to_string());
        self
    }

    /// Adds what the reader can do about it: a full sentence.
    #[must_use]
    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }

    /// Names the operation around this failure: `context: message`.
    #[must_use]
    pub fn context(mut self, context: impl fmt::Display) -> Self {
        self.message = format!("{context}: {}", self.message);
        self
    }

    /// The same failure seen as another kind.
    #[must_use]
    pub fn with_kind(mut self, kind: ErrorKind) -> Self {
        self.kind = kind;
        self
    }

    /// The kind of failure.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// What failed, without its cause.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Why, where it is known.
    pub fn cause_text(&self) -> Option<&str> {
        self.cause.as_deref()
    }

    /// What to do, where it is known.
    pub fn remedy_text(&self) -> Option<&str> {
        self.remedy.as_deref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if let Some(cause) = &self.cause {
            write!(f, ": {cause}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

/// Attaches the operation to errors of the standard library and others.
pub trait ResultExt<T> {
    /// Makes the error an internal one: "failed to `operation`", with the original as its cause.
    fn or_internal(self, operation: impl fmt::Display) -> Result<T>;
    /// The same with a chosen kind.
    fn or_kind(self, kind: ErrorKind, operation: impl fmt::Display) -> Result<T>;
}

impl<T, E: fmt::Display> ResultExt<T> for std::result::Result<T, E> {
    fn or_internal(self, operation: impl fmt::Display) -> Result<T> {
        self.or_kind(ErrorKind::Internal, operation)
    }

    fn or_kind(self, kind: ErrorKind, operation: impl fmt::Display) -> Result<T> {
        self.map_err(|e| Error::new(kind, format!("failed to {operation}")).cause(e))
    }
}
