//! Which channel gets which message, and when.

use std::collections::BTreeSet;

use jiff::civil::Time;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};

use super::condition::{Condition, Severity};
use super::id::{ChannelName, DatabaseId, PublisherName};
use super::incident::Event;
use super::job::JobKind;

/// Whose incidents a channel gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Audience {
    /// Everything: whoever is on call for the agent.
    Everything,
    /// Those of the databases of these publishers, and nobody else's; never what concerns the whole agent.
    Publishers(BTreeSet<PublisherName>),
}

impl Audience {
    /// Whether it may hear of what concerns this database (`None`: the whole agent).
    pub fn may_hear_of(&self, database: Option<&DatabaseId>) -> bool {
        match self {
            Self::Everything => true,
            Self::Publishers(names) => database.is_some_and(|database| names.contains(&database.publisher)),
        }
    }

    /// Whether it may hear of this: of what several databases share, if one of them is its own.
    pub fn may_hear_of_condition(&self, condition: &Condition) -> bool {
        match self {
            Self::Everything => true,
            Self::Publishers(names) => condition.publishers().into_iter().any(|name| names.contains(name)),
        }
    }

    /// Whether it may hear of everything that `other` hears of.
    pub fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Everything, _) => true,
            (Self::Publishers(_), Self::Everything) => false,
            (Self::Publishers(mine), Self::Publishers(theirs)) => theirs.is_subset(mine),
        }
    }
}

/// What a channel is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// It gets every incident that it may hear of.
    Main,
    /// It gets an incident from its escalation on.
    Escalation,
    /// It gets what another channel could not deliver, and nothing else.
    Fallback,
    /// It hears how a job of a database goes.
    Job(DatabaseId, JobKind),
    /// It hears once in a while that the agent lives.
    Canary,
}

/// The hours in which a channel gets nothing that can wait.
#[derive(Debug, Clone, PartialEq)]
pub struct Quiet {
    /// When they begin.
    pub from: Time,
    /// When they end. Before `from`: on the next day.
    pub to: Time,
    /// On whose clock.
    pub zone: TimeZone,
}

impl Quiet {
    /// The end of the quiet hours, if this moment is in them.
    pub fn until(&self, now: Timestamp) -> Option<Timestamp> {
        let civil = self.zone.to_datetime(now);
        let (time, today) = (civil.time(), civil.date());
        let inside = match self.from <= self.to {
            true => (self.from..self.to).contains(&time),
            false => time >= self.from || time < self.to,
        };
        let end = if time < self.to { Some(today) } else { today.checked_add(1.day()).ok() };
        let end = end.filter(|_| inside)?.to_datetime(self.to);
        self.zone.to_ambiguous_timestamp(end).compatible().ok()
    }
}

/// What a channel gets.
#[derive(Debug, Clone, PartialEq)]
pub struct Route {
    /// The channel.
    pub name: ChannelName,
    /// What it is for.
    pub role: Role,
    /// Whose incidents it gets.
    pub audience: Audience,
    /// It gets nothing below this.
    pub floor: Severity,
    /// When it is left in peace, but for what is critical.
    pub quiet: Option<Quiet>,
    /// Who gets its messages where it fails, in this order.
    pub fallback: Vec<ChannelName>,
}

impl Route {
    /// Whether the channel gets this.
    pub fn wants(&self, event: &Event) -> bool {
        let incident = &event.incident;
        let role = match self.role {
            Role::Main => true,
            Role::Escalation => incident.escalated_at.is_some(),
            Role::Fallback | Role::Job(..) | Role::Canary => false,
        };
        role && incident.severity >= self.floor && self.audience.may_hear_of_condition(&incident.condition)
    }

    /// Whether people read what it gets. Otherwise a monitor elsewhere counts.
    pub fn is_for_people(&self) -> bool {
        matches!(self.role, Role::Main | Role::Escalation | Role::Fallback)
    }

    /// Until when a message of this severity must wait.
    pub fn waits_until(&self, severity: Severity, now: Timestamp) -> Option<Timestamp> {
        match severity {
            Severity::Critical => None,
            Severity::Warning => self.quiet.as_ref()?.until(now),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quiet(from: i8, to: i8) -> Quiet {
        let zone = TimeZone::get("Europe/Paris").unwrap();
        Quiet { from: Time::new(from, 0, 0, 0).unwrap(), to: Time::new(to, 0, 0, 0).unwrap(), zone }
    }

    fn until(quiet: &Quiet, now: &str) -> Option<String> {
        quiet.until(now.parse().unwrap()).map(|at| at.to_string())
    }

    #[test]
    fn quiet_hours_are_those_of_a_clock_on_the_wall() {
        let night = quiet(22, 7);
        assert_eq!(until(&night, "2026-07-01T19:59:59Z"), None);
        assert_eq!(until(&night, "2026-07-01T20:00:00Z").unwrap(), "2026-07-02T05:00:00Z");
        assert_eq!(until(&night, "2026-07-02T04:59:59Z").unwrap(), "2026-07-02T05:00:00Z");
        assert_eq!(until(&night, "2026-07-02T05:00:00Z"), None);
        // The night in which the clocks are put back is an hour longer.
        assert_eq!(until(&night, "2026-10-24T20:00:00Z").unwrap(), "2026-10-25T06:00:00Z");
        let lunch = quiet(12, 14);
        assert_eq!(until(&lunch, "2026-07-01T11:00:00Z").unwrap(), "2026-07-01T12:00:00Z");
        assert_eq!(until(&lunch, "2026-07-01T12:00:00Z"), None);
    }

    #[test]
    fn publishers_hear_of_their_own() {
        let own = Audience::Publishers(BTreeSet::from(["gazette".parse().unwrap()]));
        assert!(own.may_hear_of(Some(&"gazette/abonnes".parse().unwrap())));
        assert!(!own.may_hear_of(Some(&"matin/abonnes".parse().unwrap())));
        assert!(!own.may_hear_of(None));
        assert!(Audience::Everything.may_hear_of(None));
        assert!(Audience::Everything.covers(&own) && !own.covers(&Audience::Everything) && own.covers(&own));
    }
}
