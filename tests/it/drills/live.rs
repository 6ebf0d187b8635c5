//! A drill of a big database whose source goes on taking writes: the proof is for the snapshot's moment.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::Value;

use crate::support::postgres::{Cluster, Version};
use crate::support::setup::Provider;
use crate::support::short_or_long;

const PATIENCE: Duration = Duration::from_secs(400);

#[test]
fn a_million_rows_are_proven_while_the_source_takes_writes() {
    let cluster = Cluster::start(Version::V15);
    let database = cluster.create_db("abonnes");
    // 150,000 subscribers make 1.07 million rows, in a long run.
    let subscribers = short_or_long(15_000, 150_000);
    database.load_subscriptions(subscribers);
    let mut provider = Provider::of(&database);
    // A check of the newest moment stands on what people wrote last.
    provider.set_drills(
        "rto = \"10m\"\n[database.abonnes.checks.subscribers]\nsql = \"SELECT count(*) FROM subscribers\"\nmin = 1000\n\
         [database.abonnes.checks.fresh]\nsql = \"SELECT max(at) FROM letters\"\nfresh_within = \"1h\"",
    );
    database.sql("CREATE TABLE letters (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, at timestamptz NOT NULL DEFAULT clock_timestamp()); INSERT INTO letters DEFAULT VALUES");
    let stop = Arc::new(AtomicBool::new(false));
    let (snapshot, drill) = std::thread::scope(|threads| {
        let writer = threads.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                database.sql(
                    "INSERT INTO letters DEFAULT VALUES; UPDATE subscribers SET first_name = 'Zoé' WHERE id = 1 + floor(random() * 1000)::int; \
                     DELETE FROM events WHERE ctid IN (SELECT ctid FROM events LIMIT 1)",
                );
            }
        });
        let snapshot = provider.snapshot().timeout(PATIENCE).success().json();
        let drill = provider.drill().timeout(PATIENCE).run();
        stop.store(true, Ordering::Relaxed);
        writer.join().unwrap();
        (snapshot, drill.expect_code(0))
    });
    let report = drill.json();
    let rows = report["rows"].as_u64().unwrap();
    assert_eq!(Some(rows), snapshot["rows"].as_u64());
    assert!(rows > subscribers * 20 / 3, "{rows} rows of {subscribers} subscribers");
    let letters =
        report["tables"].as_array().unwrap().iter().find(|t| t["name"] == "public.letters").unwrap();
    let now: u64 = database.sql("SELECT count(*) FROM letters").parse().unwrap();
    assert!(
        letters["rows"].as_u64().unwrap() < now,
        "the source went on, and the proof is for the snapshot's moment"
    );
    assert!(
        report["checks"].as_array().unwrap().iter().any(|c| c["name"] == "fresh" && c["result"] == "passed")
    );
    assert_eq!(report["warnings"], Value::Array(Vec::new()));
    eprintln!(
        "{rows} rows: drilled in {:.1} s, recovered in {} s, {} MiB",
        drill.seconds,
        report["rto_seconds"],
        drill.peak_memory >> 20
    );
    assert!(drill.peak_memory < 256 << 20, "{} MiB", drill.peak_memory >> 20);
    assert_eq!(provider.traces(), Vec::<String>::new());
}
