//! Only what changed is stored again.

use crate::support::mysql::{Flavor, assert_same};

use super::{DATABASE, restore, shop};

with_both!(later_snapshots_are_small);

fn later_snapshots_are_small(flavor: Flavor) {
    let (server, provider) = shop(flavor);
    server.sql(
        DATABASE,
        "CREATE TABLE log (id int PRIMARY KEY, text varchar(200) NOT NULL);
         INSERT INTO log SELECT a.id * 20 + b.id % 20, SHA2(CONCAT(a.id, '/', b.id), 512) FROM customer a JOIN customer b ON b.id <= 20",
    );
    let new_bytes = || provider.snapshot().success().json()["new_bytes"].as_u64().unwrap();
    let first = new_bytes();
    assert!(first > 500_000, "{first}");
    let unchanged = new_bytes();
    assert!(unchanged * 50 < first, "{unchanged} of {first}");
    server.sql(DATABASE, "UPDATE log SET text = 'changed' WHERE id = 9000");
    let changed = new_bytes();
    assert!(changed * 5 < first, "{changed} of {first}");
    restore(&provider, &server, "copy").arg("--prove").success();
    assert_same((&server, DATABASE), (&server, "copy"));
}
