//! The database that a restore goes into: what it holds, creating it, marking it.

use tokio_util::sync::CancellationToken;

use super::connect::{Connector, Session};
use super::database_properties::Database;
use super::details::{self, Details};
use super::event_triggers;
use super::quote::{ident, literal};
use super::version::Version;
use crate::engine::Destination;
use crate::error::{Error, ErrorKind, Result};
use crate::model::human;
use crate::model::id::SnapshotId;

/// The beginning of the comment of a database whose restore is not complete.
const MARK: &str = "marbre: INCOMPLETE restore of ";

/// The comment of a database while it is being loaded.
pub(crate) fn mark(snapshot: &SnapshotId) -> String {
    format!("{MARK}{snapshot}; do not use this database, restore it again")
}

/// The snapshot that a comment is the mark of, where it is one.
pub(super) fn marked(comment: &str) -> Option<Option<SnapshotId>> {
    let rest = comment.strip_prefix(MARK)?;
    Some(rest.split(';').next().and_then(|id| id.parse().ok()))
}

/// The destination's server, and the database if it exists.
pub(super) struct Place {
    /// A session in another database of the server.
    pub server: Session,
    /// A session in the database itself.
    pub database: Option<Session>,
}

/// Connects to the server, and to the database if it exists.
pub(crate) async fn connect(connector: &Connector, cancel: &CancellationToken) -> Result<Place> {
    let database = match connector.connect(cancel).await {
        Ok(session) => Some(session),
        Err(e) if e.kind() == ErrorKind::NotFound => None,
        Err(e) => return Err(e),
    };
    Ok(Place { server: maintenance(connector, cancel).await?, database })
}

/// A session in another database of the server: a database cannot be dropped or renamed from within.
pub(super) async fn maintenance(connector: &Connector, cancel: &CancellationToken) -> Result<Session> {
    if connector.database() != "postgres" {
        match connector.with_database("postgres").connect(cancel).await {
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            connected => return connected,
        }
    }
    connector.with_database("template1").connect(cancel).await
}

/// What the database holds.
pub(crate) async fn state(database: Option<&Session>) -> Result<Destination> {
    let Some(session) = database else {
        return Ok(Destination::Absent);
    };
    let rows = session
        .query(
            "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = current_database()",
            &[],
        )
        .await?;
    let comment: Option<String> = rows.first().and_then(|row| row.get(0));
    if let Some(snapshot) = comment.as_deref().and_then(marked) {
        return Ok(Destination::Incomplete(snapshot));
    }
    let inventory = super::inventory::count(session).await?;
    let number = |name: &str| inventory.get(name).copied().unwrap_or(0);
    // A new database has the schema `public` and the extension `plpgsql`, whose grants count too.
    let born_with = ["schema", "extension", "grant", "comment", "security label"];
    let made = |name: &&String| !born_with.contains(&name.as_str());
    let occupied = inventory.keys().find(made).is_some() || number("schema") > 1 || number("extension") > 1;
    if !occupied {
        return Ok(Destination::Empty);
    }
    Ok(Destination::Occupied(format!(
        "{} tables, {} views, {} functions in {} schemas",
        number("table") + number("partitioned table"),
        number("view") + number("materialized view"),
        number("function") + number("procedure"),
        number("schema")
    )))
}

/// Fails if a restore cannot work: an older server, missing extensions.
pub(crate) async fn refuse(server: &Session, details: &Details) -> Result<()> {
    let Version { major, .. } = server.version;
    if major < details.server_major {
        return Err(Error::preflight(format!(
            "server {} is older than the snapshot's, which was {}",
            server.version, details.server_major
        ))
        .remedy(format!("Restore into a server of PostgreSQL {} or newer.", details.server_major)));
    }
    let rows = server.query("SELECT name::text FROM pg_available_extensions", &[]).await?;
    let available: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    let missing: Vec<&str> = details
        .extensions
        .iter()
        .map(|extension| extension.name.as_str())
        .filter(|name| !available.iter().any(|a| a == name))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(Error::preflight(format!("the destination server lacks extensions: {}", missing.join(", ")))
        .remedy("Install their packages (such as postgresql-contrib) on the destination server."))
}

/// What people should know of event triggers that have fired for the sessions of a user who may not switch them off.
pub(super) async fn fired(connector: &Connector, session: &Session) -> Result<Option<String>> {
    if session.version.major < event_triggers::SINCE || connector.without_event_triggers() {
        return Ok(None);
    }
    let sql = "SELECT evtname::text, current_database()::text FROM pg_event_trigger \
               WHERE evtevent = 'login' AND evtenabled IN ('O', 'A') ORDER BY 1";
    let found = session.query(sql, &[]).await?;
    let Some(first) = found.first() else { return Ok(None) };
    let names: Vec<String> = found.iter().map(|row| row.get(0)).collect();
    Ok(Some(format!(
        "login event triggers of database {} fire for marbre's sessions ({}), because {} may not switch them off: a superuser can run \
         ALTER ROLE … {}",
        first.get::<_, String>(1).escape_debug(),
        human::first_few(&names, 3).escape_debug(),
        connector.user().escape_debug(),
        event_triggers::OFF_FOR_ROLE
    )))
}

/// Drops subscriptions, which keep a database from being dropped. The slots at their publishers are left alone:
/// a restored subscription names the slot of the database that was backed up.
pub(crate) async fn drop_subscriptions(session: &Session, warnings: &mut Vec<String>) -> Result<()> {
    let rows = session
        .query(
            "SELECT subname::text, subslotname::text FROM pg_subscription
             WHERE subdbid = (SELECT oid FROM pg_database WHERE datname = current_database()) ORDER BY 1",
            &[],
        )
        .await?;
    if rows.is_empty() {
        return Ok(());
    }
    let triggers =
        session.query("SELECT evtname::text FROM pg_event_trigger WHERE evtenabled <> 'D'", &[]).await?;
    // They could refuse it.
    let mut sql: String = triggers
        .iter()
        .map(|row| format!("ALTER EVENT TRIGGER {} DISABLE;\n", ident(&row.get::<_, String>(0))))
        .collect();
    for row in rows {
        let (name, slot): (String, Option<String>) = (row.get(0), row.get(1));
        let subscription = ident(&name);
        sql += &format!(
            "ALTER SUBSCRIPTION {subscription} DISABLE;
             ALTER SUBSCRIPTION {subscription} SET (slot_name = NONE);
             DROP SUBSCRIPTION {subscription};\n"
        );
        if let Some(slot) = slot {
            warnings.push(format!(
                "subscription {} was dropped with the old database; if nothing else uses its replication slot {} at \
                 its publisher, drop that too",
                name.escape_debug(),
                slot.escape_debug()
            ));
        }
    }
    session.batch(&sql, "drop the subscriptions of the old database").await
}

/// Drops the database, even if somebody is connected to it.
pub(crate) async fn drop_database(server: &Session, name: &str) -> Result<()> {
    let operation = format!("drop database {}", name.escape_debug());
    if server.version.major >= 13 {
        let sql = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", ident(name));
        return server.batch(&sql, &operation).await;
    }
    let sql =
        format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = {}", literal(name));
    server.batch(&sql, &operation).await?;
    server.batch(&format!("DROP DATABASE IF EXISTS {}", ident(name)), &operation).await
}

/// Creates the database as its source was. A locale that this server does not know becomes `C`, with a warning.
pub(crate) async fn create(
    server: &Session,
    name: &str,
    source: &Database,
    warnings: &mut Vec<String>,
) -> Result<()> {
    let major = server.version.major;
    let wanted = server.client.batch_execute(&source.create(name, major, true)).await;
    let Err(error) = wanted else { return Ok(()) };
    let operation = format!("create database {}", name.escape_debug());
    match error.code().map(tokio_postgres::error::SqlState::code) {
        // Another locale would not help: not allowed; exists, template in use, or no answer of the server at all.
        Some("42501") => {
            return Err(server
                .failed(&operation, &error)
                .remedy("Give the user CREATEDB, or create the database and restore into it."));
        }
        Some("42P04" | "55006") | None => return Err(server.failed(&operation, &error)),
        Some(_) => {}
    }
    server.batch(&source.create(name, major, false), &operation).await?;
    warnings.push(format!(
        "the database was created with locale C, not with {} ({}): text sorts differently",
        source.locale.as_ref().unwrap_or(&source.collate),
        server.cause(&error)
    ));
    Ok(())
}

/// Removes what a new database contains and the source did not.
pub(crate) async fn strip(session: &Session, details: &Details) -> Result<()> {
    if !details.public_schema {
        session.batch("DROP SCHEMA IF EXISTS public", "drop the schema public").await?;
    }
    for extension in details::extensions(session).await? {
        if !details.extensions.iter().any(|e| e.name == extension.name) {
            let sql = format!("DROP EXTENSION {}", ident(&extension.name));
            session.batch(&sql, "drop an extension").await?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_recognized() {
        let id: SnapshotId = "20261122T020000Z-1f3a9c4e".parse().unwrap();
        assert_eq!(marked(&mark(&id)), Some(Some(id)));
        assert_eq!(marked("marbre: INCOMPLETE restore of ?"), Some(None));
        assert_eq!(marked("our subscribers"), None);
    }
}
