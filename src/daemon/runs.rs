//! Starts runs, and records how they ended.

use std::sync::Arc;

use jiff::Timestamp;
use tokio::task::{Id, JoinError};

use super::scheduler::{self, Pending, ScheduledJob};
use super::supervise::{self, Progress};
use super::work::JobSpec;
use super::{Daemon, Running};
use crate::model::job::{JobKind, SlotState};
use crate::model::notice::Phase;
use crate::model::run::Ending;
use crate::model::stage::Stage;

/// Whether two jobs of one database cannot run at the same time. A prune deletes what a snapshot could refer to and what a
/// sync could copy. Of the jobs that read everything, one is enough. Nothing else delays a snapshot: neither a test restore
/// that takes hours, nor a copy over a slow line.
fn exclude(one: JobKind, other: JobKind) -> bool {
    let reads = |kind| match kind {
        JobKind::Drill | JobKind::Sabotage | JobKind::Verify => true,
        JobKind::Snapshot | JobKind::Prune | JobKind::Sync => false,
    };
    let deletes = |kind| kind == JobKind::Prune;
    one == other
        || reads(one) && reads(other)
        || !reads(one) && !reads(other) && (deletes(one) || deletes(other))
}

impl Daemon {
    /// Queues the slots that are due, and starts as many jobs as may run.
    pub(super) fn start_due(&mut self, now: Timestamp) {
        for index in 0..self.scheduler.jobs.len() {
            let Some(job) = self.scheduler.jobs.get_mut(index) else { continue };
            job.queue_retry(now);
            let Some(due) = job.take_due(now) else { continue };
            let (database, kind) = (job.plan.database.clone(), job.plan.kind);
            if self.running.values().any(|run| run.spec.database == database && run.spec.kind == kind) {
                self.overlapped(index, &due, now);
            } else if let Some(job) = self.scheduler.jobs.get_mut(index) {
                job.queue(due);
            }
        }
        let mut waiting: Vec<usize> = (0..self.scheduler.jobs.len()).collect();
        // Snapshots go first, then whatever has waited longest.
        waiting.sort_by_key(|index| {
            let job = self.scheduler.jobs.get(*index);
            job.map(|i| (i.plan.kind != JobKind::Snapshot, i.pending.map(|p| p.slots.first)))
        });
        for index in waiting {
            self.start(index, now);
        }
    }

    fn start(&mut self, index: usize, now: Timestamp) {
        let Some(job) = self.scheduler.jobs.get_mut(index) else { return };
        let (database, kind) = (job.plan.database.clone(), job.plan.kind);
        // Snapshots have places of their own, so that no other job makes them late.
        let same_places =
            |run: &&Running| (run.spec.kind == JobKind::Snapshot) == (kind == JobKind::Snapshot);
        if self.running.values().filter(same_places).count() >= self.setup.plan.parallel {
            return;
        }
        let busy = |run: &Running| run.spec.database == database && exclude(run.spec.kind, kind);
        if job.pending.is_none() || self.running.values().any(busy) {
            return;
        }
        let Some(pending) = job.start(now) else { return };
        let record = scheduler::record(&pending, SlotState::Running, now, None);
        let opened = self.state.open_slot(&job.plan.scheduled(), &record, job.accounted);
        // A state that cannot be written (on a full disk) must not prevent a backup.
        let (slot, turn) = match opened {
            Ok(opened) => (opened.id, opened.runs_before),
            Err(e) => {
                tracing::error!("{kind} of {database}: {e}");
                self.monitor.state_failed(&e);
                (-1, 0)
            }
        };
        let limits = job.plan.limits.clone();
        let spec = JobSpec { database, kind, turn };
        tracing::info!("{kind} of {} starts", spec.database);
        let (progress, cancel) = (Arc::new(Progress::new(&spec)), self.stop.child_token());
        let work = self.setup.work.clone();
        let supervised = supervise::run(work, spec.clone(), now, limits, progress.clone(), cancel);
        let id = self.runs.spawn(supervised).id();
        self.notify_job(&spec, Phase::Start, now);
        self.running.insert(id, Running { spec, slots: pending, slot, started: now, progress });
    }

    /// Records a slot that gets no run of its own, because the previous run has not ended.
    fn overlapped(&mut self, index: usize, due: &Pending, now: Timestamp) {
        let Some(job) = self.scheduler.jobs.get(index) else { return };
        let detail = "the previous run was still in progress";
        tracing::warn!("{} of {}: {detail}", job.plan.kind, job.plan.database);
        let record = scheduler::record(due, SlotState::Overlapped, now, Some(detail));
        let saved = self.state.open_slot(&job.plan.scheduled(), &record, job.accounted);
        if let Err(e) = saved {
            self.monitor.state_failed(&e);
        }
        self.look_soon = true;
    }

    /// Records how a run ended.
    pub(super) fn ended(&mut self, ended: std::result::Result<(Id, supervise::Outcome), JoinError>) {
        let id = ended.as_ref().map_or_else(JoinError::id, |(id, _)| *id);
        let Some(running) = self.running.remove(&id) else { return };
        let now = self.clock.now();
        let spec = &running.spec;
        let run = ended.map(|(_, ended)| ended.run).unwrap_or_else(|e| {
            let e = crate::Error::internal("the job panicked, which is a bug in marbre").cause(e);
            crate::health::findings::failed(
                &spec.database,
                spec.kind,
                running.progress.stage().map(Stage::word),
                &e,
            )
        });
        let state = match run.ending {
            Ending::Done => SlotState::Done,
            Ending::Failed => SlotState::Failed,
            Ending::Interrupted => SlotState::Interrupted,
            Ending::Conflict => SlotState::Missed,
        };
        let message = format!("{} of {}: {}: {}", spec.kind, spec.database, state.word(), run.detail);
        match run.ending {
            Ending::Done | Ending::Interrupted => tracing::info!("{message}"),
            Ending::Conflict => tracing::warn!("{message}"),
            Ending::Failed => tracing::error!("{message}"),
        }
        let closed = self.state.close_slot(running.slot, state, now, Some(&run.detail));
        let times = (running.started, now);
        let recorded = self.state.record_run(&spec.database, spec.kind, times, &run);
        match closed.and(recorded) {
            Ok(()) => self.monitor.state_works(),
            Err(e) => {
                tracing::error!("{} of {}: {e}", spec.kind, spec.database);
                self.monitor.state_failed(&e);
                self.monitor.unsaved(&spec.database, spec.kind, times, run.clone());
            }
        }
        if matches!(run.ending, Ending::Failed | Ending::Conflict) {
            let same =
                |job: &&mut ScheduledJob| job.plan.database == spec.database && job.plan.kind == spec.kind;
            if let Some(job) = self.scheduler.jobs.iter_mut().find(same) {
                job.failed(running.slots, now);
            }
        }
        if run.ending != Ending::Interrupted {
            self.notify_job(spec, Phase::of_end(run.ending == Ending::Done, run.proven), now);
        }
        self.look_soon = true;
    }
}
