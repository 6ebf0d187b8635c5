//! Without marbre: the reference reader opens what marbre wrote, and stock tools load it.

use std::path::PathBuf;
use std::process::Command;

use crate::support::equality::{Aspect, assert_equal_in};
use crate::support::postgres::{Cluster, Version, run};
use crate::support::setup::{Provider, sqlite};

/// Reads the newest snapshot of a copy of the directory target.
fn read(provider: &Provider) -> PathBuf {
    run(Command::new("cp").arg("-a").args([provider.path("nas"), provider.path("copy")]));
    let out = provider.path("out");
    let reader = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/recovery/marbre-read.py");
    run(Command::new("python3")
        .arg(reader)
        .arg(provider.path("copy"))
        .arg("--key")
        .arg(provider.path("keys/restore.key"))
        .arg("--allowed-signers")
        .arg(provider.path("keys/allowed_signers"))
        .arg("--out")
        .arg(&out));
    out
}

/// `load.sh` with this cluster's tools.
fn load(provider: &Provider, cluster: &Cluster, database: &str) -> String {
    load_with(provider, cluster, database, 0)
}

/// The same, with the exit status that is expected.
fn load_with(provider: &Provider, cluster: &Cluster, database: &str, status: i32) -> String {
    let mut command = cluster.tool("psql");
    let environment: Vec<_> =
        command.get_envs().map(|(k, v)| (k.to_owned(), v.map(ToOwned::to_owned))).collect();
    let mut path = cluster.version().bin().into_os_string();
    path.push(":");
    path.push(std::env::var_os("PATH").unwrap());
    command = Command::new(provider.path("out/load.sh"));
    for (name, value) in environment {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    let output = command.env("PATH", path).env("GLOBALS", "1").arg(database).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(status), "{said}{}", String::from_utf8_lossy(&output.stderr));
    said
}

fn postgres_without_marbre(from: Version, to: Version, portable: bool) {
    let (source, destination) = (Cluster::start(from), Cluster::start(to));
    let database = source.create_db("torture");
    database.load_torture(portable);
    let provider = Provider::of(&database);
    provider.snapshot().success();
    read(&provider);
    let restored = destination.create_db("torture");
    let said = load(&provider, &destination, "torture");
    assert!(said.contains("Loaded, and every table has its number of rows."), "{said}");
    assert_equal_in(&database, &restored, &Aspect::ALL);
}

#[test]
fn postgres_15() {
    postgres_without_marbre(Version::V15, Version::V15, false);
}

#[test]
fn postgres_15_into_18() {
    postgres_without_marbre(Version::V15, Version::V18, true);
}

/// Text sorts otherwise here than where it is loaded, so that rows belong to other partitions there; and what checks rows depends on
/// the time zone, the style of dates and the search path of the owner's sessions, and on rows of other tables.
const DEPENDENT: &str = "
CREATE ROLE \"l'agence\"; CREATE SCHEMA \"l'agence\" AUTHORIZATION \"l'agence\"; CREATE SCHEMA tools;
ALTER DATABASE abonnes SET timezone = 'Europe/Paris'; ALTER DATABASE abonnes SET search_path = \"$user\", tools, public;
ALTER ROLE \"l'agence\" IN DATABASE abonnes SET datestyle = 'SQL, DMY';
SET timezone = 'Europe/Paris'; SET datestyle = 'SQL, DMY'; SET search_path = \"l'agence\", tools;
CREATE FUNCTION \"l'agence\".tidy(text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT lower($1)';
CREATE FUNCTION tools.tidier(text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN tidy($1); END';
CREATE TABLE \"l'agence\".logins (at timestamptz, day date, text text, CHECK (day = at::date), CHECK (text = day::text));
CREATE TABLE \"l'agence\".plans (id int, code text, tidy text GENERATED ALWAYS AS (tidier(code)) STORED, CHECK (tidier(code) <> 'zz'));
CREATE FUNCTION tools.has_plan(int) RETURNS boolean LANGUAGE sql STABLE AS 'SELECT EXISTS (SELECT FROM plans WHERE id = $1)';
CREATE TABLE \"l'agence\".contracts (id int, plan int CHECK (has_plan(plan)));
ALTER TABLE logins OWNER TO \"l'agence\"; ALTER TABLE plans OWNER TO \"l'agence\"; ALTER TABLE contracts OWNER TO \"l'agence\";
INSERT INTO logins VALUES ('01/07/2026 00:30', '01/07/2026', '01/07/2026');
INSERT INTO plans SELECT g, 'P' || g FROM generate_series(1, 100) g;
INSERT INTO contracts SELECT g, g FROM generate_series(1, 100) g;
CREATE TABLE public.\"nom's\" (nom text) PARTITION BY RANGE (nom);
CREATE TABLE public.\"de a\" PARTITION OF public.\"nom's\" FOR VALUES FROM (MINVALUE) TO ('n');
CREATE TABLE public.\"de n\" PARTITION OF public.\"nom's\" FOR VALUES FROM ('n') TO (MAXVALUE);
INSERT INTO public.\"nom's\" SELECT 'Zoé' || g FROM generate_series(1, 100) g UNION ALL SELECT 'anne' || g FROM generate_series(1, 10) g;
";

#[test]
fn rows_go_in_as_they_came_about() {
    let (source, destination) = (Cluster::start(Version::V15), Cluster::start(Version::V15));
    source.database("postgres").sql(
        "CREATE DATABASE abonnes TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'en' LOCALE 'C.UTF-8'",
    );
    let database = source.database("abonnes");
    database.sql(DEPENDENT);
    assert_eq!(database.sql("SELECT count(*) FROM public.\"de n\""), "100");
    let provider = Provider::of(&database);
    provider.snapshot().success();
    read(&provider);
    let restored = destination.create_db("abonnes");
    let said = load(&provider, &destination, "abonnes");
    assert!(said.contains("Loaded, and every table has its number of rows."), "{said}");
    assert!(said.contains("now through the root, public.\"nom's\""), "{said}");
    assert_eq!(restored.sql("SELECT count(*) FROM public.\"de a\""), "110");
    let rows = "SELECT count(*), sum(hashtext(nom)) FROM public.\"nom's\"";
    assert_eq!(restored.sql(rows), database.sql(rows));
    let own = "SELECT l, p, c FROM \"l'agence\".logins l, \"l'agence\".plans p JOIN \"l'agence\".contracts c ON c.plan = p.id ORDER BY p.id";
    assert_eq!(restored.sql(own), database.sql(own));

    // What has rows already does not pass for what was backed up.
    let said = load_with(&provider, &destination, "abonnes", 1);
    assert!(said.contains("WARNING:  public.\"nom's\" has 220 rows, not 110"), "{said}");
}

#[test]
fn sqlite_file() {
    let provider = Provider::new(String::new());
    let path = provider.path("boutique.db");
    run(Command::new("sqlite3").arg(&path).arg(
        "PRAGMA journal_mode = wal; CREATE TABLE a (id INTEGER PRIMARY KEY, t TEXT, b BLOB); CREATE INDEX i ON a (t);
         INSERT INTO a VALUES (1, 'été', x'00ff'), (2, NULL, NULL); CREATE VIEW v AS SELECT t FROM a;",
    ));
    let mut provider = provider;
    provider.set_source(sqlite(&path));
    provider.snapshot().success();
    let out = read(&provider);
    let dump = |path: PathBuf| run(Command::new("sqlite3").arg(path).arg(".dump"));
    assert_eq!(dump(out.join("database.sqlite")), dump(path));
}
