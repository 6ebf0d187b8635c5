//! Tables that belong to an extension without being registered by it: `pg_dump` leaves out their rows and, where somebody added them to
//! the extension by hand, the tables themselves.

use super::connect::{Connector, Session};
use super::quote::qualified;
use super::row::Row;
use super::rows;
use crate::engine::postgres::postgres_config::OfExtensions;
use crate::engine::postgres::relations::OWN_SCHEMA;
use crate::error::Result;
use crate::model::omission::Omission;
use crate::model::table::TableId;

/// An unregistered table of an extension.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unregistered {
    /// Which.
    pub id: TableId,
    /// It takes room on disk.
    pub has_pages: bool,
}

/// Those that a snapshot does not hold.
pub(crate) async fn left_out(connector: &Connector, session: &Session) -> Result<Vec<Unregistered>> {
    match connector.of_extensions() {
        OfExtensions::All => Ok(Vec::new()),
        OfExtensions::Registered => unregistered(session).await,
    }
}

/// The unregistered tables of extensions, partitioned ones left out: their partitions have the rows.
async fn unregistered(session: &Session) -> Result<Vec<Unregistered>> {
    let sql = format!(
        "SELECT n.nspname::text, c.relname::text, pg_relation_size(c.oid) > 0
         FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
         JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.objsubid = 0
           AND d.deptype = 'e' AND d.refclassid = 'pg_extension'::regclass
         JOIN pg_extension x ON x.oid = d.refobjid
         WHERE c.relkind = 'r' AND c.relpersistence IN ('p', 'u') AND {OWN_SCHEMA}
           AND c.oid <> ALL (COALESCE(x.extconfig, '{{}}')) ORDER BY 1, 2"
    );
    let rows = session.query(&sql, &[]).await?;
    let table = |row: &Row| Unregistered {
        id: TableId { schema: row.get(0), table: row.get(1) },
        has_pages: row.get::<_, Option<bool>>(2).unwrap_or_default(),
    };
    Ok(rows.iter().map(table).collect())
}

/// Names those of these tables that have rows: they are not in a snapshot.
pub(crate) async fn omitted(session: &Session, tables: &[Unregistered]) -> Result<Option<Omission>> {
    let mut names = Vec::new();
    for table in tables.iter().filter(|table| table.has_pages) {
        if has_rows(session, &table.id).await? {
            names.push(table.id.to_string());
        }
    }
    Ok((!names.is_empty()).then(|| Omission {
        kind: "table of an extension".to_owned(),
        names,
        why: "they have rows, and the extension did not register them with pg_extension_config_dump, so that pg_dump leaves \
              them out"
            .to_owned(),
        remedy: "Set extension_tables = \"rows\" for the database to take their rows. A table that was added with ALTER \
                 EXTENSION … ADD TABLE is only made again by a restore after ALTER EXTENSION … DROP TABLE."
            .to_owned(),
    }))
}

/// Whether a table has rows. Where looking would run code of the database, it is said to have some.
async fn has_rows(session: &Session, table: &TableId) -> Result<bool> {
    if rows::evaluates(session, table).await? {
        return Ok(true);
    }
    let readable = "SELECT has_table_privilege($1, 'SELECT') AND NOT row_security_active($1)";
    let name = qualified(&table.schema, &table.table);
    let rows = session.query(readable, &[&name]).await?;
    if !rows.first().is_some_and(|row| row.get(0)) {
        return Ok(true);
    }
    let rows = session.query(&format!("SELECT EXISTS (SELECT FROM ONLY {name})"), &[]).await?;
    Ok(rows.first().is_some_and(|row| row.get(0)))
}
