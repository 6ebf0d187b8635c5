//! The checks of a restored database: those of marbre, those of its engine, those of its owner.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::report::{CheckReport, CheckResult};
use crate::engine::Comparison;
use crate::engine::scratch::{ExaminationResult, Scratch};
use crate::error::{ErrorKind, Result};
use crate::model::drill_check::{Check, Outcome, Percent};
use crate::model::human::count;

/// Which of marbre's own checks are run, and how strictly.
#[derive(Debug, Clone)]
pub(crate) struct BuiltIn {
    /// How far the number of all rows may be from that of the last proven snapshot.
    pub rows_change: Percent,
    /// Tables that may become empty.
    pub may_be_empty: Vec<String>,
    /// Checks that are switched off.
    pub skip: Vec<String>,
}

impl BuiltIn {
    /// Whether this check is switched off.
    pub(crate) fn skips(&self, name: &str) -> bool {
        self.skip.iter().any(|skipped| skipped == name)
    }
}

/// What a proven snapshot held, in the form in which the state keeps it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Values {
    /// Rows by table.
    pub tables: BTreeMap<String, u64>,
    /// Answers by check.
    pub answers: BTreeMap<String, String>,
}

impl Values {
    /// The rows of all tables.
    pub(crate) fn of(comparison: &Comparison) -> Self {
        let tables = comparison.tables.iter().map(|t| (t.table.to_string(), t.rows)).collect();
        Self { tables, answers: BTreeMap::new() }
    }

    fn rows(&self) -> u64 {
        self.tables.values().sum()
    }
}

/// Everything that checks look at.
pub(crate) struct Checking<'a> {
    /// The restored database.
    pub scratch: &'a dyn Scratch,
    /// The owner's checks.
    pub checks: &'a [Check],
    /// marbre's own.
    pub built_in: &'a BuiltIn,
    /// What the last proven snapshot held.
    pub before: Option<&'a Values>,
    /// The moment whose state was restored.
    pub consistent_at: Timestamp,
}

impl Checking<'_> {
    /// Runs every check; answers are added to `values`. Only what prevents all of them is an error.
    pub(crate) async fn run(
        &self,
        values: &mut Values,
        cancel: &CancellationToken,
    ) -> Result<Vec<CheckReport>> {
        let mut reports = vec![
            self.built_in("empty-tables", |before| self.emptied(before, values)),
            self.built_in("row-count", |before| self.row_count(before, values)),
        ];
        for name in
            self.built_in.skip.iter().filter(|name| !["empty-tables", "row-count"].contains(&name.as_str()))
        {
            reports.push(CheckReport::new(name, CheckResult::Off, None, None));
        }
        for examination in self.scratch.examine(&self.built_in.skip, cancel).await? {
            let result = match examination.result {
                ExaminationResult::Passed => CheckResult::Passed,
                ExaminationResult::Failed => CheckResult::Failed,
                ExaminationResult::Unavailable => CheckResult::Unavailable,
            };
            reports.push(CheckReport::new(&examination.name, result, None, Some(examination.found)));
        }
        for check in self.checks {
            reports.push(self.ask(check, values, cancel).await?);
        }
        Ok(reports)
    }

    fn built_in(
        &self,
        name: &str,
        judge: impl FnOnce(&Values) -> (Option<String>, Result<(), String>),
    ) -> CheckReport {
        if self.built_in.skips(name) {
            return CheckReport::new(name, CheckResult::Off, None, None);
        }
        let Some(before) = self.before else {
            let why = "no earlier drill has proven a snapshot yet".to_owned();
            return CheckReport::new(name, CheckResult::NoBaseline, None, Some(why));
        };
        match judge(before) {
            (value, Ok(())) => CheckReport::new(name, CheckResult::Passed, value, None),
            (value, Err(why)) => CheckReport::new(name, CheckResult::Failed, value, Some(why)),
        }
    }

    /// Tables that had rows in the last proven snapshot, and have none now.
    fn emptied(&self, before: &Values, now: &Values) -> (Option<String>, Result<(), String>) {
        let allowed = |table: &String| self.built_in.may_be_empty.contains(table);
        let had_rows = before.tables.iter().filter(|(_, rows)| **rows > 0).map(|(table, _)| table);
        // A table that is gone was dropped at the source: the comparison would have missed it otherwise.
        let is_empty = |table: &&String| now.tables.get(*table) == Some(&0);
        let emptied: Vec<&str> =
            had_rows.filter(is_empty).filter(|t| !allowed(t)).map(String::as_str).collect();
        let judgement = match emptied.as_slice() {
            [] => Ok(()),
            some => Err(format!("had rows in the last proven snapshot, and have none: {}", some.join(", "))),
        };
        (Some(count(emptied.len() as u64)), judgement)
    }

    fn row_count(&self, before: &Values, now: &Values) -> (Option<String>, Result<(), String>) {
        let (was, is, limit) = (before.rows(), now.rows(), self.built_in.rows_change);
        let judgement = match limit.allows(was as f64, is as f64) {
            true => Ok(()),
            false => Err(format!(
                "{} rows, more than {limit} away from {} in the last proven snapshot",
                count(is),
                count(was)
            )),
        };
        (Some(is.to_string()), judgement)
    }

    async fn ask(
        &self,
        check: &Check,
        values: &mut Values,
        cancel: &CancellationToken,
    ) -> Result<CheckReport> {
        let answer = match self.scratch.query(&check.sql, check.timeout, cancel).await {
            Ok(answer) => answer,
            Err(e) if e.kind() == ErrorKind::Interrupted => return Err(e),
            Err(e) => {
                let why = Some(said(check, e.to_string()));
                return Ok(CheckReport::new(&check.name, CheckResult::Failed, None, why));
            }
        };
        let before = self.before.and_then(|b| b.answers.get(&check.name)).map(String::as_str);
        let outcome = check.rule.judge(answer.as_deref(), before, self.consistent_at);
        if let Some(answer) = &answer {
            values.answers.insert(check.name.clone(), check.rule.told(answer));
        }
        let answer = answer.map(|answer| check.rule.told(&answer));
        Ok(match outcome {
            Outcome::Passed => CheckReport::new(&check.name, CheckResult::Passed, answer, None),
            Outcome::Failed(why) => {
                CheckReport::new(&check.name, CheckResult::Failed, answer, Some(said(check, why)))
            }
            Outcome::NoBaseline => {
                let why = "there is no earlier proven value to compare with yet".to_owned();
                CheckReport::new(&check.name, CheckResult::NoBaseline, answer, Some(why))
            }
        })
    }
}

/// Why a check failed, and what its owner wants to be said then.
fn said(check: &Check, why: String) -> String {
    match &check.message {
        Some(message) => format!("{why}. {message}"),
        None => why,
    }
}
