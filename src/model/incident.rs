//! The life of an incident: opened, reminded of, escalated, worse, resolved. A pure function of what is remembered,
//! what is seen, and the time.
//!
//! An incident is one key ([`IncidentKey`]) from its opening to its resolution. However often its condition is seen,
//! it stays one, and people hear of it when something changes, and once in a while as a reminder. What comes and goes
//! stays one incident too: it is resolved only when its condition was gone for the time `settle`, and each time
//! that it comes back doubles that time, up to `remind_every`.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::condition::{Condition, ConditionKind, IncidentKey, Severity};
use super::id::DatabaseId;

/// When people hear of an incident again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// How long after the last word on it people are reminded.
    pub remind_every: Duration,
    /// After so long a critical incident is escalated.
    pub escalate_critical_after: Duration,
    /// After so long a warning is.
    pub escalate_warning_after: Duration,
    /// So long a condition must be gone before its incident is resolved.
    pub settle: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            remind_every: Duration::from_secs(24 * 3600),
            escalate_critical_after: Duration::from_secs(3600),
            escalate_warning_after: Duration::from_secs(24 * 3600),
            settle: Duration::from_secs(5 * 60),
        }
    }
}

/// Something that is, or was, wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Incident {
    /// What was seen last.
    pub condition: Condition,
    /// The worst that it was since it opened.
    pub severity: Severity,
    /// When it was first seen. With the key, it names the incident.
    pub opened_at: Timestamp,
    /// Since when it has been open, and as bad as it is: the time of escalation is counted from here.
    pub since: Timestamp,
    /// When its condition was last seen.
    pub seen_at: Timestamp,
    /// How often.
    pub sightings: u64,
    /// How often it came back.
    pub flaps: u32,
    /// Since when its condition has been gone, while it is not yet resolved.
    pub gone_since: Option<Timestamp>,
    /// When people last heard of it.
    pub told_at: Timestamp,
    /// When it was escalated.
    pub escalated_at: Option<Timestamp>,
    /// When it was resolved.
    pub resolved_at: Option<Timestamp>,
    /// The causes that people have heard of.
    #[serde(default)]
    pub causes: BTreeSet<String>,
    /// What was wrong before the cause changed last.
    #[serde(default)]
    pub before: Option<String>,
}

/// After so many causes people are told of no further one: its text changes all the time.
const CAUSES: usize = 8;

/// What people are told about an incident.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EventKind {
    /// It is new, or it is back.
    Opened,
    /// It is still there.
    Reminded,
    /// It has been there for too long.
    Escalated,
    /// It is critical now.
    Worsened,
    /// It has a cause that people have not heard of.
    Changed,
    /// It is over.
    Resolved,
}

impl EventKind {
    /// The word used in messages.
    pub fn word(self) -> &'static str {
        match self {
            Self::Opened => "opened",
            Self::Reminded => "reminded",
            Self::Escalated => "escalated",
            Self::Worsened => "worsened",
            Self::Changed => "changed",
            Self::Resolved => "resolved",
        }
    }
}

/// One thing to tell people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// What happened.
    pub kind: EventKind,
    /// The incident as it was then.
    pub incident: Incident,
}

/// What could not be looked at: every key that agrees in all parts that are given. Their incidents are neither
/// resolved nor forgotten until somebody can look again.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Unknown {
    /// The kind; `None` for all.
    pub kind: Option<ConditionKind>,
    /// The database; `None` for all, and for what concerns none.
    pub database: Option<DatabaseId>,
    /// The target, channel, folder or job; `None` for all.
    pub object: Option<String>,
}

impl Unknown {
    /// Whether this condition is among them. One that several databases share is, if any of them is.
    pub fn holds(&self, condition: &Condition) -> bool {
        self.kind.is_none_or(|kind| kind == condition.kind)
            && self
                .database
                .as_ref()
                .is_none_or(|database| condition.databases().any(|other| other == database))
            && self.object.as_ref().is_none_or(|object| Some(object) == condition.object.as_ref())
    }
}

/// What came of looking.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Observed {
    /// Every incident that is new or changed, as it is now.
    pub changed: Vec<Incident>,
    /// What people are to be told, at most one thing per incident.
    pub events: Vec<Event>,
}

impl Incident {
    /// What is wrong, and with what.
    pub fn key(&self) -> IncidentKey {
        self.condition.key()
    }

    /// Whether it is not resolved.
    pub fn is_open(&self) -> bool {
        self.resolved_at.is_none()
    }

    /// A name that no other incident has: its key, and the second in which it opened.
    pub fn name(&self) -> String {
        format!("{} {}", self.key(), self.opened_at.as_second())
    }

    fn new(condition: Condition, now: Timestamp) -> Self {
        Self {
            severity: condition.severity,
            causes: condition.cause().into_iter().collect(),
            before: None,
            condition,
            opened_at: now,
            since: now,
            seen_at: now,
            sightings: 1,
            flaps: 0,
            gone_since: None,
            told_at: now,
            escalated_at: None,
            resolved_at: None,
        }
    }

    /// How long its condition must be gone: twice as long each time that it came back.
    fn settle(&self, policy: &Policy) -> Duration {
        let doubled = policy.settle.saturating_mul(1 << self.flaps.min(16));
        doubled.min(policy.remind_every.max(policy.settle))
    }

    /// A clock that was ahead must not silence anything for as long as it was ahead.
    fn rewind(&mut self, now: Timestamp) {
        for at in [&mut self.since, &mut self.seen_at, &mut self.told_at] {
            *at = (*at).min(now);
        }
        for at in [&mut self.gone_since, &mut self.resolved_at].into_iter().flatten() {
            *at = (*at).min(now);
        }
    }

    /// Its condition is there.
    fn see(&mut self, condition: &Condition, now: Timestamp, policy: &Policy) -> Option<EventKind> {
        let changed = self.learn(condition);
        let before = std::mem::replace(&mut self.condition, condition.clone());
        if self.is_open() {
            self.condition.keep_hit(&before.affected);
        }
        self.seen_at = now;
        self.sightings = self.sightings.saturating_add(1);
        let back = self.resolved_at.take().is_some();
        if self.gone_since.take().is_some() || back {
            self.flaps = self.flaps.saturating_add(1);
        }
        let worse = condition.severity > self.severity;
        if back {
            self.severity = condition.severity;
            self.escalated_at = None;
            self.since = now;
            (self.causes, self.before) = (condition.cause().into_iter().collect(), None);
            return Some(self.tell(EventKind::Opened, now));
        }
        if worse {
            self.severity = condition.severity;
            self.since = now;
            return Some(self.tell(EventKind::Worsened, now));
        }
        if changed {
            return Some(self.tell(EventKind::Changed, now));
        }
        self.grow_old(now, policy)
    }

    /// Learns the cause of a condition. True if it is another one than people have heard of.
    fn learn(&mut self, condition: &Condition) -> bool {
        self.causes.extend(self.condition.cause());
        let Some(cause) = condition.cause() else { return false };
        if self.causes.contains(&cause) || self.causes.len() >= CAUSES {
            return false;
        }
        // Whoever met it first did not know the cause: what is learnt then is no other one.
        let first = self.causes.is_empty();
        self.causes.insert(cause);
        if first {
            return false;
        }
        let before = self.condition.error.as_ref().unwrap_or(&self.condition.summary);
        self.before = Some(before.clone());
        true
    }

    /// Nobody could look whether it is still there. It counts as there, and the time of its absence begins anew.
    fn leave(&mut self, now: Timestamp, policy: &Policy) -> Option<EventKind> {
        self.gone_since = None;
        self.grow_old(now, policy)
    }

    /// Its condition is gone.
    fn miss(&mut self, now: Timestamp, policy: &Policy) -> Option<EventKind> {
        let gone_since = *self.gone_since.get_or_insert(now);
        if !passed(gone_since, self.settle(policy), now) {
            return None;
        }
        self.gone_since = None;
        self.resolved_at = Some(now);
        Some(self.tell(EventKind::Resolved, now))
    }

    fn grow_old(&mut self, now: Timestamp, policy: &Policy) -> Option<EventKind> {
        let after = match self.severity {
            Severity::Critical => policy.escalate_critical_after,
            Severity::Warning => policy.escalate_warning_after,
        };
        if self.escalated_at.is_none() && passed(self.since, after, now) {
            self.escalated_at = Some(now);
            return Some(self.tell(EventKind::Escalated, now));
        }
        passed(self.told_at, policy.remind_every, now).then(|| self.tell(EventKind::Reminded, now))
    }

    fn tell(&mut self, kind: EventKind, now: Timestamp) -> EventKind {
        self.told_at = now;
        kind
    }
}

/// Whether so much time has passed.
fn passed(since: Timestamp, time: Duration, now: Timestamp) -> bool {
    u128::try_from(now.duration_since(since).as_nanos()).is_ok_and(|elapsed| elapsed >= time.as_nanos())
}

/// Before this moment a resolution is so old that the same condition is a new incident.
pub(crate) fn forgotten_before(now: Timestamp, policy: &Policy) -> Timestamp {
    now.checked_sub(policy.remind_every).unwrap_or(Timestamp::MIN)
}

/// Looks at what is wrong now. `known` holds every open incident, and those that were resolved since
/// [`forgotten_before`]: what comes back within that time is the same incident again.
pub(crate) fn observe(
    known: &[Incident],
    seen: &[Condition],
    unknown: &[Unknown],
    now: Timestamp,
    policy: &Policy,
) -> Observed {
    let mut seen = worst_of_each(seen);
    let mut newest: BTreeMap<IncidentKey, &Incident> = BTreeMap::new();
    for incident in known {
        let other = newest.entry(incident.key()).or_insert(incident);
        if (incident.is_open(), incident.opened_at) > (other.is_open(), other.opened_at) {
            *other = incident;
        }
    }
    let mut observed = Observed::default();
    for (key, before) in newest {
        let mut incident = before.clone();
        incident.rewind(now);
        let recent = incident.resolved_at.is_none_or(|at| at >= forgotten_before(now, policy));
        let event = match seen.get(&key) {
            Some(condition) if recent => {
                let event = incident.see(condition, now, policy);
                seen.remove(&key);
                event
            }
            Some(_) => None,
            None if !incident.is_open() => None,
            None if unknown.iter().any(|unknown| unknown.holds(&incident.condition)) => {
                incident.leave(now, policy)
            }
            None => incident.miss(now, policy),
        };
        observed.events.extend(event.map(|kind| Event { kind, incident: incident.clone() }));
        if incident != *before {
            observed.changed.push(incident);
        }
    }
    for condition in seen.into_values() {
        let incident = Incident::new(condition.clone(), now);
        observed.events.push(Event { kind: EventKind::Opened, incident: incident.clone() });
        observed.changed.push(incident);
    }
    observed
}

/// One condition per key: the worst, and of several the first.
fn worst_of_each(seen: &[Condition]) -> BTreeMap<IncidentKey, &Condition> {
    let mut worst: BTreeMap<IncidentKey, &Condition> = BTreeMap::new();
    for condition in seen {
        let known = worst.entry(condition.key()).or_insert(condition);
        if condition.severity > known.severity {
            *known = condition;
        }
    }
    worst
}
