//! The judge judged: copies are equal, and each planted difference is found.

use super::*;

/// Brings a database to another cluster with PostgreSQL's own tools.
fn copy(source: &Database<'_>, to: &Cluster, name: &str) {
    let globals = run(tool(source, source.cluster.version(), "pg_dumpall").arg("--globals-only"));
    output_with_input(to.database("postgres").psql().args(["-v", "ON_ERROR_STOP=0"]), &globals);
    let archive = run(tool(source, source.cluster.version(), "pg_dump").args(["-Fc", "--create"]));
    let mut restore = to.tool("pg_restore");
    let restored =
        output_with_input(restore.args(["--create", "--exit-on-error", "--dbname=postgres"]), &archive);
    assert!(restored.status.success(), "{name}: {}", String::from_utf8_lossy(&restored.stderr));
}

#[test]
fn the_torture_database_is_judged_equal_to_its_copy_by_postgresql_itself() {
    for (from, to, portable) in [
        (Version::V15, Version::V15, false),
        (Version::V18, Version::V18, false),
        (Version::V15, Version::V18, true),
    ] {
        let (source, destination) = (Cluster::start(from), Cluster::start(to));
        let database = source.create_db("torture");
        database.load_torture(portable);
        copy(&database, &destination, "torture");
        assert_equal(&database, &destination.database("torture"));
    }
}

/// What goes wrong in restores, where it must show, and what the judge must name.
const PLANTED: &[(&str, Aspect, &str)] = &[
    ("UPDATE torture.numbers SET i4 = i4 + 1 WHERE id = 3", Aspect::Rows, "torture.numbers"),
    (
        "DELETE FROM torture.keyless WHERE ctid = (SELECT min(ctid) FROM torture.keyless WHERE b = 'twice')",
        Aspect::Rows,
        "torture.keyless",
    ),
    ("INSERT INTO torture.no_columns DEFAULT VALUES", Aspect::Rows, "torture.no_columns"),
    ("INSERT INTO torture.no_rows VALUES (1)", Aspect::Rows, "torture.no_rows"),
    ("UPDATE torture.key_float SET k = 0.0 WHERE k = 0", Aspect::Rows, "torture.key_float"),
    ("UPDATE torture.texts SET t = '' WHERE what = 'null'", Aspect::Rows, "torture.texts"),
    ("UPDATE torture.by_enum SET id = 99 WHERE id = 1 AND m = 'triste'", Aspect::Rows, "torture.by_enum"),
    ("TRUNCATE torture.unlogged", Aspect::Rows, "torture.unlogged"),
    ("DROP INDEX torture.stored_many", Aspect::Schema, "stored_many"),
    ("ALTER TABLE torture.orphans DROP CONSTRAINT not_valid_check", Aspect::Schema, "not_valid_check"),
    ("REVOKE UPDATE (t) ON torture.texts FROM \"o'neil\"", Aspect::Schema, "GRANT"),
    ("COMMENT ON COLUMN torture.numbers.n IS NULL", Aspect::Schema, "COMMENT ON COLUMN"),
    ("ALTER TABLE torture.watched DISABLE TRIGGER b_after", Aspect::Schema, "b_after"),
    ("ALTER EVENT TRIGGER no_drops DISABLE", Aspect::Schema, "no_drops"),
    ("ALTER TABLE torture.secured NO FORCE ROW LEVEL SECURITY", Aspect::Schema, "FORCE ROW LEVEL SECURITY"),
    ("ALTER TABLE torture.bytes OWNER TO torture_owner", Aspect::Schema, "OWNER TO torture_owner"),
    ("SELECT setval('torture.called', 10)", Aspect::Sequences, "torture.called"),
    ("SELECT setval('torture.set_not_called', 55, true)", Aspect::Sequences, "torture.set_not_called"),
    ("SELECT lo_put(900003, 2999999, '\\x00')", Aspect::LargeObjects, "large object 900003"),
    ("ALTER LARGE OBJECT 900002 OWNER TO marbre", Aspect::LargeObjects, "large object 900002"),
    ("COMMENT ON LARGE OBJECT 900001 IS NULL", Aspect::LargeObjects, "large object 900001"),
    ("SELECT lo_unlink(900005)", Aspect::LargeObjects, "large object 900005"),
    ("REFRESH MATERIALIZED VIEW torture.not_populated", Aspect::MaterializedViews, "torture.not_populated"),
    ("ALTER DATABASE torture RESET timezone", Aspect::Database, "TimeZone"),
    ("ALTER ROLE torture_login IN DATABASE torture RESET work_mem", Aspect::Database, "work_mem"),
    ("REVOKE TEMPORARY ON DATABASE torture FROM torture_login", Aspect::Database, "rights"),
    ("COMMENT ON DATABASE torture IS 'x'", Aspect::Database, "comment"),
    ("ALTER ROLE torture_login NOLOGIN", Aspect::Roles, "torture_login"),
    ("REVOKE torture_writer FROM \"Rédaction du \"\"Soir\"\"\"", Aspect::Roles, "Soir"),
];

#[test]
fn every_planted_difference_is_found_and_named() {
    let (first, second) = (Cluster::start(Version::V15), Cluster::start(Version::V15));
    let (source, other) = (first.create_db("torture"), second.database("torture"));
    source.load_torture(false);
    copy(&source, &second, "torture");
    // The torture database refuses changes unless told.
    for (change, _, _) in PLANTED {
        other.sql(&format!("SET torture.ddl_allowed = yes; {change}"));
    }
    let found = differences(&source, &other);
    for (change, aspect, named) in PLANTED {
        assert!(
            found.iter().any(|d| d.aspect == *aspect && d.what.contains(named)),
            "not found: {change}\n{}",
            found.iter().map(|d| format!("{d}\n")).collect::<String>()
        );
    }
}
