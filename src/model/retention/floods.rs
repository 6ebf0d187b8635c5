//! Nothing good goes for something unproven (invariant I7), whatever is poured in after it.

use proptest::prelude::*;

use super::tests::{at, every, gone, kept_in, last_moment, policy, reasons, snapshot};
use super::*;

/// Good snapshots, hours apart; some of them proven.
fn good() -> impl Strategy<Value = Vec<Candidate>> {
    proptest::collection::vec((2i64..60, 0u8..6), 2..30).prop_map(|steps| {
        let mut hours = 0;
        let of = |(n, (step, proven)): (usize, (i64, u8))| {
            hours += step;
            let mut c =
                snapshot(n as u64 * 1000 + 1, at("2026-01-01T00:00:00Z") + SignedDuration::from_hours(hours));
            c.proven = proven == 0;
            c
        };
        steps.into_iter().enumerate().map(of).collect()
    })
}

/// What is poured in: after which of the good ones, dated so many hours after now or before the one that it follows.
fn flood() -> impl Strategy<Value = Vec<(prop::sample::Index, bool, i64, bool)>> {
    proptest::collection::vec(
        (any::<prop::sample::Index>(), any::<bool>(), 2i64..90_000, any::<bool>()),
        1..60,
    )
}

proptest! {
    #[test]
    fn wrong_dates_push_no_good_one_out(good in good(), flood in flood(), policy in policy()) {
        let now = last_moment(&good);
        let alone = gone(&good, &policy, now);
        let mut all = good.clone();
        for (n, (after, ahead, hours, new_epoch)) in flood.into_iter().enumerate() {
            let place = after.get(&good);
            let hours = SignedDuration::from_hours(hours);
            let when = if ahead { now + hours } else { place.consistent_at - hours };
            let mut bad = snapshot(place.sequence + n as u64 + 1, when);
            if new_epoch {
                bad.epoch = "20260101T000001Z-00000000".parse().unwrap();
            }
            all.push(bad);
        }
        all.sort_by_key(|c| c.sequence);
        let flooded = gone(&all, &policy, now);
        for c in good.iter().filter(|c| !alone.contains(&c.snapshot)) {
            prop_assert!(!flooded.contains(&c.snapshot), "{}", c.sequence);
        }
    }

    #[test]
    fn bad_new_ones_push_nothing_out_that_was_kept_with_the_newest_proof(
        mut good in good(), number in 1u64..100, damaged in any::<bool>(), hours in 1i64..50, policy in policy()
    ) {
        // The newest good one is proven; then comes a run that is damaged, or that nobody has proven, whatever its dates.
        good.last_mut().unwrap().proven = true;
        let alone = gone(&good, &policy, last_moment(&good));
        let start = last_moment(&good);
        let bad = (1..=number).map(|n| {
            let mut c = snapshot(1_000_000 + n, start + SignedDuration::from_hours(hours * n as i64));
            c.damaged = damaged;
            c.epoch = "20260101T000001Z-00000000".parse().unwrap();
            c
        });
        let all: Vec<Candidate> = good.iter().cloned().chain(bad).collect();
        let after = gone(&all, &policy, last_moment(&all));
        for c in good.iter().filter(|c| !alone.contains(&c.snapshot)) {
            prop_assert!(!after.contains(&c.snapshot), "{}", c.sequence);
        }
    }
}

#[test]
fn damaged_new_ones_make_no_good_one_old() {
    // A month of good nights, and then half a year of nights of which no copy is whole.
    let mut all = every(24, "2026-01-01T02:00:00Z", 211);
    all[31..].iter_mut().for_each(|c| c.damaged = true);
    let week = Policy { within: Some(Duration::from_secs(7 * 86_400)), ..Policy::default() };
    let found = kept_in(&TimeZone::UTC, &all, &week, last_moment(&all));
    // Number 31 is the newest good one: its week is 24 to 31.
    assert!((24..=31).all(|n| found.contains(&n)), "{found:?}");
    assert!(!found.contains(&23));
    assert!(reasons(&all, &week, 31, last_moment(&all)).contains(&Reason::NewestSound.to_string()));
}

#[test]
fn a_damaged_beginning_is_no_full_epoch() {
    let mut all = every(24, "2026-01-01T02:00:00Z", 10);
    all[0].damaged = true;
    let policy = Policy { last: 1, ..Policy::default() };
    assert_eq!(kept_in(&TimeZone::UTC, &all, &policy, last_moment(&all)), [2, 10]);
}

#[test]
fn what_was_decided_goes_unless_it_has_become_the_best_there_is() {
    let mut all = every(24, "2026-01-01T02:00:00Z", 10);
    (all[2].pruned, all[3].pruned) = (true, true);
    let lavish = Policy { last: 100, ..Policy::default() };
    let now = last_moment(&all);
    assert_eq!(kept_in(&TimeZone::UTC, &all, &lavish, now), [1, 2, 5, 6, 7, 8, 9, 10]);
    assert_eq!(reasons(&all, &lavish, 3, now), ["deleted: an earlier run has decided so"]);
    // It takes no place of a rule.
    let three = Policy { last: 9, ..Policy::default() };
    assert_eq!(kept_in(&TimeZone::UTC, &all, &three, now), [1, 2, 5, 6, 7, 8, 9, 10]);
    // The cap counts it, and it goes first.
    let decision = decide(&all, &Policy { last: 1, ..Policy::default() }, &TimeZone::UTC, now, 1);
    assert_eq!(decision.deleted(), BTreeSet::from([all[2].snapshot.clone()]));
    all[3].proven = true;
    assert_eq!(reasons(&all, &lavish, 4, now), ["newest that a restore has proven"]);
}
