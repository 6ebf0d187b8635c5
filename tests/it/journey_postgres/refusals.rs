//! What keeps a snapshot from being taken: each a clear error with its exit code, and no receipt.

use std::time::Duration;

use crate::support::marbre::{Marbre, Outcome};
use crate::support::postgres::{Cluster, Database, SUPERUSER, Version};
use crate::support::setup::{Provider, postgres};

/// It fails with this code; error, cause and remedy hold these words; nothing was recorded.
#[track_caller]
fn refused(provider: &Provider, run: Marbre, code: i32, words: &[&str]) -> Outcome {
    let outcome = run.refuses(code, words);
    assert_eq!(provider.receipts(), [""; 0]);
    outcome
}

fn url_as(database: &Database<'_>, user: &str) -> String {
    database.url().replace(&format!("user={SUPERUSER}"), &format!("user={user}"))
}

#[test]
fn tools_older_than_the_server() {
    let cluster = Cluster::start(Version::V18);
    let database = cluster.create_db("abonnes");
    let mut provider = Provider::of(&database);
    let bin = Version::V15.bin();
    provider.set_source(format!("{}bin_dir = {bin:?}\n", postgres(&database.url())));
    refused(
        &provider,
        provider.snapshot(),
        4,
        &["older than the server", "18", "15.", "Install the client tools"],
    );
}

#[test]
fn rights_and_row_security() {
    let cluster = Cluster::start(Version::V15);
    let database = cluster.create_db("abonnes");
    database.sql(
        "CREATE ROLE reader LOGIN IN ROLE pg_read_all_data; CREATE ROLE narrow LOGIN;
         CREATE TABLE open (id int PRIMARY KEY); CREATE TABLE \"fermée\" (id int PRIMARY KEY);
         GRANT SELECT ON open TO narrow;
         CREATE TABLE guarded (id int PRIMARY KEY, who text); INSERT INTO guarded VALUES (1, 'a');
         GRANT SELECT ON guarded TO narrow",
    );
    let mut provider = Provider::of(&database);
    provider.set_source(postgres(&url_as(&database, "narrow")));
    refused(
        &provider,
        provider.snapshot(),
        4,
        &["narrow may not read", "GRANT SELECT ON \"public\".\"fermée\" TO \"narrow\";"],
    );
    database
        .sql("ALTER TABLE guarded ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON guarded USING (who = 'b')");
    provider.set_source(postgres(&url_as(&database, "reader")));
    refused(
        &provider,
        provider.snapshot(),
        4,
        &["ALTER ROLE \"reader\" BYPASSRLS", "row security hides rows of \"public\".\"guarded\""],
    );
    database.sql("ALTER ROLE narrow BYPASSRLS; GRANT SELECT ON ALL TABLES IN SCHEMA public TO narrow");
    provider.set_source(postgres(&url_as(&database, "narrow")));
    let report = provider.snapshot().success().json();
    assert!(report["warnings"].to_string().contains("password hashes"), "{report}");
}

#[test]
fn a_lock_that_cannot_be_had() {
    let cluster = Cluster::start(Version::V15);
    let database = cluster.create_db("abonnes");
    database.sql("CREATE TABLE factures (id int PRIMARY KEY)");
    let provider = Provider::of(&database);
    let mut holder = database
        .psql()
        .env("PGAPPNAME", "migration")
        .args(["-c", "BEGIN; LOCK TABLE factures; SELECT pg_sleep(60)"])
        .spawn()
        .unwrap();
    wait_for(
        &database,
        "SELECT count(*) FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND relation = 'factures'::regclass",
    );
    let outcome = refused(
        &provider,
        provider.snapshot(),
        6,
        &["public.factures could not be locked within 2 s", "migration", "lock_timeout"],
    );
    assert!(outcome.seconds < 20.0);
    holder.kill().unwrap();
    holder.wait().unwrap();
    database
        .sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'migration'");
    provider.snapshot().success();
}

#[test]
fn who_and_where() {
    let cluster = Cluster::start_with(Version::V15, &[]);
    let database = cluster.create_db("abonnes");
    let mut provider = Provider::of(&database);
    provider.set_source(postgres(&cluster.database("nowhere").url()));
    refused(&provider, provider.snapshot(), 5, &["nowhere", "does not exist", "name"]);
    provider.set_source(postgres(&url_as(&database, "nobody_at_all")));
    refused(
        &provider,
        provider.snapshot(),
        6,
        &["nobody_at_all", "The server has no role nobody_at_all", "sudo -u postgres createuser"],
    );
    let gone = database.url().replace("/s&", "/not-there&");
    provider.set_source(postgres(&gone));
    refused(&provider, provider.snapshot(), 6, &["failed to connect", "Check that the server runs"]);

    // A password is wanted, and the one that is given is wrong: it is shown nowhere.
    database.sql("CREATE ROLE locked LOGIN SUPERUSER PASSWORD 'the right one'");
    let hba = cluster.data_dir().join("pg_hba.conf");
    let rules = std::fs::read_to_string(&hba).unwrap();
    std::fs::write(&hba, format!("local all locked scram-sha-256\n{rules}")).unwrap();
    database.sql("SELECT pg_reload_conf(), pg_sleep(0.5)");
    let file = provider.path("password");
    write_secret(&file, "hunter2hunter2");
    let source = format!("{}password_file = {file:?}\n", postgres(&url_as(&database, "locked")));
    provider.set_source(source);
    let outcome = refused(
        &provider,
        provider.snapshot(),
        6,
        &["password authentication failed", "in the file that `password_file` names"],
    );
    assert!(!outcome.to_string().contains("hunter2"));
    write_secret(&file, "the right one\n");
    provider.snapshot().success();
}

fn write_secret(path: &std::path::Path, text: &str) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

/// Waits until a query answers more than 0.
#[track_caller]
pub fn wait_for(database: &Database<'_>, sql: &str) {
    for _ in 0..1500 {
        if database.sql(sql) != "0" {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("did not happen in 15 s: {sql}");
}
