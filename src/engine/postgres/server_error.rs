//! What may be told of an error of the server.
//!
//! The text of a message can hold the contents of rows: of a value that does not fit, of an exception that a function
//! raises, in whatever language and with whatever quotation marks the server speaks. So no text of the server is told.
//! What is told are our own words for the error's code, and those names in it that are known to be names.

use tokio_postgres::error::{DbError, Severity};

use super::known::Known;
use super::sqlstate;
use crate::error::Error;

/// What is said of an error of which nothing else may be told.
pub(crate) const UNKNOWN: &str = "an error whose message may hold data, and is not shown";

/// The most names of one error.
const NAMES: usize = 4;

/// The server's functions that raise what the database's own code asks for, with a code of its choice: of PL/pgSQL and PL/Python.
const RAISING: [&str; 2] = ["exec_stmt_raise", "PLy_elog_impl"];

/// Those that pass on what another server has said.
const RELAYING: [&str; 2] = ["dblink_res_error", "pgfdw_report_error"];

/// Quotation marks of the languages in which the server speaks.
const QUOTES: [char; 8] = ['"', '«', '»', '„', '“', '”', '「', '」'];

/// The parts of a server's error.
#[derive(Debug, Default)]
struct Said<'a> {
    code: &'a str,
    /// `ERROR` or `FATAL`, where it is known.
    severity: Option<String>,
    message: &'a str,
    /// Where names belong. Exceptions can put anything there.
    fields: Vec<&'a str>,
    context: Option<&'a str>,
    /// By a statement of the database's own code, and not by the server.
    raised: bool,
}

impl<'a> Said<'a> {
    fn of(error: &'a DbError) -> Self {
        let fields = [error.constraint(), error.schema(), error.table(), error.column(), error.datatype()];
        let code = error.code().code();
        Self {
            code,
            severity: error.parsed_severity().map(|severity| severity.to_string()),
            message: error.message(),
            fields: fields.into_iter().flatten().collect(),
            context: error.where_(),
            raised: code.starts_with("P0") || error.routine().is_some_and(|name| RAISING.contains(&name)),
        }
    }

    fn words(&self, known: &Known) -> String {
        let meaning = sqlstate::meaning(self.code);
        let what = match &meaning {
            _ if self.raised => "an exception in the database's own code",
            Some(meaning) => meaning.as_str(),
            None => "an error with a code of its own, whose message may hold data",
        };
        let mut names = Vec::new();
        if !self.raised {
            names.extend(self.fields.iter().copied().filter(|name| known.knows(name)));
            names.extend(names_in(self.message, self.code, known));
        }
        names.extend(functions_in(self.context.unwrap_or_default(), known));
        let code = match (&meaning, &self.severity) {
            (None, _) => String::new(),
            (Some(_), Some(severity)) if severity != "ERROR" => {
                format!(" ({severity}, SQLSTATE {})", self.code)
            }
            (Some(_), _) => format!(" (SQLSTATE {})", self.code),
        };
        format!("{what}{}{code}", listed(names))
    }
}

/// An error of the server, without its text.
pub(super) fn words(error: &DbError, known: &Known) -> String {
    Said::of(error).words(known)
}

/// Parts of the messages of the server and of the programs that speak to it, with the code or the words for them.
/// What fits none of them is not told: programs do not print the code.
const MESSAGES: [(&str, &str); 58] = [
    ("must be owner of ", "42501"),
    ("must be superuser", "42501"),
    ("must be able to SET ROLE", "42501"),
    ("must be a member of the role", "42501"),
    ("permission denied", "42501"),
    ("Only roles with ", "42501"),
    ("duplicate key value violates unique constraint", "23505"),
    ("could not create unique index", "23505"),
    ("violates foreign key constraint", "23503"),
    ("violates check constraint", "23514"),
    ("violates not-null constraint", "23502"),
    ("violates exclusion constraint", "23P01"),
    ("could not create exclusion constraint", "23P01"),
    ("contains null values", "23502"),
    ("is violated by some row", "23514"),
    ("No space left on device", "53100"),
    ("canceling statement due to lock timeout", "55P03"),
    ("could not obtain lock on", "55P03"),
    ("due to conflict with recovery", "40001"),
    ("canceling statement due to ", "57014"),
    ("terminating connection", "57P01"),
    ("the database system is ", "57P03"),
    ("deadlock detected", "40P01"),
    ("could not serialize access", "40001"),
    ("out of shared memory", "53200"),
    ("out of memory", "53200"),
    ("too many connections", "53300"),
    ("too many clients", "53300"),
    ("remaining connection slots are reserved", "53300"),
    ("password authentication failed", "28P01"),
    ("no password supplied", "28P01"),
    ("no pg_hba.conf entry", "28000"),
    ("Peer authentication failed", "28000"),
    ("is not available", "something that is named is not installed on the server, as an extension"),
    (
        "could not open extension control file",
        "something that is named is not installed on the server, as an extension",
    ),
    ("could not access file ", "58P01"),
    ("could not load library ", "58P01"),
    ("could not read block", "XX001"),
    ("invalid page in block", "XX001"),
    ("missing chunk number", "XX001"),
    ("unrecognized configuration parameter", "42704"),
    ("invalid input syntax for ", "22P02"),
    ("invalid input value for ", "22P02"),
    ("out of range", "22003"),
    ("invalid byte sequence for encoding", "22021"),
    ("has no equivalent in encoding", "22P05"),
    ("syntax error at ", "42601"),
    ("already exists", "42710"),
    ("server version mismatch", "the program is older than the server"),
    ("server closed the connection unexpectedly", "08006"),
    ("no connection to the server", "08006"),
    ("SSL SYSCALL error", "08006"),
    ("Connection refused", "the server refuses the connection: nothing listens there"),
    ("could not translate host name", "the host's name cannot be resolved"),
    ("unsupported version", "the archive was written by a newer release than this program's"),
    ("does not appear to be a valid archive", "the archive is not whole"),
    ("unexpected end of file", "the archive is not whole"),
    ("worker process died unexpectedly", "one of its own processes was ended"),
];

/// The kinds of things that a message says to be missing, by their codes.
const MISSING: [(&str, &str); 8] = [
    ("relation ", "42P01"),
    ("column ", "42703"),
    ("function ", "42883"),
    ("operator ", "42883"),
    ("schema ", "3F000"),
    ("database ", "3D000"),
    ("role ", "a role does not exist"),
    ("type ", "a type does not exist"),
];

/// A message of which only the text is known: of a program, or in the log of a server.
pub(super) fn words_of_text(text: &str, known: &Known) -> String {
    let message = ["ERROR:", "FATAL:", "PANIC:"].iter().find_map(|word| text.split_once(word));
    let message = message.map_or(text, |(_, message)| message).trim();
    let missing = message.contains("does not exist").then(|| {
        let kind = MISSING.iter().find(|(kind, _)| message.starts_with(kind));
        kind.map_or("42704", |(_, meaning)| meaning)
    });
    let found = MESSAGES.iter().find(|(part, _)| message.contains(part)).map(|(_, meaning)| *meaning);
    let meaning = missing.or(found).unwrap_or(UNKNOWN);
    let words = sqlstate::meaning(meaning).unwrap_or_else(|| meaning.to_owned());
    format!("{words}{}", listed(names_in(text, meaning, known)))
}

/// Whether what failed makes everything after it fail too: then going on would only hide the cause under many others.
pub(super) fn ends_everything(message: &str) -> bool {
    let found = MESSAGES.iter().find(|(part, _)| message.contains(part));
    found.is_some_and(|(_, meaning)| of_a_fatal_class(meaning))
}

/// The same of an error of a session.
pub(super) fn ends_a_session(error: &tokio_postgres::Error) -> bool {
    error.as_db_error().is_none_or(|db| {
        let survived = db.parsed_severity() == Some(Severity::Error);
        is_the_servers_own(db.code().code(), survived, db.routine().unwrap_or_default())
    })
}

/// Whether an error is about the server itself, and not about what it was asked for. One that failed to connect to another one is well;
/// so is one whose session has survived an intervention (57), and one of which code of the database says that its disk is full.
fn is_the_servers_own(code: &str, survived: bool, routine: &str) -> bool {
    let by_others = RAISING.contains(&routine) || RELAYING.contains(&routine);
    let is_well = code.starts_with("08") || (survived && code.starts_with("57"));
    of_a_fatal_class(code) && !by_others && !is_well
}

/// Connections, resources, and an operator's intervention.
fn of_a_fatal_class(code: &str) -> bool {
    ["08", "53", "57"].iter().any(|class| code.starts_with(class)) && code != "57014"
}

/// The names in a message: what stands in quotation marks and is known to be a name.
fn names_in<'a>(message: &'a str, code: &str, known: &Known) -> Vec<&'a str> {
    // Every second piece stands in quotation marks. Some languages put spaces inside them.
    let quoted = message.split(QUOTES).skip(1).step_by(2).map(str::trim);
    // Messages about rights end with a name that stands in none.
    let last = message.split_whitespace().last().filter(|_| code == "42501");
    quoted.chain(last).filter(|name| known.knows(name)).collect()
}

/// The functions that were running, according to the context of an error.
fn functions_in<'a>(context: &'a str, known: &Known) -> Vec<&'a str> {
    let calls = context.split_whitespace().filter_map(|word| word.split_once('(')).map(|(name, _)| name);
    calls.filter(|name| known.knows(name)).collect()
}

/// `: "a", "b"`, each once.
fn listed(names: Vec<&str>) -> String {
    let mut shown: Vec<String> = Vec::new();
    for name in names {
        let name = format!("\"{}\"", name.trim_matches('"').escape_debug());
        if !shown.contains(&name) && shown.len() < NAMES {
            shown.push(name);
        }
    }
    if shown.is_empty() { String::new() } else { format!(": {}", shown.join(", ")) }
}

/// What can be done about an error, where its code tells.
pub(super) fn remedied(failed: Error, error: &tokio_postgres::Error) -> Error {
    match error.code().map(tokio_postgres::error::SqlState::code) {
        Some("53200") => failed.remedy(
            "Raise max_locks_per_transaction on the server above the number of tables, and restart it.",
        ),
        Some("53300") => failed.remedy("Lower jobs, or raise max_connections on the server."),
        // Ended by an administrator, a crash or a shutdown; or the connection itself was lost.
        Some("57P01" | "57P02" | "57P03") => failed.remedy(CUT),
        None if error.is_closed() => failed.remedy(CUT),
        _ => failed,
    }
}

const CUT: &str = "See the server's log for why the connection ended, and run the command again.";

#[cfg(test)]
mod tests {
    use super::*;

    fn known() -> Known {
        let known = Known::default();
        known.learn(["public.subscribers.email", "subscribers_email_key", "public.stamp()", "lecteur"]);
        known
    }

    #[test]
    fn names_that_are_known_are_told_in_every_language() {
        for message in [
            "duplicate key value violates unique constraint \"subscribers_email_key\"",
            "la valeur d'une clé dupliquée rompt la contrainte unique « subscribers_email_key »",
            "doppelter Schlüsselwert verletzt Unique-Constraint „subscribers_email_key“",
        ] {
            let said = Said { code: "23505", message, fields: vec!["subscribers"], ..Said::default() };
            assert_eq!(
                said.words(&known()),
                "a row breaks a unique constraint: \"subscribers\", \"subscribers_email_key\" (SQLSTATE 23505)"
            );
        }
        let said =
            Said { code: "42501", message: "droit refusé pour la table subscribers", ..Said::default() };
        assert!(said.words(&known()).ends_with(": \"subscribers\" (SQLSTATE 42501)"), "{said:?}");
    }

    #[test]
    fn values_are_told_in_no_language_and_in_no_field() {
        for (code, message) in [
            ("22P02", "invalid input syntax for type integer: \"Dupont\""),
            ("22P02", "syntaxe en entrée invalide pour le type integer : « Dupont »"),
            ("22003", "value \"33612345678\" is out of range for type integer"),
            ("22007", "ungültige Eingabesyntax für Typ date: „Dupont“"),
            ("42P01", "relation \"Dupont\" does not exist"),
            ("P0001", "Dupont"),
            ("AB123", "Dupont"),
            ("42501", "permission denied for Dupont"),
        ] {
            let context =
                Some("COPY subscribers, line 1, column email: \"Dupont\"\nfunction Dupont() line 1");
            let fields = vec!["Dupont", "33612345678"];
            let said = Said { code, message, fields, context, ..Said::default() }.words(&known());
            let told = ["Dupont", "336", "AB123"].iter().find(|value| said.contains(**value));
            assert_eq!(told, None, "{said}");
        }
    }

    #[test]
    fn of_an_exception_its_function_is_told() {
        let context = Some("PL/pgSQL function public.stamp() line 3 at RAISE");
        let said = Said { code: "P0001", message: "lecteur", context, raised: true, ..Said::default() };
        assert_eq!(
            said.words(&known()),
            "an exception in the database's own code: \"public.stamp\" (SQLSTATE P0001)"
        );
    }

    #[test]
    fn only_what_the_server_says_of_itself_ends_a_session() {
        for (code, survived, routine) in [
            ("53100", true, "mdextend"),
            ("53200", true, "LockAcquireExtended"),
            ("57P01", false, "ProcessInterrupts"),
        ] {
            assert!(is_the_servers_own(code, survived, routine), "{code}");
        }
        for (code, survived, routine) in [
            ("53100", true, "exec_stmt_raise"),
            ("53100", true, "PLy_elog_impl"),
            ("53200", true, "dblink_res_error"),
            ("57P01", true, "pgfdw_report_error"),
            ("57P01", true, "HandleParallelMessage"),
            ("57014", true, "ProcessInterrupts"),
            ("08006", true, "pgfdw_get_result"),
            ("23514", true, "ExecConstraints"),
        ] {
            assert!(!is_the_servers_own(code, survived, routine), "{code} {routine}");
        }
    }

    #[test]
    fn texts_of_programs_are_known_or_not_told() {
        for (text, words) in [
            ("ERROR:  must be owner of table subscribers", "somebody else is the owner: \"subscribers\""),
            ("ERROR:  role \"lecteur\" does not exist", "a role does not exist: \"lecteur\""),
            ("ERROR:  relation \"dupont@example.org\" does not exist", "a sequence does not exist"),
            ("FATAL:  password authentication failed for user \"lecteur\"", "failed: \"lecteur\""),
            (
                "could not write to output file: No space left on device",
                "no space is left on the server's disk",
            ),
            ("ERREUR:  valeur « dupont@example.org » invalide", UNKNOWN),
            ("ERROR:  dupont@example.org", UNKNOWN),
        ] {
            let told = words_of_text(text, &known());
            assert!(told.ends_with(words) && !told.contains("dupont"), "{told}");
        }
        for (_, meaning) in MESSAGES.iter().chain(&MISSING) {
            assert!(meaning.contains(' ') || sqlstate::meaning(meaning).is_some(), "{meaning}");
        }
    }
}
