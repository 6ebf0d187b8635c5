//! What messages say: the same words on every channel, bounded, and without characters that could affect the text around
//! them.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::digest;
use super::line::{LINE, clean, second};
use crate::model::condition::Severity;
use crate::model::digest::Digest;
use crate::model::human;
use crate::model::id::Sha256;
use crate::model::incident::{Event, EventKind};
use crate::model::notice::{Notice, Phase};

/// The most characters of a subject.
const SUBJECT: usize = 180;
/// The most targets, and the most databases, that one message lists.
const TARGETS: usize = 12;
const DATABASES: usize = 40;
/// The most messages that one holds in full. All others it names.
const IN_FULL: usize = 20;

/// What a message is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// To tell people of an incident.
    Incident(EventKind),
    /// To find out whether it arrives.
    Test,
    /// To let an external monitor count.
    Ping(Phase),
    /// To tell people how everything stands.
    Digest,
}

impl Purpose {
    /// The word that programs read.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Incident(kind) => kind.word(),
            Self::Test => "test",
            Self::Ping(phase) => phase.word(),
            Self::Digest => "digest",
        }
    }
}

/// A message, ready to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// 32 hexadecimal digits, the same in every copy of this message and in no other.
    pub id: String,
    /// 32 hexadecimal digits that all messages of one incident share: the `id` of the first one.
    pub thread: String,
    /// What it is for.
    pub purpose: Purpose,
    /// How bad it is.
    pub severity: Severity,
    /// The agent that sends it.
    pub agent: String,
    /// The incident's key.
    pub key: String,
    /// One line.
    pub subject: String,
    /// Several lines.
    pub text: String,
    /// When it was written.
    pub at: Timestamp,
    /// The parts of the text, by the placeholders of [`crate::model::template::PLACEHOLDERS`].
    fields: BTreeMap<&'static str, String>,
}

fn digits(text: &str) -> String {
    Sha256::of(text.as_bytes()).to_string().chars().take(32).collect()
}

impl Message {
    /// The message for a notice of `at` that is sent `now`. Its `number` tells two alike notices apart.
    pub(crate) fn of(notice: &Notice, number: i64, agent: &str, at: Timestamp, now: Timestamp) -> Self {
        match notice {
            Notice::Incident(event) => Self::incident(event, number, agent, now),
            Notice::Job { database, kind, phase } => {
                let subject = format!("{kind} of {database}: {}", phase.word());
                Self::ping(*phase, &subject, Some(&database.to_string()), number, agent, at)
            }
            Notice::Canary { healthy } => {
                let (phase, says) = match healthy {
                    true => (Phase::Success, "the agent is running, and its alert channels accept messages"),
                    false => (Phase::Fail, "the agent is running, but alert channels do not accept messages"),
                };
                Self::ping(phase, says, None, number, agent, at)
            }
            Notice::Digest(digest) => Self::digest(digest, number, agent, at),
        }
    }

    fn digest(digest: &Digest, number: i64, agent: &str, at: Timestamp) -> Self {
        let (agent, head) = (clean(agent, 80), digest::head(digest));
        let id = digits(&format!("digest {agent} {number} {at}"));
        Self {
            thread: id.clone(),
            id,
            purpose: Purpose::Digest,
            severity: Severity::Warning,
            key: "digest".to_owned(),
            subject: clean(&format!("[marbre {agent}] summary: {head}"), SUBJECT),
            text: digest::text(digest, &agent),
            at,
            fields: BTreeMap::from([("summary", head)]),
            agent,
        }
    }

    /// A message that is sent only to find out whether it arrives.
    pub(crate) fn test(agent: &str, at: Timestamp) -> Self {
        let agent = clean(agent, 80);
        let id = digits(&format!("test {agent} {at}"));
        let text =
            "This is a test, sent by `marbre alert test`. Nothing is wrong, and there is nothing to do.";
        Self {
            thread: id.clone(),
            id,
            purpose: Purpose::Test,
            severity: Severity::Warning,
            key: "test".to_owned(),
            subject: format!("[marbre {agent}] test: this channel works"),
            text: format!("{text}\n\nAgent: {agent}\nSent: {}\n", second(at)),
            at,
            fields: BTreeMap::from([("summary", text.to_owned())]),
            agent,
        }
    }

    fn ping(
        phase: Phase,
        says: &str,
        database: Option<&str>,
        number: i64,
        agent: &str,
        at: Timestamp,
    ) -> Self {
        let agent = clean(agent, 80);
        let id = digits(&format!("ping {agent} {number} {at}"));
        let subject = clean(&format!("[marbre {agent}] {says}"), SUBJECT);
        let mut fields = BTreeMap::from([("summary", says.to_owned())]);
        fields.extend(database.map(|database| ("database", database.to_owned())));
        Self {
            thread: id.clone(),
            id,
            purpose: Purpose::Ping(phase),
            severity: Severity::Warning,
            key: database.map_or("canary".to_owned(), str::to_owned),
            text: format!("{subject}\n"),
            subject,
            at,
            fields,
            agent,
        }
    }

    fn incident(event: &Event, number: i64, agent: &str, now: Timestamp) -> Self {
        let (incident, agent) = (&event.incident, clean(agent, 80));
        let fields = fields(event);
        let thread = digits(&format!("{agent} {}", incident.name()));
        let first = event.kind == EventKind::Opened && incident.flaps == 0;
        let severity = incident.severity.word();
        let begins = match event.kind {
            EventKind::Opened if incident.flaps > 0 => format!("{severity} again"),
            EventKind::Opened => severity.to_owned(),
            EventKind::Reminded => format!("still {severity}"),
            EventKind::Escalated => format!("escalated, {severity}"),
            EventKind::Worsened => format!("now {severity}"),
            EventKind::Changed => format!("another cause, {severity}"),
            EventKind::Resolved => "resolved".to_owned(),
        };
        let condition = &incident.condition;
        let whose = condition.database.as_ref().map(|database| format!("{database}: ")).unwrap_or_default();
        let mut what = match event.kind {
            EventKind::Resolved => condition.well(),
            _ => condition.summary.clone(),
        };
        let resolved = event.kind == EventKind::Resolved;
        let hit = condition.affected.iter().filter(|affected| resolved || !affected.kinds.is_empty());
        match hit.collect::<Vec<_>>().as_slice() {
            [] => {}
            [one] => what = format!("{} ({})", what.trim_end_matches('.'), one.database),
            many => what = format!("{} ({} databases)", what.trim_end_matches('.'), many.len()),
        }
        let subject = format!("[marbre {agent}] {begins}: {whose}{what}");
        Self {
            id: if first { thread.clone() } else { digits(&format!("{thread} {number}")) },
            thread,
            purpose: Purpose::Incident(event.kind),
            severity: incident.severity,
            key: fields["key"].clone(),
            subject: clean(&subject, SUBJECT),
            text: text(event, &fields, &agent, now),
            at: incident.told_at,
            fields,
            agent,
        }
    }

    /// Messages as one. It is as bad as the worst of them, and names each before it says more, since some services cut off
    /// long texts.
    pub(crate) fn several(mut messages: Vec<Self>) -> Self {
        if messages.len() == 1 {
            return messages.remove(0);
        }
        let ids: Vec<&str> = messages.iter().map(|message| message.id.as_str()).collect();
        let id = digits(&ids.join(" "));
        let resolved = |message: &&Self| message.purpose == Purpose::Incident(EventKind::Resolved);
        let over = messages.iter().filter(resolved).count();
        let open = messages.len() - over;
        let severity =
            messages.iter().filter(|message| !resolved(message)).map(|message| message.severity).max();
        let severity = severity.unwrap_or(Severity::Warning);
        let (begins, purpose) = match (open, over) {
            (0, over) => (format!("resolved: {over} incidents"), EventKind::Resolved),
            (open, 0) => (format!("{severity}: {open} messages"), EventKind::Opened),
            (open, over) => {
                let messages = human::counted(open as u64, "message", "messages");
                (format!("{severity}: {messages}, and {over} resolved"), EventKind::Opened)
            }
        };
        let agent = messages.first().map(|message| message.agent.clone()).unwrap_or_default();
        let prefix = format!("[marbre {agent}] ");
        let about: Vec<&str> =
            messages.iter().map(|message| message.subject.trim_start_matches(&prefix)).collect();
        let mut text = about.iter().map(|line| format!("- {line}\n")).collect::<String>();
        for message in messages.iter().take(IN_FULL) {
            text += &format!("\n----\n{}\n{}", message.subject.trim_start_matches(&prefix), message.text);
        }
        Self {
            thread: id.clone(),
            id,
            purpose: Purpose::Incident(purpose),
            severity,
            key: "several".to_owned(),
            subject: clean(&format!("{prefix}{begins}: {}", about.join("; ")), SUBJECT),
            text,
            at: messages.iter().map(|message| message.at).max().unwrap_or_default(),
            fields: BTreeMap::from([("summary", clean(&about.join("; "), LINE))]),
            agent,
        }
    }

    /// The value of a placeholder; empty where the message has none.
    pub(crate) fn field(&self, name: &str) -> String {
        match name {
            "agent" => self.agent.clone(),
            "at" => second(self.at),
            "event" => self.purpose.word().to_owned(),
            "key" => self.key.clone(),
            "severity" => self.severity.word().to_owned(),
            "subject" => self.subject.clone(),
            "text" => self.text.clone(),
            name => self.fields.get(name).cloned().unwrap_or_default(),
        }
    }
}

fn fields(event: &Event) -> BTreeMap<&'static str, String> {
    let (incident, condition) = (&event.incident, &event.incident.condition);
    let databases: Vec<String> = condition.databases().map(ToString::to_string).collect();
    let publishers: Vec<&str> =
        condition.publishers().into_iter().map(|publisher| publisher.as_str()).collect();
    let listed = |names: String| Some(names).filter(|names| !names.is_empty());
    let proven = condition.affected.iter().map(|affected| affected.proven_at).min().flatten();
    let parts = [
        ("summary", Some(condition.summary.clone())),
        ("kind", Some(condition.kind.to_string())),
        ("key", Some(incident.key().to_string())),
        ("database", listed(databases.join(", "))),
        ("publisher", listed(publishers.join(", "))),
        ("object", condition.object.clone()),
        ("stage", condition.stage.clone()),
        ("error", condition.error.clone()),
        ("remedy", Some(condition.remedy.clone())),
        ("opened_at", Some(second(incident.opened_at))),
        ("proven_at", condition.proven_at.or(proven).map(second)),
    ];
    parts.into_iter().filter_map(|(name, value)| Some((name, clean(&value?, LINE)))).collect()
}

/// The text of a message, a line for each thing that is known.
fn text(event: &Event, fields: &BTreeMap<&'static str, String>, agent: &str, now: Timestamp) -> String {
    let (incident, condition) = (&event.incident, &event.incident.condition);
    let resolved = event.kind == EventKind::Resolved;
    let mut text = match resolved {
        true => format!("{}\n\n", clean(&condition.well(), LINE)),
        false => format!("{}\n\n", fields["summary"]),
    };
    let mut line = |label: &str, value: &str| text += &format!("{label}: {value}\n");
    line("Event", event.kind.word());
    line("Severity", incident.severity.word());
    if resolved {
        line("It was", &fields["summary"]);
    }
    let error = if resolved { "Error then" } else { "Error" };
    for (label, name) in [
        ("Database", "database"),
        ("Publisher", "publisher"),
        ("Concerns", "object"),
        ("Stage", "stage"),
        (error, "error"),
    ] {
        // Databases that share a problem are listed below, each with what it means for it.
        let shared = !condition.affected.is_empty() && matches!(name, "database" | "publisher");
        fields.get(name).filter(|_| !shared).into_iter().for_each(|value| line(label, value));
    }
    if let Some(before) = incident.before.as_ref().filter(|_| event.kind == EventKind::Changed) {
        line("Before", &clean(before, LINE));
    }
    for (name, says) in condition.targets.iter().take(TARGETS) {
        line(&format!("Target {name}"), &clean(says, LINE));
    }
    if let Some(more @ 1..) = condition.targets.len().checked_sub(TARGETS) {
        line("Targets", &format!("{more} more"));
    }
    for affected in condition.affected.iter().take(DATABASES) {
        let kinds: Vec<&str> = affected.kinds.iter().map(|kind| kind.word()).collect();
        let kinds = if kinds.is_empty() { "well again".to_owned() } else { kinds.join(", ") };
        let proven = proven(affected.proven_at, now);
        line(&format!("Database {}", affected.database), &format!("{kinds}; last proven snapshot: {proven}"));
    }
    if let Some(more @ 1..) = condition.affected.len().checked_sub(DATABASES) {
        line("Databases", &format!("{more} more"));
    }
    if condition.database.is_some() {
        line("Last proven snapshot", &proven(condition.proven_at, now));
    }
    line("Since", &since(event));
    if !resolved {
        line("What to do", &fields["remedy"]);
    }
    line("Incident", &fields["key"]);
    line("Agent", agent);
    text
}

fn proven(proven_at: Option<Timestamp>, now: Timestamp) -> String {
    match proven_at {
        None => "none that the agent knows of".to_owned(),
        Some(at) => {
            let age = human::duration(now.duration_since(at).as_secs_f64());
            format!("{age} old (it holds the state of {})", second(at))
        }
    }
}

fn since(event: &Event) -> String {
    let incident = &event.incident;
    let age = human::duration(incident.told_at.duration_since(incident.opened_at).as_secs_f64());
    let mut since = format!("{} ({age}), seen {}", second(incident.opened_at), times(incident.sightings));
    if incident.flaps > 0 {
        since += &format!(", came back {}", times(incident.flaps.into()));
    }
    since
}

fn times(n: u64) -> String {
    match n {
        1 => "once".to_owned(),
        n => format!("{n} times"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::condition::{Condition, ConditionKind};
    use crate::model::incident::{self, Policy};
    use proptest::prelude::*;

    fn now() -> Timestamp {
        "2026-11-25T02:00:00Z".parse().unwrap()
    }

    fn event(condition: Condition) -> Event {
        incident::observe(&[], &[condition], &[], now(), &Policy::default()).events.remove(0)
    }

    fn condition(text: &str) -> Condition {
        Condition {
            kind: ConditionKind::SnapshotFailed,
            severity: Severity::Critical,
            database: Some("gazette/abonnes".parse().unwrap()),
            object: None,
            summary: format!("The snapshot failed. {text}"),
            stage: Some("read".to_owned()),
            error: Some(format!("ERROR: permission denied for table login{text}")),
            targets: vec![("nas".parse().unwrap(), format!("stored{text}"))],
            proven_at: Some("2026-11-23T22:00:00Z".parse().unwrap()),
            remedy: "Grant SELECT on it.".to_owned(),
            origin: None,
            affected: Vec::new(),
            due_at: None,
        }
    }

    #[test]
    fn a_message_says_what_people_need() {
        let notice = Notice::Incident(Box::new(event(condition(""))));
        let message = Message::of(&notice, 1, "db1", Timestamp::UNIX_EPOCH, now());
        assert_eq!(message.subject, "[marbre db1] critical: gazette/abonnes: The snapshot failed.");
        assert_eq!(
            message.text,
            "The snapshot failed.\n\nEvent: opened\nSeverity: critical\nDatabase: gazette/abonnes\nPublisher: gazette\n\
             Stage: read\nError: ERROR: permission denied for table login\nTarget nas: stored\n\
             Last proven snapshot: 1 d 4 h old (it holds the state of 2026-11-23T22:00:00Z)\n\
             Since: 2026-11-25T02:00:00Z (0.0 s), seen once\nWhat to do: Grant SELECT on it.\n\
             Incident: snapshot-failed gazette/abonnes\nAgent: db1\n"
        );
        assert_eq!(message.id, message.thread, "the first message of a thread names it");
        assert_eq!(message.field("publisher"), "gazette");
    }

    proptest! {
        #[test]
        fn no_text_breaks_out_of_its_line(evil in "(\\r|\\n|\u{0}|\u{1b}|\u{202e}|\u{2028}|[a-z:]|é){0,2000}") {
            let message = Message::of(&Notice::Incident(Box::new(event(condition(&evil)))), 1, &evil, Timestamp::UNIX_EPOCH, now());
            prop_assert!(!message.subject.chars().any(char::is_control));
            prop_assert!(message.subject.chars().count() <= SUBJECT);
            prop_assert!(message.text.chars().all(|c| c == '\n' || !c.is_control()));
            prop_assert_eq!(message.text.lines().count(), 14);
            prop_assert!(message.text.chars().count() < 4000);
        }
    }
}
