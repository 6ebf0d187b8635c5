//! How runs of jobs end.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::model::condition::{Condition, ConditionKind};
use crate::model::id::{DatabaseId, TargetName};
use crate::model::job::JobKind;

/// How one run ended, whoever started it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ending {
    /// It has done what it had to.
    Done,
    /// It has failed, wholly or in part.
    Failed,
    /// It was told to stop before it was done.
    Interrupted,
    /// It never began: another process was at work.
    Conflict,
}

/// What one run moved. All of it is 0 where a job does not count it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Numbers {
    /// Rows read or restored.
    pub rows: u64,
    /// Bytes of all streams.
    pub bytes: u64,
    /// Of these, bytes that were new.
    pub new_bytes: u64,
    /// Bytes of the objects written to each target.
    pub stored_bytes: u64,
}

/// How one run ended, and what it found wrong.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// How it ended.
    pub ending: Ending,
    /// What came of it: a fragment without personal data.
    pub detail: String,
    /// It reached the proof that its kind of job is for: a snapshot that enough targets hold, a drill that has passed.
    pub proven: bool,
    /// What is wrong, until a later run of the same job finds otherwise.
    pub conditions: Vec<Condition>,
    /// Targets that did all that was asked of them.
    pub reached: Vec<TargetName>,
    /// What it moved.
    pub numbers: Numbers,
}

/// The last run of a job of a database.
#[derive(Debug, Clone, PartialEq)]
pub struct LastRun {
    /// The database.
    pub database: DatabaseId,
    /// The job.
    pub kind: JobKind,
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended.
    pub finished_at: Timestamp,
    /// How it ended.
    pub run: Run,
    /// When a run of this job last ended well: this one or an earlier one.
    pub succeeded_at: Option<Timestamp>,
    /// What that one moved.
    pub succeeded: Option<Numbers>,
}

/// What the last runs of all jobs of one database found wrong. What a run says of a target is overruled by a later
/// run that reached it.
pub(crate) fn findings(runs: &[LastRun]) -> Vec<Condition> {
    let overruled = |by: &LastRun, condition: &Condition| {
        let about_target = condition.kind == ConditionKind::TargetFailing;
        let later = |run: &&LastRun| run.finished_at > by.finished_at;
        let reached = |run: &LastRun| {
            run.run.reached.iter().any(|target| Some(target.as_str()) == condition.object.as_deref())
        };
        about_target && runs.iter().filter(later).any(reached)
    };
    let found = runs.iter().flat_map(|run| run.run.conditions.iter().map(move |condition| (run, condition)));
    found
        .filter(|(run, condition)| !overruled(run, condition))
        .map(|(_, condition)| condition.clone())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::condition::Severity;

    fn run(kind: JobKind, second: i64, failing: Option<&str>, reached: &[&str]) -> LastRun {
        let at = Timestamp::from_second(1_795_000_000 + second).unwrap();
        let condition = |target: &str| {
            Condition::new(ConditionKind::TargetFailing, Severity::Warning, "Target is down.").object(target)
        };
        let run = Run {
            ending: Ending::Done,
            detail: String::new(),
            proven: true,
            conditions: failing.map(condition).into_iter().collect(),
            reached: reached.iter().map(|name| name.parse().unwrap()).collect(),
            numbers: Numbers::default(),
        };
        let database = "gazette/abonnes".parse().unwrap();
        LastRun {
            database,
            kind,
            started_at: at,
            finished_at: at,
            run,
            succeeded_at: Some(at),
            succeeded: None,
        }
    }

    #[test]
    fn a_target_that_a_later_run_reached_is_not_failing() {
        let snapshot = run(JobKind::Snapshot, 10, Some("nas"), &["ovh"]);
        assert_eq!(findings(std::slice::from_ref(&snapshot)).len(), 1);
        let earlier = run(JobKind::Sync, 5, None, &["nas", "ovh"]);
        assert_eq!(findings(&[snapshot.clone(), earlier]).len(), 1, "what was before says nothing of now");
        let later = run(JobKind::Sync, 15, None, &["nas", "ovh"]);
        assert_eq!(findings(&[snapshot.clone(), later]), []);
        let elsewhere = run(JobKind::Sync, 15, None, &["ovh"]);
        assert_eq!(findings(&[snapshot, elsewhere]).len(), 1);
    }
}
