//! What happens in the middle of a snapshot: cut connections, killed tools, a server that goes, DDL. Either there
//! is a snapshot and it is right, or there is none.

use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::refusals::wait_for;
use crate::support::equality::assert_equal;
use crate::support::marbre::{Outcome, Running};
use crate::support::postgres::{Cluster, Database, Version};
use crate::support::setup::{Provider, Tmpfs, postgres};

/// Small on disk, 200 MB as text: reading it takes long enough to step in.
const BIG: &str = "
CREATE TABLE big (id int PRIMARY KEY, t text);
INSERT INTO big SELECT g, repeat(md5(g::text), 500) FROM generate_series(1, 12500) g;
CREATE TABLE small (id int PRIMARY KEY, t text);
INSERT INTO small VALUES (1, 'before')";

const READING: &str = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'COPY%big%' AND state = 'active' AND application_name = 'marbre'";

/// Returns within milliseconds once the big table is being read. The server itself looks: on a busy machine, starting a
/// program for each look can take longer than reading the table.
fn until_it_is_read(database: &Database<'_>) {
    database.sql(&format!(
        "DO $$ BEGIN FOR i IN 1..30000 LOOP
             PERFORM pg_stat_clear_snapshot();
             EXIT WHEN ({READING}) > 0;
             PERFORM pg_sleep(0.002);
         END LOOP; END $$"
    ));
}

/// A snapshot that was stopped (SIGSTOP) while it reads the big table.
fn stopped_in_the_middle(provider: &Provider, database: &Database<'_>) -> Running {
    let running = std::thread::scope(|scope| {
        let seen = scope.spawn(|| until_it_is_read(database));
        let running = provider.snapshot().start();
        seen.join().unwrap();
        running
    });
    running.signal(Signal::STOP);
    // What is on its way to it fills its socket, and then the server waits.
    std::thread::sleep(Duration::from_millis(100));
    assert_ne!(database.sql(READING), "0", "the table was read before it could be stopped");
    running
}

fn goes_on(running: Running) -> Outcome {
    running.signal(Signal::CONT);
    running.wait()
}

#[track_caller]
fn failed(provider: &Provider, outcome: Outcome, words: &[&str]) {
    let outcome = outcome.expect_code(6);
    for word in words {
        assert!(outcome.stdout.contains(word), "no {word:?} in {outcome}");
    }
    assert!(outcome.json()["remedy"].is_string(), "no remedy in {outcome}");
    assert_eq!(provider.receipts(), [""; 0]);
}

#[test]
fn connections_are_cut() {
    let cluster = Cluster::start(Version::V15);
    let database = cluster.create_db("abonnes");
    database.sql(BIG);
    let provider = Provider::of(&database);
    let cut = |which: &str| {
        let running = stopped_in_the_middle(&provider, &database);
        cluster.database("postgres").sql(&format!(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'marbre%' AND {which}"
        ));
        goes_on(running)
    };
    failed(&provider, cut("true"), &["session that holds the snapshot", "server's log"]);
    failed(&provider, cut("query LIKE 'COPY%big%'"), &["big"]);
    failed(&provider, cut("query NOT LIKE 'COPY%'"), &["session that holds the snapshot"]);
    // Nothing of it hinders the next one.
    provider.snapshot().success();
    assert_eq!(provider.receipts().len(), 1);
}

#[test]
fn the_server_goes() {
    let cluster = Cluster::start(Version::V15);
    let database = cluster.create_db("abonnes");
    database.sql(BIG);
    let provider = Provider::of(&database);
    let running = stopped_in_the_middle(&provider, &database);
    kill_process(Pid::from_raw(cluster.pid()).unwrap(), Signal::QUIT).unwrap();
    std::thread::sleep(Duration::from_millis(500));
    failed(&provider, goes_on(running), &["session that holds the snapshot", "server's log"]);
}

#[test]
fn pg_dump_is_killed() {
    let cluster = Cluster::start(Version::V15);
    let database = cluster.create_db("abonnes");
    // A large schema, so that pg_dump is there for long enough.
    database.sql("DO $$ BEGIN FOR i IN 1..800 LOOP EXECUTE format('CREATE TABLE t%s (id int PRIMARY KEY, a text DEFAULT now(), b int)', i); END LOOP; END $$");
    let provider = Provider::of(&database);
    let mut running = provider.snapshot().start();
    // Not the one that only tells its version.
    let deadline = Instant::now() + Duration::from_secs(60);
    let child = loop {
        if let Some(pid) = child_with(running.pid(), "--format=custom") {
            break pid;
        }
        assert!(running.is_running() && Instant::now() < deadline, "pg_dump was never seen");
    };
    kill_process(child, Signal::KILL).unwrap();
    failed(&provider, running.wait(), &["pg_dump failed (signal: 9"]);
}

/// A child process with this argument.
fn child_with(parent: u32, argument: &str) -> Option<Pid> {
    let tasks = std::fs::read_dir(format!("/proc/{parent}/task")).ok()?;
    for task in tasks.flatten() {
        let children = std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
        for child in children.split_whitespace() {
            let line = std::fs::read_to_string(format!("/proc/{child}/cmdline")).unwrap_or_default();
            if line.contains(argument) && !line.contains("setpriv") {
                return Pid::from_raw(child.parse().unwrap());
            }
        }
    }
    None
}

#[test]
fn ddl_during_a_snapshot_waits_or_is_not_in_it() {
    for version in Version::ALL {
        let cluster = Cluster::start(version);
        let database = cluster.create_db("abonnes");
        database.sql(BIG);
        let copy = cluster.database("before");
        cluster.database("postgres").sql("CREATE DATABASE before TEMPLATE abonnes");
        let provider = Provider::of(&database);
        let running = stopped_in_the_middle(&provider, &database);
        for ddl in [
            "DROP TABLE small",
            "ALTER TABLE small ADD COLUMN late int DEFAULT 7",
            "TRUNCATE small",
            "DROP SCHEMA public CASCADE",
        ] {
            let tried =
                database.psql().env("PGOPTIONS", "-c lock_timeout=200").args(["-c", ddl]).output().unwrap();
            let said = String::from_utf8_lossy(&tried.stderr).into_owned();
            assert!(said.contains("lock timeout"), "{ddl} did not wait: {said}");
        }
        database.sql("CREATE TABLE later (id int PRIMARY KEY); UPDATE small SET t = 'after'; INSERT INTO small VALUES (2, 'after')");
        // One that goes on waiting, and is waited for by whoever comes later: marbre must not come later.
        let waits = database.psql().args(["-c", "TRUNCATE small"]).spawn().unwrap();
        wait_for(&database, "SELECT count(*) FROM pg_locks WHERE NOT granted");
        goes_on(running).expect_code(0);
        assert!(waits.wait_with_output().unwrap().status.success());
        let restored = Cluster::start(version);
        provider.restore("nas", &restored.database("before").url()).arg("--prove").success();
        assert_equal(&copy, &restored.database("before"));
    }
}

#[test]
fn who_waits_too_long_comes_first() {
    let cluster = Cluster::start(Version::V15);
    let database = cluster.create_db("abonnes");
    database.sql(BIG);
    let mut provider = Provider::of(&database);
    provider.set_source(format!("{}give_way_after = \"1s\"\n", postgres(&database.url())));
    let mut running = stopped_in_the_middle(&provider, &database);
    let waits = database.psql().env("PGAPPNAME", "nightly").args(["-c", "TRUNCATE small"]).spawn().unwrap();
    wait_for(&database, "SELECT count(*) FROM pg_locks WHERE NOT granted");
    // It reads for moments only, and so is far from its end when the time is over.
    while running.is_running() {
        running.signal(Signal::CONT);
        std::thread::sleep(Duration::from_millis(30));
        running.signal(Signal::STOP);
        std::thread::sleep(Duration::from_millis(400));
        running.signal(Signal::CONT);
    }
    failed(&provider, running.wait(), &["nightly", "public.small", "give_way_after"]);
    assert!(waits.wait_with_output().unwrap().status.success());
}

#[test]
fn ctrl_c_ends_a_snapshot_at_once() {
    let cluster = Cluster::start(Version::V15);
    let database = cluster.create_db("abonnes");
    database.sql(BIG);
    let provider = Provider::of(&database);
    let running = provider.snapshot().start();
    wait_for(&database, READING);
    let asked = Instant::now();
    running.signal(Signal::INT);
    running.wait().expect_code(130);
    assert!(asked.elapsed() < Duration::from_secs(5));
    assert_eq!(provider.receipts(), [""; 0]);
    wait_for(
        &database,
        "SELECT (count(*) = 0)::int FROM pg_stat_activity WHERE application_name LIKE 'marbre%'",
    );
    provider.snapshot().success();
}

#[test]
fn the_disk_of_the_spool_is_full() {
    let cluster = Cluster::start(Version::V15);
    let database = cluster.create_db("abonnes");
    database.sql("CREATE TABLE big (id int PRIMARY KEY, t text); INSERT INTO big SELECT g, (SELECT string_agg(md5(g::text || h), '') FROM generate_series(1, 60) h) FROM generate_series(1, 15000) g");
    let mut provider = Provider::of(&database);
    let small = Tmpfs::mount(&provider.path("small"), "8m");
    provider.set_more("spool_dir = \"small/spool\"");
    let outcome = provider.snapshot().fails_with(4);
    let said = outcome.json();
    let text = ["error", "cause"].map(|part| said[part].as_str().unwrap().to_owned()).concat();
    assert!(text.contains("No space left on device") && text.contains("small/spool"), "{outcome}");
    assert!(said["remedy"].as_str().is_some_and(|remedy| remedy.contains("spool_dir")), "{outcome}");
    assert_eq!(provider.receipts(), [""; 0]);
    drop(small);
    provider.snapshot().success();
}
