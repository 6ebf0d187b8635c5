//! Retention: which snapshots are deleted is decided once, over what all targets hold, and carried out at each of them in
//! the reverse order of writing (invariants I2 and I7). What cannot be done now is left for the next run.

mod needed;
mod report;
mod sweep;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use tokio_util::sync::CancellationToken;

use crate::error::{Error, ErrorKind, Origin, Result};
use crate::job::anomaly::{self, Anomaly};
use crate::job::run_lock::Lock;
use crate::job::stopwatch::Stopwatch;
use crate::keys::{Namespace, SigningKey, TrustStore};
use crate::model::drill_check::Percent;
use crate::model::id::{DatabaseId, PruneId, SnapshotId, TargetName};
use crate::model::observer::LoadObserver as _;
use crate::model::observer::Observer;
use crate::model::retention::{Candidate, Decision, Fate, Policy, decide};
use crate::model::stage::Stage;
use crate::repository::catalog::{Catalog, Entry};
use crate::repository::drill_catalog::DrillCatalog;
use crate::repository::manifest::FORMAT;
use crate::repository::prune_record::{PruneKind, PruneRecord, Pruned};
use crate::repository::reader::Reader;
use crate::repository::record_catalog::Known;
use crate::repository::remembered::Remembered as _;
use crate::repository::signed_record::Signed;
use crate::state::State;
use crate::targets::NamedTarget;
use needed::Needed;
use sweep::Sweep;

pub(crate) use report::{KeptSnapshot, PruneReport, PrunedTarget};

/// Everything a prune needs.
pub(crate) struct PruneJob {
    /// The database.
    pub database: DatabaseId,
    /// Where its copies are.
    pub targets: Vec<NamedTarget>,
    /// Whose receipts count.
    pub trust: TrustStore,
    /// What the agent remembers.
    pub state: State,
    /// Signs the record of what is deleted.
    pub signing_key: SigningKey,
    /// What is kept.
    pub policy: Policy,
    /// The time zone in which days begin.
    pub time_zone: TimeZone,
    /// How many rows may be gone before nothing older is deleted.
    pub rows_limit: Percent,
    /// How many snapshots one run deletes at most.
    pub max_delete: usize,
    /// How long an object must be known to be unneeded before it is deleted. The time between two runs counts for at most
    /// half of it, so that a clock that jumps ahead cannot end it.
    pub grace: Duration,
    /// Only say what would be done.
    pub dry_run: bool,
}

impl PruneJob {
    /// Decides, and carries the decision out. An error means that nothing was decided, or that the agent itself failed; what could
    /// not be done at a target is in the report.
    pub(crate) async fn run(
        self,
        now: Timestamp,
        observer: Arc<dyn Observer>,
        cancel: &CancellationToken,
    ) -> Result<PruneReport> {
        let watch = Stopwatch::new(observer);
        // Neither a snapshot, which may refer to what nobody else needs, nor a sync, which may copy what is being deleted.
        let _locks = match self.dry_run {
            true => Vec::new(),
            false => [State::lock_file, State::sync_lock_file, State::prune_lock_file]
                .iter()
                .map(|file| Lock::take(&file(&self.state, &self.database), &self.database))
                .collect::<Result<_>>()?,
        };
        watch.stage(Stage::Targets);
        let reader = Reader::new(&self.database, &self.targets, &self.trust, Some(&self.state));
        let catalog = reader.read(cancel).await?;
        self.require_reachable(&catalog)?;
        catalog.require_agent(&self.database, &self.signing_key.signer())?;
        let drills = reader.drills(cancel).await?;
        let anomalies = anomaly::anomalies(&catalog, &drills, self.rows_limit);
        let candidates = self.candidates(&reader, &catalog, &drills, &anomalies)?;
        let decision = decide(&candidates, &self.policy, &self.time_zone, now, self.max_delete);
        let going = decision.deleted();
        watch.stage(Stage::Receipts);
        let needed = Needed::gather(&reader, &self.state, &catalog, &going, cancel).await?;
        let records = self.records(&catalog, &decision, now)?;
        let sweep = Sweep {
            job: &self,
            catalog: &catalog,
            going: &going,
            records: &records,
            needed: &needed,
            now,
            cancel,
        };
        watch.stage(Stage::Delete);
        let swept = join_all(self.targets.iter().map(|target| sweep.target(target))).await;
        let targets = swept.into_iter().collect::<Result<Vec<_>>>()?;
        self.forget(&going, &targets)?;
        let report = PruneReport::new(&self.database, self.dry_run, decision, targets, needed.unknown);
        let report = report.held(&anomalies).marked(&candidates);
        Ok(if self.policy.is_empty() { report.without_rules() } else { report })
    }

    fn require_reachable(&self, catalog: &Catalog) -> Result<()> {
        if catalog.unreachable.len() < self.targets.len() {
            return Ok(());
        }
        let causes: Vec<String> =
            catalog.unreachable.iter().map(|(name, e)| format!("{name}: {e}")).collect();
        let remedy = catalog.unreachable.first().map_or("", |(_, e)| e.remedy());
        let first = catalog.unreachable.first().map(|(name, _)| name.to_string()).unwrap_or_default();
        Err(Error::new(ErrorKind::Target, format!("no target of {} can be reached", self.database))
            .cause(causes.join("; "))
            .origin(Origin::Target(first))
            .remedy(remedy))
    }

    /// The snapshots there are, with what is known about each.
    pub(in crate::job) fn candidates(
        &self,
        reader: &Reader<'_>,
        catalog: &Catalog,
        drills: &DrillCatalog,
        anomalies: &[Anomaly],
    ) -> Result<Vec<Candidate>> {
        let held = anomalies.iter().map(Anomaly::since).min();
        let marks = catalog.decisions.marks();
        let newest_at = |target: &NamedTarget| {
            let here = catalog.entries.values().filter(|e| e.targets.contains(&target.name));
            let newest = here.max_by_key(|e| e.receipt.sequence)?;
            Some((target.name.clone(), newest.receipt.snapshot.clone()))
        };
        let newest: Vec<(TargetName, SnapshotId)> = self.targets.iter().filter_map(newest_at).collect();
        let pruned = catalog.prunes.snapshots();
        let candidate = |entry: &Entry| -> Result<Candidate> {
            let snapshot = entry.receipt.snapshot.clone();
            let mut damaged = !entry.targets.is_empty();
            for target in &entry.targets {
                damaged &= reader.levels(catalog, drills, &snapshot, target)?.damaged.is_some();
            }
            let mut proven = false;
            for proof in drills.proofs(&snapshot) {
                let levels = self.state.levels(&self.database, &snapshot, &proof.target)?;
                proven |= levels.damaged.is_none_or(|damaged| damaged < proof.at);
            }
            let here = newest.iter().filter(|(_, newest)| *newest == snapshot);
            Ok(Candidate {
                sequence: entry.receipt.sequence,
                epoch: entry.receipt.epoch.clone(),
                consistent_at: entry.receipt.consistent_at,
                proven,
                damaged,
                pruned: pruned.contains(&snapshot),
                held: held.is_some_and(|since| entry.receipt.sequence < since),
                newest_at: here.map(|(target, _)| target.clone()).collect(),
                mark: marks.get(&entry.link.hash).cloned(),
                snapshot,
            })
        };
        catalog.entries.values().map(candidate).collect()
    }

    /// Every prune record that a target must hold before a receipt is deleted there: the known ones, and one for this run.
    fn records(
        &self,
        catalog: &Catalog,
        decision: &Decision,
        now: Timestamp,
    ) -> Result<Vec<Known<PruneRecord>>> {
        let mut records: Vec<Known<PruneRecord>> = catalog.prunes.records.values().cloned().collect();
        let named = catalog.prunes.snapshots();
        let pruned = |(snapshot, fate): (&SnapshotId, &Fate)| match (fate, catalog.entries.get(snapshot)) {
            (Fate::Delete(reason), Some(entry)) if !named.contains(snapshot) => Some(Pruned {
                snapshot: snapshot.clone(),
                sequence: entry.link.sequence,
                previous: entry.link.previous,
                receipt: entry.link.hash,
                reason: reason.to_string(),
            }),
            _ => None,
        };
        let mut snapshots: Vec<Pruned> = decision.fates.iter().filter_map(pruned).collect();
        if snapshots.is_empty() || self.dry_run {
            return Ok(records);
        }
        snapshots.sort_by_key(|p| p.sequence);
        let record = PruneRecord {
            format: FORMAT,
            kind: PruneKind::Prune,
            publisher: self.database.publisher.clone(),
            database: self.database.database.clone(),
            prune: PruneId::new(now, rand::random()),
            agent: concat!("marbre ", env!("CARGO_PKG_VERSION")).to_owned(),
            decided_at: now - SignedDuration::from_nanos(i64::from(now.subsec_nanosecond())),
            snapshots,
        };
        let bytes = record.to_bytes()?;
        let signature = self.signing_key.sign(Namespace::PruneRecord, &bytes)?;
        let signer = self.signing_key.signer().fingerprint();
        let signed = Signed { record, bytes, signature, signer };
        self.state.remember_prune(&self.database, &signed)?;
        records.push(Known { signed, targets: BTreeSet::new() });
        Ok(records)
    }

    /// Forgets the receipts that no target has any more.
    fn forget(&self, going: &BTreeSet<SnapshotId>, targets: &[PrunedTarget]) -> Result<()> {
        let everywhere = targets.iter().all(|t| t.error.is_none() && t.locked == 0);
        if self.dry_run || !everywhere {
            return Ok(());
        }
        going.iter().try_for_each(|snapshot| self.state.forget_receipt(&self.database, snapshot))
    }
}
