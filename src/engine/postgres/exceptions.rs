//! What could not be restored, in words, and as statements that people can mend and run.

use tokio_util::sync::CancellationToken;

use super::archive::Archive;
use super::archive_load::{ArchiveLoad, Unrestored};
use super::contents_list::Owners;
use super::details::Details;
use super::quote::qualified;
use super::table_load::NotLoaded;
use crate::engine::{Exception, Exceptions};
use crate::error::Result;
use crate::model::stream::Contents;
use crate::model::table::TableId;

/// Something that is no entry and no table.
pub(crate) fn of(object: String, reason: String) -> Exception {
    Exception { object, reason, table: None }
}

/// An entry of the archive.
pub(crate) fn of_entry(owners: &Owners, entry: &Unrestored) -> Exception {
    let (object, ..) = owners.named(&entry.line);
    of(object.escape_debug().to_string(), entry.reason.clone())
}

/// A table without its rows.
pub(crate) fn of_table(table: &NotLoaded<'_>) -> Exception {
    Exception {
        object: format!("the {} rows of table {}", table.proof.rows, table.proof.table),
        reason: table.reason.clone(),
        table: Some(table.proof.table.clone()),
    }
}

/// A table whose rows break checks.
pub(crate) fn of_checks(table: &TableId, checks: &str) -> Exception {
    let reason = "it holds for new rows only (NOT VALID): rows of the snapshot break it".to_owned();
    of(format!("{checks} of table {table}"), reason)
}

/// Removes from these entries the rights and comments of tables that the snapshot says it does not hold.
pub(crate) fn forget_omitted(owners: &Owners, details: &Details, entries: &mut Vec<Unrestored>) {
    entries.retain(|entry| {
        let (object, ..) = owners.named(&entry.line);
        !details.unregistered.iter().any(|TableId { schema, table }| {
            ["ACL", "COMMENT"]
                .iter()
                .any(|kind| object.starts_with(&format!("{kind} {schema} TABLE {table}")))
        })
    });
}

/// The statements of these entries.
pub(crate) async fn script(
    archive: &ArchiveLoad<'_>,
    schema: &Archive,
    entries: &[Unrestored],
    cancel: &CancellationToken,
) -> Result<Vec<u8>> {
    let lines: Vec<&str> =
        entries.iter().filter(|entry| !entry.made).map(|entry| entry.line.as_str()).collect();
    match lines.is_empty() {
        true => Ok(Vec::new()),
        false => archive.script(schema, &lines, cancel).await,
    }
}

/// Everything, with a script that says first what it is about.
pub(crate) fn all(list: Vec<Exception>, statements: Vec<u8>, contents: &Contents) -> Exceptions {
    if list.is_empty() {
        return Exceptions::default();
    }
    let mut text = format!(
        "-- What could not be restored of snapshot {}. Everything else is there.\n\
         -- Mend the statements below, and run them. They may hold passwords: keep this file to yourself.\n--\n",
        contents.snapshot
    );
    for exception in &list {
        text += &format!("-- {}\n--     {}\n", exception.object, exception.reason);
        let stream = contents.streams.iter().find(|stream| {
            exception
                .table
                .as_ref()
                .is_some_and(|table| stream.tables.iter().any(|proof| proof.table == *table))
        });
        if let (Some(stream), Some(table)) = (stream, &exception.table) {
            text += &format!(
                "--     Its rows are the stream {}, which docs/RECOVERY.md gets out of the snapshot: then, in psql,\n\
                 --     \\copy {} FROM '{}'\n",
                stream.name,
                qualified(&table.schema, &table.table).escape_debug(),
                stream.name
            );
        }
    }
    text.push_str("--\n");
    Exceptions { list, script: [text.into_bytes(), statements].concat() }
}
