//! What is sent to a target.

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;

use bytes::Bytes;

use super::pace::Pace;
use super::{TargetError, TargetErrorKind};
use crate::model::id::Sha256;
use crate::model::object_lock::Lock;

/// How much is read or written at once, and between two looks at the cancellation token.
pub(crate) const CHUNK: usize = 512 * 1024;

/// The bytes of an object on their way to a target. Cheap to clone: several targets share one.
#[derive(Debug, Clone)]
pub enum Body {
    /// Small objects: receipts, signatures, manifests.
    Memory(Bytes),
    /// A spooled pack (ciphertext).
    File(PathBuf),
}

/// An object to store: its bytes, what they must be, and how they are to be kept.
#[derive(Debug, Clone)]
pub struct Upload {
    /// The bytes.
    pub body: Body,
    /// Their number.
    pub size: u64,
    /// Their SHA-256.
    pub sha256: Sha256,
    /// The lock that the target is to put on the new object. Only S3 can; others ignore it.
    pub lock: Option<Lock>,
    /// The pace at which the bytes go out.
    pub pace: Option<Pace>,
    /// Take the place of what lies under the key. Only for an object that does not have the bytes that its name, or a signed
    /// receipt, says it has.
    pub replace: bool,
}

impl Upload {
    /// An object held in memory.
    pub fn memory(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        let (size, sha256) = (bytes.len() as u64, Sha256::of(&bytes));
        Self { body: Body::Memory(bytes), size, sha256, lock: None, pace: None, replace: false }
    }

    /// A spooled file of this size and hash.
    pub fn file(path: impl Into<PathBuf>, size: u64, sha256: Sha256) -> Self {
        Self { body: Body::File(path.into()), size, sha256, lock: None, pace: None, replace: false }
    }

    /// The same, to be locked.
    #[must_use]
    pub fn locked(self, lock: Lock) -> Self {
        Self { lock: Some(lock), ..self }
    }

    /// The same, to take the place of an object that does not have the bytes that it must have.
    #[must_use]
    pub fn replacing(self) -> Self {
        Self { replace: true, ..self }
    }

    /// Refuses bytes that are not those announced.
    pub(crate) fn check(&self, size: u64, sha256: Sha256, operation: &str) -> Result<(), TargetError> {
        let cause = if size != self.size {
            format!("there are {size} bytes to send, not {} as announced", self.size)
        } else if sha256 != self.sha256 {
            format!("the bytes to send have the SHA-256 {sha256}, not {} as announced", self.sha256)
        } else {
            return Ok(());
        };
        Err(TargetError::new(TargetErrorKind::Corrupt, operation, cause))
    }
}

/// An upload's bytes, piece by piece.
pub(crate) enum Pieces {
    Memory(Bytes),
    File(File, Vec<u8>),
}

impl Pieces {
    pub(crate) fn open(body: &Body, operation: &str) -> Result<Self, TargetError> {
        match body {
            Body::Memory(bytes) => Ok(Self::Memory(bytes.clone())),
            Body::File(path) => File::open(path)
                .map(|file| Self::File(file, vec![0; CHUNK]))
                .map_err(|e| spool_failure(operation, e)),
        }
    }

    /// The next piece, of at most [`CHUNK`] bytes; `None` at the end.
    pub(crate) fn next(&mut self, operation: &str) -> Result<Option<Bytes>, TargetError> {
        match self {
            Self::Memory(rest) if rest.is_empty() => Ok(None),
            Self::Memory(rest) => Ok(Some(rest.split_to(CHUNK.min(rest.len())))),
            Self::File(file, buffer) => match file.read(buffer) {
                Ok(0) => Ok(None),
                Ok(n) => Ok(Some(Bytes::copy_from_slice(&buffer[..n]))),
                Err(e) => Err(spool_failure(operation, e)),
            },
        }
    }
}

/// The spool is on this host: a file that cannot be read there is no fault of the target, and does not
/// come back by trying again.
fn spool_failure(operation: &str, e: std::io::Error) -> TargetError {
    TargetError::new(
        TargetErrorKind::Unsupported,
        operation,
        format!("spooled file on this host cannot be read: {e}"),
    )
    .with_source(e)
}
