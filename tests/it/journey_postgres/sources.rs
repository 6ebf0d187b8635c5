//! Sources of every kind: encodings, standbys, what stands before a server, and who waits for it.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::support::marbre::Outcome;
use crate::support::postgres::{Cluster, Database, SUPERUSER, Version, run};
use crate::support::setup::{Provider, postgres};

/// A database with bytes of no known encoding wherever text can be: names, comments, code, labels and rows.
const ANY_BYTES: &[u8] = b"SET client_encoding = 'SQL_ASCII';
CREATE TYPE \"mood\xe9\" AS ENUM ('gla\xe9');
CREATE FUNCTION \"f\xe9\"() RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT ''\xe9''::text';
CREATE TABLE \"abonn\xe9s\" (id int PRIMARY KEY, \"pr\xe9nom\" text DEFAULT '\xe9' CHECK (\"pr\xe9nom\" <> '\xff'), m \"mood\xe9\");
INSERT INTO \"abonn\xe9s\" VALUES (1, '\xe9\xff', 'gla\xe9'), (2, 'Andr\xc3\xa9', NULL);
CREATE TABLE \"Andr\xc3\xa9\" AS SELECT id FROM \"abonn\xe9s\";
CREATE SEQUENCE \"s\xe9\" START 42;
COMMENT ON TABLE \"abonn\xe9s\" IS 'abonn\xe9s';
CREATE VIEW \"v\xe9\" AS SELECT \"pr\xe9nom\" FROM \"abonn\xe9s\" WHERE \"pr\xe9nom\" <> '\xe8';";

/// Bytes without a character in that encoding, in rows and in a comment.
const HOLES: &[u8] = b"SET client_encoding = 'WIN1252';
CREATE TABLE \"pr\xe9nom\" (id int PRIMARY KEY, n text);
INSERT INTO \"pr\xe9nom\" VALUES (1, 'caf\x81 \xe9');";

fn in_encoding<'a>(cluster: &'a Cluster, name: &str, encoding: &str, script: &[u8]) -> Database<'a> {
    cluster
        .database("postgres")
        .sql(&format!("CREATE DATABASE {name} TEMPLATE template0 ENCODING '{encoding}' LOCALE 'C'"));
    let database = cluster.database(name);
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), script).unwrap();
    run(database.psql().arg("-f").arg(file.path()));
    database
}

/// The rows of all tables and the comment, as bytes.
fn bytes(database: &Database<'_>) -> Vec<u8> {
    let dump = database.cluster.tool("pg_dump").arg("--inserts").arg(&database.name).output().unwrap();
    assert!(dump.status.success(), "{}", String::from_utf8_lossy(&dump.stderr));
    let lines = dump.stdout.split(|b| *b == b'\n');
    let kept = lines.filter(|line| !line.starts_with(b"\\") && !line.starts_with(b"--"));
    kept.collect::<Vec<_>>().join(b"\n".as_slice())
}

#[test]
fn bytes_of_any_encoding_come_back() {
    let cluster = Cluster::start(Version::V15);
    let comment = [HOLES, b"COMMENT ON TABLE \"pr\xe9nom\" IS 'caf\x81';"].concat();
    for (name, encoding, script, in_bytes) in [
        ("bytes", "SQL_ASCII", ANY_BYTES, true),
        ("holes", "WIN1252", HOLES, false),
        ("holes_in_names", "WIN1252", comment.as_slice(), true),
    ] {
        let database = in_encoding(&cluster, name, encoding, script);
        let provider = Provider::of(&database);
        provider.snapshot().success();
        if encoding == "SQL_ASCII" {
            let drill = provider.drill().success().json();
            assert_eq!(drill["passed"], true, "{drill}");
        }
        let back = cluster.database(&format!("{name}_back"));
        provider.restore("nas", &back.url()).arg("--prove").success();
        assert_eq!(bytes(&database), bytes(&back), "{encoding}, {in_bytes}");
    }
}

#[test]
fn a_standby_is_a_source_with_whatever_its_defaults_are() {
    let primary = Cluster::start(Version::V15);
    let database = primary.create_db("abonnes");
    database.sql(
        "CREATE TABLE a (id int PRIMARY KEY); INSERT INTO a VALUES (1), (2);
         CREATE UNLOGGED TABLE cache (id serial PRIMARY KEY); INSERT INTO cache DEFAULT VALUES;
         ALTER DATABASE abonnes SET default_transaction_isolation = 'serializable';
         ALTER DATABASE abonnes SET default_transaction_deferrable = on;
         ALTER DATABASE abonnes SET default_transaction_read_only = on",
    );
    let standby = primary.standby();
    let url = url_of(&[&primary, &standby]);
    let provider = Provider::new(postgres(&url) + "prefer = \"standby\"\n");
    let report = provider.snapshot().success().json();
    let warnings = report["warnings"].to_string();
    assert!(warnings.contains("a standby does not have them: public.cache"), "{warnings}");
    let back = primary.database("back");
    provider.restore("nas", &back.url()).arg("--prove").success();
    assert_eq!(back.sql("SELECT (SELECT count(*) FROM a), (SELECT count(*) FROM cache)"), "2|0");
    drop(provider);
    let other_way_round = url_of(&[&standby, &primary]);
    let mut provider = Provider::new(postgres(&other_way_round) + "prefer = \"primary\"\n");
    for chosen in ["prefer = \"primary\"\n", ""] {
        let attributes = if chosen.is_empty() { "&target_session_attrs=primary" } else { "" };
        provider.set_source(postgres(&format!("{other_way_round}{attributes}")) + chosen);
        let report = provider.snapshot().success().json();
        assert!(report["warnings"].to_string().contains("unlogged tables were read"), "{report}");
    }
    provider.set_source(postgres(&format!("{url}&target_session_attrs=primary")) + "prefer = \"standby\"\n");
    let refused = provider.snapshot().fails_with(3).to_string();
    assert!(refused.contains("target_session_attrs=primary, and prefer is"), "{refused}");
}

fn url_of(servers: &[&Cluster]) -> String {
    let hosts: Vec<String> = servers.iter().map(|server| server.socket_dir().display().to_string()).collect();
    format!("postgres:///abonnes?host={}&user={SUPERUSER}", hosts.join(","))
}

/// A snapshot from a standby whose recovery ends every transaction that is in its way, at once: while the rows are read, some that it
/// sees are removed on the primary.
fn conflict(provider: &Provider, primary: &Database<'_>, standby: &Cluster) -> Outcome {
    let there = standby.database("abonnes");
    let until = |what: &str, sql: &str| {
        let deadline = Instant::now() + Duration::from_secs(60);
        while there.sql(sql) != "t" {
            assert!(Instant::now() < deadline, "{what}:\n{}", standby.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    let sent = primary.sql("SELECT pg_current_wal_lsn()");
    until("everything is there", &format!("SELECT pg_last_wal_replay_lsn() >= '{sent}'"));
    let running = provider.snapshot().start();
    until(
        "rows are read",
        "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE query LIKE 'COPY%' AND state = 'active')",
    );
    running.signal(Signal::STOP);
    primary.sql("DELETE FROM a WHERE id % 1000 = 0");
    primary.sql("VACUUM a");
    let sent = primary.sql("SELECT pg_current_wal_flush_lsn()");
    until("everything has come", &format!("SELECT pg_last_wal_receive_lsn() >= '{sent}'"));
    // Its recovery ends, one after another, whoever is in its way, and waits for the one that does not notice.
    std::thread::sleep(Duration::from_millis(500));
    running.signal(Signal::CONT);
    running.wait()
}

#[test]
fn a_recovery_conflict_is_met_by_another_server() {
    let primary = Cluster::start(Version::V15);
    let database = primary.create_db("abonnes");
    database.sql(
        "CREATE TABLE a (id int PRIMARY KEY, x text) WITH (autovacuum_enabled = off);
         INSERT INTO a SELECT g, repeat(md5(g::text), 8) FROM generate_series(1, 400000) g",
    );
    let standby = primary.standby_with(&["max_standby_streaming_delay=0", "hot_standby_feedback=off"]);
    let mut provider = Provider::new(postgres(&url_of(&[&standby])));
    let failed = conflict(&provider, &database, &standby).expect_code(6).json();
    let said = failed.to_string();
    assert!(said.contains("the standby ended"), "{failed}");
    assert!(said.contains("hot_standby_feedback = on") && said.contains("names another server"), "{failed}");
    assert_eq!(provider.receipts(), [""; 0]);

    database.sql("UPDATE a SET x = md5(x) WHERE id % 10 = 0");
    provider.set_source(postgres(&url_of(&[&primary, &standby])) + "prefer = \"standby\"\n");
    let taken = conflict(&provider, &database, &standby).expect_code(0);
    assert!(
        taken.stderr.contains("The snapshot is taken again, from postgres database abonnes on"),
        "{taken}"
    );
    let report = taken.json();
    let warned = format!("the standby {} ended the first attempt", standby.socket_dir().display());
    assert!(report["warnings"].to_string().contains(&warned), "{report}");
    let receipt = match &provider.receipts()[..] {
        [receipt] => std::fs::read(provider.objects().join("receipts").join(receipt)).unwrap(),
        other => panic!("{other:?}"),
    };
    let receipt: serde_json::Value = serde_json::from_slice(&receipt).unwrap();
    assert_eq!((&receipt["second_attempt"], &receipt["sequence"]), (&true.into(), &1.into()));
    // What was deleted on the primary is not there, and everything else is.
    let back = primary.database("back");
    provider.restore("nas", &back.url()).arg("--prove").success();
    let sum = "SELECT count(*), sum(hashtext(x)) FROM a";
    assert_eq!(back.sql(sum), database.sql(sum));
    assert!(back.sql(sum).starts_with("399600|"));
    assert!(
        !provider.path("state/spool").exists()
            || provider
                .path("state/spool")
                .read_dir()
                .unwrap()
                .all(|folder| { folder.unwrap().path().read_dir().unwrap().next().is_none() })
    );
}

/// A pooler between an application and a server, as far as it can be told from the server: its own number of the process.
fn pooler(at: &Path, server: &Path) {
    let (listener, server) =
        (UnixListener::bind(at.join(".s.PGSQL.5432")).unwrap(), server.join(".s.PGSQL.5432"));
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let (client, server) = (client.unwrap(), UnixStream::connect(&server).unwrap());
            let (from, to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            std::thread::spawn(move || forward(from, to, false));
            std::thread::spawn(move || forward(server, client, true));
        }
    });
}

fn forward(mut from: UnixStream, mut to: UnixStream, changes_number: bool) {
    let mut buffer = [0; 65536];
    while let Ok(n @ 1..) = from.read(&mut buffer) {
        let key = [b'K', 0, 0, 0, 12];
        if changes_number && let Some(at) = buffer[..n].windows(5).position(|bytes| bytes == key) {
            buffer[at + 8] ^= 0xFF;
        }
        if to.write_all(&buffer[..n]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(std::net::Shutdown::Both);
}

#[test]
fn a_pooler_is_refused_before_anything_is_set() {
    let cluster = Cluster::start_with(Version::V15, &["log_statement=all"]);
    let database = cluster.create_db("abonnes");
    database.sql("CREATE TABLE a (id int PRIMARY KEY)");
    let folder = tempfile::Builder::new().prefix("mpg-").tempdir_in("/tmp").unwrap();
    pooler(folder.path(), &cluster.socket_dir());
    let url = format!("postgres:///abonnes?host={}&user={SUPERUSER}", folder.path().display());
    let provider = Provider::new(postgres(&url));
    let refused = provider.snapshot().fails_with(4).json();
    assert!(refused["error"].as_str().unwrap().contains("a pooler or a proxy"), "{refused}");
    assert!(refused["remedy"].as_str().unwrap().contains("behind it"), "{refused}");
    let doctor = provider.marbre(&["doctor"]).fails_with(4);
    assert!(doctor.stdout.contains("a pooler or a proxy"), "{doctor}");
    let log = cluster.log();
    let set = log.lines().filter(|line| line.contains("set_config") || line.contains("statement: SET "));
    assert_eq!(set.count(), 0, "{log}");
}
