//! What this session cannot read of a database, or the tools leave out of its archive: a snapshot does not hold it.

use super::connect::{Connector, Session};
use super::extension_tables::{self, Unregistered};
use super::links::{self, Links};
use crate::error::Result;
use crate::model::omission::Omission;

/// What was looked at to find that out.
pub(crate) struct Look {
    /// How the database reaches other servers, as far as that can be read.
    pub links: Links,
    /// Tables that their extensions did not register, and that a snapshot does not hold.
    pub unregistered: Vec<Unregistered>,
    /// Everything that a snapshot does not hold.
    pub omitted: Vec<Omission>,
}

/// Looks at all of it.
pub(crate) async fn look(connector: &Connector, session: &Session) -> Result<Look> {
    let links::Read { links, mut omitted } = links::read(session, connector.user()).await?;
    let unregistered = extension_tables::left_out(connector, session).await?;
    omitted.extend(extension_tables::omitted(session, &unregistered).await?);
    omitted.extend(in_system_schemas(session).await?);
    omitted.extend(inherited_comments(session).await?);
    omitted.extend(labels_of_the_server(session).await?);
    Ok(Look { links, unregistered, omitted })
}

fn omission(kind: &str, names: Vec<String>, why: &str, remedy: &str) -> Option<Omission> {
    let of = |text: &str| text.to_owned();
    (!names.is_empty()).then(|| Omission { kind: of(kind), names, why: of(why), remedy: of(remedy) })
}

async fn names(session: &Session, sql: &str) -> Result<Vec<String>> {
    let rows = session.query(sql, &[]).await?;
    Ok(rows.iter().filter_map(|row| row.get::<_, Option<String>>(0)).collect())
}

/// What users made in `pg_catalog` or `information_schema`.
async fn in_system_schemas(session: &Session) -> Result<Option<Omission>> {
    let of = |catalogue: &str, namespace: &str, condition: &str| {
        format!(
            "SELECT (pg_identify_object('{catalogue}'::regclass, o.oid, 0)).identity FROM {catalogue} o \
             JOIN pg_namespace n ON n.oid = o.{namespace} WHERE o.oid >= 16384 \
             AND n.nspname IN ('pg_catalog', 'information_schema') AND {condition} \
             AND NOT EXISTS (SELECT FROM pg_depend e WHERE e.classid = '{catalogue}'::regclass AND e.objid = o.oid \
               AND e.deptype IN ('e', 'i'))"
        )
    };
    let sql = [
        of("pg_class", "relnamespace", "o.relkind NOT IN ('i', 'I', 't', 'c')"),
        of("pg_proc", "pronamespace", "true"),
        of("pg_type", "typnamespace", "o.typelem = 0"),
        of("pg_operator", "oprnamespace", "o.oprcode <> 0"),
        of("pg_collation", "collnamespace", "true"),
        of("pg_conversion", "connamespace", "true"),
        of("pg_opclass", "opcnamespace", "true"),
        of("pg_ts_config", "cfgnamespace", "true"),
        of("pg_ts_dict", "dictnamespace", "true"),
    ];
    let names = names(session, &format!("{} ORDER BY 1", sql.join(" UNION ALL "))).await?;
    let why = "pg_dump takes all that is in pg_catalog and information_schema for the server's own";
    Ok(omission("object in a schema of the server", names, why, "Move them to a schema of your own."))
}

/// Comments on what partitions and child tables inherit: `pg_dump` writes neither these things nor comments on them.
async fn inherited_comments(session: &Session) -> Result<Option<Omission>> {
    let sql = format!(
        "SELECT (pg_identify_object(o.classoid, o.objoid, o.objsubid)).identity FROM pg_description o \
         WHERE {INHERITED} ORDER BY 1"
    );
    let names = names(session, &sql).await?;
    let why =
        "they are on constraints or triggers that are inherited, of which pg_dump writes only the original";
    Ok(omission("comment", names, why, "Comment on the original instead."))
}

/// A comment `o` on a constraint or trigger that is inherited.
pub(super) const INHERITED: &str = "(o.classoid = 'pg_constraint'::regclass AND EXISTS (SELECT FROM pg_constraint c \
     WHERE c.oid = o.objoid AND c.conrelid <> 0 AND (c.conparentid <> 0 OR NOT c.conislocal) AND c.contype IN ('c', 'f'))) \
     OR (o.classoid = 'pg_trigger'::regclass AND EXISTS (SELECT FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid \
     WHERE t.oid = o.objoid AND c.relispartition AND (to_jsonb(t) ->> 'tgparentid') <> '0'))";

/// Security labels of roles and of the database: `pg_dumpall` would write them.
async fn labels_of_the_server(session: &Session) -> Result<Option<Omission>> {
    let sql = "SELECT l.provider || ' ' || (pg_identify_object(l.classoid, l.objoid, 0)).identity FROM pg_shseclabel l
               WHERE (l.classoid = 'pg_database'::regclass
                 AND l.objoid = (SELECT oid FROM pg_database WHERE datname = current_database()))
               OR (l.classoid = 'pg_authid'::regclass AND EXISTS (SELECT FROM pg_shdepend d
                 WHERE d.refclassid = 'pg_authid'::regclass AND d.refobjid = l.objoid
                   AND d.dbid = (SELECT oid FROM pg_database WHERE datname = current_database()))) ORDER BY 1";
    let names = names(session, sql).await?;
    let why = "they are the server's: pg_dumpall --globals-only writes them";
    Ok(omission("security label of the server", names, why, "Keep that beside the snapshots."))
}
