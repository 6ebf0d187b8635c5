//! A snapshot never makes an application wait for longer than it was told to.

use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use crate::support::mysql::{Flavor, MysqlServer};

use super::{DATABASE, shop, wait_for_statement};

with_both!(a_long_query_is_in_nobody_s_way, nobody_waits_for_a_lock_that_cannot_be_had);

/// A client that runs this, in which it sleeps; once it does.
fn busy(server: &MysqlServer, sql: &str) -> Child {
    let mut client = server.client(DATABASE);
    client.args(["-e", sql]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let client = client.spawn().unwrap();
    wait_for_statement(server, "SELECT SLEEP(30)%");
    client
}

/// Does this again and again for so long. The longest time that it took.
fn slowest(server: &MysqlServer, sql: &str, time: Duration) -> Duration {
    let (mut slowest, started) = (Duration::ZERO, Instant::now());
    while started.elapsed() < time {
        let asked = Instant::now();
        server.sql(DATABASE, sql);
        slowest = slowest.max(asked.elapsed());
        std::thread::sleep(Duration::from_millis(50));
    }
    slowest
}

/// Nor does a query that runs for long keep a snapshot from being taken.
fn a_long_query_is_in_nobody_s_way(flavor: Flavor) {
    let (server, provider) = shop(flavor);
    let mut query = busy(&server, "SELECT SLEEP(30), COUNT(*) FROM customer");
    let snapshot = provider.snapshot().start();
    let work = "UPDATE customer SET name = 'busy' WHERE id = 7; SELECT COUNT(*) FROM customer";
    let slowest = slowest(&server, work, Duration::from_secs(5));
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
    let mut holder = busy(&server, "LOCK TABLES customer WRITE; SELECT SLEEP(30)");
    let running = provider.snapshot().start();
    let work = "UPDATE apart SET n = n + 1 WHERE id = 7";
    let slowest = slowest(&server, work, Duration::from_secs(4));
    assert!(slowest < Duration::from_secs(4), "an UPDATE took {slowest:?}");
    let outcome = running.wait().expect_code(6);
    assert!(outcome.seconds < 20.0, "{outcome}");
    assert!(outcome.stdout.contains("lock_timeout"), "{outcome}");
    assert_eq!(provider.receipts(), [""; 0]);
    holder.kill().unwrap();
    holder.wait().unwrap();
}
