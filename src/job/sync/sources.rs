//! Where good copies come from, and what is remembered of bad ones.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{MutexGuard, PoisonError};

use super::copy::Failure;
use super::{Found, Run};
use crate::error::{Error, ErrorKind, Result};
use crate::job::resend;
use crate::job::verify::Damage;
use crate::model::id::TargetName;
use crate::model::object::ObjectKey;
use crate::model::observer::Observer as _;
use crate::repository::layout;
use crate::repository::receipt::ObjectRef;
use crate::targets::NamedTarget;
use crate::targets::{Expected, TargetErrorKind, TargetExt};

impl Run<'_> {
    /// Fetches an object into the spool from a target that has a good copy, with the size and SHA-256 of its receipt.
    pub(super) async fn fetch(
        &self,
        to: &NamedTarget,
        object: &ObjectRef,
        holders: &BTreeSet<TargetName>,
        path: &Path,
    ) -> Result<(), Failure> {
        let key = layout::key(&self.job.database, &object.key).map_err(Failure::Record)?;
        let mut causes = Vec::new();
        for source in self.sources(to, holders) {
            match self.fetch_from(source, &key, object, path).await? {
                None => return Ok(()),
                Some(cause) => causes.push(format!("{}: {cause}", source.name)),
            }
        }
        let error = Error::new(ErrorKind::Target, format!("no other target has a good copy of {key}"));
        let error = if causes.is_empty() { error } else { error.cause(causes.join("; ")) };
        Err(Failure::Record(error.remedy(
            "Bring a target that has it back, and run `marbre sync` again; `marbre verify` says which copies are good.",
        )))
    }

    /// Tries one source; returns why it has no good copy, if that is so.
    async fn fetch_from(
        &self,
        source: &NamedTarget,
        key: &ObjectKey,
        object: &ObjectRef,
        path: &Path,
    ) -> Result<Option<String>, Failure> {
        if let Some(known) = self.damage_at(&source.name, key) {
            return Ok(Some(known));
        }
        let version = self.job.state.version(&source.name, key).map_err(Failure::Run)?;
        let expected = Expected { version, size: object.size, sha256: object.sha256 };
        let e = match source.target.fetch_to_file(key, &expected, path, self.cancel).await {
            Ok(fetched) => {
                if let Some(version) = fetched.instead {
                    self.watch.warn(&format!(
                        "{key} is damaged or deleted at {}: its older version {} is good and was used",
                        source.name, version.0
                    ));
                }
                return Ok(None);
            }
            Err(e) => e,
        };
        let problem = match e.kind {
            TargetErrorKind::Cancelled => return Err(Failure::Run(Error::interrupted())),
            // That target is being caught up itself.
            TargetErrorKind::NotFound => return Ok(Some("it is missing there".to_owned())),
            TargetErrorKind::Corrupt => e.cause,
            // If the target itself answers, an object that cannot be read is damaged.
            TargetErrorKind::Unavailable if source.target.head(key, self.cancel).await.is_ok() => {
                format!("it cannot be read: {}", e.cause)
            }
            _ => {
                self.found().unresponsive.insert(source.name.clone());
                return Ok(Some(e.to_string()));
            }
        };
        self.lose(source, object, key, problem.clone()).map_err(Failure::Run)?;
        Ok(Some(problem))
    }

    /// The other targets that answer; those that hold the record come first.
    fn sources(&self, to: &NamedTarget, holders: &BTreeSet<TargetName>) -> Vec<&NamedTarget> {
        let unresponsive = self.found().unresponsive.clone();
        let usable = |t: &&NamedTarget| {
            t.name != to.name && !self.catalog.is_away(&t.name) && !unresponsive.contains(&t.name)
        };
        let mut sources: Vec<&NamedTarget> = self.job.targets.iter().filter(usable).collect();
        sources.sort_by_key(|t| !holders.contains(&t.name));
        sources
    }

    /// What is known to be wrong with an object at a target.
    pub(super) fn damage_at(&self, target: &TargetName, key: &ObjectKey) -> Option<String> {
        let place = (target.clone(), key.as_str().to_owned());
        self.found().damaged.get(&place).map(|d| d.problem.clone())
    }

    /// Notes that an object has its bytes again.
    pub(super) fn found_healed(&self, target: &TargetName, key: &ObjectKey) {
        self.found().damaged.remove(&(target.clone(), key.as_str().to_owned()));
    }

    /// Notes that something does not match its signed record, unless that is known.
    pub(super) fn found_damage(&self, target: &TargetName, key: &str, problem: String) {
        if self.catalog.decisions.know_damage(target, key) {
            return;
        }
        let damage = Damage { target: target.clone(), object: key.to_owned(), problem };
        self.found().damaged.entry((target.clone(), key.to_owned())).or_insert(damage);
    }

    /// Notes that an object is damaged at a target: the next snapshot uploads its data again.
    pub(super) fn lose(
        &self,
        target: &NamedTarget,
        object: &ObjectRef,
        key: &ObjectKey,
        problem: String,
    ) -> Result<()> {
        self.found_damage(&target.name, key.as_str(), problem);
        resend::mark(&self.job.state, &self.job.database, object)
    }

    pub(super) fn found(&self) -> MutexGuard<'_, Found> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Everything that is damaged.
    pub(super) fn into_damaged(self) -> Vec<Damage> {
        let found = self.found.into_inner().unwrap_or_else(PoisonError::into_inner);
        found.damaged.into_values().collect()
    }
}
