//! How far apart the slots of a schedule are at most.

use std::time::Duration;

use jiff::civil::{Date, date};
use jiff::{SignedDuration, ToSpan, Unit};

use super::Schedule;

/// The calendar repeats itself after 28 years, weekdays and leap days included (until 2100, which is no leap year).
const CYCLE: (Date, Date) = (date(2000, 1, 1), date(2028, 12, 31));
const DAY: SignedDuration = SignedDuration::from_hours(24);

impl Schedule {
    /// The longest time from one slot to the next, by the calendar: an hour that a time zone skips or repeats is not counted.
    pub(crate) fn longest_gap(&self) -> Duration {
        let times = Times::of(self);
        let mut longest = times.within;
        let mut last: Option<Date> = None;
        let mut from = CYCLE.0;
        while let Some(day) = self.day_from(from).filter(|day| *day <= CYCLE.1) {
            if let Some(last) = last {
                longest = longest.max(DAY * days(last, day) - times.day_taken());
            }
            last = Some(day);
            let Ok(next) = day.checked_add(1.day()) else { break };
            from = next;
        }
        // A schedule with one slot in all that time.
        let longest = if longest.is_zero() { DAY * days(CYCLE.0, CYCLE.1) } else { longest };
        longest.unsigned_abs()
    }

    /// The first day with a slot, from this one on.
    fn day_from(&self, from: Date) -> Option<Date> {
        let found = self.calendar.find_next_occurrence(&from.at(0, 0, 0, 0), true);
        found.ok().map(|slot| slot.date())
    }
}

fn days(from: Date, until: Date) -> i32 {
    until.since((Unit::Day, from)).map_or(0, |span| span.get_days())
}

/// The slots of a day: the same on each day that has any.
struct Times {
    first: SignedDuration,
    last: SignedDuration,
    /// The longest time between two of them.
    within: SignedDuration,
}

impl Times {
    fn of(schedule: &Schedule) -> Self {
        let pattern = &schedule.calendar.pattern;
        let numbers = |values: Vec<u16>| -> Vec<i64> { values.into_iter().map(i64::from).collect() };
        let seconds = numbers(pattern.seconds.values());
        let (hours, minutes) = (numbers(pattern.hours.values()), numbers(pattern.minutes.values()));
        let mut within = 0;
        let mut first: Option<i64> = None;
        let mut last: Option<i64> = None;
        for minute in hours.iter().flat_map(|hour| minutes.iter().map(move |minute| hour * 60 + minute)) {
            for at in seconds.iter().map(|second| minute * 60 + second) {
                within = within.max(last.map_or(0, |last| at - last));
                first = first.or(Some(at));
                last = Some(at);
            }
        }
        let duration = |seconds: Option<i64>| SignedDuration::from_secs(seconds.unwrap_or(0));
        Self { first: duration(first), last: duration(last), within: SignedDuration::from_secs(within) }
    }

    /// From the first slot of a day to its last.
    fn day_taken(&self) -> SignedDuration {
        self.last - self.first
    }
}
