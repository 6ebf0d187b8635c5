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
    let output = run(command.env("PATH", path).env("GLOBALS", "1").arg(database));
    String::from_utf8(output).unwrap()
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
