//! What a sync asks of targets, and beside which jobs it runs.

use bytes::Bytes;

use super::*;
use crate::job::testing::{Repository, Silent, named, start};
use crate::targets::memory::MemoryTarget;
use crate::targets::wrapper::faulty::{Fault, Faulty, Operation};
use crate::targets::{TargetErrorKind, TargetExt as _};

async fn sync(repository: &Repository, targets: Vec<NamedTarget>) -> Result<DatabaseSync> {
    run(repository, targets, None).await
}

async fn heal(repository: &Repository, targets: Vec<NamedTarget>) -> DatabaseSync {
    run(repository, targets, Some(repository.signing_key())).await.unwrap()
}

async fn run(
    repository: &Repository,
    targets: Vec<NamedTarget>,
    heal: Option<SigningKey>,
) -> Result<DatabaseSync> {
    let job = SyncJob {
        heal,
        database: repository.database.clone(),
        targets,
        trust: repository.trust(),
        state: repository.state.clone(),
        spool_dir: repository.folder.path().join("spool"),
        spool_limit: 1 << 30,
    };
    job.run(Arc::new(Silent), &CancellationToken::new()).await
}

#[tokio::test]
async fn lists_are_compared_and_no_object_is_asked_for() {
    let repository = Repository::of(4, MemoryTarget::new).await;
    // A new epoch, so that lists go over two of them.
    repository.state.forget_epoch(&repository.database).unwrap();
    for day in 4..6 {
        repository.snapshot(day).await;
    }
    let snapshots = repository.state.stored_at(&repository.database, &"b".parse().unwrap()).unwrap();
    let lost: Vec<_> = [&snapshots[1], &snapshots[5]].map(|s| repository.key(&repository.pack(s).key)).into();
    lost.iter().for_each(|key| repository.b.tamper(key, None));
    let b = Arc::new(Faulty::new(repository.b.clone()));
    let targets = vec![named("a", repository.a.clone()), named("b", b.clone())];
    let report = sync(&repository, targets.clone()).await.unwrap();
    assert_eq!((report.targets[1].objects, &report.damaged), (2, &vec![]), "{report:?}");
    assert_eq!(b.calls(Operation::Head), 0);
    // Agents, receipts (once to know the snapshots and once to compare), epochs, drills, prunes, decisions.
    assert_eq!(b.calls(Operation::List), 7);
    let again = sync(&repository, targets.clone()).await.unwrap();
    assert_eq!(again.targets[1].objects, 0, "{again:?}");

    // Of another size: it is damaged, and stays as it is.
    repository.b.tamper(&lost[0], Some(Bytes::from_static(b"short")));
    let report = sync(&repository, targets).await.unwrap();
    assert_eq!(report.damaged.len(), 1, "{report:?}");
}

#[tokio::test]
async fn a_snapshot_does_not_hold_it_up_and_a_prune_does() {
    let repository = Repository::of(1, MemoryTarget::new).await;
    let (state, database) = (&repository.state, &repository.database);
    let snapshot = Lock::take(&state.lock_file(database), database).unwrap();
    sync(&repository, repository.targets()).await.unwrap();
    drop(snapshot);
    let other = Lock::take(&state.sync_lock_file(database), database).unwrap();
    let refused = sync(&repository, repository.targets()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Conflict);
    repository.snapshot(1).await;
    let prune = crate::job::prune::PruneJob {
        database: database.clone(),
        targets: repository.targets(),
        trust: repository.trust(),
        state: state.clone(),
        signing_key: repository.signing_key(),
        rows_limit: crate::model::loss::DEFAULT_LIMIT,
        policy: crate::model::retention::Policy { last: 1, ..Default::default() },
        time_zone: jiff::tz::TimeZone::UTC,
        max_delete: 50,
        grace: std::time::Duration::ZERO,
        dry_run: false,
    };
    let refused = prune.run(start(), Arc::new(Silent), &CancellationToken::new()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Conflict);
    drop(other);
}

#[tokio::test]
async fn a_bad_copy_that_may_not_be_replaced_is_named_and_stays() {
    for make in [MemoryTarget::new, MemoryTarget::versioned] {
        let repository = Repository::with(make);
        let first = repository.snapshot(0).await.snapshot;
        let newest = repository.snapshot(1).await.snapshot;
        // Which of the newest's packs it is, its hash decides; an older one is needed by the other too.
        let relative = repository.pack(&newest).key;
        let shared = repository.receipt(&first).objects.iter().any(|object| object.key == relative);
        let pack = repository.key(&relative);
        // Of the right size: a list shows others at once.
        let good = repository.b.fetch_small(&pack, 1 << 30, &CancellationToken::new()).await.unwrap();
        repository.b.tamper(&pack, Some(Bytes::from(vec![b'r'; good.len()])));
        let fail = Fault::Fail(TargetErrorKind::Denied);
        let locked =
            Faulty::new(repository.b.clone()).with_key(Operation::Put, "/packs/", 1..=u64::MAX, fail);
        let targets = vec![named("a", repository.a.clone()), named("b", Arc::new(locked))];
        let report = heal(&repository, targets).await;
        assert_eq!(report.damaged.len(), 1, "{report:?}");
        let lacking = if shared { 2 } else { 1 };
        assert_eq!(
            (report.targets[1].still_behind, report.targets[1].replaced),
            (Some(lacking), 0),
            "{report:?}"
        );
        assert!(report.targets[1].error.as_ref().unwrap().contains("cannot be replaced"), "{report:?}");
        assert!(report.targets[1].remedy.as_ref().unwrap().contains("The target protects it"), "{report:?}");
        // Without the lock it is replaced, and nothing is damaged any more.
        let report = heal(&repository, repository.targets()).await;
        assert_eq!((&report.damaged, report.targets[1].replaced), (&vec![], 1), "{report:?}");
        let cancel = CancellationToken::new();
        let bytes = repository.b.fetch_small(&pack, 1 << 30, &cancel).await.unwrap();
        assert_eq!(bytes, repository.a.fetch_small(&pack, 1 << 30, &cancel).await.unwrap());
    }
}
