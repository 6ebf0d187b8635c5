//! Taking a snapshot: read one consistent state, pack what is new, store it on every target, and record it.

mod epoch;
mod lock_term;
mod packer;
mod places;
mod presence;
mod reading;
mod record;
mod report;
mod reuse;
mod stream_cache;
#[cfg(test)]
mod tests;
mod uploader;
mod writer_claims;

pub(crate) use report::{SnapshotReport, TargetReport};
pub(crate) use reuse::{PackedSoFar, packed_so_far, referable};

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use self::report::explain;
use crate::engine::{Engine, OpenOptions};
use crate::error::{Error, ErrorKind, Origin, Result};
use crate::job::key_policy;
use crate::job::key_policy::KeyPolicy;
use crate::job::run_lock::Lock;
use crate::job::spool::Spool;
use crate::job::stopwatch::Stopwatch;
use crate::keys::{Recipients, SigningKey, TrustStore};
use crate::model::id::{DatabaseId, EpochId, SnapshotId, TargetName};
use crate::model::level::Level;
use crate::model::object_lock::LockTerm;
use crate::model::observer::LoadObserver as _;
use crate::model::observer::Observer;
use crate::model::stage::Stage;
use crate::model::verdict::{Stored, Verdict};
use crate::repository::catalog::Catalog;
use crate::repository::oddity::{self, Oddity};
use crate::repository::reader::Reader;
use crate::state::State;
use crate::targets::NamedTarget;
use epoch::Epoch;
use packer::Packer;
use presence::Presence;
use stream_cache::Draft;
use uploader::{UploadContext, Uploaders};
use writer_claims::Claims;

/// Said of a first snapshot while a target is away.
const FIRST_UNSEEN: &str = "this is number 1: no target that can be read holds a snapshot, and this agent remembers none. If \
                            one that is away does, the next run that sees both will refuse, and say what to do.";

/// Everything a snapshot needs.
pub struct SnapshotJob {
    /// The database.
    pub database: DatabaseId,
    /// Reads the database.
    pub engine: Arc<dyn Engine>,
    /// Where copies go.
    pub targets: Vec<NamedTarget>,
    /// How many targets must hold the snapshot.
    pub copies: NonZeroUsize,
    /// The targets that must hold it in any case.
    pub required: BTreeSet<TargetName>,
    /// How long objects are locked, for the targets that lock them; the targets themselves apply the lock.
    pub locks: BTreeMap<TargetName, LockTerm>,
    /// Who can decrypt it.
    pub recipients: Recipients,
    /// Signs its receipt.
    pub signing_key: SigningKey,
    /// What is remembered between runs.
    pub state: State,
    /// Where packs wait for upload, and how many bytes they may take.
    pub spool_dir: PathBuf,
    /// See [`SnapshotJob::spool_dir`].
    pub spool_limit: u64,
    /// How long a full spool may delay the snapshot before slow targets are given up.
    pub spool_wait: Duration,
    /// Streams read at the same time.
    pub jobs: usize,
    /// How long an epoch lasts.
    pub epoch: Duration,
    /// Which epoch keys are kept for drills.
    pub key_policy: KeyPolicy,
}

impl SnapshotJob {
    /// Takes one snapshot. An error means that none was stored; targets that failed while others hold
    /// the snapshot are in the report.
    pub async fn run(
        mut self,
        now: Timestamp,
        observer: Arc<dyn Observer>,
        cancel: &CancellationToken,
    ) -> Result<SnapshotReport> {
        let watch = Arc::new(Stopwatch::new(observer));
        let _lock = Lock::take(&self.state.lock_file(&self.database), &self.database)?;
        let failed = match self.attempt(now, &watch, cancel).await {
            Err(failed) if !cancel.is_cancelled() => failed,
            ended => return ended,
        };
        let Some(engine) = self.engine.elsewhere(&failed) else { return Err(failed) };
        // Once: the other server has its own reasons to fail, and the schedule has its own attempts.
        watch.warn(&format!("{failed}. The snapshot is taken again, from {}", engine.describe()));
        self.engine = engine;
        let again = self.attempt(now, &watch, cancel).await;
        again.map_err(|e| e.context(format!("{}, and on another server", failed.message())))
    }

    async fn attempt(
        &self,
        now: Timestamp,
        watch: &Arc<Stopwatch>,
        cancel: &CancellationToken,
    ) -> Result<SnapshotReport> {
        watch.stage(Stage::Targets);
        let catalog = self.read_catalog(cancel).await?;
        let split = self.split_reachable(&catalog)?;
        let is_away = !split.1.is_empty();
        let places::Destinations { targets: reachable, left_out: unreachable, warnings } =
            self.destinations(&catalog, split, cancel).await?;
        let own = self.signing_key.signer();
        let place = catalog.next_place(&self.database, &own, self.state.knows_chain(&self.database)?)?;
        let snapshot = SnapshotId::new(now, rand::random());
        let mut epoch = self.epoch(now)?;
        let reuse = reuse::Reuse::find(self, &epoch, &reachable, cancel).await?;
        let damaged = self.damaged(&catalog, &reuse);
        watch.stage(Stage::Open);
        let spool = self.spool()?;
        let options = OpenOptions {
            row_key: epoch.state.row_key,
            spool: spool.folder().to_owned(),
            reserved: self.spool_limit,
        };
        let view = self.engine.open(&options, cancel).await?;
        // Cancelled when reading fails, so that no upload outlives the error.
        let run = cancel.child_token();
        let streams = self.state.streams_folder(&self.database);
        let draft =
            Arc::new(Draft::start(streams, snapshot.clone(), &epoch.state.epoch, reuse.packs().len()));
        let successions = catalog.agents.accepted().cloned().collect();
        let own = (&snapshot, place, &own);
        let claims = Claims::prepare(&self.database, own, &reachable, successions, &self.state, &run)?;
        let context = self.upload_context(&epoch, reachable, claims, spool);
        let uploaders = Arc::new(Uploaders::start(&context, &run));
        let packer = Packer::new(
            context.spool.clone(),
            epoch.recipient.clone(),
            uploaders.clone(),
            draft.clone(),
            reuse.packs(),
            self.spool_wait,
            &run,
        );
        let encoder_context = reading::EncoderContext {
            packer,
            draft: draft.clone(),
            reuse,
            row_key: epoch.state.row_key,
            observer: watch.clone(),
        };
        let reading = reading::Reading { view, jobs: self.jobs, encoder_context: Arc::new(encoder_context) };
        let content = match reading.run(&run).await {
            Ok(content) => content,
            Err(e) => {
                run.cancel();
                return Err(pick_cause(e, uploaders.abandon().await, cancel));
            }
        };
        watch.stage(Stage::Record);
        let finished_at = Timestamp::now();
        let mut record = record::Record::make(self, &epoch, &snapshot, content, place, (now, finished_at))?;
        if place.sequence == 1 && is_away {
            record.warnings.push(FIRST_UNSEEN.to_owned());
        }
        watch.stage(Stage::Commit);
        let results = uploaders.commit(record.commit.clone()).await;
        if cancel.is_cancelled() && results.iter().all(|(_, r)| r.is_err()) {
            return Err(Error::interrupted());
        }
        let mut failures = results.iter().filter_map(|(_, r)| r.as_ref().err());
        if let Some(lost) = failures.find(|e| e.kind() == ErrorKind::Conflict) {
            return Err(lost.clone());
        }
        record.warnings.append(&mut epoch.warnings);
        record.warnings.extend(warnings);
        let verdict = self.keep(&epoch, &mut record, &draft, &results)?;
        let mut report = self.report(&snapshot, &epoch, record, verdict, results, unreachable, watch);
        for target in &mut report.targets {
            target.damaged = damaged.get(&target.name).cloned();
        }
        Ok(report)
    }

    /// What each target lists other than it was stored.
    fn damaged(&self, catalog: &Catalog, reuse: &reuse::Reuse) -> BTreeMap<TargetName, String> {
        let of = |name: &TargetName| {
            let receipts = catalog.oddities.get(name).into_iter().flatten();
            let all: Vec<Oddity> = receipts.chain(reuse.odd_at(name)).cloned().collect();
            oddity::describe(&all)
        };
        self.targets.iter().filter_map(|t| Some((t.name.clone(), of(&t.name)?))).collect()
    }

    fn upload_context(
        &self,
        epoch: &Epoch,
        targets: Vec<NamedTarget>,
        claims: Claims,
        spool: Spool,
    ) -> Arc<UploadContext> {
        Arc::new(UploadContext {
            database: self.database.clone(),
            epoch: epoch.state.epoch.clone(),
            sealed_epoch: epoch.state.sealed.clone().into(),
            presence: self.presence(&epoch.state.epoch),
            targets,
            state: self.state.clone(),
            spool: Arc::new(spool),
            claims,
        })
    }

    fn spool(&self) -> Result<Spool> {
        let folder =
            self.spool_dir.join(self.database.publisher.as_str()).join(self.database.database.as_str());
        Spool::open(&folder, self.spool_limit)
    }

    fn presence(&self, epoch: &EpochId) -> Presence {
        Presence {
            database: self.database.clone(),
            epoch: epoch.clone(),
            state: self.state.clone(),
            locking: self.locks.keys().cloned().collect(),
        }
    }

    async fn read_catalog(&self, cancel: &CancellationToken) -> Result<Catalog> {
        let trust = TrustStore::own(self.signing_key.signer());
        let reader = Reader::new(&self.database, &self.targets, &trust, Some(&self.state));
        reader.read(cancel).await
    }

    /// The targets that answered, and reports on those that did not.
    fn split_reachable(&self, catalog: &Catalog) -> Result<(Vec<NamedTarget>, Vec<TargetReport>)> {
        let mut reachable = Vec::new();
        let mut failed = Vec::new();
        for target in &self.targets {
            match catalog.unreachable.iter().find(|(name, _)| *name == target.name) {
                None => reachable.push(target.clone()),
                // Write-only credentials cannot list; the upload will show whether they work.
                Some((_, e)) if e.kind == crate::targets::TargetErrorKind::Denied => {
                    reachable.push(target.clone())
                }
                Some((name, e)) => failed.push(TargetReport {
                    name: name.clone(),
                    required: self.required.contains(name),
                    level: None,
                    error: Some(e.to_string()),
                    remedy: Some(e.remedy().to_owned()),
                    damaged: None,
                }),
            }
        }
        if reachable.is_empty() {
            let (cause, remedy) = explain(failed.iter());
            return Err(Error::new(
                ErrorKind::Target,
                format!("no target of {} can be reached", self.database),
            )
            .cause(cause)
            .origin(Origin::Target(failed.first().map(|t| t.name.to_string()).unwrap_or_default()))
            .remedy(remedy));
        }
        Ok((reachable, failed))
    }

    /// Weighs the evidence, and remembers the snapshot if any target holds it.
    fn keep(
        &self,
        epoch: &Epoch,
        record: &mut record::Record,
        draft: &Draft,
        results: &[(TargetName, Result<Stored>)],
    ) -> Result<Verdict> {
        let stored: Vec<Stored> = results.iter().filter_map(|(_, r)| r.as_ref().ok().cloned()).collect();
        let targets = NonZeroUsize::new(self.targets.len())
            .ok_or_else(|| Error::internal("a snapshot without targets"))?;
        let verdict = Verdict::weigh(stored, targets, self.copies, &self.required);
        if !verdict.stored().is_empty() {
            // What is stored is stored: a state that cannot be written costs the next snapshot its reuse, not this one.
            let saved = self.remember(epoch, record, verdict.stored());
            let kept = match record.remembered.take() {
                Some((packs, streams)) => {
                    draft.keep(&epoch.state.epoch, packs, streams).map_err(|e| e.to_string())
                }
                None => Err(draft.failure().unwrap_or_default()),
            };
            if let Err(cause) = saved.map_err(|e| e.to_string()).and(kept) {
                record.warnings.push(format!(
                    "what the next snapshot could use again could not be saved, so it may send everything again: {cause}"
                ));
            }
        }
        Ok(verdict)
    }

    /// Remembers the snapshot in the state.
    fn remember(&self, epoch: &Epoch, record: &record::Record, stored: &[Stored]) -> Result<()> {
        let receipt = &record.receipt;
        self.state.commit(&self.database, &epoch.state, &receipt.to_saved()?)?;
        self.remember_locks(&epoch.state.epoch)?;
        let (snapshot, at) = (&receipt.receipt.snapshot, receipt.receipt.finished_at);
        for evidence in stored {
            self.state.prove(&self.database, snapshot, evidence.target(), Level::Stored, at)?;
        }
        key_policy::retire(&self.state, &self.database, self.key_policy, at).map(drop)
    }
}

/// Why reading stopped: if every target has failed, that is the cause, not the reader's error.
fn pick_cause(read: Error, results: Vec<(TargetName, Result<Stored>)>, cancel: &CancellationToken) -> Error {
    if cancel.is_cancelled() {
        return Error::interrupted();
    }
    let failures: Vec<(TargetName, Error)> = results
        .into_iter()
        .filter_map(|(name, r)| r.err().map(|e| (name, e)))
        .filter(|(_, e)| e.kind() != ErrorKind::Interrupted)
        .collect();
    if read.kind() != ErrorKind::Target || failures.is_empty() {
        return read;
    }
    let causes: Vec<String> = failures.iter().map(|(name, e)| format!("{name}: {e}")).collect();
    let remedy = failures.iter().find_map(|(_, e)| e.remedy_text()).unwrap_or_default().to_owned();
    Error::new(ErrorKind::Target, "every target has failed, so there is no snapshot")
        .cause(causes.join("; "))
        .remedy(remedy)
}
