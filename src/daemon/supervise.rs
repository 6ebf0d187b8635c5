//! Supervises a run: it has a deadline, must not stall, and ends when the daemon does.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::work::{JobSpec, Work};
use crate::error::{Error, ErrorKind};
use crate::health::findings;
use crate::model::human;
use crate::model::observer::LoadObserver;
use crate::model::observer::Observer;
use crate::model::run::{Ending, Run};
use crate::model::stage::Stage;

/// How long a run that was told to stop may take to end gracefully.
pub(crate) const GRACE: Duration = Duration::from_secs(30);

/// How often a long run logs how far it is.
const LOGGED_EVERY: Duration = Duration::from_secs(300);

/// How long a run may take.
#[derive(Debug, Clone)]
pub(crate) struct Limits {
    /// In total.
    pub deadline: Duration,
    /// In one stage; other stages are limited only by the total.
    pub stages: BTreeMap<Stage, Duration>,
    /// Without the end of a stage, a transferred byte, or an answer of a target. It does not apply to stages in which
    /// none of these can be observed.
    pub stall: Duration,
}

impl Limits {
    /// When the first limit is reached, unless there is activity before.
    fn ends(&self, begun: Instant, activity: &Activity) -> Instant {
        let all = [self.stalls(activity), self.of_stage(activity).map(|(_, since, limit)| since + limit)];
        all.into_iter().flatten().fold(begun + self.deadline, Instant::min)
    }

    /// The limit that was exceeded, as the error of the run.
    fn exceeded(&self, begun: Instant, activity: &Activity, now: Instant) -> Option<Error> {
        if now >= begun + self.deadline {
            return Some(too_long("it", self.deadline, "deadlines"));
        }
        if let Some((stage, since, limit)) = self.of_stage(activity)
            && now >= since + limit
        {
            let (what, key) = (format!("its stage `{stage}`"), format!("deadlines.stages.{stage}"));
            return Some(too_long(&what, limit, &key));
        }
        self.stalls(activity).is_some_and(|at| now >= at).then(|| stalled(self.stall))
    }

    fn stalls(&self, activity: &Activity) -> Option<Instant> {
        let silent = activity.stage.is_some_and(|(stage, _)| stage.is_silent());
        (!silent).then(|| activity.moved + self.stall)
    }

    fn of_stage(&self, activity: &Activity) -> Option<(&'static str, Instant, Duration)> {
        let (stage, since) = activity.stage?;
        Some((stage.word(), since, *self.stages.get(&stage)?))
    }
}

/// Observes the activity of a run.
#[derive(Debug)]
pub(crate) struct Progress {
    what: String,
    activity: Mutex<Activity>,
    /// Notified of every stage that begins: its limit may be reached before all others.
    stage_started: Notify,
}

#[derive(Debug, Clone, Copy)]
struct Activity {
    /// The stage and when it began.
    stage: Option<(Stage, Instant)>,
    moved: Instant,
    /// Bytes of the stage so far, how many are expected, and when this was logged last.
    bytes: u64,
    expected: u64,
    logged: Instant,
}

impl Progress {
    /// A run that has just begun.
    pub(crate) fn new(spec: &JobSpec) -> Self {
        let now = Instant::now();
        let activity = Activity { stage: None, moved: now, bytes: 0, expected: 0, logged: now };
        let what = format!("{} of {}", spec.kind, spec.database);
        Self { what, activity: Mutex::new(activity), stage_started: Notify::new() }
    }

    /// The current stage.
    pub(crate) fn stage(&self) -> Option<Stage> {
        self.activity().stage.map(|(stage, _)| stage)
    }

    fn activity(&self) -> Activity {
        *self.activity.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn moved(&self, stage: Option<Stage>) {
        let mut activity = self.activity.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        activity.moved = now;
        if let Some(stage) = stage {
            (activity.stage, activity.bytes, activity.expected) = (Some((stage, now)), 0, 0);
        }
    }

    /// Counts bytes. True when it is time to log how far the run is.
    fn count(&self, n: u64) -> bool {
        let mut activity = self.activity.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        activity.moved = now;
        activity.bytes += n;
        let due = now >= activity.logged + LOGGED_EVERY;
        if due {
            activity.logged = now;
        }
        due
    }
}

impl LoadObserver for Progress {
    fn stage(&self, stage: Stage) {
        tracing::debug!("{}: {}", self.what, stage.word());
        self.moved(Some(stage));
        self.stage_started.notify_one();
    }

    fn bytes(&self, n: u64) {
        if n > 0 && self.count(n) {
            let Activity { stage, bytes, expected, .. } = self.activity();
            let stage = stage.map_or("", |(stage, _)| stage.word());
            let of =
                if expected > 0 { format!(" of about {}", human::bytes(expected)) } else { String::new() };
            tracing::info!("{}: {stage}, {}{of} so far", self.what, human::bytes(bytes));
        }
    }
}

impl Observer for Progress {
    fn expect(&self, bytes: u64) {
        self.activity.lock().unwrap_or_else(PoisonError::into_inner).expected = bytes;
    }

    fn moves(&self) {
        self.moved(None);
    }

    fn warn(&self, message: &str) {
        tracing::warn!("{}: {message}", self.what);
    }
}

/// How a supervised run ended.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// Its result.
    pub run: Run,
    /// It was told to stop, did not end in time, and was dropped.
    pub dropped: bool,
}

/// Runs a job to its end, or until a limit is exceeded. A run that does not stop in time is dropped, with its child
/// processes.
pub(crate) async fn run(
    work: Arc<dyn Work>,
    spec: JobSpec,
    now: Timestamp,
    limits: Limits,
    progress: Arc<Progress>,
    cancel: CancellationToken,
) -> Outcome {
    let in_order = |run| Outcome { run, dropped: false };
    let begun = Instant::now();
    let mut run = work.run(&spec, now, progress.clone(), &cancel);
    let why = loop {
        let ends = limits.ends(begun, &progress.activity());
        tokio::select! {
            run = &mut run => return in_order(at_stage(run, &progress)),
            () = cancel.cancelled() => break None,
            () = progress.stage_started.notified() => continue,
            () = sleep_until(ends) => {}
        }
        // There may have been activity during the sleep.
        if let Some(exceeded) = limits.exceeded(begun, &progress.activity(), Instant::now()) {
            break Some(exceeded);
        }
    };
    cancel.cancel();
    let ended = timeout(GRACE, run).await;
    let failed =
        |e: &Error| findings::failed(&spec.database, spec.kind, progress.stage().map(Stage::word), e);
    match (why, ended) {
        // It was just finishing.
        (_, Ok(run)) if run.ending == Ending::Done => in_order(run),
        (Some(why), _) => in_order(failed(&why)),
        (None, Ok(run)) => in_order(run),
        (None, Err(_)) => {
            let e = Error::interrupted().cause("it did not stop in time, and was dropped");
            Outcome { run: failed(&e), dropped: true }
        }
    }
}

/// Adds the stage that a run failed in: the run itself does not know it, its observer does.
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
        .remedy(format!("Find out what it waits for; if it needs that long, raise `{key}` of the database."))
}

fn stalled(limit: Duration) -> Error {
    let limit = human::duration(limit.as_secs_f64());
    Error::new(ErrorKind::Internal, format!("it stood still for {limit}, and was stopped")).remedy(
        "Look at the database server and the target for locks and broken connections. `deadlines.stall` is the \
         longest time without progress.",
    )
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use tokio::time::sleep;

    use super::*;
    use crate::daemon::work::LookReport;
    use crate::model::job::JobKind;

    const MINUTE: Duration = Duration::from_secs(60);

    /// What a run of a day does.
    #[derive(Clone, Copy)]
    enum Behaviour {
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

    struct DayLongJob(Behaviour);

    #[async_trait]
    impl Work for DayLongJob {
        async fn run(
            &self,
            spec: &JobSpec,
            _: Timestamp,
            observer: Arc<dyn Observer>,
            _: &CancellationToken,
        ) -> Run {
            observer.stage(Stage::Open);
            for minute in 0..24 * 60 {
                sleep(MINUTE).await;
                match self.0 {
                    Behaviour::Waits => {}
                    Behaviour::Asks => observer.moves(),
                    Behaviour::Moves => observer.bytes(1),
                    Behaviour::Compares if minute == 0 => observer.stage(Stage::Compare),
                    Behaviour::Compares => {}
                    Behaviour::Steps => {
                        observer.stage(if minute % 2 == 0 { Stage::Read } else { Stage::Open })
                    }
                }
            }
            findings::failed(&spec.database, spec.kind, None, &Error::internal("it came to its end"))
        }

        async fn look(&self, _: Timestamp, _: &CancellationToken) -> LookReport {
            LookReport::default()
        }
    }

    async fn supervised(behaviour: Behaviour, limits: Limits) -> (String, Duration) {
        let spec = JobSpec { database: "gazette/abonnes".parse().unwrap(), kind: JobKind::Verify, turn: 0 };
        let (progress, begun) = (Arc::new(Progress::new(&spec)), Instant::now());
        let work = Arc::new(DayLongJob(behaviour));
        let ended = run(work, spec, Timestamp::UNIX_EPOCH, limits, progress, CancellationToken::new()).await;
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
            (Behaviour::Waits, 30, "stood still for 30 min", "`deadlines.stall`"),
            (Behaviour::Asks, 90, "its stage `open` took longer than 1 h 30 min", "`deadlines.stages.open`"),
            (Behaviour::Moves, 90, "its stage `open` took longer than 1 h 30 min", "`deadlines.stages.open`"),
            (Behaviour::Steps, 300, "it took longer than 5 h", "`deadlines`"),
            (Behaviour::Compares, 300, "it took longer than 5 h", "`deadlines`"),
        ];
        for (behaviour, minutes, words, key) in cases {
            let (said, took) = supervised(behaviour, limits()).await;
            assert!(said.contains(words) && said.contains(key), "{said}");
            assert_eq!(took, minutes * MINUTE, "{said}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_stage_may_end_before_anything_else_would() {
        let short = Limits { stages: BTreeMap::from([(Stage::Open, MINUTE / 2)]), ..limits() };
        for behaviour in [Behaviour::Waits, Behaviour::Steps] {
            let (said, took) = supervised(behaviour, short.clone()).await;
            assert!(said.contains("its stage `open` took longer than 30 s"), "{said}");
            assert_eq!(took, MINUTE / 2);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_stage_without_a_limit_has_as_long_as_the_run() {
        let free = Limits { stages: BTreeMap::new(), ..limits() };
        let (said, took) = supervised(Behaviour::Asks, free).await;
        assert!(said.contains("it took longer than 5 h"), "{said}");
        assert_eq!(took, 300 * MINUTE);
    }
}
