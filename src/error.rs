//! The one error type of the crate: what went wrong, why, and what to do about it.
//!
//! Cause and remedy are separate texts, so that a person, a log line and the JSON
//! document on stdout can each show what they need. Messages are lowercase fragments.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use strum::VariantArray;

/// What kind of failure this is; decides the exit code (see `docs/EXIT-CODES.md`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, VariantArray)]
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
    /// Restored, except for what is listed.
    Exceptions,
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
            ErrorKind::Exceptions => 12,
            ErrorKind::Interrupted => 130,
        }
    }

    /// The kind that has this exit code; `Internal` for one that no kind has.
    pub(crate) fn of_exit_code(code: u8) -> Self {
        Self::VARIANTS.iter().copied().find(|kind| kind.exit_code() == code).unwrap_or(Self::Internal)
    }
}

/// A failure: its kind, what failed, the cause below it, and the remedy.
#[derive(Clone)]
pub struct Error {
    kind: ErrorKind,
    message: String,
    cause: Option<Cause>,
    remedy: Option<String>,
    /// In a box, so that errors stay small.
    origin: Option<Box<Origin>>,
}

/// The one thing that has to be repaired, where many failures can come from it. Failures of the same origin are one
/// problem, however many databases they hit.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// A database server that cannot be reached: its address, for people.
    Server(String),
    /// A role that a database server does not let in: the server's address and the role, for people.
    Login(String),
    /// A key file of the agent that cannot be used: its path.
    Key(String),
    /// A folder of the agent without free space: its name, such as `spool`.
    Disk(String),
    /// This target, by its name.
    Target(String),
    /// One of the targets of the database: which one, other findings say.
    SomeTarget,
}

/// Why something failed: the text that people are shown, and the error itself for code that asks for its type.
#[derive(Clone)]
struct Cause {
    text: String,
    source: Arc<dyn std::error::Error + Send + Sync>,
}

/// What to do where a file system takes no writes at all.
pub(crate) const READ_ONLY: &str = "Under systemd the service may write only where its unit says so: add \
     `ReadWritePaths=FOLDER` (`systemctl edit marbre`), and restart it. Otherwise the disk is mounted read-only: `dmesg` says \
     why.";
/// What to do where there is no room.
const FULL: &str = "Free space on the disk of this folder, or move the folder to a larger one (`spool_dir`, \
     `scratch_dir`, `state_dir`).";

/// What to do about an error of the file system that is no fault of the program: it is full, or takes no writes.
pub(crate) fn disk_remedy(e: &std::io::Error) -> Option<&'static str> {
    match e.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => Some(FULL),
        std::io::ErrorKind::ReadOnlyFilesystem => Some(READ_ONLY),
        _ => None,
    }
}

/// Any error: what a cause is made of, from another error or from a text.
pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The result type of the crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// A failure of this kind. `message` is a lowercase fragment that fits "failed: {message}".
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), cause: None, remedy: None, origin: None }
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

    /// Adds why it happened: an error, which becomes the source of this one, or a text.
    #[must_use]
    pub fn cause(mut self, cause: impl Into<BoxError>) -> Self {
        let source: Arc<dyn std::error::Error + Send + Sync> = cause.into().into();
        self.cause = Some(Cause { text: source.to_string(), source });
        self
    }

    /// Adds what the reader can do about it: a full sentence.
    #[must_use]
    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }

    /// Says what has to be repaired, where other failures can come from the same.
    #[must_use]
    pub fn origin(mut self, origin: Origin) -> Self {
        self.origin = Some(Box::new(origin));
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
        self.cause.as_ref().map(|cause| cause.text.as_str())
    }

    /// Why, or else what failed.
    pub(crate) fn why(&self) -> &str {
        self.cause_text().unwrap_or(&self.message)
    }

    /// What to do, where it is known.
    pub fn remedy_text(&self) -> Option<&str> {
        self.remedy.as_deref()
    }

    /// What has to be repaired, where other failures can come from the same. Any failure of kind `Target` comes from one
    /// of the targets.
    pub fn origin_known(&self) -> Option<Origin> {
        let some = (self.kind == ErrorKind::Target).then_some(Origin::SomeTarget);
        self.origin.as_deref().cloned().or(some)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if let Some(cause) = &self.cause {
            write!(f, ": {}", cause.text)?;
        }
        Ok(())
    }
}

/// Shows the texts and never the source: the error of a database may hold the contents of rows beside its message.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("kind", &self.kind)
            .field("message", &self.message)
            .field("cause", &self.cause_text())
            .field("remedy", &self.remedy)
            .finish()
    }
}

/// The source is for code that asks for its type. It is not for people, and nothing prints a whole chain: [`fmt::Display`]
/// already shows the cause, and what lies below it may hold what must not be shown.
impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.cause.as_ref().map(|cause| &*cause.source as &(dyn std::error::Error + 'static))
    }
}

/// An error in a report, or on its way between processes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ErrorRecord {
    /// What failed.
    pub message: String,
    /// Why.
    pub cause: Option<String>,
    /// What to do.
    pub remedy: Option<String>,
    /// The exit code of this kind of failure.
    pub exit_code: u8,
}

impl From<&ErrorRecord> for Error {
    fn from(e: &ErrorRecord) -> Self {
        let error = Error::new(ErrorKind::of_exit_code(e.exit_code), e.message.clone());
        let error = e.cause.iter().fold(error, |error, cause| error.cause(cause.as_str()));
        e.remedy.iter().fold(error, |error, remedy| error.remedy(remedy))
    }
}

impl From<&Error> for ErrorRecord {
    fn from(e: &Error) -> Self {
        Self {
            message: e.message().to_owned(),
            cause: e.cause_text().map(str::to_owned),
            remedy: e.remedy_text().map(str::to_owned),
            exit_code: e.kind().exit_code(),
        }
    }
}

/// Attaches the operation to errors of the standard library and others, which become the source.
pub(crate) trait ResultExt<T> {
    /// Makes the error an internal one: "failed to `operation`", with the original as its cause.
    fn or_internal(self, operation: impl fmt::Display) -> Result<T>;
    /// The same with a chosen kind.
    fn or_kind(self, kind: ErrorKind, operation: impl fmt::Display) -> Result<T>;
}

impl<T, E: Into<BoxError>> ResultExt<T> for std::result::Result<T, E> {
    fn or_internal(self, operation: impl fmt::Display) -> Result<T> {
        self.or_kind(ErrorKind::Internal, operation)
    }

    fn or_kind(self, kind: ErrorKind, operation: impl fmt::Display) -> Result<T> {
        self.map_err(|e| {
            let cause: BoxError = e.into();
            let remedy = cause.downcast_ref::<std::io::Error>().and_then(disk_remedy);
            let error = Error::new(kind, format!("failed to {operation}")).cause(cause);
            match remedy {
                // A full disk is no bug.
                Some(remedy) if kind == ErrorKind::Internal => {
                    error.with_kind(ErrorKind::Preflight).remedy(remedy)
                }
                Some(remedy) => error.remedy(remedy),
                None => error,
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;
    use std::io;

    use super::*;

    #[test]
    fn every_kind_has_a_code_of_its_own_which_is_written_up() {
        let documented = include_str!("../docs/EXIT-CODES.md");
        for kind in ErrorKind::VARIANTS {
            let code = kind.exit_code();
            assert_eq!(ErrorKind::of_exit_code(code), *kind);
            assert!(documented.contains(&format!("\n| {code} |")), "{kind:?} is not in docs/EXIT-CODES.md");
        }
    }

    #[test]
    fn the_source_keeps_its_type_and_the_text_is_that_of_the_cause() {
        let refused = Err::<(), _>(io::Error::from(io::ErrorKind::PermissionDenied));
        let error = refused.or_kind(ErrorKind::Target, "read a").unwrap_err().clone().context("nas");
        let source = error.source().and_then(|source| source.downcast_ref::<io::Error>());
        assert_eq!(source.map(io::Error::kind), Some(io::ErrorKind::PermissionDenied));
        assert_eq!(error.cause_text(), Some("permission denied"));
        assert_eq!(error.to_string(), "nas: failed to read a: permission denied");
        let full = Err::<(), _>(io::Error::from(io::ErrorKind::StorageFull))
            .or_internal("write /spool/a")
            .unwrap_err();
        assert_eq!(full.kind(), ErrorKind::Preflight);
        assert!(full.remedy_text().is_some_and(|text| text.starts_with("Free space")));
        let text = Err::<(), _>("no reason").or_internal("wait").unwrap_err();
        assert_eq!(text.to_string(), "failed to wait: no reason");
        assert!(Error::interrupted().source().is_none());
    }

    #[test]
    fn what_a_source_holds_beside_its_message_is_not_shown() {
        #[derive(Debug, thiserror::Error)]
        #[error("duplicate key")]
        struct Row {
            _detail: &'static str,
        }
        let error = Error::database("failed to load").cause(Row { _detail: "Key (name)=(Dupont)" });
        assert!(error.source().is_some_and(|source| source.is::<Row>()));
        assert!(!format!("{error} {error:?} {error:#?}").contains("Dupont"));
    }
}
