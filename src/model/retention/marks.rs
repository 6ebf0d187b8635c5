//! What people have decided about single snapshots: a pinned one is never deleted; a forgotten one is, unless invariant I7 forbids
//! it, and all else is as if it were gone.

use proptest::prelude::*;

use super::tests::{because, every, gone, history, kept_in, last_moment, moment, policy, reasons};
use super::*;

const LAVISH: Policy =
    Policy { last: 100, hourly: 0, daily: 0, weekly: 0, monthly: 0, yearly: 0, within: None };

fn forgotten() -> Option<Mark> {
    Some(Mark::Forgotten(because()))
}

/// Whether a reason is one of those that no decision overrules.
fn is_of_i7(reason: &Reason) -> bool {
    match reason {
        Reason::Newest
        | Reason::NewestSound
        | Reason::NewestAt(_)
        | Reason::NewestProven
        | Reason::BeginsEpoch { .. }
        | Reason::Held => true,
        Reason::Rule { .. }
        | Reason::NoRule
        | Reason::Future
        | Reason::Backdated
        | Reason::ShowsBackdated
        | Reason::HeldBack(_)
        | Reason::Unneeded
        | Reason::BackdatedAlone
        | Reason::Pruned
        | Reason::Marked(_) => false,
    }
}

proptest! {
    #[test]
    fn a_pinned_one_is_never_deleted(all in history(), policy in policy(), now in moment(), max in 0usize..60) {
        for c in decide(&all, &policy, &TimeZone::UTC, now, max).deleted() {
            let c = all.iter().find(|of| of.snapshot == c).unwrap();
            prop_assert!(!matches!(c.mark, Some(Mark::Pinned(_))), "{}", c.sequence);
        }
    }

    #[test]
    fn a_forgotten_one_goes_unless_it_outlives_every_rule(
        all in history(), policy in prop_oneof![policy(), Just(Policy::default())], now in moment(), max in 0usize..60
    ) {
        let decision = decide(&all, &policy, &TimeZone::UTC, now, max);
        prop_assert!(decision.deleted().len() <= max);
        for c in all.iter().filter(|c| c.is_forgotten()) {
            if let Fate::Keep(reasons) = &decision.fates[&c.snapshot] {
                let held_back = matches!(reasons[..], [Reason::HeldBack(_)]);
                prop_assert!(held_back || reasons.iter().all(is_of_i7), "{}: {reasons:?}", c.sequence);
            }
        }
    }

    #[test]
    fn what_is_forgotten_and_goes_takes_nothing_with_it(all in history(), policy in policy(), now in moment()) {
        let with = gone(&all, &policy, now);
        let goes = |c: &Candidate| c.is_forgotten() && with.contains(&c.snapshot);
        let left: Vec<Candidate> = all.iter().filter(|c| !goes(c)).cloned().collect();
        let without = gone(&left, &policy, now);
        for c in &left {
            prop_assert_eq!(with.contains(&c.snapshot), without.contains(&c.snapshot), "{}", c.sequence);
        }
    }
}

#[test]
fn a_forgotten_one_goes_whatever_rule_would_keep_it() {
    let mut all = every(24, "2026-11-01T02:00:00Z", 6);
    all[3].mark = forgotten();
    let now = last_moment(&all);
    for policy in [LAVISH, Policy::default()] {
        assert_eq!(kept_in(&TimeZone::UTC, &all, &policy, now), [1, 2, 3, 5, 6]);
        assert_eq!(reasons(&all, &policy, 4, now), ["deleted: forgotten by claire: a reason"]);
    }
    let decision = decide(&all, &LAVISH, &TimeZone::UTC, now, 0);
    assert_eq!(decision.fates[&all[3].snapshot], Fate::Keep(vec![Reason::HeldBack(0)]));
}

#[test]
fn a_forgotten_one_stays_where_it_has_become_the_best_there_is() {
    let mut all = every(24, "2026-11-01T02:00:00Z", 6);
    all[4].mark = forgotten();
    let now = last_moment(&all);
    all[5].damaged = true;
    assert_eq!(reasons(&all, &LAVISH, 5, now), [Reason::NewestSound.to_string()], "what is newer is damaged");
    all[5].damaged = false;
    all[4].proven = true;
    assert_eq!(reasons(&all, &LAVISH, 5, now), ["newest that a restore has proven"]);
    all[5].proven = true;
    assert_eq!(reasons(&all, &LAVISH, 5, now), ["deleted: forgotten by claire: a reason"]);
    all[0].mark = forgotten();
    assert_eq!(reasons(&all, &LAVISH, 1, now), ["begins the epoch of the newest proven"]);
}

#[test]
fn a_pinned_one_stays_where_no_rule_keeps_it() {
    let mut all = every(24, "2026-11-01T02:00:00Z", 6);
    all[2].mark = Some(Mark::Pinned(because()));
    let strict = Policy { last: 1, ..Policy::default() };
    let now = last_moment(&all);
    assert_eq!(kept_in(&TimeZone::UTC, &all, &strict, now), [1, 3, 6]);
    assert_eq!(reasons(&all, &strict, 3, now), ["pinned by claire: a reason"]);
    // Also where an earlier run had decided otherwise, and did not get to it.
    all[2].pruned = true;
    assert_eq!(reasons(&all, &strict, 3, now), ["pinned by claire: a reason"]);
}
