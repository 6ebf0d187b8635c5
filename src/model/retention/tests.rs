use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;

use super::*;
use crate::model::mark::Because;

pub(super) fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// Snapshot number `n`, of this moment, in the one epoch.
pub(super) fn snapshot(n: u64, when: Timestamp) -> Candidate {
    Candidate {
        snapshot: SnapshotId::new(when, n as u32),
        sequence: n,
        epoch: "20260101T000000Z-00000000".parse().unwrap(),
        consistent_at: when,
        proven: false,
        damaged: false,
        pruned: false,
        held: false,
        newest_at: Vec::new(),
        mark: None,
    }
}

/// What Claire has decided.
pub(super) fn because() -> Because {
    Because { by: "claire".to_owned(), reason: "a reason".to_owned() }
}

/// So many snapshots, each so many hours after the one before.
pub(super) fn every(hours: i64, start: &str, number: u64) -> Vec<Candidate> {
    let step = |n: u64| SignedDuration::from_hours(hours * n as i64);
    (0..number).map(|n| snapshot(n + 1, at(start) + step(n))).collect()
}

pub(super) fn kept_in(zone: &TimeZone, all: &[Candidate], policy: &Policy, now: Timestamp) -> Vec<u64> {
    let gone = decide(all, policy, zone, now, usize::MAX).deleted();
    all.iter().filter(|c| !gone.contains(&c.snapshot)).map(|c| c.sequence).collect()
}

pub(super) fn last_moment(all: &[Candidate]) -> Timestamp {
    all.iter().map(|c| c.consistent_at).max().unwrap()
}

fn kept(all: &[Candidate], policy: &Policy) -> Vec<u64> {
    kept_in(&TimeZone::UTC, all, policy, last_moment(all))
}

pub(super) fn reasons(all: &[Candidate], policy: &Policy, n: u64, now: Timestamp) -> Vec<String> {
    let wanted = all.iter().find(|c| c.sequence == n).unwrap();
    match &decide(all, policy, &TimeZone::UTC, now, usize::MAX).fates[&wanted.snapshot] {
        Fate::Keep(reasons) => reasons.iter().map(Reason::to_string).collect(),
        Fate::Delete(reason) => vec![format!("deleted: {reason}")],
    }
}

#[test]
fn rules_as_computed_by_hand() {
    // Sunday 2026-11-01 to Monday 2026-11-30, at 02:00 each. Number 1 begins the epoch.
    let month = every(24, "2026-11-01T02:00:00Z", 30);
    let with = |change: fn(&mut Policy)| {
        let mut policy = Policy::default();
        change(&mut policy);
        kept(&month, &policy)
    };
    assert_eq!(with(|p| p.last = 3), [1, 28, 29, 30]);
    assert_eq!(with(|p| p.daily = 2), [1, 29, 30]);
    // Monday the 30th begins a week of its own; the weeks before it end on Sundays, the 29th and the 22nd.
    assert_eq!(with(|p| p.weekly = 3), [1, 22, 29, 30]);
    assert_eq!(with(|p| p.monthly = 12), [1, 30]);
    assert_eq!(with(|p| p.within = Some(Duration::from_secs(2 * 86_400))), [1, 28, 29, 30]);
    assert_eq!(with(|p| (p.last, p.weekly) = (2, 2)), [1, 29, 30]);
    assert_eq!(with(|_| ()).len(), 30, "without a rule nothing goes");

    let hours = every(1, "2026-11-22T00:30:00Z", 48);
    assert_eq!(kept(&hours, &Policy { hourly: 2, daily: 2, ..Policy::default() }), [1, 24, 47, 48]);
    // Every 100 days from 2023-01-10: number 11 is of 2025-10-06, 12 of 2026-01-14, the last.
    let years = every(24 * 100, "2023-01-10T00:00:00Z", 12);
    assert_eq!(kept(&years, &Policy { yearly: 2, ..Policy::default() }), [1, 11, 12]);
}

#[test]
fn days_begin_where_people_live() {
    let paris = TimeZone::get("Europe/Paris").unwrap();
    // 23:30 and 00:30 in Paris; in UTC both are on the 21st.
    let all = [
        snapshot(1, at("2026-06-20T10:00:00Z")),
        snapshot(2, at("2026-06-21T21:30:00Z")),
        snapshot(3, at("2026-06-21T22:30:00Z")),
    ];
    let policy = Policy { daily: 2, ..Policy::default() };
    assert_eq!(kept_in(&paris, &all, &policy, last_moment(&all)), [1, 2, 3]);
    let decision = decide(&all, &policy, &paris, last_moment(&all), 9);
    let expected = Reason::Rule { rule: "daily", of: "2026-06-21".into(), from_proven: false };
    assert_eq!(decision.fates[&all[1].snapshot], Fate::Keep(vec![expected]));
    // 02:30 in Paris twice, in the night in which the clock is set back.
    let autumn = [
        snapshot(1, at("2026-10-24T10:00:00Z")),
        snapshot(2, at("2026-10-25T00:30:00Z")),
        snapshot(3, at("2026-10-25T01:30:00Z")),
    ];
    let policy = Policy { hourly: 2, ..Policy::default() };
    assert_eq!(kept_in(&paris, &autumn, &policy, last_moment(&autumn)), [1, 2, 3]);
}

#[test]
fn each_has_its_reasons() {
    let mut all = every(24, "2026-11-01T02:00:00Z", 10);
    all[3].proven = true;
    all[6].newest_at = vec!["nas".parse().unwrap()];
    let policy = Policy { last: 2, daily: 1, ..Policy::default() };
    let of = |n| reasons(&all, &policy, n, last_moment(&all));
    assert_eq!(of(10), ["newest", "last", "daily 2026-11-10"]);
    assert_eq!(of(7), ["newest at target nas"]);
    let proven = [
        "newest that a restore has proven",
        "last, counted from the newest proven",
        "daily 2026-11-04, counted from the newest proven",
    ];
    assert_eq!(of(4), proven);
    assert_eq!(of(3), ["last, counted from the newest proven"]);
    assert_eq!(of(1), ["begins the epoch of the newest proven"]);
    assert_eq!(of(5), ["deleted: no rule keeps it"]);
}

#[test]
fn the_epoch_of_the_newest_proof_outlives_those_that_follow() {
    let mut all = every(24, "2026-11-01T02:00:00Z", 12);
    for (n, candidate) in all.iter_mut().enumerate() {
        candidate.epoch = format!("202611{:02}T000000Z-00000000", n / 4 + 1).parse().unwrap();
    }
    let policy = Policy { last: 1, ..Policy::default() };
    assert_eq!(kept(&all, &policy), [9, 12]);
    all[5].proven = true;
    assert_eq!(kept(&all, &policy), [5, 6, 9, 12]);
}

#[test]
fn a_run_of_bad_new_ones_pushes_no_good_one_out() {
    let mut all = every(24, "2026-11-01T02:00:00Z", 60);
    all[19].proven = true;
    let policy = Policy { last: 3, daily: 7, weekly: 2, ..Policy::default() };
    let found = kept(&all, &policy);
    // The seven days up to the proven one, 2026-11-20, and those up to the newest.
    for n in (14..=20).chain(54..=60) {
        assert!(found.contains(&n), "{n}: {found:?}");
    }
    // What is damaged takes no place.
    all.iter_mut().for_each(|c| c.proven = false);
    all[50..].iter_mut().for_each(|c| c.damaged = true);
    let found = kept(&all, &Policy { last: 3, ..Policy::default() });
    assert!([48, 49, 50].iter().all(|n| found.contains(n)), "{found:?}");
}

#[test]
fn a_clock_ten_years_ahead_empties_nothing() {
    let within = Some(Duration::from_secs(30 * 86_400));
    let policy = Policy { last: 2, daily: 7, within, ..Policy::default() };
    let mut all = every(24, "2026-10-01T02:00:00Z", 60);
    let (today, later) = (at("2026-11-29T02:00:00Z"), at("2036-11-29T02:00:00Z"));
    let right = kept_in(&TimeZone::UTC, &all, &policy, today);
    assert_eq!(right, [1].into_iter().chain(30..=60).collect::<Vec<_>>());
    assert_eq!(kept_in(&TimeZone::UTC, &all, &policy, later), right);
    // The same where a snapshot was taken with that clock: of the thirty days, half are left.
    all.push(snapshot(61, later));
    let found = kept_in(&TimeZone::UTC, &all, &policy, later);
    assert_eq!(found, [1].into_iter().chain(45..=61).collect::<Vec<_>>());
    // The clock is right again: what it dated is in the future now, and takes no place.
    let future = ["newest", "dated in the future, so no rule can judge it"];
    assert_eq!(reasons(&all, &policy, 61, today), future);
    let found = kept_in(&TimeZone::UTC, &all, &policy, today);
    assert_eq!(found, [1].into_iter().chain(30..=61).collect::<Vec<_>>());
}

#[test]
fn floods_of_wrong_dates_push_nothing_out() {
    let good = every(24, "2026-11-01T02:00:00Z", 20);
    let now = last_moment(&good);
    let policy = Policy { last: 3, daily: 5, monthly: 2, yearly: 1, ..Policy::default() };
    let alone = kept_in(&TimeZone::UTC, &good, &policy, now);
    // The second flood ends before the newest good one: 250 hours from 15 October.
    for (hours, start) in
        [(7, "2020-01-01T00:00:00Z"), (1, "2026-10-15T00:00:00Z"), (7, "2031-01-01T00:00:00Z")]
    {
        let flood =
            every(hours, start, 250).into_iter().map(|c| Candidate { sequence: c.sequence + 20, ..c });
        let flooded: Vec<Candidate> = good.iter().cloned().chain(flood).collect();
        let found = kept_in(&TimeZone::UTC, &flooded, &policy, now);
        assert!(alone.iter().all(|n| found.contains(n)), "{start}: {found:?}");
        assert!(found.contains(&270));
    }
}

#[test]
fn one_run_deletes_so_many_and_the_oldest_first() {
    let all = every(24, "2026-11-01T02:00:00Z", 30);
    let policy = Policy { last: 5, ..Policy::default() };
    let decision = decide(&all, &policy, &TimeZone::UTC, last_moment(&all), 4);
    let gone = decision.deleted();
    let gone: Vec<u64> = all.iter().filter(|c| gone.contains(&c.snapshot)).map(|c| c.sequence).collect();
    assert_eq!((gone, decision.held_back), (vec![2, 3, 4, 5], 20));
    assert_eq!(decision.fates[&all[10].snapshot], Fate::Keep(vec![Reason::HeldBack(4)]));
    assert_eq!(decide(&all, &policy, &TimeZone::UTC, last_moment(&all), 0).deleted().len(), 0);
    assert_eq!(decide(&[], &policy, &TimeZone::UTC, Timestamp::MAX, 1), Decision::default());
}

/// Snapshots in the order of the chain: most of them hours apart, some with a wrong date, proven, damaged, pinned or forgotten.
pub(super) fn history() -> impl Strategy<Value = Vec<Candidate>> {
    let step = prop_oneof![8 => 1i64..60, 1 => -3000i64..0, 1 => 200i64..90_000];
    let one = (step, 0u8..8, 0u8..8, 0u8..12, 0u8..8, 0u8..16);
    proptest::collection::vec(one, 1..50).prop_map(|steps| {
        let (mut hours, mut epoch) = (0, 1u8);
        let of = |(n, (step, proven, damaged, next, pruned, mark)): (usize, (i64, u8, u8, u8, u8, u8))| {
            // A wrong date is that of one snapshot; the clock then goes on as it was.
            hours += if (1..60).contains(&step) { step } else { 0 };
            let now = if (1..60).contains(&step) { hours } else { hours + step };
            epoch += u8::from(next == 0);
            let mut c = snapshot(n as u64 + 1, at("2026-01-01T00:00:00Z") + SignedDuration::from_hours(now));
            c.epoch = format!("20260101T0000{epoch:02}Z-00000000").parse().unwrap();
            c.damaged = damaged == 0;
            c.proven = proven == 0 && !c.damaged;
            c.pruned = pruned == 0;
            c.mark = match mark {
                0 => Some(Mark::Pinned(because())),
                1 | 2 => Some(Mark::Forgotten(because())),
                _ => None,
            };
            if n == 3 {
                c.newest_at = vec!["slow".parse().unwrap()];
            }
            c
        };
        steps.into_iter().enumerate().map(of).collect()
    })
}

pub(super) fn policy() -> impl Strategy<Value = Policy> {
    (1u64..6, 0u64..6, 0u64..6, 0u64..4, 0u64..4, 0u64..3, prop::option::of(1u64..2_000)).prop_map(
        |(last, hourly, daily, weekly, monthly, yearly, within)| Policy {
            last,
            hourly,
            daily,
            weekly,
            monthly,
            yearly,
            within: within.map(|hours| Duration::from_secs(hours * 3600)),
        },
    )
}

pub(super) fn moment() -> impl Strategy<Value = Timestamp> {
    (-10_000i64..120_000).prop_map(|h| at("2026-01-01T00:00:00Z") + SignedDuration::from_hours(h))
}

pub(super) fn gone(all: &[Candidate], policy: &Policy, now: Timestamp) -> BTreeSet<SnapshotId> {
    decide(all, policy, &TimeZone::UTC, now, usize::MAX).deleted()
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct("tests/regressions/retention.txt"))),
        ..ProptestConfig::default()
    })]

    #[test]
    fn what_must_outlive_every_rule_does(all in history(), policy in policy(), now in moment()) {
        let gone = gone(&all, &policy, now);
        let stays = |c: &Candidate| !gone.contains(&c.snapshot);
        prop_assert!(stays(all.last().unwrap()));
        let proven = all.iter().rev().find(|c| c.proven);
        prop_assert!(proven.is_none_or(stays));
        let dated = dates(&all.iter().collect::<Vec<_>>(), now);
        let in_order = |d| matches!(d, Dated::InOrder | Dated::Forgotten);
        let sound = |(c, d): &(&Candidate, Dated)| in_order(*d) && !c.damaged;
        let sound = all.iter().zip(dated).rev().find(sound).map(|(c, _)| c);
        prop_assert!(sound.is_none_or(stays));
        for newest in [proven, Some(sound.unwrap_or(all.last().unwrap()))].into_iter().flatten() {
            let whole = all.iter().filter(|c| c.epoch == newest.epoch);
            prop_assert!(stays(whole.clone().find(|c| !c.damaged).or_else(|| whole.clone().next()).unwrap()));
        }
        prop_assert!(all.iter().filter(|c| !c.newest_at.is_empty()).all(stays));
        let future = |c: &&Candidate| c.consistent_at.duration_since(now) > SKEW && !c.pruned && !c.is_forgotten();
        prop_assert!(all.iter().filter(future).all(stays));
    }

    #[test]
    fn a_second_run_has_nothing_to_do(all in history(), policy in policy(), now in moment()) {
        let first = gone(&all, &policy, now);
        let left: Vec<Candidate> = all.into_iter().filter(|c| !first.contains(&c.snapshot)).collect();
        prop_assert_eq!(gone(&left, &policy, now), BTreeSet::new());
    }

    #[test]
    fn many_small_runs_keep_what_one_large_run_keeps(
        all in history(), policy in policy(), now in moment(), max in 1usize..5
    ) {
        let whole = gone(&all, &policy, now);
        let mut left = all.clone();
        for _ in 0..=all.len() {
            let decision = decide(&left, &policy, &TimeZone::UTC, now, max);
            let gone = decision.deleted();
            prop_assert!(gone.len() <= max);
            left.retain(|c| !gone.contains(&c.snapshot));
        }
        let kept: Vec<_> = all.into_iter().filter(|c| !whole.contains(&c.snapshot)).collect();
        prop_assert!(kept.iter().all(|c| left.contains(c)));
        prop_assert_eq!(gone(&left, &policy, now), BTreeSet::new());
    }

    #[test]
    fn a_larger_policy_keeps_more(all in history(), policy in policy(), more in policy(), now in moment()) {
        let larger = Policy {
            last: policy.last + more.last,
            hourly: policy.hourly + more.hourly,
            daily: policy.daily + more.daily,
            weekly: policy.weekly + more.weekly,
            monthly: policy.monthly + more.monthly,
            yearly: policy.yearly + more.yearly,
            within: policy.within.max(more.within),
        };
        let (small, large) = (gone(&all, &policy, now), gone(&all, &larger, now));
        prop_assert!(large.is_subset(&small), "{:?} and not {:?}", large, small);
    }

    #[test]
    fn the_last_ones_up_to_the_newest_proof_stay(all in history(), policy in policy(), now in moment()) {
        let gone = gone(&all, &policy, now);
        let dated = dates(&all.iter().collect::<Vec<_>>(), now);
        let sound = all.iter().zip(dated).filter(|(_, d)| *d == Dated::InOrder).map(|(c, _)| c);
        let sound: Vec<&Candidate> = sound.collect();
        if let Some(newest) = sound.iter().rposition(|c| c.proven) {
            let good = sound[..=newest].iter().rev().filter(|c| !c.damaged).take(policy.last as usize);
            for c in good {
                prop_assert!(!gone.contains(&c.snapshot));
            }
        }
    }
}

#[test]
fn what_is_held_stays_whatever_the_rules_say() {
    let mut all = every(24, "2026-01-01T02:00:00Z", 10);
    // Number 8 and later hold something odd.
    all[..7].iter_mut().for_each(|c| c.held = true);
    all[4].pruned = true;
    let policy = Policy { last: 1, ..Policy::default() };
    assert_eq!(kept_in(&TimeZone::UTC, &all, &policy, last_moment(&all)), [1, 2, 3, 4, 5, 6, 7, 10]);
    assert!(reasons(&all, &policy, 2, last_moment(&all)).contains(&Reason::Held.to_string()));
}
