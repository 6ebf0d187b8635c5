//! What is copied as a unit: objects, and then the signature and the record that refer to them.

use crate::keys::Namespace;
use crate::model::id::Sha256;
use crate::repository::drill_receipt::DrillReceipt;
use crate::repository::layout;
use crate::repository::receipt::{ObjectRef, SignedReceipt};
use crate::repository::record_catalog::Recorded;
use crate::repository::signed_record::Signed;
use crate::repository::succession::Succession;

/// A signed record whose signature was checked, and the objects that it needs.
pub(super) struct Record {
    /// What it is called in messages.
    pub name: String,
    /// What its signature says that it signs.
    pub namespace: Namespace,
    /// What must be there before it.
    pub objects: Vec<ObjectRef>,
    /// Signature and record, in this order: a record without a signature proves nothing.
    pub last: [Small; 2],
}

/// A small object, held in memory.
pub(super) struct Small {
    /// What it is.
    pub object: ObjectRef,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

impl Small {
    fn new(key: String, bytes: &[u8]) -> Self {
        let object = ObjectRef { key, sha256: Sha256::of(bytes), size: bytes.len() as u64 };
        Self { object, bytes: bytes.to_vec() }
    }
}

impl Record {
    /// A snapshot: everything that a restore needs, and its receipt.
    pub(super) fn of_snapshot(signed: &SignedReceipt) -> Self {
        let snapshot = &signed.receipt.snapshot;
        Self {
            name: format!("snapshot {snapshot}"),
            namespace: Namespace::SnapshotReceipt,
            objects: signed.receipt.objects.clone(),
            last: [
                Small::new(layout::signature(snapshot), signed.signature.as_bytes()),
                Small::new(layout::receipt(snapshot), &signed.bytes),
            ],
        }
    }

    /// A record of the agent that needs no objects.
    pub(super) fn of<T: Recorded>(signed: &Signed<T>) -> Self {
        let id = signed.record.id();
        let [record, signature] = T::keys(id);
        Self {
            name: format!("{} {id}", T::NAMES.1),
            namespace: T::NAMESPACE,
            objects: Vec::new(),
            last: [Small::new(signature, signed.signature.as_bytes()), Small::new(record, &signed.bytes)],
        }
    }

    /// A drill: its receipt, and the report that is sealed to the owner, if there is one.
    pub(super) fn of_drill(signed: &Signed<DrillReceipt>) -> Self {
        let drill = &signed.record.drill;
        Self {
            name: format!("drill {drill}"),
            namespace: Namespace::DrillReceipt,
            objects: signed.record.report.iter().filter_map(|r| r.sealed.clone()).collect(),
            last: [
                Small::new(layout::drill_signature(drill), signed.signature.as_bytes()),
                Small::new(layout::drill(drill), &signed.bytes),
            ],
        }
    }

    /// A succession: which agent goes on.
    pub(super) fn of_succession(signed: &Signed<Succession>) -> Self {
        let (number, hash) = (signed.record.number, signed.hash());
        Self {
            name: format!("succession {number}"),
            namespace: Namespace::Succession,
            objects: Vec::new(),
            last: [
                Small::new(layout::succession_signature(number, &hash), signed.signature.as_bytes()),
                Small::new(layout::succession(number, &hash), &signed.bytes),
            ],
        }
    }
}
