//! Runs the owner's queries on a restored copy of a database.

use std::path::Path;
use std::time::Duration;

use rusqlite::hooks::{AuthAction, AuthContext, Authorization};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, ErrorCode};
use tokio_util::sync::CancellationToken;

use super::connection::{Reader, failed, open_still};
use super::words::of_query;
use crate::error::{Error, Result};
use crate::model::human;

/// Read-only pragmas with an argument. Queries use them as functions, e.g. `pragma_table_info('t')`.
const READ_ONLY_WITH_ARGUMENT: [&str; 10] = [
    "foreign_key_check",
    "foreign_key_list",
    "index_info",
    "index_list",
    "index_xinfo",
    "integrity_check",
    "quick_check",
    "table_info",
    "table_list",
    "table_xinfo",
];

/// Pragmas that are read-only as long as no value is given. Full-text indexes need `data_version`.
const READ_ONLY_WITHOUT_VALUE: [&str; 8] = [
    "application_id",
    "data_version",
    "encoding",
    "freelist_count",
    "page_count",
    "page_size",
    "schema_version",
    "user_version",
];

/// Runs one query on a database that nobody else uses. See [`crate::engine::scratch::Scratch::query`].
pub(super) async fn ask(
    path: &Path,
    sql: &str,
    timeout: Duration,
    cancel: &CancellationToken,
) -> Result<Option<String>> {
    let mut connection = open_still(path)?;
    connection.authorizer(Some(authorize)).map_err(|e| failed(path, "open", e))?;
    let (sql, stop) = (sql.to_owned(), cancel.child_token());
    let reader = Reader::new(connection);
    let asked = reader.run(&stop, move |connection, _| answer(connection, &sql));
    tokio::pin!(asked);
    tokio::select! {
        answer = &mut asked => answer,
        () = tokio::time::sleep(timeout) => {
            stop.cancel();
            // The statement is interrupted; its error does not matter.
            let _ = asked.await;
            if cancel.is_cancelled() {
                return Err(Error::interrupted());
            }
            let limit = human::duration(timeout.as_secs_f64());
            Err(Error::database(format!("the query took longer than {limit}"))
                .remedy("Make it cheaper, or give it more time."))
        }
    }
}

fn answer(connection: &Connection, sql: &str) -> Result<Option<String>> {
    let refused = |e| refused(e, sql);
    let mut statement = connection.prepare(sql).map_err(refused)?;
    if !statement.readonly() {
        return Err(not_one("it writes"));
    }
    match statement.column_count() {
        1 => {}
        columns => return Err(not_one(format!("its answer has {columns} columns"))),
    }
    let mut rows = statement.query([]).map_err(refused)?;
    let row = rows.next().map_err(refused)?.ok_or_else(|| not_one("its answer has no row"))?;
    let answer = text(connection, row.get_ref(0).map_err(refused)?, sql)?;
    if rows.next().map_err(refused)?.is_some() {
        return Err(not_one("its answer has more than one row"));
    }
    Ok(answer)
}

/// A value as SQLite prints it.
fn text(connection: &Connection, value: ValueRef<'_>, sql: &str) -> Result<Option<String>> {
    match value {
        ValueRef::Null => Ok(None),
        ValueRef::Integer(number) => Ok(Some(number.to_string())),
        ValueRef::Real(number) => {
            let printed = connection.query_row("SELECT CAST(?1 AS TEXT)", [number], |row| row.get(0));
            printed.map(Some).map_err(|e| refused(e, sql))
        }
        ValueRef::Text(text) => match std::str::from_utf8(text) {
            Ok(text) => Ok(Some(text.to_owned())),
            Err(_) => Err(not_one("its answer is not valid text")),
        },
        ValueRef::Blob(_) => Err(not_one("its answer is a blob").remedy("Select hex(…) or length(…) of it.")),
    }
}

/// What queries may do. Writing is allowed here, because the modules of virtual tables prepare such statements even for
/// reading; queries that write are refused before they run, and the file is open read-only.
fn authorize(asked: AuthContext<'_>) -> Authorization {
    let allowed = match asked.action {
        AuthAction::Select | AuthAction::Read { .. } | AuthAction::Recursive => true,
        AuthAction::Function { function_name } => !function_name.eq_ignore_ascii_case("load_extension"),
        AuthAction::Insert { .. } | AuthAction::Update { .. } | AuthAction::Delete { .. } => true,
        AuthAction::Pragma { pragma_name, pragma_value } => {
            let among = |names: &[&str]| names.iter().any(|name| pragma_name.eq_ignore_ascii_case(name));
            among(&READ_ONLY_WITH_ARGUMENT) || among(&READ_ONLY_WITHOUT_VALUE) && pragma_value.is_none()
        }
        _ => false,
    };
    if allowed { Authorization::Allow } else { Authorization::Deny }
}

fn refused(error: rusqlite::Error, sql: &str) -> Error {
    if matches!(error, rusqlite::Error::MultipleStatement) {
        return not_one("it is more than one statement");
    }
    let (code, message) = of_query(&error, sql);
    match code.map(|c| c.code) {
        Some(ErrorCode::OperationInterrupted) => Error::interrupted(),
        Some(ErrorCode::AuthorizationForStatementDenied) => not_one(message),
        _ => Error::database("SQLite could not answer the query")
            .cause(message)
            .remedy("Try the query on the database itself."),
    }
}

fn not_one(why: impl Into<String>) -> Error {
    Error::database("the query does not read one value")
        .cause(why.into())
        .remedy("Write one SELECT whose answer is one row of one column.")
}
