//! Whether a target does what snapshots rely on: put without overwriting, get, list.
//!
//! marbre cannot delete, and must not leave objects behind at every run: the probe is one object per target, always of the
//! same content, which the first `doctor` puts there and every later one finds.

use futures_util::TryStreamExt;
use tokio_util::sync::CancellationToken;

use crate::model::check::{Check, CheckState};
use crate::model::object::ObjectKey;
use crate::repository::put::NOT_LISTED;
use crate::targets::{PutOutcome, Target, TargetError, TargetErrorKind, TargetExt, Upload};

use super::{check, ok};

/// The key of the probe.
pub(super) const KEY: &str = "marbre-doctor/probe";
/// Its content, the same in all releases.
pub(super) const CONTENT: &[u8] =
    b"marbre doctor looks with this object whether this target keeps what it is given. It may stay.\n";

const LIST: &str = "list";
const PUT: &str = "put";
const NO_OVERWRITE: &str = "create-if-absent";
const GET: &str = "get";

/// Looks at one target.
pub(super) async fn checks(target: &dyn Target, cancel: &CancellationToken) -> Vec<Check> {
    let key: ObjectKey = match KEY.parse() {
        Ok(key) => key,
        Err(e) => return vec![check(LIST, CheckState::Skipped, e.to_string(), None)],
    };
    let mut checks = vec![listable(target, cancel).await];
    if checks[0].state == CheckState::Fail {
        checks.extend([PUT, NO_OVERWRITE, GET].map(|name| skipped(name, "the target cannot be listed")));
        return checks;
    }
    let upload = Upload::memory(CONTENT);
    match target.put(&key, &upload, cancel).await {
        Ok(PutOutcome::Created { .. }) => checks.push(ok(PUT, format!("{KEY} was created"))),
        Ok(PutOutcome::Exists) => checks.push(ok(PUT, format!("{KEY} is there already"))),
        Err(e) => {
            checks.push(failed(PUT, &e));
            checks.extend([NO_OVERWRITE, GET].map(|name| skipped(name, "nothing could be put")));
            return checks;
        }
    }
    if checks[0].state == CheckState::Ok {
        checks[0] = listed(target, &key, cancel).await;
    }
    checks.push(match target.put(&key, &upload, cancel).await {
        Ok(PutOutcome::Exists) => ok(NO_OVERWRITE, "what is there is not overwritten"),
        Ok(PutOutcome::Created { .. }) => check(
            NO_OVERWRITE,
            CheckState::Fail,
            "the target accepted an object whose key was taken: it overwrites what it should keep",
            Some("Use a target that honours `If-None-Match: *` on put; update the server, or take another."),
        ),
        Err(e) => failed(NO_OVERWRITE, &e),
    });
    checks.push(get(target, &key, cancel).await);
    checks
}

/// Whether lists are answered at all.
async fn listable(target: &dyn Target, cancel: &CancellationToken) -> Check {
    let prefix: Option<ObjectKey> = KEY.split('/').next().and_then(|p| p.parse().ok());
    // One page says that it may be listed.
    let listed = async { target.list(prefix.as_ref(), None, cancel).await?.try_next().await };
    match listed.await {
        Ok(_) => ok(LIST, target.describe()),
        // A credential that may only put is a good idea on the agent; others then list.
        Err(e) if e.kind == TargetErrorKind::Denied => check(
            LIST,
            CheckState::Warn,
            e.to_string(),
            Some(
                "Snapshots can be put, but `list`, `status` and `verify` need credentials that may list and get.",
            ),
        ),
        Err(e) => failed(LIST, &e),
    }
}

/// Whether a list shows what was put.
async fn listed(target: &dyn Target, key: &ObjectKey, cancel: &CancellationToken) -> Check {
    match target.is_listed(key, cancel).await {
        Ok(true) => ok(LIST, format!("{}: what was put is listed", target.describe())),
        Ok(false) => {
            let found = format!("{}: {key} was put, and no list shows it", target.describe());
            check(LIST, CheckState::Fail, found, Some(NOT_LISTED))
        }
        Err(e) => failed(LIST, &e),
    }
}

async fn get(target: &dyn Target, key: &ObjectKey, cancel: &CancellationToken) -> Check {
    match target.fetch_small(key, 2 * CONTENT.len() as u64, cancel).await {
        Ok(bytes) if bytes == CONTENT => ok(GET, "what was put comes back equal"),
        Ok(_) => changed("what comes back is not what was put"),
        Err(e) if e.kind == TargetErrorKind::Corrupt => changed(&e.to_string()),
        Err(e) if e.kind == TargetErrorKind::Denied => check(
            GET,
            CheckState::Warn,
            e.to_string(),
            Some("Snapshots can be put, but `verify` and `restore` need credentials that may get."),
        ),
        Err(e) => failed(GET, &e),
    }
}

fn changed(found: &str) -> Check {
    let remedy = "The target changes what it keeps, or somebody does: find out before you rely on it.";
    check(GET, CheckState::Fail, found, Some(remedy))
}

fn failed(name: &str, e: &TargetError) -> Check {
    check(name, CheckState::Fail, e.to_string(), Some(e.remedy()))
}

fn skipped(name: &str, why: &str) -> Check {
    check(name, CheckState::Skipped, why, None)
}
