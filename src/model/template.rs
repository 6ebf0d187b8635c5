//! A JSON document with placeholders. They stand inside its texts, so what is put in their place can never change
//! the shape of the document.

use std::fmt;
use std::str::FromStr;

use serde_json::Value;

/// A JSON document in whose texts `{{name}}` stands for a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template(Value);

/// Why a text is no template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InvalidTemplate {
    /// It is not JSON: line and column.
    Json(usize, usize),
    /// It has a placeholder that stands for nothing.
    Placeholder(String),
}

impl fmt::Display for InvalidTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Json(line, column) => write!(f, "is not JSON (line {line}, column {column})"),
            Self::Placeholder(name) => write!(f, "there is no placeholder {name:?}"),
        }
    }
}

/// What a template can hold.
pub(crate) const PLACEHOLDERS: [&str; 17] = [
    "agent",
    "at",
    "database",
    "error",
    "event",
    "key",
    "kind",
    "object",
    "opened_at",
    "proven_at",
    "publisher",
    "remedy",
    "severity",
    "stage",
    "subject",
    "summary",
    "text",
];

impl FromStr for Template {
    type Err = InvalidTemplate;

    fn from_str(text: &str) -> Result<Self, InvalidTemplate> {
        let value: Value =
            serde_json::from_str(text).map_err(|e| InvalidTemplate::Json(e.line(), e.column()))?;
        let mut unknown = None;
        filled(&value, &mut |name| {
            if !PLACEHOLDERS.contains(&name) {
                unknown.get_or_insert(name.to_owned());
            }
            String::new()
        });
        match unknown {
            Some(name) => Err(InvalidTemplate::Placeholder(name)),
            None => Ok(Self(value)),
        }
    }
}

impl Template {
    /// The document with a value for each placeholder.
    pub fn fill(&self, mut value: impl FnMut(&str) -> String) -> Value {
        filled(&self.0, &mut value)
    }
}

fn filled(template: &Value, value: &mut impl FnMut(&str) -> String) -> Value {
    match template {
        Value::String(text) => Value::String(filled_text(text, value)),
        Value::Array(items) => Value::Array(items.iter().map(|item| filled(item, value)).collect()),
        Value::Object(fields) => {
            Value::Object(fields.iter().map(|(key, field)| (key.clone(), filled(field, value))).collect())
        }
        other => other.clone(),
    }
}

fn filled_text(text: &str, value: &mut impl FnMut(&str) -> String) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("{{") {
        let Some((name, after)) = after.split_once("}}") else { break };
        out.push_str(before);
        out.push_str(&value(name.trim()));
        rest = after;
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn placeholders_are_filled_in_and_unknown_ones_refused() {
        let template: Template =
            r#"{"a": ["{{ severity }}: {{subject}}!", 1, null], "b": "{{", "{{key}}": true}"#.parse().unwrap();
        let filled = template.fill(|name| format!("<{name}>"));
        assert_eq!(
            filled,
            serde_json::json!({"a": ["<severity>: <subject>!", 1, null], "b": "{{", "{{key}}": true})
        );
        assert_eq!(
            "[\"{{sujet}}\"]".parse::<Template>(),
            Err(InvalidTemplate::Placeholder("sujet".to_owned()))
        );
        assert_eq!("{\n\"a\": }".parse::<Template>(), Err(InvalidTemplate::Json(2, 6)));
    }

    proptest! {
        #[test]
        fn no_value_changes_the_shape(value in ".*") {
            let template: Template = r#"{"text": "{{text}}", "n": 1}"#.parse().unwrap();
            let filled = template.fill(|_| value.clone()).to_string();
            let again: Value = serde_json::from_str(&filled).unwrap();
            prop_assert_eq!(again, serde_json::json!({"text": value, "n": 1}));
        }
    }
}
