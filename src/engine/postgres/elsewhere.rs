//! What could reach another server, which a drill never does. In a sandbox there is no network: what needs one fails, and is told from
//! what fails otherwise. Without one, what could need it is not tried.

use super::archive_load::Unrestored;
use super::connect::Session;
use super::contents_list::{Owners, is_view_data};
use crate::error::Result;
use crate::model::table::TableId;

/// Extensions that open connections, and bring neither a foreign data wrapper nor a language.
const CONNECTING: [&str; 7] =
    ["http", "pg_net", "plproxy", "pg_curl", "aws_s3", "aws_lambda", "azure_storage"];

/// Whether a query in this database could reach another server: there is a foreign data wrapper (dblink has one too), such an
/// extension, or a language whose code may do whatever the server's user may.
pub(super) async fn within_reach(session: &Session) -> Result<bool> {
    let sql = "SELECT EXISTS (SELECT FROM pg_foreign_data_wrapper) \
               OR EXISTS (SELECT FROM pg_extension WHERE extname::text = ANY ($1)) \
               OR EXISTS (SELECT FROM pg_language WHERE NOT lanpltrusted AND lanname NOT IN ('internal', 'c'))";
    let names = CONNECTING.map(str::to_owned).to_vec();
    let rows = session.query(sql, &[&names]).await?;
    Ok(rows.first().is_none_or(|row| row.get(0)))
}

/// What a drill does not make, and for how many materialized views that is so.
#[derive(Debug, Default)]
pub(super) struct NotHere {
    /// In words.
    pub words: Vec<String>,
    /// Materialized views that stay empty.
    pub unfilled: u64,
}

impl NotHere {
    /// Takes from the list of an archive what fills materialized views, because that could reach another server.
    pub(super) fn leave_out_views(&mut self, owners: &Owners, list: &str) -> String {
        let (views, rest): (Vec<&str>, Vec<&str>) = list.lines().partition(|line| is_view_data(line));
        self.unfilled += views.len() as u64;
        self.words.extend(views.into_iter().map(|line| {
            let (object, ..) = owners.named(line);
            format!(
                "{}: it could read from another server, and a drill without a sandbox does not try",
                object.escape_debug()
            )
        }));
        rest.join("\n")
    }

    /// Takes from these entries what could not be made because it reads from another server.
    pub(super) fn take(&mut self, owners: &Owners, entries: &mut Vec<Unrestored>) {
        let (elsewhere, left): (Vec<_>, _) =
            std::mem::take(entries).into_iter().partition(|entry| entry.elsewhere);
        *entries = left;
        self.unfilled += elsewhere.iter().filter(|entry| is_view_data(&entry.line)).count() as u64;
        self.words.extend(elsewhere.into_iter().map(|entry| {
            let (object, ..) = owners.named(&entry.line);
            format!("{}: it reads from another server, and a drill connects to none", object.escape_debug())
        }));
    }

    /// Takes tables whose statistics need other servers: a part of each lies there.
    pub(super) async fn leave_out_statistics(&mut self, session: &Session) -> Result<Vec<TableId>> {
        let sql = "WITH RECURSIVE far AS (SELECT oid FROM pg_class WHERE relkind = 'f' \
                   UNION SELECT i.inhparent FROM pg_inherits i JOIN far ON far.oid = i.inhrelid) \
                   SELECT n.nspname::text, c.relname::text FROM far JOIN pg_class c USING (oid) \
                   JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind <> 'f' ORDER BY 1, 2";
        let rows = session.query(sql, &[]).await?;
        let tables: Vec<TableId> =
            rows.iter().map(|row| TableId { schema: row.get(0), table: row.get(1) }).collect();
        let words = |table| {
            format!(
                "statistics of table {table}: a part of it lies on another server, and a drill connects to none"
            )
        };
        self.words.extend(tables.iter().map(words));
        Ok(tables)
    }
}
