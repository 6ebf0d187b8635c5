use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use proptest::prelude::*;

use super::*;

fn paris() -> TimeZone {
    TimeZone::get("Europe/Paris").unwrap()
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn schedule(text: &str) -> Schedule {
    text.parse().unwrap()
}

/// The slots of a span of time, as UTC without year: `10-25T00:30`.
fn slots(text: &str, after: &str, until: &str, zone: &TimeZone) -> Vec<String> {
    let schedule = schedule(text);
    schedule.slots(at(after), at(until), zone).map(|slot| slot.strftime("%m-%dT%H:%M").to_string()).collect()
}

fn utc(text: &str, after: &str, until: &str) -> Vec<String> {
    slots(text, after, until, &TimeZone::UTC)
}

fn problem(text: &str) -> String {
    text.parse::<Schedule>().unwrap_err().to_string()
}

#[test]
fn the_longest_gap_is_found() {
    const HOUR: u64 = 3600;
    for (text, seconds) in [
        ("* * * * * *", 1),
        ("*/15 * * * *", 900),
        ("30 2 * * *", 24 * HOUR),
        ("@hourly", HOUR),
        ("0 2,14 * * *", 12 * HOUR),
        ("0 8,12 * * *", 20 * HOUR),
        ("30 2 * * MON-FRI", 72 * HOUR),
        // From Friday evening to Monday morning.
        ("0 8-18 * * MON-FRI", 62 * HOUR),
        ("@weekly", 7 * 24 * HOUR),
        ("0 0 1 * *", 31 * 24 * HOUR),
        ("0 0 31 * *", 61 * 24 * HOUR),
        ("@yearly", 366 * 24 * HOUR),
        ("0 0 29 2 *", 1461 * 24 * HOUR),
    ] {
        assert_eq!(schedule(text).longest_gap().as_secs(), seconds, "{text}");
    }
}

#[test]
fn in_autumn_a_slot_of_the_repeated_hour_happens_once() {
    let day = |text: &str| slots(text, "2026-10-24T22:00:00Z", "2026-10-25T22:59:59Z", &paris());
    assert_eq!(day("30 2 * * *"), ["10-25T00:30"], "the first time, still in summer time");
    assert_eq!(day("0 2 * * *"), ["10-25T00:00"]);
    assert_eq!(day("0 3 * * *"), ["10-25T02:00"]);
    assert_eq!(day("0,30 2-3 * * *"), ["10-25T00:00", "10-25T00:30", "10-25T02:00", "10-25T02:30"]);
    for after in ["2026-10-25T00:30:00Z", "2026-10-25T01:10:00Z"] {
        assert_eq!(schedule("30 2 * * *").next(at(after), &paris()), Some(at("2026-10-26T01:30:00Z")));
    }
}

#[test]
fn in_autumn_what_happens_every_hour_does_not_pause() {
    let found = slots("*/30 * * * *", "2026-10-24T23:45:00Z", "2026-10-25T02:15:00Z", &paris());
    let expected = ["10-25T00:00", "10-25T00:30", "10-25T01:00", "10-25T01:30", "10-25T02:00"];
    assert_eq!(found, expected);
}

#[test]
fn in_spring_a_slot_in_the_gap_happens_right_after_it() {
    let day = |text: &str| slots(text, "2027-03-27T23:00:00Z", "2027-03-28T21:59:59Z", &paris());
    for text in ["30 2 * * *", "0 2 * * *", "59 2 * * *", "0,30 2 * * *", "0 3 * * *", "30 2,3 28 3 *"] {
        assert_eq!(day(text)[0], "03-28T01:00", "{text}");
    }
    assert_eq!(day("0,10,50 2 * * *").len(), 1, "one run makes up for all of the gap");
    assert_eq!(day("59 1 * * *"), ["03-28T00:59"]);
    let found = slots("*/30 * * * *", "2027-03-28T00:15:00Z", "2027-03-28T01:45:00Z", &paris());
    assert_eq!(found, ["03-28T00:30", "03-28T01:00", "03-28T01:30"]);
}

#[test]
fn a_day_that_a_country_left_out_is_no_endless_search() {
    // Samoa had no 30 December 2011.
    let zone = TimeZone::get("Pacific/Apia").unwrap();
    let found = schedule("0 12 30 12 *").next(at("2011-12-30T09:00:00Z"), &zone).unwrap();
    assert_eq!(found, at("2011-12-30T10:00:00Z"), "right after the gap");
}

#[test]
fn leap_days_and_the_ends_of_months() {
    let zone = TimeZone::UTC;
    let leap = schedule("0 0 29 2 *");
    assert_eq!(leap.next(at("2024-02-29T00:00:00Z"), &zone), Some(at("2028-02-29T00:00:00Z")));
    assert_eq!(leap.next(at("2096-02-29T00:00:00Z"), &zone), Some(at("2104-02-29T00:00:00Z")));
    // `*/7` among the weekdays is Sunday (0 and 7), and begins with a star: both must hold.
    let sunday = schedule("0 0 29 2 */7").next(at("2026-01-01T00:00:00Z"), &zone);
    assert_eq!(sunday, Some(at("2032-02-29T00:00:00Z")));
    let ends = utc("0 0 31 * *", "2026-03-31T12:00:00Z", "2026-12-01T00:00:00Z");
    assert_eq!(ends, ["05-31T00:00", "07-31T00:00", "08-31T00:00", "10-31T00:00"]);
    assert_eq!(utc("59 23 28-31 2 *", "2027-01-01T00:00:00Z", "2028-12-31T00:00:00Z").len(), 3);
}

#[test]
fn a_date_that_never_comes_is_refused() {
    for text in ["0 0 30 2 *", "0 0 31 4,6,9,11 *", "0 0 30,31 FEB *", "0 0 31 2 */2"] {
        assert!(problem(text).contains("there is no such date"), "{text}");
    }
    // The weekday is enough there.
    let mondays = utc("0 0 30 2 MON", "2027-02-01T12:00:00Z", "2027-02-28T00:00:00Z");
    assert_eq!(mondays, ["02-08T00:00", "02-15T00:00", "02-22T00:00"]);
}

#[test]
fn day_and_weekday_are_either() {
    let june = |text: &str| utc(text, "2026-05-31T23:59:00Z", "2026-06-30T23:59:00Z").len();
    assert_eq!(june("0 0 13 * FRI"), 5, "4 Fridays, and Saturday the 13th");
    assert_eq!(june("0 0 13 * *"), 1);
    assert_eq!(june("0 0 * * FRI"), 4);
    assert_eq!(june("0 0 */2 * FRI"), 2, "a star that steps does not restrict: both must hold");
}

#[test]
fn sunday_is_0_and_7_and_has_a_name() {
    let week = |text: &str| utc(text, "2026-11-22T12:00:00Z", "2026-11-29T12:00:00Z");
    for text in ["0 0 * * 0", "0 0 * * 7", "0 0 * * SUN", "0 0 * * sun", "@weekly"] {
        assert_eq!(week(text), ["11-29T00:00"], "{text}");
    }
    for text in ["0 0 * * 5-7", "0 0 * * FRI-SUN", "0 0 * * 0,5,6"] {
        assert_eq!(week(text), ["11-27T00:00", "11-28T00:00", "11-29T00:00"], "{text}");
    }
    assert_eq!(week("0 0 * * 1-5").len(), 5);
    assert_eq!(week("0 0 * * */2").len(), 4, "Sunday, Tuesday, Thursday, Saturday");
}

#[test]
fn forms_that_people_write() {
    let hour = |text: &str| utc(text, "2026-11-25T09:59:59Z", "2026-11-25T10:59:59Z");
    assert_eq!(hour("*/20 * * * *"), ["11-25T10:00", "11-25T10:20", "11-25T10:40"]);
    assert_eq!(hour("5/20 * * * *"), ["11-25T10:05", "11-25T10:25", "11-25T10:45"]);
    assert_eq!(hour("1-3,10-20/5 9-17 * NOV *").len(), 6);
    assert_eq!(hour("0 */30 * * * *"), ["11-25T10:00", "11-25T10:30"]);
    assert_eq!(hour("  @HOURLY ").len(), 1);
    let seconds = schedule("*/10 * * * * *");
    let minute = (at("2026-11-25T00:00:00Z"), at("2026-11-25T00:01:00Z"));
    assert_eq!(seconds.slots(minute.0, minute.1, &TimeZone::UTC).count(), 6);
    for (name, slot) in [
        ("@daily", "2026-11-26T00:00:00Z"),
        ("@midnight", "2026-11-26T00:00:00Z"),
        ("@monthly", "2026-12-01T00:00:00Z"),
        ("@yearly", "2027-01-01T00:00:00Z"),
        ("@annually", "2027-01-01T00:00:00Z"),
    ] {
        assert_eq!(schedule(name).next(minute.0, &TimeZone::UTC), Some(at(slot)), "{name}");
    }
}

#[test]
fn what_is_no_schedule_is_refused_with_its_field() {
    for (text, words) in [
        ("", "has 0 fields"),
        ("* * * *", "has 4 fields"),
        ("* * * * * * *", "has 7 fields"),
        ("60 * * * *", "\"60\" is not a valid minute: it must be from 0 to 59"),
        ("0 24 * * *", "is not a valid hour"),
        ("0 0 0 * *", "is not a valid day: it must be from 1 to 31"),
        ("0 0 * 13 *", "is not a valid month: it must be from 1 to 12, or JAN to DEC"),
        ("0 0 * * 8", "is not a valid weekday: it must be from 0 to 7, or SUN to SAT"),
        ("61 0 0 * * *", "is not a valid second"),
        ("*/0 * * * *", "a step is a whole number from 1"),
        ("*/+5 * * * *", "a step"),
        ("*/ * * * *", "a step"),
        ("5-1 * * * *", "from the smaller to the greater"),
        ("1,,2 * * * *", "\"\" is not a valid minute"),
        ("+1 * * * *", "is not a valid minute"),
        ("-1 * * * *", "is not a valid minute"),
        ("0 0 ? * MON", "is not a valid day"),
        ("0 0 L * *", "is not a valid day"),
        ("0 0 * * MON#1", "is not a valid weekday"),
        ("0 0 * * MONDAY", "is not a valid weekday"),
        ("@reboot", "there is no schedule \"@reboot\""),
        ("every day", "has 2 fields"),
    ] {
        assert!(problem(text).contains(words), "{text:?}: {}", problem(text));
    }
}

/// Whether a field of the forms that [`field`] makes has this value.
fn has(field: &str, value: i8) -> bool {
    let number = |text: &str| text.parse::<i8>().unwrap();
    field.split(',').any(|part| match (part.strip_prefix("*/"), part.split_once('-')) {
        (Some(step), _) => value % number(step) == 0,
        (None, Some((first, last))) => (number(first)..=number(last)).contains(&value),
        (None, None) => part == "*" || number(part) == value,
    })
}

/// Whether five fields name this minute.
fn names(fields: &[&str], civil: DateTime) -> bool {
    // A step is counted from the first value: day 1, month 1.
    let from_one = |field: &str, value: i8| match field.starts_with("*/") {
        true => has(field, value - 1),
        false => has(field, value),
    };
    let sunday_is_0 = civil.weekday().to_sunday_zero_offset();
    let (day, weekday) = (
        from_one(fields[2], civil.day()),
        has(fields[4], sunday_is_0) || (sunday_is_0 == 0 && has(fields[4], 7)),
    );
    let either = !fields[2].starts_with('*') && !fields[4].starts_with('*');
    let date = if either { day || weekday } else { day && weekday };
    has(fields[0], civil.minute())
        && has(fields[1], civil.hour())
        && from_one(fields[3], civil.month())
        && date
}

/// Looks at every minute of the time: what the slots must be, found in another way.
fn scan(schedule: &Schedule, after: Timestamp, minutes: i64, zone: &TimeZone) -> Vec<Timestamp> {
    let text = schedule.to_string();
    let fields: Vec<&str> = text.split(' ').collect();
    let named = |civil: DateTime| names(&fields, civil);
    let every_hour = (0..24).all(|hour| has(fields[1], hour));
    let mut found = Vec::new();
    for n in 1..=minutes {
        let instant = after + SignedDuration::from_mins(n);
        let civil = zone.to_datetime(instant);
        let repeated = zone.to_ambiguous_timestamp(civil).earlier().unwrap() != instant;
        let mut is_slot = named(civil) && (!repeated || every_hour);
        // The end of a gap stands for all that is in it.
        let before = zone.to_datetime(instant - SignedDuration::from_mins(1));
        let mut skipped = before.checked_add(1.minute()).unwrap();
        while skipped < civil {
            is_slot |= named(skipped);
            skipped = skipped.checked_add(1.minute()).unwrap();
        }
        if is_slot {
            found.push(instant);
        }
    }
    found
}

fn field(first: u8, last: u8) -> impl Strategy<Value = String> {
    prop_oneof![
        3 => Just("*".to_owned()),
        3 => (first..=last).prop_map(|n| n.to_string()),
        1 => (2u8..20).prop_map(|n| format!("*/{n}")),
        2 => (first..=last, first..=last).prop_map(|(a, b)| format!("{}-{}", a.min(b), a.max(b))),
        1 => proptest::collection::vec(first..=last, 1..4)
            .prop_map(|v| v.iter().map(u8::to_string).collect::<Vec<_>>().join(",")),
    ]
}

fn expression() -> impl Strategy<Value = String> {
    (field(0, 59), field(0, 23), field(1, 31), field(1, 12), field(0, 7))
        .prop_map(|(minute, hour, day, month, weekday)| format!("{minute} {hour} {day} {month} {weekday}"))
}

/// Around the changes of the clocks, and elsewhere.
fn moment() -> impl Strategy<Value = Timestamp> {
    let days = prop_oneof![
        Just("2026-10-24T12:00:00Z"),
        Just("2027-03-27T12:00:00Z"),
        Just("2028-02-28T03:00:00Z"),
        Just("2026-12-31T03:00:00Z"),
    ];
    (days, 0i64..1440).prop_map(|(day, minutes)| at(day) + SignedDuration::from_mins(minutes))
}

fn zone() -> impl Strategy<Value = TimeZone> {
    let names =
        ["Europe/Paris", "Australia/Lord_Howe", "Pacific/Chatham", "America/New_York", "Asia/Kolkata"];
    proptest::sample::select(names.to_vec()).prop_map(|name| TimeZone::get(name).unwrap())
}

proptest! {
    #[test]
    fn slots_agree_with_a_scan_of_all_minutes(text in expression(), after in moment(), zone in zone()) {
        let Ok(schedule) = text.parse::<Schedule>() else {
            prop_assert!(problem(&text).contains("no such date"));
            return Ok(());
        };
        let until = after + SignedDuration::from_mins(2 * 1440);
        let found: Vec<Timestamp> = schedule.slots(after, until, &zone).collect();
        prop_assert_eq!(found, scan(&schedule, after, 2 * 1440, &zone), "{}", text);
    }

    #[test]
    fn slots_increase_and_nothing_lies_between(text in expression(), after in moment(), zone in zone()) {
        let Ok(schedule) = text.parse::<Schedule>() else { return Ok(()) };
        let mut last = after;
        for _ in 0..50 {
            let slot = schedule.next(last, &zone).unwrap();
            prop_assert!(slot > last);
            prop_assert_eq!(schedule.next(slot - SignedDuration::from_secs(1), &zone), Some(slot));
            last = slot;
        }
    }

    #[test]
    fn whatever_people_write_is_read_or_refused(text in "[0-9*/,@a-zA-Z# -]{0,40}") {
        if let Ok(schedule) = text.parse::<Schedule>() {
            prop_assert!(schedule.next(Timestamp::UNIX_EPOCH, &TimeZone::UTC).is_some());
        }
    }
}
