//! The daemon: one loop that starts due jobs, one of each kind at a time, and tells people what is wrong.
//!
//! The loop never waits for a job, a target or a channel, only for the next slot, the end of a run, or a signal,
//! whichever comes first. Whatever it must not forget is in the state before it acts: a slot is recorded as running
//! before its job starts, and its result is recorded when the job has ended. So a daemon that is killed and started
//! again accounts for every slot.

pub(crate) mod conditions;
pub(crate) mod plan;
pub(crate) mod publish;
mod runs;
pub(crate) mod scheduler;
pub(crate) mod supervise;
#[cfg(test)]
mod tests;
pub(crate) mod work;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::mpsc;
use tokio::task::{Id, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::alert::dispatcher::Dispatcher;
use crate::error::Result;
use crate::model::id::DatabaseId;
use crate::state::State;
use plan::Plan;
use publish::StatusSender;
use scheduler::{Pending, Scheduler};
use supervise::Progress;
use work::{Clock, JobSpec, LookReport, Work};

/// How long a look may take: a target that does not answer must not keep people from learning about the others.
const LOOK_DEADLINE: Duration = Duration::from_secs(10 * 60);

/// A request to the daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Request {
    /// Read the configuration again.
    Reload,
    /// Shut down gracefully.
    Stop,
}

/// What the daemon needs from a configuration.
pub(crate) struct Setup {
    /// Which jobs to run, and when.
    pub plan: Plan,
    /// Runs them.
    pub work: Arc<dyn Work>,
    /// Notifies people.
    pub dispatcher: Arc<Dispatcher>,
    /// Every database, in the order of the configuration.
    pub databases: Vec<DatabaseId>,
}

/// Tells the service manager how the daemon is doing.
pub(crate) trait ServiceNotifier: Send + Sync {
    /// The daemon is ready, after its start or a reload.
    fn ready(&self, now: Timestamp);
    /// A reload begins.
    fn reloading(&self);
    /// The loop is alive; `status` is one line about what it does.
    fn alive(&self, status: &str);
    /// The daemon is shutting down.
    fn stopping(&self);
    /// How often [`ServiceNotifier::alive`] must be called.
    fn heartbeat(&self) -> Duration;
}

/// How a daemon ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Every run ended gracefully.
    InOrder,
    /// This many runs had to be dropped.
    Dropped(usize),
}

struct Running {
    spec: JobSpec,
    slots: Pending,
    slot: i64,
    started: Timestamp,
    progress: Arc<Progress>,
}

/// The daemon; see the module documentation.
pub(crate) struct Daemon {
    state: State,
    clock: Arc<dyn Clock>,
    setup: Setup,
    reload: Box<dyn Fn() -> Result<Setup> + Send + Sync>,
    requests: mpsc::Receiver<Request>,
    notifier: Arc<dyn ServiceNotifier>,
    status_sender: StatusSender,
    scheduler: Scheduler,
    runs: JoinSet<supervise::Outcome>,
    running: BTreeMap<Id, Running>,
    looks: JoinSet<Option<LookReport>>,
    last_look: LookReport,
    looked: Option<Timestamp>,
    look_tried: Option<Timestamp>,
    look_soon: bool,
    deliveries: JoinSet<()>,
    delivered: Option<Timestamp>,
    started_at: Timestamp,
    loaded_at: Timestamp,
    refused_at: Option<Timestamp>,
    monitor: conditions::SelfMonitor,
    stop: CancellationToken,
    deliver_until: CancellationToken,
}

/// What a daemon is built from.
pub(crate) struct Parts {
    /// What is remembered between runs.
    pub state: State,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// The first configuration.
    pub setup: Setup,
    /// Reads the configuration again.
    pub reload: Box<dyn Fn() -> Result<Setup> + Send + Sync>,
    /// Requests to the daemon.
    pub requests: mpsc::Receiver<Request>,
    /// Tells the service manager.
    pub notifier: Arc<dyn ServiceNotifier>,
    /// Where its status is published.
    pub status_sender: StatusSender,
    /// What went wrong before it started, for example that its web address is taken.
    pub startup_error: Option<crate::Error>,
}

impl Daemon {
    /// A daemon that resumes from the state.
    pub(crate) fn new(parts: Parts) -> Result<Self> {
        let now = parts.clock.now();
        let scheduler = Scheduler::load(&parts.setup.plan, &parts.state, now)?;
        Ok(Self {
            state: parts.state,
            clock: parts.clock,
            setup: parts.setup,
            reload: parts.reload,
            requests: parts.requests,
            notifier: parts.notifier,
            status_sender: parts.status_sender,
            scheduler,
            runs: JoinSet::new(),
            running: BTreeMap::new(),
            looks: JoinSet::new(),
            last_look: LookReport::default(),
            looked: None,
            look_tried: None,
            look_soon: true,
            deliveries: JoinSet::new(),
            delivered: None,
            started_at: now,
            loaded_at: now,
            refused_at: None,
            monitor: conditions::SelfMonitor::new(now, parts.startup_error),
            stop: CancellationToken::new(),
            deliver_until: CancellationToken::new(),
        })
    }

    /// Works until it is told to stop. Failures to read or write the state are reported, and the operation is retried.
    pub(crate) async fn run(mut self) -> Exit {
        // Before anything is looked at: what was wrong when the last daemon ended.
        if let Err(e) = self.publish() {
            tracing::error!("{e}");
        }
        self.notifier.ready(self.clock.now());
        tracing::info!("marbre {} is running: {}", env!("CARGO_PKG_VERSION"), self.outline());
        loop {
            let now = self.clock.now();
            self.monitor.tick(now);
            self.start_due(now);
            self.look_if_due(now);
            self.deliver_if_due(now);
            self.notifier.alive(&self.doing());
            let wait = self.wait(now);
            tokio::select! {
                biased;
                request = self.requests.recv() => match request {
                    Some(Request::Reload) => self.reload(),
                    Some(Request::Stop) | None => return self.end().await,
                },
                Some(ended) = self.runs.join_next_with_id(), if !self.runs.is_empty() => {
                    self.ended(ended);
                    self.report();
                }
                Some(_) = self.deliveries.join_next(), if !self.deliveries.is_empty() => {}
                Some(look) = self.looks.join_next(), if !self.looks.is_empty() => {
                    let look = look.ok().flatten();
                    self.monitor.looked(look.is_some());
                    if let Some(look) = look {
                        self.last_look = look;
                        self.looked = Some(self.clock.now());
                    }
                    self.report();
                }
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// How long until something is due, at most the heartbeat.
    fn wait(&self, now: Timestamp) -> Duration {
        let until = |at: Timestamp| Duration::try_from(at.duration_since(now)).unwrap_or_default();
        let look = self.look_tried.filter(|_| self.looks.is_empty());
        let look = look.and_then(|at| at.checked_add(self.setup.plan.look_every).ok());
        let due = [self.scheduler.next(), look].into_iter().flatten().map(until).min();
        due.unwrap_or(Duration::MAX).min(self.notifier.heartbeat()).max(Duration::from_millis(10))
    }

    fn look_if_due(&mut self, now: Timestamp) {
        let every = SignedDuration::try_from(self.setup.plan.look_every).unwrap_or(SignedDuration::MAX);
        let due = self.look_tried.is_none_or(|at| {
            let age = now.duration_since(at);
            age >= every || age.is_negative()
        });
        if !(due || self.look_soon) || !self.looks.is_empty() {
            return;
        }
        self.look_soon = false;
        self.look_tried = Some(now);
        let (work, cancel) = (self.setup.work.clone(), self.stop.child_token());
        self.looks.spawn(async move {
            let look = work.look(now, &cancel);
            tokio::time::timeout(LOOK_DEADLINE, look).await.ok()
        });
    }

    /// Replaces the configuration with the new one, if that is valid. Current runs continue.
    fn reload(&mut self) {
        self.notifier.reloading();
        let now = self.clock.now();
        let loaded = (self.reload)().and_then(|setup| {
            let mut scheduler = Scheduler::reload(&setup.plan, &self.state, now)?;
            scheduler.take_over(&mut self.scheduler);
            Ok((setup, scheduler))
        });
        match loaded {
            Ok((setup, scheduler)) => {
                self.setup = setup;
                self.scheduler = scheduler;
                tracing::info!("the configuration was read again: {}", self.outline());
                (self.loaded_at, self.refused_at) = (now, None);
                self.monitor.reloaded(None);
            }
            Err(e) => {
                tracing::error!("the new configuration is refused, the old one stays: {e}");
                self.refused_at = Some(now);
                self.monitor.reloaded(Some(&e));
            }
        }
        self.look_soon = true;
        self.notifier.ready(now);
    }

    /// Stops every run, and waits until each has ended or was dropped.
    async fn end(mut self) -> Exit {
        self.notifier.stopping();
        tracing::info!("shutting down: {}", self.doing());
        self.stop.cancel();
        let mut dropped = 0;
        while let Some(ended) = self.runs.join_next_with_id().await {
            dropped += usize::from(ended.as_ref().is_ok_and(|(_, ended)| ended.dropped));
            self.ended(ended);
            self.notifier.alive(&self.doing());
        }
        self.report();
        self.deliver_last().await;
        if dropped == 0 { Exit::InOrder } else { Exit::Dropped(dropped) }
    }

    fn outline(&self) -> String {
        let (databases, jobs) = (self.setup.databases.len(), self.scheduler.jobs.len());
        format!("scheduled jobs: {jobs}, databases: {databases}; {}", self.doing())
    }

    /// What the daemon is doing now, in one line.
    fn doing(&self) -> String {
        let mut running: Vec<String> =
            self.running.values().map(|run| format!("{} of {}", run.spec.kind, run.spec.database)).collect();
        running.sort();
        match (running.is_empty(), self.scheduler.next()) {
            (false, _) => format!("running: {}", running.join(", ")),
            (true, Some(next)) => format!("next job at {}", next.strftime("%Y-%m-%dT%H:%M:%SZ")),
            (true, None) => "nothing is scheduled".to_owned(),
        }
    }
}
