use super::*;
use proptest::prelude::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_795_000_000 + second).unwrap()
}

fn condition(object: &str, severity: Severity) -> Condition {
    Condition {
        kind: ConditionKind::TargetFailing,
        severity,
        database: Some("gazette/abonnes".parse().unwrap()),
        object: Some(object.to_owned()),
        summary: "The target does not answer.".to_owned(),
        stage: None,
        error: None,
        targets: Vec::new(),
        proven_at: None,
        remedy: "Look at it.".to_owned(),
        origin: None,
        affected: Vec::new(),
        due_at: None,
    }
}

/// Remembers what a state would, and says what people were told.
#[derive(Default)]
struct World {
    incidents: Vec<Incident>,
    told: Vec<(i64, EventKind)>,
}

impl World {
    fn look(&mut self, second: i64, seen: &[Condition], unknown: &[Unknown]) {
        let observed = observe(&self.incidents, seen, unknown, at(second), &Policy::default());
        for incident in observed.changed {
            self.incidents.retain(|known| known.name() != incident.name());
            self.incidents.push(incident);
        }
        self.told.extend(observed.events.iter().map(|event| (second, event.kind)));
    }

    fn kinds(&self) -> Vec<EventKind> {
        self.told.iter().map(|(_, kind)| *kind).collect()
    }
}

#[test]
fn ten_thousand_sightings_are_one_incident() {
    let mut world = World::default();
    let nas = [condition("nas", Severity::Warning)];
    (0..10_000).for_each(|n| world.look(n, &nas, &[]));
    assert_eq!(world.told, [(0, EventKind::Opened)]);
    assert_eq!((world.incidents.len(), world.incidents[0].sightings), (1, 10_000));
}

#[test]
fn a_life() {
    let mut world = World::default();
    let (warning, critical) = ([condition("nas", Severity::Warning)], [condition("nas", Severity::Critical)]);
    let hour = 3600;
    world.look(0, &warning, &[]);
    world.look(2 * hour, &critical, &[]);
    // Better is no news, and worse again is none either.
    world.look(2 * hour + 60, &warning, &[]);
    world.look(2 * hour + 120, &critical, &[]);
    world.look(3 * hour, &critical, &[]);
    world.look(27 * hour, &critical, &[]);
    world.look(28 * hour, &[], &[]);
    world.look(28 * hour + 299, &[], &[]);
    world.look(28 * hour + 300, &[], &[]);
    world.look(29 * hour, &[], &[]);
    assert_eq!(
        world.told,
        [
            (0, EventKind::Opened),
            (2 * hour, EventKind::Worsened),
            (3 * hour, EventKind::Escalated),
            (27 * hour, EventKind::Reminded),
            (28 * hour + 300, EventKind::Resolved),
        ]
    );
    // Long after, it is another incident.
    world.look(60 * hour, &warning, &[]);
    assert_eq!(world.incidents.len(), 2);
    assert_eq!(world.told.last().unwrap().1, EventKind::Opened);
}

#[test]
fn what_comes_and_goes_makes_no_storm() {
    let mut world = World::default();
    let nas = [condition("nas", Severity::Warning)];
    // Half an hour there, half an hour gone, for three days; looked at every minute.
    for minute in 0..3 * 24 * 60 {
        let seen = if minute / 30 % 2 == 0 { &nas[..] } else { &[] };
        world.look(minute * 60, seen, &[]);
    }
    assert_eq!(world.incidents.len(), 1);
    assert!(world.told.len() <= 12, "{:?}", world.told);
    assert!(world.incidents[0].flaps >= 70, "{}", world.incidents[0].flaps);
    assert!(world.kinds().contains(&EventKind::Escalated), "{:?}", world.told);
}

#[test]
fn what_nobody_can_look_at_is_not_over() {
    let mut world = World::default();
    let both = [condition("nas", Severity::Critical), condition("ovh", Severity::Critical)];
    let unknown = [Unknown { object: Some("nas".to_owned()), ..Unknown::default() }];
    world.look(0, &both, &[]);
    world.look(10, &[], &[]);
    (1..100).for_each(|n| world.look(n * 10, &[], &unknown));
    let open: Vec<_> = world.incidents.iter().filter(|i| i.is_open()).map(|i| i.key().object).collect();
    assert_eq!(open, [Some("nas".to_owned())]);
    world.look(1000, &[], &[]);
    assert_eq!(world.kinds().iter().filter(|k| **k == EventKind::Resolved).count(), 1);
    world.look(1300, &[], &[]);
    assert_eq!(world.kinds().iter().filter(|k| **k == EventKind::Resolved).count(), 2);
}

#[test]
fn a_clock_that_was_ahead_silences_nothing() {
    let mut world = World::default();
    let nas = [condition("nas", Severity::Critical)];
    let year = 365 * 86_400;
    world.look(10 * year, &nas, &[]);
    world.look(0, &nas, &[]);
    world.look(3600, &nas, &[]);
    assert_eq!(world.kinds(), [EventKind::Opened, EventKind::Escalated]);
}

proptest! {
    /// Whatever is seen: an incident opens before it resolves, and no more than one of a key is open.
    #[test]
    fn every_history_is_sound(steps in proptest::collection::vec((1i64..9000, 0usize..4, 0usize..3), 1..200)) {
        let mut world = World::default();
        let mut second = 0;
        let mut open = false;
        for (pause, what, unknown) in steps {
            second += pause;
            let seen = match what {
                0 | 1 => vec![],
                2 => vec![condition("nas", Severity::Warning)],
                _ => vec![condition("nas", Severity::Critical), condition("nas", Severity::Warning)],
            };
            let unknown = if unknown == 0 { vec![Unknown::default()] } else { vec![] };
            let before = world.told.len();
            world.look(second, &seen, &unknown);
            prop_assert!(world.told.len() <= before + 1);
            for (_, kind) in &world.told[before..] {
                match kind {
                    EventKind::Opened => { prop_assert!(!open); open = true; }
                    EventKind::Resolved => {
                        prop_assert!(open && seen.is_empty() && unknown.is_empty());
                        open = false;
                    }
                    _ => prop_assert!(open),
                }
            }
            prop_assert!(open || seen.is_empty());
            prop_assert_eq!(world.incidents.iter().filter(|i| i.is_open()).count(), usize::from(open));
        }
    }

    /// Between two words on an incident, other than changes for the worse and ends, lies the time of a reminder.
    #[test]
    fn people_are_left_in_peace(pauses in proptest::collection::vec(1i64..40_000, 1..200)) {
        let mut world = World::default();
        let mut second = 0;
        for pause in pauses {
            second += pause;
            world.look(second, &[condition("nas", Severity::Warning)], &[]);
        }
        for pair in world.told.windows(2) {
            prop_assert!(pair[1].0 - pair[0].0 >= 86_400, "{:?}", world.told);
        }
    }
}

#[test]
fn another_cause_is_told_once_and_numbers_are_none() {
    let mut world = World::default();
    let failing = |error: &str| {
        let mut condition = condition("nas", Severity::Critical);
        condition.error = Some(format!("list gazette/: {error}"));
        [condition]
    };
    for (second, error) in [
        "connection refused (attempt 1)",
        "connection refused (attempt 2)",
        "the credentials do not allow this",
        "connection refused (attempt 3)",
        "the credentials do not allow this",
    ]
    .iter()
    .enumerate()
    {
        world.look(second as i64, &failing(error), &[]);
    }
    assert_eq!(world.told, [(0, EventKind::Opened), (2, EventKind::Changed)]);
    assert_eq!(world.incidents[0].before.as_deref(), Some("list gazette/: connection refused (attempt 2)"));
    // A text that is always another one is no news for ever.
    for n in 10..100 {
        world.look(n, &failing(&"x".repeat(n as usize)), &[]);
    }
    assert!(world.told.len() <= 10, "{:?}", world.told);
}

#[test]
fn what_is_shared_has_no_other_cause_for_the_next_who_meets_it() {
    use crate::error::Origin;
    use crate::model::fold::fold;
    let met = |kind, error: &str, origin: Origin| {
        let database = "gazette/abonnes".parse().unwrap();
        let found = Condition::new(kind, Severity::Critical, "It is wrong.").of(&database).error(error);
        fold(vec![found.origin(Some(origin)).object("a")])
    };
    let key = || Origin::Key("agent_ed25519".into());
    let mut world = World::default();
    for (second, (kind, error)) in [
        (ConditionKind::LookFailed, "signing key agent_ed25519: no such file"),
        (ConditionKind::VerifyFailed, "no such file"),
        (ConditionKind::SnapshotFailed, "it cannot sign"),
    ]
    .into_iter()
    .enumerate()
    {
        world.look(second as i64, &met(kind, error, key()), &[]);
    }
    assert_eq!(world.told, [(0, EventKind::Opened)]);

    // What the target says counts, but not who asked it.
    let target = || Origin::Target("a".into());
    let mut world = World::default();
    for (second, (kind, error)) in [
        (ConditionKind::VerifyFailed, "it could not verify"),
        (ConditionKind::TargetFailing, "list gazette/: connection refused"),
        (ConditionKind::PruneFailed, "it could not prune"),
        (ConditionKind::TargetFailing, "put gazette/x: the credentials do not allow this"),
    ]
    .into_iter()
    .enumerate()
    {
        world.look(second as i64, &met(kind, error, target()), &[]);
    }
    assert_eq!(world.told, [(0, EventKind::Opened), (3, EventKind::Changed)]);
}

#[test]
fn what_is_told_within_another_is_not_over() {
    use crate::error::Origin;
    use crate::model::fold::{fold, within};
    let database = "gazette/abonnes".parse().unwrap();
    let of = |kind| Condition::new(kind, Severity::Critical, "It is wrong.").of(&database);
    let late = || of(ConditionKind::SnapshotLate);
    let on = |target: &str| Some(Origin::Target(target.to_owned()));
    let failing = |target: &str| of(ConditionKind::TargetFailing).object(target).origin(on(target));
    let mut world = World::default();
    let mut look = |second, seen: Vec<Condition>| {
        let seen = fold(seen);
        world.look(second, &seen, &within(&seen));
        std::mem::take(&mut world.told).into_iter().map(|(_, kind)| kind).collect::<Vec<_>>()
    };
    assert_eq!(look(0, vec![late()]), [EventKind::Opened]);
    let both = || vec![late().origin(on("a")), failing("a"), failing("b")];
    assert_eq!(look(1, both()), [EventKind::Opened, EventKind::Opened]);
    let one = || vec![late().origin(on("a")), failing("a")];
    assert_eq!(look(2, one()), []);
    assert_eq!(look(1000, one()), [EventKind::Resolved], "target b alone is well again");
    assert_eq!(look(1001, Vec::new()), []);
    assert_eq!(look(2000, Vec::new()), [EventKind::Resolved, EventKind::Resolved]);
}

#[test]
fn whoever_was_hit_hears_of_the_end() {
    use crate::error::Origin;
    use crate::model::fold::fold;
    let failing = |database: &str| {
        let found = Condition::new(ConditionKind::TargetFailing, Severity::Warning, "It fails.");
        found.of(&database.parse().unwrap()).object("a").origin(Some(Origin::Target("a".to_owned())))
    };
    let mut world = World::default();
    world.look(0, &fold(vec![failing("gazette/a"), failing("matin/b")]), &[]);
    world.look(1, &fold(vec![failing("gazette/a")]), &[]);
    let condition = &world.incidents[0].condition;
    let hit: Vec<String> = condition.hit().map(|hit| hit.database.to_string()).collect();
    assert_eq!((hit, condition.publishers().len()), (vec!["gazette/a".to_owned()], 2));
    world.look(2, &[], &[]);
    world.look(1000, &[], &[]);
    assert_eq!(world.kinds(), [EventKind::Opened, EventKind::Resolved]);
    assert_eq!(world.incidents[0].condition.publishers().len(), 2);
    // It is another story the next time.
    world.look(2000, &fold(vec![failing("gazette/a")]), &[]);
    assert_eq!(world.incidents[0].condition.publishers().len(), 1);
}
