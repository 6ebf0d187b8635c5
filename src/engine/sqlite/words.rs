//! What may be told of an error of SQLite.
//!
//! The text of a message can hold the contents of rows and of definitions: what a trigger raises, the text of a CHECK, what
//! a full-text search was asked for, a piece of a damaged schema. So only what is known to hold none is told: SQLite's own
//! words for the error's code, and what is missing where a definition or a query names it.

use rusqlite::ffi;

/// Messages that end with a name which stands in a definition: the name of something that only an application has.
const MISSING: [&str; 3] = ["no such collation sequence: ", "no such function: ", "no such module: "];

/// Messages that end with a name which may also be a value: these are told where the owner's query has it.
const IN_QUERIES: [&str; 5] = [
    "no such table: ",
    "no such column: ",
    "no such table-valued function: ",
    "ambiguous column name: ",
    "near ",
];

/// Messages that hold nothing.
const CONSTANT: [&str; 6] = [
    "malformed JSON",
    "not authorized",
    "integer overflow",
    "string or blob too big",
    "datatype mismatch",
    "out of memory",
];

/// The extended result code of an error, and its message without data.
pub(super) fn code_and_message(error: &rusqlite::Error) -> (Option<ffi::Error>, String) {
    let Some((code, message)) = raw(error) else { return (None, of_the_library(error)) };
    if CONSTANT.contains(&message) {
        return (Some(code), message.to_owned());
    }
    let told = MISSING.iter().find_map(|start| Some((start, message.strip_prefix(start)?)));
    match told {
        Some((start, name)) if is_name(name) => (Some(code), format!("{start}{name}")),
        _ => (Some(code), meaning(code)),
    }
}

/// The same for an error of a query that the owner wrote: what stands in it may be told.
pub(super) fn of_query(error: &rusqlite::Error, sql: &str) -> (Option<ffi::Error>, String) {
    let (code, told) = code_and_message(error);
    let Some((_, message)) = raw(error) else { return (code, told) };
    let named = IN_QUERIES.iter().find_map(|start| message.strip_prefix(start));
    let named = named.map(|rest| rest.trim_end_matches(": syntax error").trim_matches('"'));
    match named {
        Some(name) if !name.is_empty() && sql.contains(name) => (code, message.to_owned()),
        _ => (code, told),
    }
}

/// What SQLite itself said. Not to be shown.
pub(super) fn raw(error: &rusqlite::Error) -> Option<(ffi::Error, &str)> {
    match error {
        rusqlite::Error::SqliteFailure(code, message) => {
            Some((*code, message.as_deref().unwrap_or_default()))
        }
        rusqlite::Error::SqlInputError { error, msg, .. } => Some((*error, msg)),
        _ => None,
    }
}

/// Errors of the library around SQLite, which are about types and columns. Some of them hold a value.
fn of_the_library(error: &rusqlite::Error) -> String {
    match error {
        rusqlite::Error::IntegralValueOutOfRange(column, _) => {
            format!("the number in column {column} of an answer is out of range")
        }
        rusqlite::Error::FromSqlConversionFailure(column, kind, _) => {
            format!("column {column} of an answer has the unexpected type {kind}")
        }
        other => other.to_string(),
    }
}

fn meaning(code: ffi::Error) -> String {
    match code.extended_code {
        ffi::SQLITE_CONSTRAINT_CHECK => "a CHECK constraint failed".to_owned(),
        ffi::SQLITE_CONSTRAINT_FOREIGNKEY => "a foreign key has no row that it refers to".to_owned(),
        ffi::SQLITE_CONSTRAINT_NOTNULL => "NULL in a column that must not be NULL".to_owned(),
        ffi::SQLITE_CONSTRAINT_TRIGGER => "a trigger of the database raised an error".to_owned(),
        ffi::SQLITE_CONSTRAINT_PRIMARYKEY | ffi::SQLITE_CONSTRAINT_UNIQUE => {
            "a UNIQUE constraint failed".to_owned()
        }
        // Of some codes only the number says what exactly it was: those of input and output.
        code if code > 0xff => format!("{} (code {code} of SQLite)", ffi::code_to_str(code)),
        code => ffi::code_to_str(code).to_owned(),
    }
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_alphanumeric() || c == '_')
}

/// A line of SQLite's integrity check without the numbers of rows, which may be their keys.
pub(super) fn without_row_numbers(line: &str) -> String {
    let mut words: Vec<&str> = Vec::new();
    for word in line.split(' ') {
        let after_row = words.last().is_some_and(|last| {
            ["row", "rowid", "(mapping", "mapping", "(row"]
                .contains(&last.to_lowercase().trim_end_matches(':'))
        });
        let number = word.trim_matches(|c: char| c.is_ascii_punctuation());
        let is_number = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
        words.push(if after_row && is_number { "…" } else { word });
    }
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use rusqlite::Connection;

    use super::*;

    fn database() -> Connection {
        let connection = Connection::open_in_memory().unwrap();
        connection
            .execute_batch(
                "CREATE TABLE t (name TEXT UNIQUE CHECK (name <> 'Dupont'), d TEXT);
                 INSERT INTO t VALUES ('Martin', 'd');
                 CREATE TRIGGER no BEFORE DELETE ON t BEGIN SELECT RAISE(ABORT, 'no such module: Martin Dupont'); END;
                 CREATE VIRTUAL TABLE f USING fts5 (x); INSERT INTO f VALUES ('a')",
            )
            .unwrap();
        connection
    }

    #[test]
    fn no_message_tells_a_value() {
        let database = database();
        for (sql, words) in [
            ("DELETE FROM t", "a trigger of the database raised an error"),
            ("INSERT INTO t VALUES ('Dupont', '')", "a CHECK constraint failed"),
            ("INSERT INTO t VALUES ('Martin', '')", "a UNIQUE constraint failed"),
            (
                "UPDATE t SET d = (SELECT count(*) FROM f WHERE f MATCH 'Dupont:' || t.name)",
                "SQL logic error",
            ),
            ("UPDATE t SET d = json_extract('{}', 'Dupont')", "SQL logic error"),
            ("SELECT \"Dupont\".\"x\"", "SQL logic error"),
        ] {
            let error = database.execute_batch(sql).unwrap_err();
            let (code, message) = code_and_message(&error);
            assert!(code.is_some() && message.starts_with(words), "{sql}: {message}");
            assert!(!message.contains("Dupont") && !message.contains("Martin"), "{sql}: {message}");
        }
    }

    #[test]
    fn what_only_an_application_has_is_named() {
        let database = database();
        for (sql, missing) in [
            ("SELECT * FROM t ORDER BY name COLLATE \"français\"", "no such collation sequence: français"),
            ("SELECT initials(name) FROM t", "no such function: initials"),
        ] {
            assert_eq!(code_and_message(&database.execute_batch(sql).unwrap_err()).1, missing);
        }
    }

    #[test]
    fn of_a_query_its_own_words_are_told() {
        let database = database();
        database.execute_batch("CREATE VIEW v AS SELECT t.surname FROM t").unwrap();
        for (sql, words) in [
            ("SELECT x FROM nowhere", "no such table: nowhere"),
            ("SELECT surname FROM t", "no such column: surname"),
            ("SELEC x", "near \"SELEC\": syntax error"),
            ("SELECT count(*) FROM v", "SQL logic error"),
        ] {
            assert_eq!(of_query(&database.prepare(sql).unwrap_err(), sql).1, words);
        }
    }

    #[test]
    fn rows_are_told_without_their_numbers() {
        for (line, told) in [
            ("row 33612345678 missing from index i", "row … missing from index i"),
            (
                "Tree 5 page 3 cell 0: Rowid 33612345678 out of order",
                "Tree 5 page 3 cell 0: Rowid … out of order",
            ),
            ("wrong # of entries in index i", "wrong # of entries in index i"),
        ] {
            assert_eq!(without_row_numbers(line), told);
        }
    }
}
