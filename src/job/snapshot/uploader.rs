//! One upload task per target, each at its own pace: packs as they are sealed, then the commit.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::writer_claims::Claims;
use crate::error::{Error, ErrorKind, Result};
use crate::job::snapshot::presence::Presence;
use crate::job::spool::{Spool, SpooledPack};
use crate::model::id::{DatabaseId, EpochId, Sha256, TargetName};
use crate::model::object::ObjectKey;
use crate::model::verdict::{Stored, TargetLedger};
use crate::repository::layout;
use crate::repository::manifest::PackRef;
use crate::repository::put;
use crate::repository::receipt::ObjectRef;
use crate::state::State;
use crate::targets::NamedTarget;
use crate::targets::{Acknowledged, Expected, TargetExt, Upload};

/// Packs that are on their way to one target at the same time.
const UPLOADS: usize = 4;

/// What a target must receive last, in this order: reused objects, manifest, claim, signature, receipt.
#[derive(Debug, Clone)]
pub(crate) struct Commit {
    /// Every object that the snapshot needs.
    pub objects: Vec<ObjectRef>,
    /// The packs among them.
    pub packs: Vec<PackRef>,
    /// Key and content of the manifest.
    pub manifest: (ObjectKey, Bytes),
    /// Key and content of the signature.
    pub signature: (ObjectKey, Bytes),
    /// Key and content of the receipt.
    pub receipt: (ObjectKey, Bytes),
}

enum Message {
    Pack(Arc<SpooledPack>),
    Commit(Arc<Commit>),
}

/// What all upload tasks share.
pub(crate) struct UploadContext {
    /// The database.
    pub database: DatabaseId,
    /// The epoch.
    pub epoch: EpochId,
    /// Content of `epoch.age`.
    pub sealed_epoch: Bytes,
    /// Tells which packs a target holds.
    pub presence: Presence,
    /// The targets that can be reached: one that lacks an older pack copies it from another.
    pub targets: Vec<NamedTarget>,
    /// Where versions are remembered.
    pub state: State,
    /// Where packs wait, also on their way from one target to another.
    pub spool: Arc<Spool>,
    /// Whoever wins the claim writes the receipt.
    pub claims: Claims,
}

/// The upload tasks of one run, one per target.
pub(crate) struct Uploaders {
    all: Vec<Uploader>,
}

struct Uploader {
    name: TargetName,
    sender: Mutex<Option<UnboundedSender<Message>>>,
    progress: Arc<Progress>,
    task: Mutex<Option<JoinHandle<Result<Stored>>>>,
}

/// How far the upload to one target has come.
#[derive(Debug)]
struct Progress {
    packs: AtomicU64,
    alive: AtomicBool,
    too_slow: AtomicBool,
    cancel: CancellationToken,
}

impl Uploaders {
    /// Starts a task per target.
    pub(super) fn start(context: &Arc<UploadContext>, cancel: &CancellationToken) -> Self {
        let all = context
            .targets
            .iter()
            .map(|target| {
                let (sender, receiver) = unbounded_channel();
                let progress = Arc::new(Progress {
                    packs: AtomicU64::new(0),
                    alive: AtomicBool::new(true),
                    too_slow: AtomicBool::new(false),
                    cancel: cancel.child_token(),
                });
                let worker =
                    Worker { context: context.clone(), target: target.clone(), progress: progress.clone() };
                let task = Mutex::new(Some(tokio::spawn(worker.run(receiver))));
                Uploader { name: target.name.clone(), sender: Mutex::new(Some(sender)), progress, task }
            })
            .collect();
        Self { all }
    }

    /// Queues a pack for every target. Its file is removed when the last one is done with it.
    pub(super) fn send_pack(&self, pack: SpooledPack) {
        let pack = Arc::new(pack);
        self.send(|| Message::Pack(pack.clone()));
    }

    fn send(&self, message: impl Fn() -> Message) {
        for uploader in &self.all {
            if let Some(sender) = &*uploader.sender.lock().unwrap_or_else(PoisonError::into_inner) {
                // A task that has failed has closed its end; `join` returns the reason.
                let _ = sender.send(message());
            }
        }
    }

    /// Whether every upload has failed.
    pub(super) fn all_failed(&self) -> bool {
        !self.all.iter().any(|u| u.progress.alive.load(Ordering::Acquire))
    }

    /// Gives up the targets that lag behind the fastest, because the spool has been full for too long.
    pub(super) fn give_up_slowest(&self) {
        let packs = |u: &&Uploader| u.progress.packs.load(Ordering::Acquire);
        let alive = || self.all.iter().filter(|u| u.progress.alive.load(Ordering::Acquire));
        let Some(fastest) = alive().map(|u| packs(&u)).max() else {
            return;
        };
        for uploader in alive().filter(|u| packs(u) < fastest) {
            uploader.progress.too_slow.store(true, Ordering::Release);
            uploader.progress.cancel.cancel();
        }
    }

    /// Queues the commit, and waits until every target has it or has failed.
    pub(super) async fn commit(&self, commit: Commit) -> Vec<(TargetName, Result<Stored>)> {
        let commit = Arc::new(commit);
        self.send(|| Message::Commit(commit.clone()));
        self.join().await
    }

    /// Aborts the run: nothing more is written.
    pub(super) async fn abandon(&self) -> Vec<(TargetName, Result<Stored>)> {
        for uploader in &self.all {
            uploader.progress.cancel.cancel();
        }
        self.join().await
    }

    async fn join(&self) -> Vec<(TargetName, Result<Stored>)> {
        let mut results = Vec::new();
        for uploader in &self.all {
            uploader.sender.lock().unwrap_or_else(PoisonError::into_inner).take();
            let task = uploader.task.lock().unwrap_or_else(PoisonError::into_inner).take();
            let result = match task {
                Some(task) => {
                    task.await.unwrap_or_else(|e| Err(Error::internal("an upload task panicked").cause(e)))
                }
                None => Err(Error::internal("an upload task was lost")),
            };
            results.push((uploader.name.clone(), result));
        }
        results
    }
}

struct Worker {
    context: Arc<UploadContext>,
    target: NamedTarget,
    progress: Arc<Progress>,
}

impl Worker {
    async fn run(self, mut messages: UnboundedReceiver<Message>) -> Result<Stored> {
        let result = self.upload(&mut messages).await;
        self.progress.alive.store(false, Ordering::Release);
        if result.is_err() {
            self.context.claims.give_up(&self.target.name);
        }
        messages.close();
        // Packs that were never sent free their room in the spool now.
        while messages.recv().await.is_some() {}
        match result {
            Err(e)
                if e.kind() == ErrorKind::Interrupted && self.progress.too_slow.load(Ordering::Acquire) =>
            {
                Err(Error::new(
                    ErrorKind::Target,
                    "too slow: the spool was full, and the other targets could not wait",
                )
                .remedy("Give the target more bandwidth, or raise `spool_limit` or `spool_wait`."))
            }
            other => other,
        }
    }

    async fn upload(&self, messages: &mut UnboundedReceiver<Message>) -> Result<Stored> {
        let context = &*self.context;
        let epoch_key = layout::key(&context.database, &layout::epoch(&context.epoch))?;
        self.put(&epoch_key, &Upload::memory(context.sealed_epoch.clone())).await?;
        let mut sent: HashSet<Sha256> = HashSet::new();
        let mut running = FuturesUnordered::new();
        let commit = loop {
            tokio::select! {
                biased;
                Some(done) = running.next(), if !running.is_empty() => {
                    sent.insert(done?);
                }
                message = messages.recv(), if running.len() < UPLOADS => match message {
                    Some(Message::Pack(pack)) => running.push(self.put_pack(pack)),
                    Some(Message::Commit(commit)) => break commit,
                    None => return Err(Error::interrupted()),
                },
            }
        };
        while let Some(done) = running.next().await {
            sent.insert(done?);
        }
        self.commit(&commit, &sent).await
    }

    async fn put_pack(&self, pack: Arc<SpooledPack>) -> Result<Sha256> {
        let context = &*self.context;
        let key = layout::key(&context.database, &layout::pack(&context.epoch, &pack.sha256))?;
        self.put(&key, &Upload::file(&pack.path, pack.size, pack.sha256)).await?;
        self.progress.packs.fetch_add(1, Ordering::AcqRel);
        Ok(pack.sha256)
    }

    async fn commit(&self, commit: &Commit, sent: &HashSet<Sha256>) -> Result<Stored> {
        // Objects, signature, receipt. The epoch and the manifest are among the objects.
        let mut ledger = TargetLedger::open(self.target.name.clone(), commit.objects.len() as u64 + 2);
        self.put(&commit.manifest.0, &Upload::memory(commit.manifest.1.clone())).await?;
        let context = &*self.context;
        let older: Vec<PackRef> =
            commit.packs.iter().filter(|p| !sent.contains(&p.sha256)).cloned().collect();
        let present = match older.is_empty() {
            true => HashSet::new(),
            false => context.presence.at(&self.target, &older, &self.progress.cancel).await?.packs,
        };
        let epoch_key = layout::epoch(&context.epoch);
        for object in &commit.objects {
            let key = layout::key(&context.database, &object.key)?;
            let written_now =
                object.key == epoch_key || key == commit.manifest.0 || sent.contains(&object.sha256);
            if !written_now && !present.contains(&object.sha256) {
                self.copy_from_another(&key, object).await?;
            }
            ledger.acknowledge();
        }
        // Before the number is claimed: a target that lists nothing must not get a receipt.
        self.listed(&commit.manifest.0).await?;
        self.context.claims.win(&self.target.name).await?;
        for (key, content) in [&commit.signature, &commit.receipt] {
            self.put(key, &Upload::memory(content.clone())).await?;
            ledger.acknowledge();
        }
        self.listed(&commit.receipt.0).await?;
        ledger.close().map_err(|missing| {
            Error::internal(format!(
                "{missing} objects of the snapshot are not accounted for at {}",
                self.target.name
            ))
        })
    }

    /// Puts one object, and requires evidence that the target holds these bytes.
    async fn put(&self, key: &ObjectKey, upload: &Upload) -> Result<Acknowledged> {
        let put = put::put(&self.target, &self.context.state, key, upload, &self.progress.cancel);
        put.await.map_err(of_target)
    }

    /// Requires that the target lists what was put.
    async fn listed(&self, key: &ObjectKey) -> Result<()> {
        put::listed(&self.target, key, &self.progress.cancel).await.map_err(of_target)
    }

    /// Copies an older pack that this target lacks from another target, as ciphertext.
    async fn copy_from_another(&self, key: &ObjectKey, object: &ObjectRef) -> Result<()> {
        let path = self.context.spool.folder().join(format!("{}-{}", self.target.name, object.sha256));
        let mut last = None;
        for other in self.context.targets.iter().filter(|t| t.name != self.target.name) {
            let version = self.context.state.version(&other.name, key)?;
            let expected = Expected { version, size: object.size, sha256: object.sha256 };
            match other.target.fetch_to_file(key, &expected, &path, &self.progress.cancel).await {
                Ok(_) => {
                    let put = self.put(key, &Upload::file(&path, object.size, object.sha256)).await;
                    let _ = tokio::fs::remove_file(&path).await;
                    return put.map(drop);
                }
                Err(e) => last = Some(e),
            }
        }
        let error = Error::new(
            ErrorKind::Target,
            format!("{} lacks {key}, and no other target provides it", self.target.name),
        )
        .remedy("Run `marbre verify`, then `marbre snapshot` again: what is lost is uploaded again.");
        Err(match last {
            Some(e) => error.cause(e),
            None => error,
        })
    }
}

/// Any failure while writing to a target is that target's.
fn of_target(e: Error) -> Error {
    match e.kind() {
        ErrorKind::Interrupted | ErrorKind::Internal => e,
        _ => e.with_kind(ErrorKind::Target),
    }
}
