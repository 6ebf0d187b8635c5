use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use jiff::SignedDuration;

use super::*;
use crate::job::testing::{Repository, Silent, named, start};
use crate::job::verify::{VerifyJob, VerifyReport};
use crate::model::object::ObjectKey;
use crate::model::place::Root;
use crate::targets::memory::MemoryTarget;
use crate::targets::wrapper::faulty::{Fault, Faulty, Operation};
use crate::targets::wrapper::{Answer, Call, Wrapper};
use crate::targets::{Target, TargetError, TargetErrorKind, TargetExt, Upload};

const DAY: i64 = 24;

/// A target at which something happens before the first object with this in its key is read.
struct Meanwhile {
    target: Arc<MemoryTarget>,
    before: &'static str,
    happens: tokio::sync::Mutex<Option<BoxFuture<'static, ()>>>,
}

impl std::fmt::Debug for Meanwhile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Meanwhile").finish_non_exhaustive()
    }
}

#[async_trait::async_trait]
impl Wrapper for Meanwhile {
    fn description(&self) -> String {
        "memory".to_owned()
    }

    fn root_identity(&self) -> Option<Root> {
        None
    }

    async fn call(&self, call: Call<'_>, cancel: &CancellationToken) -> Result<Answer, TargetError> {
        if matches!(call, Call::Get { .. }) && call.key().contains(self.before) {
            let mut happens = self.happens.lock().await;
            if let Some(happens) = happens.take() {
                happens.await;
            }
        }
        call.run(&*self.target, cancel).await
    }
}

fn job(repository: &Repository, last: u64) -> PruneJob {
    PruneJob {
        database: repository.database.clone(),
        targets: repository.targets(),
        trust: repository.trust(),
        state: repository.state.clone(),
        signing_key: repository.signing_key(),
        rows_limit: crate::model::loss::DEFAULT_LIMIT,
        policy: Policy { last, ..Policy::default() },
        time_zone: TimeZone::UTC,
        max_delete: 50,
        grace: Duration::from_secs(7 * 86_400),
        dry_run: false,
    }
}

/// A prune on this day.
async fn prune(job: PruneJob, day: i64) -> PruneReport {
    let now = start() + SignedDuration::from_hours(DAY * day);
    job.run(now, Arc::new(Silent), &CancellationToken::new()).await.unwrap()
}

async fn verify(repository: &Repository, targets: Vec<NamedTarget>, state: Option<State>) -> VerifyReport {
    let job = VerifyJob {
        database: repository.database.clone(),
        targets,
        trust: repository.trust(),
        state,
        snapshot: None,
    };
    job.run(Arc::new(Silent), &CancellationToken::new()).await.unwrap()
}

/// Everything is good, with any selection of targets.
async fn sound(repository: &Repository) {
    let all = repository.targets();
    for targets in [all.clone(), all[..1].to_vec(), all[1..].to_vec()] {
        for state in [None, Some(repository.state.clone())] {
            let report = verify(repository, targets.clone(), state).await;
            assert_eq!((&report.damaged, &report.chain), (&vec![], &vec![]));
            assert!(report.error().is_none());
        }
    }
}

async fn keys(target: &MemoryTarget) -> Vec<String> {
    let listed = target.list_all(None, &CancellationToken::new()).await.unwrap();
    listed.into_iter().map(|o| o.key.to_string()).collect()
}

fn number(keys: &[String], part: &str) -> usize {
    keys.iter().filter(|k| k.contains(part)).count()
}

#[tokio::test]
async fn receipts_go_first_and_objects_after_their_time() {
    for make in [MemoryTarget::new, MemoryTarget::versioned] {
        // Number 0 begins the epoch and stays; 3 and 4 are the last.
        let repository = Repository::of(5, make).await;
        let before = keys(&repository.a).await;
        let dry = prune(PruneJob { dry_run: true, ..job(&repository, 2) }, 5).await;
        assert_eq!((dry.kept.len(), dry.deleted.len()), (3, 2));
        assert_eq!(keys(&repository.a).await, before);

        let report = prune(job(&repository, 2), 5).await;
        assert_eq!((&report.kept, &report.deleted), (&dry.kept, &dry.deleted));
        assert!(report.error().is_none());
        for target in &report.targets {
            // Two manifests wait; their packs are those that later snapshots refer to, or wait too.
            assert_eq!((target.receipts, target.objects, target.locked), (2, 0, 0));
            assert!(target.waiting >= 2, "{target:?}");
        }
        let after = keys(&repository.a).await;
        assert_eq!(number(&after, "/receipts/"), 6);
        assert_eq!(number(&after, "/prunes/"), 2);
        sound(&repository).await;

        assert_eq!(prune(job(&repository, 2), 8).await.targets[0].objects, 0);
        assert_eq!(prune(job(&repository, 2), 11).await.targets[0].objects, 0);
        let report = prune(job(&repository, 2), 12).await;
        assert!(report.deleted.is_empty());
        assert!(report.targets.iter().all(|t| t.objects >= 2 && t.waiting == 0), "{report:?}");
        assert_eq!(number(&keys(&repository.b).await, "/manifests/"), 3);
        sound(&repository).await;
        // The next snapshot goes on from what is left.
        repository.snapshot(14).await;
        sound(&repository).await;
    }
}

#[tokio::test]
async fn a_receipt_that_no_record_names_is_still_missed() {
    let repository = Repository::of(5, MemoryTarget::new).await;
    let report = prune(job(&repository, 2), 5).await;
    let receipt = repository.key(&format!("receipts/{}.json", report.kept[1].snapshot));
    repository.a.tamper(&receipt, None);
    repository.b.tamper(&receipt, None);
    let found = verify(&repository, repository.targets(), None).await;
    assert_eq!(found.chain, ["receipt number 4 is missing"]);
    // A record that was changed says nothing, and is itself found.
    let repository = Repository::of(5, MemoryTarget::new).await;
    prune(job(&repository, 2), 5).await;
    let record =
        keys(&repository.a).await.into_iter().find(|k| k.contains("/prunes/") && k.ends_with(".json"));
    repository.a.tamper(&record.unwrap().parse().unwrap(), Some("{}".into()));
    let found = verify(&repository, repository.targets()[..1].to_vec(), None).await;
    assert_eq!((found.damaged.len(), found.chain.len()), (1, 1), "{found:?}");
}

#[tokio::test]
async fn an_unreachable_target_is_caught_up_later() {
    let repository = Repository::of(5, MemoryTarget::new).await;
    let fail = Fault::Fail(TargetErrorKind::Unavailable);
    let down = Faulty::new(repository.b.clone()).with(Operation::List, 1..=u64::MAX, fail);
    let targets = vec![named("a", repository.a.clone()), named("b", Arc::new(down))];
    let report = prune(PruneJob { targets, ..job(&repository, 2) }, 5).await;
    assert_eq!(report.error().unwrap().kind(), ErrorKind::Degraded);
    assert_eq!((report.targets[0].receipts, report.targets[1].receipts), (2, 0));
    sound(&repository).await;
    let report = prune(job(&repository, 2), 6).await;
    assert_eq!((report.targets[0].receipts, report.targets[1].receipts), (0, 2));
    assert_eq!(number(&keys(&repository.b).await, "/prunes/"), 2, "the record of the first run is enough");
    sound(&repository).await;
}

#[tokio::test]
async fn what_a_target_refuses_is_left_and_tried_again() {
    let repository = Repository::of(5, MemoryTarget::new).await;
    let refuse = Fault::Fail(TargetErrorKind::Refused);
    let locked = Faulty::new(repository.b.clone()).with(Operation::Delete, 1..=u64::MAX, refuse);
    let targets = vec![named("a", repository.a.clone()), named("b", Arc::new(locked))];
    let held = || PruneJob { targets: targets.clone(), ..job(&repository, 2) };
    let report = prune(held(), 5).await;
    assert_eq!((report.targets[1].receipts, report.targets[1].locked), (0, 2));
    assert_eq!(report.error().unwrap().kind(), ErrorKind::Degraded);
    // While its receipts are there, what they name stays there, however long.
    prune(held(), 50).await;
    let report = prune(held(), 100).await;
    assert!(report.targets[0].objects >= 2);
    assert_eq!((report.targets[1].objects, report.targets[1].waiting), (0, 0));
    sound(&repository).await;
    for day in [101, 105, 110] {
        prune(job(&repository, 2), day).await;
    }
    assert_eq!(keys(&repository.a).await, keys(&repository.b).await);
    sound(&repository).await;
}

#[tokio::test]
async fn any_call_may_be_the_last() {
    let whole = Repository::of(5, MemoryTarget::new).await;
    for day in [5, 9, 13] {
        prune(job(&whole, 2), day).await;
    }
    let expected = keys(&whole.a).await.len();
    for (operation, calls) in [(Operation::Put, 2), (Operation::Delete, 8)] {
        for call in 1..=calls {
            let repository = Repository::of(5, MemoryTarget::new).await;
            let cut = Fault::FailAfter;
            let faulty = Arc::new(Faulty::new(repository.a.clone()).with(operation, call..=u64::MAX, cut));
            for day in [5, 9, 13] {
                let targets = vec![named("a", faulty.clone()), named("b", repository.b.clone())];
                prune(PruneJob { targets, ..job(&repository, 2) }, day).await;
                sound(&repository).await;
            }
            for day in [14, 20, 30] {
                prune(job(&repository, 2), day).await;
            }
            sound(&repository).await;
            assert_eq!(keys(&repository.a).await.len(), expected, "{operation:?} {call}");
        }
    }
}

#[tokio::test]
async fn what_nobody_can_read_keeps_every_object() {
    let repository = Repository::of(5, MemoryTarget::new).await;
    let snapshots = repository.state.stored_at(&repository.database, &"a".parse().unwrap()).unwrap();
    let lost_state = State::open(&repository.folder.path().join("other")).unwrap();
    for target in [&repository.a, &repository.b] {
        target.tamper(&repository.key(&format!("receipts/{}.json", snapshots[3])), Some("{}".into()));
    }
    for day in [5, 20, 30] {
        let report = prune(PruneJob { state: lost_state.clone(), ..job(&repository, 1) }, day).await;
        assert!(report.targets.iter().all(|t| t.objects == 0), "{report:?}");
        // Both copies, and the gap that they leave.
        assert_eq!(report.warnings.len(), 3);
        assert_eq!(report.error().unwrap().kind(), ErrorKind::Degraded);
    }
}

#[tokio::test]
async fn a_clock_that_jumps_ends_no_time_of_grace() {
    let repository = Repository::of(5, MemoryTarget::new).await;
    prune(job(&repository, 2), 5).await;
    let before = keys(&repository.a).await;
    // Ten years ahead, and back again: half of the time is over, and no more. No snapshot goes that would stay.
    for day in [3657, 3657, 3658, 6, 7, -3000] {
        let report = prune(job(&repository, 2), day).await;
        assert_eq!((report.deleted.len(), report.targets[0].objects), (0, 0), "day {day}");
        assert!(report.targets[0].waiting >= 2);
    }
    assert_eq!(keys(&repository.a).await, before);
    sound(&repository).await;
    // What really passes counts again.
    assert_eq!(prune(job(&repository, 2), 8).await.targets[0].waiting, 0);
    sound(&repository).await;
}

#[tokio::test]
async fn what_is_needed_again_waits_anew() {
    let repository = Repository::of(5, MemoryTarget::new).await;
    let report = prune(job(&repository, 2), 5).await;
    let waiting = report.targets[0].waiting;
    prune(job(&repository, 2), 8).await;
    // Somebody brings a receipt back: its objects are needed for as long as it is there.
    let state = &repository.state;
    let a = "a".parse().unwrap();
    let noted = state.unneeded(&repository.database, &a).unwrap();
    assert_eq!(noted.len() as u64, waiting);
    let half = Duration::from_secs(3 * 86_400);
    assert!(noted.values().all(|w| w.time == half), "{noted:?}");
    let some = noted.iter().take(1).map(|(key, waited)| (key.clone(), *waited)).collect();
    state.set_unneeded(&repository.database, &a, &some).unwrap();
    let report = prune(job(&repository, 2), 12).await;
    assert_eq!((report.targets[0].objects, report.targets[0].waiting), (0, waiting));
    assert_eq!(prune(job(&repository, 2), 13).await.targets[0].objects, 1);
}

#[tokio::test]
async fn a_decision_stands_though_the_rules_have_changed() {
    let repository = Repository::of(5, MemoryTarget::new).await;
    let fail = Fault::Fail(TargetErrorKind::Unavailable);
    let down = Faulty::new(repository.b.clone()).with(Operation::List, 1..=u64::MAX, fail);
    let targets = vec![named("a", repository.a.clone()), named("b", Arc::new(down))];
    prune(PruneJob { targets, ..job(&repository, 2) }, 5).await;
    let report = prune(job(&repository, 100), 6).await;
    assert_eq!((report.deleted.len(), report.targets[1].receipts), (2, 2), "{report:?}");
    assert_eq!(report.deleted[0].reason, "an earlier run has decided so");
    assert_eq!(number(&keys(&repository.b).await, "/prunes/"), 2);
    sound(&repository).await;
    // And so it does where every target has lost the record: the agent remembers it, and puts it back.
    for target in [&repository.a, &repository.b] {
        for key in keys(target).await.iter().filter(|k| k.contains("/prunes/")) {
            target.tamper(&key.parse().unwrap(), None);
        }
    }
    prune(job(&repository, 100), 7).await;
    sound(&repository).await;
}

#[tokio::test]
async fn a_verification_meanwhile_finds_no_damage_that_is_none() {
    for before in ["/receipts/", "/packs/"] {
        for own in [true, false] {
            let repository = Repository::of(5, MemoryTarget::new).await;
            let at_once = PruneJob { grace: Duration::ZERO, ..job(&repository, 2) };
            let happens = async move {
                let report = prune(at_once, 5).await;
                assert_eq!(report.deleted.len(), 2);
                assert!(report.targets.iter().all(|t| t.objects > 0), "{report:?}");
            };
            let happens = tokio::sync::Mutex::new(Some(happens.boxed()));
            let target = Meanwhile { target: repository.a.clone(), before, happens };
            let targets = vec![named("a", Arc::new(target)), named("b", repository.b.clone())];
            let report = verify(&repository, targets, own.then(|| repository.state.clone())).await;
            assert_eq!((&report.damaged, &report.chain), (&vec![], &vec![]), "{before} {own}");
            let a = &report.targets[0];
            assert_eq!((a.snapshots, a.intact), (3, 3), "{before} {own}");
            sound(&repository).await;
        }
    }
}

#[tokio::test]
async fn what_vanishes_meanwhile_without_a_record_is_damage() {
    let repository = Repository::of(3, MemoryTarget::new).await;
    let victim = repository.state.stored_at(&repository.database, &"a".parse().unwrap()).unwrap()[1].clone();
    let gone = [format!("receipts/{victim}.json"), repository.pack(&victim).key].map(|k| repository.key(&k));
    let target = repository.a.clone();
    let happens = async move { gone.iter().for_each(|key| target.tamper(key, None)) };
    let happens = tokio::sync::Mutex::new(Some(happens.boxed()));
    let target = Meanwhile { target: repository.a.clone(), before: "/packs/", happens };
    let report = verify(&repository, vec![named("a", Arc::new(target))], None).await;
    assert!(report.damaged.iter().any(|d| d.problem.contains("missing")), "{report:?}");
}

#[tokio::test]
async fn without_rules_only_what_no_receipt_names_goes() {
    let repository = Repository::of(3, MemoryTarget::new).await;
    let before = keys(&repository.a).await;
    let pack = before.iter().find(|key| key.contains("/packs/")).unwrap();
    let orphan: ObjectKey = format!("{}/00.zst.age", pack.rsplit_once('/').unwrap().0).parse().unwrap();
    let put = async || {
        let upload = Upload::memory(vec![7; 500]);
        repository.a.put(&orphan, &upload, &CancellationToken::new()).await.unwrap();
    };
    let rules = || PruneJob { policy: Policy::default(), ..job(&repository, 1) };
    put().await;
    let report = prune(rules(), 3).await;
    assert_eq!((report.deleted.len(), report.kept.len(), report.targets[0].waiting_bytes), (0, 3, 500));
    assert_eq!(repository.state.unneeded_bytes(&repository.database, &"a".parse().unwrap()).unwrap(), 500);
    // Credentials that may not delete are no failure here.
    let refused = Fault::Fail(TargetErrorKind::Refused);
    let guarded = Faulty::new(repository.a.clone()).with(Operation::Delete, 1..=9, refused);
    let targets = vec![named("a", Arc::new(guarded)), named("b", repository.b.clone())];
    let report = prune(PruneJob { targets, grace: Duration::ZERO, ..rules() }, 3).await;
    assert_eq!((report.targets[0].locked, report.error().is_none()), (1, true), "{report:?}");
    let report = prune(PruneJob { grace: Duration::ZERO, ..rules() }, 3).await;
    assert_eq!((report.targets[0].objects, report.targets[0].bytes), (1, 500), "{report:?}");
    assert_eq!(keys(&repository.a).await, before);
    sound(&repository).await;
}
