//! Who is told what: `[alerts]` and `[alert.NAME]`.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use jiff::civil::Time;
use jiff::tz::TimeZone;
use toml::de::DeValue;

use super::channels::{self, ChannelSettings};
use super::{Publisher, forms, schedule};
use crate::config::complaint::{Complaint, nearest};
use crate::config::section::{Family, Node, Section};
use crate::model::condition::Severity;
use crate::model::id::{ChannelName, DatabaseId, PublisherName};
use crate::model::incident::Policy;
use crate::model::job::JobKind;
use crate::model::route::{Audience, Quiet, Role, Route};
use crate::model::schedule::{ACCEPTED, Schedule};

const DEFAULT_CANARY: &str = "@daily";
/// The morning of a Monday, when people are there to read it.
const DEFAULT_DIGEST: &str = "0 8 * * MON";
const NEVER: &str = "never";
const DEFAULT_GATHER: Duration = Duration::from_secs(60);
const LONGEST_GATHER: Duration = Duration::from_secs(3600);
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(20);
const LONGEST_TIMEOUT: Duration = Duration::from_secs(60);
const QUIET: &str = "two times of day, such as \"22:00-07:00\"";

/// Who is told what.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Alerts {
    /// How the agent names itself; `None`: by the name of its host.
    pub agent: Option<String>,
    /// When people hear of an incident again.
    pub policy: Policy,
    /// How long a message waits for others, to go together with them.
    pub gather: Duration,
    /// When a sign of life goes to the canary channels.
    pub canary: Schedule,
    /// When people are told how everything stands; `None`: never.
    pub digest: Option<Schedule>,
    /// On whose clock.
    pub time_zone: TimeZone,
    /// The channels, by name.
    pub channels: Vec<AlertChannel>,
}

/// A way to tell people.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct AlertChannel {
    /// What it gets.
    pub route: Route,
    /// What it is.
    pub settings: ChannelSettings,
    /// How long one message may take.
    pub timeout: Duration,
}

/// A channel whose fallbacks are not yet looked at.
struct Read<'a> {
    route: Route,
    /// `None` where they have problems of their own.
    settings: Option<ChannelSettings>,
    timeout: Duration,
    fallback: Vec<Node<'a>>,
}

/// Reads everything about alerts.
pub(super) fn read(
    top: &mut Section<'_>,
    base: &Path,
    zone: &TimeZone,
    publishers: &Family<Publisher>,
    databases: &[(String, Option<DatabaseId>)],
) -> Option<Alerts> {
    let mut alerts = general(top, zone)?;
    let context = Context { base, zone, publishers, databases };
    let read = top.family("alert", |name, section| channel(name, section, &context));
    let names: Vec<&str> = read.names.iter().map(String::as_str).collect();
    let known: Vec<Route> = read.values.iter().map(|read| read.route.clone()).collect();
    for Read { mut route, settings, timeout, fallback: nodes } in read.values {
        let next = nodes.iter().filter_map(|node| node.read(|value| fallback(value, &route, &names, &known)));
        route.fallback = next.collect();
        alerts.channels.extend(settings.map(|settings| AlertChannel { route, settings, timeout }));
    }
    Some(alerts)
}

fn general(top: &mut Section<'_>, zone: &TimeZone) -> Option<Alerts> {
    let mut alerts = Alerts {
        agent: None,
        policy: Policy::default(),
        gather: DEFAULT_GATHER,
        canary: DEFAULT_CANARY.parse().ok()?,
        digest: Some(DEFAULT_DIGEST.parse().ok()?),
        time_zone: zone.clone(),
        channels: Vec::new(),
    };
    top.table("alerts", |section| {
        alerts.agent = section.optional("agent", forms::filled_text);
        let policy = &mut alerts.policy;
        for (key, field) in [
            ("remind_every", &mut policy.remind_every),
            ("escalate_critical_after", &mut policy.escalate_critical_after),
            ("escalate_warning_after", &mut policy.escalate_warning_after),
            ("settle", &mut policy.settle),
        ] {
            *field = section.optional(key, forms::duration).unwrap_or(*field);
        }
        alerts.gather = section.optional("gather", gather).unwrap_or(alerts.gather);
        if let Some(canary) = section.optional("canary", rule) {
            alerts.canary = canary;
        }
        if let Some(digest) = section.optional("digest", digest) {
            alerts.digest = digest;
        }
        if let Some(own) = schedule::zone(section) {
            alerts.time_zone = own;
        }
    });
    Some(alerts)
}

fn rule(value: &DeValue<'_>) -> Result<Schedule, Complaint> {
    let text = forms::text(value).map_err(|complaint| complaint.accepted(ACCEPTED))?;
    text.parse().map_err(|e| Complaint::new(format!("is not a schedule: {e}")).accepted(ACCEPTED))
}

fn digest(value: &DeValue<'_>) -> Result<Option<Schedule>, Complaint> {
    let never = forms::text(value).is_ok_and(|text| text == NEVER);
    if never { Ok(None) } else { rule(value).map(Some) }
}

struct Context<'a> {
    base: &'a Path,
    zone: &'a TimeZone,
    publishers: &'a Family<Publisher>,
    /// By the names of their tables.
    databases: &'a [(String, Option<DatabaseId>)],
}

fn channel<'a>(name: &str, section: &mut Section<'a>, context: &Context<'_>) -> Option<Read<'a>> {
    let name: Option<ChannelName> = name.parse().map_err(|e| section.refuse_self(forms::invalid_id(&e))).ok();
    let Some(kind) = section.required("type", "type = \"email\"", channels::kind) else {
        // Without a type nobody can say which of the other keys are right.
        section.tolerate();
        return None;
    };
    let timeout = section.optional("timeout", timeout).unwrap_or(DEFAULT_TIMEOUT);
    let settings = channels::read(kind, section, context.base);
    let mut route = Route {
        name: name?,
        role: Role::Main,
        audience: Audience::Everything,
        floor: Severity::Warning,
        quiet: None,
        fallback: Vec::new(),
    };
    let mut fallback = Vec::new();
    if kind == channels::Kind::Ping {
        route.role = monitored(section, context)?;
    } else {
        people(section, context, &mut route);
        fallback = section.node("fallback").and_then(|node| node.items()).unwrap_or_default();
    }
    Some(Read { route, settings, timeout, fallback })
}

/// What a channel that people read gets.
fn people(section: &mut Section<'_>, context: &Context<'_>, route: &mut Route) {
    if let Some(role) = section.optional("role", role) {
        route.role = role;
    }
    if let Some(floor) = section.optional("severity", severity) {
        route.floor = floor;
    }
    if section.has("publishers") {
        let names: Vec<PublisherName> = section.list("publishers", |value| {
            context.publishers.must_have("publisher", &forms::text(value)?)?;
            forms::id(value)
        });
        route.audience = Audience::Publishers(BTreeSet::from_iter(names));
    }
    let own = schedule::zone(section);
    let hours = section.optional("quiet", hours);
    if own.is_some() && !section.has("quiet") {
        section.refuse(
            "time_zone",
            Complaint::new("is given without `quiet`").remedy("Remove it, or add `quiet`."),
        );
    }
    let zone = own.unwrap_or_else(|| context.zone.clone());
    route.quiet = hours.map(|(from, to)| Quiet { from, to, zone });
}

/// What a ping says: that a job of a database is done, or that the agent lives.
fn monitored(section: &mut Section<'_>, context: &Context<'_>) -> Option<Role> {
    let database = section.optional("database", |value| database(value, context.databases));
    let job = section.optional("job", job);
    match (section.has("database"), section.has("job")) {
        (false, false) => Some(Role::Canary),
        (true, false) => {
            section.missing("job", "job = \"snapshot\"");
            None
        }
        (false, true) => {
            section.missing("database", "database = \"NAME\"");
            None
        }
        // A database that has problems of its own is reported there.
        (true, true) => Some(Role::Job(database??, job?)),
    }
}

fn database(
    value: &DeValue<'_>,
    known: &[(String, Option<DatabaseId>)],
) -> Result<Option<DatabaseId>, Complaint> {
    let name = forms::text(value)?;
    let called = |(table, id): &&(String, Option<DatabaseId>)| {
        *table == name || id.as_ref().is_some_and(|id| id.to_string() == name)
    };
    match known.iter().find(called) {
        Some((_, id)) => Ok(id.clone()),
        None => Err(unknown("database", &name, known.iter().map(|(table, _)| table.as_str()))),
    }
}

fn unknown<'k>(what: &str, name: &str, known: impl Iterator<Item = &'k str> + Clone) -> Complaint {
    let complaint = Complaint::new(format!("there is no {what} {name:?}"))
        .accepted(known.clone().collect::<Vec<_>>().join(", "));
    match nearest(name, known) {
        Some(near) => complaint.remedy(format!("Did you mean {near:?}?")),
        None => complaint,
    }
}

fn job(value: &DeValue<'_>) -> Result<JobKind, Complaint> {
    let text = forms::text(value)?;
    text.parse().map_err(|_| unknown("job", &text, JobKind::ALL.iter().map(|kind| kind.word())))
}

fn role(value: &DeValue<'_>) -> Result<Role, Complaint> {
    let text = forms::text(value)?;
    match text.as_str() {
        "main" => Ok(Role::Main),
        "escalation" => Ok(Role::Escalation),
        "fallback" => Ok(Role::Fallback),
        _ => Err(unknown("role", &text, ["main", "escalation", "fallback"].into_iter())),
    }
}

fn severity(value: &DeValue<'_>) -> Result<Severity, Complaint> {
    let text = forms::text(value)?;
    match text.as_str() {
        "warning" => Ok(Severity::Warning),
        "critical" => Ok(Severity::Critical),
        _ => Err(unknown("severity", &text, ["warning", "critical"].into_iter())),
    }
}

fn timeout(value: &DeValue<'_>) -> Result<Duration, Complaint> {
    let timeout = forms::duration(value)?;
    if timeout > LONGEST_TIMEOUT {
        return Err(Complaint::new(format!("is {} s", timeout.as_secs())).accepted("at most \"60s\""));
    }
    Ok(timeout)
}

/// People must not hear of a disaster much later than it is found.
fn gather(value: &DeValue<'_>) -> Result<Duration, Complaint> {
    let gather = forms::duration(value)?;
    if gather > LONGEST_GATHER {
        return Err(Complaint::new(format!("is {} s", gather.as_secs())).accepted("at most \"1h\""));
    }
    Ok(gather)
}

/// `"22:00-07:00"`.
fn hours(value: &DeValue<'_>) -> Result<(Time, Time), Complaint> {
    let text = forms::text(value)?;
    let time = |text: &str| -> Option<Time> {
        let (hour, minute) = text.trim().split_once(':')?;
        let digits =
            |s: &str| (s.len() <= 2 && s.bytes().all(|b| b.is_ascii_digit())).then(|| s.parse().ok())?;
        Time::new(digits(hour)?, digits(minute)?, 0, 0).ok()
    };
    let both = text.split_once('-').and_then(|(from, to)| Some((time(from)?, time(to)?)));
    match both {
        Some((from, to)) if from != to => Ok((from, to)),
        Some(_) => Err(Complaint::new("begins and ends at the same time").accepted(QUIET)),
        None => Err(Complaint::new(format!("{text:?} is not a span of hours")).accepted(QUIET)),
    }
}

/// One item of `fallback`.
fn fallback(
    value: &DeValue<'_>,
    route: &Route,
    names: &[&str],
    known: &[Route],
) -> Result<ChannelName, Complaint> {
    let name = forms::text(value)?;
    if name == route.name.as_str() {
        return Err(Complaint::new("is the channel itself").remedy("Name another one."));
    }
    if !names.contains(&name.as_str()) {
        return Err(unknown("alert channel", &name, names.iter().copied()));
    }
    if let Some(other) = known.iter().find(|other| other.name.as_str() == name) {
        if !other.is_for_people() {
            return Err(Complaint::new(format!("{name:?} is a ping, which nobody reads")));
        }
        if !other.audience.covers(&route.audience) {
            return Err(Complaint::new(format!(
                "{name:?} would get incidents that are not for its publishers"
            ))
            .remedy("Name a channel without `publishers`, or with all those of this one."));
        }
    }
    forms::id(value)
}
