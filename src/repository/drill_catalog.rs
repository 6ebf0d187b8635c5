//! Which drills of a database there were, and what they proved: read from the targets, signature by signature.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use futures_util::future::join_all;
use futures_util::{StreamExt, stream};
use jiff::Timestamp;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::error::{Error, ErrorKind, Result, ResultExt};
use crate::keys::allowed_signers::{OWNER, principal};
use crate::keys::{Namespace, Signer, signing};
use crate::model::drill_stage::DrillStage;
use crate::model::id::{DatabaseId, DrillId, Sha256, SnapshotId, TargetName};
use crate::model::isolation::Isolation;
use crate::model::level::{By, Level, Levels};
use crate::model::place::PlaceId;
use crate::model::sabotage::Sabotage;
use crate::repository::chain::{self, Break, Link};
use crate::repository::drill_receipt::{DrillReceipt, Failure};
use crate::repository::layout;
use crate::repository::oddity::{Oddity, Problem};
use crate::repository::place::Places;
use crate::repository::reader::{BadRecord, Listed, PARALLEL, Reader};
use crate::repository::remembered::Remembered as _;
use crate::repository::signed_record::{Depth, Signed, SignedBytes, SignedRecord};
use crate::state::noted;
use crate::targets::NamedTarget;
use crate::targets::{TargetError, TargetErrorKind};

/// A drill's receipt is smaller than this.
const RECEIPT_LIMIT: u64 = 1 << 20;

/// One drill.
#[derive(Debug, Clone)]
pub(crate) struct KnownDrill {
    /// Its receipt.
    pub signed: Signed<DrillReceipt>,
    /// The targets that have the receipt.
    pub targets: BTreeSet<TargetName>,
}

/// The drills of one database.
#[derive(Debug, Default)]
pub(crate) struct DrillCatalog {
    /// Every drill with a good receipt in the state or on some target, oldest first.
    pub drills: BTreeMap<DrillId, KnownDrill>,
    /// Receipts that failed a check.
    pub bad: Vec<BadRecord>,
    /// Receipts that a target lists other than they were written.
    pub oddities: BTreeMap<TargetName, Vec<Oddity>>,
    /// Targets that could not be listed.
    pub unreachable: Vec<TargetName>,
    /// Where the targets are now.
    pub places: Places,
    /// Where chains of drills ended that were deleted with a whole archive.
    pub ended: BTreeMap<By, (u64, Sha256)>,
}

/// A level that a drill proved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DrillProof {
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// The target that it was proven at, by the name that it had there.
    pub target: TargetName,
    /// The place that this target was.
    #[serde(skip)]
    pub place: Option<PlaceId>,
    /// The level.
    pub level: Level,
    /// When the drill was over.
    pub at: Timestamp,
    /// The drill.
    pub drill: DrillId,
    /// Objects that were damaged or deleted there, so that an older version had to be restored: 0 for a proof without a remark.
    pub older_versions: u64,
}

/// One drill at a glance.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DrillSummary {
    /// The drill.
    pub drill: DrillId,
    /// Who ran it.
    pub by: By,
    /// When it was over.
    pub at: Timestamp,
    /// The snapshot; `null` where it failed before one was chosen.
    pub snapshot: Option<SnapshotId>,
    /// The target that it read from.
    pub target: Option<TargetName>,
    /// It has proven its level.
    pub passed: bool,
    /// What it damaged in its own copy.
    pub sabotage: Option<Sabotage>,
    /// Where it failed.
    pub failed_stage: Option<String>,
    /// What kept the code of the restored database apart, where the receipt says.
    pub isolation: Option<Isolation>,
    /// The measured recovery.
    pub rto_seconds: Option<f64>,
    /// How long a recovery may take.
    pub rto_promised_seconds: Option<u64>,
}

impl DrillSummary {
    /// What a receipt says.
    pub fn of(receipt: &DrillReceipt) -> Self {
        Self {
            drill: receipt.drill.clone(),
            by: receipt.by,
            at: receipt.finished_at,
            snapshot: receipt.subject.as_ref().map(|s| s.snapshot.clone()),
            target: receipt.target.clone(),
            passed: receipt.level.is_some(),
            sabotage: receipt.sabotage.as_ref().map(|s| s.kind),
            failed_stage: receipt.failure.as_ref().map(|f| f.stage.clone()),
            isolation: receipt.isolation,
            rto_seconds: receipt.rto_milliseconds.map(|ms| ms as f64 / 1000.0),
            rto_promised_seconds: receipt.rto_promised_seconds,
        }
    }
}

impl Reader<'_> {
    /// Lists the drills of every target, and fetches the receipts that are not known yet.
    pub(crate) async fn drills(&self, cancel: &CancellationToken) -> Result<DrillCatalog> {
        let mut catalog = DrillCatalog::default();
        for signed in self.state.map(|s| s.drills(self.database)).transpose()?.unwrap_or_default() {
            let id = signed.record.drill.clone();
            catalog.drills.insert(id, KnownDrill { signed, targets: BTreeSet::new() });
        }
        let lists = join_all(self.targets.iter().map(|target| self.list_drills(target, cancel)));
        let (lists, places) = tokio::join!(lists, self.places(cancel));
        catalog.places = places?.clone();
        for (target, keys) in self.targets.iter().zip(lists) {
            let keys = match keys {
                Ok(keys) => keys,
                Err(e) if e.kind == TargetErrorKind::Cancelled => return Err(Error::interrupted()),
                Err(_) => {
                    catalog.unreachable.push(target.name.clone());
                    continue;
                }
            };
            let mut new = Vec::new();
            for listed in keys {
                let known = catalog.drills.get_mut(&listed.id).filter(|_| self.state.is_some());
                let oddity = listed.oddity(known.as_ref().map(|known| known.signed.sizes()));
                match known {
                    Some(known) if oddity.as_ref().is_none_or(|odd| odd.problem == Problem::Hidden) => {
                        known.targets.insert(target.name.clone());
                    }
                    Some(_) => {}
                    None => new.push((listed.id, listed.key)),
                }
                if let Some(oddity) = oddity {
                    catalog.oddities.entry(target.name.clone()).or_default().push(oddity);
                }
            }
            let mut fetched = stream::iter(new.into_iter().map(|(drill, key)| async move {
                let receipt = self.drill(target, &drill, cancel).await;
                (drill, key, receipt)
            }))
            .buffered(PARALLEL);
            while let Some((drill, key, receipt)) = fetched.next().await {
                match receipt {
                    Ok(Some(signed)) => catalog.add(target, signed),
                    // It is not known who the owner is, so their signatures cannot be judged.
                    Ok(None) => {}
                    Err(e) if e.kind() == ErrorKind::Interrupted => return Err(e),
                    Err(e) => catalog.bad.push(BadRecord {
                        target: target.name.clone(),
                        key: key.to_string(),
                        error: e.context(format!("receipt of drill {drill} at {}", target.name)),
                    }),
                }
            }
        }
        Ok(catalog)
    }

    async fn list_drills(
        &self,
        target: &NamedTarget,
        cancel: &CancellationToken,
    ) -> Result<Vec<Listed<DrillId>>, TargetError> {
        self.list_folder(target, "drills", layout::drill_of, cancel).await
    }

    /// One drill's receipt from one target, its signature checked. Nothing, where nobody is known who could have signed it.
    async fn drill(
        &self,
        target: &NamedTarget,
        drill: &DrillId,
        cancel: &CancellationToken,
    ) -> Result<Option<Signed<DrillReceipt>>> {
        let keys = [layout::drill(drill), layout::drill_signature(drill)];
        let namespace = Namespace::DrillReceipt;
        let agents = self.agents(cancel).await?;
        let accept = |signed: &SignedBytes| {
            let receipt = DrillReceipt::parse(&signed.bytes, self.database, drill)?;
            let (signer, at) = (&signed.signer, receipt.finished_at);
            match receipt.by {
                _ if !self.trust.knows(principal(receipt.by)) => return Ok(None),
                By::Agent => agents.check_record(signer, namespace, at, self.trust)?,
                By::Owner => self.trust.check(signer, OWNER, namespace, at)?,
            }
            Ok(Some(receipt))
        };
        let record = SignedRecord { database: self.database, keys, limit: RECEIPT_LIMIT, namespace };
        let (receipt, read) = record.read(target, Depth::AnyVersion, accept, cancel).await?;
        let Some(receipt) = receipt else { return Ok(None) };
        let signed = Signed::new(receipt, read);
        if let Some(state) = self.state {
            noted(state.remember_drill(self.database, &signed));
        }
        Ok(Some(signed))
    }
}

impl DrillCatalog {
    fn add(&mut self, target: &NamedTarget, signed: Signed<DrillReceipt>) {
        let id = signed.record.drill.clone();
        let known = self.drills.entry(id).or_insert(KnownDrill { signed, targets: BTreeSet::new() });
        known.targets.insert(target.name.clone());
    }

    /// Adds the drills in a folder of reports that are signed with this key: an owner who may not write to a target keeps
    /// the chain of their drills there. What is not a receipt, or not theirs, is passed over.
    pub(crate) fn recall(&mut self, folder: &Path, database: &DatabaseId, own: &Signer) -> Result<()> {
        let what = format!("look for earlier drills in {}", folder.display());
        let entries = match std::fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(e) => return Err(e).or_internal(what),
        };
        for entry in entries {
            let path = entry.or_internal(&what)?.path();
            let name =
                path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix(".json"));
            let Some(drill) = name.and_then(|name| name.parse::<DrillId>().ok()) else { continue };
            let signature = path.with_extension("json.sig");
            let (Ok(bytes), Ok(signature)) = (std::fs::read(&path), std::fs::read(signature)) else {
                continue;
            };
            let signer = signing::verify(&signature, Namespace::DrillReceipt, &bytes).ok();
            let receipt = DrillReceipt::parse(&bytes, database, &drill).ok().filter(|r| r.by == By::Owner);
            if let (Some(receipt), true) = (receipt, signer.as_ref() == Some(own)) {
                let signature = String::from_utf8_lossy(&signature).into_owned();
                let signed = Signed { record: receipt, bytes, signature, signer: own.fingerprint() };
                self.drills.entry(drill).or_insert(KnownDrill { signed, targets: BTreeSet::new() });
            }
        }
        Ok(())
    }

    /// Every drill of a snapshot, oldest first.
    pub(crate) fn of(&self, snapshot: &SnapshotId) -> Vec<DrillSummary> {
        let all = self.receipts().map(DrillSummary::of);
        all.filter(|d| d.snapshot.as_ref() == Some(snapshot)).collect()
    }

    /// Whether a target is where a drill was made: at that place, whatever it is called now; where that is not known, at the
    /// target of that name.
    fn is_at(&self, target: &TargetName, drilled: Option<&TargetName>, place: Option<&PlaceId>) -> bool {
        match (place, self.places.of(target)) {
            (Some(then), Some(now)) => *then == now,
            (Some(_), None) if self.places.is_unmarked(target) => false,
            _ => drilled == Some(target),
        }
    }

    /// Every level that drills proved for a snapshot, oldest first. A later drill that found the same snapshot damaged at
    /// the same place revokes what earlier ones proved.
    pub(crate) fn proofs(&self, snapshot: &SnapshotId) -> Vec<DrillProof> {
        let of_snapshot = |d: &&DrillReceipt| d.subject.as_ref().is_some_and(|s| s.snapshot == *snapshot);
        let mut proofs: Vec<DrillProof> = Vec::new();
        for receipt in self.receipts().filter(of_snapshot) {
            if disproves(receipt) {
                proofs.retain(|p| match (&p.place, &receipt.place) {
                    (Some(proven), Some(damaged)) => proven != damaged,
                    _ => Some(&p.target) != receipt.target.as_ref(),
                });
            }
            proofs.extend(proof(receipt));
        }
        proofs
    }

    /// The newest proof of this level at a target.
    pub(crate) fn last_proof(&self, target: &TargetName, level: Level) -> Option<DrillProof> {
        let here = |p: &DrillProof| self.is_at(target, Some(&p.target), p.place.as_ref());
        let mut newest = self.receipts().rev().filter_map(proof).filter(|p| p.level == level && here(p));
        newest.find(|p| self.proofs(&p.snapshot).contains(p))
    }

    /// Adds what drills proved to the levels of a snapshot at a target.
    pub(crate) fn raise(&self, levels: &mut Levels, snapshot: &SnapshotId, target: &TargetName) {
        let here = |p: &DrillProof| self.is_at(target, Some(&p.target), p.place.as_ref());
        for proof in self.proofs(snapshot).into_iter().filter(here) {
            levels.add(proof.level, proof.at);
        }
    }

    /// The place in the maker's chain of their last drill of a target that was no sabotage; 0 if there is none.
    pub(crate) fn last_number(&self, target: &TargetName, by: By) -> u64 {
        let here = |d: &DrillReceipt| self.is_at(target, d.target.as_ref(), d.place.as_ref());
        self.without_sabotage(by).filter(|d| here(d)).map(|d| d.sequence).max().unwrap_or(0)
    }

    /// The newest sabotage, where it was not noticed.
    pub(crate) fn unnoticed(&self) -> Option<&DrillId> {
        let went_past = |d: &DrillReceipt| {
            d.failure.as_ref().is_some_and(|f| f.known_stage() == Some(DrillStage::Verdict))
        };
        let newest = self.receipts().rev().find(|d| d.sabotage.is_some()).map(|d| (&d.drill, went_past(d)));
        // A drill that failed for another reason, before its damage could be noticed, says nothing about this.
        newest.filter(|(_, went_past)| *went_past).map(|(drill, _)| drill)
    }

    /// The receipts, oldest first.
    pub(crate) fn receipts(&self) -> impl DoubleEndedIterator<Item = &DrillReceipt> {
        let mut receipts: Vec<&DrillReceipt> =
            self.drills.values().map(|known| &known.signed.record).collect();
        // Within one second, names do not show the order.
        receipts.sort_by_key(|receipt| (receipt.started_at, receipt.sequence));
        receipts.into_iter()
    }

    /// The receipts of one maker's drills that were no sabotage, oldest first.
    pub(crate) fn without_sabotage(&self, by: By) -> impl DoubleEndedIterator<Item = &DrillReceipt> {
        self.receipts().filter(move |d| d.by == by && d.sabotage.is_none())
    }

    /// What is wrong with the chain of one maker's drills. `seen` is the newest that the caller remembers. A target that
    /// does not answer may have what is missing.
    pub(crate) fn breaks(&self, by: By, seen: Option<(u64, Sha256)>) -> Vec<Break<DrillId>> {
        let of = |known: &&KnownDrill| known.signed.record.by == by;
        let links: Vec<Link<DrillId>> = self
            .drills
            .values()
            .filter(of)
            .map(|known| Link {
                id: known.signed.record.drill.clone(),
                sequence: known.signed.record.sequence,
                previous: known.signed.record.previous,
                hash: known.signed.hash(),
            })
            .collect();
        let mut breaks = chain::check(&links, true, seen);
        let ended = self.ended.get(&by).map_or(0, |(sequence, _)| *sequence);
        breaks.retain(|b| !matches!(b, Break::Missing(_, to) | Break::Rollback(to) if *to <= ended));
        if !self.unreachable.is_empty() {
            breaks.retain(|b| !matches!(b, Break::Missing(..) | Break::Rollback(_)));
        }
        breaks
    }

    /// The newest receipt of one maker: its place in their chain, and its hash.
    pub(crate) fn head(&self, by: By) -> Option<(u64, Sha256)> {
        let of = |known: &&KnownDrill| known.signed.record.by == by;
        let known = self.drills.values().filter(of);
        let known = known.map(|known| (known.signed.record.sequence, known.signed.hash()));
        known.chain(self.ended.get(&by).copied()).max_by_key(|(sequence, _)| *sequence)
    }
}

/// The restored data were not those of the snapshot, or its objects were damaged. That a drill could not run says nothing
/// about the snapshot, and a sabotage neither; nor does a check of data that are equal to the source.
fn disproves(receipt: &DrillReceipt) -> bool {
    let verification = ErrorKind::Verification.exit_code();
    let is_about_snapshot = |f: &Failure| f.known_stage().is_some_and(DrillStage::is_about_snapshot);
    let disproved = |f: &Failure| f.exit_code == verification && is_about_snapshot(f);
    receipt.sabotage.is_none() && receipt.failure.as_ref().is_some_and(disproved)
}

fn proof(receipt: &DrillReceipt) -> Option<DrillProof> {
    Some(DrillProof {
        snapshot: receipt.subject.as_ref()?.snapshot.clone(),
        target: receipt.target.clone()?,
        place: receipt.place.clone(),
        level: receipt.level?,
        at: receipt.finished_at,
        drill: receipt.drill.clone(),
        older_versions: receipt.older_versions,
    })
}
