//! What must be known about a source besides its catalogue.

use jiff::Timestamp;

use super::connect::Session;
use super::destination;
use super::globals::Globals;
use super::links::Links;
use super::quote::ident_line;
use super::version::Version;
use crate::engine::postgres::relations::Table;
use crate::error::{Error, Result, ResultExt};
use crate::model::human;

/// The servers of some distributions store data of their own in the options of columns. Only their own `pg_dump` leaves
/// them out; any other writes an archive that no other server accepts.
pub(crate) async fn refuse_foreign_options(session: &Session, tool: Version) -> Result<()> {
    let server = session.version;
    if tool.major == server.major && tool.minor >= server.minor {
        return Ok(());
    }
    let rows = session
        .query(
            "SELECT split_part(o, '=', 1) FROM pg_attribute CROSS JOIN LATERAL unnest(attoptions) o
             WHERE split_part(o, '=', 1) NOT IN ('n_distinct', 'n_distinct_inherited') LIMIT 1",
            &[],
        )
        .await?;
    let Some(row) = rows.first() else {
        return Ok(());
    };
    let option: String = row.get(0);
    Err(Error::preflight(format!(
        "pg_dump {tool} would write the server's own column option {option:?} into the snapshot"
    ))
    .cause("a restore into another server would fail")
    .remedy(format!("Install the client tools {server} of the server's own distribution.")))
}

/// A database whose restore was not completed is no state that anybody wants back.
pub(crate) fn refuse_incomplete(globals: &Globals) -> Result<()> {
    let marked = globals.database.comment.as_deref().and_then(destination::marked);
    let Some(snapshot) = marked else { return Ok(()) };
    let name = &globals.database.name;
    let of = snapshot.map(|snapshot| format!(" of snapshot {snapshot}")).unwrap_or_default();
    Err(Error::preflight(format!("database {} is an incomplete restore{of}", name.escape_debug()))
        .cause("its comment is the mark that a restore of marbre sets first and takes away last")
        .remedy(format!(
            "Restore it again. If you know that it is whole, take the mark away: COMMENT ON DATABASE {} IS NULL",
            ident_line(name)
        )))
}

/// The position of a snapshot in time.
pub(crate) struct Point {
    /// The server's clock.
    pub at: Timestamp,
    /// Position in the write-ahead log.
    pub lsn: String,
    /// The server is a hot standby.
    pub standby: bool,
    /// Its own version text.
    pub version: String,
    /// Which transactions are visible.
    pub visible: String,
}

/// The position of the session's snapshot.
pub(crate) async fn point(session: &Session) -> Result<Point> {
    let rows = session
        .query(
            "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::int8, pg_is_in_recovery(),
                    CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn()
                         ELSE pg_current_wal_lsn() END::text,
                    split_part(current_setting('server_version'), ' ', 1)",
            &[],
        )
        .await?;
    let Some(row) = rows.first() else {
        return Err(Error::internal("the server did not report its clock and position"));
    };
    Ok(Point {
        at: Timestamp::from_microsecond(row.get(0)).or_internal("read the server's clock")?,
        standby: row.get(1),
        lsn: row.get::<_, Option<String>>(2).unwrap_or_default(),
        version: row.get(3),
        visible: visible(session).await?,
    })
}

/// Which transactions the session's snapshot sees.
pub(crate) async fn visible(session: &Session) -> Result<String> {
    let rows = session.query("SELECT txid_current_snapshot()::text", &[]).await?;
    Ok(rows.first().map(|row| row.get(0)).unwrap_or_default())
}

/// What people should know about this source.
pub(crate) async fn warnings(
    session: &Session,
    tables: &[Table],
    standby: bool,
    globals: &Globals,
    links: &Links,
) -> Result<Vec<String>> {
    let mut warnings = Vec::new();
    let count = |test: fn(&Table) -> bool| tables.iter().filter(|t| t.has_rows && test(t)).count();
    let unlogged = count(|t| t.unlogged);
    if unlogged > 0 && standby {
        let names: Vec<String> = tables
            .iter()
            .filter(|table| table.has_rows && table.unlogged)
            .map(|table| table.id.to_string())
            .collect();
        warnings.push(format!(
            "{unlogged} unlogged tables come back without rows, because a standby does not have them: {}",
            human::first_few(&names, 5)
        ));
    } else if unlogged > 0 {
        warnings.push(format!(
            "{unlogged} unlogged tables were read; they are empty after a crash of the server"
        ));
    }
    let other = count(|t| t.method != "heap");
    if other > 0 {
        warnings.push(format!(
            "{other} tables have an access method other than heap: the destination needs it too"
        ));
    }
    if !globals.passwords {
        warnings.push("password hashes of roles could not be read: set passwords after a restore".into());
    }
    let rows = session.query("SELECT count(*) FROM pg_foreign_table", &[]).await?;
    let foreign: i64 = rows.first().map_or(0, |row| row.get(0));
    if foreign > 0 {
        warnings.push(format!(
            "{foreign} foreign tables: their definitions are kept, their rows are stored elsewhere"
        ));
    }
    if !links.subscriptions.is_empty() {
        let names = links.subscriptions.iter().map(|s| s.name.escape_debug().to_string()).collect::<Vec<_>>();
        warnings.push(format!(
            "{} subscriptions come back disabled: {}",
            names.len(),
            human::first_few(&names, 10)
        ));
    }
    Ok(warnings)
}
