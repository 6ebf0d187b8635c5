//! Checks of a restored database: what a query's answer must be like.

use std::time::Duration;

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

/// One check, as the configuration has it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Check {
    /// Its name: unique in its database.
    pub name: String,
    /// A query that gives one row of one column.
    pub sql: String,
    /// What the answer must be like.
    pub rule: Rule,
    /// How long the query may run.
    pub timeout: Duration,
    /// What to tell people when it fails.
    pub message: Option<String>,
}

/// What an answer must be like. All of what is given must hold.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Rule {
    /// The smallest number.
    pub min: Option<f64>,
    /// The greatest number.
    pub max: Option<f64>,
    /// This number, or else this text.
    pub equals: Option<String>,
    /// How far a number may be from that of the last proven snapshot.
    pub max_change: Option<Percent>,
    /// How old the newest moment in the data may have been when the snapshot was taken.
    pub fresh_within: Option<Duration>,
}

/// A share in percent, 0 or more.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub(crate) struct Percent(pub f64);

impl Percent {
    /// Whether `value` is at most this far from `before`. From 0 nothing but 0 is near.
    pub(crate) fn allows(self, before: f64, value: f64) -> bool {
        (value - before).abs() <= before.abs() * self.0 / 100.0
    }
}

impl std::fmt::Display for Percent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} %", self.0)
    }
}

/// How a check came out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Everything that was asked holds.
    Passed,
    /// It does not: why, e.g. "812 is less than 1000".
    Failed(String),
    /// Everything else holds, and there is no earlier value to compare with: not a pass.
    NoBaseline,
}

/// Far from any clock's error: data of the future are as suspect as old ones.
const AHEAD: SignedDuration = SignedDuration::from_hours(1);

impl Rule {
    /// Holds an answer (`None` is SQL's NULL) against the rule. `before` is the answer in the last proven
    /// snapshot; `consistent_at` the moment whose state was restored.
    pub(crate) fn judge(
        &self,
        answer: Option<&str>,
        before: Option<&str>,
        consistent_at: Timestamp,
    ) -> Outcome {
        let Some(answer) = answer.map(str::trim) else {
            return Outcome::Failed("the answer is NULL".to_owned());
        };
        let failure = self.bounds(answer).and_then(|()| self.equality(answer));
        let failure = failure.and_then(|()| self.freshness(answer, consistent_at));
        match failure.and_then(|()| self.change(answer, before)) {
            Ok(outcome) => outcome,
            Err(why) => Outcome::Failed(why),
        }
    }

    /// An answer as it may be told: a number, a moment, a truth, or the text that was asked for. Any other text may be the
    /// contents of a row, and only its length is told.
    pub(crate) fn told(&self, answer: &str) -> String {
        let trimmed = answer.trim();
        let truths = ["t", "f", "true", "false"];
        let harmless = number(trimmed).is_ok()
            || moment(trimmed).is_some()
            || truths.contains(&trimmed)
            || self.equals.as_deref() == Some(trimmed);
        match answer.chars().count() {
            _ if harmless => answer.to_owned(),
            1 => "a text of 1 character".to_owned(),
            characters => format!("a text of {characters} characters"),
        }
    }

    fn bounds(&self, answer: &str) -> Result<(), String> {
        if self.min.is_none() && self.max.is_none() {
            return Ok(());
        }
        let value = number(answer)?;
        if let Some(min) = self.min.filter(|min| value < *min) {
            return Err(format!("{answer} is less than {min}"));
        }
        match self.max.filter(|max| value > *max) {
            Some(max) => Err(format!("{answer} is more than {max}")),
            None => Ok(()),
        }
    }

    fn equality(&self, answer: &str) -> Result<(), String> {
        let Some(wanted) = &self.equals else { return Ok(()) };
        let same = match (number(answer), number(wanted)) {
            (Ok(a), Ok(b)) => a == b,
            _ => answer == wanted || truth(wanted).contains(&answer),
        };
        match same {
            true => Ok(()),
            false => Err(format!("{} is not {wanted:?}", self.told(answer))),
        }
    }

    fn freshness(&self, answer: &str, consistent_at: Timestamp) -> Result<(), String> {
        let Some(within) = self.fresh_within else { return Ok(()) };
        let newest = moment(answer).ok_or_else(|| {
            "the answer is not a moment, like 2026-11-22 02:00:00+00, or seconds since 1970".to_owned()
        })?;
        let age = consistent_at.duration_since(newest);
        if age < -AHEAD {
            return Err(format!("the newest data are of {newest}, after the snapshot ({consistent_at})"));
        }
        if age > SignedDuration::try_from(within).unwrap_or(SignedDuration::MAX) {
            let (age, within) = (age.as_secs() as f64, within.as_secs_f64());
            return Err(format!(
                "the newest data were {} old when the snapshot was taken, and may be {} old",
                super::human::duration(age),
                super::human::duration(within)
            ));
        }
        Ok(())
    }

    fn change(&self, answer: &str, before: Option<&str>) -> Result<Outcome, String> {
        let Some(limit) = self.max_change else { return Ok(Outcome::Passed) };
        let value = number(answer)?;
        let Some(before) = before else { return Ok(Outcome::NoBaseline) };
        let before = number(before)?;
        match limit.allows(before, value) {
            true => Ok(Outcome::Passed),
            false => Err(format!("{answer} is more than {limit} away from {before}, the last proven value")),
        }
    }
}

/// How databases write `true` and `false`: PostgreSQL as a letter, SQLite as a number.
fn truth(wanted: &str) -> &[&str] {
    match wanted {
        "true" => &["t", "1"],
        "false" => &["f", "0"],
        _ => &[],
    }
}

fn number(text: &str) -> Result<f64, String> {
    let number = text.trim().parse::<f64>().ok().filter(|n| n.is_finite());
    number.ok_or_else(|| "the answer is not a number".to_owned())
}

/// A moment as databases print it: RFC 3339, with a space for the `T`, with a short offset, without one
/// (then it is UTC), a date, or seconds since 1970.
fn moment(text: &str) -> Option<Timestamp> {
    let text = text.trim();
    if let Ok(seconds) = text.parse::<f64>() {
        return Timestamp::from_millisecond((seconds * 1000.0) as i64).ok().filter(|_| seconds.is_finite());
    }
    // "+00" is how PostgreSQL writes a whole hour.
    let short = text.len() > 3
        && text.is_ascii()
        && matches!(text.as_bytes()[text.len() - 3], b'+' | b'-')
        && text.contains(':');
    let text = if short { format!("{text}:00") } else { text.to_owned() };
    let text = text.replacen(' ', "T", 1);
    if let Ok(timestamp) = text.parse::<Timestamp>() {
        return Some(timestamp);
    }
    let civil: DateTime = text.parse().ok()?;
    civil.to_zoned(TimeZone::UTC).ok().map(|zoned| zoned.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at() -> Timestamp {
        "2026-11-22T02:00:00Z".parse().unwrap()
    }

    fn why(rule: &Rule, answer: Option<&str>, before: Option<&str>) -> String {
        match rule.judge(answer, before, at()) {
            Outcome::Failed(why) => why,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn numbers() {
        let rule = Rule { min: Some(10.0), max: Some(20.0), ..Rule::default() };
        for good in ["10", " 20 ", "12.50"] {
            assert_eq!(rule.judge(Some(good), None, at()), Outcome::Passed);
        }
        assert_eq!(why(&rule, Some("9"), None), "9 is less than 10");
        assert_eq!(why(&rule, Some("20.1"), None), "20.1 is more than 20");
        assert_eq!(why(&rule, Some("many"), None), "the answer is not a number");
        assert_eq!(why(&rule, Some("NaN"), None), "the answer is not a number");
        assert_eq!(why(&rule, None, None), "the answer is NULL");
    }

    #[test]
    fn equality_is_of_numbers_or_else_of_texts() {
        let rule = |wanted: &str| Rule { equals: Some(wanted.into()), ..Rule::default() };
        assert_eq!(rule("0").judge(Some("0.0"), None, at()), Outcome::Passed);
        assert_eq!(rule("ok").judge(Some("ok"), None, at()), Outcome::Passed);
        for (wanted, answers) in [("true", ["t", "1", "true"]), ("false", ["f", "0", "false"])] {
            for answer in answers {
                assert_eq!(rule(wanted).judge(Some(answer), None, at()), Outcome::Passed);
            }
        }
        assert_eq!(why(&rule("true"), Some("f"), None), "f is not \"true\"");
        assert_eq!(why(&rule("ok"), Some("OK"), None), "a text of 2 characters is not \"ok\"");
    }

    #[test]
    fn only_answers_that_are_no_contents_of_rows_are_told() {
        let rule = Rule { equals: Some("all well".into()), ..Rule::default() };
        for harmless in ["12.5", " 7 ", "2026-11-22 02:00:00+00", "t", "all well", "-3"] {
            assert_eq!(rule.told(harmless), harmless);
        }
        assert_eq!(rule.told("Dupont"), "a text of 6 characters");
        assert_eq!(rule.told("é"), "a text of 1 character");
    }

    #[test]
    fn without_an_earlier_value_nothing_is_green() {
        let rule = Rule { max_change: Some(Percent(5.0)), ..Rule::default() };
        assert_eq!(rule.judge(Some("100"), None, at()), Outcome::NoBaseline);
        assert_eq!(rule.judge(Some("105"), Some("100"), at()), Outcome::Passed);
        assert_eq!(rule.judge(Some("0"), Some("0"), at()), Outcome::Passed);
        assert_eq!(
            why(&rule, Some("106"), Some("100")),
            "106 is more than 5 % away from 100, the last proven value"
        );
        assert!(why(&rule, Some("1"), Some("0")).contains("away from 0"));
        let also = Rule { min: Some(200.0), ..rule };
        assert_eq!(why(&also, Some("100"), None), "100 is less than 200");
    }

    #[test]
    fn a_stale_replica_fails() {
        let rule = Rule { fresh_within: Some(Duration::from_secs(26 * 3600)), ..Rule::default() };
        for fresh in [
            "2026-11-21 23:59:59+00",
            "2026-11-21 02:00:00",
            "2026-11-21T03:00:00+02:00",
            "1795312799",
            "2026-11-22",
        ] {
            assert_eq!(rule.judge(Some(fresh), None, at()), Outcome::Passed, "{fresh}");
        }
        assert_eq!(
            why(&rule, Some("2026-11-20 23:59:59.25+00"), None),
            "the newest data were 1 d 2 h old when the snapshot was taken, and may be 1 d 2 h old"
        );
        assert!(why(&rule, Some("2026-11-23"), None).contains("after the snapshot"));
        assert!(why(&rule, Some("yesterday"), None).contains("is not a moment"));
        assert!(why(&rule, Some("infinity"), None).contains("is not a moment"));
        assert_eq!(why(&rule, None, None), "the answer is NULL");
    }

    proptest! {
        #[test]
        fn no_answer_makes_it_panic(answer in ".{0,30}", before in proptest::option::of(".{0,10}")) {
            let rule = Rule {
                min: Some(0.0), max: Some(1.0), equals: Some("1".into()), max_change: Some(Percent(1.0)),
                fresh_within: Some(Duration::from_secs(1)),
            };
            let _ = rule.judge(Some(&answer), before.as_deref(), at());
            let _ = moment(&answer);
        }
    }
}
