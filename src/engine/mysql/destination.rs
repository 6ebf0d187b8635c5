//! The database that a restore goes into: what it holds, making it, marking it.

use tokio_util::sync::CancellationToken;

use super::connect::Connector;
use super::details::{self, Details};
use super::inventory;
use super::mark::MARK;
use super::quote::{ident, literal, qualified};
use super::session::Session;
use crate::engine::Destination;
use crate::error::{Error, Result};
use crate::model::id::SnapshotId;
use crate::model::stream::Contents;

/// What the destination holds.
pub(super) async fn state(server: &mut Session, database: &str) -> Result<Destination> {
    let name = literal(database);
    let there = format!("SELECT 1 FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = {name}");
    if server.value(&there, "look for the database").await?.is_none() {
        return Ok(Destination::Absent);
    }
    let mark = format!(
        "SELECT TABLE_COMMENT FROM information_schema.TABLES WHERE TABLE_SCHEMA = {name} AND TABLE_NAME = {}",
        literal(MARK)
    );
    if let Some(snapshot) = server.value(&mark, "look for the mark of a restore").await? {
        return Ok(Destination::Incomplete(snapshot.parse().ok()));
    }
    let inventory = inventory::count(server, database).await?;
    if inventory.is_empty() {
        return Ok(Destination::Empty);
    }
    let number = |name: &str| inventory.get(name).copied().unwrap_or(0);
    Ok(Destination::Occupied(format!(
        "{} tables, {} views, {} functions and procedures",
        number("table"),
        number("view"),
        number("function") + number("procedure")
    )))
}

/// Fails if a restore cannot work: an older server, or one that does not take rows.
pub(super) async fn refuse(server: &mut Session, contents: &Contents, details: &Details) -> Result<()> {
    let (was, is) = (details::version(contents)?, server.version());
    if is.series() < was.series() {
        return Err(Error::preflight(format!(
            "the destination's server {is} is older than the snapshot's, which was {was}"
        ))
        .remedy(format!("Restore into a server of version {}.{} or later.", was.major, was.minor)));
    }
    let local = server.value("SELECT @@GLOBAL.local_infile", "ask for a setting").await?;
    if local.as_deref() == Some("0") {
        return Err(Error::preflight("the destination's server takes no rows: its local_infile is off")
            .remedy("Let its administrator run SET GLOBAL local_infile = 1 for the time of the restore."));
    }
    let case =
        server.value("SELECT @@lower_case_table_names", "ask for a setting").await?.unwrap_or_default();
    let (from, to) = (details.lower_case == "0", case == "0");
    let mixed = details.definitions.iter().any(|d| d.name.to_lowercase() != d.name);
    if from && !to && mixed {
        return Err(Error::preflight(
            "the destination's server writes names in small letters, and the snapshot has others",
        )
        .cause(format!(
            "lower_case_table_names is {case} there, and was {} at the source",
            details.lower_case
        ))
        .remedy("Restore into a server with lower_case_table_names = 0."));
    }
    Ok(())
}

/// Makes an empty database with the mark. What an interrupted restore left is dropped.
pub(super) async fn prepare(
    connector: &Connector,
    contents: &Contents,
    details: &Details,
    overwrite: bool,
    cancel: &CancellationToken,
) -> Result<()> {
    let mut server = connector.connect_to_server(cancel).await?;
    refuse(&mut server, contents, details).await?;
    let database = connector.database();
    let name = ident(database);
    match state(&mut server, database).await? {
        Destination::Occupied(what) => return Err(occupied(database, &what, overwrite)),
        Destination::Incomplete(_) => {
            server.run(&format!("DROP DATABASE {name}"), "drop what an interrupted restore left").await?;
        }
        Destination::Absent | Destination::Empty => {}
    }
    let properties =
        format!("CHARACTER SET {} COLLATE {}", word(&details.charset)?, word(&details.collation)?);
    server.run(&format!("CREATE DATABASE IF NOT EXISTS {name}"), "make the database").await?;
    server.run(&format!("ALTER DATABASE {name} {properties}"), "set the database's character set").await?;
    mark(&mut server, database, &contents.snapshot).await
}

fn occupied(database: &str, what: &str, overwrite: bool) -> Error {
    let error = Error::preflight(format!("database {} is not empty: {what}", database.escape_debug()));
    match overwrite {
        // Neither server can rename a database, so nothing can be put in its place in one step.
        true => error.cause("marbre does not replace a MariaDB or MySQL database").remedy(
            "Restore into a new database, look at it, and let the application use that; or drop this one yourself first.",
        ),
        false => error.remedy("Name another database: one that is not there, or is empty."),
    }
}

async fn mark(server: &mut Session, database: &str, snapshot: &SnapshotId) -> Result<()> {
    let sql = format!("CREATE TABLE {} (marbre int) COMMENT = '{snapshot}'", qualified(database, MARK));
    server.run(&sql, "mark the database as incomplete").await.map(drop)
}

/// Takes the mark away.
pub(super) async fn unmark(session: &mut Session, database: &str) -> Result<()> {
    session
        .run(&format!("DROP TABLE {}", qualified(database, MARK)), "take the mark from the database")
        .await
        .map(drop)
}

/// A character set or collation of a manifest: a word, and nothing else.
fn word(text: &str) -> Result<&str> {
    let is_word = !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    is_word.then_some(text).ok_or_else(|| Error::verification("the manifest's character set is not a word"))
}
