//! What the codes of the server's errors mean, in words of ours.

use crate::error::Error;

/// Every code that PostgreSQL has, with the name of its condition. Source: `errcodes.txt` of PostgreSQL 15 and 18.
const CONDITIONS: &str = include_str!("sqlstates.txt");

/// Codes that people meet, in words that say more than the name of the condition.
const WORDS: [(&str, &str); 51] = [
    ("08001", "the connection to the server could not be made"),
    ("08006", "the connection to the server was lost"),
    ("0A000", "the server does not support something that this needs"),
    ("21000", "a query in the database's own code returns more than one row"),
    ("22001", "a value is too long for its column"),
    ("22003", "a number is out of range for its type"),
    ("22007", "a value is not a date or a time"),
    ("22008", "a date or a time is out of range"),
    ("22009", "a time zone is not known"),
    ("22012", "a division by zero"),
    ("22021", "a text is not valid in the encoding"),
    ("22023", "a parameter has a value that it cannot have"),
    ("22P02", "a value is not of its type"),
    ("22P04", "a line of rows has the wrong form"),
    ("23502", "a row has NULL in a column that must not be NULL"),
    ("23503", "a row breaks a foreign key constraint"),
    ("23505", "a row breaks a unique constraint"),
    ("23514", "a row breaks a check constraint"),
    ("23P01", "a row breaks an exclusion constraint"),
    ("25006", "the transaction may only read"),
    (
        "28000",
        "the server does not let this user in: the role does not exist or may not log in, or pg_hba.conf has no entry \
         for it",
    ),
    ("28P01", "password authentication failed"),
    ("3D000", "the database does not exist"),
    ("3F000", "a schema does not exist"),
    ("40001", "a transaction was in conflict with another one"),
    ("40P01", "a deadlock with another session"),
    ("42501", "a right is missing: permission denied, or somebody else is the owner"),
    ("42601", "a syntax error"),
    ("42701", "a column exists already"),
    ("42703", "a column does not exist"),
    ("42704", "something that is named does not exist: a role, a type, a collation, a parameter or the like"),
    ("42710", "something of this name exists already"),
    ("42723", "a function exists already"),
    ("42804", "a value or an expression has the wrong type"),
    ("42883", "a function or an operator does not exist"),
    ("42P01", "a table, a view or a sequence does not exist"),
    ("42P04", "the database exists already"),
    ("42P06", "a schema exists already"),
    ("42P07", "a table, a view or an index exists already"),
    ("53100", "no space is left on the server's disk"),
    ("53200", "the server is out of memory, or of its room for locks"),
    ("53300", "the server takes no more connections"),
    ("55006", "something is in use by another session"),
    ("55P03", "a lock was not to be had in time"),
    ("57014", "the server cancelled the statement: its time was over, or somebody asked for it"),
    ("57P01", "an administrator ended the connection"),
    ("57P02", "the server crashed, and ended the connection"),
    ("57P03", "the server is starting, stopping or recovering, and takes no connections"),
    ("58030", "the server could not read or write a file"),
    ("58P01", "a file is missing on the server, as the library of an extension that is not installed"),
    ("XX001", "the server found damaged data"),
];

/// What a code means. `None` for one that PostgreSQL does not have: the code of a database made it up, and it can hold
/// anything.
pub(crate) fn meaning(code: &str) -> Option<String> {
    if let Some((_, words)) = WORDS.iter().find(|(known, _)| *known == code) {
        return Some((*words).to_owned());
    }
    let condition = CONDITIONS.lines().find_map(|line| line.strip_prefix(code)?.strip_prefix(' '))?;
    Some(condition.replace('_', " "))
}

/// Whether an error is of one of these codes, which PostgreSQL has. Client tools say what a code means, and not always the code.
pub(crate) fn is_one_of(error: &Error, codes: &[&str]) -> bool {
    let text = error.to_string();
    codes.iter().filter_map(|code| meaning(code)).any(|meaning| text.contains(&meaning))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_of_the_server_has_a_meaning_and_no_other_has() {
        assert_eq!(meaning("23505").unwrap(), "a row breaks a unique constraint");
        assert_eq!(meaning("2200G").unwrap(), "most specific type mismatch");
        for code in ["75001", "AB123", "", "2", "23505 unique", "unique_violation"] {
            assert_eq!(meaning(code), None, "{code}");
        }
        for (code, _) in WORDS {
            assert!(CONDITIONS.lines().any(|line| line.starts_with(code)), "{code}");
        }
    }
}
