//! Taking a snapshot: read one consistent state, pack what is new, store it on every target, and record it.

mod epoch;
mod lock_term;
mod packer;
mod reading;
mod record;
mod report;
mod reuse;
mod stream_cache;
mod uploader;

pub(crate) use report::{SnapshotReport, TargetReport};
pub(crate) use reuse::referable;

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use self::report::explain;
use crate::engine::Engine;
use crate::error::{Error, ErrorKind, Result};
use crate::job::key_policy;
use crate::job::key_policy::KeyPolicy;
use crate::job::run_lock::Lock;
use crate::job::spool::Spool;
use crate::job::stopwatch::Stopwatch;
use crate::keys::{Recipients, SigningKey, TrustStore};
use crate::model::id::{DatabaseId, SnapshotId, TargetName};
use crate::model::level::Level;
use crate::model::object_lock::LockTerm;
use crate::model::observer::LoadObserver as _;
use crate::model::observer::Observer;
use crate::model::stage::Stage;
use crate::model::verdict::{Stored, Verdict};
use crate::repository::catalog::Catalog;
use crate::repository::reader::Reader;
use crate::state::State;
use crate::targets::NamedTarget;
use epoch::Epoch;
use packer::Packer;
use uploader::{UploadContext, Uploaders};

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
        self,
        now: Timestamp,
        observer: Arc<dyn Observer>,
        cancel: &CancellationToken,
    ) -> Result<SnapshotReport> {
        let watch = Arc::new(Stopwatch::new(observer));
        let _lock = Lock::take(&self.state.lock_file(&self.database), &self.database)?;
        watch.stage(Stage::Targets);
        let catalog = self.read_catalog(cancel).await?;
        let (reachable, unreachable) = self.split_reachable(&catalog)?;
        let snapshot = SnapshotId::new(now, rand::random());
        let epoch = self.epoch(&catalog, now)?;
        let reuse = reuse::Reuse::find(&self, &epoch, &reachable, cancel).await?;
        watch.stage(Stage::Open);
        let view = self.engine.open(cancel).await?;
        // Cancelled when reading fails, so that no upload outlives the error.
        let run = cancel.child_token();
        let context = self.upload_context(&epoch, &reuse, reachable)?;
        let uploaders = Arc::new(Uploaders::start(&context, &run));
        let draft = Arc::new(stream_cache::Draft::start(&self.state.streams_folder(&self.database))?);
        let packer = Packer::new(
            context.spool.clone(),
            epoch.recipient.clone(),
            uploaders.clone(),
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
        let encoder_context = Arc::new(encoder_context);
        let reading = reading::Reading { view, jobs: self.jobs, encoder_context: encoder_context.clone() };
        let content = match reading.run(&run).await {
            Ok(content) => content,
            Err(e) => {
                run.cancel();
                return Err(pick_cause(e, uploaders.abandon().await, cancel));
            }
        };
        watch.stage(Stage::Record);
        let finished_at = Timestamp::now();
        let record = record::Record::make(
            &self,
            &epoch,
            &snapshot,
            &encoder_context.reuse,
            content,
            (now, finished_at),
        )?;
        watch.stage(Stage::Commit);
        let results = uploaders.commit(record.commit.clone()).await;
        if cancel.is_cancelled() && results.iter().all(|(_, r)| r.is_err()) {
            return Err(Error::interrupted());
        }
        drop(encoder_context);
        let verdict = self.keep(&epoch, &record, draft, &results)?;
        key_policy::retire(&self.state, &self.database, self.key_policy, finished_at)?;
        Ok(self.report(&snapshot, &epoch, record, verdict, results, unreachable, &watch))
    }

    fn upload_context(
        &self,
        epoch: &Epoch,
        reuse: &reuse::Reuse,
        targets: Vec<NamedTarget>,
    ) -> Result<Arc<UploadContext>> {
        let folder =
            self.spool_dir.join(self.database.publisher.as_str()).join(self.database.database.as_str());
        Ok(Arc::new(UploadContext {
            database: self.database.clone(),
            epoch: epoch.state.epoch.clone(),
            sealed_epoch: epoch.state.sealed.clone().into(),
            present: reuse.present.clone(),
            targets,
            state: self.state.clone(),
            spool: Arc::new(Spool::open(&folder, self.spool_limit)?),
        }))
    }

    async fn read_catalog(&self, cancel: &CancellationToken) -> Result<Catalog> {
        let trust = TrustStore::own(self.signing_key.signer());
        let reader = Reader {
            database: &self.database,
            targets: &self.targets,
            trust: &trust,
            state: Some(&self.state),
        };
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
                    remedy: Some(e.kind.remedy().to_owned()),
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
            .remedy(remedy));
        }
        Ok((reachable, failed))
    }

    /// Weighs the evidence, and remembers the snapshot if any target holds it.
    fn keep(
        &self,
        epoch: &Epoch,
        record: &record::Record,
        draft: Arc<stream_cache::Draft>,
        results: &[(TargetName, Result<Stored>)],
    ) -> Result<Verdict> {
        let stored: Vec<Stored> = results.iter().filter_map(|(_, r)| r.as_ref().ok().cloned()).collect();
        let targets = NonZeroUsize::new(self.targets.len())
            .ok_or_else(|| Error::internal("a snapshot without targets"))?;
        let verdict = Verdict::weigh(stored, targets, self.copies, &self.required);
        if !verdict.stored().is_empty() {
            let receipt = &record.receipt;
            self.state.commit(&self.database, &epoch.state, &receipt.to_saved())?;
            self.remember_locks(&epoch.state.epoch)?;
            for evidence in verdict.stored() {
                let at = receipt.receipt.finished_at;
                self.state.prove(
                    &self.database,
                    &receipt.receipt.snapshot,
                    evidence.target(),
                    Level::Stored,
                    at,
                )?;
            }
            let draft =
                Arc::into_inner(draft).ok_or_else(|| Error::internal("an encoder is still running"))?;
            draft.keep(&receipt.receipt.snapshot, &epoch.state.epoch, record.remembered.clone())?;
        }
        Ok(verdict)
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
