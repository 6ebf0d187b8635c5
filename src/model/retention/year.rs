//! A year of nights, held against a calendar that is kept by other code, and against what was counted by hand.

use jiff::civil::{Date, date};

use super::tests::{kept_in, reasons, snapshot};
use super::*;

/// A snapshot of every night at two o'clock in Paris, with its day.
fn nights(first: Date, number: u64, zone: &TimeZone) -> Vec<(Date, Candidate)> {
    let mut day = first;
    let mut nights = Vec::new();
    for n in 1..=number {
        // The clocks go forward at two: what falls into the gap is the moment after it.
        let moment = day.at(2, 0, 0, 0).to_zoned(zone.clone()).unwrap().timestamp();
        nights.push((day, snapshot(n, moment)));
        day = day.tomorrow().unwrap();
    }
    nights
}

/// Which days a calendar keeps: for every rule the last day of each of so many periods, newest first.
fn calendar(days: &[Date], policy: &Policy) -> BTreeSet<Date> {
    let monday = |day: Date| {
        let back = i64::from(day.weekday().to_monday_zero_offset());
        day.checked_sub(jiff::Span::new().days(back)).unwrap()
    };
    let periods: [(u64, &dyn Fn(Date) -> Date); 4] = [
        (policy.daily, &|day| day),
        (policy.weekly, &monday),
        (policy.monthly, &|day| day.first_of_month()),
        (policy.yearly, &|day| day.first_of_year()),
    ];
    let mut kept = BTreeSet::new();
    for (number, period) in periods {
        // The last day of each period comes last, and so is the one that stays in the map.
        let last: BTreeMap<Date, Date> = days.iter().map(|day| (period(*day), *day)).collect();
        kept.extend(last.values().rev().take(number as usize));
    }
    kept
}

#[test]
fn two_years_of_nights_are_kept_as_a_calendar_says() {
    let paris = TimeZone::get("Europe/Paris").unwrap();
    let policy = Policy { daily: 7, weekly: 4, monthly: 12, yearly: 2, ..Policy::default() };
    let nights = nights(date(2026, 1, 1), 730, &paris);
    let days: Vec<Date> = nights.iter().map(|(day, _)| *day).collect();
    let day_of: BTreeMap<&SnapshotId, Date> = nights.iter().map(|(day, c)| (&c.snapshot, *day)).collect();
    let mut held: Vec<Candidate> = Vec::new();
    for (n, (day, tonight)) in nights.iter().enumerate() {
        held.push(tonight.clone());
        let gone = decide(&held, &policy, &paris, tonight.consistent_at, 5).deleted();
        held.retain(|c| !gone.contains(&c.snapshot));
        // A calendar that never forgot a day says the same as a run every night; the first night begins the epoch.
        let mut expected = calendar(&days[..=n], &policy);
        expected.insert(days[0]);
        let found: BTreeSet<Date> = held.iter().map(|c| day_of[&c.snapshot]).collect();
        assert_eq!(found, expected, "in the night of {day}");
    }
}

#[test]
fn a_year_as_counted_by_hand() {
    let paris = TimeZone::get("Europe/Paris").unwrap();
    let policy = Policy { daily: 7, weekly: 4, monthly: 12, yearly: 2, ..Policy::default() };
    let nights = nights(date(2026, 1, 1), 365, &paris);
    let all: Vec<Candidate> = nights.iter().map(|(_, c)| c.clone()).collect();
    let kept = kept_in(&paris, &all, &policy, all[364].consistent_at);
    // The last nights of the months, as days of the year: 31 January, 28 February … 31 December.
    let months = [31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334, 365];
    // 31 December 2026 is a Thursday: the weeks before its own end on Sundays, 27, 20 and 13 December.
    let weeks = [361, 354, 347];
    // 25 to 31 December.
    let days = 359..=365;
    let expected: BTreeSet<u64> = [1].into_iter().chain(months).chain(weeks).chain(days).collect();
    assert_eq!(kept, expected.into_iter().collect::<Vec<_>>());
    let of = |n| reasons(&all, &policy, n, all[364].consistent_at);
    assert_eq!(of(354), ["weekly 2026-W51"]);
    assert_eq!(of(59), ["monthly 2026-02"]);
    assert_eq!(of(365)[1..], ["daily 2026-12-31", "weekly 2026-W53", "monthly 2026-12", "yearly 2026"]);
}

#[test]
fn epochs_of_a_month_go_with_their_last_snapshot() {
    let paris = TimeZone::get("Europe/Paris").unwrap();
    let policy = Policy { daily: 7, ..Policy::default() };
    let mut held: Vec<Candidate> = Vec::new();
    for (n, (_, mut tonight)) in nights(date(2026, 1, 1), 365, &paris).into_iter().enumerate() {
        tonight.epoch = format!("20260101T0000{:02}Z-00000000", n / 30).parse().unwrap();
        // The drill of every hundredth night passes.
        tonight.proven = n % 100 == 0;
        held.push(tonight.clone());
        let gone = decide(&held, &policy, &paris, tonight.consistent_at, 50).deleted();
        held.retain(|c| !gone.contains(&c.snapshot));
        assert!(held.iter().any(|c| c.proven), "{n}");
        let proven = held.iter().rfind(|c| c.proven).unwrap();
        let first = held.iter().find(|c| c.epoch == proven.epoch).unwrap();
        assert_eq!((first.sequence - 1) % 30, 0, "the full snapshot of the proven one's epoch is there");
    }
    // Night 301 is the newest proven one and begins the eleventh epoch; before it its week, after it the last week.
    let numbers: Vec<u64> = held.iter().map(|c| c.sequence).collect();
    assert_eq!(numbers, (295..=301).chain(359..=365).collect::<Vec<_>>());
}
