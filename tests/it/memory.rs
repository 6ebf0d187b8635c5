//! Peak memory does not grow with the database: at most 256 MiB for a snapshot and for a restore.

use std::time::Duration;

use rusqlite::Connection;

use crate::support::marbre::Outcome;
use crate::support::postgres::{Cluster, Version};
use crate::support::setup::Provider;
use crate::support::short_or_long;
use crate::support::sqlite_setup::Setup;

const LIMIT: u64 = 256 << 20;

#[track_caller]
fn is_bounded(what: &str, outcome: &Outcome) {
    let mib = outcome.peak_memory >> 20;
    println!("{what}: {mib} MiB, {:.1} s", outcome.seconds);
    assert!(outcome.peak_memory > 0 && outcome.peak_memory <= LIMIT, "{what} took {mib} MiB");
}

#[test]
fn sqlite_snapshot_and_restore_stay_below_256_mib() {
    // Some 400 MB that do not compress, and one value almost as large as the limit.
    let setup = Setup::new(4_000, 100_000);
    let database = Connection::open(setup.database()).unwrap();
    database.execute_batch("CREATE TABLE film (d); INSERT INTO film VALUES (zeroblob(220 << 20))").unwrap();
    drop(database);
    setup.configure_directories("");
    is_bounded("first snapshot", &setup.snapshot().success());
    setup.change(20);
    is_bounded("second snapshot", &setup.snapshot().success());
    let to = setup.path("restored.db");
    is_bounded("restore", &setup.restore("latest", &[&setup.target("b")], to.to_str().unwrap()).success());
    is_bounded("verify", &setup.provider(&["verify", "abonnes"]).success());
    let rows: i64 =
        Connection::open(to).unwrap().query_one("SELECT count(*) FROM subscriber", [], |r| r.get(0)).unwrap();
    assert_eq!(rows, 4_001);
}

#[test]
fn postgres_snapshot_and_restore_stay_below_256_mib() {
    let cluster = Cluster::start(Version::V15);
    let database = cluster.create_db("abonnes");
    // Some 300 MB: many small rows, and some of several MB each.
    database.sql(
        "CREATE TABLE small (id int PRIMARY KEY, a text, b text);
         INSERT INTO small SELECT i, md5(i::text) || md5((i + 1)::text), md5((-i)::text) FROM generate_series(1, 1500000) i;
         CREATE TABLE large (id int PRIMARY KEY, body text);
         INSERT INTO large SELECT i, (SELECT string_agg(md5((i * n)::text), '') FROM generate_series(1, 250000) n)
         FROM generate_series(1, 12) i;
         CREATE TABLE unkeyed AS SELECT * FROM small WHERE id % 10 = 0;
         CREATE TABLE film (id int PRIMARY KEY, d bytea);
         ALTER TABLE film ALTER d SET STORAGE EXTERNAL;
         INSERT INTO film SELECT 1, decode(repeat('ab', 64 << 20), 'hex');
         CREATE TABLE film_2 AS TABLE film",
    );
    let setup = Setup::with_keys();
    let bin = cluster.version().bin();
    let source =
        format!("engine = \"postgres\"\nurl = \"{}\"\nbin_dir = \"{}\"", database.url(), bin.display());
    let (a, b) = (setup.target("a"), setup.target("b"));
    setup.configure_source(&source, &[("a", &a), ("b", &b)], "", "jobs = 4");
    is_bounded("first snapshot", &setup.snapshot().success());
    database.sql(
        "UPDATE small SET a = b WHERE id % 50 = 0; UPDATE large SET body = body || 'x' WHERE id % 3 = 0",
    );
    is_bounded("second snapshot", &setup.snapshot().success());
    let to = cluster.create_db("restored");
    let restore = setup.restore("latest", &[&b], &to.url()).arg("--bin-dir").arg(&bin);
    is_bounded("restore", &restore.success());
    assert_eq!(to.sql("SELECT count(*) FROM small"), "1500000");
}

#[test]
fn a_postgres_row_is_never_held_as_a_whole() {
    let cluster = Cluster::start(Version::V15);
    let database = cluster.create_db("abonnes");
    // As text, a bytea is twice as long.
    let mib = short_or_long(130, 250);
    database.sql(&format!(
        "CREATE TABLE film (id int PRIMARY KEY, d bytea); ALTER TABLE film ALTER d SET STORAGE EXTERNAL;
         INSERT INTO film SELECT 1, decode(repeat('ab', {mib} << 20), 'hex');
         INSERT INTO film VALUES (2, 'small')"
    ));
    let provider = Provider::of(&database);
    is_bounded("snapshot", &provider.snapshot().success());
    is_bounded("second snapshot", &provider.snapshot().success());
    let drill = provider.drill().timeout(Duration::from_secs(300)).success();
    assert_eq!(drill.json()["passed"], true, "{drill}");
    is_bounded("drill", &drill);
    let to = cluster.database("restored");
    let restore = provider.restore("nas", &to.url()).arg("--prove").timeout(Duration::from_secs(300));
    is_bounded("restore", &restore.success());
    let sum = "SELECT count(*), sum(length(d)), max(md5(d)) FROM film";
    assert_eq!(to.sql(sum), database.sql(sum));
}
