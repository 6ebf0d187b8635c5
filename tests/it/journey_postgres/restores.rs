//! Where a restore may go, what an interrupted one leaves, and what a user without all rights gets.

use std::time::Duration;

use rustix::process::Signal;

use super::refusals::wait_for;
use crate::support::equality::{Aspect, assert_equal, assert_equal_in};
use crate::support::postgres::{Cluster, SUPERUSER, Version};
use crate::support::setup::Provider;

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
        let running = provider.restore("nas", &restored.url()).start();
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
    provider.restore("nas", &restored.url()).arg("--prove").success();
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
    let report =
        provider.restore("nas", &url).arg("--prove").timeout(Duration::from_secs(60)).success().json();
    let warnings = report["warnings"].to_string();
    for word in
        ["role \\\"chef\\\" was created without its special attributes", "OWNER TO", "EVENT TRIGGER watcher"]
    {
        assert!(warnings.contains(word), "no {word:?} in {report}");
    }
    assert_equal_in(&database, &restored, &[Aspect::Rows, Aspect::Sequences]);
    assert_eq!(restored.sql("SELECT has_table_privilege('redaction', 'abonnes', 'SELECT')"), "t");
}
