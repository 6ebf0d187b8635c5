//! Names that may be told: those of the configuration, of the catalogue and of a snapshot's manifest.
//!
//! Errors of the server name things, but what stands where a name belongs can be a value: in the field of an exception
//! that a function raises, in a statement that a function puts together. Only what is known to be a name is told.

use std::collections::BTreeSet;
use std::sync::{PoisonError, RwLock};

use crate::model::table::TableId;

/// Names that are known to be names. Everything that works on one database shares them.
#[derive(Debug, Default)]
pub(crate) struct Known(RwLock<BTreeSet<String>>);

impl Known {
    /// Adds names. One with several parts, as `public."Main table".id`, is known by each of them.
    pub(super) fn learn<'a>(&self, names: impl IntoIterator<Item = &'a str>) {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        for name in names {
            known.insert(name.to_owned());
            known.extend(parts(name));
        }
    }

    /// Adds the words of a statement that stands in the configuration, but not those of its texts.
    pub(super) fn learn_words(&self, sql: &str) {
        let outside = sql.split('\'').step_by(2);
        let words = outside.flat_map(|text| text.split(|c: char| !c.is_alphanumeric() && c != '_'));
        self.learn(words.filter(|word| !word.is_empty()));
    }

    /// Adds the names of tables and of their columns.
    pub(super) fn learn_table(&self, table: &TableId, columns: &[String]) {
        let names = [&table.schema, &table.table].into_iter().chain(columns);
        self.learn(names.map(String::as_str));
    }

    /// Whether this is a name: one that is known, or several such with points between them, with or without the types of
    /// arguments after it.
    pub(super) fn knows(&self, text: &str) -> bool {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if known.contains(text) {
            return true;
        }
        let parts = parts(text);
        !parts.is_empty() && parts.iter().all(|part| known.contains(part))
    }
}

/// The parts of a name as SQL has it, without quotes and arguments: `public."A.b"(integer)` is `public` and `A.b`.
fn parts(name: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut quoted = false;
    let mut chars = name.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' if quoted && chars.next_if_eq(&'"').is_some() => push(&mut parts, '"'),
            '"' => quoted = !quoted,
            '.' if !quoted => parts.push(String::new()),
            '(' if !quoted => break,
            c => push(&mut parts, c),
        }
    }
    parts.retain(|part| !part.is_empty());
    parts
}

fn push(parts: &mut [String], c: char) {
    if let Some(last) = parts.last_mut() {
        last.push(c);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_known_with_their_parts_and_nothing_else_is() {
        let known = Known::default();
        known.learn_words("SELECT nope FROM t WHERE name = 'O''Brien Dupont'");
        assert!(known.knows("nope") && !known.knows("Brien"));
        known.learn([
            "public.subscribers.email_key",
            "public.\"A.b \"\"c\"\"\"",
            "public.stamp(integer, text)",
        ]);
        for name in [
            "public",
            "email_key",
            "public.subscribers",
            "\"A.b \"\"c\"\"\"",
            "A.b \"c\"",
            "stamp",
            "public.stamp(\"any\")",
        ] {
            assert!(known.knows(name), "{name}");
        }
        for value in ["", ".", "()", "Dupont", "public.Dupont", "integer", "public subscribers", "(Dupont)"] {
            assert!(!known.knows(value), "{value}");
        }
    }
}
