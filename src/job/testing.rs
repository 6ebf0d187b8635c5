//! A small repository for tests: a real SQLite database, real keys, real snapshots, targets in memory.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp, Unit};
use tokio_util::sync::CancellationToken;

use crate::engine::sqlite::SqliteEngine;
use crate::job::key_policy::KeyPolicy;
use crate::job::snapshot::{SnapshotJob, SnapshotReport};
use crate::keys::{Recipients, SigningKey, TrustStore};
use crate::model::id::{DatabaseId, SnapshotId};
use crate::model::object::ObjectKey;
use crate::model::observer::LoadObserver;
use crate::model::observer::Observer;
use crate::model::place::Root;
use crate::model::stage::Stage;
use crate::repository::receipt::{ObjectRef, Receipt};
use crate::repository::remembered::Remembered as _;
use crate::state::State;
use crate::targets::NamedTarget;
use crate::targets::memory::MemoryTarget;
use crate::targets::wrapper::{Answer, Call, Wrapper};
use crate::targets::{PutOutcome, Target, TargetError, TargetExt};

/// An observer that hears nothing.
pub(crate) struct Silent;

impl LoadObserver for Silent {
    fn stage(&self, _: Stage) {}
    fn bytes(&self, _: u64) {}
}

impl Observer for Silent {
    fn expect(&self, _: u64) {}
    fn moves(&self) {}
    fn warn(&self, _: &str) {}
}

/// A database with two targets, `a` and `b`.
pub(crate) struct Repository {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) database: DatabaseId,
    pub(crate) a: Arc<MemoryTarget>,
    pub(crate) b: Arc<MemoryTarget>,
    pub(crate) state: State,
    key: PathBuf,
    recipients: Vec<String>,
}

/// When the first snapshot is taken; each next one is a day later. It is about now, because the source is read now
/// whatever day a job is told, and what it holds must not lie in the job's future.
pub(crate) fn start() -> Timestamp {
    static START: LazyLock<Timestamp> = LazyLock::new(|| Timestamp::now().round(Unit::Second).unwrap());
    *START
}

impl Repository {
    /// A repository without snapshots.
    pub(crate) fn new() -> Self {
        Self::with(MemoryTarget::new)
    }

    /// The same with targets of another kind.
    pub(crate) fn with(make: impl Fn() -> MemoryTarget) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let key = folder.path().join("agent");
        SigningKey::generate("test").unwrap().write(&key).unwrap();
        let recipient = age::x25519::Identity::generate().to_public().to_string();
        let db = rusqlite::Connection::open(folder.path().join("source.db")).unwrap();
        db.execute_batch("CREATE TABLE subscriber (id INTEGER PRIMARY KEY, name TEXT, noise BLOB)").unwrap();
        Self {
            state: State::open(&folder.path().join("state")).unwrap(),
            folder,
            database: "gazette/abonnes".parse().unwrap(),
            a: Arc::new(make()),
            b: Arc::new(make()),
            key,
            recipients: vec![recipient],
        }
    }

    /// A repository with so many snapshots, each with some new rows.
    pub(crate) async fn of(snapshots: i64, make: impl Fn() -> MemoryTarget) -> Self {
        let repository = Self::with(make);
        for n in 0..snapshots {
            repository.snapshot(n).await;
        }
        repository
    }

    pub(crate) fn targets(&self) -> Vec<NamedTarget> {
        vec![named("a", self.a.clone()), named("b", self.b.clone())]
    }

    pub(crate) fn signing_key(&self) -> SigningKey {
        SigningKey::load(&self.key).unwrap()
    }

    pub(crate) fn trust(&self) -> TrustStore {
        TrustStore::own(self.signing_key().signer())
    }

    /// Snapshot number `n` at both targets.
    pub(crate) async fn snapshot(&self, n: i64) -> SnapshotReport {
        self.snapshot_to(n, self.targets(), &self.state).await
    }

    /// Snapshot number `n`, of new rows, at these targets, by an agent with this state.
    pub(crate) async fn snapshot_to(
        &self,
        n: i64,
        targets: Vec<NamedTarget>,
        state: &State,
    ) -> SnapshotReport {
        let path = self.folder.path().join("source.db");
        let db = rusqlite::Connection::open(&path).unwrap();
        db.execute_batch(
            "INSERT INTO subscriber (name, noise) SELECT 'Zoé', randomblob(500) FROM
             (WITH RECURSIVE t(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM t WHERE i < 200) SELECT i FROM t)",
        )
        .unwrap();
        drop(db);
        let job = SnapshotJob {
            database: self.database.clone(),
            engine: Arc::new(SqliteEngine::new(&path)),
            targets,
            copies: NonZeroUsize::MIN,
            required: Default::default(),
            locks: Default::default(),
            recipients: Recipients::parse(&self.recipients).unwrap(),
            signing_key: self.signing_key(),
            state: state.clone(),
            spool_dir: self.folder.path().join("spool"),
            spool_limit: 1 << 30,
            spool_wait: Duration::from_secs(60),
            jobs: 1,
            epoch: Duration::from_secs(30 * 86_400),
            key_policy: KeyPolicy { keep: true, longest: Duration::from_secs(7 * 86_400) },
        };
        let now = start() + SignedDuration::from_hours(24 * n);
        job.run(now, Arc::new(Silent), &CancellationToken::new()).await.unwrap()
    }

    /// The full key of something relative to the database.
    pub(crate) fn key(&self, relative: &str) -> ObjectKey {
        crate::repository::layout::key(&self.database, relative).unwrap()
    }

    pub(crate) fn receipt(&self, snapshot: &SnapshotId) -> Receipt {
        self.state.receipt(&self.database, snapshot).unwrap().unwrap().receipt
    }

    /// A pack that only this snapshot (and later ones) need: its newest.
    pub(crate) fn pack(&self, snapshot: &SnapshotId) -> ObjectRef {
        let mut packs = self.receipt(snapshot).objects;
        packs.retain(|o| o.key.contains("/packs/"));
        packs.pop().unwrap()
    }
}

pub(crate) fn named(name: &str, target: Arc<dyn Target>) -> NamedTarget {
    NamedTarget { name: name.parse().unwrap(), target }
}

/// The bytes of an object.
pub(crate) async fn bytes(target: &dyn Target, key: &ObjectKey) -> Bytes {
    target.fetch_small(key, 1 << 30, &CancellationToken::new()).await.unwrap()
}

/// A target in memory that a test keeps a hand on.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) target: Arc<MemoryTarget>,
    /// Replaces what is there and says that it was created, as some S3 servers do.
    pub(crate) overwrites: bool,
}

#[async_trait::async_trait]
impl Wrapper for Shared {
    fn description(&self) -> String {
        self.target.describe()
    }

    fn root_identity(&self) -> Option<Root> {
        None
    }

    async fn call(&self, call: Call<'_>, cancel: &CancellationToken) -> Result<Answer, TargetError> {
        Ok(match call.run(&*self.target, cancel).await? {
            Answer::Put(_) if self.overwrites => {
                Answer::Put(PutOutcome::Created { version: None, checked: false })
            }
            other => other,
        })
    }
}
