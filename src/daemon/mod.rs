//! The daemon: one loop that starts what is due, one job of a kind at a time, and tells people what is wrong.
//!
//! The loop never waits for a job, a target or a channel; it waits for the first of: the next slot, the end of a
//! run, a signal. All that it must not forget is in the state before it acts: a slot is recorded as running before
//! its job starts, and as whatever became of it when the job has ended. So a daemon that is killed and started again
//! accounts for every slot.

pub mod agenda;
pub mod conditions;
pub mod plan;
pub mod publish;
pub mod supervise;
#[cfg(test)]
mod tests;
pub mod work;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::mpsc;
use tokio::task::{Id, JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::alert::dispatcher::Dispatcher;
use crate::error::Result;
use crate::model::id::DatabaseId;
use crate::model::job::{JobKind, SlotState};
use crate::model::notice::Phase;
use crate::model::run::Ending;
use crate::model::stage::Stage;
use crate::state::State;
use agenda::{Agenda, Pending};
use plan::Plan;
use publish::Board;
use supervise::Progress;
use work::{Clock, Order, Sight, Work};

/// How long a look may take: a target that does not answer must not keep people from hearing of the others.
const LOOK_DEADLINE: Duration = Duration::from_secs(10 * 60);

/// What people ask of a daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// Read the configuration again.
    Reload,
    /// End in order.
    Stop,
}

/// What comes of a configuration.
pub struct Setup {
    /// What to do, and when.
    pub plan: Plan,
    /// Who does it.
    pub work: Arc<dyn Work>,
    /// Who tells people.
    pub dispatcher: Arc<Dispatcher>,
    /// Every database, in the order of the configuration.
    pub databases: Vec<DatabaseId>,
}

/// How the daemon is seen from outside.
pub trait Herald: Send + Sync {
    /// It is ready: the first time, and after a reload.
    fn ready(&self, now: Timestamp);
    /// A reload begins.
    fn reloading(&self);
    /// The loop is alive; what it does, in one line.
    fn alive(&self, status: &str);
    /// It ends.
    fn stopping(&self);
    /// How often [`Herald::alive`] must be heard.
    fn heartbeat(&self) -> Duration;
}

/// How a daemon ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Every run ended in order.
    InOrder,
    /// So many runs had to be dropped.
    Dropped(usize),
}

/// Jobs that wait for each other. Drills and verifications only read what is stored, so they have a lane of their
/// own: a test restore of hours must not make the next snapshot late.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lane {
    Writing,
    Reading,
}

fn lane(kind: JobKind) -> Lane {
    match kind {
        JobKind::Snapshot | JobKind::Prune | JobKind::Sync => Lane::Writing,
        JobKind::Drill | JobKind::Sabotage | JobKind::Verify => Lane::Reading,
    }
}

struct Running {
    order: Order,
    slots: Pending,
    slot: i64,
    started: Timestamp,
    progress: Arc<Progress>,
}

/// A daemon. See the module.
pub struct Daemon {
    state: State,
    clock: Arc<dyn Clock>,
    setup: Setup,
    reload: Box<dyn Fn() -> Result<Setup> + Send + Sync>,
    requests: mpsc::Receiver<Request>,
    herald: Arc<dyn Herald>,
    board: Board,
    agenda: Agenda,
    runs: JoinSet<supervise::Ended>,
    running: BTreeMap<Id, Running>,
    looks: JoinSet<Option<Sight>>,
    sight: Sight,
    looked: Option<Timestamp>,
    look_tried: Option<Timestamp>,
    look_soon: bool,
    deliveries: JoinSet<()>,
    delivered: Option<Timestamp>,
    started_at: Timestamp,
    loaded_at: Timestamp,
    refused_at: Option<Timestamp>,
    watch: conditions::SelfWatch,
    stop: CancellationToken,
    deliver_until: CancellationToken,
}

/// What a daemon is made of.
pub struct Parts {
    /// What it remembers.
    pub state: State,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// The first configuration.
    pub setup: Setup,
    /// Reads the configuration again.
    pub reload: Box<dyn Fn() -> Result<Setup> + Send + Sync>,
    /// What people ask.
    pub requests: mpsc::Receiver<Request>,
    /// How it is seen.
    pub herald: Arc<dyn Herald>,
    /// Where it shows what it knows.
    pub board: Board,
    /// What was found wrong before it started: the address it was to be seen at is taken, for example.
    pub trouble: Option<crate::Error>,
}

impl Daemon {
    /// A daemon that takes up where the state says.
    pub fn new(parts: Parts) -> Result<Self> {
        let now = parts.clock.now();
        let agenda = Agenda::load(&parts.setup.plan, &parts.state, now)?;
        Ok(Self {
            state: parts.state,
            clock: parts.clock,
            setup: parts.setup,
            reload: parts.reload,
            requests: parts.requests,
            herald: parts.herald,
            board: parts.board,
            agenda,
            runs: JoinSet::new(),
            running: BTreeMap::new(),
            looks: JoinSet::new(),
            sight: Sight::default(),
            looked: None,
            look_tried: None,
            look_soon: true,
            deliveries: JoinSet::new(),
            delivered: None,
            started_at: now,
            loaded_at: now,
            refused_at: None,
            watch: conditions::SelfWatch::new(now, parts.trouble),
            stop: CancellationToken::new(),
            deliver_until: CancellationToken::new(),
        })
    }

    /// Works until it is told to stop. What cannot be read from the state, or written to it, is told, and tried again.
    pub async fn run(mut self) -> Ended {
        self.herald.ready(self.clock.now());
        tracing::info!("marbre {} is at work: {}", env!("CARGO_PKG_VERSION"), self.outline());
        loop {
            let now = self.clock.now();
            self.watch.tick(now);
            self.start_due(now);
            self.look_if_due(now);
            self.deliver_if_due(now);
            self.herald.alive(&self.doing());
            let wait = self.wait(now);
            tokio::select! {
                biased;
                request = self.requests.recv() => match request {
                    Some(Request::Reload) => self.reload(),
                    Some(Request::Stop) | None => return self.end().await,
                },
                Some(ended) = self.runs.join_next_with_id(), if !self.runs.is_empty() => {
                    self.ended(ended);
                    self.tell();
                }
                Some(_) = self.deliveries.join_next(), if !self.deliveries.is_empty() => {}
                Some(sight) = self.looks.join_next(), if !self.looks.is_empty() => {
                    let sight = sight.ok().flatten();
                    self.watch.looked(sight.is_some());
                    if let Some(sight) = sight {
                        self.sight = sight;
                        self.looked = Some(self.clock.now());
                    }
                    self.tell();
                }
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// Until something is due, and never longer than the heartbeat.
    fn wait(&self, now: Timestamp) -> Duration {
        let until = |at: Timestamp| Duration::try_from(at.duration_since(now)).unwrap_or_default();
        let look = self.look_tried.filter(|_| self.looks.is_empty());
        let look = look.and_then(|at| at.checked_add(self.setup.plan.look_every).ok());
        let due = [self.agenda.next(), look].into_iter().flatten().map(until).min();
        due.unwrap_or(Duration::MAX).min(self.herald.heartbeat()).max(Duration::from_millis(10))
    }

    /// Records what has come, and starts what there is room for.
    fn start_due(&mut self, now: Timestamp) {
        for index in 0..self.agenda.items.len() {
            let Some(item) = self.agenda.items.get_mut(index) else { continue };
            item.try_again(now);
            let Some(come) = item.come(now) else { continue };
            let (database, kind) = (item.plan.database.clone(), item.plan.kind);
            if self.running.values().any(|run| run.order.database == database && run.order.kind == kind) {
                self.overlapped(index, &come, now);
            } else if let Some(item) = self.agenda.items.get_mut(index) {
                item.queue(come);
            }
        }
        let mut waiting: Vec<usize> = (0..self.agenda.items.len()).collect();
        // Of what waits, snapshots go first, and then what has waited longest.
        waiting.sort_by_key(|index| {
            let item = self.agenda.items.get(*index);
            item.map(|i| (i.plan.kind != JobKind::Snapshot, i.pending.map(|p| p.slots.first)))
        });
        for index in waiting {
            self.start(index, now);
        }
    }

    fn start(&mut self, index: usize, now: Timestamp) {
        if self.running.len() >= self.setup.plan.parallel {
            return;
        }
        let Some(item) = self.agenda.items.get_mut(index) else { return };
        let (database, kind) = (item.plan.database.clone(), item.plan.kind);
        let busy = |run: &Running| run.order.database == database && lane(run.order.kind) == lane(kind);
        if item.pending.is_none() || self.running.values().any(busy) {
            return;
        }
        let Some(pending) = item.start(now) else { return };
        let record = agenda::record(&pending, SlotState::Running, now, None);
        let opened = self.state.open_slot(&item.plan.scheduled(), &record, item.accounted);
        // A state that cannot be written (a full disk) does not keep a backup from being made.
        let (slot, turn) = match opened {
            Ok(opened) => (opened.id, opened.runs_before),
            Err(e) => {
                tracing::error!("{e}");
                self.watch.state_failed(&e);
                (-1, 0)
            }
        };
        let limits = item.plan.limits.clone();
        let order = Order { database, kind, turn };
        tracing::info!("{kind} of {} starts", order.database);
        let (progress, cancel) = (Arc::new(Progress::new(&order)), self.stop.child_token());
        let work = self.setup.work.clone();
        let supervised = supervise::run(work, order.clone(), now, limits, progress.clone(), cancel);
        let id = self.runs.spawn(supervised).id();
        self.tell_job(&order, Phase::Start, now);
        self.running.insert(id, Running { order, slots: pending, slot, started: now, progress });
    }

    /// A slot found the run before it still at work: it has none of its own, and that is told.
    fn overlapped(&mut self, index: usize, come: &Pending, now: Timestamp) {
        let Some(item) = self.agenda.items.get(index) else { return };
        let detail = "the run before was still at work";
        tracing::warn!("{} of {}: {detail}", item.plan.kind, item.plan.database);
        let record = agenda::record(come, SlotState::Overlapped, now, Some(detail));
        let saved = self.state.open_slot(&item.plan.scheduled(), &record, item.accounted);
        if let Err(e) = saved {
            self.watch.state_failed(&e);
        }
        self.look_soon = true;
    }

    /// Records how a run ended.
    fn ended(&mut self, ended: std::result::Result<(Id, supervise::Ended), JoinError>) {
        let id = ended.as_ref().map_or_else(JoinError::id, |(id, _)| *id);
        let Some(running) = self.running.remove(&id) else { return };
        let now = self.clock.now();
        let order = &running.order;
        let run = ended.map(|(_, ended)| ended.run).unwrap_or_else(|e| {
            let e = crate::Error::internal("the job died of a bug in marbre").cause(e);
            crate::health::findings::failed(
                &order.database,
                order.kind,
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
        let says = format!("{} of {}: {}: {}", order.kind, order.database, state.word(), run.detail);
        match run.ending {
            Ending::Done | Ending::Interrupted => tracing::info!("{says}"),
            Ending::Conflict => tracing::warn!("{says}"),
            Ending::Failed => tracing::error!("{says}"),
        }
        let closed = self.state.close_slot(running.slot, state, now, Some(&run.detail));
        let times = (running.started, now);
        let recorded = self.state.record_run(&order.database, order.kind, times, &run);
        match closed.and(recorded) {
            Ok(()) => self.watch.state_works(),
            Err(e) => {
                tracing::error!("{e}");
                self.watch.state_failed(&e);
                self.watch.unsaved(&order.database, order.kind, times, run.clone());
            }
        }
        if matches!(run.ending, Ending::Failed | Ending::Conflict) {
            let same = |item: &&mut agenda::Item| {
                item.plan.database == order.database && item.plan.kind == order.kind
            };
            if let Some(item) = self.agenda.items.iter_mut().find(same) {
                item.failed(running.slots, now);
            }
        }
        if run.ending != Ending::Interrupted {
            self.tell_job(order, Phase::of_end(run.ending == Ending::Done, run.proven), now);
        }
        self.look_soon = true;
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

    /// A new configuration takes the place of the old one, if it is good. Runs that are at work go on.
    fn reload(&mut self) {
        self.herald.reloading();
        let now = self.clock.now();
        let loaded = (self.reload)().and_then(|setup| {
            let mut agenda = Agenda::reload(&setup.plan, &self.state, now)?;
            agenda.take_over(&mut self.agenda);
            Ok((setup, agenda))
        });
        match loaded {
            Ok((setup, agenda)) => {
                self.setup = setup;
                self.agenda = agenda;
                tracing::info!("the configuration was read again: {}", self.outline());
                (self.loaded_at, self.refused_at) = (now, None);
                self.watch.reloaded(None);
            }
            Err(e) => {
                tracing::error!("the new configuration is refused, the old one stays: {e}");
                self.refused_at = Some(now);
                self.watch.reloaded(Some(&e));
            }
        }
        self.look_soon = true;
        self.herald.ready(now);
    }

    /// Stops every run, and waits until each has ended in order or was dropped.
    async fn end(mut self) -> Ended {
        self.herald.stopping();
        tracing::info!("told to end: {}", self.doing());
        self.stop.cancel();
        let mut dropped = 0;
        while let Some(ended) = self.runs.join_next_with_id().await {
            dropped += usize::from(ended.as_ref().is_ok_and(|(_, ended)| ended.dropped));
            self.ended(ended);
            self.herald.alive(&self.doing());
        }
        self.tell();
        self.say_goodbye().await;
        if dropped == 0 { Ended::InOrder } else { Ended::Dropped(dropped) }
    }

    fn outline(&self) -> String {
        let (databases, jobs) = (self.setup.databases.len(), self.agenda.items.len());
        format!("{jobs} scheduled jobs of {databases} databases; {}", self.doing())
    }

    /// What it does now, in one line.
    fn doing(&self) -> String {
        let mut at_work: Vec<String> = self
            .running
            .values()
            .map(|run| format!("{} of {}", run.order.kind, run.order.database))
            .collect();
        at_work.sort();
        match (at_work.is_empty(), self.agenda.next()) {
            (false, _) => format!("at work: {}", at_work.join(", ")),
            (true, Some(next)) => format!("next at {}", next.strftime("%Y-%m-%dT%H:%M:%SZ")),
            (true, None) => "nothing is scheduled".to_owned(),
        }
    }
}
