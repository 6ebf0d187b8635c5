//! Deleting the whole archive of a database that left the configuration: a signed record at every target first, then everything
//! in the reverse order of writing (invariant I2). What remains is that record, and who may have signed it. A run that was
//! interrupted goes on where it is started again.

mod plan;
mod report;
mod sweep;

use std::sync::Arc;

use futures_util::future::join_all;
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::error::{Error, Result};
use crate::job::decide;
use crate::job::recorded_at::RecordedAt;
use crate::job::run_lock::Lock;
use crate::job::stopwatch::Stopwatch;
use crate::keys::{SigningKey, TrustStore};
use crate::model::id::{DatabaseId, DecisionId, TargetName};
use crate::model::mark::Because;
use crate::model::observer::{LoadObserver as _, Observer};
use crate::model::stage::Stage;
use crate::repository::decision::{Decision, Matter};
use crate::repository::decision_catalog::DecisionSummary;
use crate::repository::remembered::Remembered as _;
use crate::repository::signed_record::Signed;
use crate::state::State;
use crate::targets::NamedTarget;
use sweep::Sweep;

pub(crate) use plan::{Plan, Planned};
pub(crate) use report::{DeleteReport, DeletedAt};

/// Everything that deleting an archive needs.
pub(crate) struct DeleteJob {
    /// The database, which is not in the configuration.
    pub database: DatabaseId,
    /// Where its archive is deleted.
    pub targets: Vec<NamedTarget>,
    /// The other targets of the configuration, which may hold it too.
    pub others: Vec<NamedTarget>,
    /// Whose records count.
    pub trust: TrustStore,
    /// What the agent remembers.
    pub state: State,
    /// Signs the record.
    pub signing_key: SigningKey,
}

impl DeleteJob {
    /// Takes the locks of everything that could write there meanwhile: from before the plan is made until it is carried out.
    pub(crate) fn lock(&self) -> Result<Vec<Lock>> {
        let files = [State::lock_file, State::sync_lock_file, State::prune_lock_file, State::drill_lock_file];
        files.iter().map(|file| Lock::take(&file(&self.state, &self.database), &self.database)).collect()
    }

    /// Carries out what a person has confirmed. An error means that nothing was deleted, or that the agent itself failed or was
    /// interrupted; what could not be done at a target is in the report.
    pub(crate) async fn run(
        self,
        plan: Plan,
        because: &Because,
        now: Timestamp,
        observer: Arc<dyn Observer>,
        cancel: &CancellationToken,
    ) -> Result<DeleteReport> {
        let watch = Stopwatch::new(observer);
        watch.stage(Stage::Record);
        let signed = match plan.begun.clone() {
            Some(signed) => signed,
            None => self.sign(&plan, because, now)?,
        };
        let recorded = decide::put_everywhere(&self.targets, &self.database, &signed, cancel).await?;
        self.state.remember_decision(&self.database, &signed)?;
        let whole = plan.deletion.is_whole();
        if whole {
            self.state.destroy_epoch_keys(&self.database)?;
        }
        watch.stage(Stage::Delete);
        let mut keep = plan.records.clone();
        keep.push(signed.record.decision.clone());
        let sweeps =
            self.targets.iter().zip(&recorded).map(|(target, at)| self.sweep(target, at, &keep, cancel));
        let swept = join_all(sweeps).await.into_iter().collect::<Result<Vec<DeletedAt>>>()?;
        let mut report = DeleteReport {
            publisher: self.database.publisher.clone(),
            database: self.database.database.clone(),
            decision: DecisionSummary::of(&signed.record),
            targets: swept,
            elsewhere: plan.deletion.elsewhere.clone(),
            forgotten: false,
        };
        report.forgotten = self.forget(&report, whole, &keep, now)?;
        Ok(report)
    }

    fn sign(&self, plan: &Plan, because: &Because, now: Timestamp) -> Result<Signed<Decision>> {
        let about = vec![Matter::Deleted(plan.deletion.clone())];
        decide::sign(&self.database, &self.signing_key, because, about, now)
    }

    /// Deletes what there is at one target, if it has the record.
    async fn sweep(
        &self,
        target: &NamedTarget,
        recorded: &RecordedAt,
        keep: &[DecisionId],
        cancel: &CancellationToken,
    ) -> Result<DeletedAt> {
        let mut done = DeletedAt::new(&target.name);
        if let Some(e) = &recorded.error {
            done.error = Some(format!("nothing is deleted there, because it has not taken the record: {e}"));
            return Ok(done);
        }
        Sweep { database: &self.database, target, keep, cancel }.run(&mut done).await?;
        if done.locked.objects > 0 {
            done.locked_until = self.state.locked_until(&self.database, &target.name)?;
        }
        Ok(done)
    }

    /// Lets the state forget what is gone everywhere; what is gone at some targets only, it forgets of these. Says whether it
    /// has forgotten the database.
    fn forget(
        &self,
        report: &DeleteReport,
        whole: bool,
        keep: &[DecisionId],
        now: Timestamp,
    ) -> Result<bool> {
        let done = |name: &TargetName| report.targets.iter().any(|at| at.name == *name && at.is_done());
        for target in self.targets.iter().filter(|target| done(&target.name)) {
            self.state.forget_database_at(&self.database, &target.name)?;
        }
        if !whole || !report.targets.iter().all(DeletedAt::is_done) {
            return Ok(false);
        }
        self.state.forget_database(&self.database, keep)?;
        let mut closed = self.state.open_incidents()?;
        closed.retain(|incident| incident.condition.database.as_ref() == Some(&self.database));
        closed.iter_mut().for_each(|incident| incident.resolved_at = Some(now));
        self.state.save_incidents(&closed, &[])?;
        Ok(true)
    }
}

/// The error where this database is one of the configuration.
pub(crate) fn still_configured(database: &DatabaseId) -> Error {
    Error::preflight(format!("{database} is in the configuration: its archive is not deleted"))
        .remedy("Take its table out, let the daemon read the configuration again, and run the command again. Nothing was changed.")
}
