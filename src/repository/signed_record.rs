//! Reading signed records: one that was overwritten or deleted is still found, where the target keeps versions.

use std::fmt::Display;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use tokio_util::sync::CancellationToken;

use crate::error::{Error, ErrorKind, Result};
use crate::keys::{Namespace, Signer, signing};
use crate::model::id::{DatabaseId, DatabaseName, PublisherName, Sha256};
use crate::model::object::{ObjectKey, VersionId};
use crate::repository::layout;
use crate::targets::NamedTarget;
use crate::targets::ext::OLDEST;
use crate::targets::{TargetErrorKind, TargetExt};

/// A signature is smaller than this.
const SIGNATURE_LIMIT: u64 = 64 << 10;

/// Which versions of an object are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Depth {
    /// The newest only: whatever was written over a record counts.
    Newest,
    /// The oldest ones too, where the newest is missing or not acceptable.
    AnyVersion,
}

/// A record with a signature beside it.
pub(crate) struct SignedRecord<'a> {
    /// The database that it is about.
    pub database: &'a DatabaseId,
    /// The keys of the record and of its signature, relative to the database.
    pub keys: [String; 2],
    /// The record is smaller than this.
    pub limit: u64,
    /// What the signature says that it signs.
    pub namespace: Namespace,
}

/// The bytes of a record whose signature is valid.
pub(crate) struct SignedBytes {
    pub bytes: Bytes,
    pub signature: Bytes,
    /// Who signed it: of several, the first.
    pub signer: Signer,
}

/// A record whose signature was checked, with its bytes.
#[derive(Debug, Clone)]
pub(crate) struct Signed<T> {
    /// The content.
    pub record: T,
    /// The bytes that were signed.
    pub bytes: Vec<u8>,
    /// The armored signature.
    pub signature: String,
    /// Fingerprint of the signer, `SHA256:…`.
    pub signer: String,
}

/// Fails unless a record says that it belongs where it was found. `what` goes before the id: "record at prune". `says`: the
/// publisher, the database and the id that the record names.
pub(super) fn require_place<I: PartialEq + Display>(
    what: &str,
    database: &DatabaseId,
    id: &I,
    says: (&PublisherName, &DatabaseName, &I),
) -> Result<()> {
    if says == (&database.publisher, &database.database, id) {
        return Ok(());
    }
    Err(Error::verification(format!("the {what} {id} of {database} belongs to another place"))
        .cause(format!("it says {}/{}, {}", says.0, says.1, says.2))
        .remedy("Somebody moved it: use another target, and tell the publisher."))
}

impl<T> Signed<T> {
    /// A record that was read.
    pub(crate) fn new(record: T, read: SignedBytes) -> Self {
        Self {
            record,
            bytes: read.bytes.to_vec(),
            signature: String::from_utf8_lossy(&read.signature).into_owned(),
            signer: read.signer.fingerprint(),
        }
    }

    /// Bytes of the record, and of its signature.
    pub(crate) fn sizes(&self) -> [u64; 2] {
        [self.bytes.len() as u64, self.signature.len() as u64]
    }

    /// The hash that the next record names.
    pub(crate) fn hash(&self) -> Sha256 {
        Sha256::of(&self.bytes)
    }
}

impl SignedRecord<'_> {
    /// Reads the record. `accept` decides whether its content and its signers are what is looked for: a valid signature
    /// alone can be anybody's.
    pub(crate) async fn read<T>(
        &self,
        target: &NamedTarget,
        depth: Depth,
        accept: impl Fn(&SignedBytes) -> Result<T>,
        cancel: &CancellationToken,
    ) -> Result<(T, SignedBytes)> {
        let keys = [layout::key(self.database, &self.keys[0])?, layout::key(self.database, &self.keys[1])?];
        let checked = |bytes: Bytes, signature: Bytes| {
            let signer = signing::verify(&signature, self.namespace, &bytes)?;
            let signed = SignedBytes { bytes, signature, signer };
            Ok((accept(&signed)?, signed))
        };
        let newest = match self.newest(target, &keys, cancel).await {
            Ok((bytes, signature)) => checked(bytes, signature),
            Err(e) => Err(e),
        };
        let error = match newest {
            Err(e) if depth == Depth::AnyVersion && may_hide(&e) => e,
            other => return other,
        };
        let records = self.oldest(target, &keys[0], self.limit, cancel).await?;
        let signatures = self.oldest(target, &keys[1], SIGNATURE_LIMIT, cancel).await?;
        for bytes in &records {
            for signature in &signatures {
                if let Ok(found) = checked(bytes.clone(), signature.clone()) {
                    tracing::warn!(
                        key = keys[0].as_str(),
                        target = target.target.describe(),
                        cause = error.to_string(),
                        "a record was deleted or overwritten, an older version of it is good"
                    );
                    return Ok(found);
                }
            }
        }
        Err(error)
    }

    async fn newest(
        &self,
        target: &NamedTarget,
        [key, signature_key]: &[ObjectKey; 2],
        cancel: &CancellationToken,
    ) -> Result<(Bytes, Bytes)> {
        let fetch = async |key: &ObjectKey, limit| target.target.fetch_small(key, limit, cancel).await;
        let signature = fetch(signature_key, SIGNATURE_LIMIT).await.map_err(|e| match e.kind {
            TargetErrorKind::NotFound => Error::key(format!("{signature_key} is missing"))
                .remedy("Without a signature a receipt proves nothing: use another target."),
            _ => e.into(),
        })?;
        Ok((fetch(key, self.limit).await?, signature))
    }

    /// The oldest versions of an object, as far as the target shows and gives them.
    async fn oldest(
        &self,
        target: &NamedTarget,
        key: &ObjectKey,
        limit: u64,
        cancel: &CancellationToken,
    ) -> Result<Vec<Bytes>> {
        let versions = target.target.versions(key, cancel).await.unwrap_or_default();
        let mut found = Vec::new();
        for object in versions.into_iter().filter(|v| v.size <= limit).take(OLDEST) {
            found.extend(version(target, key, object.version.as_ref(), limit, cancel).await);
            if cancel.is_cancelled() {
                return Err(Error::interrupted());
            }
        }
        Ok(found)
    }
}

/// Whether a record may have been unreadable because it was overwritten or deleted.
fn may_hide(e: &Error) -> bool {
    matches!(e.kind(), ErrorKind::NotFound | ErrorKind::Key | ErrorKind::Verification)
}

/// The bytes of one version, if they can be read.
async fn version(
    target: &NamedTarget,
    key: &ObjectKey,
    version: Option<&VersionId>,
    limit: u64,
    cancel: &CancellationToken,
) -> Option<Bytes> {
    let mut stream = target.target.get(key, version, cancel).await.ok()?;
    let mut bytes = BytesMut::new();
    while let Some(chunk) = stream.next().await {
        bytes.extend_from_slice(&chunk.ok()?);
        if bytes.len() as u64 > limit {
            return None;
        }
    }
    Some(bytes.freeze())
}
