//! Catching targets up: what one lacks is copied from another that has it, as ciphertext. No key is needed, and the
//! database is not read.

mod copy;
mod heal;
mod lists;
mod record;
mod report;
mod sources;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use futures_util::future::join_all;
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::error::{Error, ErrorKind, Result};
use crate::job::run_lock::Lock;
use crate::job::spool::Spool;
use crate::job::stopwatch::Stopwatch;
use crate::job::verify::Damage;
use crate::keys::{SigningKey, TrustStore};
use crate::model::id::{DatabaseId, EpochId, Sha256, SnapshotId, TargetName};
use crate::model::level::Level;
use crate::model::observer::LoadObserver as _;
use crate::model::observer::Observer;
use crate::model::stage::Stage;
use crate::repository::catalog::{Catalog, Entry};
use crate::repository::drill_catalog::DrillCatalog;
use crate::repository::place;
use crate::repository::reader::{BadRecord, Reader};
use crate::state::State;
use crate::targets::NamedTarget;
use copy::{Completed, Failure};
use lists::Lists;
use record::Record;
pub(crate) use report::{DatabaseSync, SyncReport, TargetSync};

/// Everything a sync needs.
pub(crate) struct SyncJob {
    /// The database.
    pub database: DatabaseId,
    /// Where its copies are.
    pub targets: Vec<NamedTarget>,
    /// Whose receipts count.
    pub trust: TrustStore,
    /// What is remembered between runs.
    pub state: State,
    /// Where objects wait on their way from one target to another, and how many bytes they may take.
    pub spool_dir: PathBuf,
    /// See [`SyncJob::spool_dir`].
    pub spool_limit: u64,
    /// Reads everything back, and replaces copies that do not have the bytes that they must have; signs what was replaced.
    pub heal: Option<SigningKey>,
}

/// One run: what it knows, and what it has found so far.
struct Run<'a> {
    job: &'a SyncJob,
    reader: Reader<'a>,
    catalog: &'a Catalog,
    drills: &'a DrillCatalog,
    /// What retention has removed: it is not copied any more, and the next prune removes it where it remains.
    pruned: BTreeSet<SnapshotId>,
    /// Objects of which some target once had a bad copy.
    lost: HashSet<Sha256>,
    spool: Spool,
    watch: Arc<Stopwatch>,
    cancel: &'a CancellationToken,
    found: Mutex<Found>,
}

/// What the targets' futures share.
#[derive(Default)]
struct Found {
    /// By target and full key.
    damaged: BTreeMap<(TargetName, String), Damage>,
    /// Targets that stopped giving objects during this run.
    unresponsive: BTreeSet<TargetName>,
}

impl SyncJob {
    /// Brings every target that can be reached up to what all of them together hold. An error means that the run as a
    /// whole failed; what was found is in the report.
    pub(crate) async fn run(
        self,
        observer: Arc<dyn Observer>,
        cancel: &CancellationToken,
    ) -> Result<DatabaseSync> {
        let watch = Arc::new(Stopwatch::new(observer));
        let _lock = Lock::take(&self.state.sync_lock_file(&self.database), &self.database)?;
        watch.stage(Stage::Receipts);
        let reader = Reader::new(&self.database, &self.targets, &self.trust, Some(&self.state));
        let catalog = reader.read(cancel).await?;
        let drills = reader.drills(cancel).await?;
        self.refuse_emptiness(&catalog)?;
        let reachable: Vec<NamedTarget> =
            self.targets.iter().filter(|t| !catalog.is_away(&t.name)).cloned().collect();
        let (_, moved) = place::settle(catalog.places.clone(), &reachable, &self.state, cancel).await?;
        for name in moved {
            watch.warn(&format!(
                "target {name} is another place than before: nothing that was proven there counts any more"
            ));
        }
        if let Some(key) = &self.heal {
            catalog.require_agent(&self.database, &key.signer())?;
        }
        // Not the folder of a snapshot, which may run at the same time.
        let folder =
            self.spool_dir.join(self.database.publisher.as_str()).join(self.database.database.as_str());
        let folder = folder.with_extension("sync");
        let run = Run {
            job: &self,
            reader,
            catalog: &catalog,
            drills: &drills,
            pruned: catalog.prunes.snapshots(),
            lost: self.state.lost_packs(&self.database)?.into_iter().collect(),
            spool: Spool::open(&folder, self.spool_limit)?,
            watch: watch.clone(),
            cancel,
            found: Mutex::default(),
        };
        run.found_bad(catalog.bad.iter().chain(&drills.bad));
        watch.stage(Stage::Copy);
        watch.expect(self.targets.iter().map(|t| run.expected(t)).sum());
        let targets = join_all(self.targets.iter().map(|t| run.catch_up(t))).await;
        let targets = targets.into_iter().collect::<Result<Vec<_>>>()?;
        run.note_whole(&targets)?;
        Ok(DatabaseSync {
            publisher: self.database.publisher.clone(),
            database: self.database.database.clone(),
            snapshots: run.wanted().len() as u64,
            targets,
            damaged: run.into_damaged(),
            seconds: watch.read().1,
        })
    }

    /// Fails if all targets answer, but are empty although the agent knows that they held snapshots.
    fn refuse_emptiness(&self, catalog: &Catalog) -> Result<()> {
        if !catalog.entries.is_empty() || !catalog.bad.is_empty() || !catalog.unreachable.is_empty() {
            return Ok(());
        }
        match self.state.head(&self.database)? {
            None => Ok(()),
            Some(head) => Err(Error::verification(format!("no target has a snapshot of {}", self.database))
                .cause(format!("the agent remembers {}, number {}", head.snapshot, head.sequence))
                .remedy("Find out who or what emptied the targets; `marbre verify` says what is missing.")),
        }
    }
}

impl Run<'_> {
    /// The snapshots that every target must hold, oldest first.
    fn wanted(&self) -> Vec<&Entry> {
        let stays = |e: &&Entry| !self.pruned.contains(&e.receipt.snapshot);
        let mut wanted: Vec<&Entry> =
            self.catalog.entries.values().filter(stays).chain(self.catalog.hidden.values()).collect();
        // Epoch by epoch, in the order of a target's list.
        wanted.sort_by_key(|e| (&e.receipt.epoch, e.receipt.sequence));
        wanted
    }

    /// About how many bytes will be copied to a target: what its missing snapshots wrote when they were taken.
    fn expected(&self, target: &NamedTarget) -> u64 {
        if self.catalog.is_away(&target.name) {
            return 0;
        }
        let missing = self.wanted().into_iter().filter(|e| !e.targets.contains(&target.name));
        missing.map(|e| e.receipt.stored_bytes).sum()
    }

    /// Receipts that failed a check. One that could not be fetched is not damaged: its target will be asked again.
    fn found_bad<'b>(&self, bad: impl Iterator<Item = &'b BadRecord>) {
        for bad in bad.filter(|b| b.error.kind() != ErrorKind::Target) {
            self.found_damage(&bad.target, &bad.key, bad.error.to_string());
        }
    }

    /// Brings one target up to date. Its failures are in the report; an error ends the run.
    async fn catch_up(&self, target: &NamedTarget) -> Result<TargetSync> {
        if let Some((_, e)) = self.catalog.unreachable.iter().find(|(name, _)| *name == target.name) {
            return Ok(TargetSync::unreachable(target.name.clone(), e));
        }
        let mut report = TargetSync::reached(target.name.clone());
        // Who writes is known before what they wrote.
        if self.successions(target, &mut report).await? && self.snapshots(target, &mut report).await? {
            self.records(target, &mut report).await?;
        }
        Ok(report)
    }

    /// Copies the snapshots that a target lacks. Returns whether the target still accepts anything.
    async fn snapshots(&self, target: &NamedTarget, report: &mut TargetSync) -> Result<bool> {
        let wanted = self.wanted();
        let lists = Lists::open(target, &self.job.database, self.cancel).await;
        let mut lists = match lists.map_err(Failure::of_target) {
            Ok(lists) => lists,
            Err(Failure::Run(e)) => return Err(e),
            Err(Failure::Record(e) | Failure::Target(e)) => {
                report.still_lacks_snapshots(wanted.len() as u64, e);
                return Ok(false);
            }
            Err(Failure::Known) => return Ok(true),
        };
        let mut epoch: Option<&EpochId> = None;
        // Keys of the epoch that are known to be there: snapshots of one epoch share most of them.
        let mut present = HashSet::new();
        for (number, entry) in wanted.iter().enumerate() {
            if epoch != Some(&entry.receipt.epoch) {
                epoch = Some(&entry.receipt.epoch);
                present.clear();
            }
            match self.snapshot(target, entry, &mut lists, &mut present).await {
                Ok(done) => report.completed_snapshot(&done),
                Err(Failure::Known) => {}
                Err(Failure::Record(e)) => report.still_lacks_snapshots(1, e),
                Err(Failure::Target(e)) => {
                    report.still_lacks_snapshots((wanted.len() - number) as u64, e);
                    return Ok(false);
                }
                Err(Failure::Run(e)) => return Err(e),
            }
        }
        Ok(true)
    }

    async fn snapshot(
        &self,
        target: &NamedTarget,
        entry: &Entry,
        lists: &mut Lists,
        present: &mut HashSet<String>,
    ) -> Result<Completed, Failure> {
        let listed = lists.read_on(&entry.receipt.epoch).await.map_err(Failure::of_target)?;
        let signed = self.reader.load(entry, self.cancel).await.map_err(Failure::of_record)?;
        let record = Record::of_snapshot(&signed);
        let (stored, done) = self.complete(target, &record, &entry.targets, Some(listed), present).await?;
        let (state, database) = (&self.job.state, &self.job.database);
        let snapshot = &entry.receipt.snapshot;
        let known = state.levels(database, snapshot, stored.target()).map_err(Failure::Run)?;
        if done.anything() || known.stored.is_none() {
            let at = Timestamp::now();
            state.prove(database, snapshot, stored.target(), Level::Stored, at).map_err(Failure::Run)?;
        }
        Ok(done)
    }

    /// Copies the successions that a target lacks.
    async fn successions(&self, target: &NamedTarget, report: &mut TargetSync) -> Result<bool> {
        let lacking = self.catalog.agents.accepted().filter(|known| !known.targets.contains(&target.name));
        let wanted = lacking.map(|known| (Record::of_succession(&known.signed), &known.targets)).collect();
        self.copy_records(target, wanted, report).await
    }

    /// Copies the records of prunes, decisions and drills that a target lacks. To heal, those that it holds are looked at too.
    async fn records(&self, target: &NamedTarget, report: &mut TargetSync) -> Result<bool> {
        let wanted = |(_, holders): &(Record, &BTreeSet<TargetName>)| {
            self.job.heal.is_some() || !holders.contains(&target.name)
        };
        let prunes = self.catalog.prunes.records.values();
        let prunes = prunes.map(|k| (Record::of(&k.signed), &k.targets));
        let decisions = self.catalog.decisions.records.values();
        let decisions = decisions.map(|k| (Record::of(&k.signed), &k.targets));
        let drills = self.drills.drills.values().map(|k| (Record::of_drill(&k.signed), &k.targets));
        self.copy_records(target, prunes.chain(decisions).chain(drills).filter(wanted).collect(), report)
            .await
    }

    /// Copies records, each of which some targets hold. Returns whether the target still accepts anything.
    async fn copy_records(
        &self,
        target: &NamedTarget,
        wanted: Vec<(Record, &BTreeSet<TargetName>)>,
        report: &mut TargetSync,
    ) -> Result<bool> {
        for (number, (record, holders)) in wanted.iter().enumerate() {
            match self.complete(target, record, holders, None, &mut HashSet::new()).await {
                Ok((_, done)) => report.completed_record(&done),
                Err(Failure::Known) => {}
                Err(Failure::Record(e)) => report.still_lacks_records(1, e),
                Err(Failure::Target(e)) => {
                    report.still_lacks_records((wanted.len() - number) as u64, e);
                    return Ok(false);
                }
                Err(Failure::Run(e)) => return Err(e),
            }
        }
        Ok(true)
    }
}
