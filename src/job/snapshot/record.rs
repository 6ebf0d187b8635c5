//! Builds the records of a snapshot from what was read: manifest, receipt, signature.

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;

use crate::error::{Error, Result, ResultExt};
use crate::job::snapshot::SnapshotJob;
use crate::job::snapshot::epoch::Epoch;
use crate::job::snapshot::reading::Content;
use crate::job::snapshot::reuse::Reuse;
use crate::job::snapshot::uploader::Commit;
use crate::keys::Namespace;
use crate::model::id::{Sha256, SnapshotId};
use crate::model::table::TableProof;
use crate::pack::history::{Place, Run, StoredRun};
use crate::pack::pack_writer::seal_small;
use crate::pack::stream::Encoded;
use crate::repository::manifest::{Extent, FORMAT, Manifest, PackRef, StreamEntry};
use crate::repository::receipt::{ObjectRef, Receipt, ReceiptKind, SignedReceipt};
use crate::repository::{canonical, layout};

/// The records of a snapshot, ready to be stored.
pub(crate) struct Record {
    /// What every target gets last.
    pub commit: Commit,
    /// The signed receipt.
    pub receipt: SignedReceipt,
    /// (identity, runs) of every stream, for the next snapshot.
    pub remembered: Vec<(String, Vec<StoredRun>)>,
    /// What people should know.
    pub warnings: Vec<String>,
}

/// The packs that extents refer to, in the order of their first use.
struct Packs<'a> {
    new: &'a [PackRef],
    old: &'a BTreeMap<Sha256, u64>,
    list: Vec<PackRef>,
    places: HashMap<Sha256, u32>,
}

impl Packs<'_> {
    fn extent(&mut self, run: &Run) -> Result<Extent> {
        let pack = match run.place {
            Place::New(ordinal) => self.new.get(ordinal as usize).cloned(),
            Place::Old(sha256) => self.old.get(&sha256).map(|size| PackRef { sha256, size: *size }),
        };
        let pack = pack.ok_or_else(|| Error::internal("a stream refers to an unknown pack"))?;
        let list = &mut self.list;
        let index = *self.places.entry(pack.sha256).or_insert_with(|| {
            list.push(pack);
            list.len() as u32 - 1
        });
        Ok(Extent { pack: index, offset: run.offset, length: run.length })
    }
}

impl Record {
    /// Builds all records. `times` are the start and the end of the run.
    pub(super) fn make(
        job: &SnapshotJob,
        epoch: &Epoch,
        snapshot: &SnapshotId,
        reuse: &Reuse,
        content: Content,
        times: (Timestamp, Timestamp),
    ) -> Result<Self> {
        let Content { facts, streams, packs: new } = content;
        let mut packs = Packs { new: &new, old: &reuse.sizes, list: Vec::new(), places: HashMap::new() };
        let mut tables: HashMap<String, Vec<TableProof>> = facts.tables.into_iter().collect();
        let mut entries = Vec::new();
        let mut remembered = Vec::new();
        let mut new_bytes = 0;
        for (plan, encoded) in streams {
            let extents = encoded.runs.iter().map(|r| packs.extent(r)).collect::<Result<Vec<_>>>()?;
            let runs = extents.iter().map(|e| (packs.list[e.pack as usize].sha256, e.offset, e.length));
            remembered.push((plan.identity, runs.collect()));
            new_bytes += encoded.new_bytes;
            let inside = tables.remove(&plan.name).unwrap_or_default();
            let own = plan.table.map(|t| TableProof {
                table: t.table,
                columns: t.columns,
                key: t.key,
                rows: encoded.sum.rows(),
                digest: encoded.sum.digest(),
            });
            let Encoded { length, sha256, .. } = encoded;
            let tables = inside.into_iter().chain(own).collect();
            entries.push(StreamEntry { name: plan.name, kind: plan.kind, length, sha256, tables, extents });
        }
        if let Some(name) = tables.keys().next() {
            return Err(Error::internal(format!(
                "the engine proved tables of a stream {name:?} that does not exist"
            )));
        }
        let manifest = Manifest {
            format: FORMAT,
            publisher: job.database.publisher.clone(),
            database: job.database.database.clone(),
            snapshot: snapshot.clone(),
            epoch: epoch.state.epoch.clone(),
            source: facts.source,
            row_key: hex::encode(epoch.state.row_key),
            packs: packs.list,
            streams: entries,
        };
        let totals = Totals { new_bytes, written: &new };
        let (commit, receipt) = sign(job, epoch, manifest, &totals, times)?;
        Ok(Self { commit, receipt, remembered, warnings: facts.warnings })
    }
}

struct Totals<'a> {
    new_bytes: u64,
    written: &'a [PackRef],
}

fn sign(
    job: &SnapshotJob,
    epoch: &Epoch,
    manifest: Manifest,
    totals: &Totals<'_>,
    (started_at, finished_at): (Timestamp, Timestamp),
) -> Result<(Commit, SignedReceipt)> {
    let (database, snapshot) = (&job.database, &manifest.snapshot);
    let json = serde_json::to_vec(&manifest).or_internal("serialise the manifest")?;
    let sealed = seal_small(&epoch.recipient, &json).or_internal("encrypt the manifest")?;
    let objects = objects(epoch, &manifest, &sealed);
    let head = job.state.head(database)?;
    let written: u64 = totals.written.iter().map(|p| p.size).sum();
    let receipt = Receipt {
        format: FORMAT,
        kind: ReceiptKind::Snapshot,
        publisher: database.publisher.clone(),
        database: database.database.clone(),
        snapshot: snapshot.clone(),
        epoch: manifest.epoch.clone(),
        sequence: head.as_ref().map_or(1, |h| h.sequence + 1),
        previous: head.map(|h| h.hash),
        agent: concat!("marbre ", env!("CARGO_PKG_VERSION")).to_owned(),
        engine: manifest.source.engine.clone(),
        engine_version: manifest.source.version.clone(),
        tool_version: manifest.source.details["tool_version"].as_str().unwrap_or_default().to_owned(),
        started_at: canonical::whole_second(started_at),
        consistent_at: canonical::whole_second(manifest.source.consistent_at),
        finished_at: canonical::whole_second(finished_at),
        streams: manifest.streams.len() as u64,
        rows: manifest.streams.iter().flat_map(|s| &s.tables).map(|t| t.rows).sum(),
        bytes_read: manifest.streams.iter().map(|s| s.length).sum(),
        new_bytes: totals.new_bytes,
        stored_bytes: written
            + sealed.len() as u64
            + if epoch.full { epoch.state.sealed.len() as u64 } else { 0 },
        recipients: epoch.state.recipients.clone(),
        charter: None,
        objects,
    };
    let bytes = receipt.to_bytes()?;
    let signature = job.signing_key.sign(Namespace::SnapshotReceipt, &bytes)?;
    let commit = Commit {
        objects: receipt.objects.clone(),
        manifest: (layout::key(database, &layout::manifest(&manifest.epoch, snapshot))?, sealed.into()),
        signature: (
            layout::key(database, &layout::signature(snapshot))?,
            signature.clone().into_bytes().into(),
        ),
        receipt: (layout::key(database, &layout::receipt(snapshot))?, bytes.clone().into()),
    };
    let signer = job.signing_key.signer().fingerprint();
    Ok((commit, SignedReceipt { receipt, bytes, signature, signer }))
}

fn objects(epoch: &Epoch, manifest: &Manifest, sealed_manifest: &[u8]) -> Vec<ObjectRef> {
    let id = &manifest.epoch;
    let small =
        |key: String, bytes: &[u8]| ObjectRef { key, sha256: Sha256::of(bytes), size: bytes.len() as u64 };
    let packs = manifest.packs.iter().map(|p| ObjectRef {
        key: layout::pack(id, &p.sha256),
        sha256: p.sha256,
        size: p.size,
    });
    let mut objects: Vec<ObjectRef> = packs
        .chain([
            small(layout::epoch(id), &epoch.state.sealed),
            small(layout::manifest(id, &manifest.snapshot), sealed_manifest),
        ])
        .collect();
    objects.sort();
    objects
}
