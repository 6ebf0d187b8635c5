//! What stands in a restore's way: it costs nothing else, and is named; and what only seems to stand there does not.

use std::os::unix::fs::PermissionsExt;

use crate::support::equality::{Aspect, assert_equal, assert_equal_in};
use crate::support::postgres::{Cluster, SUPERUSER, Version};
use crate::support::setup::Provider;

/// Everything in it depends on the time zone, on the search path, on rows of other tables, or on numbers that differ between servers.
const DEPENDENT: &str = "
ALTER DATABASE abonnes SET timezone = 'Europe/Paris'; ALTER DATABASE abonnes SET search_path = public, tools;
SET timezone = 'Europe/Paris'; CREATE SCHEMA tools; SET search_path = public, tools; CREATE EXTENSION ltree SCHEMA tools;
CREATE FUNCTION tools.tidy(text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT lower($1)';
CREATE FUNCTION tools.tidier(text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN tidy($1); END';
CREATE TABLE logins (at timestamptz, day date, CHECK (day = at::date));
INSERT INTO logins VALUES ('2026-07-01 00:30+02', '2026-07-01');
CREATE TABLE plans (id int PRIMARY KEY, code text, tidy text GENERATED ALWAYS AS (tidier(code)) STORED, CHECK (tidier(code) <> 'zz'));
INSERT INTO plans SELECT g, 'P' || g FROM generate_series(1, 100) g;
CREATE INDEX plans_tidy ON plans (tidier(code)) WHERE tidier(code) <> 'y';
CREATE FUNCTION tools.has_plan(int) RETURNS boolean LANGUAGE sql STABLE AS 'SELECT EXISTS (SELECT FROM plans WHERE id = $1)';
CREATE TABLE contracts (id int PRIMARY KEY, plan int CHECK (has_plan(plan)));
INSERT INTO contracts SELECT g, g FROM generate_series(1, 100) g;
CREATE MATERIALIZED VIEW codes AS SELECT id, tidier(code) AS code FROM plans;
CREATE TYPE state AS ENUM ('filler', 'active', 'lapsed', 'paused', 'trial', 'gift'); ALTER TYPE state ADD VALUE 'lost';
CREATE DOMAIN known_state AS state;
CREATE TABLE subscriptions (id int, s known_state) PARTITION BY HASH (s);
CREATE TABLE subscriptions0 PARTITION OF subscriptions FOR VALUES WITH (MODULUS 3, REMAINDER 0);
CREATE TABLE subscriptions1 PARTITION OF subscriptions FOR VALUES WITH (MODULUS 3, REMAINDER 1);
CREATE TABLE subscriptions2 PARTITION OF subscriptions FOR VALUES WITH (MODULUS 3, REMAINDER 2);
INSERT INTO subscriptions SELECT g, (enum_range(NULL::state))[1 + g % 6] FROM generate_series(1, 600) g;
CREATE TABLE topics (id int PRIMARY KEY, path tools.ltree);
CREATE FUNCTION tools.note() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TRIGGER moved AFTER UPDATE ON topics FOR EACH ROW WHEN (OLD.path IS DISTINCT FROM NEW.path) EXECUTE FUNCTION tools.note();
CREATE EXTENSION citext SCHEMA tools; CREATE TABLE old_mails (m citext); CREATE TABLE new_mails (m citext);
INSERT INTO old_mails VALUES ('Ann@x.fr'); INSERT INTO new_mails VALUES ('ann@x.fr');
CREATE VIEW both_mails AS SELECT m FROM old_mails JOIN new_mails USING (m);
CREATE MATERIALIZED VIEW kept_mails AS SELECT m, NULLIF(m, 'ANN@X.FR') AS other FROM both_mails;
CREATE DOMAIN not_ann AS citext CHECK (VALUE IS DISTINCT FROM 'ANN@X.FR');
CREATE TABLE moves (a citext, b not_ann, same boolean GENERATED ALWAYS AS (a IS NOT DISTINCT FROM b) STORED, CHECK (a IS DISTINCT FROM 'x'));
INSERT INTO moves VALUES ('Bob@x.fr', 'bob@x.fr');
CREATE TABLE ours (id int); ALTER TABLE ours OWNER TO pg_database_owner; INSERT INTO ours VALUES (1);
CREATE FUNCTION tools.no_ddl() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no %', tg_tag; END $$;
CREATE EVENT TRIGGER no_ddl ON ddl_command_start EXECUTE FUNCTION tools.no_ddl(); ALTER EVENT TRIGGER no_ddl ENABLE ALWAYS;
";

#[test]
fn rows_go_in_as_they_came_about() {
    let (source, destination) = (Cluster::start(Version::V15), Cluster::start(Version::V15));
    let database = source.create_db("abonnes");
    database.sql(DEPENDENT);
    let provider = Provider::of(&database);
    provider.snapshot().success();
    let drill = provider.drill().success().json();
    assert_eq!((&drill["passed"], &drill["exceptions"]), (&true.into(), &serde_json::json!([])), "{drill}");
    let restored = destination.database("abonnes");
    let said = provider.restore("nas", &restored.url()).arg("--prove").success().json();
    assert_eq!(said["verdict"], "proven", "{said}");
    assert_equal_in(&database, &restored, &[Aspect::Schema]);
    assert_eq!(restored.sql("SELECT count(*), max(code) FROM codes"), "100|p99");
    let mails = "SELECT (SELECT count(*) FROM both_mails), (SELECT count(*) FROM kept_mails WHERE other IS NULL), bool_and(same) FROM moves";
    assert_eq!((database.sql(mails), restored.sql(mails)), ("1|1|t".into(), "1|1|t".into()));
    let wrong = "SET search_path = public, tools; INSERT INTO moves VALUES ('X', 'a')";
    let refused = restored.psql().args(["-c", wrong]).output().unwrap();
    assert!(String::from_utf8_lossy(&refused.stderr).contains("moves_a_check"), "{refused:?}");
}

/// What it says of its own rows is not so.
const BROKEN: &str = "
CREATE TABLE customers (id int PRIMARY KEY, email text); INSERT INTO customers SELECT g, 'c' || g FROM generate_series(1, 100) g;
CREATE TABLE orders (id int PRIMARY KEY, customer int CONSTRAINT of_customer REFERENCES customers);
INSERT INTO orders SELECT g, 1 + g % 100 FROM generate_series(1, 200) g;
SET session_replication_role = replica; DELETE FROM customers WHERE id = 7; RESET session_replication_role;
CREATE FUNCTION salt(text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT $1 || random()';
INSERT INTO customers VALUES (1000, 'c5'); CREATE UNIQUE INDEX one_email ON customers (salt(email));
CREATE OR REPLACE FUNCTION salt(text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT $1';
CREATE FUNCTION polite(text) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT true';
CREATE TABLE notes (id int PRIMARY KEY, note text CONSTRAINT is_polite CHECK (polite(note)));
INSERT INTO notes VALUES (1, 'merci'), (2, 'zut');
CREATE OR REPLACE FUNCTION polite(text) RETURNS boolean LANGUAGE sql IMMUTABLE AS $$ SELECT $1 <> 'zut' $$;
CREATE TABLE last (id int PRIMARY KEY); CREATE INDEX last_id ON last (id); INSERT INTO last SELECT generate_series(1, 10);
";

#[test]
fn one_thing_that_cannot_be_made_does_not_cost_the_rest() {
    let (source, destination) = (Cluster::start(Version::V15), Cluster::start(Version::V15));
    let database = source.create_db("abonnes");
    database.sql(BROKEN);
    let provider = Provider::of(&database);
    provider.snapshot().success();
    let excepted = |said: &serde_json::Value| -> Vec<String> {
        let mut list: Vec<String> = said["exceptions"]
            .as_array()
            .unwrap()
            .iter()
            .map(|e| e["object"].as_str().unwrap().into())
            .collect();
        list.sort();
        list
    };
    let all = [
        "\"is_polite\" of table public.notes",
        "FK CONSTRAINT public orders of_customer",
        "INDEX public one_email",
    ];

    let drill = provider.drill().fails_with(9).json();
    assert_eq!(
        (excepted(&drill), &drill["passed"]),
        (all.map(str::to_owned).to_vec(), &false.into()),
        "{drill}"
    );
    assert!(drill["tables"].as_array().unwrap().iter().all(|table| table["equal"] == true), "{drill}");

    let old = destination.create_db("abonnes");
    old.sql("CREATE TABLE precious AS SELECT 7 AS id");
    let here = tempfile::tempdir().unwrap();
    let overwrite = || {
        provider
            .restore("nas", &old.url())
            .args(["--prove", "--overwrite"])
            .current_dir(here.path())
            .fails_with(12)
    };
    let said = overwrite().json();
    assert_eq!(
        (excepted(&said), &said["verdict"]),
        (all.map(str::to_owned).to_vec(), &"restored-except".into())
    );
    assert_equal_in(&database, &old, &[Aspect::Rows]);
    let made = "SELECT string_agg(conname || ' ' || convalidated, ', ' ORDER BY conname) FROM pg_constraint WHERE conname ~ '_customer|polite'";
    assert_eq!(old.sql(made), "is_polite false, of_customer false");
    assert_eq!(old.sql("SELECT count(*) FROM pg_indexes WHERE indexname IN ('last_id', 'one_email')"), "1");
    // What was there is not lost, also not by a second run.
    let kept = destination.database("abonnes.marbre-kept");
    assert_eq!(kept.sql("SELECT id FROM precious"), "7");
    overwrite();
    assert_eq!(kept.sql("SELECT id FROM precious"), "7");

    // The statements can be mended and run.
    let file = here.path().join(said["exceptions_file"].as_str().unwrap());
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(
        text.contains("-- INDEX public one_email\n") && text.contains("CREATE UNIQUE INDEX one_email"),
        "{text}"
    );
    assert!(!text.contains("zut'") || text.contains("$1 <> 'zut'"), "no row is in it: {text}");
    old.sql("UPDATE customers SET email = 'other' WHERE id = 1000");
    assert!(old.psql().arg("-f").arg(&file).status().unwrap().success());
    assert_eq!(old.sql("SELECT indisunique FROM pg_index WHERE indexrelid = 'one_email'::regclass"), "t");
}

/// A database that reads from `far`, and writes there, whenever somebody fills its materialized views or collects statistics.
fn reaches(source: &Cluster, far: &str) -> String {
    let at = format!("host={} dbname={far} user={SUPERUSER} password=x", source.socket_dir().display());
    format!(
        "CREATE EXTENSION postgres_fdw; CREATE EXTENSION dblink;
         CREATE SERVER far FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '{}', dbname '{far}');
         CREATE USER MAPPING FOR PUBLIC SERVER far OPTIONS (user '{SUPERUSER}', password 'x');
         CREATE FOREIGN TABLE far (i int) SERVER far OPTIONS (table_name 'rows');
         CREATE TABLE own AS SELECT generate_series(1, 10) AS id;
         CREATE MATERIALIZED VIEW nearer AS SELECT i FROM far; CREATE MATERIALIZED VIEW mine AS SELECT id FROM own;
         CREATE MATERIALIZED VIEW writes AS SELECT dblink_exec('{at}', 'INSERT INTO trace DEFAULT VALUES') AS done;
         CREATE TABLE parted (i int) PARTITION BY RANGE (i); CREATE TABLE here PARTITION OF parted FOR VALUES FROM (100) TO (200);
         CREATE FOREIGN TABLE there PARTITION OF parted FOR VALUES FROM (0) TO (100) SERVER far OPTIONS (table_name 'rows');
         INSERT INTO here VALUES (100)",
        source.socket_dir().display()
    )
}

#[test]
fn without_a_sandbox_a_drill_does_not_try_what_could_reach_another_server() {
    let source = Cluster::start_with(Version::V15, &["log_connections=on", "autovacuum=off"]);
    let elsewhere = Cluster::start(Version::V15);
    let far = source.create_db("far");
    far.sql("CREATE TABLE rows AS SELECT generate_series(1, 5) AS i; CREATE TABLE trace (at timestamptz DEFAULT now())");
    let database = source.create_db("abonnes");
    database.sql(&reaches(&source, "far"));
    let mut provider = Provider::of(&database);
    provider.snapshot().success();
    for (isolation, lines) in [
        ("none", "isolation = \"none\"".to_owned()),
        ("server", format!("scratch = {:?}", elsewhere.database("postgres").url())),
    ] {
        provider.set_drills(&lines);
        let connections = || source.log().matches("database=far").count();
        let before = connections();
        let drill = provider.drill().success().json();
        assert_eq!(connections(), before, "{drill}");
        assert_eq!((&drill["passed"], &drill["isolation"]), (&true.into(), &isolation.into()), "{drill}");
        let check = &drill["checks"][0];
        assert_eq!(
            (&check["name"], &check["result"]),
            (&"other servers".into(), &"unavailable".into()),
            "{drill}"
        );
        let why = check["message"].as_str().unwrap();
        for what in [
            "MATERIALIZED VIEW DATA public mine",
            "MATERIALIZED VIEW DATA public nearer",
            "MATERIALIZED VIEW DATA public writes",
            "statistics of table public.parted",
        ] {
            assert!(why.contains(what), "{why}");
        }
        assert_eq!(far.sql("SELECT count(*) FROM trace"), "1", "written when the view was made");
    }
    // Where nothing could reach one, materialized views are filled and compared.
    let plain = source.create_db("plain");
    plain.sql("CREATE TABLE own AS SELECT 1 AS id; CREATE MATERIALIZED VIEW mine AS SELECT id FROM own");
    let mut provider = Provider::of(&plain);
    provider.snapshot().success();
    provider.set_drills("isolation = \"none\"");
    let drill = provider.drill().success().json();
    assert_eq!(drill["passed"], true, "{drill}");
    assert!(!drill["checks"].to_string().contains("other servers"), "{drill}");
}

/// What code of the database says of the server's disk costs the rest nothing; what the server says of itself ends it, because
/// everything else would fail too.
#[test]
fn only_the_server_itself_says_that_it_is_full() {
    let (source, destination) = (Cluster::start(Version::V15), Cluster::start(Version::V15));
    let database = source.create_db("abonnes");
    database.sql(
        "CREATE FUNCTION fits(int) RETURNS boolean LANGUAGE sql AS 'SELECT true';
         CREATE TABLE big (id int CHECK (fits(id))); INSERT INTO big SELECT generate_series(1, 10);
         CREATE TABLE rest AS SELECT generate_series(1, 100) AS id",
    );
    let provider = Provider::of(&database);
    let raise = |code: &str| {
        database.sql(&format!(
            "CREATE OR REPLACE FUNCTION fits(int) RETURNS boolean LANGUAGE plpgsql AS
             $$ BEGIN RAISE 'no' USING ERRCODE = '{code}'; END $$"
        ));
        provider.snapshot().success();
    };
    let restored = destination.database("abonnes");
    for code in ["53100", "57P01", "53200"] {
        raise(code);
        let said = provider.restore("nas", &restored.url()).arg("--overwrite").fails_with(12).json();
        let except = said["exceptions"].as_array().unwrap();
        assert_eq!(
            (except.len(), except[0]["object"].as_str().unwrap()),
            (1, "the 10 rows of table public.big"),
            "{said}"
        );
        assert_eq!(restored.sql("SELECT count(*) FROM rest"), "100");
    }
    // The server has room for some thousands of locks.
    database.sql(
        "CREATE OR REPLACE FUNCTION fits(int) RETURNS boolean LANGUAGE plpgsql AS
         $$ BEGIN FOR i IN 1 .. 1000000 LOOP PERFORM pg_advisory_xact_lock(i); END LOOP; RETURN true; END $$",
    );
    provider.snapshot().success();
    let said = provider.restore("nas", &restored.url()).arg("--overwrite").fails_with(6);
    assert!(
        said.json().to_string().contains("the server is out of memory, or of its room for locks"),
        "{said}"
    );
}

#[test]
fn a_drill_reaches_no_other_server_and_needs_no_table() {
    let (source, destination) = (Cluster::start(Version::V15), Cluster::start(Version::V15));
    let far = source.create_db("far");
    far.sql("CREATE TABLE rows AS SELECT generate_series(1, 5) AS i");
    let database = source.create_db("abonnes");
    database.sql("CREATE EXTENSION postgres_fdw; SELECT lo_from_bytea(0, 'photo')");
    database.sql(&format!(
        "CREATE SERVER far FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '{}', dbname 'far');
         CREATE USER MAPPING FOR PUBLIC SERVER far OPTIONS (user 'marbre');
         CREATE FOREIGN TABLE far (i int) SERVER far OPTIONS (table_name 'rows');
         CREATE MATERIALIZED VIEW nearer AS SELECT i FROM far",
        source.socket_dir().display()
    ));
    let provider = Provider::of(&database);
    provider.snapshot().success();
    let drill = provider.drill().success().json();
    assert_eq!((&drill["passed"], &drill["tables"]), (&true.into(), &serde_json::json!([])), "{drill}");
    let check = &drill["checks"][0];
    assert_eq!(
        (&check["name"], &check["result"]),
        (&"other servers".into(), &"unavailable".into()),
        "{drill}"
    );
    assert!(check["message"].as_str().unwrap().contains("MATERIALIZED VIEW DATA public nearer"), "{drill}");
    // A restore fills it from there.
    let restored = destination.database("abonnes");
    provider.restore("nas", &restored.url()).arg("--prove").success();
    assert_equal(&database, &restored);
}

/// A server with pg_cron, whose jobs belong to one of its databases.
fn with_cron() -> Cluster {
    let database = "cron.database_name=abonnes";
    Cluster::start_with(
        Version::V15,
        &["shared_preload_libraries=pg_cron", database, "cron.launch_active_jobs=off"],
    )
}

#[test]
fn an_extension_that_must_be_preloaded_comes_back_with_its_rows_and_its_sequence() {
    let (source, destination) = (with_cron(), with_cron());
    let database = source.create_db("abonnes");
    database.sql("CREATE EXTENSION pg_cron; SELECT cron.schedule('*/5 * * * *', 'SELECT 1') FROM generate_series(1, 3)");
    database.sql("CREATE TABLE kept AS SELECT generate_series(1, 10) AS id");
    let provider = Provider::of(&database);
    provider.snapshot().success();
    let drill = provider.drill().success().json();
    assert_eq!((&drill["passed"], &drill["exceptions"]), (&true.into(), &serde_json::json!([])), "{drill}");

    let restored = destination.database("abonnes");
    let said = provider.restore("nas", &restored.url()).arg("--prove").success().json();
    assert_eq!(said["verdict"], "proven", "{said}");
    assert_eq!(restored.sql("SELECT count(*) FROM cron.job"), "3");
    assert_eq!(restored.sql("SELECT cron.schedule('0 0 * * *', 'SELECT 2')"), "4");

    // Under another name it cannot be: all the rest is there, and it is named.
    let here = tempfile::tempdir().unwrap();
    let elsewhere = destination.database("copie");
    let said = provider
        .restore("nas", &elsewhere.url())
        .arg("--prove")
        .current_dir(here.path())
        .fails_with(12)
        .json();
    let named: Vec<&str> =
        said["exceptions"].as_array().unwrap().iter().filter_map(|e| e["object"].as_str()).collect();
    assert!(!named.is_empty() && named.iter().all(|object| object.contains("cron")), "{said}");
    assert_eq!(elsewhere.sql("SELECT count(*) FROM kept"), "10");
}
