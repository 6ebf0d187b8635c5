//! What became of the runs of one job, at a glance.

use jiff::Timestamp;
use serde::Serialize;

use crate::model::job::{JobKind, SlotState};
use crate::state::SlotRecord;

/// One job of a database. The last attempt and the last success are apart: a job that fails every night is
/// punctual, and useless.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct JobFigures {
    /// The job.
    pub job: JobKind,
    /// When it starts next; `null` without a schedule.
    pub next_run: Option<Timestamp>,
    /// What became of its newest slot.
    pub last_state: Option<SlotState>,
    /// When its newest run ended, or began where it is still at work. A slot that was missed is no attempt.
    pub last_attempt: Option<Timestamp>,
    /// When its newest run that did what it had to ended.
    pub last_success: Option<Timestamp>,
}

impl JobFigures {
    /// What the records of a job, the newest first, amount to.
    pub fn of(job: JobKind, next_run: Option<Timestamp>, records: &[SlotRecord]) -> Self {
        let newest =
            |wanted: &dyn Fn(SlotState) -> bool| records.iter().find(|r| wanted(r.state)).map(|r| r.at);
        Self {
            job,
            next_run,
            last_state: records.first().map(|record| record.state),
            last_attempt: newest(&|state| state != SlotState::Missed),
            last_success: newest(&|state| state == SlotState::Done),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::Slots;

    #[test]
    fn attempt_and_success_are_apart() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let record = |second, state| SlotRecord {
            late: jiff::SignedDuration::ZERO,
            slots: Slots { first: at(second), last: at(second), count: 1 },
            state,
            at: at(second),
            detail: None,
        };
        let records = [
            record(50, SlotState::Missed),
            record(40, SlotState::Failed),
            record(30, SlotState::Interrupted),
            record(20, SlotState::Done),
            record(10, SlotState::Done),
        ];
        let figures = JobFigures::of(JobKind::Drill, Some(at(90)), &records);
        assert_eq!(figures.last_state, Some(SlotState::Missed));
        assert_eq!((figures.last_attempt, figures.last_success), (Some(at(40)), Some(at(20))));
        let none = JobFigures::of(JobKind::Drill, None, &[]);
        assert_eq!((none.last_state, none.last_attempt, none.last_success), (None, None, None));
    }
}
