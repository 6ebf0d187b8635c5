//! Repositories that earlier versions of this code wrote, kept in `tests/corpus`: whatever was once stored in a format that was
//! released is restored for ever, with marbre and without it.
//!
//! `cargo test --profile ci --test it write_the_corpus -- --ignored` writes another set, for a new format version or for
//! something that no set has yet. What is there is never written anew.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use rusqlite::Connection;

use crate::support::postgres::{Cluster, Database, Version, run};
use crate::support::sqlite_setup::{Setup, files};

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus")
}

const SQLITE: &str = "SELECT id || '|' || name || '|' || coalesce(hex(data), '') FROM subscriber ORDER BY id";
const POSTGRES: &str = "SELECT s::text FROM subscriber s ORDER BY id";

/// What the newest state of a source is, as text that is compared.
trait Source {
    fn nights(&self) -> Vec<&'static str>;
    fn change(&self, sql: &str);
    fn content(&self) -> String;
}

struct Sqlite<'a>(&'a Setup);

impl Source for Sqlite<'_> {
    fn nights(&self) -> Vec<&'static str> {
        vec![
            "PRAGMA page_size = 1024; CREATE TABLE subscriber (id INTEGER PRIMARY KEY, name TEXT, data BLOB);
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 400)
             INSERT INTO subscriber SELECT i, 'Élise ' || i, randomblob(60) FROM n",
            "UPDATE subscriber SET name = 'Zoé' WHERE id % 40 = 0",
            "DELETE FROM subscriber WHERE id BETWEEN 100 AND 160; INSERT INTO subscriber VALUES (1000, 'new', NULL)",
            "DELETE FROM subscriber WHERE id > 20; VACUUM",
        ]
    }

    fn change(&self, sql: &str) {
        Connection::open(self.0.database()).unwrap().execute_batch(sql).unwrap();
    }

    fn content(&self) -> String {
        sqlite_content(&self.0.database())
    }
}

fn sqlite_content(database: &Path) -> String {
    let db = Connection::open(database).unwrap();
    let mut statement = db.prepare(SQLITE).unwrap();
    let rows = statement.query_map([], |row| row.get::<_, String>(0)).unwrap();
    rows.map(Result::unwrap).collect::<Vec<_>>().join("\n")
}

impl Source for Database<'_> {
    fn nights(&self) -> Vec<&'static str> {
        vec![
            "CREATE TABLE subscriber (id int PRIMARY KEY, name text, paid numeric, at timestamptz);
             INSERT INTO subscriber SELECT n, E'É\\t' || n, n / 7.0, '2026-01-01'::timestamptz + n * '1 hour'::interval
             FROM generate_series(1, 2000) n; SELECT lo_from_bytea(0, 'a large object'); CREATE TABLE unkeyed AS SELECT 1 AS a",
            "UPDATE subscriber SET name = NULL WHERE id % 50 = 0; INSERT INTO unkeyed VALUES (2)",
            "DELETE FROM subscriber WHERE id BETWEEN 500 AND 900; INSERT INTO subscriber VALUES (-1, 'before', 'NaN', 'infinity')",
            "UPDATE subscriber SET paid = paid + 1 WHERE id < 30; VACUUM FULL subscriber",
        ]
    }

    fn change(&self, sql: &str) {
        for statement in sql.split(';').filter(|s| !s.trim().is_empty()) {
            self.sql(statement);
        }
    }

    fn content(&self) -> String {
        self.sql(POSTGRES)
    }
}

/// Takes a snapshot of each night, and keeps target, keys and what the rows were.
fn write(setup: &Setup, source: &dyn Source, name: &str) {
    let folder = corpus().join("format-1").join(name);
    assert!(!folder.exists(), "{} is there: a set is never written anew", folder.display());
    fs::create_dir_all(folder.join("expected")).unwrap();
    for night in source.nights() {
        source.change(night);
        let snapshot = setup.snapshot().success().json()["snapshot"].as_str().unwrap().to_owned();
        fs::write(folder.join("expected").join(snapshot), source.content()).unwrap();
    }
    let target = PathBuf::from(setup.target("a"));
    for file in files(&target) {
        let to = folder.join("target").join(file.strip_prefix(&target).unwrap());
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(file, to).unwrap();
    }
    for key in ["restore.key", "allowed_signers"] {
        fs::copy(setup.path("publisher").join(key), folder.join(key)).unwrap();
    }
}

#[test]
#[ignore = "writes a part of the corpus, which is then kept"]
fn write_the_corpus() {
    let setup = Setup::with_keys();
    setup.configure_directories("");
    write(&setup, &Sqlite(&setup), "sqlite");
    let cluster = Cluster::start(Version::V15);
    let database = cluster.create_db("abonnes");
    let setup = Setup::with_keys();
    let bin = cluster.version().bin();
    let source =
        format!("engine = \"postgres\"\nurl = \"{}\"\nbin_dir = \"{}\"", database.url(), bin.display());
    setup.configure_source(&source, &[("a", &setup.target("a"))], "", "");
    write(&setup, &database, "postgres");
}

/// The sets of this engine in all formats, each with its snapshots and what their rows were.
fn sets(engine: &str) -> Vec<(PathBuf, BTreeMap<String, String>)> {
    let formats = fs::read_dir(corpus()).unwrap().map(|entry| entry.unwrap().path());
    let folders = formats.filter(|path| path.is_dir()).flat_map(|format| fs::read_dir(format).unwrap());
    let of_engine = folders
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with(engine));
    let sets: Vec<_> = of_engine
        .map(|folder| {
            let expected = files(&folder.join("expected")).into_iter().map(|path| {
                let snapshot = path.file_name().unwrap().to_str().unwrap().to_owned();
                (snapshot, fs::read_to_string(path).unwrap())
            });
            let expected = expected.collect();
            (folder, expected)
        })
        .collect();
    assert!(!sets.is_empty());
    sets
}

fn restore(folder: &Path, snapshot: &str, to: &str) -> crate::support::marbre::Marbre {
    crate::support::marbre::marbre(["--json", "restore", snapshot, "--prove", "--from"])
        .arg(folder.join("target"))
        .arg("--key")
        .arg(folder.join("restore.key"))
        .arg("--allowed-signers")
        .arg(folder.join("allowed_signers"))
        .args(["--to", to])
}

#[test]
fn every_snapshot_of_sqlite_in_the_corpus_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    for (folder, snapshots) in sets("sqlite") {
        for (snapshot, expected) in snapshots {
            let to = dir.path().join(&snapshot);
            restore(&folder, &snapshot, to.to_str().unwrap()).success();
            assert_eq!(sqlite_content(&to), expected, "{snapshot} of {}", folder.display());
            let out = dir.path().join(format!("{snapshot}-read"));
            let mut reader = Command::new("python3");
            reader.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/recovery/marbre-read.py"));
            reader.arg(folder.join("target")).args(["--snapshot", &snapshot]);
            reader.arg("--key").arg(folder.join("restore.key"));
            reader.arg("--allowed-signers").arg(folder.join("allowed_signers")).arg("--out").arg(&out);
            run(&mut reader);
            assert_eq!(sqlite_content(&out.join("database.sqlite")), expected, "{snapshot}, by the reader");
        }
    }
}

#[test]
fn every_snapshot_of_postgres_in_the_corpus_comes_back() {
    let cluster = Cluster::start(Version::V15);
    let mut number = 0;
    for (folder, snapshots) in sets("postgres") {
        for (snapshot, expected) in snapshots {
            number += 1;
            let to = cluster.create_db(&format!("restored_{number}"));
            restore(&folder, &snapshot, &to.url()).arg("--bin-dir").arg(cluster.version().bin()).success();
            assert_eq!(to.content(), expected, "{snapshot} of {}", folder.display());
        }
    }
}
