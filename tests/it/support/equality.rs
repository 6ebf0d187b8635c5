//! The judge: are two PostgreSQL databases equal in every respect that people care about? It shares no code
//! with marbre, and asks the servers and `pg_dump` only.

mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::process::Command;

use sha2::{Digest, Sha256};

use super::postgres::{Cluster, Database, Version, output_with_input, quote_text, run};

/// In what respect databases can differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Aspect {
    /// What `pg_dump --schema-only` writes: definitions, comments, rights.
    Schema,
    /// The rows of tables.
    Rows,
    /// The state of sequences.
    Sequences,
    /// Content, owner, rights and comment of large objects.
    LargeObjects,
    /// Populated or not, and the rows, of materialized views.
    MaterializedViews,
    /// Attributes, settings and memberships of the roles that the database refers to.
    Roles,
    /// Owner, rights, settings, comment, encoding and collation of the database itself.
    Database,
}

impl Aspect {
    /// All of them.
    pub const ALL: [Aspect; 7] = [
        Aspect::Schema,
        Aspect::Rows,
        Aspect::Sequences,
        Aspect::LargeObjects,
        Aspect::MaterializedViews,
        Aspect::Roles,
        Aspect::Database,
    ];
}

/// One thing that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// In what respect.
    pub aspect: Aspect,
    /// Which object, and how.
    pub what: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.aspect, self.what)
    }
}

/// Fails, with everything that differs, unless the databases are equal in every respect.
#[track_caller]
pub fn assert_equal(expected: &Database<'_>, found: &Database<'_>) {
    assert_equal_in(expected, found, &Aspect::ALL);
}

/// The same for some respects only.
#[track_caller]
pub fn assert_equal_in(expected: &Database<'_>, found: &Database<'_>, aspects: &[Aspect]) {
    let differences: Vec<_> = differences(expected, found)
        .into_iter()
        .filter(|d| aspects.contains(&d.aspect))
        .map(|d| d.to_string())
        .collect();
    assert!(
        differences.is_empty(),
        "{:?} ({:?}) and {:?} ({:?}) differ in {} respects:\n{}",
        expected.name,
        expected.cluster.version(),
        found.name,
        found.cluster.version(),
        differences.len(),
        differences.join("\n")
    );
}

/// Everything in which the second database differs from the first.
pub fn differences(expected: &Database<'_>, found: &Database<'_>) -> Vec<Difference> {
    let mut all = Vec::new();
    let pg_dump = expected.cluster.version().max(found.cluster.version());
    let schemas = (expected_schema(expected, found, pg_dump), schema(found, pg_dump));
    all.extend(
        line_differences(&schemas.0, &schemas.1, 2)
            .into_iter()
            .map(|what| Difference { aspect: Aspect::Schema, what }),
    );
    for (aspect, sql) in [
        (Aspect::LargeObjects, LARGE_OBJECTS),
        (Aspect::MaterializedViews, MATERIALIZED_VIEWS),
        (Aspect::Roles, ROLES),
        (Aspect::Database, DATABASE),
    ] {
        let facts = (facts(expected, sql), facts(found, sql));
        all.extend(
            map_differences(&facts.0, &facts.1).into_iter().map(|(_, what)| Difference { aspect, what }),
        );
    }
    let (left, right) = (Contents::read(expected), Contents::read(found));
    for (aspect, left, right) in [
        (Aspect::Rows, &left.tables, &right.tables),
        (Aspect::Sequences, &left.sequences, &right.sequences),
        (Aspect::MaterializedViews, &left.views, &right.views),
    ] {
        for (name, what) in map_differences(left, right) {
            let both = left.contains_key(&name) && right.contains_key(&name);
            let what = match aspect {
                Aspect::Rows if both => format!("{what}\n{}", sample(&name, [expected, found])),
                _ => what,
            };
            all.push(Difference { aspect, what });
        }
    }
    all
}

/// The schema as `pg_dump` of this version writes it.
fn schema(database: &Database<'_>, pg_dump: Version) -> String {
    let dump = run(tool(database, pg_dump, "pg_dump").args(["--schema-only", "--no-sync"]));
    normalised(&String::from_utf8(dump).unwrap())
}

/// A client program of some version, pointed at a database.
fn tool(database: &Database<'_>, version: Version, name: &str) -> Command {
    let mut command = Command::new(version.program(name));
    for (variable, value) in database.psql().get_envs() {
        match value {
            Some(value) => command.env(variable, value),
            None => command.env_remove(variable),
        };
    }
    command
}

/// Takes away what differs between any two dumps: the random token and the versions. The roles of a policy come in
/// the order in which the cluster happens to hold them.
fn normalised(dump: &str) -> String {
    const VARYING: [&str; 4] =
        ["\\restrict ", "\\unrestrict ", "-- Dumped from database version ", "-- Dumped by pg_dump version "];
    dump.split_inclusive('\n')
        .filter(|line| !VARYING.iter().any(|start| line.starts_with(start)))
        .map(
            |line| {
                if line.starts_with("CREATE POLICY ") { with_sorted_roles(line) } else { line.to_owned() }
            },
        )
        .collect()
}

fn with_sorted_roles(policy: &str) -> String {
    let Some((before, rest)) = policy.split_once(" TO ") else {
        return policy.to_owned();
    };
    let end = [" USING (", " WITH CHECK (", ";\n"].iter().filter_map(|end| rest.find(end)).min();
    let (roles, after) = rest.split_at(end.unwrap_or(rest.len()));
    let mut roles: Vec<_> = roles.split(", ").collect();
    roles.sort_unstable();
    format!("{before} TO {}{after}", roles.join(", "))
}

/// The schema that the found database should have. A newer server writes some definitions in another way
/// (views without needless qualification, for example), so where versions differ, PostgreSQL's own tools bring
/// the expected schema to a server of the newer version first.
fn expected_schema(expected: &Database<'_>, found: &Database<'_>, pg_dump: Version) -> String {
    if expected.cluster.version() == found.cluster.version() {
        return schema(expected, pg_dump);
    }
    assert_eq!(found.cluster.version(), pg_dump, "a newer database cannot be judged against an older one");
    let newer = Cluster::start(pg_dump);
    let through = newer.create_db("judged");
    let globals = run(tool(expected, expected.cluster.version(), "pg_dumpall").arg("--globals-only"));
    let mut psql = newer.database("postgres").psql();
    // The superuser exists already, which is the one error to expect.
    output_with_input(psql.args(["-v", "ON_ERROR_STOP=0"]), &globals);
    // The archive comes from the server's own release: 15.20 stores `pg_attver` among a column's options, which only
    // the `pg_dump` of that day and later leaves out.
    let archive = run(tool(expected, expected.cluster.version(), "pg_dump").args(["--schema-only", "-Fc"]));
    let restored =
        output_with_input(newer.tool("pg_restore").args(["--exit-on-error", "--dbname=judged"]), &archive);
    assert!(restored.status.success(), "{}", String::from_utf8_lossy(&restored.stderr));
    schema(&through, pg_dump)
}

/// Large objects: one line each.
const LARGE_OBJECTS: &str = r#"
SELECT 'large object ' || m.oid, concat_ws(' ', 'owner=' || pg_get_userbyid(lomowner),
    'bytes=' || length(lo_get(m.oid)), 'md5=' || md5(lo_get(m.oid)), 'comment=' || d.description,
    'rights=' || (SELECT string_agg(a::text, ',' ORDER BY a::text) FROM unnest(lomacl) a))
  FROM pg_largeobject_metadata m
  LEFT JOIN pg_description d ON d.classoid = 'pg_largeobject'::regclass AND d.objoid = m.oid"#;

/// What pg_dump's schema does not say about materialized views and indexes.
const MATERIALIZED_VIEWS: &str = r#"
SELECT 'populated ' || oid::regclass, relispopulated::text FROM pg_class WHERE relkind = 'm'
UNION ALL
SELECT 'index ' || indexrelid::regclass, concat_ws(' ', 'valid=' || indisvalid, 'ready=' || indisready, 'live=' || indislive)
  FROM pg_index JOIN pg_class c ON c.oid = indexrelid JOIN pg_namespace n ON n.oid = relnamespace
  WHERE nspname NOT LIKE 'pg\_%'"#;

/// Roles that own something in the database, have rights on it, or settings in it; and what they belong to.
const ROLES: &str = r#"
WITH RECURSIVE here AS (SELECT oid FROM pg_database WHERE datname = current_database()),
named AS (
  SELECT refobjid AS oid FROM pg_shdepend, here
    WHERE refclassid = 'pg_authid'::regclass AND (dbid = here.oid OR (dbid = 0 AND classid = 'pg_database'::regclass AND objid = here.oid))
  UNION SELECT setrole FROM pg_db_role_setting, here WHERE setdatabase = here.oid),
related AS (SELECT oid FROM named UNION SELECT roleid FROM pg_auth_members JOIN related ON member = related.oid)
SELECT 'role ' || quote_ident(rolname), concat_ws(' ', 'super=' || rolsuper, 'inherit=' || rolinherit, 'createrole=' || rolcreaterole,
    'createdb=' || rolcreatedb, 'login=' || rolcanlogin, 'replication=' || rolreplication, 'bypassrls=' || rolbypassrls,
    'connections=' || rolconnlimit, 'password=' || rolpassword, 'until=' || rolvaliduntil, 'comment=' || shobj_description(oid, 'pg_authid'),
    'settings=' || (SELECT string_agg(s, ',' ORDER BY s) FROM pg_db_role_setting, unnest(setconfig) s WHERE setrole = a.oid AND setdatabase = 0),
    'member of=' || (SELECT string_agg(quote_ident(pg_get_userbyid(roleid)) || CASE WHEN admin_option THEN '*' ELSE '' END, ',' ORDER BY pg_get_userbyid(roleid) COLLATE "C")
                       FROM pg_auth_members WHERE member = a.oid))
  FROM pg_authid a WHERE oid IN (SELECT oid FROM related) AND rolname NOT LIKE 'pg\_%'"#;

/// The database itself, its own settings, and the settings of roles in it.
const DATABASE: &str = r#"
SELECT unnest(ARRAY['owner', 'encoding', 'collation', 'character type', 'provider', 'connections', 'rights', 'comment', 'template', 'allows connections']),
    unnest(ARRAY[pg_get_userbyid(datdba)::text, pg_encoding_to_char(encoding)::text, datcollate, datctype, datlocprovider::text, datconnlimit::text,
      (SELECT string_agg(a::text, ',' ORDER BY a::text COLLATE "C") FROM unnest(datacl) a), shobj_description(oid, 'pg_database'), datistemplate::text, datallowconn::text])
  FROM pg_database WHERE datname = current_database()
UNION ALL
SELECT 'setting of ' || CASE setrole WHEN 0 THEN 'everybody' ELSE pg_get_userbyid(setrole) END || ': ' || split_part(s, '=', 1), s
  FROM pg_db_role_setting, unnest(setconfig) s WHERE setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database())"#;

/// The settings under which values become text in both databases, whatever the database itself is set to.
const PINNED: &str = "SET search_path = pg_catalog; SET timezone = 'UTC'; SET datestyle = 'ISO'; SET intervalstyle = 'postgres';
SET bytea_output = 'hex'; SET extra_float_digits = 1; SET xmloption = 'content'; SET client_encoding = 'UTF8'; SET row_security = off; SET lc_monetary = 'C';\n";

/// Runs a query of two columns, name and value.
fn facts(database: &Database<'_>, sql: &str) -> BTreeMap<String, String> {
    let wrapped =
        format!("{PINNED} SELECT json_object_agg(k, coalesce(v, '(none)')) FROM ({sql}) AS facts (k, v);");
    let text = database.sql(&wrapped);
    if text.is_empty() { BTreeMap::new() } else { serde_json::from_str(&text).unwrap() }
}

/// The relations of a database that hold data, and what is in them.
#[derive(Debug, Default)]
struct Contents {
    tables: BTreeMap<String, String>,
    sequences: BTreeMap<String, String>,
    views: BTreeMap<String, String>,
}

/// Relations with data of their own. Extensions' tables belong to the extension, foreign tables are
/// elsewhere. Rows in partitions by the hash of an enum, or of a domain or array of one, may change partition, because the hash
/// depends on the enum's object identifiers: such tables are compared as a whole.
const RELATIONS: &str = r#"
WITH hashed_enums AS (
  SELECT partrelid FROM pg_partitioned_table p
    WHERE partstrat = 'h' AND EXISTS (SELECT FROM pg_attribute a JOIN pg_type t ON t.oid = atttypid
      LEFT JOIN pg_type u ON u.oid IN (t.typbasetype, t.typelem)
      WHERE attrelid = partrelid AND attnum = ANY (partattrs) AND 'e' IN (t.typtype, u.typtype)))
SELECT json_build_array(relkind, format('%I.%I', nspname, relname))
  FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
  WHERE nspname NOT LIKE 'pg\_%' AND nspname <> 'information_schema'
    AND (relkind IN ('r', 'S') OR (relkind = 'm' AND relispopulated) OR c.oid IN (SELECT partrelid FROM hashed_enums))
    AND NOT EXISTS (SELECT FROM pg_partition_ancestors(c.oid) AS up (up) JOIN hashed_enums ON partrelid = up.up WHERE up.up <> c.oid)
    AND NOT EXISTS (SELECT FROM pg_depend WHERE classid = 'pg_class'::regclass AND objid = c.oid AND deptype = 'e')
  ORDER BY nspname, relname;"#;

impl Contents {
    fn read(database: &Database<'_>) -> Self {
        let listing = database.sql(&format!("{PINNED}{RELATIONS}"));
        let relations: Vec<(String, String)> =
            listing.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let files = tempfile::tempdir().unwrap();
        let (rows, count) =
            (|i| files.path().join(format!("{i}.rows")), |i| files.path().join(format!("{i}.count")));
        // psql writes the files itself: hundreds of relations would be thousands of processes.
        let mut script = String::from(PINNED);
        for (i, (kind, name)) in relations.iter().enumerate() {
            let query = match kind.as_str() {
                "S" => format!("SELECT last_value, is_called FROM {name}"),
                _ => ordered(kind, name),
            };
            script += &format!("COPY ({query}) TO STDOUT \\g {}\n", rows(i).display());
            script += &format!("SELECT count(*) FROM {}{name} \\g {}\n", only(kind), count(i).display());
        }
        database.sql(&script);
        let mut contents = Self::default();
        for (i, (kind, name)) in relations.into_iter().enumerate() {
            let rows = fs::read(rows(i)).unwrap();
            let hashed = || {
                let count = fs::read_to_string(count(i)).unwrap();
                format!("{} {}", hex::encode(Sha256::digest(&rows)), count.trim_end())
            };
            let (map, found) = match kind.as_str() {
                "S" => (&mut contents.sequences, String::from_utf8_lossy(&rows).trim_end().to_owned()),
                "m" => (&mut contents.views, hashed()),
                _ => (&mut contents.tables, hashed()),
            };
            map.insert(name, found);
        }
        contents
    }
}

fn only(kind: &str) -> &'static str {
    if kind == "r" { "ONLY " } else { "" }
}

/// All rows of a relation, in an order that depends on their text alone.
fn ordered(kind: &str, name: &str) -> String {
    let only = only(kind);
    format!("SELECT * FROM {only}{name} AS \"the § row\" ORDER BY \"the § row\"::text COLLATE \"C\"")
}

/// The first lines in which two tables differ, to show what happened.
fn sample(name: &str, databases: [&Database<'_>; 2]) -> String {
    let texts = databases.map(|database| {
        let kind =
            database.sql(&format!("SELECT relkind FROM pg_class WHERE oid = {}::regclass", quote_text(name)));
        let rows = database.sql(&format!("{PINNED}COPY ({}) TO STDOUT;", ordered(&kind, name)));
        rows.lines().map(|line| line.chars().take(200).collect::<String>() + "\n").collect::<String>()
    });
    let lines: Vec<_> = line_differences(&texts[0], &texts[1], 0).into_iter().take(3).collect();
    lines.join("\n")
}

/// The names whose values differ, with how.
fn map_differences(
    expected: &BTreeMap<String, String>,
    found: &BTreeMap<String, String>,
) -> Vec<(String, String)> {
    let names: BTreeSet<_> = expected.keys().chain(found.keys()).collect();
    names
        .into_iter()
        .filter_map(|name| {
            let what = match (expected.get(name), found.get(name)) {
                (Some(a), Some(b)) if a == b => return None,
                (Some(a), Some(b)) => format!("{name}: expected {a:?}, found {b:?}"),
                (Some(a), None) => format!("{name} is missing, expected {a:?}"),
                (None, b) => format!("{name} is not expected, found {b:?}"),
            };
            Some((name.clone(), what))
        })
        .collect()
}

/// Where two texts differ, in the manner of `diff`, each place with so many lines around it.
fn line_differences(expected: &str, found: &str, context: u8) -> Vec<String> {
    if expected == found {
        return Vec::new();
    }
    let dir = tempfile::tempdir().unwrap();
    let (left, right) = (dir.path().join("expected"), dir.path().join("found"));
    fs::write(&left, expected).unwrap();
    fs::write(&right, found).unwrap();
    let diff =
        Command::new("diff").args([&format!("-U{context}"), "--text"]).args([left, right]).output().unwrap();
    let text = String::from_utf8_lossy(&diff.stdout).into_owned();
    text.split("\n@@ ").skip(1).map(|hunk| format!("@@ {hunk}")).collect()
}
