//! Which slots are due, and what became of each: no slot is ever silently dropped.

use jiff::{SignedDuration, Timestamp};

use super::plan::{Plan, Planned};
use crate::error::Result;
use crate::model::job::{JobKind, SlotState};
use crate::state::{SlotRecord, Slots, State};

/// A slot that is noticed later than this came while the daemon was not running.
const ON_TIME: SignedDuration = SignedDuration::from_mins(10);
/// How many records are searched for an interrupted run.
const LOOK_BACK: usize = 100;
/// At most this many slots of a downtime are counted.
const COUNTED: usize = 100_000;
/// A clock that is set back by up to this much is ignored.
const SET_BACK: SignedDuration = SignedDuration::from_mins(90);

/// When a failed snapshot is retried, unless its next slot comes first: the problem may be gone soon, and a night is
/// a long time without a snapshot. The first failure is reported at once.
const RETRY_AFTER: [SignedDuration; 2] = [SignedDuration::from_mins(10), SignedDuration::from_mins(30)];

/// The jobs of a plan, each with its due slots.
#[derive(Debug)]
pub(crate) struct Scheduler {
    /// In the order of the plan.
    pub jobs: Vec<ScheduledJob>,
}

/// One job of one database.
#[derive(Debug)]
pub(crate) struct ScheduledJob {
    /// What is planned.
    pub plan: Planned,
    /// Every slot up to this moment is accounted for.
    pub accounted: Timestamp,
    /// The slots that wait for a run.
    pub pending: Option<Pending>,
    next: Option<Timestamp>,
    retry: Option<(Timestamp, Pending)>,
    retries: usize,
}

/// Slots that one run will cover.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pending {
    /// The slots.
    pub slots: Slots,
    /// How late they were noticed: 0 for those that came while the daemon was running.
    pub late: SignedDuration,
}

impl Scheduler {
    /// Resumes from the state. Runs that died with the last daemon are due again, once.
    pub(crate) fn load(plan: &Plan, state: &State, now: Timestamp) -> Result<Self> {
        for plan in &plan.jobs {
            state.settle_slots(&plan.scheduled(), now)?;
        }
        let mut scheduler = Self::reload(plan, state, now)?;
        for job in &mut scheduler.jobs {
            let records = state.recent_slots(&job.plan.database, job.plan.kind, LOOK_BACK)?;
            // Slots without a run may follow the interrupted one.
            let begun = |r: &SlotRecord| !matches!(r.state, SlotState::Overlapped | SlotState::Missed);
            let interrupted =
                records.into_iter().find(begun).filter(|record| record.state == SlotState::Interrupted);
            job.pending = interrupted.map(|record| Pending { slots: record.slots, late: record.late });
        }
        Ok(scheduler)
    }

    /// The scheduler of another plan, for a running daemon.
    pub(crate) fn reload(plan: &Plan, state: &State, now: Timestamp) -> Result<Self> {
        let mut jobs = Vec::new();
        for plan in &plan.jobs {
            let scheduled = plan.scheduled();
            let accounted = match state.accounted(&scheduled)? {
                Some(at) => at,
                None => {
                    state.account_from(&scheduled, now)?;
                    now
                }
            };
            let mut job = ScheduledJob {
                plan: plan.clone(),
                accounted,
                pending: None,
                next: None,
                retry: None,
                retries: 0,
            };
            job.look_ahead(now);
            jobs.push(job);
        }
        Ok(Self { jobs })
    }

    /// Takes over the waiting slots of the jobs that both schedulers have.
    pub(crate) fn take_over(&mut self, old: &mut Self) {
        for job in &mut self.jobs {
            let same = |old: &&mut ScheduledJob| {
                old.plan.database == job.plan.database && old.plan.kind == job.plan.kind
            };
            if let Some(old) = old.jobs.iter_mut().find(same) {
                job.pending = old.pending.take();
                // These slots are not recorded yet, and must not become due again.
                if old.plan.scheduled() == job.plan.scheduled() {
                    job.accounted = job.accounted.max(old.accounted);
                    job.look_ahead(job.accounted);
                }
            }
        }
    }

    /// When the next slot or retry of any job is due.
    pub(crate) fn next(&self) -> Option<Timestamp> {
        let again = |job: &ScheduledJob| job.retry.map(|(at, _)| at);
        self.jobs.iter().flat_map(|job| [job.next, again(job)]).flatten().min()
    }
}

impl ScheduledJob {
    /// When its next slot is due.
    pub(crate) fn next(&self) -> Option<Timestamp> {
        self.next
    }

    /// The slots that became due since the last call; the caller must account for them.
    pub(crate) fn take_due(&mut self, now: Timestamp) -> Option<Pending> {
        if self.accounted > now + SET_BACK {
            // The clock was once far ahead. Waiting for it to get there again would stop all work.
            self.accounted = now;
            self.look_ahead(now);
            return None;
        }
        if self.next.is_none_or(|next| next > now) {
            return None;
        }
        let until = now.checked_sub(self.delay()).unwrap_or(now);
        let mut slots = self.plan.schedule.slots(self.accounted, until, &self.plan.zone).take(COUNTED);
        let first = slots.next();
        let found = first.map(|first| {
            let (last, count) = slots.fold((first, 1), |(_, count), slot| (slot, count + 1));
            let due = first.checked_add(self.delay()).unwrap_or(first);
            let late = now.duration_since(due);
            let late = if late > ON_TIME { late } else { SignedDuration::ZERO };
            Pending { slots: Slots { first, last, count }, late }
        });
        if let Some(found) = &found {
            // The new slot's run replaces the retry.
            (self.retry, self.retries) = (None, 0);
            self.accounted = until.max(found.slots.last);
        }
        self.look_ahead(now);
        found
    }

    /// The run of these slots failed: they may get a retry.
    pub(crate) fn failed(&mut self, slots: Pending, now: Timestamp) {
        let Some(pause) = RETRY_AFTER.get(self.retries).filter(|_| self.plan.kind == JobKind::Snapshot)
        else {
            return;
        };
        let at = now + *pause;
        if self.next.is_none_or(|next| at < next) {
            self.retries += 1;
            self.retry = Some((at, slots));
        }
    }

    /// Queues the retry, if it is due.
    pub(crate) fn queue_retry(&mut self, now: Timestamp) {
        if let Some((_, slots)) = self.retry.take_if(|(at, _)| *at <= now) {
            self.queue(slots);
        }
    }

    /// Takes the waiting slots, to be run now. Those that waited too long for other jobs are late.
    pub(crate) fn start(&mut self, now: Timestamp) -> Option<Pending> {
        let mut pending = self.pending.take()?;
        let waited = now.duration_since(pending.slots.first) - self.delay();
        if waited > ON_TIME && self.retries == 0 {
            pending.late = pending.late.max(waited);
        }
        Some(pending)
    }

    /// Adds slots to the next run.
    pub(crate) fn queue(&mut self, due: Pending) {
        self.pending = Some(match self.pending {
            None => due,
            Some(waiting) => Pending {
                slots: Slots {
                    first: waiting.slots.first,
                    last: due.slots.last,
                    count: waiting.slots.count + due.slots.count,
                },
                late: waiting.late.max(due.late),
            },
        });
    }

    fn delay(&self) -> SignedDuration {
        SignedDuration::try_from(self.plan.delay).unwrap_or(SignedDuration::ZERO)
    }

    fn look_ahead(&mut self, now: Timestamp) {
        let next = self.plan.schedule.next(self.accounted, &self.plan.zone);
        self.next = next.map(|slot| slot.checked_add(self.delay()).unwrap_or(now));
    }
}

/// The record of what became of slots.
pub(crate) fn record(pending: &Pending, state: SlotState, at: Timestamp, detail: Option<&str>) -> SlotRecord {
    SlotRecord { slots: pending.slots, late: pending.late, state, at, detail: detail.map(str::to_owned) }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use jiff::ToSpan;
    use jiff::tz::TimeZone;

    use super::*;
    use crate::daemon::supervise::Limits;

    fn plan(expression: &str, delay: u64) -> Plan {
        let hour = Duration::from_secs(3600);
        let planned = Planned {
            database: "gazette/abonnes".parse().unwrap(),
            kind: JobKind::Snapshot,
            schedule: expression.parse().unwrap(),
            zone: TimeZone::get("Europe/Paris").unwrap(),
            delay: Duration::from_secs(delay),
            limits: Limits { deadline: hour, stages: BTreeMap::new(), stall: hour },
        };
        Plan { jobs: vec![planned], parallel: 2, look_every: Duration::from_secs(300) }
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn after_a_downtime_many_slots_are_one_run() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::open(folder.path()).unwrap();
        let plan = plan("0 * * * *", 0);
        Scheduler::load(&plan, &state, at("2026-11-25T00:30:00Z")).unwrap();
        let mut scheduler = Scheduler::load(&plan, &state, at("2026-11-25T05:30:00Z")).unwrap();
        assert_eq!(scheduler.next(), Some(at("2026-11-25T01:00:00Z")));
        let due = scheduler.jobs[0].take_due(at("2026-11-25T05:30:00Z")).unwrap();
        assert_eq!((due.slots.count, due.slots.last), (5, at("2026-11-25T05:00:00Z")));
        assert_eq!(due.late, SignedDuration::from_mins(270));
        assert_eq!(scheduler.jobs[0].take_due(at("2026-11-25T05:31:00Z")), None);
        let due = scheduler.jobs[0].take_due(at("2026-11-25T06:00:01Z")).unwrap();
        assert_eq!((due.slots.count, due.late), (1, SignedDuration::ZERO));
    }

    #[test]
    fn each_job_starts_its_own_time_after_the_slot() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::open(folder.path()).unwrap();
        let mut scheduler =
            Scheduler::load(&plan("0 2 * * *", 300), &state, at("2026-11-25T00:30:00Z")).unwrap();
        assert_eq!(scheduler.next(), Some(at("2026-11-25T01:05:00Z")));
        assert_eq!(scheduler.jobs[0].take_due(at("2026-11-25T01:04:59Z")), None);
        let due = scheduler.jobs[0].take_due(at("2026-11-25T01:05:00Z")).unwrap();
        assert_eq!((due.slots.first, due.slots.count), (at("2026-11-25T01:00:00Z"), 1));
        assert_eq!(scheduler.next(), Some(at("2026-11-26T01:05:00Z")));
    }

    #[test]
    fn a_clock_that_was_ten_years_ahead_does_not_stop_the_daemon() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::open(folder.path()).unwrap();
        let plan = plan("0 2 * * *", 0);
        let now = at("2026-11-25T00:30:00Z");
        let mut scheduler = Scheduler::load(&plan, &state, now).unwrap();
        let ahead = now + SignedDuration::from_hours(24 * 3650);
        scheduler.jobs[0].take_due(ahead).unwrap();
        assert!(scheduler.next().unwrap() > ahead);
        assert_eq!(scheduler.jobs[0].take_due(now), None);
        assert_eq!(scheduler.next(), Some(at("2026-11-25T01:00:00Z")));
    }

    #[test]
    fn a_snapshot_that_failed_is_tried_twice_more_before_its_next_slot() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::open(folder.path()).unwrap();
        let mut scheduler =
            Scheduler::load(&plan("0 * * * *", 0), &state, at("2026-11-25T00:30:00Z")).unwrap();
        let job = &mut scheduler.jobs[0];
        let due = job.take_due(at("2026-11-25T01:00:00Z")).unwrap();
        job.failed(due, at("2026-11-25T01:01:00Z"));
        job.queue_retry(at("2026-11-25T01:10:59Z"));
        assert_eq!(job.pending, None);
        job.queue_retry(at("2026-11-25T01:11:00Z"));
        assert_eq!(job.pending.take(), Some(due));
        job.failed(due, at("2026-11-25T01:12:00Z"));
        assert_eq!(scheduler.next(), Some(at("2026-11-25T01:42:00Z")));
        let job = &mut scheduler.jobs[0];
        job.queue_retry(at("2026-11-25T01:42:00Z"));
        assert_eq!(job.pending.take(), Some(due));
        job.failed(due, at("2026-11-25T01:43:00Z"));
        assert_eq!(scheduler.next(), Some(at("2026-11-25T02:00:00Z")), "then it waits for its slot");
        let job = &mut scheduler.jobs[0];
        job.failed(due, at("2026-11-25T01:55:00Z"));
        assert_eq!(job.take_due(at("2026-11-25T02:00:00Z")).unwrap().slots.count, 1);
        assert_eq!(job.retry, None);
    }

    #[test]
    fn a_clock_set_back_by_an_hour_repeats_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::open(folder.path()).unwrap();
        let mut scheduler =
            Scheduler::load(&plan("0 2 * * *", 0), &state, at("2026-11-25T00:30:00Z")).unwrap();
        assert!(scheduler.jobs[0].take_due(at("2026-11-25T01:00:00Z")).is_some());
        assert_eq!(scheduler.jobs[0].take_due(at("2026-11-25T00:10:00Z")), None);
        assert_eq!(scheduler.jobs[0].take_due(at("2026-11-25T01:00:30Z")), None);
        let tomorrow = at("2026-11-25T01:00:00Z") + 24.hours();
        assert_eq!(scheduler.jobs[0].take_due(tomorrow).unwrap().slots.count, 1);
    }
}
