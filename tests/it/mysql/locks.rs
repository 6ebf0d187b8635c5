//! A snapshot never makes an application wait for longer than it was told to.

use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::support::mysql::Flavor;

use super::{DATABASE, shop, wait_for_statement};

with_both!(a_long_query_is_in_nobody_s_way, nobody_waits_for_a_lock_that_cannot_be_had);

/// Nor does a query that runs for long keep a snapshot from being taken.
fn a_long_query_is_in_nobody_s_way(flavor: Flavor) {
    let (server, provider) = shop(flavor);
    let mut query = server.client(DATABASE);
    let mut query = query
        .args(["-e", "SELECT SLEEP(30), COUNT(*) FROM customer"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    wait_for_statement(&server, "SELECT SLEEP(30)%");
    let snapshot = provider.snapshot().start();
    let mut slowest = Duration::ZERO;
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(5) {
        let asked = Instant::now();
        server.sql(DATABASE, "UPDATE customer SET name = 'busy' WHERE id = 7; SELECT COUNT(*) FROM customer");
        slowest = slowest.max(asked.elapsed());
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(slowest < Duration::from_secs(4), "an UPDATE took {slowest:?}");
    let outcome = snapshot.wait();
    assert_eq!(outcome.code(), Some(0), "{outcome}");
    assert!(outcome.seconds < 20.0, "{outcome}");
    // A client that goes leaves its query behind.
    server.sql(
        "",
        "SELECT CONCAT('KILL ', id) INTO @k FROM information_schema.processlist WHERE info LIKE 'SELECT SLEEP(30)%';
         PREPARE s FROM @k; EXECUTE s",
    );
    query.wait().unwrap();
    provider.snapshot().success();
}

fn nobody_waits_for_a_lock_that_cannot_be_had(flavor: Flavor) {
    let (server, provider) = shop(flavor);
    // Not one that a foreign key binds to what is locked.
    server.sql(DATABASE, "CREATE TABLE apart (id int PRIMARY KEY, n int); INSERT INTO apart VALUES (7, 0)");
    let mut holder = server.client(DATABASE);
    let mut holder = holder
        .args(["-e", "LOCK TABLES customer WRITE; SELECT SLEEP(30)"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    wait_for_statement(&server, "SELECT SLEEP(30)%");
    let running = provider.snapshot().start();
    let mut slowest = Duration::ZERO;
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(4) {
        let asked = Instant::now();
        server.sql(DATABASE, "UPDATE apart SET n = n + 1 WHERE id = 7");
        slowest = slowest.max(asked.elapsed());
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(slowest < Duration::from_secs(4), "an UPDATE took {slowest:?}");
    let outcome = running.wait().expect_code(6);
    assert!(outcome.seconds < 20.0, "{outcome}");
    assert!(outcome.stdout.contains("lock_timeout"), "{outcome}");
    assert_eq!(provider.receipts(), [""; 0]);
    holder.kill().unwrap();
    holder.wait().unwrap();
}
