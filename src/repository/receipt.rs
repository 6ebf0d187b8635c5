//! The receipt: the cleartext, signed, chained record of a snapshot (see `docs/FORMAT.md`).

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::keys::{Signer, signing};
use crate::model::id::{DatabaseId, DatabaseName, EpochId, PublisherName, Sha256, SnapshotId};
use crate::repository::{canonical, layout, signed_record};

/// A receipt is smaller than this: 400,000 objects.
pub(crate) const RECEIPT_LIMIT: u64 = 64 << 20;

/// A receipt's content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Receipt {
    /// Format version.
    pub format: u32,
    /// What is recorded; `snapshot`.
    pub kind: ReceiptKind,
    /// The owner of the data.
    pub publisher: PublisherName,
    /// The database.
    pub database: DatabaseName,
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// Its epoch.
    pub epoch: EpochId,
    /// The succession under which it was written; 0 before the first.
    pub succession: u64,
    /// Place in the chain, from 1.
    pub sequence: u64,
    /// SHA-256 of the receipt before it.
    pub previous: Option<Sha256>,
    /// Name and version of the writer.
    pub agent: String,
    /// Engine.
    pub engine: String,
    /// Version of the server.
    pub engine_version: String,
    /// Version of the dump tool, or empty.
    pub tool_version: String,
    /// When the run started.
    pub started_at: Timestamp,
    /// The instant whose state the snapshot holds.
    pub consistent_at: Timestamp,
    /// When everything had been read and packed.
    pub finished_at: Timestamp,
    /// Number of streams.
    pub streams: u64,
    /// Number of rows.
    pub rows: u64,
    /// Bytes of all streams.
    pub bytes_read: u64,
    /// Of these, bytes that were new to the epoch.
    pub new_bytes: u64,
    /// Bytes of the objects written for this snapshot.
    pub stored_bytes: u64,
    /// What the database has and the snapshot does not hold: kinds of things and their numbers, never their names.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub omitted: BTreeMap<String, u64>,
    /// A server ended the first attempt; what is recorded was read from another one.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub second_attempt: bool,
    /// SHA-256 of each recipient's text, sorted.
    pub recipients: Vec<Sha256>,
    /// SHA-256 of the charter, where there is one.
    pub charter: Option<Sha256>,
    /// Every object that a restore needs, sorted by key.
    pub objects: Vec<ObjectRef>,
}

/// What a receipt records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ReceiptKind {
    /// A snapshot.
    Snapshot,
}

/// An object that a snapshot needs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ObjectRef {
    /// Key relative to the database.
    pub key: String,
    /// SHA-256 of the object.
    pub sha256: Sha256,
    /// Size in bytes.
    pub size: u64,
}

impl Receipt {
    /// The bytes that are hashed, signed and stored.
    pub(crate) fn to_bytes(&self) -> Result<Vec<u8>> {
        canonical::to_bytes(self)
    }

    /// Parses the receipt that was found at its place. The caller has checked the signature of `bytes`.
    pub(crate) fn parse(bytes: &[u8], database: &DatabaseId, snapshot: &SnapshotId) -> Result<Self> {
        let receipt: Receipt =
            canonical::from_bytes(bytes).map_err(|e| e.context(format!("receipt of {snapshot}")))?;
        let says = (&receipt.publisher, &receipt.database, &receipt.snapshot);
        signed_record::require_place("receipt at", database, snapshot, says)?;
        receipt.check()?;
        Ok(receipt)
    }

    fn check(&self) -> Result<()> {
        let wrong = |what: &str| Err(Error::verification(format!("receipt of {}: {what}", self.snapshot)));
        if self.sequence == 0 {
            return wrong("its sequence is 0");
        }
        if !self.objects.is_sorted_by(|a, b| a.key < b.key) {
            return wrong("its objects are not sorted by key");
        }
        for needed in [layout::epoch(&self.epoch), layout::manifest(&self.epoch, &self.snapshot)] {
            if !self.objects.iter().any(|o| o.key == needed) {
                return wrong(&format!("it does not name {needed}"));
            }
        }
        let inside = format!("epochs/{}/", self.epoch);
        match self.objects.iter().find(|o| !o.key.starts_with(&inside)) {
            Some(stranger) => wrong(&format!("{} is not in its epoch", stranger.key)),
            None => Ok(()),
        }
    }

    /// The database that it is of.
    pub(crate) fn database_id(&self) -> DatabaseId {
        DatabaseId { publisher: self.publisher.clone(), database: self.database.clone() }
    }

    /// The object with this relative key.
    pub(crate) fn object(&self, key: &str) -> Option<&ObjectRef> {
        self.objects.binary_search_by(|o| o.key.as_str().cmp(key)).ok().map(|i| &self.objects[i])
    }

    /// Bytes of all objects that a restore needs.
    pub(crate) fn size(&self) -> u64 {
        self.objects.iter().map(|o| o.size).sum()
    }
}

/// A receipt whose signature was checked, with its bytes.
#[derive(Debug, Clone)]
pub(crate) struct SignedReceipt {
    /// The content.
    pub receipt: Receipt,
    /// The bytes that were signed.
    pub bytes: Vec<u8>,
    /// The armored signature.
    pub signature: String,
    /// Fingerprint of the signer, `SHA256:…`.
    pub signer: String,
}

/// A receipt without the list of its objects: what is kept of each of many.
#[derive(Debug, Clone)]
pub(crate) struct Summary {
    /// The content; `objects` is empty.
    pub receipt: Receipt,
    /// The hash that the next receipt names.
    pub hash: Sha256,
    /// Its signer.
    pub signer: Signer,
    /// Bytes of all objects that a restore needs.
    pub size: u64,
    /// Bytes of the receipt itself, and of its signature.
    pub stored: [u64; 2],
}

impl SignedReceipt {
    /// The same without its objects.
    pub(crate) fn summary(&self) -> Result<Summary> {
        let objects = Vec::new();
        Ok(Summary {
            receipt: Receipt { objects, ..self.receipt.clone() },
            hash: self.hash(),
            signer: signing::signer_of(self.signature.as_bytes())?,
            size: self.receipt.size(),
            stored: [self.bytes.len() as u64, self.signature.len() as u64],
        })
    }

    /// The hash that the next receipt names.
    pub(crate) fn hash(&self) -> Sha256 {
        Sha256::of(&self.bytes)
    }
}
