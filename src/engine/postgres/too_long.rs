//! Rows that the server cannot write as text, and so neither `pg_dump` nor marbre can read: a text, and a row of texts, has less than
//! 1 GiB, and each byte of a `bytea` takes two characters.

use std::time::{Duration, Instant};

use super::connect::{Connector, Session, set_config};
use super::postgres_config::TooLongRows;
use super::quote::ident;
use super::relations::{self, Table};
use super::row::Row;
use super::{rows, table_locks};
use crate::error::{Error, Result};
use crate::model::human;
use crate::model::omission::Omission;

/// The most bytes in a row's text. Source: `MaxAllocSize` in `src/include/utils/memutils.h` of PostgreSQL.
const LIMIT: i64 = (1 << 30) - 1;

/// The most rows that are named.
const NAMED: usize = 3;

/// Whether the server failed because a row is too long for it.
pub(super) fn is_cause(error: &tokio_postgres::Error) -> bool {
    let Some(error) = error.as_db_error() else { return false };
    match error.code().code() {
        // The server's limits: `Cannot enlarge string buffer`.
        "54000" => true,
        // Its internal errors, whose messages are not translated.
        "XX000" => error.message().starts_with("invalid memory alloc request size"),
        _ => false,
    }
}

/// Why a table could not be read, in a session of this snapshot.
pub(super) async fn unread(
    session: &Session,
    table: &Table,
    snapshot: &str,
    error: &tokio_postgres::Error,
) -> Error {
    let failed = session.failed(&format!("read table {}", table.id), error);
    if !is_cause(error) {
        return failed;
    }
    let found = async {
        session.batch("ROLLBACK", "look at a table").await?;
        table_locks::join(session, snapshot).await?;
        rows::refuse_evaluation(session, &table.id).await?;
        find(session, table).await
    };
    match found.await.as_deref() {
        Ok([first, rest @ ..]) => explained(table, first, rest),
        _ => failed.remedy(
            "The server's log says more. Does a row of the table hold values of 1 GiB as text (512 MiB of bytea)? No server can write \
             those, not for pg_dump either. With too_long_rows = \"leave_out\" a snapshot names them, and holds everything else.",
        ),
    }
}

/// Rows are named by their place in the table: their keys are data.
fn explained(table: &Table, (place, column, bytes): &TooLong, rest: &[TooLong]) -> Error {
    let more: Vec<&str> = rest.iter().map(|(place, ..)| place.as_str()).collect();
    let more =
        if more.is_empty() { String::new() } else { format!(", and so are those at {}", more.join(", ")) };
    let cause = format!(
        "the row at ctid {place} is too long, with {} in column {column}{more}: a row's text has less than 1 GiB, and each byte of a \
         bytea takes two characters",
        human::bytes(*bytes)
    );
    let remedy = format!(
        "Keep such values in several rows, or as large objects, which have no such limit; pg_dump cannot read this table either. This \
         finds the row: SELECT … FROM {} WHERE ctid = '{place}'. To save everything else meanwhile, set too_long_rows = \"leave_out\" for \
         the database.",
        table.sql()
    );
    Error::database(format!("table {} has rows that the server cannot write", table.id))
        .cause(cause)
        .remedy(remedy)
}

/// Place, longest column and its bytes.
type TooLong = (String, String, u64);

/// Some rows that are too long.
async fn find(session: &Session, table: &Table) -> Result<Vec<TooLong>> {
    let sql = "SELECT a.attname::text, a.atttypid = 'bytea'::regtype, a.atttypid IN ('text'::regtype, 'varchar'::regtype, 'bpchar'::regtype) \
               FROM pg_attribute a WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped AND a.attlen = -1 \
               AND a.attgenerated = '' ORDER BY a.attnum";
    let columns = session.query(sql, &[&table.oid]).await?;
    // None of these functions reads a value: its length is in the row.
    let length = |row: &Row| {
        let name = ident(&row.get::<_, String>(0));
        match (row.get(1), row.get(2)) {
            (true, _) => (format!("octet_length({name})::int8"), 2),
            (_, true) => (format!("octet_length({name})::int8"), 1),
            _ => (format!("pg_column_size({name})::int8"), 1),
        }
    };
    let lengths: Vec<(String, i64)> = columns.iter().map(length).collect();
    let text = lengths.iter().map(|(length, times)| format!("{times} * COALESCE({length}, 0)"));
    let text = text.collect::<Vec<_>>().join(" + ");
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let all: Vec<&str> = lengths.iter().map(|(length, _)| length.as_str()).collect();
    let sql = format!(
        "SELECT ctid::text, ARRAY[{}] FROM ONLY {} WHERE {text} > {LIMIT} LIMIT {NAMED}",
        all.join(", "),
        table.sql()
    );
    let rows = session.query(&sql, &[]).await?;
    let longest = |row: &Row| {
        let lengths: Vec<Option<i64>> = row.get(1);
        let (column, bytes) = columns.iter().zip(lengths).max_by_key(|(_, bytes)| *bytes)?;
        Some((row.get(0), ident(&column.get::<_, String>(0)), bytes?.unsigned_abs()))
    };
    Ok(rows.iter().filter_map(longest).collect())
}

/// Rows that were left out, and tables of which the rest was.
pub(super) fn omissions(rows: Vec<String>, rests: Vec<String>) -> Vec<Omission> {
    let omission = |kind: &str, names: Vec<String>, why: &str| {
        let remedy = "Keep such values in several rows, or as large objects, which have no such limit. SELECT … WHERE ctid = '…' finds a \
                      row by its place, until somebody changes it.";
        let (kind, why, remedy) = (kind.to_owned(), why.to_owned(), remedy.to_owned());
        (!names.is_empty()).then_some(Omission { kind, names, why, remedy })
    };
    let row = omission(
        "row that is too long",
        rows,
        "the server cannot write them, and pg_dump cannot read them: a row's text has less than 1 GiB, and each byte of a bytea takes two \
         characters (a damaged row can look like that too)",
    );
    let rest = omission(
        "rest of a table with a row that is too long",
        rests,
        "the server cannot write the row that comes next, and what lies after it cannot be read without running code of the database, in an \
         index, statistics or columns with expressions",
    );
    row.into_iter().chain(rest).collect()
}

/// How long looking may take, in all tables together.
const PATIENCE: Duration = Duration::from_secs(10);

/// The fewest bytes that a row of 1 GiB takes beside its table: the server compresses to no less than a 255th.
const SMALLEST: i64 = 2 << 20;

/// What a snapshot would meet.
pub(super) struct Met {
    /// What it would leave out.
    pub omitted: Vec<Omission>,
    /// Tables in which nobody could look.
    pub unseen: usize,
}

/// Looks for rows that are too long before a snapshot meets them. Fails if it would fail because of them. The session is of no use
/// for anything else afterwards. Rows of other types than texts and `bytea` can only be found by writing them.
pub(super) async fn look(connector: &Connector, session: &Session) -> Result<Met> {
    let tables = relations::tables(session, connector.of_extensions()).await?;
    let readable = tables.iter().filter(|table| table.readable && table.has_rows && !table.hidden_rows);
    let oids: Vec<u32> = readable.map(|table| table.oid).collect();
    let sql = "SELECT oid FROM pg_class WHERE oid = ANY ($1) AND reltoastrelid <> 0 AND pg_relation_size(reltoastrelid) > $2";
    let large = session.query(sql, &[&oids, &SMALLEST]).await?;
    let large: Vec<u32> = large.iter().map(|row| row.get(0)).collect();
    let limit = PATIENCE.as_millis().to_string();
    session
        .batch(&set_config([("statement_timeout", limit.as_str())].into_iter()), "set up the session")
        .await?;
    let (mut places, mut unseen, since) = (Vec::new(), 0, Instant::now());
    for table in tables.iter().filter(|table| large.contains(&table.oid)) {
        if since.elapsed() >= PATIENCE || rows::evaluates(session, &table.id).await? {
            unseen += 1;
            continue;
        }
        match (find(session, table).await.as_deref(), connector.too_long_rows()) {
            (Ok([]), _) => {}
            (Ok([first, rest @ ..]), TooLongRows::Fail) => return Err(explained(table, first, rest)),
            (Ok(found), TooLongRows::LeaveOut) => {
                places.extend(found.iter().map(|(place, ..)| format!("{} at ctid {place}", table.id)));
            }
            (Err(_), _) => unseen += 1,
        }
    }
    Ok(Met { omitted: omissions(places, Vec::new()), unseen })
}
