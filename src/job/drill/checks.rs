//! The checks of a restored database: those of marbre, those of its engine, those of its owner.

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::changes::{BuiltIn, Values};
use super::report::{CheckReport, CheckResult};
use crate::engine::scratch::{ExaminationResult, Scratch};
use crate::error::{ErrorKind, Result};
use crate::model::drill_check::{Check, Outcome};

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
        let mut reports = self.built_in.changes(self.before, values);
        for name in self.built_in.skip.iter().filter(|name| !BuiltIn::CHANGES.contains(&name.as_str())) {
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
