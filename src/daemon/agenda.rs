//! Which slots have come, and what became of each: nothing that was due is ever just forgotten.

use jiff::{SignedDuration, Timestamp};

use super::plan::{Plan, Planned};
use crate::error::Result;
use crate::model::job::{JobKind, SlotState};
use crate::state::{SlotRecord, Slots, State};

/// A slot that is noticed later than this was not waited for: the daemon was not there.
const ON_TIME: SignedDuration = SignedDuration::from_mins(10);
/// How many records are looked through for a run that died.
const LOOK_BACK: usize = 100;
/// No downtime is counted beyond so many slots.
const COUNTED: usize = 100_000;
/// The clock may be set back so far without anything being made of it.
const SET_BACK: SignedDuration = SignedDuration::from_mins(90);

/// When a snapshot that failed is tried again, unless its next slot comes before that: what broke it may be over soon,
/// and a night without a snapshot is long. People hear of the first failure at once.
const AGAIN: [SignedDuration; 2] = [SignedDuration::from_mins(10), SignedDuration::from_mins(30)];

/// The jobs of a plan, each with what is due of it.
#[derive(Debug)]
pub struct Agenda {
    /// In the order of the plan.
    pub items: Vec<Item>,
}

/// One job of one database.
#[derive(Debug)]
pub struct Item {
    /// What is planned.
    pub plan: Planned,
    /// Every slot up to here is accounted for.
    pub accounted: Timestamp,
    /// What waits for its run.
    pub pending: Option<Pending>,
    next: Option<Timestamp>,
    again: Option<(Timestamp, Pending)>,
    tried: usize,
}

/// Slots that one run will stand for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pending {
    /// The slots.
    pub slots: Slots,
    /// How late they were noticed: 0 for those that came while the daemon was there.
    pub late: SignedDuration,
}

impl Agenda {
    /// Takes up where the state says. Runs that died with the last daemon are due again, once.
    pub fn load(plan: &Plan, state: &State, now: Timestamp) -> Result<Self> {
        for plan in &plan.jobs {
            state.settle_slots(&plan.scheduled(), now)?;
        }
        let mut agenda = Self::reload(plan, state, now)?;
        for item in &mut agenda.items {
            let records = state.recent_slots(&item.plan.database, item.plan.kind, LOOK_BACK)?;
            // Slots that had no run stand between a run that died and now.
            let begun = |r: &SlotRecord| !matches!(r.state, SlotState::Overlapped | SlotState::Missed);
            let interrupted =
                records.into_iter().find(begun).filter(|record| record.state == SlotState::Interrupted);
            item.pending = interrupted.map(|record| Pending { slots: record.slots, late: record.late });
        }
        Ok(agenda)
    }

    /// The agenda of another plan, for a daemon that is at work.
    pub fn reload(plan: &Plan, state: &State, now: Timestamp) -> Result<Self> {
        let mut items = Vec::new();
        for plan in &plan.jobs {
            let scheduled = plan.scheduled();
            let accounted = match state.accounted(&scheduled)? {
                Some(at) => at,
                None => {
                    state.account_from(&scheduled, now)?;
                    now
                }
            };
            let mut item =
                Item { plan: plan.clone(), accounted, pending: None, next: None, again: None, tried: 0 };
            item.look_ahead(now);
            items.push(item);
        }
        Ok(Self { items })
    }

    /// Takes over what waits in another agenda for a job that is in this one too.
    pub fn take_over(&mut self, old: &mut Self) {
        for item in &mut self.items {
            let same =
                |old: &&mut Item| old.plan.database == item.plan.database && old.plan.kind == item.plan.kind;
            if let Some(old) = old.items.iter_mut().find(same) {
                item.pending = old.pending.take();
                // What waits is not recorded yet, and must not come again.
                if old.plan.scheduled() == item.plan.scheduled() {
                    item.accounted = item.accounted.max(old.accounted);
                    item.look_ahead(item.accounted);
                }
            }
        }
    }

    /// When the next slot of any job comes.
    pub fn next(&self) -> Option<Timestamp> {
        let again = |item: &Item| item.again.map(|(at, _)| at);
        self.items.iter().flat_map(|item| [item.next, again(item)]).flatten().min()
    }
}

impl Item {
    /// When its next slot comes.
    pub fn next(&self) -> Option<Timestamp> {
        self.next
    }

    /// The slots that have come since the last call; they are accounted for by the caller's next act.
    pub fn come(&mut self, now: Timestamp) -> Option<Pending> {
        if self.accounted > now + SET_BACK {
            // The clock was far ahead once. To wait until it is there again would mean to stop working.
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
            // The new slot's run stands for what was to be tried again.
            (self.again, self.tried) = (None, 0);
            self.accounted = until.max(found.slots.last);
        }
        self.look_ahead(now);
        found
    }

    /// The run of these slots failed: they may get another one, soon.
    pub fn failed(&mut self, slots: Pending, now: Timestamp) {
        let Some(pause) = AGAIN.get(self.tried).filter(|_| self.plan.kind == JobKind::Snapshot) else {
            return;
        };
        let at = now + *pause;
        if self.next.is_none_or(|next| at < next) {
            self.tried += 1;
            self.again = Some((at, slots));
        }
    }

    /// Queues what is to be tried again now.
    pub fn try_again(&mut self, now: Timestamp) {
        if let Some((_, slots)) = self.again.take_if(|(at, _)| *at <= now) {
            self.queue(slots);
        }
    }

    /// Takes what waits, to be run now. What had to wait too long for room is late.
    pub fn start(&mut self, now: Timestamp) -> Option<Pending> {
        let mut pending = self.pending.take()?;
        let waited = now.duration_since(pending.slots.first) - self.delay();
        if waited > ON_TIME && self.tried == 0 {
            pending.late = pending.late.max(waited);
        }
        Some(pending)
    }

    /// More slots for one run.
    pub fn queue(&mut self, come: Pending) {
        self.pending = Some(match self.pending {
            None => come,
            Some(waiting) => Pending {
                slots: Slots {
                    first: waiting.slots.first,
                    last: come.slots.last,
                    count: waiting.slots.count + come.slots.count,
                },
                late: waiting.late.max(come.late),
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

/// What becomes of slots, as the state records it.
pub fn record(pending: &Pending, state: SlotState, at: Timestamp, detail: Option<&str>) -> SlotRecord {
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
        Agenda::load(&plan, &state, at("2026-11-25T00:30:00Z")).unwrap();
        let mut agenda = Agenda::load(&plan, &state, at("2026-11-25T05:30:00Z")).unwrap();
        assert_eq!(agenda.next(), Some(at("2026-11-25T01:00:00Z")));
        let come = agenda.items[0].come(at("2026-11-25T05:30:00Z")).unwrap();
        assert_eq!((come.slots.count, come.slots.last), (5, at("2026-11-25T05:00:00Z")));
        assert_eq!(come.late, SignedDuration::from_mins(270));
        assert_eq!(agenda.items[0].come(at("2026-11-25T05:31:00Z")), None);
        let come = agenda.items[0].come(at("2026-11-25T06:00:01Z")).unwrap();
        assert_eq!((come.slots.count, come.late), (1, SignedDuration::ZERO));
    }

    #[test]
    fn each_job_starts_its_own_time_after_the_slot() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::open(folder.path()).unwrap();
        let mut agenda = Agenda::load(&plan("0 2 * * *", 300), &state, at("2026-11-25T00:30:00Z")).unwrap();
        assert_eq!(agenda.next(), Some(at("2026-11-25T01:05:00Z")));
        assert_eq!(agenda.items[0].come(at("2026-11-25T01:04:59Z")), None);
        let come = agenda.items[0].come(at("2026-11-25T01:05:00Z")).unwrap();
        assert_eq!((come.slots.first, come.slots.count), (at("2026-11-25T01:00:00Z"), 1));
        assert_eq!(agenda.next(), Some(at("2026-11-26T01:05:00Z")));
    }

    #[test]
    fn a_clock_that_was_ten_years_ahead_does_not_stop_the_daemon() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::open(folder.path()).unwrap();
        let plan = plan("0 2 * * *", 0);
        let now = at("2026-11-25T00:30:00Z");
        let mut agenda = Agenda::load(&plan, &state, now).unwrap();
        let ahead = now + SignedDuration::from_hours(24 * 3650);
        agenda.items[0].come(ahead).unwrap();
        assert!(agenda.next().unwrap() > ahead);
        assert_eq!(agenda.items[0].come(now), None);
        assert_eq!(agenda.next(), Some(at("2026-11-25T01:00:00Z")));
    }

    #[test]
    fn a_snapshot_that_failed_is_tried_twice_more_before_its_next_slot() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::open(folder.path()).unwrap();
        let mut agenda = Agenda::load(&plan("0 * * * *", 0), &state, at("2026-11-25T00:30:00Z")).unwrap();
        let item = &mut agenda.items[0];
        let come = item.come(at("2026-11-25T01:00:00Z")).unwrap();
        item.failed(come, at("2026-11-25T01:01:00Z"));
        item.try_again(at("2026-11-25T01:10:59Z"));
        assert_eq!(item.pending, None);
        item.try_again(at("2026-11-25T01:11:00Z"));
        assert_eq!(item.pending.take(), Some(come));
        item.failed(come, at("2026-11-25T01:12:00Z"));
        assert_eq!(agenda.next(), Some(at("2026-11-25T01:42:00Z")));
        let item = &mut agenda.items[0];
        item.try_again(at("2026-11-25T01:42:00Z"));
        assert_eq!(item.pending.take(), Some(come));
        item.failed(come, at("2026-11-25T01:43:00Z"));
        assert_eq!(agenda.next(), Some(at("2026-11-25T02:00:00Z")), "then it waits for its slot");
        let item = &mut agenda.items[0];
        item.failed(come, at("2026-11-25T01:55:00Z"));
        assert_eq!(item.come(at("2026-11-25T02:00:00Z")).unwrap().slots.count, 1);
        assert_eq!(item.again, None);
    }

    #[test]
    fn a_clock_set_back_by_an_hour_repeats_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::open(folder.path()).unwrap();
        let mut agenda = Agenda::load(&plan("0 2 * * *", 0), &state, at("2026-11-25T00:30:00Z")).unwrap();
        assert!(agenda.items[0].come(at("2026-11-25T01:00:00Z")).is_some());
        assert_eq!(agenda.items[0].come(at("2026-11-25T00:10:00Z")), None);
        assert_eq!(agenda.items[0].come(at("2026-11-25T01:00:30Z")), None);
        let tomorrow = at("2026-11-25T01:00:00Z") + 24.hours();
        assert_eq!(agenda.items[0].come(tomorrow).unwrap().slots.count, 1);
    }
}
