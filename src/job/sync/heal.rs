//! Healing: a copy that does not have the bytes which its name, or a signed receipt, says it has is replaced by a good one.
//!
//! This is the one exception to the rule that objects are never changed, and changes nothing that could be wanted: what the
//! bytes must be is known beforehand. It is said in a signed record before it is done.

use jiff::Timestamp;

use super::Run;
use super::copy::{CopyTask, Failure};
use super::record::Small;
use super::report::TargetSync;
use crate::error::{Error, ErrorKind, Result};
use crate::job::decide;
use crate::keys::signing;
use crate::model::mark::Because;
use crate::model::object::ObjectKey;
use crate::repository::decision::{Matter, Replaced};
use crate::repository::layout;
use crate::repository::receipt::ObjectRef;
use crate::repository::record_catalog::put_record;
use crate::repository::remembered::Remembered as _;
use crate::targets::{PutOutcome, TargetErrorKind, TargetExt, Upload};

/// Records and signatures are smaller than this.
const RECORD_LIMIT: u64 = 32 << 20;

impl CopyTask<'_> {
    /// Replaces a bad copy of an object, and requires evidence that the target holds it.
    pub(super) async fn heal(
        &self,
        object: &ObjectRef,
        key: &ObjectKey,
        upload: Upload,
        problem: &str,
    ) -> Result<(), Failure> {
        let (target, cancel) = (self.target, self.run.cancel);
        self.announce(object, problem).await?;
        let upload = upload.replacing();
        match target.target.put(key, &upload, cancel).await {
            Ok(PutOutcome::Created { version: Some(version), .. }) => {
                let state = &self.run.job.state;
                state.remember_version(&target.name, key, &version).map_err(Failure::Run)?;
            }
            Ok(_) => {}
            Err(e) if matches!(e.kind, TargetErrorKind::Denied | TargetErrorKind::Refused) => {
                self.run.lose(target, object, key, problem.to_owned()).map_err(Failure::Run)?;
                let message = format!("the bad copy of {key} at {} cannot be replaced", target.name);
                return Err(Failure::Record(Error::new(ErrorKind::Target, message).cause(e).remedy(
                    "The target protects it: by a lock, by permissions or attributes of the file, or because the credentials \
                     may not overwrite. Run `marbre sync --heal` again when the lock has ended, or with rights that may; or \
                     say with `marbre accept` that the damage is known. Other targets have good copies.",
                )));
            }
            Err(e) => return Err(Failure::of_target(e)),
        }
        target.target.compare(key, &upload, cancel).await.map_err(Failure::of_target)?;
        self.run.found_healed(&target.name, key);
        Ok(())
    }

    /// Records, at every target that answers, that a copy is about to be replaced here. This target must have the record.
    async fn announce(&self, object: &ObjectRef, problem: &str) -> Result<(), Failure> {
        let Some(key) = &self.run.job.heal else { return Ok(()) };
        let (database, cancel) = (&self.run.job.database, self.run.cancel);
        let because = Because {
            by: "marbre sync --heal".to_owned(),
            reason: "the bytes were not those of the name or of the signed receipt".to_owned(),
        };
        let about = Matter::Replaced(Replaced {
            target: self.target.name.clone(),
            object: object.key.clone(),
            sha256: object.sha256,
            size: object.size,
            problem: problem.to_owned(),
        });
        let signed =
            decide::sign(database, key, &because, vec![about], Timestamp::now()).map_err(Failure::Run)?;
        put_record(self.target, database, &signed, cancel).await.map_err(Failure::of_target)?;
        for other in self.run.job.targets.iter().filter(|t| t.name != self.target.name) {
            let away = self.run.catalog.is_away(&other.name);
            // The next sync copies it to those that do not take it now.
            if !away && put_record(other, database, &signed, cancel).await.is_err() && cancel.is_cancelled() {
                return Err(Failure::Run(Error::interrupted()));
            }
        }
        self.run.job.state.remember_decision(database, &signed).map_err(Failure::Run)
    }

    /// Replaces a record or its signature. What lies there, and is signed, is no damage but another word: it is evidence,
    /// and stays.
    pub(super) async fn heal_record(
        &self,
        small: &Small,
        key: &ObjectKey,
        problem: &str,
    ) -> Result<(), Failure> {
        if self.run.job.heal.is_none() || self.says_something_else().await? {
            return Err(self.damaged(&small.object, key, problem.to_owned()));
        }
        self.heal(&small.object, key, Upload::memory(small.bytes.clone()), problem).await
    }

    /// Whether the record at the target is another one with a good signature, whoever made that.
    async fn says_something_else(&self) -> Result<bool, Failure> {
        let mut found = Vec::new();
        for small in &self.record.last {
            let key = layout::key(&self.run.job.database, &small.object.key).map_err(Failure::Record)?;
            match self.target.target.fetch_small(&key, RECORD_LIMIT, self.run.cancel).await {
                Ok(bytes) => found.push(bytes),
                Err(e) if matches!(e.kind, TargetErrorKind::NotFound | TargetErrorKind::Corrupt) => {
                    return Ok(false);
                }
                Err(e) => return Err(Failure::of_target(e)),
            }
        }
        let [signature, record] = &found[..] else { return Ok(false) };
        let same = record[..] == self.record.last[1].bytes[..];
        Ok(!same && signing::verify(signature, self.record.namespace, record).is_ok())
    }
}

impl Run<'_> {
    /// After a run that read everything, and left nothing damaged, nothing has to be sent again.
    pub(super) fn note_whole(&self, targets: &[TargetSync]) -> Result<()> {
        let whole =
            self.found().damaged.is_empty() && targets.iter().all(|t| t.is_reached() && !t.is_behind());
        match self.job.heal.is_some() && whole {
            true => self.job.state.find_packs(&self.job.database),
            false => Ok(()),
        }
    }
}
