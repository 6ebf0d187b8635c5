//! Builds the records of a snapshot from what was read: manifest, receipt, signature.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;

use crate::error::{Error, Result, ResultExt};
use crate::job::snapshot::SnapshotJob;
use crate::job::snapshot::epoch::Epoch;
use crate::job::snapshot::reading::Content;
use crate::job::snapshot::stream_cache::CachedStream;
use crate::job::snapshot::uploader::Commit;
use crate::keys::Namespace;
use crate::model::id::{Sha256, SnapshotId};
use crate::model::omission::Omission;
use crate::model::table::TableProof;
use crate::pack::extent::Layer;
use crate::pack::pack_writer::seal_small;
use crate::pack::stream::Encoded;
use crate::repository::manifest::{FORMAT, MANIFEST_LIMIT, Manifest, PackRef, Refused, StreamEntry};
use crate::repository::next_place::NextPlace;
use crate::repository::receipt::{ObjectRef, RECEIPT_LIMIT, Receipt, ReceiptKind, SignedReceipt};
use crate::repository::{canonical, layout};

/// The records of a snapshot, ready to be stored.
pub(crate) struct Record {
    /// What every target gets last.
    pub commit: Commit,
    /// The signed receipt.
    pub receipt: SignedReceipt,
    /// The packs that it needs, and its streams, for the next snapshot; nothing if something of it could not be remembered.
    pub remembered: Option<(Vec<PackRef>, Vec<CachedStream>)>,
    /// What people should know.
    pub warnings: Vec<String>,
}

/// The packs that are needed, in the order of their first use.
struct Packs<'a> {
    all: &'a [PackRef],
    list: Vec<PackRef>,
    places: HashMap<u32, u32>,
}

impl Packs<'_> {
    /// Lets a layer refer to the list.
    fn place(&mut self, layer: &mut Layer) -> Result<()> {
        for pack in layer.script.iter_mut().chain(&mut layer.data).filter_map(|e| e.pack.as_mut()) {
            let known = self.all.get(*pack as usize);
            let known = known.ok_or_else(|| Error::internal("a stream refers to an unknown pack"))?;
            let list = &mut self.list;
            *pack = *self.places.entry(*pack).or_insert_with(|| {
                list.push(known.clone());
                list.len() as u32 - 1
            });
        }
        Ok(())
    }
}

impl Record {
    /// Builds all records. `times` are the start and the end of the run.
    pub(super) fn make(
        job: &SnapshotJob,
        epoch: &Epoch,
        snapshot: &SnapshotId,
        content: Content,
        place: NextPlace,
        times: (Timestamp, Timestamp),
    ) -> Result<Self> {
        let Content { facts, streams, packs: all, older } = content;
        let mut packs = Packs { all: &all, list: Vec::new(), places: HashMap::new() };
        let mut tables: HashMap<String, Vec<TableProof>> = facts.tables.into_iter().collect();
        let mut entries = Vec::new();
        let mut remembered = Some(Vec::new());
        let mut new_bytes = 0;
        for (plan, mut encoded, cached) in streams {
            for layer in &mut encoded.layers {
                packs.place(layer)?;
            }
            remembered = remembered.zip(cached).map(|(mut all, mut cached)| {
                for (cached, layer) in cached.layers.iter_mut().zip(&encoded.layers) {
                    cached.layer = layer.clone();
                }
                all.push(cached);
                all
            });
            new_bytes += encoded.new_bytes;
            let inside = tables.remove(&plan.name).unwrap_or_default();
            let plan = Arc::unwrap_or_clone(plan);
            let own = plan.table.map(|t| TableProof {
                table: t.table,
                columns: t.columns,
                key: t.key,
                rows: encoded.sum.rows(),
                digest: encoded.sum.digest(),
            });
            let Encoded { length, sha256, layers, .. } = encoded;
            let tables = inside.into_iter().chain(own).collect();
            entries.push(StreamEntry { name: plan.name, kind: plan.kind, length, sha256, tables, layers });
        }
        if let Some(name) = tables.keys().next() {
            return Err(Error::internal(format!(
                "the engine proved tables of a stream {name:?} that does not exist"
            )));
        }
        let omitted = facts.source.omitted.iter().map(Omission::warning);
        let warnings = omitted.chain(facts.warnings).collect();
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
        manifest.check().map_err(refused)?;
        let remembered = remembered.map(|streams| (manifest.packs.clone(), streams));
        let totals = Totals { new_bytes, written: &all[older..] };
        let (commit, receipt) = sign(job, epoch, manifest, &totals, place, times)?;
        Ok(Self { commit, receipt, remembered, warnings })
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
    place: NextPlace,
    (started_at, finished_at): (Timestamp, Timestamp),
) -> Result<(Commit, SignedReceipt)> {
    let (database, snapshot) = (&job.database, &manifest.snapshot.clone());
    let json = serde_json::to_vec(&manifest).or_internal("serialise the manifest")?;
    within(json.len(), MANIFEST_LIMIT, "manifest")?;
    let sealed = seal_small(&epoch.recipient, &json).or_internal("encrypt the manifest")?;
    let objects = objects(epoch, &manifest, &sealed);
    let written: u64 = totals.written.iter().map(|p| p.size).sum();
    let receipt = Receipt {
        format: FORMAT,
        kind: ReceiptKind::Snapshot,
        publisher: database.publisher.clone(),
        database: database.database.clone(),
        snapshot: snapshot.clone(),
        epoch: manifest.epoch.clone(),
        succession: place.succession,
        sequence: place.sequence,
        previous: place.previous,
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
        omitted: manifest.source.omitted.iter().map(|o| (o.kind.clone(), o.number())).collect(),
        second_attempt: manifest.source.instead_of.is_some(),
        recipients: epoch.state.recipients.clone(),
        charter: None,
        objects,
    };
    let bytes = receipt.to_bytes()?;
    within(bytes.len(), RECEIPT_LIMIT as usize, "receipt")?;
    let signature = job.signing_key.sign(Namespace::SnapshotReceipt, &bytes)?;
    let commit = Commit {
        objects: receipt.objects.clone(),
        packs: manifest.packs,
        manifest: (layout::key(database, &layout::manifest(&receipt.epoch, snapshot))?, sealed.into()),
        signature: (
            layout::key(database, &layout::signature(snapshot))?,
            signature.clone().into_bytes().into(),
        ),
        receipt: (layout::key(database, &layout::receipt(snapshot))?, bytes.clone().into()),
    };
    let signer = job.signing_key.signer().fingerprint();
    Ok((commit, SignedReceipt { receipt, bytes, signature, signer }))
}

/// What no reader would open must not be recorded.
fn refused(why: Refused) -> Error {
    let failed = "the manifest of the snapshot is not what readers accept";
    match why {
        Refused::Extents(_) => Error::preflight(failed).remedy(SHORTER),
        Refused::Stream(_) | Refused::Pack { .. } => Error::internal(failed),
    }
    .cause(why)
}

/// What makes a manifest shorter.
const SHORTER: &str =
    "Protect the database in parts, as several databases, or begin epochs more often: they shorten it.";

/// A snapshot that no reader would open must not be recorded.
fn within(size: usize, limit: usize, what: &str) -> Result<()> {
    if size <= limit {
        return Ok(());
    }
    Err(Error::preflight(format!(
        "the {what} of the snapshot would have {size} bytes, more than the {limit} that readers accept"
    ))
    .remedy(SHORTER))
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
