//! One test per kind of damage, on a repository that the real snapshot job made.

use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::{VerifyJob, VerifyReport};
use crate::error::ErrorKind;
use crate::job::testing::{Repository, Shared, Silent, bytes, named, start};
use crate::keys::{Namespace, SigningKey};
use crate::model::id::{SnapshotId, TargetName};
use crate::model::level::{Level, Levels};
use crate::model::object::ObjectKey;
use crate::state::State;
use crate::targets::NamedTarget;
use crate::targets::TargetErrorKind;
use crate::targets::memory::MemoryTarget;
use crate::targets::wrapper::faulty::{Fault, Faulty, Operation};

fn at(name: &str) -> TargetName {
    name.parse().unwrap()
}

async fn verify(repository: &Repository, targets: Vec<NamedTarget>, state: Option<&State>) -> VerifyReport {
    let job = VerifyJob {
        database: repository.database.clone(),
        targets,
        trust: repository.trust(),
        state: state.cloned(),
        snapshot: None,
    };
    job.run(Arc::new(Silent), &CancellationToken::new()).await.unwrap()
}

/// The report of an agent that has its state.
async fn own(repository: &Repository) -> VerifyReport {
    verify(repository, repository.targets(), Some(&repository.state)).await
}

/// The report of somebody who has only the targets.
async fn publisher(repository: &Repository) -> VerifyReport {
    verify(repository, repository.targets(), None).await
}

fn snapshots(repository: &Repository) -> Vec<SnapshotId> {
    repository.state.stored_at(&repository.database, &at("a")).unwrap()
}

fn levels(repository: &Repository, snapshot: &SnapshotId, target: &str) -> Levels {
    repository.state.levels(&repository.database, snapshot, &at(target)).unwrap()
}

fn receipt_key(repository: &Repository, snapshot: &SnapshotId) -> ObjectKey {
    repository.key(&format!("receipts/{snapshot}.json"))
}

fn signature_key(repository: &Repository, snapshot: &SnapshotId) -> ObjectKey {
    repository.key(&format!("receipts/{snapshot}.json.sig"))
}

fn kind(report: &VerifyReport) -> Option<ErrorKind> {
    report.error().map(|e| e.kind())
}

/// The only damage, which must be at `a`: its problem.
fn only<'r>(report: &'r VerifyReport, key: &ObjectKey) -> &'r str {
    let [damage] = &report.damaged[..] else { panic!("{report:#?}") };
    assert_eq!((damage.target.as_str(), damage.object.as_str()), ("a", key.as_str()));
    assert_eq!(kind(report), Some(ErrorKind::Verification));
    &damage.problem
}

fn flipped(bytes: &Bytes) -> Bytes {
    let mut changed = bytes.to_vec();
    let middle = changed.len() / 2;
    changed[middle] ^= 1;
    changed.into()
}

/// Three snapshots, all proven intact, of which something is then changed at `a`.
async fn sound() -> Repository {
    let repository = Repository::of(3, MemoryTarget::new).await;
    assert_eq!(kind(&own(&repository).await), None);
    repository
}

#[tokio::test(start_paused = true)]
async fn everything_sound_is_intact() {
    let repository = Repository::of(3, MemoryTarget::new).await;
    let before = Timestamp::now();
    for report in [own(&repository).await, publisher(&repository).await] {
        assert_eq!(kind(&report), None, "{report:#?}");
        assert_eq!(report.snapshots, 3);
        for target in &report.targets {
            assert_eq!((target.snapshots, target.intact, target.behind), (3, 3, 0));
            // Each object once, though several snapshots need it: 3 packs, 3 manifests, 1 epoch.
            assert_eq!(target.objects, 7);
        }
        assert_eq!(report.objects, 14);
        assert!(report.bytes > 100_000);
    }
    for snapshot in snapshots(&repository) {
        let intact = levels(&repository, &snapshot, "b").intact.unwrap();
        // Proofs are remembered to the second.
        assert!(intact.as_second() >= before.as_second());
    }
}

#[tokio::test(start_paused = true)]
async fn one_snapshot_alone() {
    let repository = Repository::of(3, MemoryTarget::new).await;
    let all = snapshots(&repository);
    let job = |snapshot: &str| VerifyJob {
        database: repository.database.clone(),
        targets: repository.targets(),
        trust: repository.trust(),
        state: Some(repository.state.clone()),
        snapshot: Some(snapshot.parse().unwrap()),
    };
    let cancel = CancellationToken::new();
    let report = job(all[0].as_str()).run(Arc::new(Silent), &cancel).await.unwrap();
    assert_eq!((kind(&report), report.snapshots, report.objects), (None, 1, 6));
    assert!(levels(&repository, &all[0], "a").intact.is_some());
    assert!(levels(&repository, &all[1], "a").intact.is_none());
    let report = job("20200101T000000Z-00000000").run(Arc::new(Silent), &cancel).await.unwrap();
    assert_eq!(kind(&report), Some(ErrorKind::NotFound), "nothing verified is nothing proven");
}

#[tokio::test(start_paused = true)]
async fn a_damaged_pack_is_found_lost_and_its_snapshots_disproved() {
    let repository = sound().await;
    let all = snapshots(&repository);
    let pack = repository.pack(&all[1]);
    let key = repository.key(&pack.key);
    let good = bytes(&*repository.a, &key).await;
    repository.state.prove(&repository.database, &all[2], &at("a"), Level::Restored, start()).unwrap();
    let cases = [
        (None, "it is missing"),
        (Some(good.slice(..good.len() - 1)), "bytes, not"),
        (Some(flipped(&good)), "its bytes were changed"),
        (Some(Bytes::from([&good[..], b"x"].concat())), "it has more than its"),
    ];
    for (content, expected) in cases {
        repository.a.tamper(&key, content);
        for report in [own(&repository).await, publisher(&repository).await] {
            let problem = only(&report, &key);
            assert!(problem.contains(expected), "{problem}");
            assert!(report.targets[0].intact < 3 && report.targets[1].intact == 3);
        }
    }
    assert_eq!(repository.state.lost_packs(&repository.database).unwrap(), [pack.sha256]);
    let here = levels(&repository, &all[1], "a");
    assert!(here.intact.is_none() && here.stored.is_some());
    assert!(levels(&repository, &all[1], "b").intact.is_some());
    let needs = |s: &&SnapshotId| repository.receipt(s).objects.contains(&pack);
    for snapshot in all.iter().filter(needs) {
        assert!(levels(&repository, snapshot, "a").restored.is_none());
    }
    // Nothing that is lost is referred to again, so the next snapshot is whole everywhere.
    let next = repository.snapshot(3).await.snapshot;
    assert!(!repository.receipt(&next).objects.contains(&pack));
    own(&repository).await;
    assert!(levels(&repository, &next, "a").intact.is_some());
}

#[tokio::test(start_paused = true)]
async fn swapped_objects_are_recognised() {
    let repository = sound().await;
    let all = snapshots(&repository);
    let objects: Vec<_> = all[..2]
        .iter()
        .map(|s| repository.receipt(s).object(&manifest_of(&repository, s)).unwrap().clone())
        .collect();
    let keys: Vec<_> = objects.iter().map(|o| repository.key(&o.key)).collect();
    let contents = [bytes(&*repository.a, &keys[0]).await, bytes(&*repository.a, &keys[1]).await];
    repository.a.tamper(&keys[0], Some(contents[1].clone()));
    repository.a.tamper(&keys[1], Some(contents[0].clone()));
    let report = own(&repository).await;
    assert_eq!(report.damaged.len(), 2, "{report:#?}");
    for (n, key) in keys.iter().enumerate() {
        let damage = report.damaged.iter().find(|d| d.object == key.as_str()).unwrap();
        assert_eq!(damage.problem, format!("it holds the bytes of {}", objects[1 - n].key));
    }
    // A manifest is no pack: it is not sent again.
    assert!(repository.state.lost_packs(&repository.database).unwrap().is_empty());
}

fn manifest_of(repository: &Repository, snapshot: &SnapshotId) -> String {
    crate::repository::layout::manifest(&repository.receipt(snapshot).epoch, snapshot)
}

#[tokio::test(start_paused = true)]
async fn a_good_older_version_is_told() {
    let repository = Repository::of(2, MemoryTarget::versioned).await;
    let all = snapshots(&repository);
    let key = repository.key(&repository.pack(&all[1]).key);
    let good = bytes(&*repository.a, &key).await;
    for over in [None, Some(flipped(&good))] {
        repository.a.tamper(&key, over);
        let report = own(&repository).await;
        let problem = only(&report, &key);
        assert!(
            problem.ends_with(
                "its older version 1 is good, so it can still be restored: somebody deleted or overwrote it"
            ),
            "{problem}"
        );
    }
    repository.a.tamper(&key, Some(good));
    let receipt = receipt_key(&repository, &all[1]);
    for over in [None, Some(Bytes::from_static(b"{}"))] {
        repository.a.tamper(&receipt, over);
        let report = own(&repository).await;
        let problem = only(&report, &receipt);
        assert!(problem.ends_with("an older version is good: somebody deleted or overwrote it"), "{problem}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_missing_receipt_is_damage_where_it_must_be() {
    let repository = sound().await;
    let all = snapshots(&repository);
    let key = receipt_key(&repository, &all[1]);
    repository.a.tamper(&key, None);
    assert!(only(&own(&repository).await, &key).contains("it was stored here"));
    assert!(levels(&repository, &all[1], "a").intact.is_none());
    assert!(only(&publisher(&repository).await, &key).contains("b has it"));
    // Gone everywhere: the agent still knows what was where, and anybody sees the gap.
    repository.b.tamper(&key, None);
    let report = own(&repository).await;
    assert_eq!(
        (report.damaged.len(), &report.chain[..]),
        (2, &["receipt number 2 is missing".to_owned()][..])
    );
    let report = publisher(&repository).await;
    assert_eq!((report.damaged.len(), report.chain.len()), (0, 1));
    assert_eq!(kind(&report), Some(ErrorKind::Verification));
}

#[tokio::test(start_paused = true)]
async fn what_never_came_is_behind_and_no_damage() {
    let repository = Repository::of(1, MemoryTarget::new).await;
    repository.snapshot_to(1, vec![named("b", repository.b.clone())], &repository.state).await;
    let report = own(&repository).await;
    assert_eq!(kind(&report), Some(ErrorKind::Degraded), "{report:#?}");
    assert_eq!((report.targets[0].behind, report.targets[0].snapshots), (1, 1));
    // An agent that lost its state learns again what must be where.
    let state = State::open(&repository.folder.path().join("other")).unwrap();
    let targets = repository.targets();
    let report = verify(&repository, targets.clone(), Some(&state)).await;
    assert_eq!(kind(&report), Some(ErrorKind::Degraded), "{report:#?}");
    let newest = repository.state.head(&repository.database).unwrap().unwrap().snapshot;
    repository.b.tamper(&receipt_key(&repository, &newest), None);
    let report = verify(&repository, targets, Some(&state)).await;
    assert_eq!(report.damaged.len(), 1, "{report:#?}");
}

#[tokio::test(start_paused = true)]
async fn receipts_that_nobody_trusted_signed_are_damage() {
    let repository = sound().await;
    let all = snapshots(&repository);
    let (key, signature) = (receipt_key(&repository, &all[1]), signature_key(&repository, &all[1]));
    let good = [bytes(&*repository.a, &key).await, bytes(&*repository.a, &signature).await];
    let stranger = SigningKey::generate("").unwrap();
    let strange = stranger.sign(Namespace::SnapshotReceipt, &good[0]).unwrap();
    let edited = String::from_utf8(good[0].to_vec()).unwrap().replace("\"rows\":", "\"rows\":1");
    let signed_as_other = repository.signing_key().sign(Namespace::DrillReceipt, &good[0]).unwrap();
    let cases: [(&ObjectKey, Option<String>, &str); 5] = [
        (&key, Some(edited), "has been changed"),
        (&signature, None, "is missing"),
        (&signature, Some("no signature".to_owned()), "cannot be read"),
        (&signature, Some(strange), "which is not trusted"),
        (&signature, Some(signed_as_other), "is about drill-receipt@marbre"),
    ];
    for (at_key, content, expected) in cases {
        repository.a.tamper(at_key, content.map(Bytes::from));
        for report in [own(&repository).await, publisher(&repository).await] {
            let problem = only(&report, &key);
            assert!(problem.contains(expected), "{problem}");
            assert_eq!(report.targets[0].intact, 2);
        }
        assert!(levels(&repository, &all[1], "a").intact.is_none());
        repository.a.tamper(&key, Some(good[0].clone()));
        repository.a.tamper(&signature, Some(good[1].clone()));
    }
    assert_eq!(kind(&own(&repository).await), None);
}

/// Puts a receipt with its signature at a target, over whatever is there.
async fn plant(
    repository: &Repository,
    target: &MemoryTarget,
    receipt: &crate::repository::receipt::Receipt,
) {
    let bytes = receipt.to_bytes().unwrap();
    let signature = repository.signing_key().sign(Namespace::SnapshotReceipt, &bytes).unwrap();
    target.tamper(&receipt_key(repository, &receipt.snapshot), Some(bytes.into()));
    target.tamper(&signature_key(repository, &receipt.snapshot), Some(signature.into()));
}

#[tokio::test(start_paused = true)]
async fn two_signed_receipts_of_one_snapshot() {
    let repository = sound().await;
    let all = snapshots(&repository);
    let mut other = repository.receipt(&all[2]);
    other.rows += 1;
    plant(&repository, &repository.a, &other).await;
    let key = receipt_key(&repository, &all[2]);
    assert!(only(&own(&repository).await, &key).contains("two different receipts"));
    // Without a memory nobody can say which is right; that there are two is damage all the same.
    let report = publisher(&repository).await;
    assert_eq!(kind(&report), Some(ErrorKind::Verification));
    assert!(report.damaged.iter().any(|d| d.problem.contains("two different receipts")), "{report:#?}");
}

#[tokio::test(start_paused = true)]
async fn breaks_of_the_chain() {
    let repository = sound().await;
    let all = snapshots(&repository);
    // An edit by whoever has the signing key, at every target: only the chain shows it.
    let mut edited = repository.receipt(&all[1]);
    edited.rows += 1;
    for target in [&repository.a, &repository.b] {
        plant(&repository, target, &edited).await;
    }
    let report = publisher(&repository).await;
    assert_eq!(report.damaged, []);
    assert!(report.chain[0].contains("does not continue the one before it"), "{report:#?}");
    assert_eq!(kind(&report), Some(ErrorKind::Verification));

    let repository = sound().await;
    let all = snapshots(&repository);
    let mut twin = repository.receipt(&all[1]);
    let epoch = crate::repository::layout::manifest(&twin.epoch, &twin.snapshot);
    twin.snapshot = "20261123T020001Z-00000000".parse().unwrap();
    let manifest = crate::repository::layout::manifest(&twin.epoch, &twin.snapshot);
    twin.objects.iter_mut().find(|o| o.key == epoch).unwrap().key = manifest;
    twin.objects.sort();
    plant(&repository, &repository.a, &twin).await;
    let report = publisher(&repository).await;
    assert!(report.chain.iter().any(|c| c.contains("both claim to be receipt number 2")), "{report:#?}");

    // An old state shown again, whole in itself: only who saw the newer one can tell.
    let repository = sound().await;
    let newest = snapshots(&repository).pop().unwrap();
    for target in [&repository.a, &repository.b] {
        target.tamper(&receipt_key(&repository, &newest), None);
    }
    assert_eq!(kind(&publisher(&repository).await), None);
    let report = own(&repository).await;
    assert!(report.chain.iter().any(|c| c.contains("an old state is being shown")), "{report:#?}");
}

fn faulty(repository: &Repository, plan: impl Fn(Faulty<Shared>) -> Faulty<Shared>) -> Vec<NamedTarget> {
    let faulty = plan(Faulty::new(Shared { target: repository.a.clone(), overwrites: false }));
    vec![named("a", Arc::new(faulty)), named("b", repository.b.clone())]
}

#[tokio::test(start_paused = true)]
async fn broken_streams_are_read_again() {
    let repository = Repository::of(1, MemoryTarget::new).await;
    for fault in [Fault::Break(10), Fault::Truncate(10), Fault::FlipBit(10)] {
        let targets = faulty(&repository, |f| f.with_key(Operation::Get, "/packs/", 1..=1, fault));
        assert_eq!(kind(&verify(&repository, targets, None).await), None, "{fault:?}");
    }
    let always = faulty(&repository, |f| f.with_key(Operation::Get, "/packs/", 1..=99, Fault::Break(10)));
    let report = verify(&repository, always, None).await;
    assert!(report.damaged[0].problem.contains("it cannot be read"), "{report:#?}");
}

#[tokio::test(start_paused = true)]
async fn an_unreachable_target_is_no_damage() {
    let repository = Repository::of(1, MemoryTarget::new).await;
    // The second snapshot is only at `a`, which then goes away.
    repository.snapshot_to(1, vec![named("a", repository.a.clone())], &repository.state).await;
    repository.snapshot(2).await;
    let down = Fault::Fail(TargetErrorKind::Unavailable);
    for operation in [Operation::List, Operation::Get] {
        let targets =
            faulty(&repository, |f| f.with(operation, 1..=999, down).with(Operation::Head, 1..=999, down));
        for state in [None, Some(&repository.state)] {
            let report = verify(&repository, targets.clone(), state).await;
            assert_eq!(kind(&report), Some(ErrorKind::Target), "{report:#?}");
            assert!(report.targets[0].error.is_some() && report.targets[0].remedy.is_some());
            assert_eq!((report.targets[0].intact, report.targets[1].intact), (0, 2));
        }
    }
    // It goes away while its objects are read.
    let targets = faulty(&repository, |f| {
        f.with_key(Operation::Get, "/epochs/", 1..=999, down).with(Operation::Head, 1..=999, down)
    });
    let report = verify(&repository, targets, None).await;
    assert_eq!(kind(&report), Some(ErrorKind::Verification), "`b` lacks a receipt that `a` shows");
    assert!(report.targets[0].error.is_some());
    assert!(report.damaged.iter().all(|d| d.target.as_str() == "b"));
}

#[tokio::test(start_paused = true)]
async fn an_empty_target_proves_nothing() {
    let repository = Repository::new();
    assert_eq!(kind(&publisher(&repository).await), Some(ErrorKind::NotFound));
}

#[tokio::test(start_paused = true)]
async fn cancelled() {
    let repository = Repository::of(1, MemoryTarget::new).await;
    let cancel = CancellationToken::new();
    cancel.cancel();
    let job = VerifyJob {
        database: repository.database.clone(),
        targets: repository.targets(),
        trust: repository.trust(),
        state: None,
        snapshot: None,
    };
    assert_eq!(job.run(Arc::new(Silent), &cancel).await.unwrap_err().kind(), ErrorKind::Interrupted);
}
