//! What a role cannot read or `pg_dump` leaves out is named, counted or taken; what is compared is what is meant.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use crate::support::postgres::{Cluster, SUPERUSER, Version};
use crate::support::setup::{Provider, postgres};

/// An extension that registers one of its tables, and nothing else.
const EXTENSION: &str = "
CREATE TABLE naive_jobs (id serial PRIMARY KEY, what text);
SELECT pg_catalog.pg_extension_config_dump('naive_jobs', '');
CREATE TABLE naive_queue (id int, body text);
INSERT INTO naive_queue VALUES (0, 'seed');
";

const LINKED: &str = "
CREATE ROLE reader LOGIN BYPASSRLS; CREATE ROLE app; CREATE TABLE t (id int PRIMARY KEY);
CREATE EXTENSION naive;
INSERT INTO naive_jobs (what) SELECT 'x' FROM generate_series(1, 500);
INSERT INTO naive_queue SELECT g, 'm' FROM generate_series(1, 100) g;
CREATE SUBSCRIPTION feed CONNECTION 'host=127.0.0.1 port=1 password=hunter2' PUBLICATION p
  WITH (connect = false, slot_name = NONE, binary = true);
COMMENT ON SUBSCRIPTION feed IS 'from the newsroom';
CREATE FOREIGN DATA WRAPPER w; CREATE SERVER far FOREIGN DATA WRAPPER w;
CREATE USER MAPPING FOR app SERVER far OPTIONS (\"user\" 'u', password 'hunter2');
GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader; GRANT SELECT ON ALL SEQUENCES IN SCHEMA public TO reader;
CREATE TABLE mine (i int); INSERT INTO mine VALUES (7); ALTER EXTENSION naive ADD TABLE mine;
CREATE FUNCTION pg_catalog.stray() RETURNS int LANGUAGE sql AS 'SELECT 1';
";

fn text(report: &Value, key: &str) -> String {
    report[key].to_string()
}

#[test]
fn what_cannot_be_read_is_named_and_counted_and_what_can_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let files = folder.path().join("extension");
    fs::create_dir(&files).unwrap();
    fs::write(files.join("naive.control"), "default_version = '1.0'\n").unwrap();
    fs::write(files.join("naive--1.0.sql"), EXTENSION).unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("extension_control_path=$system:{}", folder.path().display());
    let cluster = Cluster::start_with(Version::V18, &[&path]);
    let database = cluster.create_db("linked");
    database.sql(LINKED);
    let back = cluster.database("back");
    let mut provider = Provider::of(&database);
    let url = database.url().replace(&format!("user={SUPERUSER}"), "user=reader");
    provider.set_source(postgres(&url));

    let doctor = provider.marbre(&["doctor"]).run().to_string();
    for words in ["completeness", "feed", "GRANT SELECT ON pg_catalog.pg_subscription TO", "app at far"] {
        assert!(doctor.contains(words), "no {words:?} in {doctor}");
    }
    let warnings = text(&provider.snapshot().success().json(), "warnings");
    for words in [
        "NOT in the snapshot: 1 × subscription (feed)",
        "1 × options of a user mapping (app at far)",
        "2 × table of an extension (public.mine; public.naive_queue)",
        "1 × object in a schema of the server (pg_catalog.stray())",
    ] {
        assert!(warnings.contains(words), "no {words:?} in {warnings}");
    }
    let [receipt] = &provider.receipts()[..] else { panic!("one receipt") };
    let receipt: Value =
        serde_json::from_slice(&fs::read(provider.objects().join("receipts").join(receipt)).unwrap())
            .unwrap();
    assert_eq!(receipt["omitted"]["table of an extension"], 2);
    assert_eq!(receipt["omitted"]["subscription"], 1);
    let restored = provider.restore("nas", &back.url()).args(["--prove", "--roles", "all"]).success().json();
    assert!(
        text(&restored, "warnings").contains("was not in the snapshot: 1 × subscription (feed)"),
        "{restored}"
    );
    assert!(text(&restored, "warnings").contains("table public.mine is missing"), "{restored}");
    // Which the extension did not register.
    assert_eq!(back.sql("INSERT INTO naive_jobs (what) VALUES ('y') RETURNING id"), "501");

    // With the rights that doctor asks for, and the rows; a table that was added by hand has to be taken out.
    database.sql(
        "GRANT SELECT ON pg_subscription, pg_user_mapping, mine TO reader; ALTER EXTENSION naive DROP TABLE mine",
    );
    provider.set_source(postgres(&url) + "extension_tables = \"rows\"\n");
    let report = provider.snapshot().success().json();
    assert!(text(&report, "warnings").contains("1 subscriptions come back disabled: feed"), "{report}");
    let restored =
        provider.restore("nas", &back.url()).args(["--prove", "--overwrite", "--roles", "all"]).success();
    assert_eq!(restored.json()["verdict"], "proven");
    assert!(!restored.to_string().contains("hunter2"));
    assert_eq!(back.sql("SELECT count(*) || ' ' || sum(id) FROM naive_queue"), "101 5050");
    assert_eq!(back.sql("SELECT * FROM mine"), "7");
    let links = "SELECT string_agg(o, ',' ORDER BY o) || ' ' || subconninfo || ' ' || subbinary || ' ' || subenabled || ' ' \
         || obj_description(s.oid, 'pg_subscription') FROM pg_user_mappings, unnest(umoptions) o, pg_subscription s \
         JOIN pg_database d ON d.oid = subdbid WHERE datname = current_database() GROUP BY s.oid, subconninfo, subbinary, subenabled";
    assert_eq!(
        back.sql(links),
        "password=hunter2,user=u host=127.0.0.1 port=1 password=hunter2 true false from the newsroom"
    );
}

/// What a restore makes otherwise, and means the same.
const MEANT: &str = "
CREATE EXTENSION citext; CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1);
CREATE FUNCTION eq(bool, bool) RETURNS bool LANGUAGE sql IMMUTABLE AS 'select $1 = $2';
CREATE OPERATOR === (LEFTARG = bool, RIGHTARG = bool, FUNCTION = eq, NEGATOR = !==);
DROP OPERATOR === (bool, bool);
COMMENT ON OPERATOR !== (bool, bool) IS 'only declared';
CREATE VIEW natural_nothing AS SELECT a.id FROM t a NATURAL LEFT JOIN (SELECT 1 AS x) b;
CREATE SEQUENCE number; CREATE DOMAIN numbered AS int DEFAULT nextval('number'); CREATE TABLE u (n numbered);
CREATE TABLE ev (id int, y int) PARTITION BY LIST (y); CREATE TABLE ev1 PARTITION OF ev FOR VALUES IN (1);
ALTER TABLE ev ADD CONSTRAINT positive CHECK (id >= 0) NOT VALID;
CREATE TABLE ev2 PARTITION OF ev FOR VALUES IN (2);
CREATE TABLE gone (id int, y int) PARTITION BY LIST (y); CREATE TABLE gone1 PARTITION OF gone FOR VALUES IN (1);
CREATE INDEX ON ONLY gone (id); DROP TABLE gone1;
CREATE MATERIALIZED VIEW stale AS SELECT count(*) FROM t; INSERT INTO t VALUES (2);
CREATE ROLE app; ALTER ROLE ALL SET my.thing = 'secret'; GRANT SET ON PARAMETER log_statement TO app; ALTER TABLE u OWNER TO app;
";

/// What a restore makes otherwise, and means something else.
const OTHER: &str = "
CREATE FUNCTION loose(text, text) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT lower($1) OPERATOR(pg_catalog.=) lower($2)';
CREATE OPERATOR = (LEFTARG = text, RIGHTARG = text, FUNCTION = loose);
CREATE TABLE x (m text); CREATE TABLE y (m text); INSERT INTO x VALUES ('Ann@x.fr'); INSERT INTO y VALUES ('ann@x.fr');
SET search_path = public, pg_catalog; CREATE VIEW same_mail AS SELECT m FROM x JOIN y USING (m); RESET search_path;
CREATE FUNCTION net(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1';
CREATE TABLE priced (id int PRIMARY KEY, net int GENERATED ALWAYS AS (net(id)) STORED); INSERT INTO priced VALUES (5);
CREATE OR REPLACE FUNCTION net(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1 * 2';
";

#[test]
fn what_is_meant_is_compared_and_no_unfinished_restore_is_taken() {
    let cluster = Cluster::start(Version::V15);
    let database = cluster.create_db("meant");
    database.sql(MEANT);
    let provider = Provider::of(&database);
    let doctor = provider.marbre(&["doctor"]).run().to_string();
    assert!(doctor.contains("a snapshot holds everything that the database has"), "{doctor}");
    provider.snapshot().success();
    let back = cluster.database("back");
    cluster.database("postgres").sql("ALTER ROLE ALL RESET my.thing; DROP OWNED BY app");
    let restored = provider.restore("nas", &back.url()).args(["--prove"]).success().json();
    assert_eq!(restored["verdict"], "proven");
    assert!(text(&restored, "warnings").contains("public.stale was computed anew"), "{restored}");
    assert!(text(&restored, "left_out").contains("setting my.thing of all roles"), "{restored}");
    assert!(!restored.to_string().contains("secret"));

    database.sql(OTHER);
    provider.snapshot().success();
    let failed =
        provider.restore("nas", &back.url()).args(["--prove", "--overwrite"]).fails_with(9).to_string();
    for words in ["view public.same_mail is defined differently", "generated columns of table public.priced"]
    {
        assert!(failed.contains(words), "no {words:?} in {failed}");
    }

    database.sql("COMMENT ON DATABASE meant IS 'marbre: INCOMPLETE restore of 20261122T020000Z-1f3a9c4e; …'");
    let refused = provider.snapshot().fails_with(4).to_string();
    assert!(refused.contains("is an incomplete restore of snapshot 20261122T020000Z-1f3a9c4e"), "{refused}");
    assert!(refused.contains("COMMENT ON DATABASE"), "{refused}");
}
