//! How the runs of one job ended, at a glance.

use jiff::Timestamp;
use serde::Serialize;

use crate::model::job::{JobKind, SlotState};
use crate::model::run::LastRun;
use crate::state::SlotRecord;

/// One job of a database. The last attempt and the last success are separate: a job that fails every night
/// is punctual, and useless.
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
    /// What became of the newest slot of a job, and of its last run, whoever started that.
    pub fn of(
        job: JobKind,
        next_run: Option<Timestamp>,
        slot: Option<&SlotRecord>,
        run: Option<&LastRun>,
    ) -> Self {
        let never_began = |state| matches!(state, SlotState::Missed | SlotState::Overlapped);
        let began = slot.filter(|slot| !never_began(slot.state)).map(|slot| slot.at);
        Self {
            job,
            next_run,
            last_state: slot.map(|slot| slot.state),
            last_attempt: began.max(run.map(|run| run.finished_at)),
            last_success: run.and_then(|run| run.succeeded_at),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::run::{Ending, Numbers, Run};
    use crate::state::Slots;

    #[test]
    fn attempt_and_success_are_apart() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let slot = |second, state| SlotRecord {
            late: jiff::SignedDuration::ZERO,
            slots: Slots { first: at(second), last: at(second), count: 1 },
            state,
            at: at(second),
            detail: None,
        };
        let run = LastRun {
            database: "gazette/abonnes".parse().unwrap(),
            kind: JobKind::Snapshot,
            started_at: at(30),
            finished_at: at(40),
            run: Run {
                ending: Ending::Failed,
                detail: String::new(),
                proven: false,
                conditions: Vec::new(),
                reached: Vec::new(),
                numbers: Numbers::default(),
            },
            succeeded_at: Some(at(20)),
            succeeded: None,
        };
        let of = |slot: Option<&SlotRecord>, run| JobFigures::of(JobKind::Snapshot, Some(at(60)), slot, run);
        let missed = slot(50, SlotState::Missed);
        let figures = of(Some(&missed), Some(&run));
        assert_eq!(figures.last_state, Some(SlotState::Missed));
        assert_eq!((figures.last_attempt, figures.last_success), (Some(at(40)), Some(at(20))));
        let running = slot(50, SlotState::Running);
        assert_eq!(of(Some(&running), Some(&run)).last_attempt, Some(at(50)));
        let nothing = of(None, None);
        assert_eq!((nothing.last_state, nothing.last_attempt, nothing.last_success), (None, None, None));
    }
}
