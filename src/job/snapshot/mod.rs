//! Taking a snapshot: read one consistent state, pack what is new, store it on every target, and record it.

mod lock_term;
mod packer;
mod previous;
mod reading;
mod record;
mod reuse;
pub(super) mod spool;
mod upload;

pub use reuse::referable;

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::engine::Engine;
use crate::error::{Error, ErrorKind, Result};
use crate::job::key_policy;
use crate::job::key_policy::KeyPolicy;
use crate::job::run_lock::Lock;
use crate::job::stopwatch::{StageTime, Stopwatch};
use crate::keys::{EpochKey, Recipients, SigningKey, TrustStore};
use crate::model::id::{DatabaseId, EpochId, SnapshotId, TargetName};
use crate::model::level::Level;
use crate::model::object_lock::LockTerm;
use crate::model::observer::LoadObserver as _;
use crate::model::observer::Observer;
use crate::model::stage::Stage;
use crate::model::verdict::{Stored, Verdict, Word};
use crate::repository::catalog::Catalog;
use crate::repository::reader::Reader;
use crate::state::{EpochState, State};
use crate::targets::NamedTarget;
use packer::Packer;
use spool::Spool;
use upload::{Fleet, Voyage};

/// Everything a snapshot needs.
pub struct SnapshotJob {
    /// The database.
    pub database: DatabaseId,
    /// How it is read.
    pub engine: Arc<dyn Engine>,
    /// Where copies go.
    pub targets: Vec<NamedTarget>,
    /// How many of them must hold it.
    pub copies: NonZeroUsize,
    /// Which of them must, whatever their number.
    pub required: BTreeSet<TargetName>,
    /// How objects are locked at the targets that lock them; the targets themselves do so.
    pub locks: BTreeMap<TargetName, LockTerm>,
    /// Who can open it.
    pub recipients: Recipients,
    /// Who signs its receipt.
    pub signing_key: SigningKey,
    /// What is remembered between runs.
    pub state: State,
    /// Where packs wait, and how many bytes of them.
    pub spool_dir: PathBuf,
    /// See [`SnapshotJob::spool_dir`].
    pub spool_limit: u64,
    /// How long a full spool may hold the snapshot up before slow targets are left behind.
    pub spool_wait: Duration,
    /// Streams read at the same time.
    pub jobs: usize,
    /// How long an epoch lasts.
    pub epoch: Duration,
    /// Which keys of epochs are kept for drills.
    pub key_policy: KeyPolicy,
}

/// How a snapshot went, as `snapshot --json` prints it.
#[derive(Debug, Clone, Serialize)]
pub struct SnapshotReport {
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// Whose data.
    pub publisher: String,
    /// Which database.
    pub database: String,
    /// Its epoch.
    pub epoch: EpochId,
    /// Whether this snapshot began its epoch, and so is a full one.
    pub full: bool,
    /// How it ended.
    pub verdict: Word,
    /// Rows.
    pub rows: u64,
    /// Bytes of all streams.
    pub bytes_read: u64,
    /// Of these, bytes new to the epoch.
    pub new_bytes: u64,
    /// Bytes of the objects written.
    pub stored_bytes: u64,
    /// How long it took.
    pub seconds: f64,
    /// How long each stage took.
    pub stages: Vec<StageTime>,
    /// Every target.
    pub targets: Vec<TargetReport>,
    /// What people should know.
    pub warnings: Vec<String>,
}

/// How a snapshot went at one target.
#[derive(Debug, Clone, Serialize)]
pub struct TargetReport {
    /// The target.
    pub name: TargetName,
    /// The snapshot fails without this target.
    pub required: bool,
    /// The level reached, if any.
    pub level: Option<Level>,
    /// Why not.
    pub error: Option<String>,
    /// What to do about it.
    pub remedy: Option<String>,
}

impl SnapshotReport {
    /// The error that the command ends with, unless the snapshot is complete.
    pub fn error(&self) -> Option<Error> {
        let failed: Vec<&TargetReport> = self.targets.iter().filter(|t| t.level.is_none()).collect();
        let names: Vec<&str> = failed.iter().map(|t| t.name.as_str()).collect();
        let (cause, remedy) = explain(failed.iter().copied());
        let stored = self.targets.len() - failed.len();
        let required: Vec<&str> = failed.iter().filter(|t| t.required).map(|t| t.name.as_str()).collect();
        match self.verdict {
            Word::Complete => None,
            Word::Degraded => Some(
                Error::new(
                    ErrorKind::Degraded,
                    format!("snapshot {} is stored, but not at {}", self.snapshot, names.join(", ")),
                )
                .cause(cause)
                .remedy(remedy),
            ),
            Word::Failed => Some(
                Error::new(
                    ErrorKind::Target,
                    match stored {
                        0 => format!("no target holds snapshot {}", self.snapshot),
                        _ if !required.is_empty() => format!(
                            "snapshot {} is not at {}, which is required",
                            self.snapshot,
                            required.join(", ")
                        ),
                        n => format!(
                            "only {n} of the targets hold snapshot {}, fewer than `copies` asks for",
                            self.snapshot
                        ),
                    },
                )
                .cause(cause)
                .remedy(remedy),
            ),
        }
    }
}

/// Why targets failed, each by its name, and what to do: said once where it is the same for all.
fn explain<'a>(failed: impl Iterator<Item = &'a TargetReport> + Clone) -> (String, String) {
    let named = |text: fn(&TargetReport) -> Option<&String>| {
        let lines = failed.clone().filter_map(|t| Some(format!("{}: {}", t.name, text(t)?)));
        lines.collect::<Vec<_>>().join("; ")
    };
    let mut remedies: Vec<&String> = failed.clone().filter_map(|t| t.remedy.as_ref()).collect();
    remedies.dedup();
    let remedy = match remedies.as_slice() {
        [one] => (*one).clone(),
        _ => named(|t| t.remedy.as_ref()),
    };
    (named(|t| t.error.as_ref()), remedy)
}

/// The epoch of this run: going on, or just begun.
struct Epoch {
    state: EpochState,
    recipient: age::x25519::Recipient,
    full: bool,
}

impl SnapshotJob {
    /// Takes one snapshot. An error means that there is none; targets that failed while others hold
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
        // Cancelled when reading fails, so that nothing goes on behind an error.
        let run = cancel.child_token();
        let voyage = self.voyage(&epoch, &reuse, reachable)?;
        let fleet = Arc::new(Fleet::launch(&voyage, &run));
        let draft = Arc::new(previous::Draft::start(&self.state.streams_folder(&self.database))?);
        let packer =
            Packer::new(voyage.spool.clone(), epoch.recipient.clone(), fleet.clone(), self.spool_wait, &run);
        let bench = reading::Bench {
            packer,
            draft: draft.clone(),
            reuse,
            row_key: epoch.state.row_key,
            observer: watch.clone(),
        };
        let bench = Arc::new(bench);
        let reading = reading::Reading { view, jobs: self.jobs, bench: bench.clone() };
        let content = match reading.run(&run).await {
            Ok(content) => content,
            Err(e) => {
                run.cancel();
                return Err(pick_cause(e, fleet.abandon().await, cancel));
            }
        };
        watch.stage(Stage::Record);
        let finished_at = Timestamp::now();
        let record =
            record::Record::make(&self, &epoch, &snapshot, &bench.reuse, content, (now, finished_at))?;
        watch.stage(Stage::Commit);
        let landed = fleet.commit(record.commit.clone()).await;
        if cancel.is_cancelled() && landed.iter().all(|(_, r)| r.is_err()) {
            return Err(Error::interrupted());
        }
        drop(bench);
        let verdict = self.keep(&epoch, &record, draft, &landed)?;
        key_policy::retire(&self.state, &self.database, self.key_policy, finished_at)?;
        Ok(self.report(&snapshot, &epoch, record, verdict, landed, unreachable, &watch))
    }

    fn voyage(&self, epoch: &Epoch, reuse: &reuse::Reuse, targets: Vec<NamedTarget>) -> Result<Arc<Voyage>> {
        let folder =
            self.spool_dir.join(self.database.publisher.as_str()).join(self.database.database.as_str());
        Ok(Arc::new(Voyage {
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

    /// Targets that answered, and the reports of those that did not.
    fn split_reachable(&self, catalog: &Catalog) -> Result<(Vec<NamedTarget>, Vec<TargetReport>)> {
        let mut reachable = Vec::new();
        let mut failed = Vec::new();
        for target in &self.targets {
            match catalog.unreachable.iter().find(|(name, _)| *name == target.name) {
                None => reachable.push(target.clone()),
                // A credential that may only put cannot list; putting will show whether it works.
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

    /// The epoch that the state knows, while it is young enough and its recipients are those of today.
    fn epoch(&self, catalog: &Catalog, now: Timestamp) -> Result<Epoch> {
        let recipients = self.recipients.fingerprints();
        if let Some(state) = self.state.epoch(&self.database)? {
            let age = now.duration_since(state.created_at);
            let young = !age.is_negative() && age.unsigned_abs() < self.epoch;
            let locked = self.locked_long_enough(&state.epoch)?;
            let begun = catalog.entries.values().any(|e| e.receipt.epoch == state.epoch)
                || catalog.entries.is_empty() && !catalog.unreachable.is_empty();
            if young && begun && locked && state.recipients == recipients {
                let recipient = state
                    .recipient
                    .parse()
                    .map_err(|e| Error::internal("the state holds no valid epoch recipient").cause(e))?;
                return Ok(Epoch { state, recipient, full: false });
            }
        }
        let key = EpochKey::generate();
        let epoch = EpochId::new(now, rand::random());
        let sealed = key.seal(&self.recipients, &epoch, &self.database)?;
        // Where no drill needs it, only the publisher can open the epoch from here on: the key is
        // dropped with this scope.
        key_policy::keep(&self.state, &self.database, &epoch, &key, self.key_policy)?;
        let recipient = key.recipient();
        let state = EpochState {
            epoch,
            recipient: recipient.to_string(),
            row_key: rand::random(),
            sealed,
            created_at: now,
            recipients,
        };
        Ok(Epoch { state, recipient, full: true })
    }

    /// Weighs the evidence, and remembers the snapshot if any target holds it.
    fn keep(
        &self,
        epoch: &Epoch,
        record: &record::Record,
        draft: Arc<previous::Draft>,
        landed: &[(TargetName, Result<Stored>)],
    ) -> Result<Verdict> {
        let stored: Vec<Stored> = landed.iter().filter_map(|(_, r)| r.as_ref().ok().cloned()).collect();
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
                Arc::into_inner(draft).ok_or_else(|| Error::internal("an encoder is still at work"))?;
            draft.keep(&receipt.receipt.snapshot, &epoch.state.epoch, record.remembered.clone())?;
        }
        Ok(verdict)
    }

    #[expect(clippy::too_many_arguments, reason = "it only gathers what the run came to")]
    fn report(
        &self,
        snapshot: &SnapshotId,
        epoch: &Epoch,
        record: record::Record,
        verdict: Verdict,
        landed: Vec<(TargetName, Result<Stored>)>,
        mut targets: Vec<TargetReport>,
        watch: &Stopwatch,
    ) -> SnapshotReport {
        for (name, result) in landed {
            let required = self.required.contains(&name);
            targets.push(match result {
                Ok(_) => {
                    TargetReport { name, required, level: Some(Level::Stored), error: None, remedy: None }
                }
                Err(e) => TargetReport {
                    name,
                    required,
                    level: None,
                    error: Some(e.to_string()),
                    remedy: e.remedy_text().map(str::to_owned),
                },
            });
        }
        targets.sort_by_key(|t| self.targets.iter().position(|n| n.name == t.name));
        let receipt = record.receipt.receipt;
        let (stages, seconds) = watch.read();
        SnapshotReport {
            snapshot: snapshot.clone(),
            publisher: self.database.publisher.to_string(),
            database: self.database.database.to_string(),
            epoch: epoch.state.epoch.clone(),
            full: epoch.full,
            verdict: verdict.word(),
            rows: receipt.rows,
            bytes_read: receipt.bytes_read,
            new_bytes: receipt.new_bytes,
            stored_bytes: receipt.stored_bytes,
            seconds,
            stages,
            targets,
            warnings: record.warnings,
        }
    }
}

/// Why reading stopped: where every target has failed, their failure is the cause, not the reader's.
fn pick_cause(read: Error, landed: Vec<(TargetName, Result<Stored>)>, cancel: &CancellationToken) -> Error {
    if cancel.is_cancelled() {
        return Error::interrupted();
    }
    let failures: Vec<(TargetName, Error)> = landed
        .into_iter()
        .filter_map(|(name, r)| r.err().map(|e| (name, e)))
        .filter(|(_, e)| e.kind() != ErrorKind::Interrupted)
        .collect();
    if read.kind() != ErrorKind::Target || failures.is_empty() {
        return read;
    }
    let causes: Vec<String> = failures.iter().map(|(name, e)| format!("{name}: {e}")).collect();
    let remedy = failures.iter().find_map(|(_, e)| e.remedy_text()).unwrap_or_default().to_owned();
    Error::new(ErrorKind::Target, "every target has failed, there is no snapshot")
        .cause(causes.join("; "))
        .remedy(remedy)
}
