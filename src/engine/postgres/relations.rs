//! What the catalogue says about tables, sequences and large objects.

use serde::{Deserialize, Serialize};

use super::connect::Session;
use super::postgres_config::OfExtensions;
use super::quote::{ident_line, literal, qualified};
use super::row::Row;
use crate::error::{Error, Result};
use crate::model::table::TableId;

/// A table or leaf partition whose rows are read one by one, or a partitioned table (only to be locked).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Table {
    /// Its object identifier.
    pub oid: u32,
    /// Its name.
    pub id: TableId,
    /// It has rows of its own: it is not a partitioned table.
    pub has_rows: bool,
    /// Its columns without generated ones, in order.
    pub columns: Vec<String>,
    /// The columns of its best key, or none.
    pub key: Vec<String>,
    /// Bytes on disk.
    pub size: u64,
    /// Not in the write-ahead log, and so empty after a crash.
    pub unlogged: bool,
    /// Its access method, e.g. `heap`.
    pub method: String,
    /// For a table of an extension: the condition that selects the user's rows.
    pub condition: Option<String>,
    /// A table of an extension that did not register it.
    pub unregistered: bool,
    /// The root of its partitions, where these are chosen by a hash that may be of an enum, also by way of a domain, an array or an
    /// expression. Such hashes differ between databases, so its rows may belong to another partition there.
    pub scattered: Option<TableId>,
    /// We may read it.
    pub readable: bool,
    /// Row security would hide rows from us.
    pub hidden_rows: bool,
}

impl Table {
    /// Its name as SQL.
    pub(super) fn sql(&self) -> String {
        qualified(&self.id.schema, &self.id.table)
    }
}

/// A configuration table of an extension: the rows that the extension did not create itself are kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ConfigTable {
    /// Which.
    #[serde(flatten)]
    pub table: TableId,
    /// Its columns.
    pub columns: Vec<String>,
    /// Which rows: `WHERE …`, or empty for all.
    pub condition: String,
    /// The extension did not register it: the rows here are all that the table had, those of the extension included.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub whole: bool,
}

/// A partition whose rows are loaded through the root of its partitions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Scattered {
    /// The partition.
    pub partition: TableId,
    /// The root.
    pub root: TableId,
}

/// A sequence and its position.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Sequence {
    /// Schema.
    pub schema: String,
    /// Name.
    pub name: String,
    /// Its last value.
    pub last_value: i64,
    /// Whether the last value was already used.
    pub is_called: bool,
    /// It belongs to an extension, which makes it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub of_extension: bool,
}

/// Large objects: their number and a digest of their bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LargeObjects {
    /// How many.
    pub count: i64,
    /// Total bytes and a sum of page hashes; `None` if we may not read `pg_largeobject`.
    pub digest: Option<String>,
}

/// Every schema that users make.
pub(crate) const OWN_SCHEMA: &str = "n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'";

const TABLES: &str = "
SELECT c.oid, n.nspname::text, c.relname::text, c.relkind = 'r',
  ARRAY(SELECT a.attname::text FROM pg_attribute a
    WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
    ORDER BY a.attnum),
  {key},
  {size},
  c.relpersistence = 'u', COALESCE(am.amname::text, ''),
  x.oid IS NOT NULL, x.extcondition[array_position(x.extconfig, c.oid)],
  -- NULL if it was dropped in the meantime: the lock will tell.
  COALESCE(has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT'), true),
  COALESCE(row_security_active(c.oid), false),
  root.nspname, root.relname, x.oid IS NOT NULL AND c.oid <> ALL (COALESCE(x.extconfig, '{}'))
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_am am ON am.oid = c.relam
LEFT JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.objsubid = 0
  AND d.deptype = 'e' AND d.refclassid = 'pg_extension'::regclass
LEFT JOIN pg_extension x ON x.oid = d.refobjid
LEFT JOIN LATERAL (SELECT rn.nspname::text, r.relname::text
  FROM pg_class r JOIN pg_namespace rn ON rn.oid = r.relnamespace
  WHERE c.relispartition AND c.relkind = 'r' AND r.oid = pg_partition_root(c.oid)
    AND EXISTS (SELECT FROM pg_partition_ancestors(c.oid) up(relid)
      JOIN pg_partitioned_table pt ON pt.partrelid = up.relid AND pt.partstrat = 'h'
      CROSS JOIN LATERAL unnest(pt.partattrs::int2[]) key(num)
      LEFT JOIN pg_attribute pa ON pa.attrelid = up.relid AND pa.attnum = key.num
      LEFT JOIN pg_type ty ON ty.oid = pa.atttypid
      LEFT JOIN pg_type el ON el.oid = ty.typelem AND ty.typcategory = 'A'
      WHERE key.num = 0 OR COALESCE(el.typtype, ty.typtype) <> 'b')) root ON true
WHERE c.relkind IN ('r', 'p') AND c.relpersistence IN ('p', 'u')
  AND (x.oid IS NULL OR c.oid = ANY (x.extconfig) OR {unregistered}) AND {own_schema}
ORDER BY n.nspname, c.relname";

/// The columns that tell rows apart: those of the primary key, or of another unique index without NULLs and expressions.
const KEY: &str = "
  COALESCE((SELECT ARRAY(SELECT a.attname::text
      FROM unnest(i.indkey::int2[]) WITH ORDINALITY k(num, pos)
      JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.num
      WHERE k.pos <= i.indnkeyatts ORDER BY k.pos)
    FROM pg_index i JOIN pg_class ic ON ic.oid = i.indexrelid JOIN pg_am im ON im.oid = ic.relam
    WHERE i.indrelid = c.oid AND i.indisunique AND i.indisvalid AND i.indimmediate
      AND i.indpred IS NULL AND i.indexprs IS NULL AND im.amname = 'btree'
      AND NOT EXISTS (SELECT FROM unnest(i.indkey::int2[]) WITH ORDINALITY k(num, pos)
        JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.num
        WHERE k.pos <= i.indnkeyatts AND (NOT a.attnotnull OR a.attgenerated <> ''))
    ORDER BY i.indisprimary DESC, i.indnkeyatts, i.indexrelid LIMIT 1), '{}')";

/// All tables that hold users' data, by name, without their keys. Waits for no lock, so sizes are only as recent as the
/// last VACUUM or ANALYZE.
pub(crate) async fn tables(session: &Session, of_extensions: OfExtensions) -> Result<Vec<Table>> {
    list(session, "'{}'::text[]", "c.relpages::int8 * 8192", of_extensions).await
}

/// The same, with keys, and with true sizes where the catalogue has none, for a session that has locked them all.
pub(crate) async fn locked_tables(session: &Session, of_extensions: OfExtensions) -> Result<Vec<Table>> {
    // Asking the file system about each of very many tables takes longer than reading them.
    let size = "CASE WHEN c.relkind <> 'r' THEN 0
        WHEN c.relpages <= 0 THEN pg_relation_size(c.oid) + COALESCE(pg_relation_size(NULLIF(c.reltoastrelid, 0)), 0)
        ELSE 8192 * (c.relpages::int8
          + COALESCE((SELECT t.relpages FROM pg_class t WHERE t.oid = c.reltoastrelid), 0)) END";
    list(session, KEY, size, of_extensions).await
}

async fn list(session: &Session, key: &str, size: &str, of_extensions: OfExtensions) -> Result<Vec<Table>> {
    let unregistered = if of_extensions == OfExtensions::All { "true" } else { "false" };
    let sql = TABLES.replace("{own_schema}", OWN_SCHEMA).replace("{key}", key).replace("{size}", size);
    let sql = sql.replace("{unregistered}", unregistered);
    let table = |row: Row| Table {
        oid: row.get(0),
        id: TableId { schema: row.get(1), table: row.get(2) },
        has_rows: row.get(3),
        columns: row.get(4),
        key: row.get(5),
        size: row.get::<_, Option<i64>>(6).unwrap_or(0).unsigned_abs(),
        unlogged: row.get(7),
        method: row.get(8),
        condition: row.get::<_, bool>(9).then(|| row.get::<_, Option<String>>(10).unwrap_or_default()),
        readable: row.get(11),
        hidden_rows: row.get(12),
        unregistered: row.get(15),
        scattered: row.get::<_, Option<String>>(13).map(|schema| TableId { schema, table: row.get(14) }),
    };
    session.each(&sql, table).await
}

/// Everything that keeps this user from reading the whole database, or nothing.
pub(crate) async fn missing_rights(session: &Session, tables: &[Table], user: &str) -> Result<Vec<String>> {
    let user = ident_line(user);
    let line = |schema: &str, name: &str| format!("{}.{}", ident_line(schema), ident_line(name));
    let mut missing = Vec::new();
    for table in tables {
        if !table.readable {
            missing.push(format!(
                "GRANT USAGE ON SCHEMA {} TO {user}; GRANT SELECT ON {} TO {user};",
                ident_line(&table.id.schema),
                line(&table.id.schema, &table.id.table)
            ));
        } else if table.hidden_rows {
            missing.push(format!(
                "ALTER ROLE {user} BYPASSRLS; /* row security hides rows of {} */",
                line(&table.id.schema, &table.id.table)
            ));
        }
    }
    let sequences = session
        .query(
            &format!(
                "SELECT n.nspname::text, c.relname::text FROM pg_class c
                 JOIN pg_namespace n ON n.oid = c.relnamespace
                 WHERE c.relkind = 'S' AND c.relpersistence IN ('p', 'u') AND {OWN_SCHEMA}
                   AND NOT (has_schema_privilege(n.oid, 'USAGE')
                     AND has_sequence_privilege(c.oid, 'SELECT')) ORDER BY 1, 2"
            ),
            &[],
        )
        .await?;
    for row in sequences {
        let (schema, name): (String, String) = (row.get(0), row.get(1));
        missing.push(format!("GRANT SELECT ON SEQUENCE {} TO {user};", line(&schema, &name)));
    }
    let objects = session
        .query(
            "SELECT l.oid FROM pg_largeobject_metadata l
             WHERE NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user)
               AND NOT pg_has_role(l.lomowner, 'USAGE')
               AND NOT EXISTS (SELECT FROM aclexplode(l.lomacl) a
                 WHERE a.privilege_type = 'SELECT'
                   AND (a.grantee = 0 OR pg_has_role(a.grantee, 'USAGE')))
             ORDER BY 1 LIMIT 1000",
            &[],
        )
        .await?;
    for row in objects {
        let oid: u32 = row.get(0);
        missing.push(format!("GRANT SELECT ON LARGE OBJECT {oid} TO {user};"));
    }
    Ok(missing)
}

/// The error for missing rights: the first few of the statements that would grant them.
pub(crate) fn rights_error(missing: &[String], user: &str) -> Error {
    let shown: Vec<&str> = missing.iter().take(5).map(String::as_str).collect();
    let more = match missing.len() - shown.len() {
        0 => String::new(),
        more => format!(" (and {more} more)"),
    };
    Error::preflight(format!(
        "user {} may not read the whole database",
        user.escape_debug()
    ))
    .cause(format!("missing: {}{more}", shown.join(" ")))
    .remedy("Run these statements as the owner, or GRANT pg_read_all_data (14 and newer) and BYPASSRLS to the user.")
}

/// How many sequences one statement reads.
const SEQUENCES_AT_A_TIME: usize = 200;

/// The position of every sequence. Those of extensions too: registered or not, they number rows that users have added.
pub(crate) async fn sequences(session: &Session) -> Result<Vec<Sequence>> {
    let rows = session
        .query(
            &format!(
                "SELECT n.nspname::text, c.relname::text,
                   EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass
                     AND d.objid = c.oid AND d.deptype = 'e'),
                   s.seqstart, c.relpersistence = 'u' AND pg_is_in_recovery()
                 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                 JOIN pg_sequence s ON s.seqrelid = c.oid
                 WHERE c.relkind = 'S' AND c.relpersistence IN ('p', 'u') AND {OWN_SCHEMA}
                 ORDER BY 1, 2"
            ),
            &[],
        )
        .await?;
    let (unread, read): (Vec<&Row>, Vec<&Row>) = rows.iter().partition(|row| row.get(4));
    let names: Vec<(String, String, bool)> = read.iter().map(|r| (r.get(0), r.get(1), r.get(2))).collect();
    // A standby does not have those that are not in the write-ahead log: they begin anew, as after a crash.
    let anew = |row: &&Row| Sequence {
        schema: row.get(0),
        name: row.get(1),
        last_value: row.get(3),
        is_called: false,
        of_extension: row.get(2),
    };
    let mut sequences: Vec<Sequence> = unread.iter().map(anew).collect();
    for batch in names.chunks(SEQUENCES_AT_A_TIME) {
        let selects: Vec<String> = batch
            .iter()
            .map(|(schema, name, of_extension)| {
                format!(
                    "SELECT {}, {}, last_value, is_called, {of_extension} FROM {}",
                    literal(schema),
                    literal(name),
                    qualified(schema, name)
                )
            })
            .collect();
        for row in session.query(&selects.join(" UNION ALL "), &[]).await? {
            sequences.push(Sequence {
                schema: row.get(0),
                name: row.get(1),
                last_value: row.get(2),
                is_called: row.get(3),
                of_extension: row.get(4),
            });
        }
    }
    sequences.sort_by(|a, b| (&a.schema, &a.name).cmp(&(&b.schema, &b.name)));
    Ok(sequences)
}

/// How many bytes the large objects take in the database; `None` if there are none.
pub(crate) async fn size_of_large_objects(session: &Session) -> Result<Option<u64>> {
    let sql = "SELECT pg_relation_size('pg_largeobject') WHERE EXISTS (SELECT FROM pg_largeobject_metadata)";
    let rows = session.query(sql, &[]).await?;
    Ok(rows.first().map(|row| row.get::<_, i64>(0).unsigned_abs()))
}

/// Number and digest of the large objects. Pages are hashed without their trailing zeros, because a
/// hole in an object comes back as zeros.
pub(crate) async fn large_objects(session: &Session) -> Result<LargeObjects> {
    let rows = session
        .query(
            "SELECT (SELECT count(*) FROM pg_largeobject_metadata),
                    has_table_privilege('pg_largeobject', 'SELECT')",
            &[],
        )
        .await?;
    let Some(row) = rows.first() else {
        return Ok(LargeObjects::default());
    };
    let count = row.get(0);
    if !row.get::<_, bool>(1) {
        return Ok(LargeObjects { count, digest: None });
    }
    let rows = session
        .query(
            "SELECT (SELECT COALESCE(sum(size), 0)::text FROM (
                 SELECT DISTINCT ON (loid) pageno::int8 * 2048 + length(data) AS size
                 FROM pg_largeobject ORDER BY loid, pageno DESC) s)
               || '-' ||
               (SELECT COALESCE(sum(('x' || substr(md5(loid::text || ':' || pageno::text || ':' || hex), 1, 15))
                 ::bit(60)::int8::numeric), 0)::text
                FROM (SELECT loid, pageno, rtrim(encode(data, 'hex'), '0') AS hex FROM pg_largeobject) p
                WHERE hex <> '')",
            &[],
        )
        .await?;
    Ok(LargeObjects { count, digest: rows.first().map(|row| row.get(0)) })
}
