//! A subscription database of real size: while people keep paying, over a night, and back.

use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::support::equality::assert_equal;
use crate::support::postgres::{Cluster, Database, Version, output_with_input};
use crate::support::s3::SeaweedFs;
use crate::support::setup::Provider;
use crate::support::short_or_long;

const PATIENCE: Duration = Duration::from_secs(560);

/// What must hold at every moment: each subscription's counter is the number of its payments, and every payment is
/// in the ledger.
const COUNTERS: &str = "
CREATE TABLE counters (subscription_id bigint PRIMARY KEY, payments bigint NOT NULL);
INSERT INTO counters SELECT s.id, count(p.id) FROM subscriptions s LEFT JOIN payments p ON p.subscription_id = s.id GROUP BY 1;
CREATE TABLE ledger (reference uuid NOT NULL);
INSERT INTO ledger SELECT reference FROM payments";
const BROKEN: &str = "
SELECT (SELECT count(*) FROM counters c WHERE c.payments <> (SELECT count(*) FROM payments p WHERE p.subscription_id = c.subscription_id))
     + (SELECT count(*) FROM (SELECT reference FROM payments EXCEPT ALL SELECT reference FROM ledger) a)
     + (SELECT count(*) FROM (SELECT reference FROM ledger EXCEPT ALL SELECT reference FROM payments) b)";
const PAY: &str = "
WITH paid AS (INSERT INTO payments (subscription_id, day, amount, method, reference)
  SELECT 1 + floor(random() * (SELECT max(id) FROM subscriptions))::int, date '2024-01-01' + floor(random() * 1000)::int, 10, 'carte', gen_random_uuid()
  RETURNING subscription_id, reference),
  logged AS (INSERT INTO ledger SELECT reference FROM paid)
UPDATE counters c SET payments = c.payments + 1 FROM paid WHERE c.subscription_id = paid.subscription_id;
";

/// Pays until told to stop.
fn keep_paying(database: &Database<'_>, stop: &AtomicBool) {
    let script = PAY.repeat(20);
    while !stop.load(Ordering::Relaxed) {
        let mut psql = database.psql();
        let output = output_with_input(psql.stdout(Stdio::null()), script.as_bytes());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

async fn nights(version: Version) {
    let weed = SeaweedFs::shared().await;
    let (source, destination) = (Cluster::start(version), Cluster::start(version));
    let database = source.create_db("abonnes");
    // 250,000 subscribers make 1.8 million rows.
    database.load_subscriptions(short_or_long(20_000, 250_000));
    database.sql(COUNTERS);
    let provider = Provider::of(&database).with_s3(&weed).await;
    let restored = destination.database("abonnes");

    let before = database.sql("SELECT count(*) FROM payments");
    let stop = Arc::new(AtomicBool::new(false));
    let first = std::thread::scope(|threads| {
        let stop_after = StopOnDrop(stop.clone());
        threads.spawn(|| keep_paying(&database, &stop));
        std::thread::sleep(Duration::from_millis(300));
        let first = provider.snapshot().timeout(PATIENCE).success();
        drop(stop_after);
        first
    });
    let after = database.sql("SELECT count(*) FROM payments");
    let memory = first.peak_memory >> 20;
    eprintln!(
        "{version:?}: full snapshot while {before} payments became {after}: {:.1} s, {memory} MiB",
        first.seconds
    );
    let full = first.json();
    assert_eq!((&full["verdict"], &full["full"]), (&"complete".into(), &true.into()));
    let outcome =
        provider.restore("s3", &restored.url()).args(["--prove", "--jobs", "4"]).timeout(PATIENCE).success();
    eprintln!(
        "{version:?}: restored and proven: {:.1} s, {} MiB",
        outcome.seconds,
        outcome.peak_memory >> 20
    );
    assert_eq!(restored.sql(BROKEN), "0");
    let number = |text: &str| text.parse::<u64>().unwrap();
    let there = restored.sql("SELECT count(*) FROM payments");
    assert!(number(&there) >= number(&before) && number(&there) <= number(&after), "{there}");
    assert!(number(&after) > number(&before) + 20, "nobody paid during the snapshot");

    database.load("night.sql", &[]);
    database.sql("TRUNCATE counters; INSERT INTO counters SELECT s.id, count(p.id) FROM subscriptions s LEFT JOIN payments p ON p.subscription_id = s.id GROUP BY 1");
    let quiet = provider.snapshot().timeout(PATIENCE).success();
    // A night, and nothing else, since the snapshot before.
    database.load("night.sql", &[("night", "2")]);
    database.sql("REFRESH MATERIALIZED VIEW revenue");
    let second = provider.snapshot().timeout(PATIENCE).success();
    eprintln!("{version:?}: a night later: {:.1} s, {:.1} s", quiet.seconds, second.seconds);
    let (full, second) = (first.json(), second.json());
    let bytes = |report: &serde_json::Value| report["new_bytes"].as_u64().unwrap();
    eprintln!("{version:?}: {} bytes, then {}", bytes(&full), bytes(&second));
    assert!(bytes(&second) * 4 < bytes(&full), "{second}");
    provider
        .restore("nas", &restored.url())
        .args(["--prove", "--overwrite", "--jobs", "2"])
        .timeout(PATIENCE)
        .success();
    assert_equal(&database, &restored);
}

/// A failing test must not leave a payer behind.
struct StopOnDrop(Arc<AtomicBool>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[tokio::test]
async fn nights_15() {
    nights(Version::V15).await;
}

#[tokio::test]
async fn nights_18() {
    nights(Version::V18).await;
}
