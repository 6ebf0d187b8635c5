//! When something is to happen: cron expressions, on the civil time of a time zone.
//!
//! A slot is a civil time that the expression names, made an instant by the time zone. Twice a year that is no
//! one-to-one affair. A slot in the gap of spring happens right after the gap. A slot in the overlap of autumn happens
//! once, the first time its clock face is seen; but for expressions of every hour (`*` in the hours) the repeated
//! hour is an hour like all others, so that "every fifteen minutes" never pauses for an hour.

mod fields;
#[cfg(test)]
mod tests;

use std::fmt;
use std::str::FromStr;

use jiff::civil::{Date, DateTime, Time};
use jiff::tz::{AmbiguousOffset, Offset, TimeZone};
use jiff::{Timestamp, ToSpan};

use fields::{Days, Set};

/// What an expression may look like, for messages.
pub const ACCEPTED: &str = "five fields \"minute hour day month weekday\" as \"30 2 * * MON-FRI\", six with the second \
                            first, or @hourly, @daily, @midnight, @weekly, @monthly, @yearly";

/// After so many days without a slot there is none: 29 February on a given weekday comes back within 40 years,
/// also around a century without its leap day.
const HORIZON_DAYS: u32 = 41 * 366;

/// A cron expression: it has at least one slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    text: String,
    seconds: Set,
    minutes: Set,
    hours: Set,
    days: Days,
}

/// Why a text is no schedule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidSchedule {
    /// What is wrong: a fragment.
    pub problem: String,
}

impl fmt::Display for InvalidSchedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.problem)
    }
}

impl std::error::Error for InvalidSchedule {}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Schedule {
    type Err = InvalidSchedule;

    fn from_str(text: &str) -> Result<Self, InvalidSchedule> {
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let expression = match text.strip_prefix('@') {
            Some(name) => named(name)?,
            None => &text,
        };
        let parts: Vec<&str> = expression.split(' ').filter(|part| !part.is_empty()).collect();
        let (second, [minute, hour, day, month, weekday]) = match parts.as_slice() {
            [minute, hour, day, month, weekday] => ("0", [minute, hour, day, month, weekday]),
            [second, minute, hour, day, month, weekday] => (*second, [minute, hour, day, month, weekday]),
            _ => return Err(InvalidSchedule { problem: format!("{text:?} has {} fields", parts.len()) }),
        };
        Ok(Self {
            seconds: Set::parse(second, &fields::SECOND)?,
            minutes: Set::parse(minute, &fields::MINUTE)?,
            hours: Set::parse(hour, &fields::HOUR)?,
            days: Days::parse(day, month, weekday)?,
            text,
        })
    }
}

fn named(name: &str) -> Result<&'static str, InvalidSchedule> {
    Ok(match name.to_ascii_lowercase().as_str() {
        "hourly" => "0 * * * *",
        "daily" | "midnight" => "0 0 * * *",
        "weekly" => "0 0 * * 0",
        "monthly" => "0 0 1 * *",
        "yearly" | "annually" => "0 0 1 1 *",
        _ => return Err(InvalidSchedule { problem: format!("there is no schedule \"@{name}\"") }),
    })
}

impl Schedule {
    /// The expression and the zone as text. Under another rule other slots are due.
    pub fn rule(&self, zone: &TimeZone) -> String {
        format!("{self} {}", zone.iana_name().unwrap_or("local"))
    }

    /// The first slot after this instant. `None` only where the calendar ends.
    pub fn next(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let once = self.next_civil(after, zone);
        if !self.hours.is_full() {
            return once;
        }
        [once, self.next_elapsed(after, zone)].into_iter().flatten().min()
    }

    /// All slots after the first instant, up to and including the second.
    pub fn slots<'a>(
        &'a self,
        after: Timestamp,
        until: Timestamp,
        zone: &'a TimeZone,
    ) -> impl Iterator<Item = Timestamp> + 'a {
        std::iter::successors(self.next(after, zone), |slot| self.next(*slot, zone))
            .take_while(move |slot| *slot <= until)
    }

    /// Each civil time once: the first of the two in an overlap, the end of a gap.
    fn next_civil(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let mut civil = zone.to_datetime(after);
        loop {
            civil = self.civil_after(civil)?;
            let instant = resolve(civil, zone)?;
            // In the second half of an overlap the clock shows times that were used already.
            if instant > after {
                return Some(instant);
            }
        }
    }

    /// As the time passes, whatever clocks are set to: each hour of an overlap on its own.
    fn next_elapsed(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let mut after = after;
        loop {
            let offset = zone.to_offset(after);
            let instant = offset.to_timestamp(self.civil_after(offset.to_datetime(after))?).ok()?;
            match zone.following(after).next() {
                Some(change) if change.timestamp() <= instant => {
                    if self.matches(change.offset(), change.timestamp()) {
                        return Some(change.timestamp());
                    }
                    after = change.timestamp();
                }
                _ => return Some(instant),
            }
        }
    }

    fn matches(&self, offset: Offset, instant: Timestamp) -> bool {
        let civil = offset.to_datetime(instant);
        let just_before = civil.checked_sub(1.second());
        just_before.ok().and_then(|before| self.civil_after(before)) == Some(civil)
    }

    /// The first civil time after this one that the expression names.
    fn civil_after(&self, after: DateTime) -> Option<DateTime> {
        let today = after.date();
        if self.days.contain(today)
            && let Some(time) = self.time_after(after.time())
        {
            return Some(today.to_datetime(time));
        }
        let first = time(self.hours.first()?, self.minutes.first()?, self.seconds.first()?)?;
        let mut date = today;
        for _ in 0..HORIZON_DAYS {
            date = date.tomorrow().ok()?;
            if self.days.contain(date) {
                return Some(date.to_datetime(first));
            }
        }
        None
    }

    /// The first time of day after this one.
    fn time_after(&self, after: Time) -> Option<Time> {
        let [hour, minute, second] = [after.hour(), after.minute(), after.second()].map(i8::unsigned_abs);
        if self.hours.has(hour) {
            if self.minutes.has(minute)
                && let Some(second) = self.seconds.after(second)
            {
                return time(hour, minute, second);
            }
            if let Some(minute) = self.minutes.after(minute) {
                return time(hour, minute, self.seconds.first()?);
            }
        }
        time(self.hours.after(hour)?, self.minutes.first()?, self.seconds.first()?)
    }
}

fn time(hour: u8, minute: u8, second: u8) -> Option<Time> {
    let [hour, minute, second] = [hour, minute, second].map(|n| i8::try_from(n).unwrap_or(i8::MAX));
    Time::new(hour, minute, second, 0).ok()
}

/// The instant of a civil time: the first of two, or the end of the gap that it falls into.
fn resolve(civil: DateTime, zone: &TimeZone) -> Option<Timestamp> {
    match zone.to_ambiguous_timestamp(civil).offset() {
        AmbiguousOffset::Unambiguous { offset } => offset.to_timestamp(civil).ok(),
        AmbiguousOffset::Fold { before, .. } => before.to_timestamp(civil).ok(),
        AmbiguousOffset::Gap { before, .. } => {
            // By the clock of before the gap, this instant is after its end; what precedes it is that end.
            let inside = before.to_timestamp(civil).ok()?;
            let just_after = inside.checked_add(1.second()).ok()?;
            Some(zone.preceding(just_after).next().map_or(inside, |change| change.timestamp()))
        }
    }
}

/// Whether there is such a date at all, in any year.
fn exists(month: u8, day: u8) -> bool {
    let number = |n: u8| i8::try_from(n).unwrap_or(i8::MAX);
    // A leap year.
    Date::new(2024, number(month), number(day)).is_ok()
}
