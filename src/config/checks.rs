//! A database's own checks: what its restored data must be like.

use std::time::Duration;

use super::{BUILT_IN_CHECKS, forms};
use crate::config::complaint::Complaint;
use crate::config::section::Section;
use crate::model::drill_check::{Check, Rule};
use crate::model::id::{DatabaseName, InvalidId};

const DEFAULT_TIMEOUT: Duration = Duration::from_secs(60);
/// The keys that ask something of the answer.
const RULES: [&str; 5] = ["min", "max", "equals", "max_change", "fresh_within"];

/// Reads the tables `[database.NAME.checks.CHECK]`, in the order in which they stand.
pub(super) fn read(database: &mut Section<'_>) -> Vec<Check> {
    let mut checks = database
        .family("checks", |name, section| {
            let order = section.order();
            check(name, section).map(|check| (order, check))
        })
        .values;
    checks.sort_by_key(|(order, _)| *order);
    checks.into_iter().map(|(_, check)| check).collect()
}

fn check(name: &str, section: &mut Section<'_>) -> Option<Check> {
    // The same form as every other name.
    if let Err(e) = name.parse::<DatabaseName>() {
        section.refuse_self(forms::invalid_id(&InvalidId { what: "name of a check", ..e }));
    }
    if BUILT_IN_CHECKS.contains(&name) {
        section
            .refuse_self(Complaint::new("is the name of a built-in check").remedy("Give it another name."));
    }
    let sql = section.required("sql", "sql = \"SELECT count(*) FROM subscriber\"", forms::filled_text);
    let rule = Rule {
        min: section.optional("min", forms::number),
        max: section.optional("max", forms::number),
        equals: section.optional("equals", forms::scalar),
        max_change: section.optional("max_change", forms::percent),
        fresh_within: section.optional("fresh_within", forms::duration),
    };
    if !RULES.iter().any(|key| section.has(key)) {
        section.refuse_self(
            Complaint::new("sets no condition on the answer")
                .accepted(format!("one or more of {}", RULES.join(", ")))
                .remedy("Say what the answer must be like, for example `min = 1`."),
        );
    }
    if let Some((min, max)) = rule.min.zip(rule.max).filter(|(min, max)| min > max) {
        section.refuse(
            "min",
            Complaint::new(format!("is {min}, more than `max`, which is {max}: no answer can pass"))
                .remedy("Make `min` the smaller of the two."),
        );
    }
    let timeout = section.optional("timeout", forms::duration);
    let message = section.optional("message", forms::filled_text);
    Some(Check {
        name: name.to_owned(),
        sql: sql?,
        rule,
        timeout: timeout.unwrap_or(DEFAULT_TIMEOUT),
        message,
    })
}
