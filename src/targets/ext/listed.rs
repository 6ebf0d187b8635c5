//! Whether what was put is listed: readers find snapshots by lists alone, so what no list shows is not there for them.

use std::time::Duration;

use futures_util::TryStreamExt;
use tokio_util::sync::CancellationToken;

use crate::model::object::ObjectKey;
use crate::targets::{Target, TargetError};

/// The pauses after which a list is asked again. Some services show what was put a little later.
const PAUSES: [Duration; 4] =
    [Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(4), Duration::from_secs(8)];

/// Asks for a list until it shows an object, or has not done so for too long.
pub(super) async fn is_listed(
    target: &(impl Target + ?Sized),
    key: &ObjectKey,
    cancel: &CancellationToken,
) -> Result<bool, TargetError> {
    let mut pauses = PAUSES.into_iter();
    loop {
        if is_listed_now(target, key, cancel).await? {
            return Ok(true);
        }
        let Some(pause) = pauses.next() else { return Ok(false) };
        tokio::select! {
            biased;
            () = cancel.cancelled() => {
                return Err(TargetError::cancelled(format!("look for {key} in a list of {}", target.describe())));
            }
            () = tokio::time::sleep(pause) => {}
        }
    }
}

async fn is_listed_now(
    target: &(impl Target + ?Sized),
    key: &ObjectKey,
    cancel: &CancellationToken,
) -> Result<bool, TargetError> {
    let folder: Option<ObjectKey> = key.as_str().rsplit_once('/').and_then(|(folder, _)| folder.parse().ok());
    let mut pages = target.list(folder.as_ref(), before(key).as_ref(), cancel).await?;
    while let Some(page) = pages.try_next().await? {
        if page.iter().any(|object| object.key == *key && !object.hidden) {
            return Ok(true);
        }
        if page.last().is_some_and(|last| last.key > *key) {
            return Ok(false);
        }
    }
    Ok(false)
}

/// A key shortly before this one, so that a list of a large folder begins there.
fn before(key: &ObjectKey) -> Option<ObjectKey> {
    key.as_str().get(..key.as_str().len() - 1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::targets::memory::MemoryTarget;
    use crate::targets::wrapper::faulty::{Fault, Faulty, Operation};
    use crate::targets::{TargetErrorKind, Upload};

    async fn ask(fault: Option<(u64, Fault)>, key: &str) -> Result<bool, TargetErrorKind> {
        let mut target = Faulty::new(MemoryTarget::new());
        if let Some((times, fault)) = fault {
            target = target.with(Operation::List, 1..=times, fault);
        }
        let cancel = CancellationToken::new();
        for n in 0..3000 {
            target.put(&format!("a/{n:04}").parse().unwrap(), &Upload::memory("x"), &cancel).await.unwrap();
        }
        is_listed(&target, &key.parse().unwrap(), &cancel).await.map_err(|e| e.kind)
    }

    #[tokio::test(start_paused = true)]
    async fn a_list_may_be_late_and_must_not_stay_empty() {
        for key in ["a/0000", "a/1500", "a/2999"] {
            assert_eq!(ask(None, key).await, Ok(true), "{key}");
        }
        for key in ["a/15000", "a/x", "a", "b/1500"] {
            assert_eq!(ask(None, key).await, Ok(false), "{key}");
        }
        assert_eq!(ask(Some((4, Fault::Conceal)), "a/1500").await, Ok(true));
        assert_eq!(ask(Some((5, Fault::Conceal)), "a/1500").await, Ok(false));
        let denied = Fault::Fail(TargetErrorKind::Denied);
        assert_eq!(ask(Some((1, denied)), "a/1500").await, Err(TargetErrorKind::Denied));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_hidden_is_not_listed() {
        let (target, cancel) = (MemoryTarget::versioned(), CancellationToken::new());
        let key: ObjectKey = "a/b".parse().unwrap();
        target.put(&key, &Upload::memory("x"), &cancel).await.unwrap();
        assert!(is_listed(&target, &key, &cancel).await.unwrap());
        target.tamper(&key, None);
        assert!(!is_listed(&target, &key, &cancel).await.unwrap());
    }
}
