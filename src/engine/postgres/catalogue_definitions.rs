//! Definitions of what is neither a relation nor a routine nor attached to one: operators, casts, text search, servers, publications,
//! default privileges and the like.

use super::definition_select::{PARTS, Select, select};
use super::inventory::{global, in_schema, on_relation};

/// The name of the row `o` of a catalogue.
fn name(catalogue: &str) -> String {
    identity(catalogue, "o.oid")
}

/// The name of the object with this identifier; none for 0.
pub(super) fn identity(catalogue: &str, oid: &str) -> String {
    format!("(pg_identify_object('{catalogue}'::regclass, NULLIF({oid}, 0), 0)).identity")
}

/// All columns of the row `o` but these, which hold identifiers or are said otherwise.
fn columns_but(these: &str) -> String {
    format!("(to_jsonb(o) - '{{oid,{these}}}'::text[])::text")
}

fn sorted(array: &str) -> String {
    format!("(SELECT string_agg(x, ',' ORDER BY x) FROM unnest({array}) x)")
}

/// Who may do what, of an array of rights.
fn granted(acl: &str) -> String {
    format!(
        "(SELECT string_agg(x, ',' ORDER BY x) FROM (SELECT DISTINCT concat_ws(' ', CASE a.grantee WHEN 0 THEN 'public' \
         ELSE pg_get_userbyid(a.grantee)::text END, a.privilege_type, a.is_grantable) FROM aclexplode({acl}) a) g(x))"
    )
}

/// All of them.
pub(super) fn selects(major: u32) -> Vec<Select> {
    [operators(), languages(), text_search(), servers(), publications(major), of_the_database()]
        .into_iter()
        .flatten()
        .collect()
}

fn operators() -> Vec<Select> {
    // What an operator refers to may be declared only, and is not restored then.
    let other = |column: &str| {
        let real = format!("(SELECT p.oid FROM pg_operator p WHERE p.oid = o.{column} AND p.oprcode <> 0)");
        identity("pg_operator", &real)
    };
    let operator = format!(
        "{PARTS} o.oprkind, o.oprcanmerge, o.oprcanhash, o.oprresult::regtype, o.oprcode, o.oprrest, o.oprjoin, \
         COALESCE({}, '-'), COALESCE({}, '-'))",
        other("oprcom"),
        other("oprnegate")
    );
    let family = format!(
        "{PARTS} (SELECT amname FROM pg_am a WHERE a.oid = o.opfmethod), \
         (SELECT string_agg(concat_ws(' ', m.amopopr::regoperator, m.amopstrategy, m.amoppurpose, {}), ',' \
            ORDER BY m.amopopr::regoperator::text, m.amopstrategy) FROM pg_amop m WHERE m.amopfamily = o.oid), \
         (SELECT string_agg(concat_ws(' ', m.amproc::regprocedure, m.amprocnum, m.amproclefttype::regtype, m.amprocrighttype::regtype), ',' \
            ORDER BY m.amproc::regprocedure::text, m.amprocnum, m.amproclefttype::regtype::text, m.amprocrighttype::regtype::text) \
            FROM pg_amproc m WHERE m.amprocfamily = o.oid))",
        identity("pg_opfamily", "m.amopsortfamily")
    );
    let class = format!(
        "{PARTS} {}, o.opcintype::regtype, o.opcdefault, NULLIF(o.opckeytype, 0)::regtype)",
        identity("pg_opfamily", "o.opcfamily")
    );
    vec![
        select(
            "operator",
            &name("pg_operator"),
            &operator,
            in_schema("pg_operator", "oprnamespace", "o.oprcode <> 0"),
        ),
        select(
            "operator family",
            &name("pg_opfamily"),
            &family,
            in_schema("pg_opfamily", "opfnamespace", "true"),
        ),
        select(
            "operator class",
            &name("pg_opclass"),
            &class,
            in_schema("pg_opclass", "opcnamespace", "true"),
        ),
        select(
            "cast",
            &name("pg_cast"),
            &format!("{PARTS} NULLIF(o.castfunc, 0)::regprocedure, o.castcontext, o.castmethod)"),
            global("pg_cast"),
        ),
    ]
}

fn languages() -> Vec<Select> {
    let language = format!(
        "{PARTS} o.lanpltrusted, o.lanplcallfoid::regproc, o.laninline::regproc, o.lanvalidator::regproc, {})",
        granted("COALESCE(o.lanacl, acldefault('l', o.lanowner))")
    );
    vec![
        select("access method", "quote_ident(o.amname)", &columns_but("amname"), global("pg_am")),
        select(
            "collation",
            &name("pg_collation"),
            &columns_but("collname,collnamespace,collowner,collversion"),
            in_schema("pg_collation", "collnamespace", "true"),
        ),
        select(
            "conversion",
            &name("pg_conversion"),
            &columns_but("conname,connamespace,conowner"),
            in_schema("pg_conversion", "connamespace", "true"),
        ),
        select("language", "quote_ident(o.lanname)", &language, global("pg_language")),
        select(
            "transform",
            &name("pg_transform"),
            &format!("{PARTS} o.trffromsql::regproc, o.trftosql::regproc)"),
            global("pg_transform"),
        ),
    ]
}

fn text_search() -> Vec<Select> {
    let mapping = "(SELECT string_agg(concat_ws(' ', m.maptokentype, m.mapseqno, m.mapdict::regdictionary), ',' \
         ORDER BY m.maptokentype, m.mapseqno) FROM pg_ts_config_map m WHERE m.mapcfg = o.oid)";
    let configuration = format!("{PARTS} {}, {mapping})", identity("pg_ts_parser", "o.cfgparser"));
    let dictionary = format!("{PARTS} {}, o.dictinitoption)", identity("pg_ts_template", "o.dicttemplate"));
    vec![
        select(
            "text search configuration",
            &name("pg_ts_config"),
            &configuration,
            in_schema("pg_ts_config", "cfgnamespace", "true"),
        ),
        select(
            "text search dictionary",
            &name("pg_ts_dict"),
            &dictionary,
            in_schema("pg_ts_dict", "dictnamespace", "true"),
        ),
        select(
            "text search parser",
            &name("pg_ts_parser"),
            &columns_but("prsname,prsnamespace"),
            in_schema("pg_ts_parser", "prsnamespace", "true"),
        ),
        select(
            "text search template",
            &name("pg_ts_template"),
            &columns_but("tmplname,tmplnamespace"),
            in_schema("pg_ts_template", "tmplnamespace", "true"),
        ),
    ]
}

/// Foreign servers and what belongs to them. Their user mappings are compared with the links.
fn servers() -> Vec<Select> {
    let wrapper = format!(
        "{PARTS} o.fdwhandler::regproc, o.fdwvalidator::regproc, {}, {})",
        sorted("o.fdwoptions"),
        // Its owner is whoever may own one here.
        granted("o.fdwacl")
            .replace("aclexplode(o.fdwacl) a", "aclexplode(o.fdwacl) a WHERE a.grantee <> o.fdwowner")
    );
    let server = format!(
        "{PARTS} (SELECT fdwname FROM pg_foreign_data_wrapper w WHERE w.oid = o.srvfdw), o.srvtype, o.srvversion, {}, {})",
        sorted("o.srvoptions"),
        granted("COALESCE(o.srvacl, acldefault('S', o.srvowner))")
    );
    let table = format!(
        "{PARTS} (SELECT srvname FROM pg_foreign_server s WHERE s.oid = o.ftserver), {}, \
         (SELECT string_agg(a.attname || ' ' || {}, ',' ORDER BY a.attname) FROM pg_attribute a \
          WHERE a.attrelid = o.ftrelid AND a.attfdwoptions IS NOT NULL AND NOT a.attisdropped))",
        sorted("o.ftoptions"),
        sorted("a.attfdwoptions")
    );
    vec![
        select("foreign-data wrapper", "quote_ident(o.fdwname)", &wrapper, global("pg_foreign_data_wrapper")),
        select("foreign server", "quote_ident(o.srvname)", &server, global("pg_foreign_server")),
        select(
            "foreign table",
            "o.ftrelid::regclass",
            &table,
            on_relation("pg_foreign_table", "ftrelid", "true"),
        ),
    ]
}

fn publications(major: u32) -> Vec<Select> {
    let part = match major {
        0..=14 => "''",
        _ => {
            "concat_ws(' ', (SELECT string_agg(a.attname, ',' ORDER BY a.attname) FROM pg_attribute a \
              WHERE a.attrelid = r.prrelid AND a.attnum = ANY (r.prattrs::int2[])), pg_get_expr(r.prqual, r.prrelid))"
        }
    };
    let schemas = match major {
        0..=14 => "''",
        _ => {
            "(SELECT string_agg(s.pnnspid::regnamespace::text, ',' ORDER BY s.pnnspid::regnamespace::text) \
              FROM pg_publication_namespace s WHERE s.pnpubid = o.oid)"
        }
    };
    let publication = format!(
        "{PARTS} {}, (SELECT string_agg(concat_ws(' ', r.prrelid::regclass, {part}), ',' ORDER BY r.prrelid::regclass::text) \
         FROM pg_publication_rel r WHERE r.prpubid = o.oid), {schemas})",
        columns_but("pubname,pubowner")
    );
    vec![select("publication", "quote_ident(o.pubname)", &publication, global("pg_publication"))]
}

/// What belongs to the database as a whole.
fn of_the_database() -> Vec<Select> {
    let here = "(SELECT oid FROM pg_database WHERE datname = current_database())";
    // One digest for all of them: there can be millions.
    let objects = format!(
        "sum(hashtextextended(concat_ws(' ', o.oid, pg_get_userbyid(o.lomowner), \
         CASE WHEN o.lomacl IS NOT NULL THEN {} END), 0)::numeric)",
        granted("o.lomacl")
    );
    vec![
        select(
            "extension",
            "quote_ident(o.extname)",
            "o.extnamespace::regnamespace",
            "FROM pg_extension o".into(),
        ),
        select(
            "default privilege",
            "concat_ws(' ', quote_ident(pg_get_userbyid(o.defaclrole)), NULLIF(o.defaclnamespace, 0)::regnamespace, \
             o.defaclobjtype)",
            &granted("o.defaclacl"),
            "FROM pg_default_acl o".into(),
        ),
        select(
            "security label",
            "o.provider || ' ' || (pg_identify_object(o.classoid, o.objoid, o.objsubid)).identity",
            "o.label",
            "FROM pg_seclabel o WHERE o.classoid <> 'pg_subscription'::regclass".into(),
        ),
        select(
            "large objects",
            "'all'",
            &objects,
            "FROM pg_largeobject_metadata o HAVING count(*) > 0".into(),
        ),
        select(
            "setting",
            "concat_ws(' ', COALESCE(quote_ident(pg_get_userbyid(NULLIF(o.setrole, 0))), 'database'), split_part(c, '=', 1))",
            "substr(c, strpos(c, '=') + 1)",
            format!(
                "FROM pg_db_role_setting o CROSS JOIN LATERAL unnest(o.setconfig) c WHERE o.setdatabase = {here}"
            ),
        ),
        select(
            "owner",
            "'the database'",
            "pg_get_userbyid(o.datdba)",
            format!("FROM pg_database o WHERE o.oid = {here}"),
        ),
        select(
            "rights",
            "'the database'",
            &format!("{PARTS} o.datconnlimit, {})", granted("COALESCE(o.datacl, acldefault('d', o.datdba))")),
            format!("FROM pg_database o WHERE o.oid = {here}"),
        ),
    ]
}
