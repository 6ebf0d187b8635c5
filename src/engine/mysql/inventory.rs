//! How many objects of each type a database has.

use std::collections::BTreeMap;

use super::quote::literal;
use super::session::Session;
use crate::error::Result;

/// What is counted: its name, the view of `information_schema`, the column that names the database, and what is counted there.
const TYPES: [(&str, &str, &str, &str); 11] = [
    (
        "table",
        "TABLES",
        "TABLE_SCHEMA",
        "CASE WHEN TABLE_TYPE IN ('BASE TABLE', 'SYSTEM VERSIONED') THEN TABLE_NAME END",
    ),
    ("sequence", "TABLES", "TABLE_SCHEMA", "CASE WHEN TABLE_TYPE = 'SEQUENCE' THEN TABLE_NAME END"),
    ("view", "VIEWS", "TABLE_SCHEMA", "TABLE_NAME"),
    ("index", "STATISTICS", "TABLE_SCHEMA", "TABLE_NAME, INDEX_NAME"),
    ("foreign key", "REFERENTIAL_CONSTRAINTS", "CONSTRAINT_SCHEMA", "TABLE_NAME, CONSTRAINT_NAME"),
    ("check", "CHECK_CONSTRAINTS", "CONSTRAINT_SCHEMA", "CONSTRAINT_NAME"),
    (
        "partition",
        "PARTITIONS",
        "TABLE_SCHEMA",
        "CASE WHEN PARTITION_NAME IS NOT NULL THEN TABLE_NAME END, PARTITION_NAME, COALESCE(SUBPARTITION_NAME, '')",
    ),
    ("trigger", "TRIGGERS", "TRIGGER_SCHEMA", "TRIGGER_NAME"),
    ("event", "EVENTS", "EVENT_SCHEMA", "EVENT_NAME"),
    ("function", "ROUTINES", "ROUTINE_SCHEMA", "CASE WHEN ROUTINE_TYPE = 'FUNCTION' THEN ROUTINE_NAME END"),
    (
        "procedure",
        "ROUTINES",
        "ROUTINE_SCHEMA",
        "CASE WHEN ROUTINE_TYPE <> 'FUNCTION' THEN ROUTINE_NAME END, ROUTINE_TYPE",
    ),
];

/// The numbers, without those that are zero. The mark of a restore is not counted.
pub(super) async fn count(session: &mut Session, database: &str) -> Result<BTreeMap<String, u64>> {
    let mut all = BTreeMap::new();
    for (name, view, schema, what) in TYPES {
        let mark = match view {
            "TABLES" | "STATISTICS" => {
                format!(" AND TABLE_NAME <> {}", literal(super::mark::MARK))
            }
            _ => String::new(),
        };
        let sql = format!(
            "SELECT COUNT(DISTINCT {what}) FROM information_schema.{view} WHERE {schema} = {}{mark}",
            literal(database)
        );
        let number = session.value(&sql, "count the objects of the database").await?;
        let number = number.and_then(|text| text.parse().ok()).unwrap_or(0);
        if number > 0 {
            all.insert(name.to_owned(), number);
        }
    }
    Ok(all)
}
