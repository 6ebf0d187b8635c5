//! Where a restore may go, what an interrupted one leaves, and what a user without all rights gets.

use std::time::Duration;

use rustix::process::Signal;

use super::refusals::wait_for;
use crate::support::equality::{Aspect, assert_equal, assert_equal_in};
use crate::support::postgres::{Cluster, Database, SUPERUSER, Version};
use crate::support::setup::{Provider, Tmpfs};
use crate::support::sqlite_setup::files;

const SMALL: &str = "
CREATE TABLE abonnes (id int PRIMARY KEY, nom text);
INSERT INTO abonnes SELECT g, 'n' || g FROM generate_series(1, 1000) g;
COMMENT ON DATABASE abonnes IS 'les abonnés'";

#[test]
fn only_into_an_empty_place_unless_told() {
    let (source, destination) = (Cluster::start(Version::V15), Cluster::start(Version::V15));
    let database = source.create_db("abonnes");
    database.sql(SMALL);
    let provider = Provider::of(&database);
    provider.snapshot().success();
    let restored = destination.database("abonnes");
    let there =
        || destination.database("postgres").sql("SELECT count(*) FROM pg_database WHERE datname = 'abonnes'");

    let said = provider.restore("nas", &restored.url()).arg("--dry-run").success().json();
    assert_eq!((&said["verdict"], &said["destination_was"]), (&"dry-run".into(), &"not there".into()));
    assert!(said["bytes"].as_u64() > Some(0) && said["estimated_seconds"].as_f64().is_some(), "{said}");
    assert_eq!(there(), "0");

    let restored = destination.create_db("abonnes");
    restored.sql("CREATE TABLE précieux (id int)");
    let all = || {
        restored.sql("SELECT relname, pg_current_wal_lsn() - '0/0' > 0 FROM pg_class WHERE relnamespace = 'public'::regnamespace ORDER BY 1")
    };
    let before = all();
    for more in [&[][..], &["--dry-run"][..]] {
        let said = provider.restore("nas", &restored.url()).args(more).fails_with(4).json();
        assert!(said["error"].as_str().unwrap().contains("is not empty: 1 tables"), "{said}");
        assert!(said["remedy"].as_str().unwrap().contains("--overwrite"), "{said}");
    }
    let said = provider.restore("nas", &restored.url()).args(["--dry-run", "--overwrite"]).success().json();
    assert!(said["destination_was"].as_str().unwrap().contains("1 tables"), "{said}");
    assert_eq!(all(), before);

    // Somebody is in it.
    let mut psql = restored.psql().args(["-c", "SELECT pg_sleep(60)"]).spawn().unwrap();
    wait_for(
        &restored,
        "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(60)%' AND pid <> pg_backend_pid()",
    );
    provider.restore("nas", &restored.url()).args(["--prove", "--overwrite"]).success();
    psql.wait().unwrap();
    assert_equal(&database, &restored);

    // An empty one is taken as it is.
    let empty = destination.create_db("vide");
    provider.restore("nas", &empty.url()).arg("--prove").success();
    assert_equal_in(&database, &empty, &[Aspect::Schema, Aspect::Rows]);
}

/// A database that holds something, with all that belongs to it.
fn precious<'a>(destination: &'a Cluster) -> Database<'a> {
    let old = destination.create_db("abonnes");
    old.sql("CREATE TABLE précieux (id int); INSERT INTO précieux VALUES (7); COMMENT ON DATABASE abonnes IS 'à garder'");
    old.sql("ALTER DATABASE abonnes SET work_mem = '5MB'");
    old
}

/// The old database is as it was, and there is no other.
#[track_caller]
fn is_kept(old: &Database<'_>) {
    assert_eq!(old.sql("SELECT id FROM précieux"), "7");
    let facts = "SELECT d.datname, shobj_description(d.oid, 'pg_database'), s.setconfig FROM pg_database d
                 LEFT JOIN pg_db_role_setting s ON s.setdatabase = d.oid WHERE d.datname LIKE 'abonnes%'";
    assert_eq!(old.sql(facts), "abonnes|à garder|{work_mem=5MB}");
}

#[test]
fn overwriting_keeps_the_old_database_until_the_new_one_is_whole() {
    let source = Cluster::start(Version::V15);
    let destination = Cluster::start_with(Version::V15, &["max_prepared_transactions=2"]);
    let database = source.create_db("abonnes");
    database.sql(SMALL);
    database.sql("CREATE TABLE big AS SELECT g AS id, repeat(md5(g::text), 100) AS t FROM generate_series(1, 20000) g; ALTER TABLE big ADD PRIMARY KEY (id)");
    let provider = Provider::of(&database);
    provider.snapshot().success();
    let old = precious(&destination);
    let postgres = destination.database("postgres");
    let overwrite = || provider.restore("nas", &old.url()).args(["--prove", "--overwrite"]);

    // A pack is damaged.
    let pack =
        files(&provider.objects()).into_iter().rfind(|p| p.parent().unwrap().ends_with("packs")).unwrap();
    let whole = std::fs::read(&pack).unwrap();
    let mut damaged = whole.clone();
    damaged[whole.len() / 2] ^= 1;
    std::fs::write(&pack, damaged).unwrap();
    let said = overwrite().fails_with(9).json();
    assert!(said["remedy"].is_string(), "{said}");
    is_kept(&old);
    std::fs::write(&pack, whole).unwrap();

    // It cannot be renamed.
    old.sql("BEGIN; INSERT INTO précieux VALUES (8); PREPARE TRANSACTION 'p'");
    let said = overwrite().fails_with(4).json();
    assert!(said["error"].as_str().unwrap().contains("1 prepared transactions"), "{said}");
    old.sql("ROLLBACK PREPARED 'p'");
    is_kept(&old);

    // Somebody else's database has the name.
    postgres.sql("CREATE DATABASE \"abonnes.marbre-new\"");
    let said = overwrite().fails_with(4).json();
    assert!(said["error"].as_str().unwrap().contains("abonnes.marbre-new is in the way"), "{said}");
    postgres.sql("DROP DATABASE \"abonnes.marbre-new\"");
    is_kept(&old);

    let loading =
        "SELECT count(*) FROM pg_stat_activity WHERE datname = 'abonnes.marbre-new' AND query LIKE 'COPY %'";
    for (signal, code) in [(Signal::INT, Some(130)), (Signal::KILL, None)] {
        let running = overwrite().start();
        wait_for(&postgres, loading);
        running.signal(signal);
        assert_eq!(running.wait().code(), code);
        if code.is_some() {
            is_kept(&old);
        }
    }
    // What the killed one left is in nobody's way.
    assert_eq!(old.sql("SELECT id FROM précieux"), "7");
    let said = overwrite().success().json();
    assert_eq!(said["verdict"], "proven", "{said}");
    assert_equal(&database, &old);
    assert_eq!(postgres.sql("SELECT count(*) FROM pg_database WHERE datname LIKE 'abonnes%'"), "1");
}

#[test]
fn a_spool_without_room_is_refused_beforehand() {
    let cluster = Cluster::start(Version::V15);
    let database = cluster.create_db("abonnes");
    database.sql(SMALL);
    let provider = Provider::of(&database);
    provider.snapshot().success();
    let spool = provider.path("small");
    let _mounted = Tmpfs::mount(&spool, "4k");
    let said = provider
        .restore("nas", &cluster.database("copy").url())
        .arg("--spool")
        .arg(&spool)
        .fails_with(4)
        .json();
    let error = said["error"].as_str().unwrap();
    assert!(error.contains(" free, and the snapshot's packs may need "), "{said}");
    assert!(said["remedy"].as_str().unwrap().contains("--spool"), "{said}");
    assert_eq!(database.sql("SELECT count(*) FROM pg_database WHERE datname = 'copy'"), "0");
}

#[test]
fn an_older_server_is_refused() {
    let (source, destination) = (Cluster::start(Version::V18), Cluster::start(Version::V15));
    let database = source.create_db("abonnes");
    database.sql(SMALL);
    let provider = Provider::of(&database);
    provider.snapshot().success();
    let said = provider.restore("nas", &destination.database("abonnes").url()).fails_with(4).json();
    assert!(said["error"].as_str().unwrap().contains("older than the snapshot's, which was 18"), "{said}");
    assert!(said["remedy"].as_str().unwrap().contains("PostgreSQL 18 or newer"), "{said}");
    assert_eq!(
        destination.database("postgres").sql("SELECT count(*) FROM pg_database WHERE datname = 'abonnes'"),
        "0"
    );
}

#[test]
fn an_interrupted_restore_is_marked_and_can_be_run_again() {
    let (source, destination) = (Cluster::start(Version::V15), Cluster::start(Version::V15));
    let database = source.create_db("torture");
    database.load_torture(false);
    let provider = Provider::of(&database);
    provider.snapshot().success();
    let (restored, postgres) = (destination.database("torture"), destination.database("postgres"));
    let comment = || {
        postgres
            .sql("SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = 'torture'")
    };
    let gone = "SELECT (count(*) = 0)::int FROM pg_stat_activity WHERE application_name LIKE 'marbre%'";
    // At several stages: as soon as the database is there, with the rows, with the indexes.
    let moments = [
        "SELECT count(*) FROM pg_database WHERE datname = 'torture'",
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'marbre' AND query LIKE 'COPY %'",
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'marbre pg_restore' AND (query LIKE '%INDEX%' OR query LIKE '%CONSTRAINT%')",
    ];
    for (moment, signal) in moments.iter().flat_map(|m| [(m, Signal::KILL), (m, Signal::INT)]) {
        postgres.sql("DROP DATABASE IF EXISTS nothing");
        let running = provider.restore("nas", &restored.url()).args(["--roles", "all"]).start();
        wait_for(&postgres, moment);
        running.signal(signal);
        let outcome = running.wait();
        assert_eq!(outcome.code(), (signal == Signal::INT).then_some(130), "{moment}: {outcome}");
        wait_for(&postgres, gone);
        let said = comment();
        assert!(said.starts_with("marbre: INCOMPLETE restore of 2") || said.is_empty(), "{moment}: {said}");
        let seen = provider.restore("nas", &restored.url()).arg("--dry-run").success().json();
        let was = seen["destination_was"].as_str().unwrap().to_owned();
        assert!(["an interrupted restore", "empty", "not there"].contains(&was.as_str()), "{was}");
        eprintln!("{signal:?} at {moment:.60}: {was}");
    }
    provider.restore("nas", &restored.url()).args(["--prove", "--roles", "all"]).success();
    assert_equal(&database, &restored);
}

#[test]
fn a_user_without_all_rights_is_told_what_could_not_be_set() {
    let (source, destination) = (Cluster::start(Version::V15), Cluster::start(Version::V15));
    let database = source.create_db("abonnes");
    database.sql(&format!(
        "{SMALL}; CREATE ROLE redaction; CREATE ROLE chef SUPERUSER; GRANT SELECT ON abonnes TO redaction; ALTER TABLE abonnes OWNER TO chef;
         CREATE FUNCTION f() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END'; CREATE EVENT TRIGGER watcher ON ddl_command_end EXECUTE FUNCTION f();
         CREATE TABLE lignes (id int PRIMARY KEY REFERENCES abonnes)"
    ));
    let provider = Provider::of(&database);
    provider.snapshot().success();
    destination.database("postgres").sql("CREATE ROLE modest LOGIN CREATEDB CREATEROLE");
    let restored = destination.database("abonnes");
    let url = restored.url().replace(&format!("user={SUPERUSER}"), "user=modest");
    let report = provider
        .restore("nas", &url)
        .args(["--prove", "--roles", "all"])
        .timeout(Duration::from_secs(60))
        .success()
        .json();
    let warnings = report["warnings"].to_string();
    for word in
        ["role \\\"chef\\\" was created without its special attributes", "OWNER TO", "EVENT TRIGGER watcher"]
    {
        assert!(warnings.contains(word), "no {word:?} in {report}");
    }
    assert_equal_in(&database, &restored, &[Aspect::Rows, Aspect::Sequences]);
    assert_eq!(restored.sql("SELECT has_table_privilege('redaction', 'abonnes', 'SELECT')"), "t");
}

/// A database of several owners, with roles that can do much.
const OF_MANY: &str = "
CREATE ROLE chief SUPERUSER LOGIN PASSWORD 'chief'; CREATE ROLE app LOGIN PASSWORD 'app'; CREATE ROLE reader;
GRANT pg_read_server_files, reader TO app;
CREATE SCHEMA shop AUTHORIZATION app;
CREATE TYPE shop.state AS ENUM ('open'); ALTER TYPE shop.state OWNER TO app;
CREATE DOMAIN shop.positive AS int CHECK (VALUE > 0); ALTER DOMAIN shop.positive OWNER TO app;
CREATE TABLE shop.orders (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, n shop.positive, s shop.state); ALTER TABLE shop.orders OWNER TO app;
INSERT INTO shop.orders (n, s) SELECT g, 'open' FROM generate_series(1, 100) g;
CREATE FUNCTION shop.double(int) RETURNS int LANGUAGE sql AS 'SELECT $1 * 2'; ALTER FUNCTION shop.double OWNER TO app;
CREATE MATERIALIZED VIEW shop.total AS SELECT sum(n) FROM shop.orders; ALTER MATERIALIZED VIEW shop.total OWNER TO chief;
GRANT SELECT ON shop.orders TO reader;
SELECT lo_from_bytea(7, 'contract');
";

#[test]
fn roles_come_back_plain_exactly_or_not_at_all() {
    let (source, destination) = (Cluster::start(Version::V15), Cluster::start(Version::V15));
    let database = source.create_db("abonnes");
    database.sql(OF_MANY);
    let provider = Provider::of(&database);
    provider.snapshot().success();
    let restored = destination.database("abonnes");
    let server = destination.database("postgres");
    let restore = |args: &[&str]| provider.restore("nas", &restored.url()).args(args);
    let roles = || {
        server.sql("SELECT string_agg(rolname, ' ' ORDER BY rolname) FROM pg_roles WHERE rolname !~ '^pg_'")
    };
    let owners = || {
        restored.sql(
        "SELECT string_agg(DISTINCT pg_get_userbyid(o), ' ') FROM (
           SELECT relowner FROM pg_class WHERE relnamespace = 'shop'::regnamespace UNION ALL SELECT proowner FROM pg_proc WHERE proname = 'double'
           UNION ALL SELECT typowner FROM pg_type WHERE typnamespace = 'shop'::regnamespace UNION ALL SELECT nspowner FROM pg_namespace WHERE nspname = 'shop'
           UNION ALL SELECT lomowner FROM pg_largeobject_metadata UNION ALL SELECT datdba FROM pg_database WHERE datname = 'abonnes') AS owners (o)",
    )
    };

    let plan = restore(&["--dry-run"]).success().json()["roles"].to_string();
    for word in [
        "\\\"chief\\\"",
        "left out: role \\\"chief\\\": SUPERUSER, its password",
        "membership in pg_read_server_files",
    ] {
        assert!(plan.contains(word), "no {word:?} in {plan}");
    }
    assert_eq!(roles(), "marbre");

    let report = restore(&["--no-roles", "--prove"]).success().json();
    assert_eq!(
        (report["verdict"].as_str(), roles().as_str(), owners().as_str()),
        (Some("proven"), "marbre", "marbre")
    );
    server.sql("CREATE ROLE gazette");
    restore(&["--owner", "gazette", "--prove", "--overwrite"]).success();
    assert_eq!((roles().as_str(), owners().as_str()), ("gazette marbre", "gazette"));

    let report = restore(&["--prove", "--overwrite"]).success().json();
    assert_eq!(roles(), "app chief gazette marbre reader");
    let left_out = report["left_out"].to_string();
    assert!(
        left_out.contains("role \\\"app\\\": its password, membership in pg_read_server_files"),
        "{left_out}"
    );
    let much = "SELECT count(*) FROM pg_authid WHERE rolname IN ('app', 'chief') AND (rolsuper OR rolpassword IS NOT NULL
                  OR pg_has_role(oid, 'pg_read_server_files', 'MEMBER') OR pg_has_role(oid, 'pg_read_all_data', 'MEMBER'))";
    assert_eq!(server.sql(much), "0");
    server.sql("DROP DATABASE abonnes; DROP ROLE app, chief, reader");

    // Who is no superuser can do it too.
    server.sql("CREATE ROLE modest LOGIN CREATEDB; GRANT gazette TO modest");
    let url = restored.url().replace(&format!("user={SUPERUSER}"), "user=modest");
    let report = provider.restore("nas", &url).args(["--owner", "gazette"]).success().json();
    assert_eq!((&report["warnings"], owners().as_str()), (&serde_json::json!([]), "gazette"));
    server.sql("DROP DATABASE abonnes; DROP ROLE modest, gazette");

    restore(&["--prove", "--roles", "all"]).success();
    assert_equal_in(&database, &restored, &[Aspect::Roles, Aspect::Rows]);
    restore(&["--no-roles", "--roles", "all"]).fails_with(2);
}
