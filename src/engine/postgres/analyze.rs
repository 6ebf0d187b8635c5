//! Statistics of a loaded database.

use tokio_util::sync::CancellationToken;

use super::connect::Session;
use super::quote::qualified;
use super::relations::OWN_SCHEMA;
use super::server_error::ends_a_session;
use super::session_settings::{SEARCH_PATH, SessionSettings, set_path};
use crate::error::{Error, Result};
use crate::model::human;
use crate::model::table::TableId;

/// Collects statistics of all tables. A table of which that fails, as of a partition that lies on another server, costs the others
/// nothing. The expressions of an index, which the server evaluates as the table's owner, may need the search path of the
/// source. Those of `without` are left out. Returns what people should know.
pub(crate) async fn analyze(
    session: &Session,
    source: &SessionSettings,
    without: &[TableId],
    cancel: &CancellationToken,
) -> Result<Option<String>> {
    if without.is_empty() {
        let Err(error) = run(session, "ANALYZE", cancel).await? else { return Ok(None) };
        if ends_a_session(&error) {
            return Err(session.failed("analyze the database", &error));
        }
    }
    let sql = format!(
        "SELECT n.nspname::text, c.relname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE c.relkind IN ('r', 'm', 'p') AND {OWN_SCHEMA} ORDER BY 1, 2"
    );
    let tables = session.query(&sql, &[]).await?;
    let path = source.get(SEARCH_PATH).map_or("", String::as_str);
    session.batch(&set_path(path), "set the search path").await?;
    let mut failed = Vec::new();
    for row in tables {
        let table = TableId { schema: row.get(0), table: row.get(1) };
        if without.contains(&table) {
            continue;
        }
        let table = qualified(&table.schema, &table.table);
        if let Err(error) = run(session, &format!("ANALYZE {table}"), cancel).await? {
            if ends_a_session(&error) {
                return Err(session.failed("analyze the database", &error));
            }
            failed.push(format!("{table} ({})", session.cause(&error)));
        }
    }
    session.batch(&set_path(""), "set the search path").await?;
    Ok((!failed.is_empty()).then(|| {
        format!(
            "statistics could not be collected of {}: queries on them may be slow",
            human::first_few(&failed, 5)
        )
    }))
}

/// The outcome of a statement, unless the run is cancelled.
async fn run(
    session: &Session,
    sql: &str,
    cancel: &CancellationToken,
) -> Result<std::result::Result<(), tokio_postgres::Error>> {
    tokio::select! {
        biased;
        () = cancel.cancelled() => Err(Error::interrupted()),
        done = session.client.batch_execute(sql) => Ok(done),
    }
}
