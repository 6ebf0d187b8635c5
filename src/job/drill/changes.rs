//! What changed since the last proven snapshot: marbre's own checks of that.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::report::{CheckReport, CheckResult};
use crate::engine::Comparison;
use crate::model::drill_check::Percent;
use crate::model::human::{count, first_few};
use crate::model::stream::SourceFacts;

/// How many names a message has.
const NAMED: usize = 20;
/// Kinds of definitions that are no objects of their own.
const NO_OBJECTS: [&str; 4] = ["comment", "owner", "rights", "table"];

/// Which of marbre's own checks are run, and how strictly.
#[derive(Debug, Clone)]
pub(crate) struct BuiltIn {
    /// How far the number of all rows may be from that of the last proven snapshot.
    pub rows_change: Percent,
    /// Tables that may become empty.
    pub may_be_empty: Vec<String>,
    /// Tables and other objects that may go; one that ends with `*` says how names begin.
    pub may_be_missing: Vec<String>,
    /// Checks that are switched off.
    pub skip: Vec<String>,
}

impl BuiltIn {
    /// Whether this check is switched off.
    pub(crate) fn skips(&self, name: &str) -> bool {
        self.skip.iter().any(|skipped| skipped == name)
    }
}

/// What a proven snapshot held, in the form in which the state keeps it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Values {
    /// Rows by table.
    pub tables: BTreeMap<String, u64>,
    /// Answers by check.
    pub answers: BTreeMap<String, String>,
    /// The names of all other objects by type, where the engine knows them.
    #[serde(default)]
    pub objects: BTreeMap<String, BTreeSet<String>>,
    /// How many objects of each type there are.
    #[serde(default)]
    pub inventory: BTreeMap<String, u64>,
}

/// The value that a check looked at, and whether it holds.
type Judgement = (Option<String>, Result<(), String>);
/// Holds what was restored against what was there before.
type Judge = fn(&BuiltIn, &Values, &Values) -> Judgement;

impl Values {
    /// What was restored and compared, and what the source said of itself.
    pub(crate) fn of(comparison: &Comparison, source: &SourceFacts) -> Self {
        let tables = comparison.tables.iter().map(|t| (t.table.to_string(), t.rows)).collect();
        let kinds = source.details.get("definitions").and_then(serde_json::Value::as_object);
        let kinds = kinds.into_iter().flatten().filter(|(kind, _)| !NO_OBJECTS.contains(&kind.as_str()));
        let objects = kinds
            .filter_map(|(kind, names)| Some((kind.clone(), names.as_object()?.keys().cloned().collect())))
            .collect();
        Self { tables, answers: BTreeMap::new(), objects, inventory: source.inventory.clone() }
    }

    fn rows(&self) -> u64 {
        self.tables.values().sum()
    }

    fn has_object(&self, kind: &str, name: &str) -> bool {
        self.objects.get(kind).is_some_and(|names| names.contains(name))
    }
}

impl BuiltIn {
    /// The names of these checks.
    pub(crate) const CHANGES: [&str; 4] = ["missing-tables", "missing-objects", "empty-tables", "row-count"];

    /// Compares what was restored with the last proven snapshot.
    pub(super) fn changes(&self, before: Option<&Values>, now: &Values) -> Vec<CheckReport> {
        let judges: [Judge; 4] =
            [Self::missing_tables, Self::missing_objects, Self::emptied, Self::row_count];
        let report = |(name, judge): (&str, Judge)| {
            if self.skips(name) {
                return CheckReport::new(name, CheckResult::Off, None, None);
            }
            let Some(before) = before else {
                let why = "no earlier drill has proven a snapshot yet".to_owned();
                return CheckReport::new(name, CheckResult::NoBaseline, None, Some(why));
            };
            match judge(self, before, now) {
                (value, Ok(())) => CheckReport::new(name, CheckResult::Passed, value, None),
                (value, Err(why)) => CheckReport::new(name, CheckResult::Failed, value, Some(why)),
            }
        };
        Self::CHANGES.into_iter().zip(judges).map(report).collect()
    }

    /// Tables that were there, and are gone.
    fn missing_tables(&self, before: &Values, now: &Values) -> Judgement {
        let gone = before.tables.keys().filter(|table| !now.tables.contains_key(*table));
        let gone = gone.filter(|table| !self.may_be_missing(table));
        named("gone since the last proven snapshot", gone.cloned().collect())
    }

    /// Other objects that were there, and are gone: by name, or by number where the engine tells no names.
    fn missing_objects(&self, before: &Values, now: &Values) -> Judgement {
        let all = before.objects.iter().flat_map(|(kind, names)| names.iter().map(move |name| (kind, name)));
        let gone = all.filter(|(kind, name)| !now.has_object(kind, name) && !self.may_be_missing(name));
        let mut gone: Vec<String> = gone.map(|(kind, name)| format!("{kind} {name}")).collect();
        if before.objects.is_empty() || now.objects.is_empty() {
            for (kind, was) in before.inventory.iter().filter(|(kind, _)| *kind != "table") {
                let is = now.inventory.get(kind).copied().unwrap_or(0);
                if is < *was {
                    gone.push(format!("{} of {} of type {kind}", count(was - is), count(*was)));
                }
            }
        }
        named("gone since the last proven snapshot", gone)
    }

    /// Tables that had rows, and have none.
    fn emptied(&self, before: &Values, now: &Values) -> Judgement {
        let had_rows = before.tables.iter().filter(|(_, rows)| **rows > 0).map(|(table, _)| table);
        let emptied = had_rows.filter(|table| now.tables.get(*table) == Some(&0));
        let emptied = emptied.filter(|table| !self.may_be_empty.contains(table));
        named("had rows in the last proven snapshot, and have none", emptied.cloned().collect())
    }

    fn row_count(&self, before: &Values, now: &Values) -> Judgement {
        let (was, is, limit) = (before.rows(), now.rows(), self.rows_change);
        let judgement = match limit.allows(was as f64, is as f64) {
            true => Ok(()),
            false => Err(format!(
                "{} rows, more than {limit} away from {} in the last proven snapshot",
                count(is),
                count(was)
            )),
        };
        (Some(is.to_string()), judgement)
    }

    fn may_be_missing(&self, name: &str) -> bool {
        self.may_be_missing.iter().any(|pattern| match pattern.strip_suffix('*') {
            Some(beginning) => name.starts_with(beginning),
            None => name == pattern,
        })
    }
}

/// Fails where there is any, and names them.
fn named(what: &str, names: Vec<String>) -> Judgement {
    let judgement = match names.is_empty() {
        true => Ok(()),
        false => Err(format!("{what}: {}", first_few(&names, NAMED))),
    };
    (Some(count(names.len() as u64)), judgement)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(tables: &[(&str, u64)], objects: &[(&str, &str)], inventory: &[(&str, u64)]) -> Values {
        let tables = tables.iter().map(|(table, rows)| ((*table).to_owned(), *rows)).collect();
        let inventory = inventory.iter().map(|(kind, n)| ((*kind).to_owned(), *n)).collect();
        let mut values = Values { tables, inventory, ..Values::default() };
        for (kind, name) in objects {
            values.objects.entry((*kind).to_owned()).or_default().insert((*name).to_owned());
        }
        values
    }

    fn failed(built_in: &BuiltIn, before: &Values, now: &Values) -> Vec<String> {
        let reports = built_in.changes(Some(before), now).into_iter();
        let failed = reports.filter(|report| report.result == CheckResult::Failed);
        failed.map(|report| format!("{}: {}", report.name, report.message.unwrap_or_default())).collect()
    }

    fn built_in(may_be_missing: &[&str]) -> BuiltIn {
        BuiltIn {
            rows_change: Percent(25.0),
            may_be_empty: Vec::new(),
            may_be_missing: may_be_missing.iter().map(|name| (*name).to_owned()).collect(),
            skip: Vec::new(),
        }
    }

    #[test]
    fn what_is_gone_is_named_unless_it_may_be() {
        let before = values(
            &[("public.a", 1000), ("public.log_01", 5), ("public.b", 3)],
            &[("index", "public.a_name"), ("index", "public.log_01_pkey"), ("view", "public.v")],
            &[],
        );
        let now = values(&[("public.a", 1000), ("public.b", 0)], &[("index", "public.a_name")], &[]);
        assert_eq!(
            failed(&built_in(&[]), &before, &now),
            [
                "missing-tables: gone since the last proven snapshot: public.log_01",
                "missing-objects: gone since the last proven snapshot: index public.log_01_pkey; view public.v",
                "empty-tables: had rows in the last proven snapshot, and have none: public.b"
            ]
        );
        let allowed = failed(&built_in(&["public.log_*", "public.v"]), &before, &now);
        assert_eq!(allowed.len(), 1, "{allowed:?}");
        // The name of a view is no pattern.
        assert_eq!(failed(&built_in(&["public.log_*", "public."]), &before, &now).len(), 2);
        assert!(failed(&built_in(&[]), &now, &before).is_empty(), "what came is no loss");
    }

    #[test]
    fn where_there_are_no_names_numbers_are_compared() {
        let before = values(&[("a", 9)], &[], &[("index", 3), ("table", 2), ("trigger", 1)]);
        let now = values(&[("a", 9)], &[], &[("index", 1), ("table", 1), ("trigger", 1)]);
        assert_eq!(
            failed(&built_in(&[]), &before, &now),
            ["missing-objects: gone since the last proven snapshot: 2 of 3 of type index"]
        );
    }

    #[test]
    fn values_of_earlier_releases_are_read() {
        let old: Values = serde_json::from_str(r#"{"tables":{"a":1},"answers":{}}"#).unwrap();
        assert!(old.objects.is_empty() && old.tables["a"] == 1);
    }
}
