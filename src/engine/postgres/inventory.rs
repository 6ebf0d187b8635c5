//! How many objects of each type a database has: those that users made, not those of extensions.

use std::collections::BTreeMap;

use super::connect::Session;
use super::omitted::INHERITED;
use crate::engine::postgres::relations::OWN_SCHEMA;
use crate::error::Result;

/// Materialized views that hold rows.
pub(super) const POPULATED: &str = "populated materialized view";

/// `objid` of this catalogue is not a member of an extension.
pub(super) fn own(catalogue: &str, oid: &str) -> String {
    format!(
        "NOT EXISTS (SELECT FROM pg_depend e WHERE e.classid = '{catalogue}'::regclass \
         AND e.objid = {oid} AND e.deptype = 'e')"
    )
}

/// Relations in users' schemas that are not members of extensions.
pub(super) fn relations(condition: &str) -> String {
    format!(
        "FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relpersistence <> 't' \
         AND {OWN_SCHEMA} AND {} AND {condition}",
        own("pg_class", "c.oid")
    )
}

/// Something that belongs to a relation: its `catalogue` row is `o`, whose `column` names the relation.
pub(super) fn on_relation(catalogue: &str, column: &str, condition: &str) -> String {
    format!(
        "FROM {catalogue} o JOIN pg_class c ON c.oid = o.{column} \
         JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relpersistence <> 't' \
         AND {OWN_SCHEMA} AND {} AND {condition}",
        own("pg_class", "c.oid")
    )
}

/// Something in a schema: its `catalogue` row is `o`.
pub(super) fn in_schema(catalogue: &str, namespace: &str, condition: &str) -> String {
    format!(
        "FROM {catalogue} o JOIN pg_namespace n ON n.oid = o.{namespace} \
         WHERE {OWN_SCHEMA} AND {} AND {condition}",
        own(catalogue, "o.oid")
    )
}

/// Something without a schema that users made: the server's own objects have small identifiers.
pub(super) fn global(catalogue: &str) -> String {
    format!("FROM {catalogue} o WHERE o.oid >= 16384 AND {}", own(catalogue, "o.oid"))
}

/// Who has any right on what, column rights included: (catalogue, object, column, grantee).
fn grants() -> String {
    let acl = |catalogue: &str, acl: &str, kind: &str, owner: &str, from: &str| {
        format!(
            "SELECT '{catalogue}', o.oid, 0, a.grantee {from} \
             CROSS JOIN LATERAL aclexplode(COALESCE({acl}, acldefault({kind}, {owner}))) a \
             WHERE {OWN_SCHEMA} AND {}",
            own(catalogue, "o.oid")
        )
    };
    let schema = |column: &str, catalogue: &str| {
        format!("FROM {catalogue} o JOIN pg_namespace n ON n.oid = o.{column}")
    };
    let relations = acl(
        "pg_class",
        "o.relacl",
        "(CASE o.relkind WHEN 'S' THEN 's' ELSE 'r' END)::\"char\"",
        "o.relowner",
        &schema("relnamespace", "pg_class"),
    );
    let columns = format!(
        "SELECT 'pg_attribute', o.attrelid, o.attnum, a.grantee FROM pg_attribute o \
         JOIN pg_class c ON c.oid = o.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace \
         CROSS JOIN LATERAL aclexplode(o.attacl) a WHERE o.attacl IS NOT NULL AND {OWN_SCHEMA} AND {}",
        own("pg_class", "c.oid")
    );
    let functions = acl("pg_proc", "o.proacl", "'f'", "o.proowner", &schema("pronamespace", "pg_proc"));
    let schemas = acl("pg_namespace", "o.nspacl", "'n'", "o.nspowner", &schema("oid", "pg_namespace"));
    format!(
        "FROM ({relations} AND o.relkind IN ('r', 'p', 'v', 'm', 'S', 'f') AND o.relpersistence <> 't' \
         UNION {columns} UNION {functions} UNION {schemas}) g"
    )
}

fn class(kind: &str) -> String {
    relations(&format!("c.relkind = '{kind}'"))
}

fn constraint(kind: &str) -> String {
    on_relation("pg_constraint", "conrelid", &format!("o.contype = '{kind}' AND o.conparentid = 0"))
}

fn routine(kind: &str) -> String {
    in_schema("pg_proc", "pronamespace", &format!("o.prokind = '{kind}'"))
}

fn kind(kind: &str) -> String {
    in_schema("pg_type", "typnamespace", &format!("o.typtype = '{kind}'"))
}

fn column(condition: &str) -> String {
    on_relation("pg_attribute", "attrelid", &format!("o.attnum > 0 AND NOT o.attisdropped AND {condition}"))
}

fn trigger(condition: &str) -> String {
    on_relation("pg_trigger", "tgrelid", &format!("NOT o.tgisinternal {condition}"))
}

/// An index that `pg_dump` writes: unfinished ones (of a failed `CREATE INDEX CONCURRENTLY`) are not dumped.
pub(super) const DUMPED_INDEX: &str =
    "c.relkind IN ('r', 'p', 'm') AND o.indisready AND (o.indisvalid OR c.relkind = 'p')";

/// A comment on something that users made and that is restored: not one that outlived its object, nor one on an operator that is only
/// declared. Those on subscriptions belong to these.
pub(super) fn dumped_comment(major: u32) -> String {
    // Before 14, the server fails on what is no longer there.
    let there = match major {
        0..=13 => "true",
        _ => "(pg_identify_object(o.classoid, o.objoid, o.objsubid)).identity IS NOT NULL",
    };
    format!(
        "FROM pg_description o WHERE o.objoid >= 16384 AND o.classoid <> 'pg_subscription'::regclass AND {there} AND NOT ({INHERITED}) \
         AND NOT EXISTS (SELECT FROM pg_operator p WHERE o.classoid = 'pg_operator'::regclass AND p.oid = o.objoid AND p.oprcode = 0) \
         AND NOT EXISTS (SELECT FROM pg_depend e WHERE e.classid = o.classoid AND e.objid = o.objoid AND e.deptype = 'e')"
    )
}

/// What to count, A to G.
fn first_half(major: u32) -> Vec<(&'static str, String)> {
    vec![
        ("access method", global("pg_am")),
        ("aggregate", routine("a")),
        ("base type", in_schema("pg_type", "typnamespace", "o.typtype = 'b' AND o.typelem = 0")),
        ("cast", global("pg_cast")),
        ("check constraint", constraint("c")),
        ("clustered index", on_relation("pg_index", "indrelid", "o.indisclustered")),
        ("collation", in_schema("pg_collation", "collnamespace", "true")),
        ("column", column("c.relkind IN ('r', 'p', 'v', 'm', 'f')")),
        ("column default", column("o.atthasdef AND o.attgenerated = ''")),
        ("comment", dumped_comment(major)),
        ("composite type", relations("c.relkind = 'c'")),
        ("conversion", in_schema("pg_conversion", "connamespace", "true")),
        ("default privilege", "FROM pg_default_acl".into()),
        ("disabled trigger", trigger("AND o.tgenabled = 'D' {no_parent}")),
        ("domain", kind("d")),
        (
            "domain constraint",
            "FROM pg_constraint o JOIN pg_namespace n ON n.oid = o.connamespace \
            WHERE o.contypid <> 0 AND o.contype = 'c' AND "
                .to_owned()
                + OWN_SCHEMA
                + " AND "
                + &own("pg_type", "o.contypid"),
        ),
        ("enum", kind("e")),
        (
            "enum label",
            "FROM pg_enum l JOIN pg_type o ON o.oid = l.enumtypid JOIN pg_namespace n \
            ON n.oid = o.typnamespace WHERE "
                .to_owned()
                + OWN_SCHEMA
                + " AND "
                + &own("pg_type", "o.oid"),
        ),
        ("event trigger", global("pg_event_trigger")),
        ("exclusion constraint", constraint("x")),
        ("extension", "FROM pg_extension".into()),
        ("foreign key", constraint("f")),
        ("foreign server", global("pg_foreign_server")),
        ("foreign table", class("f")),
        ("foreign-data wrapper", global("pg_foreign_data_wrapper")),
        ("function", routine("f")),
        ("generated column", column("o.attgenerated <> ''")),
        ("grant", grants()),
    ]
}

/// What to count, I to W.
fn second_half() -> Vec<(&'static str, String)> {
    vec![
        // Since 17 a partition's column is an identity column too, if its root's is.
        ("identity column", column("o.attidentity <> '' AND NOT c.relispartition")),
        ("index", on_relation("pg_index", "indrelid", DUMPED_INDEX)),
        ("inheritance", on_relation("pg_inherits", "inhrelid", "c.relkind IN ('r', 'p', 'f')")),
        ("language", global("pg_language")),
        ("large object", "FROM pg_largeobject_metadata".into()),
        ("materialized view", class("m")),
        // One that is only declared, as the negator of another, is not dumped.
        ("operator", in_schema("pg_operator", "oprnamespace", "o.oprcode <> 0")),
        ("operator class", in_schema("pg_opclass", "opcnamespace", "true")),
        ("operator family", in_schema("pg_opfamily", "opfnamespace", "true")),
        ("partitioned table", class("p")),
        ("policy", on_relation("pg_policy", "polrelid", "true")),
        (POPULATED, relations("c.relkind = 'm' AND c.relispopulated")),
        ("primary key", constraint("p")),
        ("procedure", routine("p")),
        ("publication", "FROM pg_publication".into()),
        ("publication table", "FROM pg_publication_rel".into()),
        ("range type", kind("r")),
        ("row security", relations("c.relrowsecurity")),
        ("rule", on_relation("pg_rewrite", "ev_class", "o.rulename <> '_RETURN'")),
        (
            "schema",
            "FROM pg_namespace n WHERE ".to_owned() + OWN_SCHEMA + " AND " + &own("pg_namespace", "n.oid"),
        ),
        ("security label", "FROM pg_seclabel WHERE classoid <> 'pg_subscription'::regclass".into()),
        ("sequence", class("S")),
        ("statistics object", in_schema("pg_statistic_ext", "stxnamespace", "true")),
        ("table", class("r")),
        ("text search configuration", in_schema("pg_ts_config", "cfgnamespace", "true")),
        ("text search dictionary", in_schema("pg_ts_dict", "dictnamespace", "true")),
        ("transform", global("pg_transform")),
        ("trigger", trigger("{no_parent}")),
        ("unique constraint", constraint("u")),
        ("unlogged table", relations("c.relkind = 'r' AND c.relpersistence = 'u'")),
        ("user mapping", "FROM pg_user_mappings".into()),
        ("view", class("v")),
        ("window function", routine("w")),
    ]
}

/// Counts everything; types without objects are left out.
pub(crate) async fn count(session: &Session) -> Result<BTreeMap<String, u64>> {
    // Before 13, a partition's copy of a trigger was an internal one.
    let no_parent = match session.version.major {
        0..=12 => "",
        _ => "AND o.tgparentid = 0",
    };
    let selects: Vec<String> = first_half(session.version.major)
        .into_iter()
        .chain(second_half())
        .map(|(name, from)| format!("SELECT '{name}', count(*) {}", from.replace("{no_parent}", no_parent)))
        .collect();
    let rows = session.query(&selects.join(" UNION ALL "), &[]).await?;
    Ok(rows
        .iter()
        .map(|row| (row.get(0), row.get::<_, i64>(1).unsigned_abs()))
        .filter(|(_, number)| *number > 0)
        .collect())
}
