//! When something is to happen: cron expressions, on the civil time of a time zone.
//!
//! A slot is a civil time that the expression names, made an instant by the time zone. Twice a year that is no
//! one-to-one affair. A slot in the gap of spring happens right after the gap. A slot in the overlap of autumn happens
//! once, the first time its clock face is seen; but for expressions of every hour (`*` in the hours) the repeated
//! hour is an hour like all others, so that "every fifteen minutes" never pauses for an hour.

mod fields;
mod gap;
#[cfg(test)]
mod tests;

use std::fmt;
use std::str::FromStr;

use croner::Cron;
use croner::errors::CronError;
use croner::parser::{CronParser, Seconds, Year};
use jiff::civil::{DateTime, date};
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{Timestamp, ToSpan};

/// What an expression may look like, for messages.
pub(crate) const ACCEPTED: &str = "five fields \"minute hour day month weekday\" as \"30 2 * * MON-FRI\", six with the second \
                            first, or @hourly, @daily, @midnight, @weekly, @monthly, @yearly";

/// A cron expression: it has at least one slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    text: String,
    /// The calendar alone: it is only ever asked for civil times.
    calendar: Cron,
    /// It names all hours.
    hourly: bool,
}

/// Why a text is not a schedule.
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
        let values = [
            fields::SECOND.values(second)?,
            fields::MINUTE.values(minute)?,
            fields::HOUR.values(hour)?,
            fields::DAY.values(day)?,
            fields::MONTH.values(month)?,
            fields::WEEKDAY.values(weekday)?,
        ];
        // As every cron has it: if day and weekday are both restricted, one of the two is enough, and a field that
        // begins with a star does not restrict.
        let both = day.starts_with('*') || weekday.starts_with('*');
        let parser = CronParser::builder().seconds(Seconds::Required).year(Year::Disallowed);
        let invalid = |e: CronError| InvalidSchedule { problem: e.to_string() };
        let calendar = parser.dom_and_dow(both).build().parse(&values.join(" ")).map_err(invalid)?;
        if calendar.find_next_occurrence(&date(2000, 1, 1).at(0, 0, 0, 0), true).is_err() {
            let problem = format!("there is no such date: day {day} of month {month}");
            return Err(InvalidSchedule { problem });
        }
        let hourly = calendar.pattern.hours.values().len() == 24;
        Ok(Self { text, calendar, hourly })
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
    pub(crate) fn rule(&self, zone: &TimeZone) -> String {
        format!("{self} {}", zone.iana_name().unwrap_or("local"))
    }

    /// The first slot after this instant. `None` only where the calendar ends.
    pub(crate) fn next(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let once = self.next_civil(after, zone);
        if !self.hourly {
            return once;
        }
        [once, self.next_elapsed(after, zone)].into_iter().flatten().min()
    }

    /// All slots after the first instant, up to and including the second.
    pub(crate) fn slots<'a>(
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
                    let civil = change.offset().to_datetime(change.timestamp());
                    if self.calendar.is_time_matching(&civil).ok()? {
                        return Some(change.timestamp());
                    }
                    after = change.timestamp();
                }
                _ => return Some(instant),
            }
        }
    }

    /// The first civil time after this one that the expression names.
    fn civil_after(&self, after: DateTime) -> Option<DateTime> {
        self.calendar.find_next_occurrence(&after, false).ok()
    }
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
