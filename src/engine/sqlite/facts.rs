//! What a database says about itself: settings, inventory, consistency point.

use std::collections::BTreeMap;

use rusqlite::Connection;
use serde_json::{Value, json};

/// The settings of a database, read in the read transaction.
#[derive(Debug, Clone)]
pub(super) struct Facts {
    /// Bytes per page.
    pub page_size: u32,
    /// Number of pages.
    pub page_count: u64,
    /// Encoding of its text: UTF-8, UTF-16le or UTF-16be.
    pub encoding: String,
    /// `wal`, `delete`, …
    pub journal_mode: String,
    /// The file change counter of the header; in WAL mode not every transaction counts it up.
    pub change_counter: u32,
    /// Whole numbers by the names of their pragmas.
    numbers: BTreeMap<&'static str, i64>,
}

const NUMBERS: [&str; 5] =
    ["application_id", "auto_vacuum", "freelist_count", "schema_version", "user_version"];

/// Members of the details that a restored database must have too. The journal mode is not one: a file
/// opened without a log has none.
pub(super) const LASTING: [&str; 8] = [
    "application_id",
    "auto_vacuum",
    "encoding",
    "freelist_count",
    "page_count",
    "page_size",
    "schema_version",
    "user_version",
];

impl Facts {
    /// Reads them. Needs an open read transaction.
    pub(super) fn read(connection: &Connection) -> rusqlite::Result<Self> {
        let mut numbers = BTreeMap::new();
        for name in NUMBERS {
            numbers.insert(name, pragma(connection, name)?);
        }
        let page_size: u32 = pragma(connection, "page_size")?;
        // Bytes 24 to 27 of the header. Source: https://www.sqlite.org/fileformat2.html, 1.3.
        let change_counter = connection.query_row(
            "SELECT hex(substr(data, 25, 4)) FROM sqlite_dbpage WHERE pgno = 1",
            [],
            |row| row.get::<_, String>(0),
        )?;
        Ok(Self {
            page_size,
            page_count: page_count(connection)?,
            encoding: pragma(connection, "encoding")?,
            journal_mode: pragma(connection, "journal_mode")?,
            change_counter: u32::from_str_radix(&change_counter, 16).unwrap_or(0),
            numbers,
        })
    }

    /// The facts as they are written to the contents.
    pub(super) fn details(&self) -> Value {
        let mut details = json!({
            "encoding": self.encoding,
            "journal_mode": self.journal_mode,
            "page_count": self.page_count,
            "page_size": self.page_size,
        });
        for (name, number) in &self.numbers {
            details[*name] = json!(number);
        }
        details
    }
}

/// The number of pages in this transaction.
pub(super) fn page_count(connection: &Connection) -> rusqlite::Result<u64> {
    let count: i64 = pragma(connection, "page_count")?;
    Ok(count.unsigned_abs())
}

fn pragma<T: rusqlite::types::FromSql>(connection: &Connection, name: &str) -> rusqlite::Result<T> {
    connection.pragma_query_value(Some("main"), name, |row| row.get(0))
}

/// How many objects of each type there are. `table` counts what is stored as a table, including those in
/// which a virtual table keeps its content; SQLite's own statistics and sequences are left out.
pub(super) fn inventory(connection: &Connection) -> rusqlite::Result<BTreeMap<String, u64>> {
    let mut counted = connection.prepare(
        "SELECT CASE WHEN type = 'table' AND rootpage = 0 THEN 'virtual table' ELSE type END, count(*)
         FROM sqlite_schema WHERE name NOT LIKE 'sqlite\\_%' ESCAPE '\\' GROUP BY 1",
    )?;
    let rows = counted.query_map([], |row| Ok((row.get(0)?, row.get::<_, i64>(1)?.unsigned_abs())))?;
    rows.collect()
}

/// How many foreign keys there are.
pub(super) fn foreign_keys(connection: &Connection) -> rusqlite::Result<u64> {
    let sql = "SELECT count(*) FROM (
         SELECT DISTINCT s.name, f.id FROM sqlite_schema AS s, pragma_foreign_key_list(s.name) AS f
         WHERE s.type = 'table' AND s.rootpage > 0)";
    connection.query_row(sql, [], |row| row.get::<_, i64>(0)).map(i64::unsigned_abs)
}

/// Why SQLite's integrity check cannot run here, if so: the schema uses a collation or a function that only the
/// application has. Compiles the check without running it.
pub(super) fn uncheckable(connection: &Connection) -> Option<String> {
    connection.prepare("PRAGMA main.integrity_check").err().map(|e| super::words::code_and_message(&e).1)
}
