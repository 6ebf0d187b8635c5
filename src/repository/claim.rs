//! A claim: whoever creates it may write the receipt of its number (see `docs/FORMAT.md`). It is a fence, no evidence: it
//! is not signed, and no reader needs it.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::model::id::{DatabaseName, PublisherName, SnapshotId};
use crate::repository::canonical;

/// A claim is smaller than this.
pub(crate) const CLAIM_LIMIT: u64 = 4 << 10;

/// What a claim says, for who comes second.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Claim {
    /// Format version.
    pub format: u32,
    /// What it is; `claim`.
    pub kind: ClaimKind,
    /// The owner of the data.
    pub publisher: PublisherName,
    /// The database.
    pub database: DatabaseName,
    /// The succession under which the receipt is written, 0 before the first.
    pub succession: u64,
    /// The place in the chain.
    pub sequence: u64,
    /// The fingerprint of the agent that claims it.
    pub signer: String,
    /// The snapshot that was being taken. If that run was cut off, the receipt is that of a later one.
    pub snapshot: SnapshotId,
}

/// What a [`Claim`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ClaimKind {
    /// A claim.
    Claim,
}

impl Claim {
    /// The bytes that are stored.
    pub(crate) fn to_bytes(&self) -> Result<Vec<u8>> {
        canonical::to_bytes(self)
    }

    /// Reads a claim, whoever put it there.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self> {
        canonical::from_bytes(bytes).map_err(|e: Error| e.context("claim"))
    }
}
