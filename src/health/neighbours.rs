//! Databases that nobody protects, on the servers of those that are protected: a pure rule.

use std::collections::{BTreeMap, BTreeSet};

use crate::engine::{Neighbours, Place};
use crate::model::condition::{Condition, ConditionKind, Severity};

/// What to do about a database that nobody protects.
pub(crate) const REMEDY: &str =
    "Declare it in a table [database.NAME], or add its name to `ignore_databases` if it needs no snapshots.";

/// A database on a server, of which no snapshots are taken.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Undeclared {
    /// The server, for people.
    pub server: String,
    /// The database, for people.
    pub database: String,
}

/// Every database of the servers that answered, less those that are declared and those that are to be ignored. A server
/// that answered at several addresses is one. `silent` are declared databases whose server did not answer: it may be one
/// of those that did, so databases of their names are not reported.
pub(crate) fn undeclared(answers: &[Neighbours], silent: &[String], ignored: &[String]) -> Vec<Undeclared> {
    let mut servers: BTreeMap<&str, (String, BTreeSet<&str>, BTreeSet<&str>)> = BTreeMap::new();
    for answer in answers {
        let (_, all, declared) = servers
            .entry(&answer.identity)
            .or_insert_with(|| (server(&answer.place), BTreeSet::new(), BTreeSet::new()));
        all.extend(answer.databases.iter().map(String::as_str));
        declared.insert(&answer.place.database);
    }
    let other = |name: &&str| !silent.iter().chain(ignored).any(|known| known == name);
    let mut found = Vec::new();
    for (server, all, declared) in servers.values() {
        found.extend(
            all.difference(declared)
                .copied()
                .filter(other)
                .map(|name| Undeclared { server: server.clone(), database: name.escape_debug().to_string() }),
        );
    }
    found.sort();
    found
}

/// A server, for people.
pub(crate) fn server(place: &Place) -> String {
    match place.port {
        5432 => place.host.clone(),
        port => format!("{}:{port}", place.host),
    }
}

impl Undeclared {
    /// What people are told. It concerns those who run the agent: whose data they are is not known.
    pub(crate) fn condition(&self) -> Condition {
        let Self { server, database } = self;
        let summary = format!("Nobody protects the database {database} on the server {server}.");
        Condition::new(ConditionKind::UndeclaredDatabase, Severity::Warning, summary)
            .object(format!("{server} {database}"))
            .remedy(REMEDY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(identity: &str, host: &str, database: &str, all: &[&str]) -> Neighbours {
        let place = Place { host: host.into(), port: 5432, encrypted: false, database: database.into() };
        let databases = all.iter().map(|&name| name.to_owned()).collect();
        Neighbours { identity: identity.to_owned(), place, databases }
    }

    fn names(answers: &[Neighbours], silent: &[&str], ignored: &[&str]) -> Vec<String> {
        let owned = |names: &[&str]| names.iter().map(|&n| n.to_owned()).collect::<Vec<_>>();
        let found = undeclared(answers, &owned(silent), &owned(ignored));
        found.iter().map(|u| format!("{} {}", u.server, u.database)).collect()
    }

    #[test]
    fn what_is_neither_declared_nor_ignored_is_told_once_for_each_server() {
        let all = ["a", "b", "c", "postgres"];
        let answers =
            [answer("1", "one", "a", &all), answer("1", "standby", "b", &all), answer("2", "two", "b", &all)];
        assert_eq!(names(&answers, &[], &["postgres"]), ["one c", "two a", "two c"]);
        assert_eq!(names(&answers, &["c"], &["postgres"]), ["two a"]);
        assert_eq!(names(&answers, &["a", "c"], &[]), ["one postgres", "two postgres"]);
        assert!(names(&[], &[], &[]).is_empty());
    }

    #[test]
    fn strange_names_do_no_harm() {
        assert_eq!(
            names(&[answer("1", "one", "a", &["a", "b\n\u{1b}[31m"])], &[], &[]),
            ["one b\\n\\u{1b}[31m"]
        );
    }
}
