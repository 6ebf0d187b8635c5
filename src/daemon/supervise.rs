//! A run under supervision: it has a deadline, must not stand still, and ends when the daemon does.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::work::{Order, Work};
use crate::engine::LoadObserver;
use crate::error::{Error, ErrorKind};
use crate::job::{Observer, findings};
use crate::model::human;
use crate::model::run::{Ending, Run};

/// How long a run that was told to stop may take to end in order.
pub const GRACE: Duration = Duration::from_secs(30);

/// How long a run may take.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// In all.
    pub deadline: Duration,
    /// Without a stage that ends or a byte that moves.
    pub stall: Duration,
}

/// Sees how a run moves.
#[derive(Debug)]
pub struct Progress {
    what: String,
    seen: Mutex<Seen>,
}

#[derive(Debug, Clone, Copy)]
struct Seen {
    stage: Option<&'static str>,
    moved: Instant,
}

impl Progress {
    /// A run that has just begun.
    pub fn new(order: &Order) -> Self {
        let seen = Seen { stage: None, moved: Instant::now() };
        Self { what: format!("{} of {}", order.kind, order.database), seen: Mutex::new(seen) }
    }

    /// The stage it is in.
    pub fn stage(&self) -> Option<&'static str> {
        self.seen().stage
    }

    fn seen(&self) -> Seen {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn moves(&self, stage: Option<&'static str>) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.moved = Instant::now();
        seen.stage = stage.or(seen.stage);
    }
}

impl LoadObserver for Progress {
    fn stage(&self, name: &'static str) {
        tracing::debug!("{}: {name}", self.what);
        self.moves(Some(name));
    }

    fn bytes(&self, n: u64) {
        if n > 0 {
            self.moves(None);
        }
    }
}

impl Observer for Progress {
    fn expect(&self, _bytes: u64) {}

    fn warn(&self, message: &str) {
        tracing::warn!("{}: {message}", self.what);
    }
}

/// How a run under supervision ended.
#[derive(Debug)]
pub struct Ended {
    /// What came of it.
    pub run: Run,
    /// It was told to stop, did not end in order, and was dropped.
    pub dropped: bool,
}

/// Runs it to its end, or to the end of its time. What does not end in order by then is dropped, with its children.
pub async fn run(
    work: Arc<dyn Work>,
    order: Order,
    now: Timestamp,
    limits: Limits,
    progress: Arc<Progress>,
    cancel: CancellationToken,
) -> Ended {
    let in_order = |run| Ended { run, dropped: false };
    let begun = Instant::now();
    let mut run = work.run(&order, now, progress.clone(), &cancel);
    let why = loop {
        let (last, stalled) = (begun + limits.deadline, progress.seen().moved + limits.stall);
        tokio::select! {
            run = &mut run => return in_order(at_stage(run, &progress)),
            () = cancel.cancelled() => break None,
            () = sleep_until(last.min(stalled)) => {}
        }
        let now = Instant::now();
        if now >= last {
            break Some(too_long(&limits));
        }
        if now >= progress.seen().moved + limits.stall {
            break Some(still(&limits));
        }
    };
    cancel.cancel();
    let ended = timeout(GRACE, run).await;
    let failed = |e: &Error| findings::failed(&order.database, order.kind, progress.stage(), e);
    match (why, ended) {
        // It was nearly done.
        (_, Ok(run)) if run.ending == Ending::Done => in_order(run),
        (Some(why), _) => in_order(failed(&why)),
        (None, Ok(run)) => in_order(run),
        (None, Err(_)) => {
            let e = Error::interrupted().cause("it did not end in order, and was dropped");
            Ended { run: failed(&e), dropped: true }
        }
    }
}

/// A job that ends with an error does not say how far it came; its observer does.
fn at_stage(mut run: Run, progress: &Progress) -> Run {
    if run.ending == Ending::Failed
        && let Some(condition) = run.conditions.first_mut().filter(|condition| condition.stage.is_none())
    {
        condition.stage = progress.stage().map(str::to_owned);
    }
    run
}

fn too_long(limits: &Limits) -> Error {
    let limit = human::duration(limits.deadline.as_secs_f64());
    Error::new(ErrorKind::Internal, format!("it took longer than {limit}, and was stopped"))
        .remedy("Find out what it waits for; if it needs so long, raise `deadlines` of the database.")
}

fn still(limits: &Limits) -> Error {
    let limit = human::duration(limits.stall.as_secs_f64());
    Error::new(ErrorKind::Internal, format!("it stood still for {limit}, and was stopped")).remedy(
        "Look at the database server and the target for locks and broken connections. `deadlines.stall` says how long \
         nothing may move.",
    )
}
