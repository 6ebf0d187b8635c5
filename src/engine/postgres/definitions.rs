//! The definitions of a database's objects, as digests: a restored index, view or right must not only exist, but be the
//! same as in the source. The definitions themselves are not kept.
//!
//! A definition is the server's own text of it (`pg_get_indexdef` and the like), which is only comparable between
//! servers of one major version. When the server has parsed an expression again, it prints it with different casts
//! and brackets, so these are left out (see [`normal()`]).

use std::collections::{BTreeMap, BTreeSet};

use super::connect::Session;
use super::inventory::{DUMPED_INDEX, in_schema, on_relation, own, relations};
use super::normal::normal;
use crate::engine::postgres::relations::OWN_SCHEMA;
use crate::error::Result;
use crate::model::id::Sha256;

/// Digest of each definition by type of object and name.
pub(crate) type Definitions = BTreeMap<String, BTreeMap<String, String>>;

/// Types of definitions that only a superuser can always restore, and that the load therefore excuses.
const RESERVED: [&str; 4] = ["comment", "event trigger", "owner", "rights"];

/// Separates the parts of a definition with a character that no text in a catalogue contains.
const PARTS: &str = "concat_ws(E'\\x1f', ";

/// What differs, in words: first real differences, then those excused because only a superuser could have restored them.
pub(crate) fn differences(
    expected: &Definitions,
    found: &Definitions,
    superuser: bool,
) -> (Vec<String>, Vec<String>) {
    let kinds: BTreeSet<&String> = expected.keys().chain(found.keys()).collect();
    let none = BTreeMap::new();
    let (mut differences, mut excused) = (Vec::new(), Vec::new());
    for kind in kinds {
        let (expected, found) = (expected.get(kind).unwrap_or(&none), found.get(kind).unwrap_or(&none));
        let names: BTreeSet<&String> = expected.keys().chain(found.keys()).collect();
        for name in names {
            let what = match (expected.get(name), found.get(name)) {
                (Some(_), None) => "is missing",
                (None, Some(_)) => "exists, but was not in the snapshot",
                (was, is) if was != is => "is defined differently from the snapshot",
                _ => continue,
            };
            let difference = format!("{kind} {} {what}", name.escape_debug());
            match superuser || !RESERVED.contains(&kind.as_str()) {
                true => differences.push(difference),
                false => excused.push(difference),
            }
        }
    }
    (differences, excused)
}

/// Reads all definitions. A session's search path is empty, so all names are qualified.
pub(crate) async fn read(session: &Session) -> Result<Definitions> {
    let major = session.version.major;
    let selects: Vec<String> =
        [relation_selects(major), attached(major), code(major), types(), rights(major), texts()]
            .into_iter()
            .flatten()
            .map(|Select { kind, name, text, from }| {
                format!("SELECT '{kind}'::text, ({name})::text, ({text})::text {from}")
            })
            .collect();
    let rows = session.query(&selects.join(" UNION ALL "), &[]).await?;
    let mut definitions = Definitions::new();
    for row in rows {
        let (kind, name, text): (String, Option<String>, Option<String>) =
            (row.get(0), row.get(1), row.get(2));
        // What was dropped in the meantime has no name.
        let Some(name) = name else { continue };
        let text = text.unwrap_or_default();
        let text = if VERBATIM.contains(&kind.as_str()) { text } else { normal(&text) };
        let mut digest = Sha256::of(text.as_bytes()).to_string();
        digest.truncate(32);
        definitions.entry(kind).or_default().insert(name, digest);
    }
    Ok(definitions)
}

/// One type of definition: SQL for the name and the text, and where they come from.
struct Select {
    kind: &'static str,
    name: String,
    text: String,
    from: String,
}

fn select(kind: &'static str, name: &str, text: &str, from: String) -> Select {
    Select { kind, name: name.to_owned(), text: text.to_owned(), from }
}

/// Types whose text contains no expression printed by the server.
const VERBATIM: [&str; 7] = ["columns of", "comment", "function", "owner", "rights", "sequence", "type"];

/// Relations and their columns.
fn relation_selects(major: u32) -> Vec<Select> {
    let compression = if major < 14 { "''" } else { "a.attcompression" };
    // The servers of some distributions store data of their own in the options of columns.
    let columns = format!(
        "(SELECT string_agg({PARTS} a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity, \
         a.attgenerated, (SELECT l.collname FROM pg_collation l WHERE l.oid = a.attcollation), a.attstorage, {compression}, \
         COALESCE(a.attstattarget, -1), \
         (SELECT string_agg(o, ',' ORDER BY o) FROM unnest(a.attoptions) o WHERE o LIKE 'n\\_distinct%'), \
         col_description(c.oid, a.attnum)), E'\\x1e' \
         ORDER BY CASE WHEN NOT c.relispartition AND EXISTS (SELECT FROM pg_inherits i WHERE i.inhrelid = c.oid) \
           THEN 0 ELSE a.attnum END, a.attname) \
         FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped)"
    );
    let relation = format!(
        "{PARTS} c.relkind, c.relpersistence, (SELECT amname FROM pg_am WHERE pg_am.oid = c.relam), \
         (SELECT string_agg(o, ',' ORDER BY o) FROM unnest(c.reloptions) o), \
         (SELECT string_agg(o, ',' ORDER BY o) FROM pg_class t, unnest(t.reloptions) o WHERE t.oid = c.reltoastrelid), \
         c.relreplident, c.relrowsecurity, c.relforcerowsecurity, pg_get_partkeydef(c.oid), \
         pg_get_expr(c.relpartbound, c.oid), \
         (SELECT string_agg(i.inhparent::regclass::text, ',' ORDER BY i.inhseqno) FROM pg_inherits i WHERE i.inhrelid = c.oid))"
    );
    vec![
        select(
            "relation",
            "c.oid::regclass",
            &relation,
            relations("c.relkind IN ('r', 'p', 'v', 'm', 'f', 'c')"),
        ),
        select(
            "columns of",
            "c.oid::regclass",
            &columns,
            relations("c.relkind IN ('r', 'p', 'v', 'm', 'f', 'c')"),
        ),
    ]
}

/// What is attached to relations: defaults, constraints, indexes, triggers, rules, policies.
fn attached(major: u32) -> Vec<Select> {
    let on = |name: &str| {
        format!("quote_ident(n.nspname) || '.' || quote_ident(c.relname) || '.' || quote_ident({name})")
    };
    let no_parent = if major < 13 { "" } else { "AND o.tgparentid = 0" };
    vec![
        select(
            "default of",
            &on("(SELECT attname FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum = o.adnum)"),
            "pg_get_expr(o.adbin, o.adrelid)",
            on_relation("pg_attrdef", "adrelid", "true"),
        ),
        select(
            "constraint",
            &on("o.conname"),
            &format!("{PARTS} pg_get_constraintdef(o.oid), o.convalidated)"),
            on_relation(
                "pg_constraint",
                "conrelid",
                "o.contype IN ('c', 'p', 'u', 'f', 'x') AND o.conparentid = 0",
            ),
        ),
        select(
            "index",
            "o.indexrelid::regclass",
            &format!(
                "{PARTS} pg_get_indexdef(o.indexrelid), o.indisclustered, o.indisreplident, o.indisvalid)"
            ),
            on_relation("pg_index", "indrelid", DUMPED_INDEX),
        ),
        select(
            "trigger",
            &on("o.tgname"),
            &format!("{PARTS} pg_get_triggerdef(o.oid), o.tgenabled)"),
            on_relation("pg_trigger", "tgrelid", &format!("NOT o.tgisinternal {no_parent}")),
        ),
        select(
            "rule",
            &on("o.rulename"),
            &format!("{PARTS} pg_get_ruledef(o.oid), o.ev_enabled)"),
            on_relation("pg_rewrite", "ev_class", "o.rulename <> '_RETURN'"),
        ),
        select(
            "policy",
            &on("o.polname"),
            &format!(
                "{PARTS} o.polcmd, o.polpermissive, (SELECT string_agg(r, ',' ORDER BY r) FROM \
                 (SELECT CASE u WHEN 0 THEN 'public' ELSE pg_get_userbyid(u)::text END FROM unnest(o.polroles) u) p(r)), \
                 pg_get_expr(o.polqual, o.polrelid), pg_get_expr(o.polwithcheck, o.polrelid))"
            ),
            on_relation("pg_policy", "polrelid", "true"),
        ),
    ]
}

/// Functions, and views.
fn code(major: u32) -> Vec<Select> {
    let body = if major < 14 { "''" } else { "pg_get_function_sqlbody(o.oid)" };
    // The columns of the catalogue are those of the snapshot, as pg_dump reads them.
    let function = format!(
        "{PARTS} o.prokind, (SELECT lanname FROM pg_language l WHERE l.oid = o.prolang), o.prorettype::regtype, \
         o.proretset, o.provolatile, o.proisstrict, o.prosecdef, o.proleakproof, \
         o.proparallel, o.procost, o.prorows, array_to_string(o.proconfig, ','), o.prosrc, o.probin)"
    );
    let aggregate = format!(
        "(SELECT {PARTS} g.aggkind, g.aggtransfn, g.aggfinalfn, g.aggcombinefn, g.aggtranstype::regtype, g.agginitval, \
         g.aggsortop::regoper, g.aggfinalextra, g.aggfinalmodify) FROM pg_aggregate g WHERE g.aggfnoid = o.oid)"
    );
    let routines = |kinds: &str| in_schema("pg_proc", "pronamespace", &format!("o.prokind IN ({kinds})"));
    vec![
        select("function", "o.oid::regprocedure", &function, routines("'f', 'p', 'w'")),
        // These contain expressions printed by the server.
        select(
            "arguments and body of",
            "o.oid::regprocedure",
            &format!("{PARTS} pg_get_function_arguments(o.oid), {body})"),
            routines("'f', 'p', 'w'"),
        ),
        select("aggregate", "o.oid::regprocedure", &aggregate, routines("'a'")),
        select("view", "c.oid::regclass", "pg_get_viewdef(c.oid)", relations("c.relkind IN ('v', 'm')")),
    ]
}

/// Types and sequences.
fn types() -> Vec<Select> {
    let labels = "(SELECT string_agg(e.enumlabel, E'\\x1e' ORDER BY e.enumsortorder) FROM pg_enum e WHERE e.enumtypid = o.oid)";
    let constraints = "(SELECT string_agg(d.conname, E'\\x1e' ORDER BY d.conname) FROM pg_constraint d \
         WHERE d.contypid = o.oid)";
    let kind = format!(
        "{PARTS} o.typtype, {labels}, format_type(NULLIF(o.typbasetype, 0), o.typtypmod), o.typnotnull, {constraints}, \
         (SELECT r.rngsubtype::regtype FROM pg_range r WHERE r.rngtypid = o.oid))"
    );
    let sequence = format!(
        "(SELECT {PARTS} s.seqtypid::regtype, s.seqstart, s.seqincrement, s.seqmin, s.seqmax, s.seqcache, s.seqcycle) \
         FROM pg_sequence s WHERE s.seqrelid = c.oid)"
    );
    vec![
        select(
            "type",
            "o.oid::regtype",
            &kind,
            in_schema("pg_type", "typnamespace", "o.typtype IN ('e', 'd', 'r')"),
        ),
        select(
            "default of type",
            "o.oid::regtype",
            "o.typdefault",
            in_schema("pg_type", "typnamespace", "o.typtype = 'd' AND o.typdefault IS NOT NULL"),
        ),
        select(
            "constraint of type",
            "o.contypid::regtype::text || '.' || quote_ident(o.conname)",
            "pg_get_constraintdef(o.oid)",
            format!(
                "FROM pg_constraint o JOIN pg_namespace n ON n.oid = o.connamespace \
                 WHERE o.contypid <> 0 AND o.contype = 'c' AND {OWN_SCHEMA} AND {}",
                own("pg_type", "o.contypid")
            ),
        ),
        select("sequence", "c.oid::regclass", &sequence, relations("c.relkind = 'S'")),
    ]
}

/// Who owns what, and who may do what. Rights that are not said are those that an object is born with.
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
    let kind = in_schema("pg_type", "typnamespace", "o.typtype IN ('e', 'd', 'r')");
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

/// What else has a text.
fn texts() -> Vec<Select> {
    vec![
        select(
            "comment",
            "(pg_identify_object(o.classoid, o.objoid, o.objsubid)).identity",
            "o.description",
            "FROM pg_description o WHERE o.objoid >= 16384 AND NOT EXISTS (SELECT FROM pg_depend e \
             WHERE e.classid = o.classoid AND e.objid = o.objoid AND e.deptype = 'e')"
                .into(),
        ),
        select(
            "statistics object",
            "quote_ident(n.nspname) || '.' || quote_ident(o.stxname)",
            "pg_get_statisticsobjdef(o.oid)",
            in_schema("pg_statistic_ext", "stxnamespace", "true"),
        ),
        select(
            "event trigger",
            "quote_ident(o.evtname)",
            &format!(
                "{PARTS} o.evtevent, o.evtfoid::regproc, o.evtenabled, array_to_string(o.evttags, ','))"
            ),
            format!("FROM pg_event_trigger o WHERE {}", own("pg_event_trigger", "o.oid")),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_named() {
        let of = |objects: &[(&str, &str, &str)]| {
            let mut definitions = Definitions::new();
            for (kind, name, digest) in objects {
                definitions.entry((*kind).into()).or_default().insert((*name).into(), (*digest).into());
            }
            definitions
        };
        let was = of(&[("index", "public.a", "1"), ("index", "public.b", "2"), ("rights", "public.t", "3")]);
        let is = of(&[("index", "public.a", "9"), ("view", "public.v", "4")]);
        assert_eq!(
            differences(&was, &is, true).0,
            [
                "index public.a is defined differently from the snapshot",
                "index public.b is missing",
                "rights public.t is missing",
                "view public.v exists, but was not in the snapshot"
            ]
        );
        let (counted, excused) = differences(&was, &is, false);
        assert_eq!((counted.len(), &excused[..]), (3, &["rights public.t is missing".to_owned()][..]));
        assert_eq!(differences(&was, &was, true), (Vec::new(), Vec::new()));
    }
}
