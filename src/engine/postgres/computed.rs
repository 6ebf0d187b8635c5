//! Rows that the server computes and nobody loads: those of materialized views, and the values of stored generated columns. A restore
//! computes them anew, with what computes them today.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::connect::Session;
use super::quote::{idents, qualified};
use super::rows;
use crate::engine::postgres::relations::OWN_SCHEMA;
use crate::error::Result;
use crate::model::table::TableId;

/// What was computed of one relation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Computed {
    /// The materialized view, or the table with generated columns.
    #[serde(flatten)]
    pub table: TableId,
    /// Its computed columns.
    pub columns: Vec<String>,
    /// It is a materialized view.
    pub view: bool,
    /// Number of rows, and a sum of hashes of the values; `None` if they could not be read.
    pub found: Option<(i64, String)>,
}

/// Materialized views with rows, and tables with generated columns that call functions of users or extensions: only those can have
/// changed since.
const RELATIONS: &str = "
SELECT n.nspname::text, c.relname::text, c.relkind = 'm',
  ARRAY(SELECT a.attname::text FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    AND (c.relkind = 'm' OR a.attgenerated = 's') ORDER BY a.attnum),
  COALESCE(has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT')
    AND NOT row_security_active(c.oid), false)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relpersistence <> 't' AND {own_schema}
  AND ((c.relkind = 'm' AND c.relispopulated) OR (c.relkind = 'r' AND EXISTS (
    SELECT FROM pg_attribute a JOIN pg_attrdef f ON f.adrelid = a.attrelid AND f.adnum = a.attnum
    JOIN pg_depend d ON d.classid = 'pg_attrdef'::regclass AND d.objid = f.oid
      AND d.refclassid IN ('pg_proc'::regclass, 'pg_operator'::regclass)
    WHERE a.attrelid = c.oid AND a.attgenerated = 's')))
  AND NOT EXISTS (SELECT FROM pg_depend e WHERE e.classid = 'pg_class'::regclass AND e.objid = c.oid AND e.deptype = 'e')
ORDER BY 1, 2";

/// Reads them all, in the transaction that the session is in. What cannot be read, because looking would run code of the database, a
/// right is missing or the relation is locked, says so.
pub(crate) async fn read(session: &Session) -> Result<Vec<Computed>> {
    let found = session.query(&RELATIONS.replace("{own_schema}", OWN_SCHEMA), &[]).await?;
    let mut computed = Vec::new();
    for row in found {
        let mut of = Computed {
            table: TableId { schema: row.get(0), table: row.get(1) },
            view: row.get(2),
            columns: row.get(3),
            found: None,
        };
        if row.get(4) {
            session.batch("SAVEPOINT computed", "begin a transaction").await?;
            // No code of the database may run with our rights.
            if let Ok(false) = rows::evaluates(session, &of.table).await {
                of.found = digest(session, &of).await.ok();
            }
            session.batch("ROLLBACK TO computed; RELEASE computed", "end a transaction").await?;
        }
        computed.push(of);
    }
    Ok(computed)
}

async fn digest(session: &Session, of: &Computed) -> Result<(i64, String)> {
    let sql = format!(
        "SELECT count(*), COALESCE(sum(hashtextextended(ROW({})::text, 0)::numeric), 0)::text FROM ONLY {}",
        idents(&of.columns),
        qualified(&of.table.schema, &of.table.table)
    );
    let rows = session.query(&sql, &[]).await?;
    Ok(rows.first().map(|row| (row.get(0), row.get(1))).unwrap_or_default())
}

/// What differs, in words: generated columns, and what is no more than could be expected or could not be compared. A materialized view
/// need not have been up to date in the source, so other rows are no error; whether it computes the same is told by its definition.
pub(crate) fn differences(was: &[Computed], is: &[Computed]) -> (Vec<String>, Vec<String>) {
    let here: BTreeMap<&TableId, &Computed> = is.iter().map(|computed| (&computed.table, computed)).collect();
    let (mut differences, mut excused) = (Vec::new(), Vec::new());
    for was in was {
        let table = &was.table;
        // What is missing is told by its definition.
        let Some(is) = here.get(table) else { continue };
        let kind = if was.view { "rows of materialized view" } else { "generated columns of table" };
        match (&was.found, &is.found) {
            (Some(was), Some(is)) if was == is => {}
            (Some((expected, _)), Some((rows, _))) if was.view => excused.push(format!(
                "materialized view {table} was computed anew and differs from that of the source: {rows} rows here, {expected} there"
            )),
            // The number of rows is compared with the table.
            (Some(_), Some(_)) => differences.push(format!(
                "the {kind} {table} have other values than in the source: what computes them was changed after rows were written"
            )),
            (None, _) | (_, None) => excused.push(format!("the {kind} {table} could not be compared")),
        }
    }
    (differences, excused)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_rows_of_a_view_are_named_and_other_values_of_columns_differ() {
        let of = |name: &str, view, found: Option<(i64, &str)>| Computed {
            table: TableId { schema: "s".into(), table: name.into() },
            columns: vec!["a".into()],
            view,
            found: found.map(|(rows, digest)| (rows, digest.to_owned())),
        };
        let was = [
            of("same", true, Some((1, "7"))),
            of("view", true, Some((1, "7"))),
            of("table", false, Some((1, "7"))),
            of("unread", true, None),
            of("gone", true, Some((1, "7"))),
        ];
        let is = [
            of("same", true, Some((1, "7"))),
            of("view", true, Some((0, "0"))),
            of("table", false, Some((1, "8"))),
            of("unread", true, Some((1, "8"))),
        ];
        let (differences, excused) = differences(&was, &is);
        assert!(differences.len() == 1 && differences[0].contains("generated columns of table s.table"));
        assert_eq!(
            excused,
            [
                "materialized view s.view was computed anew and differs from that of the source: 0 rows here, 1 there",
                "the rows of materialized view s.unread could not be compared"
            ]
        );
    }
}
