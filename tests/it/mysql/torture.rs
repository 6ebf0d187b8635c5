//! The torture database comes back equal, under another name.

use std::time::Duration;

use crate::support::mysql::{Flavor, MysqlServer, assert_same};
use crate::support::setup::Provider;

use super::restore;

with_both!(the_torture_database_comes_back);

fn the_torture_database_comes_back(flavor: Flavor) {
    let server = MysqlServer::start(flavor);
    // Its letters with a meaning in patterns must have none.
    let (name, copy) = ("torture_db", "tortureXdb copy");
    server.load_torture(name);
    server.create_reader(name);
    let provider = Provider::new(server.source(name));
    let before = server.picture(name);
    let report = provider.snapshot().timeout(Duration::from_secs(200)).success().json();
    assert_eq!(report["verdict"], "complete", "{report}");
    assert_eq!(server.picture(name), before, "a snapshot changes nothing");
    let report = restore(&provider, &server, copy).args(["--prove", "--jobs", "4"]).success().json();
    assert_eq!(report["verdict"], "proven", "{report}");
    // A view that could not be used cannot be made either, and is named.
    let warnings = report["warnings"].to_string();
    assert!(warnings.contains("view broken cannot be made"), "{warnings}");
    server.sql(name, "DROP VIEW broken");
    assert_same((&server, name), (&server, copy));
    // What a trigger or a counter would have changed, had it run.
    assert_eq!(server.sql(copy, "SELECT COUNT(*) FROM no_rows"), "0");
    server.sql(copy, "INSERT INTO texts (t) VALUES ('next')");
    assert_eq!(server.sql(copy, "SELECT MAX(id) FROM texts"), "1001");
}
