//! A message as a JSON document: in a format of the user's own, or in that of a chat service.

use serde_json::{Value, json};

use super::line::shorten;
use super::{Message, Purpose};
use crate::model::condition::Severity;
use crate::model::incident::EventKind;
use crate::model::template::{PLACEHOLDERS, Template};

/// The most characters that Discord takes.
const DISCORD: usize = 2000;
/// The most that Mattermost takes by default, with room for what is around the text.
const MATTERMOST: usize = 3900;

/// What the JSON document looks like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PayloadFormat {
    /// The user's own.
    Template(Template),
    /// All parts of the message, by the names of the placeholders, and its `id`.
    Fields,
    /// A Slack incoming webhook.
    Slack,
    /// A Teams workflow: "when a webhook request is received", an Adaptive Card.
    Teams,
    /// A Mattermost incoming webhook.
    Mattermost,
    /// A Discord webhook.
    Discord,
}

impl PayloadFormat {
    /// What people call it.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Template(_) | Self::Fields => "webhook",
            Self::Slack => "slack",
            Self::Teams => "teams",
            Self::Mattermost => "mattermost",
            Self::Discord => "discord",
        }
    }

    /// The document for a message.
    pub(crate) fn document(&self, message: &Message) -> Value {
        match self {
            Self::Template(template) => template.fill(|name| message.field(name)),
            Self::Fields => {
                let mut fields: serde_json::Map<String, Value> = PLACEHOLDERS
                    .iter()
                    .map(|name| ((*name).to_owned(), message.field(name).into()))
                    .collect();
                fields.insert("id".to_owned(), message.id.clone().into());
                fields.insert("thread".to_owned(), message.thread.clone().into());
                Value::Object(fields)
            }
            // These three are all that means anything there: no mention, no link.
            Self::Slack => {
                let text = format!("{}\n{}", message.subject, message.text);
                let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
                json!({"text": text, "mrkdwn": false, "unfurl_links": false})
            }
            Self::Teams => teams(message),
            Self::Mattermost => json!({"text": fenced(message, MATTERMOST)}),
            Self::Discord => {
                json!({"content": fenced(message, DISCORD), "allowed_mentions": {"parse": []}})
            }
        }
    }
}

/// In a block of code, in which nobody is mentioned and nothing is formatted.
fn fenced(message: &Message, most: usize) -> String {
    let text = format!("{}\n\n{}", message.subject, message.text).replace("```", "'''");
    format!("```text\n{}\n```", shorten(text.trim_end(), most - 16))
}

/// Runs of text are shown as they are; text blocks would be read as Markdown.
fn teams(message: &Message) -> Value {
    let color = match (message.purpose, message.severity) {
        (Purpose::Incident(EventKind::Resolved), _) => "Good",
        (Purpose::Test | Purpose::Ping(_) | Purpose::Digest, _) => "Default",
        (_, Severity::Critical) => "Attention",
        (_, Severity::Warning) => "Warning",
    };
    let line = |text: &str| json!({"type": "RichTextBlock", "inlines": [{"type": "TextRun", "text": text}]});
    let title = json!({"type": "RichTextBlock", "inlines": [
        {"type": "TextRun", "text": message.subject, "weight": "Bolder", "color": color}
    ]});
    let lines = message.text.lines().filter(|text| !text.is_empty()).map(line);
    let body: Vec<Value> = std::iter::once(title).chain(lines).collect();
    json!({"type": "message", "attachments": [{
        "contentType": "application/vnd.microsoft.card.adaptive",
        "contentUrl": null,
        "content": {
            "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
            "type": "AdaptiveCard", "version": "1.4", "msteams": {"width": "Full"}, "body": body
        }
    }]})
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;

    fn message(text: &str) -> Message {
        let mut message = Message::test("db1", Timestamp::UNIX_EPOCH);
        message.text = text.to_owned();
        message
    }

    #[test]
    fn chats_are_not_told_to_do_things() {
        let evil = message("<!channel> ``` @everyone [x](http://x) & \"quoted\" \\ end\n");
        let slack = PayloadFormat::Slack.document(&evil)["text"].as_str().unwrap().to_owned();
        assert!(
            slack.contains("&lt;!channel&gt; ``` @everyone [x](http://x) &amp; \"quoted\" \\ end"),
            "{slack}"
        );
        for format in [PayloadFormat::Mattermost, PayloadFormat::Discord] {
            let document = format.document(&evil).to_string();
            assert_eq!(document.matches("```").count(), 2, "{document}");
        }
        let teams = PayloadFormat::Teams.document(&evil);
        let body = &teams["attachments"][0]["content"]["body"];
        assert_eq!(
            body[1]["inlines"][0]["text"],
            "<!channel> ``` @everyone [x](http://x) & \"quoted\" \\ end"
        );
    }

    #[test]
    fn chats_get_no_more_than_they_take() {
        let long = message(&"é".repeat(10_000));
        let content = PayloadFormat::Discord.document(&long)["content"].as_str().unwrap().to_owned();
        assert!(content.chars().count() <= DISCORD && content.ends_with("\n```"));
    }

    #[test]
    fn fields_and_templates() {
        let message = message("two\nlines");
        let fields = PayloadFormat::Fields.document(&message);
        assert_eq!((&fields["event"], &fields["text"]), (&json!("test"), &json!("two\nlines")));
        let template = r#"{"msg": "{{event}}: {{text}}"}"#.parse().unwrap();
        assert_eq!(PayloadFormat::Template(template).document(&message), json!({"msg": "test: two\nlines"}));
    }
}
