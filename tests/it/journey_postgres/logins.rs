//! Login event triggers run before a session could switch them off: for marbre they do not, and they come back like anything else.

use crate::support::equality::{Aspect, assert_equal_in};
use crate::support::postgres::{Cluster, Database, SUPERUSER, Version, run};
use crate::support::setup::Provider;

/// Notes who logs in.
const NOTES: &str = "
CREATE TABLE logins (at timestamptz DEFAULT now(), who text);
CREATE FUNCTION note() RETURNS event_trigger SECURITY DEFINER LANGUAGE plpgsql AS
  $$ BEGIN INSERT INTO public.logins (who) VALUES (session_user); END $$;
CREATE EVENT TRIGGER note ON login EXECUTE FUNCTION note(); ALTER EVENT TRIGGER note ENABLE ALWAYS;
";

/// What a database answers when nothing fires.
fn quietly(database: &Database<'_>, sql: &str) -> String {
    let answer = run(database.psql().env("PGOPTIONS", "-c event_triggers=off").args(["-A", "-t", "-c", sql]));
    String::from_utf8(answer).unwrap().trim_end().to_owned()
}

fn logins(database: &Database<'_>) -> u64 {
    quietly(database, "SELECT count(*) FROM logins").parse().unwrap()
}

#[test]
fn login_triggers_do_not_fire_for_marbre_and_come_back() {
    let (source, destination) = (Cluster::start(Version::V18), Cluster::start(Version::V18));
    let database = source.create_db("abonnes");
    database.sql(&format!("CREATE TABLE abonnes AS SELECT generate_series(1, 10) AS id; {NOTES}"));
    let maintenance = destination.database("postgres");
    maintenance.sql(NOTES);
    let provider = Provider::of(&database);
    let before = logins(&database);
    provider.snapshot().success();
    // Whether its user may switch them off is known after the first session.
    assert_eq!(logins(&database), before + 1);
    let first = before + 1;
    let drill = provider.drill().success().json();
    assert_eq!(drill["passed"], true, "{drill}");

    let restored = destination.database("abonnes");
    for round in 0..2 {
        let said = provider.restore("nas", &restored.url()).args(["--prove", "--overwrite"]).success().json();
        assert_eq!(said["verdict"], "proven", "{said}");
        assert!(!said["warnings"].to_string().contains("event trigger"), "{said}");
        assert_eq!((logins(&restored), logins(&maintenance)), (first, 0), "in round {round}");
        assert_eq!(quietly(&restored, "SELECT evtname, evtenabled FROM pg_event_trigger"), "note|A");
    }
    database.sql("SELECT");
    assert_eq!(logins(&database), first + 1, "people's own sessions fire it");
    assert_equal_in(&database, &restored, &[Aspect::Schema]);
}

#[test]
fn a_trigger_that_lets_nobody_in_stops_nothing() {
    let (source, destination) = (Cluster::start(Version::V18), Cluster::start(Version::V18));
    let database = source.create_db("abonnes");
    database.sql(&format!(
        "CREATE TABLE abonnes AS SELECT generate_series(1, 10) AS id;
         CREATE FUNCTION deny() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN
           IF current_database() ~ 'marbre' OR current_setting('unix_socket_directories') = '{}' THEN RAISE EXCEPTION 'no login at night'; END IF; END $$;
         CREATE EVENT TRIGGER deny ON login EXECUTE FUNCTION deny()",
        destination.socket_dir().display()
    ));
    let provider = Provider::of(&database);
    provider.snapshot().success();
    let restored = destination.database("abonnes");
    for _ in 0..2 {
        let said = provider.restore("nas", &restored.url()).args(["--prove", "--overwrite"]).success().json();
        assert_eq!(said["verdict"], "proven", "{said}");
    }
    assert!(!restored.psql().args(["-c", "SELECT 1"]).output().unwrap().status.success());
    assert_eq!(quietly(&restored, "SELECT count(*) FROM abonnes"), "10");

    // At a source that lets nobody in, marbre's user needs the right to switch it off.
    let mut provider = Provider::of(&restored);
    provider.snapshot().success();
    quietly(&restored, "CREATE ROLE agent LOGIN; GRANT pg_read_all_data TO agent");
    let url = restored.url().replace(&format!("user={SUPERUSER}"), "user=agent");
    provider.set_source(crate::support::setup::postgres(&url));
    let refused = provider.snapshot().fails_with(6).json();
    let remedy = refused["remedy"].as_str().unwrap();
    let statement = remedy.split("Let a superuser run: ").nth(1).unwrap().trim_end_matches('.');
    assert_eq!(statement, "ALTER ROLE agent SET event_triggers = off", "{refused}");
    quietly(&restored, statement);
    provider.snapshot().success();
}

#[test]
fn whoever_may_not_switch_them_off_is_told() {
    let (source, destination) = (Cluster::start(Version::V18), Cluster::start(Version::V18));
    let database = source.create_db("abonnes");
    database.sql("CREATE TABLE abonnes AS SELECT generate_series(1, 10) AS id");
    let provider = Provider::of(&database);
    provider.snapshot().success();
    let maintenance = destination.database("postgres");
    maintenance.sql("CREATE ROLE modest LOGIN CREATEDB CREATEROLE");
    let url = destination.database("abonnes").url().replace(&format!("user={SUPERUSER}"), "user=modest");
    let restore = || provider.restore("nas", &url).args(["--prove", "--overwrite"]).success().json();
    let said = restore();
    assert!(!said["warnings"].to_string().contains("login event triggers"), "{said}");
    maintenance.sql(NOTES);
    let said = restore();
    let told = "login event triggers of database postgres fire for marbre's sessions (note), because modest may not switch them off";
    assert!(said["warnings"].to_string().contains(told), "{said}");
}
