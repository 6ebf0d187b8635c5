use std::collections::BTreeSet;
use std::sync::Mutex as StdMutex;
use std::time::Duration;

use async_trait::async_trait;
use jiff::civil::Time;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::alert::{ChannelError, Message, Purpose, Sent};
use crate::model::route::{Audience, Quiet};

/// A channel that does what it is told, and remembers what it took.
#[derive(Debug, Default)]
struct Fake {
    people: std::sync::atomic::AtomicBool,
    took: StdMutex<Vec<Message>>,
    behaviour: StdMutex<Behaviour>,
    tries: StdMutex<u32>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq)]
enum Behaviour {
    #[default]
    Well,
    Down,
    Refusing,
    Hanging,
    /// Takes every second message, and asks to wait so many seconds.
    Limiting(u64),
}

#[async_trait]
impl Channel for Fake {
    fn describe(&self) -> String {
        "fake".to_owned()
    }

    fn is_read_by_people(&self) -> bool {
        self.people.load(std::sync::atomic::Ordering::Relaxed)
    }

    async fn send(&self, message: &Message, cancel: &CancellationToken) -> Result<Sent, ChannelError> {
        *self.tries.lock().unwrap() += 1;
        let behaviour = *self.behaviour.lock().unwrap();
        match behaviour {
            Behaviour::Well => {
                self.took.lock().unwrap().push(message.clone());
                Ok(Sent::All)
            }
            Behaviour::Down => Err(ChannelError::unavailable("it is down", "Wait.")),
            Behaviour::Refusing => Err(ChannelError::refused("it refuses", "Ask it.")),
            Behaviour::Limiting(seconds) if (*self.tries.lock().unwrap()).is_multiple_of(2) => {
                Err(ChannelError::unavailable("it asks to wait", "Wait.").after(Duration::from_secs(seconds)))
            }
            Behaviour::Limiting(_) => {
                self.took.lock().unwrap().push(message.clone());
                Ok(Sent::All)
            }
            Behaviour::Hanging => {
                tokio::select! {
                    () = cancel.cancelled() => Err(ChannelError::cancelled()),
                    () = tokio::time::sleep(Duration::from_secs(20)) => Err(ChannelError::unavailable("it hangs", "Wait.")),
                }
            }
        }
    }

    async fn check(&self, _cancel: &CancellationToken) -> Result<String, ChannelError> {
        Ok("well".to_owned())
    }
}

impl Fake {
    fn is(&self, behaviour: Behaviour) {
        *self.behaviour.lock().unwrap() = behaviour;
    }

    /// What it took: purpose and subject without the agent.
    fn took(&self) -> Vec<String> {
        self.took.lock().unwrap().iter().map(|m| m.subject.replace("[marbre db1] ", "")).collect()
    }
}

struct World {
    folder: tempfile::TempDir,
    channels: Vec<(Route, Arc<Fake>)>,
    dispatcher: Dispatcher,
}

fn at(second: i64) -> Timestamp {
    // 02:13:20 in UTC.
    Timestamp::from_second(1_795_054_400 + second).unwrap()
}

fn route(name: &str, role: Role) -> Route {
    Route {
        name: name.parse().unwrap(),
        role,
        audience: Audience::Everything,
        floor: Severity::Warning,
        quiet: None,
        fallback: Vec::new(),
    }
}

fn main_route(name: &str) -> Route {
    route(name, Role::Main)
}

fn with_fallback(name: &str, fallback: &[&str]) -> Route {
    Route { fallback: fallback.iter().map(|name| name.parse().unwrap()).collect(), ..main_route(name) }
}

fn settings(channels: &[(Route, Arc<Fake>)]) -> DispatcherSettings {
    let routed = |(route, fake): &(Route, Arc<Fake>)| RoutedChannel {
        route: route.clone(),
        channel: Arc::clone(fake) as Arc<dyn Channel>,
    };
    DispatcherSettings {
        agent: "db1".to_owned(),
        policy: Policy::default(),
        gather: Duration::ZERO,
        canary: Some(("@daily".parse().unwrap(), TimeZone::UTC)),
        digest: None,
        channels: channels.iter().map(routed).collect(),
    }
}

impl World {
    fn new(routes: Vec<Route>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let channels: Vec<_> = routes.into_iter().map(|route| (route, Arc::new(Fake::default()))).collect();
        let dispatcher = Dispatcher::new(settings(&channels), State::open(folder.path()).unwrap());
        Self { folder, channels, dispatcher }
    }

    fn restart(&mut self) {
        self.dispatcher = Dispatcher::new(settings(&self.channels), State::open(self.folder.path()).unwrap());
    }

    fn fake(&self, name: &str) -> &Fake {
        &self.channels.iter().find(|(route, _)| route.name.as_str() == name).unwrap().1
    }

    async fn deliver(&self, second: i64) -> Delivered {
        self.dispatcher.deliver(at(second), &CancellationToken::new()).await.unwrap()
    }

    async fn look(&self, second: i64, conditions: &[Condition]) -> Delivered {
        self.dispatcher.observe(conditions, &[], at(second)).unwrap();
        self.deliver(second).await
    }
}

fn wrong(database: Option<&str>, object: &str, severity: Severity) -> Condition {
    Condition {
        kind: ConditionKind::TargetFailing,
        severity,
        database: database.map(|text| text.parse().unwrap()),
        object: Some(object.to_owned()),
        summary: format!("{object} is down."),
        stage: None,
        error: None,
        targets: Vec::new(),
        proven_at: None,
        remedy: "Repair it.".to_owned(),
        origin: None,
        affected: Vec::new(),
        due_at: None,
    }
}

const HOUR: i64 = 3600;

#[tokio::test]
async fn a_failing_channel_is_replaced_and_still_retried_and_told_of() {
    let mut world = World::new(vec![
        with_fallback("mail", &["hook", "sms"]),
        route("hook", Role::Fallback),
        route("sms", Role::Fallback),
    ]);
    let nas = [wrong(None, "nas", Severity::Critical)];
    world.fake("mail").is(Behaviour::Down);
    world.fake("hook").is(Behaviour::Refusing);
    assert_eq!(world.look(0, &nas).await, Delivered { sent: 0, failed: 1, forwarded: 0 });
    assert_eq!(world.deliver(29).await, Delivered::default(), "not before its time");
    assert_eq!(world.deliver(30).await.failed, 1);
    world.restart();
    assert_eq!(world.deliver(89).await, Delivered::default());
    // The third failure in a row: the hook gets it, refuses at once, and then the last of the list.
    let done = world.deliver(90).await;
    assert_eq!((done.sent, done.forwarded), (1, 2), "{done:?}");
    assert_eq!(world.fake("sms").took(), ["critical: nas is down."]);
    let failing: Vec<_> =
        world.dispatcher.conditions().unwrap().into_iter().map(|c| (c.object, c.severity)).collect();
    let name = |text: &str| Some(text.to_owned());
    assert_eq!(failing, [(name("mail"), Severity::Critical), (name("hook"), Severity::Warning)]);
    world.deliver(91).await;
    assert_eq!(world.fake("sms").took().len(), 1, "once is enough");
    // What is wrong with the mail goes by the way that works, at once.
    world.look(100, &nas).await;
    assert!(world.fake("sms").took()[1].contains("The alert channel"), "{:?}", world.fake("sms").took());
    // When it is well again, it gets all that it missed, in order.
    world.fake("mail").is(Behaviour::Well);
    world.deliver(90 + HOUR).await;
    assert_eq!(world.fake("mail").took()[0], "critical: nas is down.");
    assert!(world.dispatcher.conditions().unwrap().iter().all(|c| c.object.as_deref() == Some("hook")));
    // The end of it reaches everybody who heard of it, also in the place of another.
    world.look(2 * HOUR, &[]).await;
    world.look(3 * HOUR, &[]).await;
    for name in ["mail", "sms"] {
        let took = world.fake(name).took();
        assert!(took.contains(&"resolved: Target nas works again.".to_owned()), "{name}: {took:?}");
    }
}

#[tokio::test]
async fn nothing_is_lost_or_told_twice_over_restarts() {
    let mut world = World::new(vec![main_route("mail")]);
    let nas = [wrong(None, "nas", Severity::Warning)];
    world.dispatcher.observe(&nas, &[], at(0)).unwrap();
    world.restart();
    world.deliver(1).await;
    for n in 2..50 {
        world.restart();
        world.look(n, &nas).await;
    }
    assert_eq!(world.fake("mail").took(), ["warning: nas is down."]);
    assert_eq!(world.dispatcher.incidents().unwrap()[0].sightings, 49);
    world.restart();
    world.look(25 * HOUR, &nas).await;
    assert_eq!(world.fake("mail").took()[1..], ["escalated, warning: nas is down."]);
    let took = world.fake("mail").took.lock().unwrap();
    assert_eq!((&took[0].thread, &took[0].thread), (&took[0].id, &took[1].thread));
}

#[tokio::test]
async fn each_hears_what_is_theirs() {
    let gazette = Audience::Publishers(BTreeSet::from(["gazette".parse().unwrap()]));
    let world = World::new(vec![
        with_fallback("ops", &["gazette"]),
        Route { audience: gazette, ..main_route("gazette") },
        Route { floor: Severity::Critical, ..main_route("loud") },
        route("boss", Role::Escalation),
        route("spare", Role::Fallback),
    ]);
    let seen = [
        wrong(Some("gazette/abonnes"), "a", Severity::Warning),
        wrong(Some("matin/abonnes"), "b", Severity::Critical),
        wrong(None, "c", Severity::Critical),
    ];
    world.look(0, &seen).await;
    assert_eq!(world.fake("ops").took().len(), 3);
    assert_eq!(world.fake("gazette").took(), ["warning: gazette/abonnes: a is down."]);
    assert_eq!(world.fake("loud").took().len(), 2);
    assert_eq!(world.fake("boss").took().len(), 0);
    world.look(HOUR, &seen).await;
    assert_eq!(world.fake("boss").took().len(), 2, "the critical ones are escalated after an hour");
    // Even a fallback that should not be there tells a publisher nothing of others.
    world.fake("ops").is(Behaviour::Refusing);
    let more =
        [&seen[..], &[wrong(None, "d", Severity::Critical), wrong(Some("matin/x"), "e", Severity::Critical)]]
            .concat();
    world.look(2 * HOUR, &more).await;
    world.look(3 * HOUR, &[]).await;
    world.look(4 * HOUR, &[]).await;
    let took = world.fake("gazette").took();
    assert!(took.iter().all(|subject| subject.contains("gazette/abonnes")), "{took:?}");
    assert!(took.iter().any(|subject| subject.starts_with("resolved")), "{took:?}");
    let boss = world.fake("boss").took();
    assert_eq!(boss.iter().filter(|s| s.starts_with("resolved")).count(), 2, "{boss:?}");
    assert_eq!(world.fake("spare").took().len(), 0);
}

#[tokio::test]
async fn quiet_hours_hold_back_what_can_wait_and_nothing_else() {
    let quiet = Quiet {
        from: Time::new(22, 0, 0, 0).unwrap(),
        to: Time::new(7, 0, 0, 0).unwrap(),
        zone: TimeZone::UTC,
    };
    let mut world = World::new(vec![Route { quiet: Some(quiet), ..main_route("mail") }]);
    // More than one round looks at.
    let mut seen: Vec<_> = (0..60).map(|n| wrong(None, &format!("w{n}"), Severity::Warning)).collect();
    world.look(0, &seen).await;
    assert_eq!(world.fake("mail").took().len(), 0);
    seen.push(wrong(None, "fire", Severity::Critical));
    world.look(60, &seen).await;
    assert_eq!(world.fake("mail").took(), ["critical: fire is down."]);
    world.restart();
    assert_eq!(world.deliver(4 * HOUR).await, Delivered::default());
    world.deliver(5 * HOUR).await;
    world.deliver(5 * HOUR).await;
    assert_eq!(world.fake("mail").took().len(), 61);
}

#[tokio::test(start_paused = true)]
async fn one_that_hangs_holds_nobody_up() {
    let world = World::new(vec![main_route("hook"), main_route("mail")]);
    world.fake("hook").is(Behaviour::Hanging);
    let nas = [wrong(None, "nas", Severity::Critical), wrong(None, "ovh", Severity::Critical)];
    let start = tokio::time::Instant::now();
    let done = world.look(0, &nas).await;
    assert_eq!((done.sent, done.failed), (2, 1));
    assert_eq!(start.elapsed().as_secs(), 20, "one attempt, not one for each message");
    let cancel = CancellationToken::new();
    cancel.cancel();
    let stopped = world.dispatcher.deliver(at(60), &cancel).await.unwrap_err();
    assert_eq!(stopped.kind(), crate::error::ErrorKind::Interrupted);
}

#[tokio::test(start_paused = true)]
async fn a_service_that_limits_is_given_its_time_and_does_not_fail() {
    let world = World::new(vec![with_fallback("hook", &["sms"]), route("sms", Role::Fallback)]);
    world.fake("hook").is(Behaviour::Limiting(1));
    let many: Vec<Condition> = (0..12).map(|n| wrong(None, &format!("t{n}"), Severity::Critical)).collect();
    let start = tokio::time::Instant::now();
    assert_eq!(world.look(0, &many).await, Delivered { sent: 12, failed: 0, forwarded: 0 });
    assert!(start.elapsed() < Duration::from_secs(15), "{:?}", start.elapsed());
    // What is longer than a round is waited for between rounds, and then it is not the usual pause.
    world.fake("hook").is(Behaviour::Limiting(200));
    let more: Vec<Condition> = (12..15).map(|n| wrong(None, &format!("t{n}"), Severity::Critical)).collect();
    let both = [many, more].concat();
    assert_eq!(world.look(60, &both).await.failed, 1);
    for (second, failed) in [(90, 0), (259, 0), (261, 1), (400, 0)] {
        let done = world.deliver(second).await;
        assert_eq!((done.failed, done.forwarded), (failed, 0), "{second}: {done:?}");
    }
    for second in [462, 663] {
        assert_eq!(world.deliver(second).await.sent, 1);
    }
    assert_eq!(world.fake("hook").took().len(), 15);
    assert!(world.fake("sms").took().is_empty());
}

#[tokio::test]
async fn one_message_that_is_refused_holds_up_no_other() {
    let world = World::new(vec![main_route("hook")]);
    world.fake("hook").is(Behaviour::Refusing);
    world.look(0, &[wrong(None, "a", Severity::Critical)]).await;
    world.fake("hook").is(Behaviour::Well);
    // The first one waits for its time, a newer one does not.
    let both = [wrong(None, "a", Severity::Critical), wrong(None, "b", Severity::Critical)];
    world.look(1, &both).await;
    let took = world.fake("hook").took();
    assert!(took.contains(&"critical: b is down.".to_owned()), "{took:?}");
    assert!(!took.contains(&"critical: a is down.".to_owned()));
    world.deliver(31).await;
    assert!(world.fake("hook").took().contains(&"critical: a is down.".to_owned()));
}

#[tokio::test]
async fn what_no_channel_takes_for_days_is_given_up_and_the_pauses_grow() {
    let world = World::new(vec![main_route("mail")]);
    world.fake("mail").is(Behaviour::Down);
    let nas = [wrong(None, "nas", Severity::Critical)];
    world.look(0, &nas).await;
    for minute in 1..6 * 24 * 60 {
        world.deliver(minute * 60).await;
    }
    let tries = *world.fake("mail").tries.lock().unwrap();
    assert!((60..90).contains(&tries), "{tries} attempts in the three days in which it was tried");
    world.fake("mail").is(Behaviour::Well);
    world.look(7 * 24 * HOUR, &nas).await;
    // What is still wrong is told anew.
    assert!(
        world.fake("mail").took().iter().any(|s| s.contains("nas is down")),
        "{:?}",
        world.fake("mail").took()
    );
}

#[tokio::test]
async fn messages_for_a_channel_that_is_gone_go_to_those_that_are_there() {
    let mut world = World::new(vec![main_route("old")]);
    world.fake("old").is(Behaviour::Down);
    world.look(0, &[wrong(None, "nas", Severity::Critical)]).await;
    world.channels = vec![(main_route("new"), Arc::default())];
    world.restart();
    world.deliver(1).await;
    assert_eq!(world.fake("new").took(), ["critical: nas is down."]);
}

#[tokio::test]
async fn pings_say_success_only_for_what_is_proven() {
    let abonnes: DatabaseId = "gazette/abonnes".parse().unwrap();
    let mut world = World::new(vec![
        route("hc", Role::Job(abonnes.clone(), JobKind::Snapshot)),
        route("alive", Role::Canary),
        main_route("mail"),
    ]);
    let phases = |world: &World, name: &str| -> Vec<Purpose> {
        world.fake(name).took.lock().unwrap().iter().map(|m| m.purpose).collect()
    };
    world.dispatcher.job(&abonnes, JobKind::Snapshot, Phase::Start, at(0)).unwrap();
    world.dispatcher.job(&abonnes, JobKind::Drill, Phase::Start, at(0)).unwrap();
    world.deliver(0).await;
    world.dispatcher.job(&abonnes, JobKind::Snapshot, Phase::of_end(true, false), at(60)).unwrap();
    world.deliver(60).await;
    world.dispatcher.job(&abonnes, JobKind::Snapshot, Phase::Start, at(120)).unwrap();
    world.dispatcher.job(&abonnes, JobKind::Snapshot, Phase::of_end(true, true), at(180)).unwrap();
    world.deliver(180).await;
    let [start, success, fail] = [Phase::Start, Phase::Success, Phase::Fail].map(Purpose::Ping);
    assert_eq!(phases(&world, "hc"), [start, fail, success]);
    // The canary: at first, and then once a day, however long nobody looked.
    assert_eq!(phases(&world, "alive"), [success]);
    world.restart();
    world.deliver(21 * HOUR).await;
    assert_eq!(phases(&world, "alive").len(), 1);
    world.fake("mail").is(Behaviour::Refusing);
    world.look(21 * HOUR + 1, &[wrong(None, "nas", Severity::Critical)]).await;
    world.deliver(99 * HOUR).await;
    world.deliver(99 * HOUR + 1).await;
    assert_eq!(phases(&world, "alive"), [success, fail], "it says that nobody is told");
    assert_eq!(world.fake("mail").took().len(), 0, "no incidents were opened by pings");
}

#[tokio::test]
async fn a_test_tells_no_monitor_that_a_job_is_done() {
    let abonnes: DatabaseId = "gazette/abonnes".parse().unwrap();
    let world = World::new(vec![
        route("hc", Role::Job(abonnes, JobKind::Snapshot)),
        main_route("mail"),
        main_route("x"),
    ]);
    world.fake("x").is(Behaviour::Refusing);
    let channels = settings(&world.channels).channels;
    let report = test_channels(&channels, "db1", at(0), &CancellationToken::new()).await;
    let ok: Vec<bool> = report.channels.iter().map(|c| c.ok).collect();
    assert_eq!(ok, [true, true, false]);
    assert_eq!((world.fake("hc").took().len(), world.fake("mail").took().len()), (0, 1));
    assert_eq!(report.error().unwrap().kind().exit_code(), 8);
}

#[tokio::test]
async fn people_get_the_messages_of_a_minute_as_one_and_programs_each() {
    let mut world = World::new(vec![main_route("mail"), main_route("hook")]);
    world.fake("mail").people.store(true, std::sync::atomic::Ordering::Relaxed);
    let settings = DispatcherSettings { gather: Duration::from_secs(60), ..settings(&world.channels) };
    world.dispatcher = Dispatcher::new(settings, State::open(world.folder.path()).unwrap());
    let nas = wrong(Some("gazette/a"), "nas", Severity::Warning);
    let ovh = wrong(Some("gazette/b"), "ovh", Severity::Critical);
    assert_eq!(world.look(0, std::slice::from_ref(&nas)).await, Delivered::default(), "more may come");
    world.look(40, &[nas.clone(), ovh.clone()]).await;
    world.deliver(59).await;
    assert_eq!(world.fake("mail").took().len(), 0);
    // The mail is down at first: what waits stays one message.
    world.fake("mail").is(Behaviour::Down);
    assert_eq!(world.deliver(60).await.failed, 1);
    world.fake("mail").is(Behaviour::Well);
    world.deliver(200).await;
    assert_eq!(
        world.fake("mail").took(),
        ["critical: 2 messages: warning: gazette/a: nas is down.; critical: gazette/b: ovh is down."]
    );
    assert_eq!(world.fake("hook").took().len(), 2);
    let text = world.fake("mail").took.lock().unwrap()[0].text.clone();
    assert!(text.contains("Incident: target-failing gazette/a nas\n"), "{text}");
    assert!(text.contains("Incident: target-failing gazette/b ovh\n"), "{text}");
    // An agent that ends waits for nothing.
    let third = wrong(None, "third", Severity::Critical);
    world.dispatcher.observe(&[nas, ovh, third], &[], at(210)).unwrap();
    world.dispatcher.deliver_last(at(211), &CancellationToken::new()).await.unwrap();
    assert_eq!(world.fake("mail").took()[1], "critical: third is down.");
}

#[tokio::test]
async fn whoever_is_hit_later_hears_of_it_then_and_of_nobody_else() {
    let of = |name: &str| Audience::Publishers(BTreeSet::from([name.parse().unwrap()]));
    let world = World::new(vec![
        main_route("ops"),
        Route { audience: of("gazette"), ..main_route("gazette") },
        Route { audience: of("matin"), ..main_route("matin") },
    ]);
    let hit = |databases: &[&str]| {
        let mut condition = wrong(None, "nas", Severity::Warning);
        condition.affected = databases
            .iter()
            .map(|database| crate::model::condition::Affected {
                database: database.parse().unwrap(),
                kinds: BTreeSet::from([ConditionKind::TargetFailing]),
                error: Some(format!("list {database}/receipts: refused")),
                proven_at: None,
            })
            .collect();
        condition.error = Some("list gazette/a/receipts: refused".to_owned());
        [condition]
    };
    world.look(0, &hit(&["gazette/a"])).await;
    assert_eq!((world.fake("gazette").took().len(), world.fake("matin").took().len()), (1, 0));
    world.look(10, &hit(&["gazette/a", "gazette/b", "matin/c"])).await;
    world.look(20, &hit(&["gazette/a", "gazette/b", "matin/c"])).await;
    assert_eq!(world.fake("ops").took(), ["warning: nas is down (gazette/a)"]);
    assert_eq!(world.fake("gazette").took().len(), 1);
    assert_eq!(world.fake("matin").took(), ["warning: nas is down (matin/c)"]);
    let text = world.fake("matin").took.lock().unwrap()[0].text.clone();
    assert!(text.contains("Error: list matin/c/receipts: refused\n") && !text.contains("gazette"), "{text}");
    // What is proven is said as of sending.
    world.dispatcher.proven([("matin/c".parse().unwrap(), Some(at(-3600)))].into_iter());
    world.look(600, &[]).await;
    world.look(1200, &[]).await;
    let text = world.fake("matin").took.lock().unwrap()[1].text.clone();
    assert!(
        text.contains("Database matin/c: target-failing; last proven snapshot: 1 h 20 min old"),
        "{text}"
    );
    assert!(
        text.starts_with("Target nas works again.\n") && text.contains("It was: nas is down.\n"),
        "{text}"
    );
}
