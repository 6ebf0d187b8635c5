//! Putting one object to a target, with evidence that it is there.

use tokio_util::sync::CancellationToken;

use crate::error::{Error, ErrorKind, Result};
use crate::model::object::ObjectKey;
use crate::state::{State, noted};
use crate::targets::NamedTarget;
use crate::targets::{Acknowledged, PutOutcome, TargetErrorKind, TargetExt, Upload};

/// Puts one object and demands evidence that the target holds these bytes. An object of other bytes under this key is
/// an error of the kind [`ErrorKind::Verification`].
pub(crate) async fn put(
    target: &NamedTarget,
    state: &State,
    key: &ObjectKey,
    upload: &Upload,
    cancel: &CancellationToken,
) -> Result<Acknowledged> {
    let done = match target.target.put(key, upload, cancel).await? {
        PutOutcome::Created { version, checked } => Acknowledged { version, created: true, checked },
        PutOutcome::Exists => match target.target.compare(key, upload, cancel).await {
            // Credentials that may only put cannot look. The version that this agent once got for it is evidence too.
            Err(e) if e.kind == TargetErrorKind::Denied => match state.version(&target.name, key)? {
                Some(version) => {
                    return Ok(Acknowledged { version: Some(version), created: false, checked: true });
                }
                None => return Err(e.into()),
            },
            compared => compared?,
        },
    };
    if !done.checked {
        let found = target.target.head(key, cancel).await?;
        if found.is_none_or(|f| f.size != upload.size || f.sha256.is_some_and(|s| s != upload.sha256)) {
            return Err(Error::new(
                ErrorKind::Target,
                format!("{} accepted {key}, but does not hold it", target.target.describe()),
            )
            .remedy("The target loses or changes data: do not rely on it."));
        }
    }
    if let Some(version) = &done.version {
        // Without it the newest version is read first, and older ones where that is not good.
        noted(state.remember_version(&target.name, key, version));
    }
    Ok(done)
}

/// Demands that a target lists what was put there: everybody who looks for snapshots, this agent included, finds them in
/// lists. Credentials that may only put cannot look, and others will.
pub(crate) async fn listed(target: &NamedTarget, key: &ObjectKey, cancel: &CancellationToken) -> Result<()> {
    match target.target.is_listed(key, cancel).await {
        Ok(true) => Ok(()),
        Ok(false) => Err(Error::new(
            ErrorKind::Target,
            format!("{} accepted {key}, and does not list it", target.target.describe()),
        )
        .remedy(NOT_LISTED)),
        Err(e) if e.kind == TargetErrorKind::Denied => Ok(()),
        Err(e) => Err(e.into()),
    }
}

/// What helps where a target does not list what it holds.
pub(crate) const NOT_LISTED: &str = "Nobody would find a snapshot there. Make sure that the endpoint is the one of the \
    bucket's region, that nothing between changes answers, and that the credentials may list all of the prefix; or use \
    another target.";
