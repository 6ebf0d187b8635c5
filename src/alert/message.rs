//! What messages say: the same words on every channel, bounded, and without characters that could affect the text around
//! them.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::model::condition::Severity;
use crate::model::human;
use crate::model::id::Sha256;
use crate::model::incident::{Event, EventKind};
use crate::model::notice::{Notice, Phase};

/// The most characters of a subject.
const SUBJECT: usize = 180;
/// The most characters of a line that was not written here.
pub(super) const LINE: usize = 400;
/// The most targets that one message lists.
const TARGETS: usize = 12;

/// What a message is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// To tell people of an incident.
    Incident(EventKind),
    /// To find out whether it arrives.
    Test,
    /// To let an external monitor count.
    Ping(Phase),
}

impl Purpose {
    /// The word that programs read.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Incident(kind) => kind.word(),
            Self::Test => "test",
            Self::Ping(phase) => phase.word(),
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

/// One line of at most so many characters. Whatever could end a line or a header, or control a terminal, becomes a space.
pub(super) fn clean(text: &str, most: usize) -> String {
    let harmful = |c: char| {
        // Line separators, and marks that change the direction of the text after them.
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
    };
    let spaced: String = text.chars().map(|c| if harmful(c) { ' ' } else { c }).collect();
    let line = spaced.split_whitespace().collect::<Vec<_>>().join(" ");
    shorten(&line, most)
}

/// The beginning of a text, with an ellipsis if there was more.
pub(super) fn shorten(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        None => text.to_owned(),
        Some(_) => text.chars().take(most.saturating_sub(1)).chain(['…']).collect(),
    }
}

fn digits(text: &str) -> String {
    Sha256::of(text.as_bytes()).to_string().chars().take(32).collect()
}

impl Message {
    /// The message for a notice. Its `number` tells two alike notices apart.
    pub(crate) fn of(notice: &Notice, number: i64, agent: &str, at: Timestamp) -> Self {
        match notice {
            Notice::Incident(event) => Self::incident(event, number, agent),
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

    fn incident(event: &Event, number: i64, agent: &str) -> Self {
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
            EventKind::Resolved => "resolved".to_owned(),
        };
        let whose = fields.get("database").map(|database| format!("{database}: ")).unwrap_or_default();
        let subject = format!("[marbre {agent}] {begins}: {whose}{}", fields["summary"]);
        Self {
            id: if first { thread.clone() } else { digits(&format!("{thread} {number}")) },
            thread,
            purpose: Purpose::Incident(event.kind),
            severity: incident.severity,
            key: fields["key"].clone(),
            subject: clean(&subject, SUBJECT),
            text: text(event, &fields, &agent),
            at: incident.told_at,
            fields,
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

fn second(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn fields(event: &Event) -> BTreeMap<&'static str, String> {
    let (incident, condition) = (&event.incident, &event.incident.condition);
    let parts = [
        ("summary", Some(condition.summary.clone())),
        ("kind", Some(condition.kind.to_string())),
        ("key", Some(incident.key().to_string())),
        ("database", condition.database.as_ref().map(ToString::to_string)),
        ("publisher", condition.publisher().map(ToString::to_string)),
        ("object", condition.object.clone()),
        ("stage", condition.stage.clone()),
        ("error", condition.error.clone()),
        ("remedy", Some(condition.remedy.clone())),
        ("opened_at", Some(second(incident.opened_at))),
        ("proven_at", condition.proven_at.map(second)),
    ];
    parts.into_iter().filter_map(|(name, value)| Some((name, clean(&value?, LINE)))).collect()
}

fn text(event: &Event, fields: &BTreeMap<&'static str, String>, agent: &str) -> String {
    let (incident, condition) = (&event.incident, &event.incident.condition);
    let mut text = format!("{}\n\n", fields["summary"]);
    let mut line = |label: &str, value: &str| text += &format!("{label}: {value}\n");
    line("Event", event.kind.word());
    line("Severity", incident.severity.word());
    for (label, name) in [
        ("Database", "database"),
        ("Publisher", "publisher"),
        ("Concerns", "object"),
        ("Stage", "stage"),
        ("Error", "error"),
    ] {
        fields.get(name).into_iter().for_each(|value| line(label, value));
    }
    for (name, says) in condition.targets.iter().take(TARGETS) {
        line(&format!("Target {name}"), &clean(says, LINE));
    }
    if let Some(more @ 1..) = condition.targets.len().checked_sub(TARGETS) {
        line("Targets", &format!("{more} more"));
    }
    if condition.database.is_some() {
        line("Last proven snapshot", &proven(condition.proven_at, incident.told_at));
    }
    line("Since", &since(event));
    if event.kind != EventKind::Resolved {
        line("What to do", &fields["remedy"]);
    }
    line("Incident", &fields["key"]);
    line("Agent", agent);
    text
}

fn proven(proven_at: Option<Timestamp>, now: Timestamp) -> String {
    match proven_at {
        None => "none: no snapshot has been proven to restore".to_owned(),
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

    fn event(condition: Condition) -> Event {
        let now = "2026-11-25T02:00:00Z".parse().unwrap();
        incident::observe(&[], &[condition], &[], now, &Policy::default()).events.remove(0)
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
        }
    }

    #[test]
    fn a_message_says_what_people_need() {
        let notice = Notice::Incident(Box::new(event(condition(""))));
        let message = Message::of(&notice, 1, "db1", Timestamp::UNIX_EPOCH);
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
            let message = Message::of(&Notice::Incident(Box::new(event(condition(&evil)))), 1, &evil, Timestamp::UNIX_EPOCH);
            prop_assert!(!message.subject.chars().any(char::is_control));
            prop_assert!(message.subject.chars().count() <= SUBJECT);
            prop_assert!(message.text.chars().all(|c| c == '\n' || !c.is_control()));
            prop_assert_eq!(message.text.lines().count(), 14);
            prop_assert!(message.text.chars().count() < 4000);
        }
    }
}
