//! Hashes rows with long values. SQLite holds each value that it hands over in memory as a whole; through a blob handle
//! it can be read in pieces.

use rusqlite::types::ValueRef;
use rusqlite::{Connection, Row, Statement, ToSql};

use super::digest::{Hasher, TAG_BLOB, TAG_TEXT};
use super::tables::{Table, quoted};

/// Values of up to so many bytes, and rows of so many in all, are handed over by SQLite.
pub(super) const LONGEST: i32 = 8 << 20;

/// Bytes read of a long value at a time.
const PIECE: usize = 1 << 20;

/// The most columns of a table whose values can be read in pieces: SQLite's statements have up to 2,000 columns.
const MOST_COLUMNS: usize = 600;

/// The rows of one table that have long values.
pub(super) struct LongRows<'a> {
    connection: &'a Connection,
    table: &'a Table,
    /// What its rowid is called.
    rowid: &'static str,
    /// Text is stored in the form in which it is hashed.
    utf8: bool,
}

impl<'a> LongRows<'a> {
    /// `None` where there is no way to read them in pieces.
    pub(super) fn of(
        connection: &'a Connection,
        table: &'a Table,
        rowid: Option<&'static str>,
    ) -> rusqlite::Result<Option<Self>> {
        let Some(rowid) = rowid.filter(|_| table.columns.len() <= MOST_COLUMNS) else { return Ok(None) };
        let encoding: String = connection.pragma_query_value(Some("main"), "encoding", |row| row.get(0))?;
        Ok(Some(Self { connection, table, rowid, utf8: encoding == "UTF-8" }))
    }

    /// The part of `condition` that selects all other rows. Does not make SQLite read a value.
    pub(super) fn others(&self, condition: &str) -> String {
        self.sized(condition, "<=")
    }

    fn sized(&self, condition: &str, compared: &str) -> String {
        let lengths =
            self.table.columns.iter().map(|name| format!("coalesce(octet_length({}), 0)", quoted(name)));
        let length = lengths.collect::<Vec<_>>().join(" + ");
        let word = if condition.is_empty() { " WHERE" } else { " AND" };
        format!("{condition}{word} ({length}) {compared} {LONGEST}")
    }

    /// Hashes the long rows that `condition` selects.
    pub(super) fn hash(&self, condition: &str, hasher: &mut Hasher) -> rusqlite::Result<()> {
        // Text in another encoding is handed over as a whole, since SQLite must convert it.
        let whole = if self.utf8 { "" } else { " OR typeof({}) = 'text'" };
        let columns = self.table.columns.iter().map(|name| {
            let name = quoted(name);
            let whole = whole.replace("{}", &name);
            format!(
                "octet_length({name}), typeof({name}) = 'text', \
                 CASE WHEN coalesce(octet_length({name}), 0) <= {PIECE}{whole} THEN {name} END"
            )
        });
        let sql = format!(
            "SELECT {}, {} FROM main.{} NOT INDEXED{}",
            self.rowid,
            columns.collect::<Vec<_>>().join(", "),
            quoted(&self.table.name),
            self.sized(condition, ">")
        );
        let mut statement = self.connection.prepare(&sql)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let rowid: i64 = row.get(0)?;
            for (column, name) in self.table.columns.iter().enumerate() {
                self.value(row, rowid, (column, name), hasher)?;
            }
            hasher.end_row();
        }
        Ok(())
    }

    fn value(
        &self,
        row: &Row<'_>,
        rowid: i64,
        (column, name): (usize, &str),
        hasher: &mut Hasher,
    ) -> rusqlite::Result<()> {
        let length: Option<i64> = row.get(1 + 3 * column)?;
        let value = row.get_ref(3 + 3 * column)?;
        let Some(length) = length.filter(|_| value == ValueRef::Null) else {
            hasher.value(column, value);
            return Ok(());
        };
        let Ok(blob) = self.connection.blob_open("main", self.table.name.as_str(), name, rowid, true) else {
            // Beside generated columns there are no blob handles.
            let sql = format!(
                "SELECT {} FROM main.{} NOT INDEXED WHERE {} = ?1",
                quoted(name),
                quoted(&self.table.name),
                self.rowid
            );
            let mut statement = self.connection.prepare(&sql)?;
            return one(&mut statement, &[&rowid], |value| hasher.value(column, value));
        };
        let tag = if row.get(2 + 3 * column)? { TAG_TEXT } else { TAG_BLOB };
        hasher.begin_sized(column, tag, length.unsigned_abs());
        let mut piece = vec![0; PIECE];
        let (mut at, end) = (0, length.unsigned_abs() as usize);
        while at < end {
            let piece = &mut piece[..PIECE.min(end - at)];
            blob.read_at_exact(piece, at)?;
            hasher.bytes(piece);
            at += piece.len();
        }
        Ok(())
    }
}

fn one(
    statement: &mut Statement<'_>,
    params: &[&dyn ToSql],
    take: impl FnOnce(ValueRef<'_>),
) -> rusqlite::Result<()> {
    statement.query_row(params, |row| {
        take(row.get_ref(0)?);
        Ok(())
    })
}
