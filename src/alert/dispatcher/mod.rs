//! Turns what is wrong into incidents, and tells people of them.
//!
//! [`Dispatcher::observe`] records incidents and queues the messages about them in one transaction: from then on they are
//! not lost, whatever happens to the agent. [`Dispatcher::deliver`] sends what is queued. A message is marked as sent after
//! the channel took it, so an agent that dies in between sends it again: messages arrive at least once, and each carries
//! an id that is the same every time.

mod batches;
mod channel_test;
mod delivery;
mod digest;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use tokio::sync::Mutex;

use crate::alert::Channel;
use crate::error::Result;
use crate::model::condition::{Condition, ConditionKind, Severity};
use crate::model::id::{ChannelName, DatabaseId};
use crate::model::incident::{self, Event, EventKind, Incident, Policy, Unknown};
use crate::model::job::JobKind;
use crate::model::notice::{Notice, Phase};
use crate::model::route::{Role, Route};
use crate::model::schedule::Schedule;
use crate::state::{ChannelHealth, Post, State};

pub(crate) use channel_test::{ChannelTestReport, test_channels};
#[cfg(test)]
pub(crate) use delivery::Delivered;

/// After so many failures in a row a channel counts as failing, and its messages go to its fallbacks.
const FAILURES: u32 = 3;

/// A channel and its route.
#[derive(Debug, Clone)]
pub struct RoutedChannel {
    /// Which messages it gets.
    pub route: Route,
    /// The channel.
    pub channel: Arc<dyn Channel>,
}

/// What a dispatcher works with.
#[derive(Debug, Clone)]
pub struct DispatcherSettings {
    /// How the agent names itself.
    pub agent: String,
    /// When people are reminded of an incident.
    pub policy: Policy,
    /// How long a message waits for others, to be sent together with them.
    pub gather: Duration,
    /// When the canary channels get a sign of life.
    pub canary: Option<(Schedule, TimeZone)>,
    /// When people get a digest.
    pub digest: Option<(Schedule, TimeZone)>,
    /// The channels.
    pub channels: Vec<RoutedChannel>,
}

/// See the documentation of the module.
#[derive(Debug)]
pub struct Dispatcher {
    settings: DispatcherSettings,
    state: State,
    /// Two observations, or two deliveries, at the same time would do everything twice.
    observing: std::sync::Mutex<()>,
    delivering: Mutex<()>,
    /// What was sent through which channel, in case the state cannot record it (a full disk).
    sent: std::sync::Mutex<BTreeSet<(i64, ChannelName)>>,
    /// By database, the moment that its newest proven snapshot holds, as of the last look.
    proven: std::sync::Mutex<BTreeMap<DatabaseId, Timestamp>>,
}

impl Dispatcher {
    /// A dispatcher that continues where the previous one on this state stopped.
    pub fn new(settings: DispatcherSettings, state: State) -> Self {
        Self {
            settings,
            state,
            observing: std::sync::Mutex::new(()),
            delivering: Mutex::new(()),
            sent: Default::default(),
            proven: Default::default(),
        }
    }

    /// Compares what is wrong now with the known incidents, and queues what people are to be told. Failing channels are
    /// added here, not by callers. `unknown` is what could not be checked.
    pub fn observe(
        &self,
        conditions: &[Condition],
        unknown: &[Unknown],
        now: Timestamp,
    ) -> Result<Vec<Event>> {
        let _one = self.observing.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut seen = self.conditions()?;
        seen.extend_from_slice(conditions);
        let policy = &self.settings.policy;
        let known = self.state.incidents(incident::forgotten_before(now, policy))?;
        let observed = incident::observe(&known, &seen, unknown, now, policy);
        let mut posts = Vec::new();
        for event in &observed.events {
            posts.push(post(event, self.readers(event)?, now));
        }
        for incident in &observed.changed {
            posts.extend(self.newly_concerned(&known, incident, now)?);
        }
        if !observed.changed.is_empty() || !posts.is_empty() {
            self.state.save_incidents(&observed.changed, &posts)?;
        }
        Ok(observed.events)
    }

    /// The message to those whom an open incident has come to concern since it opened: it hits a database of theirs now.
    fn newly_concerned(
        &self,
        known: &[Incident],
        incident: &Incident,
        now: Timestamp,
    ) -> Result<Option<Post>> {
        let name = incident.name();
        let Some(before) = known.iter().find(|known| known.name() == name && incident.is_open()) else {
            return Ok(None);
        };
        let publishers = before.condition.publishers();
        let grown = incident.condition.publishers().iter().any(|publisher| !publishers.contains(publisher));
        if !grown {
            return Ok(None);
        }
        let event = Event { kind: EventKind::Opened, incident: incident.clone() };
        let told = self.state.channels_told_of(&name)?;
        let mut channels = self.readers(&event)?;
        channels.retain(|channel| !told.contains(channel));
        Ok((!channels.is_empty()).then(|| post(&event, channels, now)))
    }

    /// Learns what is proven now of these databases: messages say it as of their sending. Of what could not be looked at,
    /// what was known before stays.
    pub(crate) fn proven(&self, proven: impl Iterator<Item = (DatabaseId, Option<Timestamp>)>) {
        let mut known = self.proven.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        for (database, at) in proven {
            match at {
                Some(at) => known.insert(database, at),
                None => known.remove(&database),
            };
        }
    }

    /// Tells the monitors of a job how it is going.
    pub(crate) fn job(
        &self,
        database: &DatabaseId,
        kind: JobKind,
        phase: Phase,
        now: Timestamp,
    ) -> Result<()> {
        let role = Role::Job(database.clone(), kind);
        let channels = self.names(|route| route.role == role);
        if channels.is_empty() {
            return Ok(());
        }
        let notice = Notice::Job { database: database.clone(), kind, phase };
        self.state.post(&Post { notice, at: now, channels, supersedes: phase != Phase::Start })
    }

    /// Records how a test went: a channel that took it is tried again at once, without the pause after its earlier failures.
    /// Whoever has repaired it need not wait an hour to see that.
    pub(crate) fn tested(&self, report: &ChannelTestReport, now: Timestamp) -> Result<()> {
        let well = report.channels.iter().filter(|tested| tested.ok);
        for name in well.map(|tested| &tested.channel) {
            if self.state.channel_health(name)?.failures > 0 {
                self.state.channel_works(name, now)?;
            }
        }
        Ok(())
    }

    /// Every open incident.
    pub fn incidents(&self) -> Result<Vec<Incident>> {
        self.state.open_incidents()
    }

    /// What is wrong with the channels themselves.
    pub fn conditions(&self) -> Result<Vec<Condition>> {
        let mut healths = Vec::new();
        for channel in &self.settings.channels {
            let route = &channel.route;
            healths.push((route, self.state.channel_health(&route.name)?, channel.channel.describe()));
        }
        let mut heard = healths.iter().filter(|(route, ..)| route.role == Role::Main).peekable();
        let nobody_hears = heard.peek().is_some() && heard.all(|(_, health, _)| is_failing(health));
        let severity = if nobody_hears { Severity::Critical } else { Severity::Warning };
        let conditions = healths.iter().filter_map(|(route, health, what)| {
            let (name, about) = (&route.name, format!("The alert channel {} ({what})", route.name));
            let summary = if is_failing(health) {
                format!("{about} does not take its messages.")
            } else {
                let lacking = health.lacking.as_ref()?;
                return Some(condition(
                    name,
                    Severity::Warning,
                    format!("{about} does not reach all of its recipients."),
                    lacking,
                ));
            };
            let severity = if route.role == Role::Main { severity } else { Severity::Warning };
            Some(condition(name, severity, summary, health.error.as_deref().unwrap_or_default()))
        });
        Ok(conditions.collect())
    }

    /// Queues a sign of life where one is due. After a downtime one is enough. The first one is due at once, so that it can
    /// be seen whether it arrives.
    fn canary(&self, now: Timestamp) -> Result<()> {
        let channels = self.names(|route| route.role == Role::Canary);
        let Some((schedule, zone)) = self.settings.canary.as_ref().filter(|_| !channels.is_empty()) else {
            return Ok(());
        };
        let rule = schedule.rule(zone);
        let accounted = self.state.canary_accounted(&rule)?.filter(|at| *at <= now);
        let due = match accounted {
            None => true,
            Some(at) => schedule.next(at, zone).is_some_and(|slot| slot <= now),
        };
        if !due {
            return Ok(());
        }
        let mut healthy = true;
        for channel in self.settings.channels.iter().filter(|channel| channel.route.is_for_people()) {
            healthy &= !is_failing(&self.state.channel_health(&channel.route.name)?);
        }
        let notice = Notice::Canary { healthy };
        self.state.account_canary(&rule, now, Some(&Post { notice, at: now, channels, supersedes: true }))
    }

    /// Who is told of this. Whoever was told of an incident, even as a fallback, is told of its end.
    fn readers(&self, event: &Event) -> Result<Vec<ChannelName>> {
        let told = match event.kind {
            EventKind::Resolved => self.state.channels_told_of(&event.incident.name())?,
            _ => Vec::new(),
        };
        let condition = &event.incident.condition;
        Ok(self.names(|route| {
            route.wants(event)
                || (told.contains(&route.name) && route.audience.may_hear_of_condition(condition))
        }))
    }

    fn names(&self, wanted: impl Fn(&Route) -> bool) -> Vec<ChannelName> {
        let routes = self.settings.channels.iter().map(|channel| &channel.route);
        routes.filter(|route| wanted(route)).map(|route| route.name.clone()).collect()
    }
}

/// The message about an event.
fn post(event: &Event, channels: Vec<ChannelName>, now: Timestamp) -> Post {
    let notice = Notice::Incident(Box::new(event.clone()));
    Post { notice, at: now, channels, supersedes: false }
}

/// Whether people must look after a channel: it failed several times in a row, or it refused (then no time is set for
/// another attempt).
fn is_failing(health: &ChannelHealth) -> bool {
    health.failures >= FAILURES || (health.failures > 0 && health.retry_at.is_none())
}

fn condition(name: &ChannelName, severity: Severity, summary: String, error: &str) -> Condition {
    let mut found = Condition::new(ConditionKind::ChannelFailing, severity, summary)
        .object(name)
        .remedy(format!("Run `marbre alert test {name}`, and do what it says."));
    found.error = Some(error.to_owned()).filter(|error| !error.is_empty());
    found
}
