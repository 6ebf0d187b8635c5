//! Who owns what, and who may do what.

use super::catalogue_definitions::identity;
use super::definition_select::{PARTS, Select, select};
use super::inventory::{global, in_schema, on_relation, own};
use crate::engine::postgres::relations::OWN_SCHEMA;

/// All of that.
pub(super) fn selects(major: u32) -> Vec<Select> {
    rights(major).into_iter().chain(owners()).collect()
}

/// Of relations, routines, schemas and types. Rights that are not said are those that an object is born with.
fn rights(major: u32) -> Vec<Select> {
    let owner = |column: &str| format!("pg_get_userbyid(o.{column})");
    let rights = |acl: &str, kind: &str, owner: &str| {
        format!(
            "(SELECT string_agg({PARTS} CASE a.grantee WHEN 0 THEN 'public' ELSE pg_get_userbyid(a.grantee)::text END, \
             a.privilege_type, a.is_grantable), E'\\x1e' ORDER BY 1) FROM (SELECT DISTINCT grantee, privilege_type, is_grantable \
             FROM aclexplode(COALESCE(o.{acl}, acldefault({kind}, o.{owner})))) a)"
        )
        .replace("ORDER BY 1", "ORDER BY a.grantee = 0, pg_get_userbyid(a.grantee)::text, a.privilege_type, a.is_grantable")
    };
    let relation = in_schema(
        "pg_class",
        "relnamespace",
        "o.relpersistence <> 't' AND o.relkind IN ('r', 'p', 'v', 'm', 'S', 'f')",
    );
    // The constructors of a range type belong to whoever set the server up, and may be called as the type says.
    let function = in_schema(
        "pg_proc",
        "pronamespace",
        "NOT EXISTS (SELECT FROM pg_depend i WHERE i.classid = 'pg_proc'::regclass AND i.objid = o.oid AND i.deptype = 'i')",
    );
    // Before 15 the schema public belongs to whoever set the server up, and pg_dump leaves it so.
    let born = if major < 15 { "o.nspname <> 'public'" } else { "true" };
    let schema = format!(
        "FROM pg_namespace o JOIN pg_namespace n USING (oid) WHERE {OWN_SCHEMA} AND {born} AND {}",
        own("pg_namespace", "o.oid")
    );
    // Arrays have no rights of their own, and the types of tables' rows those of the tables.
    let kind = in_schema(
        "pg_type",
        "typnamespace",
        "(o.typtype IN ('e', 'd', 'r') OR (o.typtype = 'b' AND NOT EXISTS (SELECT FROM pg_type t WHERE t.typarray = o.oid)) \
          OR EXISTS (SELECT FROM pg_class c WHERE c.oid = o.typrelid AND c.relkind = 'c'))",
    );
    let relation_kind = "(CASE o.relkind WHEN 'S' THEN 's' ELSE 'r' END)::\"char\"";
    let column = rights("attacl", "'c'", "attrelid");
    vec![
        select("owner", "o.oid::regclass", &owner("relowner"), relation.clone()),
        select("owner", "o.oid::regprocedure", &owner("proowner"), function.clone()),
        select("owner", "o.oid::regnamespace", &owner("nspowner"), schema.clone()),
        select("owner", "o.oid::regtype", &owner("typowner"), kind.clone()),
        select("rights", "o.oid::regclass", &rights("relacl", relation_kind, "relowner"), relation),
        select("rights", "o.oid::regprocedure", &rights("proacl", "'f'", "proowner"), function),
        select("rights", "o.oid::regnamespace", &rights("nspacl", "'n'", "nspowner"), schema),
        select("rights", "o.oid::regtype", &rights("typacl", "'T'", "typowner"), kind),
        select(
            "rights",
            "quote_ident(n.nspname) || '.' || quote_ident(c.relname) || '.' || quote_ident(o.attname)",
            &column,
            on_relation(
                "pg_attribute",
                "attrelid",
                "o.attacl IS NOT NULL AND o.attnum > 0 AND NOT o.attisdropped",
            ),
        ),
    ]
}

/// Who owns what else. What is not here can only belong to superusers.
fn owners() -> Vec<Select> {
    let owner = |catalogue: &str, column: &str, from: String| {
        select("owner", &identity(catalogue, "o.oid"), &format!("pg_get_userbyid(o.{column})"), from)
    };
    let schema = |catalogue: &str, prefix: &str, condition: &str| {
        let from = in_schema(catalogue, &format!("{prefix}namespace"), condition);
        owner(catalogue, &format!("{prefix}owner"), from)
    };
    vec![
        schema("pg_operator", "opr", "o.oprcode <> 0"),
        schema("pg_opclass", "opc", "true"),
        schema("pg_opfamily", "opf", "true"),
        schema("pg_collation", "coll", "true"),
        schema("pg_conversion", "con", "true"),
        schema("pg_ts_config", "cfg", "true"),
        schema("pg_ts_dict", "dict", "true"),
        schema("pg_statistic_ext", "stx", "true"),
        owner("pg_foreign_server", "srvowner", global("pg_foreign_server")),
        owner("pg_language", "lanowner", global("pg_language")),
    ]
}
