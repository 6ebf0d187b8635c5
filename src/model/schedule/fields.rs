//! The fields of a cron expression.

use jiff::civil::Date;

use super::{InvalidSchedule, exists};

/// What one field may hold.
pub(super) struct Field {
    name: &'static str,
    first: u8,
    last: u8,
    /// Names of values, the first of `first`.
    names: &'static [&'static str],
}

pub(super) const SECOND: Field = Field { name: "second", first: 0, last: 59, names: &[] };
pub(super) const MINUTE: Field = Field { name: "minute", first: 0, last: 59, names: &[] };
pub(super) const HOUR: Field = Field { name: "hour", first: 0, last: 23, names: &[] };
const DAY: Field = Field { name: "day", first: 1, last: 31, names: &[] };
const MONTH: Field = Field {
    name: "month",
    first: 1,
    last: 12,
    names: &["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"],
};
/// 7 is Sunday too.
const WEEKDAY: Field =
    Field { name: "weekday", first: 0, last: 7, names: &["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"] };

impl Field {
    fn problem(&self, text: &str, what: &str) -> InvalidSchedule {
        InvalidSchedule { problem: format!("{text:?} is no {}: {what}", self.name) }
    }

    fn value(&self, text: &str) -> Result<u8, InvalidSchedule> {
        if let Some(at) = self.names.iter().position(|name| name.eq_ignore_ascii_case(text)) {
            return Ok(self.first + u8::try_from(at).unwrap_or(u8::MAX));
        }
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        match text.parse::<u8>() {
            Ok(value) if digits && (self.first..=self.last).contains(&value) => Ok(value),
            _ => {
                let names = match (self.names.first(), self.names.last()) {
                    (Some(first), Some(last)) => format!(", or {first} to {last}"),
                    _ => String::new(),
                };
                let range = format!("it must be from {} to {}{names}", self.first, self.last);
                Err(self.problem(text, &range))
            }
        }
    }

    /// `*`, `5`, `1-5`, each with `/step`.
    fn range(&self, text: &str) -> Result<(u8, u8, u8), InvalidSchedule> {
        let (range, step) = match text.split_once('/') {
            None => (text, None),
            Some((range, step)) => {
                let digits = step.bytes().all(|b| b.is_ascii_digit());
                let number = step.parse::<u8>().ok().filter(|n| digits && *n > 0);
                let number = number.ok_or_else(|| self.problem(text, "a step is a whole number from 1"))?;
                (range, Some(number))
            }
        };
        let (first, last) = match range.split_once('-') {
            _ if range == "*" => (self.first, self.last),
            None => {
                let value = self.value(range)?;
                // `5/15`: from 5 on.
                (value, if step.is_some() { self.last } else { value })
            }
            Some((first, last)) => {
                let (first, mut last) = (self.value(first)?, self.value(last)?);
                // `FRI-SUN`.
                if self.last == 7 && last == 0 && first > 0 {
                    last = 7;
                }
                if first > last {
                    return Err(self.problem(text, "a range goes from the smaller to the greater"));
                }
                (first, last)
            }
        };
        Ok((first, last, step.unwrap_or(1)))
    }
}

/// The values that a field accepts; never empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Set {
    bits: u64,
    full: bool,
}

impl Set {
    pub(super) fn parse(text: &str, field: &Field) -> Result<Self, InvalidSchedule> {
        let mut bits = 0;
        for part in text.split(',') {
            let (first, last, step) = field.range(part)?;
            (first..=last).step_by(step.into()).for_each(|value| bits |= 1 << value);
        }
        let all = (field.first..=field.last).fold(0, |all, value| all | 1 << value);
        Ok(Self { bits, full: bits == all })
    }

    /// Every value is in it.
    pub(super) fn is_full(self) -> bool {
        self.full
    }

    pub(super) fn has(self, value: u8) -> bool {
        self.bits >> value & 1 == 1
    }

    pub(super) fn first(self) -> Option<u8> {
        (0..64).find(|value| self.has(*value))
    }

    pub(super) fn after(self, value: u8) -> Option<u8> {
        (value + 1..64).find(|value| self.has(*value))
    }
}

/// The days that an expression names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Days {
    days: Set,
    months: Set,
    weekdays: Set,
    /// Day and weekday are both restricted: one of the two is enough, as in every cron.
    either: bool,
}

impl Days {
    pub(super) fn parse(day: &str, month: &str, weekday: &str) -> Result<Self, InvalidSchedule> {
        let mut weekdays = Set::parse(weekday, &WEEKDAY)?;
        if weekdays.has(7) {
            weekdays.bits |= 1;
        }
        let days = Self {
            days: Set::parse(day, &DAY)?,
            months: Set::parse(month, &MONTH)?,
            weekdays,
            // As cron has it: a field that begins with a star does not restrict.
            either: !day.starts_with('*') && !weekday.starts_with('*'),
        };
        let real =
            |month: u8| days.months.has(month) && (1..=31).any(|d| days.days.has(d) && exists(month, d));
        if !days.either && !(1..=12).any(real) {
            let problem = format!("there is no such date: day {day} of month {month}");
            return Err(InvalidSchedule { problem });
        }
        Ok(days)
    }

    pub(super) fn contain(self, date: Date) -> bool {
        let day = self.days.has(date.day().unsigned_abs());
        let weekday = self.weekdays.has(date.weekday().to_sunday_zero_offset().unsigned_abs());
        let both = if self.either { day || weekday } else { day && weekday };
        self.months.has(date.month().unsigned_abs()) && both
    }
}
