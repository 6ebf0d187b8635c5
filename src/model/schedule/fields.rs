//! The fields of a cron expression: which words they may hold, and what is said of those that they may not. The parser of
//! cron expressions takes more than we promise to keep (`L`, `W`, `#`, empty parts), and does not say which field is wrong.

use super::InvalidSchedule;

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
pub(super) const DAY: Field = Field { name: "day", first: 1, last: 31, names: &[] };
pub(super) const MONTH: Field = Field {
    name: "month",
    first: 1,
    last: 12,
    names: &["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"],
};
/// 7 is Sunday too.
pub(super) const WEEKDAY: Field =
    Field { name: "weekday", first: 0, last: 7, names: &["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"] };

impl Field {
    fn problem(&self, text: &str, what: &str) -> InvalidSchedule {
        InvalidSchedule { problem: format!("{text:?} is not a valid {}: {what}", self.name) }
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

    /// The values that a text names, as a list of numbers.
    pub(super) fn values(&self, text: &str) -> Result<String, InvalidSchedule> {
        let mut values = Vec::new();
        for part in text.split(',') {
            let (first, last, step) = self.range(part)?;
            values.extend((first..=last).step_by(step.into()).map(|value| value.to_string()));
        }
        Ok(values.join(","))
    }
}
