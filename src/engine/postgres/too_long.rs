//! Rows that the server cannot write as text, and so neither `pg_dump` nor marbre can read: a text, and a row of texts, has less than
//! 1 GiB, and each byte of a `bytea` takes two characters.

use super::connect::Session;
use super::quote::ident;
use super::relations::Table;
use super::row::Row;
use super::{rows, table_locks};
use crate::error::{Error, Result};
use crate::model::human;

/// The most bytes in a row's text. Source: `MaxAllocSize` in `src/include/utils/memutils.h` of PostgreSQL.
const LIMIT: i64 = (1 << 30) - 1;

/// The most rows that are named.
const NAMED: usize = 3;

/// Why a table could not be read, in a session of this snapshot.
pub(super) async fn unread(
    session: &Session,
    table: &Table,
    snapshot: &str,
    error: &tokio_postgres::Error,
) -> Error {
    let failed = session.failed(&format!("read table {}", table.id), error);
    // `invalid memory alloc request size` has the code of the server's internal errors, `Cannot enlarge string buffer` that of
    // its limits.
    if !matches!(error.code().map(tokio_postgres::error::SqlState::code), Some("XX000" | "54000")) {
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
             those, not for pg_dump either.",
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
         finds the row: SELECT … FROM {} WHERE ctid = '{place}'.",
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
