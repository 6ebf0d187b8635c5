//! One task per target, each at its own pace: packs as they come, then the commit.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::error::{Error, ErrorKind, Result};
use crate::job::snapshot::spool::{Spool, SpooledPack};
use crate::model::id::{DatabaseId, EpochId, Sha256, TargetName};
use crate::model::object::ObjectKey;
use crate::model::verdict::{Stored, TargetLedger};
use crate::repository::layout;
use crate::repository::put;
use crate::repository::receipt::ObjectRef;
use crate::state::State;
use crate::targets::NamedTarget;
use crate::targets::{Acknowledged, Expected, TargetExt, Upload};

/// What a target must hold last, and in this order: reused objects, manifest, signature, receipt.
#[derive(Debug, Clone)]
pub struct Commit {
    /// Every object that the snapshot needs.
    pub objects: Vec<ObjectRef>,
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

/// What all tasks know.
pub struct Voyage {
    /// The database.
    pub database: DatabaseId,
    /// The epoch.
    pub epoch: EpochId,
    /// Content of `epoch.age`.
    pub sealed_epoch: Bytes,
    /// Which older packs each target is known to hold with the right size.
    pub present: BTreeMap<TargetName, HashSet<Sha256>>,
    /// The targets that can be reached: one that lacks an older pack takes it from another.
    pub targets: Vec<NamedTarget>,
    /// Where versions are remembered.
    pub state: State,
    /// Where packs wait, also on their way from one target to another.
    pub spool: Arc<Spool>,
}

/// The targets of one run.
pub struct Fleet {
    ships: Vec<Ship>,
}

struct Ship {
    name: TargetName,
    sender: Mutex<Option<UnboundedSender<Message>>>,
    gauge: Arc<Gauge>,
    task: Mutex<Option<JoinHandle<Result<Stored>>>>,
}

/// How far a target has come.
#[derive(Debug)]
struct Gauge {
    packs: AtomicU64,
    alive: AtomicBool,
    left_behind: AtomicBool,
    cancel: CancellationToken,
}

impl Fleet {
    /// Starts a task per target.
    pub fn launch(voyage: &Arc<Voyage>, cancel: &CancellationToken) -> Self {
        let ships = voyage
            .targets
            .iter()
            .map(|target| {
                let (sender, receiver) = unbounded_channel();
                let gauge = Arc::new(Gauge {
                    packs: AtomicU64::new(0),
                    alive: AtomicBool::new(true),
                    left_behind: AtomicBool::new(false),
                    cancel: cancel.child_token(),
                });
                let crew = Crew { voyage: voyage.clone(), target: target.clone(), gauge: gauge.clone() };
                let task = Mutex::new(Some(tokio::spawn(crew.sail(receiver))));
                Ship { name: target.name.clone(), sender: Mutex::new(Some(sender)), gauge, task }
            })
            .collect();
        Self { ships }
    }

    /// Hands a pack to every target. Its file goes when the last one is done with it.
    pub fn send_pack(&self, pack: SpooledPack) {
        let pack = Arc::new(pack);
        self.send(|| Message::Pack(pack.clone()));
    }

    fn send(&self, message: impl Fn() -> Message) {
        for ship in &self.ships {
            if let Some(sender) = &*ship.sender.lock().unwrap_or_else(PoisonError::into_inner) {
                // A task that has failed has closed its end, and says why in the end.
                let _ = sender.send(message());
            }
        }
    }

    /// Whether no target is left that could come to hold the snapshot.
    pub fn nobody_left(&self) -> bool {
        !self.ships.iter().any(|s| s.gauge.alive.load(Ordering::Acquire))
    }

    /// The spool has been full for long: targets that lag behind the fastest are given up.
    pub fn leave_slowest_behind(&self) {
        let packs = |s: &&Ship| s.gauge.packs.load(Ordering::Acquire);
        let alive = || self.ships.iter().filter(|s| s.gauge.alive.load(Ordering::Acquire));
        let Some(fastest) = alive().map(|s| packs(&s)).max() else {
            return;
        };
        for ship in alive().filter(|s| packs(s) < fastest) {
            ship.gauge.left_behind.store(true, Ordering::Release);
            ship.gauge.cancel.cancel();
        }
    }

    /// Sends the commit, and waits until every target has it or has failed.
    pub async fn commit(&self, commit: Commit) -> Vec<(TargetName, Result<Stored>)> {
        let commit = Arc::new(commit);
        self.send(|| Message::Commit(commit.clone()));
        self.land().await
    }

    /// Gives the run up: nothing more is written.
    pub async fn abandon(&self) -> Vec<(TargetName, Result<Stored>)> {
        for ship in &self.ships {
            ship.gauge.cancel.cancel();
        }
        self.land().await
    }

    async fn land(&self) -> Vec<(TargetName, Result<Stored>)> {
        let mut landed = Vec::new();
        for ship in &self.ships {
            ship.sender.lock().unwrap_or_else(PoisonError::into_inner).take();
            let task = ship.task.lock().unwrap_or_else(PoisonError::into_inner).take();
            let result = match task {
                Some(task) => {
                    task.await.unwrap_or_else(|e| Err(Error::internal("an upload task died").cause(e)))
                }
                None => Err(Error::internal("an upload task was lost")),
            };
            landed.push((ship.name.clone(), result));
        }
        landed
    }
}

struct Crew {
    voyage: Arc<Voyage>,
    target: NamedTarget,
    gauge: Arc<Gauge>,
}

impl Crew {
    async fn sail(self, mut messages: UnboundedReceiver<Message>) -> Result<Stored> {
        let result = self.deliver(&mut messages).await;
        self.gauge.alive.store(false, Ordering::Release);
        messages.close();
        // Packs that were never sent make room in the spool now.
        while messages.recv().await.is_some() {}
        match result {
            Err(e)
                if e.kind() == ErrorKind::Interrupted && self.gauge.left_behind.load(Ordering::Acquire) =>
            {
                Err(Error::new(
                    ErrorKind::Target,
                    "too slow: the spool was full, and the other targets had to go on",
                )
                .remedy("Give the target more bandwidth, or raise `spool_limit` or `spool_wait`."))
            }
            other => other,
        }
    }

    async fn deliver(&self, messages: &mut UnboundedReceiver<Message>) -> Result<Stored> {
        let voyage = &*self.voyage;
        let epoch_key = layout::key(&voyage.database, &layout::epoch(&voyage.epoch))?;
        self.put(&epoch_key, &Upload::memory(voyage.sealed_epoch.clone())).await?;
        let mut sent: HashMap<String, (Sha256, u64)> = HashMap::new();
        while let Some(message) = messages.recv().await {
            match message {
                Message::Pack(pack) => {
                    let relative = layout::pack(&voyage.epoch, &pack.sha256);
                    let key = layout::key(&voyage.database, &relative)?;
                    self.put(&key, &Upload::file(&pack.path, pack.size, pack.sha256)).await?;
                    sent.insert(relative, (pack.sha256, pack.size));
                    self.gauge.packs.fetch_add(1, Ordering::AcqRel);
                }
                Message::Commit(commit) => return self.commit(&commit, &sent).await,
            }
        }
        Err(Error::interrupted())
    }

    async fn commit(&self, commit: &Commit, sent: &HashMap<String, (Sha256, u64)>) -> Result<Stored> {
        // Objects, signature, receipt. The epoch and the manifest are among the objects.
        let mut ledger = TargetLedger::open(self.target.name.clone(), commit.objects.len() as u64 + 2);
        self.put(&commit.manifest.0, &Upload::memory(commit.manifest.1.clone())).await?;
        let database = &self.voyage.database;
        let epoch_key = layout::epoch(&self.voyage.epoch);
        let here = self.voyage.present.get(&self.target.name);
        for object in &commit.objects {
            let key = layout::key(database, &object.key)?;
            let written_now = object.key == epoch_key
                || key == commit.manifest.0
                || sent.get(&object.key) == Some(&(object.sha256, object.size));
            if !written_now && !here.is_some_and(|packs| packs.contains(&object.sha256)) {
                self.take_from_another(&key, object).await?;
            }
            ledger.acknowledge();
        }
        for (key, content) in [&commit.signature, &commit.receipt] {
            self.put(key, &Upload::memory(content.clone())).await?;
            ledger.acknowledge();
        }
        ledger.close().map_err(|missing| {
            Error::internal(format!(
                "{missing} objects of the snapshot are not accounted for at {}",
                self.target.name
            ))
        })
    }

    /// Puts one object and demands evidence that the target holds these bytes.
    async fn put(&self, key: &ObjectKey, upload: &Upload) -> Result<Acknowledged> {
        let put = put::put(&self.target, &self.voyage.state, key, upload, &self.gauge.cancel);
        // Whatever failed at a target while writing is the target's failure; only Ctrl-C is not.
        put.await.map_err(|e| match e.kind() {
            ErrorKind::Interrupted | ErrorKind::Internal => e,
            _ => e.with_kind(ErrorKind::Target),
        })
    }

    /// An older pack that this target lacks: ciphertext from a target that has it.
    async fn take_from_another(&self, key: &ObjectKey, object: &ObjectRef) -> Result<()> {
        let path = self.voyage.spool.folder().join(format!("{}-{}", self.target.name, object.sha256));
        let has =
            |t: &&NamedTarget| self.voyage.present.get(&t.name).is_some_and(|p| p.contains(&object.sha256));
        let mut last = None;
        for other in self.voyage.targets.iter().filter(has) {
            let version = self.voyage.state.version(&other.name, key)?;
            let expected = Expected { version, size: object.size, sha256: object.sha256 };
            match other.target.fetch_to_file(key, &expected, &path, &self.gauge.cancel).await {
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
            format!("{} lacks {key}, and no other target gives it", self.target.name),
        )
        .remedy("Run `marbre verify`, then `marbre snapshot` again: what is lost is sent again.");
        Err(match last {
            Some(e) => error.cause(e),
            None => error,
        })
    }
}
