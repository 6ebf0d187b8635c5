//! A run under supervision: it has a deadline, must not stand still, and ends when the daemon does.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::work::{Order, Work};
use crate::error::{Error, ErrorKind};
use crate::health::findings;
use crate::model::human;
use crate::model::observer::LoadObserver;
use crate::model::observer::Observer;
use crate::model::run::{Ending, Run};
use crate::model::stage::Stage;

/// How long a run that was told to stop may take to end in order.
pub const GRACE: Duration = Duration::from_secs(30);

/// How long a run may take.
#[derive(Debug, Clone)]
pub struct Limits {
    /// In all.
    pub deadline: Duration,
    /// In one stage; those that are not here have as long as the whole.
    pub stages: BTreeMap<Stage, Duration>,
    /// Without a stage that ends, a byte that moves, or an answer of a target; not in stages in which nothing of that
    /// is seen.
    pub stall: Duration,
}

impl Limits {
    /// When the first of them ends, unless something moves before.
    fn ends(&self, begun: Instant, seen: &Seen) -> Instant {
        let all = [self.stalls(seen), self.of_stage(seen).map(|(_, since, limit)| since + limit)];
        all.into_iter().flatten().fold(begun + self.deadline, Instant::min)
    }

    /// The one that is over, as the error of the run.
    fn over(&self, begun: Instant, seen: &Seen, now: Instant) -> Option<Error> {
        if now >= begun + self.deadline {
            return Some(too_long("it", self.deadline, "deadlines"));
        }
        if let Some((stage, since, limit)) = self.of_stage(seen)
            && now >= since + limit
        {
            let (what, key) = (format!("its stage `{stage}`"), format!("deadlines.stages.{stage}"));
            return Some(too_long(&what, limit, &key));
        }
        self.stalls(seen).is_some_and(|at| now >= at).then(|| still(self.stall))
    }

    fn stalls(&self, seen: &Seen) -> Option<Instant> {
        let silent = seen.stage.is_some_and(|(stage, _)| stage.is_silent());
        (!silent).then(|| seen.moved + self.stall)
    }

    fn of_stage(&self, seen: &Seen) -> Option<(&'static str, Instant, Duration)> {
        let (stage, since) = seen.stage?;
        Some((stage.word(), since, *self.stages.get(&stage)?))
    }
}

/// Sees how a run moves.
#[derive(Debug)]
pub struct Progress {
    what: String,
    seen: Mutex<Seen>,
    /// Told of every stage that begins: its limit may end before all others.
    begins: Notify,
}

#[derive(Debug, Clone, Copy)]
struct Seen {
    /// With the moment when it began.
    stage: Option<(Stage, Instant)>,
    moved: Instant,
}

impl Progress {
    /// A run that has just begun.
    pub fn new(order: &Order) -> Self {
        let seen = Seen { stage: None, moved: Instant::now() };
        let what = format!("{} of {}", order.kind, order.database);
        Self { what, seen: Mutex::new(seen), begins: Notify::new() }
    }

    /// The stage it is in.
    pub fn stage(&self) -> Option<Stage> {
        self.seen().stage.map(|(stage, _)| stage)
    }

    fn seen(&self) -> Seen {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn moved(&self, stage: Option<Stage>) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        seen.moved = now;
        seen.stage = stage.map(|stage| (stage, now)).or(seen.stage);
    }
}

impl LoadObserver for Progress {
    fn stage(&self, stage: Stage) {
        tracing::debug!("{}: {}", self.what, stage.word());
        self.moved(Some(stage));
        self.begins.notify_one();
    }

    fn bytes(&self, n: u64) {
        if n > 0 {
            self.moved(None);
        }
    }
}

impl Observer for Progress {
    fn expect(&self, _bytes: u64) {}

    fn moves(&self) {
        self.moved(None);
    }

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
        let ends = limits.ends(begun, &progress.seen());
        tokio::select! {
            run = &mut run => return in_order(at_stage(run, &progress)),
            () = cancel.cancelled() => break None,
            () = progress.begins.notified() => continue,
            () = sleep_until(ends) => {}
        }
        // It may have moved on while this slept.
        if let Some(over) = limits.over(begun, &progress.seen(), Instant::now()) {
            break Some(over);
        }
    };
    cancel.cancel();
    let ended = timeout(GRACE, run).await;
    let failed =
        |e: &Error| findings::failed(&order.database, order.kind, progress.stage().map(Stage::word), e);
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
        condition.stage = progress.stage().map(|stage| stage.word().to_owned());
    }
    run
}

fn too_long(what: &str, limit: Duration, key: &str) -> Error {
    let limit = human::duration(limit.as_secs_f64());
    Error::new(ErrorKind::Internal, format!("{what} took longer than {limit}, and was stopped"))
        .remedy(format!("Find out what it waits for; if it needs so long, raise `{key}` of the database."))
}

fn still(limit: Duration) -> Error {
    let limit = human::duration(limit.as_secs_f64());
    Error::new(ErrorKind::Internal, format!("it stood still for {limit}, and was stopped")).remedy(
        "Look at the database server and the target for locks and broken connections. `deadlines.stall` says how long \
         nothing may move.",
    )
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use tokio::time::sleep;

    use super::*;
    use crate::daemon::work::Sight;
    use crate::model::job::JobKind;

    const MINUTE: Duration = Duration::from_secs(60);

    /// What a run does that goes on for a day.
    #[derive(Clone, Copy)]
    enum Habit {
        /// Nothing.
        Waits,
        /// Gets an answer every minute.
        Asks,
        /// Moves a byte every minute.
        Moves,
        /// Begins another stage every minute.
        Steps,
        /// Is in a stage in which nothing moves.
        Compares,
    }

    struct Restless(Habit);

    #[async_trait]
    impl Work for Restless {
        async fn run(
            &self,
            order: &Order,
            _: Timestamp,
            observer: Arc<dyn Observer>,
            _: &CancellationToken,
        ) -> Run {
            observer.stage(Stage::Open);
            for minute in 0..24 * 60 {
                sleep(MINUTE).await;
                match self.0 {
                    Habit::Waits => {}
                    Habit::Asks => observer.moves(),
                    Habit::Moves => observer.bytes(1),
                    Habit::Compares if minute == 0 => observer.stage(Stage::Compare),
                    Habit::Compares => {}
                    Habit::Steps => observer.stage(if minute % 2 == 0 { Stage::Read } else { Stage::Open }),
                }
            }
            findings::failed(&order.database, order.kind, None, &Error::internal("it came to its end"))
        }

        async fn look(&self, _: Timestamp, _: &CancellationToken) -> Sight {
            Sight::default()
        }
    }

    async fn supervised(habit: Habit, limits: Limits) -> (String, Duration) {
        let order = Order { database: "gazette/abonnes".parse().unwrap(), kind: JobKind::Verify, turn: 0 };
        let (progress, begun) = (Arc::new(Progress::new(&order)), Instant::now());
        let work = Arc::new(Restless(habit));
        let ended = run(work, order, Timestamp::UNIX_EPOCH, limits, progress, CancellationToken::new()).await;
        assert_eq!((ended.run.ending, ended.dropped), (Ending::Failed, false));
        let condition = &ended.run.conditions[0];
        assert!(condition.stage.is_some(), "{condition:?}");
        // It does not hear that it is told to stop, and is dropped after its grace.
        (format!("{} {}", ended.run.detail, condition.remedy), begun.elapsed().saturating_sub(GRACE))
    }

    fn limits() -> Limits {
        Limits {
            deadline: 300 * MINUTE,
            stages: BTreeMap::from([(Stage::Open, 90 * MINUTE)]),
            stall: 30 * MINUTE,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn every_limit_ends_a_run_and_says_which_it_was() {
        let cases = [
            (Habit::Waits, 30, "stood still for 30 min", "`deadlines.stall`"),
            (Habit::Asks, 90, "its stage `open` took longer than 1 h 30 min", "`deadlines.stages.open`"),
            (Habit::Moves, 90, "its stage `open` took longer than 1 h 30 min", "`deadlines.stages.open`"),
            (Habit::Steps, 300, "it took longer than 5 h", "`deadlines`"),
            (Habit::Compares, 300, "it took longer than 5 h", "`deadlines`"),
        ];
        for (habit, minutes, words, key) in cases {
            let (said, took) = supervised(habit, limits()).await;
            assert!(said.contains(words) && said.contains(key), "{said}");
            assert_eq!(took, minutes * MINUTE, "{said}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_stage_may_end_before_anything_else_would() {
        let short = Limits { stages: BTreeMap::from([(Stage::Open, MINUTE / 2)]), ..limits() };
        for habit in [Habit::Waits, Habit::Steps] {
            let (said, took) = supervised(habit, short.clone()).await;
            assert!(said.contains("its stage `open` took longer than 30 s"), "{said}");
            assert_eq!(took, MINUTE / 2);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_stage_without_a_limit_has_as_long_as_the_run() {
        let free = Limits { stages: BTreeMap::new(), ..limits() };
        let (said, took) = supervised(Habit::Asks, free).await;
        assert!(said.contains("it took longer than 5 h"), "{said}");
        assert_eq!(took, 300 * MINUTE);
    }
}
