//! Which snapshots are kept, and why: a pure function of what there is, with a reason for each (invariant I7).
//!
//! Snapshots are counted by their place in the chain, newest first, never by what a clock says now. A clock decides
//! only whether a snapshot is dated in the future. What is dated there, or before what was taken earlier, takes no slot of
//! any rule, so it pushes nothing out; neither does what is damaged, or what an earlier run has decided to delete.
//!
//! What somebody has pinned stays. What somebody has forgotten goes, unless it outlives every rule: no rule counts it, and it says
//! nothing of the dates of others, so that all else is as if it were gone already.
//!
//! Every rule is counted twice: over all snapshots, and from the newest one that was proven. So a run of bad new snapshots,
//! however long, cannot push the good ones out.

#[cfg(test)]
mod floods;
#[cfg(test)]
mod marks;
mod reason;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod year;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, Zoned};

use crate::model::id::{EpochId, SnapshotId, TargetName};
use crate::model::mark::Mark;

pub(crate) use reason::Reason;

/// How far two clocks may be apart before a date is out of order.
const SKEW: SignedDuration = SignedDuration::from_hours(1);

/// What is to be kept. Rules add up: what one of them keeps is kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Policy {
    /// So many of the newest snapshots.
    pub last: u64,
    /// The newest snapshot of each of so many hours in which there is one.
    pub hourly: u64,
    /// The same for days.
    pub daily: u64,
    /// The same for weeks, which begin on Mondays.
    pub weekly: u64,
    /// The same for months.
    pub monthly: u64,
    /// The same for years.
    pub yearly: u64,
    /// Everything of this time before the newest snapshot. A pause in which none was taken counts for half of it at
    /// most, so that neither a long downtime nor a wrong clock makes everything old at once.
    pub within: Option<Duration>,
}

impl Policy {
    /// Whether there is no rule.
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A snapshot that there is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Candidate {
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// Its place in the chain.
    pub sequence: u64,
    /// Its epoch.
    pub epoch: EpochId,
    /// The moment whose state it holds, as the clock then said.
    pub consistent_at: Timestamp,
    /// A restore from some target has proven it.
    pub proven: bool,
    /// Damage was found in every copy.
    pub damaged: bool,
    /// A signed record of an earlier prune says that it goes, and some target still has it.
    pub pruned: bool,
    /// The content is odd since a later one, and nobody has accepted that.
    pub held: bool,
    /// The targets that hold no newer one.
    pub newest_at: Vec<TargetName>,
    /// What somebody has decided about it.
    pub mark: Option<Mark>,
}

impl Candidate {
    /// Whether somebody has decided that it goes.
    fn is_forgotten(&self) -> bool {
        matches!(self.mark, Some(Mark::Forgotten(_)))
    }
}

/// What becomes of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It stays, for these reasons; at least one.
    Keep(Vec<Reason>),
    /// It goes.
    Delete(Reason),
}

/// What becomes of all of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Decision {
    /// Each snapshot, by its name.
    pub fates: BTreeMap<SnapshotId, Fate>,
    /// How many would go too, if one run could delete more.
    pub held_back: usize,
}

impl Decision {
    /// The snapshots that go.
    pub(crate) fn deleted(&self) -> BTreeSet<SnapshotId> {
        let going = self.fates.iter().filter(|(_, fate)| matches!(fate, Fate::Delete(_)));
        going.map(|(snapshot, _)| snapshot.clone()).collect()
    }
}

/// How a snapshot's date fits the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dated {
    InOrder,
    Future,
    Backdated,
    /// An earlier run has decided that it goes: it says nothing of the dates of others, and no rule counts it.
    Decided,
    /// The same, by somebody who has forgotten it. Its date is in order: it may be the newest sound one, and then it stays.
    Forgotten,
}

/// Decides what is kept. `zone` says where days begin; at most `max_delete` snapshots go.
pub(crate) fn decide(
    candidates: &[Candidate],
    policy: &Policy,
    zone: &TimeZone,
    now: Timestamp,
    max_delete: usize,
) -> Decision {
    let mut order: Vec<&Candidate> = candidates.iter().collect();
    order.sort_by_key(|c| (c.sequence, &c.snapshot));
    let dated: Vec<(&Candidate, Dated)> = order.iter().copied().zip(dates(&order, now)).collect();
    let mut kept = Kept::default();
    protect(&dated, &mut kept);
    if policy.is_empty() {
        order.iter().filter(|c| !c.is_forgotten()).for_each(|c| kept.add(c, Reason::NoRule));
    }
    let of = |wanted: Dated| dated.iter().filter(move |(_, d)| *d == wanted).map(|(c, _)| *c);
    of(Dated::Future).for_each(|c| kept.add(c, Reason::Future));
    let counted: Vec<&Candidate> = of(Dated::InOrder).rev().collect();
    count(&counted, policy, zone, false, &mut kept);
    if let Some(proven) = counted.iter().position(|c| c.proven).filter(|at| *at > 0) {
        count(&counted[proven..], policy, zone, true, &mut kept);
    }
    keep_backdated(&dated, &mut kept);
    conclude(&dated, kept, max_delete)
}

/// Snapshots that are kept, with their reasons.
#[derive(Default)]
struct Kept(BTreeMap<SnapshotId, Vec<Reason>>);

impl Kept {
    fn add(&mut self, candidate: &Candidate, reason: Reason) {
        self.0.entry(candidate.snapshot.clone()).or_default().push(reason);
    }

    fn has(&self, candidate: &Candidate) -> bool {
        self.0.contains_key(&candidate.snapshot)
    }
}

fn dates(oldest_first: &[&Candidate], now: Timestamp) -> Vec<Dated> {
    let mut latest: Option<Timestamp> = None;
    let judge = |c: &&Candidate| {
        let at = c.consistent_at;
        if c.pruned {
            return Dated::Decided;
        }
        let future = at.duration_since(now) > SKEW;
        let backdated = latest.is_some_and(|latest| latest.duration_since(at) > SKEW);
        if c.is_forgotten() {
            return if future || backdated { Dated::Decided } else { Dated::Forgotten };
        }
        if future {
            return Dated::Future;
        }
        if backdated {
            return Dated::Backdated;
        }
        latest = latest.max(Some(at));
        Dated::InOrder
    };
    oldest_first.iter().map(judge).collect()
}

/// What outlives every rule.
fn protect(oldest_first: &[(&Candidate, Dated)], kept: &mut Kept) {
    let newest_first = || oldest_first.iter().rev().copied();
    let Some((newest, _)) = newest_first().next() else { return };
    kept.add(newest, Reason::Newest);
    for (candidate, _) in oldest_first.iter().filter(|(c, _)| c.snapshot != newest.snapshot) {
        candidate.newest_at.iter().for_each(|target| kept.add(candidate, Reason::NewestAt(target.clone())));
    }
    oldest_first.iter().filter(|(c, _)| c.held).for_each(|(c, _)| kept.add(c, Reason::Held));
    for (candidate, _) in oldest_first {
        if let Some(mark @ Mark::Pinned(_)) = &candidate.mark {
            kept.add(candidate, Reason::Marked(mark.clone()));
        }
    }
    let proven = newest_first().find(|(c, _)| c.proven).map(|(c, _)| c);
    proven.iter().for_each(|c| kept.add(c, Reason::NewestProven));
    let in_order = |dated| matches!(dated, Dated::InOrder | Dated::Forgotten);
    let is_sound = |(c, dated): &(&Candidate, Dated)| in_order(*dated) && !c.damaged;
    let sound = newest_first().find(is_sound).map(|(c, _)| c);
    sound.iter().filter(|c| c.snapshot != newest.snapshot).for_each(|c| kept.add(c, Reason::NewestSound));
    // The epoch of the newest sound one too: without its beginning, no drill to come could make it a full one.
    let begins = |newest: &Candidate| {
        let mut of_epoch = oldest_first.iter().map(|(c, _)| *c).filter(|c| c.epoch == newest.epoch);
        // Where the first is damaged, the first that is not begins what can be relied on.
        of_epoch.clone().find(|c| !c.damaged).or_else(|| of_epoch.next())
    };
    let mut of = |newest: &Candidate, proven| {
        begins(newest).iter().for_each(|c| kept.add(c, Reason::BeginsEpoch { proven }));
    };
    let latest = sound.unwrap_or(newest);
    proven.iter().for_each(|proven| of(proven, true));
    if proven.is_none_or(|proven| proven.epoch != latest.epoch) {
        of(latest, false);
    }
}

/// One rule while it is counted.
struct Slots {
    rule: &'static str,
    left: u64,
    /// What two snapshots have in common of which the rule keeps one.
    bucket: fn(&Candidate, &Zoned) -> String,
    taken: BTreeSet<String>,
}

fn rules(policy: &Policy) -> Vec<Slots> {
    fn text(at: &Zoned, format: &str) -> String {
        at.strftime(format).to_string()
    }
    fn week(at: &Zoned) -> String {
        let week = at.date().iso_week_date();
        format!("{}-W{:02}", week.year(), week.week())
    }
    type Bucket = fn(&Candidate, &Zoned) -> String;
    let all: [(&'static str, u64, Bucket); 6] = [
        ("last", policy.last, |c, _| c.snapshot.to_string()),
        // With the offset: the hour that a clock shows twice in autumn is two hours.
        ("hourly", policy.hourly, |_, at| text(at, "%Y-%m-%dT%H%:z")),
        ("daily", policy.daily, |_, at| text(at, "%Y-%m-%d")),
        ("weekly", policy.weekly, |_, at| week(at)),
        ("monthly", policy.monthly, |_, at| text(at, "%Y-%m")),
        ("yearly", policy.yearly, |_, at| text(at, "%Y")),
    ];
    all.map(|(rule, left, bucket)| Slots { rule, left, bucket, taken: BTreeSet::new() }).into()
}

/// Counts every rule over these snapshots.
fn count(newest_first: &[&Candidate], policy: &Policy, zone: &TimeZone, from_proven: bool, kept: &mut Kept) {
    let mut rules = rules(policy);
    let within = policy.within.map(|w| SignedDuration::try_from(w).unwrap_or(SignedDuration::MAX));
    let mut age = SignedDuration::ZERO;
    let mut newer: Option<Timestamp> = None;
    for candidate in newest_first {
        let at = candidate.consistent_at;
        let zoned = at.to_zoned(zone.clone());
        for slots in &mut rules {
            let bucket = (slots.bucket)(candidate, &zoned);
            if slots.left == 0 || slots.taken.contains(&bucket) {
                continue;
            }
            let of = if slots.rule == "last" { String::new() } else { bucket.clone() };
            kept.add(candidate, Reason::Rule { rule: slots.rule, of, from_proven });
            // What is damaged is kept as long as a good one would be, and takes no good one's place.
            if !candidate.damaged {
                slots.left -= 1;
                slots.taken.insert(bucket);
            }
        }
        if let Some(within) = within {
            let pause = newer.map_or(SignedDuration::ZERO, |newer| newer.duration_since(at));
            let reached = age.saturating_add(pause.max(SignedDuration::ZERO).min(within / 2));
            if reached <= within {
                kept.add(candidate, Reason::Rule { rule: "within", of: String::new(), from_proven });
            }
            // From one good snapshot to the next: those that are damaged make no good one old.
            if !candidate.damaged {
                (age, newer) = (reached, Some(at));
            }
        }
    }
}

/// Backdated snapshots stay as long as one that was taken earlier, and is dated later, does. Where one outlives every rule, the
/// latest of those before it stays too.
fn keep_backdated(oldest_first: &[(&Candidate, Dated)], kept: &mut Kept) {
    let mut latest: Option<&Candidate> = None;
    for (candidate, dated) in oldest_first {
        match (dated, latest) {
            (Dated::InOrder, Some(before)) if before.consistent_at >= candidate.consistent_at => {}
            (Dated::InOrder, _) => latest = Some(candidate),
            (Dated::Backdated, Some(before)) if kept.has(candidate) => {
                kept.add(before, Reason::ShowsBackdated)
            }
            _ => {}
        }
    }
    let mut latest: Option<Timestamp> = None;
    for (candidate, dated) in oldest_first {
        let at = candidate.consistent_at;
        match dated {
            Dated::InOrder if kept.has(candidate) => latest = latest.max(Some(at)),
            Dated::Backdated if latest.is_some_and(|latest| latest.duration_since(at) > SKEW) => {
                kept.add(candidate, Reason::Backdated);
            }
            _ => {}
        }
    }
}

fn conclude(oldest_first: &[(&Candidate, Dated)], mut kept: Kept, max_delete: usize) -> Decision {
    let mut going: Vec<&(&Candidate, Dated)> = oldest_first.iter().filter(|(c, _)| !kept.has(c)).collect();
    // Backdated ones first: without those that show them to be so, the next run would count them. Then what was decided
    // before.
    let is_decided = |dated| matches!(dated, Dated::Decided | Dated::Forgotten);
    going.sort_by_key(|(_, dated)| (*dated != Dated::Backdated, !is_decided(*dated)));
    let held_back = going.len().saturating_sub(max_delete);
    for (candidate, _) in going.drain(going.len() - held_back..) {
        kept.add(candidate, Reason::HeldBack(max_delete));
    }
    let mut fates: BTreeMap<SnapshotId, Fate> =
        kept.0.into_iter().map(|(snapshot, reasons)| (snapshot, Fate::Keep(reasons))).collect();
    for (candidate, dated) in going {
        let reason = match (&candidate.mark, dated) {
            _ if candidate.pruned => Reason::Pruned,
            (Some(mark @ Mark::Forgotten(_)), _) => Reason::Marked(mark.clone()),
            (_, Dated::Backdated) => Reason::BackdatedAlone,
            _ => Reason::Unneeded,
        };
        fates.insert(candidate.snapshot.clone(), Fate::Delete(reason));
    }
    Decision { fates, held_back }
}
