//! A year of a daemon in seconds: tokio's clock is paused and jumps from one wait to the next.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::plan::{Plan, Planned};
use super::supervise::Limits;
use super::work::{Clock, JobSpec, LookReport, Work};
use super::*;
use crate::alert::dispatcher::{DispatcherSettings, RoutedChannel};
use crate::alert::{Channel, ChannelError, Message, Purpose, Sent};
use crate::error::{Error, ErrorKind};
use crate::health::findings;
use crate::model::condition::{Condition, ConditionKind, Severity};
use crate::model::incident::Policy;
use crate::model::job::{JobKind, SlotState};
use crate::model::observer::Observer;
use crate::model::route::{Audience, Role, Route};
use crate::model::run::{Ending, Numbers, Run};
use crate::model::stage::Stage;
use crate::state::SlotRecord;

/// Civil time of the test: a start, and tokio's own time since.
struct TestClock {
    start: Timestamp,
    since: Instant,
    off: Mutex<SignedDuration>,
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        let passed = SignedDuration::try_from(self.since.elapsed()).unwrap();
        self.start + passed + *self.off.lock().unwrap()
    }
}

impl TestClock {
    fn at(start: &str) -> Arc<Self> {
        let start = start.parse().unwrap();
        Arc::new(Self { start, since: Instant::now(), off: Mutex::new(SignedDuration::ZERO) })
    }
}

/// What a job does when it runs at this time.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Behaviour {
    /// Takes this many seconds and succeeds.
    Takes(u64),
    /// Fails at once.
    Fails,
    /// Hangs until it is told to stop.
    Hangs,
    /// Hangs, and ignores that it is told to stop.
    IgnoresCancel,
    /// Moves one byte a minute for ever.
    Trickles,
    /// Dies of a bug.
    Panics,
    /// Finds another process at work.
    Conflicts,
}

/// What a look finds besides the databases.
type Conditions = Box<dyn Fn(Timestamp) -> Vec<Condition> + Send + Sync>;
type Script = Box<dyn Fn(&JobSpec, Timestamp) -> Behaviour + Send + Sync>;

/// Work that follows a script.
struct Scripted {
    script: Script,
    conditions: Conditions,
    runs: Mutex<Vec<(JobSpec, Timestamp)>>,
}

#[async_trait]
impl Work for Scripted {
    async fn run(
        &self,
        spec: &JobSpec,
        now: Timestamp,
        observer: Arc<dyn Observer>,
        cancel: &CancellationToken,
    ) -> Run {
        self.runs.lock().unwrap().push((spec.clone(), now));
        observer.stage(Stage::Read);
        let interrupted = || findings::failed(&spec.database, spec.kind, None, &Error::interrupted());
        match (self.script)(spec, now) {
            Behaviour::Takes(seconds) => {
                let end = Instant::now() + Duration::from_secs(seconds);
                while Instant::now() < end {
                    tokio::select! {
                        () = sleep(Duration::from_secs(600).min(end - Instant::now())) => observer.bytes(1),
                        () = cancel.cancelled() => return interrupted(),
                    }
                }
                Run {
                    ending: Ending::Done,
                    detail: "done".to_owned(),
                    proven: true,
                    conditions: Vec::new(),
                    reached: Vec::new(),
                    numbers: Numbers::default(),
                }
            }
            Behaviour::Fails => {
                let e = Error::database("the server refuses").cause("FATAL: too many clients");
                findings::failed(&spec.database, spec.kind, None, &e)
            }
            Behaviour::Hangs => {
                cancel.cancelled().await;
                interrupted()
            }
            Behaviour::IgnoresCancel => std::future::pending().await,
            Behaviour::Trickles => loop {
                tokio::select! {
                    () = sleep(Duration::from_secs(60)) => observer.bytes(1),
                    () = cancel.cancelled() => return interrupted(),
                }
            },
            Behaviour::Panics => panic!("a bug"),
            Behaviour::Conflicts => {
                let e = Error::new(ErrorKind::Conflict, "another job runs");
                findings::failed(&spec.database, spec.kind, None, &e)
            }
        }
    }

    async fn look(&self, now: Timestamp, _cancel: &CancellationToken) -> LookReport {
        LookReport { conditions: (self.conditions)(now), ..LookReport::default() }
    }
}

/// A channel that records what was sent, and when.
#[derive(Debug)]
struct RecordingChannel {
    sent: Mutex<Vec<(Timestamp, String)>>,
    down: Mutex<bool>,
}

#[async_trait]
impl Channel for RecordingChannel {
    fn describe(&self) -> String {
        "recording".to_owned()
    }

    async fn send(&self, message: &Message, _: &CancellationToken) -> Result<Sent, ChannelError> {
        if *self.down.lock().unwrap() {
            return Err(ChannelError::unavailable("the channel is down", "Wait."));
        }
        let what = match message.purpose {
            Purpose::Incident(kind) => format!("{} {}", kind.word(), message.key),
            other => format!("{other:?}"),
        };
        self.sent.lock().unwrap().push((message.at, what));
        Ok(Sent::All)
    }

    async fn check(&self, _: &CancellationToken) -> Result<String, ChannelError> {
        Ok("it works".to_owned())
    }
}

impl RecordingChannel {
    fn heard(&self) -> Vec<String> {
        self.sent.lock().unwrap().iter().map(|(_, what)| what.clone()).collect()
    }
}

/// Has a heartbeat of a quarter of an hour, so that a year is not a million of them.
struct SilentNotifier;

impl ServiceNotifier for SilentNotifier {
    fn ready(&self, _now: Timestamp) {}
    fn reloading(&self) {}
    fn alive(&self, _status: &str) {}
    fn stopping(&self) {}
    fn heartbeat(&self) -> Duration {
        Duration::from_secs(900)
    }
}

fn planned(database: &str, kind: JobKind, expression: &str) -> Planned {
    Planned {
        database: database.parse().unwrap(),
        kind,
        schedule: expression.parse().unwrap(),
        zone: TimeZone::get("Europe/Paris").unwrap(),
        delay: Duration::ZERO,
        limits: Limits {
            deadline: Duration::from_secs(6 * 3600),
            stages: BTreeMap::new(),
            stall: Duration::from_secs(3600),
        },
    }
}

fn plan(jobs: Vec<Planned>) -> Plan {
    Plan { jobs, parallel: 2, look_every: Duration::from_secs(3600) }
}

/// In memory where the host has such a place: nine thousand runs of a year are many writes to a disk.
fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// A host with a daemon on it.
struct Host {
    folder: tempfile::TempDir,
    clock: Arc<TestClock>,
    work: Arc<Scripted>,
    channel: Arc<RecordingChannel>,
    plan: Plan,
    seen: BTreeMap<(String, &'static str, Timestamp), SlotRecord>,
}

impl Host {
    fn new(start: &str, jobs: Vec<Planned>, script: Script) -> Self {
        Self::under(start, jobs, script, Box::new(|_| Vec::new()))
    }

    fn under(start: &str, jobs: Vec<Planned>, script: Script, conditions: Conditions) -> Self {
        let clock = TestClock::at(start);
        let work = Arc::new(Scripted { script, conditions, runs: Mutex::default() });
        let channel = Arc::new(RecordingChannel { sent: Mutex::default(), down: Mutex::new(false) });
        Self { folder: folder(), clock, work, channel, plan: plan(jobs), seen: BTreeMap::new() }
    }

    fn state(&self) -> State {
        State::open(self.folder.path()).unwrap()
    }

    fn daemon(&self) -> (Daemon, mpsc::Sender<Request>) {
        let (sender, requests) = mpsc::channel(4);
        let route = Route {
            name: "recording".parse().unwrap(),
            role: Role::Main,
            audience: Audience::Everything,
            floor: Severity::Warning,
            quiet: None,
            fallback: Vec::new(),
        };
        let settings = DispatcherSettings {
            agent: "db1".to_owned(),
            policy: Policy::default(),
            gather: Duration::ZERO,
            canary: None,
            digest: None,
            channels: vec![RoutedChannel { route, channel: self.channel.clone() }],
        };
        let dispatcher = Arc::new(Dispatcher::new(settings, self.state()));
        let databases = self.plan.jobs.iter().map(|job| job.database.clone()).collect();
        let setup = Setup { plan: self.plan.clone(), work: self.work.clone(), dispatcher, databases };
        let parts = Parts {
            state: self.state(),
            clock: self.clock.clone(),
            setup,
            reload: Box::new(|| Err(Error::new(ErrorKind::Config, "the new file is bad"))),
            requests,
            notifier: Arc::new(SilentNotifier),
            status_sender: tokio::sync::watch::channel(Arc::new(publish::nothing_yet(&[], self.clock.now())))
                .0,
            startup_error: None,
        };
        (Daemon::new(parts).unwrap(), sender)
    }

    /// A daemon that works until `until`, and is then killed as by `kill -9`.
    async fn live(&mut self, until: &str) {
        while self.clock.now() < until.parse::<Timestamp>().unwrap() {
            let left = until.parse::<Timestamp>().unwrap().duration_since(self.clock.now());
            // In pieces, so that the records of each can be read before they are dropped.
            let piece = left.min(SignedDuration::from_hours(24 * 30));
            let (daemon, _requests) = self.daemon();
            let life = timeout(piece.unsigned_abs(), daemon.run()).await;
            assert!(life.is_err(), "a daemon that nobody stops does not end");
            self.read();
        }
    }

    fn read(&mut self) {
        let state = self.state();
        for job in &self.plan.jobs {
            // The newest last: a run that made up for one that died stands for its slots.
            for record in state.slots(&job.database, job.kind).unwrap().into_iter().rev() {
                let key = (job.database.to_string(), job.kind.word(), record.slots.first);
                self.seen.insert(key, record);
            }
        }
    }

    async fn down(&self, until: &str) {
        let left = until.parse::<Timestamp>().unwrap().duration_since(self.clock.now());
        sleep(left.unsigned_abs()).await;
    }

    fn records(&self, kind: JobKind) -> Vec<&SlotRecord> {
        self.seen.iter().filter(|((_, word, _), _)| *word == kind.word()).map(|(_, record)| record).collect()
    }
}

/// The slots of `minute hour` every day, found by looking at every minute on a wall clock in Paris.
fn by_hand(from: Timestamp, until: Timestamp, minute: i8, hour: Option<i8>) -> Vec<Timestamp> {
    let paris = TimeZone::get("Europe/Paris").unwrap();
    let mut found = Vec::new();
    let mut at = from;
    let mut before: Option<jiff::civil::DateTime> = None;
    while at <= until {
        let civil = paris.to_datetime(at);
        let wanted = |c: &jiff::civil::DateTime| c.minute() == minute && hour.is_none_or(|h| c.hour() == h);
        // The clock went forward past the slot.
        let skipped = before.is_some_and(|before| {
            let mut between = before.checked_add(1.minute()).unwrap();
            let mut hit = false;
            while hour.is_some() && between < civil {
                hit |= wanted(&between);
                between = between.checked_add(1.minute()).unwrap();
            }
            hit
        });
        // The clock went back: what it shows now was a slot already.
        let again = hour.is_some() && paris.to_ambiguous_timestamp(civil).is_ambiguous() && {
            let earlier = paris.to_datetime(at - SignedDuration::from_hours(1));
            earlier == civil
        };
        if skipped || (wanted(&civil) && !again) {
            found.push(at);
        }
        before = Some(civil);
        at += SignedDuration::from_mins(1);
    }
    found
}

/// A target that is lost for a week, a disk that is full for two days, and one that flaps for a day.
fn conditions_of_the_year(now: Timestamp) -> Vec<Condition> {
    let between = |from: &str, until: &str| {
        from.parse::<Timestamp>().unwrap() <= now && now < until.parse::<Timestamp>().unwrap()
    };
    let mut found = Vec::new();
    if between("2027-04-05T08:00:00Z", "2027-04-12T08:00:00Z") {
        found.push(
            Condition::new(ConditionKind::TargetFailing, Severity::Warning, "Target nas fails.")
                .object("nas"),
        );
    }
    if between("2027-06-01T03:00:00Z", "2027-06-03T03:00:00Z") {
        found.push(
            Condition::new(ConditionKind::DiskLow, Severity::Critical, "The disk is full.").object("spool"),
        );
    }
    let even = now.as_second() / 3600 % 2 == 0;
    if between("2027-07-10T00:00:00Z", "2027-07-11T00:00:00Z") && even {
        found.push(
            Condition::new(ConditionKind::TargetFailing, Severity::Warning, "Target ovh fails.")
                .object("ovh"),
        );
    }
    found
}

/// What people heard of one thing, in order.
fn heard_of(channel: &RecordingChannel, key: &str) -> Vec<(String, String)> {
    let sent = channel.sent.lock().unwrap();
    let of = sent.iter().filter_map(|(at, what)| {
        let (word, about) = what.split_once(' ')?;
        (about == key).then(|| (at.strftime("%m-%d %H").to_string(), word.to_owned()))
    });
    of.collect()
}

#[tokio::test(start_paused = true)]
async fn a_year_in_which_every_slot_is_accounted_for() {
    let (abonnes, boutique) = ("gazette/abonnes", "gazette/boutique");
    let jobs = vec![
        planned(abonnes, JobKind::Snapshot, "30 2 * * *"),
        planned(abonnes, JobKind::Drill, "0 5 * * *"),
        planned(boutique, JobKind::Snapshot, "0 * * * *"),
    ];
    let script = |spec: &JobSpec, now: Timestamp| {
        let day = |text: &str| now.strftime("%Y-%m-%d").to_string() == text;
        match (spec.database.database.as_str(), spec.kind) {
            ("boutique", _) if day("2026-12-24") => Behaviour::Hangs,
            ("boutique", _) if day("2027-02-03") => Behaviour::IgnoresCancel,
            ("boutique", _) if day("2027-05-05") => Behaviour::Takes(5 * 3600),
            ("boutique", _) => Behaviour::Takes(600),
            (_, JobKind::Drill) => Behaviour::Takes(3 * 3600),
            _ if day("2026-11-11") => Behaviour::Fails,
            _ if day("2027-01-06") => Behaviour::Panics,
            _ if day("2027-01-07") => Behaviour::Conflicts,
            _ => Behaviour::Takes(1200),
        }
    };
    let start = "2026-10-01T10:00:00Z";
    let mut host = Host::under(start, jobs, Box::new(script), Box::new(conditions_of_the_year));
    host.live("2026-10-20T00:31:00Z").await; // in the middle of a snapshot
    host.down("2026-10-23T12:00:00Z").await;
    host.live("2027-01-15T00:00:00Z").await; // over the autumn overlap
    host.down("2027-01-15T00:10:00Z").await; // a reboot
    host.live("2027-03-27T22:00:00Z").await;
    host.down("2027-03-28T09:00:00Z").await; // over the spring gap
    host.live("2027-10-01T09:59:30Z").await;

    let until = "2027-10-01T09:59:00Z".parse().unwrap();
    let from = start.parse::<Timestamp>().unwrap() + SignedDuration::from_mins(1);
    let expected = [
        (abonnes, JobKind::Snapshot, by_hand(from, until, 30, Some(2))),
        (abonnes, JobKind::Drill, by_hand(from, until, 0, Some(5))),
        (boutique, JobKind::Snapshot, by_hand(from, until, 0, None)),
    ];
    for (database, kind, slots) in expected {
        let mut records: Vec<&SlotRecord> = host
            .seen
            .iter()
            .filter(|((name, word, _), _)| name == database && *word == kind.word())
            .map(|(_, record)| record)
            .collect();
        records.sort_by_key(|record| record.slots.first);
        let total: u64 = records.iter().map(|record| record.slots.count).sum();
        assert_eq!(total, slots.len() as u64, "{kind} of {database}");
        for slot in &slots {
            let covers = |r: &&&SlotRecord| r.slots.first <= *slot && *slot <= r.slots.last;
            let by: Vec<_> = records.iter().filter(covers).collect();
            assert_eq!(by.len(), 1, "slot {slot} of {kind} of {database}: {by:?}");
            assert_ne!(by[0].state, SlotState::Running, "{slot}");
        }
    }
    let states = |kind: JobKind, state: SlotState| {
        host.records(kind).iter().filter(|record| record.state == state).count()
    };
    assert_eq!(states(JobKind::Drill, SlotState::Failed), 0);
    assert_eq!(states(JobKind::Snapshot, SlotState::Missed), 1, "the conflict");
    assert!(states(JobKind::Snapshot, SlotState::Overlapped) > 10, "long runs and hung ones");
    let made_up: Vec<u64> =
        host.records(JobKind::Drill).iter().map(|r| r.slots.count).filter(|n| *n > 1).collect();
    assert_eq!(made_up, [4], "after more than three days down, one drill");
    what_people_heard(&host);
}

/// No incident is lost, and none told twice.
fn what_people_heard(host: &Host) {
    let words = |key: &str| -> Vec<String> {
        heard_of(&host.channel, key).into_iter().map(|(_, word)| word).collect()
    };
    let lost = heard_of(&host.channel, "target-failing nas");
    let first = ("04-05 08".to_owned(), "opened".to_owned());
    let last = ("04-12 09".to_owned(), "resolved".to_owned());
    assert_eq!((lost.first(), lost.last()), (Some(&first), Some(&last)), "{lost:?}");
    let reminders = lost.iter().filter(|(_, word)| word == "reminded" || word == "escalated").count();
    assert_eq!(reminders, 7, "one a day: {lost:?}");
    let full = words("disk-low spool");
    assert_eq!((full.first().unwrap().as_str(), full.last().unwrap().as_str()), ("opened", "resolved"));
    let flapping = words("target-failing ovh");
    // Each return doubles the time that it must be gone: after the fifth, an hour is not enough any more.
    assert_eq!(flapping.len(), 10, "twelve times gone and back is no storm: {flapping:?}");
    assert_eq!(flapping.last().unwrap(), "resolved");
    // Of everything that began people heard the end, and of nothing twice.
    let sent = host.channel.sent.lock().unwrap().clone();
    let mut open = std::collections::BTreeSet::new();
    for (at, what) in &sent {
        let (word, key) = what.split_once(' ').unwrap();
        match word {
            "opened" => assert!(open.insert(key.to_owned()), "{key} opened twice, at {at}"),
            "resolved" => assert!(open.remove(key), "{key} ended without having begun, at {at}"),
            _ => assert!(open.contains(key), "{word} {key} at {at}"),
        }
    }
    assert_eq!(open, std::collections::BTreeSet::new());
    for key in [
        "snapshot-failed gazette/abonnes",
        "snapshot-failed gazette/boutique",
        "slot-missed gazette/abonnes drill",
    ] {
        assert!(words(key).len() >= 2, "{key}: {sent:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_stands_still_is_stopped_and_told() {
    let jobs = vec![planned("gazette/abonnes", JobKind::Snapshot, "0 0 * * *")];
    for (behaviour, says) in [
        (Behaviour::Hangs, "stood still for 1 h"),
        (Behaviour::IgnoresCancel, "stood still for 1 h"),
        (Behaviour::Trickles, "took longer than 6 h"),
    ] {
        let mut host = Host::new("2026-11-01T12:00:00Z", jobs.clone(), Box::new(move |_, _| behaviour));
        host.live("2026-11-02T10:00:00Z").await;
        // The oldest: it is tried again, and hangs again.
        let record = host
            .state()
            .slots(&"gazette/abonnes".parse().unwrap(), JobKind::Snapshot)
            .unwrap()
            .pop()
            .unwrap();
        assert_eq!(record.state, SlotState::Failed);
        assert!(record.detail.as_ref().unwrap().contains(says), "{record:?}");
        let runs = host.state().runs(&"gazette/abonnes".parse().unwrap()).unwrap();
        let condition = &runs[0].run.conditions[0];
        assert_eq!(
            (condition.kind, condition.stage.as_deref()),
            (ConditionKind::SnapshotFailed, Some("read"))
        );
    }
}

#[tokio::test(start_paused = true)]
async fn an_overlap_is_told_until_a_slot_has_its_run_again() {
    let jobs = vec![planned("gazette/abonnes", JobKind::Snapshot, "0 * * * *")];
    let script = |_: &JobSpec, now: Timestamp| match now.strftime("%H").to_string().as_str() {
        "13" => Behaviour::Takes(5400),
        _ => Behaviour::Takes(60),
    };
    let mut host = Host::new("2026-11-01T12:30:00Z", jobs, Box::new(script));
    host.live("2026-11-01T17:30:00Z").await;
    let overlapped = "slot-overlapped gazette/abonnes snapshot";
    assert_eq!(host.channel.heard(), [format!("opened {overlapped}"), format!("resolved {overlapped}")]);
    assert_eq!(host.work.runs.lock().unwrap().len(), 4, "13, 15, 16 and 17 h");
}

#[tokio::test(start_paused = true)]
async fn a_stop_ends_in_order_and_the_next_start_makes_up_for_it() {
    let jobs = vec![planned("gazette/abonnes", JobKind::Snapshot, "0 0 * * *")];
    let mut host = Host::new("2026-11-01T12:00:00Z", jobs, Box::new(|_, _| Behaviour::Takes(3600)));
    let (daemon, requests) = host.daemon();
    let at_work = tokio::spawn(daemon.run());
    sleep(Duration::from_secs(11 * 3600 + 600)).await; // 00:10 in Paris
    let _ = requests.send(Request::Stop).await;
    assert_eq!(at_work.await.unwrap(), Exit::InOrder);
    host.read();
    assert_eq!(host.records(JobKind::Snapshot)[0].state, SlotState::Interrupted);
    host.live("2026-11-02T06:00:00Z").await;
    let states: Vec<SlotState> = host
        .state()
        .slots(&"gazette/abonnes".parse().unwrap(), JobKind::Snapshot)
        .unwrap()
        .iter()
        .map(|r| r.state)
        .collect();
    assert_eq!(states, [SlotState::Done, SlotState::Interrupted]);
}

#[tokio::test(start_paused = true)]
async fn a_job_that_the_daemon_does_not_outlive_is_told() {
    let jobs = vec![planned("gazette/abonnes", JobKind::Snapshot, "0 * * * *")];
    let script = |_: &JobSpec, now: Timestamp| match now.strftime("%d").to_string().as_str() {
        "01" => Behaviour::Takes(1800),
        _ => Behaviour::Takes(60),
    };
    let mut host = Host::new("2026-11-01T12:30:00Z", jobs, Box::new(script));
    for minute in ["13:03", "13:06", "13:08"] {
        host.live(&format!("2026-11-01T{minute}:00Z")).await; // killed while it runs
    }
    let died = "slot-missed gazette/abonnes snapshot died";
    assert_eq!(host.channel.heard(), [format!("opened {died}")]);
    host.live("2026-11-02T03:30:00Z").await;
    assert_eq!(host.channel.heard(), [format!("opened {died}"), format!("resolved {died}")]);
}

#[tokio::test(start_paused = true)]
async fn a_run_by_hand_mends_a_missed_slot() {
    let jobs = vec![planned("gazette/abonnes", JobKind::Drill, "0 5 * * *")];
    let mut host = Host::new("2026-11-01T12:00:00Z", jobs, Box::new(|_, _| Behaviour::Conflicts));
    host.live("2026-11-02T12:00:00Z").await;
    let missed = "slot-missed gazette/abonnes drill";
    assert_eq!(host.channel.heard(), [format!("opened {missed}")]);
    let run = Run {
        ending: Ending::Done,
        detail: "by hand".to_owned(),
        proven: true,
        conditions: Vec::new(),
        reached: Vec::new(),
        numbers: Numbers::default(),
    };
    let now = host.clock.now();
    host.state().record_run(&"gazette/abonnes".parse().unwrap(), JobKind::Drill, (now, now), &run).unwrap();
    host.live("2026-11-02T16:00:00Z").await;
    assert_eq!(host.channel.heard(), [format!("opened {missed}"), format!("resolved {missed}")]);
}

#[tokio::test(start_paused = true)]
async fn what_does_not_end_in_order_is_dropped() {
    let jobs = vec![planned("gazette/abonnes", JobKind::Snapshot, "0 0 * * *")];
    let host = Host::new("2026-11-01T12:00:00Z", jobs, Box::new(|_, _| Behaviour::IgnoresCancel));
    let (daemon, requests) = host.daemon();
    let at_work = tokio::spawn(daemon.run());
    sleep(Duration::from_secs(11 * 3600 + 600)).await;
    let asked = Instant::now();
    let _ = requests.send(Request::Stop).await;
    assert_eq!(at_work.await.unwrap(), Exit::Dropped(1));
    assert_eq!(asked.elapsed(), supervise::GRACE);
}

#[tokio::test(start_paused = true)]
async fn a_bad_configuration_is_refused_and_told_while_the_old_one_works_on() {
    let jobs = vec![planned("gazette/abonnes", JobKind::Snapshot, "0 0 * * *")];
    let host = Host::new("2026-11-01T12:00:00Z", jobs, Box::new(|_, _| Behaviour::Takes(60)));
    let (daemon, requests) = host.daemon();
    let at_work = tokio::spawn(daemon.run());
    sleep(Duration::from_secs(60)).await;
    let _ = requests.send(Request::Reload).await;
    sleep(Duration::from_secs(20 * 3600)).await;
    let _ = requests.send(Request::Stop).await;
    at_work.await.unwrap();
    assert_eq!(host.work.runs.lock().unwrap().len(), 1, "the old plan goes on");
    assert_eq!(host.channel.heard(), ["opened config-refused"]);
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_jumps_is_told() {
    let jobs = vec![planned("gazette/abonnes", JobKind::Snapshot, "0 * * * *")];
    let host = Host::new("2026-11-01T12:00:00Z", jobs, Box::new(|_, _| Behaviour::Takes(60)));
    let (daemon, requests) = host.daemon();
    let at_work = tokio::spawn(daemon.run());
    sleep(Duration::from_secs(7000)).await;
    *host.clock.off.lock().unwrap() = SignedDuration::from_hours(24 * 3650);
    sleep(Duration::from_secs(7000)).await;
    *host.clock.off.lock().unwrap() = SignedDuration::ZERO;
    sleep(Duration::from_secs(4 * 3600)).await;
    let _ = requests.send(Request::Stop).await;
    at_work.await.unwrap();
    assert!(
        host.channel.heard().contains(&"opened clock-skew jump".to_owned()),
        "{:?}",
        host.channel.heard()
    );
    let hours: Vec<Timestamp> = host.work.runs.lock().unwrap().iter().map(|(_, at)| *at).collect();
    let end: Timestamp = "2026-11-01T12:00:00Z".parse().unwrap();
    let back = hours.iter().filter(|at| **at < end + SignedDuration::from_hours(24)).count();
    assert!(back >= 4, "after the clock was right again, slots went on: {hours:?}");
}

#[tokio::test(start_paused = true)]
async fn no_more_run_than_may_and_drills_do_not_hold_snapshots_up() {
    let names = ["a", "b", "c", "d"].map(|name| format!("gazette/{name}"));
    let mut jobs: Vec<Planned> =
        names.iter().map(|name| planned(name, JobKind::Snapshot, "0 0 * * *")).collect();
    jobs.push(planned("gazette/a", JobKind::Drill, "50 23 * * *"));
    let script = |spec: &JobSpec, _: Timestamp| match spec.kind {
        JobKind::Drill => Behaviour::Takes(7200),
        _ => Behaviour::Takes(1800),
    };
    let mut host = Host::new("2026-11-01T12:00:00Z", jobs, Box::new(script));
    host.live("2026-11-02T06:00:00Z").await;
    let runs = host.work.runs.lock().unwrap().clone();
    let at = |name: &str, kind: JobKind| {
        let found = runs.iter().find(|(o, _)| o.database.to_string() == name && o.kind == kind);
        found.unwrap().1.strftime("%H:%M").to_string()
    };
    assert_eq!(at("gazette/a", JobKind::Drill), "22:50");
    let mut starts: Vec<String> = names.iter().map(|name| at(name, JobKind::Snapshot)).collect();
    starts.sort();
    // Two snapshots at a time, whatever else runs (in UTC).
    assert_eq!(starts, ["23:00", "23:00", "23:30", "23:30"]);
}

#[tokio::test(start_paused = true)]
async fn nothing_but_a_prune_of_its_database_makes_a_snapshot_late() {
    let jobs = vec![
        planned("gazette/a", JobKind::Snapshot, "0 * * * *"),
        planned("gazette/a", JobKind::Drill, "50 0 * * *"),
        planned("gazette/a", JobKind::Sync, "50 1 * * *"),
        planned("gazette/a", JobKind::Prune, "50 3 * * *"),
        planned("gazette/b", JobKind::Verify, "50 0 * * *"),
        planned("gazette/c", JobKind::Verify, "50 0 * * *"),
    ];
    let script = |spec: &JobSpec, _: Timestamp| match spec.kind {
        JobKind::Snapshot => Behaviour::Takes(60),
        JobKind::Prune => Behaviour::Takes(1800),
        _ => Behaviour::Takes(3 * 3600 / 2),
    };
    let mut host = Host::new("2026-11-01T22:30:00Z", jobs, Box::new(script));
    host.live("2026-11-02T05:30:00Z").await;
    let runs = host.work.runs.lock().unwrap().clone();
    let starts = |kind: JobKind| -> Vec<String> {
        let of = runs.iter().filter(|(o, _)| o.kind == kind);
        of.map(|(o, at)| format!("{} {}", o.database.database, at.strftime("%H:%M"))).collect()
    };
    // In UTC: an hour before Paris. Drill, verifications and sync share two places.
    assert_eq!(starts(JobKind::Drill), ["a 23:50"]);
    assert_eq!(starts(JobKind::Verify), ["b 23:50", "c 01:20"]);
    assert_eq!(starts(JobKind::Sync), ["a 01:20"]);
    // A prune waits for the sync of its database, and a snapshot for the prune.
    assert_eq!(starts(JobKind::Prune), ["a 02:50"]);
    let snapshots =
        ["23:00", "00:00", "01:00", "02:00", "03:20", "04:00", "05:00"].map(|at| format!("a {at}"));
    assert_eq!(starts(JobKind::Snapshot), snapshots);
}
