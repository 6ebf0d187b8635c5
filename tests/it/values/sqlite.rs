//! SQLite: what its messages quote of rows and definitions.

use rusqlite::Connection;
use rusqlite::config::DbConfig;

use super::{SECRETS, folder_holds_none, holds_none};
use crate::support::marbre::Outcome;
use crate::support::sqlite_setup::Setup;

/// A provider of a database with the secrets in rows, in a CHECK, in a trigger and in a full-text index.
fn setup() -> Setup {
    let setup = Setup::new(3, 10);
    let [name, mail, phone, account] = SECRETS;
    sql(
        &setup,
        &format!(
            "CREATE TABLE abonne (nom TEXT CHECK (nom <> 'not {name}'), tel INTEGER PRIMARY KEY);
             INSERT INTO abonne VALUES ('{name}', {phone}), ('{mail}', 2), ('{account}', 3);
             CREATE INDEX abonne_nom ON abonne (nom);
             CREATE TRIGGER no BEFORE DELETE ON abonne BEGIN SELECT RAISE(ABORT, '{mail}'); END;
             CREATE VIRTUAL TABLE texte USING fts5 (corps); INSERT INTO texte VALUES ('a');"
        ),
    );
    setup.configure_directories("");
    setup
}

fn sql(setup: &Setup, sql: &str) {
    let connection = Connection::open(setup.database()).unwrap();
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, false).unwrap();
    connection.execute_batch(sql).unwrap();
}

/// Nothing that was said or kept holds a value, and what must be told is told.
#[track_caller]
fn told(setup: &Setup, outcome: &Outcome, words: &str) {
    let said = outcome.to_string();
    holds_none("what was said", said.as_bytes());
    assert!(said.contains(words), "no {words:?} in {said}");
    for folder in ["provider/state", "a", "b", "tmp"] {
        folder_holds_none(&setup.path(folder));
    }
}

#[test]
fn queries_of_the_owner_tell_no_value() {
    let setup = setup();
    setup.snapshot().success();
    for (query, words) in [
        (
            "SELECT count(*) FROM texte WHERE corps MATCH (SELECT nom || ':x' FROM abonne LIMIT 1)",
            "SQL logic error",
        ),
        ("SELECT json_extract('{}', max(nom)) FROM abonne", "SQL logic error"),
        ("SELECT json(nom) FROM abonne", "malformed JSON"),
        ("SELECT max(nom) FROM abonne", "the answer is not a number"),
        ("SELECT nom FROM abonne LIMIT 1", "the answer is not a number"),
        ("SELECT x FROM nowhere", "no such table: nowhere"),
    ] {
        setup.configure_directories(&format!("[database.abonnes.checks.odd]\nsql = \"{query}\"\nmin = 0"));
        let outcome = setup.provider(&["drill", "abonnes"]).env("MARBRE_LOG", "trace").fails_with(9);
        told(&setup, &outcome, words);
    }
}

#[test]
fn damaged_indexes_and_definitions_tell_no_value() {
    let setup = setup();
    sql(
        &setup,
        "PRAGMA writable_schema = ON;
         UPDATE sqlite_schema SET sql = replace(sql, '(nom)', '(nom || ''x'')') WHERE name = 'abonne_nom';",
    );
    let changed = "SELECT sql LIKE '%||%' FROM sqlite_schema WHERE name = 'abonne_nom'";
    let connection = Connection::open(setup.database()).unwrap();
    assert!(connection.query_row(changed, [], |row| row.get::<_, bool>(0)).unwrap());
    drop(connection);
    setup.snapshot().success();
    let outcome = setup.provider(&["drill", "abonnes"]).env("MARBRE_LOG", "trace").fails_with(9);
    told(&setup, &outcome, "row … missing from index abonne_nom");
    // A schema that cannot be read: SQLite quotes the text at which it stops.
    sql(
        &setup,
        &format!(
            "PRAGMA writable_schema = ON;
             UPDATE sqlite_schema SET sql = 'CREATE TABLE abonne (nom) ''{}''' WHERE name = 'abonne';",
            SECRETS[0]
        ),
    );
    let outcome = setup.snapshot().env("MARBRE_LOG", "trace").fails_with(6);
    told(&setup, &outcome, "damaged");
    let outcome = setup.provider(&["doctor"]).env("MARBRE_LOG", "trace").run();
    told(&setup, &outcome, "damaged");
}
