//! What a snapshot asks of a target before it counts as stored there.

use std::sync::Arc;

use crate::job::testing::{Repository, named};
use crate::model::verdict::Word;
use crate::targets::TargetErrorKind;
use crate::targets::wrapper::faulty::{Fault, Faulty, Operation};

#[tokio::test(start_paused = true)]
async fn a_target_that_lists_nothing_gets_no_receipt() {
    let repository = Repository::new();
    let b = || Faulty::new(repository.b.clone());
    let targets = |b| vec![named("a", repository.a.clone()), named("b", Arc::new(b))];
    let concealing = b().with(Operation::List, 1..=99, Fault::Conceal);
    let report = repository.snapshot_to(0, targets(concealing), &repository.state).await;
    let error = report.targets[1].error.clone().unwrap_or_default();
    assert!(report.verdict == Word::Degraded && error.contains("does not list it"), "{report:?}");
    assert!(
        report.targets[1].remedy.as_ref().is_some_and(|r| r.contains("use another target")),
        "{report:?}"
    );
    let kept = repository.b.keys();
    assert!(kept.iter().any(|key| key.as_str().contains("/manifests/")), "{kept:?}");
    assert!(!kept.iter().any(|key| key.as_str().contains("/receipts/")), "{kept:?}");

    // Who may only put is believed: others will look.
    let put_only = b().with(Operation::List, 1..=99, Fault::Fail(TargetErrorKind::Denied));
    let report = repository.snapshot_to(1, targets(put_only), &repository.state).await;
    assert_eq!(report.verdict, Word::Complete, "{report:?}");
    // The one of the day before went to `a` alone, and lists are late.
    let late = b().with_key(Operation::List, "/manifests", 1..=3, Fault::Conceal);
    let report = repository.snapshot_to(2, targets(late), &repository.state).await;
    assert_eq!(report.verdict, Word::Complete, "{report:?}");
}
