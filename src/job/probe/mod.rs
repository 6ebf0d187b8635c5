//! Finding out what a target really guarantees, by trying to break it on objects of the probe's own.
//!
//! They lie below `marbre-doctor/`, are a few bytes each, and are removed at the end as far as the target allows. What is
//! locked stays until its lock of some minutes has ended, and goes with the next probe that may delete.

#[cfg(test)]
mod tests;
mod trials;

use jiff::{SignedDuration, Timestamp};
use tokio_util::sync::CancellationToken;

use crate::error::{Error, ErrorKind, Result};
use crate::model::guarantee::{Guarantees, Outcome, Trial};
use crate::model::id::PruneId;
use crate::model::object::ObjectKey;
use crate::model::object_lock::LockMode;
use crate::targets::attack::Attack;
use crate::targets::{Target, TargetError, TargetErrorKind, TargetExt};

/// Where probes put their objects.
pub(crate) const FOLDER: &str = "marbre-doctor";

/// How long a probe locks its own object: longer than clocks differ, and never long.
const LOCK: SignedDuration = SignedDuration::from_mins(5);
/// What it tries to shorten that to.
const SHORTER: SignedDuration = SignedDuration::from_mins(3);
/// What probes left that is older than this goes.
const LEFTOVER: SignedDuration = SignedDuration::from_mins(15);

/// Tries to break a target. `claim` is what the configuration says of its locks. An error says that it could not be reached
/// or that nothing could be put; everything else is in the result.
pub(crate) async fn probe(
    target: &dyn Attack,
    claim: Option<LockMode>,
    now: Timestamp,
    cancel: &CancellationToken,
) -> Result<Guarantees> {
    let random: u32 = rand::random();
    let folder = format!("{FOLDER}/{}-{random:08x}", now.strftime("%Y%m%dT%H%M%SZ"));
    let mut probe = Probe { target, folder, now, cancel, keys: Vec::new() };
    let mut guarantees = Guarantees {
        at: now,
        place: target.describe(),
        caveat: target.caveat().map(str::to_owned),
        trials: Default::default(),
    };
    let done = probe.try_everything(claim, &mut guarantees).await;
    probe.clear().await;
    done.map_err(|e| match e.kind {
        TargetErrorKind::Cancelled => Error::interrupted(),
        _ => Error::from(e).with_kind(ErrorKind::Target),
    })?;
    Ok(guarantees)
}

/// A probe under way.
struct Probe<'a> {
    target: &'a dyn Attack,
    folder: String,
    now: Timestamp,
    cancel: &'a CancellationToken,
    /// What was put.
    keys: Vec<ObjectKey>,
}

impl Probe<'_> {
    async fn try_everything(
        &mut self,
        claim: Option<LockMode>,
        found: &mut Guarantees,
    ) -> Result<(), TargetError> {
        let mut note = |trial, outcome| drop(found.trials.insert(trial, outcome));
        note(Trial::CreateIfAbsent, self.create_if_absent().await?);
        note(Trial::Race, self.race().await?);
        match claim {
            None => {
                let object = self.object("plain", None).await?;
                note(Trial::Overwrite, self.overwrite(&object).await?);
                note(Trial::Delete, self.delete(&object).await?);
                note(Trial::DeleteVersion, self.delete_version(&object).await?);
            }
            Some(mode) => {
                let (object, outcome) = self.locked(mode).await?;
                note(Trial::Lock, outcome);
                let Some((object, lock)) = object else {
                    let why = || Outcome::Untested("no object could be locked".to_owned());
                    for trial in [Trial::Overwrite, Trial::Delete, Trial::DeleteVersion, Trial::ShortenLock] {
                        note(trial, why());
                    }
                    return Ok(());
                };
                note(Trial::ShortenLock, self.shorten(&object, lock).await?);
                if mode == LockMode::Compliance {
                    note(Trial::WeakenLock, self.weaken(&object, lock).await?);
                }
                note(Trial::Overwrite, self.overwrite(&object).await?);
                note(Trial::Delete, self.delete(&object).await?);
                note(Trial::DeleteVersion, self.delete_locked_version(&object).await?);
            }
        }
        Ok(())
    }

    fn key(&mut self, name: &str) -> Result<ObjectKey, TargetError> {
        let key = format!("{}/{name}", self.folder).parse::<ObjectKey>();
        let key = key.map_err(|e| TargetError::caused_by(TargetErrorKind::Unsupported, "name a probe", e))?;
        self.keys.push(key.clone());
        Ok(key)
    }

    /// Removes what this probe and earlier ones left. What cannot be removed stays: it is small, and says what it is.
    async fn clear(&self) {
        for key in &self.keys {
            self.remove(key).await;
        }
        let Ok(folder) = FOLDER.parse::<ObjectKey>() else { return };
        // Whoever may not list cannot clear up after others.
        for object in self.target.list_all(Some(&folder), self.cancel).await.unwrap_or_default() {
            let began = object.key.as_str().split('/').nth(1).and_then(began);
            if began.is_some_and(|at| self.now.duration_since(at) > LEFTOVER) {
                self.remove(&object.key).await;
            }
        }
    }

    async fn remove(&self, key: &ObjectKey) {
        if let Err(e) = Target::delete(self.target, key, None, self.cancel).await {
            tracing::debug!(operation = e.operation, cause = e.cause, "an object of a probe stays for now");
        }
    }
}

/// When the probe of this name began, if it is one.
fn began(name: &str) -> Option<Timestamp> {
    // The names of probes have the form of all names that begin with a time.
    name.parse::<PruneId>().ok()?;
    let civil = jiff::civil::DateTime::strptime("%Y%m%dT%H%M%SZ", name.split('-').next()?).ok()?;
    Some(civil.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp())
}
