//! The definitions of a database's objects, as digests: a restored index, view or right must not only exist, but be the
//! same as in the source. The definitions themselves are not kept.
//!
//! A definition is the server's own text of it (`pg_get_indexdef` and the like), which is only comparable between
//! servers of one major version. When the server has parsed an expression again, it prints it with different casts
//! and brackets, so these are left out (see [`normal()`]).

use std::collections::{BTreeMap, BTreeSet};

use super::connect::Session;
use super::definition_select::{PARTS, Select, select};
use super::inventory::{DUMPED_INDEX, dumped_comment, in_schema, on_relation, own, relations};
use super::normal::normal;
use super::row::Row;
use super::{catalogue_definitions, rights_definitions};
use crate::engine::postgres::relations::OWN_SCHEMA;
use crate::error::Result;
use crate::model::id::Sha256;

/// How definitions are written: those of another form cannot be compared with these.
pub(crate) const FORM: u32 = 2;

/// Digest of each definition by type of object and name.
pub(crate) type Definitions = BTreeMap<String, BTreeMap<String, String>>;

/// Types of definitions that only a superuser can always restore, and that the load therefore excuses.
const RESERVED: [&str; 13] = [
    "access method",
    "cast",
    "comment",
    "default privilege",
    "event trigger",
    "foreign-data wrapper",
    "language",
    "large objects",
    "owner",
    "publication",
    "rights",
    "security label",
    "setting",
];

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
    let selects: Vec<String> = [relation_selects(major), attached(major), code(major), types(), texts(major)]
        .into_iter()
        .flatten()
        .chain(rights_definitions::selects(major))
        .chain(catalogue_definitions::selects(major))
        .map(|Select { kind, name, text, from }| {
            format!("SELECT '{kind}'::text, ({name})::text, ({text})::text {from}")
        })
        .collect();
    let digests = session.each(&selects.join(" UNION ALL "), digest).await?;
    let mut definitions = Definitions::new();
    for (kind, name, digest) in digests.into_iter().flatten() {
        definitions.entry(kind).or_default().insert(name, digest);
    }
    Ok(definitions)
}

/// The kind, the name and the digest of a definition. What was dropped in the meantime has no name.
fn digest(row: Row) -> Option<(String, String, String)> {
    let (kind, name): (String, Option<String>) = (row.get(0), row.get(1));
    let text: String = row.get::<_, Option<String>>(2).unwrap_or_default();
    let text = if VERBATIM.contains(&kind.as_str()) { text } else { normal(&text) };
    let mut digest = Sha256::of(text.as_bytes()).to_string();
    digest.truncate(32);
    Some((kind, name?, digest))
}

/// Types whose text contains no expression printed by the server.
const VERBATIM: [&str; 12] = [
    "collation",
    "columns of",
    "comment",
    "function",
    "large objects",
    "owner",
    "rights",
    "security label",
    "sequence",
    "setting",
    "text search dictionary",
    "type",
];

/// The operators and functions that the expressions of the row `o` of a catalogue call. They are printed by name alone, so a definition that
/// was read back under another search path can look the same and mean something else. Those of the server itself are not among them.
fn calls(catalogue: &str, oid: &str) -> String {
    format!(
        "(SELECT string_agg(DISTINCT i.identity, ',' ORDER BY i.identity) FROM pg_depend d \
         CROSS JOIN LATERAL pg_identify_object(d.refclassid, d.refobjid, 0) i WHERE d.classid = '{catalogue}'::regclass \
         AND d.objid = {oid} AND d.refclassid IN ('pg_operator'::regclass, 'pg_proc'::regclass))"
    )
}

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
         NULLIF(c.reloftype, 0)::regtype, c.relreplident, c.relrowsecurity, c.relforcerowsecurity, pg_get_partkeydef(c.oid), \
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

/// A constraint, and whether it is valid. What is inherited becomes valid or not with what it is inherited from, however that came about in
/// the source.
const VALIDITY: &str = "CASE WHEN o.conislocal THEN pg_get_constraintdef(o.oid) \
     ELSE regexp_replace(pg_get_constraintdef(o.oid), ' NOT VALID$', '') END";

/// An index. One of a partitioned table is valid when all partitions have theirs: each of these says which one it belongs to, since
/// a parent without partitions is valid at once when it is restored.
const INDEX: &str = "pg_get_indexdef(o.indexrelid), o.indisclustered, o.indisreplident, o.indisvalid OR c.relkind = 'p', \
     (SELECT i.inhparent::regclass FROM pg_inherits i WHERE i.inhrelid = o.indexrelid), \
     (SELECT string_agg(a.attnum || '=' || a.attstattarget, ',' ORDER BY a.attnum) FROM pg_attribute a \
       WHERE a.attrelid = o.indexrelid AND a.attstattarget >= 0)";

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
            &format!("{PARTS} pg_get_expr(o.adbin, o.adrelid), {})", calls("pg_attrdef", "o.oid")),
            on_relation("pg_attrdef", "adrelid", "true"),
        ),
        select(
            "constraint",
            &on("o.conname"),
            &format!("{PARTS} {VALIDITY}, {})", calls("pg_constraint", "o.oid")),
            on_relation(
                "pg_constraint",
                "conrelid",
                "o.contype IN ('c', 'p', 'u', 'f', 'x') AND o.conparentid = 0",
            ),
        ),
        select(
            "index",
            "o.indexrelid::regclass",
            &format!("{PARTS} {INDEX}, {})", calls("pg_class", "o.indexrelid")),
            on_relation("pg_index", "indrelid", DUMPED_INDEX),
        ),
        select(
            "trigger",
            &on("o.tgname"),
            &format!("{PARTS} pg_get_triggerdef(o.oid), o.tgenabled, {})", calls("pg_trigger", "o.oid")),
            on_relation("pg_trigger", "tgrelid", &format!("NOT o.tgisinternal {no_parent}")),
        ),
        select(
            "rule",
            &on("o.rulename"),
            &format!("{PARTS} pg_get_ruledef(o.oid), o.ev_enabled, {})", calls("pg_rewrite", "o.oid")),
            on_relation("pg_rewrite", "ev_class", "o.rulename <> '_RETURN'"),
        ),
        select(
            "policy",
            &on("o.polname"),
            &format!(
                "{PARTS} o.polcmd, o.polpermissive, (SELECT string_agg(r, ',' ORDER BY r) FROM \
                 (SELECT CASE u WHEN 0 THEN 'public' ELSE pg_get_userbyid(u)::text END FROM unnest(o.polroles) u) p(r)), \
                 pg_get_expr(o.polqual, o.polrelid), pg_get_expr(o.polwithcheck, o.polrelid), {})",
                calls("pg_policy", "o.oid")
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
        select(
            "view",
            "c.oid::regclass",
            &format!(
                "{PARTS} pg_get_viewdef(c.oid), {})",
                calls(
                    "pg_rewrite",
                    "(SELECT w.oid FROM pg_rewrite w WHERE w.ev_class = c.oid AND w.rulename = '_RETURN')"
                )
            ),
            relations("c.relkind IN ('v', 'm')"),
        ),
    ]
}

/// Types and sequences.
fn types() -> Vec<Select> {
    let labels = "(SELECT string_agg(e.enumlabel, E'\\x1e' ORDER BY e.enumsortorder) FROM pg_enum e WHERE e.enumtypid = o.oid)";
    let constraints = "(SELECT string_agg(d.conname, E'\\x1e' ORDER BY d.conname) FROM pg_constraint d \
         WHERE d.contypid = o.oid)";
    let kind = format!(
        "{PARTS} o.typtype, {labels}, format_type(NULLIF(o.typbasetype, 0), o.typtypmod), o.typnotnull, {constraints}, \
         (SELECT l.collname FROM pg_collation l WHERE l.oid = o.typcollation), \
         (SELECT concat_ws(' ', r.rngsubtype::regtype, l.collname, p.opcname, NULLIF(r.rngcanonical, 0)::regproc, \
            NULLIF(r.rngsubdiff, 0)::regproc) FROM pg_range r LEFT JOIN pg_collation l ON l.oid = r.rngcollation \
            LEFT JOIN pg_opclass p ON p.oid = r.rngsubopc WHERE r.rngtypid = o.oid))"
    );
    let base = format!(
        "{PARTS} o.typlen, o.typbyval, o.typcategory, o.typispreferred, o.typisdefined, o.typdelim, o.typinput, o.typoutput, \
         o.typreceive, o.typsend, o.typmodin, o.typmodout, o.typanalyze, o.typalign, o.typstorage, o.typcollation <> 0, \
         NULLIF(o.typelem, 0)::regtype, o.typdefault)"
    );
    let sequence = format!(
        "(SELECT {PARTS} s.seqtypid::regtype, s.seqstart, s.seqincrement, s.seqmin, s.seqmax, s.seqcache, s.seqcycle, \
           c.relpersistence, (SELECT string_agg(d.refobjid::regclass || '.' || a.attname, ',' ORDER BY a.attname) FROM pg_depend d \
             JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid \
             WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype IN ('a', 'i'))) \
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
            "base type",
            "o.oid::regtype",
            &base,
            // Arrays follow from their elements, and are numbered where their name is taken.
            in_schema(
                "pg_type",
                "typnamespace",
                "o.typtype = 'b' AND NOT EXISTS (SELECT FROM pg_type t WHERE t.typarray = o.oid)",
            ),
        ),
        select(
            "default of type",
            "o.oid::regtype",
            // The text that was once given knows nothing of schemas.
            "COALESCE(pg_get_expr(o.typdefaultbin, 0), o.typdefault)",
            in_schema("pg_type", "typnamespace", "o.typtype = 'd' AND o.typdefault IS NOT NULL"),
        ),
        select(
            "constraint of type",
            "o.contypid::regtype::text || '.' || quote_ident(o.conname)",
            &format!("{PARTS} pg_get_constraintdef(o.oid), {})", calls("pg_constraint", "o.oid")),
            format!(
                "FROM pg_constraint o JOIN pg_namespace n ON n.oid = o.connamespace \
                 WHERE o.contypid <> 0 AND o.contype = 'c' AND {OWN_SCHEMA} AND {}",
                own("pg_type", "o.contypid")
            ),
        ),
        select("sequence", "c.oid::regclass", &sequence, relations("c.relkind = 'S'")),
    ]
}

/// What else has a text.
fn texts(major: u32) -> Vec<Select> {
    vec![
        select(
            "comment",
            "(pg_identify_object(o.classoid, o.objoid, o.objsubid)).identity",
            "o.description",
            dumped_comment(major),
        ),
        select(
            "statistics object",
            "quote_ident(n.nspname) || '.' || quote_ident(o.stxname)",
            "concat_ws(' ', pg_get_statisticsobjdef(o.oid), NULLIF(to_jsonb(o) ->> 'stxstattarget', '-1'))",
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
