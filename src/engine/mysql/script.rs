//! The database as scripts for the `mariadb` or `mysql` client: the way without marbre.

use super::definitions::{Definition, Kind};
use super::quote::ident;
use super::tables::Table;

/// How a script begins.
const BEGIN: &str = "SET NAMES utf8mb4;\nSET SESSION foreign_key_checks = 0, SESSION unique_checks = 0;\n";

/// Sequences and tables.
pub(super) fn schema(definitions: &[Definition]) -> String {
    let mut script = BEGIN.to_owned();
    for definition in definitions.iter().filter(|d| matches!(d.kind, Kind::Sequence | Kind::Table)) {
        script += &statement(definition);
    }
    script
}

/// What belongs behind the rows: routines, views, triggers, events.
pub(super) fn program(definitions: &[Definition]) -> String {
    let mut script = BEGIN.to_owned();
    for definition in definitions.iter().filter(|d| d.kind > Kind::Table) {
        script += &statement(definition);
    }
    script
}

/// The statements that make one object.
pub(super) fn statement(definition: &Definition) -> String {
    // The client ends a statement where a line holds nothing but this; no server writes such a line.
    format!("{};\nDELIMITER $marbre$\n{}\n$marbre$\nDELIMITER ;\n", definition.settings(), definition.create)
}

/// Loads the rows: run in the folder that holds the streams, with `--local-infile=1`.
pub(super) fn load<'a>(tables: impl Iterator<Item = (&'a str, &'a Table)>) -> String {
    let mut script =
        format!("{BEGIN}SET SESSION sql_mode = 'NO_AUTO_VALUE_ON_ZERO', SESSION time_zone = '+00:00';\n");
    let mut history = false;
    for (stream, table) in tables {
        if table.period.is_some() && !history {
            script += "SET SESSION system_versioning_insert_history = 1;\n";
            history = true;
        }
        script += &format!("{};\n", table.load(&ident(&table.name), stream));
    }
    script
}
